"""Records and stores for the tests of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from codegraphd.store.env import Store
from codegraphd.store.records import FileRecord, RootRecord, Stat, Unit, UnitRecord, Words, digest
from codegraphd.store.transaction import Transaction
from codegraphd.store.writer import Writer


def make_unit(name: str = "load", **changes: Any) -> Unit:
    fields: dict[str, Any] = {
        "kind": "function", "name": name, "qualname": name, "ordinal": 0, "parent": -1,
        "start_byte": 0, "end_byte": 10, "start_line": 1, "end_line": 2,
        "signature": f"def {name}()", "decorators": (), "bases": (), "doc": "", "flags": 0,
        "face": digest("face", name), "body": digest("body", name),
        "own": digest("own", name), "shape": digest("shape", name),
    }  # fmt: skip
    return Unit(**(fields | changes))


def make_record(id: int, name: str = "load", **changes: Any) -> UnitRecord:
    fields: dict[str, Any] = {"root": 1, "file": 1, "path": "a.py", "language": "python", "parent": 0}
    for field in fields.keys() & changes.keys():
        fields[field] = changes.pop(field)
    return UnitRecord(id=id, unit=make_unit(name, **changes), **fields)


def make_file(id: int, path: str = "a.py", units: tuple[int, ...] = (), **changes: Any) -> FileRecord:
    fields: dict[str, Any] = {
        "root": 1, "language": "python", "stat": Stat(10, 20, 30, 40), "digest": b"d" * 32,
        "lines": 3, "skipped": "", "errors": 0,
    }  # fmt: skip
    return FileRecord(id=id, path=path, units=units, **(fields | changes))


class Bench:
    """An open store with its writer; `do` runs one job to its end."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self.store, self.writer = store, writer

    def do(self, job: Callable[[Transaction], Any]) -> Any:
        return self.writer.submit(job).result(60)

    def ask(self, question: Callable[[Any], Any]) -> Any:
        with self.store.snapshot() as snapshot:
            return question(snapshot)

    def add_file(self, path: str, names: list[str], words: str = "") -> list[int]:
        """A file with a unit of each name; returns their ids."""

        def job(txn: Transaction) -> list[int]:
            if txn.root(1) is None:
                txn.put_root(RootRecord(1, "/work"))
            file_id = txn.new_id()
            ids = [txn.new_id() for _ in names]
            for n, (id_, name) in enumerate(zip(ids, names, strict=True)):
                txn.put_unit(make_record(id_, name, file=file_id, path=path, ordinal=names[:n].count(name)))
                txn.put_words(id_, Words(name.lower(), "", words or f"body of {name.lower()}"))
            txn.put_file(make_file(file_id, path, tuple(ids)))
            return ids

        return self.do(job)


@contextlib.contextmanager
def open_bench(directory: str, **options: Any) -> Iterator[Bench]:
    store = Store.open(directory, **options)
    writer = Writer(store)
    try:
        yield Bench(store, writer)
    finally:
        writer.close()
        store.close()


@pytest.fixture
def bench(tmp_path: Any) -> Iterator[Bench]:
    with open_bench(str(tmp_path / "db"), map_mb=64) as opened:
        yield opened


@pytest.fixture(scope="session")
def make() -> Any:
    """The factories of this page, as attributes."""

    class Make:
        unit = staticmethod(make_unit)
        record = staticmethod(make_record)
        file = staticmethod(make_file)
        bench = staticmethod(open_bench)

        @staticmethod
        def vectors(n: int, dim: int = 64, seed: int = 0) -> Any:
            """float32[n, dim] of unit length in loose clusters, as code has them."""
            random = np.random.default_rng(seed)
            centres = random.standard_normal((max(2, n // 20), dim))
            rows = centres[random.integers(0, len(centres), n)] + 0.7 * random.standard_normal((n, dim))
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return Make
