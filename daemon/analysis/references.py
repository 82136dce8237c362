"""References of a file: what its units name.

A reference says what the source says: the last identifier, what stands before it, and the written type of that where
the same file shows it. Whether it is a function of this project is for `daemon.graph.resolve` to find out.

Terms. `scope` UNKNOWN: something stands before the name that is no plain dotted name (`f(x).load()`): such a name is
never one of the file's own scope. Equal references of one unit are kept once, at their first line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.places import Places
from codegraphd.daemon.analysis.syntax import Captures, Dialect, Draft, Span
from codegraphd.daemon.analysis.written_types import WrittenTypes, arguments, count_arguments
from codegraphd.store.records import Reference

UNKNOWN = "?"
MAX_REFERENCES = 2_000  # of one unit; tables of data call one constructor 50,000 times
MAX_SPAN = 200  # bytes of a name with what stands before it
_MAX_NAMES = 40_000  # remembered by a process for each language, about 8 MB

_byte_range = attrgetter("byte_range")

_NAME = re.compile(r"[#~]?[A-Za-z_$\x80-\xff][\w$\x80-\xff]*", re.ASCII)
_DOTTED = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern})*", re.ASCII)
_SEPARATOR = re.compile(r"\s*(?:\?\.|!\.|\.|->|::)\s*(?:template\s+)?", re.ASCII)
_TAIL = re.compile(r"([A-Za-z_$~\x80-\xff#][\w$\x80-\xff]*)\s*$", re.ASCII)
_ARGUMENTS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_PATH_END = re.compile(r"(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*(?:::|\.))+$", re.ASCII)
_CLASS_NAME = re.compile(r"_*[A-Z]\w*[a-z]|_*[A-Z]$")
_INDEX = re.compile(r"\[[^\[\]]*\]$|(?:::\s*)?<[^()]*>")  # type arguments of a call: `f[int]`, `f::<T>`, `f<T>`
_CONDITIONAL = re.compile(r"(?<![\w.)\]?!@>\x80-\xff])([A-Za-z_@\x80-\xff][\w.\x80-\xff]*)\s*\?\s*\Z", re.ASCII)
_GENERIC_TYPE = re.compile(r"([\w.\x80-\xff]+)\s*<[^()]*>", re.ASCII)
_GENERIC_MEMBER = re.compile(r"([\w.\x80-\xff]+)\s*<(?:[^()<>]|<[^()<>]*>)*>\s*\.\s*(\w+)(?:\s*<[^()]*>)?", re.ASCII)
_TYPES = frozenset({"type", "instantiate", "inherit", "implement", "base"})
_MADE = re.compile(r"(?:new\s+)?([\w.]+)\s*\([^()]*\)", re.ASCII)


def _drop(text: str) -> str:
    """`text` without type arguments."""
    while (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    return text


def plain(text: str) -> str:
    """A dotted name: every separator a dot. "" if the text is no such name."""
    if _DOTTED.fullmatch(text):
        return text
    text = _SEPARATOR.sub(".", text.removeprefix("global::").strip(" \t\r\n&*?")).strip(".")
    parts = text.split(".")
    return text if all(_NAME.fullmatch(part) for part in parts) else ""


@dataclass(slots=True, eq=False)
class _Said:
    """What a name says, in whatever unit it stands. There is one of each (kind, name, scope, mark), see below."""

    kind: str
    name: str
    scope: str
    first: str  # of the scope: the variable or the package
    base: str  # the dotted name that a class inherits from or implements; "": none
    builtin: str  # refers to nothing unless the file defines this name; "": it may
    own: str  # refers to nothing in a unit of this name: the type itself
    mark: str  # `arguments` that the name is written with, in a language where that is another type


_NOTHING = _Said("", "", "", "", "", "", "", "")


class _Vocabulary:
    """What names say in one dialect: the same ones stand in file after file, and several times in a unit.

    `plain[kind, mark]` has the dotted texts; None where it takes a look at the place to tell.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._all: dict[tuple[str, str, str, str], _Said] = {}
        self.plain: dict[tuple[str, str], _Plain] = {}

    def begin(self) -> None:
        """To be called before each file: within one, equal names are known by identity."""
        if len(self._all) + sum(map(len, self.plain.values())) > _MAX_NAMES:
            self._all.clear()
            self.plain.clear()

    def of(self, kind: str, mark: str = "") -> _Plain:
        if (plain := self.plain.get((kind, mark))) is None:
            plain = self.plain[kind, mark] = _Plain(self, kind, mark, self._dialect.selves)
        return plain

    def said(self, kind: str, name: str, scope: str, mark: str, *, is_self: bool = False) -> _Said:
        """_NOTHING: no reference. `is_self`: the source says `Self`, which is the type `name`."""
        dialect = self._dialect
        first = scope.partition(".")[0]
        if not name or (kind == "type" and (is_self or first in dialect.selves)):
            return _NOTHING
        of = dialect.base_kind(name) if kind == "base" else "instantiate" if is_self else kind
        if kind == "element":
            of = "call"
            if not scope and not name[:1].isupper():
                return _NOTHING
        elif of == "call" and dialect.calls_make and _CLASS_NAME.match(name):
            of = "instantiate"
        elif kind == "type" and not scope and len(name) == 1:
            return _NOTHING  # a type parameter by convention
        said = self._all.get((of, name, scope, mark))
        if said is None:
            base = (f"{scope}.{name}" if scope else name) if of in {"inherit", "implement"} else ""
            builtin = "" if scope == "super" or (first or name) not in dialect.builtins else first or name
            own = name if of == "type" and not scope else ""
            said = self._all[of, name, scope, mark] = _Said(of, name, scope, first, base, builtin, own, mark)
        return said


