"""From a syntax tree to draft units: what there is, where it begins and ends, and what stands in what.

One query per language captures single nodes; what belongs together is found by position, and what a node says is read
from its text. (py-tree-sitter pays about a quarter of a microsecond for each node that Python touches; walking all
nodes would cost ten times the parse.) The vocabulary of captures, the same for all languages:

    unit.KIND      a definition; KIND is one of records.KINDS and may be refined by the dialect
    doc            a string that documents the unit it stands in (Python)
    comment, string, decorator
    import         a statement that brings names in
    ref.KIND       a name that refers to something: call, inherit, implement, type, decorate, instantiate; also
                   inner (a name in the arguments of a macro), element (JSX), base (the dialect tells whether it is
                   inherited or implemented)
    end            where the other capture of its pattern shall end
    typed          a place that shows the type of a variable or field
    export         a statement that makes names visible which are defined elsewhere in the file (JavaScript)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import tree_sitter

from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.repair import Reading, Span, repaired

MAX_UNITS = 10_000  # of one file; what has more was not written by hand

CONTAINERS = frozenset({"class", "struct", "enum", "interface", "trait", "impl", "module", "namespace"})
CALLABLES = frozenset({"function", "method", "constructor", "property"})


class Import(NamedTuple):
    """One name that an import statement brings in; see records.Binding."""

    local: str
    module: str
    member: str
    exported: bool


@dataclass(slots=True, eq=False)
class Draft:
    """A unit in the making. Spans are byte offsets into the source without a byte order mark."""

    kind: str
    name: str  # in Latin-1 form, as all text until the end
    node: tree_sitter.Node
    start: int  # of the node and what wraps it; decorators and doc are added by `attach`
    end: int
    head: int = 0  # where the signature begins
    body: int = 0  # where it ends and the body begins; equals `end` where there is no body
    scope: str = ""  # what the qualified name begins with beside the parents' names: a receiver type, `A.B`
    parent: int = -1
    children: list[int] = field(default_factory=list)
    decorators: list[Span] = field(default_factory=list)
    docs: list[Span] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    flags: int = 0
    qualname: str = ""
    signature: str = ""
    is_container: bool = False
    is_bodiless: bool = False
    is_assigned: bool = False  # "=" or "=>" stands between signature and body


def _field_name(node: tree_sitter.Node, kind: str) -> str | None:  # noqa: ARG001
    name = node.child_by_field_name("name")
    return None if name is None else node_text(name)


def _field_body(node: tree_sitter.Node, kind: str) -> int | None:  # noqa: ARG001
    body = node.child_by_field_name("body")
    return None if body is None else body.start_byte


def _refine(draft: Draft, parent: Draft | None) -> None:
    if draft.kind == "function" and parent is not None and parent.kind in CONTAINERS - {"module", "namespace"}:
        draft.kind = "method"


def _is_doc(comment: str) -> bool:  # noqa: ARG001
    return True


def _nothing(text: str) -> list[Import]:  # noqa: ARG001
    return []


def _no_types(text: str) -> list[tuple[str, str]]:  # noqa: ARG001
    return []


def _no_flags(draft: Draft, source: Source, parent: Draft | None) -> int:  # noqa: ARG001
    return 0


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """What is particular to one grammar. The functions see Latin-1 text (`normal`), comments in it blanked."""

    language: str  # of records.LANGUAGES
    grammar: str
    queries: tuple[str, ...]  # files in queries/, concatenated
    keywords: frozenset[str]  # what a name cannot be; the words of types among them
    builtins: frozenset[str]  # names that refer to nothing in a project, unless the file defines them
    selves: frozenset[str]  # "self", "this": their type is the enclosing class
    contextual: frozenset[str] = frozenset()  # keywords in some places, names in others: `get`, `record`, `match`
    wrappers: frozenset[str] = frozenset()  # node types that belong to the definition in them
    groups: frozenset[str] = frozenset()  # the same, where they hold one definition only
    is_layout: bool = False  # line ends and indentation are tokens
    calls_make: bool = False  # a call of a name that looks like a class is an instantiation
    counts_arguments: bool = False  # `Box` and `Box<T>` are two types
    name: Callable[[tree_sitter.Node, str], str | None] = _field_name  # None: not a unit after all
    scope: Callable[[tree_sitter.Node, str], str] = lambda _node, _kind: ""
    body: Callable[[tree_sitter.Node, str], int | None] = _field_body  # where the body begins; None: no body
    refine: Callable[[Draft, Draft | None], None] = _refine  # kind, container or not; parents are refined before
    flags: Callable[[Draft, Source, Draft | None], int] = _no_flags  # after doc and decorators are known
    is_doc: Callable[[str], bool] = _is_doc  # whether a comment directly before a unit is its doc
    imports: Callable[[str], Sequence[Import]] = _nothing  # text of an import -> what it binds
    typed: Callable[[str], Sequence[tuple[str, str]]] = _no_types  # text -> (variable or self.field, dotted type name)
    types: Callable[[str], Sequence[str]] | None = None  # text of a ref.type -> dotted names in it; None: it is one
    exports: Callable[[str], Sequence[str]] = lambda _text: ()  # names that an `export` capture makes visible
    base_kind: Callable[[str], str] = lambda _name: "inherit"  # of a `ref.base`: inherit or implement
    prepare: Callable[[bytes], bytes] | None = None  # what the parser shall see instead; of equal length
    tidy: Callable[[str], str] = lambda signature: signature  # the language's own way to space a signature
    package: Callable[[str], str] = lambda _masked: ""  # what the file declares as its package
    silence: Callable[[bytes], bytes] = lambda raw: raw  # what decides nothing made comments, of equal length
    repairs: Callable[[bytes], Iterable[Reading]] = lambda _raw: ()  # what has errors may be read without these
    shelves: frozenset[str] = frozenset()  # node types in which definitions stand side by side; see `repair`


def node_text(node: tree_sitter.Node) -> str:
    text = node.text
    return "" if text is None else text.decode("latin-1")


@cache
def language(grammar: str) -> tree_sitter.Language:
    from tree_sitter_language_pack import get_binding

    return tree_sitter.Language(get_binding(grammar))  # type: ignore[arg-type, unused-ignore]


@cache
def query(grammar: str, names: tuple[str, ...]) -> tree_sitter.Query:
    """The query of a dialect. Raises QueryError when it names a node that the grammar lacks."""
    folder = files("codegraphd.daemon.analysis") / "queries"
    text = "\n".join((folder / f"{name}.scm").read_text("utf-8") for name in names)
    return tree_sitter.Query(language(grammar), text)


class _Spans(dict[str, list[Span]]):
    def __missing__(self, name: str) -> list[Span]:
        return []


class Captures(NamedTuple):
    """What the query found, by the names of its captures."""

    units: dict[str, list[tree_sitter.Node]]  # of those that begin with "unit."
    spans: Mapping[str, list[Span]]  # of all others; an absent name has none
    text: bytes  # the source, or its first repair that helped
    errors: int  # in its tree


def capture(raw: bytes, dialect: Dialect) -> tuple[tree_sitter.Tree, Captures]:
    text = raw = dialect.silence(raw)
    if dialect.prepare is not None:
        raw = dialect.prepare(raw)
    parser = tree_sitter.Parser(language(dialect.grammar))
    tree = parser.parse(raw)
    tree, shown, errors = repaired(parser, tree, raw, dialect.repairs(raw), dialect.shelves)
    cursor = tree_sitter.QueryCursor(query(dialect.grammar, dialect.queries))
    # Not `captures()`: that keeps captures in order, holds them back while an earlier pattern is undecided, and looks
    # through all it holds for each one: 80 s for one object of 15,000 properties.
    units, spans = scan.captures(cursor.matches(tree.root_node))
    return tree, Captures(units, _Spans(spans), text if shown is raw else shown, errors)


def atoms_of(captures: Captures) -> list[tuple[int, int, int]]:
    """Comments, doc strings and literals for `Source`."""
    spans = captures.spans
    return [(*span, of) for of, name in enumerate(("doc", "comment", "string")) for span in spans[name]]


def drafts_of(captures: Captures, source: Source, dialect: Dialect) -> list[Draft]:
    """The file's units in order of (start, -end), nested, named, with doc and decorators attached."""
    drafts = _found(captures, dialect)
    if dialect.is_layout:
        for draft in drafts:
            if not draft.is_bodiless:  # from the colon on: the first line's indentation is in front of the block
                draft.body = source.masked.rfind(":", draft.start, draft.body) + 1
    attachments = _Attachments(captures, source, dialect)
    for draft in drafts:
        attachments.attach(draft)
    drafts.sort(key=lambda draft: (draft.start, -draft.end))
    del drafts[MAX_UNITS:]
    stack: list[int] = []
    kept: list[Draft] = []
    for draft in drafts:
        while stack and kept[stack[-1]].end <= draft.start:
            stack.pop()
        if stack and kept[stack[-1]].end < draft.end:
            continue  # overlaps without nesting: error recovery; the first wins
        draft.parent = stack[-1] if stack else -1
        stack.append(len(kept))
        kept.append(draft)
    for index, draft in enumerate(kept):
        parent = kept[draft.parent] if draft.parent >= 0 else None
        if parent is not None:
            parent.children.append(index)
        draft.is_container = draft.kind in CONTAINERS
        dialect.refine(draft, parent)
        draft.flags |= dialect.flags(draft, source, parent)
        outer, scope = parent.qualname if parent else "", draft.scope
        prefix = f"{outer}.{scope}" if outer and scope else outer or scope
        draft.qualname = f"{prefix}.{draft.name}" if prefix else draft.name
    _attach_docstrings(kept, captures.spans["doc"])
    return kept


