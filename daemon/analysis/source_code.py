"""Reads a file that we have a grammar for."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import tree_sitter

from codegraphd.daemon.analysis import parts, words
from codegraphd.daemon.analysis.bindings import bindings_of
from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.fingerprint import Fingerprints, Info, Print
from codegraphd.daemon.analysis.normal import PLACEHOLDER, Source, one_line
from codegraphd.daemon.analysis.reading import Reading
from codegraphd.daemon.analysis.references import references_of
from codegraphd.daemon.analysis.syntax import (
    CALLABLES,
    CONTAINERS,
    Captures,
    Dialect,
    Draft,
    atoms_of,
    capture,
    drafts_of,
)
from codegraphd.store.records import Flag, Unit, Words

TOP_LEVEL_TOKENS = 40  # of code beside imports and definitions from which a file is a unit too
FILE = "<file>"  # name of the unit that is a file's top-level code: nothing of the path may enter a face


def read(raw: bytes, dialect: Dialect, shift: int, flags: Flag) -> Reading:
    """`shift` is added to byte offsets (a byte order mark was cut off); `flags` hold for every unit."""
    tree, captures = capture(raw, dialect)
    source = Source(captures.text, atoms_of(captures))
    starts = scan.line_starts(raw)
    drafts = drafts_of(captures, source, dialect)
    drafts = _with_file_unit(drafts, captures, source, tree.root_node)
    drafts = _with_parts(drafts, raw, starts)
    _export(drafts, captures, source, dialect)
    references = references_of(captures, drafts, source, dialect, starts)
    prints = Fingerprints(drafts, source, dialect)
    prints.sign()
    found = Reading(
        references=references,
        bindings=bindings_of(captures, drafts, source, dialect, starts),
        package=source.readable(dialect.package(source.masked)),
        errors=captures.errors,
    )
    infos = [_info(draft, source) for draft in drafts]
    ordinals: Counter[tuple[str, str]] = Counter()
    for draft, info, printed in zip(drafts, infos, prints.take(infos), strict=True):
        qualname = source.readable(draft.qualname)
        key = (draft.kind, qualname)
        found.units.append(_unit(draft, info, printed, qualname, ordinals[key], starts, shift, int(flags)))
        ordinals[key] += 1
        if draft.kind in CALLABLES and printed.is_whole:
            found.whole.append(len(found.texts))
        found.texts.append(printed.own_text)
        found.words.append(
            Words(
                words.words_of("" if draft.kind == "file" else qualname),
                words.clip(words.words_of(info.doc)) if info.doc else "",
                words.clip(printed.words),
            )
        )
    return found


def _export(drafts: Sequence[Draft], captures: Captures, source: Source, dialect: Dialect) -> None:
    """Flag what an export statement elsewhere in the file makes visible."""
    names: set[str] = set()
    for start, end in captures.spans["export"]:
        names.update(dialect.exports(source.text[start:end]))
    if names:
        for draft in drafts:
            if draft.parent < 0 and draft.name in names:
                draft.flags |= Flag.EXPORTED


def _with_file_unit(drafts: list[Draft], captures: Captures, source: Source, root: tree_sitter.Node) -> list[Draft]:
    """Put a unit for the file's top-level code in front, if there is enough of that."""
    pieces: list[str] = []
    position = 0
    taken = [(draft.start, draft.end) for draft in drafts if draft.parent < 0]
    taken += captures.spans["import"]
    for start, end in sorted(taken):
        if start > position:
            pieces.append(source.masked[position:start])
        position = max(position, end)
    pieces.append(source.masked[position:])
    code = " ".join(" ".join(pieces).split()[:TOP_LEVEL_TOKENS])
    if len(scan.tokens(code)) < TOP_LEVEL_TOKENS:
        return drafts
    docs_of_file = captures.spans["doc"]
    owned = {span for draft in drafts for span in draft.docs}
    file = Draft(kind="file", name=FILE, node=root, start=0, end=len(source.raw), qualname=FILE, is_bodiless=True)
    file.docs = [span for span in docs_of_file if span not in owned][:1]
    file.children = [index + 1 for index, draft in enumerate(drafts) if draft.parent < 0]
    for draft in drafts:
        draft.parent += draft.parent >= 0
        draft.children = [child + 1 for child in draft.children]
    return [file, *drafts]


def _n_lines(draft: Draft, starts: Sequence[int]) -> int:
    return bisect_right(starts, draft.end) - bisect_right(starts, draft.start) + 1


def _with_parts(drafts: list[Draft], raw: bytes, starts: Sequence[int]) -> list[Draft]:
    """Add the parts of long functions, tables and files, each after its unit; parents and children renumbered."""
    added: list[tuple[Draft, Draft]] = []
    for draft in drafts:
        if draft.kind in CONTAINERS or draft.is_container or draft.end - draft.start < parts.LONG:
            continue
        nested = sum(_n_lines(drafts[child], starts) for child in draft.children)
        if _n_lines(draft, starts) - nested < parts.LONG:
            continue  # what is nested in it is found, and cut, for itself
        body = draft.node.child_by_field_name("body") or draft.node
        if draft.kind == "file" and len(draft.children) > 0:
            continue  # its text has holes where the definitions are
        for number, (start, end) in enumerate(parts.cuts(body, raw), start=1):
            name, qualname = f"{draft.name}#{number}", f"{draft.qualname}#{number}"
            part = Draft("part", name, body, start, end, head=start, body=start, qualname=qualname, is_bodiless=True)
            added.append((draft, part))
    if not added:
        return drafts
    owner = {id(part): draft for draft, part in added}
    merged = sorted([*drafts, *(part for _, part in added)], key=lambda draft: (draft.start, -draft.end))
    place = {id(draft): index for index, draft in enumerate(merged)}
    new_index = [place[id(draft)] for draft in drafts]
    for draft in drafts:
        draft.parent = new_index[draft.parent] if draft.parent >= 0 else -1
        draft.children = [new_index[child] for child in draft.children]
    for _, part in added:
        part.parent = place[id(owner[id(part)])]
    return merged


def _info(draft: Draft, source: Source) -> Info:
    readable, text = source.readable, source.text
    return Info(
        readable(draft.name),
        readable(draft.signature),
        tuple([_decorator(*span, source) for span in draft.decorators]) if draft.decorators else (),
        tuple(map(readable, draft.bases)) if draft.bases else (),
        scan.clean([readable(text[start:end]) for start, end in draft.docs]) if draft.docs else "",
    )


def _decorator(start: int, end: int, source: Source) -> str:
    masked = source.masked[start:end]
    text = one_line(scan.tokens(masked), source.literals_in(start, end)) if PLACEHOLDER in masked else _tidied(masked)
    return source.readable(text).strip("@#[]! ")


@lru_cache(maxsize=4_096)
def _tidied(masked: str) -> str:
    """A decorator without literals: `@Override` stands ten times in each file."""
    return one_line(scan.tokens(masked), ())


def _unit(
    draft: Draft,
    info: Info,
    printed: Print,
    qualname: str,
    ordinal: int,
    starts: Sequence[int],
    shift: int,
    flags: int,
) -> Unit:
    name, signature, decorators, bases, doc = info
    _, face, body, own, shape, _, _ = printed
    start, end = draft.start, draft.end
    return Unit(  # by position: half a microsecond each
        draft.kind, name, qualname, ordinal, draft.parent,
        start + shift, end + shift, bisect_right(starts, start), bisect_right(starts, max(end - 1, start)),
        signature, decorators, bases, doc, int(draft.flags) | flags,
        face, body, own, shape,
    )  # fmt: skip
