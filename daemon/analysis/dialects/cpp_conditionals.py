"""Other readings of C and C++ whose conditionals stand where the grammar takes none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.repair import Reading

_Line = tuple[int, int, str, int]  # see scan.conditionals

_FOREIGN = re.compile(rb"#[ \t]*if(?:def)?\b[^!\n]*\b(?:_?WIN(?:32|64)|_MSC_VER|__MINGW\w*|__CYGWIN__|0[ \t]*$)")
_QUOTED = re.compile(rb"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_REPAIRABLE = 1 << 20  # bytes: each reading costs a parse


def conditionals_of(raw: bytes) -> Iterator[Reading]:
    """What to leave out of conditionals in the middle of a list, an expression or a header, where the grammar takes
    none: their lines; then, where branches are no whole definitions, all branches but one too.

    Where all lines of a conditional stand between statements or definitions, as many braces being open at each, it
    breaks nothing by itself.
    """
    lines = scan.conditionals(raw) if len(raw) <= _REPAIRABLE else []
    conditionals = list(_conditionals(lines))
    harmless = {line for conditional in conditionals if _is_between(conditional) for line in conditional}
    breaking = [(line[0], line[1]) for line in lines if line not in harmless]
    if not lines:
        return
    spans = [(line[0], line[1]) for line in lines]
    yield Reading(list(spans), breaking)
    for conditional in conditionals:
        branches = [(a[1], b[0]) for a, b in pairwise(conditional)]
        if len(branches) > 1 and not all(_is_whole(raw[start:end]) for start, end in branches):
            start, end, *_ = conditional[0]
            is_foreign = conditional[-2][2] == "else" and _FOREIGN.search(raw, start, end) is not None
            del branches[-1 if is_foreign else 0]
            spans += branches
            if conditional[0] not in harmless:
                breaking += branches
    yield Reading(spans, breaking)


def _conditionals(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """The lines of each conditional that is closed: `#if`, `#elif`, `#else`, `#endif`."""
    around: list[list[_Line]] = []
    for line in lines:
        if line[2].startswith("if"):
            around.append([line])
        elif around:
            around[-1].append(line)
            if line[2] == "endif":
                yield around.pop()


def _is_between(conditional: Sequence[_Line]) -> bool:
    depth = conditional[0][3]
    return depth >= 0 and all(line[3] == depth for line in conditional)


def _is_whole(branch: bytes) -> bool:
    """Whether a branch may be a sequence of whole definitions: it has braces, and they match."""
    code = _QUOTED.sub(b"", branch)
    return b"{" in code and all(code.count(a) == code.count(b) for a, b in ((b"{", b"}"), (b"(", b")")))