class _Plain(dict[str, _Said | None]):
    def __init__(self, vocabulary: _Vocabulary, kind: str, mark: str, selves: frozenset[str]) -> None:
        super().__init__()
        self._vocabulary, self._kind, self._mark, self._selves = vocabulary, kind, mark, selves

    def __missing__(self, text: str) -> _Said | None:
        scope, _, name = text.rpartition(".")
        is_self = not scope and name in self._selves  # `cls(…)`, `Self { … }`: depends on the class around
        is_plain = not is_self and _DOTTED.fullmatch(text) is not None
        said = self[text] = self._vocabulary.said(self._kind, name, scope, self._mark) if is_plain else None
        return said


@cache
def _vocabulary(dialect: Dialect) -> _Vocabulary:
    return _Vocabulary(dialect)


def references_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Reference]:
    """Every reference of the file in order; sets `bases` of the drafts on the way."""
    types = WrittenTypes(captures, drafts, source, dialect)
    typed_names = types.names
    places = Places(drafts)
    own_names = {draft.name for draft in drafts}
    references: list[Reference] = []
    said_in: dict[int, set[_Said]] = {}
    said_here: set[_Said] = set()
    counts: dict[int, int] = {}
    kinds = _kinds(captures, source)
    vocabulary = _vocabulary(dialect)
    vocabulary.begin()
    plain = {kind: vocabulary.of(kind) for kind in set(kinds.values())}
    reads_types, text, is_ascii = dialect.types is not None, source.text, source.is_ascii
    counts_arguments = dialect.counts_arguments
    has_paths = "::" in text
    unit, is_full, limit = -1, False, 0
    types_end = 0
    for (start, end), kind in _ordered(kinds, drafts):
        if kind == "type":
            if reads_types:
                if start < types_end:  # inside of an annotation that was read as a whole
                    continue
                types_end = end
            if has_paths and text.startswith("::", start - 2):
                continue  # the end of a qualified name, which is a reference as a whole
        if start >= limit:
            unit, limit = places.of(start), places.limit
            said_here = said_in.setdefault(unit, set())
            is_full = counts.get(unit, 0) >= MAX_REFERENCES
        if is_full:
            continue
        piece = text[start if end - start <= MAX_SPAN else end - MAX_SPAN : end]
        mark = _mark(text, start, end) if counts_arguments and kind in _TYPES else ""
        said = (vocabulary.of(kind, mark) if mark else plain[kind])[piece]
        if said in said_here:
            continue
        if said is not None:
            all_said: Iterable[tuple[_Said, str]] = ((said, ""),)
        else:
            owner = types.owners[unit].rpartition(".")[2]
            all_said = _all_said(source, start, end, kind, mark, dialect, owner)
        for one, shown in all_said:
            if one in said_here or one is _NOTHING:
                continue
            said_here.add(one)
            if one.base and unit >= 0 and one.base not in drafts[unit].bases:
                drafts[unit].bases.append(one.base)
            if one.builtin and one.builtin not in own_names:
                continue
            name, scope = one.name, one.scope
            if one.own and unit >= 0 and drafts[unit].name == name:
                continue
            receiver = one.mark or shown or (types.receiver(unit, scope) if scope and one.first in typed_names else "")
            counts[unit] = count = counts.get(unit, 0) + 1
            is_full = count >= MAX_REFERENCES
            if not is_ascii:
                name, scope, receiver = source.readable(name), source.readable(scope), source.readable(receiver)
            references.append(Reference(unit, one.kind, name, scope, receiver, bisect_right(line_starts, start)))
    return references


def _kinds(captures: Captures, source: Source) -> dict[Span, str]:
    """The spans of references and their kinds; of two kinds for one span the special one wins over call and type.

    An "inner" is a name before brackets in the arguments of a macro, which are mere tokens to the grammar. An "invoke"
    is a call that names its function in a field of its own; the span of the callee ends there.
    """
    kinds: dict[Span, str] = {}
    references = [name for name in captures if name.startswith("ref.")]
    references.sort(key=lambda name: (name in {"ref.call", "ref.type"}, name), reverse=True)  # who comes last wins
    for capture_name in references:
        kind, nodes = capture_name[4:], captures[capture_name]
        if kind == "invoke":
            names = [(node.start_byte, node.child_by_field_name("name")) for node in nodes]
            kinds.update({(start, name.end_byte): "call" for start, name in names if name is not None})
        elif kind == "inner":
            masked = source.masked
            for start, end in map(_byte_range, nodes):
                if masked.startswith("(", end):
                    kinds[start - _path_before(masked, start), end] = "call"
        else:
            kinds.update(dict.fromkeys(map(_byte_range, nodes), kind))
    return kinds


