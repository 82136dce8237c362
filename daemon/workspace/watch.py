"""Watches the roots and says what changed in them.

Owns: the scanner, the one thread that reads directories, for all roots, and the inotify descriptor they share. Events
only mark (`tree`), marks settle (`root`), and what the disk then says is handed to the listener as `ScanResult`s, on
the scanner's thread. A caller knows by a barrier (`barriers`) that everything before it has been seen.

Public methods may be called from any thread and return at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from codegraphd.daemon.workspace.barriers import Barriers
from codegraphd.daemon.workspace.inotify import Inotify
from codegraphd.daemon.workspace.polling import is_caseless, mounts_of, read_mounts, silent_file_system
from codegraphd.daemon.workspace.root import Root, ScanResult, WatchStatistics
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import Tree
from codegraphd.store.records import Stat

__all__ = ["ScanResult", "WatchStatistics", "Watcher"]

log = logging.getLogger(__name__)

_RETRY_S: Final = 30.0  # between two attempts to get an inotify descriptor
_SLEPT_S: Final = 1.0  # more time in suspension than that: events may have been missed
_LATE_S: Final = 60.0  # a heartbeat that late means that the process, or the machine, was stopped
_MAX_WAIT_S: Final = 5.0
_TICK_S: Final = 2.0
_MOUNTS_S: Final = 10.0
_HAS_INOTIFY: Final = sys.platform == "linux"


class Watcher:
    """Watches any number of roots.

    run_directory: where barrier files are made, in a directory of our own; never inside of a watched root's index.
    listener: is given every `ScanResult`, on the scanner's thread; it should return soon.
    never: absolute paths of directories that are left out of every root (our own state).
    language_of: see `ScanSettings`; by default that of `codegraphd.daemon.analysis.languages`.
    """

    def __init__(
        self,
        run_directory: str,
        listener: Callable[[ScanResult], None],
        *,
        settle_ms: float = 30,
        never: frozenset[str] = frozenset(),
        exclude_patterns: Iterable[str] = (),
        max_file_kb: int = 1024,
        language_of: Callable[[str, bytes], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if language_of is None:
            from codegraphd.daemon.analysis import languages

            language_of = languages.language_of
        self._settings = ScanSettings(language_of, max_file_kb << 10, tuple(exclude_patterns))
        self._listener, self._settle_s, self._clock = listener, settle_ms / 1000, clock
        barrier_directory = os.path.join(os.path.realpath(run_directory), "barrier")
        self._never = frozenset(os.path.realpath(path) for path in never) | {barrier_directory}
        self._roots: dict[int, Root] = {}
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._barriers = Barriers(barrier_directory, self._wake.set, self._overflow, clock)
        self._inotify: Inotify | None = None
        self._problem = ""
        self._next_attempt = 0.0
        self._next_tick, self._next_mounts = 0.0, 0.0
        self._suspended = _suspended_s()
        self._open_inotify()
        self._thread = threading.Thread(target=self._run, name="scanner", daemon=True)
        self._thread.start()

    # --- from any thread ---------------------------------------------------------------------------------------------

    def add(
        self,
        root_id: int,
        path: str,
        known: Iterable[tuple[str, Stat, str]] = (),
        exclude: frozenset[str] = frozenset(),
    ) -> None:
        """Watch a root. An id that is watched already begins anew.

        path: absolute real path. known: what the index has of it (path, stat, skipped): only what differs is reported.
        exclude: absolute paths of roots inside of it, which own their files.
        """
        states = list(known)
        self._post(lambda: self._add(root_id, path, states, exclude))

    def remove(self, root_id: int) -> None:
        """Stop watching. A result that is on its way may still be handed over."""
        self._post(lambda: self._remove(root_id))

    def set_exclude(self, root_id: int, exclude: frozenset[str]) -> None:
        """The roots inside of a root have changed."""

        def act() -> None:
            if (root := self._roots.get(root_id)) is not None:
                root.tree.exclude(exclude | self._never)
                root.crawl()

        self._post(act)

    def configure(
        self,
        *,
        exclude_patterns: Iterable[str],
        max_file_kb: int,
        settle_ms: float | None = None,
        language_of: Callable[[str, bytes], str | None] | None = None,
    ) -> None:
        """Take new settings: every root is looked at again with them. None: as before."""
        patterns = tuple(exclude_patterns)

        def act() -> None:
            chosen = self._settings.language_of if language_of is None else language_of
            self._settings = ScanSettings(chosen, max_file_kb << 10, patterns)
            if settle_ms is not None:
                self._settle_s = settle_ms / 1000
            for root in self._roots.values():
                root.reconfigure(WorkspaceRules(root.tree.root, patterns), self._settings, self._settle_s)

        self._post(act)

    def rescan(self, root_id: int | None = None) -> None:
        """List a root again, or all of them: in doubt whether events were lost."""

        def act() -> None:
            for root in self._chosen(root_id):
                root.check()
                root.crawl()

        self._post(act)

    def changed(self, root_id: int, path: str, callback: Callable[[], None] | None = None) -> None:
        """A client says that this path, relative to the root, has changed: it is looked at without settling.

        callback: called on the scanner's thread once what was found is handed to the listener. That costs one look,
        where a barrier lists the whole root if its events cannot be relied on.
        """

        def act() -> None:
            if (root := self._roots.get(root_id)) is not None:
                with self._guard(root):
                    root.look_now(path, thoroughly=callback is not None)
            if callback is not None:
                _call(callback)

        if self._closing and callback is not None:
            callback()
        else:
            self._post(act)

    def barrier(self, callback: Callable[[], None], root_id: int | None = None) -> None:
        """Call back, on the scanner's thread, once every change made before this call is handed to the listener.

        root_id: changes in that root only. Nothing is waited for: settling is cut short. Where events cannot be relied
        on, the root is listed again.
        """

        if self._closing:
            callback()
            return
        self._barriers.send(callback, root_id)

    def statistics(self, root_id: int) -> WatchStatistics:
        root = self._roots.get(root_id)
        return WatchStatistics() if root is None else root.statistics(self._backend(root), self._problem)

    def close(self) -> None:
        """Ends the thread and removes all watches. Barriers that wait are called."""
        self._closing = True
        self._wake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    # --- the scanner's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        planned = self._clock()
        while not self._closing:
            self._wake.clear()
            with self._guard():
                while self._commands:
                    self._commands.popleft()()
            now = self._clock()
            with self._guard():
                self._tick(now, late=now - planned > _LATE_S)
            for root in list(self._roots.values()):
                with self._guard(root):
                    if root.due() <= now:
                        root.step()
            self._serve_barriers()
            now = self._clock()
            planned = max(now, self._next_wake())
            if planned > now and not self._commands and not self._barriers.have_arrived():
                self._wake.wait(planned - now)
        self._end()

    def _next_wake(self) -> float:
        due = (root.due() for root in self._roots.values())
        return min([self._clock() + _MAX_WAIT_S, *due, *self._barriers.deadlines()])

    def _tick(self, now: float, *, late: bool) -> None:
        """Every two seconds or so: do events still come, and was the machine asleep?"""
        if now < self._next_tick and not late:
            return
        self._next_tick = now + _TICK_S
        suspended = _suspended_s()
        if late or abs(suspended - self._suspended) > _SLEPT_S:
            log.info("the machine or the process was suspended: looking at everything again")
            for root in self._roots.values():
                root.crawl()
        self._suspended = suspended
        if self._inotify is not None and not self._inotify.is_alive():
            log.error("the thread that reads file-system events has died: starting another one")
            self._close_inotify()
            self._open_inotify()
        elif self._inotify is None and _HAS_INOTIFY and now >= self._next_attempt:
            self._open_inotify()
        elif self._barriers.is_lost():
            self._barriers.watch(self._inotify)
        for root in self._roots.values():
            if root.stream is not None and not root.stream.is_alive():
                self._open_stream(root)
                root.polled_because = self._why_polled(root)
                root.crawl()
        self._mind_mounts(now)

    def _serve_barriers(self) -> None:
        ready = self._barriers.take_ready()
        if not ready:
            return
        with self._guard():  # what was asked for before the barrier comes first
            while self._commands:
                self._commands.popleft()()
        asked = {root.id: root for barrier in ready for root in self._chosen(barrier.root_id)}
        doubted = {root.id for barrier in ready if not barrier.is_trusted for root in self._chosen(barrier.root_id)}
        for root in asked.values():
            with self._guard(root):
                if root.id in doubted:
                    root.crawl()
                root.settle_now()
        for barrier in ready:
            _call(barrier.callback)

    def _add(self, root_id: int, path: str, known: list[tuple[str, Stat, str]], exclude: frozenset[str]) -> None:
        self._remove(root_id)
        if self._closing:
            return
        tree = Tree(
            path,
            WorkspaceRules(path, self._settings.exclude),
            self._settings,
            self._wake.set,
            watches=self._inotify,
            exclude=exclude | self._never,
            caseless=is_caseless(path),
            clock=self._clock,
        )
        tree.restore(known)
        root = Root(root_id, tree, self._listener, self._clock, settle_s=self._settle_s)
        root.mounts = mounts_of(path, read_mounts())
        if any(path == own or path.startswith(own + "/") for own in self._never):
            root.refuse("it lies inside of codegraphd's own directories")
        else:
            self._open_stream(root)
        root.polled_because = self._why_polled(root)
        self._roots = {**self._roots, root_id: root}

    def _remove(self, root_id: int) -> None:
        root = self._roots.get(root_id)
        if root is not None:
            self._roots = {id: other for id, other in self._roots.items() if id != root_id}
            root.close()

    def _open_inotify(self) -> None:
        """Get a descriptor and put all roots on it; without one they are polled."""
        if not _HAS_INOTIFY:
            return
        try:
            self._inotify = Inotify()
            self._problem = ""
        except OSError as error:
            self._inotify = None
            self._next_attempt = self._clock() + _RETRY_S
            self._problem = _no_descriptor(error)
            log.warning("%s", self._problem)
        self._barriers.watch(self._inotify)
        for root in self._roots.values():
            root.tree.watches = self._inotify
            root.polled_because = self._why_polled(root)
            root.crawl()

    def _close_inotify(self) -> None:
        old, self._inotify = self._inotify, None
        self._barriers.watch(None)
        if old is not None:
            with contextlib.suppress(OSError):
                old.close()
        for root in self._roots.values():
            root.lose_watches()
            root.tree.watches = None

    def _open_stream(self, root: Root) -> None:
        """On macOS each root has a stream of its own."""
        if sys.platform != "darwin":
            return
        from codegraphd.daemon.workspace.fsevents import Stream

        if root.stream is not None:
            root.stream.close()
            root.stream = None
        tree = root.tree
        try:
            root.stream = Stream(
                tree.root, lambda path, deep: tree.marks.doubt(path, deep=deep), tree.marks.note_overflow
            )
            root.polled_because = ""
        except (OSError, ImportError) as error:
            log.warning("%s: no file-system events (%s): it is polled", tree.root, error)
            root.polled_because = "no events"

    def _mind_mounts(self, now: float) -> None:
        """Something was mounted or unmounted over or below a root. Elsewhere, containers do so all the time."""
        if not _HAS_INOTIFY or now < self._next_mounts:
            return
        self._next_mounts = now + _MOUNTS_S
        mounts = read_mounts()
        for root in self._roots.values():
            found = mounts_of(root.tree.root, mounts)
            if found != root.mounts:
                root.mounts = found
                root.polled_because = self._why_polled(root)
                root.crawl()

    def _why_polled(self, root: Root) -> str:
        if _HAS_INOTIFY and self._inotify is None:
            return "no inotify descriptor"
        if not _HAS_INOTIFY and root.stream is None:
            return "no events on this platform"
        return silent_file_system(root.mounts) or ""

    def _backend(self, root: Root) -> str:
        return "fsevents" if root.stream is not None else "inotify" if self._inotify is not None else "polling"

    def _chosen(self, root_id: int | None) -> list[Root]:
        if root_id is None:
            return list(self._roots.values())
        root = self._roots.get(root_id)
        return [] if root is None else [root]

    def _end(self) -> None:
        roots, self._roots = self._roots, {}
        for root in roots.values():
            root.close(at_once=True)
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            with contextlib.suppress(OSError):
                inotify.close()
        for barrier in self._barriers.take_all():
            _call(barrier.callback)
        while self._commands:  # they may hold callbacks; nothing is watched any more
            with self._guard():
                self._commands.popleft()()

    @contextlib.contextmanager
    def _guard(self, root: Root | None = None) -> Iterator[None]:
        """An error of ours costs a rescan, not the thread."""
        try:
            yield
        except Exception:
            log.exception("the scanner failed%s; looking again later", f" in {root.tree.root}" if root else "")
            for doubted in [root] if root else self._roots.values():
                doubted.doubt()

    # --- other threads -----------------------------------------------------------------------------------------------

    def _post(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self._wake.set()

    def _overflow(self) -> None:
        for root in self._roots.values():
            root.tree.marks.note_overflow()


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a barrier's callback failed")


def _suspended_s() -> float:
    """Seconds that this machine has spent in suspension, give or take a constant."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.time() - time.monotonic()


def _no_descriptor(error: OSError) -> str:
    text = f"no inotify instance ({error.strerror}): workspaces are polled"
    if error.errno == errno.EMFILE:
        text += "; raise the sysctl fs.inotify.max_user_instances"
    return text
