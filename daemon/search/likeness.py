"""Two pieces of code beside each other: what is compared of each, and what they are to one another.

Terms: a *sample* is what is compared: a unit of the index, or code that was handed in; its *cosine* with another is the
model's word, their *similarity* the calibrated one (calibration.py), and thresholds apply to that.

What two samples are to each other, in this order:

    exact     the same normalised text
    renamed   the same text once identifiers and literals are abstracted
    near      many of the same pairs of neighbouring words
    semantic  the rest: alike by meaning only, another language for instance
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.search.calibration import OVERLAP, curve_for, similarity_of
from codegraphd.daemon.search.units import PART, Index
from codegraphd.store.codec import decode_words
from codegraphd.store.records import PackedModule, Unit, UnitRecord, Words, digest

Vector = npt.NDArray[np.float32]
Type = Literal["exact", "renamed", "near", "semantic"]

NEAR_OVERLAP = 0.28  # `overlap` from which on two samples are near; tells 89% of near from functional clones
RENAMED_FLOOR = 0.97  # similarity of renamed clones that are long enough to be no accident
RENAMED_WORDS = 12  # words in a body of that length
CONTAINERS = frozenset({"class", "struct", "enum", "interface", "trait", "impl", "module", "namespace"})


class Reader(Index, Protocol):
    def attached(self, id: int) -> Any: ...
    def words(self, id: int) -> Words | None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One side of a comparison. Digests are b"" where they are not known.

    A container (a class, say) stands for all that is in it: its own text shows only the signatures of its methods, so
    its digests are those of the whole subtree, and its vector is the mean of the subtree's.
    """

    language: str
    vector: Vector | None  # float32[dim], unit length
    own: bytes = b""
    code: bytes = b""  # as `own`, the first line of the doc left out
    shape: bytes = b""
    heads: frozenset[bytes] = frozenset()  # fingerprints of each unit for itself: who has none of them is not equal
    words: tuple[str, ...] = ()  # in order, as the word index has them
    pairs: Mapping[tuple[str, str], int] = field(default_factory=dict)  # of neighbouring words -> how often
    unit: UnitRecord | None = None  # set for a unit of the index


@dataclass(frozen=True, slots=True)
class Comparison:
    similarity: float  # 0 to 1, calibrated
    cosine: float | None  # None: one of them has no vector
    type: Type


def sample_of_unit(
    index: Reader, unit: UnitRecord, units_of: Callable[[int], Sequence[UnitRecord]] | None = None
) -> Sample:
    """A unit of the index; a container is read with all that is in it. `units_of` reads the units of a file by its id
    (the caller may cache)."""
    group = [unit]
    if unit.unit.kind in CONTAINERS:
        units = units_of(unit.file) if units_of else units_of_file(index, unit.file)
        group += [other for other in units if other.id != unit.id and is_inside(other.unit, unit.unit)]
    vectors = [vector for one in group if (vector := index.attached(one.id)) is not None]
    words = [words.body for one in group if (words := index.words(one.id)) is not None]
    return _sample(unit.language, _mean(vectors), [one.unit for one in group], words, unit)


def units_of_file(index: Reader, file_id: int) -> Sequence[UnitRecord]:
    """In their order; none where there is no such file."""
    file = index.file_by_id(file_id)
    return index.units_of(file) if file is not None else ()


def sample_of_code(module: PackedModule, vector: Vector | None) -> Sample:
    """Code that is no part of the index, parsed; `vector` is that of `text_of_code`."""
    chosen = [(u, row) for u, row in zip(module.units, module.words, strict=True) if u.kind != PART]
    return _sample(module.language, vector, [u for u, _ in chosen], [decode_words(row).body for _, row in chosen], None)


def text_of_code(module: PackedModule, texts: Sequence[str], code: str) -> str:
    """What the model is to read of code that is no part of the index: the own texts of all its units, in order, since
    that of a container lacks the bodies; the code itself where no unit was found in it."""
    chosen = [text for unit, text in zip(module.units, texts, strict=True) if unit.kind != PART]
    return "\n".join(chosen) or code


def _sample(
    language: str, vector: Vector | None, units: Sequence[Unit], words: Sequence[str], unit: UnitRecord | None
) -> Sample:
    def combined(digests: list[bytes]) -> bytes:
        return digests[0] if len(digests) == 1 else digest(*digests) if digests else b""

    in_order = tuple(" ".join(words).split())
    return Sample(
        language,
        vector,
        own=combined([u.own for u in units]),
        code=combined([digest(u.signature, *u.decorators, u.body) for u in units]),
        shape=combined([u.shape for u in units]),
        heads=frozenset(fingerprint for u in units for fingerprint in (u.own, u.shape)),
        words=in_order,
        pairs=Counter(pairwise(in_order)),
        unit=unit,
    )


def _mean(vectors: Sequence[Vector]) -> Vector | None:
    if not vectors or len({len(vector) for vector in vectors}) > 1:
        return None
    total: Vector = np.sum(vectors, axis=0, dtype=np.float32)
    norm = float(np.sqrt(total @ total))
    return total / np.float32(norm) if norm else None


def compare(a: Sample, b: Sample, model: str) -> Comparison:
    """`model` is the name of the model that made the vectors."""
    cosine = None
    if a.vector is not None and b.vector is not None and len(a.vector) == len(b.vector):
        cosine = float(a.vector @ b.vector)
    one_language = a.language == b.language
    common = overlap(a, b)
    similarity = 0.0
    if cosine is not None:
        similarity = similarity_of(cosine + OVERLAP * common, curve_for(model, one_language=one_language))
    if (a.own and a.own == b.own) or (a.code and a.code == b.code):
        return Comparison(1.0, cosine, "exact")
    if a.shape and a.shape == b.shape and one_language:
        is_long = min(len(a.words), len(b.words)) >= RENAMED_WORDS
        return Comparison(max(similarity, RENAMED_FLOOR) if is_long else similarity, cosine, "renamed")
    similarity = min(similarity, 0.999)  # 1 is kept for equal text
    return Comparison(similarity, cosine, "near" if one_language and common >= NEAR_OVERLAP else "semantic")


def overlap(a: Sample, b: Sample) -> float:
    """Jaccard of the pairs of neighbouring words, repeats counted; 0 to 1."""
    few, many = sorted((a.pairs, b.pairs), key=len)
    common = sum(min(few[pair], many[pair]) for pair in few.keys() & many.keys())
    every = max(len(a.words) - 1, 0) + max(len(b.words) - 1, 0) - common
    return common / every if every else 0.0


def is_inside(inner: Unit, outer: Unit) -> bool:
    """Whether a unit lies in another one of the same file, or is it; parts lie in nothing."""
    return outer.start_byte <= inner.start_byte and inner.end_byte <= outer.end_byte and inner.kind != PART
