"""The whole chain of rules: git's in every form, the daemon's defaults, the configuration."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import Tree

RULE_FILES = {".gitignore", ".git", "pyvenv.cfg", "CACHEDIR.TAG"}


def git(directory: Path, *arguments: str, home: Path) -> None:
    identity = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(
        ["git", *arguments], cwd=directory, env=environment(home) | identity, check=True, capture_output=True
    )


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "xdg"), "GIT_CONFIG_NOSYSTEM": "1"}


def write(file: Path, text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def found(root: Path, home: Path, exclude: tuple[str, ...] = ()) -> set[str]:
    """All files that are not ignored; rule files left out."""
    settings = ScanSettings(lambda path, line: "text", exclude=exclude)
    tree = Tree(str(root), WorkspaceRules(str(root), exclude, environment=environment(home)), settings)
    tree.rescan()
    tree.work(float("inf"))
    return {change.path for change in tree.take() if change.path.rpartition("/")[2] not in RULE_FILES}


def all_files(root: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(directory, name), root)
        for directory, directories, names in os.walk(root)
        if ".git" not in Path(directory).relative_to(root).parts
        for name in names
        if name not in RULE_FILES
    }


def not_ignored_by_git(top: Path, files: list[str], home: Path) -> set[str]:
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"], cwd=top, env=environment(home), check=False,
        capture_output=True, input="\0".join(files).encode(),
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return set(files) - set(done.stdout.decode().split("\0"))


NAMES = ["a", "b", "foo", "bar", "x.py", "y.py", "z.txt"]
PATTERNS = [
    "a", "b/", "/foo", "*.py", "!x.py", "a/b", "**/bar", "foo/**", "!/a", "*/x.py", "/*/b", "!*/", "z.*", "/a/**/y.py",
    "*", "!*.txt", "b/*", "!b/foo/", "[ab]", "?",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_fault_19_agrees_with_git_in_nested_repositories_and_worktrees(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root, home = tmp_path / "root", tmp_path / "home"
    home.mkdir()
    root.mkdir()
    rules = lambda: "\n".join(rng.choice(PATTERNS) for _ in range(rng.randint(1, 3))) + "\n"  # noqa: E731
    git(root, "init", "-q", home=home)
    directories = [root]
    for _ in range(15):
        parent = rng.choice(directories)
        child = parent / rng.choice(NAMES[:4])
        child.mkdir(exist_ok=True)
        directories.append(child)
    for directory in directories:
        for name in rng.sample(NAMES[4:], 2):
            write(directory / name)
        if rng.random() < 0.3:
            write(directory / ".gitignore", rules())
    tops = [root]
    for directory in rng.sample(directories[1:], 2):
        if not (directory / ".git").exists():
            git(directory, "init", "-q", home=home)
            tops.append(directory)
    if not (root / "tree").exists():
        git(tops[-1], "commit", "-q", "--allow-empty", "-m", "x", home=home)
        git(tops[-1], "worktree", "add", "-q", str(root / "tree"), home=home)
        tops.append(root / "tree")
        write(root / "tree/a/x.py")
        write(root / "tree/z.txt")
    for top in tops:
        if rng.random() < 0.7 and (top / ".git").is_dir():
            write(top / ".git/info/exclude", rules())
    write(home / "xdg/git/ignore", rng.choice(["z.txt\n", "/b\n", ""]))

    tops.sort(key=lambda top: len(top.parts))
    owner = {}  # each file's innermost repository
    for path in all_files(root):
        owner[path] = max((t for t in tops if (root / path).is_relative_to(t)), key=lambda t: len(t.parts))
    expect: set[str] = set()
    for top in tops:
        mine = [str((root / path).relative_to(top)) for path, t in owner.items() if t == top]
        expect |= {str((top / path).relative_to(root)) for path in not_ignored_by_git(top, mine, home)}
    for top in tops[1:]:  # a nested repository that the one around it ignores is not entered
        above = max((t for t in tops if t != top and top.is_relative_to(t)), key=lambda t: len(t.parts))
        if not not_ignored_by_git(above, [str(top.relative_to(above))], home):
            expect = {path for path in expect if not (root / path).is_relative_to(top)}
    assert found(root, home) == expect


def test_a_root_inside_a_repository_obeys_the_rules_above_it(tmp_path: Path) -> None:
    top, root = tmp_path / "top", tmp_path / "top/sub/dir"
    root.mkdir(parents=True)
    git(top, "init", "-q", home=tmp_path)
    write(top / ".gitignore", "/sub/dir/out.py\n*.log\n/keep.py\n")
    write(top / "sub/.gitignore", "dir/deep/\n!a.log\n")
    write(top / ".git/info/exclude", "/sub/dir/secret.py\n")
    for name in ("out.py", "a.log", "b.log", "keep.py", "deep/x.py", "secret.py", "m.py"):
        write(root / name)
    assert found(root, tmp_path) == {"a.log", "keep.py", "m.py"}
    files = ["sub/dir/" + name for name in all_files(root)]
    assert {f"sub/dir/{name}" for name in found(root, tmp_path)} == not_ignored_by_git(top, files, tmp_path)


def test_a_root_that_is_itself_ignored_is_still_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "top/build"
    write(root / "m.py")
    git(tmp_path / "top", "init", "-q", home=tmp_path)
    write(tmp_path / "top/.gitignore", "build/\n")
    assert found(root, tmp_path) == {"m.py"}


def test_the_users_excludes_file_is_found_through_the_configuration(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "a.py")
    write(root / "b.py")
    git(root, "init", "-q", home=tmp_path)
    write(tmp_path / ".gitconfig", '[include]\n\tpath = more.inc\n[core "x"]\n\texcludesFile = /nowhere\n')
    write(tmp_path / "more.inc", '[CORE]\n\tExcludesFile = "~/my ignore" ; where it is\n')
    write(tmp_path / "my ignore", "b.py\n")
    write(tmp_path / "xdg/git/ignore", "a.py\n")  # not asked: another file is named
    assert found(root, tmp_path) == {"a.py"}
    assert not_ignored_by_git(root, ["a.py", "b.py"], tmp_path) == {"a.py"}


def test_a_repositorys_own_configuration_speaks_last(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "A.py")
    write(root / "b.py")
    git(root, "init", "-q", home=tmp_path)
    git(root, "config", "core.excludesFile", "rules.txt", home=tmp_path)
    git(root, "config", "core.ignoreCase", "true", home=tmp_path)
    write(tmp_path / "xdg/git/ignore", "b.py\n")
    write(root / "rules.txt", "a.PY\nrules.txt\n")
    assert found(root, tmp_path) == {"b.py"}
    assert not_ignored_by_git(root, ["A.py", "b.py"], tmp_path) == {"b.py"}


def test_a_dot_git_that_is_no_repository_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    git(tmp_path, "init", "-q", str(root), home=tmp_path)
    write(root / ".gitignore", "*.log\n")
    (root / "empty/.git").mkdir(parents=True)
    write(root / "broken/.git", "gitdir: /nowhere\n")
    os.makedirs(root / "fifo")
    os.mkfifo(root / "fifo/.git")
    for name in ("empty", "broken", "fifo"):
        write(root / name / "x.log")
    assert found(root, tmp_path) == set()


@pytest.mark.parametrize(
    "path",
    [
        ".hg/store/x.py", "a/.svn/x.py", "node_modules/m/index.js", "__pycache__/m.py", ".venv/lib/m.py",
        "venv/lib/m.py", ".mypy_cache/x.py", ".tox/py/x.py", ".idea/x.py", "package-lock.json", "a/yarn.lock",
        "Cargo.lock", "poetry.lock", "jquery.min.js", "app.js.map", "lib/python3/site-packages/m.py",
    ],
)  # fmt: skip
def test_defaults(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    write(root / path)
    write(root / "m.py")
    assert found(root, tmp_path) == {"m.py"}


@pytest.mark.parametrize(
    "name",
    [".m.py.swp", "m.py~", ".#m.py", "#m.py#", "4913", "m.py.tmp", "m.py___jb_tmp___", ".goutputstream-X1", "m.orig"],
)
def test_fault_07_files_of_editors_are_never_indexed(tmp_path: Path, name: str) -> None:
    write(tmp_path / "root" / name)
    write(tmp_path / "root" / "m.py")
    assert found(tmp_path / "root", tmp_path) == {"m.py"}


def test_a_name_that_says_too_little_is_ignored_only_in_its_place(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in (
        "rust/Cargo.toml",
        "rust/target/debug/x.rs",
        "plain/target/x.rs",
        "Lib/venv/__init__.py",
        "Lib/venv/x.py",
    ):
        write(root / path)
    assert found(root, tmp_path) == {"rust/Cargo.toml", "plain/target/x.rs", "Lib/venv/__init__.py", "Lib/venv/x.py"}


def test_a_directory_is_known_as_a_cache_by_what_it_holds(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in ("env311/pyvenv.cfg", "env311/lib/m.py", "cache/CACHEDIR.TAG", "cache/a/m.py", "pyvenv.cfg", "m.py"):
        write(root / path)
    assert found(root, tmp_path) == {"m.py"}
    assert found(root, tmp_path, exclude=("!cache/",)) == {"m.py", "cache/a/m.py"}


def test_the_configuration_overrules_everything(tmp_path: Path) -> None:
    root = tmp_path / "root"
    git(tmp_path, "init", "-q", str(root), home=tmp_path)
    write(root / ".gitignore", "generated/\n")
    for path in ("generated/g.py", "node_modules/m.js", "vendor/v.py", "a/docs/d.py", "docs/d.py", "rust/Cargo.toml",
                 "rust/target/x.rs"):  # fmt: skip
        write(root / path)
    exclude = ("vendor/", "/docs/", "!generated/", "!node_modules/", "!target/")
    kept = {"generated/g.py", "node_modules/m.js", "a/docs/d.py", "rust/Cargo.toml", "rust/target/x.rs"}
    assert found(root, tmp_path, exclude) == kept


def test_fault_22_a_changed_rule_file_outside_of_the_root_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "top/sub"
    root.mkdir(parents=True)
    git(root.parent, "init", "-q", home=tmp_path)
    rules = WorkspaceRules(str(root), environment=environment(tmp_path))

    def check(change: Callable[[], object], expect: bool) -> None:
        change()
        assert rules.is_stale() is expect
        if expect:
            rules.top(set())
        assert not rules.is_stale()

    rules.top(set())
    check(lambda: None, False)
    check(lambda: write(root.parent / ".git/info/exclude", "x\n"), True)
    check(lambda: write(tmp_path / "xdg/git/ignore", "y\n"), True)
    check(lambda: write(root.parent / ".gitignore", "z\n"), True)
    check(lambda: os.utime(root.parent / ".gitignore", (1, 1)), False)
    check(lambda: git(root.parent, "config", "branch.main.remote", "origin", home=tmp_path), False)
    check(lambda: git(root.parent, "config", "core.ignoreCase", "true", home=tmp_path), True)
    check(lambda: write(tmp_path / ".gitconfig", "[core]\n\texcludesFile = ~/mine\n"), True)
    check(lambda: write(tmp_path / "mine", "w\n"), True)
    check((root.parent / ".gitignore").unlink, True)
