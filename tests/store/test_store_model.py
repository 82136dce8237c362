"""Any calls in any order, some of them in jobs that fail, against a model of sets."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegraphd.store.env import Store
from codegraphd.store.records import Edge, RootRecord, Words, digest
from codegraphd.store.writer import Writer

N_UNITS = 6
FILES = (101, 102)
KEYS = tuple(digest("key", bytes((n,))) for n in range(4))
MODEL = b"model 01"

unit_ids = st.integers(1, N_UNITS)
file_ids = st.sampled_from(FILES)
keys = st.sampled_from(KEYS)
names = st.sampled_from(["load", "save", "x" * 500, "ä\udcff", ""])
kinds = st.sampled_from(["call", "type", "inherit"])
edges = st.builds(Edge, target=unit_ids, kind=kinds, strength=st.sampled_from([3, 4]), order=st.integers(0, 1))

operations = st.one_of(
    st.tuples(st.just("put"), unit_ids, names, st.integers(1, 2)),
    st.tuples(st.just("delete"), unit_ids),
    st.tuples(st.just("edges"), unit_ids, st.lists(edges, max_size=4)),
    st.tuples(st.just("mentions"), unit_ids, st.sets(st.tuples(st.sampled_from("ab"), names, kinds), max_size=3)),
    st.tuples(st.just("defines"), file_ids, st.sets(st.tuples(keys, unit_ids), max_size=4)),
    st.tuples(st.just("waits"), file_ids, st.sets(keys)),
    st.tuples(st.just("attach"), unit_ids, st.booleans()),
    st.tuples(st.just("cache"), keys),
    st.tuples(st.just("enqueue"), unit_ids, st.integers(0, 2)),
    st.tuples(st.just("dequeue"), unit_ids, st.integers(0, 2)),
    st.tuples(st.just("forget file"), file_ids),
)
jobs = st.lists(st.tuples(st.lists(operations, max_size=8), st.booleans()), max_size=6)


@dataclass
class Model:
    units: dict[int, tuple[str, int]] = field(default_factory=dict)
    edges: dict[int, set[Edge]] = field(default_factory=dict)
    mentions: dict[int, set[tuple[str, str, str]]] = field(default_factory=dict)
    defines: dict[int, set[tuple[bytes, int]]] = field(default_factory=dict)
    waits: dict[int, set[bytes]] = field(default_factory=dict)
    attached: set[int] = field(default_factory=set)
    cached: set[bytes] = field(default_factory=set)
    queue: set[tuple[int, int]] = field(default_factory=set)

    def apply(self, operation: tuple[Any, ...], txn: Any, make: Any) -> None:
        match operation:
            case ("put", id_, name, line):
                self.units[id_] = (name, line)
                txn.put_unit(make.record(id_, name, file=FILES[0], ordinal=id_, start_line=line))
                txn.put_words(id_, Words(name, "", ""))
            case ("delete", id_):
                txn.delete_unit(id_)
                if self.units.pop(id_, None) is None:
                    return
                self.edges.pop(id_, None)
                for source, out in self.edges.items():
                    self.edges[source] = {edge for edge in out if edge.target != id_}
                self.mentions.pop(id_, None)
                self.attached.discard(id_)
                self.queue = {(stage, other) for stage, other in self.queue if other != id_}
            case ("edges", id_, out):
                out = [edge for edge in out if edge.target in self.units]
                if id_ in self.units:
                    assert txn.set_edges(id_, out) == (set(out) != self.edges.get(id_, set()))
                    self.edges[id_] = set(out)
            case ("mentions", id_, some):
                if id_ in self.units:
                    txn.set_mentions(1, id_, some)
                    self.mentions[id_] = some
            case ("defines", file_id, pairs):
                before = self.defines.get(file_id, set())
                assert txn.set_defines(1, file_id, pairs) == before ^ pairs
                self.defines[file_id] = pairs
            case ("waits", file_id, some):
                txn.set_waits(1, file_id, some)
                self.waits[file_id] = some
            case ("attach", id_, on):
                if id_ in self.units:
                    txn.attach(id_, make.vectors(1, 8, seed=id_)[0] if on else None)
                    (self.attached.add if on else self.attached.discard)(id_)
            case ("cache", key):
                txn.put_vector(MODEL, key, make.vectors(1, 8, seed=key[0])[0])
                self.cached.add(key)
            case ("enqueue", id_, stage):
                if id_ in self.units:
                    txn.enqueue(stage, id_)
                    self.queue.add((stage, id_))
            case ("dequeue", id_, stage):
                txn.dequeue(stage, id_)
                self.queue.discard((stage, id_))
            case ("forget file", file_id):
                touched = txn.delete_file(txn.file_by_id(file_id))
                assert touched == self.defines.pop(file_id, set())
                self.waits.pop(file_id, None)
                txn.put_file(make.file(file_id, f"{file_id}.py"))

    def compare(self, view: Any, make: Any) -> None:
        assert {id_ for id_ in range(1, N_UNITS + 1) if view.unit(id_) is not None} == self.units.keys()
        for id_ in range(1, N_UNITS + 1):
            out = self.edges.get(id_, set())
            assert view.edges_out(id_) == tuple(sorted(out))
            sources = {(s, e.kind, e.strength) for s, some in self.edges.items() for e in some if e.target == id_}
            assert view.edges_in(id_) == tuple(sorted(sources, key=lambda t: (t[0], _EDGES.index(t[1]), t[2])))
            assert set(view.mentioned_by(id_)) == self.mentions.get(id_, set())
            assert (view.attached(id_) is not None) == (id_ in self.attached)
            if id_ in self.units:
                name, line = self.units[id_]
                assert id_ in view.named(1, name)
                assert (view.unit(id_).unit.start_line, view.words(id_).name) == (line, name)
        for name in {name for name, _ in self.units.values()}:
            assert view.named(1, name) == tuple(sorted(i for i, (other, _) in self.units.items() if other == name))
        for family, name in {(f, n) for some in self.mentions.values() for f, n, _ in some}:
            holders = {i for i, some in self.mentions.items() if any((f, n) == (family, name) for f, n, _ in some)}
            assert view.mentions(1, family, name) == tuple(sorted(holders))
        for key in KEYS:
            assert set(view.lookup(1, key)) == {i for pairs in self.defines.values() for k, i in pairs if k == key}
            assert set(view.waiting(1, key)) == {f for f, some in self.waits.items() if key in some}
            assert view.has_vector(MODEL, key) == (key in self.cached)
        for stage in range(3):
            assert {i for i, _ in view.queued(stage)} == {i for s, i in self.queue if s == stage}
            assert view.n_queued(stage) == len([1 for s, _ in self.queue if s == stage])
        n_edges = sum(len(out) for out in self.edges.values())
        assert view.counts(1) == (2, len(self.units), n_edges, len(self.attached))


_EDGES = ("import", "call", "inherit", "implement", "type")


class RefusedError(Exception):
    pass


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs)
def test_any_calls_in_any_order(make: Any, script: list[tuple[list[Any], bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder, volatile=True)
        writer = Writer(store)
        try:
            _run(store, writer, make, script)
        finally:
            writer.close()
            store.close()


def _run(store: Store, writer: Writer, make: Any, script: list[tuple[list[Any], bool]]) -> None:
    def begin(txn: Any) -> None:
        txn.put_root(RootRecord(1, "/w"))
        for _ in range(200):
            txn.new_id()
        for file_id in FILES:
            txn.put_file(make.file(file_id, f"{file_id}.py"))

    writer.submit(begin).result(60)
    model = Model()
    for some, fails in script:
        before = copy.deepcopy(model)

        def job(txn: Any, some: list[Any] = some, fails: bool = fails, model: Model = model) -> None:
            for operation in some:
                model.apply(operation, txn, make)
            model.compare(txn, make)  # a transaction reads its own writes
            if fails:
                raise RefusedError

        error = writer.submit(job).exception(60)
        assert (error is None) or isinstance(error, RefusedError), error
        model = before if fails else model
        with store.snapshot() as view:
            model.compare(view, make)
            told = [line for line in view.check() if "stands in 0 files" not in line]  # these files list no units
            assert told == []
    assert np.isfinite(store.statistics()["bytes"])
