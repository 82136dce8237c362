"""Two rankings into one: what the word index found and what the vectors found.

Pure numbers. A candidate's score is its cosine plus a bonus for its words: how far its word score stands out of the
crowd's (the FLOOR_RANK-th one's), as a share of the best one's, times a weight that depends on the kind of question.
The cosine is the better judge of a sentence, and words must not be able to outvote it by being merely present: that is
what ranks, and scores standardised over the candidates, let them do.

Measured: MRR@10 with MiniLM at 128 tokens, word scores as the index gave them at the time (three fields) | with one
field of stemmed words. cosqa: 422 real web queries; docstring: 394 first sentences of docs, without the doc in the
code; task: 379 statements of exercises in eight languages.

                                    cosqa         docstring     task          mean
    words alone                     0.301 0.464   0.482 0.602   0.601 0.709   0.462 0.592
    meaning alone                   0.628         0.549         0.796         0.658
    reciprocal ranks, k=10          0.498         0.585         0.771         0.618
    z-scores, meaning 0.7           0.623 0.646   0.598 0.627   0.820 0.831   0.680 0.701
    cosine + 0.1 of the best        0.633 0.641   0.602 0.607   0.821 0.833   0.685 0.693
    this, weight 0.15               0.624 0.649   0.601 0.628   0.818 0.831   0.681 0.703
    this, weight 0.2                0.618 0.649   0.602 0.639   0.819 0.836   0.680 0.708
    this, weight 0.3                0.593 0.641   0.603 0.656   0.813 0.833   0.670 0.710

Neither the number of words in a query nor whether it is a sentence moved the best weight beyond the noise (0.02). That
of names is not measured: labelled data has none; there the very name goes first in any case (`prefer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

Kind = Literal["name", "keywords", "sentence"]
Ranking = Sequence[tuple[int, float]]  # (unit id, score), best first

FLOOR_RANK = 50  # the word score of this rank is what mere presence is worth
WORDS: Mapping[Kind, float] = {"name": 0.6, "keywords": 0.2, "sentence": 0.2}  # what words can add to a cosine

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


def fuse(words: Ranking, cosines: Mapping[int, float], weight: float) -> list[tuple[int, float]]:
    """(unit id, score) of every candidate of either side, best first.

    `words` is best first, its scores above 0; `cosines` should cover them. A candidate without a cosine (it still waits
    for the model) is given the mean one of those that words found, so that a unit that was just saved is not last.
    """
    if not words:
        return sorted(cosines.items(), key=_best_first)
    best = words[0][1]
    floor = words[FLOOR_RANK - 1][1] if len(words) >= FLOOR_RANK else 0.0
    bonus = {unit: weight * max(score - floor, 0.0) / best for unit, score in words}
    known = [cosines[unit] for unit, _ in words if unit in cosines]
    typical = sum(known) / len(known) if known else 0.0
    fused = [(unit, cosines.get(unit, typical) + bonus.get(unit, 0.0)) for unit in cosines.keys() | bonus.keys()]
    fused.sort(key=_best_first)
    return fused


def prefer(ranking: Ranking, chosen: frozenset[int]) -> list[tuple[int, float]]:
    """The chosen ones first, each group in its order; their scores are raised so that scores still fall."""
    if not chosen or not ranking:
        return list(ranking)
    lift = ranking[0][1] - ranking[-1][1]
    return sorted(((u, s + lift if u in chosen else s) for u, s in ranking), key=lambda item: item[0] not in chosen)


def _best_first(item: tuple[int, float]) -> tuple[float, int]:
    return (-item[1], item[0])
