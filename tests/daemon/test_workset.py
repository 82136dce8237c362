"""Which paths are in work: the newest state counts, edits go first, nothing is told as applied too early."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from codegraphd.daemon.engine import ParsedFile
from codegraphd.daemon.workset import GONE_S, STEP_UNITS, RootWork, skipped_module
from codegraphd.store.records import FileChange, Stat

STAT = Stat(1, 1, 1, 1)


def there(path: str) -> FileChange:
    return FileChange(path, STAT)


def gone(path: str) -> FileChange:
    return FileChange(path, None)


def parsed(path: str) -> ParsedFile:
    return ParsedFile(path, STAT, skipped_module(STAT, ""))


def work(*changes: FileChange, urgent: bool = False) -> RootWork:
    root = RootWork(1, "/r")
    for n, change in enumerate(changes, 1):
        root.changed(change, n, b"digest", 0.0, urgent=urgent)
    return root


def answer(root: RootWork, path: str, sequence: int) -> None:
    change = root.sent(path) if path in root.waiting else root.in_flight[path]
    if root.answered(change, sequence):
        root.ready[path] = parsed(path)


def test_urgent_paths_go_first_and_all_at_once() -> None:
    root = work(*(there(f"bulk{n}") for n in range(5)))
    root.changed(there("edit"), 6, b"", 0.0, urgent=True)
    assert root.to_parse(2) == ["edit", "bulk0", "bulk1"]
    answer(root, "bulk0", 6)
    answer(root, "edit", 6)
    collected = root.collect(0.0, urgent=True)
    assert collected is not None
    assert [item.path for item in collected[0].parsed] == ["edit"]


def test_a_path_that_changes_in_flight_is_parsed_again() -> None:
    root = work(there("a"))
    change = root.sent("a")
    root.changed(there("a"), 2, b"", 0.0, urgent=False)
    assert root.to_parse(9) == []
    assert root.answered(change, 1)
    root.ready["a"] = parsed("a")
    collected = root.collect(0.0, urgent=False)
    assert collected is not None
    root.committed("a", collected[1][1, "a"])
    assert root.unapplied == {"a": 2}
    assert root.to_parse(9) == ["a"]


def test_a_newer_answer_takes_the_place_of_one_that_no_step_has_taken() -> None:
    """Edited and changed back: the edit was parsed, and the newest look finds the bytes that are indexed."""
    root = work(there("a"))
    answer(root, "a", 1)
    root.changed(there("a"), 2, b"", 0.0, urgent=False)
    first = root.sent("a")
    root.ready["a"] = parsed("a")  # what was in flight when it changed again
    assert root.answered(first, 2)
    root.touched["a"] = (STAT, b"digest")
    collected = root.collect(0.1, urgent=False)
    assert collected is not None
    assert (list(collected[0].parsed), list(collected[0].touched)) == ([], [("a", STAT, b"digest")])


def test_what_went_away_waits_for_what_may_be_its_new_place() -> None:
    root = work(gone("old"), there("new"))
    assert root.collect(0.1, urgent=False) is None
    answer(root, "new", 2)
    collected = root.collect(0.2, urgent=False)
    assert collected is not None
    done, sequences = collected
    assert (list(done.gone), dict(done.leaving)) == (["old"], {b"digest": ["old"]})
    assert sequences == {(1, "new"): 2, (1, "old"): 1}


@pytest.mark.parametrize("urgent", [True, False])
def test_what_may_be_a_moved_file_waits_for_the_step_in_which_its_old_place_is_let_go(urgent: bool) -> None:
    root = work(gone("old/a"), gone("old/b"), there("new/a"), there("new/b"), there("c"), urgent=urgent)
    answer(root, "new/a", 5)
    assert root.collect(0.1, urgent=urgent) is None
    answer(root, "c", 5)
    collected = root.collect(0.1, urgent=urgent)
    assert collected is not None
    assert [item.path for item in collected[0].parsed] == ["c"]
    answer(root, "new/b", 5)
    collected = root.collect(0.1, urgent=urgent)
    assert collected is not None
    assert {item.path for item in collected[0].parsed} == {"new/a", "new/b"}
    assert set(collected[0].gone) == {"old/a", "old/b"}


def test_what_may_be_a_moved_file_does_not_wait_for_ever() -> None:
    root = work(gone("old/a"), there("new/a"), there("c"))
    answer(root, "new/a", 3)
    assert root.collect(GONE_S, urgent=False) is None
    collected = root.collect(GONE_S + 0.1, urgent=False)
    assert collected is not None
    assert ([item.path for item in collected[0].parsed], list(collected[0].gone)) == (["new/a"], ["old/a"])


def test_but_not_for_ever() -> None:
    root = work(gone("old"), there("new"))
    collected = root.collect(GONE_S + 0.1, urgent=False)
    assert collected is not None
    assert list(collected[0].gone) == ["old"]


def test_a_file_that_comes_back_is_not_gone() -> None:
    root = work(gone("a"), there("a"))
    assert not root.gone
    assert root.to_parse(9) == ["a"]


def test_an_answer_for_a_file_that_went_meanwhile_is_dropped() -> None:
    root = work(there("a"))
    change = root.sent("a")
    root.changed(gone("a"), 2, b"", 0.0, urgent=False)
    assert not root.answered(change, 2)
    assert not root.ready
    assert list(root.gone) == ["a"]


def test_a_step_that_failed_comes_again_unless_something_newer_is_on_its_way() -> None:
    root = work(there("a"), there("b"), gone("c"))
    answer(root, "a", 3)
    answer(root, "b", 3)
    collected = root.collect(0.0, urgent=False)
    assert collected is not None
    root.changed(there("b"), 4, b"", 0.0, urgent=False)
    root.take_back(*collected)
    assert (set(root.ready), set(root.gone), set(root.waiting)) == ({"a"}, {"c"}, {"b"})
    assert root.unapplied.keys() == {"a", "b", "c"}


def test_bulk_steps_are_bounded() -> None:
    root = work(*(there(f"f{n}") for n in range(3)))
    for n in range(3):
        root.sent(f"f{n}")
        module = skipped_module(STAT, "")
        object.__setattr__(module, "units", (None,) * (STEP_UNITS // 2 + 1))
        root.in_flight.pop(f"f{n}")
        root.ready[f"f{n}"] = ParsedFile(f"f{n}", STAT, module)
    collected = root.collect(0.0, urgent=False)
    assert collected is not None
    assert len(collected[0].parsed) == 1


paths = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("there"), paths),
        st.tuples(st.just("gone"), paths),
        st.tuples(st.just("send"), st.integers(0, 2)),
        st.tuples(st.just("answer"), paths),
        st.tuples(st.sampled_from(["commit", "fail"]), st.booleans()),
    ),
    max_size=50,
)


@settings(max_examples=300)
@given(steps)
def test_nothing_is_applied_before_its_newest_state_is_committed(steps: list[tuple[str, object]]) -> None:
    root = RootWork(1, "/r")
    sequence = 0
    newest: dict[str, int] = {}
    read_at: dict[str, int] = {}  # what the ready or in-flight content of a path reflects
    applied: dict[str, int] = {}
    for action, value in steps:
        match action:
            case "there" | "gone":
                sequence += 1
                path = str(value)
                newest[path] = sequence
                root.changed(
                    there(path) if action == "there" else gone(path), sequence, b"", 0.0, urgent=sequence % 2 == 0
                )
                if action == "gone":
                    read_at[path] = sequence
            case "send":
                for path in root.to_parse(int(str(value))):
                    root.sent(path)
                    read_at[path] = sequence
            case "answer":
                path = str(value)
                if path in root.in_flight and root.answered(root.in_flight[path], read_at[path]):
                    root.ready[path] = parsed(path)
            case _:
                collected = root.collect(sequence * 1.0, urgent=bool(value))
                if collected is not None and action == "fail":
                    root.take_back(*collected)
                elif collected is not None:
                    for (_, path), covered in collected[1].items():
                        applied[path] = max(applied.get(path, 0), covered)
                        root.committed(path, covered)
        for path, number in newest.items():
            if applied.get(path, 0) < number:
                assert root.unapplied[path] <= number, path  # a `sync` asked after that change still waits
            else:
                assert path not in root.unapplied or root.unapplied[path] > number
        in_work = set().union(root.waiting, root.in_flight, root.ready, root.touched, root.gone)
        assert root.unapplied.keys() == in_work
