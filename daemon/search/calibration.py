"""From a model's cosine to a similarity that means the same for every model.

Provisional figures stand here until the table in this docstring says otherwise.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

# (cosine, similarity) anchors, both rising; linear between them, the ends as they are.
Curve = Sequence[tuple[float, float]]

SAME: Mapping[str, Curve] = {"": ((-1.0, 0.0), (0.0, 0.0), (0.5, 0.5), (0.75, 0.85), (0.9, 0.95), (1.0, 1.0))}
OTHER: Mapping[str, Curve] = {"": ((-1.0, 0.0), (0.0, 0.0), (0.5, 0.5), (0.75, 0.85), (0.9, 0.95), (1.0, 1.0))}


def curve_for(model: str, *, one_language: bool) -> Curve:
    """The curve of a model by name; that of the default model for one that was never measured."""
    curves = SAME if one_language else OTHER
    return curves.get(model, curves[""])


def similarity_of(cosine: float, curve: Curve) -> float:
    """0 to 1, never falling in `cosine`."""
    place = bisect_right(curve, (cosine, 2.0))
    if place == 0:
        return curve[0][1]
    if place == len(curve):
        return curve[-1][1]
    (x0, y0), (x1, y1) = curve[place - 1], curve[place]
    return y0 + (y1 - y0) * (cosine - x0) / (x1 - x0)


def cosine_for(similarity: float, curve: Curve) -> float:
    """The least cosine that has at least this similarity: what a range search asks for."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if y1 >= similarity:
            return x0 if y0 >= similarity or y1 == y0 else x0 + (x1 - x0) * (similarity - y0) / (y1 - y0)
    return curve[-1][0]
