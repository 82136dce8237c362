"""The word index: which units hold these words, best first.

A tantivy index of what was committed to it, and before it an overlay (`store.overlay`) of the units that changed since.
A change is in the overlay, and so in every answer, before the store's commit is reported; the index follows behind, on
a thread of its own: when the overlay has grown to `COMMIT_UNITS`, or after a second of quiet. One commit costs some ten
milliseconds of disk, one change in the overlay some microseconds.

The index is a cache of the store. tantivy has no checksums, so a *seal* beside it names the store, the clock and the
SHA-256 of every file; it is taken away before anything is written and put back once all is quiet. An index without its
seal, or unlike it, is built again; one with it catches up from the journal.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import tantivy

from codegraphd.store import seals
from codegraphd.store.journal import Delta
from codegraphd.store.overlay import AVERAGE, FIELDS, Entry, Overlay
from codegraphd.store.records import KINDS, LANGUAGES, Where
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import text_of
from codegraphd.store.word_query import document_of, entry_of, make_entry, query_for, schema, text_for

COMMIT_UNITS: Final = 1_000
QUIET_S: Final = 1.0
LATEST_S: Final = 5.0
RETRY_S: Final = 30.0
MOST_FAILURES: Final = 3
_VERSION = 2
_HEAP_BYTES = 20_000_000
_REBUILD_UNITS = 5_000  # between two commits while everything is built again
_EVERYWHERE = Where()
_NOTHING: Final[Mapping[int, Entry]] = {}

Snapshots = Callable[[], AbstractContextManager[Snapshot]]

log = logging.getLogger(__name__)


class WordIndex:
    """Thread-safe. `apply` is for the writer's thread, `query` for any."""

    def __init__(self, directory: str, *, behind: bool = True, snapshots: Snapshots | None = None) -> None:
        """`behind`: commit on a thread of its own; else only `commit` does.

        `snapshots` (`Store.snapshot`): with it that thread also builds a broken index again.
        """
        self.directory = directory
        # Not ready, with a problem: the files are broken, answers come from the overlay alone; `open_or_rebuild` mends
        # it. Ready, with a problem: it cannot be written now; the overlay grows until that is over.
        self.is_ready = False
        self.problem: str | None = None
        self._behind, self._snapshots = behind, snapshots
        self._path = os.path.join(directory, "index")
        self._seal_path = os.path.join(directory, "seal.json")
        self._lock = threading.Lock()  # overlay, searcher and the figures
        self._commit_lock = threading.Lock()  # the files
        self._wake = threading.Condition(self._lock)
        self._overlay = Overlay()
        self._index: Any = None
        self._searcher: Any = None
        self._schema = schema()
        self._clock = 0  # of the newest delta applied
        self._store_id = ""
        self._lengths = [0] * len(FIELDS)  # words put into the index, by field, and the units that they came from
        self._n_put = 0
        self._max_id = 0  # ids above were never put: nothing to delete for them
        self._is_sealed = False
        self._digests = seals.Digests()
        self._is_in_memory = False  # the directory cannot be written
        self._retry_at = 0.0  # after a commit that failed
        self._n_failures = 0  # in a row
        self._is_closed = False
        self._changed_at = 0.0
        self._waiting_since = 0.0
        self._thread: threading.Thread | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def open_or_rebuild(self, snapshot: Snapshot) -> None:
        """Make the index answer for the snapshot's clock: by its seal and the journal, else by building it again.

        Let `apply` listen before the snapshot is taken: what it hears meanwhile comes on top. May run in any thread
        and for seconds (about 30 µs a unit); queries are answered meanwhile from what is there.
        """
        with self._commit_lock:
            self._store_id = snapshot.store_id
            clock = self._open(snapshot)
            touched = snapshot.touched(clock) if clock is not None else None
            if touched is None:
                self._rebuild(snapshot)
            else:
                self._catch_up(snapshot, touched.words, touched.deleted)
            with self._lock:
                self._clock = max(self._clock, snapshot.clock)
                self.is_ready, self.problem, self._n_failures = True, None, 0
        if self._behind and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="words-commit", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Commit what waits and seal the index."""
        with self._lock:
            self._is_closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        if self.is_ready and self.problem is None:
            self.commit()
            self._seal()
        self._index = self._searcher = None

    def apply(self, clock: int, delta: Delta) -> None:
        """Take a commit of the store: what it changed is in every answer from now on."""
        with self._lock:
            self._clock = max(self._clock, clock)
            if not (delta.words or delta.deleted):
                return
            for unit, words in delta.words.values():
                self._overlay.put(unit.id, entry_of(unit, words))
            for id_ in delta.deleted:
                self._overlay.delete(id_)
            self._changed_at = time.monotonic()
            self._waiting_since = self._waiting_since or self._changed_at
            self._wake.notify_all()

    # --- questions ---------------------------------------------------------------------------------------------------

    def query(
        self, terms: Sequence[str], k: int, where: Where = _EVERYWHERE, beside: Mapping[int, Entry] = _NOTHING
    ) -> list[tuple[int, float]]:
        """The best `k` units that hold any of the words: (unit id, score > 0), best first.

        `terms` are words as `Words` has them. Scores are comparable inside of one answer. `beside`: units that are
        not indexed and are to be found as if they were.
        """
        words = list(dict.fromkeys(text_for(term) for term in terms if term))
        if not words or k <= 0:
            return []
        with self._lock:
            searcher = self._searcher
            hidden = self._overlay.ids()
            statistics = self._statistics_of(searcher, words)
            found = self._overlay.score(words, where, statistics)
        if beside:
            found += Overlay(beside).score(words, where, statistics)
        if searcher is not None:
            try:
                found += self._search(searcher, words, k, where, hidden)
            except BaseException as error:  # tantivy's panics are no Exception
                self._fail(error)
        found.sort(key=lambda hit: (-hit[1], hit[0]))
        if where.keep is None:
            return found[:k]
        kept: list[tuple[int, float]] = []
        for hit in found:
            if len(kept) == k:
                break
            if where.keep(hit[0]):
                kept.append(hit)
        return kept

    def _search(
        self, searcher: Any, words: list[str], k: int, where: Where, hidden: frozenset[int]
    ) -> list[tuple[int, float]]:
        """Hits of the index alone, without `hidden`; asks for more until `k` are left or there are no more."""
        query = query_for(self._schema, words, where)
        n_docs = max(1, searcher.num_docs)
        limit = min(n_docs, k if where.keep is None else 4 * k)  # tantivy makes room for all that it is asked for
        while True:
            hits = searcher.search(query, limit, count=False).hits
            ids = searcher.fast_field_values("id", [address for _, address in hits]) if hits else []
            found = [(id_, score) for id_, (score, _) in zip(ids, hits, strict=True) if id_ not in hidden]
            n_kept = len(found)
            if where.keep is not None:
                found = [hit for hit in found if where.keep(hit[0])]
                n_kept = len(found)
            if n_kept >= k or len(hits) < limit or limit == n_docs:
                return found
            limit = min(n_docs, 4 * limit)

    def _statistics_of(self, searcher: Any, words: list[str]) -> tuple[int, dict[tuple[int, str], int], list[float]]:
        """(units, units with a word by field and word, mean length by field) of the index: what BM25 weighs with."""
        if searcher is None or not self._n_put:
            return 0, {}, list(AVERAGE)
        doc_freq = searcher.doc_freq
        frequencies = {(at, word): doc_freq(field, word) for at, field in enumerate(FIELDS) for word in words}
        return searcher.num_docs, frequencies, [max(total / self._n_put, 1.0) for total in self._lengths]

    def statistics(self) -> dict[str, Any]:
        with self._lock:
            searcher = self._searcher
            return {
                "kind": "tantivy",
                "ready": self.is_ready,
                "problem": self.problem,
                "clock": self._clock,
                "documents": searcher.num_docs if searcher is not None else 0,
                "segments": searcher.num_segments if searcher is not None else 0,
                "pending": len(self._overlay),
                "in_memory": self._is_in_memory,
                "bytes": sum(size for _, size in seals.files_in(self._path)),
            }

    # --- behind ------------------------------------------------------------------------------------------------------

    def commit(self) -> int:
        """Move what the overlay holds into the index. Returns how many units that were."""
        with self._commit_lock:
            if self._index is None:
                return 0
            with self._lock:
                batch = self._overlay.entries()
                self._waiting_since = 0.0
            if not batch:
                return 0
            before = list(self._lengths), self._n_put, self._max_id
            try:
                with self._writing() as writer:
                    self._put_all(writer, batch.items())
                with self._lock:
                    self._index.reload()
                    self._searcher = self._index.searcher()
                    self._overlay.forget(batch)
                    self.problem, self._n_failures = None, 0
            except BaseException as error:  # tantivy's panics are no Exception
                _let_pass(error)
                # A full disk, say. Nothing is lost: the overlay keeps answering, and it is tried again.
                log.warning("%s: the word index could not be committed: %s", self._path, error)
                with self._lock:
                    self._lengths, self._n_put, self._max_id = before
                    self.problem = f"{self._path}: cannot be written: {error}"
                    self._retry_at = time.monotonic() + RETRY_S
                    self._n_failures += 1
                    if self._n_failures >= MOST_FAILURES:  # no passing trouble: its folder is gone, say
                        self.is_ready = False
                return 0
            return len(batch)

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._is_closed and not self._is_due():
                    self._wake.wait(self._patience())
                if self._is_closed:
                    return
            if not self.is_ready:
                self._mend()
            elif self._overlay:
                self.commit()
            else:
                self._seal()

    def _mend(self) -> None:
        assert self._snapshots is not None
        try:
            with self._snapshots() as snapshot:
                self.open_or_rebuild(snapshot)
        except Exception:
            log.exception("%s: the word index cannot be built again now", self._path)
            self._retry_at = time.monotonic() + RETRY_S

    def _is_due(self) -> bool:
        return self._due_at() <= time.monotonic()

    def _patience(self) -> float | None:
        due_at = self._due_at()
        return None if math.isinf(due_at) else max(0.01, due_at - time.monotonic())

    def _due_at(self) -> float:
        """When the thread has something to do next; infinity: after the next change."""
        if not self.is_ready:
            return self._retry_at if self.problem and self._snapshots is not None else math.inf
        if not self._overlay:
            return math.inf if self._is_sealed or self.problem else self._changed_at + QUIET_S
        if len(self._overlay) >= COMMIT_UNITS:
            return self._retry_at
        return max(self._retry_at, min(self._changed_at + QUIET_S, self._waiting_since + LATEST_S))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        """A tantivy writer, committed at the end. It lives for one commit: idle, it would hold memory and threads."""
        self._unseal()
        writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        try:
            yield writer
            writer.commit()
        finally:
            with contextlib.suppress(ValueError):  # a writer that failed has no threads left to wait for
                writer.wait_merging_threads()

    def _put_all(self, writer: Any, entries: Any) -> None:
        for id_, entry in entries:
            if id_ <= self._max_id:
                writer.delete_documents_by_term("id", id_)
            if entry.is_deleted:
                continue
            document, lengths = document_of(id_, entry)
            writer.add_document(document)
            for at, length in enumerate(lengths):
                self._lengths[at] += length
            self._n_put += 1
            self._max_id = max(self._max_id, id_)

    # --- the files ---------------------------------------------------------------------------------------------------

    def _open(self, snapshot: Snapshot) -> int | None:
        """Open the sealed index. The clock that it is valid for; None: there is none to be trusted."""
        self._digests = seals.Digests()  # what is opened is read in full
        seal = seals.read(self._seal_path)
        if (seal.get("version"), seal.get("store")) != (_VERSION, snapshot.store_id):
            return None
        try:
            if seal["files"] != self._digests.of(self._path):
                log.warning("%s: the word index is not as it was sealed", self._path)
                return None
            index = tantivy.Index(self._schema, path=self._path, reuse=True)
            searcher = index.searcher()
        except BaseException as error:
            _let_pass(error)
            log.warning("%s: the word index cannot be opened: %s", self._path, error)
            return None
        with self._lock:
            self._index, self._searcher = index, searcher
            self._lengths, self._n_put, self._max_id = seal["lengths"], seal["put"], seal["max_id"]
            self._is_sealed = True
        return int(seal["clock"])

    def _rebuild(self, snapshot: Snapshot) -> None:
        try:
            self._build(snapshot, in_memory=False)
        except BaseException as error:
            _let_pass(error)
            log.warning("%s: cannot be written, the word index is kept in memory: %s", self._path, error)
            self._build(snapshot, in_memory=True)

    def _build(self, snapshot: Snapshot, *, in_memory: bool) -> None:
        with self._lock:
            self.is_ready = False
            self._index = self._searcher = None
            self._lengths, self._n_put, self._max_id = [0] * len(FIELDS), 0, 0
            self._is_in_memory = in_memory
        if in_memory:
            self._index = tantivy.Index(self._schema)
        else:
            self._unseal()
            shutil.rmtree(self._path, ignore_errors=True)
            os.makedirs(self._path, mode=0o700)
            self._index = tantivy.Index(self._schema, path=self._path, reuse=False)
        units = iter(snapshot.all_words())
        while True:
            some = list(itertools.islice(units, _REBUILD_UNITS))
            if not some:
                return
            with self._writing() as writer:
                for id_, head, words in some:
                    language, kind = LANGUAGES[head.language], KINDS[head.kind]
                    entry = make_entry(head.root, language, kind, words, text_of(head.path))
                    self._put_all(writer, ((id_, entry),))
            with self._lock:
                self._index.reload()
                self._searcher = self._index.searcher()

    def _catch_up(self, snapshot: Snapshot, changed: frozenset[int], deleted: frozenset[int]) -> None:
        for id_ in changed | deleted:
            unit, words = snapshot.unit(id_), snapshot.words(id_)
            with self._lock:
                if id_ in self._overlay:
                    continue  # heard of since: newer than the snapshot
                if unit is None or words is None:
                    self._overlay.delete(id_)
                else:
                    self._overlay.put(id_, entry_of(unit, words))

    def _seal(self) -> None:
        """Say beside the index what it is and that it is whole. Nothing when something waits or is wrong."""
        with self._commit_lock:
            with self._lock:
                if self._index is None or self._overlay or self.problem is not None or self._is_sealed:
                    return
                if self._is_in_memory:
                    self._is_sealed = True
                    return
                seal = {
                    "version": _VERSION, "store": self._store_id, "clock": self._clock,
                    "lengths": self._lengths, "put": self._n_put, "max_id": self._max_id,
                }  # fmt: skip
            try:
                seals.write(self._seal_path, seal | {"files": self._digests.of(self._path)})
            except OSError as error:
                log.warning("%s: the word index could not be sealed: %s", self.directory, error)
            self._is_sealed = True  # or tried: not again before the next change

    def _unseal(self) -> None:
        if not self._is_in_memory:
            seals.remove(self._seal_path)
        self._is_sealed = False

    def _fail(self, error: BaseException) -> None:
        _let_pass(error)
        with self._lock:
            self.problem = f"{self._path}: {error}"
            self.is_ready = False
            self._wake.notify_all()
        log.error("the word index failed: %s", error)


def _let_pass(error: BaseException) -> None:
    """tantivy's panics are no Exception, so all is caught; what ends the program is not ours to catch."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
