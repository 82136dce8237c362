"""One tree without a watcher: what a listing remembers, and when equal times are not believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codegraphd.daemon.workspace import tree as tree_module
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import RECENT_NS, ScanSettings
from codegraphd.daemon.workspace.tree import Tree, list_files
from codegraphd.store.records import Stat

if TYPE_CHECKING:
    from conftest import Lab

SETTINGS = ScanSettings(lambda path, line: "text" if path.endswith(".txt") else None)


def make_tree(root: Path, **options: object) -> Tree:
    return Tree(str(root), WorkspaceRules(str(root)), SETTINGS, **options)  # type: ignore[arg-type]


def listed(tree: Tree) -> list[str]:
    """List everything; -> what is reported, gone ones with a minus."""
    tree.rescan()
    tree.work(float("inf"))
    return sorted(("" if change.stat else "-") + change.path for change in tree.take())


class Now:
    """The wall clock that times of files are compared with, at a distance from a file's times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        self._base = os.lstat(file).st_ctime_ns
        self.after_ns = 0
        monkeypatch.setattr(tree_module, "wall_clock_ns", lambda: self._base + self.after_ns)


def test_fault_11_a_file_seen_right_after_a_change_is_read_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    now = Now(monkeypatch, tmp_path / "a.txt")
    tree = make_tree(tmp_path)
    assert listed(tree) == ["a.txt"]
    now.after_ns = RECENT_NS // 2
    assert listed(tree) == []  # still too recent: later
    now.after_ns = RECENT_NS + 1
    assert listed(tree) == ["a.txt"]
    assert listed(tree) == []


def test_fault_11_an_event_is_believed_while_times_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    now = Now(monkeypatch, tmp_path / "a.txt")
    tree = make_tree(tmp_path)

    def marked() -> int:
        tree.hint("a.txt")
        tree.flush(0.0, force=True)
        return len(tree.take())

    assert listed(tree) == ["a.txt"]
    now.after_ns = RECENT_NS // 2
    assert marked() == 1
    now.after_ns = 10 * RECENT_NS  # looked at late: the state is of a time when it was recent
    assert marked() == 1
    assert marked() == 0


def test_times_in_the_future_do_not_make_a_file_recent_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    Now(monkeypatch, tmp_path / "a.txt").after_ns = -3600 * 10**9
    tree = make_tree(tmp_path)
    assert listed(tree) == ["a.txt"]
    assert listed(tree) == []


def test_what_is_known_is_compared_and_not_reported(tmp_path: Path) -> None:
    for name in ("same.txt", "other.txt", "d/same.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    known = [(c.path, c.stat, c.skipped) for c in list_files(str(tmp_path), SETTINGS) if c.stat]
    known = [(p, s if p != "other.txt" else Stat(1, 2, 3, 4), why) for p, s, why in known]
    known += [("gone.txt", Stat(1, 2, 3, 4), ""), ("gone/deep/er.txt", Stat(1, 2, 3, 4), "too large"),
              ("d/binary.txt", Stat(1, 2, 3, 4), "binary")]  # fmt: skip
    tree = make_tree(tmp_path)
    tree.restore(known)
    assert listed(tree) == ["-d/binary.txt", "-gone.txt", "-gone/deep/er.txt", "other.txt"]
    assert (tree.n_files, tree.n_directories) == (3, 2)
    assert set(tree.skipped.values()) <= {0}


def test_a_mark_below_what_was_never_listed_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.txt").write_text("x")
    tree = make_tree(tmp_path)
    tree.restore([("d/a.txt", Stat(1, 2, 3, 4), "")])
    tree.hint("d/a.txt")
    tree.flush(0.0)
    assert tree.take() == ()
    assert listed(tree) == ["d/a.txt"]


def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list_files(str(tmp_path / "missing"), SETTINGS)


def test_a_long_crawl_is_done_in_steps(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}/a.txt").write_text("x")
    tree = make_tree(tmp_path)
    tree.rescan()
    n_steps, paths = 0, []
    while tree.has_work():
        tree.work(float("inf"), enough=5)
        changes = tree.take()
        assert len(changes) <= 5
        paths += [change.path for change in changes]
        n_steps += 1
    assert n_steps >= 6
    assert len(paths) == len(set(paths)) == 30


class FoldedDisk:
    """os.lstat as on a disk that finds names whatever their case."""

    def __init__(self) -> None:
        self.real = os.lstat

    def __call__(self, path: str) -> os.stat_result:
        above, name = os.path.split(path)
        for spelled in os.listdir(above):
            if spelled.casefold() == name.casefold():
                return self.real(os.path.join(above, spelled))
        return self.real(path)


def test_fault_20_a_rename_of_case_only_leaves_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a look at the old name finds the new file, only a listing knows the spelling."""
    (tmp_path / "Name.txt").write_text("x")
    (tmp_path / "Dir").mkdir()
    (tmp_path / "Dir/a.txt").write_text("x")
    tree = make_tree(tmp_path, caseless=True)
    assert listed(tree) == ["Dir/a.txt", "Name.txt"]
    monkeypatch.setattr(os, "lstat", FoldedDisk())
    (tmp_path / "Name.txt").rename(tmp_path / "name.txt")
    (tmp_path / "Dir").rename(tmp_path / "dir")
    for name in (b"Name.txt", b"name.txt", b"Dir", b"dir"):
        tree.marks.mark(tree.top, name)
    tree.flush(0.0)
    tree.work(float("inf"))
    assert sorted((c.path, c.stat is None) for c in tree.take()) == [
        ("Dir/a.txt", True), ("Name.txt", True), ("dir/a.txt", False), ("name.txt", False),
    ]  # fmt: skip


def test_fault_20_names_that_differ_only_in_unicode_form_are_two_files(lab: Lab) -> None:
    lab.start()
    composed, decomposed = "\u00e9.py", "e\u0301.py"
    lab.write(composed)
    lab.write(decomposed, "other")
    lab.check_agrees()
    assert lab.paths() == {composed, decomposed}
    (lab.root / composed).rename(lab.root / decomposed)
    lab.check_agrees()
    assert lab.paths() == {decomposed}
