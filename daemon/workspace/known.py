"""What is known of one root: its directories as they were last seen, which of them are watched, what was found changed.

Terms: the *state* of a file is the signature of its stat, or why it is not indexed; a directory that left the tree
takes all below it along, and gives its watches back. How anything comes to be known is the business of `tree`.

Belongs to the scanner's thread.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from typing import Final

from codegraphd.daemon.workspace.directory import Directory, Marks, Watches, WatchKey
from codegraphd.daemon.workspace.scan import REPORTED, UNREADABLE_DIRECTORY, FileState, signature
from codegraphd.store.records import FileChange, Stat

UNKNOWN: Final = -1 << 64  # a state that no signature equals


class Known:
    """The directories of one root below `top`. `watches` None: nothing is watched."""

    def __init__(self, marks: Marks, watches: Watches | None) -> None:
        self.marks, self.watches = marks, watches
        self.top = Directory(marks, None, "")
        # Counters for the status.
        self.n_files, self.n_directories, self.n_watches = 0, 1, 0
        self.skipped: dict[str, int] = {}
        self.unwatched: set[Directory] = set()
        self.unwatched_because: OSError | None = None
        self.troubled: dict[Directory, OSError] = {}  # could not be listed, through no fault of their own
        self._todo: dict[Directory, bool] = {}  # to be listed -> deep
        self._changes: dict[str, FileChange] = {}

    def restore(self, known: Iterable[tuple[str, Stat, str]]) -> None:
        """Begin from what is indexed: (path, stat when it was read, why it was skipped)."""
        for path, found, skipped in known:
            prefix, _, name = path.rpartition("/")
            state: FileState = (
                skipped if skipped in REPORTED else signature(found.size, found.mtime_ns, found.ctime_ns, found.inode)
            )
            directory = self._make(prefix)
            if name not in directory.files:
                self._count(state, 1)
            directory.files[name] = state

    def relist_unwatched(self) -> None:
        """List again what is not watched or could not be listed: the poll for those directories."""
        for directory in (*self.unwatched, *self.troubled):
            self._todo.setdefault(directory, False)
        self.unwatched_because = None

    def invalidate(self, changes: Iterable[FileChange]) -> None:
        """These were handed over in vain: hand them over again when they are next looked at."""
        for change in changes:
            prefix, _, name = change.path.rpartition("/")
            directory = self._make(prefix)
            old = directory.files.get(name)
            if old is not None:
                self._count(old, -1)
            self._count(UNKNOWN, 1)
            directory.files[name] = UNKNOWN

    def take(self) -> tuple[FileChange, ...]:
        """The changes found since the last call; one for each path, the latest."""
        changes, self._changes = tuple(self._changes.values()), {}
        return changes

    def n_changes(self) -> int:
        return len(self._changes)

    def unwatch(self, *, lost: bool = False) -> None:
        """The root is gone or another one: forget watches and marks, keep what is known of the files.

        `lost`: the watches exist no more (their descriptor died).
        """
        keys = []
        for directory in self._walk(self.top):
            if directory.key is not None:
                keys.append(directory.key)
                directory.key = None
        self.n_watches = 0
        if self.watches is not None and not lost:
            self.watches.unwatch(keys)
        self.unwatched.clear()
        self.troubled.clear()
        self._todo.clear()

    # --- files -------------------------------------------------------------------------------------------------------

    def _forget(self, place: Directory, prefix: str, name: str) -> None:
        """An entry is gone, or is ignored now."""
        if name in place.files:
            self._forget_file(place, prefix + name, name)
        if child := place.dirs.pop(name, None):
            self._drop(child, f"{prefix}{name}/")

    def _forget_file(self, place: Directory, path: str, name: str) -> None:
        state = place.files.pop(name)
        self._count(state, -1)
        if is_indexed(state):
            self._changes[path] = FileChange(path, None)

    def _count(self, state: FileState, by: int) -> None:
        if isinstance(state, int):
            self.n_files += by
        else:
            self.skipped[state] = self.skipped.get(state, 0) + by

    # --- directories -------------------------------------------------------------------------------------------------

    def _make(self, prefix: str) -> Directory:
        """The directory of that path, made where it is not known (and not watched: a listing follows)."""
        directory = self.top
        for name in prefix.split("/") if prefix else ():
            child = directory.dirs.get(name)
            if child is None:
                child = directory.dirs[name] = Directory(self.marks, directory, name)
                self.n_directories += 1
            directory = child
        return directory

    def _adopt(self, parent: Directory, name: str) -> Directory:
        child = parent.dirs[name] = Directory(self.marks, parent, name)
        self.n_directories += 1
        self._todo[child] = True
        return child

    def _watch(self, directory: Directory, path: str) -> bool:
        """Watch it, idempotently. False: it is the same directory as before, and was watched since."""
        if self.watches is None:
            return True
        old = directory.key
        key: WatchKey | None = None
        if self.unwatched_because is None or old is not None:
            try:
                key = self.watches.watch(path, directory)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.ENOMEM):
                    self.unwatched_because = error
        if self.unwatched_because is not None and key is None:
            self.unwatched.add(directory)
        else:
            self.unwatched.discard(directory)
        if old is not None:
            self.watches.unwatch([old])  # the new one came first, so that the watch itself stays
        directory.key = key
        self.n_watches += (key is not None) - (old is not None)
        return key is None or old is None or key[0] != old[0]

    def _empty(self, directory: Directory, prefix: str) -> None:
        for name in list(directory.files):
            self._forget_file(directory, prefix + name, name)
        for name, child in list(directory.dirs.items()):
            del directory.dirs[name]
            self._drop(child, f"{prefix}{name}/")

    def _drop(self, directory: Directory, prefix: str) -> None:
        """A directory left the tree with all below it. It is no entry of its parent any more."""
        keys: list[WatchKey] = []
        stack = [(directory, prefix)]
        while stack:
            here, prefix = stack.pop()
            for name, state in here.files.items():
                self._count(state, -1)
                if is_indexed(state):
                    self._changes[prefix + name] = FileChange(prefix + name, None)
            stack += [(child, f"{prefix}{name}/") for name, child in here.dirs.items()]
            if here.key is not None:
                keys.append(here.key)
                here.key = None
            if here.unread:
                self._count(UNREADABLE_DIRECTORY, -1)
            here.files, here.dirs = {}, {}
            self.n_directories -= 1
            self.unwatched.discard(here)
            self.troubled.pop(here, None)
            self._todo.pop(here, None)
        self.n_watches -= len(keys)
        if self.watches is not None and keys:
            self.watches.unwatch(keys)

    def _walk(self, directory: Directory) -> Iterator[Directory]:
        stack = [directory]
        while stack:
            here = stack.pop()
            yield here
            stack.extend(here.dirs.values())


def is_indexed(state: FileState | None) -> bool:
    """Does the index have a record of a file in this state?"""
    return isinstance(state, int) or state in REPORTED
