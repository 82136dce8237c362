"""What resolution reads off a signature: type parameters, and the type of a constant."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BRACKET = re.compile(r"[<\[]")
_PARAMETER = re.compile(r"\s*(?:(?:const|in|out|typename|class)\b\s*|\.\.\.\s*)*([^\W\d]\w*)")
_ANNOTATED = re.compile(r"[?!]?\s*:\s*([^=]+?)\s*(?:=|$)")
_GO_TYPED = re.compile(r"\s+([*\w.]+)\s*(?:=|$)")
_MADE = re.compile(r"\s*=\s*(?:await\s+)?(?:new\s+([\w$.]+)|&?\s*((?:\w+\.)*[A-Z]\w*)\s*[({])")


def constant_type(signature: str, name: str) -> str:
    """The type that a constant's signature shows, as written: `A: Box = x`, `A = new Box()`, `A = Box(1)`,
    `A = &Box{}`, `var A *Box`; "" where it shows none."""
    end = _end_of(signature, name)
    if end < 0:
        return ""
    if match := _ANNOTATED.match(signature, end):
        return match[1]
    if match := _MADE.match(signature, end):
        return match[1] or match[2]
    if signature.startswith(("var ", "const ")) and (match := _GO_TYPED.match(signature, end)):
        return match[1]
    return ""


def _end_of(signature: str, name: str) -> int:
    """Where the first whole word `name` ends; -1: it is not there. A pattern for each name would have to be compiled:
    a tenth of what resolution took."""
    at = signature.find(name) if name else -1
    while at >= 0:
        end = at + len(name)
        if not (_continues(signature[at - 1 : at]) or _continues(signature[end : end + 1])):
            return end
        at = signature.find(name, at + 1)
    return -1


def _continues(char: str) -> bool:
    return char.isalnum() or char in {"_", "$"}


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
