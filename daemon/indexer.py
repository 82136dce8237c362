"""The engine's thread: what has happened goes in as events, one at a time; what is to be done next is decided here.

Owns: for each root which paths wait to be parsed, are being parsed, or are parsed and wait for a commit; the one step
that is with the writer; who waits for `sync`; the counters of `status`. The doing is others': the pool parses, the
writer runs `engine.advance`, the feeder talks to the model.

Order. The newest state of a path is what counts: a path that changes again while it waits is parsed once. Edits (few
paths of a root that is indexed) overtake crawls at every stage. Paths that went away are applied when nothing of their
root waits to be parsed any more, or after GONE_S, so that a moved file is seen as moved and not as gone.

Truth. An event may come late or twice: it costs time only. A step that fails (the disk is full) is tried again with
the same work; what was being done when the daemon died is found by the next start's crawl and by the work lists.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, assert_never

from codegraphd.daemon.embedding.feeder import Feeder
from codegraphd.daemon.engine import (
    NOW,
    Outcome,
    ParsedFile,
    Settings,
    Work,
    advance,
    embed_entry,
    requeue_all,
)
from codegraphd.daemon.graph.index import Index, Stage
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers
from codegraphd.store.env import Store
from codegraphd.store.records import FileChange, FileRecord, Module, Stat
from codegraphd.store.writer import Writer

log = logging.getLogger(__name__)

URGENT_PATHS = 16  # a scan with more changes than these is a crawl or a checkout, not a person's edit
IN_FLIGHT = 24  # bulk jobs with the parsers at once; the rest waits here, where a newer state replaces it
STEP_UNITS = 400  # of parsed files in one bulk step: some 50 ms, what an edit may have to wait for
STEP_GONE = 500
SLICE_S = 0.05
GONE_S = 2.0
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
class RootState:
    """One root in work. `unapplied`: path -> sequence number of its earliest change that no commit holds yet."""

    id: int
    path: str
    waiting: dict[str, FileChange] = field(default_factory=dict)
    in_flight: dict[str, FileChange] = field(default_factory=dict)
    ready: dict[str, ParsedFile] = field(default_factory=dict)
    touched: dict[str, Stat] = field(default_factory=dict)
    gone: dict[str, bytes] = field(default_factory=dict)  # path -> digest of its last known bytes
    gone_since: float = 0.0
    unapplied: dict[str, int] = field(default_factory=dict)
    covered: dict[str, int] = field(default_factory=dict)  # path -> last sequence number that what is ready reflects
    urgent: set[str] = field(default_factory=set)
    crawled: bool = False
    missing: bool = False
    done: int = 0  # files of the present pass that are committed
    total: int = 0
    began: float = 0.0
    last_change: float | None = None  # wall clock, seconds

    @property
    def is_busy(self) -> bool:
        return bool(self.unapplied)

    @property
    def n_unparsed(self) -> int:
        return len(self.waiting) + len(self.in_flight)


@dataclass(slots=True)
class _Waiter:
    """Somebody in `sync`. Changes up to `sequence` must be committed; if `semantic`, units up to `mark` embedded."""

    root: int
    semantic: bool
    future: Future[int]
    sequence: int = -1  # -1: the barrier has not been passed yet
    mark: int = -1


@dataclass(slots=True)
class _Step:
    work: list[Work]
    sequences: dict[tuple[int, str], int]  # (root, path) -> last sequence number that this step covers


class Indexer:
    """See the module. `post` may be called from any thread; all else but `close` runs on the indexer's own."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        parsers: Parsers,
        make_feeder: Callable[[Callable[..., None], Callable[..., None]], Feeder],
        *,
        settings: Settings,
        max_file_bytes: int,
        subscriber: Subscriber | None = None,
    ) -> None:
        self.store, self.writer, self.parsers, self.settings = store, writer, parsers, settings
        self.max_file_bytes = max_file_bytes
        self.roots: dict[int, RootState] = {}
        self.counters: Counter[str] = Counter()
        self.levels: Counter[str] = Counter()
        self.max_depth = 0
        self.problem: str | None = None  # why steps fail at present
        self.clock = 0
        self.feeder = make_feeder(self._render, self._submit)
        self.on_tick: list[Callable[[float], None]] = []
        self._subscriber = subscriber
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._sequence = 0
        self._step: _Step | None = None
        self._retry_at = 0.0
        self._more = True  # work lists may hold something from before the last stop
        self._waiters: list[_Waiter] = []
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        with self.store.snapshot() as view:
            self.clock = view.clock
            now = time.monotonic()
            for unit, payload in view.queued(Stage.EMBED):
                root, priority = embed_entry(payload)
                self.feeder.backlog.add(unit, root, priority, now)
        self._thread.start()

    def close(self) -> None:
        """Stop taking events; a step with the writer is left to finish there."""
        self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(5.0)

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

    def add_root(self, id: int, path: str) -> RootState:
        return self.roots.setdefault(id, RootState(id, path))

    def forget_root(self, id: int) -> None:
        self.roots.pop(id, None)
        self.feeder.drop_root(id)
        for waiter in [w for w in self._waiters if w.root == id]:
            self._waiters.remove(waiter)
            waiter.future.set_exception(LookupError("the workspace is not watched any more"))

    def wait_synced(self, root: int, *, semantic: bool) -> tuple[Future[int], Callable[[], None]]:
        """-> (future of the clock, what is to be called once every earlier change has been handed in as `Scanned`)."""
        waiter = _Waiter(root, semantic, Future())
        self._waiters.append(waiter)

        def passed() -> None:
            self.post(Call(lambda: self._barrier_passed(waiter)))

        return waiter.future, passed

    def reindex_model(self, reason: str = "model") -> None:
        """Every unit's recipe or model is another: queue all of them again."""
        roots = list(self.roots)

        def job(index: Index) -> Outcome:
            for root in roots:
                requeue_all(index, root, reason)
            return Outcome(clock=index.clock, more=True)

        self._submit(job, False, lambda _: self._wake_lists())

    def raise_file(self, root: int, path: str) -> None:
        """A person looks at this file: its units go to the model before all others."""
        with self.store.snapshot() as view:
            file = view.file(root, path)
        if file is not None:
            self.feeder.backlog.raise_priority(file.units, NOW, time.monotonic())

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
                    self.feeder.tick(now)
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
        if event.changes:
            root.last_change = time.time()
            if not root.is_busy:
                root.done, root.total, root.began = 0, 0, time.monotonic()
        gone = [change.path for change in event.changes if change.stat is None]
        digests: dict[str, bytes] = {}
        if gone:
            with self.store.snapshot() as view:
                for path in gone:
                    if (file := view.file(root.id, path)) is not None:
                        digests[path] = file.digest
        for change in event.changes:
            self._sequence += 1
            if change.path not in root.unapplied:
                root.total += 1
            root.unapplied.setdefault(change.path, self._sequence)
            root.ready.pop(change.path, None)
            root.touched.pop(change.path, None)
            root.waiting.pop(change.path, None)
            root.gone.pop(change.path, None)
            root.covered[change.path] = self._sequence
            (root.urgent.add if urgent else root.urgent.discard)(change.path)
            if change.stat is None:
                if not root.gone:
                    root.gone_since = time.monotonic()
                root.gone[change.path] = digests.get(change.path, b"")
            elif change.skipped:
                root.ready[change.path] = ParsedFile(change.path, change.stat, _skipped(change.stat, change.skipped))
            else:
                root.waiting[change.path] = change
        if event.complete:
            root.crawled = True

    def _file_parsed(self, event: FileParsed) -> None:
        root = self.roots.get(event.root)
        if root is None or root.in_flight.get(event.change.path) is not event.change:
            return
        path, parsed = event.change.path, event.parsed
        del root.in_flight[path]
        if path in root.gone:
            return
        root.covered[path] = event.sequence  # the file was read after that
        stat = parsed.stat or event.change.stat
        assert stat is not None
        if parsed.gone:
            if not root.gone:
                root.gone_since = time.monotonic()
            with self.store.snapshot() as view:
                file = view.file(root.id, path)
            root.gone[path] = file.digest if file else b""
        elif parsed.unchanged:
            root.touched[path] = stat
        else:
            root.ready[path] = ParsedFile(path, stat, parsed.module or _skipped(stat, parsed.skipped))

    def _advance(self, now: float) -> None:
        """Whatever can go on, goes on."""
        for root in self.roots.values():
            self._dispatch(root)
        if self._step is None and now >= self._retry_at:
            self._begin_step(now)
        self.feeder.pump(now)
        if self._waiters:
            self._release_waiters()

    def _dispatch(self, root: RootState) -> None:
        if not root.waiting:
            return
        paths = [path for path in root.waiting if path in root.urgent]
        room = IN_FLIGHT - len(root.in_flight)
        if room > 0 and len(paths) < len(root.waiting):
            bulk = (path for path in root.waiting if path not in root.urgent)
            paths += [path for path, _ in zip(bulk, range(room), strict=False)]
        if not paths:
            return
        with self.store.snapshot() as view:
            for path in paths:
                if path in root.in_flight:
                    continue  # parsed again when the answer is in
                file = view.file(root.id, path)
                known = file.digest if file and file.digest and not file.skipped else None
                self._parse(root, root.waiting.pop(path), known)

    def _parse(self, root: RootState, change: FileChange, known: bytes | None) -> None:
        root.in_flight[change.path] = change
        sequence = self._sequence
        root_id = root.id

        def done(parsed: Parsed) -> None:
            self.post(FileParsed(root_id, change, sequence, parsed))

        urgent = change.path in root.urgent
        self.parsers.parse(ParseJob(root.path, change.path, known, self.max_file_bytes), done, urgent=urgent)

    # --- steps --------------------------------------------------------------------------------------------------------

    def _begin_step(self, now: float) -> None:
        step = _Step([], {})
        for urgent in (True, False):
            for root in self.roots.values():
                self._collect(root, step, urgent=urgent, now=now)
            if step.work:
                break
        resolving = urgent or all(
            (root.crawled and not root.n_unparsed) or root.missing for root in self.roots.values()
        )
        if not step.work and not (self._more and resolving):
            return
        self._step = step
        work, settings, model = step.work, self.settings, self.feeder.model

        def job(index: Index) -> Outcome:
            until = time.monotonic() + SLICE_S
            return advance(index, work, settings, model, lambda: time.monotonic() >= until, resolving=resolving)

        self._submit(job, urgent and bool(step.work), self._stepped)

    def _collect(self, root: RootState, step: _Step, *, urgent: bool, now: float) -> None:
        """Move what is ready of a root into the step: of the urgent paths everything, else a slice."""
        parsed: list[ParsedFile] = []
        n_units = 0
        for path in list(root.ready):
            if urgent and path not in root.urgent:
                continue
            if not urgent and parsed and n_units + len(root.ready[path].module.units) > STEP_UNITS:
                break
            item = root.ready.pop(path)
            n_units += len(item.module.units)
            parsed.append(item)
        if urgent and any(path in root.waiting or path in root.in_flight for path in root.urgent):
            may_go = False  # one of them may turn out to be where a file went that is gone elsewhere
        else:
            may_go = urgent or now - root.gone_since > GONE_S or not (root.n_unparsed or root.ready)
        touched = [(path, root.touched.pop(path)) for path in list(root.touched) if not urgent or path in root.urgent]
        gone: list[str] = []
        leaving: defaultdict[bytes, list[str]] = defaultdict(list)
        if root.gone and may_go:
            gone = [path for path in root.gone if not urgent or path in root.urgent][:STEP_GONE]
        if root.gone and parsed:
            for path, digest in root.gone.items():
                if digest:
                    leaving[digest].append(path)
        if not (parsed or touched or gone):
            return
        for path in gone:
            del root.gone[path]
        step.work.append(Work(root.id, parsed, gone, touched, dict(leaving), urgent))
        for path in [item.path for item in parsed] + [path for path, _ in touched] + gone:
            step.sequences[root.id, path] = root.covered.pop(path, 0)

    def _stepped(self, future: Future[Outcome]) -> None:
        step, self._step = self._step, None
        assert step is not None
        if (error := future.exception()) is not None:
            self.problem = f"the index cannot be written: {error}"
            log.error("%s", self.problem)
            self._retry_at = time.monotonic() + 2.0
            self._take_back(step)
            return
        self.problem = None
        outcome = future.result()
        now = time.monotonic()
        self._count(outcome)
        self._more = outcome.more
        for unit in outcome.settled:
            self.feeder.backlog.discard(unit)
        for unit, root_id, priority in outcome.embed:
            self.feeder.backlog.add(unit, root_id, priority, now)
        for (root_id, path), sequence in step.sequences.items():
            if (root := self.roots.get(root_id)) is None:
                continue
            root.done += 1
            if any(path in where for where in (root.waiting, root.in_flight, root.ready, root.touched, root.gone)):
                root.unapplied[path] = sequence + 1  # it changed again meanwhile: only that is still to come
            else:
                root.unapplied.pop(path, None)
                root.urgent.discard(path)
        if self._subscriber is not None:
            for root_id in {work.root for work in step.work}:
                n_files = sum(1 for root, _ in step.sequences if root == root_id)
                self._subscriber.indexed(root_id, outcome.clock, n_files, outcome.changes)
                if (root := self.roots.get(root_id)) is not None:
                    self._subscriber.progress(root_id, root.done, root.total)

    def _take_back(self, step: _Step) -> None:
        """The step did not happen: its work is ready again, unless a newer state of the path is under way."""
        for work in step.work:
            if (root := self.roots.get(work.root)) is None:
                continue
            for item in work.parsed:
                root.covered.setdefault(item.path, step.sequences[work.root, item.path])
                if item.path not in root.waiting and item.path not in root.in_flight and item.path not in root.gone:
                    root.ready.setdefault(item.path, item)
            for path, stat in work.touched:
                root.touched.setdefault(path, stat)
                root.covered.setdefault(path, step.sequences[work.root, path])
            for path in work.gone:
                root.covered.setdefault(path, step.sequences[work.root, path])
                if path not in root.waiting and path not in root.in_flight:
                    root.gone.setdefault(path, b"")

    def _count(self, outcome: Outcome) -> None:
        self.clock = max(self.clock, outcome.clock)
        for name in ("changes", "early_cutoffs", "truncated", "hits", "misses", "attached"):
            self.counters[name] += getattr(outcome, name)
        self.levels.update(outcome.levels)
        self.max_depth = max(self.max_depth, outcome.max_depth)

    def _submit(
        self, job: Callable[[Index], Outcome], interactive: bool, then: Callable[[Future[Outcome]], None]
    ) -> None:
        future = self.writer.submit(job, interactive=interactive)
        future.add_done_callback(lambda done: self.post(Stepped(done, then)))

    def _render(self, file: FileRecord, done: Callable[[tuple[str, ...] | None], None]) -> None:
        root = self.roots.get(file.root)
        if root is None:
            done(None)
            return
        urgent = self.feeder.backlog.pending(file.root) <= 64
        self.parsers.render(
            root.path, file.path, file.digest, lambda texts: self.post(Call(lambda: done(texts))), urgent
        )

    def _wake_lists(self) -> None:
        self._more = True

    # --- sync ---------------------------------------------------------------------------------------------------------

    def _barrier_passed(self, waiter: _Waiter) -> None:
        waiter.sequence = self._sequence

    def _release_waiters(self) -> None:
        for waiter in list(self._waiters):
            if waiter.future.cancelled():
                self._waiters.remove(waiter)
                continue
            root = self.roots.get(waiter.root)
            if root is None or waiter.sequence < 0:
                continue
            if waiter.mark < 0:
                behind = any(sequence <= waiter.sequence for sequence in root.unapplied.values())
                if behind or self._more or self._step is not None or not root.crawled:
                    continue
                waiter.mark = self.feeder.backlog.mark()
            if waiter.semantic and not self.feeder.backlog.is_clear(waiter.mark, waiter.root):
                continue
            self._waiters.remove(waiter)
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_result(self.clock)


def _skipped(stat: Stat, reason: str) -> Module:
    return Module("text", b"", stat.size, 0, "", (), (), (), (), 0, reason)
