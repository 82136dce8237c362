"""Whom a changed face may touch: the links of `recipe.quoted`, walked backwards to the depth cap.

A changed face touches at distance 1 everything with a stored edge to it. Beyond that only a subclass passes it on: to
its members and to its own subclasses. Each unit is visited once, at its least distance; hubs and cycles end by that.
"""

from __future__ import annotations

from codegraphd.daemon.graph.index import View
from codegraphd.daemon.graph.recipe import BASE_KINDS
from codegraphd.store.records import Strength


def dependents_of_face(view: View, unit_id: int, depth: int) -> list[tuple[int, int]]:
    """(unit id, distance) of every unit whose context input may quote `unit_id`, nearest first."""
    return _walk(view, [(unit_id, 0, True)], depth)


def dependents_of_bases(view: View, class_id: int, depth: int) -> list[tuple[int, int]]:
    """The same for a class whose *bases* changed: members and subclasses, not those that merely use it."""
    return _walk(view, [(class_id, 0, False)], depth)


def _walk(view: View, start: list[tuple[int, int, bool]], depth: int) -> list[tuple[int, int]]:
    seen = {unit_id for unit_id, _, _ in start}
    out: list[tuple[int, int]] = []
    queue = list(start)
    index = 0
    while index < len(queue):
        unit_id, distance, everyone = queue[index]
        index += 1
        if distance >= depth:
            continue
        for source, kind, strength in view.edges_in(unit_id):
            if strength < Strength.STRONG:
                continue
            inherits = kind in BASE_KINDS
            if source in seen or not (everyone or inherits or kind == "contain"):
                continue
            seen.add(source)
            out.append((source, distance + 1))
            if inherits:
                queue.append((source, distance + 1, False))
    return out
