"""How long a change waits before it is looked at: hardly, if somebody has saved a file; else until all is quiet.

Driven by a clock of its own and by the events that inotify sends for what is done.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyConstants as Inotify
from watchdog.observers.inotify_c import InotifyEvent, Mask, WatchDescriptor

from codegraphd.daemon.workspace.directory import FEW
from codegraphd.daemon.workspace.root import Root, ScanResult
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import Tree

SETTLE_S = 0.03
COMPLETE_S = 0.005
CREATE, MODIFY, CLOSE = Inotify.IN_CREATE, Inotify.IN_MODIFY, Inotify.IN_CLOSE_WRITE
MOVED_FROM, MOVED_TO, DELETE = Inotify.IN_MOVED_FROM, Inotify.IN_MOVED_TO, Inotify.IN_DELETE
CREATE_DIRECTORY = Inotify.IN_CREATE | Inotify.IN_ISDIR


class Watched:
    """A root with the file known.py that was crawled a while ago, at a time that only the test moves on."""

    def __init__(self, directory: Path) -> None:
        (directory / "known.py").write_text("x\n")
        self.now, self.woken = 1000.0, 0
        tree = Tree(
            str(directory),
            WorkspaceRules(str(directory)),
            ScanSettings(lambda path, line: "text"),
            self._wake,
            clock=lambda: self.now,
        )
        self.root = Root(1, tree, self._listen, lambda: self.now, settle_s=SETTLE_S)
        self.changes: set[str] = set()
        self.root.step()
        self.now += 1
        self.changes.clear()

    def _wake(self) -> None:
        self.woken += 1

    def _listen(self, result: ScanResult) -> None:
        self.changes.update(change.path for change in result.changes)

    def send(self, *events: tuple[int, str]) -> None:
        for mask, name in events:
            event = InotifyEvent(WatchDescriptor(1), Mask(mask), 0, name.encode())
            self.root.tree.top.on_event(event)

    def wait(self) -> float:
        """Seconds from now until what was sent is looked at."""
        return self.root.due() - self.now


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


WRITTEN = ((MODIFY, "known.py"), (CLOSE, "known.py"))
MANY = tuple((CLOSE, f"f{n}.py") for n in range(FEW + 1))


@pytest.mark.parametrize(
    ("events", "expect"),
    [
        pytest.param(WRITTEN, COMPLETE_S, id="written in place"),
        pytest.param(
            ((CREATE, "t"), (MODIFY, "t"), (CLOSE, "t"), (MOVED_FROM, "t"), (MOVED_TO, "known.py")), COMPLETE_S,
            id="by a copy that takes its name",
        ),
        pytest.param(
            ((MOVED_FROM, "known.py"), (MOVED_TO, "known.py~"), (CREATE, "known.py"), *WRITTEN, (DELETE, "known.py~")),
            COMPLETE_S, id="with a backup, in the end",
        ),
        pytest.param(((MOVED_FROM, "known.py"), (MOVED_TO, "known.py~")), SETTLE_S, id="with a backup, half way"),
        pytest.param(((CREATE, "new.py"),), SETTLE_S, id="created and still open"),
        pytest.param((*WRITTEN, (MODIFY, "known.py")), SETTLE_S, id="written again"),
        pytest.param((*WRITTEN, (CREATE, "new.py")), SETTLE_S, id="beside one that is still open"),
        pytest.param(((DELETE, "known.py"),), SETTLE_S, id="deleted"),
        pytest.param(((MOVED_FROM, "known.py"), (MOVED_TO, "new.py")), SETTLE_S, id="renamed"),
        pytest.param((*WRITTEN, (CREATE_DIRECTORY, "d")), SETTLE_S, id="with a new directory"),
        pytest.param(MANY, SETTLE_S, id="many at once"),
    ],
)  # fmt: skip
def test_a_saved_file_hardly_waits(watched: Watched, events: tuple[tuple[int, str], ...], expect: float) -> None:
    watched.send(*events)
    assert watched.wait() == pytest.approx(expect)


def test_the_scanner_is_woken_when_a_file_is_complete(watched: Watched) -> None:
    watched.send((MODIFY, "known.py"))
    assert watched.woken == 1  # and sleeps until all is quiet
    watched.send((MODIFY, "known.py"))
    assert watched.woken == 1
    watched.send((CLOSE, "known.py"))
    assert watched.woken == 2


def test_one_file_after_the_other_is_waited_for(watched: Watched, tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"f{n}.py").write_text("x\n")
    watched.send((CLOSE, "f0.py"))
    watched.now += COMPLETE_S
    watched.root.step()
    assert watched.changes == {"f0.py"}
    for n in range(1, 5):
        watched.now += 0.01
        watched.send((CLOSE, f"f{n}.py"))
        watched.root.step()
    assert watched.changes == {"f0.py"}
    assert watched.wait() == pytest.approx(SETTLE_S)
    watched.now += SETTLE_S
    watched.root.step()
    assert watched.changes == {f"f{n}.py" for n in range(5)}
    watched.now += 2 * SETTLE_S
    watched.send((CLOSE, "f0.py"))
    assert watched.wait() == pytest.approx(COMPLETE_S)
