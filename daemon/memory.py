"""The daemon's own memory over its soft limit: what can be computed again is let go, then the process begins anew.

A fresh process needs less than one that has grown; where it does not, the limit is too small for what is watched, and
that is said in `status`, instead of starting again and again: one start an hour, by the date of a file.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from codegraphd.daemon.startup import release_free_memory

RESTART_EVERY_S = 3600.0


class MemoryLimit:
    """`mind` is called every few seconds, on one thread. `problem` is what it has to say."""

    def __init__(
        self, resident: Callable[[], int], shed: Callable[[], None], restart: Callable[[str], None], directory: str
    ) -> None:
        """`resident` tells the process's bytes, less those of files that it maps; `shed` gives back what it can; a file
        in `directory` tells when the process was last started for its memory."""
        self.problem: str | None = None
        self._resident, self._shed, self._restart = resident, shed, restart
        self._stamp = Path(directory, "memory-restart")

    def mind(self, limit: int) -> None:
        """Look, and act if more than `limit` bytes are resident."""
        if self._resident() <= limit:
            self.problem = None
            return
        self._shed()
        gc.collect()
        release_free_memory()
        rss = self._resident()
        if rss <= limit:
            self.problem = None
            return
        used = f"memory: {rss >> 20} MB of {limit >> 20} MB ([limits] memory_mb)"
        if self._may_restart():
            self._restart(used)
        self.problem = f"{used}; watch fewer or smaller workspaces, or raise it"

    def _may_restart(self) -> bool:
        """Whether the last start for this reason is long ago; this one is noted."""
        with contextlib.suppress(OSError):
            if 0 <= time.time() - self._stamp.stat().st_mtime < RESTART_EVERY_S:
                return False
        try:
            self._stamp.touch()
            os.utime(self._stamp)
        except OSError:  # it could not be remembered: then rather not at all
            return False
        return True
