"""Barriers: how a caller knows that every event of before has come through.

A file is made in a directory of our own, which is watched on the descriptor of all roots: its event comes after all
those that were queued before it. Where no such event can come, or none has come in time, events cannot be relied on and
the barrier says so: whoever serves it lists what was asked for.

For any thread.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from codegraphd.daemon.workspace.inotify import Beacon, Inotify

log = logging.getLogger(__name__)

_WAIT_S: Final = 1.0  # a barrier whose event has not come by then was lost: everything is in doubt


class Barrier(NamedTuple):
    """deadline: seconds of the clock. root_id: the root it was asked for, None: all. is_trusted: its event came."""

    deadline: float
    callback: Callable[[], None]
    root_id: int | None
    is_trusted: bool = False


class Barriers:
    """Those that wait. `wake` is called when one can be served, `overflowed` when events were lost."""

    def __init__(
        self, directory: str, wake: Callable[[], None], overflowed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.directory = directory
        self._wake, self._overflowed, self._clock = wake, overflowed, clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Barrier] = {}  # by name
        self._arrived: deque[str] = deque()
        self._serial = itertools.count(1)
        self._beacon: Beacon | None = None

    def watch(self, inotify: Inotify | None) -> None:
        """Send them over this descriptor from now on; None: there is none."""
        self._beacon = None
        if inotify is not None:
            try:
                self._beacon = Beacon(inotify, self.directory, self._arrive, self._overflow)
            except OSError as error:
                log.warning("%s cannot be watched (%s): every sync lists its workspaces", self.directory, error)

    def is_lost(self) -> bool:
        """Somebody removed the directory: it is to be watched again."""
        return self._beacon is not None and self._beacon.is_lost

    def send(self, callback: Callable[[], None], root_id: int | None) -> None:
        beacon = self._beacon
        try:
            if beacon is None or beacon.is_lost:
                raise OSError("nothing is watched")  # noqa: TRY301
            beacon.light(lambda name: self._expect(name, _WAIT_S, callback, root_id))
        except OSError:
            self._expect(f"none-{next(self._serial)}", 0.0, callback, root_id)
            self._wake()

    def have_arrived(self) -> bool:
        return bool(self._arrived)

    def deadlines(self) -> list[float]:
        with self._lock:
            return [barrier.deadline for barrier in self._waiting.values()]

    def take_ready(self) -> list[Barrier]:
        """Those whose event has come through, and those whose event is overdue."""
        ready: list[Barrier] = []
        now = self._clock()
        with self._lock:
            while self._arrived:
                if (found := self._waiting.pop(self._arrived.popleft(), None)) is not None:
                    ready.append(found._replace(is_trusted=True))
            overdue = [name for name, barrier in self._waiting.items() if barrier.deadline <= now]
            ready += [self._waiting.pop(name) for name in overdue]
        return ready

    def take_all(self) -> list[Barrier]:
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        return waiting

    def _expect(self, name: str, within_s: float, callback: Callable[[], None], root_id: int | None) -> None:
        with self._lock:
            self._waiting[name] = Barrier(self._clock() + within_s, callback, root_id)

    def _arrive(self, name: str) -> None:
        self._arrived.append(name)
        self._wake()

    def _overflow(self) -> None:
        self._overflowed()
        with self._lock:  # the events of barriers may be among those lost: they are served by a crawl
            self._waiting = {name: barrier._replace(deadline=0.0) for name, barrier in self._waiting.items()}
        self._wake()
