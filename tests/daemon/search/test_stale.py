"""Units lost to a syntax error: whose vectors they may be compared with."""

from __future__ import annotations

from pathlib import Path

from bench.lab import OTHER, Lab
from codegraphd.daemon.engine import Settings
from codegraphd.daemon.search.stale import Lost


def test_fault_24_a_lost_unit_keeps_its_words_and_not_the_vector_of_a_former_model(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Settings())
    lab.edit({"a.py": b"def f(x):\n    return x\n", "b.py": b"def g():\n    return 2\n"})
    lost = Lost(lambda: 0.0)
    for outcome in lab.edit({"a.py": b"def f(x:\n    return x\n"}):
        lost.add(outcome.lost)
    with lab.store.snapshot() as view:
        (item,) = lost.standing(view).values()
        assert (item.unit.unit.name, len(item.vector)) == ("f", 32)
    lab.begin(OTHER, faces=False)
    lab.fill()
    lab.embed()
    lab.switch()
    with lab.store.snapshot() as view:
        (item,) = lost.standing(view).values()
        assert (item.unit.unit.name, item.vector) == ("f", None)
    lab.close()
