"""The write side: a snapshot that also changes things, and reads its own changes.

Owns that both directions of each relation agree after every call (names, paths, defines, waits, edges, mentions), that
the counters of a root are those of its rows, and the `Delta` from which the indexes follow. Made by `store.writer` for
one job; LMDB makes the whole of it true at once or not at all.

References may come in any order, but a unit's edges, mentions and vector are put after the unit itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from codegraphd.store import codec, journal, vectors
from codegraphd.store.records import (
    Edge,
    Facts,
    FileRecord,
    RootRecord,
    UnitChange,
    UnitRecord,
    Words,
)
from codegraphd.store.snapshot import _DROPPING
from codegraphd.store.tables import (
    ROOT,
    U64,
    Tables,
    bounded,
    digest_key,
    mention_key,
    queue_key,
    root_counter,
    stage_counter,
    text_bytes,
    text_key,
    wait_key,
)
from codegraphd.store.vector_writes import ATTACHED, VectorWrites

_FILES, _UNITS, _EDGES = range(3)
_SLICE = 500  # units that one call of delete_root drops at most
_KNOWN = 4_000  # units held decoded at once: some 4 MB
_NEXT_ID = b"next id"


class Transaction(VectorWrites):
    """Reads and writes of one commit. `clock` is the clock that the commit will have."""

    def __init__(self, txn: Any, tables: Tables, budget: vectors.Budget, precision: str = "int8") -> None:
        super().__init__(txn, tables, budget, precision)
        self._next_id = 0
        self._known: dict[int, UnitRecord] = {}  # units that were read or put: a step asks for each a few times
        self._reindex: set[int] = set()  # units whose words must go to the index again, read at the end

    def finish(self) -> bool:
        """Write counters, journal and clock; called once, by the writer. False: nothing was changed."""
        if not self.is_dirty:
            return False
        for name in self._used:
            vectors.touch(self._txn, self._t, name)
        for id_ in self._reindex - self.delta.words.keys():
            unit, words = self.unit(id_), self.words(id_)
            if unit is not None and words is not None:
                self.delta.words[id_] = (unit, words)
        for root, counts in self._counts.items():
            if any(counts):
                self._txn.put(root_counter(root), codec.encode_counts(counts), db=self._t.counts)
            else:
                self._txn.delete(root_counter(root), db=self._t.counts)
        for stage, count in self._stages.items():
            self._txn.put(stage_counter(stage), U64.pack(count), db=self._t.counts)
        if self._next_id:
            self._txn.put(_NEXT_ID, U64.pack(self._next_id), db=self._t.meta)
        journal.append(self._txn, self._t, self.clock, self.delta)
        self._txn.put(b"clock", U64.pack(self.clock), db=self._t.meta)
        return True

    # --- roots and ids -----------------------------------------------------------------------------------------------

    def new_id(self) -> int:
        """An id that no file or unit ever had, from 1 on. Roots may take theirs here too."""
        if not self._next_id:
            raw = self._txn.get(_NEXT_ID, db=self._t.meta)
            self._next_id = U64.unpack(raw)[0] if raw else 1
        self.is_dirty = True
        self._next_id += 1
        return self._next_id - 1

    def put_root(self, root: RootRecord) -> None:
        self._put(self._t.roots, ROOT.pack(root.id), text_bytes(root.path))

    def delete_root(self, id: int, limit: int = _SLICE) -> bool:
        """Drop a root and all below it, at most about `limit` units in this call. True: it is gone altogether.

        From the first call on `roots` leaves it out; `dropping` names it until it is gone, restarts included.
        """
        self._set_dropping(self.dropping() | {id})
        n_units = 0
        while n_units < limit:
            file = next(self.files(id), None)
            if file is None:
                break
            n_left = limit - n_units
            for unit_id in file.units[:n_left]:
                self.delete_unit(unit_id)
            n_units += max(1, min(len(file.units), n_left))
            if len(file.units) > n_left:
                self.put_file(dataclasses.replace(file, units=file.units[n_left:]))
            else:
                self.delete_file(file)
        else:
            return False
        self._set_dropping(self.dropping() - {id})
        self._delete(self._t.roots, ROOT.pack(id))
        return True

    def _set_dropping(self, ids: frozenset[int]) -> None:
        self._put(self._t.meta, _DROPPING, b"".join(ROOT.pack(id_) for id_ in sorted(ids)))

    # --- files -------------------------------------------------------------------------------------------------------

    def put_file(self, file: FileRecord) -> None:
        """Put or replace the file of this id; a changed path moves it, also where two files swap theirs."""
        key, raw = U64.pack(file.id), codec.encode_file(file)
        before = self._txn.get(key, db=self._t.files)
        if before == raw:
            return
        if before is None:
            self._count(file.root, _FILES, 1)
        elif (old := codec.decode_file(before)).path != file.path:
            self._drop_path(old)
        self._put(self._t.files, key, raw)
        self._put(self._t.paths, text_key(file.root, file.path), codec.encode_path(file))

    def delete_file(self, file: FileRecord) -> set[tuple[bytes, int]]:
        """Drop the file with its facts, waits, defines and queue entries, not its units. Returns as `set_defines`."""
        key = U64.pack(file.id)
        before = self._txn.get(key, db=self._t.files)
        if before is None:
            return set()
        old = codec.decode_file(before)
        touched = self.set_defines(old.root, old.id, ())
        self.set_waits(old.root, old.id, ())
        self._drop_path(old)
        self._delete(self._t.facts, key)
        self._delete(self._t.outlines, key)
        self._delete(self._t.files, key)
        self._dequeue_all(old.id)
        self._count(old.root, _FILES, -1)
        return touched

    def _drop_path(self, file: FileRecord) -> None:
        key = text_key(file.root, file.path)
        raw = self._txn.get(key, db=self._t.paths)
        if raw is not None and codec.path_file(raw) == file.id:  # another file may have taken the path meanwhile
            self._delete(self._t.paths, key)

    def put_facts(self, file_id: int, facts: Facts) -> None:
        self.put_facts_row(file_id, codec.encode_facts(facts), b"")

    def put_facts_row(self, file_id: int, row: bytes, outline: bytes) -> None:
        """The facts as `codec` has them, and the digest of what resolution reads of the file itself; b"": not known."""
        key = U64.pack(file_id)
        if self._txn.get(key, db=self._t.facts) != row:
            self._put(self._t.facts, key, row)
        if self.outline(file_id) != outline:
            self._replace(self._t.outlines, key, outline or None)

    def set_defines(self, root: int, file_id: int, pairs: Iterable[tuple[bytes, int]]) -> set[tuple[bytes, int]]:
        """Replace what a file defines. Returns the pairs that came or went."""
        row, table = U64.pack(file_id), self._t.defines
        before_raw = self._txn.get(row, db=self._t.defined)
        before = set(codec.decode_pairs(before_raw)) if before_raw is not None else set()
        after = set(pairs)
        if before == after:
            return set()
        tail = file_id.to_bytes(8, "big")
        if gone := before - after:
            old_root = codec.relation_root(before_raw)
            for key, id_ in gone:
                self._txn.delete(digest_key(old_root, key), id_.to_bytes(8, "big") + tail, db=table)
        for key, id_ in sorted(after - before):
            self._txn.put(digest_key(root, key), id_.to_bytes(8, "big") + tail, db=table)
        self._replace(self._t.defined, row, codec.encode_pairs(root, sorted(after)) if after else None)
        return before ^ after

    def set_waits(self, root: int, file_id: int, keys: Iterable[bytes]) -> None:
        """Replace the keys that a file's resolution tried."""
        row, table = U64.pack(file_id), self._t.waits
        before_raw = self._txn.get(row, db=self._t.tried)
        before = set(codec.decode_keys(before_raw)) if before_raw is not None else set()
        after = set(keys)
        if before == after:
            return
        if gone := before - after:
            old_root = codec.relation_root(before_raw)
            for key in gone:
                self._txn.delete(wait_key(old_root, key), row, db=table)
        for key in sorted(after - before):
            self._txn.put(wait_key(root, key), row, db=table)
        self._replace(self._t.tried, row, codec.encode_keys(root, sorted(after)) if after else None)

    # --- units -------------------------------------------------------------------------------------------------------

    def unit(self, id: int) -> UnitRecord | None:
        unit = self._known.get(id)
        if unit is None and (unit := super().unit(id)) is not None:
            self._know(unit)
        return unit

    def _know(self, unit: UnitRecord) -> None:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[unit.id] = unit

    def put_unit(self, unit: UnitRecord) -> None:
        """Put or replace the unit of this id."""
        key, raw = U64.pack(unit.id), codec.encode_unit(unit)
        before = self._txn.get(key, db=self._t.units)
        if before == raw:
            return
        head = codec.unit_head(raw)
        self._put(self._t.units, key, raw)
        self._know(unit)
        if before is None:
            self.delta.deleted.discard(unit.id)
            self._count(unit.root, _UNITS, 1)
            self._txn.put(ROOT.pack(head.root) + bounded(head.name), key, db=self._t.names)
            return
        old = codec.unit_head(before)
        if old.root != head.root:
            raise ValueError(f"unit {unit.id} of root {old.root} cannot move to root {head.root}")
        if old.name != head.name:
            self._txn.delete(ROOT.pack(old.root) + bounded(old.name), key, db=self._t.names)
            self._txn.put(ROOT.pack(head.root) + bounded(head.name), key, db=self._t.names)
        if unit.id in self.delta.words:
            self.delta.words[unit.id] = (unit, self.delta.words[unit.id][1])
        if old.prefix == head.prefix:
            return
        self._reindex.add(unit.id)
        if (old.kind, old.language) != (head.kind, head.language):
            for edition in (self.editions.answering, self.editions.coming):
                if (code := self.attached_code(unit.id, edition)) is not None:
                    self._vectors_of(edition)[unit.id] = (unit, code)

    def delete_unit(self, id: int) -> None:
        """Drop the unit with its words, edges both ways, mentions, state, vector and queue entries."""
        key = U64.pack(id)
        raw = self._txn.get(key, db=self._t.units)
        if raw is None:
            return
        head = codec.unit_head(raw)
        self.set_edges(id, ())
        for source in {int.from_bytes(row[:8], "big") for row in self._duplicates(self._t.redges, key)}:
            self.set_edges(source, [edge for edge in self.edges_out(source) if edge.target != id])
        self.set_mentions(head.root, id, ())
        for slot, (states, attached) in enumerate(self._t.slots):
            self._delete(states, key)
            if self._txn.delete(key, db=attached):
                self._count(head.root, ATTACHED + slot, -1)
        self._txn.delete(ROOT.pack(head.root) + bounded(head.name), key, db=self._t.names)
        for table in (self._t.units, self._t.words):
            self._delete(table, key)
        self._dequeue_all(id)
        self._count(head.root, _UNITS, -1)
        self._reindex.discard(id)
        self._known.pop(id, None)
        self.delta.words.pop(id, None)
        self.delta.vectors.pop(id, None)
        self.delta.coming.pop(id, None)
        self.delta.deleted.add(id)

    def put_words(self, id: int, words: Words) -> None:
        """What the word index reads of a unit that is already put."""
        self.put_words_row(id, codec.encode_words(words))

    def put_words_row(self, id: int, row: bytes) -> None:
        """The same as `codec` has it."""
        key = U64.pack(id)
        if self._txn.get(key, db=self._t.words) == row:
            return
        self._put(self._t.words, key, row)
        unit = self.unit(id)
        if unit is None:
            raise KeyError(f"words for unit {id}, which is not stored")
        self.delta.words[id] = (unit, codec.decode_words(row))

    def set_edges(self, id: int, edges: Sequence[Edge]) -> bool:
        """Replace what a unit depends on; equal edges count once. True when they differ from before."""
        key = U64.pack(id)
        before = self._txn.get(key, db=self._t.edges) or b""
        after = codec.encode_edges(sorted(set(edges))) if edges else b""
        if before == after:
            return False
        old, new = codec.reverse_edges(id, before), codec.reverse_edges(id, after)
        for target, row in old - new:
            self._txn.delete(U64.pack(target), row, db=self._t.redges)
        for target, row in sorted(new - old):
            self._txn.put(U64.pack(target), row, db=self._t.redges)
        self._replace(self._t.edges, key, after or None)
        self._count(self._root_of_unit(id), _EDGES, codec.n_edges(after) - codec.n_edges(before))
        return True

    def set_mentions(self, root: int, id: int, mentions: Iterable[tuple[str, str, str]]) -> None:
        """Replace a unit's (family, name, kind) references that are left to be matched by name."""
        key, table = U64.pack(id), self._t.mentions
        before_raw = self._txn.get(key, db=self._t.mentioned)
        after = sorted(set(mentions))
        after_raw = codec.encode_mentions(root, after) if after else None
        if before_raw == after_raw:
            return
        before = codec.decode_mentions(before_raw) if before_raw is not None else ()
        old, new = {(f, n) for f, n, _ in before}, {(f, n) for f, n, _ in after}
        for family, name in old - new:
            self._txn.delete(mention_key(codec.relation_root(before_raw), family, name), key, db=table)
        for family, name in sorted(new - old):
            self._txn.put(mention_key(root, family, name), key, db=table)
        self._replace(self._t.mentioned, key, after_raw)

    # --- work lists, journal, meta -----------------------------------------------------------------------------------

    def enqueue(self, stage: int, id: int, payload: bytes = b"") -> None:
        """Put or replace the entry of `id` in the work list of a stage (0 to 255)."""
        key = queue_key(stage, id)
        if self._txn.get(key, db=self._t.queue) is None:
            self._stages[stage] = self.n_queued(stage) + 1
        self._put(self._t.queue, key, payload)

    def dequeue(self, stage: int, id: int) -> None:
        if self._txn.delete(queue_key(stage, id), db=self._t.queue):
            self._stages[stage] = self.n_queued(stage) - 1
            self.is_dirty = True

    def _dequeue_all(self, id: int) -> None:
        with self._txn.cursor(self._t.counts) as cursor:
            stages = [key[1] for key, _ in cursor.iternext() if key[:1] == b"q"] if cursor.set_range(b"q") else []
        for stage in {*stages, *self._stages}:
            if self.n_queued(stage):
                self.dequeue(stage, id)

    def journal(self, changes: Sequence[UnitChange]) -> None:
        """Note what `changes` will answer for this clock."""
        self.delta.changes.extend(changes)
        self.is_dirty |= bool(changes)

    def put_meta(self, key: str, value: bytes) -> None:
        self._put(self._t.meta, b"u:" + text_bytes(key), value)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _root_of_unit(self, id: int) -> int:
        raw = self._txn.get(U64.pack(id), db=self._t.units)
        if raw is None:
            raise KeyError(f"edges of unit {id}, which is not stored")
        return codec.unit_root(raw)
