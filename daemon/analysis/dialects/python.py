"""Python."""

from __future__ import annotations

import re
from collections.abc import Sequence

import tree_sitter

from codegraphd.daemon.analysis.flags import ABSTRACT, ASYNC, DECLARATION, EXPORTED, STATIC, TEST
from codegraphd.daemon.analysis.languages import names
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.syntax import Dialect, Draft, Import, node_text

KEYWORDS = names(
    "False None True and as assert async await break class continue def del elif else except finally for from global "
    "if import in is lambda nonlocal not or pass raise return try while with yield"
)
CONTEXTUAL = names("case match type")
BUILTINS = names(
    "abs aiter all anext any ascii bin bool breakpoint bytearray bytes callable chr classmethod compile complex "
    "delattr dict dir divmod enumerate eval exec filter float format frozenset getattr globals hasattr hash help hex "
    "id input int isinstance issubclass iter len list locals map max memoryview min next object oct open ord pow "
    "print property range repr reversed round set setattr slice sorted staticmethod str sum super tuple type vars zip "
    "None True False Any Optional Union List Dict Set Tuple FrozenSet Type Callable Iterable Iterator Sequence "
    "Mapping Literal ClassVar Final Self TypeVar Generic Protocol Generator Awaitable Coroutine AsyncIterator "
    "AsyncIterable NoReturn Never namedtuple NewType NamedTuple TypedDict TypeAlias Annotated Hashable Collection "
    "MutableMapping MutableSequence overload BaseException "
    "Exception ArithmeticError AssertionError AttributeError EOFError FileExistsError FileNotFoundError ImportError "
    "IndexError InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError "
    "ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError IOError OverflowError "
    "PermissionError ProcessLookupError RecursionError RuntimeError StopIteration StopAsyncIteration SyntaxError "
    "SystemExit TimeoutError TypeError UnicodeDecodeError UnicodeEncodeError UnicodeError ValueError Warning "
    "DeprecationWarning UserWarning RuntimeWarning ZeroDivisionError ConnectionError BrokenPipeError"
)

_TABLES = frozenset({"dictionary", "list", "set", "tuple"})
_TYPE_MAKERS = re.compile(
    r"(?:typing\.|t\.|collections\.)?(?:NewType|namedtuple|NamedTuple|TypedDict|Enum|make_dataclass)\b"
)
_PROPERTY = re.compile(r"@\s*(?:[\w.]+\.)?(?:(?:cached_|lazy_?|abstract)?property|setter|getter|deleter)\b")
_FROM = re.compile(r"from\s*(\.[\s.]*)?([\w.\x80-\xff]*)\s*import\s*(.*)", re.DOTALL | re.ASCII)
_TYPED = re.compile(
    r"\**\s*((?:self\.|cls\.)?[^\W\d]\w*)\s*(?::(?!=)\s*([^=]+?)\s*)?(?::?=\s*(?:await\s+)?([\w.]+)\s*\(.*)?(?:=.*)?$",
    re.DOTALL,
)
_CHAINED = re.compile(r"\)\s*\.")  # `Foo(1).load()` makes what `load` makes
_SAME = re.compile(r"((?:self|cls)\.\w+)\s*=\s*([^\W\d]\w*)(?:\s+or\s.*)?$", re.DOTALL)
_WITH = re.compile(r"(?:await\s+)?([\w.]+)\s*\(.*\)\s+as\s+(\w+)$", re.DOTALL)
_OPTIONAL = re.compile(r"(?:typing\.|t\.)?(?:Optional|Final|ClassVar|Annotated|Type|type)\[\s*(.*)\]", re.DOTALL)
_DOTTED = re.compile(r"[A-Za-z_\x80-\xff][\w\x80-\xff]*(?:\s*\.\s*[A-Za-z_\x80-\xff][\w\x80-\xff]*)*", re.ASCII)
_STRINGS_IN_LITERAL = re.compile(r"Literal\s*\[[^\]]*\]")


def _name(node: tree_sitter.Node, kind: str) -> str | None:
    if kind == "type":
        left = node.child_by_field_name("left")
        return None if left is None else node_text(left).partition("[")[0]
    if kind == "constant":
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if left is None or right is None:
            return None
        name = node_text(left)
        if name.startswith("__"):
            return None
        is_table = right.type in _TABLES and right.end_point.row - right.start_point.row >= 2
        is_type = right.type == "call" and _TYPE_MAKERS.match(node_text(right)[:60])
        return name if name.isupper() or is_table or is_type or _is_alias(node) else None
    found = node.child_by_field_name("name")
    return None if found is None else node_text(found)


def _is_alias(node: tree_sitter.Node) -> bool:
    annotation = node.child_by_field_name("type")
    return annotation is not None and node_text(annotation).endswith("TypeAlias")


