"""What single calls of a transaction do: order, both sides of a relation, counters, deltas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from codegraphd.store.records import Edge, Recipe, RootRecord, UnitState, Words, digest
from codegraphd.store.transaction import Transaction

MODEL = b"model 01"


def test_new_ids_are_never_given_twice(bench: Any) -> None:
    first = bench.do(lambda txn: [txn.new_id() for _ in range(3)])
    with pytest.raises(ZeroDivisionError):
        bench.do(lambda txn: txn.new_id() / 0)
    assert [*first, *bench.do(lambda txn: [txn.new_id()])] == [1, 2, 3, 4]


def test_paths_swap(bench: Any, make: Any) -> None:
    def swap(txn: Transaction) -> None:
        txn.put_file(make.file(1, "b.py"))
        txn.put_file(make.file(2, "a.py"))

    bench.do(lambda txn: [txn.put_root(RootRecord(1, "/w")), txn.new_id(), txn.new_id()])
    bench.do(lambda txn: [txn.put_file(make.file(1, "a.py")), txn.put_file(make.file(2, "b.py"))])
    bench.do(swap)
    assert bench.ask(lambda s: (s.file(1, "a.py").id, s.file(1, "b.py").id, s.check())) == (2, 1, [])


def test_files_come_in_path_order_and_by_prefix(bench: Any, make: Any) -> None:
    long = "deep/" + "x" * 600
    paths = ["b.py", "a/b.py", "a.py", "a/\udcff.py", "ab/c.py", long + "1.py", long + "2.py", "ä.py"]
    bench.do(lambda txn: [txn.put_root(RootRecord(1, "/w"))])
    bench.do(lambda txn: [txn.put_file(make.file(txn.new_id(), path)) for path in paths])
    assert bench.ask(lambda s: [f.path for f in s.files(1)][:3]) == sorted(paths)[:3]
    assert bench.ask(lambda s: sorted(f.path for f in s.files(1))) == sorted(paths)
    for prefix in ("a", "a/", "deep/", long, long + "1", "none"):
        expected = sorted(path for path in paths if path.startswith(prefix))
        assert bench.ask(lambda s, p=prefix: sorted(f.path for f in s.files(1, p))) == expected
    assert bench.ask(lambda s: sorted(path for path, _, _ in s.stats(1))) == sorted(paths)
    assert all(bench.ask(lambda s, p=path: s.file(1, p).path == p) for path in paths)


def test_names_come_in_order_and_by_prefix(bench: Any) -> None:
    names = ["load", "loader", "x" * 700, "x" * 700 + "y", "Über", "load"]
    ids = bench.add_file("a.py", names)
    pairs = list(zip(names, ids, strict=True))
    for prefix in ("", "load", "loader", "x", "x" * 650, "x" * 700 + "y", "q"):
        expected = sorted(pair for pair in pairs if pair[0].startswith(prefix))
        assert bench.ask(lambda s, p=prefix: sorted(s.names(1, p))) == expected
    assert bench.ask(lambda s: s.named(1, "load")) == (ids[0], ids[5])
    assert bench.ask(lambda s: s.named(1, "x" * 700)) == (ids[2],)
    assert bench.ask(lambda s: s.check()) == []


def test_definitions_that_change_are_told(bench: Any) -> None:
    a, b, c = (digest(x) for x in "abc")
    assert bench.do(lambda txn: txn.set_defines(1, 5, [(a, 5), (b, 6)])) == {(a, 5), (b, 6)}
    assert bench.do(lambda txn: txn.set_defines(1, 5, [(b, 6), (a, 5)])) == set()
    assert bench.do(lambda txn: txn.set_defines(1, 5, [(b, 7), (c, 5)])) == {(a, 5), (b, 6), (b, 7), (c, 5)}
    assert bench.ask(lambda s: [s.lookup(1, key) for key in (a, b, c)]) == [(), (7,), (5,)]


def test_two_files_may_define_the_same(bench: Any) -> None:
    key = digest("k")
    bench.do(lambda txn: [txn.set_defines(1, 5, [(key, 9)]), txn.set_defines(1, 6, [(key, 9)])])
    bench.do(lambda txn: txn.set_defines(1, 5, []))
    assert bench.ask(lambda s: (s.lookup(1, key), s.lookup(2, key))) == ((9,), ())


def test_waiting_is_by_root(bench: Any) -> None:
    key = digest("k")
    bench.do(lambda txn: [txn.set_waits(1, 5, [key]), txn.set_waits(2, 6, [key]), txn.set_waits(1, 4, [key])])
    assert bench.ask(lambda s: (s.waiting(1, key), s.waiting(2, key), s.waiting(3, key))) == ((4, 5), (6,), ())
    assert bench.ask(lambda s: s.keys_of(5)) == {key}


def test_edges_tell_whether_they_differ(bench: Any) -> None:
    a, b = bench.add_file("a.py", ["f", "g"])
    edges = [Edge(b, "call", 3, 1), Edge(b, "call", 3, 0), Edge(b, "type", 3, 2)]
    assert bench.do(lambda txn: txn.set_edges(a, edges)) is True
    assert bench.do(lambda txn: txn.set_edges(a, list(reversed(edges)))) is False
    assert bench.ask(lambda s: s.edges_out(a)) == tuple(sorted(edges))
    assert bench.ask(lambda s: s.edges_in(b)) == ((a, "call", 3), (a, "type", 3))
    assert bench.ask(lambda s: s.counts(1)) == (1, 2, 3, 0)


def test_deleting_a_unit_takes_all_that_points_to_it(bench: Any, make: Any) -> None:
    a, b, c = bench.add_file("a.py", ["f", "g", "h"])
    vector = make.vectors(1)[0]

    def fill(txn: Transaction) -> None:
        txn.set_edges(a, [Edge(b, "call", 3), Edge(c, "call", 3)])
        txn.set_edges(b, [Edge(b, "call", 3), Edge(c, "type", 4)])
        txn.set_mentions(1, b, [("python", "go", "call")])
        txn.put_state(b, UnitState(Recipe(b"o" * 16, b""), None, None))
        txn.attach(b, vector)
        txn.enqueue(3, b)
        txn.enqueue(4, b)

    bench.do(fill)
    assert bench.ask(lambda s: s.counts(1)) == (1, 3, 4, 1)
    bench.do(lambda txn: txn.delete_unit(b))
    with bench.store.snapshot() as s:
        assert s.edges_out(a) == (Edge(c, "call", 3),)
        assert (s.unit(b), s.words(b), s.state(b), s.attached(b), s.mentions(1, "python", "go")) == (None,) * 4 + ((),)
        assert (s.edges_in(b), s.edges_in(c), s.n_queued(3), s.n_queued(4)) == ((), ((a, "call", 3),), 0, 0)
        assert s.counts(1) == (1, 2, 1, 0)


def test_a_unit_must_be_there_for_what_hangs_on_it(bench: Any, make: Any) -> None:
    for job in (
        lambda txn: txn.set_edges(9, [Edge(1, "call", 3)]),
        lambda txn: txn.put_words(9, Words("a", "", "")),
        lambda txn: txn.attach(9, make.vectors(1)[0]),
    ):
        with pytest.raises(KeyError, match="9"):
            bench.do(job)
    assert bench.ask(lambda s: (s.clock, s.check())) == (0, [])


def test_the_delta_says_what_the_indexes_must_do(bench: Any, make: Any) -> None:
    a, b, c = bench.add_file("a.py", ["f", "g", "h"])
    deltas: list[Any] = []
    bench.writer.add_listener(lambda clock, delta: deltas.append(delta))
    vector = make.vectors(1)[0]

    def check(job: Any, words: set[int], deleted: set[int], vectors: set[int]) -> Any:
        deltas.clear()
        bench.do(job)
        (delta,) = deltas
        assert (set(delta.words), delta.deleted, set(delta.vectors)) == (words, deleted, vectors)
        return delta

    record = bench.ask(lambda s: s.unit(a))
    shifted = replace(record, unit=replace(record.unit, start_line=9))
    check(lambda txn: txn.put_unit(shifted), set(), set(), set())  # a shift is nothing to an index
    delta = check(lambda txn: txn.put_words(a, Words("f", "new", "")), {a}, set(), set())
    assert delta.words[a] == (shifted, Words("f", "new", ""))
    check(lambda txn: txn.attach(a, vector), set(), set(), {a})
    moved = replace(shifted, path="b.py")
    delta = check(lambda txn: txn.put_unit(moved), {a}, set(), set())  # words again: the path has words, too
    assert delta.words[a] == (moved, Words("f", "new", ""))
    other = replace(moved, unit=replace(moved.unit, kind="class"))
    check(lambda txn: txn.put_unit(other), {a}, set(), {a})  # both indexes filter by kind
    check(lambda txn: txn.attach(a, None), set(), set(), {a})
    check(
        lambda txn: (txn.attach(b, vector), txn.put_words(b, Words("g", "n", "")), txn.delete_unit(b)),
        set(),
        {b},
        set(),
    )
    record = bench.ask(lambda s: s.unit(c))
    check(
        lambda txn: (txn.delete_unit(c), txn.put_unit(record), txn.put_words(c, Words("h", "", ""))), {c}, set(), set()
    )


def test_a_job_that_changes_nothing_leaves_the_clock(bench: Any, make: Any) -> None:
    (a,) = bench.add_file("a.py", ["f"])
    vector = make.vectors(1)[0]
    bench.do(lambda txn: (txn.put_vector(MODEL, b"k" * 16, vector), txn.attach(a, vector)))
    record, file, words, clock = bench.ask(lambda s: (s.unit(a), s.file(1, "a.py"), s.words(a), s.clock))

    def same(txn: Transaction) -> None:
        txn.put_unit(record)
        txn.put_file(file)
        txn.put_words(a, words)
        txn.set_edges(a, [])
        txn.attach(a, vector)
        assert txn.vector(MODEL, b"k" * 16) is not None
        txn.journal([])

    bench.do(same)
    assert bench.ask(lambda s: s.clock) == clock


def test_a_root_goes_in_slices_and_over_a_restart(tmp_path: Any, make: Any) -> None:
    with make.bench(str(tmp_path / "db")) as bench:
        for n in range(6):
            bench.add_file(f"{n}.py", [f"f{i}" for i in range(7)])
        bench.do(lambda txn: txn.put_root(RootRecord(2, "/other")))
        bench.do(lambda txn: txn.put_file(make.file(txn.new_id(), "kept.py", root=2)))
        assert bench.do(lambda txn: txn.delete_root(1, limit=10)) is False
        assert bench.ask(lambda s: ([r.id for r in s.roots()], s.dropping(), s.check())) == ([2], {1}, [])
        assert bench.ask(lambda s: s.counts(1)) == (5, 32, 0, 0)
    with make.bench(str(tmp_path / "db")) as bench:
        assert bench.ask(lambda s: s.dropping()) == {1}
        n_calls = 1
        while not bench.do(lambda txn: txn.delete_root(1, limit=10)):
            n_calls += 1
        assert n_calls == 4
        with bench.store.snapshot() as s:
            assert (s.dropping(), s.root(1), s.counts(1), list(s.units(1))) == (frozenset(), None, (0, 0, 0, 0), [])
            assert [f.path for f in s.files(2)] == ["kept.py"]
            assert s.check() == []


def test_work_lists_are_in_order_and_counted(bench: Any) -> None:
    bench.do(lambda txn: [txn.enqueue(2, id_, b"%d" % id_) for id_ in (300, 5, 70_000, 5)])
    bench.do(lambda txn: (txn.enqueue(3, 1), txn.dequeue(2, 300), txn.dequeue(2, 301)))
    with bench.store.snapshot() as s:
        assert s.queued(2) == [(5, b"5"), (70_000, b"70000")]
        assert s.queued(2, 1) == [(5, b"5")]
        assert (s.queued(1), s.n_queued(1), s.n_queued(2), s.n_queued(3)) == ([], 0, 2, 1)


def test_meta_is_the_callers_own(bench: Any) -> None:
    bench.do(lambda txn: txn.put_meta("clock", b"mine"))
    assert bench.ask(lambda s: (s.meta("clock"), s.meta("other"), s.clock)) == (b"mine", None, 1)
