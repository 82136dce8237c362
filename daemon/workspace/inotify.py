"""Linux: one inotify descriptor for all directories of all roots, and the barrier that it makes possible.

Owns: the descriptor and its thread (watchdog's `InotifyFD`, which is not its public face: the version is pinned, and
the tests guard what is used here). The thread only marks; it never reads a directory.

The barrier: inotify is one queue. A file made in a directory of our own, watched on the same descriptor, is seen
after every event that came before it, in whatever directory.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, WatchCallback, WatchDescriptor

    from codegraphd.daemon.workspace.directory import Directory, WatchKey

# MODIFY: truncate(path) and writes through a descriptor that stays open say nothing else. CREATE: hard links say
# nothing else. ATTRIB: the only word about chmod. Reading says nothing at all.
_EVENTS: Final = (
    "IN_CREATE", "IN_DELETE", "IN_MOVED_FROM", "IN_MOVED_TO", "IN_MODIFY", "IN_CLOSE_WRITE", "IN_ATTRIB",
    "IN_DELETE_SELF", "IN_MOVE_SELF", "IN_ONLYDIR", "IN_DONT_FOLLOW", "IN_EXCL_UNLINK",
)  # fmt: skip

_DENIED: Final = -1  # what watchdog answers, instead of raising, where a permission is missing


class Inotify:
    """The descriptor. Raises OSError (EMFILE) when there is none to be had, ImportError on other platforms."""

    def __init__(self) -> None:
        from watchdog.observers.inotify_c import InotifyConstants, InotifyFD, Mask

        mask = 0
        for name in _EVENTS:
            mask |= getattr(InotifyConstants, name)
        self._mask = Mask(mask)
        self._serial = itertools.count(1)  # a fresh id for each call: a moved directory gives the same watch again
        self._descriptor: InotifyFD = InotifyFD()
        self._descriptor.name = "inotify"
        self._descriptor.start()

    def watch(self, path: str, directory: Directory | WatchCallback) -> WatchKey:
        from watchdog.observers.inotify_c import CallbackId

        serial = next(self._serial)
        wd = self._descriptor.add_callback(os.fsencode(path), self._mask, directory, CallbackId(serial))
        if wd == _DENIED:
            self.unwatch([(wd, serial)])
            raise PermissionError(path)
        return wd, serial

    def unwatch(self, keys: list[WatchKey]) -> None:
        self._descriptor.remove_callbacks(keys)  # type: ignore[arg-type]  # its NewTypes of int

    def is_alive(self) -> bool:
        return self._descriptor.is_alive()

    def close(self) -> None:
        """Removes all watches. Returns when the thread has ended."""
        self._descriptor.stop()
        self._descriptor.join(5)


class Beacon:
    """Our own directory, watched: tells when a barrier's event has come through, and of an overflow just once."""

    def __init__(
        self, inotify: Inotify, directory: str, arrived: Callable[[str], None], overflowed: Callable[[], None]
    ) -> None:
        """Raises OSError where the directory cannot be made or watched."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._directory, self._arrived, self._overflowed = directory, arrived, overflowed
        self._serial = itertools.count(1)
        self.is_lost = False  # somebody removed the directory
        inotify.watch(directory, self)

    def light(self, register: Callable[[str], None]) -> None:
        """Send a barrier after all events so far. `register` is told its name before it can arrive. Raises OSError."""
        name = f"barrier-{os.getpid()}-{time.monotonic_ns()}-{next(self._serial)}"
        register(name)
        path = os.path.join(self._directory, name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.suppress(OSError):
            os.unlink(path)

    def on_event(self, event: InotifyEvent) -> None:
        if event.is_create and event.name.startswith(b"barrier-"):
            self._arrived(os.fsdecode(event.name))

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002
        self.is_lost = True

    def on_queue_overflow(self) -> None:
        self._overflowed()
