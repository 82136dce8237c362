"""The read side: every question that can be asked of the store at one clock.

A `Snapshot` stands on one LMDB transaction. What is not there is None or an empty tuple, never an error. It may be made
and used in any thread, by one thread at a time, and is to be held for the length of one question.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codegraphd.store import codec, compress, editions, journal, vectors
from codegraphd.store.errors import SnapshotExpired
from codegraphd.store.records import (
    Edge,
    Facts,
    FileRecord,
    RootRecord,
    Stat,
    UnitChange,
    UnitRecord,
    UnitState,
    Words,
)
from codegraphd.store.tables import (
    ROOT,
    TEXT_BYTES,
    U64,
    Tables,
    digest_key,
    is_cut,
    mention_key,
    queue_key,
    root_counter,
    stage_counter,
    text_bytes,
    text_key,
    text_of,
    wait_key,
)

_DROPPING = b"dropping"


class _Ended:
    """Stands in for the transaction of a snapshot that was held for too long."""

    def __getattr__(self, name: str) -> Any:
        raise SnapshotExpired("the snapshot was held for too long; take a new one")


class Snapshot:
    """All reads, at one clock."""

    def __init__(self, txn: Any, tables: Tables) -> None:
        self._txn = txn
        self._t = tables
        raw = txn.get(b"clock", db=tables.meta)
        self.clock: int = U64.unpack(raw)[0] if raw else 0
        self.editions = editions.read(txn, tables)

    def expire(self) -> Any:
        """Let no further call reach the transaction. Returns it to whoever ends it; None: it was expired before."""
        txn, self._txn = self._txn, _Ended()
        return None if isinstance(txn, _Ended) else txn

    @property
    def store_id(self) -> str:
        """Names the store: a cache that was built from another one is of no use."""
        raw = self._txn.get(b"store id", db=self._t.meta)
        return raw.decode("ascii") if raw is not None else ""

    # --- roots and files ---------------------------------------------------------------------------------------------

    def roots(self) -> tuple[RootRecord, ...]:
        """Watched roots in order of their ids, without those that are being dropped."""
        dropping = self.dropping()
        return tuple(root for root in self._all_roots() if root.id not in dropping)

    def dropping(self) -> frozenset[int]:
        """Roots whose removal was begun and has not ended: call `delete_root` again until it says True."""
        raw = self._txn.get(_DROPPING, db=self._t.meta)
        return frozenset(ROOT.unpack_from(raw, at)[0] for at in range(0, len(raw), 4)) if raw else frozenset()

    def root(self, id: int) -> RootRecord | None:
        raw = self._txn.get(ROOT.pack(id), db=self._t.roots)
        return RootRecord(id, text_of(raw)) if raw is not None else None

    def root_of(self, path: str) -> RootRecord | None:
        """The root that stands at exactly this absolute path."""
        return next((root for root in self.roots() if root.path == path), None)

    def file(self, root: int, path: str) -> FileRecord | None:
        raw = self._txn.get(text_key(root, path), db=self._t.paths)
        return self.file_by_id(codec.path_file(raw)) if raw is not None else None

    def file_by_id(self, id: int) -> FileRecord | None:
        raw = self._txn.get(U64.pack(id), db=self._t.files)
        return codec.decode_file(raw) if raw is not None else None

    def files(self, root: int, prefix: str = "") -> Iterator[FileRecord]:
        """Files whose path begins with `prefix`, in path order."""
        for key, raw in self._texts(self._t.paths, root, prefix):
            file = self.file_by_id(codec.path_file(raw))
            if file is not None and (len(key) <= TEXT_BYTES or file.path.startswith(prefix)):
                yield file

    def stats(self, root: int) -> Iterator[tuple[str, Stat, str]]:
        """(path, stat, why skipped) of every file, without decoding the files: what start-up compares."""
        for key, raw in self._texts(self._t.paths, root, ""):
            file_id, stat, skipped = codec.decode_path(raw)
            if len(key) <= TEXT_BYTES:
                yield text_of(key), stat, skipped
            elif (file := self.file_by_id(file_id)) is not None:
                yield file.path, stat, skipped

    # --- units -------------------------------------------------------------------------------------------------------

    def unit(self, id: int) -> UnitRecord | None:
        raw = self._txn.get(U64.pack(id), db=self._t.units)
        return codec.decode_unit(id, raw) if raw is not None else None

    def unit_head(self, id: int) -> codec.UnitHead | None:
        """What the indexes filter by, at a tenth of the cost of `unit`."""
        raw = self._txn.get(U64.pack(id), db=self._t.units)
        return codec.unit_head(raw) if raw is not None else None

    def units(self, root: int) -> Iterator[UnitRecord]:
        """Units of a root in order of path, then of place in the file."""
        for file in self.files(root):
            yield from self.units_of(file)

    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]:
        """In the order of `Module.units`; units that are not stored (yet) are left out."""
        found = [self.unit(id_) for id_ in file.units]
        return tuple([unit for unit in found if unit is not None])

    def named(self, root: int, name: str) -> tuple[int, ...]:
        """Ids of units with this `Unit.name`, ascending."""
        return self._ids(self._t.names, text_key(root, name))

    def names(self, root: int, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(name, unit id), in order of name, of the units whose name begins with `prefix`."""
        for key, raw in self._texts(self._t.names, root, prefix):
            (id_,) = U64.unpack(raw)
            if len(key) <= TEXT_BYTES:
                yield text_of(key), id_
            elif (head := self.unit_head(id_)) is not None and (name := text_of(head.name)).startswith(prefix):
                yield name, id_

    def unit_ids(self, after: int, limit: int) -> list[int]:
        """Ids of units above `after`, ascending."""
        found: list[int] = []
        with self._txn.cursor(self._t.units) as cursor:
            exists = cursor.set_range(U64.pack(after + 1))
            while exists and len(found) < limit:
                found.append(U64.unpack(cursor.key())[0])
                exists = cursor.next()
        return found

    def state(self, id: int, edition: int | None = None) -> UnitState | None:
        """Of the edition that answers, or of another; None in one that is over."""
        slot = self._slot(edition)
        raw = self._txn.get(U64.pack(id), db=self._t.slots[slot][0]) if slot is not None else None
        return codec.decode_state(raw) if raw is not None else None

    def words(self, id: int) -> Words | None:
        raw = self._txn.get(U64.pack(id), db=self._t.words)
        return codec.decode_words(raw) if raw is not None else None

    def all_words(self) -> Iterator[tuple[int, codec.UnitHead, Words]]:
        """(unit id, head, words) of every unit that has words, by id: for building the word index."""
        with self._txn.cursor(self._t.words) as cursor:
            for key, raw in self._walk(cursor):
                unit = self._txn.get(key, db=self._t.units)
                if unit is not None:
                    yield U64.unpack(key)[0], codec.unit_head(unit), codec.decode_words(raw)

    # --- resolution and graph ----------------------------------------------------------------------------------------

    def facts(self, file_id: int) -> Facts | None:
        raw = self._txn.get(U64.pack(file_id), db=self._t.facts)
        return codec.decode_facts(raw) if raw is not None else None

    def package(self, file_id: int) -> str:
        """`Facts.package` alone, at a twentieth of the cost of all."""
        raw = self._txn.get(U64.pack(file_id), db=self._t.facts)
        return codec.decode_package(raw) if raw is not None else ""

    def outline(self, file_id: int) -> bytes:
        """Digest of what resolution read of the file itself; b"": not known."""
        return self._txn.get(U64.pack(file_id), db=self._t.outlines) or b""

    def lookup(self, root: int, key: bytes) -> tuple[int, ...]:
        """What defines a resolution key: ids of files or units, ascending."""
        found = self._duplicates(self._t.defines, digest_key(root, key))
        return tuple(sorted({int.from_bytes(raw[:8], "big") for raw in found}))

    def waiting(self, root: int, key: bytes) -> tuple[int, ...]:
        """Ids of the files whose resolution tried this key, ascending."""
        return self._ids(self._t.waits, wait_key(root, key))

    def keys_of(self, file_id: int) -> frozenset[bytes]:
        """The keys that this file waits on."""
        raw = self._txn.get(U64.pack(file_id), db=self._t.tried)
        return frozenset(codec.decode_keys(raw)) if raw is not None else frozenset()

    def defines(self, file_id: int) -> tuple[tuple[bytes, int], ...]:
        """The (key, id) pairs that this file defines, sorted."""
        raw = self._txn.get(U64.pack(file_id), db=self._t.defined)
        return tuple(codec.decode_pairs(raw)) if raw is not None else ()

    def edges_out(self, id: int) -> tuple[Edge, ...]:
        """Sorted by target, kind, strength, order."""
        raw = self._txn.get(U64.pack(id), db=self._t.edges)
        return codec.decode_edges(raw) if raw is not None else ()

    def edges_in(self, id: int) -> tuple[tuple[int, str, int], ...]:
        """(source, kind, strength), in order of source."""
        return tuple([codec.decode_source(raw) for raw in self._duplicates(self._t.redges, U64.pack(id))])

    def mentions(self, root: int, family: str, name: str) -> tuple[int, ...]:
        """Ids of units that hold an unresolved reference of this name, ascending."""
        return self._ids(self._t.mentions, mention_key(root, family, name))

    def mentioned_by(self, id: int) -> tuple[tuple[str, str, str], ...]:
        """(family, name, kind) of the unit's unresolved references, sorted."""
        raw = self._txn.get(U64.pack(id), db=self._t.mentioned)
        return codec.decode_mentions(raw) if raw is not None else ()

    # --- vectors -----------------------------------------------------------------------------------------------------

    @property
    def edition(self) -> int:
        """Number of the edition that answers."""
        return self.editions.answering

    def slot_of(self, edition: int) -> int | None:
        """0 or 1; None for an edition that is over."""
        return self.editions.slot_of(edition)

    def has_vector(self, model: bytes, key: bytes) -> bool:
        return self._txn.get(model + key, db=self._t.vectors) is not None

    def vector(self, model: bytes, key: bytes) -> compress.Vector | None:
        """float32[dim], of unit length, from the embedding cache."""
        return vectors.read(self._txn, self._t, model + key)

    def attached(self, id: int, edition: int | None = None) -> compress.Vector | None:
        """float32[dim], of unit length: the vector that answers for the unit, as its code has it."""
        raw = self.attached_code(id, edition)
        return compress.decode(raw) if raw is not None else None

    def attached_code(self, id: int, edition: int | None = None) -> bytes | None:
        slot = self._slot(edition)
        code: bytes | None = self._txn.get(U64.pack(id), db=self._t.slots[slot][1]) if slot is not None else None
        return code

    def attached_codes(self, edition: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(unit id, code) of every unit that has a vector, by id."""
        slot = self._slot(edition)
        if slot is None:
            return
        with self._txn.cursor(self._t.slots[slot][1]) as cursor:
            for key, code in self._walk(cursor):
                yield U64.unpack(key)[0], code

    # --- work lists, journal, figures --------------------------------------------------------------------------------

    def queued(self, stage: int, limit: int | None = None) -> list[tuple[int, bytes]]:
        """(id, payload) of a durable work list, 0 <= stage <= 255, in order of id."""
        found: list[tuple[int, bytes]] = []
        with self._txn.cursor(self._t.queue) as cursor:
            exists = cursor.set_range(queue_key(stage, 0))
            while exists and (key := cursor.key())[0] == stage and (limit is None or len(found) < limit):
                found.append((int.from_bytes(key[1:], "big"), cursor.value()))
                exists = cursor.next()
        return found

    def n_queued(self, stage: int) -> int:
        raw = self._txn.get(stage_counter(stage), db=self._t.counts)
        return U64.unpack(raw)[0] if raw is not None else 0

    def changes(self, root: int | None, since: int) -> list[tuple[int, UnitChange]] | None:
        """(clock, change) of the commits after `since`; None: the journal does not reach back that far."""
        return journal.changes(self._txn, self._t, self.clock, root, since)

    def touched(self, since: int) -> journal.Touched | None:
        """What an index that is valid for `since` has to look at; None: it must be built anew."""
        return journal.touched(self._txn, self._t, self.clock, since)

    def meta(self, key: str) -> bytes | None:
        raw: bytes | None = self._txn.get(b"u:" + text_bytes(key), db=self._t.meta)
        return raw

    def counts(self, root: int, edition: int | None = None) -> tuple[int, int, int, int]:
        """(files, units, edges, units with a vector) of a root: kept, not counted."""
        files, units, edges, *attached = self._all_counts(root)
        slot = self._slot(edition)
        return files, units, edges, attached[slot] if slot is not None else 0

    def _all_counts(self, root: int) -> tuple[int, int, int, int, int]:
        raw = self._txn.get(root_counter(root), db=self._t.counts)
        return codec.decode_counts(raw) if raw is not None else (0, 0, 0, 0, 0)

    def recipes_used(self) -> frozenset[bytes]:
        """Keys of every recipe part that a unit has or that answers for it: what a thorough clean-up must keep."""
        used: set[bytes] = set()
        for states, _ in self._t.slots:
            with self._txn.cursor(states) as cursor:
                for _, raw in self._walk(cursor):
                    state = codec.decode_state(raw)
                    for recipe in (state.recipe, state.attached):
                        if recipe is not None:
                            used |= {recipe.own, recipe.context}
        return frozenset(used)

    def cache_usage(self) -> vectors.Usage:
        """How many vectors the embedding cache holds, and their bytes."""
        return vectors.usage(self._txn, self._t)

    def check(self) -> list[str]:
        """What does not agree in the store, one sentence each; empty: all is well. Reads everything."""
        from codegraphd.store.check import check

        return check(self)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _slot(self, edition: int | None) -> int | None:
        return self.editions.slot if edition is None else self.editions.slot_of(edition)

    def _all_roots(self) -> list[RootRecord]:
        with self._txn.cursor(self._t.roots) as cursor:
            return [RootRecord(ROOT.unpack(key)[0], text_of(raw)) for key, raw in cursor.iternext()]

    def _walk(self, cursor: Any) -> Iterator[tuple[bytes, bytes]]:
        """The rest of a cursor, looking before each step whether the snapshot may go on."""
        txn = self._txn
        for pair in cursor.iternext():
            yield pair
            if self._txn is not txn:
                raise SnapshotExpired("the snapshot was held for too long; take a new one")

    def _duplicates(self, table: Any, key: bytes) -> list[bytes]:
        with self._txn.cursor(table) as cursor:
            return list(cursor.iternext_dup()) if cursor.set_key(key) else []

    def _ids(self, table: Any, key: bytes) -> tuple[int, ...]:
        unpack = U64.unpack
        return tuple([unpack(raw)[0] for raw in self._duplicates(table, key)])

    def _texts(self, table: Any, root: int, prefix: str) -> Iterator[tuple[bytes, bytes]]:
        """(text bytes of the key, value), in key order, of the keys that begin with as much of the prefix as fits."""
        raw_prefix = text_bytes(prefix)
        start = ROOT.pack(root) + raw_prefix[:TEXT_BYTES]
        deep = is_cut(raw_prefix)
        with self._txn.cursor(table) as cursor:
            if not cursor.set_range(start):
                return
            for key, value in self._walk(cursor):
                if not key.startswith(start):
                    return
                if not deep or len(key) > TEXT_BYTES + ROOT.size:
                    yield key[ROOT.size :], value
