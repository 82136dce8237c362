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
import hashlib
import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import tantivy

from codegraphd.store.journal import Delta
from codegraphd.store.overlay import AVERAGE, BOOSTS, FIELDS, Entry, Overlay, path_words
from codegraphd.store.records import KINDS, LANGUAGES, UnitRecord, Where, Words
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import text_of

COMMIT_UNITS: Final = 1_000
QUIET_S: Final = 1.0
LATEST_S: Final = 5.0
RETRY_S: Final = 30.0
_VERSION = 1
_HEAP_BYTES = 20_000_000
_REBUILD_UNITS = 20_000  # between two commits while everything is built again
_SEAL = "seal.json"
_EVERYWHERE = Where()

log = logging.getLogger(__name__)


class WordIndex:
    """Thread-safe. `apply` is for the writer's thread, `query` for any."""

    def __init__(self, directory: str, *, behind: bool = True) -> None:
        """`behind`: commit on a thread of its own; else only `commit` does."""
        self.directory = directory
        # Not ready, with a problem: the files are broken, answers come from the overlay alone; `open_or_rebuild` mends
        # it. Ready, with a problem: it cannot be written now; the overlay grows until that is over.
        self.is_ready = False
        self.problem: str | None = None
        self._behind = behind
        self._path = os.path.join(directory, "index")
        self._lock = threading.Lock()  # overlay, searcher and the figures
        self._commit_lock = threading.Lock()  # the files
        self._wake = threading.Condition(self._lock)
        self._overlay = Overlay()
        self._index: Any = None
        self._searcher: Any = None
        self._schema = _schema()
        self._clock = 0  # of the newest delta applied
        self._store_id = ""
        self._lengths = [0] * len(FIELDS)  # words put into the index, by field, and the units that they came from
        self._n_put = 0
        self._max_id = 0  # ids above were never put: nothing to delete for them
        self._is_sealed = False
        self._is_in_memory = False  # the directory cannot be written
        self._retry_at = 0.0  # after a commit that failed
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
                self.is_ready, self.problem = True, None
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
                self._overlay.put(unit.id, _entry(unit, words))
            for id_ in delta.deleted:
                self._overlay.delete(id_)
            self._changed_at = time.monotonic()
            self._waiting_since = self._waiting_since or self._changed_at
            self._wake.notify_all()

    # --- questions ---------------------------------------------------------------------------------------------------

    def query(self, terms: Sequence[str], k: int, where: Where = _EVERYWHERE) -> list[tuple[int, float]]:
        """The best `k` units that hold any of the words: (unit id, score > 0), best first.

        `terms` are words as `Words` has them. Scores are comparable inside of one answer.
        """
        words = list(dict.fromkeys(_text(term) for term in terms if term))
        if not words or k <= 0:
            return []
        with self._lock:
            searcher = self._searcher
            hidden = self._overlay.ids()
            found = self._overlay.score(words, where, self._statistics_of(searcher, words))
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
        query = _query(self._schema, words, where)
        limit = k if where.keep is None else 4 * k
        while True:
            hits = searcher.search(query, limit, count=False).hits
            ids = searcher.fast_field_values("id", [address for _, address in hits]) if hits else []
            found = [(id_, score) for id_, (score, _) in zip(ids, hits, strict=True) if id_ not in hidden]
            n_kept = len(found)
            if where.keep is not None:
                found = [hit for hit in found if where.keep(hit[0])]
                n_kept = len(found)
            if n_kept >= k or len(hits) < limit:
                return found
            limit *= 4

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
                "bytes": sum(size for _, size in _files(self._path)),
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
                    self.problem = None
            except BaseException as error:  # tantivy's panics are no Exception
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                # A full disk, say. Nothing is lost: the overlay keeps answering, and it is tried again.
                log.warning("%s: the word index could not be committed: %s", self._path, error)
                with self._lock:
                    self._lengths, self._n_put, self._max_id = before
                    self.problem = f"{self._path}: cannot be written: {error}"
                    self._retry_at = time.monotonic() + RETRY_S
                return 0
            return len(batch)

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._is_closed and not self._is_due():
                    self._wake.wait(self._patience())
                if self._is_closed:
                    return
            if self._overlay:
                self.commit()
            else:
                self._seal()

    def _is_due(self) -> bool:
        return self._due_at() <= time.monotonic()

    def _patience(self) -> float | None:
        due_at = self._due_at()
        return None if math.isinf(due_at) else max(0.01, due_at - time.monotonic())

    def _due_at(self) -> float:
        """When the thread has something to do next; infinity: after the next change."""
        if not self.is_ready:
            return math.inf
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
            texts = (entry.name, entry.doc, entry.body, path_words(entry.path))
            writer.add_document(_document(id_, entry, texts))
            for at, text in enumerate(texts):
                self._lengths[at] += text.count(" ") + 1 if text else 0
            self._n_put += 1
            self._max_id = max(self._max_id, id_)

    # --- the files ---------------------------------------------------------------------------------------------------

    def _open(self, snapshot: Snapshot) -> int | None:
        """Open the sealed index. The clock that it is valid for; None: there is none to be trusted."""
        try:
            with open(os.path.join(self.directory, _SEAL), encoding="utf-8") as file:
                seal = json.load(file)
            if (seal["version"], seal["store"]) != (_VERSION, snapshot.store_id):
                return None
            if seal["files"] != _digests(self._path):
                log.warning("%s: the word index is not as it was sealed", self._path)
                return None
            index = tantivy.Index(self._schema, path=self._path, reuse=True)
            searcher = index.searcher()
        except FileNotFoundError:
            return None
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            log.warning("%s: the word index cannot be opened: %s", self._path, error)
            return None
        with self._lock:
            self._index, self._searcher = index, searcher
            self._lengths, self._n_put, self._max_id = seal["lengths"], seal["put"], seal["max_id"]
            self._is_sealed = True
        return int(seal["clock"])

    def _rebuild(self, snapshot: Snapshot) -> None:
        with self._lock:
            self.is_ready = False
            self._index = self._searcher = None
            self._lengths, self._n_put, self._max_id = [0] * len(FIELDS), 0, 0
        try:
            self._is_in_memory = False
            self._unseal()
            shutil.rmtree(self._path, ignore_errors=True)
            os.makedirs(self._path, mode=0o700)
            index = tantivy.Index(self._schema, path=self._path, reuse=False)
        except (OSError, ValueError) as error:
            log.warning("%s: cannot be written, the word index is kept in memory: %s", self._path, error)
            index, self._is_in_memory = tantivy.Index(self._schema), True
        self._index = index
        units = iter(snapshot.all_words())
        is_more = True
        while is_more:
            is_more = False
            with self._writing() as writer:
                for n, (id_, head, words) in enumerate(units, 1):
                    entry = _entry_of(head.root, LANGUAGES[head.language], KINDS[head.kind], words, text_of(head.path))
                    self._put_all(writer, ((id_, entry),))
                    if n == _REBUILD_UNITS:
                        is_more = True
                        break
            with self._lock:
                index.reload()
                self._searcher = index.searcher()

    def _catch_up(self, snapshot: Snapshot, changed: frozenset[int], deleted: frozenset[int]) -> None:
        for id_ in changed | deleted:
            unit, words = snapshot.unit(id_), snapshot.words(id_)
            with self._lock:
                if id_ in self._overlay:
                    continue  # heard of since: newer than the snapshot
                if unit is None or words is None:
                    self._overlay.delete(id_)
                else:
                    self._overlay.put(id_, _entry(unit, words))

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
                seal["files"] = _digests(self._path)
                temporary = os.path.join(self.directory, _SEAL + ".new")
                with open(temporary, "w", encoding="utf-8") as file:
                    json.dump(seal, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, os.path.join(self.directory, _SEAL))
            except OSError as error:
                log.warning("%s: the word index could not be sealed: %s", self.directory, error)
            self._is_sealed = True  # or tried: not again before the next change

    def _unseal(self) -> None:
        if self._is_in_memory:
            return
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.directory, _SEAL))
        self._is_sealed = False

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error
        with self._lock:
            self.problem = f"{self._path}: {error}"
            self.is_ready = False
        log.error("the word index failed: %s", error)


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", indexed=True, fast=True)
    builder.add_integer_field("root", indexed=True)
    builder.add_text_field("language", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("kind", tokenizer_name="raw", index_option="basic")
    for field in FIELDS:
        builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
    return builder.build()


def _entry(unit: UnitRecord, words: Words) -> Entry:
    return _entry_of(unit.root, unit.language, unit.unit.kind, words, unit.path)


def _entry_of(root: int, language: str, kind: str, words: Words, path: str) -> Entry:
    return Entry(root, language, kind, _text(words.name), _text(words.doc), _text(words.body), path)


def _text(text: str) -> str:
    """Lone surrogates, from bytes that are no text, become question marks: tantivy takes UTF-8 only."""
    if "\n" in text:  # the overlay's mark between fields
        text = text.replace("\n", " ")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def _document(id_: int, entry: Entry, texts: tuple[str, str, str, str]) -> Any:
    return tantivy.Document(
        id=id_, root=entry.root, language=entry.language, kind=entry.kind, **dict(zip(FIELDS, texts, strict=True))
    )


def _query(schema: Any, words: list[str], where: Where) -> Any:
    query, must, should = tantivy.Query, tantivy.Occur.Must, tantivy.Occur.Should
    wanted = [
        (should, query.boost_query(query.term_query(schema, field, word, "freq"), boost))
        for word in words
        for field, boost in zip(FIELDS, BOOSTS, strict=True)
    ]
    filters: list[tuple[str, frozenset[Any] | None]] = [
        ("root", where.roots), ("language", where.languages), ("kind", where.kinds)
    ]  # fmt: skip
    clauses = [(must, query.boolean_query(wanted))] if any(values is not None for _, values in filters) else wanted
    for field, values in filters:
        if values is not None:
            any_of = [(should, query.term_query(schema, field, value)) for value in sorted(values)]
            clauses.append((must, query.const_score_query(query.boolean_query(any_of), 0.0)))
    return query.boolean_query(clauses)


def _files(path: str) -> list[tuple[str, int]]:
    try:
        with os.scandir(path) as entries:
            return sorted((e.name, e.stat().st_size) for e in entries if e.is_file() and not e.name.endswith(".lock"))
    except OSError:
        return []


def _digests(path: str) -> dict[str, str]:
    digests = {}
    for name, _ in _files(path):
        with open(os.path.join(path, name), "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
