"""The store under kill -9, full disks, full maps, dead readers, long readers and damage (FAULTS rows 26 to 31, 53)."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest

from codegraphd.store import trust
from codegraphd.store.env import Store, move_aside
from codegraphd.store.errors import SnapshotExpired, StoreDamaged, StoreError, StoreFull


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


COMMITS = """
    import sys
    from codegraphd.store.env import Store
    from codegraphd.store.records import RootRecord, Words, Edge, FileRecord, Stat, Unit, UnitRecord, digest
    from codegraphd.store.writer import Writer

    store = Store.open(sys.argv[1])
    writer = Writer(store)

    def commit(txn):
        '''One more file of five units, each bound to the ones before; n in the meta row.'''
        n = int(txn.meta("n") or b"0") + 1
        if n == 1:
            txn.put_root(RootRecord(1, "/w"))
        file_id, ids = txn.new_id(), [txn.new_id() for _ in range(5)]
        for i, id_ in enumerate(ids):
            d = digest(str(id_))
            u = Unit("function", f"f{i}", f"f{i}", 0, -1, 0, 9, 1, 2, "def f()", (), (), "doc " * 50, 0, d, d, d, d)
            txn.put_unit(UnitRecord(id_, 1, file_id, f"{n}.py", "python", 0, u))
            txn.put_words(id_, Words("f", "doc", "body " * 100 + str(n)))
            txn.set_edges(id_, [Edge(other, "call", 3) for other in ids[:i]])
        txn.put_file(FileRecord(file_id, 1, f"{n}.py", "python", Stat(1, 2, 3, 4), b"", 1, "", 0, tuple(ids)))
        txn.set_defines(1, file_id, [(digest("d", str(i)), i) for i in ids])
        txn.set_waits(1, file_id, [digest("w", str(i)) for i in ids])
        if n > 3:
            old = txn.file(1, f"{n - 3}.py")
            for id_ in old.units:
                txn.delete_unit(id_)
            txn.delete_file(old)
        txn.put_meta("n", str(n).encode())
        return n

    while True:
        print(writer.submit(commit).result(), flush=True)
"""


def test_fault_26_killed_at_any_point_of_a_commit(tmp_path: Any) -> None:
    path = str(tmp_path / "db")
    total = 0
    for round_ in range(6):
        told = 0
        with start(COMMITS, path) as child:
            assert child.stdout is not None
            for line in child.stdout:
                told = int(line)
                if told >= total + 3 + 3 * round_:  # killed while it goes on committing
                    break
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                told = int(line)
        store = Store.open(path)
        with store.snapshot() as snapshot:
            total = int(snapshot.meta("n") or b"0")
            assert total in (told, told + 1)  # the last one may be done and not told
            assert snapshot.clock == total
            assert [file.path for file in snapshot.files(1)] == sorted(f"{n}.py" for n in range(total - 2, total + 1))
            assert snapshot.check() == []
        store.close()


FILL = """
    import os, resource, sys
    from codegraphd.store.env import Store
    from codegraphd.store.errors import StoreFull
    from codegraphd.store.writer import Writer

    path, how = sys.argv[1:]
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    else:
        ballast = path + ".ballast"
        with open(ballast, "wb") as file:
            file.write(bytes(1 << 20))
    store = Store.open(path)
    writer = Writer(store)

    def put(n):
        writer.submit(lambda txn: txn.put_meta(str(n), bytes([n % 251]) * 40_000)).result()

    n = 0
    try:
        while n < 500:
            put(n)
            n += 1
    except StoreFull as error:
        assert path in str(error), error
    assert 0 < n < 500, n
    assert writer.problem and "room" in writer.problem
    for again in range(3):  # and does not get worse
        try:
            put(n)
        except StoreFull:
            pass
        else:
            raise AssertionError("there was room after all")
    with store.snapshot() as snapshot:  # queries go on, nothing half-written
        assert snapshot.clock == n
        assert all(snapshot.meta(str(i)) == bytes([i % 251]) * 40_000 for i in range(n))
        assert snapshot.meta(str(n)) is None
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        os.remove(ballast)
    for _ in range(5):
        put(n)
        n += 1
    assert writer.problem is None
    writer.close()
    assert store.tend() is None
    store.close()
    store = Store.open(path)
    with store.snapshot() as snapshot:
        assert all(snapshot.meta(str(i)) == bytes([i % 251]) * 40_000 for i in range(n))
        assert snapshot.check() == []
    print("resumed after", n)
