"""Editing, adding, renaming, deleting a file changes the answers, with no command run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

PARSER = '''"""Reads settings."""

class Config:
    """Settings of one run."""

    def load(self, path):
        """Read the settings file from the disk."""
        return open(path).read()


def parse_duration(text):
    """Turn '5 min' into seconds."""
    return int(text.split()[0]) * 60
'''


def test_a_workspace_is_indexed_and_found(home: Any) -> None:
    home.write("pkg/config.py", PARSER)
    home.write("notes.md", "# Plan\n\nWe shall parse durations.\n")
    home.watch()
    home.sync(semantic=True)
    assert home.names("pkg/config.py") == {"Config", "Config.load", "parse_duration"}
    assert home.found("parse_duration")[0] == "parse_duration"
    assert home.found("duration", languages=["markdown"]) == ["Plan"]
    assert "load" in home.found("read the settings file from the disk", mode="semantic")
    answer = home.call("search", query="read the settings file", snippet_lines=2)
    best = answer["results"][0]
    assert (best["path"], answer["pending"], answer["degraded"]) == ("pkg/config.py", 0, None)
    assert best["snippet"].count("\n") == 1
    assert set(best) >= {"id", "root", "language", "kind", "signature", "start_line", "end_line", "doc", "score", "why"}
    document = home.status()
    assert document["workspaces"][0]["state"] == "ready"
    assert document["workspaces"][0]["languages"] == {"python": 1, "markdown": 1}
    assert document["model"]["embedded"] == document["store"]["vectors"] == 4


def test_every_kind_of_edit_is_seen(home: Any) -> None:
    home.watch()
    file = home.write("a.py", "def first():\n    return 1\n")
    home.sync()
    assert home.names() == {"first"}
    home.write("a.py", "def first():\n    return 1\n\ndef second():\n    return 2\n")
    home.sync()
    assert home.names() == {"first", "second"}
    file.rename(home.workspace / "b.py")
    home.sync()
    assert (home.names("b.py"), home.status()["workspaces"][0]["files"]) == ({"first", "second"}, 1)
    (home.workspace / "b.py").unlink()
    home.sync(semantic=True)
    assert home.names() == set()
    assert home.found("first") == []
    assert home.status()["store"]["vectors"] == 0


def test_new_code_is_found_by_meaning_and_deleted_code_is_gone(home: Any) -> None:
    home.watch()
    file = home.write("a.py", 'def teapot():\n    """Brew oolong tea in a porcelain pot."""\n    return "tea"\n')
    home.sync(semantic=True)
    assert home.found("brew oolong tea porcelain", mode="semantic") == ["teapot"]
    file.unlink()
    home.sync(semantic=True)
    assert home.found("brew oolong tea porcelain", mode="semantic") == []


def test_fault_06_atomic_save_is_one_modified_file(home: Any) -> None:
    home.write("a.py", "def f():\n    return 1\n")
    home.watch()
    clock = home.sync()
    temporary = home.write(".a.py.swp", "def f():\n    return 2\n")
    temporary.rename(home.workspace / "a.py")
    home.sync()
    changes = home.call("changes", root=str(home.workspace), since=clock)
    assert [(c["path"], c["qualname"], c["change"]) for c in changes["units"]] == [("a.py", "f", "modified")]
    assert changes["reset"] is False


def test_a_moved_directory_costs_no_model_time(home: Any) -> None:
    for n in range(20):
        home.write(f"old/m{n}.py", f"def f{n}(x):\n    return x * {n} + 1\n")
    home.watch()
    clock = home.sync(semantic=True)
    before = home.status()["model"]["embedded"]
    (home.workspace / "old").rename(home.workspace / "new")
    home.sync(semantic=True)
    changes = home.call("changes", root=str(home.workspace), since=clock)["units"]
    assert {(c["change"], c["path"].split("/")[0]) for c in changes} == {("moved", "new")}
    assert len(changes) == 20
    assert home.status()["model"]["embedded"] == before


def test_a_second_worktree_is_embedded_once(home: Any) -> None:
    for n in range(10):
        home.write(f"m{n}.py", f"def f{n}(x):\n    return x * {n} + 1\n")
    home.watch()
    home.sync(semantic=True)
    before = home.status()["model"]["embedded"]
    other = home.directory / "other"
    shutil.copytree(home.workspace, other)
    home.call("watch", root=str(other))
    home.call("sync", root=str(other), semantic=True)
    document = home.status()
    assert document["model"]["embedded"] == before
    assert document["store"]["vectors"] == 20


def test_what_is_not_resolved_yet_is_not_embedded(make_home: Callable[..., Any]) -> None:
    home = make_home('[embedding]\nmodel = "hashing"\ncontext = "faces"\n')
    home.start()
    n_files = 300

    def check_out(step: int) -> int:
        """Each class has a base in a file that is read much later, and so has that. -> inputs embedded by now."""
        for n in range(n_files):
            far = (n + step) % n_files
            head = f"from m{far} import C{far}\n\n\nclass C{n}(C{far}):\n"
            home.write(f"m{n}.py", f"{head}    def f{n}(self):\n        return C{far}()\n")
        home.watch()
        home.sync(semantic=True)
        return int(home.status()["model"]["embedded"])

    inputs = check_out(100)
    assert inputs == 2 * 2 * n_files  # a class and a method in each file, each with its own text and its context
    other = home.directory / "other"
    shutil.copytree(home.workspace, other)
    home.call("watch", root=str(other))
    home.call("sync", root=str(other), semantic=True, timeout_s=80)
    assert home.status()["model"]["embedded"] == inputs
    assert check_out(75) == 2 * inputs
    assert check_out(100) == 2 * inputs
    assert check_out(75) == 2 * inputs


def test_verify_agrees_after_a_storm(home: Any) -> None:
    for n in range(30):
        home.write(f"d{n % 3}/m{n}.py", f"from d0.m0 import f0\n\ndef f{n}(x):\n    return f0(x) + {n}\n")
    home.watch()
    home.sync()
    shutil.rmtree(home.workspace / "d1")
    (home.workspace / "d2").rename(home.workspace / "d4")
    for n in range(0, 30, 3):
        home.write(f"d0/m{n}.py", f"def f{n}(x, y):\n    return y + {n}\n")
    home.write(".gitignore", "d0/m9.py\n")
    home.sync(semantic=True)
    verdict = home.call("verify", root=str(home.workspace))
    assert verdict["differences"] == []
    assert verdict["units"] == 20  # nineteen functions, and the ignore file itself


def test_fault_22_ignore_file_edited(home: Any) -> None:
    home.write("a.py", "def a():\n    return 1\n")
    home.write("gen/b.py", "def b():\n    return 1\n")
    home.watch()
    home.sync()
    assert home.names() == {"a", "b"}
    ignore = home.write(".gitignore", "gen/\n")
    home.sync()
    assert home.names() == {"a", "gen"}  # the ignore file is a text like any other
    ignore.unlink()
    home.sync()
    assert home.names() == {"a", "b"}


def test_fault_14_huge_and_binary_files_are_skipped_with_the_reason(home: Any) -> None:
    home.write("big.py", "x = 1\n" * 400_000)
    home.write("blob.py", b"\x00\x01" * 5000)
    home.write("min.js", "var a=1;" * 40_000)
    home.write("a.py", "def a():\n    return 1\n")
    home.watch()
    home.sync()
    assert home.names() == {"a"}
    skipped = home.status()["workspaces"][0]["skipped"]
    assert skipped["too large"] == 1
    assert skipped["binary"] == 1
    assert skipped["minified"] == 1


def test_fault_15_names_and_contents_that_are_not_utf8(home: Any) -> None:
    home.watch()
    name = b"caf\xe9.py"
    with open(bytes(home.workspace) + b"/" + name, "wb") as file:
        file.write(b'def latin():\n    return "\xe9\xff"\n')
    home.sync()
    (unit,) = home.call("symbols", pattern="latin")["units"]
    assert unit["path"].encode("utf-8", "surrogateescape") == name


def test_fault_50_own_state_inside_a_workspace(make_home: Callable[..., Any]) -> None:
    home = make_home()
    home.start()
    home.call("watch", root=str(home.directory))  # holds home/ with the store, the words and the socket
    home.write("a.py", "def a():\n    return 1\n")
    home.call("sync", root=str(home.directory), semantic=True)
    clock = home.call("sync", root=str(home.directory))["clock"]
    assert {unit["path"] for unit in home.call("symbols")["units"]} == {"workspace/a.py", "home/config.toml"}
    assert home.call("sync", root=str(home.directory))["clock"] == clock  # its own writing woke nobody


def test_inner_root_owns_its_files(home: Any) -> None:
    home.write("a.py", "def a():\n    return 1\n")
    home.write("inner/b.py", "def b():\n    return 1\n")
    home.watch()
    home.sync()
    inner = str(home.workspace / "inner")
    home.call("watch", root=inner)
    home.call("sync", root=inner)
    home.sync()
    units = home.call("symbols")["units"]
    assert {(u["root"], u["path"]) for u in units} == {(str(home.workspace), "a.py"), (inner, "b.py")}
    home.call("unwatch", root=inner)
    home.sync()
    units = home.call("symbols")["units"]
    assert {(u["root"], u["path"]) for u in units} == {
        (str(home.workspace), "a.py"),
        (str(home.workspace), "inner/b.py"),
    }


def test_changes_says_reset_for_a_foreign_clock(home: Any) -> None:
    home.watch()
    home.sync()
    assert home.call("changes", root=str(home.workspace), since="somebody:7")["reset"] is True


@pytest.mark.parametrize("kind", ["modified", "added"])
def test_changed_is_committed_when_it_returns(home: Any, kind: str) -> None:
    home.watch()
    home.sync()
    file = home.write("a.py", "def told():\n    return 1\n")
    home.call("changed", path=str(file), kind=kind)
    assert home.names() == {"told"}
