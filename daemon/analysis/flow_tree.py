"""The syntax tree of one unit, as small Python objects that features, control flow and data flow share.

Owns the way from (language, source, byte span) to a *forest*: the largest syntax nodes that lie inside the span, in
source order, each a `Node` with its children. tree-sitter's own nodes cost a call for every question; these cost an
attribute. Nothing here or above it recurses on Python's stack: trees of 10,000 levels are ordinary input.

Bounds: at most `MAX_NODES` nodes are taken; what lies behind them is dropped and `Forest.truncated` says so. A source
over `MAX_SOURCE` bytes is not parsed whole: only the span is, without its surroundings. tree-sitter itself cannot be
interrupted (measured: 40 KB of `a<` take the C# grammar 13 s, its time limit notwithstanding), so hostile files are
the business of the process in which this runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import cache
from typing import TYPE_CHECKING

from tree_sitter_language_pack import get_parser

from codegraphd.daemon.analysis.dialects import dialect
from codegraphd.daemon.analysis.flow_syntax import Syntax
from codegraphd.daemon.analysis.flow_tables import SYNTAX
from codegraphd.daemon.analysis.repair import blanked, n_errors

if TYPE_CHECKING:
    from tree_sitter import Parser, Tree

MAX_NODES = 300_000
MAX_SOURCE = 4 << 20


class Node:
    """One syntax node. `row` and `end_row` are 0-based lines, `column` a 0-based byte column."""

    __slots__ = (
        "children", "column", "control", "end", "end_row", "field", "first", "last", "named", "row", "start", "text",
        "type",
    )  # fmt: skip

    def __init__(self, kind: str, field: str | None, named: bool, span: tuple[int, int]) -> None:
        self.type = kind
        self.field = field  # its field name in the parent
        self.named = named
        self.start, self.end = span
        self.row = self.end_row = self.column = 0
        self.children: list[Node] = []
        self.text = ""  # of leaves and of atoms (strings) only
        self.control = False  # holds a node that steers control, itself included, nested functions left out
        self.first = self.last = 0  # its tokens, as a half-open range: set by `flow_data`

    def child(self, *fields: str) -> Node | None:
        """The first child that stands in one of these fields, the fields asked in order."""
        for field in fields:
            for child in self.children:
                if child.field == field:
                    return child
        return None

    def child_of_type(self, *types: str) -> Node | None:
        for child in self.children:
            if child.type in types:
                return child
        return None

    def named_children(self) -> list[Node]:
        return [child for child in self.children if child.named]

    def __repr__(self) -> str:
        return f"<{self.type} {self.start}..{self.end}>"


class Forest:
    """The nodes of one span with the table of their language."""

    __slots__ = ("errors", "language", "nodes", "source", "syntax", "truncated")

    def __init__(
        self, language: str, syntax: Syntax, source: bytes, nodes: list[Node], truncated: bool, errors: int
    ) -> None:
        self.language = language
        self.syntax = syntax
        self.source = source
        self.nodes = nodes
        self.truncated = truncated
        self.errors = errors  # syntax errors in what was parsed

    def text(self, node: Node) -> str:
        """What the node spans, as text; bytes that are no UTF-8 are replaced."""
        return node.text or self.source[node.start : node.end].decode("utf-8", "replace")


def forest(language: str, source: bytes, start_byte: int, end_byte: int) -> Forest:
    """The syntax nodes inside [start_byte, end_byte) of a source. Never raises on what the source holds.

    `language` is one of `SYNTAX` (records.LANGUAGES that are code, and "tsx"). Raises ValueError for another one.
    """
    syntax = SYNTAX.get(language)
    if syntax is None:
        raise ValueError(f"no syntax tables for language {language!r}; there are: {', '.join(sorted(SYNTAX))}")
    start_byte = max(0, min(start_byte, len(source)))
    end_byte = max(start_byte, min(end_byte, len(source)))
    if len(source) > MAX_SOURCE:
        return _cut(language, syntax, source, start_byte, min(end_byte, start_byte + MAX_SOURCE))
    tree = _parse(syntax, source)
    nodes, truncated = _collect(tree, source, syntax, (start_byte, end_byte))
    return Forest(language, syntax, source, nodes, truncated, n_errors(tree.root_node))


def walk(nodes: list[Node]) -> Iterator[Node]:
    """Every node of the forest, parents before children, in source order."""
    stack = nodes[::-1]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def case_parts(case: Node) -> tuple[list[Node], list[Node]]:
    """The nodes of a switch case before and after its `:`, `=>` or `->`; comments and punctuation stay in."""
    for i, child in enumerate(case.children):
        if not child.named and child.type in (":", "=>", "->"):
            return case.children[:i], case.children[i + 1 :]
    return case.children, []


def is_default(case: Node) -> bool:
    """Whether a switch case takes everything that no other one takes: `default`, or `_` without a guard."""
    label, _ = case_parts(case)
    texts = [node.text for node in walk(label) if not node.children]
    return "default" in texts or texts in (["_"], ["case", "_"])


Steps = Generator["Steps", None, None]


def run(steps: Steps) -> None:
    """Drive a recursive generator without Python's stack: `yield f(child)` inside it means "do f(child) first"."""
    stack = [steps]
    while stack:
        deeper = next(stack[-1], None)
        if deeper is None:
            stack.pop()
        else:
            stack.append(deeper)


