"""A real directory under a real watcher, and what an index would hold that believes all it is told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegraphd.daemon.workspace.watch import ScanResult, Watcher, WatchStatistics
from codegraphd.store.records import FileChange, Stat


def language_of(path: str, first_line: bytes = b"") -> str | None:
    """Small and independent of the analysis: .py, .txt, and python scripts without a name for it."""
    if path.endswith(".py"):
        return "python"
    if path.endswith(".txt"):
        return "text"
    return "python" if b"python" in first_line else None


class Lab:
    """`root` is watched as root 1 by `watcher`; `seen` is what its results add up to: path -> (stat, skipped)."""

    def __init__(self, base: Path) -> None:
        self.base, self.root = base, base / "root"
        self.root.mkdir(exist_ok=True)
        self.seen: dict[str, tuple[Stat, str]] = {}
        self.results: list[ScanResult] = []
        self.changes: list[FileChange] = []
        self.watcher: Watcher | None = None

    def listen(self, result: ScanResult) -> None:
        self.results.append(result)
        for change in result.changes:
            self.changes.append(change)
            if change.stat is None:
                self.seen.pop(change.path, None)
            else:
                self.seen[change.path] = (change.stat, change.skipped)

    def make_watcher(self, listener: Callable[[ScanResult], None] | None = None, **options: Any) -> Watcher:
        self.watcher = Watcher(str(self.base / "run"), listener or self.listen, language_of=language_of, **options)
        return self.watcher

    def start(self, known: bool = False, exclude: frozenset[str] = frozenset(), **options: Any) -> Lab:
        """Watch `root`; `known`: from what an earlier watcher has found."""
        self.make_watcher(**options)
        assert self.watcher is not None
        states = [(path, stat, skipped) for path, (stat, skipped) in self.seen.items()] if known else []
        self.watcher.add(1, str(self.root), states, exclude)
        self.sync()
        return self

    def stop(self) -> None:
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None

    def sync(self, root_id: int | None = 1) -> list[FileChange]:
        """Wait for everything so far; -> what was handed over since the last call."""
        assert self.watcher is not None
        passed = threading.Event()
        self.watcher.barrier(passed.set, root_id)
        assert passed.wait(60)
        changes, self.changes = self.changes, []
        return changes

    def write(self, path: str, text: str = "x\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def on_disk(self, wanted: Callable[[str], bool] = lambda path: path.endswith((".py", ".txt"))) -> dict[str, Stat]:
        """The oracle: a plain walk that knows nothing of ignore rules."""
        found = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(directory, name)
                relative = os.path.relpath(path, self.root)
                if wanted(relative) and os.path.isfile(path) and not os.path.islink(path):
                    s = os.lstat(path)
                    found[relative] = Stat(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
        return found

    def check_agrees(self) -> None:
        """Nothing missing, nothing left over, nothing out of date; and no watch too many."""
        self.sync()
        assert {path: stat for path, (stat, _) in self.seen.items()} == self.on_disk()
        statistics = self.statistics()
        n_directories = sum(1 for _ in os.walk(self.root))
        assert (statistics.directories, statistics.watches) == (n_directories, n_directories)
        assert statistics.files == len(self.paths())

    def paths(self) -> set[str]:
        return {path for path, (_, skipped) in self.seen.items() if not skipped}

    def statistics(self) -> WatchStatistics:
        assert self.watcher is not None
        return self.watcher.statistics(1)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """For what comes by itself (a heartbeat), without a barrier to wait for."""
        done = threading.Event()
        for _ in range(600):
            if condition():
                return
            done.wait(0.05)
        pytest.fail(f"{what}: not within 30 s")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.stop()
