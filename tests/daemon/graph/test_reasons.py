"""Why a unit was last embedded: the level, what brought it, and how far away that was; and the counters of levels."""

from __future__ import annotations

from typing import Any

import pytest

from bench.lab import ROOT, Lab, stat_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.engine import Outcome, ParsedFile, Work, advance
from codegraphd.daemon.packing import packed
from codegraphd.store.records import Recipe, UnitState

Edits = dict[str, bytes | None]

A = b"class Base(object):\n    def m(self):\n        return 1\n\n\ndef f(x):\n    return x\n"
B = b"""from a import Base, f


class Kid(Base):
    def n(self):
        return f(1)


def g(x):
    return f(x)
"""
C = b"from b import Kid\n\n\nclass Grandkid(Kid):\n    def o(self):\n        return 2\n"
TS = b'import { f } from "@lib/util"\nexport function g(x) { return f(x) }\n'
ONE, TWO = b"export function f(x, one) { return x }\n", b"export function f(x, two) { return x }\n"
TSCONFIG = b'{"compilerOptions": {"paths": {"@lib/*": ["./web/%s/*"]}}}'
TREE: Edits = {
    "a.py": A, "b.py": B, "c.py": C, "web/app.ts": TS, "web/one/util.ts": ONE, "web/two/util.ts": TWO,
    "tsconfig.json": TSCONFIG % b"one",
}  # fmt: skip


def reasons(lab: Lab) -> dict[str, tuple[str, str, int, int]]:
    """ "path:qualname" -> (level, cause, depth, clock)."""
    with lab.store.snapshot() as view:
        found = {}
        for unit in view.units(ROOT):
            state = view.state(unit.id)
            assert state is not None
            assert state.reason is not None
            reason = state.reason
            found[f"{unit.path}:{unit.unit.qualname}"] = (reason.level, reason.cause, reason.depth, reason.clock)
        return found


def new_reasons(lab: Lab, edits: Edits) -> tuple[dict[str, tuple[str, str, int]], list[Outcome]]:
    """The reasons that an edit gave, and what the engine counted."""
    before = reasons(lab)
    outcomes = lab.edit(edits)
    after = reasons(lab)
    return {name: after[name][:3] for name in after if after[name] != before.get(name)}, outcomes


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"a.py": A.replace(b"return x", b"return -x")}, {"a.py:f": ("content", "a.py:f", 0)}),
        (
            {"a.py": A.replace(b"def f(x)", b"def f(x, y)")},
            {
                "a.py:f": ("content", "a.py:f", 0),
                "b.py:g": ("symbol", "a.py:f", 1),
                "b.py:Kid.n": ("symbol", "a.py:f", 1),
            },
        ),
        (
            {"a.py": A.replace(b"Base(object)", b"Base(Exception)")},
            {
                "a.py:Base": ("content", "a.py:Base", 0),
                "a.py:Base.m": ("symbol", "a.py:Base", 1),
                "b.py:Kid": ("symbol", "a.py:Base", 1),
                "b.py:Kid.n": ("semantic", "a.py:Base", 2),
                "c.py:Grandkid": ("semantic", "a.py:Base", 2),
                "c.py:Grandkid.o": ("semantic", "a.py:Base", 3),
            },
        ),
        (
            {"a.py": A[: A.index(b"\n\ndef f")]},  # the name is gone: found again by what was tried
            {"b.py:g": ("symbol", "a.py:f", 1), "b.py:Kid.n": ("symbol", "a.py:f", 1)},
        ),
        ({"tsconfig.json": TSCONFIG % b"two"}, {"web/app.ts:g": ("project", "tsconfig.json", 1)}),
        (
            {"b.py": B.replace(b"import Base, f", b"import Base")},  # the file's own edit, not the unit's text
            {"b.py:g": ("content", "b.py", 0), "b.py:Kid.n": ("content", "b.py", 0)},
        ),
        ({"d.py": b"def new(x):\n    return 5\n"}, {"d.py:new": ("initial", "d.py:new", 0)}),
    ],
)
def test_reasons(lab: Lab, edits: Edits, expected: dict[str, tuple[str, str, int]]) -> None:
    lab.edit(TREE)
    found, outcomes = new_reasons(lab, edits)
    own_text = {name for name in found if name.startswith("tsconfig.json:")}  # a project file is a text, too
    assert {name: reason for name, reason in found.items() if name not in own_text} == expected
    counted = {level: sum(outcome.levels[level] for outcome in outcomes) for level in outcomes[0].levels}
    assert {level: n for level, n in counted.items() if n} == {
        level: sum(reason[0] == level for reason in found.values()) for level in {r[0] for r in found.values()}
    }


def test_all_of_a_first_index_is_initial(lab: Lab) -> None:
    outcomes = lab.edit(TREE, patience=3)
    assert {reason[0] for reason in reasons(lab).values()} == {"initial"}
    assert all(n == 0 or level == "initial" for outcome in outcomes for level, n in outcome.levels.items())
    assert sum(outcome.truncated for outcome in outcomes) == 0


def test_a_reindex_makes_recipes_anew(lab: Lab) -> None:
    """After an upgrade the same text may have another recipe: what an older version made is not left standing."""
    lab.edit({"a.py": A})
    with lab.store.snapshot() as view:
        old = [(unit.id, view.state(unit.id)) for unit in view.units(ROOT)]

    def spoil(txn: Any) -> None:
        for unit, state in old:
            assert state is not None
            txn.put_state(unit, UnitState(Recipe(b"another version", b"made it"), state.attached, state.reason))

    lab.writer.submit(spoil).result()
    assert lab.differences() != []
    work = [Work(ROOT, [ParsedFile("a.py", stat_of(A), packed(parse("a.py", A)))], anew=True)]
    lab.writer.submit(lambda txn: advance(txn, work, lab.settings, lab.editions, lambda: False)).result()
    asked = len(lab.asked)
    lab.embed()
    assert lab.differences() == []
    assert len(lab.asked) == asked
