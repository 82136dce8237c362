"""What can go wrong with the store.

StoreError                 cannot be opened or written; the message is one line that names the path
├── StoreDamaged           what lies there cannot be trusted: move it aside (`env.move_aside`) and build it again
├── StoreNewer             written by a newer program: never touched
├── StoreFull              no room: the disk, the quota, or the address space for the map
├── SnapshotExpired        this read transaction was held for too long and was ended
└── EditionChanged         another edition answers by now: ask again
"""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be opened or written."""


class StoreDamaged(StoreError):  # noqa: N818 - a state of the store, as its callers say it
    """What lies on the disk cannot be trusted: move it aside and rebuild."""


class StoreNewer(StoreError):  # noqa: N818
    """The data was written by a newer program; it is refused and left as it is."""


class StoreFull(StoreError):  # noqa: N818
    """There is no room for a commit. Nothing of it was written; reading goes on."""


class SnapshotExpired(StoreError):  # noqa: N818
    """A snapshot was held for longer than a reader may hold one; open a new one and ask again."""


class EditionChanged(StoreError):  # noqa: N818
    """The vector index answers for another edition than the one that was asked for; ask again, with its model."""
