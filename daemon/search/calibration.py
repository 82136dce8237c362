"""From likeness, a model's own scale, to similarity, which means the same for every model.

The *likeness* of two pieces of code is the cosine of their vectors plus OVERLAP times the share of word pairs that they
have in common (`clones.overlap`): the model knows what code is about, and misses what a few equal names and a few
changed lines tell. -1 to 1.3.

*Similarity* s, 0 to 1: of pairs of code, in equal parts clones and hard non-clones (other tasks, but close in words),
that have at least this similarity, a share s are clones. Below 0.55 that share says nothing, and the curve falls to 0.
Texts that are equal are 1 by rule and took no part. Two languages have a curve of their own: the model puts
translations further apart than rewritings.

Measured with all-MiniLM-L6-v2 at 128 tokens on 2,854 pairs in one language (near and functional clones) and 1,933 in
two. Best F1 by cosine alone and by likeness: near 0.901, 0.938; functional 0.726, 0.728; two languages 0.753, 0.756.
Provisional for every other model, which has the same curves until it is measured (`python -m bench --eval`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

OVERLAP = 0.3

# (likeness, similarity) anchors, both rising; linear between them, the ends as they are.
Curve = Sequence[tuple[float, float]]

SAME: Mapping[str, Curve] = {
    "": (
        (-1.0, 0.0), (0.0, 0.05), (0.4, 0.4), (0.537, 0.55), (0.625, 0.6), (0.685, 0.65), (0.738, 0.7), (0.781, 0.75),
        (0.816, 0.8), (0.86, 0.85), (0.903, 0.9), (0.947, 0.95), (1.005, 0.99), (1.3, 1.0),
    )
}  # fmt: skip
OTHER: Mapping[str, Curve] = {
    "": (
        (-1.0, 0.0), (0.0, 0.2), (0.1, 0.4), (0.24, 0.55), (0.321, 0.6), (0.408, 0.65), (0.486, 0.7), (0.561, 0.75),
        (0.671, 0.8), (0.73, 0.85), (0.763, 0.9), (0.807, 0.95), (0.935, 0.99), (1.3, 1.0),
    )
}  # fmt: skip


def curve_for(model: str, *, one_language: bool) -> Curve:
    """The curve of a model by name; that of the default model for one that was never measured."""
    curves = SAME if one_language else OTHER
    return curves.get(model, curves[""])


def similarity_of(likeness: float, curve: Curve) -> float:
    """0 to 1, never falling in `likeness`."""
    place = bisect_right(curve, (likeness, 2.0))
    if place == 0:
        return curve[0][1]
    if place == len(curve):
        return curve[-1][1]
    (x0, y0), (x1, y1) = curve[place - 1], curve[place]
    return y0 + (y1 - y0) * (likeness - x0) / (x1 - x0)


def likeness_for(similarity: float, curve: Curve) -> float:
    """The least likeness that has at least this similarity."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 >= similarity:
            return x0 if y0 >= similarity else x0 + (x1 - x0) * (similarity - y0) / (y1 - y0)
    return curve[-1][0]
