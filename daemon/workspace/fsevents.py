"""macOS: FSEvents, by the native part of watchdog.

Owns: one stream for each root, on a thread of its own. Its events only say which directories are in doubt; the disk
says the rest, the spelling of names included. watchdog's own emitter is not used: it walks moved trees whether they
are ignored or not, and takes no notice of "events were dropped" and "scan the subdirectories".
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final

# FSEventStreamEventFlags, as in the system's FSEvents.h.
MUST_SCAN_SUBDIRS: Final = 0x01
USER_DROPPED: Final = 0x02
KERNEL_DROPPED: Final = 0x04
EVENT_IDS_WRAPPED: Final = 0x08
HISTORY_DONE: Final = 0x10
ROOT_CHANGED: Final = 0x20
MOUNT: Final = 0x40
UNMOUNT: Final = 0x80
ITEM_IS_DIR: Final = 0x00020000

_LOST: Final = USER_DROPPED | KERNEL_DROPPED | EVENT_IDS_WRAPPED | ROOT_CHANGED | MOUNT | UNMOUNT
_LATENCY_S: Final = 0.01
_START_S: Final = 10.0


class Stream:
    """Events of one root. `doubt(path relative to the root, deep)` and `lost()` are called on the stream's thread."""

    def __init__(self, root: str, doubt: Callable[[str, bool], None], lost: Callable[[], None]) -> None:
        """Raises ImportError on other platforms, OSError where the stream does not start."""
        import _watchdog_fsevents  # type: ignore[import-not-found,unused-ignore]

        self._root, self._doubt, self._lost = root, doubt, lost
        # watchdog's native part wants composed letters; FSEvents takes both.
        self._stream: Any = _watchdog_fsevents.Stream([unicodedata.normalize("NFC", root)], latency=_LATENCY_S)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fsevents", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_S) or not self._thread.is_alive():
            raise OSError("the FSEvents stream did not start")

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._stream.stop()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            self._stream.run(self._on_events, self._started.set)
        finally:
            self._started.set()

    def _on_events(
        self, paths: Sequence[str | bytes], _inodes: Sequence[int], flags: Sequence[int], _ids: Sequence[int]
    ) -> None:
        for path, flag in zip(paths, flags, strict=False):
            handle_event(self._root, os.fsdecode(path), flag, self._doubt, self._lost)


def handle_event(
    root: str, path: str, flags: int, doubt: Callable[[str, bool], None], lost: Callable[[], None]
) -> None:
    """What one event puts in doubt: everything, a directory with all below it, or the directory of an entry."""
    if flags & _LOST:
        lost()
        return
    path = path.rstrip("/")
    if path == root:
        doubt("", bool(flags & MUST_SCAN_SUBDIRS))
        return
    if not path.startswith(root.rstrip("/") + "/"):
        if flags & MUST_SCAN_SUBDIRS and root.startswith(path + "/"):
            lost()
        return
    relative = path[len(root.rstrip("/")) + 1 :]
    doubt(relative.rpartition("/")[0], False)
    if flags & (ITEM_IS_DIR | MUST_SCAN_SUBDIRS):
        # Perhaps another directory than before; an event for a directory's own times costs one listing too many.
        doubt(relative, True)
