"""The vector index: which units are near a vector, by cosine.

A cache of the store's attached codes: int8 rows in memory (`store.rows`), searched exactly or by signs first, and above
`graph_rows` an hnswlib graph over them (`store.hnsw`) for questions without a filter, as long as it fits into
`max_mb`. The rows take a change at once; the graph follows on a thread of its own, and what it does not know yet is
searched beside it. Every cosine that is answered is computed from the int8 row.

The rows are read from the store at start (0.1 s for 20,000); only the graph is kept in files.

While an edition is to come (`store.editions`), its rows gather beside those that answer, and take their place with the
commit that switches. A question may name the edition that its vector belongs to (`at`), and fails once another one
answers. The graph is of one edition and is built anew for the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from codegraphd.store import compress, hnsw
from codegraphd.store.compress import Vector
from codegraphd.store.editions import Editions
from codegraphd.store.errors import EditionChanged
from codegraphd.store.gate import Gate
from codegraphd.store.journal import Delta
from codegraphd.store.records import KINDS, LANGUAGES, UnitRecord, Where
from codegraphd.store.rows import HAMMING_ROWS, RowTable
from codegraphd.store.snapshot import Snapshot

GRAPH_ROWS: Final = 50_000
SAVE_QUIET_S: Final = 60.0
_SLICE = 256  # rows that the graph takes at once: 20 to 60 ms in which questions are answered without it
_SAVE_SHARE = 0.02  # of changes since the last save: fewer are caught up from the journal
_READ_ROWS = 4_096  # that are held twice while they are read
_EVERYWHERE = Where()
_LANGUAGE_CODE = {language: code for code, language in enumerate(LANGUAGES)}
_KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}

log = logging.getLogger(__name__)


class VectorIndex:
    """Thread-safe. `apply` is for the writer's thread, questions for any."""

    def __init__(
        self,
        directory: str,
        *,
        max_mb: int = 256,
        graph_rows: int = GRAPH_ROWS,
        hamming_rows: int = HAMMING_ROWS,
        behind: bool = True,
    ) -> None:
        """`max_mb`: what the graph may take in memory, 0: none; it serves from `graph_rows` rows on.

        `behind`: the graph follows on a thread of its own; else only `settle` brings it up.
        """
        self.directory = directory
        self.max_mb = max_mb
        self.is_ready = False
        self._graph_rows, self._hamming_rows, self._behind = graph_rows, hamming_rows, behind
        self._tables: dict[int, RowTable] = {}  # by dimensions, of the edition that answers
        self._coming: dict[int, RowTable] = {}  # of the edition to come
        self._editions = Editions()
        self._gate = Gate()
        self._clock = 0
        self._store_id = ""
        self._heard: list[tuple[int, Delta]] = []  # before the rows were read
        self._graph: hnsw.Graph | None = None  # over the largest table
        self._graph_lock = threading.Lock()  # held by whoever changes the graph
        self._waiting: dict[int, object] = {}  # unit -> token of its last change, not in the graph yet
        self._n_unsaved = 0
        self._changed_at = 0.0
        self._wake = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def open_or_rebuild(self, snapshot: Snapshot) -> None:
        """Read all rows from the store and the graph from its file, if that can be trusted.

        To be called before the writer's next commit, or with `apply` listening before the snapshot is taken.
        """
        self._store_id = snapshot.store_id
        loaded = _read(snapshot, self._hamming_rows, snapshot.edition)
        coming = _read(snapshot, self._hamming_rows, snapshot.editions.coming)
        with self._gate.writing():
            self._tables, self._coming, self._editions = loaded, coming, snapshot.editions
            self._clock = snapshot.clock
            self._waiting.clear()
            for clock, delta in self._heard:
                if clock > snapshot.clock:  # else the snapshot has it
                    self._take(clock, delta)
            self._heard.clear()
            for table in (*self._tables.values(), *self._coming.values()):
                table.sharpen()
            self.is_ready = True
        self._open_graph(snapshot)
        if self._behind and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="vectors-graph", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread and save the graph where it changed enough."""
        with self._wake:
            self._is_closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.save()

    def apply(self, clock: int, delta: Delta) -> None:
        """Take a commit of the store: what it changed is in every answer from now on."""
        with self._gate.writing():
            if not self.is_ready:
                self._heard.append((clock, delta))
                return
            self._take(clock, delta)
            self._changed_at = time.monotonic()
            for table in (*self._tables.values(), *self._coming.values()):
                table.sharpen()
        if self._waiting or delta.editions is not None:
            with self._wake:
                self._wake.notify_all()

    def _take(self, clock: int, delta: Delta) -> None:
        self._clock = max(self._clock, clock)
        for id_ in delta.deleted | {id_ for id_, found in delta.vectors.items() if found is None}:
            if _delete(self._tables, id_):
                self._waiting[id_] = object()
        for id_ in delta.deleted | {id_ for id_, found in delta.coming.items() if found is None}:
            _delete(self._coming, id_)
        for tables, put in ((self._tables, delta.vectors), (self._coming, delta.coming)):
            for id_, found in put.items():
                if found is not None:
                    self._put(tables, id_, *found)
                    if tables is self._tables:
                        self._waiting[id_] = object()
        if delta.editions is not None:
            self._change(delta.editions)

    def _put(self, tables: dict[int, RowTable], id_: int, unit: UnitRecord, code: bytes) -> None:
        dim = compress.dimensions(code)
        for other, table in tables.items():
            if other != dim:
                table.delete(id_)
        if dim not in tables:
            tables[dim] = RowTable(dim, hamming_rows=self._hamming_rows)
        language, kind = _LANGUAGE_CODE[unit.language], _KIND_CODE[unit.unit.kind]
        tables[dim].put(id_, unit.root, language, kind, compress.int8_row(code))

    def _change(self, editions: Editions) -> None:
        """One edition began, ended, or took the place of the other."""
        if editions.answering != self._editions.answering:
            self._tables = self._coming if editions.answering == self._editions.coming else {}
            self._graph, self._n_unsaved = None, 0
            self._waiting.clear()
        if editions.coming != self._editions.coming:
            self._coming = {}
        self._editions = editions

    # --- questions ---------------------------------------------------------------------------------------------------

    def at(self, edition: int) -> EditionIndex:
        """The index for a question of one edition."""
        return EditionIndex(self, edition)

    def _check(self, edition: int | None) -> None:
        if edition is not None and edition != self._editions.answering:
            raise EditionChanged(f"edition {self._editions.answering} answers, not {edition}")

    def nearest(
        self, vector: Vector, k: int, where: Where = _EVERYWHERE, edition: int | None = None
    ) -> list[tuple[int, float]]:
        """(unit id, cosine) of the `k` units nearest to float32[dim], nearest first. No units of that dim: empty.

        Raises EditionChanged where another one than `edition` answers.
        """
        question = _unit_length(vector)
        with self._gate.reading():
            self._check(edition)
            table = self._tables.get(len(question))
            if table is None or not len(table) or k <= 0:
                return []
            if where == _EVERYWHERE and (found := self._nearest_by_graph(table, question, k)) is not None:
                return found
            return table.nearest(question, min(k, len(table)), where)

    def within(
        self, vector: Vector, threshold: float, where: Where = _EVERYWHERE, edition: int | None = None
    ) -> list[tuple[int, float]]:
        """(unit id, cosine) of every unit with cosine >= `threshold`, nearest first; exact at every size.

        Raises EditionChanged where another one than `edition` answers.
        """
        question = _unit_length(vector)
        with self._gate.reading():
            self._check(edition)
            table = self._tables.get(len(question))
            return table.within(question, threshold, where) if table is not None and len(table) else []

    def vector(self, id: int) -> Vector | None:
        """float32[dim], of unit length, of a unit; None without one."""
        with self._gate.reading():
            for table in self._tables.values():
                if (found := table.vector(id)) is not None:
                    return found
        return None

    def _nearest_by_graph(self, table: RowTable, question: Vector, k: int) -> list[tuple[int, float]] | None:
        graph = self._graph
        waiting = list(self._waiting)
        if graph is None or graph.dim != table.dim or len(table) < self._graph_rows:
            return None
        if len(waiting) > len(table) // 8:  # still being built, or far behind: the scan is as fast
            return None
        ids = graph.nearest(question, k + min(len(waiting), k))
        if ids is None:
            return None
        hidden = set(waiting)
        rows = table.rows_of([id_ for id_ in ids if id_ not in hidden] + waiting)
        return table.best(rows, table.cosines(question, rows), min(k, len(table)), _EVERYWHERE)

    def statistics(self) -> dict[str, Any]:
        """`kind`: what answers an unfiltered question: "hnsw", "signs" or "exact"."""
        with self._gate.reading():
            main = self._main()
            graph = self._graph
            coming = sum(table.n_bytes() for table in self._coming.values())
            n_rows = len(main) if main is not None else 0
            uses_graph = graph is not None and n_rows >= self._graph_rows and len(self._waiting) <= n_rows // 8
            return {
                "kind": "hnsw" if uses_graph else "signs" if main is not None and main.has_signs else "exact",
                "elements": sum(len(table) for table in self._tables.values()),
                "deleted": graph.n_deleted if graph is not None else 0,
                "bytes": coming
                + sum(table.n_bytes() for table in self._tables.values())
                + (graph.n_bytes() if graph is not None else 0),
                "dim": main.dim if main is not None else 0,
                "waiting": len(self._waiting) if graph is not None else 0,
                "clock": self._clock,
                "ready": self.is_ready,
            }

    # --- the graph, behind -------------------------------------------------------------------------------------------

    def set_max_mb(self, max_mb: int) -> None:
        """Change what the graph may take: over it, the graph is dropped; rows answer alone."""
        self.max_mb = max_mb
        with self._gate.writing():
            self._waiting.setdefault(0, object())  # something to do, so that the thread looks
        with self._wake:
            self._wake.notify_all()

    def settle(self) -> None:
        """Bring the graph up to the rows, in slices; build, compact or drop it where that is due."""
        with self._graph_lock:
            while not self._is_closed and self._step():
                pass

    def save(self) -> None:
        """Save the graph if more than a fiftieth of it changed since the last time: 1.8 KB for each unit."""
        with self._graph_lock:
            graph = self._graph
            if graph is None or not len(graph) or self._n_unsaved <= _SAVE_SHARE * len(graph):
                return
            with self._gate.reading():
                clock, is_behind, seal = self._clock, bool(self._waiting), self._seal()
                if graph is not self._graph:
                    return
            if is_behind and len(self._waiting) > len(graph) // 8:
                return
            try:
                os.makedirs(self.directory, mode=0o700, exist_ok=True)
                graph.save(self.directory, seal, clock, list(self._waiting))
                self._n_unsaved = 0
            except OSError as error:
                log.warning("the vector graph could not be saved: %s", error)
                with contextlib.suppress(OSError):
                    hnsw.remove(self.directory)

    def _run(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # behind everything that a user waits for
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        while True:
            with self._wake:
                while not self._is_closed and not self._is_due():
                    self._wake.wait(self._until_save())
                    if self._until_save() == 0.0:
                        break
                if self._is_closed:
                    return
            self.settle()
            if self._until_save() == 0.0:
                self.save()
                self._changed_at = time.monotonic()  # not again at once, should it have failed

    def _until_save(self) -> float | None:
        """Seconds until the graph is to be saved: after a minute without changes. None: nothing to save."""
        graph = self._graph
        if graph is None or self._n_unsaved <= _SAVE_SHARE * len(graph):
            return None
        return max(0.0, self._changed_at + SAVE_QUIET_S - time.monotonic())

    def _is_due(self) -> bool:
        main = self._main()
        n_rows = len(main) if main is not None else 0
        if self._graph is None:
            self._waiting.clear()
            return self._is_wanted(n_rows)
        return bool(self._waiting)

    def _is_wanted(self, n_rows: int) -> bool:
        main = self._main()
        if main is None or n_rows < self._graph_rows:
            return False
        return n_rows * hnsw.bytes_per_row(main.dim) <= self.max_mb << 20

    def _step(self) -> bool:
        """One slice of work on the graph. False: nothing is left to do."""
        with self._gate.reading():
            main = self._main()
            graph = self._graph
            n_rows = len(main) if main is not None else 0
            if main is None or not self._is_wanted(n_rows):
                self._graph = None
                self._waiting.clear()
                return False
            if graph is None or graph.dim != main.dim or graph.n_deleted > max(1_000, n_rows // 4):
                graph = self._graph = hnsw.Graph(main.dim, n_rows + n_rows // 8)
                self._waiting = dict.fromkeys(main.ids_used(), None) | self._waiting
            tokens = {id_: self._waiting[id_] for id_ in list(self._waiting)[:_SLICE]}
            if not tokens:
                return False
            present = [id_ for id_ in tokens if id_ in main]
            vectors = main.vectors(present)
        graph.delete(id_ for id_ in tokens if id_ not in set(present))
        if present:
            graph.put(np.array(present, np.int64), vectors)
        with self._gate.writing():
            for id_, token in tokens.items():
                if self._waiting.get(id_, self) is token:
                    del self._waiting[id_]
            self._n_unsaved += len(tokens)
        return True

    def _open_graph(self, snapshot: Snapshot) -> None:
        main = self._main()
        if main is None or not self._is_wanted(len(main)):
            return
        loaded = hnsw.Graph.load(self.directory, self._seal(), main.dim)
        touched = snapshot.touched(loaded[1]) if loaded is not None else None
        if loaded is None or touched is None:
            return
        graph, _, waiting = loaded
        known = graph.ids()
        with self._gate.writing():
            rows = set(main.ids_used())
            for id_ in (known ^ rows) | ((touched.vectors | touched.deleted) & (known | rows)) | set(waiting):
                self._waiting.setdefault(id_, object())
            self._graph = graph

    def _main(self) -> RowTable | None:
        return max(self._tables.values(), key=len, default=None)

    def _seal(self) -> str:
        """Whose graph it is: an edition's of a store."""
        return f"{self._store_id}/{self._editions.answering}"


