"""What changed, told exactly: `changes`, `explain` and the counters of `status` say the same."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

FACES = '[embedding]\nmodel = "hashing"\ncontext = "faces"\n'
A = "def f(x):\n    return x\n\n\ndef g(x):\n    return 1\n"
B = "from pkg.a import f\n\n\ndef h(x):\n    return f(x)\n"


@pytest.fixture
def home(make_home: Any) -> Any:
    home = make_home(FACES)
    home.start()
    home.write("pkg/a.py", A)
    home.write("pkg/b.py", B)
    home.watch()
    home.sync(semantic=True)
    return home


def changes(home: Any, since: str) -> dict[str, tuple[str, str | None]]:
    """ "path:qualname" -> (change, where it was)."""
    units = home.call("changes", root=str(home.workspace), since=since)["units"]
    return {f"{unit['path']}:{unit['qualname']}": (unit["change"], unit["from"]) for unit in units}


def explained(home: Any, path: str, line: int) -> dict[str, Any]:
    answer: dict[str, Any] = home.call("explain", root=str(home.workspace), path=path, line=line)
    return answer


def test_a_renamed_directory_with_an_edit_keeps_vectors_and_history(home: Any) -> None:
    clock = home.sync()
    before, embedded = explained(home, "pkg/a.py", 5), home.status()["model"]["embedded"]
    (home.workspace / "pkg").rename(home.workspace / "lib")
    home.write("lib/b.py", B.replace("from pkg.a", "from lib.a").replace("return f(x)", "return f(x) + 1"))
    home.sync(semantic=True)
    assert changes(home, clock) == {
        "lib/a.py:f": ("moved", "pkg/a.py:f"),
        "lib/a.py:g": ("moved", "pkg/a.py:g"),
        "lib/b.py:h": ("moved", "pkg/b.py:h"),
    }
    after = explained(home, "lib/a.py", 5)
    assert after["unit"]["id"] == before["unit"]["id"]
    assert (after["reason"], after["embedded"]) == (before["reason"], True)
    assert home.status()["model"]["embedded"] == embedded + 1
    assert explained(home, "lib/b.py", 4)["reason"]["level"] == "content"


def test_a_rename_of_case_only_is_a_move(home: Any) -> None:
    clock, embedded = home.sync(), home.status()["model"]["embedded"]
    (home.workspace / "pkg/a.py").rename(home.workspace / "pkg/A.py")
    home.sync(semantic=True)
    assert {name: change for name, change in changes(home, clock).items() if ":h" not in name} == {
        "pkg/A.py:f": ("moved", "pkg/a.py:f"),
        "pkg/A.py:g": ("moved", "pkg/a.py:g"),
    }
    (home.workspace / "pkg/A.py").rename(home.workspace / "pkg/a.py")
    home.sync(semantic=True)
    assert changes(home, clock) == {}  # back where it was: nothing differs
    # The model worked for what refers to it, once: `pkg.a` was gone for a while.
    assert home.status()["model"]["embedded"] - embedded <= 1


def test_what_is_stashed_and_brought_back_is_no_change(home: Any) -> None:
    clock = home.sync()
    home.write("pkg/a.py", A.replace("return 1", "return 2"))
    home.sync(semantic=True)
    between, embedded = home.sync(), home.status()["model"]["embedded"]
    assert changes(home, clock) == {"pkg/a.py:g": ("modified", None)}
    home.write("pkg/a.py", A)
    home.sync(semantic=True)
    assert changes(home, clock) == {}
    assert changes(home, between) == {"pkg/a.py:g": ("modified", None)}
    assert home.status()["model"]["embedded"] == embedded


def test_a_clone_of_the_same_code_costs_no_model_time(home: Any) -> None:
    embedded = home.status()["model"]["embedded"]
    clone = home.directory / "clone"
    shutil.copytree(home.workspace, clone)
    home.call("watch", root=str(clone))
    home.call("sync", root=str(clone), semantic=True)
    assert home.status()["model"]["embedded"] == embedded
    assert home.status()["store"]["vectors"] == 6


def test_the_counters_of_status_are_those_of_explain(home: Any) -> None:
    clock, before = home.sync(), home.status()["invalidation"]
    home.write("pkg/a.py", A.replace("def f(x)", "def f(x, y)").replace("return 1", "return 2"))
    home.write("pkg/new.py", "def n():\n    return 5\n")
    home.sync(semantic=True)
    after = home.status()["invalidation"]
    places = [("pkg/a.py", 1), ("pkg/a.py", 5), ("pkg/b.py", 4), ("pkg/new.py", 1)]
    reasons = [explained(home, *place)["reason"] for place in places]
    assert [(reason["level"], reason["cause"], reason["depth"]) for reason in reasons] == [
        ("content", "pkg/a.py:f", 0),
        ("content", "pkg/a.py:g", 0),
        ("symbol", "pkg/a.py:f", 1),
        ("initial", "pkg/new.py:n", 0),
    ]
    assert all(reason["clock"] != clock for reason in reasons)
    counted = {name: after[name] - before[name] for name in ("content", "symbol", "semantic", "project", "initial")}
    assert counted == {"content": 2, "symbol": 1, "semantic": 0, "project": 0, "initial": 1}
    assert (after["changes"] - before["changes"], after["truncated"]) == (3, 0)
