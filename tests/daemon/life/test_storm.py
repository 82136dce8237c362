"""A bounded share of `python -m bench.storm`: a real directory, a real daemon, and what must hold after each burst.

Also the minimal cases of what longer storms found, each as the history of operations that showed it.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator

import pytest

from bench.storm import Homes, replay, run
from bench.storm_world import Operation

FIXED, RANDOM = 8, 2  # storms
SEED = 20261128 if "CI" in os.environ else secrets.randbelow(1 << 32)  # CI judges the change, not the day's luck
BURSTS = 25  # in each


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    homes = Homes(tmp_path_factory.mktemp("storm"))
    yield homes
    homes.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [None, SEED], ids=["fixed", "random"])
def test_whatever_happens_the_index_equals_a_fresh_build(homes: Homes, seed: int | None) -> None:
    run(seed, FIXED if seed is None else RANDOM, BURSTS, homes)
    if homes.failure is not None:
        error, history = homes.failure
        pytest.fail(f"seed {seed}: {error}\nhistory for bench.storm --replay:\n{json.dumps(history)}")


F = "def f(x):\n    return 1\n"
CASES: dict[str, list[list[Operation]]] = {
    "a directory called venv becomes a package": [
        [("write", "venv/a.py", F)],
        [("write", "venv/__init__.py", F)],
        [("delete", "venv/__init__.py")],
    ],
    "a hard link in a new directory": [
        [("write", "a.py", F)],
        [("hardlink", "a.py", "new/b.py"), ("edit", "new/b.py", "body")],
        [("edit", "new/b.py", "body")],
    ],
    "a hard link of an ignored file": [
        [("write", "web/app.ts", "let x = 1\n"), ("write", ".gitignore", "web/*\n")],
        [("hardlink", "web/app.ts", "b.py")],
        [("write", "web/app.ts", F)],
    ],
    "an empty directory in the place of a root": [
        [("write", "pkg/a.py", F)],
        [("inner", "pkg")],
        [("move", "pkg", "lib"), ("mkdir", "pkg")],
        [("write", "pkg/b.py", F)],
    ],
    "watched again at once": [[("write", "a.py", F)], [("unwatch",)], [("unwatch",), ("write", "b.py", F)]],
    "other languages at a reload": [
        [("write", "a.py", F), ("write", "b.go", "package b\n")],
        [("configure", 'languages = ["python"]')],
        [("configure", "")],
    ],
    "a directory moved with edits": [
        [("write", "pkg/a.py", F), ("write", "pkg/c.py", "from pkg.a import f\n\ndef g(x):\n    return f(1)\n")],
        [("move", "pkg", "lib"), ("edit", "lib/c.py", "body"), ("edit", "lib/a.py", "face")],
    ],
}


@pytest.mark.parametrize("history", CASES.values(), ids=CASES.keys())
def test_what_a_storm_has_found(homes: Homes, history: list[list[Operation]]) -> None:
    assert replay(history, homes) is None
