"""Roots that vanish and come back, and rules that change while a root is watched."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from codegraphd.daemon.workspace.tree import Tree

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")


def test_fault_21_the_root_is_renamed_away_and_back(lab: Lab) -> None:
    lab.write("d/m.py")
    lab.start()
    away = lab.base / "away"
    lab.root.rename(away)
    lab.wait_until(lambda: lab.statistics().state == "missing", "the heartbeat")
    assert lab.results[-1].missing
    assert lab.paths() == {"d/m.py"}
    assert lab.statistics().watches == 0
    (away / "d/m.py").unlink()
    (away / "d/n.py").write_text("x")
    away.rename(lab.root)
    lab.wait_until(lambda: lab.statistics().state == "watching", "the heartbeat")
    lab.check_agrees()
    assert lab.paths() == {"d/n.py"}


def test_fault_21_the_root_vanishes_while_it_is_looked_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept.py", "deleted.py"):
        lab.write(f"d/{name}")
    lab.start(settle_ms=60_000)
    away = lab.base / "away"
    real = Tree.flush

    def flush(tree: Tree, now: float, *, force: bool = False) -> None:
        real(tree, now, force=force)
        lab.root.rename(away)
        monkeypatch.undo()

    monkeypatch.setattr(Tree, "flush", flush)
    (lab.root / "d/deleted.py").unlink()
    lab.sync()
    assert lab.statistics().state == "missing"
    assert lab.paths() == {"d/kept.py", "d/deleted.py"}
    away.rename(lab.root)
    lab.sync()
    lab.check_agrees()


def test_fault_21_an_ancestor_of_the_root_is_renamed(lab: Lab) -> None:
    lab.base = lab.base / "above"
    lab.root = lab.base / "root"
    lab.write("m.py")
    run, lab.base = lab.base, lab.base.parent
    lab.start()
    run.rename(lab.base / "renamed")
    lab.wait_until(lambda: lab.statistics().state == "missing", "the heartbeat")
    (lab.base / "renamed").rename(run)
    lab.sync()
    lab.check_agrees()


def test_fault_21_the_root_is_deleted_and_made_again(lab: Lab) -> None:
    lab.write("d/m.py")
    lab.write("gone.py")
    lab.start()
    lab.sync()
    shutil.copytree(lab.root, lab.base / "copy")
    (lab.base / "copy/gone.py").unlink()
    shutil.rmtree(lab.root)
    lab.sync()
    assert lab.statistics().state == "missing"
    assert lab.paths() == {"d/m.py", "gone.py"}
    lab.root.mkdir()  # still empty: a clone about to begin, or nothing mounted here yet
    lab.sync()
    assert lab.statistics().state == "missing"
    assert lab.paths() == {"d/m.py", "gone.py"}
    lab.root.rmdir()
    (lab.base / "copy").rename(lab.root)
    lab.sync()
    lab.check_agrees()
    assert lab.paths() == {"d/m.py"}


def test_fault_21_the_root_is_replaced(lab: Lab) -> None:
    lab.write("same.py")
    lab.write("old/m.py")
    lab.start()
    (lab.base / "other/new").mkdir(parents=True)
    (lab.base / "other/new/m.py").write_text("x")
    (lab.base / "other/same.py").write_text("x")
    lab.root.rename(lab.base / "away")
    (lab.base / "other").rename(lab.root)
    lab.check_agrees()
    assert not any(result.missing for result in lab.results)


def test_fault_21_a_root_that_is_missing_at_the_start_keeps_its_index(lab: Lab) -> None:
    lab.write("m.py")
    lab.start().stop()
    shutil.rmtree(lab.root)
    lab.results.clear()
    lab.start(known=True)
    assert [result.missing for result in lab.results] == [True]
    assert lab.paths() == {"m.py"}
    lab.write("m.py", "back")
    lab.sync()
    lab.check_agrees()


def test_a_root_emptied_under_our_eyes_is_empty(lab: Lab) -> None:
    lab.write("m.py")
    lab.write("d/m.py")
    lab.start()
    shutil.rmtree(lab.root / "d")
    (lab.root / "m.py").unlink()
    lab.check_agrees()
    assert lab.seen == {}


def test_fault_22_an_edited_ignore_file(lab: Lab) -> None:
    for path in ("a.py", "gen/g.py", "gen/deep/g.py", "keep/k.py", "keep/k.txt", "d/e/f.py"):
        lab.write(path)
    lab.start()
    everything = lab.paths()
    lab.write(".gitignore", "gen/\n*.txt\n")
    lab.sync()
    assert lab.paths() == {"a.py", "keep/k.py", "d/e/f.py"}
    assert lab.statistics().watches == 4
    lab.write("gen/more.py")
    lab.write("keep/.gitignore", "!k.txt\n")
    lab.write("d/.gitignore", "/e/*.py\n")
    lab.sync()
    assert lab.paths() == {"a.py", "keep/k.py", "keep/k.txt"}
    (lab.root / "d/.gitignore").unlink()
    os.replace(lab.write("new-rules", "*.txt\n"), lab.root / ".gitignore")
    lab.sync()
    assert lab.paths() == everything | {"gen/more.py"}
    lab.check_agrees()


def test_fault_22_rules_outside_of_the_tree(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(lab.base))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(lab.base / "xdg"))
    for name in ("HEAD", "objects/x", "info/x"):
        lab.write(f".git/{name}")
    for name in ("a.py", "b.py", "c.py"):
        lab.write(name)
    lab.start()
    lab.write(".git/info/exclude", "a.py\n")
    lab.sync()
    assert lab.paths() == {"b.py", "c.py"}
    (lab.base / "xdg/git").mkdir(parents=True)
    (lab.base / "xdg/git/ignore").write_text("b.py\n")
    lab.wait_until(lambda: lab.paths() == {"c.py"}, "the heartbeat")
    shutil.rmtree(lab.root / ".git")
    lab.sync()
    assert lab.paths() == {"a.py", "b.py", "c.py"}


def test_fault_22_a_repository_that_is_made_while_we_watch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.git` is there before it is a repository, and what comes into it sends no event."""
    monkeypatch.setenv("HOME", str(lab.base))
    lab.write("a.py")
    lab.write("sub/a.py")
    lab.start()

    def check(top: str, expect: set[str]) -> None:
        (lab.root / top / ".git").mkdir()
        lab.sync()
        lab.write(f"{top}.git/info/exclude", "a.py\n")
        lab.write(f"{top}.git/objects/x")
        lab.write(f"{top}.git/HEAD", "ref: refs/heads/main\n")
        lab.sync()
        assert lab.paths() == expect

    check("sub/", {"a.py"})
    check("", set())
    (lab.root / ".git/info/exclude").unlink()
    lab.sync()
    assert lab.paths() == {"a.py"}
    shutil.rmtree(lab.root / "sub/.git")
    lab.sync()
    assert lab.paths() == {"a.py", "sub/a.py"}


