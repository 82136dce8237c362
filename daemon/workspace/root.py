"""When a root is looked at: settling, the heartbeat, polling, back-off; and what its tree finds, handed over.

Owns: the state of one root (crawling, watching, missing), its identity on the disk, and the schedule. Everything here
runs on the scanner's thread, in `step` (do what is due, for a bounded time) or `settle_now` (do everything, at once).
Times are seconds of a monotonic clock.

A root that is not there any more is `missing`: its files are not reported as deleted. So is a root that comes back
empty while its index is not: a file system that is not mounted yet, or a clone that is about to begin.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from codegraphd.daemon.workspace.polling import Mount, poll_interval
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import REPORTED, ScanSettings
from codegraphd.daemon.workspace.tree import Tree
from codegraphd.store.records import FileChange

log = logging.getLogger(__name__)

SLICE: Final = 500  # changes handed over at once, so that indexing starts while a crawl goes on
WORK_S: Final = 0.02  # one step's share of a long crawl: others are served in between
MAX_SETTLE_S: Final = 3.0
_COMPLETE_SHARE: Final = 1 / 6  # of the settling time: 5 ms for files that were saved in a quiet moment
_HEARTBEAT_S: Final = 2.0
_IDLE_HEARTBEAT_S: Final = 5.0
_IDLE_AFTER_S: Final = 120.0
_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 30.0
_TRIES: Final = 3
_QUIET_S: Final = 60.0  # without an overflow: the back-off starts anew


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What was found in one root: at most a few hundred changes, each path once.

    complete: a crawl of the whole root has ended with this result. missing: the root is not there; its index stays.
    """

    root_id: int
    changes: tuple[FileChange, ...]
    complete: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class WatchStatistics:
    backend: str = "none"  # inotify, fsevents, polling
    watches: int = 0
    directories: int = 0
    files: int = 0  # that are to be read
    overflows: int = 0
    rescans: int = 0  # of the whole root, the first crawl and quiet polls not counted
    unwatched: int = 0  # directories that are polled for want of watches
    skipped: dict[str, int] = field(default_factory=dict)  # files of which the index has no record, by reason
    state: str = "crawling"  # crawling, watching, missing
    problem: str = ""


class Stream(Protocol):
    """Events that a root has for itself (`fsevents.Stream`)."""

    def is_alive(self) -> bool: ...

    def close(self) -> None: ...


