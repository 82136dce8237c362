"""Two rankings into one: pure numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.search.fusion import fuse, kind_of, prefer, reciprocal, standardised


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
    ("words", "meaning", "weight", "expect"),
    [
        ([(1, 9.0), (2, 1.0)], [], 0.5, [1, 2]),
        ([], [(3, 0.2), (4, 0.9)], 0.5, [4, 3]),
        ([], [], 0.5, []),
        ([(1, 9.0), (2, 1.0)], [(2, 0.9), (1, 0.1)], 1.0, [2, 1]),
        ([(1, 9.0), (2, 1.0)], [(2, 0.9), (1, 0.1)], 0.0, [1, 2]),
        ([(1, 5.0), (2, 5.0)], [(2, 0.5), (1, 0.5)], 0.5, [1, 2]),  # nothing tells them apart: by id
        # found by both, second on each side, against the firsts of one side
        ([(1, 9.0), (5, 8.9), (2, 1.0)], [(3, 0.9), (5, 0.89), (4, 0.1)], 0.5, [5, 1, 3, 2, 4]),
    ],
)
def test_fuse(
    words: list[tuple[int, float]], meaning: list[tuple[int, float]], weight: float, expect: list[int]
) -> None:
    assert [unit for unit, _ in fuse(words, meaning, weight)] == expect


rankings = st.dictionaries(st.integers(1, 30), st.floats(0, 100), max_size=12).map(
    lambda scores: sorted(scores.items(), key=lambda hit: -hit[1])
)


@given(rankings, rankings, st.floats(0, 1))
def test_every_candidate_is_ranked_once_and_scores_fall(
    words: list[tuple[int, float]], meaning: list[tuple[int, float]], weight: float
) -> None:
    fused = fuse(words, meaning, weight)
    assert sorted(unit for unit, _ in fused) == sorted({unit for unit, _ in words} | {unit for unit, _ in meaning})
    assert all(a[1] >= b[1] for a, b in pairwise(fused))


@given(rankings, rankings, st.floats(0, 1), st.floats(0.5, 50), st.floats(-9, 9))
def test_the_scale_of_a_side_does_not_matter(
    words: list[tuple[int, float]],
    meaning: list[tuple[int, float]],
    weight: float,
    factor: float,
    shift: float,
) -> None:
    scaled = [(unit, round(score * factor + shift, 9)) for unit, score in words]
    one, other = (dict(fuse(side, meaning, weight)) for side in (words, scaled))
    if meaning and words:
        assert one == pytest.approx(other, abs=1e-3)


def test_standardised_has_mean_0_and_deviation_1() -> None:
    values = list(standardised([(1, 4.0), (2, 8.0), (3, 0.0)]).values())
    assert sum(values) == pytest.approx(0.0)
    assert sum(value * value for value in values) / 3 == pytest.approx(1.0)
    assert standardised([(1, 4.0), (2, 4.0)]) == {1: 0.0, 2: 0.0}


def test_prefer_puts_the_chosen_first_and_keeps_both_orders() -> None:
    ranking = [(1, 5.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    ranked = prefer(ranking, frozenset({4, 2}))
    assert [unit for unit, _ in ranked] == [2, 4, 1, 3]
    assert all(a[1] >= b[1] for a, b in pairwise(ranked))
    assert prefer(ranking, frozenset()) == ranking
    assert prefer([], frozenset({1})) == []


def test_reciprocal() -> None:
    words, meaning = [(1, 0.0), (2, 0.0)], [(2, 0.0), (3, 0.0)]
    assert reciprocal([(words, 1.0), (meaning, 1.0)], 10) == [
        (2, pytest.approx(1 / 12 + 1 / 11)),
        (1, pytest.approx(1 / 11)),
        (3, pytest.approx(1 / 12)),
    ]
    assert [unit for unit, _ in reciprocal([(words, 1.0), (meaning, 0.0)], 10)][:2] == [1, 2]
