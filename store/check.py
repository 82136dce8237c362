"""Whether the store agrees with itself: every relation from both sides, every counter, every reference.

For `validate()`, `doctor` and the tests. Reads everything: 0.7 s for 20,000 units. What it finds is a fault of ours or
of the disk, since `store.transaction` never leaves such a state behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from codegraphd.store import codec
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import (
    ROOT,
    U64,
    bounded,
    digest_key,
    mention_key,
    stage_counter,
    text_key,
    wait_key,
)

_MOST = 100  # findings told of each kind
_OF_UNITS = ("words", "edges", "mentioned")
_SLOTS = ("states", "attached", "states_1", "attached_1")


def check(snapshot: Snapshot) -> list[str]:
    """One sentence for each inconsistency, at most about a hundred of each kind; empty: all is well."""
    found: list[str] = []
    relations = (_files, _units, _names, _resolution, _edges, _mentions, _belongings)
    for look in (*relations, _counters, _cache, _queue, _journal):
        found += _limited(look(snapshot))
    return found


def _limited(findings: Iterator[str]) -> list[str]:
    kept: list[str] = []
    for finding in findings:
        if len(kept) == _MOST:
            return [*kept, "and more of this kind"]
        kept.append(finding)
    return kept


def _rows(snapshot: Snapshot, table: Any) -> Iterator[tuple[bytes, bytes]]:
    with snapshot._txn.cursor(table) as cursor:
        yield from cursor.iternext()


def _ids(snapshot: Snapshot, table: Any) -> set[int]:
    with snapshot._txn.cursor(table) as cursor:
        return {U64.unpack(key)[0] for key in cursor.iternext(keys=True, values=False)}


def _files(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    paths = dict(_rows(snapshot, t.paths))
    roots = {root.id for root in snapshot._all_roots()}
    for _, raw in _rows(snapshot, t.files):
        file = codec.decode_file(raw)
        row = paths.pop(text_key(file.root, file.path), None)
        if row != codec.encode_path(file):
            yield f"file {file.id} ({file.path}): its path row says {row!r}"
        if file.root not in roots:
            yield f"file {file.id} ({file.path}): its root {file.root} is not stored"
    for key, row in paths.items():
        yield f"path row {key!r}: no file {codec.path_file(row)} has it"


def _units(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    listed: Counter[int] = Counter()
    for _, raw in _rows(snapshot, t.files):
        file = codec.decode_file(raw)
        listed.update(file.units)
        units = [snapshot.unit(id_) for id_ in file.units]
        for id_, unit in zip(file.units, units, strict=True):
            if unit is None:
                yield f"file {file.id} ({file.path}): its unit {id_} is not stored"
                continue
            if (unit.root, unit.file, unit.path, unit.language) != (file.root, file.id, file.path, file.language):
                yield f"unit {id_}: says {unit.path} (file {unit.file}), but stands in {file.path} (file {file.id})"
            parent = unit.unit.parent
            expected = file.units[parent] if 0 <= parent < len(file.units) else 0
            if unit.parent != expected:
                yield f"unit {id_} ({file.path}): its parent is {unit.parent}, by its file {expected}"
        keys = Counter(unit.key for unit in units if unit is not None)
        for key, times in keys.items():
            if times > 1:
                yield f"file {file.id} ({file.path}): {times} units share the key {key}"
    for id_ in _ids(snapshot, t.units):
        if listed[id_] != 1:
            yield f"unit {id_}: stands in {listed[id_]} files"


def _names(snapshot: Snapshot) -> Iterator[str]:
    expected = set()
    for key, raw in _rows(snapshot, snapshot._t.units):
        head = codec.unit_head(raw)
        expected.add((ROOT.pack(head.root) + bounded(head.name), key))
    yield from _difference("names", expected, set(_rows(snapshot, snapshot._t.names)))


def _resolution(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    defines, waits = set(), set()
    for key, raw in _rows(snapshot, t.defined):
        root, tail = codec.relation_root(raw), U64.unpack(key)[0].to_bytes(8, "big")
        defines |= {(digest_key(root, k), id_.to_bytes(8, "big") + tail) for k, id_ in codec.decode_pairs(raw)}
    for key, raw in _rows(snapshot, t.tried):
        waits |= {(wait_key(codec.relation_root(raw), k), key) for k in codec.decode_keys(raw)}
    yield from _difference("defines", defines, set(_rows(snapshot, t.defines)))
    yield from _difference("waits", waits, set(_rows(snapshot, t.waits)))


def _edges(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    units = _ids(snapshot, t.units)
    expected = set()
    for key, raw in _rows(snapshot, t.edges):
        source = U64.unpack(key)[0]
        expected |= {(U64.pack(target), row) for target, row in codec.reverse_edges(source, raw)}
        for edge in codec.decode_edges(raw):
            if edge.target not in units:
                yield f"edge {source} -> {edge.target} ({edge.kind}): the target is not stored"
    yield from _difference("edges", expected, set(_rows(snapshot, t.redges)))


def _mentions(snapshot: Snapshot) -> Iterator[str]:
    expected = set()
    for key, raw in _rows(snapshot, snapshot._t.mentioned):
        root = codec.relation_root(raw)
        expected |= {(mention_key(root, family, name), key) for family, name, _ in codec.decode_mentions(raw)}
    yield from _difference("mentions", expected, set(_rows(snapshot, snapshot._t.mentions)))


def _belongings(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    owners: list[tuple[str, set[int], tuple[str, ...]]] = [
        ("unit", _ids(snapshot, t.units), (*_OF_UNITS, *_SLOTS)),
        ("file", _ids(snapshot, t.files), ("facts", "outlines", "defined", "tried")),
    ]
    for what, ids, names in owners:
        for name in names:
            for id_ in _ids(snapshot, getattr(t, name)) - ids:
                yield f"{name} of {what} {id_}, which is not stored"
    raw = snapshot._txn.get(b"next id", db=t.meta)
    next_id = U64.unpack(raw)[0] if raw else 1
    for what, ids, _ in owners:
        for id_ in ids:
            if id_ >= next_id:
                yield f"{what} {id_}: its number is still to be given (next is {next_id})"


def _counters(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    counted: dict[int, list[int]] = {}

    def add(root: int, which: int, by: int) -> None:
        counted.setdefault(root, [0, 0, 0, 0, 0])[which] += by

    for _, raw in _rows(snapshot, t.files):
        add(codec.decode_file(raw).root, 0, 1)
    attached = [_ids(snapshot, table) for _, table in t.slots]
    for key, raw in _rows(snapshot, t.units):
        root = codec.unit_root(raw)
        add(root, 1, 1)
        add(root, 2, codec.n_edges(snapshot._txn.get(key, db=t.edges) or b""))
        for slot, ids in enumerate(attached):
            add(root, 3 + slot, U64.unpack(key)[0] in ids)
    stored = {ROOT.unpack(key[1:])[0] for key, _ in _rows(snapshot, t.counts) if key[:1] == b"r"}
    for root in stored | counted.keys():
        if snapshot._all_counts(root) != tuple(counted.get(root, (0, 0, 0, 0, 0))):
            yield f"root {root}: counters say {snapshot._all_counts(root)}, the rows {counted.get(root)}"


def _cache(snapshot: Snapshot) -> Iterator[str]:
    t = snapshot._t
    rows = {(raw[:24], key) for key, raw in _rows(snapshot, t.rows)}
    yield from _difference("vectors", rows, set(_rows(snapshot, t.vectors)))
    usage = snapshot.cache_usage()
    n_bytes = sum(len(raw) for _, raw in _rows(snapshot, t.rows))
    if (usage.entries, usage.bytes) != (len(rows), n_bytes):
        yield f"the embedding cache holds {len(rows)} vectors in {n_bytes} bytes, its counters say {usage}"


def _queue(snapshot: Snapshot) -> Iterator[str]:
    counted = Counter(key[0] for key, _ in _rows(snapshot, snapshot._t.queue))
    for stage in range(256):
        if snapshot._txn.get(stage_counter(stage), db=snapshot._t.counts) is None and not counted[stage]:
            continue
        if snapshot.n_queued(stage) != counted[stage]:
            yield f"stage {stage}: {counted[stage]} queued, its counter says {snapshot.n_queued(stage)}"


def _journal(snapshot: Snapshot) -> Iterator[str]:
    for key, _ in _rows(snapshot, snapshot._t.journal):
        if (clock := U64.unpack(key)[0]) > snapshot.clock:
            yield f"the journal has clock {clock}, the store stands at {snapshot.clock}"


def _difference(name: str, expected: set[tuple[bytes, bytes]], stored: set[tuple[bytes, bytes]]) -> Iterator[str]:
    for key, value in expected - stored:
        yield f"{name}: {key.hex()} -> {value.hex()} is missing on the other side"
    for key, value in stored - expected:
        yield f"{name}: {key.hex()} -> {value.hex()} stands on one side alone"
