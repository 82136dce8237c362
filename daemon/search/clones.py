"""Similar code, and families of it. What two pieces of code are to each other is decided in likeness.py.

`similar` is a range search: everything above the threshold, not the best few. `families` groups what is similar to one
centre. A unit is no match of itself, nor of what it contains or is contained in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.search import likeness
from codegraphd.daemon.search.calibration import OVERLAP, curve_for, likeness_for, similarity_of
from codegraphd.daemon.search.likeness import (
    Comparison,
    Sample,
    Type,
    compare,
    is_inside,
    sample_of_code,
    sample_of_unit,
    text_of_code,
    units_of_file,
)
from codegraphd.daemon.search.units import PART, Describer
from codegraphd.store.records import LANGUAGES, FileRecord, UnitRecord, Where

__all__ = ["Comparison", "Range", "Sample", "compare", "families", "sample_of_code", "sample_of_unit", "similar",
           "text_of_code"]  # fmt: skip

RESCUED_OVERLAP = 0.5  # a range search reaches so far down that a clone with this overlap is not missed
FINGERPRINT_COSINE = 0.6  # renamed clones are looked for down to here
PROSE = frozenset({"markdown", "text"})
LOOSE_KINDS = frozenset({PART, "file"})
MAX_UNITS = 50_000  # of a workspace that families are looked for among
MAX_PAIRS = 400_000
_FILES = 256  # whose units are held for the classes in them
_ROWS, _COLUMNS = 1024, 4096  # of one block of cosines: 16 MB


class Reader(likeness.Reader, Protocol):
    def files(self, root: int, prefix: str = "") -> Iterator[FileRecord]: ...


class RangeSearch(Protocol):
    def within(self, vector: Any, cosine: float, where: Where) -> list[tuple[int, float]]: ...


@dataclass(frozen=True, slots=True)
class Range:
    """What is asked for. None: no restriction."""

    threshold: float = 0.85  # similarity
    limit: int | None = None
    roots: frozenset[int] | None = None
    languages: frozenset[str] | None = None


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
    return is_inside(a.unit, b.unit) or is_inside(b.unit, a.unit)


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
    join it) and `lines` (of all members but the longest). `expired` is asked every 20 ms or so.
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
    units_of = lru_cache(_FILES)(lambda file_id: units_of_file(index, file_id))

    def sample(place: int) -> Sample:
        if place not in samples:
            samples[place] = sample_of_unit(index, units[place], units_of)
        return samples[place]

    joined: dict[tuple[int, int], Comparison] = {}
    for n, (a, b) in enumerate(sorted(pairs)):
        if n % 256 == 0 and expired():
            truncated = True
            break
        if not _nested(units[a], units[b]):
            verdict = compare(sample(a), sample(b), model)
            if verdict.similarity >= threshold:
                joined[a, b] = verdict
    groups = _without_nested(units, _stars(joined))
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
    """Units with equal fingerprints, each with the first of its kind: they are joined without a vector, too."""
    for fingerprint in ("own", "shape"):
        first: dict[tuple[str, bytes], int] = {}
        for place, unit in enumerate(units):
            found = first.setdefault((unit.language, getattr(unit.unit, fingerprint)), place)
            if found != place:
                yield found, place


def _stars(pairs: Mapping[tuple[int, int], Comparison]) -> list[tuple[list[int], list[Comparison]]]:
    """Groups of places, each with the verdicts inside it: a centre and all that is similar to it.

    The place with most neighbours is a centre first. One whose neighbours are all taken goes to the most similar of
    them. Joining all that is connected instead would chain hundreds of units that have little in common end to end.
    """
    neighbours: dict[int, dict[int, float]] = defaultdict(dict)
    for (a, b), verdict in pairs.items():
        neighbours[a][b] = neighbours[b][a] = verdict.similarity
    centre_of: dict[int, int] = {}
    for place in sorted(neighbours, key=lambda place: (-len(neighbours[place]), place)):
        if place in centre_of:
            continue
        free = [other for other in neighbours[place] if other not in centre_of]
        if free:
            centre_of.update(dict.fromkeys([place, *free], place))
        else:
            nearest = min(neighbours[place], key=lambda other: (-neighbours[place][other], other))
            centre_of[place] = centre_of[nearest]
    members: dict[int, list[int]] = defaultdict(list)
    verdicts: dict[int, list[Comparison]] = defaultdict(list)
    for place, centre in centre_of.items():
        members[centre].append(place)
    for (a, b), verdict in pairs.items():
        if centre_of[a] == centre_of[b]:
            verdicts[centre_of[a]].append(verdict)
    return [(sorted(places), verdicts[centre]) for centre, places in members.items()]


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
