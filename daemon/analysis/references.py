"""References and bindings of a file: what its units name, and which names its imports bring in.

A reference says what the source says: the last identifier, what stands before it, and the written type of that where
the same file shows it. Whether it is a function of this project is for `daemon.graph.resolve` to find out.

Terms. `scope` UNKNOWN: something stands before the name that is no plain dotted name (`f(x).load()`): such a name is
never one of the file's own scope. Equal references of one unit are kept once, at their first line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import CALLABLES, CONTAINERS, Captures, Dialect, Draft, Span
from codegraphd.store.records import Binding, Reference

UNKNOWN = "?"
GENERIC = "<>"  # ends a type as written that has arguments, where a language has `Box` beside `Box<T>`
MAX_REFERENCES = 2_000  # of one unit; tables of data call one constructor 50,000 times
MAX_SPAN = 200  # bytes of a name with what stands before it

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
_TYPES = frozenset({"type", "instantiate", "inherit", "implement", "base"})
_MADE = re.compile(r"(?:new\s+)?([\w.]+)\s*\([^()]*\)", re.ASCII)


class Places:
    """Finds the innermost unit around a position. Positions must be asked in ascending order after `restart`."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._drafts = drafts
        self.restart()

    def restart(self) -> None:
        self._next = 0
        self._stack: list[int] = []

    def of(self, position: int) -> int:
        drafts, stack = self._drafts, self._stack
        while self._next < len(drafts) and drafts[self._next].start <= position:
            if drafts[self._next].kind != "part":  # what stands in a part belongs to the unit that was cut
                stack.append(self._next)
            self._next += 1
        while stack and drafts[stack[-1]].end <= position:
            stack.pop()
        return stack[-1] if stack else -1


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


@cache
def _typed(dialect: Dialect) -> Callable[[str], Sequence[tuple[str, str]]]:
    """`dialect.typed` with a memory: the same parameters stand in many signatures."""
    return lru_cache(maxsize=16_384)(dialect.typed)


class _Types:
    """The types that a file writes down for its variables and fields."""

    def __init__(self, drafts: Sequence[Draft], dialect: Dialect) -> None:
        self._drafts = drafts
        self._selves = dialect.selves
        self._has_bare_fields = "this" in dialect.selves and dialect.language not in {"javascript", "typescript"}
        self._fields: dict[tuple[str, str], str] = {}  # (last name of a class, field) -> dotted type
        self._of: dict[tuple[int, str], str] = {}  # (unit, variable) -> dotted type

    def collect(self, captures: Captures, source: Source, dialect: Dialect, places: Places) -> None:
        places.restart()
        aliases: list[tuple[int, str, str]] = []
        typed = _typed(dialect)
        for start, end in sorted(node.byte_range for node in captures["typed"]):
            innermost = places.of(start)
            if innermost >= 0 and self._drafts[innermost].kind == "constant":
                innermost = self._drafts[innermost].parent  # the variable itself
            for name, of in typed(source.text[start : min(end, start + MAX_SPAN)]):
                if of.startswith("="):  # has the type of another variable
                    aliases.append((innermost, name, of[1:]))
                else:
                    self._put(innermost, name, of)
        for innermost, name, other in aliases:
            if of := self._variable(innermost, other):
                self._put(innermost, name, of)

    def _put(self, innermost: int, name: str, of: str) -> None:
        first, dot, member = name.partition(".")
        if not dot:
            self._of.setdefault((innermost, name), of)
            if innermost >= 0 and (holder := self._drafts[innermost]).kind in CONTAINERS:
                self._fields.setdefault((holder.name, name), of)
        elif first in self._selves and (owner := self.owner(innermost)):
            self._fields.setdefault((owner.rpartition(".")[2], member), of)

    def owner(self, unit: int) -> str:
        """The qualified name of the class that a unit is in, or whose method it is; "": none."""
        drafts = self._drafts
        while unit >= 0:
            draft = drafts[unit]
            if draft.kind in CONTAINERS and draft.kind not in {"namespace", "module"}:
                return draft.qualname
            if draft.scope and draft.kind in CALLABLES:
                return draft.qualname.rpartition(".")[0]
            unit = draft.parent
        return ""

    def receiver(self, unit: int, scope: str) -> str:
        """The type of what `scope` means inside of `unit`; "": not shown."""
        first, dot, member = scope.partition(".")
        if first in self._selves:
            owner = self.owner(unit)
            return self._field(owner, member) if dot else owner
        found = self._variable(unit, first)
        return self._field(found, member) if dot and found else found

    def _field(self, owner: str, member: str) -> str:
        return self._fields.get((owner.removesuffix(GENERIC).rpartition(".")[2], member), "")

    def _variable(self, unit: int, name: str) -> str:
        of = self._of
        while unit >= 0:
            if found := of.get((unit, name)):
                return found
            draft = self._drafts[unit]
            if (
                draft.kind in CALLABLES
                and (found := self._field(self.owner(unit), name))
                and not self._selves & {"self"}
            ):
                return found
            unit = draft.parent
        return of.get((-1, name), "")


