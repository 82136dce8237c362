"""The engine's thread: what has happened goes in as events, one at a time; what is to be done next is decided here.

Owns: the work in hand of each root (`workset`); the one step that is with the writer; who waits for `sync`; the
counters of `status`. The doing is others': the pool parses, the writer runs `engine.advance`, the feeder talks to the
model. Edits (few paths of a root that is indexed) overtake crawls at every stage.

Truth. An event may come late or twice: it costs time only. A step that fails (the disk is full) is tried again with
the same work; what was being done when the daemon died is found by the next start's crawl and by the work lists.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from codegraphd.daemon.embedding.feeders import Feeders
from codegraphd.daemon.engine import CHANGED, IDLE, NOW, Outcome, ParsedFile, Settings, Work, advance
from codegraphd.daemon.graph.index import Index
from codegraphd.daemon.own_texts import OwnTexts
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers, Rendered, RenderJob
from codegraphd.daemon.search.stale import Lost
from codegraphd.daemon.waiters import Barrier, Waiters
from codegraphd.daemon.workset import RootWork, Sequences, skipped_module
from codegraphd.store.env import Store
from codegraphd.store.records import FileChange, FileRecord
from codegraphd.store.writer import Writer

log = logging.getLogger(__name__)

URGENT_PATHS = 16  # a scan with more changes than these is a crawl or a checkout, not a person's edit
IN_FLIGHT = 24  # bulk jobs with the parsers at once; the rest waits here, where a newer state replaces it
SLICE_S = 0.05
TICK_S = 1.0
BEAT_S = 30.0


@dataclass(frozen=True, slots=True)
class Scanned:
    """The watcher's word: these paths may have changed."""

    root: int
    changes: tuple[FileChange, ...]
    complete: bool
    missing: bool


@dataclass(frozen=True, slots=True)
class FileParsed:
    root: int
    change: FileChange
    sequence: int
    parsed: Parsed
    known: bytes | None  # the digest that it was compared with


@dataclass(frozen=True, slots=True)
class Stepped:
    """The writer is done with a job (a step, or vectors of the feeder)."""

    future: Future[Outcome]
    then: Callable[[Future[Outcome]], None]


@dataclass(frozen=True, slots=True)
class Call:
    """A function to be run on this thread."""

    run: Callable[[], None]


Event = Scanned | FileParsed | Stepped | Call


class Subscriber(Protocol):
    """Who wants to hear of commits and progress; called on the indexer's thread, must be quick."""

    def indexed(self, root: int, clock: int, n_files: int, n_changes: int) -> None: ...
    def progress(self, root: int, done: int, total: int) -> None: ...


@dataclass(slots=True)
class _Step:
    """What is with the writer."""

    work: list[Work]
    sequences: Sequences


