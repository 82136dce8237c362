"""Which units wait for the model, best first.

The truth is the durable list in the index (`Stage.EMBED`); this is its order in memory. A unit is either waiting or in
flight (with the model); one that becomes stale again while in flight is both. Units of one file have neighbouring ids,
so the order by (priority, id) keeps files together and each is rendered once.

Owned by the indexer's thread. Pure: the time is handed in.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Entry:
    priority: int
    root: int
    since: float  # seconds, monotonic
    sequence: int


class Backlog:
    """Waiting and in-flight units. `mark()` and `is_clear(mark)` tell when all that waited at a moment is done."""

    def __init__(self, sequence: Iterator[int] | None = None) -> None:
        """`sequence` numbers what is added: one for several backlogs, where a mark is to hold for all of them."""
        self._waiting: dict[int, _Entry] = {}
        self._in_flight: dict[int, _Entry] = {}
        self._heap: list[tuple[int, int]] = []  # (priority, unit id); stale pairs are skipped when met
        self._per_root: Counter[int] = Counter()
        self._numbers = sequence or itertools.count(1)
        self._sequence = 0

    def __len__(self) -> int:
        return sum(self._per_root.values())

    @property
    def n_in_flight(self) -> int:
        return len(self._in_flight)

    def pending(self, root: int) -> int:
        return self._per_root[root]

    def add(self, unit: int, root: int, priority: int, now: float) -> None:
        """Queue a unit, or raise it if it waits with a lower priority (a greater number)."""
        known = self._waiting.get(unit)
        if known is not None and known.priority <= priority:
            return
        if known is None and unit not in self._in_flight:
            self._per_root[root] += 1
        self._sequence = next(self._numbers)
        self._waiting[unit] = _Entry(priority, root, known.since if known else now, self._sequence)
        heapq.heappush(self._heap, (priority, unit))

    def discard(self, unit: int) -> None:
        """The unit is gone or needs no vector any more."""
        entry = self._waiting.pop(unit, None)
        if entry is not None and unit not in self._in_flight:
            self._per_root[entry.root] -= 1

    def take(self, most: int, worst: int = 255) -> list[int]:
        """Up to `most` units, best first, none with a priority number above `worst`; they are in flight now."""
        taken: list[int] = []
        while self._heap and len(taken) < most:
            priority, unit = self._heap[0]
            if priority > worst:
                break
            heapq.heappop(self._heap)
            entry = self._waiting.get(unit)
            if entry is None or entry.priority != priority:
                continue
            del self._waiting[unit]
            self._in_flight[unit] = entry
            taken.append(unit)
        return taken

    def best_priority(self) -> int | None:
        """The priority that `take` would serve first."""
        while self._heap:
            priority, unit = self._heap[0]
            entry = self._waiting.get(unit)
            if entry is not None and entry.priority == priority:
                return priority
            heapq.heappop(self._heap)
        return None

    def finish(self, units: Iterable[int]) -> None:
        """They are done (or set aside); one that has become stale meanwhile goes on waiting."""
        for unit in units:
            entry = self._in_flight.pop(unit, None)
            if entry is not None and unit not in self._waiting:
                self._per_root[entry.root] -= 1

    def put_back(self, units: Iterable[int]) -> None:
        """They came back without a vector: they wait again, as if they had never been taken."""
        for unit in units:
            entry = self._in_flight.pop(unit, None)
            if entry is None or unit in self._waiting:
                continue
            self._waiting[unit] = entry
            heapq.heappush(self._heap, (entry.priority, unit))

    def raise_priority(self, units: Iterable[int], priority: int, now: float) -> None:
        for unit in units:
            if (entry := self._waiting.get(unit)) is not None:
                self.add(unit, entry.root, priority, now)

    def drop_root(self, root: int) -> None:
        self._waiting = {u: e for u, e in self._waiting.items() if e.root != root}
        self._in_flight = {u: e for u, e in self._in_flight.items() if e.root != root}
        self._per_root.pop(root, None)

    def mark(self) -> int:
        return self._sequence

    def is_clear(self, mark: int, root: int) -> bool:
        """Whether nothing of the root that was queued at `mark` or before still waits or is in flight."""
        if not self._per_root[root]:
            return True
        return not any(
            entry.root == root and entry.sequence <= mark
            for entries in (self._in_flight, self._waiting)
            for entry in entries.values()
        )

    def oldest_s(self, now: float) -> float:
        """Age of the unit that has waited longest, in seconds; 0.0 without any."""
        entries = [*self._in_flight.values(), *self._waiting.values()]
        return max((now - entry.since for entry in entries), default=0.0)
