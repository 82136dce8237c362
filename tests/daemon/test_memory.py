"""What the daemon does over its memory limit, with a process whose memory is written down beforehand."""

from __future__ import annotations

import os
from pathlib import Path

from codegraphd.daemon.memory import RESTART_EVERY_S, MemoryLimit

MB = 1 << 20


class Process:
    """One that gives back `spare` megabytes when asked to."""

    def __init__(self, directory: Path, used: int, spare: int = 0) -> None:
        self.used, self.spare = used, spare
        self.sheds = 0
        self.restarts: list[str] = []
        self.limit = MemoryLimit(lambda: self.used * MB, self._shed, self.restarts.append, str(directory))

    def _shed(self) -> None:
        self.sheds += 1
        self.used, self.spare = self.used - self.spare, 0

    def mind(self) -> str | None:
        self.limit.mind(100 * MB)
        return self.limit.problem


def test_fault_46_below_the_limit_nothing_is_done(tmp_path: Path) -> None:
    process = Process(tmp_path, used=100)
    assert process.mind() is None
    assert (process.sheds, process.restarts) == (0, [])


def test_fault_46_caches_are_shed_first(tmp_path: Path) -> None:
    process = Process(tmp_path, used=150, spare=60)
    assert process.mind() is None
    assert (process.sheds, process.restarts) == (1, [])


def test_fault_46_then_the_process_begins_anew_and_if_that_does_not_help_it_says_so(tmp_path: Path) -> None:
    grown = Process(tmp_path, used=150, spare=10)
    grown.mind()
    assert grown.restarts == ["memory: 140 MB of 100 MB ([limits] memory_mb)"]
    anew = Process(tmp_path, used=130)
    for _ in range(3):
        assert "memory: 130 MB of 100 MB" in str(anew.mind())
    assert anew.restarts == []
    stamp = tmp_path / "memory-restart"
    os.utime(stamp, (0, stamp.stat().st_mtime - RESTART_EVERY_S))
    anew.mind()
    assert len(anew.restarts) == 1


def test_fault_46_what_cannot_be_noted_is_not_done(tmp_path: Path) -> None:
    process = Process(tmp_path / "missing", used=150)
    assert process.mind() is not None
    assert process.restarts == []
