"""Records survive their bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.store import codec
from codegraphd.store.errors import StoreDamaged
from codegraphd.store.records import (
    EDGE_KINDS,
    KINDS,
    LANGUAGES,
    Binding,
    Edge,
    Facts,
    FileRecord,
    Reason,
    Recipe,
    Reference,
    Stat,
    Unit,
    UnitChange,
    UnitRecord,
    UnitState,
    Words,
)

# Any string, lone surrogates included: names that are not UTF-8 come as those.
texts = st.text(st.characters(), max_size=20)
ids = st.integers(1, 2**63)
counts = st.integers(0, 2**40)
digests = st.binary(min_size=16, max_size=16)
edge_kinds = st.sampled_from(EDGE_KINDS)
units = st.builds(
    Unit,
    kind=st.sampled_from(KINDS), name=texts, qualname=texts, ordinal=counts, parent=st.integers(-1, 2**20),
    start_byte=counts, end_byte=counts, start_line=counts, end_line=counts, signature=texts,
    decorators=st.lists(texts, max_size=3).map(tuple), bases=st.lists(texts, max_size=3).map(tuple), doc=texts,
    flags=st.integers(0, 255), face=digests, body=digests, own=digests, shape=digests,
)  # fmt: skip
records = st.builds(
    UnitRecord, id=ids, root=st.integers(1, 2**32 - 1), file=ids, path=texts,
    language=st.sampled_from(LANGUAGES), parent=st.integers(0, 2**63), unit=units,
)  # fmt: skip
stats = st.builds(
    Stat, size=counts, mtime_ns=st.integers(-(2**62), 2**62), ctime_ns=st.integers(-(2**62), 2**62), inode=counts
)
files = st.builds(
    FileRecord, id=ids, root=st.integers(1, 2**32 - 1), path=texts, language=st.sampled_from(LANGUAGES), stat=stats,
    digest=st.binary(max_size=32), lines=counts, skipped=texts, errors=counts,
    units=st.lists(ids, max_size=5).map(tuple),
)  # fmt: skip
references = st.builds(
    Reference, source=st.integers(-1, 2**20), kind=edge_kinds, name=texts, scope=texts, receiver=texts, line=counts
)
bindings = st.builds(
    Binding, source=st.integers(-1, 2**20), local=texts, module=texts, member=texts, exported=st.booleans(), line=counts
)
recipes = st.none() | st.builds(Recipe, own=digests, context=digests | st.just(b""))
reasons = st.none() | st.builds(Reason, level=texts, cause=texts, depth=counts, clock=counts)
edges = st.builds(Edge, target=ids, kind=edge_kinds, strength=st.integers(1, 4), order=st.integers(0, 2**32 - 1))


@given(records)
def test_unit(record: UnitRecord) -> None:
    raw = codec.encode_unit(record)
    assert codec.decode_unit(record.id, raw) == record
    head = codec.unit_head(raw)
    assert (head.root, head.file, codec.unit_root(raw)) == (record.root, record.file, record.root)
    assert (LANGUAGES[head.language], KINDS[head.kind]) == (record.language, record.unit.kind)
    assert codec.text_of(head.path) == record.path
    assert codec.text_of(head.name) == record.unit.name


@given(records, texts)
def test_heads_are_equal_exactly_where_what_they_say_is(record: UnitRecord, other: str) -> None:
    from dataclasses import replace

    moved = codec.unit_head(codec.encode_unit(replace(record, path=other)))
    shifted = codec.unit_head(codec.encode_unit(replace(record, unit=replace(record.unit, start_line=7, doc=other))))
    own = codec.unit_head(codec.encode_unit(record))
    assert (moved.prefix == own.prefix) == (other == record.path)
    assert shifted.prefix == own.prefix


@given(files)
def test_file(file: FileRecord) -> None:
    assert codec.decode_file(codec.encode_file(file)) == file
    raw = codec.encode_path(file)
    assert codec.decode_path(raw) == (file.id, file.stat, file.skipped)
    assert codec.path_file(raw) == file.id


@given(texts, texts, texts)
def test_words(name: str, doc: str, body: str) -> None:
    words = Words(name, doc, body)
    assert codec.decode_words(codec.encode_words(words)) == words


@given(texts, st.lists(references, max_size=5), st.lists(bindings, max_size=5))
def test_facts(package: str, refs: list[Reference], binds: list[Binding]) -> None:
    facts = Facts(package, tuple(refs), tuple(binds))
    assert codec.decode_facts(codec.encode_facts(facts)) == facts
    assert codec.decode_package(codec.encode_facts(facts)) == package


@pytest.mark.parametrize("n", [0, 1, 400, 509, 510, 511, 512, 5_000])
def test_the_package_of_facts_alone(n: int) -> None:
    binding = Binding(-1, "a", "b" * 4_000, "c", exported=True, line=1)
    raw = codec.encode_facts(Facts("p" * n, (), (binding,) * 50))
    assert codec.decode_package(raw) == "p" * n
    with pytest.raises(StoreDamaged):
        codec.decode_package(raw[:3])


@given(st.lists(edges, max_size=8), ids)
def test_edges(some: list[Edge], source: int) -> None:
    raw = codec.encode_edges(some)
    assert codec.decode_edges(raw) == tuple(some)
    assert codec.n_edges(raw) == len(some)
    reverse = {(target, codec.decode_source(row)) for target, row in codec.reverse_edges(source, raw)}
    assert reverse == {(e.target, (source, e.kind, e.strength)) for e in some}


@given(st.integers(1, 2**32 - 1), st.lists(st.tuples(digests, ids), max_size=5))
def test_keys_and_pairs(root: int, pairs: list[tuple[bytes, int]]) -> None:
    assert codec.decode_pairs(codec.encode_pairs(root, pairs)) == pairs
    keys = [key for key, _ in pairs]
    assert codec.decode_keys(codec.encode_keys(root, keys)) == keys
    assert codec.relation_root(codec.encode_keys(root, keys)) == root


@given(st.integers(1, 2**32 - 1), st.sets(st.tuples(texts, texts, edge_kinds), max_size=8))
def test_mentions(root: int, mentions: set[tuple[str, str, str]]) -> None:
    ordered = sorted(mentions)
    raw = codec.encode_mentions(root, ordered)
    assert codec.decode_mentions(raw) == tuple(ordered)
    assert codec.relation_root(raw) == root


@given(recipes, recipes, reasons)
def test_state(recipe: Recipe | None, attached: Recipe | None, reason: Reason | None) -> None:
    for state in (UnitState(recipe, attached, reason), UnitState(recipe, recipe, reason)):
        assert codec.decode_state(codec.encode_state(state)) == state


@given(st.builds(
    UnitChange, change=texts, root=ids, unit=ids, path=texts, kind=texts, qualname=texts, ordinal=counts,
    face=st.booleans(), origin=texts,
))  # fmt: skip
def test_change(change: UnitChange) -> None:
    raw = codec.deflate(codec.encode_changes([change]))
    assert [codec.decode_change(fields) for fields in codec.inflate(raw)] == [change]


STORED_KINDS = """function method constructor class struct enum interface trait impl module namespace constant type
macro property section part file"""


# The lists whose indices the format stores: they may grow at their end, any other change needs a new format.
@pytest.mark.parametrize(
    ("now", "stored"),
    [
        (LANGUAGES, "rust python javascript typescript java go c cpp csharp markdown text"),
        (KINDS, STORED_KINDS),
        (EDGE_KINDS, "import call inherit implement type decorate instantiate contain declare"),
    ],
)
def test_stored_lists_only_grow(now: tuple[str, ...], stored: str) -> None:
    assert codec.FORMAT == 2
    assert list(now[: len(stored.split())]) == stored.split()


def test_an_unknown_kind_is_a_broken_promise(make: Any) -> None:
    with pytest.raises(KeyError):
        codec.encode_unit(make.record(1, kind="no such kind"))


@pytest.mark.parametrize("raw", [b"", b"junk", codec.encode_words(Words("a", "b", "c"))[:-3]])
def test_fault_31_a_record_that_cannot_be_read_says_so(raw: bytes) -> None:
    for decode in (codec.decode_words, codec.decode_facts):
        with pytest.raises(StoreDamaged):
            decode(raw)
    with pytest.raises(StoreDamaged):
        codec.decode_state(b"\xc1" + raw)
