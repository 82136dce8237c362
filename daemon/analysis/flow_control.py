"""The control-flow graph of one unit: basic blocks and who follows whom.

Terms: a *block* is a run of statements that are always executed together; block 0 is the entry, the last one the
exit, neither holds code. An edge's label says when it is taken: "" (next), "true", "false", "case", "default", "loop"
(back to the head), "break", "continue", "return", "throw", "exit" (of the process), "goto", "yield", "fallthrough",
"exception" (something in the block raises), "error" (Rust's `?`). A *frame* is what stands around a statement and
catches jumps: a loop, a switch, a `try` with handlers, a `finally`.

Algorithm: one walk over the statements in source order, appending to the current block; a node that steers control
(`flow_tables.Role`) ends it and starts others. Expressions that steer (Rust's `match` as a value) are walked like
statements. A jump climbs the frames outwards; a `finally` on its way takes it in and, its own code done, sends it on,
so that code stands in the graph once and not once for each way out. Inside a `try` every block may raise; elsewhere
calls are taken to return. After the walk, empty blocks that lead nowhere else are short-circuited.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from codegraphd.daemon.analysis.flow_blocks import ControlFlow, Frame, Graph
from codegraphd.daemon.analysis.flow_syntax import Role
from codegraphd.daemon.analysis.flow_tree import Forest, Node, Steps, case_parts, is_default, run, walk

_ALWAYS = frozenset({"true", "True", "1"})


def control_flow_of(forest: Forest) -> ControlFlow:
    """The graph of a forest. Never raises on what the source holds."""
    function = function_of(forest)
    builder = _Builder(forest)
    run(builder.body(function) if function is not None else builder.all(forest.nodes))
    blocks = builder.finish()
    truncated = forest.truncated or builder.budget < 0
    return ControlFlow(function.type if function is not None else "", blocks, truncated)


def function_of(forest: Forest) -> Node | None:
    """The function that the forest is, what may stand around it (decorators, `export`, `const f =`) taken off."""
    syntax = forest.syntax
    passed = syntax.comments | syntax.ignored
    nodes = [node for node in forest.nodes if node.named and node.type not in passed]
    while len(nodes) == 1:
        node = nodes[0]
        if node.type in syntax.functions or node.type in syntax.lambdas:
            return node
        if node.type in syntax.sequences:  # Python: the body of a class with one method
            nodes = [n for n in node.named_children() if n.type not in passed]
            continue
        if node.type not in syntax.wrappers:
            return None
        inner = node.child("definition", "declaration", "value", "right")
        nodes = [inner] if inner is not None else [n for n in node.named_children() if n.type not in passed]
        if node.type == "template_declaration":
            nodes = nodes[-1:]
    return None


class _Builder(Graph):
    def __init__(self, forest: Forest) -> None:
        super().__init__()
        self.forest = forest
        self.syntax = forest.syntax
        self.labels: dict[str, int] = {}  # goto targets
        self.next_labels: tuple[str, ...] = ()  # labels that stand before the loop to come
        self.sheltered: dict[
            int, int
        ] = {}  # runs of blocks whose exceptions a `try` inside has dealt with: start -> end

    # --- the walk

    def body(self, function: Node) -> Steps:
        body = function.child("body") or function.child_of_type(*self.syntax.sequences, "arrow_expression_clause")
        initializers = function.child_of_type("field_initializer_list", "constructor_initializer")
        yield from self.all([node for node in (initializers, body) if node is not None])

    def all(self, nodes: list[Node]) -> Steps:
        comments = self.syntax.comments
        for node in nodes:
            if node.named and node.type not in comments and node.type != "empty_statement":
                yield self.visit(node)

    def visit(self, node: Node) -> Steps:
        syntax = self.syntax
        if node.type in syntax.sequences:
            label = node.child_of_type("label")
            yield from self.labelled_block(node, label) if label is not None else self.all(node.children)
        elif not node.control:
            self.add(node)
        elif not syntax.steers(node):
            yield from self.all(node.children)
        elif (way := syntax.never_returns(node)) and node.type not in syntax.roles:
            self.add(node)
            self.leave(way)
        else:
            yield from _STEPS[syntax.roles[node.type]](self, node)

    def if_(self, node: Node) -> Steps:
        """`if` with any number of alternatives; `#if` too, whose consequence stands in no field."""
        syntax = self.syntax
        alternatives = dict.fromkeys(
            c for c in node.children
            if c.field == "alternative" or c.type in syntax.elifs or c.type in syntax.elses
        )  # fmt: skip
        if node.type.startswith("preproc"):
            heads = ("condition", "name")
            then = [c for c in node.children if c not in alternatives and c.field not in heads]
        else:
            then = [c for c in node.children if c.field == "consequence"]
            yield from self.all([c for c in node.children if c not in alternatives and c not in then])
        after = self.new()
        fork, self.here = self.here, self.new()
        self.link(fork, self.here, "true")
        yield from self.all(then)
        self.link(self.here, after)
        has_else = False
        for alternative in alternatives:
            self.here = self.new()
            self.link(fork, self.here, "false")
            if alternative.type in syntax.elifs:
                then = [c for c in alternative.children if c.field == "consequence"]
                yield from self.all([c for c in alternative.children if c not in then])
                fork, self.here = self.here, self.new()
                self.link(fork, self.here, "true")
                yield from self.all(then)
            else:
                has_else = True
                yield from self.all(alternative.children if alternative.type in syntax.elses else [alternative])
            self.link(self.here, after)
        if not has_else:
            self.link(fork, after, "false")
        self.here = after

    def let_else(self, node: Node) -> Steps:
        """Rust's `let … else { leave }`."""
        alternative = node.child("alternative")
        yield from self.all([c for c in node.children if c is not alternative])
        fork, after = self.here, self.new()
        self.here = self.new()
        self.link(fork, self.here, "false")
        yield from self.all([alternative] if alternative is not None else [])
        self.link(self.here, after)
        self.link(fork, after, "true")
        self.here = after

    def while_(self, node: Node) -> Steps:
        yield from self.loop(node, node, "while")

    def for_(self, node: Node) -> Steps:
        """Three clauses, or what Go writes with the same word."""
        clause = node.child_of_type("for_clause", "range_clause")
        yield from self.loop(node, clause or node, "each" if clause and clause.type == "range_clause" else "while")

    def foreach(self, node: Node) -> Steps:
        yield from self.loop(node, node, "each")

    def loop(self, node: Node, holder: Node, sort: str) -> Steps:
        """Any loop that tests first; the clauses stand in `holder`. One of sort "while" may be endless."""
        starts = [c for c in holder.children if c.field in ("init", "initializer")]
        steps = [c for c in holder.children if c.field in ("update", "increment")]
        bodies = [c for c in node.children if c.field == "body"]
        alternative = node.child("alternative")
        less = {*starts, *steps, *bodies}
        condition = [
            c for c in holder.children
            if c.named and c not in less and c is not alternative and c.type != "label"
            and c.type not in self.syntax.comments
        ]  # fmt: skip
        endless = sort == "while" and all(_text(c).strip("()") in _ALWAYS for c in condition)
        yield from self.all(starts)
        self.go(self.new("loop"))
        head = self.here
        yield from self.all(condition)
        test, after = self.here, self.new()
        again = self.new() if steps else head
        self.here = self.new()
        self.link(test, self.here, "" if endless else "true")
        self.frames.append(Frame(self.take_labels(node), after, again))
        yield from self.all(bodies)
        self.frames.pop()
        if steps:
            self.go(again)
            yield from self.all(steps)
        self.link(self.here, head, "loop")
        done = after
        if alternative is not None:  # Python: not after a break
            done = self.here = self.new()
            yield from self.all(alternative.children)
            self.link(self.here, after)
        if not endless:
            self.link(test, done, "false")
        self.here = after

    def do(self, node: Node) -> Steps:
        body = node.child("body")
        self.go(self.new("loop"))
        head, test, after = self.here, self.new(), self.new()
        self.frames.append(Frame(self.take_labels(node), after, test))
        yield from self.all([body] if body is not None else [])
        self.frames.pop()
        self.go(test)
        yield from self.all([c for c in node.children if c is not body])
        self.link(self.here, head, "true")
        self.link(self.here, after, "false")
        self.here = after

    def switch(self, node: Node) -> Steps:
        """Every case is tested from the head; one falls through into the next where the language lets it."""
        syntax = self.syntax
        cases: list[Node] = []
        queue = node.children[::-1]
        subjects = []
        while queue:
            child = queue.pop()
            if child.type in syntax.cases:
                cases.append(child)
            elif any(grandchild.type in syntax.cases for grandchild in child.children):
                queue.extend(reversed(child.children))
            elif not cases:
                subjects.append(child)
        yield from self.all(subjects)
        head, after = self.here, self.new()
        cases_by_label: dict[str, int] = {}
        frame = Frame(self.take_labels(node), after, cases=cases_by_label)
        frame.plain = not syntax.exhaustive and node.type != "match_statement"  # those have no break of their own
        entries = [self.new() for _ in cases]
        for case, entry in zip(cases, entries, strict=True):
            cases_by_label[" ".join(_text(c) for c in case_parts(case)[0] if c.named) or "default"] = entry
        self.frames.append(frame)
        covered = syntax.exhaustive and bool(cases)
        for i, (case, entry) in enumerate(zip(cases, entries, strict=True)):
            default = is_default(case)
            covered = covered or default
            self.link(head, entry, "default" if default else "case")
            self.here = entry
            label, body = case_parts(case)
            yield from self.all(label)
            frame.fall_to = entries[i + 1] if i + 1 < len(entries) else after
            yield from self.all(body)
            falls = case.type not in syntax.separate and frame.fall_to != after
            self.link(self.here, frame.fall_to if falls else after, "fallthrough" if falls else "")
        self.frames.pop()
        if not covered:
            self.link(head, after, "default")
        self.here = after

    def try_(self, node: Node) -> Steps:
        syntax = self.syntax
        catches = [c for c in node.children if c.type in syntax.catches]
        final = node.child_of_type(*syntax.finals)
        otherwise = node.child_of_type(*syntax.elses)
        body = [c for c in node.children if c.type not in syntax.catches and c is not final and c is not otherwise]
        after = self.new()
        handlers = tuple(self.new("handler") for _ in catches)
        final_frame = Frame(final=self.new("finally")) if final is not None else None
        if final_frame is not None:
            self.frames.append(final_frame)
        self.frames.append(Frame(handlers=handlers, catches_all=any(self.catches_all(c) for c in catches)))
        first = len(self.drafts)
        self.go(self.new())
        yield from self.all(body)
        self.raise_from(first)
        catches_all = self.frames.pop().catches_all
        if catches_all or final_frame is not None:
            self.shelter(first)
        first = len(self.drafts)
        if otherwise is not None:
            self.go(self.new())
            yield from self.all(otherwise.children)
        done = after if final_frame is None else final_frame.final
        assert done is not None
        normal = self.finish_part(done)
        for clause, handler in zip(catches, handlers, strict=True):
            self.here = handler
            yield from self.all(clause.children)
            normal = self.finish_part(done) or normal
        if final_frame is not None and final is not None:
            self.raise_from(first, handlers)
            self.sheltered.update((handler, handler + 1) for handler in handlers)
            self.shelter(first)
            self.frames.pop()
            self.here = done
            yield from self.all(final.children)
            for kind, label in final_frame.pending:
                self.jump(kind, label, self.here)
            if normal:
                self.link(self.here, after)
        self.here = after

    def finish_part(self, done: int) -> bool:
        """Go on behind the `try`; False: there is no way to the end of this part."""
        if not self.drafts[self.here].alive:
            return False
        self.link(self.here, done)
        return True

    def shelter(self, first: int) -> None:
        """What has been done since `first` raises no further."""
        if first < len(self.drafts):
            self.sheltered[first] = len(self.drafts)

    def raise_from(self, first: int, more: tuple[int, ...] = ()) -> None:
        """Everything done since `first` may raise."""
        for block in more:
            self.raise_in(block)
        block, end = first, len(self.drafts)
        while block < end and self.budget >= 0:
            self.budget -= 1
            if block in self.sheltered:
                block = self.sheltered[block]
            else:
                self.raise_in(block)
                block += 1

    def raise_in(self, block: int) -> None:
        if self.drafts[block].statements:
            self.jump("exception", "", block)

    def catches_all(self, clause: Node) -> bool:
        """Whether a handler takes everything: it names no type, or one of those at the root."""
        if any(c.type == "catch_filter_clause" for c in clause.children):
            return False
        body = self.syntax.sequences
        types = [c for c in clause.children if c.type not in body and c.type not in ("catch", "except", ":", "(", ")")]
        if not types or self.forest.language in ("javascript", "typescript", "tsx"):
            return True
        texts = {_text(n) for n in walk(types)}
        return bool(texts & self.syntax.catch_all)

    def label(self, node: Node) -> Steps:
        """A label: where `goto` leads, and what `break` and `continue` name."""
        named = [c for c in node.children if c.named and c.type not in self.syntax.comments]
        if not named:
            return
        name, rest = _text(named[0]), named[1:]
        self.go(self.labels.setdefault(name, self.new()))
        role = self.syntax.roles.get(rest[0].type) if rest else None
        if role in (Role.WHILE, Role.DO, Role.FOR, Role.FOREACH, Role.LOOP, Role.SWITCH, Role.LABEL):
            self.next_labels = (*self.next_labels, name)
            yield from self.all(rest)
            self.next_labels = ()
        else:
            yield from self.labelled(name, rest)

    def labelled_block(self, node: Node, label: Node) -> Steps:
        yield from self.labelled(_text(label), [c for c in node.children if c is not label])

    def labelled(self, name: str, nodes: list[Node]) -> Steps:
        after = self.new()
        self.frames.append(Frame((name,), after, plain=False))
        yield from self.all(nodes)
        self.frames.pop()
        self.go(after)

    def take_labels(self, node: Node) -> tuple[str, ...]:
        """The labels of the loop or switch at hand: those before it, and Rust's own."""
        own = node.child_of_type("label")
        labels = self.next_labels if own is None else (*self.next_labels, _text(own))
        self.next_labels = ()
        return labels

    # --- jumps

    def out(self, node: Node) -> Steps:
        """break, continue, return, throw, goto, yield, fallthrough: what it evaluates, then away."""
        role = self.syntax.roles[node.type]
        named = [c for c in node.children if c.named and c.type not in self.syntax.comments]
        label = ""
        if role in (Role.BREAK, Role.CONTINUE, Role.GOTO) and named:
            rust = self.forest.language == "rust"  # whose break may have a value, too
            label = next((_text(c) for c in named if c.type == "label"), "") if rust else _text(named[0])
        if any(child.control for child in node.children):
            yield from self.all(node.children)
        else:
            self.add(node)
        if role is Role.GOTO:
            self.goto(node, label)
        elif role is Role.YIELD:
            self.leave("return" if self.forest.language == "csharp" else "yield")
        else:
            self.leave(_JUMPS[role], label)

    def goto(self, node: Node, label: str) -> None:
        words = {child.type for child in node.children}
        if "case" in words or "default" in words:  # C#: to another case of the switch around it
            self.leave("goto", label or "default")
            return
        self.link(self.here, self.labels.setdefault(label, self.new()), "goto")
        self.here = self.new()

    def question(self, node: Node) -> Steps:
        """Rust's `?`: on, or out with the error."""
        if any(child.control for child in node.children):
            yield from self.all(node.children)
        else:
            self.add(node)
        self.jump("error", "", self.here)
        self.go(self.new())


_JUMPS = {
    Role.BREAK: "break", Role.CONTINUE: "continue", Role.RETURN: "return", Role.THROW: "throw",
    Role.FALLTHROUGH: "fallthrough",
}  # fmt: skip

_STEPS: dict[Role, Callable[[_Builder, Node], Steps]] = {
    Role.IF: _Builder.if_, Role.WHILE: _Builder.while_, Role.DO: _Builder.do, Role.FOR: _Builder.for_,
    Role.FOREACH: _Builder.foreach, Role.LOOP: _Builder.while_, Role.SWITCH: _Builder.switch, Role.TRY: _Builder.try_,
    Role.LABEL: _Builder.label, Role.QUESTION: _Builder.question, Role.LET_ELSE: _Builder.let_else,
    **dict.fromkeys((*_JUMPS, Role.GOTO, Role.YIELD), _Builder.out),
}  # fmt: skip


def _text(node: Node) -> str:
    """The text of a small node, white space left out; the beginning of that of a large one."""
    leaves = (leaf.text for leaf in islice(walk([node]), 64) if not leaf.children)
    return "".join(leaves)
