"""Editions: two sets of states and vectors beside each other, and the switch from one to the other (row 24)."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from codegraphd.store.ann import VectorIndex
from codegraphd.store.env import Store
from codegraphd.store.errors import EditionChanged
from codegraphd.store.records import Recipe, UnitState

STAGES = (3, 4)  # the work lists of slot 0 and slot 1


def state(n: int) -> UnitState:
    return UnitState(Recipe(bytes([n % 256]) * 16, b""), None, None)


def unused(txn: Any) -> int:
    return STAGES[1 - txn.editions.slot]


def begin(bench: Any, ids: list[int], vectors: Any) -> int:
    """An edition to come, with a state, a vector and a queue entry for each unit."""
    number: int = bench.do(lambda txn: txn.begin_edition())

    def job(txn: Any) -> None:
        for n, (id_, vector) in enumerate(zip(ids, vectors, strict=True)):
            txn.put_state(id_, state(n), number)
            txn.attach(id_, vector, number)
            txn.enqueue(unused(txn), id_)

    bench.do(job)
    return number


def follow(bench: Any, directory: Any, **options: Any) -> VectorIndex:
    index = VectorIndex(str(directory), behind=False, **options)
    bench.writer.add_listener(index.apply)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    return index


def test_the_edition_to_come_is_not_seen_until_the_switch(bench: Any, make: Any) -> None:
    ids = bench.add_file("a.py", ["f", "g"])
    old, new = make.vectors(2, 32), make.vectors(2, 48, seed=1)
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids, old, strict=True)])
    number = begin(bench, ids, new)
    with bench.store.snapshot() as before:
        assert (before.edition, before.editions.coming) == (1, number)
        assert [len(before.attached(id_)) for id_ in ids] == [32, 32]
        assert before.state(ids[0]) is None
        assert before.state(ids[1], number) == state(1)
        assert (before.counts(1), before.counts(1, number)) == ((1, 2, 0, 2), (1, 2, 0, 2))
        assert before.check() == []
        bench.do(lambda txn: txn.switch_edition())
        assert [len(before.attached(id_)) for id_ in ids] == [32, 32]  # a snapshot stays with its edition
    with bench.store.snapshot() as after:
        assert (after.edition, after.editions.coming) == (number, 0)
        assert [len(after.attached(id_)) for id_ in ids] == [48, 48]
        assert float(after.attached(ids[1]) @ new[1]) > 0.999
        assert after.attached(ids[0], 1) is None  # that one is over
        assert (after.slot_of(1), after.slot_of(number)) == (None, 1)
        assert after.check() == []


def test_what_is_written_for_an_edition_that_is_over_goes_nowhere(bench: Any, make: Any) -> None:
    (unit,) = bench.add_file("a.py", ["f"])
    number = begin(bench, [unit], make.vectors(1))
    bench.do(lambda txn: txn.give_up_edition())
    bench.do(lambda txn: (txn.attach(unit, make.vectors(1)[0], number), txn.put_state(unit, state(7), number)))
    assert bench.ask(lambda s: (s.attached(unit, number), s.state(unit, number), s.attached(unit))) == (None,) * 3


def test_a_slot_is_cleared_in_slices_before_it_is_used_again(bench: Any, make: Any) -> None:
    ids = bench.add_file("a.py", ["f", "g", "h"])
    first = begin(bench, ids, make.vectors(3))
    with pytest.raises(ValueError, match="lies in that slot"):
        bench.do(lambda txn: txn.clear_slot(STAGES[1]))
    bench.do(lambda txn: txn.give_up_edition())
    with pytest.raises(ValueError, match="not cleared"):
        bench.do(lambda txn: txn.begin_edition())
    assert bench.do(lambda txn: txn.clear_slot(STAGES[1], limit=2)) is False
    assert bench.do(lambda txn: txn.clear_slot(STAGES[1], limit=2)) is True
    assert bench.ask(lambda s: (s.n_queued(STAGES[1]), s.counts(1)[3], s.check())) == (0, 0, [])
    second = bench.do(lambda txn: txn.begin_edition())
    assert second > first  # a number is never given again, so nothing late can pass for it
    assert bench.ask(lambda s: (s.attached(ids[0], second), s.state(ids[0], second))) == (None, None)
    with pytest.raises(ValueError, match="to come already"):
        bench.do(lambda txn: txn.begin_edition())


def test_units_leave_both_editions(bench: Any, make: Any) -> None:
    ids = bench.add_file("a.py", ["f", "g"])
    bench.do(lambda txn: txn.attach(ids[0], make.vectors(1)[0]))
    number = begin(bench, ids, make.vectors(2))
    bench.do(lambda txn: (txn.put_file(make.file(ids[0] - 1, "a.py", (ids[1],))), txn.delete_unit(ids[0])))
    with bench.store.snapshot() as s:
        assert (s.counts(1)[3], s.counts(1, number)[3]) == (0, 1)
        assert s.state(ids[0], number) is None
        assert s.check() == []


def test_vectors_and_editions_change_in_commits_of_their_own(bench: Any, make: Any) -> None:
    (unit,) = bench.add_file("a.py", ["f"])
    vector = make.vectors(1)[0]
    with pytest.raises(RuntimeError, match="another"):
        bench.do(lambda txn: (txn.attach(unit, vector), txn.begin_edition()))
    with pytest.raises(RuntimeError, match="another"):
        bench.do(lambda txn: (txn.begin_edition(), txn.attach(unit, vector)))
    assert bench.ask(lambda s: (s.editions.coming, s.attached(unit))) == (0, None)


def test_editions_outlive_a_restart(tmp_path: Any, make: Any) -> None:
    with make.bench(str(tmp_path / "db")) as bench:
        ids = bench.add_file("a.py", ["f"])
        number = begin(bench, ids, make.vectors(1, 48))
        bench.do(lambda txn: txn.switch_edition())
    store = Store.open(str(tmp_path / "db"))
    with store.snapshot() as s:
        assert (s.edition, len(s.attached(ids[0]))) == (number, 48)
    store.close()


@pytest.mark.parametrize("dim", [32, 48])
def test_the_index_answers_for_one_edition_at_a_time(bench: Any, make: Any, tmp_path: Any, dim: int) -> None:
    ids = bench.add_file("a.py", ["f", "g", "h"])
    old, new = make.vectors(3, 32), make.vectors(3, dim, seed=1)
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids, old, strict=True)])
    index = follow(bench, tmp_path / "v")
    number = begin(bench, ids, new)
    again = follow(bench, tmp_path / "v2")  # one that was opened in the middle
    for each in (index, again):
        assert each.at(1).nearest(old[2], 1)[0][0] == ids[2]
        assert each.within(new[0], -1.1) == [] if dim != 32 else len(each.within(new[0], -1.1)) == 3
        with pytest.raises(EditionChanged):
            each.at(number).nearest(new[0], 1)
    bench.do(lambda txn: txn.switch_edition())
    for each in (index, again):
        assert each.at(number).nearest(new[2], 1)[0] == (ids[2], pytest.approx(1, abs=0.01))
        assert each.statistics()["elements"] == 3
        with pytest.raises(EditionChanged):
            each.at(1).within(old[0], 0.5)
    bench.do(lambda txn: txn.clear_slot(STAGES[0]))
    assert len(index.at(number).nearest(new[0], 9)) == 3
    index.close()
    again.close()


def test_an_edition_that_is_given_up_leaves_nothing_in_the_index(bench: Any, make: Any, tmp_path: Any) -> None:
    ids = bench.add_file("a.py", ["f", "g"])
    index = follow(bench, tmp_path / "v")
    begin(bench, ids, make.vectors(2))
    bench.do(lambda txn: txn.give_up_edition())
    bench.do(lambda txn: txn.clear_slot(STAGES[1]))
    number = bench.do(lambda txn: txn.begin_edition())
    bench.do(lambda txn: txn.switch_edition())
    assert index.at(number).nearest(make.vectors(1)[0], 5) == []
    index.close()


def test_the_graph_is_of_one_edition(bench: Any, make: Any, tmp_path: Any) -> None:
    """Same dimensions, other vectors: a graph of the former ones, in memory or in a file, would lead astray."""
    ids = bench.add_file("a.py", [f"f{n}" for n in range(300)])
    old, new = make.vectors(300, 32), make.vectors(300, 32, seed=9)
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids, old, strict=True)])
    index = follow(bench, tmp_path / "v", graph_rows=100)
    index.settle()
    assert index.statistics()["kind"] == "hnsw"
    index.close()  # saves it
    number = begin(bench, ids, new)
    bench.do(lambda txn: txn.switch_edition())
    again = follow(bench, tmp_path / "v", graph_rows=100)
    for each in (index, again):
        assert each.statistics()["kind"] == "exact"
        assert [each.at(number).nearest(new[n], 1)[0][0] for n in range(0, 300, 30)] == ids[::30]
    again.settle()
    assert again.statistics()["kind"] == "hnsw"
    assert [again.at(number).nearest(new[n], 1)[0][0] for n in range(0, 300, 30)] == ids[::30]
    again.close()


def test_questions_while_editions_change(bench: Any, make: Any, tmp_path: Any) -> None:
    """Whoever asks gets all of one edition, or is told to ask again."""
    ids = bench.add_file("a.py", [f"f{n}" for n in range(50)])
    sets = [make.vectors(50, 32, seed=seed) for seed in range(2)]
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids, sets[0], strict=True)])
    index = follow(bench, tmp_path / "v")
    wrong: list[Any] = []
    n_answers = 0
    done = threading.Event()

    def ask() -> None:
        nonlocal n_answers
        while not done.is_set():
            with bench.store.snapshot() as s:
                question = sets[(s.edition - 1) % 2][7]
                try:
                    found = index.at(s.edition).nearest(question, 50)
                except EditionChanged:
                    continue
                truth = {id_: float(s.attached(id_) @ question) for id_ in ids}
            n_answers += 1
            if found[0][0] != ids[7] or not np.allclose([truth[i] for i, _ in found], [c for _, c in found], atol=0.01):
                wrong.append(found[:3])

    asker = threading.Thread(target=ask)
    asker.start()
    for edition in range(2, 12):
        assert begin(bench, ids, sets[(edition - 1) % 2]) == edition
        bench.do(lambda txn: txn.switch_edition())
        bench.do(lambda txn: txn.clear_slot(unused(txn)))
    done.set()
    asker.join()
    index.close()
    assert wrong == []
    assert n_answers > 10
