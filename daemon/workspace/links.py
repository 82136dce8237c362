"""Files with several names: a write through one of them is an event for that name only.

Owns: which names of the tree belong to one file, as far as listings have met them.
"""

from __future__ import annotations

from codegraphd.daemon.workspace.directory import Directory

Entry = tuple[Directory, str]


class Links:
    """Names by inode, of files whose link count is above one. One file system is assumed, as a file has one name
    where the counts mislead, and costs one look too many."""

    def __init__(self) -> None:
        self.is_incomplete = False  # a new name was seen, perhaps of a file that is known by another one: list all
        self._is_listing_all = False  # then the other name is met, too
        self._names: dict[int, set[Entry]] = {}
        self._affected: set[Entry] = set()

    def note(self, entry: Entry, inode: int, *, marked: bool) -> None:
        """`marked`: an event says that the file has changed under this name."""
        names = self._names.get(inode)
        if names is None:
            names = self._names[inode] = set()
            self.is_incomplete |= marked or not self._is_listing_all
        if marked:
            self._affected |= names - {entry}
        names.add(entry)

    def listed(self) -> None:
        """Nothing is left to be listed."""
        self._is_listing_all = False

    def written(self, inode: int) -> None:
        """Something was written to this file, through a name of which nothing is known."""
        self._affected |= self._names.get(inode, set())

    def doubt_all(self) -> None:
        """No event tells of what was written through a name that is not watched: all are to be looked at."""
        for names in self._names.values():
            self._affected |= names

    def take_affected(self) -> set[Entry]:
        """Other names of what has changed since the last call; they have to be looked at, too."""
        affected, self._affected = self._affected, set()
        return affected

    def clear(self) -> None:
        """All is about to be listed again."""
        self.is_incomplete, self._is_listing_all = False, True
        self._names.clear()
