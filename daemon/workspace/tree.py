"""The directories of one root as they were last seen, and how a look at them becomes changes.

Terms: a *mark* says that an entry of a directory may have changed; a *flush* looks at everything marked; a *listing*
reads one directory, anew or for the first time; a *deep* listing is followed by those of all directories below.

How nothing is lost: a directory is watched before it is listed, so what the listing misses comes as an event. Marks
are hints: a flush asks the disk. It handles all that is gone before what is there, so that the watches of a moved
directory are free again when it is found at its new place. A directory that came, went or moved is listed deep, even
if it seems to be the same as before: it may have been away just while it was listed. What is remembered of a file is
one integer.

Belongs to the scanner's thread, but for its `marks`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Final

from codegraphd.daemon.workspace.directory import Directory, Marks, Watches
from codegraphd.daemon.workspace.ignore import Ignore
from codegraphd.daemon.workspace.known import Known, is_indexed
from codegraphd.daemon.workspace.links import Links
from codegraphd.daemon.workspace.rules import BESIDE, MARKERS, RULE_NAMES, UNLESS_HOLDING, WorkspaceRules
from codegraphd.daemon.workspace.scan import (
    NO_LANGUAGE,
    REPORTED,
    UNREADABLE_DIRECTORY,
    FileState,
    ScanSettings,
    classify,
    is_recent,
    signature,
    stat_record,
    wall_clock_ns,
)
from codegraphd.daemon.workspace.throttle import Throttle
from codegraphd.store.records import FileChange

log = logging.getLogger(__name__)

_REREAD: Final = frozenset({".gitignore", ".git"})  # a change of these may change the rules of all that lies below


class Tree(Known):
    """Looks at the directories of one root. `notify`: see `Marks`."""

    def __init__(
        self,
        root: str,
        rules: WorkspaceRules,
        settings: ScanSettings,
        notify: Callable[[], None] = lambda: None,
        *,
        watches: Watches | None = None,
        exclude: frozenset[str] = frozenset(),
        caseless: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.rules, self.settings = root, rules, settings
        self.caseless = caseless
        self.exclude(exclude)
        super().__init__(Marks(notify, clock), watches)
        self.reexamine = False  # the settings have changed: equal signatures do not mean equal decisions
        self.gone = False  # the root could not be listed: its owner has to look whether it is still there
        self._clock = clock
        self._links = Links()
        self._throttle = Throttle()
        self._held: dict[tuple[Directory, str], float] = {}  # changed too often -> when it may be looked at
        self._now_ns = 0

    # --- the scanner's thread: what is to be looked at ---------------------------------------------------------------

    def rescan(self) -> None:
        """List everything again."""
        self._links.clear()
        self._todo[self.top] = True

    def exclude(self, paths: Iterable[str]) -> None:
        """Absolute paths of directories that are not part of this root. Takes effect with the next listing."""
        lead = self.root.rstrip("/") + "/"
        self._excluded = frozenset(path[len(lead) :] for path in paths if path.startswith(lead))

    def hint(self, path: str) -> None:
        """Somebody says that this path (relative to the root) has changed: it, and all below if it is a directory."""
        directory = self.top
        *above, last = path.split("/")
        if not {"", ".", ".."}.isdisjoint((*above, last)):
            return
        for name in above:
            child = directory.dirs.get(name)
            if child is None:
                last = name
                break
            directory = child
        with contextlib.suppress(UnicodeEncodeError):  # no file has such a name
            self.marks.mark(directory, os.fsencode(last))

    def is_in_doubt(self) -> bool:
        """Events were lost, or tell too little of what was seen: all is to be listed again."""
        return self.marks.overflowed or self._links.is_incomplete

    def stop_work(self) -> None:
        """Give up listing; whoever does so sees to it that all is listed later."""
        self._todo.clear()

    def has_work(self) -> bool:
        return bool(self._todo)

    def next_release(self) -> float | None:
        """When the next held path may be looked at."""
        return min(self._held.values(), default=None)

    # --- the scanner's thread: looking -------------------------------------------------------------------------------

    def flush(self, now: float, *, force: bool = False) -> None:
        """Look at what is marked. What needs a listing is left for `work`. `force`: also at what changes too often."""
        marks, doubts = self.marks.take()
        self._now_ns = wall_clock_ns()
        for path, deep in doubts.items():
            self._resolve_doubt(path, deep)
        names = {(d, os.fsdecode(name)) for d, raw in marks.items() for name in raw}
        for entry, due in list(self._held.items()):
            if force or due <= now:
                del self._held[entry]
                names.add(entry)
        present: list[tuple[Directory, str, str, os.stat_result, bool]] = []
        for directory, mark in names:  # first all that is gone
            light = mark.endswith("/")
            place = directory
            entry_name = name = mark.removesuffix("/")
            if not name and directory.parent is not None:
                place, entry_name = directory.parent, directory.name
            prefix = place.prefix()
            if prefix is None:
                continue
            if not entry_name:
                self.gone = True  # the root itself: its owner compares the inode
                continue
            if place.ignore is None:
                self._todo[place] = True  # known from the index only: nothing can be said of its entries yet
                continue
            if place.unread:
                continue
            if self.caseless:
                self._todo.setdefault(place, False)  # only a listing knows how the name is spelled
            try:
                found = os.lstat(f"{self.root}/{prefix}{entry_name}")
            except (OSError, ValueError):
                self._mind_rules(place, entry_name, exists=False)
                self._forget(place, prefix, entry_name)
                continue
            self._mind_rules(place, entry_name, exists=True)
            present.append((place, entry_name, prefix, found, light))
        for place, entry_name, prefix, found, light in present:
            if place.prefix() is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                self._look_at_directory(place, prefix, entry_name, light=light)
            else:
                self._look(place, prefix, entry_name, found, now=now, force=force)
        if force:
            self._links.doubt_all()
        self._look_at_links()

    def work(self, until: float, *, enough: int = 1 << 30) -> None:
        """List directories until nothing is left, it is `until` (seconds of the clock), or there are enough changes."""
        self._now_ns = wall_clock_ns()
        while self._todo:
            directory, deep = self._todo.popitem()
            self._list(directory, deep)
            if self.gone or len(self._changes) >= enough or self._clock() >= until:
                break
        if not self._todo:
            self._links.listed()

    def unwatch(self, *, lost: bool = False) -> None:
        super().unwatch(lost=lost)
        self._held.clear()
        self.marks.take()
        self.gone = False

    # --- one entry ---------------------------------------------------------------------------------------------------

    def _look_at_directory(self, place: Directory, prefix: str, name: str, *, light: bool) -> None:
        if name in place.files:
            self._forget_file(place, prefix + name, name)
        if self._is_excluded(place, prefix, name, None):
            self._forget(place, prefix, name)
            return
        child = place.dirs.get(name)
        if child is None:
            self._adopt(place, name)
        elif not light or child.unread or self._watch(child, f"{self.root}/{prefix}{name}"):
            self._todo[child] = True

    def _look(
        self, place: Directory, prefix: str, name: str, found: os.stat_result, *, now: float, force: bool
    ) -> None:
        """An entry that is there and no directory: bring what is known of it up to date."""
        path = prefix + name
        if name in place.dirs:
            self._drop(place.dirs.pop(name), path + "/")
        if self.caseless:
            return
        assert place.ignore is not None
        if place.sealed or place.ignore.ignored(prefix, name, False):
            if name in place.files:
                self._forget_file(place, path, name)
            if found.st_nlink > 1:
                self._links.written(found.st_ino)
            return
        if not force and isinstance(place.files.get(name), int):
            due = self._throttle.wait_until((place, name), now)
            if due is not None:
                self._held[place, name] = due
                return
        self._record(place, prefix, name, found, marked=True)

    def _look_at_links(self) -> None:
        for place, name in self._links.take_affected():
            prefix = place.prefix()
            if prefix is None or name not in place.files:
                continue
            with contextlib.suppress(OSError):
                self._record(place, prefix, name, os.lstat(f"{self.root}/{prefix}{name}"), marked=True)
        self._links.take_affected()  # what these have named in turn has been looked at

    def _record(self, place: Directory, prefix: str, name: str, found: os.stat_result, *, marked: bool) -> None:
        """Remember a file that is not ignored, and report it if it may have changed."""
        if found.st_nlink > 1:
            self._links.note((place, name), found.st_ino, marked=marked)
        old = place.files.get(name)
        new = signature(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        same = old in (new, ~new)
        recent = is_recent(found, self._now_ns)
        if same and not self.reexamine:
            # Equal times prove nothing if they were recent when they were taken (then `old` is the complement) or
            # if somebody just said that the file has changed: it is read again, once it is no longer so recent.
            again = (recent or old == ~new) if marked else (old == ~new and not recent)
            if not again:
                return
        path = prefix + name
        try:
            reason = classify(path, f"{self.root}/{path}", found, self.settings)
        except Exception:
            log.exception("%s: what kind of file this is cannot be told", path)
            reason = NO_LANGUAGE
        state: FileState = reason or (~new if recent else new)
        if (same and self.reexamine and not reason) or (reason and state == old):
            return
        if old is not None:
            self._count(old, -1)
        self._count(state, 1)
        place.files[name] = state
        if not reason or reason in REPORTED:
            self._changes[path] = FileChange(path, stat_record(found), reason)
        elif is_indexed(old):
            self._changes[path] = FileChange(path, None)

    def _mind_rules(self, place: Directory, name: str, *, exists: bool) -> None:
        """Does a change of this entry change what is ignored?"""
        if name not in RULE_NAMES:
            return
        if name in _REREAD:
            self._todo[place] = True
        elif name in MARKERS:
            if place.sealed != exists:
                self._todo.setdefault(place, False)
        elif name == UNLESS_HOLDING.get(place.name):
            if place.sealed == exists:
                self._todo.setdefault(place, False)
        elif exists != (name in place.files) and any(name in files for files in BESIDE.values()):
            self._todo.setdefault(place, False)

    # --- one directory -----------------------------------------------------------------------------------------------

    def _list(self, directory: Directory, deep: bool) -> None:
        prefix = directory.prefix()
        if prefix is None:
            return
        path = self.root if not prefix else f"{self.root}/{prefix[:-1]}"
        if self._watch(directory, path) and directory.ignore is not None and self.watches is not None:
            deep = deep or directory.key is not None  # another one than before
        try:
            with os.scandir(path) as listing:
                entries = list(listing)
            names = {entry.name for entry in entries}
            before = directory.ignore
            ignore = self._rules_of(directory, prefix, path, names)
        except OSError as error:
            self._list_failed(directory, prefix, error)
            return
        self.troubled.pop(directory, None)
        if directory.unread:
            directory.unread = False
            self._count(UNREADABLE_DIRECTORY, -1)
        same_rules = before is not None and before.levels == ignore.levels  # then what is known is not ignored
        parent = directory.parent
        directory.sealed = self.rules.is_sealed(parent.ignore if parent else None, prefix, names)
        seen: set[str] = set()
        for entry in () if directory.sealed else entries:
            name = entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if self._is_excluded(directory, prefix, name, names):
                        continue
                    if name in directory.files:
                        self._forget_file(directory, prefix + name, name)
                    child = directory.dirs.get(name)
                    if child is None:
                        self._adopt(directory, name)
                    elif deep or child.ignore is None:
                        self._todo[child] = True
                else:
                    if not (same_rules and name in directory.files) and ignore.ignored(prefix, name, False):
                        continue
                    if name in directory.dirs:
                        self._drop(directory.dirs.pop(name), f"{prefix}{name}/")
                    self._record(directory, prefix, name, entry.stat(follow_symlinks=False), marked=False)
                seen.add(name)
            except OSError:
                continue  # gone since, or not to be looked at: then what was known of it is forgotten below
        for name in [name for name in directory.files if name not in seen]:
            self._forget_file(directory, prefix + name, name)
        for name in [name for name in directory.dirs if name not in seen]:
            self._drop(directory.dirs.pop(name), f"{prefix}{name}/")

    def _list_failed(self, directory: Directory, prefix: str, error: OSError) -> None:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            if directory is self.top or not self._is_root_there():
                self.gone = True
            else:
                self._empty(directory, prefix)  # the event at its parent says the rest
        elif error.errno in (errno.EACCES, errno.EPERM):
            if directory is self.top:
                self.gone = True
                return
            self._empty(directory, prefix)
            if not directory.unread:
                directory.unread = True
                self._count(UNREADABLE_DIRECTORY, 1)
        else:
            self.troubled[directory] = error  # an I/O error, no descriptors left: what was known stays, try again

    def _is_root_there(self) -> bool:
        return os.path.isdir(self.root)

    def _rules_of(self, directory: Directory, prefix: str, path: str, names: set[str]) -> Ignore:
        parent = directory.parent
        if parent is None:
            ignore = self.rules.top(names)
        else:
            assert parent.ignore is not None
            ignore = self.rules.enter(parent.ignore, prefix, path, names)
        directory.ignore = ignore
        return ignore

    def _is_excluded(self, place: Directory, prefix: str, name: str, names: set[str] | None) -> bool:
        if place.sealed or place.ignore is None:
            return True
        if self._excluded and prefix + name in self._excluded:
            return True
        return self.rules.is_ignored(place.ignore, prefix, name, names)

    def _resolve_doubt(self, path: str, deep: bool) -> None:
        directory, prefix = self.top, ""
        for name in path.split("/") if path else ():
            child = directory.dirs.get(name)
            if child is None:
                if self._is_excluded(directory, prefix, name, None):
                    return
                # New or gone: its parent's listing tells. A name that is spelled otherwise on the disk (composed or
                # decomposed letters) is one that we know, so that all there has to be looked at.
                deep = not name.isascii()
                break
            directory = child
            prefix += name + "/"
        self._todo[directory] = deep or self._todo.get(directory, False)


def list_files(root: str, settings: ScanSettings, exclude: frozenset[str] = frozenset()) -> tuple[FileChange, ...]:
    """All files of a root as a fresh index would find them, skipped ones with their reason. Watches nothing.

    Raises FileNotFoundError where the root is no directory that can be listed.
    """
    tree = Tree(root, WorkspaceRules(root, settings.exclude), settings, exclude=exclude)
    tree.rescan()
    tree.work(float("inf"))
    if tree.gone:
        raise FileNotFoundError(errno.ENOENT, "no directory that can be listed", root)
    return tree.take()
