"""Java. What an anonymous class or the body of an enum constant defines is no member of the class around it: its
qualified name says so, as `A.$Runnable.run`, `Op.PLUS.apply`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import ABSTRACT, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import CALLABLES, Dialect, Draft, Import, node_text

KEYWORDS = names(
    "abstract assert boolean break byte case catch char class const continue default do double else enum extends "
    "final finally float for goto if implements import instanceof int interface long native new package private "
    "protected public return short static strictfp super switch synchronized this throw throws transient try void "
    "volatile while true false null var yield"
)
CONTEXTUAL = names("non permits record sealed")
BUILTINS = names(
    "Boolean Byte Character Class Comparable Double Enum Exception Error Float Integer Iterable Long Math Number "
    "Object Override Deprecated FunctionalInterface SafeVarargs SuppressWarnings Runnable RuntimeException Short "
    "String StringBuilder StringBuffer System Thread Throwable Void AutoCloseable CharSequence Cloneable "
    "IllegalArgumentException IllegalStateException IndexOutOfBoundsException NullPointerException "
    "UnsupportedOperationException ArithmeticException ClassCastException InterruptedException ClassNotFoundException "
    "NumberFormatException var"
)
_NO_TYPES = BUILTINS | KEYWORDS | CONTEXTUAL

_PACKAGE = re.compile(r"\bpackage\s+([\w.\s]+?)\s*;", re.ASCII)
_IMPORT = re.compile(r"import\s+(static\s+)?([\w.$\s\x80-\xff]+?)\s*(\.\s*\*)?\s*;?\s*$", re.ASCII)
_ARGUMENTS = re.compile(r"<[^<>]*>")
_MODIFIER_GAP = re.compile(
    r"\b(public|protected|private|static|final|abstract|default|synchronized|native|strictfp)<", re.ASCII
)
_TYPED = re.compile(
    r"(?:for\s*\(\s*)?(?:.*?\binstanceof\s+)?(?:@[\w.]+(?:\([^)]*\))?\s*|"
    r"(?:final|public|private|protected|static|volatile|transient)\s+)*"
    r"([A-Za-z_$][\w$.]*)\s*(\[\s*\]|\.\.\.)?\s+([A-Za-z_$][\w$]*)\s*(?:=\s*(?:new\s+([\w$.]+))?|:|;|,|\)|$)",
    re.DOTALL,
)
_WORD = re.compile(r"\w+")
_TEST = re.compile(r"@\s*(?:[\w.]*\.)?(?:Test|ParameterizedTest|RepeatedTest|TestFactory)\b")


def type_name(text: str) -> str:
    return "" if text in _NO_TYPES else text


def _typed(text: str) -> Sequence[tuple[str, str]]:
    while "<" in text and (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    match = _TYPED.match(text)
    if match is None or match[2]:
        return []
    of = match[4] if match[1] == "var" and match[4] else type_name(match[1])
    return [(match[3], of)] if of else []


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    header = source.masked[draft.head : min(draft.body, draft.head + 400)]
    words = set(_WORD.findall(header.partition("(")[0].partition("{")[0]))
    in_interface = parent is not None and parent.kind == "interface"
    flags = 0
    if words & {"public", "protected"} or (in_interface and "private" not in words):
        flags |= EXPORTED
    if "static" in words and draft.kind in CALLABLES:
        flags |= STATIC
    if draft.kind in CALLABLES and draft.is_bodiless:
        flags |= DECLARATION
    if "abstract" in words or (in_interface and draft.is_bodiless):
        flags |= ABSTRACT
    for start, end in draft.decorators:
        if _TEST.match(source.text, start, end):
            flags |= TEST
    return flags


def _scope(node: tree_sitter.Node, kind: str) -> str:  # noqa: ARG001
    body = node.parent
    if body is None or body.type != "class_body" or (owner := body.parent) is None:
        return ""
    if owner.type == "enum_constant":
        name = owner.child_by_field_name("name")
        return "" if name is None else node_text(name)
    if owner.type == "object_creation_expression":
        of = owner.child_by_field_name("type")
        return "" if of is None else "$" + node_text(of).partition("<")[0].strip().rpartition(".")[2]
    return ""


def _refine(draft: Draft, parent: Draft | None) -> None:
    if draft.kind == "method" and parent is None:  # a compact source file
        draft.kind = "function"


def _tidy(signature: str) -> str:
    if "<" in signature:
        signature = _MODIFIER_GAP.sub(r"\1 <", signature).replace("> &", "> & ").replace(",?", ", ?")
    if " ..." in signature or " []" in signature:
        signature = signature.replace(" ...", "... ").replace(" []", "[]")
    return signature.replace("non - sealed", "non-sealed").replace("@ interface", "@interface")


def _imports(text: str) -> Sequence[Import]:
    match = _IMPORT.match(text.strip())
    if match is None:
        return []
    name = re.sub(r"\s", "", match[2])
    if match[3]:
        return [Import("*", name, "*", False)]
    module, _, member = name.rpartition(".")
    return [Import(member, module, member, False)]


def _package(masked: str) -> str:
    match = _PACKAGE.search(masked[:20_000])
    return re.sub(r"\s", "", match[1]) if match is not None else ""


DIALECTS = {
    "java": Dialect(
        language="java",
        grammar="java",
        queries=("java",),
        keywords=KEYWORDS,
        contextual=CONTEXTUAL,
        builtins=BUILTINS,
        selves=frozenset({"this"}),
        scope=_scope,
        refine=_refine,
        flags=_flags,
        is_doc=lambda comment: comment.startswith("/**"),
        imports=_imports,
        typed=_typed,
        tidy=_tidy,
        package=_package,
    )
}
