"""JavaScript and TypeScript, with JSX.

A file's default export is bound under the name "default": `export default f` binds local "default" to member "f" of
the module "" (this file); an anonymous one is a unit with that name. `module.exports = f` is read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import ABSTRACT, ASYNC, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import CALLABLES, CONTAINERS, Dialect, Draft, Import, node_text

KEYWORDS = names(
    "await break case catch class const continue debugger default delete do else enum export extends false finally for "
    "function if import in instanceof let new null return static super switch this throw true try typeof undefined var "
    "void while with yield implements interface private protected public"
)
CONTEXTUAL = names(
    "abstract any as asserts async bigint boolean declare from get infer is keyof namespace never number object "
    "override readonly satisfies set string symbol type unique unknown"
)
BUILTINS = names(
    "Array ArrayBuffer BigInt Boolean DataView Date Error EvalError Float32Array Float64Array Function Infinity "
    "Int16Array Int32Array Int8Array Intl JSON Map Math NaN Number Object Promise Proxy RangeError ReferenceError "
    "Reflect RegExp Set String Symbol SyntaxError TypeError URIError Uint16Array Uint32Array Uint8Array "
    "Uint8ClampedArray WeakMap WeakRef WeakSet arguments console decodeURI decodeURIComponent document encodeURI "
    "encodeURIComponent eval globalThis isFinite isNaN parseFloat parseInt process require setTimeout setInterval "
    "setImmediate clearTimeout clearInterval clearImmediate queueMicrotask structuredClone fetch window self Buffer "
    "undefined import Record Partial Required Readonly Pick Omit Exclude Extract NonNullable ReturnType Parameters "
    "InstanceType ConstructorParameters Awaited ReadonlyArray PromiseLike Iterable Iterator AsyncIterable "
    "AsyncIterator Generator AsyncGenerator IterableIterator ThisType Uppercase Lowercase Capitalize describe it test "
    "expect beforeEach afterEach beforeAll afterAll before after"
)
_NO_TYPES = BUILTINS | KEYWORDS | CONTEXTUAL

_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})
_TEST_CALL = re.compile(r"(describe|it|test|suite|context|specify|bench)\b(?!\s*\()")
_TEST_GROUPS = frozenset({"describe", "suite", "context"})
_LITERAL = r"['\"`]([^'\"`\n]*)['\"`]"
_FROM = re.compile(rf"(import|export)\b(?:\s+type\b(?!\s*(?:,|from\b)))?(.*?)(?:\bfrom\s*)?{_LITERAL}", re.DOTALL)
_REQUIRED = re.compile(
    rf"(?:(?P<local>[\w$]+)|\{{(?P<names>[^}}]*)\}})\s*(?::[^=]+)?=\s*(?:await\s+)?(?:require|import)\s*\(\s*{_LITERAL}\s*\)"
    r"(?:\s*\.\s*(?P<member>[\w$]+))?",
    re.DOTALL,
)
_EFFECT = re.compile(rf"(?:require|import)\s*\(\s*{_LITERAL}\s*\)")
_IMPORT_REQUIRE = re.compile(rf"import\s+(?:type\s+)?([\w$]+)\s*=\s*require\s*\(\s*{_LITERAL}")
_IMPORT_ALIAS = re.compile(r"import\s+([\w$]+)\s*=\s*([\w$.]+)")
_DIRECTIVE = re.compile(r"//\s*(?:eslint|@ts-|prettier|istanbul|<reference|#)|/\*\s*(?:eslint|global)")
_EXPORT = re.compile(r"export\b")
_EXPORT_DEFAULT = re.compile(r"export\s+default\s+([\w$]+)\s*;?\s*$")
_ASSIGNED = re.compile(
    r"((?:module\s*\.\s*)?exports(?:\s*\.\s*([\w$]+))?)\s*=\s*(?:module\.exports\s*=\s*)?(.*)", re.DOTALL
)
_OBJECT_NAMES = re.compile(r"(?:^|,)\s*(?:([\w$]+)\s*:\s*)?([A-Za-z_$][\w$]*)\s*(?=,|$)")
_TYPED = re.compile(
    r"((?:(?:public|private|protected|readonly|static|declare|override|abstract|accessor)\s+)*)"
    r"((?:this\s*\.\s*)?[#\w$]+)\s*[?!]?\s*(?::\s*([^=]+?))?\s*(?:=\s*(?:await\s+)?(new\s+[\w$.]+)?.*)?$",
    re.DOTALL,
)
_WORD = re.compile(r"[\w$#]+")
_ASYNC = re.compile(r"\basync\b")
_CHAINED = re.compile(r"\)\s*[?!]?\.")  # `new Foo(1).load()` makes what `load` makes
_SAME = re.compile(r"(this\.[#\w$]+)\s*=\s*([A-Za-z_$][\w$]*)$")
_TYPE_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*")


def _value(node: tree_sitter.Node) -> tree_sitter.Node | None:
    """The function or class that a definition gives a name to."""
    if node.type == "call_expression":
        arguments = node.child_by_field_name("arguments")
        for argument in arguments.named_children if arguments is not None else ():
            if argument.type in _FUNCTIONS:
                return argument
        return None
    return node.child_by_field_name("value") or node.child_by_field_name("right") or node


def _name(node: tree_sitter.Node, kind: str) -> str | None:
    match node.type:
        case "variable_declarator":
            name = node.child_by_field_name("name")
            if name is None or name.type != "identifier":
                return None
            text = node_text(name)
            return None if kind == "constant" and not _is_worth(node, text) else text
        case "assignment_expression":
            return _assigned_name(node)
        case "pair":
            key = node.child_by_field_name("key")
            return None if key is None or key.type == "computed_property_name" else node_text(key).strip("'\"")
        case "call_expression":
            return _test_name(node)
        case "construct_signature":
            return "new"
        case "field_definition":
            name = node.child_by_field_name("property")
        case _:
            name = node.child_by_field_name("name")
    if name is None:
        return None if node.type == "method_definition" else "default"
    return node_text(name).strip("'\"").replace(" ", "")


def _is_worth(node: tree_sitter.Node, name: str) -> bool:
    value = node.child_by_field_name("value")
    if value is None or value.type in _FUNCTIONS or value.type == "class":
        return False
    if name.isupper() and len(name) > 1:
        return True
    n_lines = value.end_point.row - value.start_point.row + 1
    if value.type in {"object", "array", "as_expression", "satisfies_expression"}:
        return n_lines >= 3
    above = node.parent.parent if node.parent is not None else None
    is_exported = above is not None and above.type == "export_statement"
    return is_exported and (n_lines >= 2 or value.type in {"call_expression", "new_expression"})


def _assigned_name(node: tree_sitter.Node) -> str | None:
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is None or right is None:
        return None
    text = re.sub(r"\s", "", node_text(left)[-200:])
    if text in {"module.exports", "exports"}:
        name = right.child_by_field_name("name")
        return "default" if name is None else node_text(name)
    return text.rpartition(".")[2] if _TYPE_NAME.fullmatch(text) else None


def _scope(node: tree_sitter.Node, kind: str) -> str:  # noqa: ARG001
    if node.type != "assignment_expression":
        return ""
    left = node.child_by_field_name("left")
    text = "" if left is None else re.sub(r"\s", "", node_text(left)[-200:]).rpartition(".")[0]
    text = text.removesuffix(".prototype").removeprefix("module.").removeprefix("exports").strip(".")
    return "" if text in {"this", "module", "window", "self", "globalThis", "prototype"} else text.removeprefix("this.")


def _test_name(node: tree_sitter.Node) -> str | None:
    function, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
    if function is None or arguments is None:
        return None
    if not _TEST_CALL.match(function.text[:20].decode("latin-1") if function.text else ""):
        return None
    return " ".join(node_text(arguments.named_children[0])[1:-1].split())[:120] or None


def _body(node: tree_sitter.Node, kind: str) -> int | None:
    if kind == "type":
        value = node.child_by_field_name("value")
    elif kind == "constant":
        return node.start_byte
    else:
        value = _value(node)
        value = value.child_by_field_name("body") if value is not None else None
    return None if value is None else value.start_byte


def _refine(draft: Draft, parent: Draft | None) -> None:
    node = draft.node
    if draft.kind == "constant":
        draft.is_container = bool(draft.children) or node.type == "object"
    elif node.type == "call_expression":
        draft.flags |= TEST
        function = node.child_by_field_name("function")
        match = _TEST_CALL.match(node_text(function)[:20]) if function is not None else None
        draft.is_container = match is not None and match[1] in _TEST_GROUPS
    elif draft.kind == "function" and (
        draft.scope[:1].isupper() or (parent is not None and parent.kind in CONTAINERS - {"namespace"})
    ):
        draft.kind = "method"
    if draft.kind == "method" and node.type == "method_definition":
        if draft.name == "constructor":
            draft.kind = "constructor"
        elif any(child.type in {"get", "set"} for child in node.children[:4]):
            draft.kind = "property"


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    header = source.masked[draft.head : min(draft.body, draft.head + 300)]
    words = set(_WORD.findall(header.partition("(")[0]))
    flags = 0
    if draft.kind in CALLABLES:
        flags |= ASYNC if _ASYNC.search(header, 0, max(60, len(header) // 2)) else 0
        flags |= STATIC if "static" in words else 0
        flags |= DECLARATION if draft.is_bodiless else 0
    flags |= ABSTRACT if "abstract" in words else 0
    if draft.node.type == "call_expression":
        return flags | (parent.flags & TEST if parent is not None else 0)
    if parent is None:
        is_exported = source.masked.startswith("export", draft.head) or draft.name == "default" or _is_commonjs(draft)
    else:
        is_private = draft.name.startswith("#") or bool(words & {"private", "protected"})
        owns = parent.kind in CONTAINERS or parent.is_container
        is_exported = bool(parent.flags & EXPORTED) and owns and not is_private
        if parent.kind == "namespace":
            is_exported = source.masked.startswith("export", draft.head)
    return flags | (EXPORTED if is_exported else 0)


def _is_commonjs(draft: Draft) -> bool:
    if draft.node.type not in {"assignment_expression", "pair", "method_definition"}:
        return False
    node: tree_sitter.Node | None = draft.node
    if node is not None and node.type != "assignment_expression":
        node = node.parent.parent if node.parent is not None else None
    left = node.child_by_field_name("left") if node is not None else None
    return left is not None and node_text(left).startswith(("module.exports", "exports"))


def _imports(text: str) -> Sequence[Import]:
    text = text.strip()
    if _EXPORT.match(text):
        return _exports_as_imports(text)
    if match := _ASSIGNED.match(text):
        return _assigned(match)
    if not text.startswith("import") or text.startswith("import("):
        if match := _REQUIRED.match(text):
            member = match["member"] or ""
            if match["local"]:
                return [Import(match["local"], match[3], member, False)]
            module = match[3]
            return [Import(local, module, name, False) for name, local in _specifiers(match["names"], ":")]
        effect = _EFFECT.search(text)
        return [Import("", effect[1], "", False)] if effect is not None else []
    if match := _IMPORT_REQUIRE.match(text):
        return [Import(match[1], match[2], "", False)]
    if (match := _FROM.match(text)) is None:
        alias = _IMPORT_ALIAS.match(text)
        return [Import(alias[1], "", alias[2], False)] if alias is not None else []
    clause, module = match[2].strip(), match[3]
    if not clause:
        return [Import("", module, "", False)]
    found: list[Import] = []
    head, brace, rest = clause.partition("{")
    for part in head.split(","):
        name = part.strip()
        if name.startswith("*"):
            found.append(Import(name.rpartition(" ")[2], module, "", False))
        elif name:
            found.append(Import(name, module, "default", False))
    if brace:
        found += [Import(local, module, name, False) for name, local in _specifiers(rest.partition("}")[0])]
    return found


def _specifiers(text: str, separator: str = " as ") -> list[tuple[str, str]]:
    """(name in the module, local name) of `a, b as c, type d`."""
    pairs: list[tuple[str, str]] = []
    for part in re.sub(r"\s+", " ", text).split(","):
        name, _, local = part.strip().removeprefix("type ").partition(separator)
        name, local = name.strip().strip("'\""), local.partition("=")[0].strip().strip("'\"")
        name = name.partition("=")[0].strip()
        if name and not name.startswith("..."):
            pairs.append((name, local or name))
    return pairs


def _exports_as_imports(text: str) -> list[Import]:
    if match := _EXPORT_DEFAULT.match(text):
        return [Import("default", "", match[1], True)]
    match = _FROM.match(text)
    module = match[3] if match is not None else ""
    if "{" in text:
        names = _specifiers(text.partition("{")[2].partition("}")[0])
        return [Import(local, module, name, True) for name, local in names if module or name != local]
    if match is None or "*" not in match[2]:
        return []
    _, _, local = match[2].partition(" as ")
    return [Import(local.strip(), module, "", True) if local.strip() else Import("*", module, "*", True)]


def _assigned(match: re.Match[str]) -> list[Import]:
    """`exports.x = …` and `module.exports = …`, with what is required or named on the right."""
    local, right = match[2] or "default", match[3].strip()
    if effect := _EFFECT.match(right):
        member = right[effect.end() :].strip().strip(".;")
        return [Import("*" if local == "default" else local, effect[1], "*" if local == "default" else member, True)]
    if right.startswith("{"):
        if local != "default":
            return []
        pairs = _OBJECT_NAMES.findall(right.strip().strip(";").strip("{} \t\r\n"))
        return [Import(key, "", name, True) for key, name in pairs if key and key != name]
    name = right.rstrip("; \n\r\t")
    return [Import(local, "", name, True)] if _TYPE_NAME.fullmatch(name) and name != local else []


def _exports(text: str) -> list[str]:
    """Names of this file that an export statement makes visible."""
    if match := _EXPORT_DEFAULT.match(text):
        return [match[1]]
    if _EXPORT.match(text):
        if re.search(r"\bfrom\b", text):
            return []
        return [name for name, _ in _specifiers(text.partition("{")[2].partition("}")[0])]
    match = _ASSIGNED.match(text)
    if match is None:
        return []
    right = match[3].strip().strip(";").strip()
    if right.startswith("{"):
        return [name for _, name in _OBJECT_NAMES.findall(right.strip("{} \t\r\n"))]
    return [right]


def type_name(text: str) -> str:
    """The class or interface that an annotation means; "" for arrays, unions of several and the like."""
    parts = [part.strip() for part in text.strip().removeprefix("readonly ").split("|")]
    parts = [part for part in parts if part not in {"null", "undefined", ""}]
    if len(parts) != 1 or parts[0].endswith("]"):
        return ""
    base = parts[0].partition("<")[0].strip()
    return base if _TYPE_NAME.fullmatch(base) and base not in _NO_TYPES else ""


def _typed(text: str) -> Sequence[tuple[str, str]]:
    if match := _SAME.match(text):
        return [(match[1], f"={match[2]}")]
    match = _TYPED.match(text)
    if match is None:
        return []
    name = re.sub(r"\s", "", match[2])
    of = type_name(match[3]) if match[3] else ""
    if not of and match[4] and not _CHAINED.search(text):
        of = type_name(match[4].removeprefix("new").strip())
    if not of:
        return []
    is_field = bool(re.search(r"public|private|protected|readonly", match[1]))
    return [(name, of), (f"this.{name}", of)] if is_field and not name.startswith("this.") else [(name, of)]


_WRAPPERS = frozenset({"export_statement", "ambient_declaration", "expression_statement"})


def _dialect(language: str, grammar: str, queries: tuple[str, ...]) -> Dialect:
    return Dialect(
        language=language,
        grammar=grammar,
        queries=queries,
        keywords=KEYWORDS,
        contextual=CONTEXTUAL,
        builtins=BUILTINS,
        selves=frozenset({"this"}),
        wrappers=_WRAPPERS,
        groups=frozenset({"lexical_declaration", "variable_declaration"}),
        name=_name,
        scope=_scope,
        body=_body,
        refine=_refine,
        flags=_flags,
        is_doc=lambda comment: (
            not re.match(r"//\s*(?:eslint|@ts-|prettier|istanbul|<reference|#)|/\*\s*(?:eslint|global)", comment)
        ),
        imports=_imports,
        typed=_typed,
        exports=_exports,
    )


DIALECTS = {
    "javascript": _dialect("javascript", "javascript", ("ecma", "javascript", "jsx")),
    "typescript": _dialect("typescript", "typescript", ("ecma", "typescript")),
    "tsx": _dialect("typescript", "tsx", ("ecma", "typescript", "jsx")),
}
