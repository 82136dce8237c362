"""Files seen before are neither parsed nor embedded again, wherever they lie; unwatched ones are forgotten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

FILES = 40


def source(n: int, value: int) -> str:
    calls = f"helper_{n - 1}()" if n else "0"
    head = f"from pkg.m{n - 1} import helper_{n - 1}\n\n\n" if n else ""
    return f'{head}def helper_{n}():\n    """Helps number {n}."""\n    value = {value}\n    return value + {calls}\n'


def checkout(home: Any, value: int, root: str = "") -> None:
    for n in range(FILES):
        home.write(f"{root}pkg/m{n}.py", source(n, value))


def test_a_branch_a_worktree_and_what_is_forgotten(make_home: Callable[..., Any], wait_for: Callable[..., Any]) -> None:
    home = make_home('[embedding]\nmodel = "hashing"\ncontext = "faces"\n')
    home.start()
    checkout(home, 1)
    home.watch()
    home.sync(semantic=True)
    checkout(home, 2)
    home.sync(semantic=True)
    before = home.status()
    assert (before["parsers"]["parsed"], before["parsers"]["seen"]) == (2 * FILES, 0)

    checkout(home, 1)  # back to what was there
    home.sync(semantic=True)
    after = home.status()
    assert (after["parsers"]["parsed"], after["parsers"]["seen"]) == (2 * FILES, FILES)
    assert after["model"]["embedded"] == before["model"]["embedded"]
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    assert home.status()["parsers"]["parsed"] == 3 * FILES  # what is compared with is parsed, whatever was seen

    worktree = home.directory / "worktree"
    shutil.copytree(home.workspace, worktree)
    home.call("watch", root=str(worktree))
    home.call("sync", root=str(worktree), semantic=True, timeout_s=80)
    assert home.status()["parsers"]["seen"] == 2 * FILES
    assert home.status()["model"]["embedded"] == before["model"]["embedded"]
    assert home.call("verify", root=str(worktree))["differences"] == []

    modules = home.home / "state" / "modules"
    assert any(path.is_file() for path in modules.rglob("*"))
    home.call("unwatch", root=str(worktree))
    wait_for(lambda: not any(modules.iterdir()), "modules of an unwatched workspace are deleted")
    n_parsed = home.status()["parsers"]["parsed"]
    checkout(home, 2)
    home.sync()
    assert home.status()["parsers"]["parsed"] == n_parsed + FILES
