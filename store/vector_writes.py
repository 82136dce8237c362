"""What a transaction writes of vectors: the cache, what is attached to units, and the editions that both belong to.

Also owns what a transaction has changed so far (`delta`, the counters), since every write has to note it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codegraphd.store import codec, compress, editions, vectors
from codegraphd.store.journal import Delta
from codegraphd.store.records import UnitRecord, UnitState
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import U64, Tables

ATTACHED = 3  # place of the counter of vectors in slot 0; behind it that of slot 1


class VectorWrites(Snapshot):
    """The base of `Transaction`."""

    def __init__(self, txn: Any, tables: Tables, budget: vectors.Budget, precision: str) -> None:
        super().__init__(txn, tables)
        self.clock += 1
        self.delta = Delta()
        self.is_dirty = False
        self.n_evicted = 0  # vectors that the cache let go
        self._budget, self._precision = budget, precision
        self._counts: dict[int, list[int]] = {}
        self._stages: dict[int, int] = {}
        self._used: list[bytes] = []  # names of cached vectors that were read

    # --- vectors -----------------------------------------------------------------------------------------------------

    def has_vector(self, model: bytes, key: bytes) -> bool:
        """As a snapshot's; what is asked for here counts as used."""
        found = super().has_vector(model, key)
        if found:
            self._used.append(model + key)
        return found

    def vector(self, model: bytes, key: bytes) -> compress.Vector | None:
        """As a snapshot's; what is read here counts as used."""
        found = super().vector(model, key)
        if found is not None:
            self._used.append(model + key)
        return found

    def put_vector(self, model: bytes, key: bytes, vector: compress.Vector) -> None:
        """Keep a vector of float32[dim] in the cache, at full width; the least recently used ones make room."""
        self.n_evicted += vectors.write(self._txn, self._t, model + key, vector, self._budget)
        self.is_dirty = True

    def evict(self, limit: int = 5_000) -> int:
        """Drop cached vectors over the budget or over their time, oldest first. Returns how many went."""
        n_gone = vectors.evict(self._txn, self._t, self._budget, limit)
        self.n_evicted += n_gone
        self.is_dirty |= n_gone > 0
        return n_gone

    def drop_vectors(
        self, is_unused: Callable[[bytes, bytes], bool], after: int = 0, limit: int = 5_000
    ) -> tuple[int, int | None]:
        """Drop cached vectors for which `is_unused(model, key)`: (dropped, `after` of the next slice; None: done)."""
        n_gone, row = vectors.drop(self._txn, self._t, is_unused, after, limit)
        self.n_evicted += n_gone
        self.is_dirty |= n_gone > 0
        return n_gone, row

    def attach(self, id: int, vector: compress.Vector | None, edition: int | None = None) -> None:
        """Set the vector of a unit (None: none), float32[dim] of unit length, stored as a code: in the edition that
        answers, or in another; nothing in one that is over."""
        key = U64.pack(id)
        unit = self.unit(id)
        if unit is None:
            raise KeyError(f"a vector for unit {id}, which is not stored")
        slot = self._slot(edition)
        if slot is None:
            return
        if self.delta.editions is not None:
            raise RuntimeError("vectors are attached in one commit and editions changed in another")
        table = self._t.slots[slot][1]
        before = self._txn.get(key, db=table)
        code = compress.encode(vector, self._precision) if vector is not None else None
        if before == code:
            return
        self._replace(table, key, code)
        self._count(unit.root, ATTACHED + slot, (code is not None) - (before is not None))
        self._vectors_of(edition)[id] = (unit, code) if code is not None else None

    def _vectors_of(self, edition: int | None) -> dict[int, tuple[UnitRecord, bytes] | None]:
        return self.delta.vectors if edition in (None, self.editions.answering) else self.delta.coming

    def put_state(self, id: int, state: UnitState, edition: int | None = None) -> None:
        """In the edition that answers, or in another; nothing in one that is over."""
        slot = self._slot(edition)
        if slot is not None:
            self._put(self._t.slots[slot][0], U64.pack(id), codec.encode_state(state))

    # --- editions ----------------------------------------------------------------------------------------------------

    def begin_edition(self) -> int:
        """An edition to come, in the slot that is not in use and was cleared. Returns its number."""
        if not editions.is_empty(self._txn, self._t, 1 - self.editions.slot):
            raise ValueError("the slot of a former edition is not cleared yet")
        self._put_editions(self.editions.begun())
        return self.editions.coming

    def switch_edition(self) -> None:
        """The edition to come answers from this commit on; what the former one left is to be cleared."""
        self._put_editions(self.editions.switched())

    def give_up_edition(self) -> None:
        """The edition to come will not come; what it left is to be cleared."""
        self._put_editions(self.editions.given_up())

    def clear_slot(self, stage: int, limit: int = 20_000) -> bool:
        """Empty the slot that is not in use and the work list `stage`, of which one call drops at most `limit`
        entries. True: both are empty."""
        if self.editions.coming:
            raise ValueError(f"edition {self.editions.coming} lies in that slot")
        if n_gone := editions.clear_list(self._txn, self._t, stage, limit):
            self._stages[stage] = self.n_queued(stage) - n_gone
            self.is_dirty = True
            if n_gone == limit:
                return False
        slot = 1 - self.editions.slot
        if not editions.is_empty(self._txn, self._t, slot):
            editions.clear(self._txn, self._t, slot)
            for root in self._all_roots():
                self._count(root.id, ATTACHED + slot, -self._all_counts(root.id)[ATTACHED + slot])
            self.is_dirty = True
        return True

    def _put_editions(self, row: editions.Editions) -> None:
        if self.delta.vectors or self.delta.coming:
            raise RuntimeError("vectors are attached in one commit and editions changed in another")
        self.editions = self.delta.editions = row
        editions.write(self._txn, self._t, row)
        self.is_dirty = True

    # --- counters and helpers ----------------------------------------------------------------------------------------

    def n_queued(self, stage: int) -> int:
        return self._stages[stage] if stage in self._stages else super().n_queued(stage)

    def _all_counts(self, root: int) -> tuple[int, int, int, int, int]:
        if root in self._counts:
            files, units, edges, first, second = self._counts[root]
            return files, units, edges, first, second
        return super()._all_counts(root)

    def _put(self, table: Any, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=table)
        self.is_dirty = True

    def _delete(self, table: Any, key: bytes) -> None:
        self._txn.delete(key, db=table)
        self.is_dirty = True

    def _replace(self, table: Any, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._delete(table, key)
        else:
            self._put(table, key, value)

    def _count(self, root: int, which: int, by: int) -> None:
        if root not in self._counts:
            self._counts[root] = list(super()._all_counts(root))
        self._counts[root][which] += by
