"""The order in which units go to the model, and what `sync --semantic` waits for."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from codegraphd.daemon.embedding.backlog import Backlog


def test_best_first_and_neighbours_together() -> None:
    backlog = Backlog()
    for unit, priority in [(7, 2), (3, 2), (9, 0), (4, 2), (1, 3)]:
        backlog.add(unit, 1, priority, now=0.0)
    assert backlog.best_priority() == 0
    assert backlog.take(3) == [9, 3, 4]
    assert backlog.take(5, worst=2) == [7]
    assert (len(backlog), backlog.n_in_flight) == (5, 4)


def test_a_raised_unit_is_taken_once() -> None:
    backlog = Backlog()
    backlog.add(1, 1, 3, 0.0)
    backlog.add(2, 1, 2, 0.0)
    backlog.raise_priority([1, 99], 0, 1.0)
    assert backlog.take(5) == [1, 2]
    assert backlog.take(5) == []


def test_a_unit_that_changes_while_in_flight_waits_again() -> None:
    backlog = Backlog()
    backlog.add(1, 1, 2, 0.0)
    backlog.take(1)
    backlog.add(1, 1, 1, 1.0)
    backlog.finish([1])
    assert backlog.pending(1) == 1
    assert backlog.take(1) == [1]
    backlog.finish([1])
    assert backlog.pending(1) == 0


def test_what_comes_back_without_a_vector_keeps_its_place() -> None:
    backlog = Backlog()
    backlog.add(1, 1, 2, 0.0)
    mark = backlog.mark()
    backlog.take(1)
    backlog.put_back([1])
    assert not backlog.is_clear(mark, 1)
    assert backlog.oldest_s(10.0) == 10.0
    backlog.add(2, 1, 2, 5.0)
    assert backlog.take(1) == [1]
    backlog.finish([1])
    assert backlog.is_clear(mark, 1)
    assert not backlog.is_clear(backlog.mark(), 1)


def test_a_dropped_root_is_forgotten() -> None:
    backlog = Backlog()
    for unit in range(4):
        backlog.add(unit, unit % 2, 2, 0.0)
    backlog.take(2)
    backlog.drop_root(0)
    assert (backlog.pending(0), backlog.pending(1)) == (0, 2)
    assert backlog.is_clear(backlog.mark(), 0)


steps = st.lists(
    st.tuples(st.sampled_from(["add", "take", "finish", "back", "discard"]), st.integers(0, 5), st.integers(0, 3)),
    max_size=60,
)


@given(steps)
def test_counts_are_those_of_the_units(steps: list[tuple[str, int, int]]) -> None:
    backlog = Backlog()
    waiting: dict[int, int] = {}
    flying: set[int] = set()
    for action, unit, number in steps:
        match action:
            case "add":
                backlog.add(unit, 1, number, 0.0)
                waiting[unit] = min(number, waiting.get(unit, 9))
            case "take":
                for taken in backlog.take(number):
                    assert waiting.pop(taken) <= min(waiting.values(), default=9)
                    flying.add(taken)
            case "finish":
                backlog.finish([unit])
                flying.discard(unit)
            case "back":
                if unit in flying:
                    flying.discard(unit)
                    waiting.setdefault(unit, 9)
                backlog.put_back([unit])
                waiting = {u: p if p < 9 else backlog._waiting[u].priority for u, p in waiting.items()}
            case "discard":
                backlog.discard(unit)
                waiting.pop(unit, None)
        assert backlog.pending(1) == len(waiting.keys() | flying) == len(backlog)