@dataclass(frozen=True, slots=True)
class EditionIndex:
    """The index as one edition has it. Raises EditionChanged once another one answers."""

    index: VectorIndex
    edition: int

    def nearest(self, vector: Vector, k: int, where: Where = _EVERYWHERE) -> list[tuple[int, float]]:
        return self.index.nearest(vector, k, where, self.edition)

    def within(self, vector: Vector, threshold: float, where: Where = _EVERYWHERE) -> list[tuple[int, float]]:
        return self.index.within(vector, threshold, where, self.edition)


def _unit_length(vector: Vector) -> Vector:
    question = np.ascontiguousarray(vector, np.float32)
    norm = float(np.sqrt(question @ question))
    return question / np.float32(norm) if norm > 0 else question


def _delete(tables: dict[int, RowTable], id_: int) -> bool:
    return any(table.delete(id_) for table in tables.values())  # a unit stands in one of them


def _read(snapshot: Snapshot, hamming_rows: int, edition: int) -> dict[int, RowTable]:
    """All attached codes of an edition, by dimensions."""
    parts: dict[int, list[tuple[int, int, int, int, bytes]]] = {}
    tables: dict[int, RowTable] = {}
    for id_, code in snapshot.attached_codes(edition):
        head = snapshot.unit_head(id_)
        if head is None:
            continue
        dim = compress.dimensions(code)
        part = parts.setdefault(dim, [])
        part.append((id_, head.root, head.language, head.kind, compress.int8_bytes(code)))
        if len(part) == _READ_ROWS:
            _load(tables.setdefault(dim, RowTable(dim, hamming_rows=hamming_rows)), part)
            part.clear()
    for dim, part in parts.items():
        _load(tables.setdefault(dim, RowTable(dim, hamming_rows=hamming_rows)), part)
    return tables


def _load(table: RowTable, part: list[tuple[int, int, int, int, bytes]]) -> None:
    if part:
        ids, roots, languages, kinds, codes = zip(*part, strict=True)
        rows = np.frombuffer(b"".join(codes), np.int8).reshape(-1, table.dim)
        table.extend(np.array(ids, np.int64), np.array(roots, np.int64), languages, kinds, rows)
