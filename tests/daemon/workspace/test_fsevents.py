"""macOS events, as far as they can be checked elsewhere: what they put in doubt, and what a tree makes of that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from codegraphd.daemon.workspace import fsevents
from codegraphd.daemon.workspace.fsevents import handle_event
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import Tree

FILE, DIRECTORY = 0x0001_0000, fsevents.ITEM_IS_DIR


@pytest.mark.parametrize(
    ("path", "flags", "expect"),
    [
        ("/w/a/m.py", FILE, [("a", False)]),
        ("/w/m.py", FILE, [("", False)]),
        ("/w/a/b/", DIRECTORY, [("a", False), ("a/b", True)]),
        ("/w", DIRECTORY, [("", False)]),
        ("/w/a", fsevents.MUST_SCAN_SUBDIRS, [("", False), ("a", True)]),
        ("/w/", fsevents.MUST_SCAN_SUBDIRS, [("", True)]),
        ("/", fsevents.MUST_SCAN_SUBDIRS, ["lost"]),
        ("/w/a", fsevents.MUST_SCAN_SUBDIRS | fsevents.USER_DROPPED, ["lost"]),
        ("/w", fsevents.KERNEL_DROPPED, ["lost"]),
        ("/w", fsevents.ROOT_CHANGED, ["lost"]),
        ("/w/disk", fsevents.MOUNT, ["lost"]),
        ("/world/m.py", FILE, []),
    ],
)
def test_fault_03_events_put_directories_in_doubt(path: str, flags: int, expect: list[object]) -> None:
    said: list[object] = []
    handle_event("/w", path, flags, lambda place, deep: said.append((place, deep)), lambda: said.append("lost"))
    assert said == expect


class Emulation:
    """A tree as on macOS: no watches, names in any case, directories put in doubt by events."""

    def __init__(self, root: Path) -> None:
        self.root = root
        settings = ScanSettings(lambda path, line: "text")
        self.tree = Tree(str(root), WorkspaceRules(str(root)), settings, caseless=True)
        self.tree.rescan()
        self.look()

    def look(self) -> list[str]:
        self.tree.flush(0.0)
        self.tree.work(float("inf"))
        return sorted(("" if change.stat else "-") + change.path for change in self.tree.take())

    def event(self, path: str, flags: int = FILE) -> None:
        handle_event(
            str(self.root), str(self.root / path), flags, lambda p, deep: self.tree.marks.doubt(p, deep=deep),
            self.tree.marks.note_overflow,
        )  # fmt: skip


def test_fault_03_a_tree_follows_doubts(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/m.py").write_text("x")
    mac = Emulation(tmp_path)
    (tmp_path / "a/b/n.py").write_text("x")
    mac.event("a/b/n.py")
    assert mac.look() == ["a/b/n.py"]
    (tmp_path / "a/b").rename(tmp_path / "a/c")
    mac.event("a/b", DIRECTORY)
    mac.event("a/c", DIRECTORY)
    assert mac.look() == ["-a/b/m.py", "-a/b/n.py", "a/c/m.py", "a/c/n.py"]
    (tmp_path / "new/deep").mkdir(parents=True)
    (tmp_path / "new/deep/m.py").write_text("x")
    mac.event("new/deep/m.py")  # the event of the directory itself is still to come
    assert mac.look() == ["new/deep/m.py"]
    shutil.rmtree(tmp_path / "new")
    mac.event("new", fsevents.MUST_SCAN_SUBDIRS)
    assert mac.look() == ["-new/deep/m.py"]
    mac.event("a", fsevents.KERNEL_DROPPED)
    assert mac.tree.marks.overflowed


def test_an_event_in_an_ignored_directory_lists_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "node_modules/p").mkdir(parents=True)
    mac = Emulation(tmp_path)
    mac.event("node_modules/p/index.js")
    mac.tree.flush(0.0)
    assert not mac.tree.has_work()


def test_a_name_in_another_unicode_form_is_still_looked_at(tmp_path: Path) -> None:
    (tmp_path / "\u00e9").mkdir()
    (tmp_path / "\u00e9/m.py").write_text("x")
    mac = Emulation(tmp_path)
    (tmp_path / "\u00e9/n.py").write_text("x")
    mac.event("e\u0301/n.py")
    assert mac.look() == ["\u00e9/n.py"]
