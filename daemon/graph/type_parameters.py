"""Type parameters, read off a signature: names that denote nothing, and what tells `Box` from `Box<T>`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BRACKET = re.compile(r"[<\[]")
_PARAMETER = re.compile(r"\s*(?:(?:const|in|out|typename|class)\b\s*|\.\.\.\s*)*([^\W\d]\w*)")


def type_parameters(signature: str, name: str) -> frozenset[str]:
    """The type parameters that a signature declares: `Box<T extends A>`, `<K, V> void f()`, `impl<T>`, `f[T any]`."""
    if "<" not in signature and "[" not in signature:
        return frozenset()
    for match in _BRACKET.finditer(signature):
        before = signature[: match.start()].rstrip()
        own = before.endswith(name) and not before[: -len(name)][-1:].isidentifier()
        if own or (match[0] == "<" and (match.start() > len(before) or before.endswith(("impl", "template", "=")))):
            return frozenset(_declared(signature, match.end()))
        return frozenset()
    return frozenset()


def _declared(signature: str, at: int) -> Iterable[str]:
    """The names at the head of each part of a bracket that was opened before `at`."""
    depth, start = 0, at
    for end in range(at, len(signature)):
        char = signature[end]
        if char == ">" and signature[end - 1] in "-=":  # an arrow
            continue
        if char in ",>]" and not depth:
            if match := _PARAMETER.match(signature, start, end):
                yield match[1]
            if char != ",":
                return
            start = end + 1
        elif char in "<[({":
            depth += 1
        elif char in ">])}":
            depth -= 1
