"""The ignore matcher against git itself, and what git has no say in."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from codegraphd.daemon.workspace.ignore import Ignore, Level, Rules, load_rules

# What patterns and names are made of: all that is special, close to all that is not.
ATOMS = [
    "a", "b", "foo", "bar", "*", "**", "***", "?", "/", "/", "[ab]", "[!a]", "[^b]", "[[:alpha:]]", "[[:foo:]]", "[]a]",
    "[a-c]", "[a\\]]", "[/]", "\\", "\\*", "\\ ", " ", "\t", ".", "[[:upper:]]", "[A-b]", "A", "[A]", "é", "\\/",
    "{a,b}", "#", "!", "[", "]", "-", "[a-", "[:alpha:]", "[b-a]", "**/", "/**", "/**/", "*.py", "\r", "[[:punct:]]",
    "[[:space:]]", "[!-]", "[--0]", "[\\]]", "[[:alpha:]b]", "[[:a]", "\udcff", "\ufeff", "[é]",
]  # fmt: skip
NAMES = [
    "a", "b", "c", "foo", "bar", "fooa", "afoo", "foobar", "A", "B", "FOO", "x.py", "a.py", "é", "a b", "a ", "-", "]",
    "[", "{a,b}", "#a", "!a", "*", "a*", "ab", "\\", "\\a", "a\t", "a-b", "fooX", "0", "\udcff",
]  # fmt: skip


def git_environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "xdg"), "GIT_CONFIG_NOSYSTEM": "1"}


def git_ignored(top: Path, home: Path, paths: list[str], *options: str) -> set[str]:
    """Those of the paths (relative to `top`) that git ignores."""
    done = subprocess.run(
        ["git", *options, "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=top, env=git_environment(home), capture_output=True, check=False, input=b"\0".join(map(os.fsencode, paths)),
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return set(os.fsdecode(done.stdout).split("\0")) - {""}


def is_ignored(ignore: Ignore, path: str) -> bool:
    """Level by level, as the crawl asks."""
    directory = ""
    *above, name = path.split("/")
    for part in above:
        if ignore.ignored(directory, part, True):
            return True
        directory += part + "/"
    return ignore.ignored(directory, name, False)


def random_pattern(rng: random.Random) -> str:
    pattern = "".join(rng.choice(ATOMS) for _ in range(rng.randint(1, 5)))
    if rng.random() < 0.2:
        pattern = "!" + pattern
    if rng.random() < 0.2:
        pattern += "/"
    return "/" + pattern if rng.random() < 0.2 else pattern


@pytest.mark.parametrize(("seed", "ignore_case"), [(1, False), (2, False), (3, True)])
def test_agrees_with_git_on_random_rules(tmp_path: Path, seed: int, ignore_case: bool) -> None:
    rng = random.Random(seed)
    top = tmp_path / "top"
    subprocess.run(["git", "init", "-q", str(top)], env=git_environment(tmp_path), check=True)
    n_decisions = n_ignored = 0
    for _ in range(150):
        text = "\n".join(random_pattern(rng) for _ in range(rng.randint(1, 5)))
        (top / ".gitignore").write_bytes(os.fsencode(text))
        paths = sorted({"/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 4))) for _ in range(40)})
        rules = load_rules(str(top / ".gitignore"), ignore_case=ignore_case)
        assert rules is not None
        ours = {path for path in paths if is_ignored(Ignore([Level(0, "", rules)]), path)}
        assert ours == git_ignored(top, tmp_path, paths, "-c", f"core.ignorecase={ignore_case}"), repr(text)
        n_decisions += len(paths)
        n_ignored += len(ours)
    assert n_decisions > 5000
    assert n_ignored > 300


def check(patterns: str, path: str, expect: bool, is_dir: bool = False) -> None:
    """One pattern file at the root, one entry."""
    directory, _, name = path.rpartition("/")
    ignore = Ignore([Level(0, "", Rules.from_lines(patterns.split("\n")))])
    assert ignore.ignored(directory + "/" if directory else "", name, is_dir) is expect


@pytest.mark.parametrize(
    ("patterns", "path", "expect"),
    [
        ("*.log", "deep/below/x.log", True),
        ("*.log\n!keep.log", "deep/keep.log", False),
        ("!keep.log\n*.log", "keep.log", True),
        ("/top.py", "top.py", True),
        ("/top.py", "a/top.py", False),
        ("a/b.py", "x/a/b.py", False),
        ("**/b.py", "b.py", True),
        ("a/**/b.py", "a/b.py", True),
        ("a/**/b.py", "a/x/y/b.py", True),
        ("a/**", "a/x/y.py", True),
        ("foo**/bar", "foo/a/bar", True),  # git's own quirk
        ("??.py", "é.py", True),  # a question mark is a byte
        ("?.py", "é.py", False),
        ("name\\ ", "name ", True),
        ("name ", "name", True),
        ("\\#x", "#x", True),
        ("#x", "#x", False),
        ("[unclosed", "[unclosed", False),
        ("dir/", "dir", False),
        ("", "x", False),
        ("!", "!", False),
    ],
)
def test_patterns(patterns: str, path: str, expect: bool) -> None:
    check(patterns, path, expect)


def test_a_trailing_slash_means_directories() -> None:
    check("build/", "a/build", True, is_dir=True)
    check("a/**", "a", False, is_dir=True)
    check("!/*\n/x/\n", "x", True, is_dir=True)


def test_a_stronger_level_decides_first() -> None:
    deep, top = Rules.from_lines(["!*.py"]), Rules.from_lines(["*.py", "a/b/x"])
    ignore = Ignore([Level(len("a/"), "", deep), Level(0, "", top)])
    assert not ignore.ignored("a/", "m.py", False)
    assert ignore.verdict("a/", "m.txt", False) is None
    assert ignore.ignored("a/b/", "x", False)


def test_a_level_above_the_root_sees_the_path_from_its_place() -> None:
    ignore = Ignore([Level(0, "sub/dir/", Rules.from_lines(["/sub/dir/out"]))])
    assert ignore.ignored("", "out", True)
    assert not ignore.ignored("x/", "out", True)


@pytest.mark.parametrize(
    ("pattern", "directory"),
    [("*a" * 30 + "b", ""), ("/" + "*a" * 30 + "b", ""), ("**/" + "**/a*/" * 12 + "b", "aaaa/" * 40),
     ("/" + "**/*a*/" * 12 + "z", "aaaa/" * 40)],
)  # fmt: skip
def test_a_hostile_pattern_does_not_hang(pattern: str, directory: str) -> None:
    """With plain backtracking each of these takes longer than the test's time limit."""
    ignore = Ignore([Level(0, "", Rules.from_lines([pattern]))])
    assert not ignore.ignored(directory, "a" * 200, False)


def test_fault_12_an_ignore_file_that_is_a_fifo_or_a_link_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "rules").write_text("*\n")
    (tmp_path / "link").symlink_to(tmp_path / "rules")
    assert load_rules(str(tmp_path / "fifo")) is None
    assert load_rules(str(tmp_path / "link")) is None
    assert load_rules(str(tmp_path / "missing")) is None
    assert load_rules(str(tmp_path / "rules")) is not None


def test_the_cache_of_verdicts_is_bounded() -> None:
    rules = Rules.from_lines(["*.log"])
    for number in range(20_000):
        assert rules.match(f"{number}.log", f"{number}.log", is_dir=False) is True
    assert len(rules.known_files) <= 1 << 14
