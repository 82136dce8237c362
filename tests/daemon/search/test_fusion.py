"""Two rankings into one: pure numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.search.fusion import FLOOR_RANK, fuse, kind_of, prefer


@pytest.mark.parametrize(
    ("query", "expect"),
    [
        ("parse_config", "name"),
        ("load", "name"),
        ("Config.load", "name"),
        ("std::vec::Vec", "name"),
        ("HTTPServer handle_request", "name"),
        ("open()", "name"),
        ("operator->", "keywords"),
        ("json parser", "keywords"),
        ("binary search tree insert", "keywords"),
        ("parse the config", "sentence"),
        ("how to read a file", "sentence"),
        ("retry backoff?", "sentence"),
        ("quick sort merge sort heap sort bubble sort", "sentence"),
        ("", "keywords"),
        ("   ", "keywords"),
        ("данные", "keywords"),
    ],
)
def test_kind_of(query: str, expect: str) -> None:
    assert kind_of(query) == expect


@pytest.mark.parametrize(
    ("words", "cosines", "weight", "expect"),
    [
        ([(1, 9.0), (2, 1.0)], {}, 0.5, [1, 2]),
        ([], {3: 0.2, 4: 0.9}, 0.5, [4, 3]),
        ([], {}, 0.5, []),
        ([(1, 9.0), (2, 1.0)], {2: 0.9, 1: 0.1}, 0.0, [2, 1]),
        ([(1, 9.0), (2, 1.0)], {2: 0.9, 1: 0.1}, 9.0, [1, 2]),
        ([(1, 9.0), (2, 4.5)], {1: 0.50, 2: 0.59, 3: 0.61}, 0.2, [1, 2, 3]),  # 0.70, 0.69, 0.61
        ([(1, 9.0), (2, 4.5)], {1: 0.50, 2: 0.61, 3: 0.65}, 0.2, [2, 1, 3]),  # 0.71, 0.70, 0.65
        ([(1, 5.0), (2, 5.0)], {2: 0.5, 1: 0.5}, 0.5, [1, 2]),  # nothing tells them apart: by id
        ([(1, 9.0), (2, 8.9), (3, 1.0)], {1: 0.6, 3: 0.2}, 0.2, [1, 2, 3]),  # 2 has no vector yet: 0.4 and its words
    ],
)
def test_fuse(words: list[tuple[int, float]], cosines: dict[int, float], weight: float, expect: list[int]) -> None:
    assert [unit for unit, _ in fuse(words, cosines, weight)] == expect


def test_what_every_candidate_has_is_worth_nothing() -> None:
    crowd = [(unit, 2.0) for unit in range(2, 2 + FLOOR_RANK)]
    fused = dict(fuse([(1, 4.0), *crowd], dict.fromkeys(range(1, 2 + FLOOR_RANK), 0.5), 0.2))
    assert fused[1] == pytest.approx(0.6)  # half of its words stand out
    assert {fused[unit] for unit, _ in crowd} == {0.5}


rankings = st.dictionaries(st.integers(1, 99), st.floats(0.01, 100), max_size=70).map(
    lambda scores: sorted(scores.items(), key=lambda hit: -hit[1])
)
cosine_maps = st.dictionaries(st.integers(1, 99), st.floats(-1, 1), max_size=30)


@given(rankings, cosine_maps, st.floats(0, 1))
def test_every_candidate_is_ranked_once_and_scores_fall(
    words: list[tuple[int, float]], cosines: dict[int, float], weight: float
) -> None:
    fused = fuse(words, cosines, weight)
    assert sorted(unit for unit, _ in fused) == sorted({unit for unit, _ in words} | cosines.keys())
    assert all(a[1] >= b[1] for a, b in pairwise(fused))
    assert all(score >= cosines[unit] for unit, score in fused if unit in cosines)  # words only ever add
    assert all(score <= cosines[unit] + weight + 1e-9 for unit, score in fused if unit in cosines)


@given(rankings, cosine_maps, st.floats(0, 1), st.floats(0.5, 50))
def test_the_scale_of_word_scores_does_not_matter(
    words: list[tuple[int, float]], cosines: dict[int, float], weight: float, factor: float
) -> None:
    scaled = [(unit, score * factor) for unit, score in words]
    assert dict(fuse(words, cosines, weight)) == pytest.approx(dict(fuse(scaled, cosines, weight)))


def test_prefer_puts_the_chosen_first_and_keeps_both_orders() -> None:
    ranking = [(1, 5.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    ranked = prefer(ranking, frozenset({4, 2}))
    assert [unit for unit, _ in ranked] == [2, 4, 1, 3]
    assert all(a[1] >= b[1] for a, b in pairwise(ranked))
    assert prefer(ranking, frozenset()) == ranking
    assert prefer([], frozenset({1})) == []
