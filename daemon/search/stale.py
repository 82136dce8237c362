"""Units that a syntax error took out of the index while somebody types: they go on answering, marked `stale`.

What parses is the index. What it lost to an error lies beside it for KEPT_S, or until the file parses, or until the
unit is there again: with its words and its vector, without edges, outside of what `verify` compares. `Lost` remembers;
`beside` wraps a snapshot and the two indexes, so that questions find both and need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from codegraphd.store.lexical import WordIndex
from codegraphd.store.overlay import Entry
from codegraphd.store.records import FileRecord, Flag, LostUnit, UnitRecord, Where
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.word_query import entry_of

KEPT_S = 60.0
MOST = 2_000  # units; the oldest go first


class Lost:
    """`add` is for the indexer's thread; `standing` for any."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._units: tuple[tuple[float, LostUnit], ...] = ()  # (until when, unit), oldest first; replaced, not changed

    def add(self, units: Iterable[LostUnit]) -> None:
        now = self._clock()
        fresh = {item.unit.id: (now + KEPT_S, _marked(item)) for item in units}
        if fresh or self._units:
            kept = (held for held in self._units if held[0] > now)
            self._units = (*kept, *fresh.values())[-MOST:]

    def standing(self, view: Snapshot) -> dict[int, LostUnit]:
        """Those that are still lost, by id: their file has errors and no such unit."""
        now = self._clock()
        standing = (item for until, item in self._units if until > now and _is_lost(view, item.unit))
        return {item.unit.id: item if item.edition == view.edition else replace(item, vector=None) for item in standing}


def _marked(item: LostUnit) -> LostUnit:
    unit = item.unit
    return replace(item, unit=replace(unit, unit=replace(unit.unit, flags=unit.unit.flags | Flag.STALE)))


def _is_lost(view: Snapshot, unit: UnitRecord) -> bool:
    file = view.file(unit.root, unit.path)
    if file is None or not file.errors:
        return False
    return all((other.unit.kind, other.unit.qualname) != (unit.unit.kind, unit.unit.qualname)
               for other in view.units_of(file))  # fmt: skip


def beside(view: Snapshot, lost: dict[int, LostUnit]) -> Snapshot:
    """The snapshot with the lost units in it, as far as questions by name, words and meaning read it."""
    return cast("Snapshot", _View(view, lost)) if lost else view


class _View:
    def __init__(self, view: Snapshot, lost: dict[int, LostUnit]) -> None:
        self._view, self._lost = view, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def unit(self, id: int) -> UnitRecord | None:
        return self._lost[id].unit if id in self._lost else self._view.unit(id)

    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]:
        return (*self._view.units_of(file), *(item.unit for item in self._lost.values() if item.unit.file == file.id))

    def attached(self, id: int) -> Any:
        return self._lost[id].vector if id in self._lost else self._view.attached(id)

    def named(self, root: int, name: str) -> tuple[int, ...]:
        return (*self._view.named(root, name), *(id for other, id in self._names(root) if other == name))

    def names(self, root: int, prefix: str = "") -> Iterator[tuple[str, int]]:
        yield from self._view.names(root, prefix)
        yield from ((name, id) for name, id in self._names(root) if name.startswith(prefix))

    def _names(self, root: int) -> Iterator[tuple[str, int]]:
        return ((item.unit.unit.name, id) for id, item in self._lost.items() if item.unit.root == root)


class WordsBeside:
    """The word index and the words of lost units: a `search.query.WordSearch`."""

    def __init__(self, words: WordIndex, lost: dict[int, LostUnit]) -> None:
        self._words = words
        self._entries: dict[int, Entry] = {id: entry_of(item.unit, item.words) for id, item in lost.items()}

    def query(self, terms: Sequence[str], k: int, where: Where) -> list[tuple[int, float]]:
        return self._words.query(terms, k, where, self._entries)


class VectorsBeside:
    """The vector index and the vectors of lost units: a `search.query.VectorSearch`."""

    def __init__(self, vectors: Any, lost: dict[int, LostUnit]) -> None:
        self._vectors, self._lost = vectors, lost

    def nearest(self, vector: Any, k: int, where: Where) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = self._vectors.nearest(vector, k, where)
        for id, item in self._lost.items():
            if item.vector is not None and len(item.vector) == len(vector) and _is_wanted(item.unit, where):
                found.append((id, float(item.vector @ vector)))
        return sorted(found, key=lambda hit: -hit[1])[:k]


def _is_wanted(unit: UnitRecord, where: Where) -> bool:
    return (
        (where.roots is None or unit.root in where.roots)
        and (where.languages is None or unit.language in where.languages)
        and (where.kinds is None or unit.unit.kind in where.kinds)
        and (where.keep is None or where.keep(unit.id))
    )
