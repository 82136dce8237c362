"""Where each value comes from: data-flow edges between the variables of one unit, as GraphCodeBERT defines them.

Terms (Guo et al. 2021, "GraphCodeBERT: Pre-training Code Representations with Data Flow"): the *tokens* of a unit are
the leaves of its syntax tree, comments and docstrings left out, a string being one leaf; a *variable* is a token whose
text differs from its node type: identifiers, but literals too. An edge says for one variable token from which other
tokens its value comes: `comesFrom` (the same variable earlier, or what a definition initialises it with) or
`computedFrom` (the right side of an assignment, what a loop variable runs over).

Algorithm: one walk in evaluation order with a *state*, name -> tokens that may have given it its value. A use reads the
state, a definition overwrites it. Branches start from copies of one state and are united after; a loop is walked twice,
so that its second turn sees what the first one left, and its edges are united. Tables (`flow_tables.DataRules`) say
which node types are what.

Two sets of rules: `published` repeats the published extractors, omissions included (JavaScript's `x = y` and Go's
`x := y` give no edge; alternatives of a switch run one after the other), and is what a GraphCodeBERT model was trained
on; the other one, the default, mends that. Nested loops would take 2**depth walks: a loop is not walked again from a
state that it has been walked from, and all work is bounded by `BUDGET`; `truncated` says when that bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from codegraphd.daemon.analysis.flow_syntax import DataRules, Role
from codegraphd.daemon.analysis.flow_tokens import EDGE, DataFlow, Draft, SpentError, State
from codegraphd.daemon.analysis.flow_tree import Forest, Node, Steps, is_default, run


def data_flow_of(forest: Forest, rules: DataRules, budget: int | None = None) -> DataFlow:
    """The data flow of a forest by the given rules, in `budget` steps. Never raises on what the source holds."""
    extractor = _Extractor(forest, rules, budget)
    extractor.read_tokens()
    for node in forest.nodes:
        run(extractor.visit(node))
    return extractor.result()


class _Extractor(Draft):
    def visit(self, node: Node) -> Steps:
        try:
            self.spend(1)
            yield from self._visit(node)
        except SpentError:
            return

    def _visit(self, node: Node) -> Steps:
        if node.first == node.last:
            return
        if not node.children:
            self._use(node)
            return
        rules, kind = self.rules, node.type
        if not node.named:
            yield from self._all(node.children)
        elif (steps := self._define(node) or self._assign(node)) is not None:
            yield from steps
        elif kind in rules.update:
            yield from self._update(node)
        elif kind in rules.branch:
            yield from self._exact_branch(node) if rules.exact and not rules.grouped else self._branch(node)
        elif kind in rules.loop or kind in rules.each or kind in rules.twice:
            yield from self._loop(node)
        elif kind in rules.switch:
            yield from self._switch(node)
        elif kind in rules.attempt:
            yield from self._attempt(node)
        else:
            yield from self._all([c for c in node.children if c.type in rules.first])
            yield from self._all([c for c in node.children if c.type not in rules.first])

    def _all(self, nodes: Iterable[Node]) -> Steps:
        for node in nodes:
            if node.first != node.last:
                yield self.visit(node)

    def _use(self, leaf: Node) -> None:
        index = leaf.first
        if not self.is_variable[index]:
            return
        places = self.states.get(leaf.text)
        if places is not None:
            self.edge(index, "comesFrom", places)
            return
        if leaf.type == "identifier":
            self.states[leaf.text] = (index,)
        self.edge(index, "comesFrom", ())

    def _define(self, node: Node) -> Steps | None:
        """A declaration with or without a value; None: it is not one after all."""
        if node.type not in self.rules.define:
            return None
        names, values = self.rules.define[node.type]
        name = node.child(*names)
        value = node.child(*values)
        if not values:  # C#: nothing else stands in a declarator
            name = name or node.children[0]
            value = node.children[-1] if any(child.text == "=" for child in node.children) else None
        if name is None or (value is None and node.type in self.rules.valued):
            return None
        return self._bind(name, value)

    def _bind(self, name: Node, value: Node | None) -> Steps:
        if value is None:
            for index in self.targets(name):
                self.edge(index, "comesFrom", ())
                self.set(index)
            return
        yield self.visit(value)
        self._flow(self._pairs(name, value), "comesFrom")

    def _assign(self, node: Node) -> Steps | None:
        if node.type not in self.rules.assign:
            return None
        lefts, rights = self.rules.assign[node.type]
        left, right = node.child(*lefts), node.child(*rights)
        if node.type in self.rules.first:
            right = next((c for c in reversed(node.children) if c.type not in self.syntax.comments), right)
        if left is None or right is None:
            return self._all(()) if self.rules.grouped else None
        return self._put(node, left, right)

    def _put(self, node: Node, left: Node, right: Node) -> Steps:
        """Left is computed from right."""
        pairs = [(left, right)] if node.type in self.rules.first else self._pairs(left, right)
        yield from self._all([part for _, part in pairs] if self.rules.grouped else [right])
        if not self.rules.exact and _is_compound(node):
            for index in self.targets(left):
                self._before(index)
        self._flow(pairs, "computedFrom")

    def _flow(self, pairs: list[tuple[Node, Node]], relation: str) -> None:
        """The edges from what stands right to what stands left."""
        grouped = self.rules.grouped and relation == "computedFrom"
        for left, right in pairs:
            sources = self.variables(right)
            for index in self.targets(left):
                if grouped:
                    self.edge(index, relation, tuple(sources))
                else:
                    self.spend(EDGE * len(sources))
                    self.edges.extend((index, relation, (source,)) for source in sources)
                self.set(index)

    def _before(self, index: int) -> None:
        """`x += 1` and `x++` take from the former x too."""
        places = self.states.get(self.leaves[index].text)
        if places is not None:
            self.edge(index, "comesFrom", places)

    def _pairs(self, left: Node, right: Node) -> list[tuple[Node, Node]]:
        """What flows into what: element by element where both sides have as many."""
        pairs, comments = self.rules.pairs, self.syntax.comments
        if self.rules.grouped or (left.type in pairs and right.type in pairs):
            lefts = [c for c in left.children if c.type != "," and c.type not in comments]
            rights = [c for c in right.children if c.type != "," and c.type not in comments]
            if lefts and len(lefts) == len(rights):
                return list(zip(lefts, rights, strict=True))
        return [(left, right)]

    def _update(self, node: Node) -> Steps:
        exact = self.rules.exact
        if not exact and not any(child.type in ("++", "--") for child in node.children):
            yield from self._all(node.children)
            return
        indices = self.variables(node)
        for index in indices:
            if not exact:
                self._before(index)
            for source in indices:
                self.edge(index, "computedFrom", (source,))
            self.set(index)

    # --- branches

    def _exact_branch(self, node: Node) -> Steps:
        """As published for all but Python: from `else` on, or from an `if` that is the whole consequence, each child
        is an alternative that starts at the entry; control may also pass by."""
        entry = self.copy()
        exits: list[State] = []
        current: State | None = None
        for child in _flat_else(node, self.syntax.elses):
            if current is None and (child.type in self.rules.branch or child.type == "else"):
                current = self.states
            if current is not None:
                self.states = entry.copy()
                yield self.visit(child)
                exits.append(self.states)
            else:
                yield self.visit(child)
        self.states = self.unite([*exits, self.states if current is None else current, entry])

    def _branch(self, node: Node) -> Steps:
        syntax = self.syntax
        entry = self.copy()
        exits: list[State] = []
        has_else = False
        head = not self.rules.exact  # as published, an alternative does not see what the condition did
        current: State = self.states
        for child in node.children:
            if child.type in syntax.elifs or child.type in syntax.elses or child.field == "alternative":
                has_else = has_else or child.type not in syntax.elifs
                self.states = entry.copy()
                self.spend(len(entry) // 8)
                yield self.visit(child)
                exits.append(self.states)
                self.states = current
                continue
            if head and child.field in ("consequence", "body"):
                entry, head = self.copy(), False
            yield self.visit(child)
            current = self.states
        self.states = self.unite([*exits, current, *([] if has_else else [entry])])

    def _switch(self, node: Node) -> Steps:
        """Each case starts from the subject, and from the case before where it can fall through."""
        subject: list[int] = []
        exits: list[State] = []
        entry, fallen = self.copy(), None
        exhaustive = self.syntax.exhaustive
        queue = node.children[::-1]
        while queue:
            child = queue.pop()
            if child.type in self.syntax.cases:
                self.states = entry.copy() if fallen is None else self.unite([entry, fallen])
                yield from self._case(child, subject)
                exits.append(self.states)
                fallen = None if child.type in self.syntax.separate else self.states
                exhaustive = exhaustive or is_default(child)
            elif any(grandchild.type in self.syntax.cases for grandchild in child.children):
                queue.extend(reversed(child.children))
            else:
                yield self.visit(child)
                if not exits:
                    subject.extend(self.variables(child))
                    entry = self.copy()
        self.states = self.unite([*exits, *([] if exhaustive and exits else [entry])])

    def _case(self, case: Node, subject: list[int]) -> Steps:
        fields = self.rules.captures.get(case.type)
        pattern = None
        if fields is not None:
            pattern = case.child(*fields) or case.child_of_type("case_pattern")
        if pattern is None:
            yield from self._all(case.children)
            return
        for index in self.captures(pattern):
            self.edge(index, "computedFrom", tuple(subject))
            self.set(index)
        yield from self._all(child for child in case.children if child is not pattern)

    def _attempt(self, node: Node) -> Steps:
        """A handler may start from anywhere in the body: from what was before it, or after it."""
        syntax = self.syntax
        entry = self.copy()
        handlers: list[State] = []
        for child in node.children:
            if child.type in syntax.catches:
                body = self.states
                self.states = self.unite([entry, body])
                yield self.visit(child)
                handlers.append(self.states)
                self.states = body
            else:
                if child.type in syntax.finals:
                    self.states = self.unite([self.states, *handlers])
                    handlers = []
                yield self.visit(child)
        self.states = self.unite([self.states, *handlers])

    # --- loops

    def _loop(self, node: Node) -> Steps:
        self.spend(1 + len(self.states) // 4)
        key = (id(node), frozenset(self.states.items()))
        known = self.walked.get(key)
        if known is not None:  # its edges from this state are there already, in the same outer loop
            self.states = known.copy()
            return
        mark, entry = len(self.edges), self.copy()
        self.loops += 1
        rules = self.rules
        clause = node.child_of_type("range_clause") or node
        if node.type in rules.each and clause.child(*rules.each[node.type][0]) is not None:
            yield from self._each(node, clause)
        elif node.type in rules.loop:
            yield from self._exact_clauses(node) if rules.exact else self._clauses(node)
        else:
            for _ in range(2):
                yield from self._all(node.children)
        if not rules.exact and self._may_pass_by(node):
            self.states = self.unite([self.states, entry])
        self.loops -= 1
        if not self.loops:  # those of the loops inside are merged with it
            self.edges[mark:] = self._merged(mark)
        self.walked[key] = self.states.copy()

    def _may_pass_by(self, node: Node) -> bool:
        """Whether the loop's body may not be entered at all."""
        return self.syntax.roles.get(node.type) in (Role.WHILE, Role.FOR, Role.FOREACH)

    def _each(self, node: Node, clause: Node) -> Steps:
        lefts, rights = self.rules.each[node.type]
        left, right = clause.child(*lefts), clause.child(*rights)
        body = node.child("body")
        if self.rules.exact and self.rules.grouped and (body is None or node.children[-1] is not body):
            body = None  # as published: a Python loop with an else has no body
        for _ in range(2):
            if left is not None and right is not None:
                yield from self._put(clause, left, right)
            if body is not None:
                yield self.visit(body)
        if not self.rules.exact:
            skipped = (clause, left, right, body)
            yield from self._all(c for c in node.children if c.field == "alternative" and c not in skipped)

    def _exact_clauses(self, node: Node) -> Steps:
        """As published: the second turn takes what follows the first clause, where that is of the expected type."""
        yield from self._all(node.children)
        markers = self.rules.loop[node.type]
        again = False
        for child in node.children:
            if again:
                yield self.visit(child)
            elif child.type in markers:
                again = True
                update = child.child("update") if child.type == "for_clause" else None
                if update is not None:
                    yield self.visit(update)

    def _clauses(self, node: Node) -> Steps:
        """First clause once, then twice: condition, body, step."""
        clause = node.child_of_type("for_clause") or node
        body, step = node.child("body"), clause.child("update", "increment")
        start = clause.child("init", "initializer")
        rest = [c for c in [*clause.children, *(() if clause is node else node.children)] if c is not clause]
        if start is not None:
            yield self.visit(start)
        for _ in range(2):
            yield from self._all(c for c in rest if c is not start and c is not body and c is not step)
            yield from self._all(c for c in (body, step) if c is not None)

    def _merged(self, mark: int) -> list[tuple[int, str, tuple[int, ...]]]:
        """The edges since `mark`, those of one variable token and relation made one."""
        merged: dict[tuple[int, str], set[int]] = {}
        self.spend((len(self.edges) - mark) // 4)
        for index, relation, sources in self.edges[mark:]:
            merged.setdefault((index, relation), set()).update(sources)
        return [(index, relation, tuple(sorted(sources))) for (index, relation), sources in merged.items()]


def _is_compound(node: Node) -> bool:
    """Whether an assignment's operator computes too: `+=`, but neither `=` nor `:=`."""
    operator = node.child("operator")
    return operator is not None and operator.text.endswith("=") and operator.text not in ("=", ":=")


def _flat_else(node: Node, elses: frozenset[str]) -> list[Node]:
    """The children with an else clause replaced by its own: `else` and what follows it."""
    flat: list[Node] = []
    for child in node.children:
        flat.extend(child.children if child.type in elses else [child])
    return flat