def references_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Reference]:
    """Every reference of the file in order; sets `bases` of the drafts on the way."""
    places = Places(drafts)
    types = _Types(drafts, dialect)
    types.collect(captures, source, dialect, places)
    places.restart()
    own_names = {draft.name for draft in drafts}
    builtins = dialect.builtins - own_names
    definitions = {draft.node.byte_range for draft in drafts}
    found: dict[tuple[int, str, str, str, str], Reference] = {}
    seen: set[tuple[int, str, str]] = set()
    counts: dict[int, int] = {}
    readable = str if source.is_ascii else source.readable
    types_end = 0
    marked = _TYPES if dialect.counts_arguments else frozenset()
    for start, end, kind in _spans(captures, source):
        if (start, end) in definitions:
            continue
        if kind == "type" and dialect.types is not None:
            if start < types_end:  # inside of an annotation that was read as a whole
                continue
            types_end = end
        if kind == "type" and source.text.startswith("::", start - 2):
            continue  # the end of a qualified name, which is a reference as a whole
        unit = places.of(start)
        if counts.get(unit, 0) >= MAX_REFERENCES:
            continue
        text = source.text[max(start, end - MAX_SPAN) : end]
        mark = GENERIC if kind in marked and ("<" in text or source.text.startswith("<", end)) else ""
        if _DOTTED.fullmatch(text):
            if (unit, kind, text + mark) in seen:
                continue
            seen.add((unit, kind, text + mark))
            before, _, last = text.rpartition(".")
            named: Iterable[tuple[str, str, str]] = ((last, before, ""),)
        else:
            named = _named(source, start, end, kind, dialect)
        for spelled, scope, shown in named:
            is_self = not scope and spelled in dialect.selves  # `cls(…)`, `Self { … }`
            name = types.owner(unit).rpartition(".")[2] if is_self else spelled
            if not name or (kind == "type" and (is_self or scope.partition(".")[0] in dialect.selves)):
                continue
            of = dialect.base_kind(name) if kind == "base" else "instantiate" if is_self else kind
            if of in {"inherit", "implement"} and unit >= 0:
                base = f"{scope}.{name}" if scope else name
                if base not in drafts[unit].bases:
                    drafts[unit].bases.append(base)
            if (scope.partition(".")[0] or name) in builtins and scope != "super":
                continue
            if kind == "element":
                of = "call"
                if not scope and not name[:1].isupper():
                    continue
            elif of == "call" and dialect.calls_make and _CLASS_NAME.match(name):
                of = "instantiate"
            elif kind == "type" and not scope and (len(name) == 1 or (unit >= 0 and drafts[unit].name == name)):
                continue  # a type parameter by convention, or the unit itself
            key = (unit, of, name, scope, mark)
            if key in found:
                continue
            receiver = mark or (types.receiver(unit, scope) if scope and not shown and scope != UNKNOWN else shown)
            counts[unit] = counts.get(unit, 0) + 1
            found[key] = Reference(
                source=unit,
                kind=of,
                name=readable(name),
                scope=readable(scope),
                receiver=readable(receiver),
                line=bisect_right(line_starts, start),
            )
    return list(found.values())


