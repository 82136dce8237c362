"""Units whose recipe may have changed, and why: what a step collects before it looks.

A candidate is kept under the nearest cause that was found for it. What a step has no time for goes onto the durable
list (`Stage.RECIPE`), whose payload this module alone reads and writes.
"""

from __future__ import annotations

import json

from codegraphd.daemon.graph.cascade import dependents_of_bases, dependents_of_face
from codegraphd.daemon.graph.index import Index, Stage
from codegraphd.daemon.graph.work import CHANGED, NEW, Settings
from codegraphd.store.records import UnitRecord

Cause = tuple[str, str, int, int]  # level, what it came from, depth, priority


class Candidates:
    """unit id -> its nearest cause. Without context inputs nothing that happens elsewhere can change a recipe."""

    def __init__(self, index: Index, settings: Settings) -> None:
        self._index, self._settings = index, settings
        self._causes: dict[int, Cause] = {}

    def add(self, unit: int, level: str, cause: str, depth: int, priority: int) -> None:
        known = self._causes.get(unit)
        if known is None:
            self._causes[unit] = (level, cause, depth, priority)
        elif depth < known[2]:
            self._causes[unit] = (level, cause, depth, min(priority, known[3]))
        elif priority < known[3]:
            self._causes[unit] = (*known[:3], priority)

    def drop(self, unit: int) -> None:
        self._causes.pop(unit, None)

    def face_changed(self, record: UnitRecord) -> None:
        """Its own context quotes it first of all; then those that quote it."""
        if self._settings.faces:
            self.add(record.id, "content", name_of(record), 0, CHANGED)
            self._reach(dependents_of_face(self._index, record.id, self._settings.max_cascade_depth), name_of(record))

    def deleted(self, record: UnitRecord) -> None:
        """To be called while its edges still stand: they go with it, so that resolving would find nothing changed."""
        if self._settings.faces:
            self._reach(dependents_of_face(self._index, record.id, self._settings.max_cascade_depth), name_of(record))
        self.drop(record.id)

    def bases_changed(self, unit: int, cause: str) -> None:
        if self._settings.faces:
            self._reach(dependents_of_bases(self._index, unit, self._settings.max_cascade_depth), cause)

    def _reach(self, dependents: list[tuple[int, int]], cause: str) -> None:
        for unit, distance in dependents:
            self.add(unit, "symbol" if distance <= 1 else "semantic", cause, distance, NEW)

    def take(self) -> list[tuple[int, Cause]]:
        """All, the most urgent and nearest first; there are none afterwards."""
        causes, self._causes = self._causes, {}
        return sorted(causes.items(), key=lambda item: (item[1][3], item[1][2]))

    def postpone(self, rest: list[tuple[int, Cause]]) -> None:
        """Put these onto the durable list."""
        for unit, cause in rest:
            self._index.enqueue(Stage.RECIPE, unit, encode_cause(cause))


def encode_cause(cause: Cause) -> bytes:
    return json.dumps(cause, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode_cause(payload: bytes) -> Cause:
    level, cause, depth, priority = json.loads(payload.decode("utf-8", "surrogatepass"))
    return level, cause, depth, priority


def name_of(record: UnitRecord) -> str:
    """How a unit is named as a cause."""
    return f"{record.path}:{record.unit.qualname}"