def _ordered(kinds: Mapping[Span, str], drafts: Sequence[Draft]) -> list[tuple[Span, str]]:
    """The spans in order, less what is no reference of its own.

    A type's name that ends a longer name (the `C` of `a.b.C`) is part of that, as is one that begins what is made
    (the `Box` of `new Box<T>()`); a definition is no reference.
    """
    ordered = [(span, kinds[span]) for span in sorted(kinds)]
    # End -> the smallest start of a name that ends there: the later entry wins.
    longest = {span[1]: span[0] for span, kind in reversed(ordered) if kind != "call"}
    made = {span[0] for span, kind in ordered if kind == "instantiate"}
    definitions = {draft.node.byte_range for draft in drafts} & kinds.keys()
    return [
        (span, kind)
        for span, kind in ordered
        if (kind != "type" or (longest[span[1]] == span[0] and span[0] not in made))
        and (not definitions or span not in definitions)
    ]


def _mark(text: str, start: int, end: int) -> str:
    """The `arguments` that a type's name is written with."""
    at = end if text.startswith("<", end) else text.find("<", start, end)
    return arguments(count_arguments(text, at)) if at >= 0 else ""


def _path_before(masked: str, start: int) -> int:
    """The length of the path that stands directly before a name: 3 for the `c` of `a::c`."""
    if masked[start - 1] not in ":.":
        return 0
    window = masked[max(0, start - MAX_SPAN) : start]
    found = _PATH_END.search(window)
    return 0 if found is None else len(found[0])


def _all_said(
    source: Source, start: int, end: int, kind: str, mark: str, dialect: Dialect, owner: str
) -> Iterable[tuple[_Said, str]]:
    """What a span says that is no plain name, and the type of the receiver that the span itself shows."""
    said, selves = _vocabulary(dialect).said, dialect.selves
    for spelled, scope, shown in _named(source, start, end, kind, dialect):
        if scope or spelled not in selves:
            yield said(kind, spelled, scope, mark), shown
        else:
            yield said(kind, owner, "", mark, is_self=True), shown


def _named(source: Source, start: int, end: int, kind: str, dialect: Dialect) -> Iterable[tuple[str, str, str]]:
    """(name, scope, receiver) of what a span names; the receiver only where the span itself shows it."""
    text = source.text[max(start, end - MAX_SPAN) : end]
    if _DOTTED.fullmatch(text):
        scope, _, name = text.rpartition(".")
        yield name, scope, ""
        return
    if kind == "type" and dialect.types is not None:
        for dotted in dialect.types(source.text[start : min(end, start + 10 * MAX_SPAN)]):
            scope, _, name = dotted.rpartition(".")
            yield name, scope, ""
        return
    if text.startswith((".", "?.", "[")):  # C#: `a?.Load()` names the member alone
        if tail := _TAIL.search(text):
            head = _CONDITIONAL.search(source.text, max(0, start - MAX_SPAN), start)
            yield tail[1], UNKNOWN if head is None else plain(head[1]) or UNKNOWN, ""
        return
    if dialect.counts_arguments and "<" in text and (match := _GENERIC_MEMBER.fullmatch(text)):
        yield match[2], match[1], match[1] + arguments(count_arguments(text, text.index("<")))
        return
    is_whole = end - start <= MAX_SPAN
    if is_whole and "(" not in text and (dotted := plain(_INDEX.sub("", text) if kind == "call" else _drop(text))):
        scope, _, name = dotted.rpartition(".")
        yield name, scope, ""
        return
    at = max(text.rfind("."), text.rfind(">"), text.rfind(":")) + 1  # the last of `.`, `->`, `::`
    name = text[at:].strip()
    if at == 0 or not _NAME.fullmatch(name):
        if tail := _TAIL.search(text):
            yield tail[1], UNKNOWN, ""
        return
    before = text[:at].rstrip(".>:-?! \n\t\r") if is_whole else ""
    if before in {"super()", "super"}:
        yield name, "super", ""
        return
    made = _MADE.fullmatch(before) if dialect.calls_make or before.startswith("new") else None
    if dialect.counts_arguments and (match := _GENERIC_TYPE.fullmatch(before)):
        yield name, UNKNOWN, match[1] + arguments(count_arguments(before, before.index("<")))
        return
    yield name, UNKNOWN, made[1] if made is not None and made[1].rpartition(".")[2][:1].isupper() else ""
