"""A file that was moved, also with edits: its units keep their ids, and with them vectors and history."""

from __future__ import annotations

import pytest

from bench.lab import ROOT, Lab, stat_of
from codegraphd.daemon.engine import Outcome, Work, advance

Edits = dict[str, bytes | None]

F, F2 = b"def f(x):\n    return 1\n", b"def f(x):\n    return 2\n"
G, G2 = b"def g(x):\n    return [x]\n", b"def g(x, y):\n    return [x, y]\n"
H = b"def h():\n    pass\n"


def ids(lab: Lab) -> dict[str, int]:
    with lab.store.snapshot() as view:
        return {f"{unit.path}:{unit.unit.qualname}": unit.id for unit in view.units(ROOT)}


@pytest.mark.parametrize(
    ("before", "edits", "kept"),
    [
        ({"a.py": F + G}, {"a.py": None, "b.py": F + G}, {"b.py:f": "a.py:f", "b.py:g": "a.py:g"}),
        # With edits: most of its units moved unchanged.
        ({"a.py": F + G}, {"a.py": None, "b.py": F + G2}, {"b.py:f": "a.py:f", "b.py:g": "a.py:g"}),
        # All of it edited: the only file of that name that went.
        ({"d/a.py": F}, {"d/a.py": None, "e/a.py": F2}, {"e/a.py:f": "d/a.py:f"}),
        # A directory renamed, with edits in each of its files.
        (
            {"d/a.py": F, "d/b.py": F + G},
            {"d/a.py": None, "d/b.py": None, "e/a.py": F2, "e/b.py": F2 + G2},
            {"e/a.py:f": "d/a.py:f", "e/b.py:f": "d/b.py:f", "e/b.py:g": "d/b.py:g"},
        ),
        # Two of that name went, or came: nobody can tell.
        ({"d/a.py": F, "e/a.py": F}, {"d/a.py": None, "e/a.py": None, "n/a.py": F2}, {}),
        ({"d/a.py": F}, {"d/a.py": None, "m/a.py": F2, "n/a.py": F2}, {}),
        # Another name and another text: another unit.
        ({"a.py": F}, {"a.py": None, "b.py": F2}, {}),
        ({"d/a.py": F}, {"d/a.py": None, "e/a.py": H}, {}),
    ],
)
def test_units_of_a_moved_file_stay_themselves(lab: Lab, before: Edits, edits: Edits, kept: dict[str, str]) -> None:
    lab.edit(before)
    was = ids(lab)
    lab.edit(edits)
    now = ids(lab)
    assert {name: old for name, id in now.items() for old, former in was.items() if id == former} == kept
    assert lab.differences() == []


def test_what_was_unchanged_when_it_was_looked_at_is_read_again_if_a_step_came_between(lab: Lab) -> None:
    """Edited and changed back at once: the parser compares the last bytes with those that were indexed before the
    edit, and finds them equal, while the edit is on its way into the index."""
    lab.edit({"a.py": F})
    with lab.store.snapshot() as view:
        file = view.file(ROOT, "a.py")
    assert file is not None
    lab.edit({"a.py": F2})
    stat = stat_of(b"new")

    def touch(digest: bytes) -> Outcome:
        work = [Work(ROOT, touched=[("a.py", stat, digest)])]
        return lab.writer.submit(lambda txn: advance(txn, work, lab.settings, lab.editions, lambda: False)).result()

    assert touch(file.digest).again == [(ROOT, "a.py", stat)]
    with lab.store.snapshot() as view:
        now = view.file(ROOT, "a.py")
    assert now is not None
    assert now.stat != stat
    assert touch(now.digest).again == []
    with lab.store.snapshot() as view:
        assert view.file(ROOT, "a.py").stat == stat  # type: ignore[union-attr]
