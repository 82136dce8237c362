"""A shelf: sources parsed for real, in a real store with its real indexes, and vectors of hashed words."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.daemon.analysis.words import split
from codegraphd.store.ann import VectorIndex
from codegraphd.store.env import Store
from codegraphd.store.lexical import WordIndex
from codegraphd.store.records import FileRecord, RootRecord, Stat, UnitRecord
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.writer import Transaction, Writer


class Shelf:
    """What the daemon holds after indexing. Root n is `/n`; `put` replaces nothing: each path once."""

    def __init__(self, directory: Path) -> None:
        self.store = Store.open(str(directory / "store"), volatile=True)
        self.words = WordIndex(str(directory / "words"), behind=False)
        self.vectors = VectorIndex(str(directory / "vectors"), behind=False)
        with self.store.snapshot() as view:
            self.words.open_or_rebuild(view)
            self.vectors.open_or_rebuild(view)
        self.writer = Writer(self.store, [self.words.apply, self.vectors.apply])
        self.sources: dict[tuple[int, str], bytes] = {}

    def close(self) -> None:
        self.writer.close()
        self.words.close()
        self.vectors.close()
        self.store.close()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One row of unit length for each text: texts that share words lie near each other, on every machine alike."""
        rows = np.zeros((len(texts), 256), np.float32)
        for n, text in enumerate(texts):
            for word in split(text) or [""]:
                seed = zlib.crc32(word.encode("utf-8", "surrogatepass"))
                rows[n] += np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), 256)
            rows[n] /= np.linalg.norm(rows[n]) or 1.0
        return rows

    def put(self, files: Mapping[str, str], *, root: int = 1, embedded: bool = True) -> None:
        self.writer.submit(lambda txn: self._put(txn, files, root, embedded)).result()

    def _put(self, txn: Transaction, files: Mapping[str, str], root: int, embedded: bool) -> None:
        txn.put_root(RootRecord(root, f"/{root}"))
        for path, text in files.items():
            source = text.encode()
            self.sources[root, path] = source
            module, own = parse(path, source), render(path, source)
            file_id = txn.new_id()
            ids = tuple(txn.new_id() for _ in module.units)
            stat = Stat(len(source), 0, 0, file_id)
            txn.put_file(
                FileRecord(file_id, root, path, module.language, stat, module.digest, module.lines, "", 0, ids)
            )
            rows = self.embed(own) if own else []
            for id_, unit, words, row in zip(ids, module.units, module.words, rows, strict=True):
                parent = ids[unit.parent] if unit.parent >= 0 else 0
                txn.put_unit(UnitRecord(id_, root, file_id, path, module.language, parent, unit))
                txn.put_words(id_, words)
                if embedded:
                    txn.attach(id_, row)

    def delete(self, path: str, root: int = 1) -> None:
        def job(txn: Transaction) -> None:
            file = txn.file(root, path)
            assert file is not None
            for id_ in file.units:
                txn.delete_unit(id_)
            txn.delete_file(file)

        self.writer.submit(job).result()

    def read(self, file: FileRecord) -> bytes | None:
        return self.sources.get((file.root, file.path))

    def ask(self, question: Callable[[Snapshot], Any]) -> Any:
        with self.store.snapshot() as view:
            return question(view)

    def unit(self, path: str, qualname: str, root: int = 1) -> UnitRecord:
        def find(view: Snapshot) -> UnitRecord:
            file = view.file(root, path)
            assert file is not None
            return next(unit for unit in view.units_of(file) if unit.unit.qualname == qualname)

        found: UnitRecord = self.ask(find)
        return found


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.close()
