"""References of a file: what its units name.

A reference says what the source says: the last identifier, what stands before it, and the written type of that where
the same file shows it. Whether it is a function of this project is for `daemon.graph.resolve` to find out.

Terms. `scope` UNKNOWN: something stands before the name that is no plain dotted name (`f(x).load()`): such a name is
never one of the file's own scope. Equal references of one unit are kept once, at their first line. An "inner" is a name
before brackets in the arguments of a macro, which are mere tokens to the grammar. The loop over a file's spans is in
the compiled module `_scan`; what is told here is what the names say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import Captures, Dialect, Draft
from codegraphd.daemon.analysis.written_types import WrittenTypes, arguments, count_arguments
from codegraphd.store.records import Reference

UNKNOWN = "?"
MAX_SPAN = 200  # bytes of a name with what stands before it
_MAX_NAMES = 40_000  # remembered by a process for each language, about 8 MB

_NAME = re.compile(r"[#~]?[A-Za-z_$\x80-\xff][\w$\x80-\xff]*", re.ASCII)
_DOTTED = re.compile(rf"{_NAME.pattern}(?:\.{_NAME.pattern})*", re.ASCII)
_SEPARATOR = re.compile(r"\s*(?:\?\.|!\.|\.|->|::)\s*(?:template\s+)?", re.ASCII)
_TAIL = re.compile(r"([A-Za-z_$~\x80-\xff#][\w$\x80-\xff]*)\s*$", re.ASCII)
_ARGUMENTS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")
_CLASS_NAME = re.compile(r"_*[A-Z]\w*[a-z]|_*[A-Z]$")
_INDEX = re.compile(r"\[[^\[\]]*\]$|(?:::\s*)?<[^()]*>")  # type arguments of a call: `f[int]`, `f::<T>`, `f<T>`
_CONDITIONAL = re.compile(r"(?<![\w.)\]?!@>\x80-\xff])([A-Za-z_@\x80-\xff][\w.\x80-\xff]*)\s*\?\s*\Z", re.ASCII)
_GENERIC_TYPE = re.compile(r"([\w.\x80-\xff]+)\s*<[^()]*>", re.ASCII)
_GENERIC_MEMBER = re.compile(r"([\w.\x80-\xff]+)\s*<(?:[^()<>]|<[^()<>]*>)*>\s*\.\s*(\w+)(?:\s*<[^()]*>)?", re.ASCII)
_OPEN = (".", "?.", "[")  # so begins what names a member of what stands before it
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


class _Said(NamedTuple):
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
        self.chained: dict[str, _Chained] = {}
        self.named: dict[tuple[str, str], Sequence[tuple[str, str, str]]] = {}  # (kind, text) -> see `_named`

    def begin(self) -> None:
        """To be called before each file: within one, equal names are known by identity."""
        if len(self._all) + len(self.named) + sum(map(len, self.plain.values())) > _MAX_NAMES:
            self._all.clear()
            self.plain.clear()
            self.chained.clear()
            self.named.clear()

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


class _Chained(dict[str, _Said]):
    """What a name says that is called of the result of a call."""

    def __init__(self, vocabulary: _Vocabulary, kind: str) -> None:
        super().__init__()
        self._vocabulary, self._kind = vocabulary, kind

    def __missing__(self, name: str) -> _Said:
        said = self[name] = self._vocabulary.said(self._kind, name, UNKNOWN, "")
        return said


@cache
def _vocabulary(dialect: Dialect) -> _Vocabulary:
    return _Vocabulary(dialect)


def references_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Reference]:
    """Every reference of the file in order; sets `bases` of the drafts on the way."""
    types = WrittenTypes(captures, drafts, source, dialect)
    vocabulary = _vocabulary(dialect)
    vocabulary.begin()
    names = [name for name in captures.spans if name.startswith("ref.")]
    # Of two kinds for one span the special one, which comes last, wins over call and type.
    names.sort(key=lambda name: (name in {"ref.call", "ref.type"}, name), reverse=True)
    kinds = []
    for name in names:
        kind = name[4:]
        of = "call" if kind == "inner" else kind
        chained = None
        if not (dialect.calls_make or dialect.counts_arguments or of == "type"):
            chained = vocabulary.chained.setdefault(of, _Chained(vocabulary, of))
        counts_arguments = dialect.counts_arguments and of in _TYPES
        kinds.append((kind, captures.spans[name], vocabulary.of(of), chained, counts_arguments))

    def others(unit: int, start: int, end: int, kind: str) -> list[tuple[_Said, str]]:
        kind = "call" if kind == "inner" else kind
        mark = _mark(source.text, start, end) if dialect.counts_arguments and kind in _TYPES else ""
        if mark:
            said = vocabulary.of(kind, mark)[source.text[max(start, end - MAX_SPAN) : end]]
            if said is not None:
                return [(said, "")]
        owner = types.owners[unit].rpartition(".")[2]
        return list(_all_said(source, start, end, kind, mark, dialect, owner))

    references, bases = scan.references(
        source.text, source.masked, kinds,
        [(draft.start, draft.end, draft.name, draft.kind == "part") for draft in drafts],
        [draft.node.byte_range for draft in drafts],
        line_starts, Reference, types.names, types.receiver, others, dialect.types is not None,
    )  # fmt: skip
    for unit, base in bases:
        if base not in drafts[unit].bases:
            drafts[unit].bases.append(base)
    return references


def _mark(text: str, start: int, end: int) -> str:
    """The `arguments` that a type's name is written with."""
    at = end if text.startswith("<", end) else text.find("<", start, end)
    return arguments(count_arguments(text, at)) if at >= 0 else ""


def _all_said(
    source: Source, start: int, end: int, kind: str, mark: str, dialect: Dialect, owner: str
) -> Iterable[tuple[_Said, str]]:
    """What a span says that is no plain name, and the type of the receiver that the span itself shows."""
    vocabulary, selves = _vocabulary(dialect), dialect.selves
    said = vocabulary.said
    named: Iterable[tuple[str, str, str]] | None
    if end - start > MAX_SPAN or source.text.startswith(_OPEN, start):
        named = _named(source, start, end, kind, dialect)
    elif (named := vocabulary.named.get(key := (kind, source.text[start:end]))) is None:
        named = vocabulary.named[key] = tuple(_named(source, start, end, kind, dialect))
    for spelled, scope, shown in named:
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
    if text.startswith(_OPEN):  # C#: `a?.Load()` names the member alone
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