def _refine(draft: Draft, parent: Draft | None) -> None:
    if draft.kind == "constant":
        right = draft.node.child_by_field_name("right")
        is_made = right is not None and right.type == "call" and _TYPE_MAKERS.match(node_text(right)[:60])
        if is_made or _is_alias(draft.node):
            draft.kind = "type"
    if draft.kind == "function" and parent is not None and parent.kind == "class":
        draft.kind = "constructor" if draft.name == "__init__" else "method"


def _flags(draft: Draft, source: Source, parent: Draft | None) -> int:
    flags = 0
    text = source.masked
    decorators = [text[start:end] for start, end in draft.decorators]
    if draft.kind in {"method", "function"}:
        if draft.kind == "method" and any(_PROPERTY.match(decorator) for decorator in decorators):
            draft.kind = "property"
        if text.startswith("async", draft.head):
            flags |= ASYNC
    for decorator in decorators:
        word = decorator.strip("@ \t").partition("(")[0].rpartition(".")[2]
        if word in {"staticmethod", "classmethod"}:
            flags |= STATIC
        elif word.startswith("abstract"):
            flags |= ABSTRACT
        elif word == "overload":
            flags |= DECLARATION
    is_test = draft.name.startswith("test_") if draft.kind in {"function", "method"} else False
    is_test_class = draft.kind == "class" and (draft.name.startswith("Test") or draft.name.endswith("TestCase"))
    if is_test or is_test_class:
        flags |= TEST
    is_private = draft.name.startswith("_") and not draft.name.endswith("__")
    is_visible = parent is None or bool(parent.flags & EXPORTED and parent.kind == "class")
    return flags | (EXPORTED if is_visible and not is_private else 0)


def _imports(text: str) -> Sequence[Import]:
    text = text.replace("\\\r\n", " ").replace("\\\n", " ")
    found: list[Import] = []
    if match := _FROM.match(text):
        module = (match[1] or "").replace(" ", "") + match[2]
        names = match[3].strip("() \t\r\n")
        if names == "*":
            return [Import("*", module, "*", True)]
        for part in names.split(","):
            member, _, local = part.partition(" as ")
            member, local = member.strip(), local.strip()
            if member:
                local = local or member
                found.append(Import(local, module, member, not local.startswith("_")))
        return found
    for part in text.strip().removeprefix("import").split(","):
        module, _, local = part.partition(" as ")
        module = module.replace(" ", "").strip()
        local = local.strip() or module
        if module:
            found.append(Import(local, module, "", not local.startswith("_")))
    return found


def type_name(text: str) -> str:
    """The class that an annotation means; "" for containers, unions of several and what is no plain name."""
    text = text.strip().strip("'\"").strip()
    if match := _OPTIONAL.fullmatch(text):
        return type_name(match[1].partition(",")[0])
    if "|" in text:
        parts = [part.strip() for part in text.split("|")]
        parts = [part for part in parts if part != "None"]
        return type_name(parts[0]) if len(parts) == 1 else ""
    base = text.partition("[")[0].strip()
    return base if _DOTTED.fullmatch(base) and base not in BUILTINS else ""


def _made(callee: str) -> str:
    """The class that a call makes an instance of: `Foo()`, `pkg.Foo()`, `Foo.create()`; "": it does not show one."""
    parts = callee.split(".")
    if parts[-1][:1].isupper():
        return callee
    if len(parts) > 1 and parts[-2][:1].isupper():
        return ".".join(parts[:-1])
    return ""


def _typed(text: str) -> Sequence[tuple[str, str]]:
    if match := _WITH.match(text):
        of = _made(match[1])
        return [(match[2], of)] if of and not _CHAINED.search(text) else []
    if match := _SAME.match(text):
        return [(match[1], f"={match[2]}")]
    match = _TYPED.match(text)
    if match is None:
        return []
    of = type_name(match[2]) if match[2] else _made(match[3]) if match[3] and not _CHAINED.search(text) else ""
    return [(match[1], of)] if of else []


def _types(text: str) -> list[str]:
    return [re.sub(r"\s", "", found) for found in _DOTTED.findall(_STRINGS_IN_LITERAL.sub("", text))]


DIALECTS = {
    "python": Dialect(
        language="python",
        grammar="python",
        queries=("python",),
        keywords=KEYWORDS,
        contextual=CONTEXTUAL,
        builtins=BUILTINS,
        selves=frozenset({"self", "cls"}),
        wrappers=frozenset({"decorated_definition"}),
        is_layout=True,
        calls_make=True,
        name=_name,
        refine=_refine,
        flags=_flags,
        is_doc=lambda _comment: False,
        imports=_imports,
        typed=_typed,
        types=_types,
    )
}
