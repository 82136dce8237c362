"""Vectors and their codes, and the embedding cache that keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codegraphd.store import compress, vectors
from codegraphd.store.records import Recipe, UnitState
from codegraphd.store.vectors import Budget

MODEL = b"model 01"

# The least cosine between a vector of 384 numbers and what comes back from its code.
FIDELITY = {"float32": 0.9999999, "float16": 0.9999995, "int8": 0.9998, "int4": 0.98, "binary": 0.7}


@pytest.mark.parametrize("precision", compress.PRECISIONS)
@pytest.mark.parametrize("dim", [384, 383, 8, 1])
def test_codes_keep_the_direction(make: Any, precision: str, dim: int) -> None:
    for vector in make.vectors(20, dim):
        code = compress.encode(vector, precision)
        back = compress.decode(code)
        assert len(code) == compress.size(dim, precision)
        assert (compress.dimensions(code), compress.precision_of(code)) == (dim, precision)
        assert (back.dtype, back.shape) == (np.float32, (dim,))
        assert abs(float(back @ back) - 1) < 1e-5
        if dim > 8:
            assert float(back @ vector) >= FIDELITY[precision]


@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1, 1, width=32)),
    st.sampled_from(compress.PRECISIONS),
)
def test_any_vector_has_a_code(vector: Any, precision: str) -> None:
    back = compress.decode(compress.encode(vector, precision))
    assert back.shape == vector.shape
    assert np.isfinite(back).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_none(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        compress.encode(np.array([0.1, value], np.float32))


@pytest.mark.parametrize("code", [b"", b"\x02", b"\x09" + bytes(15), compress.encode(np.ones(9, np.float32))[:-1]])
def test_what_is_no_code_is_refused(code: bytes) -> None:
    with pytest.raises(ValueError, match="code"):
        compress.decode(code)


def test_the_index_reads_any_precision(make: Any) -> None:
    (vector,) = make.vectors(1, 64)
    for precision in compress.PRECISIONS[:3]:
        row = compress.int8_row(compress.encode(vector, precision)).astype(np.float32)
        assert float(row @ vector) / np.linalg.norm(row) > 0.999


# --- the cache -------------------------------------------------------------------------------------------------------


def key(n: int) -> bytes:
    return n.to_bytes(16, "little")


def row_bytes(dim: int) -> int:
    return 24 + 4 + 2 * dim


def test_a_vector_comes_back_at_full_width(bench: Any, make: Any) -> None:
    some = make.vectors(5, 384)
    bench.do(lambda txn: [txn.put_vector(MODEL, key(n), vector) for n, vector in enumerate(some)])
    with bench.store.snapshot() as s:
        for n, vector in enumerate(some):
            back = s.vector(MODEL, key(n))
            assert (back.dtype, back.shape) == (np.float32, (384,))
            assert float(back @ vector) > 0.999999
            assert s.has_vector(MODEL, key(n))
        assert s.vector(b"model 02", key(0)) is None
        assert not s.has_vector(MODEL, key(9))
        assert s.cache_usage() == vectors.Usage(5, 5 * row_bytes(384))


def test_putting_again_replaces(bench: Any, make: Any) -> None:
    first, second = make.vectors(2, 64)
    for vector in (first, second, second):
        bench.do(lambda txn, vector=vector: txn.put_vector(MODEL, key(1), vector))
    assert bench.ask(lambda s: float(s.vector(MODEL, key(1)) @ second)) > 0.9999
    assert bench.ask(lambda s: (s.cache_usage().entries, s.check())) == (1, [])


def test_a_broken_vector_is_refused(bench: Any) -> None:
    with pytest.raises(ValueError, match="finite"):
        bench.do(lambda txn: txn.put_vector(MODEL, key(1), np.array([np.nan], np.float32)))
    with pytest.raises(ValueError, match="24"):
        bench.do(lambda txn: txn.put_vector(b"short", key(1), np.ones(3, np.float32)))


def test_the_least_recently_used_make_room(bench: Any, make: Any) -> None:
    some = make.vectors(40, 64)
    bench.store.cache_budget = Budget(max_bytes=20 * row_bytes(64))
    for n in range(20):
        bench.do(lambda txn, n=n: txn.put_vector(MODEL, key(n), some[n]))

    def use(txn: Any) -> None:
        assert txn.vector(MODEL, key(0)) is not None
        assert txn.has_vector(MODEL, key(1))
        txn.put_meta("a use is written with what else is", b"")

    bench.do(use)
    for n in range(20, 30):
        bench.do(lambda txn, n=n: txn.put_vector(MODEL, key(n), some[n]))
    with bench.store.snapshot() as s:
        assert {n for n in range(40) if s.has_vector(MODEL, key(n))} == {0, 1, *range(12, 30)}
        assert s.cache_usage() == vectors.Usage(20, 20 * row_bytes(64))
        assert s.check() == []
    assert bench.writer.statistics()["evictions"] == 10


def test_one_vector_stays_however_small_the_budget(bench: Any, make: Any) -> None:
    bench.store.cache_budget = Budget(max_bytes=1)
    for n, vector in enumerate(make.vectors(3, 64)):
        bench.do(lambda txn, n=n, vector=vector: txn.put_vector(MODEL, key(n), vector))
    assert bench.ask(lambda s: [s.has_vector(MODEL, key(n)) for n in range(3)]) == [False, False, True]


def test_old_ones_go_in_time_and_in_slices(bench: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = [1000]
    monkeypatch.setattr(vectors, "_hour", lambda: hour[0])
    some = make.vectors(10, 64)
    for n in range(10):
        bench.do(lambda txn, n=n: txn.put_vector(MODEL, key(n), some[n]))
        hour[0] += 1
    assert bench.do(lambda txn: txn.evict()) == 0
    bench.store.cache_budget = Budget(ttl_hours=4)
    assert bench.do(lambda txn: txn.evict(limit=2)) == 2
    assert bench.do(lambda txn: txn.evict()) == 4
    assert bench.ask(lambda s: [n for n in range(10) if s.has_vector(MODEL, key(n))]) == [6, 7, 8, 9]
    assert bench.ask(lambda s: s.check()) == []
    hour[0] += 100
    assert bench.do(lambda txn: txn.evict()) == 4
    assert bench.ask(lambda s: (s.cache_usage(), s.check())) == (vectors.Usage(0, 0), [])
    bench.do(lambda txn: txn.put_vector(MODEL, key(1), some[1]))
    assert bench.ask(lambda s: (s.cache_usage().entries, s.check())) == (1, [])


def test_what_no_unit_uses_can_be_dropped(bench: Any, make: Any) -> None:
    (a,) = bench.add_file("a.py", ["f"])
    some = make.vectors(30, 64)
    bench.do(lambda txn: [txn.put_vector(MODEL, key(n), vector) for n, vector in enumerate(some)])
    bench.do(lambda txn: txn.put_vector(b"model 02", key(3), some[3]))
    bench.do(lambda txn: txn.put_state(a, UnitState(Recipe(key(3), key(7)), Recipe(key(4), b""), None)))
    used = bench.ask(lambda s: s.recipes_used())
    after: int | None = 0
    n_gone = 0
    while after is not None:
        n, after = bench.do(
            lambda txn, after=after: txn.drop_vectors(lambda m, k: m != MODEL or k not in used, after, limit=7)
        )
        n_gone += n
    assert n_gone == 28
    with bench.store.snapshot() as s:
        assert [n for n in range(30) if s.has_vector(MODEL, key(n))] == [3, 4, 7]
        assert not s.has_vector(b"model 02", key(3))
        assert s.check() == []
