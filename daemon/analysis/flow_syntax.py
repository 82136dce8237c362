"""The terms in which a language's grammar is described: roles, rules for data flow, and the table that holds them.

Owns the shape of the tables; `flow_tables` fills one `Syntax` for each language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegraphd.daemon.analysis.flow_tree import Node


class Role(Enum):
    """What a node type does to the flow of control."""

    IF = auto()
    WHILE = auto()
    DO = auto()
    FOR = auto()  # three clauses; in Go also `for range`, `for condition` and the endless one
    FOREACH = auto()
    LOOP = auto()  # endless
    SWITCH = auto()
    TRY = auto()
    LABEL = auto()
    BREAK = auto()
    CONTINUE = auto()
    RETURN = auto()
    THROW = auto()
    GOTO = auto()
    FALLTHROUGH = auto()
    QUESTION = auto()  # Rust's `?`
    LET_ELSE = auto()  # steers only where it has an else
    YIELD = auto()  # Java's leaves a switch with a value; C#'s `yield break` returns, its `yield return` steers nothing


Fields = tuple[str, ...]  # field names, asked in order


@dataclass(frozen=True, slots=True)
class DataRules:
    """Node types by what they do to variables. Left and right sides are named by their fields."""

    assign: Mapping[str, tuple[Fields, Fields]] = field(default_factory=dict)  # left is computedFrom right
    define: Mapping[str, tuple[Fields, Fields]] = field(default_factory=dict)  # left comesFrom right
    update: frozenset[str] = frozenset()  # x++
    branch: frozenset[str] = frozenset()  # if
    loop: Mapping[str, frozenset[str]] = field(default_factory=dict)  # three-clause loop -> types of its first clause
    each: Mapping[str, tuple[Fields, Fields]] = field(default_factory=dict)  # for left in right: body
    twice: frozenset[str] = frozenset()  # while, do, endless loops
    first: frozenset[str] = frozenset()  # visited before their siblings
    switch: frozenset[str] = frozenset()
    attempt: frozenset[str] = frozenset()  # try
    valued: frozenset[str] = frozenset()  # of `define`: only where there is a value
    captures: Mapping[str, Fields] = field(
        default_factory=dict
    )  # case -> fields of its pattern, which takes from the subject
    pairs: frozenset[str] = frozenset()  # left and right are matched element by element where both sides have as many
    grouped: bool = False  # Python: one edge from all sources of an assignment; else one edge for each source
    exact: bool = False  # as published, omissions included


@dataclass(frozen=True, slots=True)
class Syntax:
    grammars: tuple[str, ...]  # the first that parses without an error is taken
    comments: frozenset[str]
    atoms: frozenset[str]  # strings: taken as one token although the grammar sees into them
    functions: frozenset[str]
    lambdas: frozenset[str]
    classes: frozenset[str]
    imports: frozenset[str]
    sequences: frozenset[str]  # statement lists
    roles: Mapping[str, Role]
    cases: frozenset[str] = frozenset()
    separate: frozenset[str] = frozenset()  # cases that never fall through into the next
    elifs: frozenset[str] = frozenset()
    elses: frozenset[str] = frozenset({"else_clause"})
    catches: frozenset[str] = frozenset({"catch_clause"})
    finals: frozenset[str] = frozenset({"finally_clause"})
    catch_all: frozenset[str] = frozenset()  # exception types that catch everything
    wrappers: frozenset[str] = frozenset()  # what may stand around the function that a unit is
    ignored: frozenset[str] = frozenset()  # decorators and attributes beside it
    calls: Mapping[str, str] = field(default_factory=dict)  # call node type -> field of what is called
    exits: frozenset[str] = frozenset()  # callees that end the process
    panics: frozenset[str] = frozenset()  # callees that always raise
    binary: frozenset[str] = frozenset({"binary_expression"})
    ternary: frozenset[str] = frozenset()
    comprehension: frozenset[str] = frozenset()  # clauses that loop or test inside an expression
    not_parameters: frozenset[str] = frozenset()
    exhaustive: bool = False  # one case of a switch always matches
    parameters: frozenset[str] = frozenset({"parameters", "parameter"})  # fields of parameter lists
    opaque_too: frozenset[str] = frozenset()
    docstrings: bool = False  # a string that is a statement is documentation
    data: DataRules = DataRules()
    published: DataRules | None = None
    opaque: frozenset[str] = field(init=False, default=frozenset())  # flow of their own: functions, classes, closures

    def __post_init__(self) -> None:
        bodies = self.functions | self.lambdas | self.classes | self.opaque_too
        object.__setattr__(self, "opaque", bodies)

    def steers(self, node: Node) -> bool:
        """Whether this very node changes where control goes."""
        if not node.named:
            return False
        role = self.roles.get(node.type)
        if role is None:
            return bool(self.never_returns(node))
        if role is Role.LET_ELSE:
            return node.child("alternative") is not None
        if role is Role.YIELD and "csharp" in self.grammars:
            return any(child.type == "break" for child in node.children)
        return True

    def never_returns(self, node: Node) -> str:
        """ "throw" or "exit" for a call of something that does not return, as `panic` or `exit`; "": none such."""
        callee_field = self.calls.get(node.type)
        callee = node.child(callee_field) if callee_field is not None else None
        if callee is None:
            return ""
        text = "".join(_leaves(callee, 8))
        return "throw" if text in self.panics else "exit" if text in self.exits else ""


def _leaves(node: Node, limit: int) -> list[str]:
    """The texts of the first leaves below a node."""
    texts: list[str] = []
    stack = [node]
    while stack and len(texts) < limit:
        top = stack.pop()
        if top.children:
            stack.extend(reversed(top.children[:limit]))
        else:
            texts.append(top.text)
    return texts
