"""Opening: formats, ids and clocks, permissions, figures."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from codegraphd.store import codec
from codegraphd.store.env import Store, move_aside
from codegraphd.store.errors import StoreDamaged, StoreError, StoreNewer


def set_format(bench: Any, value: bytes) -> None:
    bench.do(lambda txn: txn._put(txn._t.meta, b"format", value))


def test_what_was_committed_is_there_again(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "deep" / "db")
    with make.bench(path) as bench:
        ids = bench.add_file("a.py", ["f", "g"])
        store_id = bench.store.store_id
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(os.path.join(path, "data.mdb")).st_mode) == 0o600
    with make.bench(path) as bench:
        assert bench.store.store_id == store_id
        assert bench.store.notes == []
        assert bench.ask(lambda s: [u.id for u in s.units(1)]) == ids


def test_clocks_travel_as_text(bench: Any, tmp_path: Any) -> None:
    text = bench.store.clock_text(17)
    assert bench.store.parse_clock(text) == 17
    for foreign in (
        "",
        "17",
        ":17",
        f"{text}x",
        f"{text}:1",
        bench.store.store_id,
        f"{bench.store.store_id}:-1",
        "x:17",
    ):
        assert bench.store.parse_clock(foreign) is None
    other = Store.open(str(tmp_path / "other"))
    assert other.parse_clock(text) is None
    other.close()


def test_fault_25_a_newer_format_is_refused_and_left_alone(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    with make.bench(path) as bench:
        bench.add_file("a.py", ["f"])
        set_format(bench, b"%d" % (codec.FORMAT + 1))
    for read_only in (False, True):
        with pytest.raises(StoreNewer, match=r"db.*newer codegraphd"):
            Store.open(path, read_only=read_only)
    with pytest.raises(StoreNewer):
        Store.open(path)
    assert os.listdir(tmp_path) == ["db"]


def test_fault_25_an_older_format_is_moved_aside_and_begun_again(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    with make.bench(path) as bench:
        bench.add_file("a.py", ["f"])
        set_format(bench, b"0")
    with pytest.raises(StoreError, match="read-only"):
        Store.open(path, read_only=True)
    with make.bench(path) as bench:
        assert "older" in bench.store.notes[0]
        assert bench.ask(lambda s: (s.clock, list(s.files(1)))) == (0, [])
    assert sorted(os.listdir(tmp_path)) == ["db", "db.aside"]


@pytest.mark.parametrize("value", [b"", b"x", b"-1"])
def test_fault_25_no_format_is_never_guessed(tmp_path: Any, make: Any, value: bytes) -> None:
    path = str(tmp_path / "db")
    with make.bench(path) as bench:
        set_format(bench, value)
    with pytest.raises(StoreDamaged, match="format"):
        Store.open(path)


def test_moving_aside_keeps_one(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    for n in range(2):
        with make.bench(path) as bench:
            bench.add_file(f"{n}.py", ["f"])
        assert move_aside(path) == path + ".aside"
    with make.bench(path + ".aside") as bench:
        assert bench.ask(lambda s: [f.path for f in s.files(1)]) == ["1.py"]


def test_reading_only_writes_nothing(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    with pytest.raises(StoreError, match="db"):
        Store.open(path, read_only=True)
    with make.bench(path) as bench:
        (a,) = bench.add_file("a.py", ["f"])
    before = (tmp_path / "db" / "data.mdb").read_bytes()
    store = Store.open(path, read_only=True)
    with store.snapshot() as snapshot:
        assert snapshot.unit(a).unit.name == "f"
    assert store.tend() is None
    store.close()
    assert (tmp_path / "db" / "data.mdb").read_bytes() == before


def test_figures(bench: Any, make: Any) -> None:
    bench.add_file("a.py", ["f", "g"])
    bench.do(lambda txn: txn.put_vector(b"m" * 8, b"k" * 16, make.vectors(1)[0]))
    figures = bench.store.statistics()
    assert figures["map_bytes"] == 64 << 20
    assert 0 < figures["bytes"] < 2 << 20
    assert (figures["entries"]["units"], figures["entries"]["files"]) == (2, 1)
    assert (figures["cache_entries"], figures["cache_bytes"]) == (1, 24 + 4 + 2 * 64)


def test_a_directory_that_cannot_be_one(tmp_path: Any) -> None:
    (tmp_path / "db").write_text("a file")
    with pytest.raises(StoreError, match="db"):
        Store.open(str(tmp_path / "db"))


def test_compacting_gives_room_back(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    with make.bench(path) as bench:
        (a,) = bench.add_file("a.py", ["f"])
        bench.do(lambda txn: [txn.put_meta(str(n), bytes(50_000)) for n in range(100)])
        bench.do(lambda txn: [txn._delete(txn._t.meta, b"u:%d" % n) for n in range(100)])
        assert bench.store.compact() > 4 << 20
        assert bench.store.tend() is None
        assert bench.ask(lambda s: (s.unit(a).unit.name, s.check())) == ("f", [])
        (b,) = bench.add_file("b.py", ["g"])
        assert os.path.getsize(bench.store._path) < 1 << 20
    with make.bench(path) as bench:
        assert bench.store.notes == []
        assert bench.ask(lambda s: [u.id for u in s.units(1)]) == [a, b]
    assert sorted(os.listdir(path)) == ["data.mdb", "lock.mdb", "seal.json"]


def test_it_opens_again_in_place(bench: Any) -> None:
    bench.add_file("a.py", ["f"])
    bench.store.reopen()
    bench.add_file("b.py", ["f"])
    assert bench.ask(lambda s: (s.clock, s.check())) == (2, [])
    assert bench.store.tend() is None


def test_a_touched_file_is_examined_and_goes_on(bench: Any) -> None:
    bench.add_file("a.py", ["f"])
    os.utime(bench.store._path)
    assert bench.store.tend() is None
    bench.add_file("b.py", ["f"])
    assert bench.store.tend() is None
