"""Similar code, and families of it.

Terms: a *sample* is what is compared: a unit of the index, or code that was handed in; its *cosine* with another is the
model's word, their *similarity* the calibrated one (calibration.py), and thresholds apply to that.

What two samples are to each other, in this order:

    exact     the same normalised text
    renamed   the same text once identifiers and literals are abstracted
    near      much of the same words in the same order
    semantic  the rest: alike by meaning only, another language for instance

`similar` is a range search: everything above the threshold, not the best few. `families` joins all pairs of a workspace
above the threshold. A unit is no match of itself, nor of what it contains or is contained in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.search.calibration import cosine_for, curve_for, similarity_of
from codegraphd.daemon.search.units import PART, Describer, Index
from codegraphd.store.records import FileRecord, Module, UnitRecord, Where, Words

Vector = npt.NDArray[np.float32]
Type = Literal["exact", "renamed", "near", "semantic"]

NEAR_OVERLAP = 0.35  # share of common word triples from which on two samples are near
RENAMED_FLOOR = 0.97  # similarity of renamed clones that are long enough to be no accident
RENAMED_WORDS = 12  # words in a body of that length
FINGERPRINT_COSINE = 0.6  # renamed clones are looked for down to here
PROSE = frozenset({"markdown", "text"})
LOOSE_KINDS = frozenset({PART, "file"})
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
    """One side of a comparison. Digests are b"" and `body` "" where they are not known."""

    language: str
    vector: Vector | None  # float32[dim], unit length
    own: bytes = b""
    shape: bytes = b""
    body: str = ""  # words in order, as the word index has them
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
    words = index.words(unit.id)
    vector = index.attached(unit.id)
    return Sample(unit.language, vector, unit.unit.own, unit.unit.shape, words.body if words else "", unit)


def sample_of_code(module: Module, vector: Vector | None) -> Sample:
    """Code that is no part of the index, parsed. Its fingerprints are those of its one outermost unit, if it is one."""
    outer = [place for place, unit in enumerate(module.units) if unit.parent < 0 and unit.kind not in LOOSE_KINDS]
    if len(outer) == 1:
        unit = module.units[outer[0]]
        return Sample(module.language, vector, unit.own, unit.shape, module.words[outer[0]].body)
    return Sample(module.language, vector, body=" ".join(words.body for words in module.words))


def compare(a: Sample, b: Sample, model: str) -> Comparison:
    """`model` is the name of the model that made the vectors."""
    cosine = None
    if a.vector is not None and b.vector is not None and len(a.vector) == len(b.vector):
        cosine = float(a.vector @ b.vector)
    return _judge(a, b, cosine, model)


def _judge(a: Sample, b: Sample, cosine: float | None, model: str) -> Comparison:
    one_language = a.language == b.language
    similarity = 0.0 if cosine is None else similarity_of(cosine, curve_for(model, one_language=one_language))
    if a.own and a.own == b.own:
        return Comparison(1.0, cosine, "exact")
    if a.shape and a.shape == b.shape and one_language:
        is_long = min(a.body.count(" "), b.body.count(" ")) + 1 >= RENAMED_WORDS
        return Comparison(max(similarity, RENAMED_FLOOR) if is_long else similarity, cosine, "renamed")
    similarity = min(similarity, 0.999)  # 1 is kept for equal text
    if one_language and overlap(a.body, b.body) >= NEAR_OVERLAP:
        return Comparison(similarity, cosine, "near")
    return Comparison(similarity, cosine, "semantic")


def overlap(a: str, b: str) -> float:
    """Jaccard of the word triples of two texts, repeats counted; 0 to 1. Shorter texts are compared word by word."""
    words_a, words_b = a.split(), b.split()
    size = 3 if min(len(words_a), len(words_b)) >= 6 else 1
    counts_a, counts_b = _grams(words_a, size), _grams(words_b, size)
    common = sum((counts_a & counts_b).values())
    every = sum(counts_a.values()) + sum(counts_b.values()) - common
    return common / every if every else 0.0


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[shift:] for shift in range(size)), strict=False))


# --- one against all -------------------------------------------------------------------------------------------------


def similar(index: Reader, vectors: RangeSearch, sample: Sample, asked: Range, model: str) -> list[dict[str, Any]]:
    """Unit maps with `similarity`, `cosine` and `type`, most similar first.

    A sample without a vector (it still waits for the model, or there is none) is matched by its fingerprints alone,
    over all units: 30 µs a unit.
    """
    where = Where(asked.roots, asked.languages)
    found: Iterable[tuple[int, float | None]]
    if sample.vector is not None:
        floors = [cosine_for(asked.threshold, curve_for(model, one_language=same)) for same in (True, False)]
        found = vectors.within(sample.vector, min(*floors, FINGERPRINT_COSINE), where)
    else:
        found = _by_fingerprint(index, sample, asked)
    matches = []
    for unit_id, cosine in found:
        unit = index.unit(unit_id)
        if unit is None or not _may_match(sample, unit, asked):
            continue
        curve = curve_for(model, one_language=unit.language == sample.language)
        same = unit.unit.own == sample.own or unit.unit.shape == sample.shape
        if not same and (cosine is None or similarity_of(cosine, curve) < asked.threshold):
            continue  # before its words are read
        verdict = _judge(sample, sample_of_unit(index, unit), cosine, model)
        if verdict.similarity >= asked.threshold:
            matches.append((unit, verdict))
    matches.sort(key=lambda match: (-match[1].similarity, -(match[1].cosine or 0.0), match[0].path))
    describer = Describer(index)
    return [{**describer.unit(unit), **_figures(verdict)} for unit, verdict in matches[: asked.limit]]


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
    inner, outer = (a.unit, b.unit) if a.unit.start_byte >= b.unit.start_byte else (b.unit, a.unit)
    return inner.end_byte <= outer.end_byte


def _by_fingerprint(index: Reader, sample: Sample, asked: Range) -> Iterator[tuple[int, None]]:
    for root in index.roots():
        if asked.roots is not None and root.id not in asked.roots:
            continue
        for file in index.files(root.id):
            if asked.languages is not None and file.language not in asked.languages:
                continue
            for unit in index.units_of(file):
                if (sample.own and unit.unit.own == sample.own) or (sample.shape and unit.unit.shape == sample.shape):
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
    pairs: dict[tuple[int, int], float | None] = dict.fromkeys(_equal_pairs(units))
    floor = min(cosine_for(threshold, curve_for(model, one_language=same)) for same in (True, False))
    for pair, close in _close_pairs(matrix, floor):
        pairs[pair] = close
        if len(pairs) >= MAX_PAIRS or expired():
            truncated = True
            break
    samples: dict[int, Sample] = {}

    def sample(place: int) -> Sample:
        if place not in samples:
            samples[place] = sample_of_unit(index, units[place])
        return samples[place]

    joined: dict[tuple[int, int], Comparison] = {}
    for (a, b), cosine in pairs.items():
        if not _nested(units[a], units[b]):
            verdict = _judge(sample(a), sample(b), cosine, model)
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


def _close_pairs(matrix: npt.NDArray[np.float16], floor: float) -> Iterator[tuple[tuple[int, int], float]]:
    """((a, b), cosine) of all rows a < b with at least this cosine, by blocks of the upper triangle."""
    floor = max(floor, 0.01)
    n = len(matrix)
    for top in range(0, n, _ROWS):
        rows = matrix[top : top + _ROWS].astype(np.float32)
        for left in range(top, n, _COLUMNS):
            cosines = rows @ matrix[left : left + _COLUMNS].astype(np.float32).T
            for a, b in zip(*np.nonzero(cosines >= floor), strict=True):
                if top + a < left + b:
                    yield (int(top + a), int(left + b)), float(cosines[a, b])


def _equal_pairs(units: Sequence[UnitRecord]) -> Iterator[tuple[int, int]]:
    """Chains of units with equal fingerprints: they are joined without a vector, too."""
    for digest in ("own", "shape"):
        last: dict[tuple[str, bytes], int] = {}
        for place, unit in enumerate(units):
            key = (unit.language, getattr(unit.unit, digest))
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
