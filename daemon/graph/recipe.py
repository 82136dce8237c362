"""What the model reads for a unit, as digests, and which other units that quotes.

A unit has an *own* input, its normalised text, and (with `context = "faces"`) a *context* input that quotes the faces
of others:

  distance 1   the enclosing class; what the unit inherits from, is decorated by, calls, instantiates, names as a type
  distance 2…  the bases of a class that was reached as encloser or base, transitively, to the cascade's depth cap

Only stored edges (critical and strong) are followed. The order of quoting is: enclosing class, then by strength, then
first use, then by what the faces say: overloads that change places, and the parts of a class whose files are moved, are
quoted as before. Nothing derived from a path enters a recipe. `cascade` walks exactly these links backwards: keep the
two together.
"""

from __future__ import annotations

from collections.abc import Callable

from codegraphd.daemon.graph.index import View
from codegraphd.store.records import Edge, Recipe, Strength, UnitRecord, digest

RECIPE_VERSION = "2"
QUOTED_DEPENDENCIES = 8  # signatures beyond these would not fit what small encoders read (128 to 512 tokens)
BASE_KINDS = frozenset({"inherit", "implement"})

_Said = tuple[str, str, bytes, tuple[str, str, str, int]]


def quoted(view: View, unit: UnitRecord, depth: int, unit_of: Callable[[int], UnitRecord | None]) -> list[UnitRecord]:
    """The units whose faces the context input of `unit` quotes, in order, each once, itself never.

    `depth` is max_cascade_depth (0: nothing is quoted); `unit_of` reads a unit (the caller may cache).
    """
    if depth <= 0:
        return []
    out: dict[int, UnitRecord] = {}
    bases: list[tuple[int, int]] = []  # (class id, distance at which it was reached)
    dependencies: list[tuple[tuple[int, int, int, _Said], Edge, UnitRecord]] = []
    for edge in view.edges_out(unit.id):
        target = unit_of(edge.target)
        if target is None or target.id == unit.id or edge.strength < Strength.STRONG:
            continue
        dependencies.append(((edge.kind != "contain", -edge.strength, edge.order, _said(target)), edge, target))
    dependencies.sort(key=lambda item: item[0])
    n_plain = 0
    for _, edge, target in dependencies:
        if target.id in out:
            continue
        if edge.kind == "contain" or edge.kind in BASE_KINDS:
            bases.append((target.id, 1))
        elif n_plain < QUOTED_DEPENDENCIES:
            n_plain += 1
        else:
            continue
        out[target.id] = target
    index = 0
    while index < len(bases):
        class_id, distance = bases[index]
        index += 1
        if distance >= depth:
            continue
        above = []
        for edge in view.edges_out(class_id):
            if edge.kind in BASE_KINDS and edge.strength >= Strength.STRONG:
                target = unit_of(edge.target)
                if target is not None and target.id != unit.id:
                    above.append(((-edge.strength, edge.order, _said(target)), target))
        for _, target in sorted(above, key=lambda item: item[0]):
            if target.id not in out:
                out[target.id] = target
                bases.append((target.id, distance + 1))
    return list(out.values())


def _said(target: UnitRecord) -> _Said:
    """What a face says, as an order of those that were used first at one place. The key decides only between equal
    faces, whose classes may have other bases."""
    return target.unit.qualname, target.unit.signature, target.unit.face, target.key


def recipe_of(unit: UnitRecord, quoted_units: list[UnitRecord] | None) -> Recipe:
    """The recipe of a unit. `quoted_units` None: context is off, and the recipe has the own input alone."""
    # The language counts: a model that reads data flow reads the same text otherwise in another language.
    own = digest("own", RECIPE_VERSION, unit.language, unit.unit.own)
    if quoted_units is None:
        return Recipe(own, b"")
    return Recipe(own, digest("context", RECIPE_VERSION, unit.unit.face, *(q.unit.face for q in quoted_units)))
