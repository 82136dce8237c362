"""Reading git's configuration files as git does, without git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from codegraphd.daemon.workspace.repository import find_repository, parse_config, repository_at

SAMPLES = [
    "[core]\n\texcludesFile = ~/x\n",
    "[core] ignorecase\n",
    "[core]\n  a = b # comment\n  c = \"d # e\" ; f\n",
    '[remote "origin"]\n\turl = git@host:a/b\n[remote "a\\"b]c"]\n\turl = x\n',
    "[core]\n\tlong = one \\\n  two\\\n three\n\tnext = 1\n",
    "[core]\n\tq = \"a\\tb\\\\c\\\"d\"  \n\tempty =\n",
    "; only\n# comments\n[Alias]\n  ST = status -s\n",
    "[a] x = 1\n[b] y = 2 [c] z = 3\n",
    "\ufeff[core]\n\tx = \u00e9\n",
    "[core]\r\n\tx = windows\r\n",
    "[branch.Sub]\n\tx = old style\n",
    "[core]\n\tx = a   b\t \n",
    '[core]\n\tx = a" b "c\n',
]  # fmt: skip


@pytest.mark.parametrize("text", SAMPLES)
def test_parses_a_configuration_as_git_does(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode())
    listed = subprocess.run(
        ["git", "config", "--file", str(file), "--null", "--list"], check=True, capture_output=True
    ).stdout.decode()
    expect = [
        tuple(entry.partition("\n")[::2]) if "\n" in entry else (entry, "true") for entry in listed.split("\0")[:-1]
    ]
    assert list(parse_config(text)) == expect


def test_nothing_of_a_repository_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert repository_at(str(tmp_path), {}) is None
    assert find_repository(str(tmp_path), {}) is None


def test_a_linked_worktree_has_the_main_ones_exclude(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    home = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    run = lambda *a: subprocess.run(["git", "-C", str(main), *a], check=True, env=home, capture_output=True)  # noqa: E731
    main.mkdir()
    run("init", "-q")
    run("-c", "user.name=x", "-c", "user.email=y", "commit", "-q", "--allow-empty", "-m", "x")
    run("worktree", "add", "-q", str(tree))
    (tree / "deep").mkdir()
    repository = find_repository(str(tree / "deep"), home)
    assert repository is not None
    assert repository.top == str(tree)
    assert os.path.samefile(os.path.dirname(repository.excludes[0]), main / ".git/info")


def test_an_include_that_includes_itself_ends(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[include]\n\tpath = .gitconfig\n[core]\n\texcludesFile = /e\n")
    (tmp_path / ".git/objects").mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    repository = repository_at(str(tmp_path), {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"})
    assert repository is not None
    assert repository.excludes[1] == "/e"
