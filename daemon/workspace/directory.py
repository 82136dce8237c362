"""A directory as it was last seen, and the marks by which events put its entries in doubt.

Owns: what inotify's thread calls (`Directory.on_event` and the like, which only mark), and `Marks`, the one thing that
this thread and the scanner's share.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from codegraphd.daemon.workspace.ignore import Ignore
from codegraphd.daemon.workspace.scan import FileState

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

WatchKey = tuple[int, int]

# A mark whose name ends in a slash: permissions or times of that directory have changed, and not what it is.
LIGHT: Final = b"/"

_ATTRIB_OF_DIRECTORY: Final = 0x4000_0004  # IN_ISDIR | IN_ATTRIB
_ABOUT_DIRECTORY: Final = 0x4000_0FFF  # IN_ISDIR and all kinds of events
_IS_DIRECTORY: Final = 0x4000_0000
_COMPLETE: Final = 0x88  # IN_CLOSE_WRITE | IN_MOVED_TO: the file says what it is meant to say
_LEFT: Final = 0x240  # IN_DELETE | IN_MOVED_FROM
FEW: Final = 8  # complete files: more of them at once are a tool's work, which is waited for


class Watches(Protocol):
    """Where directories are watched (`inotify.Inotify`)."""

    def watch(self, path: str, directory: Directory) -> WatchKey:
        """Idempotent for one inode: then the first part of the key is the same. Raises OSError."""

    def unwatch(self, keys: list[WatchKey]) -> None: ...


class Directory:
    """A directory that is not ignored. It is itself what inotify calls back, so that no event needs a table.

    Its place never changes: a directory that was moved is a new one.
    """

    __slots__ = ("dirs", "files", "ignore", "key", "marks", "name", "parent", "sealed", "unread")

    def __init__(self, marks: Marks, parent: Directory | None, name: str) -> None:
        self.marks, self.parent, self.name = marks, parent, name
        self.dirs: dict[str, Directory] = {}
        self.files: dict[str, FileState] = {}
        self.key: WatchKey | None = None
        self.ignore: Ignore | None = None  # None: not listed yet
        self.sealed = False  # marked as a cache by what it holds: nothing in it is looked at
        self.unread = False  # not listed for want of a permission

    def prefix(self) -> str | None:
        """Its path relative to the root, "" or ending in "/"; None once it is no longer part of the tree."""
        names: list[str] = []
        here = self
        while here.parent is not None:
            if here.parent.dirs.get(here.name) is not here:
                return None
            names.append(here.name)
            here = here.parent
        return "/".join(reversed(names)) + "/" if names else ""

    def on_event(self, event: InotifyEvent) -> None:
        name = event.name
        if event.mask & _ABOUT_DIRECTORY == _ATTRIB_OF_DIRECTORY:
            if name:
                name += LIGHT
            elif self.parent is not None:
                return  # its parent is told the same, by name
        self.marks.mark(self, name, complete=self._is_complete(event.mask, name))

    def _is_complete(self, mask: int, name: bytes) -> bool:
        """Whether there is nothing to wait for: a file was written and closed, or took its name by a rename; or one
        that nobody knows is gone, such as the copy that an editor wrote first. A known file that is gone may be on
        its way to come back."""
        if mask & _IS_DIRECTORY or not name:
            return False
        if mask & _LEFT:
            text = os.fsdecode(name)
            return text not in self.files and text not in self.dirs
        return bool(mask & _COMPLETE)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002
        self.marks.mark(self, b"")

    def on_queue_overflow(self) -> None:
        self.marks.note_overflow()


class Marks:
    """What events have put in doubt in one tree until a flush takes it. For any thread.

    first, last: when marks came in, seconds of `clock`; 0.0 for none. overflowed: events were lost; whoever sees to it
    sets it back. `notify` is called when the first mark or an overflow comes in, and when all that is marked is
    complete.
    """

    def __init__(self, notify: Callable[[], None], clock: Callable[[], float]) -> None:
        self.first, self.last = 0.0, 0.0
        self.overflowed = False
        self.n_overflows = 0
        self._notify, self._clock = notify, clock
        self._lock = threading.Lock()
        self._marks: dict[Directory, set[bytes]] = {}
        self._doubts: dict[str, bool] = {}
        self._unfinished: set[tuple[Directory, bytes]] = set()  # marks whose last event was not the end of a change

    def mark(self, directory: Directory, name: bytes, *, complete: bool = False) -> None:
        """An entry of a directory may have changed; b"": the directory itself; see also LIGHT. `complete`: it is as it
        is meant to be, and need not settle."""
        with self._lock:
            self._marks.setdefault(directory, set()).add(name)
            (self._unfinished.discard if complete else self._unfinished.add)((directory, name))
            tell = self._stamp() or (complete and self._are_complete())
        if tell:
            self._notify()

    def are_complete(self) -> bool:
        """Whether all that is marked is a few files that are complete: somebody has saved."""
        with self._lock:
            return self._are_complete()

    def _are_complete(self) -> bool:
        if self._unfinished or self._doubts or not 0 < len(self._marks) <= FEW:
            return False
        return sum(map(len, self._marks.values())) <= FEW

    def doubt(self, path: str, *, deep: bool) -> None:
        """A directory is to be listed, given by its path relative to the root ("": the root)."""
        with self._lock:
            self._doubts[path] = deep or self._doubts.get(path, False)
            first = self._stamp()
        if first:
            self._notify()

    def note_overflow(self) -> None:
        """Events were lost. Called once for every directory, so it has to be cheap."""
        if not self.overflowed:
            self.overflowed = True
            self.n_overflows += 1
            self._notify()

    def take(self) -> tuple[dict[Directory, set[bytes]], dict[str, bool]]:
        """-> (the names marked in each directory, the paths in doubt and whether all below them is)."""
        with self._lock:
            taken = self._marks, self._doubts
            self._marks, self._doubts, self._unfinished, self.first = {}, {}, set(), 0.0
        return taken

    def _stamp(self) -> bool:
        self.last = self._clock()
        if self.first:
            return False
        self.first = self.last
        return True
