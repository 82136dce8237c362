"""Go."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import DECLARATION, EXPORTED, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import Dialect, Draft, Import, node_text

KEYWORDS = names(
    "break case chan const continue default defer else fallthrough for func go goto if import interface map package "
    "range return select struct switch type var nil true false iota"
)
BUILTINS = names(
    "any bool byte comparable complex64 complex128 error float32 float64 int int8 int16 int32 int64 rune string uint "
    "uint8 uint16 uint32 uint64 uintptr append cap clear close complex copy delete imag len make max min new panic "
    "print println real recover nil true false iota"
)

_PACKAGE = re.compile(r"^[ \t]*package\s+(\w+)", re.MULTILINE | re.ASCII)
_SPEC = re.compile(r"\s*([\w.]+)?\s*[\"`]([^\"`]*)[\"`]")
_SLICE = re.compile(r"([\w)\]]) ?\[\]")
_TYPE_GAP = re.compile(r"(\bmap\[[^\[\]]*\]|\[\d*\]) ")
_VERSION = re.compile(r"v\d+")
_TEST = re.compile(r"(?:Test|Benchmark|Example|Fuzz)(?![a-z])")
_NAMES = re.compile(r"((?:[A-Za-z_]\w*\s*,\s*)*[A-Za-z_]\w*)\s+(?:\.\.\.)?\s*(.*)", re.DOTALL)
_MADE = re.compile(r"([A-Za-z_]\w*)\s*(?:,\s*\w+\s*)?:?=\s*&?\s*((?:\w+\.)?\w+)\s*(?:\[[^\]]*\])?\s*([{(])", re.DOTALL)
_TYPE_NAME = re.compile(r"\*?\s*((?:[A-Za-z_]\w*\.)?[A-Za-z_]\w*)\s*(?:\[[^\]]*\])?\s*(?:`.*|=.*)?$", re.DOTALL)


def _name(node: tree_sitter.Node, kind: str) -> str | None:
    found = node.child_by_field_name("name")
    if found is None:
        return None
    name = node_text(found)
    if kind == "constant" and not _is_worth(node, name):
        return None
    return name


def _is_worth(node: tree_sitter.Node, name: str) -> bool:
    value = node.child_by_field_name("value")
    if value is None or name == "_":
        return False
    return name[:1].isupper() or name.isupper() or value.end_point.row - value.start_point.row >= 3


def _scope(node: tree_sitter.Node, kind: str) -> str:  # noqa: ARG001
    receiver = node.child_by_field_name("receiver")
    if receiver is None:
        return ""
    text = re.sub(r"\[.*\]", "", node_text(receiver).strip("() \t\n"))
    return text.replace("*", " ").split()[-1] if text else ""


def _body(node: tree_sitter.Node, kind: str) -> int | None:
    if kind == "constant":
        return node.start_byte
    of = node.child_by_field_name("type")
    if node.type == "type_spec" and of is not None and of.type in {"struct_type", "interface_type"}:
        for child in of.children:
            if child.type in {"{", "field_declaration_list"}:
                return child.start_byte
    if node.type == "var_spec" and (value := node.child_by_field_name("value")) is not None:
        node = value.named_children[0]
    body = node.child_by_field_name("body")
    return None if body is None else body.start_byte


def _refine(draft: Draft, parent: Draft | None) -> None:  # noqa: ARG001
    if draft.node.type == "type_spec":
        of = draft.node.child_by_field_name("type")
        draft.kind = {"struct_type": "struct", "interface_type": "interface"}.get(of.type if of else "", "type")
        draft.is_container = draft.kind != "type"


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:  # noqa: ARG001
    flags = EXPORTED if draft.name[:1].isupper() else 0
    if draft.kind in {"function", "method"} and draft.is_bodiless:
        flags |= DECLARATION
    if draft.kind == "function" and _TEST.match(draft.name):
        flags |= TEST
    return flags


def _imports(text: str) -> Sequence[Import]:
    match = _SPEC.match(text)
    if match is None:
        return []
    local, module = match[1] or "", match[2]
    if local == ".":
        return [Import("*", module, "*", False)]
    if local == "_":
        return [Import("", module, "", False)]
    return [Import(local or package_name(module), module, "", False)]


def package_name(module: str) -> str:
    """What a package is most likely called: the last part of its path that is no version."""
    parts = [part for part in module.split("/") if part]
    if len(parts) > 1 and _VERSION.fullmatch(parts[-1]):
        parts.pop()
    name = parts[-1] if parts else module
    name = re.sub(r"\.v\d+$", "", name)
    return name.removeprefix("go-").removesuffix("-go").removesuffix(".go").rpartition("-")[2]


def _typed(text: str) -> Sequence[tuple[str, str]]:
    if match := _MADE.match(text):
        name, of, bracket = match[1], match[2], match[3]
        if bracket == "(":
            package, dot, function = of.rpartition(".")
            if not function.startswith("New") or function == "New":
                return []
            of = f"{package}{dot}{function.removeprefix('New')}"
        return [(name, of)] if of not in BUILTINS and of not in KEYWORDS else []
    match = _NAMES.match(text)
    if match is None:
        return []
    of_match = _TYPE_NAME.match(match[2])
    if of_match is None or of_match[1] in BUILTINS or of_match[1] in KEYWORDS:
        return []
    return [(name.strip(), of_match[1]) for name in match[1].split(",")]


def _tidy(signature: str) -> str:
    """Slices and maps as gofmt writes them."""
    signature = _SLICE.sub(r"\1 []", signature)
    return _TYPE_GAP.sub(r"\1", signature)


def _package(masked: str) -> str:
    match = _PACKAGE.search(masked)
    return match[1] if match is not None else ""


DIALECTS = {
    "go": Dialect(
        language="go",
        grammar="go",
        queries=("go",),
        keywords=KEYWORDS,
        builtins=BUILTINS,
        selves=frozenset(),
        groups=frozenset({"type_declaration", "const_declaration", "var_declaration"}),
        name=_name,
        scope=_scope,
        body=_body,
        refine=_refine,
        flags=_flags,
        is_doc=lambda comment: not comment.startswith(("//go:", "// +build", "//line", "//nolint", "//export")),
        imports=_imports,
        typed=_typed,
        tidy=_tidy,
        package=_package,
    )
}
