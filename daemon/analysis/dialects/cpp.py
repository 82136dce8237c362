"""C and C++. A header is always C++; a prototype is a unit of its own, flagged as a declaration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import tree_sitter

from codegraphd.daemon.analysis.dialects.cpp_conditionals import conditionals_of
from codegraphd.daemon.analysis.dialects.cpp_macros import without_inner_comments, without_macros
from codegraphd.daemon.analysis.flags import ABSTRACT, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import CONTAINERS, Dialect, Draft, Import, node_text

_C_KEYWORDS = names(
    "auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "_Alignas _Alignof _Atomic _Bool _Complex _Generic _Noreturn _Static_assert _Thread_local define include ifdef "
    "ifndef endif elif undef pragma defined true false NULL"
)
_CPP_KEYWORDS = _C_KEYWORDS | names(
    "alignas alignof and bitand bitor bool catch class co_await co_return co_yield compl concept const_cast consteval "
    "constexpr constinit decltype delete dynamic_cast explicit export friend mutable namespace new noexcept not "
    "nullptr operator or private protected public reinterpret_cast requires static_assert static_cast "
    "template this throw try typeid typename using virtual wchar_t xor"
)
_CPP_CONTEXTUAL = names("final override")
BUILTINS = names(
    "size_t ssize_t ptrdiff_t int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intptr_t uintptr_t "
    "off_t time_t FILE va_list va_start va_end va_arg va_copy wchar_t bool char16_t char32_t string vector map set "
    "pair std malloc calloc realloc free memcpy memmove memset memcmp strlen strcmp strncmp strcpy strncpy strcat "
    "strchr strrchr strstr strdup printf fprintf sprintf snprintf vsnprintf fopen fclose fread fwrite fputs fputc "
    "puts putchar exit abort assert sizeof offsetof defined static_assert decltype typeof "
    "static_cast dynamic_cast const_cast reinterpret_cast"
)

_TOP = frozenset(
    {
        "translation_unit", "declaration_list", "field_declaration_list", "linkage_specification", "preproc_if",
        "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef", "template_declaration", "ERROR",
    }
)  # fmt: skip
_NAMED = names(
    "identifier field_identifier type_identifier destructor_name operator_name qualified_identifier operator_cast "
    "template_function"
)
_UNWRAPPED = names("parenthesized_declarator reference_declarator attributed_declarator")
_TEST_MACRO = re.compile(
    r"(?:TYPED_)?TEST(?:_F|_P)?|TEST_CASE(?:_METHOD|_TEMPLATE)?|BOOST_(?:AUTO|FIXTURE)_TEST_CASE|SCENARIO"
)
_SPECIFIERS = names("struct_specifier union_specifier enum_specifier")
_SPECIFIED = {"enum_specifier": "enum", "class_specifier": "class"}
_LAST_SIGNS = re.compile(r"\s*(\W+)\s*$")
_SCOPES = re.compile(r"\s*::\s*")
_STATIC = re.compile(r"(?:inline\s+|extern\s+|constexpr\s+)*static\b")
_PURE = re.compile(r"=\s*0\s*;?\s*$")
_FOR_TOOLS = re.compile(r"//\s*(?:NOLINT|clang-format)|/\*\s*clang-format")
_CHAINED = re.compile(r"\)\s*(?:\.|->)")  # `make_unique<A>()->b()` makes what `b` makes
_OPERATOR_GAP = re.compile(r"operator ([^\w\s]+) ?\(")
_ARGUMENTS = re.compile(r"<[^<>]*>")
_WRAPPED = re.compile(
    r"(?:std\s*::\s*)?(?:unique_ptr|shared_ptr|weak_ptr|optional|reference_wrapper|scoped_refptr)\s*<(.*)>\s*"
)
_TYPED = re.compile(
    r"(?:\b(?:const|static|volatile|mutable|extern|register|inline|constexpr|struct|class|enum|union|typename|"
    r"thread_local)\b\s*)*((?:[A-Za-z_]\w*\s*::\s*)*[A-Za-z_]\w*)\s*(<.*>)?\s*(?:\bconst\b\s*)?[\s*&]+(?:const\b\s*)?"
    r"([A-Za-z_]\w*)\s*(?:[;,=({\[)]|$)(.*)",
    re.DOTALL,
)
_MADE = re.compile(
    r"\s*(?:new\s+)?(?:(?:std\s*::\s*)?make_(?:unique|shared)\s*<\s*([\w:]+)[^>]*>|((?:\w+::)*[A-Z]\w*)\s*(?:<[^<>]*>)?\s*[({])"
)


def _declarator(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """The innermost declarator: what bears the name."""
    found = node.child_by_field_name("declarator")
    for _ in range(50):
        if (
            found is None
            or found.type in _NAMED
            or found.type in {"qualified_identifier", "operator_cast", "template_function"}
        ):
            return found
        inner = found.child_by_field_name("declarator")
        if inner is None and found.type in {
            "parenthesized_declarator",
            "reference_declarator",
            "attributed_declarator",
        }:
            inner = next((child for child in found.named_children if child.type != "attribute_declaration"), None)
        found = inner
    return None


def _path(node: tree_sitter.Node) -> list[str]:
    """["a", "C", "m"] for the text `a::C<T>::m`."""
    if node.type == "operator_cast":
        text = node_text(node)
        of = node.child_by_field_name("type")  # with brackets of its own: `operator Action<R(A)>() const`
        end = text.find("(", 0 if of is None else of.end_byte - node.start_byte)
        return [" ".join(text[:end].split())]
    return list(_split_path(node_text(node)))


@lru_cache(maxsize=16_384)
def _split_path(text: str) -> tuple[str, ...]:
    if text.isascii() and text.isidentifier():
        return (text,)
    if (at := text.find("operator")) >= 0 and not (text[at - 1 : at].isalnum() or text[at - 1 : at] == "_"):
        scope, name = text[:at], _LAST_SIGNS.sub(r"\1", text[at:])
        name = " ".join(name.split())
        if "(" in name[9:] and not name.startswith("operator()"):  # `C::operator bool() const`
            name = name.partition("(")[0].strip()
    else:
        while (shorter := _ARGUMENTS.sub("", text)) != text:
            text = shorter
        scope, _, name = text.rpartition("::")
    while (shorter := _ARGUMENTS.sub("", scope)) != scope:
        scope = shorter
    return (*filter(None, _SCOPES.split(scope.strip())), " ".join(name.split()))


def _lambda(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """The lambda that a declaration gives a name to."""
    declarator = node.child_by_field_name("declarator")
    value = None if declarator is None else declarator.child_by_field_name("value")
    return value if value is not None and value.type == "lambda_expression" else None


def _has_function(node: tree_sitter.Node) -> bool:
    """Whether a declaration's declarator declares a function, and not a pointer to one."""
    found = node.child_by_field_name("declarator")
    for _ in range(50):
        if found is None:
            return False
        if found.type == "function_declarator":
            inner = found.child_by_field_name("declarator")
            return inner is not None and inner.type != "parenthesized_declarator"
        if found.type == "operator_cast":
            return True
        found = found.child_by_field_name("declarator") or (
            found.named_children[-1] if found.type == "reference_declarator" and found.named_children else None
        )
    return False


