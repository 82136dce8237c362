"""Rust. An `impl` block is a unit named after its type, so its methods have the type's qualified name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import ASYNC, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import Dialect, Draft, Import, node_text

MAX_PATH = 50  # names in the path of a `use`

KEYWORDS = names(
    "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move "
    "mut pub ref return self Self static struct super trait true type unsafe use where while yield"
)
CONTEXTUAL = names("macro_rules union")
BUILTINS = names(
    "bool char f32 f64 i8 i16 i32 i64 i128 isize str u8 u16 u32 u64 u128 usize String Vec Option Result Some None Ok "
    "Err Box Rc Arc Cell RefCell Copy Clone Send Sync Sized Drop Fn FnMut FnOnce Iterator IntoIterator "
    "DoubleEndedIterator ExactSizeIterator Extend Default Debug Display Eq PartialEq Ord PartialOrd Hash From Into "
    "TryFrom TryInto AsRef AsMut ToOwned ToString HashMap HashSet BTreeMap BTreeSet VecDeque Cow Pin Future assert "
    "assert_eq assert_ne cfg column compile_error concat dbg debug_assert debug_assert_eq debug_assert_ne env eprint "
    "eprintln file format format_args include include_bytes include_str line matches module_path option_env panic "
    "print println stringify thread_local todo unimplemented unreachable vec write writeln drop Self"
)

_ARGUMENTS = re.compile(r"<[^<>]*>")
_WRAPPED = re.compile(r"(?:Box|Rc|Arc|Ref|RefMut|MutexGuard|Pin|Cow)\s*<\s*(?:'\w+\s*,\s*)?(.*)>", re.DOTALL)
_TYPED = re.compile(
    r"(?:pub(?:\([^)]*\))?\s+)?(?:let\s+)?(?:mut\s+)?(?:ref\s+)?(\w+)\s*(?::\s*([^=]+?))?\s*(?:=(?!=)\s*(.*))?[;,]?$",
    re.DOTALL,
)
_MADE = re.compile(r"&?\s*(?:mut\s+)?((?:\w+\s*::\s*)*\w+)\s*(?:::\s*<[^<>]*>\s*)?([({])?")
_TYPE_NAME = re.compile(r"(?:\w+\s*::\s*)*[A-Za-z_]\w*")
_VISIBILITY = re.compile(r"^pub\s*\([^)]*\)")
_CHAINED = re.compile(r"\)\s*\.")
_TEST = re.compile(r"#!?\[\s*(?:\w+\s*::\s*)*(?:test|rstest|bench|test_case)\b")


def _bare(text: str) -> str:
    """A type's name without references, lifetimes, `dyn` and type arguments."""
    text = re.sub(r"^(?:&|\*\s*(?:const|mut)\b|'\w+|\bmut\b|\bdyn\b|\bimpl\b|\s)+", "", text.strip())
    if match := _WRAPPED.fullmatch(text):
        return _bare(match[1])
    while (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    return re.sub(r"\s", "", text)


def _name(node: tree_sitter.Node, kind: str) -> str | None:
    if kind == "impl":
        of = node.child_by_field_name("type")
        name = "" if of is None else _bare(node_text(of)).rpartition("::")[2]
        return name if name.isidentifier() else (node_text(of)[:60].strip() if of is not None else None)
    found = node.child_by_field_name("name")
    if found is None:
        return None
    name = node_text(found)
    if kind in {"constant", "type"}:
        above = node.parent.parent if node.parent is not None else None
        in_impl = above is not None and above.type in {"impl_item", "trait_item"}
        in_block = node.parent is not None and node.parent.type == "block"
        return None if in_impl or in_block or name == "_" else name
    return name


def _body(node: tree_sitter.Node, kind: str) -> int | None:
    if kind == "constant":
        return node.start_byte
    if kind == "macro":
        for child in node.children:
            if child.type in {"(", "{", "["}:
                return child.start_byte
    body = node.child_by_field_name("body")
    return (
        None
        if body is None or (kind == "struct" and body.type == "ordered_field_declaration_list")
        else body.start_byte
    )


def _refine(draft: Draft, parent: Draft | None) -> None:
    if draft.kind == "function" and parent is not None and parent.kind in {"impl", "trait"}:
        draft.kind = "method"


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    header = source.masked[draft.head : draft.head + 200 if draft.kind == "constant" else draft.body]
    flags = 0
    if header.startswith("pub"):
        flags |= EXPORTED
    elif draft.kind == "macro":
        is_exported = any("macro_export" in source.text[a:b] for a, b in draft.decorators)
        flags |= EXPORTED if is_exported else 0
    elif parent is not None and parent.kind == "trait":
        flags |= parent.flags & EXPORTED
    elif parent is not None and parent.kind == "impl" and re.search(r"\bfor\b", _head_of(parent, source)):
        flags |= EXPORTED
    if draft.kind in {"function", "method"}:
        header = _VISIBILITY.sub("", header)
        before = header.partition("(")[0]
        flags |= ASYNC if re.search(r"\basync\b", before) else 0
        flags |= DECLARATION if draft.is_bodiless else 0
        if draft.kind == "method" and not re.match(r"\s*(?:&|'\w+|mut|\s)*self\b", header.partition("(")[2]):
            flags |= STATIC
    for start, end in draft.decorators:
        text = source.text[start:end]
        if _TEST.match(text) or (draft.kind == "module" and "cfg(test)" in text):
            flags |= TEST
    return flags


def _head_of(draft: Draft, source: Source) -> str:
    return source.masked[draft.head : min(draft.body, draft.head + 400)]


def _imports(text: str) -> Sequence[Import]:
    text = " ".join(text.split()).rstrip("; ")
    while text.startswith("#"):
        text = text.partition("]")[2].strip()
    is_exported = text.startswith("pub")
    text = re.sub(r"^pub\s*(?:\([^)]*\))?\s*", "", text)
    if text.startswith("mod "):
        name = text.removeprefix("mod ").strip()
        return [Import(name, f"self::{name}", "", is_exported)]
    if text.startswith("extern crate "):
        name, _, local = text.removeprefix("extern crate ").partition(" as ")
        return [Import(local.strip() or name.strip(), name.strip(), "", is_exported)]
    return [Import(*names, is_exported) for names in _tree(text.removeprefix("use ").strip())]


def _tree(text: str) -> list[tuple[str, str, str]]:
    """(local, module, member) of each leaf of a use tree; bounded work, no recursion."""
    leaves: list[tuple[str, str, str]] = []
    stack = [("", text)]
    while stack and len(leaves) < 1_000:
        prefix, tree = stack.pop()
        if prefix.count("::") > MAX_PATH:
            continue
        head, brace, rest = tree.partition("{")
        if brace:
            inner = rest.rpartition("}")[0] if "}" in rest else rest
            path = prefix + head.replace(" ", "")
            stack.extend((path, part) for part in reversed(_split(inner)))
            continue
        path, _, local = tree.partition(" as ")
        path = (prefix + path.replace(" ", "")).removeprefix("::").replace("r#", "")
        local = local.strip()
        if not path:
            continue
        module, _, member = path.rpartition("::")
        if member == "*":
            leaves.append(("*", module, "*"))
        elif member == "self":
            above, _, name = module.rpartition("::")
            leaves.append((local or name, above or name, name if above else ""))
        elif not module:
            leaves.append((local or member, member, ""))
        else:
            leaves.append((local or member, module, member))
    return leaves


def _split(text: str) -> list[str]:
    """The parts between commas outside of braces."""
    parts: list[str] = []
    depth = start = 0
    for match in re.finditer(r"[{},]", text):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
        elif depth == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _typed(text: str) -> Sequence[tuple[str, str]]:
    match = _TYPED.match(text.strip())
    if match is None:
        return []
    of = ""
    if match[2]:
        of = _bare(match[2])
    elif match[3] and not _CHAINED.search(match[3]) and (made := _MADE.match(match[3])):
        path = re.sub(r"\s", "", made[1])
        of, _, function = path.rpartition("::")
        if made[2] == "{" or function[:1].isupper():
            of = path
    if not of or not _TYPE_NAME.fullmatch(of):
        return []
    name = of.rpartition("::")[2]
    if name in BUILTINS - {"Self"} or not name[:1].isupper():
        return []
    return [(match[1], of.replace("::", "."))]


DIALECTS = {
    "rust": Dialect(
        language="rust",
        grammar="rust",
        queries=("rust",),
        keywords=KEYWORDS,
        contextual=CONTEXTUAL,
        builtins=BUILTINS - {"Self"},
        selves=frozenset({"self", "Self"}),
        name=_name,
        body=_body,
        refine=_refine,
        flags=_flags,
        is_doc=lambda comment: comment.startswith(("///", "/**")) and not comment.startswith(("////", "/***")),
        imports=_imports,
        typed=_typed,
    )
}