def _found(captures: Captures, dialect: Dialect) -> list[Draft]:
    drafts: dict[Span, Draft] = {}
    wraps = dialect.wrappers | dialect.groups
    for capture_name, nodes in captures.units.items():
        kind = capture_name[5:]
        for node in nodes:
            span = node.byte_range
            if span in drafts and drafts[span].kind != "constant":
                continue
            name = dialect.name(node, kind)
            if not name:
                continue
            body = dialect.body(node, kind)
            outer = node
            if wraps:
                while (above := outer.parent) is not None and above.type in wraps:
                    if above.type in dialect.groups and above.named_child_count > 1:
                        break
                    outer = above
            start, end = outer.byte_range
            drafts[span] = Draft(
                kind=kind,
                name=name,
                node=node,
                start=start,
                end=end,
                head=start,
                body=end if body is None else body,
                scope=dialect.scope(node, kind),
                is_bodiless=body is None,
            )
    return list(drafts.values())


class _Attachments:
    """Finds what stands directly before a unit, or at its very beginning: decorators and doc comments."""

    def __init__(self, captures: Captures, source: Source, dialect: Dialect) -> None:
        self._source = source
        self._is_doc = dialect.is_doc
        spans = sorted(captures.spans["decorator"])
        self._by_start = dict(spans)
        self._by_end = {end: start for start, end in spans}

    def attach(self, draft: Draft) -> None:
        source = self._source
        masked = source.masked
        head = scan.skip(masked, draft.start)
        while (end := self._by_start.get(head)) is not None and end <= draft.body:
            draft.decorators.append((head, end))
            head = scan.skip(masked, end)
        draft.head = head
        start = draft.start
        while True:
            code_end = scan.skip_back(masked, start)
            start = self._with_doc(draft, start, code_end)
            begin = self._by_end.get(code_end, code_end)
            if begin >= code_end:
                break
            draft.decorators.insert(0, (begin, code_end))
            start = begin
        draft.start = start

    def _with_doc(self, draft: Draft, start: int, code_end: int) -> int:
        """Take the comments between the code before and `start` that directly precede it; returns the new start."""
        source = self._source
        index = source.comment_before(start)
        if index < 0 or source.comments[index][0] < code_end:
            return start
        taken: list[Span] = []
        begin = start
        while index >= 0:
            comment = source.comments[index]
            text = source.text
            if (
                comment[0] < code_end
                or text.count("\n", comment[1], begin) > 1
                or not _is_first_in_line(text, comment[0], code_end)
                or not self._is_doc(text[comment[0] : comment[1]])
            ):
                break
            taken.append(comment)
            begin = comment[0]
            index -= 1
        draft.docs[:0] = reversed(taken)
        return begin


def _is_first_in_line(text: str, start: int, code_end: int) -> bool:
    """Whether no code stands before a comment in its line: such a comment belongs to that code."""
    return text.rfind("\n", 0, start) >= code_end or code_end == 0


def _attach_docstrings(drafts: list[Draft], spans: Iterable[Span]) -> None:
    """Give each documentation string to the innermost unit around it."""
    stack: list[Draft] = []
    index = 0
    for span in sorted(spans):
        while index < len(drafts) and drafts[index].start <= span[0]:
            stack.append(drafts[index])
            index += 1
        while stack and stack[-1].end < span[1]:
            stack.pop()
        if stack and not stack[-1].docs:
            stack[-1].docs.append(span)