def test_fault_22_ignored_directories_are_never_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write(".gitignore", "big/\n")
    for number in range(50):
        lab.write(f"big/d{number}/m.py")
        lab.write(f"node_modules/p{number}/m.py")
    lab.write("a/m.py")
    read: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(os.path.relpath(path, lab.root)) or real(path))
    lab.start()
    lab.write("big/d1/new.py")
    lab.write("node_modules/p1/new.py")
    assert lab.sync() == []
    assert set(read) == {".", "a"}
    assert lab.statistics().watches == 2


def test_a_directory_turns_out_to_be_a_cache(lab: Lab) -> None:
    lab.write("env/lib/m.py")
    lab.write("rust/target/x.py")
    lab.start()
    lab.write("env/pyvenv.cfg")
    lab.write("rust/Cargo.toml")
    lab.sync()
    assert lab.paths() == set()
    lab.write("env/lib/new.py")
    (lab.root / "env/pyvenv.cfg").unlink()
    (lab.root / "rust/Cargo.toml").unlink()
    lab.sync()
    assert lab.paths() == {"env/lib/m.py", "env/lib/new.py", "rust/target/x.py"}


def test_a_directory_called_venv_turns_out_to_be_a_package(lab: Lab) -> None:
    """By its name alone it is ignored; the file that says otherwise may come later, and go."""
    lab.write("venv/lib/m.py")
    lab.start()
    assert lab.paths() == set()
    lab.write("venv/__init__.py")
    lab.sync()
    assert lab.paths() == {"venv/lib/m.py", "venv/__init__.py"}
    lab.write("venv/new.py")
    (lab.root / "venv/__init__.py").unlink()
    lab.sync()
    assert lab.paths() == set()
