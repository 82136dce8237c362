"""Two rankings into one: what the word index found and what the vectors found.

Pure numbers. Both scores are put on one scale by their spread over the candidates of this very question (z-scores), and
added with weights that depend on the kind of question; reciprocal ranks are kept beside it for comparison.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

Kind = Literal["name", "keywords", "sentence"]
Ranking = Sequence[tuple[int, float]]  # (unit id, score), best first

# The weight of meaning; words have the rest.
MEANING: Mapping[Kind, float] = {"name": 0.3, "keywords": 0.6, "sentence": 0.7}

_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|::|->|#|/)[A-Za-z_$~][\w$]*)*(?:\(\))?")
_CODE_LIKE = re.compile(r"_|[a-z][A-Z]|[A-Z]{2}[a-z]|::|->|\(\)|\w\.\w|\d")
_SMALL_WORD = re.compile(
    r"\b(?:an?|the|of|to|in|on|for|with|from|into|by|is|are|be|does|do|how|what|where|which|when|why|who|that|this|"
    r"its?|all|and|or|if|not)\b",
    re.IGNORECASE,
)


def kind_of(query: str) -> Kind:
    """A name is one word, or several that all look like code; a sentence has the small words of one, or is long."""
    words = query.split()
    if len(words) == 1 and _NAME.fullmatch(query.strip()):
        return "name"
    if words and all(_NAME.fullmatch(word) and _CODE_LIKE.search(word) for word in words):
        return "name"
    return "sentence" if len(words) > 6 or query.rstrip().endswith("?") or _SMALL_WORD.search(query) else "keywords"


def fuse(words: Ranking, meaning: Ranking, weight: float) -> list[tuple[int, float]]:
    """(unit id, score), best first. `weight`, 0 to 1, is that of meaning.

    A unit that one side did not find has the least score that this side found, which is the most it can have had. The
    scores are mean z-scores: 0 is an average candidate, 3 an outstanding one.
    """
    if not words or not meaning:
        return [(unit, score) for unit, score in sorted(words or meaning, key=_best_first)]
    by_word, by_meaning = standardised(words), standardised(meaning)
    least_word, least_meaning = min(by_word.values()), min(by_meaning.values())
    fused = [
        (unit, (1 - weight) * by_word.get(unit, least_word) + weight * by_meaning.get(unit, least_meaning))
        for unit in by_word.keys() | by_meaning.keys()
    ]
    fused.sort(key=_best_first)
    return fused


def prefer(ranking: Ranking, chosen: frozenset[int]) -> list[tuple[int, float]]:
    """The chosen ones first, each group in its order; their scores are raised so that scores still fall."""
    if not chosen or not ranking:
        return list(ranking)
    lift = ranking[0][1] - ranking[-1][1]
    return sorted(((u, s + lift if u in chosen else s) for u, s in ranking), key=lambda item: item[0] not in chosen)


def reciprocal(rankings: Sequence[tuple[Ranking, float]], k: float = 10.0) -> list[tuple[int, float]]:
    """Reciprocal rank fusion of (ranking, weight)s: the sum of weight / (k + rank)."""
    scores: dict[int, float] = {}
    for ranking, weight in rankings:
        for rank, (unit, _) in enumerate(ranking, 1):
            scores[unit] = scores.get(unit, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=_best_first)


def standardised(ranking: Ranking) -> dict[int, float]:
    """Scores as distances from their mean in standard deviations; all 0 where they do not differ."""
    n = len(ranking)
    mean = sum(score for _, score in ranking) / n
    deviation = math.sqrt(sum((score - mean) ** 2 for _, score in ranking) / n)
    if deviation < 1e-9:
        return {unit: 0.0 for unit, _ in ranking}
    return {unit: (score - mean) / deviation for unit, score in ranking}


def _best_first(item: tuple[int, float]) -> tuple[float, int]:
    return (-item[1], item[0])
