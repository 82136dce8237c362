"""C#. One namespace around all of a file is its package, not a unit; several are units."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import ABSTRACT, ASYNC, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.repair import Reading
from codegraphd.daemon.analysis.syntax import CALLABLES, Dialect, Draft, Import, node_text
from codegraphd.daemon.analysis.written_types import arguments, count_arguments

KEYWORDS = names(
    "abstract and as await base bool break byte case catch char checked class const continue decimal default delegate "
    "do double else enum event explicit extern false finally fixed float for foreach goto if implicit in int interface "
    "internal is lock long namespace new not null object operator or out override params private protected public "
    "readonly ref return sbyte sealed short sizeof stackalloc static string struct switch this throw true try typeof "
    "uint ulong unchecked unsafe ushort using var virtual void volatile while yield"
)
CONTEXTUAL = names(
    "add alias async by dynamic equals file from get global group init into join let nameof nint nuint on orderby "
    "partial record remove required scoped select set unmanaged value when where with"
)
BUILTINS = names(
    "Action Func Predicate Boolean Byte Char Console Convert DateTime TimeSpan Decimal Double Enum Environment "
    "Exception ArgumentException ArgumentNullException ArgumentOutOfRangeException InvalidOperationException "
    "NotImplementedException NotSupportedException NullReferenceException FormatException EventArgs EventHandler Guid "
    "Int16 Int32 Int64 Math Object Single String StringBuilder Task ValueTask Tuple Type UInt16 UInt32 UInt64 Uri "
    "IDisposable IEnumerable IEnumerator ICollection IList IDictionary IReadOnlyList IReadOnlyCollection "
    "IReadOnlyDictionary IComparable IEquatable List Dictionary HashSet Queue Stack Array GC Attribute Nullable Span "
    "ReadOnlySpan Memory ReadOnlyMemory CancellationToken Obsolete Serializable nameof var dynamic"
)
_NO_TYPES = BUILTINS | KEYWORDS | CONTEXTUAL

_NAMESPACE = re.compile(r"^[ \t]*namespace\s+([\w.\x80-\xff]+)", re.MULTILINE | re.ASCII)
_USING = re.compile(r"(global\s+)?using\s+(static\s+)?(?:unsafe\s+)?(?:([\w@]+)\s*=\s*)?(.+?)\s*;?\s*$", re.DOTALL)
_ARGUMENTS = re.compile(r"<[^<>]*>")
_TYPED = re.compile(
    r"(?:foreach\s*\(\s*|catch\s*\(\s*|\(\s*)?(?:\[[^\]]*\]\s*)*(?:(?:public|private|protected|internal|static|readonly|"
    r"virtual|override|abstract|sealed|new|required|const|volatile|ref|out|in|params|this|scoped|await)\s+)*"
    r"([A-Za-z_@][\w.]*)\s*(\?)?\s*(\[[,\s]*\])?\s+([A-Za-z_@]\w*)\s*(?:=\s*(?:new\s+([\w.]+))?|[;,){]|in\b|$)",
    re.DOTALL,
)
_WORD = re.compile(r"\w+")
_TEST = re.compile(
    r"\[\s*(?:\w+\s*:\s*)?(?:[\w.]+\.)?(?:Test|TestMethod|Fact|Theory|TestCase|DataTestMethod|Benchmark)\b"
)
_TARGET = re.compile(r"\[(\w+): ")  # of an attribute
_OPERATOR = re.compile(r"\boperator (\S+) \(")
_DIRECTIVE = re.compile(
    rb"^[ \t]*#[ \t]*(if|elif|else|endif|region|endregion|nullable|pragma|define|undef|warning|error|line)\b[^\r\n]*",
    re.MULTILINE,
)
_SILENT = re.compile(rb"^[ \t]*#[ \t]*(?:region|endregion|nullable|pragma|warning|error|line)\b[^\r\n]*", re.MULTILINE)
_INTERFACE = re.compile(r"I[A-Z]")


def _silenced(raw: bytes) -> bytes:
    """Directives that decide nothing about the code (they are for editors and for the compiler's warnings) made
    comments: the grammar takes them as parts of what they stand in, a class's header among them. One between a doc
    comment and its unit goes on with the doc."""

    def comment(match: re.Match[bytes]) -> bytes:
        before = raw[raw.rfind(b"\n", 0, max(0, match.start() - 1)) + 1 : match.start()]
        return (b"///" if before.lstrip().startswith(b"///") else b"//").ljust(len(match[0]))

    return _SILENT.sub(comment, raw) if b"#" in raw else raw


def _repairs(raw: bytes) -> Iterator[Reading]:
    """The lines of `#if` and its like; then all branches but the first ones too.

    The grammar takes a conditional only where a whole member or statement could stand. People put it anywhere: around
    a base class, an `else if`, half of an expression.
    """
    directives = list(_DIRECTIVE.finditer(raw))
    if not directives:
        return
    spans = [match.span() for match in directives]
    yield Reading(list(spans), spans)
    position = 0
    passing: list[bool] = []  # for each `#if` around: in a branch that is not the first
    for match in directives:
        if any(passing):
            spans.append((position, match.start()))
        position = match.end()
        word = match[1]
        if word == b"if":
            passing.append(False)
        elif passing and word in {b"elif", b"else"}:
            passing[-1] = True
        elif passing and word == b"endif":
            passing.pop()
    yield Reading(spans, spans)


def base_kind(name: str) -> str:
    """By the convention that every C# library keeps: `IName` is an interface."""
    return "implement" if _INTERFACE.match(name) else "inherit"


def _name(node: tree_sitter.Node, kind: str) -> str | None:  # noqa: ARG001
    match node.type:
        case "namespace_declaration" if _is_only_namespace(node):
            return None
        case "destructor_declaration":
            name = node.child_by_field_name("name")
            return None if name is None else f"~{node_text(name)}"
        case "operator_declaration":
            operator = node.child_by_field_name("operator")
            return None if operator is None else f"operator{node_text(operator)}"
        case "conversion_operator_declaration":
            of = node.child_by_field_name("type")
            return None if of is None else f"operator {node_text(of)}"
        case "indexer_declaration":
            return "this[]"
        case "property_declaration" if not _has_body(node):
            return None
    found = node.child_by_field_name("name")
    return None if found is None else node_text(found).replace(" ", "")


def _is_only_namespace(node: tree_sitter.Node) -> bool:
    """Whether the file has no namespace block but this one."""
    root = node.parent
    for _ in range(20):
        if root is None or not root.type.startswith("preproc_"):
            break
        root = root.parent
    if root is None or root.type != "compilation_unit":
        return False
    count = 0
    stack = [root]
    while stack and count < 2:
        for child in stack.pop().named_children:
            if child.type == "namespace_declaration":
                count += 1
                stack.append(child)
            elif child.type in {"declaration_list", "ERROR"} or child.type.startswith("preproc_"):
                stack.append(child)
    return count == 1


def _has_body(node: tree_sitter.Node) -> bool:
    if node.child_by_field_name("value") is not None:
        text = node_text(node)
        return "=>" in text
    accessors = node.child_by_field_name("accessors")
    return accessors is not None and any(
        accessor.child_by_field_name("body") is not None for accessor in accessors.named_children
    )


def _body(node: tree_sitter.Node, kind: str) -> int | None:  # noqa: ARG001
    if node.type == "constructor_declaration":
        for child in node.named_children:
            if child.type == "constructor_initializer":
                return child.start_byte
    for name in ("body", "accessors", "value"):
        if (body := node.child_by_field_name(name)) is not None:
            return body.start_byte
    return None


def _refine(draft: Draft, parent: Draft | None) -> None:
    pass


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    header = source.masked[draft.head : min(draft.body, draft.head + 400)]
    words = set(_WORD.findall(header.partition("(")[0].partition("{")[0]))
    in_interface = parent is not None and parent.kind == "interface"
    flags = 0
    if (
        words & {"public", "protected", "internal"}
        or (in_interface and "private" not in words)
        or draft.kind == "namespace"
        or (parent is None and draft.kind not in CALLABLES and "private" not in words)
    ):
        flags |= EXPORTED
    if draft.kind in CALLABLES:
        flags |= STATIC if "static" in words else 0
        flags |= ASYNC if "async" in words else 0
        flags |= DECLARATION if draft.is_bodiless else 0
    if "abstract" in words or (in_interface and draft.is_bodiless):
        flags |= ABSTRACT
    if any(_TEST.match(source.text, start, end) for start, end in draft.decorators):
        flags |= TEST
    return flags


def _imports(text: str) -> Sequence[Import]:
    match = _USING.match(text.strip())
    if match is None:
        return []
    is_exported = match[1] is not None
    target = match[4]
    while (shorter := _ARGUMENTS.sub("", target)) != target:
        target = shorter
    module = re.sub(r"\s", "", target).replace("::", ".").removeprefix("global.")
    if match[3]:
        above, _, member = module.rpartition(".")
        return [Import(match[3], above or module, member if above else "", is_exported)]
    return [Import("*", module, "*", is_exported)]


def _typed(text: str) -> Sequence[tuple[str, str]]:
    written = text
    while "<" in text and (shorter := _ARGUMENTS.sub("", text)) != text:
        text = shorter
    match = _TYPED.match(text)
    if match is None or match[3]:
        return []
    of = match[1]
    if of == "var":
        of = match[5] or ""
    if not of or of in _NO_TYPES:
        return []
    bracket = re.search(rf"(?<![\w.]){re.escape(of)}\s*<", written) if "<" in written else None
    return [(match[4], of + arguments(count_arguments(written, bracket.end() - 1)) if bracket else of)]


def _tidy(signature: str) -> str:
    signature = _TARGET.sub(r"[\1\0", signature).replace(": ", " : ").replace("\0", ": ")
    return _OPERATOR.sub(r"operator \1(", signature).replace(" *", "* ").replace("*  ", "* ")


def _package(masked: str) -> str:
    names: list[str] = _NAMESPACE.findall(masked)
    return names[0] if len(names) == 1 else ""


DIALECTS = {
    "csharp": Dialect(
        language="csharp",
        grammar="csharp",
        queries=("csharp",),
        keywords=KEYWORDS,
        contextual=CONTEXTUAL,
        builtins=BUILTINS,
        selves=frozenset({"this"}),
        counts_arguments=True,
        name=_name,
        body=_body,
        refine=_refine,
        flags=_flags,
        is_doc=lambda comment: comment.startswith(("///", "/**")),
        imports=_imports,
        typed=_typed,
        tidy=_tidy,
        package=_package,
        base_kind=base_kind,
        silence=_silenced,
        repairs=_repairs,
    )
}