def _spans(captures: Captures, source: Source) -> list[tuple[int, int, str]]:
    """The spans of references in order; of two kinds for one span the special one wins over call and type.

    An "inner" is a name before brackets in the arguments of a macro, which are mere tokens to the grammar. An "invoke"
    is a call that names its function in a field of its own; the span of the callee ends there. A type's name that ends
    a longer name (the `C` of `a.b.C`) is part of that.
    """
    spans: dict[Span, str] = {}
    for capture_name in sorted(captures, key=lambda name: (name in {"ref.call", "ref.type"}, name)):
        if not capture_name.startswith("ref."):
            continue
        kind = capture_name[4:]
        if kind == "invoke":
            for node in captures[capture_name]:
                if (name := node.child_by_field_name("name")) is not None:
                    spans.setdefault((node.start_byte, name.end_byte), "call")
            continue
        if kind == "inner":
            for node in captures[capture_name]:
                start, end = node.byte_range
                if source.masked.startswith("(", end):
                    spans.setdefault((start - _path_before(source.masked, start), end), "call")
            continue
        for node in captures[capture_name]:
            spans.setdefault(node.byte_range, kind)
    ordered = sorted((start, end, kind) for (start, end), kind in spans.items())
    longer: dict[int, int] = {}  # end -> the smallest start of a name that ends there
    for start, end, kind in ordered:
        if kind != "call":
            longer.setdefault(end, start)
    return [span for span in ordered if span[2] != "type" or longer[span[1]] == span[0]]


def _path_before(masked: str, start: int) -> int:
    """The length of the path that stands directly before a name: 3 for the `c` of `a::c`."""
    if masked[start - 1] not in ":.":
        return 0
    window = masked[max(0, start - MAX_SPAN) : start]
    found = _PATH_END.search(window)
    return 0 if found is None else len(found[0])


def _named(source: Source, start: int, end: int, kind: str, dialect: Dialect) -> Iterable[tuple[str, str, str]]:
    """(name, scope, receiver) of what a span names; the receiver only where the span itself shows it."""
    if kind == "type" and dialect.types is not None:
        for dotted in dialect.types(source.text[start : min(end, start + 10 * MAX_SPAN)]):
            scope, _, name = dotted.rpartition(".")
            yield name, scope, ""
        return
    text = source.text[max(start, end - MAX_SPAN) : end]
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
    if dialect.counts_arguments and (match := _GENERIC_TYPE.fullmatch(before)):
        yield name, UNKNOWN, match[1] + GENERIC
        return
    yield name, UNKNOWN, made[1] if made is not None and made[1].rpartition(".")[2][:1].isupper() else ""


def bindings_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Binding]:
    """What the imports bring in. At the top level the source is -1, in a file with a "file" unit too."""
    places = Places(drafts)
    bindings: list[Binding] = []
    read_to = 0
    for start, end in sorted((node.byte_range for node in captures["import"]), key=lambda span: (span[0], -span[1])):
        if end <= read_to:
            continue  # `import(…)` inside of a declaration that was read as a whole
        read_to = end
        unit = places.of(start)
        if unit >= 0 and drafts[unit].kind == "file":
            unit = -1
        line = bisect_right(line_starts, start)
        for local, module, member, exported in dialect.imports(_with_literals(source, start, end)):
            bindings.append(
                Binding(
                    source=unit,
                    local=source.readable(local),
                    module=source.readable(module),
                    member=source.readable(member),
                    exported=exported and unit < 0,
                    line=line,
                )
            )
    return bindings


def _with_literals(source: Source, start: int, end: int) -> str:
    """The text of a span with its comments blanked and its literals kept."""
    pieces: list[str] = []
    position = start
    for literal_start, literal_end in source.spans_in(start, end):
        pieces.append(source.masked[position:literal_start])
        pieces.append(source.text[literal_start:literal_end])
        position = literal_end
    pieces.append(source.masked[position:end])
    return "".join(pieces)