def _name(node: tree_sitter.Node, kind: str) -> str | None:
    of = node.type
    if of in {"declaration", "field_declaration"}:
        if kind == "constant":
            return _constant_name(node)
        if node.parent is None or node.parent.type not in _TOP or not (_lambda(node) or _has_function(node)):
            return None
    if of in {"function_definition", "declaration", "field_declaration"}:
        declarator = _declarator(node)
        if declarator is None:
            return None
        name = _path(declarator)[-1]
        if of != "function_definition" and name.isupper() and _is_macro_use(node, name):
            return None
        if _TEST_MACRO.fullmatch(name) and (test := _test_path(node)):
            return test[-1]
        return name or None
    if of == "type_definition":
        return _typedef_name(node)
    if of in _SPECIFIERS and (above := node.parent) is not None and above.type == "type_definition":
        return None if _typedef_name(above) else _field_name(node)
    return _field_name(node)


def _is_macro_use(node: tree_sitter.Node, name: str) -> bool:
    """Whether what has a declaration's form is a macro in a line of its own, and no `RE2(int);` in the class RE2."""
    above = None if node.parent is None else node.parent.parent
    of = None if above is None else above.child_by_field_name("name")
    is_member = name.startswith("~") or (of is not None and _path(of)[-1] == name)
    return not is_member and node.child_by_field_name("type") is None


def _field_name(node: tree_sitter.Node) -> str | None:
    found = node.child_by_field_name("name")
    if found is None:
        return None
    if node.type == "namespace_definition":
        return re.sub(r"\s*::\s*(?:inline\s+)?", ".", node_text(found))
    return _path(found)[-1]


def _constant_name(node: tree_sitter.Node) -> str | None:
    if node.parent is None or node.parent.type not in _TOP or node.end_point.row - node.start_point.row < 2:
        return None
    declarator = _declarator(node)
    return None if declarator is None else _path(declarator)[-1]


def _typedef_name(node: tree_sitter.Node) -> str | None:
    found = _declarator(node)
    return node_text(found) if found is not None and found.type in {"type_identifier", "identifier"} else None


def _test_path(node: tree_sitter.Node) -> list[str]:
    declarator = node.child_by_field_name("declarator")
    parameters = None if declarator is None else declarator.child_by_field_name("parameters")
    if parameters is None:
        return []
    names = [part.strip().strip('"') for part in node_text(parameters).strip("()").split(",")]
    return [name for name in names[:2] if name]


def _scope(node: tree_sitter.Node, kind: str) -> str:
    if node.type == "function_definition" or (node.type == "declaration" and kind == "function"):
        declarator = _declarator(node)
        path = [] if declarator is None else _path(declarator)
        if path and _TEST_MACRO.fullmatch(path[-1]):
            path = _test_path(node)
        return ".".join(path[:-1])
    if kind in {"class", "struct"} and (name := node.child_by_field_name("name")) is not None:
        return ".".join(_path(name)[:-1])
    return ""