class Indexer:
    """See the module. `post` may be called from any thread; all else but `close` runs on the indexer's own."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        parsers: Parsers,
        make_feeders: Callable[[Callable[..., None], Callable[..., None]], Feeders],
        *,
        settings: Settings,
        max_file_bytes: int,
        subscriber: Subscriber | None = None,
    ) -> None:
        self.store, self.writer, self.parsers, self.settings = store, writer, parsers, settings
        self.max_file_bytes = max_file_bytes
        self.roots: dict[int, RootWork] = {}
        self.counters: Counter[str] = Counter()
        self.levels: Counter[str] = Counter()
        self.max_depth = 0
        self.problem: str | None = None  # why steps fail at present
        self.clock = 0
        self._texts = OwnTexts(parsers, lambda run: self.post(Call(run)))
        self.feeders = make_feeders(self._render, self._submit)
        self.lost = Lost(time.monotonic)
        self.on_tick: list[Callable[[float], None]] = []
        self._subscriber = subscriber
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._sequence = 0
        self._step: _Step | None = None
        self._retry_at = 0.0
        self._more = True  # work lists may hold something from before the last stop
        self._waiters = Waiters()
        writer.add_listener(self._committed)
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        with self.store.snapshot() as view:
            self.clock = view.clock
            self.feeders.load(view)
        self._thread.start()

    def close(self) -> None:
        """Stop taking events; a step with the writer is left to finish there."""
        self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _committed(self, clock: int, _: object) -> None:
        """On the writer's thread, before the job's future resolves. A job that changed nothing has no clock."""
        self.clock = clock

    def is_alive(self) -> bool:
        """Whether the thread runs and took an event or a tick within the last half minute."""
        return self._thread.is_alive() and time.monotonic() - self._beat < BEAT_S

    @property
    def is_behind(self) -> bool:
        """Whether a commit or the work lists still have something to do."""
        return self._more or self._step is not None

    def post(self, event: Event) -> None:
        self._events.put(event)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run a function on the indexer's thread. -> its result."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self.post(Call(run))
        return future

    # --- commands (on the indexer's thread, through `call`) -----------------------------------------------------------

    def add_root(self, id: int, path: str) -> RootWork:
        return self.roots.setdefault(id, RootWork(id, path))

    def read_anew(self, id: int) -> None:
        """The next crawl of the root parses every file, also those whose bytes are known."""
        if (root := self.roots.get(id)) is not None:
            root.anew, root.crawled = True, False

    def forget_root(self, id: int) -> None:
        self.roots.pop(id, None)
        self.feeders.drop_root(id)
        self._waiters.forget(id)

    def wait_synced(self, root: int, barrier: Barrier, *, semantic: bool) -> Future[int]:
        """-> the clock, once all that changed before now is in the index (and embedded).

        `barrier` calls back, from any thread, once every earlier change was handed in as `Scanned`.
        """

        def raised(passed: Callable[[RootWork | None, int], None]) -> None:
            barrier(lambda: self.post(Call(lambda: passed(self.roots.get(root), self._sequence))))

        return self._waiters.add(root, semantic=semantic, barrier=raised)

    def raise_file(self, root: int, path: str) -> None:
        """A person looks at this file: its units go to the model before all others."""
        with self.store.snapshot() as view:
            file = view.file(root, path)
        if file is not None:
            self.feeders.raise_units(file.units)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_S
        while True:
            try:
                event = self._events.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                event = Call(lambda: None)
            if event is None:
                return
            self._beat = time.monotonic()
            try:
                self._handle(event)
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + TICK_S
                    self.feeders.tick(now)
                    for tick in self.on_tick:
                        tick(now)
                self._advance(now)
            except Exception:  # one event's trouble must not end the thread that all others need
                log.exception("the indexer failed on %s", type(event).__name__)
                self.counters["errors"] += 1

    def _handle(self, event: Event) -> None:
        match event:
            case Scanned():
                self._scanned(event)
            case FileParsed():
                self._file_parsed(event)
            case Stepped(future, then):
                then(future)
            case Call(run):
                run()
            case _:
                assert_never(event)

    def _scanned(self, event: Scanned) -> None:
        root = self.roots.get(event.root)
        if root is None:
            return
        root.missing = event.missing
        urgent = root.crawled and len(event.changes) <= URGENT_PATHS
        digests = self._digests(root.id, [change.path for change in event.changes if change.stat is None])
        now = time.monotonic()
        if event.changes:
            root.last_change = time.time()
        for change in event.changes:
            self._sequence += 1
            root.changed(change, self._sequence, digests.get(change.path, b""), now, urgent=urgent)
        if event.complete and not root.crawled:
            root.crawled = True
            self._waiters.crawled(root.id)

    def _digests(self, root: int, paths: list[str]) -> dict[str, bytes]:
        """Of the last known bytes of files that are gone: a moved file is recognised by them."""
        if not paths:
            return {}
        with self.store.snapshot() as view:
            files = ((path, view.file(root, path)) for path in paths)
            return {path: file.digest for path, file in files if file is not None}

    def _file_parsed(self, event: FileParsed) -> None:
        root = self.roots.get(event.root)
        if root is None or not root.answered(event.change, event.sequence):
            return
        path, parsed = event.change.path, event.parsed
        stat = parsed.stat or event.change.stat
        assert stat is not None
        if parsed.gone:
            root.vanished(path, self._digests(root.id, [path]).get(path, b""), time.monotonic())
        elif parsed.unchanged:
            root.touched[path] = (stat, event.known or b"")
        else:
            module = parsed.module or skipped_module(stat, parsed.skipped)
            root.ready[path] = ParsedFile(path, stat, module)
            self._texts.keep(path, module.digest, parsed.texts)

    def _advance(self, now: float) -> None:
        """Whatever can go on, goes on."""
        for root in self.roots.values():
            self._dispatch(root)
        if self._step is None and now >= self._retry_at:
            self._begin_step(now)
        self.feeders.pump(now, self._worst_to_embed())
        if self._waiters:
            self._waiters.release(self.roots, self.feeders, self.clock, is_behind=self.is_behind)

    def _worst_to_embed(self) -> int:
        """A crawl or a checkout needs the processors: answers by words for all come before meaning for some. And before
        all is resolved, what a context input quotes is not settled: nobody may ever ask for it again."""
        is_crawling = any(root.n_unparsed > IN_FLIGHT for root in self.roots.values())
        if self.settings.faces and (is_crawling or self._more):
            return NOW
        return CHANGED if is_crawling else IDLE

    def _dispatch(self, root: RootWork) -> None:
        paths = root.to_parse(IN_FLIGHT) if root.waiting else []
        if not paths:
            return
        with self.store.snapshot() as view:
            for path in paths:
                file = view.file(root.id, path)
                known = file.digest if file and file.digest and not file.skipped and not root.anew else None
                self._parse(root, root.sent(path), known)

    def _parse(self, root: RootWork, change: FileChange, known: bytes | None) -> None:
        sequence, root_id = self._sequence, root.id

        def done(parsed: Parsed) -> None:
            self.post(FileParsed(root_id, change, sequence, parsed, known))

        urgent = change.path in root.urgent
        self.parsers.parse(ParseJob(root.path, change.path, known, self.max_file_bytes), done, urgent=urgent)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _begin_step(self, now: float) -> None:
        step = _Step([], {})
        for urgent in (True, False):
            for root in self.roots.values():
                if (collected := root.collect(now, urgent=urgent)) is not None:
                    step.work.append(collected[0])
                    step.sequences.update(collected[1])
            if step.work:
                break
        resolving = urgent or all(
            (root.crawled and not root.n_unparsed) or root.missing for root in self.roots.values()
        )
        if not step.work and not (self._more and resolving):
            return
        self._step = step
        work, settings, editions = step.work, self.settings, self.feeders.editions()

        def job(index: Index) -> Outcome:
            until = time.monotonic() + SLICE_S
            return advance(index, work, settings, editions, lambda: time.monotonic() >= until, resolving=resolving)

        self._submit(job, urgent and bool(step.work), self._stepped)

    def _stepped(self, future: Future[Outcome]) -> None:
        step, self._step = self._step, None
        assert step is not None
        if (error := future.exception()) is not None:
            self.problem = f"the index cannot be written: {error}"
            log.error("%s", self.problem)
            self._retry_at = time.monotonic() + 2.0
            for work in step.work:
                if (root := self.roots.get(work.root)) is not None:
                    root.take_back(work, step.sequences)
            return
        self.problem = None
        outcome = future.result()
        now = time.monotonic()
        self.count(outcome)
        self.lost.add(outcome.lost)
        self._more = outcome.more
        self.feeders.take(outcome, now)
        if any(work.parsed for work in step.work):
            self.feeders.files_read(now)
        for root_id, path, stat in outcome.again:
            self._sequence += 1
            if (root := self.roots.get(root_id)) is not None and not root.is_in_work(path):
                root.changed(FileChange(path, stat), self._sequence, b"", now, urgent=path in root.urgent)
        again = {(root_id, path) for root_id, path, _ in outcome.again}  # whoever waits for these goes on waiting
        for (root_id, path), sequence in step.sequences.items():
            if (root_id, path) not in again and (root := self.roots.get(root_id)) is not None:
                root.committed(path, sequence)
        if self._subscriber is not None:
            for root_id in {work.root for work in step.work}:
                n_files = sum(1 for root, _ in step.sequences if root == root_id)
                self._subscriber.indexed(root_id, self.clock, n_files, outcome.changes)
                if (root := self.roots.get(root_id)) is not None:
                    self._subscriber.progress(root_id, root.done, root.total)

    def count(self, outcome: Outcome) -> None:
        for name in ("changes", "early_cutoffs", "truncated", "hits", "misses", "attached"):
            self.counters[name] += getattr(outcome, name)
        self.levels.update(outcome.levels)
        self.max_depth = max(self.max_depth, outcome.max_depth)

    def _submit(
        self, job: Callable[[Index], Outcome], interactive: bool, then: Callable[[Future[Outcome]], None]
    ) -> None:
        future = self.writer.submit(job, interactive=interactive)
        future.add_done_callback(lambda done: self.post(Stepped(done, then)))

    def _render(
        self, file: FileRecord, flows: tuple[int, ...], urgent: bool, done: Callable[[Rendered | None], None]
    ) -> None:
        root = self.roots.get(file.root)
        if root is None:
            done(None)
            return
        job = RenderJob(root.path, file.path, file.digest, flows)
        self._texts.render(job, done, urgent=urgent or self.feeders.pending(file.root) <= 64)
