"""The writer: order of jobs, failures, growth of the map, who is told and when."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from codegraphd.store.env import Store
from codegraphd.store.records import UnitChange, Words
from codegraphd.store.writer import Writer


def test_interactive_jobs_overtake_bulk_ones(bench: Any) -> None:
    order: list[str] = []
    gate, started = threading.Event(), threading.Event()

    def first(txn: Any) -> None:
        started.set()
        gate.wait(30)

    submit = bench.writer.submit
    futures = [submit(first)]
    started.wait(30)
    for name, interactive in (("bulk 1", False), ("now 1", True), ("bulk 2", False), ("now 2", True)):
        futures.append(submit(lambda txn, name=name: order.append(name), interactive=interactive))
    assert bench.writer.n_waiting() == 4
    gate.set()
    for future in futures:
        future.result(30)
    assert order == ["now 1", "now 2", "bulk 1", "bulk 2"]


def test_a_job_that_raises_leaves_nothing(bench: Any) -> None:
    (a,) = bench.add_file("a.py", ["f"])
    clock = bench.ask(lambda s: s.clock)

    def job(txn: Any) -> None:
        txn.put_words(a, Words("gone", "", ""))
        txn.delete_unit(a)
        raise LookupError("no")

    with pytest.raises(LookupError):
        bench.do(job)
    assert bench.ask(lambda s: (s.clock, s.words(a).name, s.check())) == (clock, "f", [])


def test_listeners_hear_before_the_future_resolves(bench: Any) -> None:
    heard: list[tuple[int, int]] = []

    def broken(clock: int, delta: Any) -> None:
        raise RuntimeError("an index has its own trouble")

    def listen(clock: int, delta: Any) -> None:
        with bench.store.snapshot() as snapshot:  # and after the commit
            heard.append((clock, snapshot.clock))

    bench.writer.add_listener(broken)
    bench.writer.add_listener(listen)
    bench.add_file("a.py", ["f"])
    assert heard == [(1, 1)]
    bench.do(lambda txn: None)
    bench.do(lambda txn: txn.put_meta("a", b""))
    assert heard == [(1, 1), (2, 2)]


def test_the_clock_is_known_inside_the_job(bench: Any) -> None:
    def job(txn: Any) -> int:
        txn.put_meta("a", b"%d" % txn.clock)
        return txn.clock

    assert [bench.do(job), bench.do(job)] == [1, 2]
    assert bench.ask(lambda s: s.clock) == 2


def test_close_does_what_is_queued(tmp_path: Any) -> None:
    store = Store.open(str(tmp_path / "db"))
    writer = Writer(store)
    futures = [writer.submit(lambda txn: txn.new_id(), interactive=False) for _ in range(20)]
    writer.close()
    assert [future.result(0) for future in futures] == list(range(1, 21))
    with pytest.raises(RuntimeError):
        writer.submit(lambda txn: None)
    store.close()


def test_cancelled_jobs_do_not_run(bench: Any) -> None:
    gate, started = threading.Event(), threading.Event()
    busy = bench.writer.submit(lambda txn: (started.set(), gate.wait(30)))
    started.wait(30)
    future = bench.writer.submit(lambda txn: txn.put_meta("ran", b""))
    assert future.cancel()
    gate.set()
    busy.result(30)
    assert bench.ask(lambda s: s.meta("ran")) is None


def test_many_threads_submit_and_read(bench: Any) -> None:
    """Every reader sees whole commits: two rows that each commit writes alike."""
    torn: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with bench.store.snapshot() as s:
                if s.meta("a") != s.meta("b"):
                    torn.append((s.meta("a"), s.meta("b")))
            time.sleep(0.001)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()

    def write(n: int) -> None:
        for i in range(40):
            value = b"%d %d" % (n, i)
            bench.do(lambda txn, value=value: (txn.put_meta("a", value), txn.put_meta("b", value)))

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert bench.ask(lambda s: s.clock) == 120


def test_fault_52_the_journal_is_bounded_and_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegraphd.store import journal

    monkeypatch.setattr(journal, "MAX_LINES", 10)

    def change(n: int, root: int = 1) -> UnitChange:
        return UnitChange("modified", root, n, "a.py", "function", "f", 0, False)

    for n in range(4):
        bench.do(lambda txn, n=n: txn.journal([change(n), change(n, root=2)]))
    assert bench.ask(lambda s: s.changes(1, 1)) == [(2, change(1)), (3, change(2)), (4, change(3))]
    assert bench.ask(lambda s: len(s.changes(None, 0))) == 8
    assert bench.ask(lambda s: s.changes(1, 4)) == []
    assert bench.ask(lambda s: s.changes(1, 5)) is None  # a clock that this store has not reached
    for n in range(4, 6):
        bench.do(lambda txn, n=n: txn.journal([change(n), change(n, root=2)]))
    assert bench.ask(lambda s: s.changes(1, 0)) is None
    assert bench.ask(lambda s: [clock for clock, _ in s.changes(1, 1)]) == [2, 3, 4, 5, 6]
    bench.do(lambda txn: txn.journal([change(n) for n in range(30)]))  # one commit over the bound
    assert bench.ask(lambda s: (s.changes(1, 6), s.changes(1, 7))) == (None, [])


def test_touched_is_what_an_index_missed(bench: Any, make: Any) -> None:
    a, b = bench.add_file("a.py", ["f", "g"])
    bench.do(lambda txn: txn.attach(a, make.vectors(1)[0]))
    bench.do(lambda txn: txn.delete_unit(b))
    touched = bench.ask(lambda s: s.touched(1))
    assert (touched.words, touched.deleted, touched.vectors) == (set(), {b}, {a})
    assert bench.ask(lambda s: s.touched(0)).words == {a, b}
    assert bench.ask(lambda s: s.touched(9)) is None
