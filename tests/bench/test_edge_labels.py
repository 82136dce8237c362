"""Labelled edges against what is found: told apart by repository, by verdict, and by which of two types of one name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is run from the checkout and is never installed

from bench import edge_labels
from bench.edge_labels import Count, Label

LABELS = """# a comment
box	c0ffee	A.cs	4	User.Go	A.cs	Box#1	type	right
box	c0ffee	A.cs	4	User.Go	A.cs	Box#0	type	wrong	A.cs	Box#1
box	c0ffee	A.cs	4	User.Go	A.cs	Other	type	right
box	c0ffee	A.cs	4	User.Gone	A.cs	Other	type	part
crate	c0ffee	B.cs	1	B	B.cs	C	inherit	right
"""
SOURCE = "class Box {}\nclass Box<T> {}\nclass Other {}\nclass User { void Go(Box<int> box, Other other) {} }\n"


@pytest.fixture(autouse=True)
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "csharp.tsv").write_text(LABELS)
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "A.cs").write_text(SOURCE)
    monkeypatch.setattr(edge_labels, "LABELS", tmp_path)


def test_a_wrong_edge_is_read_with_what_is_meant(tmp_path: Path) -> None:
    labels = list(edge_labels.read(tmp_path / "csharp.tsv"))
    assert labels[1] == Label(
        "box", "c0ffee", "A.cs", 4, "User.Go", "A.cs", "Box#0", "type", "wrong", ("A.cs", "Box#1")
    )
    assert labels[0].meant == ()
    assert edge_labels.repositories("csharp") == ["box", "crate"]


def test_what_is_still_found_is_judged_and_the_rest_is_not(tmp_path: Path) -> None:
    assert edge_labels.judge("csharp", "box", lambda name: tmp_path / name) == Count(4, 2, 2, 0, 0)
    (tmp_path / "box" / "A.cs").write_text(SOURCE.replace("Box<int> box", "Box box"))
    assert edge_labels.judge("csharp", "box", lambda name: tmp_path / name) == Count(4, 2, 1, 0, 1)
