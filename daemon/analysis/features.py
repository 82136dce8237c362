"""Numbers that describe one unit: its syntax, its size and two measures of how hard it is to follow.

Definitions:
  * *Cyclomatic complexity* (McCabe 1976): 1 + the number of decisions. A decision is an `if`/`elif`/`#if`, a loop, a
    case other than the default one, a handler of an exception, a conditional expression, a clause of a comprehension,
    `let … else`, each `&&`/`||`/`and`/`or`. For a unit with several named functions in it, the sum of theirs.
  * *Cognitive complexity* (SonarSource: Campbell 2018, white paper 1.7): +1 for each break in the linear flow (`if`,
    conditional expression, `switch`, loop, handler) and +1 more for each level of nesting it stands in; +1 without
    nesting for `else`, `else if`, a jump to a label, `goto`, each run of one logical operator, and once for a function
    that calls itself by its bare name. Loops, branches, handlers, conditional expressions, nested functions and
    closures nest; `try`, `finally`, `with` and classes do not.
  * *Depth*: levels of the syntax tree, the unit's own node being 1. *Nesting*: levels of what nests, as above.

Computed on demand from the syntax tree; nothing is stored, nothing runs when files are indexed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codegraphd.daemon.analysis.flow_syntax import Role, Syntax
from codegraphd.daemon.analysis.flow_tree import Forest, Node, forest, is_default, walk

_LOOPS = frozenset({Role.WHILE, Role.DO, Role.FOR, Role.FOREACH, Role.LOOP})
_LOGICAL = {"&&": "&&", "||": "||", "and": "&&", "or": "||"}


@dataclass(frozen=True, slots=True)
class Features:
    """Counts over one unit. All are at least 0; both complexities follow the definitions above."""

    node_types: Mapping[str, int]  # named node type -> how many, most frequent first
    nodes: int  # named nodes
    depth: int
    nesting: int
    cyclomatic: int
    cognitive: int
    functions: int  # named functions, methods and constructors, the unit itself included
    lambdas: int
    classes: int
    imports: int
    parameters: int  # of the unit, when it is a function; else of all its functions
    lines: int
    code_lines: int  # lines with a token that is no comment
    comment_lines: int  # lines with a comment or a part of one
    truncated: bool  # the unit is larger than what is looked at

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "node_types": dict(self.node_types)}


def features(language: str, source: bytes, start_byte: int, end_byte: int) -> Features:
    """The features of the unit that spans [start_byte, end_byte) of a source.

    Raises ValueError for a language without tables (`flow.LANGUAGES` has them), and nothing else.
    """
    tree = forest(language, source, start_byte, end_byte)
    syntax = tree.syntax
    nodes = [node for node in walk(tree.nodes) if node.named]
    counts = Counter(node.type for node in nodes)
    functions = [node for node in nodes if node.type in syntax.functions]
    lambdas = [node for node in nodes if node.type in syntax.lambdas]
    own = (functions or lambdas)[:1] if _one_function(tree) else functions
    cognitive, nesting = _cognitive(tree)
    code, comments = _lines(tree)
    part = source[max(0, start_byte) : max(0, end_byte)]
    return Features(
        node_types=dict(counts.most_common()),
        nodes=len(nodes),
        depth=_depth(tree.nodes),
        nesting=nesting,
        cyclomatic=max(1, len(functions)) + sum(_decisions(node, syntax) for node in nodes),
        cognitive=cognitive,
        functions=len(functions),
        lambdas=len(lambdas),
        classes=sum(1 for node in nodes if node.type in syntax.classes and _has_body(node, tree.language)),
        imports=sum(counts[kind] for kind in syntax.imports),
        parameters=sum(_parameters(node, syntax) for node in own),
        lines=part.count(b"\n") + (not part.endswith(b"\n")) if part else 0,
        code_lines=code,
        comment_lines=comments,
        truncated=tree.truncated,
    )


def _one_function(tree: Forest) -> bool:
    """Whether the unit is a single function rather than a class or a run of statements."""
    nodes = (node for node in walk(tree.nodes) if node.named and node.type in tree.syntax.classes)
    return not any(_has_body(node, tree.language) for node in nodes)


def _has_body(node: Node, language: str) -> bool:
    """C's `struct s *p` only mentions the type."""
    return language not in ("c", "cpp") or node.child("body") is not None


def _depth(nodes: list[Node]) -> int:
    depth, level = 0, nodes
    while level:
        depth += 1
        level = [child for node in level for child in node.children]
    return depth


def _lines(tree: Forest) -> tuple[int, int]:
    """Lines with code, lines with comments."""
    code: set[int] = set()
    comments: set[int] = set()
    stack = list(tree.nodes)
    while stack:
        node = stack.pop()
        if node.type in tree.syntax.comments:
            last = node.end_row - (tree.source[node.end - 1 : node.end] == b"\n")  # Rust's include the line end
            comments.update(range(node.row, max(node.row, last) + 1))
        elif node.children:
            stack.extend(node.children)
        elif node.text.strip():
            code.update(range(node.row, node.end_row + 1))
    return len(code), len(comments)


