"""Doc comments lose their markers and keep their text."""

from __future__ import annotations

import pytest

from codegraphd.daemon.analysis.compiled import scan


@pytest.mark.parametrize(
    ("comments", "text"),
    [
        (["/** One line. */"], "One line."),
        (["/**\n * First.\n *\n *   indented\n * @param a b\n */"], "First.\n\n  indented\n@param a b"),
        (["/* plain\n   block */"], "plain\nblock"),
        (["/*! Qt.\n    More. */"], "Qt.\nMore."),
        (["/// First.", "/// Second.", "///", "/// Third."], "First.\nSecond.\n\nThird."),
        (["//! Inner."], "Inner."),
        (["// Load reads.", "//   code", "// end"], "Load reads.\n  code\nend"),
        (["# hash", "#: sphinx"], "hash\n: sphinx"),
        (['"""Doc.\n\n    More.\n      deep\n    """'], "Doc.\n\nMore.\n  deep"),
        (["'single'"], "single"),
        (['r"""Raw \\d."""'], "Raw \\d."),
        (["/* ------- */"], ""),
        (["// ==========", "// Title", "// =========="], "Title"),
        (['/// <summary>Does <see cref="T:N.X"/> it.</summary>'], "Does N.X it."),
        (["/**/"], ""),
        (["//"], ""),
        ([], ""),
    ],
)
def test_clean(comments: list[str], text: str) -> None:
    assert scan.clean(comments) == text


def test_docs_are_bounded() -> None:
    assert len(scan.clean(["/** " + "word " * 10_000 + "*/"])) <= 2_000
