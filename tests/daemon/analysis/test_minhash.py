"""MinHash: the estimate is the Jaccard similarity of the shingles, within its stated error."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis.minhash import (
    PERMUTATIONS,
    SHINGLE,
    from_bytes,
    minhash,
    similarities,
    similarity,
    to_bytes,
    tokens,
)


def jaccard(one: list[str], other: list[str], size: int = SHINGLE) -> float:
    a, b = ({tuple(words[i : i + size]) for i in range(len(words) - size + 1)} for words in (one, other))
    return len(a & b) / len(a | b)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.integers(0, 300), permutations=st.sampled_from([64, 128, 256]))
def test_the_estimate_is_within_five_standard_errors(seed: int, kept: int, permutations: int) -> None:
    rng = random.Random(seed)
    one = [str(rng.randrange(10**9)) for _ in range(300)]
    other = one[:kept] + [str(rng.randrange(10**9)) for _ in range(300 - kept)]
    truth = jaccard(one, other)
    estimate = similarity(minhash(one, permutations=permutations), minhash(other, permutations=permutations))
    assert abs(estimate - truth) <= 5 * math.sqrt(truth * (1 - truth) / permutations) + 1e-9


def test_the_estimate_has_no_bias() -> None:
    rng = random.Random(7)
    errors = []
    for _ in range(300):
        one = [str(rng.randrange(10**9)) for _ in range(100)]
        other = one[:60] + [str(rng.randrange(10**9)) for _ in range(40)]
        errors.append(similarity(minhash(one), minhash(other)) - jaccard(one, other))
    assert abs(float(np.mean(errors))) < 5 * 0.044 / math.sqrt(300)


def test_equal_tokens_have_equal_signatures_and_order_counts() -> None:
    words = tokens(b"def f(a): return a + 1")
    assert similarity(minhash(words), minhash(iter(words))) == 1.0
    assert similarity(minhash(words), minhash([word.decode() for word in words])) == 1.0
    assert similarity(minhash(words), minhash(words[::-1])) < 0.1


def test_few_tokens_make_one_shingle() -> None:
    assert similarity(minhash(["a", "b"]), minhash(["a", "b"])) == 1.0
    assert similarity(minhash(["a", "b"]), minhash(["a", "c"])) == 0.0
    assert similarity(minhash(["a", "b"]), minhash(["a", "b", "a", "b", "a", "b"])) < 0.5


def test_no_tokens_are_similar_to_nothing() -> None:
    empty = minhash([])
    assert similarity(empty, empty) == 0.0
    assert similarity(empty, minhash(["a"])) == 0.0
    assert not similarities(empty, np.stack([empty, minhash(["a"])])).any()


def test_signatures_are_stable() -> None:
    # The numbers are stored: another way of hashing needs another version of whatever stores them.
    assert minhash(["a", "b", "c", "d", "e", "f"], permutations=4).tolist() == [
        1927435609,
        1413814347,
        1166185791,
        1538566408,
    ]


def test_bytes_and_rows() -> None:
    rows = [minhash(list(text)) for text in ("the same text", "the same test", "something else")]
    assert (from_bytes(to_bytes(rows[0])) == rows[0]).all()
    assert len(to_bytes(rows[0])) == 4 * PERMUTATIONS
    together = similarities(rows[0], np.stack(rows))
    assert together.tolist() == pytest.approx([similarity(rows[0], row) for row in rows])
    assert together[0] == 1.0 > together[1] > together[2]


def test_long_inputs_are_taken_in_blocks() -> None:
    words = [str(i) for i in range(20_000)]
    parts = [minhash(words[i : i + 1000 + SHINGLE - 1]) for i in range(0, 20_000, 1000)]
    assert (np.minimum.reduce(parts) == minhash(words)).all()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        similarity(minhash(["a"]), minhash(["a"], permutations=64))
    with pytest.raises(ValueError, match="cannot be compared"):
        similarities(minhash(["a"]), np.zeros((3, 64), dtype=np.uint32))
    with pytest.raises(ValueError, match="at least 1"):
        minhash(["a"], shingle=0)
    with pytest.raises(ValueError, match="multiple"):
        from_bytes(b"abc")


def test_tokens_leave_white_space_out() -> None:
    assert tokens(b"x1 +=  0x1f;\n\tf(y_)") == [b"x1", b"+", b"=", b"0x1f", b";", b"f", b"(", b"y_", b")"]
    assert tokens("é = \xff".encode("latin-1")) != []
