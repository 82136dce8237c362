"""Storms: branch switches, directories renamed with edits, a file that is written all the time."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Any

from codegraphd.ipc.client import Client
from codegraphd.ipc.paths import Paths


def branch(n_files: int, salt: int) -> dict[str, str]:
    """A tree of files that import each other; `salt` tells one branch from another."""
    return {
        f"pkg{n % 20}/m{n}.py": f"from pkg{(n + 1) % 20}.m{n + 1} import f{n + 1}\n\n\n"
        f"def f{n}(x):\n    return f{n + 1}(x) + {salt}\n\n\ndef g{n}(x):\n    return x * {n}\n"
        for n in range(n_files)
    }


def check_out(home: Any, tree: dict[str, str]) -> None:
    for path, text in tree.items():
        home.write(path, text)


def test_a_branch_switch_of_a_thousand_files_seen_before_embeds_nothing(home: Any) -> None:
    one, two = branch(1000, 1), branch(1000, 2)
    check_out(home, one)
    home.watch()
    home.sync(semantic=True)
    check_out(home, two)
    home.sync(semantic=True)
    embedded = home.status()["model"]["embedded"]
    answers: list[int] = []
    done = threading.Event()

    def ask() -> None:
        with Client.connect(Paths.from_environment(home.environment)) as client:
            while not done.is_set():
                answers.append(len(client.call("search", query="f17", deadline=30)["results"]))

    asker = threading.Thread(target=ask)
    asker.start()
    check_out(home, one)
    home.sync(semantic=True)
    done.set()
    asker.join()
    document = home.status()
    assert document["model"]["embedded"] == embedded
    assert document["workspaces"][0]["pending"] == 0
    assert document["workspaces"][0]["units"] == 2000
    assert answers
    assert min(answers) > 0
    assert home.call("verify", root=str(home.workspace))["differences"] == []


def test_a_directory_renamed_with_edits(home: Any) -> None:
    check_out(home, branch(60, 1))
    home.watch()
    home.sync(semantic=True)
    embedded = home.status()["model"]["embedded"]
    (home.workspace / "pkg3").rename(home.workspace / "lib3")
    home.write("lib3/m3.py", "def f3(x):\n    return 'edited'\n\n\ndef g3(x):\n    return x * 3\n")
    shutil.rmtree(home.workspace / "pkg4")
    home.sync(semantic=True)
    assert home.status()["model"]["embedded"] == embedded + 1
    assert home.names("lib3/m3.py") == {"f3", "g3"}
    assert home.call("verify", root=str(home.workspace))["differences"] == []


def test_fault_52_a_file_written_all_the_time_is_bounded_work(home: Any) -> None:
    home.watch()
    home.write("a.py", "def f():\n    return 0\n")
    home.sync()
    before = home.status()["store"]["commits"]
    for n in range(200):
        home.write("a.py", f"def f():\n    return {n}\n")
        time.sleep(0.005)
    home.sync(semantic=True)
    document = home.status()
    assert document["store"]["commits"] - before < 200  # settled and coalesced: fewer commits than saves
    assert document["queue"]["depth"] == 0
    (unit,) = home.call("search", query="f", snippet_lines=2, kinds=["function"])["results"]
    assert "return 199" in unit["snippet"]


def test_what_is_changed_and_changed_back_at_once_is_what_it_was(home: Any) -> None:
    """The look at the last bytes finds those that are indexed, while the edit is on its way into the index."""
    one, two = branch(40, 1), branch(40, 2)
    check_out(home, one)
    home.watch()
    home.sync()
    for turn in range(12):
        for tree in (two, one):
            for path, text in tree.items():
                (home.workspace / path).unlink()
                home.write(path, text)
            time.sleep(0.02 * (turn % 4) if tree is two else 0.0)
        home.sync()
        assert home.call("verify", root=str(home.workspace))["differences"] == []


def test_a_stash_back_and_forth_ends_where_it_began(home: Any) -> None:
    check_out(home, branch(80, 1))
    home.watch()
    home.sync(semantic=True)
    clock = home.sync()
    saved = {path: (home.workspace / path).read_bytes() for path in branch(80, 1)}
    for turn in range(3):
        check_out(home, branch(80, 5))
        if turn == 1:
            home.sync()
        for path, source in saved.items():
            home.write(path, source)
    home.sync(semantic=True)
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    changed = home.call("changes", root=str(home.workspace), since=clock)["units"]
    assert {change["change"] for change in changed} <= {"modified"}
    assert len(home.names()) == 160
