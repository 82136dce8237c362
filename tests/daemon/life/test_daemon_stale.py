"""Fault 17: what a syntax error took out of the index while somebody types is answered as `stale` for a while."""

from __future__ import annotations

from typing import Any

from codegraphd.daemon.search import stale
from codegraphd.daemon.search.stale import Lost
from codegraphd.store.records import LostUnit

WHOLE = 'def drink(x):\n    return brew(x)\n\n\ndef brew(x):\n    """Pour oolong tea."""\n    return x\n'
BROKEN = WHOLE.replace("brew(x):", "brew(x:")


def units(home: Any) -> dict[str, bool]:
    found = home.call("symbols", root=str(home.workspace))["units"]
    return {unit["name"]: unit.get("stale", False) for unit in found}


def test_fault_17_units_lost_to_a_syntax_error_answer_as_stale_until_the_file_parses(home: Any) -> None:
    home.write("a.py", WHOLE)
    home.watch()
    home.sync(semantic=True)
    home.write("a.py", BROKEN)
    home.sync(semantic=True)
    assert units(home) == {"drink": False, "brew": True}
    for mode in ("lexical", "semantic", "hybrid"):
        answer = home.call("search", query="pour oolong tea", mode=mode, snippet_lines=3)["results"]
        assert {unit["name"]: (unit.get("stale"), unit["snippet"]) for unit in answer}["brew"] == (True, None)
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    assert home.call("symbols", pattern="brew")["units"][0]["stale"] is True
    before = home.status()["model"]["embedded"]
    home.write("a.py", WHOLE)
    home.sync(semantic=True)
    assert units(home) == {"brew": False, "drink": False}
    assert home.status()["model"]["embedded"] == before


def test_fault_17_what_is_deleted_on_purpose_is_gone_at_once(home: Any) -> None:
    home.write("a.py", WHOLE)
    home.watch()
    home.sync()
    home.write("a.py", "def drink(x):\n    return x\n")
    home.sync()
    assert units(home) == {"drink": False}
    home.write("a.py", "def broken(:\n")
    home.sync()
    (home.workspace / "a.py").unlink()
    home.sync()
    assert units(home) == {}


def test_fault_17_lost_units_are_forgotten_after_a_minute(lab: Any) -> None:
    now = [100.0]
    lost = Lost(lambda: now[0])
    lab.edit({"a.py": WHOLE.encode()})
    outcomes = lab.edit({"a.py": BROKEN.encode()})
    items: list[LostUnit] = [item for outcome in outcomes for item in outcome.lost]
    lost.add(items)
    with lab.store.snapshot() as view:
        assert set(lost.standing(view)) == {item.unit.id for item in items} != set()
        now[0] += stale.KEPT_S
        assert lost.standing(view) == {}