def _cut(language: str, syntax: Syntax, source: bytes, start: int, end: int) -> Forest:
    """The span parsed alone, its offsets and lines moved back to those of the file."""
    row = source.count(b"\n", 0, start)
    column = start - (source.rfind(b"\n", 0, start) + 1)
    part = source[start:end]
    tree = _parse(syntax, part)
    nodes, truncated = _collect(tree, part, syntax, (0, len(part)))
    for node in walk(nodes):
        node.start += start
        node.end += start
        if node.row == 0:
            node.column += column
        node.row += row
        node.end_row += row
    return Forest(language, syntax, source, nodes, truncated, n_errors(tree.root_node))


@cache
def _parser(grammar: str) -> Parser:
    parser: Parser = get_parser(grammar)  # type: ignore[arg-type]  # one of its hundreds of names
    return parser


def _parse(syntax: Syntax, source: bytes) -> Tree:
    """The tree of the first reading without errors, or of the one that has fewest: other grammars, then repairs."""
    trees: list[tuple[int, int, Tree]] = []
    for grammar, reading in _readings(syntax, source):
        tree = _parser(grammar).parse(reading)
        errors = n_errors(tree.root_node)
        if not errors:
            return tree
        trees.append((errors, len(trees), tree))
    return min(trees)[2]


def _readings(syntax: Syntax, source: bytes) -> Iterator[tuple[str, bytes]]:
    """What to parse, with offsets as in `source`: see `Dialect.prepare` and `Dialect.repairs`."""
    for grammar in syntax.grammars:
        prepare = dialect(grammar).prepare
        yield grammar, source if prepare is None else prepare(source)
    for spans, _ in dialect(syntax.grammars[0]).repairs(source):
        yield syntax.grammars[0], blanked(source, spans)


def _collect(tree: Tree, source: bytes, syntax: Syntax, span: tuple[int, int]) -> tuple[list[Node], bool]:
    """The largest nodes inside the span (the root itself stands for its children) with all that they hold."""
    start, end = span
    cursor = tree.walk()
    top: list[Node] = []
    path: list[Node | None] = []  # the Node of each level from the root to the cursor; None: reaches outside the span
    n_nodes = 0
    while True:
        raw = cursor.node
        assert raw is not None
        lo, hi = raw.start_byte, raw.end_byte
        node = None
        if hi <= start or lo >= end:
            descend = lo <= start < end <= hi  # only an empty root
        elif path and start <= lo and hi <= end:
            node = Node(raw.type, cursor.field_name, raw.is_named, (lo, hi))
            (node.row, node.column), (node.end_row, _) = raw.start_point, raw.end_point
            parent = path[-1]
            (top if parent is None else parent.children).append(node)
            n_nodes += 1
            descend = node.type not in syntax.atoms
        else:
            descend = True
        if n_nodes >= MAX_NODES:
            break
        if descend and cursor.goto_first_child():
            path.append(node)
            continue
        if node is not None:
            node.text = source[lo:hi].decode("utf-8", "replace")
        while not cursor.goto_next_sibling():
            if not path or not cursor.goto_parent():
                return _finish(top, syntax), False
            path.pop()
    return _finish(top, syntax), True


def _finish(top: list[Node], syntax: Syntax) -> list[Node]:
    """Mark what steers control, bottom up."""
    order = list(walk(top))
    steers: Callable[[Node], bool] = syntax.steers
    for node in reversed(order):
        if node.type in syntax.opaque:
            continue
        node.control = steers(node) or any(child.control for child in node.children)
    return top
