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
from codegraphd.daemon.analysis.written_types import WrittenTypes
from codegraphd.store.records import Reference

UNKNOWN = "?"
MAX_REFERENCES = 2_000  # of one unit; tables of data call one constructor 50,000 times
MAX_SPAN = 200  # bytes of a name with what stands before it
_MAX_SAYINGS = 20_000  # names of one kind remembered by a process for each language, about 5 MB

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
    """What a name of one kind says, in whatever unit it stands. Compared by identity: see `_Sayings`."""

    name: str
    scope: str
    kind: str
    base: str  # the dotted name that a class inherits from or implements; "": none
    builtin: str  # refers to nothing unless the file defines this name; "": it may
    own: str  # refers to nothing in a unit of this name: the type itself


_NOTHING = _Said("", "", "", "", "", "")


def _said(dialect: Dialect, kind: str, name: str, scope: str, *, is_self: bool = False) -> _Said:
    """_NOTHING: no reference. `is_self`: the source says `Self`, which is the type `name`."""
    first = scope.partition(".")[0]
    if not name or (kind == "type" and (is_self or first in dialect.selves)):
        return _NOTHING
    of = dialect.base_kind(name) if kind == "base" else "instantiate" if is_self else kind
    is_base = of in {"inherit", "implement"}
    builtin = first or name
    if builtin not in dialect.builtins or scope == "super":
        builtin = ""
    if kind == "element":
        of = "call"
        if not scope and not name[:1].isupper():
            return _NOTHING
    elif of == "call" and dialect.calls_make and _CLASS_NAME.match(name):
        of = "instantiate"
    elif kind == "type" and not scope and len(name) == 1:
        return _NOTHING  # a type parameter by convention
    return _Said(
        name=name,
        scope=scope,
        kind=of,
        base=(f"{scope}.{name}" if scope else name) if is_base else "",
        builtin=builtin,
        own=name if kind == "type" and not scope else "",
    )


class _Sayings(dict[str, _Said | None]):
    """Plain dotted text -> what it says; None where that takes a look at the place. One for each kind of a dialect.

    The same names stand in file after file, and several times in a unit: what was said there already is known by
    identity.
    """

    def __init__(self, dialect: Dialect, kind: str) -> None:
        super().__init__()
        self._dialect, self._kind = dialect, kind

    def __missing__(self, text: str) -> _Said | None:
        if len(self) >= _MAX_SAYINGS:
            self.clear()
        scope, _, name = text.rpartition(".")
        is_self = not scope and name in self._dialect.selves  # `cls(…)`, `Self { … }`: depends on the class around
        is_plain = _DOTTED.fullmatch(text) is not None and not is_self
        said = self[text] = _said(self._dialect, self._kind, name, scope) if is_plain else None
        return said


@cache
def _sayings(dialect: Dialect, kind: str) -> _Sayings:
    return _Sayings(dialect, kind)


def references_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Reference]:
    """Every reference of the file in order; sets `bases` of the drafts on the way."""
    types = WrittenTypes(captures, drafts, source, dialect)
    places = Places(drafts)
    own_names = {draft.name for draft in drafts}
    found: dict[tuple[int, str, str, str], Reference] = {}
    said_in: dict[int, set[_Said]] = {}
    said_here: set[_Said] = set()
    counts: dict[int, int] = {}
    kinds = _kinds(captures, source)
    sayings = {kind: _sayings(dialect, kind) for kind in set(kinds.values())}
    reads_types, text, is_ascii = dialect.types is not None, source.text, source.is_ascii
    unit, is_full, limit = -1, False, 0
    types_end = 0
    for span in _ordered(kinds, drafts):
        kind = kinds[span]
        start, end = span
        if kind == "type":
            if reads_types:
                if start < types_end:  # inside of an annotation that was read as a whole
                    continue
                types_end = end
            if text.startswith("::", start - 2):
                continue  # the end of a qualified name, which is a reference as a whole
        if start >= limit:
            unit, limit = places.of(start), places.limit
            said_here = said_in.setdefault(unit, set())
            is_full = counts.get(unit, 0) >= MAX_REFERENCES
        if is_full:
            continue
        said = sayings[kind][text[start if end - start <= MAX_SPAN else end - MAX_SPAN : end]]
        if said in said_here or said is _NOTHING:
            continue
        if said is not None:
            said_here.add(said)
            said_all: Iterable[tuple[_Said, str]] = ((said, ""),)
        else:
            owner = types.owners[unit].rpartition(".")[2]
            said_all = _all_said(source, start, end, kind, dialect, owner)
        for one, shown in said_all:
            if one.base and unit >= 0 and one.base not in drafts[unit].bases:
                drafts[unit].bases.append(one.base)
            if one.builtin and one.builtin not in own_names:
                continue
            name, scope = one.name, one.scope
            if one.own and unit >= 0 and drafts[unit].name == name:
                continue
            key = (unit, one.kind, name, scope)
            if key in found:
                continue
            receiver = types.receiver(unit, scope) if scope and not shown and scope != UNKNOWN else shown
            counts[unit] = count = counts.get(unit, 0) + 1
            is_full = count >= MAX_REFERENCES
            if not is_ascii:
                name, scope, receiver = source.readable(name), source.readable(scope), source.readable(receiver)
            found[key] = Reference(unit, one.kind, name, scope, receiver, bisect_right(line_starts, start))
    return list(found.values())


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


def _ordered(kinds: Mapping[Span, str], drafts: Sequence[Draft]) -> list[Span]:
    """The spans in order, less what is no reference of its own.

    A type's name that ends a longer name (the `C` of `a.b.C`) is part of that; a definition is no reference.
    """
    ordered = sorted(kinds)
    # End -> the smallest start of a name that ends there: the later entry wins.
    longest = {span[1]: span[0] for span in reversed(ordered) if kinds[span] != "call"}
    definitions = {draft.node.byte_range for draft in drafts}
    return [
        span for span in ordered if (kinds[span] != "type" or longest[span[1]] == span[0]) and span not in definitions
    ]


def _path_before(masked: str, start: int) -> int:
    """The length of the path that stands directly before a name: 3 for the `c` of `a::c`."""
    if masked[start - 1] not in ":.":
        return 0
    window = masked[max(0, start - MAX_SPAN) : start]
    found = _PATH_END.search(window)
    return 0 if found is None else len(found[0])


def _all_said(
    source: Source, start: int, end: int, kind: str, dialect: Dialect, owner: str
) -> Iterable[tuple[_Said, str]]:
    """What a span says that is no plain name, and the type of the receiver that the span itself shows."""
    for spelled, scope, shown in _named(source, start, end, kind, dialect):
        is_self = not scope and spelled in dialect.selves
        said = _said(dialect, kind, owner if is_self else spelled, scope, is_self=is_self)
        if said is not _NOTHING:
            yield said, shown


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
    yield name, UNKNOWN, made[1] if made is not None and made[1].rpartition(".")[2][:1].isupper() else ""