def _body(node: tree_sitter.Node, kind: str) -> int | None:
    if kind == "constant":
        return node.start_byte
    if kind == "macro":
        value = node.child_by_field_name("value")
        is_short = value is not None and node.type == "preproc_def" and node.end_byte - node.start_byte < 80
        return None if value is None or is_short else value.start_byte
    if node.type == "type_definition":
        of = node.child_by_field_name("type")
        body = None if of is None else of.child_by_field_name("body")
        return None if body is None else body.start_byte
    if node.type == "function_definition":
        for child in node.children:
            if child.type in {"field_initializer_list", "compound_statement", "try_statement"}:
                return child.start_byte
    body = (_lambda(node) or node).child_by_field_name("body")
    return None if body is None else body.start_byte


def _refine(draft: Draft, parent: Draft | None) -> None:
    node = draft.node
    of = node.child_by_field_name("type") if node.type == "type_definition" else None
    if of is not None and of.child_by_field_name("body") is not None:
        draft.kind = _SPECIFIED.get(of.type, "struct")
        draft.is_container = True
    if draft.kind != "function":
        return
    owner = draft.scope.rpartition(".")[2]
    if parent is not None and parent.kind in CONTAINERS - {"namespace"}:
        draft.kind, owner = "method", parent.name
    elif draft.scope and not draft.flags & TEST:
        draft.kind = "method"
    if draft.kind == "method" and draft.name == owner:
        draft.kind = "constructor"


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    header = source.masked[draft.head : min(draft.body, draft.head + 400)]
    flags = 0
    is_static = _STATIC.match(header) is not None
    if not is_static or parent is not None:
        flags |= EXPORTED
    if is_static and parent is not None and parent.kind in CONTAINERS:
        flags |= STATIC
    if draft.node.type in {"declaration", "field_declaration"} and draft.is_bodiless:
        flags |= DECLARATION
        if _PURE.search(source.masked[draft.head : draft.end]):
            flags |= ABSTRACT
    if draft.kind == "function" and draft.name.startswith("test_") and not draft.is_bodiless:
        flags |= TEST
    if draft.node.type == "function_definition" and _TEST_MACRO.match(header.strip()):
        flags |= TEST
        draft.kind = "function"
    return flags


def _imports(text: str) -> Sequence[Import]:
    text = text.strip()
    if match := re.match(r"#\s*(?:include|include_next|import)\s*(?:\"([^\"]*)\"|(<[^>]*>)|(\S+))", text):
        return [Import("*", match[1] or match[2] or match[3], "*", True)]
    text = text.rstrip("; \n")
    if match := re.match(r"namespace\s+(\w+)\s*=\s*(.*)", text, re.DOTALL):
        return [Import(match[1], _dotted(match[2]), "", True)]
    if match := re.match(r"using\s+namespace\s+(.*)", text, re.DOTALL):
        return [Import("*", _dotted(match[1]), "*", True)]
    path = _dotted(re.sub(r"^using\s+(?:typename\s+|enum\s+)?", "", text))
    module, _, member = path.rpartition(".")
    return [Import(member, module, member, True)] if module and member else []


def _dotted(text: str) -> str:
    while (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    return re.sub(r"\s*::\s*", ".", text.strip()).strip(".")


def _typed(text: str) -> Sequence[tuple[str, str]]:
    match = _TYPED.match(text)
    if match is None:
        return []
    of, arguments = match[1], match[2]
    if of == "auto":
        made = None if _CHAINED.search(match[4]) else _MADE.match(match[4])
        of = "" if made is None else made[1] or made[2]
    elif arguments and (wrapped := _WRAPPED.fullmatch(of + arguments)):
        of = wrapped[1].partition(",")[0].strip(" *&")
    of = _dotted(of.removeprefix("const "))
    name = of.rpartition(".")[2]
    if not name.isidentifier() or name in BUILTINS or name in _CPP_KEYWORDS:
        return []
    return [(match[3], of)]


def _is_doc(comment: str) -> bool:
    return not _FOR_TOOLS.match(comment)


def _tidy(signature: str) -> str:
    return _OPERATOR_GAP.sub(r"operator\1(", signature)


def _dialect(grammar: str, queries: tuple[str, ...], keywords: frozenset[str], contextual: frozenset[str]) -> Dialect:
    return Dialect(
        language=grammar,
        grammar=grammar,
        queries=queries,
        keywords=keywords,
        contextual=contextual,
        builtins=BUILTINS,
        selves=frozenset({"this"}),
        wrappers=frozenset({"template_declaration"}),
        name=_name,
        scope=_scope,
        body=_body,
        refine=_refine,
        flags=_flags,
        is_doc=_is_doc,
        imports=_imports,
        typed=_typed,
        prepare=without_macros,
        silence=without_inner_comments,
        repairs=conditionals_of,
        shelves=_TOP,
        tidy=_tidy,
    )


DIALECTS = {
    "c": _dialect("c", ("c_shared", "c"), _C_KEYWORDS, frozenset()),
    "cpp": _dialect("cpp", ("c_shared", "cpp"), _CPP_KEYWORDS, _CPP_CONTEXTUAL),
}
