"""What the store costs: bytes of disk for each unit, CPU of a bulk insert, time of single reads and of the two indexes.

    python bench/store.py [DIRECTORY] [--limit-files 800] [--json]

Real units of the Python files below DIRECTORY (default: the standard library without its tests), with the words, keys,
edges and mentions that analysis and resolution give them; only the vectors are random. CPU time of the calling process,
so that other load on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.graph.resolve import definitions, resolve
from codegraphd.store.ann import VectorIndex
from codegraphd.store.env import Store
from codegraphd.store.lexical import WordIndex
from codegraphd.store.records import (
    Facts,
    FileRecord,
    Module,
    Reason,
    Recipe,
    RootRecord,
    Stat,
    UnitChange,
    UnitRecord,
    UnitState,
    Where,
)
from codegraphd.store.transaction import Transaction
from codegraphd.store.word_query import entry_of
from codegraphd.store.writer import Writer

SKIPPED = {"test", "tests", "site-packages", "idlelib", "__pycache__"}
MODEL = b"bench   "
DIM = 384


def modules(directory: str, limit: int) -> list[tuple[str, Module]]:
    found = []
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(names):
            if name.endswith(".py") and len(found) < limit:
                with open(os.path.join(folder, name), "rb") as file:
                    path = os.path.relpath(os.path.join(folder, name), directory)
                    found.append((path, parse(path, file.read())))
    return found


def put_file(path: str, module: Module) -> Callable[[Transaction], None]:
    def job(txn: Transaction) -> None:
        file_id = txn.new_id()
        ids = [txn.new_id() for _ in module.units]
        records, changes = [], []
        for i, unit in enumerate(module.units):
            parent = ids[unit.parent] if unit.parent >= 0 else 0
            record = UnitRecord(ids[i], 1, file_id, path, module.language, parent, unit)
            records.append(record)
            txn.put_unit(record)
            txn.put_words(ids[i], module.words[i])
            recipe = Recipe(unit.own, unit.face)
            txn.put_state(ids[i], UnitState(recipe, None, Reason("initial", path, 0, txn.clock)))
            txn.enqueue(1, ids[i])
            changes.append(UnitChange("added", 1, ids[i], path, unit.kind, unit.qualname, unit.ordinal, face=True))
        stat = Stat(module.size, 1, 1, 1)
        txn.put_file(
            FileRecord(file_id, 1, path, module.language, stat, module.digest, module.lines, "", 0, tuple(ids))
        )
        facts = Facts(module.package, module.references, module.bindings)
        txn.put_facts(file_id, facts)
        txn.set_defines(1, file_id, definitions(path, file_id, facts, records, module.language))
        txn.journal(changes)

    return job


def put_relations(file: FileRecord, found: Any) -> Callable[[Transaction], None]:
    def job(txn: Transaction) -> None:
        for id_, edges in found.edges.items():
            txn.set_edges(id_, edges)
        for id_, mentions in found.mentions.items():
            txn.set_mentions(1, id_, mentions)
        txn.set_waits(1, file.id, found.keys)

    return job


def put_vectors(ids: list[int], vectors: Any) -> Callable[[Transaction], None]:
    def job(txn: Transaction) -> None:
        for id_, vector in zip(ids, vectors, strict=True):
            state = txn.state(id_)
            assert state is not None
            assert state.recipe is not None
            txn.put_vector(MODEL, state.recipe.own, vector)
            txn.attach(id_, vector)
            txn.put_state(id_, UnitState(state.recipe, state.recipe, state.reason))
            txn.dequeue(1, id_)

    return job


def run(writer: Writer, jobs: list[Callable[[Transaction], None]]) -> float:
    """CPU seconds."""
    begin = time.process_time()
    for future in [writer.submit(job, interactive=False) for job in jobs]:
        future.result()
    return time.process_time() - begin


def per_call(call: Callable[[Any], Any], things: list[Any]) -> float:
    """Microseconds of this thread for one."""
    begin = time.thread_time()
    for thing in things:
        call(thing)
    return round((time.thread_time() - begin) / len(things) * 1e6, 2)


def measure(directory: str, limit: int, scratch: str) -> dict[str, Any]:
    sources = modules(directory, limit)
    store = Store.open(os.path.join(scratch, "db"))
    writer = Writer(store)
    writer.submit(lambda txn: txn.put_root(RootRecord(1, directory))).result()
    report: dict[str, Any] = {"files": len(sources)}
    report["insert units cpu_s"] = round(run(writer, [put_file(path, module) for path, module in sources]), 2)
    with store.snapshot(max_s=3_600) as view:
        files = list(view.files(1))
        found = [(file, resolve(view, 1, file)) for file in files]
        ids = [id_ for file in files for id_ in file.units]
    report["units"], report["edges"] = len(ids), sum(len(e) for _, r in found for e in r.edges.values())
    report["insert relations cpu_s"] = round(run(writer, [put_relations(file, result) for file, result in found]), 2)
    figures = store.statistics()
    report["bytes_per_unit without vectors"] = round(sum(figures["table_bytes"].values()) / len(ids))
    vectors = np.random.default_rng(0).standard_normal((len(ids), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    jobs = [put_vectors(ids[at : at + 50], vectors[at : at + 50]) for at in range(0, len(ids), 50)]
    report["attach and cache cpu_s"] = round(run(writer, jobs), 2)
    figures = store.statistics()
    report["bytes_per_unit with vectors"] = round(sum(figures["table_bytes"].values()) / len(ids))
    report["bytes_per_unit by table"] = {
        name: round(size / len(ids)) for name, size in figures["table_bytes"].items() if size > 4 * len(ids)
    }
    with store.snapshot() as view:
        report["unit us"] = per_call(view.unit, ids)
        report["words us"] = per_call(view.words, ids)
        report["edges_in us"] = per_call(view.edges_in, ids)
        report["attached us"] = per_call(view.attached, ids)
        begin = time.thread_time()
        report["check problems"] = len(view.check())
        report["check cpu_s"] = round(time.thread_time() - begin, 2)
        words, rows = WordIndex(os.path.join(scratch, "words")), VectorIndex(os.path.join(scratch, "vectors"))
        begin = time.process_time()
        words.open_or_rebuild(view)
        report["words rebuild cpu_s"] = round(time.process_time() - begin, 2)
        begin = time.process_time()
        rows.open_or_rebuild(view)
        report["rows load cpu_s"] = round(time.process_time() - begin, 2)
        changed = {id_: (view.unit(id_), view.words(id_)) for id_ in ids[:1_000]}
    report["word index bytes_per_unit"] = round(words.statistics()["bytes"] / len(ids))
    report["rows bytes_per_unit"] = round(rows.statistics()["bytes"] / len(ids))
    questions = [["parse", "config"], ["read", "file", "lines"], ["socket", "timeout"]] * 20
    where = Where(roots=frozenset({1}))
    report["words query us"] = per_call(lambda terms: words.query(terms, 50, where), questions)
    for id_, (unit, text) in changed.items():
        assert unit is not None
        assert text is not None
        words._overlay.put(id_, entry_of(unit, text))
    report["words query us, 1,000 units pending"] = per_call(lambda terms: words.query(terms, 50, where), questions)
    report["nearest us"] = per_call(lambda vector: rows.nearest(vector, 10), list(vectors[:50]))
    report["within us"] = per_call(lambda vector: rows.within(vector, 0.5), list(vectors[:50]))
    writer.close()
    begin = time.perf_counter()
    words.close()
    rows.close()
    store.close()
    report["close s"] = round(time.perf_counter() - begin, 2)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", default=sysconfig.get_paths()["stdlib"])
    parser.add_argument("--limit-files", type=int, default=800)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = measure(chosen.directory, chosen.limit_files, scratch)
    if chosen.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name:42} {value}")


if __name__ == "__main__":
    main()