class Root:
    """One root's state and schedule. `deliver` is given each `ScanResult`; what it raises is logged, and the changes
    are handed over again later."""

    def __init__(
        self,
        root_id: int,
        tree: Tree,
        deliver: Callable[[ScanResult], None],
        clock: Callable[[], float],
        *,
        settle_s: float,
    ) -> None:
        self.id, self.tree = root_id, tree
        self.state = "crawling"
        self.polled_because = ""  # "": events can be relied on
        self.mounts: tuple[Mount, ...] = ()
        self.stream: Stream | None = None
        self.n_rescans = 0
        self._deliver, self._clock, self._settle_s = deliver, clock, settle_s
        self._identity: tuple[int, int] | None = None
        self._crawling, self._crawl_is_loud = False, False
        self._crawl_s, self._walk_s = 0.0, 0.0
        self._last_change = clock()
        self._flushed_at = -float("inf")  # when marks were last taken
        self._next_check = 0.0
        self._next_poll = float("inf")
        self._rescan_at: float | None = None  # put off, by back-off
        self._backoffs = 0
        self._last_doubt = -float("inf")
        self._refused = ""

    # --- the schedule ------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When `step` is to be called next."""
        tree = self.tree
        times = [self._next_check]
        if self.state == "missing":
            return self._next_check
        if tree.has_work() or (tree.is_in_doubt() and self._rescan_at is None):
            return 0.0
        if self._rescan_at is not None:
            times.append(self._rescan_at)
        if tree.marks.first:
            times.append(self._settled_at())
        if (release := tree.next_release()) is not None:
            times.append(release)
        if self._is_polled():
            times.append(self._next_poll)
        return min(times)

    def step(self) -> None:
        """Do what is due, at most for about WORK_S."""
        now = self._clock()
        if now >= self._next_check:
            self.check()
            if self.state != "missing" and self.tree.rules.is_stale():
                self.crawl()
        if self.state == "missing":
            return
        tree = self.tree
        if tree.is_in_doubt() and self._rescan_at is None:
            self._put_off_rescan(now)
        if self._rescan_at is not None and now >= self._rescan_at:
            self._rescan_at = None
            self.crawl()
        if self._is_polled() and now >= self._next_poll:
            self._poll()
        release = tree.next_release()
        if (tree.marks.first and now >= self._settled_at()) or (release is not None and now >= release):
            self._flush(force=False)
        self._work(now + WORK_S)

    def _settled_at(self) -> float:
        """When the marks are taken: after a while without any, or when the first one has waited long enough.

        Files that were saved hardly wait, unless something else has just been handed over: a tool that writes one
        file after the other is waited for.
        """
        marks = self.tree.marks
        if marks.first - self._flushed_at >= self._settle_s and marks.are_complete():
            return marks.last + self._settle_s * _COMPLETE_SHARE
        return min(marks.last + self._settle_s, marks.first + MAX_SETTLE_S)

    def settle_now(self) -> None:
        """Hand over everything that has happened so far."""
        self.check()
        if self.state == "missing":
            return
        if (
            self.polled_because
            or self.stream is not None
            or self.tree.is_in_doubt()
            or self._rescan_at is not None
            or self.tree.rules.is_stale()
        ):
            self._rescan_at = None
            self.crawl()
        elif self._is_polled():
            self.tree.relist_unwatched()
        self._flush(force=True)
        self._work(float("inf"))
        if self.tree.is_in_doubt():
            self.crawl()
            self._work(float("inf"))

    def look_now(self, path: str, *, thoroughly: bool = False) -> None:
        """Somebody says that this path has changed: look at once. `thoroughly`: and hand over what is found."""
        if self.state == "missing":
            return
        self.tree.hint(path)
        self._flush(force=True)
        self._work(float("inf") if thoroughly else self._clock() + WORK_S)

    def doubt(self) -> None:
        """Something went wrong on our side: list everything again, but not again and again."""
        self._put_off_rescan(self._clock())

    def reconfigure(self, rules: WorkspaceRules, settings: ScanSettings, settle_s: float) -> None:
        """Look at everything again with other settings."""
        self.tree.rules, self.tree.settings, self._settle_s = rules, settings, settle_s
        self.tree.reexamine = True
        self.crawl()

    def refuse(self, why: str) -> None:
        """This directory is never looked at."""
        self._refused = why

    def close(self, *, at_once: bool = False) -> None:
        """Stop watching. `at_once`: the descriptor is about to be closed, with all its watches."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        if not at_once:
            self.tree.unwatch()

    def crawl(self, *, quiet: bool = False) -> None:
        """List everything again. `quiet`: its end is of no interest if nothing has changed."""
        if self.state == "missing":
            return
        self.tree.marks.overflowed = False
        if self.state == "watching" and not quiet:
            self.n_rescans += 1
        if not self._crawling:
            self._crawl_is_loud, self._crawl_s = False, 0.0
        self._crawling = True
        self._crawl_is_loud |= not quiet
        self.tree.rescan()

    # --- is it there? ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The heartbeat: an ancestor's rename or an unmount tells nobody, so the root's identity is compared."""
        now = self._clock()
        idle = now - self._last_change > _IDLE_AFTER_S
        self._next_check = now + (_IDLE_HEARTBEAT_S if idle else _HEARTBEAT_S)
        identity = _identity(self.tree.root) if not self._refused else None
        doubted, self.tree.gone = self.tree.gone, False
        if identity == self._identity and identity is not None and not doubted:
            return
        if identity is None or not self._is_usable(identity):
            self._lose()
            return
        if identity != self._identity:
            self.tree.unwatch()
            self._identity = identity
            self._rescan_at = None
            self.state = "crawling"
            self._crawling = False
        self.crawl()

    def lose_watches(self) -> None:
        """The descriptor died, with all its watches."""
        self.tree.unwatch(lost=True)
        self.crawl()

    def _is_usable(self, identity: tuple[int, int]) -> bool:
        """Can it be listed; and is it, if it is another directory than before, not suspiciously empty?"""
        try:
            with os.scandir(self.tree.root) as listing:
                empty = next(listing, None) is None
        except OSError:
            return False
        return not empty or identity == self._identity or self.tree.n_files == 0

    def _lose(self) -> None:
        self.tree.unwatch()
        self._identity, self._crawling, self._rescan_at = None, False, None
        if self.state != "missing":
            self.state = "missing"
            # What was seen while it was going: its files may be out of reach rather than deleted. Ask again later.
            self.tree.invalidate(self.tree.take())
            self._hand_over((), missing=True)

    # --- doing -------------------------------------------------------------------------------------------------------

    def _flush(self, *, force: bool) -> None:
        if _identity(self.tree.root) != self._identity:
            self.check()
        if self.state == "missing":
            return
        self._flushed_at = self._clock()
        self.tree.flush(self._flushed_at, force=force)
        if self.tree.gone:
            self.check()

    def _work(self, until: float) -> None:
        tree = self.tree
        begin = self._clock()
        n_lost = 0
        while tree.has_work() and self.state != "missing":
            tree.work(until, enough=SLICE)
            if tree.gone:
                self.check()
                n_lost += 1
                if n_lost > _TRIES:  # it comes and goes: have patience
                    self.tree.stop_work()
                    self._crawling = False
                    self.doubt()
            if tree.has_work() and tree.n_changes() >= SLICE:
                self._hand_over(tree.take())
            if self._clock() >= until:
                break
        self._crawl_s += self._clock() - begin
        if self.state == "missing":
            return
        if tree.has_work():
            if self._crawling and tree.n_changes():  # a save during a long crawl does not wait for its end
                self._hand_over(tree.take())
            return
        complete = self._crawling
        if complete:
            self._crawling = tree.reexamine = False
            self._walk_s = self._crawl_s
            self.state = "watching"
        if complete or self._next_poll == float("inf"):
            self._plan_poll()
        changes = tree.take()
        if changes or (complete and self._crawl_is_loud):
            self._hand_over(changes, complete=complete)

    def _hand_over(self, changes: tuple[FileChange, ...], *, complete: bool = False, missing: bool = False) -> None:
        if any(change.stat is None for change in changes) and _identity(self.tree.root) != self._identity:
            self.tree.invalidate(changes)  # these are not deleted: the root went away while they were looked at
            self.check()
            return
        if changes:
            self._last_change = self._clock()
        for start in range(0, max(1, len(changes)), SLICE):
            part = changes[start : start + SLICE]
            last = start + SLICE >= len(changes)
            try:
                self._deliver(ScanResult(self.id, part, complete and last, missing))
            except Exception:
                log.exception("%s: %d changes could not be handed over; again later", self.tree.root, len(part))
                self.tree.invalidate(part)
                self._put_off_rescan(self._clock())

    def _put_off_rescan(self, now: float) -> None:
        """The first rescan comes at once (when things have settled); one after the other, ever later."""
        if now - self._last_doubt > _QUIET_S:
            self._backoffs = 0
            delay = self._settle_s
        else:
            self._backoffs += 1
            delay = max(_BACKOFF_S * 2**self._backoffs, 10 * self._walk_s)
        self._last_doubt = now
        self._rescan_at = now + min(delay, _MAX_BACKOFF_S)

    def _is_polled(self) -> bool:
        return bool(self.polled_because or self.tree.unwatched or self.tree.troubled)

    def _poll(self) -> None:
        if self.polled_because:
            self.crawl(quiet=True)
        else:
            self.tree.relist_unwatched()
        self._plan_poll()

    def _plan_poll(self) -> None:
        now = self._clock()
        self._next_poll = (
            now + poll_interval(self._walk_s, now - self._last_change) if self._is_polled() else float("inf")
        )

    # --- figures -----------------------------------------------------------------------------------------------------

    def statistics(self, backend: str, problem: str) -> WatchStatistics:
        """From any thread."""
        tree = self.tree
        problems = [text for text in (problem, self._refused) if text]
        if tree.unwatched:
            problems.append(_too_few_watches(len(tree.unwatched)))
        if tree.troubled:
            problems.append(f"{len(tree.troubled)} directories could not be listed; trying again")
        return WatchStatistics(
            backend="polling" if self.polled_because else backend,
            watches=tree.n_watches,
            directories=tree.n_directories,
            files=tree.n_files,
            overflows=tree.marks.n_overflows,
            rescans=self.n_rescans,
            unwatched=len(tree.unwatched),
            skipped={reason: n for reason, n in tree.skipped.copy().items() if n and reason not in REPORTED},
            state=self.state,
            problem="; ".join(problems),
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _too_few_watches(n_directories: int) -> str:
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
            limit = f" (now {file.read().strip()})"
    except OSError:
        limit = ""
    return (
        f"{n_directories} directories are polled because the limit of inotify watches is reached: "
        f"raise the sysctl fs.inotify.max_user_watches{limit}"
    )