def _parameters(function: Node, syntax: Syntax) -> int:
    """Parameters as written, `self` included, a receiver, C's `(void)` and a bare `...` not."""
    lists: list[Node] = []
    holder: Node | None = function
    for _ in range(16):  # C: through the declarators, to the innermost one that has parameters
        if holder is None:
            break
        lists = [child for child in holder.children if child.field in syntax.parameters] or lists
        inner = holder.named_children()[:1] if holder.type == "parenthesized_declarator" else []
        holder = inner[0] if inner else holder.child("declarator")
    if len(lists) == 1 and not lists[0].children:
        return 1  # `x => …`: the list is the name itself
    passed = syntax.comments | syntax.not_parameters | syntax.ignored
    count = 0
    for parameter in (p for one in lists for p in one.children):
        if not parameter.named or parameter.type in passed or parameter.field == "type":  # C#: of `params`
            continue
        names = sum(1 for child in parameter.children if child.field == "name") if "go" in syntax.grammars else 1
        is_void = len(parameter.children) == 1 and parameter.children[0].text == "void"
        count += 0 if is_void else max(1, names)
    return count


def _decisions(node: Node, syntax: Syntax) -> int:
    kind = node.type
    role = syntax.roles.get(kind)
    if role is Role.IF or role in _LOOPS:
        return 1
    if role is Role.LET_ELSE:
        return int(syntax.steers(node))
    if kind in syntax.cases:
        return int(not is_default(node))
    if kind in syntax.elifs or kind in syntax.catches or kind in syntax.ternary or kind in syntax.comprehension:
        return 1
    if kind in syntax.binary:
        return int(_operator(node) in _LOGICAL)
    return 0


def _operator(node: Node) -> str:
    operator = node.child("operator")
    return operator.text if operator is not None else ""


def _cognitive(tree: Forest) -> tuple[int, int]:
    """Cognitive complexity and the deepest nesting of a unit."""
    syntax = tree.syntax
    total = deepest = 0
    calls_itself: set[int] = set()
    # (node, nesting, names and ids of the functions around it, logical operator that it continues)
    stack: list[tuple[Node, int, tuple[str, int], str]] = [(n, 0, ("", 0), "") for n in reversed(tree.nodes)]
    while stack:
        node, nesting, function, logical = stack.pop()
        kind = node.type
        deepest = max(deepest, nesting)
        below, operator = nesting, ""
        if not node.named:
            continue
        role = syntax.roles.get(kind)
        if kind in syntax.functions or kind in syntax.lambdas:
            below += function != ("", 0)
            name = _name(node)
            function = (name, id(node)) if name or function == ("", 0) else function
        elif kind in syntax.classes:
            function = ("", 0)
        elif role is Role.LET_ELSE:
            total += 1 + nesting if syntax.steers(node) else 0
        elif role is Role.IF:
            total += 1 + (0 if logical == "else if" else nesting)
            below += logical != "else if"
        elif role in _LOOPS or role is Role.SWITCH or kind in syntax.ternary or kind in syntax.catches:
            total += 1 + nesting
            below += 1
        elif kind in syntax.elifs or role is Role.GOTO or _jumps_to_label(node, role, tree.language):
            total += 1
        elif kind in syntax.binary and _operator(node) in _LOGICAL:
            operator = _LOGICAL[_operator(node)]
            total += operator != logical
        elif kind == "parenthesized_expression":
            operator = logical
        elif kind in syntax.calls and function[0] and function[1] not in calls_itself:
            callee = node.child(syntax.calls[kind])
            if callee is not None and callee.text == function[0]:
                calls_itself.add(function[1])
                total += 1
        for child in reversed(node.children):
            said, level = operator, below
            if _is_else(child, node, syntax):
                is_if = _else_if(child, syntax)
                total += not is_if
                said = "else if" if is_if else ""
            elif logical == "else if" and kind in syntax.elses:
                said = "else if"
            if role is Role.IF and child.field in ("condition", "initializer"):
                level = nesting if logical != "else if" else below - 1
            stack.append((child, max(level, 0), function, said))
    return total, deepest


def _is_else(child: Node, node: Node, syntax: Syntax) -> bool:
    """Whether the child is what follows an `else` of this `if`."""
    if syntax.roles.get(node.type) is not Role.IF or not child.named:
        return False
    return child.type in syntax.elses or (child.field == "alternative" and child.type not in syntax.elifs)


def _else_if(alternative: Node, syntax: Syntax) -> bool:
    """Whether an else holds nothing but another `if`."""
    if alternative.type in syntax.elses and not alternative.type.startswith("preproc"):
        inner = [c for c in alternative.children if c.named and c.type not in syntax.comments]
        return len(inner) == 1 and syntax.roles.get(inner[0].type) is Role.IF
    return syntax.roles.get(alternative.type) is Role.IF


def _jumps_to_label(node: Node, role: Role | None, language: str) -> bool:
    if role not in (Role.BREAK, Role.CONTINUE):
        return False
    named = [child for child in node.children if child.named]
    return any(child.type == "label" for child in named) if language == "rust" else bool(named)


def _name(node: Node) -> str:
    """The plain name of a function; "" for a closure."""
    for _ in range(16):
        name = node.child("name")
        if name is not None:
            return name.text
        inner = node.child("declarator")
        if inner is None:
            return ""
        if inner.type == "identifier":
            return inner.text
        node = inner
    return ""


__all__ = ["Features", "features"]