"""


def test_fault_28_a_file_that_may_not_grow(tmp_path: Any) -> None:
    child = start(FILL, str(tmp_path / "db"), "limit")
    out, err = child.communicate(timeout=100)
    assert (child.returncode, err) == (0, "")
    assert out.startswith("resumed")


def test_fault_28_disk_full(tmp_path: Any) -> None:
    mount = f"mount -t tmpfs -o size=3m none {tmp_path}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here; the limit on file size stands in for it")
    script = tmp_path.parent / f"{tmp_path.name}.py"
    script.write_text(textwrap.dedent(FILL))
    command = f"{mount} && exec {sys.executable} {script} {tmp_path}/db disk"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("resumed")


def test_fault_29_a_full_map_grows_between_transactions(tmp_path: Any, make: Any) -> None:
    with make.bench(str(tmp_path / "db"), map_mb=1) as bench:
        bench.add_file("a.py", ["f"])
        runs: list[int] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with bench.store.snapshot() as snapshot:
                    assert snapshot.file(1, "a.py") is not None
                time.sleep(0.001)  # threads that do nothing but begin and end starve any other of the interpreter

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()

        def job(txn: Any) -> None:
            runs.append(1)
            for n in range(100):
                txn.put_meta(str(n), bytes(50_000))

        bench.do(job)
        done.set()
        for reader in readers:
            reader.join()
        assert len(runs) == 4  # at 1, 2, 4 and 8 MiB
        assert bench.store.statistics()["map_bytes"] == 8 << 20
        assert bench.ask(lambda s: (s.clock, s.meta("99"), s.check())) == (2, bytes(50_000), [])


def test_fault_29_a_reader_that_stays_stops_the_growth_only(
    tmp_path: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegraphd.store import env

    monkeypatch.setattr(env, "_GATE_TIMEOUT_S", 0.1)
    with make.bench(str(tmp_path / "db"), map_mb=1) as bench:
        bench.add_file("a.py", ["f"])
        with bench.store.snapshot() as snapshot:
            with pytest.raises(StoreFull, match="reader"):
                bench.do(lambda txn: txn.put_meta("big", bytes(3 << 20)))
            assert snapshot.clock == 1
        assert "reader" in bench.writer.problem
        bench.do(lambda txn: txn.put_meta("big", bytes(3 << 20)))
        assert bench.writer.problem is None


READ_AND_DIE = """
    import lmdb, os, signal, sys
    env = lmdb.open(sys.argv[1], max_dbs=40, max_readers=512, map_size=1 << 26)
    txns = [env.begin() for _ in range(5)]
    print("reading", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_fault_30_readers_of_dead_processes_are_cleared(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")

    def die() -> None:
        child = start(READ_AND_DIE, path)
        out, err = child.communicate(timeout=60)
        assert (out, err, child.returncode) == ("reading\n", "", -signal.SIGKILL)

    with make.bench(path, map_mb=64) as bench:
        bench.add_file("a.py", ["f"])
        die()
        n_dead = bench.store._env.readers().count("\n")
        assert bench.store.tend() is None
        assert bench.store._env.readers().count("\n") < n_dead
    # With nobody else there, LMDB itself forgets a dead one: keep the lock file's readers by holding it open.
    with make.bench(path, map_mb=64) as bench:
        bench.add_file("b.py", ["f"])
        assert bench.store._env.reader_check() == 0


def test_fault_30_a_long_read_is_ended_and_the_file_stops_growing(tmp_path: Any, make: Any) -> None:
    with make.bench(str(tmp_path / "db"), map_mb=64) as bench:
        for n in range(20):
            bench.add_file(f"{n}.py", ["f"])

        def churn() -> int:
            for n in range(60):
                bench.do(lambda txn, n=n: txn.put_meta("row", bytes([n]) * 200_000))
            return bench.store.statistics()["bytes"]

        base = churn()
        with bench.store.snapshot(max_s=0.0) as snapshot:
            files = snapshot.files(1)
            next(files)
            held = churn()
            assert held > base + (4 << 20)  # what a reader costs
            bench.store.tend()
            with pytest.raises(SnapshotExpired):
                snapshot.file(1, "1.py")
            with pytest.raises(SnapshotExpired):
                list(files)
            bench.store.tend()  # the second step: now its pages are free again
            assert churn() <= held + (1 << 20)
            assert churn() <= held + (1 << 20)
        with bench.store.snapshot() as snapshot:
            bench.store.tend()
            assert snapshot.file(1, "1.py") is not None


def closed_store(path: str, make: Any) -> str:
    with make.bench(path) as bench:
        for n in range(50):
            bench.add_file(f"{n}.py", [f"f{i}" for i in range(5)])
    return os.path.join(path, "data.mdb")


def flip(file: str, at: int, raw: bytes) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        opened.write(raw)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: os.truncate(file, os.path.getsize(file) // 2),
        lambda file: os.truncate(file, os.path.getsize(file) - 1),
        lambda file: flip(file, 0, bytes(8192)),
        lambda file: flip(file, 5 * 4096, os.urandom(4096)),
        lambda file: flip(file, os.path.getsize(file) // 2 + 100, b"\x01"),
        lambda file: flip(file, 0, b"no database" * 1000),
    ],
    ids=["half", "a byte short", "no meta pages", "a random page", "one byte", "another format"],
)
def test_fault_31_damage_is_noticed_at_the_start(tmp_path: Any, make: Any, spoil: Any) -> None:
    path = str(tmp_path / "db")
    spoil(closed_store(path, make))
    for read_only in (True, False):
        with pytest.raises(StoreDamaged, match=r"data\.mdb"):
            Store.open(path, read_only=read_only)
    move_aside(path)
    with make.bench(path) as bench:
        bench.add_file("a.py", ["f"])
        assert bench.ask(lambda s: s.check()) == []


@pytest.mark.parametrize("page", [11, 18, 30])  # none that is free at present
def test_fault_31_after_a_kill_the_pages_are_examined(tmp_path: Any, make: Any, page: int) -> None:
    path = str(tmp_path / "db")
    file = closed_store(path, make)
    os.remove(os.path.join(path, "seal.json"))  # as a kill leaves it: nothing says that the file is ours
    store = Store.open(path)
    assert "sound" in store.notes[0]
    store.close()
    os.remove(os.path.join(path, "seal.json"))
    flip(file, page * 4096, os.urandom(4096))
    with pytest.raises(StoreDamaged):
        Store.open(path)


def test_a_kill_in_a_quiet_moment_needs_no_examination(bench: Any) -> None:
    bench.add_file("a.py", ["f"])
    assert "sound" in (trust.examine(bench.store._path) or "")  # killed now, the pages would be walked
    bench.store.tend()
    bench.store.tend()
    assert trust.examine(bench.store._path) is None
    bench.add_file("b.py", ["f"])
    assert "sound" in (trust.examine(bench.store._path) or "")


def test_fault_31_a_copied_home_is_trusted(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    closed_store(path, make)
    shutil.copytree(path, tmp_path / "copy")
    with make.bench(str(tmp_path / "copy")) as bench:
        assert bench.store.notes == []
        assert bench.ask(lambda s: len(list(s.files(1)))) == 50


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (os.remove, "No such file"),
        (lambda file: os.replace(shutil.copy(file, file + ".copy"), file), "replaced"),
        (lambda file: flip(file, 8192, os.urandom(os.path.getsize(file) - 8192)), "another program"),
        (lambda file: os.truncate(file, os.path.getsize(file) - 4096), "cut short"),
    ],
    ids=["deleted", "replaced", "written", "cut"],
)
def test_fault_31_damage_under_the_daemon_is_noticed(tmp_path: Any, make: Any, spoil: Any, told: str) -> None:
    with make.bench(str(tmp_path / "db")) as bench:
        for n in range(5):
            bench.add_file(f"{n}.py", ["f"])
            assert bench.store.tend() is None
        spoil(bench.store._path)
        assert told in bench.store.tend()


def test_fault_53_a_directory_that_cannot_be_written(tmp_path: Any, make: Any) -> None:
    """On a read-only mount: opening says so in a line, reading goes on."""
    path = str(tmp_path / "db")
    closed_store(path, make)
    code = """
    import sys
    from codegraphd.store.env import Store
    from codegraphd.store.errors import StoreError
    try:
        Store.open(sys.argv[1])
    except StoreError as error:
        print(error)
    store = Store.open(sys.argv[1], read_only=True)
    with store.snapshot() as snapshot:
        print(len(list(snapshot.files(1))), store.tend())
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    mount = f"mount --bind {path} {path} && mount -o remount,ro,bind {path}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("a read-only mount cannot be made here")
    command = f"{mount} && exec {sys.executable} {script} {path}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert "data.mdb" in first
    assert "ead-only" in first
    assert second == "50 None"


def test_a_seal_that_cannot_be_read_is_no_seal(tmp_path: Any, make: Any) -> None:
    path = str(tmp_path / "db")
    closed_store(path, make)
    with open(os.path.join(path, "seal.json"), "w") as file:
        file.write("[")
    assert "sound" in (trust.examine(os.path.join(path, "data.mdb")) or "")
    with contextlib.closing(Store.open(path)) as store:
        assert len(store.notes) == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert issubclass(StoreDamaged, StoreError)
