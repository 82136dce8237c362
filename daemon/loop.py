"""The daemon's life: what is opened in which order, what runs until the end, how it ends.

Order of the start, so that a query is answered as early as possible: lock, store, the two indexes, the socket; then
the parsers, the model's worker (which loads on first need), the watcher. The end is the reverse, in seconds, whatever
is under way: what is not committed is found again by the next start.

Threads: the event loop (sockets, timers), the indexer, the store's writer, the watcher's scanner and the file-system
events' reader, the query threads. Each is started and ended by its owner; the owners are listed in `Daemon`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from codegraphd.daemon.clone_news import CloneNews
from codegraphd.daemon.config import Config, ConfigError, changed_sections
from codegraphd.daemon.config import load as load_config
from codegraphd.daemon.handlers import Handlers
from codegraphd.daemon.indexer import Indexer
from codegraphd.daemon.memory import MemoryLimit
from codegraphd.daemon.model import ModelInUse
from codegraphd.daemon.module_cache import ModuleCache
from codegraphd.daemon.parsers import Parsers, Rendered, RenderJob, StudyJob
from codegraphd.daemon.settings import (
    AT_ONCE,
    cache_budget,
    engine_settings,
    module_cache_bytes,
    store_precision,
    wanted_language,
    without_effect,
)
from codegraphd.daemon.snippets import WAIT_S, Snippet, read_snippet
from codegraphd.daemon.startup import few_arenas, log_to_stderr, open_store, stamp
from codegraphd.daemon.status import LoopLag, Usage
from codegraphd.daemon.understanding import identity
from codegraphd.daemon.workspace.watch import Watcher
from codegraphd.daemon.workspaces import Workspaces
from codegraphd.ipc.errors import PathError
from codegraphd.ipc.listen import Listener, notify_manager, open_listener, watchdog_interval
from codegraphd.ipc.lock import Lock, acquire_lock
from codegraphd.ipc.paths import Paths
from codegraphd.ipc.server import Server
from codegraphd.store.ann import VectorIndex
from codegraphd.store.errors import StoreError
from codegraphd.store.lexical import WordIndex
from codegraphd.store.records import FileRecord, RootRecord, UnitRecord
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.transaction import Transaction
from codegraphd.store.writer import Writer

log = logging.getLogger("codegraphd")

LAG_PERIOD_S = 0.5
TEND_PERIOD_S = 2.0
EXIT_CONFIG = 78


class Daemon:
    """All parts of a running daemon, each the one owner of what it changes."""

    def __init__(self, paths: Paths, config: Config, lock: Lock) -> None:
        self.paths, self.config, self.lock = paths, config, lock
        self._config_stamp = stamp(paths.config)
        self.started = time.monotonic()
        self.is_ready = False
        self.problems: list[str] = []  # of the daemon itself; those of its parts are asked for in `status`
        self.config_problems: list[str] = without_effect(config)
        self.usage, self.lag = Usage(), LoopLag()
        self._file_counts: dict[int, tuple[int, tuple[dict[str, int], dict[str, int]]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.server: Server | None = None
        self.store = open_store(os.path.join(paths.state, "index"), self.problems)
        self.store.cache_budget, self.store.precision = cache_budget(config), store_precision(config)
        self.words = WordIndex(os.path.join(paths.state, "words"), snapshots=self.store.snapshot)
        self.vectors = VectorIndex(os.path.join(paths.state, "vectors"), max_mb=config.index.ann_max_mb)
        with self.store.snapshot() as view:
            self.words.open_or_rebuild(view)
            self.vectors.open_or_rebuild(view)
        self.writer = Writer(self.store, [self.words.apply, self.vectors.apply])
        self.modules = ModuleCache(os.path.join(paths.state, "modules"), identity(), module_cache_bytes(config))
        self.parsers = Parsers(most=max(1, min(4, os.cpu_count() or 2)), modules=self.modules)
        self.model = ModelInUse(self, os.path.join(paths.state, "models"))
        self.indexer = Indexer(
            self.store,
            self.writer,
            self.parsers,
            self.model.make_feeders,
            settings=engine_settings(config),
            max_file_bytes=config.index.max_file_kb << 10,
            subscriber=_Subscriber(self),
        )
        self.indexer.on_tick = [self._tick]
        self.workspaces = Workspaces(
            self.store, self.writer, self.indexer, self._make_watcher, os.path.join(paths.state, "workspaces.json")
        )
        self.handlers = Handlers(self)
        self.writer.add_listener(CloneNews(self).committed)
        self.writer.add_listener(self.model.committed)
        self._next_tend = 0.0
        self._stop = asyncio.Event()
        self.must_restart = False  # the store under us cannot be trusted any more, or the configuration is another
        self.memory = MemoryLimit(self.usage.own_bytes, self._shed, self._restart, paths.state)

    # --- life ---------------------------------------------------------------------------------------------------------

    async def serve(self, listener: Listener, hung_up: threading.Event) -> None:
        """Answer, watch and index until the process is told to end."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self.server = Server(self.handlers, self.config.limits)
        await self.server.start(listener)
        self.lock.record(listener.address)
        background = asyncio.create_task(self._measure_lag())
        await asyncio.to_thread(self._begin)
        self.is_ready = True
        if hung_up.is_set():
            self._hang_up()
        notify_manager("READY=1\nSTATUS=watching")
        log.info("codegraphd answers on %s", self.paths.socket)
        await self._stop.wait()
        notify_manager("STOPPING=1")
        background.cancel()
        await self.server.close()
        await asyncio.to_thread(self._end)

    def _begin(self) -> None:
        self.indexer.start()
        self.workspaces.start()
        self.indexer.call(self.model.begin).result()  # after the roots: their files are what the model's texts are from
        gc.collect()
        gc.freeze()  # what lives from here on need not be walked again: pauses of the loop stay short

    def _end(self) -> None:
        self.workspaces.close()
        self.handlers.close()
        self.indexer.close()
        self.parsers.close()
        self.model.close()
        self.writer.close()
        self.words.close()
        self.vectors.close()
        self.store.close()

    async def _measure_lag(self) -> None:
        """How late timers come; the service manager's watchdog is fed only here and only while the indexer lives."""
        interval = watchdog_interval()
        fed = time.monotonic()
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_PERIOD_S)
            now = time.monotonic()
            self.lag.add(now - before - LAG_PERIOD_S)
            if interval and now - fed >= interval / 3 and self.indexer.is_alive():
                notify_manager("WATCHDOG=1")
                fed = now

    def _hang_up(self) -> None:
        """SIGHUP, or the configuration's file has changed."""
        problem = self.reload()
        if problem:
            log.error("%s; the old configuration stays in force", problem)

    def _tick(self, now: float) -> None:
        """Upkeep, on the indexer's thread."""
        if now >= self._next_tend:
            self._next_tend = now + TEND_PERIOD_S
            self.model.tick(now)
            self.modules.tend()
            self.memory.mind(int(self.config.limits.memory_mb * 2**20))
            if (trouble := self.store.tend()) is not None:
                self._restart(trouble)
            if (seen := stamp(self.paths.config)) != self._config_stamp:
                self._config_stamp = seen
                self.on_loop(self._hang_up)

    def _restart(self, why: str) -> None:
        """Begin anew in this process: what is under way is found again by the next start, in about a second."""
        if not self.must_restart:
            log.warning("%s: starting again", why)
            self.must_restart = True
            self.on_loop(self._stop.set)

    def _shed(self) -> None:
        """Memory is short: forget what can be computed again."""
        self.model.shed()
        self.handlers.shed()

    # --- for handlers -------------------------------------------------------------------------------------------------

    def synced(self, root: int, *, semantic: bool, path: str | None = None) -> Future[int]:
        """The clock, once every change made before this call is indexed (and embedded); with `path` at least that of
        this path, which is looked at for the purpose: no event need tell of it."""
        result: Future[int] = Future()
        watcher = self.workspaces.watcher

        def barrier(passed: Callable[[], None]) -> None:
            if path is None:
                watcher.barrier(passed, root)
            else:
                watcher.changed(root, path, passed)

        def begin() -> None:
            future = self.indexer.wait_synced(root, barrier, semantic=semantic)
            future.add_done_callback(functools.partial(_hand_on, result))

        self.indexer.call(begin)
        return result

    def snippet(self, code: str, language: str) -> Snippet:
        """A piece of code, parsed in a parser process. Blocks; for query threads."""
        directory = os.path.join(self.paths.state, "snippets")
        return read_snippet(self.parsers, directory, code, language, with_flow=self.model.reads_flow)

    def rendered(self, root: RootRecord, file: FileRecord, index: int) -> Rendered | None:
        """What the model reads of a unit of a file; None: the file has moved on. Blocks; for query threads."""
        rendered: Future[Rendered | None] = Future()
        flows = (index,) if self.model.answering.embedder.reads_flow else ()
        self.parsers.render(RenderJob(root.path, file.path, file.digest, flows), rendered.set_result, urgent=True)
        try:
            return rendered.result(WAIT_S)
        except TimeoutError:
            return None

    def studied(self, root: RootRecord, file: FileRecord | None, unit: UnitRecord) -> dict[str, Any] | None:
        """Features and flow of a unit; None: the file has moved on, or it takes too long. Blocks; for query threads."""
        if file is None:
            return None
        span = (unit.unit.start_byte, unit.unit.end_byte)
        found: Future[dict[str, Any] | None] = Future()
        self.parsers.study(StudyJob(root.path, file.path, file.digest, unit.language, *span), found.set_result)
        try:
            return found.result(WAIT_S)
        except TimeoutError:
            return None

    def unwatch(self, path: str) -> RootRecord:
        """Stop watching a workspace. The words of its files go, those of modules that others share included."""
        root = self.workspaces.unwatch(path)
        self.modules.clear()
        return root

    def reindex(self, root: RootRecord) -> None:
        """Read every file of the root again, as if nothing were known of it."""
        self.workspaces.watcher.remove(root.id)
        self.modules.clear()
        self.workspaces.begin_anew(root)

    def reload(self) -> str | None:
        """Read the configuration again. -> what is wrong with it (the old one then stays in force)."""
        try:
            config = load_config(self.paths.config)
        except ConfigError as error:
            self.config_problems = [*without_effect(self.config), str(error)]
            return str(error)
        self.config_problems = without_effect(config)
        if any(name not in AT_ONCE for name in changed_sections(self.config, config)):
            self._restart(f"{self.paths.config} has changed")
            return None
        if config.embedding != self.config.embedding:
            self.indexer.call(functools.partial(self.model.reconfigure, config))
        if config.index != self.config.index:
            self.indexer.max_file_bytes = config.index.max_file_kb << 10
            self.workspaces.watcher.configure(
                exclude_patterns=config.index.exclude,
                max_file_kb=config.index.max_file_kb,
                settle_ms=config.incremental.settle_ms,
                language_of=wanted_language(config),
            )
        self.config = config
        self.store.cache_budget = cache_budget(config)
        self.modules.max_bytes = module_cache_bytes(config)
        if self.server is not None:
            self.server.limits = config.limits
        logging.getLogger().setLevel(config.log.level.upper())
        return None

    def collect_garbage(self) -> int:
        """Drop cached vectors over their budget or time, and those of models that no edition uses. -> how many."""
        total = 0
        while n := self.writer.submit(lambda txn: txn.evict(), interactive=False).result():
            total += n
        row: int | None = 0
        while row is not None:
            used, at = self.model.fingerprints(), row

            def drop(txn: Transaction, at: int = at, used: frozenset[bytes] = used) -> tuple[int, int | None]:
                return txn.drop_vectors(lambda model, _: model not in used, at)

            n, row = self.writer.submit(drop, interactive=False).result()
            total += n
        self.modules.shrink()
        return total

    def server_statistics(self) -> dict[str, Any]:
        return self.server.statistics() if self.server is not None else {}

    def file_counts(self, view: Snapshot, root: int) -> tuple[dict[str, int], dict[str, int]]:
        """(files by language, files by reason skipped) of a root; kept until the root's index changes."""
        known = self._file_counts.get(root)
        if known is not None and known[0] == view.clock:
            return known[1]
        languages: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        for file in view.files(root):
            if file.skipped:
                skipped[file.skipped] += 1
            else:
                languages[file.language] += 1
        counted = (dict(languages.most_common()), dict(skipped.most_common()))
        self._file_counts[root] = (view.clock, counted)
        return counted

    def lookup_p50_us(self) -> float | None:
        """Median time of one look-up in the vector cache, measured now on up to 64 cached vectors."""
        model = self.indexer.feeders.answering.model
        if model is None:
            return None
        with self.store.snapshot() as view:
            states = (view.state(unit) for unit, _ in _first(view.attached_codes(), 64))
            keys = [state.attached.own for state in states if state and state.attached]
            times = []
            for key in keys:
                begin = time.perf_counter()
                view.has_vector(model, key)
                times.append(time.perf_counter() - begin)
        return round(sorted(times)[len(times) // 2] * 1e6, 1) if times else None

    def on_loop(self, function: Callable[[], None]) -> None:
        """Run a function on the event loop, from any thread; nothing happens once the loop has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    def _make_watcher(self, listener: Callable[..., None]) -> Watcher:
        return Watcher(
            self.paths.state,
            listener,
            settle_ms=self.config.incremental.settle_ms,
            never=frozenset({self.paths.state, self.paths.log}),
            exclude_patterns=self.config.index.exclude,
            max_file_kb=self.config.index.max_file_kb,
            language_of=wanted_language(self.config),
        )


class _Subscriber:
    """Carries the indexer's news to the loop, where the subscribers are."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def indexed(self, root: int, clock: int, n_files: int, n_changes: int) -> None:
        text = self._daemon.store.clock_text(clock)
        message = {"clock": text, "files": n_files, "changes": n_changes}
        self._tell("indexed", root, message)

    def progress(self, root: int, done: int, total: int) -> None:
        pending = self._daemon.indexer.feeders.pending(root)
        message = {"done": done, "total": total, "pending": pending}
        self._tell("progress", root, message)

    def _tell(self, event: str, root: int, message: dict[str, Any]) -> None:
        daemon = self._daemon
        record = daemon.workspaces.roots.get(root)
        daemon.on_loop(lambda: daemon.handlers.subscribers.notify(event, record, message))


def run(paths: Paths, config: Config) -> int:
    """The daemon in the foreground. -> exit status: 0 ended as told, 1 could not start (one line says why)."""
    log_to_stderr(config)
    few_arenas()
    hung_up = threading.Event()  # until the loop takes the signal: by default it would end the process
    signal.signal(signal.SIGHUP, lambda *_: hung_up.set())
    try:
        lock = acquire_lock(paths)
    except PathError as error:
        print(f"codegraphd: {error}", file=sys.stderr)  # noqa: T201 - the log may be off
        return 1
    try:
        try:
            listener = open_listener(paths)
            daemon = Daemon(paths, config, lock)
        except (PathError, StoreError, OSError) as error:
            print(f"codegraphd: {error}", file=sys.stderr)  # noqa: T201
            return 1
        asyncio.run(daemon.serve(listener, hung_up))
    finally:
        lock.release()
    if daemon.must_restart:
        if "NOTIFY_SOCKET" in os.environ:
            return 1  # the service manager starts it again
        os.execv(sys.executable, [sys.executable, "-m", "codegraphd.daemon", "run"])  # noqa: S606 - ourselves
    return 0


def _hand_on(result: Future[int], future: Future[int]) -> None:
    if (error := future.exception()) is not None:
        result.set_exception(error)
    elif not result.cancelled():
        with contextlib.suppress(Exception):
            result.set_result(future.result())


def _first(items: Any, most: int) -> Any:
    return (item for item, _ in zip(items, range(most), strict=False))
