"""Other readings of C and C++ whose conditionals stand where the grammar takes none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from codegraphd.daemon.analysis.repair import Span

_CONDITIONAL = re.compile(rb"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b(?:[^\\\n]|\\\r?\n)*", re.MULTILINE)
_FOREIGN = re.compile(rb"#[ \t]*if(?:def)?\b[^!\n]*\b(?:_?WIN(?:32|64)|_MSC_VER|__MINGW\w*|__CYGWIN__|0[ \t]*$)")
_QUOTED = re.compile(rb"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_REPAIRABLE = 1 << 20  # bytes: each reading costs a parse


def conditionals_of(raw: bytes) -> Iterator[list[Span]]:
    """What to leave out of conditionals in the middle of a list, an expression or a header, where the grammar takes
    none: their lines; then, where branches are no whole definitions, all branches but one too."""
    lines = list(_CONDITIONAL.finditer(raw)) if len(raw) <= _REPAIRABLE else []
    if not lines:
        return
    spans = [match.span() for match in lines]
    yield list(spans)
    for conditional in _conditionals(lines):
        branches = [(a.end(), b.start()) for a, b in pairwise(conditional)]
        if len(branches) > 1 and not all(_is_whole(raw[start:end]) for start, end in branches):
            is_foreign = conditional[-2][1] == b"else" and _FOREIGN.search(conditional[0][0]) is not None
            del branches[-1 if is_foreign else 0]
            spans += branches
    yield spans


def _conditionals(lines: Sequence[re.Match[bytes]]) -> Iterator[list[re.Match[bytes]]]:
    """The lines of each conditional that is closed: `#if`, `#elif`, `#else`, `#endif`."""
    around: list[list[re.Match[bytes]]] = []
    for match in lines:
        if match[1].startswith(b"if"):
            around.append([match])
        elif around:
            around[-1].append(match)
            if match[1] == b"endif":
                yield around.pop()


def _is_whole(branch: bytes) -> bool:
    """Whether a branch may be a sequence of whole definitions: it has braces, and they match."""
    code = _QUOTED.sub(b"", branch)
    return b"{" in code and all(code.count(a) == code.count(b) for a, b in ((b"{", b"}"), (b"(", b")")))
