"""Tokens and edges of a data flow: its records, and a data flow under construction.

Owns the numbering of tokens, the state of a walk and the budget of work; `flow_data` walks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from codegraphd.daemon.analysis.flow_syntax import DataRules
from codegraphd.daemon.analysis.flow_tree import Forest, Node

BUDGET = 600_000  # steps; one is 1 to 4 microseconds
EDGE = 4  # steps that an edge costs

State = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Token:
    """A leaf of the tree. `line` is 1-based; `column` is 0-based and counts bytes, as in tree-sitter."""

    text: str
    start_byte: int
    end_byte: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class DataEdge:
    """The value of token `index` comes from the tokens `source_indices`, whose texts are `sources`."""

    variable: str
    index: int  # into DataFlow.tokens
    relation: str  # "comesFrom" or "computedFrom"
    sources: tuple[str, ...]
    source_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DataFlow:
    """The edges in the order of their variables' tokens; variables without any flow are left out."""

    tokens: tuple[Token, ...]
    edges: tuple[DataEdge, ...]
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: each edge with names, lines (1-based) and columns (0-based, bytes)."""

        def place(index: int) -> dict[str, Any]:
            token = self.tokens[index]
            return {"name": token.text, "line": token.line, "column": token.column}

        edges = [
            {**place(edge.index), "relation": edge.relation, "sources": [place(i) for i in edge.source_indices]}
            for edge in self.edges
        ]
        return {"edges": edges, "truncated": self.truncated}


class SpentError(Exception):
    """The budget is used up."""


class Draft:
    """A data flow under construction."""

    def __init__(self, forest: Forest, rules: DataRules, budget: int | None) -> None:
        self.forest = forest
        self.syntax = forest.syntax
        self.rules = rules
        self.leaves: list[Node] = []
        self.is_variable: list[bool] = []
        self.states: State = {}
        self.edges: list[tuple[int, str, tuple[int, ...]]] = []  # (token, relation, source tokens)
        self.walked: dict[tuple[int, frozenset[tuple[str, tuple[int, ...]]]], State] = {}
        self.loops = 0  # how many the walk is in
        self.budget = BUDGET if budget is None else budget

    def read_tokens(self) -> None:
        """Number the leaves and give every node the range of its tokens."""
        stack: list[tuple[Node, bool]] = [(node, self._is_doc(node, None)) for node in reversed(self.forest.nodes)]
        opened: list[Node] = []
        while stack:
            node, skip = stack.pop()
            if opened and node is opened[-1]:
                opened.pop().last = len(self.leaves)
                continue
            node.first = node.last = len(self.leaves)
            if skip or node.type in self.syntax.comments:
                continue
            if not node.children:
                if not node.text.isspace() and node.text:  # no line ends, and nothing that the parser made up
                    self.leaves.append(node)
                    self.is_variable.append(node.type != node.text)
                    node.last += 1
                continue
            opened.append(node)
            stack.append((node, False))
            stack.extend((child, self._is_doc(child, node)) for child in reversed(node.children))

    def _is_doc(self, node: Node, parent: Node | None) -> bool:
        statement = parent is None or parent.type in self.syntax.sequences
        return self.syntax.docstrings and statement and node.type in self.syntax.atoms

    def variables(self, node: Node) -> list[int]:
        """The variable tokens below a node."""
        self.spend(node.last - node.first)
        return [i for i in range(node.first, node.last) if self.is_variable[i]]

    def targets(self, node: Node) -> list[int]:
        """The variable tokens of a left side. By our own rules, types, sizes and parameters in it are no targets."""
        if self.rules.exact or not node.children:
            return self.variables(node)
        found: list[int] = []
        stack = [node]
        while stack:
            top = stack.pop()
            self.spend(1)
            if not top.children:
                found.extend(i for i in range(top.first, top.last) if self.is_variable[i])
            stack.extend(c for c in reversed(top.children) if c.field not in ("type", "size", "parameters", "path"))
        return found

    def captures(self, pattern: Node) -> list[int]:
        """The names that a pattern binds: identifiers in it that are not written like a constant or a type."""
        names = ((i, self.leaves[i]) for i in self.targets(pattern))
        return [i for i, leaf in names if leaf.type == "identifier" and (leaf.text[0].islower() or leaf.text[0] == "_")]

    def spend(self, n: int) -> None:
        self.budget -= n
        if self.budget < 0:
            raise SpentError

    def copy(self) -> State:
        self.spend(1 + len(self.states) // 8)
        return self.states.copy()

    def unite(self, states: Iterable[State]) -> State:
        """Each name with all the places where one of the states has it from."""
        united: State = {}
        for state in states:
            self.spend(1 + len(state) // 4)
            for name, places in state.items():
                known = united.get(name)
                if known is None or known == places:
                    united[name] = places
                else:
                    united[name] = tuple(sorted({*known, *places}))
        return united

    def edge(self, index: int, relation: str, sources: tuple[int, ...]) -> None:
        self.spend(EDGE)
        self.edges.append((index, relation, sources))

    def set(self, index: int) -> None:
        self.states[self.leaves[index].text] = (index,)

    def result(self) -> DataFlow:
        tokens = tuple(Token(leaf.text, leaf.start, leaf.end, leaf.row + 1, leaf.column) for leaf in self.leaves)
        flowing = {index for index, _, sources in self.edges if sources}
        flowing.update(source for _, _, sources in self.edges for source in sources)
        edges = tuple(
            DataEdge(tokens[index].text, index, relation, tuple(tokens[i].text for i in sources), sources)
            for index, relation, sources in sorted(self.edges, key=lambda edge: edge[0])
            if index in flowing
        )
        return DataFlow(tokens, edges, self.forest.truncated or self.budget < 0)
