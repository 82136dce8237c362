"""What `changes` says between two clocks is what differs between them, however much was done and undone."""

from __future__ import annotations

import pytest

from bench.lab import ROOT, Lab
from codegraphd.daemon.graph.diff import content_of, net_changes

F1, F2 = b"def f(x):\n    return 1\n", b"def f(x):\n    return 2\n"
G = b"def g(x):\n    return [x]\n"
Edits = dict[str, bytes | None]


def told(lab: Lab, since: int, until: int | None = None) -> dict[str, tuple[str, str]]:
    """ "path:qualname" -> (change, where it was)."""
    with lab.store.snapshot() as view:
        lines = view.changes(ROOT, since)
        assert lines is not None

        def now(id: int) -> bytes | None:
            return content_of(unit) if (unit := view.unit(id)) is not None else None

        found = net_changes(lines, view.clock if until is None else until, now)
    return {f"{c.path}:{c.qualname}": (c.change, c.origin) for c in found}


def clock(lab: Lab) -> int:
    with lab.store.snapshot() as view:
        return view.clock


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([{"a.py": F2}], {"a.py:f": ("modified", "")}),
        ([{"a.py": F2}, {"a.py": F1}], {}),
        ([{"a.py": F2}, {"a.py": None}], {"a.py:f": ("deleted", "")}),
        ([{"a.py": None, "b.py": F1}], {"b.py:f": ("moved", "a.py:f")}),
        ([{"a.py": None, "b.py": F1}, {"b.py": None, "c.py": F1}], {"c.py:f": ("moved", "a.py:f")}),
        ([{"a.py": None, "b.py": F1}, {"b.py": None, "a.py": F1}], {}),
        ([{"a.py": None, "b.py": F1}, {"b.py": None, "a.py": F1}, {"a.py": F2}], {"a.py:f": ("modified", "")}),
        ([{"a.py": F2}, {"a.py": None, "b.py": F2}], {"b.py:f": ("moved", "a.py:f")}),
        ([{"a.py": None, "b.py": F1}, {"b.py": None}], {"b.py:f": ("deleted", "a.py:f")}),
        ([{"n.py": G}], {"n.py:g": ("added", "")}),
        ([{"n.py": G}, {"n.py": None, "m.py": G}], {"m.py:g": ("added", "")}),
        ([{"n.py": G}, {"n.py": None}], {}),
        ([{"a.py": F1.replace(b"    return", b"    # a comment\n    return")}], {}),
    ],
)
def test_net_changes(lab: Lab, steps: list[Edits], expected: dict[str, tuple[str, str]]) -> None:
    lab.edit({"a.py": F1})
    since = clock(lab)
    for step in steps:
        lab.edit(step)
    assert told(lab, since) == expected


def test_a_later_commit_does_not_change_what_was_answered_up_to_a_clock(lab: Lab) -> None:
    """A second page is asked for after more was saved: it belongs to the first page's answer."""
    lab.edit({"a.py": F1, "g.py": G})
    since = clock(lab)
    lab.edit({"a.py": F2})
    until = clock(lab)
    expected = told(lab, since)
    lab.edit({"a.py": F1, "g.py": None})
    assert expected == {"a.py:f": ("modified", "")}
    assert told(lab, since, until) == expected
