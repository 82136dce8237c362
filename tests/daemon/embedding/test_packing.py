"""Groups of texts, hashed words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens
from codegraphd.daemon.embedding.models import resolve
from codegraphd.daemon.embedding.packing import groups


@given(st.lists(st.integers(1, 600)), st.integers(1, 1000))
def test_groups_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = groups(lengths, budget)
    assert sorted(index for group in found for index in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= budget for group in found)
    order = [lengths[i] for group in found for i in group]
    assert order == sorted(order, reverse=True)


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_hashed_vectors_depend_on_the_text_alone(texts: list[str]) -> None:
    info = resolve("hashing", "")
    tokens, backend = HashingTokens(info), HashingBackend(info)
    ids = [ids for ids, _ in tokens.encode(texts)]
    together = backend.encode(ids)
    alone = np.concatenate([backend.encode([row]) for row in ids])
    assert np.array_equal(together, alone)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
