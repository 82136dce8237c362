"""What depends on these units, and what do they depend on?

The graph lies in the index as adjacency; a question walks just the part that it reaches, level by level, each unit
once, at its least distance, by its strongest edge: cycles and hubs end by that, and by `limit`.

Edges that are stored are STRONG or CRITICAL. A reference that resolution left open is matched here by name: MEDIUM
where one definition of its family in the root bears that name, WEAK where several do. A walk goes on behind a
MEDIUM edge and ends behind a WEAK one: what one name in common leads to has little to do with the question.

A call of a method can run what overrides it in a class below, so it is one of that method too: MEDIUM where the one
that is called is abstract and nothing else overrides it, WEAK else. Such edges too are found here and not stored.

Containment is no dependence and is not walked. A declaration stands for its definition: the edge between them costs no
distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from codegraphd.daemon.analysis.languages import FAMILY
from codegraphd.daemon.graph.index import View
from codegraphd.daemon.graph.keys import CLASS_KINDS, FUNCTION_KINDS, NAMELESS_KINDS
from codegraphd.store.records import Flag, Strength, UnitRecord

if TYPE_CHECKING:
    import networkx

_MAX_CLASSES = 1_000  # above or below one
_PROMISES = frozenset({"trait", "interface"})
_INHERITANCE = frozenset({"inherit", "implement"})
_CALLED = FUNCTION_KINDS | CLASS_KINDS | {"macro", "property", "constant"}
# Kinds of units that a reference of a kind can mean by its name alone.
_MEANT: dict[str, frozenset[str]] = {
    "call": _CALLED,
    "instantiate": CLASS_KINDS | FUNCTION_KINDS,
    "decorate": _CALLED,
    "inherit": CLASS_KINDS,
    "implement": CLASS_KINDS,
    "type": CLASS_KINDS,
}


class Reached(NamedTuple):
    """A unit that a walk came to: at which distance, by which edge."""

    unit: int
    depth: int  # 1: directly
    kind: str  # of EDGE_KINDS
    strength: int  # Strength


class Step(NamedTuple):
    """One edge that a walk saw, in the direction of the edge."""

    source: int
    target: int
    kind: str
    strength: int


def dependents(view: View, ids: Sequence[int], depth: int, limit: int) -> tuple[list[Reached], bool]:
    """What refers to these units, to a distance; nearest and strongest first; and whether `limit` cut it short."""
    found, truncated, _ = _walk(view, ids, "in", depth, limit, weak=True)
    return found, truncated


def dependencies(view: View, ids: Sequence[int], depth: int, limit: int) -> tuple[list[Reached], bool]:
    """What these units refer to: as `dependents`, the other way."""
    found, truncated, _ = _walk(view, ids, "out", depth, limit, weak=True)
    return found, truncated


def neighbourhood(
    view: View, start: Sequence[int], direction: str, depth: int, limit: int, *, weak: bool
) -> tuple[networkx.DiGraph, bool]:
    """The digraph of what a walk reaches ("in": dependents, "out": dependencies), and whether `limit` cut it short.

    Nodes are unit ids with `depth`; edges go from the unit that refers to the one referred to, with `kind` and
    `strength`, the strongest of several.
    """
    import networkx

    found, truncated, steps = _walk(view, start, direction, depth, limit, weak=weak)
    graph = networkx.DiGraph()
    graph.add_nodes_from(start, depth=0)
    for reached in found:
        graph.add_node(reached.unit, depth=reached.depth)
    for step in steps:
        if step.source in graph and step.target in graph:
            known = graph.get_edge_data(step.source, step.target)
            if known is None or known["strength"] < step.strength:
                graph.add_edge(step.source, step.target, kind=step.kind, strength=step.strength)
    return graph, truncated


def _walk(
    view: View, start: Sequence[int], direction: str, depth: int, limit: int, *, weak: bool
) -> tuple[list[Reached], bool, list[Step]]:
    neighbours = _Neighbours(view, limit, weak=weak)
    look = neighbours.of_source if direction == "out" else neighbours.of_target
    seen = set(start)
    out: list[Reached] = []
    steps: list[Step] = []
    level = list(dict.fromkeys(start))
    level += neighbours.declared(level, direction, seen, steps)
    standing = [(other, (int(Strength.CRITICAL), "declare")) for other in level if other not in seen]
    for distance in range(1, depth + 1):
        best: dict[int, tuple[int, str]] = dict(standing)  # unit -> strength, kind
        for here in level:
            for step in look(here):
                steps.append(step)
                other = step.target if direction == "out" else step.source
                if other not in seen and (other not in best or (step.strength, step.kind) > best[other]):
                    best[other] = (step.strength, step.kind)
        sure = [other for other, (strength, _) in best.items() if strength > Strength.WEAK]
        for other in neighbours.declared(sure, direction, seen | set(best), steps):
            best[other] = (int(Strength.CRITICAL), "declare")
        looked, standing = set(level), []
        ordered = neighbours.ordered(best)
        truncated = neighbours.truncated or len(out) + len(ordered) > limit
        out += [Reached(other, distance, best[other][1], best[other][0]) for other in ordered[: limit - len(out)]]
        if len(out) >= limit:
            return out, truncated, steps
        seen.update(ordered)
        level = [other for other in ordered if best[other][0] > Strength.WEAK and other not in looked]
        if not level:
            break
    return out, neighbours.truncated, steps


class _Neighbours:
    """Edges of a unit, stored ones and those by name. Owns what was read of units in one walk."""

    def __init__(self, view: View, limit: int, *, weak: bool) -> None:
        self._view, self._limit, self._weak = view, limit, weak
        self._units: dict[int, UnitRecord | None] = {}
        self._named: dict[tuple[int, str, str, str], tuple[list[UnitRecord], int]] = {}
        self._overriding: dict[int, list[int]] = {}
        self.truncated = False  # a name that more units bear than the walk may reach

    def of_source(self, unit_id: int) -> Iterable[Step]:
        """What the unit refers to."""
        for edge in self._view.edges_out(unit_id):
            if edge.kind != "contain":
                yield Step(unit_id, edge.target, edge.kind, edge.strength)
        unit = self._unit(unit_id) if self._weak else None
        if unit is None:
            return
        for edge in self._view.edges_out(unit_id):
            for other in self._overriders(edge.target) if edge.kind == "call" else ():
                if other != unit_id:
                    yield Step(unit_id, other, "call", self._dispatched(edge.target))
        for family, name, kind in self._view.mentioned_by(unit_id):
            candidates, strength = self._meant(unit.root, family, name, kind)
            for candidate in candidates:
                if candidate.id != unit_id:
                    yield Step(unit_id, candidate.id, kind, strength)

    def of_target(self, unit_id: int) -> Iterable[Step]:
        """What refers to the unit."""
        for source, kind, strength in self._view.edges_in(unit_id):
            if kind != "contain":
                yield Step(source, unit_id, kind, strength)
        unit = self._unit(unit_id) if self._weak else None
        if unit is None or unit.unit.kind in NAMELESS_KINDS:
            return
        for called in self._related(unit, above=True):
            for source, kind, _ in self._view.edges_in(called):
                if kind == "call" and source != unit_id:
                    yield Step(source, unit_id, kind, self._dispatched(called))
        family, name = FAMILY.get(unit.language, ""), unit.unit.name
        sources = self._view.mentions(unit.root, family, name)
        if len(sources) > self._limit:
            self.truncated = True
        for source in sources[: self._limit]:
            kinds = [k for f, n, k in self._view.mentioned_by(source) if f == family and n == name]
            kinds = [kind for kind in kinds if unit.unit.kind in _MEANT.get(kind, ())]
            if kinds and source != unit_id:
                _, strength = self._meant(unit.root, family, name, kinds[0])
                yield Step(source, unit_id, kinds[0], strength)

    def _overriders(self, method: int) -> list[int]:
        """The methods that a call of this one can run beside it."""
        found = self._overriding.get(method)
        if found is None:
            unit = self._unit(method)
            found = self._overriding[method] = [] if unit is None else self._related(unit, above=False)
        return found

    def _dispatched(self, called: int) -> int:
        """How sure it is that a call of a method runs one that overrides it."""
        unit = self._unit(called)
        if unit is None or len(self._overriders(called)) != 1:
            return int(Strength.WEAK)
        above = self._unit(unit.parent)
        is_promise = unit.unit.flags & Flag.DECLARATION and above is not None and above.unit.kind in _PROMISES
        return int(Strength.MEDIUM if is_promise or unit.unit.flags & Flag.ABSTRACT else Strength.WEAK)

    def _related(self, unit: UnitRecord, *, above: bool) -> list[int]:
        """Methods of that name in the classes above that of a method: those that it overrides; or in those below."""
        if unit.unit.kind != "method" or unit.unit.flags & Flag.STATIC:
            return []
        classes = [unit.parent]
        for of in classes:  # grows
            if above:
                others = [edge.target for edge in self._view.edges_out(of) if edge.kind in _INHERITANCE]
            else:
                others = [source for source, kind, _ in self._view.edges_in(of) if kind in _INHERITANCE]
            if len(classes) > min(self._limit, _MAX_CLASSES):
                self.truncated = True
                break
            classes += [other for other in dict.fromkeys(others) if other not in classes]
        members = [
            self._unit(source) for of in classes[1:] for source, kind, _ in self._view.edges_in(of) if kind == "contain"
        ]
        return [m.id for m in members if m is not None and m.unit.kind == "method" and m.unit.name == unit.unit.name]

    def declared(self, units: Sequence[int], direction: str, known: set[int], steps: list[Step]) -> list[int]:
        """What those units declare or are declared by, and so on, less what is known; the edges go to `steps`."""
        found: dict[int, None] = {}
        queue = list(units)
        for unit_id in queue:  # grows
            if direction == "out":
                edges = [Step(unit_id, e.target, e.kind, e.strength) for e in self._view.edges_out(unit_id)]
            else:
                edges = [Step(s, unit_id, kind, strength) for s, kind, strength in self._view.edges_in(unit_id)]
            for step in edges:
                other = step.target if direction == "out" else step.source
                if step.kind == "declare" and other not in known and other not in found:
                    found[other] = None
                    steps.append(step)
                    queue.append(other)
        return list(found)

    def ordered(self, found: dict[int, tuple[int, str]]) -> list[int]:
        """Strongest first, then by place: ids are opaque."""
        records = [(found[unit_id][0], self._unit(unit_id)) for unit_id in found]
        known = [(strength, record) for strength, record in records if record is not None]
        known.sort(key=lambda item: (-item[0], item[1].path, item[1].unit.start_byte, item[1].key))
        return [record.id for _, record in known]

    def _meant(self, root: int, family: str, name: str, kind: str) -> tuple[list[UnitRecord], int]:
        """The units that a reference left open can mean, and how sure that is: worked out once for a name, since
        hundreds may bear it and thousands mention it."""
        at = (root, family, name, kind)
        if at not in self._named:
            ids = self._view.named(root, name)
            if len(ids) > self._limit:
                self.truncated = True
            records = [self._unit(unit_id) for unit_id in ids[: self._limit]]
            kinds = _MEANT.get(kind, frozenset())
            meant = [r for r in records if r and FAMILY.get(r.language) == family and r.unit.kind in kinds]
            self._named[at] = meant, _strength(meant)
        return self._named[at]

    def _unit(self, unit_id: int) -> UnitRecord | None:
        if unit_id not in self._units:
            self._units[unit_id] = self._view.unit(unit_id)
        return self._units[unit_id]


def _strength(candidates: Sequence[UnitRecord]) -> int:
    """MEDIUM where all are one: overloads of one file, or declarations with their one definition."""
    whole = [candidate for candidate in candidates if not candidate.unit.flags & Flag.DECLARATION] or candidates
    places = {(candidate.path, candidate.unit.qualname) for candidate in whole}
    return int(Strength.MEDIUM if len(places) == 1 else Strength.WEAK)
