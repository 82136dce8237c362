"""Similar code, and families of it.

Terms: a *sample* is what is compared: a unit of the index, or code that was handed in; its *cosine* with another is the
model's word, their *similarity* the calibrated one (calibration.py), and thresholds apply to that.

What two samples are to each other, in this order:

    exact     the same normalised text
    renamed   the same text once identifiers and literals are abstracted
    near      many of the same pairs of neighbouring words
    semantic  the rest: alike by meaning only, another language for instance

`similar` is a range search: everything above the threshold, not the best few. `families` joins all pairs of a workspace
above the threshold. A unit is no match of itself, nor of what it contains or is contained in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.search.calibration import OVERLAP, curve_for, likeness_for, similarity_of
from codegraphd.daemon.search.units import PART, Describer, Index
from codegraphd.store.records import LANGUAGES, FileRecord, Module, Unit, UnitRecord, Where, Words, digest

Vector = npt.NDArray[np.float32]
Type = Literal["exact", "renamed", "near", "semantic"]

NEAR_OVERLAP = 0.28  # `overlap` from which on two samples are near; tells 89% of near from functional clones
RESCUED_OVERLAP = 0.5  # a range search reaches so far down that a clone with this overlap is not missed
RENAMED_FLOOR = 0.97  # similarity of renamed clones that are long enough to be no accident
RENAMED_WORDS = 12  # words in a body of that length
FINGERPRINT_COSINE = 0.6  # renamed clones are looked for down to here
PROSE = frozenset({"markdown", "text"})
LOOSE_KINDS = frozenset({PART, "file"})
CONTAINERS = frozenset({"class", "struct", "enum", "interface", "trait", "impl", "module", "namespace"})
MAX_UNITS = 50_000  # of a workspace that families are looked for among
MAX_PAIRS = 400_000
_ROWS, _COLUMNS = 1024, 4096  # of one block of cosines: 16 MB


class Reader(Index, Protocol):
    def files(self, root: int, prefix: str = "") -> Iterator[FileRecord]: ...
    def attached(self, id: int) -> Any: ...
    def words(self, id: int) -> Words | None: ...


class RangeSearch(Protocol):
    def within(self, vector: Any, cosine: float, where: Where) -> list[tuple[int, float]]: ...


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
class Range:
    """What is asked for. None: no restriction."""

    threshold: float = 0.85  # similarity
    limit: int | None = None
    roots: frozenset[int] | None = None
    languages: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    similarity: float  # 0 to 1, calibrated
    cosine: float | None  # None: one of them has no vector
    type: Type


def sample_of_unit(index: Reader, unit: UnitRecord) -> Sample:
    """A unit of the index; a container is read with all that is in it."""
    group = [unit]
    if unit.unit.kind in CONTAINERS and (file := index.file_by_id(unit.file)) is not None:
        group += [other for other in index.units_of(file) if other.id != unit.id and _is_inside(other.unit, unit.unit)]
    vectors = [vector for one in group if (vector := index.attached(one.id)) is not None]
    words = [words.body for one in group if (words := index.words(one.id)) is not None]
    return _sample(unit.language, _mean(vectors), [one.unit for one in group], words, unit)


def sample_of_code(module: Module, vector: Vector | None) -> Sample:
    """Code that is no part of the index, parsed; `vector` is that of `text_of_code`."""
    chosen = [(u, w) for u, w in zip(module.units, module.words, strict=True) if u.kind != PART]
    return _sample(module.language, vector, [u for u, _ in chosen], [w.body for _, w in chosen], None)


def text_of_code(module: Module, texts: Sequence[str], code: str) -> str:
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
    common = sum(min(n, many.get(pair, 0)) for pair, n in few.items())
    every = max(len(a.words) - 1, 0) + max(len(b.words) - 1, 0) - common
    return common / every if every else 0.0


# --- one against all -------------------------------------------------------------------------------------------------


def similar(index: Reader, vectors: RangeSearch, sample: Sample, asked: Range, model: str) -> list[dict[str, Any]]:
    """Unit maps with `similarity`, `cosine` and `type`, most similar first.

    A sample without a vector (it still waits for the model, or there is none) is matched by its fingerprints alone,
    over all units: 30 µs a unit.
    """
    where = Where(asked.roots, asked.languages)
    found: Iterable[tuple[int, float | None]]
    if sample.vector is not None:
        reach = min(*_reach(asked.threshold, model), FINGERPRINT_COSINE)
        found = vectors.within(sample.vector, reach, where)
    else:
        found = _by_fingerprint(index, sample, asked)
    matches = []
    for unit_id, cosine in found:
        unit = index.unit(unit_id)
        if unit is None or not _may_match(sample, unit, asked):
            continue
        same = unit.unit.own in sample.heads or unit.unit.shape in sample.heads
        curve = curve_for(model, one_language=unit.language == sample.language)
        if not same and similarity_of((cosine or 0.0) + OVERLAP * RESCUED_OVERLAP, curve) < asked.threshold:
            continue  # before its words are read
        verdict = compare(sample, sample_of_unit(index, unit), model)
        if verdict.similarity >= asked.threshold:
            matches.append((unit, verdict))
    matches.sort(key=lambda match: (-match[1].similarity, -(match[1].cosine or 0.0), match[0].path))
    describer = Describer(index)
    return [{**describer.unit(unit), **_figures(verdict)} for unit, verdict in matches[: asked.limit]]


def _reach(threshold: float, model: str) -> tuple[float, float]:
    """The least cosine at which a pair can have this similarity with as much overlap as RESCUED_OVERLAP: in one
    language, and in two."""
    same, other = (likeness_for(threshold, curve_for(model, one_language=one)) for one in (True, False))
    return same - OVERLAP * RESCUED_OVERLAP, other - OVERLAP * RESCUED_OVERLAP


def _figures(verdict: Comparison) -> dict[str, Any]:
    cosine = None if verdict.cosine is None else round(verdict.cosine, 4)
    return {"similarity": round(verdict.similarity, 4), "cosine": cosine, "type": verdict.type}


def _may_match(sample: Sample, unit: UnitRecord, asked: Range) -> bool:
    if unit.unit.kind in LOOSE_KINDS:
        return False
    if asked.languages is None and (unit.language in PROSE) != (sample.language in PROSE):
        return False  # prose about code is no clone of it
    return sample.unit is None or not _nested(sample.unit, unit)


def _nested(a: UnitRecord, b: UnitRecord) -> bool:
    """Whether one is the other, or lies in it."""
    if a.id == b.id:
        return True
    if a.file != b.file:
        return False
    return _is_inside(a.unit, b.unit) or _is_inside(b.unit, a.unit)


def _is_inside(inner: Unit, outer: Unit) -> bool:
    return outer.start_byte <= inner.start_byte and inner.end_byte <= outer.end_byte and inner.kind != PART


def _by_fingerprint(index: Reader, sample: Sample, asked: Range) -> Iterator[tuple[int, None]]:
    for root in index.roots():
        if asked.roots is not None and root.id not in asked.roots:
            continue
        for file in index.files(root.id):
            if asked.languages is not None and file.language not in asked.languages:
                continue
            for unit in index.units_of(file):
                if unit.unit.own in sample.heads or unit.unit.shape in sample.heads:
                    yield unit.id, None


# --- all against all -------------------------------------------------------------------------------------------------


def families(
    index: Reader,
    root: int,
    model: str,
    *,
    threshold: float = 0.9,
    min_lines: int = 5,
    languages: frozenset[str] | None = None,
    limit: int | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """`families`, those with most lines to save first, and `truncated`: whether a bound cut the search short.

    A family has `members` (unit maps), `type` (the loosest that joins it), `similarity` (the least of the pairs that
    join it) and `lines` (of all members but the longest). `expired` is asked between blocks, of about 20 ms each.
    """
    units, truncated = _candidates(index, root, min_lines, languages)
    matrix = _matrix(index, units)
    pairs = set(_equal_pairs(units))
    languages_of = np.array([LANGUAGES.index(unit.language) for unit in units], np.int8)
    for pair in _close_pairs(matrix, languages_of, _reach(threshold, model)):
        pairs.add(pair)
        if len(pairs) >= MAX_PAIRS or expired():
            truncated = True
            break
    samples: dict[int, Sample] = {}

    def sample(place: int) -> Sample:
        if place not in samples:
            samples[place] = sample_of_unit(index, units[place])
        return samples[place]

    joined: dict[tuple[int, int], Comparison] = {}
    for a, b in sorted(pairs):
        if not _nested(units[a], units[b]):
            verdict = compare(sample(a), sample(b), model)
            if verdict.similarity >= threshold:
                joined[a, b] = verdict
    groups = _without_nested(units, _connected(joined))
    describer = Describer(index)
    found = [_family(units, members, verdicts, describer) for members, verdicts in groups]
    found.sort(key=lambda family: (-family["lines"], family["members"][0]["path"]))
    return {"families": found[:limit], "truncated": truncated}


def _candidates(
    index: Reader, root: int, min_lines: int, languages: frozenset[str] | None
) -> tuple[list[UnitRecord], bool]:
    units: list[UnitRecord] = []
    for file in index.files(root):
        if file.language not in languages if languages is not None else file.language in PROSE:
            continue
        for unit in index.units_of(file):
            if unit.unit.kind not in LOOSE_KINDS and unit.unit.end_line - unit.unit.start_line + 1 >= min_lines:
                if len(units) == MAX_UNITS:
                    return units, True
                units.append(unit)
    return units, False


def _matrix(index: Reader, units: Sequence[UnitRecord]) -> npt.NDArray[np.float16]:
    """float16[units, dim]; rows of units that have no vector are zero, and so near to nothing."""
    rows = [index.attached(unit.id) for unit in units]
    dim = max((len(row) for row in rows if row is not None), default=1)
    matrix = np.zeros((len(units), dim), np.float16)
    for place, row in enumerate(rows):
        if row is not None and len(row) == dim:
            matrix[place] = row
    return matrix


def _close_pairs(
    matrix: npt.NDArray[np.float16], languages: npt.NDArray[np.int8], reach: tuple[float, float]
) -> Iterator[tuple[int, int]]:
    """(a, b) of all rows a < b with at least this cosine (in one language, in two), by blocks of the upper triangle."""
    same, other = (max(cosine, 0.01) for cosine in reach)  # rows without a vector have cosine 0
    n = len(matrix)
    for top in range(0, n, _ROWS):
        rows = matrix[top : top + _ROWS].astype(np.float32)
        for left in range(top, n, _COLUMNS):
            cosines = rows @ matrix[left : left + _COLUMNS].astype(np.float32).T
            found = cosines >= min(same, other)
            if same != other:
                one = languages[top : top + _ROWS, None] == languages[None, left : left + _COLUMNS]
                found &= cosines >= np.where(one, np.float32(same), np.float32(other))
            for a, b in zip(*np.nonzero(found), strict=True):
                if top + a < left + b:
                    yield int(top + a), int(left + b)


def _equal_pairs(units: Sequence[UnitRecord]) -> Iterator[tuple[int, int]]:
    """Chains of units with equal fingerprints: they are joined without a vector, too."""
    for fingerprint in ("own", "shape"):
        last: dict[tuple[str, bytes], int] = {}
        for place, unit in enumerate(units):
            key = (unit.language, getattr(unit.unit, fingerprint))
            if key in last:
                yield last[key], place
            last[key] = place


def _connected(pairs: dict[tuple[int, int], Comparison]) -> list[tuple[list[int], list[Comparison]]]:
    """The connected groups of places, each with the verdicts inside it."""
    parent: dict[int, int] = {}

    def top(place: int) -> int:
        while (above := parent.setdefault(place, place)) != place:
            parent[place] = place = parent[above]
        return place

    for a, b in pairs:
        parent[top(a)] = top(b)
    members: dict[int, list[int]] = defaultdict(list)
    verdicts: dict[int, list[Comparison]] = defaultdict(list)
    for place in list(parent):
        members[top(place)].append(place)
    for (a, _), verdict in pairs.items():
        verdicts[top(a)].append(verdict)
    return [(sorted(places), verdicts[head]) for head, places in members.items()]


def _without_nested(
    units: Sequence[UnitRecord], groups: list[tuple[list[int], list[Comparison]]]
) -> list[tuple[list[int], list[Comparison]]]:
    """Without families that another one implies: the methods of two cloned classes are clones, of course."""
    group_of = {units[place].id: head for head, (places, _) in enumerate(groups) for place in places}

    def implied(places: list[int], head: int) -> bool:
        above = {(group_of.get(units[place].parent), units[place].parent) for place in places}
        outer = {group for group, _ in above}
        return len(outer) == 1 and outer not in ({None}, {head}) and len(above) == len(places)

    return [group for head, group in enumerate(groups) if not implied(group[0], head)]


_LOOSENESS: dict[Type, int] = {"exact": 0, "renamed": 1, "near": 2, "semantic": 3}


def _family(
    units: Sequence[UnitRecord], members: list[int], verdicts: list[Comparison], describer: Describer
) -> dict[str, Any]:
    lines = sorted(units[place].unit.end_line - units[place].unit.start_line + 1 for place in members)
    return {
        "members": [describer.unit(units[place]) for place in members],
        "type": max((verdict.type for verdict in verdicts), key=_LOOSENESS.__getitem__),
        "similarity": round(min(verdict.similarity for verdict in verdicts), 4),
        "lines": sum(lines[:-1]),
    }
