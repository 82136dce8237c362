"""Globs over paths, case by case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.search.globs import matcher

PATHS = ("a.py", "src/a.py", "src/deep/b.js", "src/deep/a.py", "tests/test_a.py", "docs/read me.md", "x/src/c.go")


@pytest.mark.parametrize(
    ("globs", "expect"),
    [
        ([], PATHS),
        (["*.py"], ("a.py", "src/a.py", "src/deep/a.py", "tests/test_a.py")),
        (["a.py"], ("a.py", "src/a.py", "src/deep/a.py")),
        (["/a.py"], ("a.py",)),
        (["src"], ("src/a.py", "src/deep/b.js", "src/deep/a.py", "x/src/c.go")),
        (["src/"], ("src/a.py", "src/deep/b.js", "src/deep/a.py", "x/src/c.go")),
        (["/src"], ("src/a.py", "src/deep/b.js", "src/deep/a.py")),
        (["src/*.py"], ("src/a.py",)),
        (["src/**/*.py"], ("src/a.py", "src/deep/a.py")),
        (["./src/**"], ("src/a.py", "src/deep/b.js", "src/deep/a.py")),
        (["**/deep"], ("src/deep/b.js", "src/deep/a.py")),
        (["*.{js,go}"], ("src/deep/b.js", "x/src/c.go")),
        (["?.py"], ("a.py", "src/a.py", "src/deep/a.py")),
        (["[b-d].*"], ("src/deep/b.js", "x/src/c.go")),
        (["[!a].*"], ("src/deep/b.js", "x/src/c.go")),
        (["read me.md"], ("docs/read me.md",)),
        (["*.py", "!tests", "!deep"], ("a.py", "src/a.py")),
        (["!*.py"], ("src/deep/b.js", "docs/read me.md", "x/src/c.go")),
        (["["], ()),
        (["a{b"], ()),
    ],
)
def test_globs(globs: list[str], expect: tuple[str, ...]) -> None:
    wanted = matcher(globs)
    assert tuple(path for path in PATHS if wanted(path)) == expect


@given(st.lists(st.text(alphabet="a*?[]!{},/.\\^&|-", max_size=8), max_size=3), st.text(alphabet="ab/.", max_size=6))
def test_no_glob_breaks_it(globs: list[str], path: str) -> None:
    assert matcher(globs)(path) in (True, False)


@given(st.lists(st.text(alphabet="abc.-", min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_plain_path_matches_itself_and_what_is_below(parts: list[str]) -> None:
    path = "/".join(parts)
    assert matcher(["/" + path])(path)
    assert matcher(["/" + path])(path + "/x")
    assert not matcher(["/" + path])(path + "x")
