"""Search: a question in, unit maps out, best first.

Terms: *words* is the word index's ranking, *meaning* the vectors' one; a *candidate* is a unit that either found; a
*part* is a piece of a long unit, searched for itself and answered as the unit it belongs to.

What happens to a question:

    terms, vector -> candidates of both indexes, `DEPTH` and more each, filtered inside the indexes
                  -> the exact cosine of every candidate that has a vector, so that no unit is judged by absence
                  -> one fused score (fusion.py); for a name, units that bear the very name that was typed come first
                  -> parts and units that say the same lines twice are folded into one result
                  -> maps, `limit` of them

Pure: reads a snapshot and two indexes at one clock, and a file only through `read` where snippets are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.analysis.words import query_terms
from codegraphd.daemon.search.fusion import WORDS, fuse, kind_of, prefer
from codegraphd.daemon.search.globs import matcher
from codegraphd.daemon.search.units import PART, Describer, Index, snippet, whole
from codegraphd.store.records import FileRecord, Flag, UnitRecord, Where

Vector = npt.NDArray[np.float32]
Mode = Literal["hybrid", "semantic", "lexical"]

DEPTH = 100  # candidates that each index is asked for at least: what a word is worth shows in a crowd
FOLD_SHARE = 0.8  # of a unit's lines: a unit inside it that has so many says the same
_MAX_COSINES = 2000  # candidates whose cosine is computed one by one


class Reader(Index, Protocol):
    def named(self, root: int, name: str) -> tuple[int, ...]: ...
    def attached(self, id: int) -> Any: ...


class WordSearch(Protocol):
    def query(self, terms: Sequence[str], k: int, where: Where) -> list[tuple[int, float]]: ...


class VectorSearch(Protocol):
    def nearest(self, vector: Any, k: int, where: Where) -> list[tuple[int, float]]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Filters: None is no restriction; `paths` are globs (globs.py)."""

    text: str
    limit: int = 10
    mode: Mode = "hybrid"
    roots: frozenset[int] | None = None
    languages: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    paths: tuple[str, ...] = ()
    snippet_lines: int = 0


@dataclass(slots=True)
class _Hit:
    """A result in the making: the unit that is shown, and what spoke for it."""

    unit: UnitRecord
    score: float
    part: UnitRecord | None
    words_rank: int | None
    meaning_rank: int | None
    cosine: float | None


def search(
    index: Reader,
    words: WordSearch,
    vectors: VectorSearch,
    question: Question,
    vector: Vector | None,
    read: Callable[[FileRecord], bytes | None] | None = None,
) -> list[dict[str, Any]]:
    """Unit maps with `score`, `why`, and `snippet` where asked for; at most `question.limit`.

    `vector`, float32[dim] of unit length, is the query as the model sees it; None: there is none, and only words count
    (mode "semantic" then finds nothing). `read` gives the bytes of a file whose digest is still the indexed one, else
    None; without bytes a result has no snippet. `score` is comparable inside one answer only.
    """
    where = _where(index, question)
    k = max(DEPTH, 2 * question.limit + 20)
    terms = query_terms(question.text)
    by_words = words.query(terms, k, where) if terms and question.mode != "semantic" else []
    by_meaning = vectors.nearest(vector, k, where) if vector is not None and question.mode != "lexical" else []
    fused = _fused(index, question, by_words, by_meaning, vector)
    hits = _hits(index, question, fused, by_words, by_meaning)
    describer = Describer(index)
    return [_result(index, describer, hit, question, read) for hit in hits]


def _where(index: Reader, question: Question) -> Where:
    keep: Callable[[int], bool] | None = None
    if question.paths:
        wanted, seen = matcher(question.paths), dict[int, bool]()

        def keep(unit_id: int) -> bool:
            unit = index.unit(unit_id)
            if unit is None:
                return False
            if unit.id not in seen:
                seen[unit.id] = wanted(unit.path)
            return seen[unit.id]

    kinds = question.kinds | {PART} if question.kinds else question.kinds
    everywhere = question.roots is None or question.roots >= {root.id for root in index.roots()}
    # No filter where it would keep all: questions without one are the fastest. What is left of a root that is being
    # dropped is kept out of the results.
    return Where(None if everywhere else question.roots, question.languages, kinds, keep)


def _fused(
    index: Reader,
    question: Question,
    by_words: list[tuple[int, float]],
    by_meaning: list[tuple[int, float]],
    vector: Vector | None,
) -> list[tuple[int, float, float | None]]:
    """(unit id, score, cosine), best first."""
    cosines = dict(by_meaning)
    if question.mode == "semantic":
        return [(unit, cosine, cosine) for unit, cosine in by_meaning]
    kind = kind_of(question.text)
    named = _named(index, question) if kind == "name" else frozenset()
    if not by_meaning or vector is None:
        return [(unit, score, None) for unit, score in prefer(by_words, named)]
    for unit, _ in by_words[:_MAX_COSINES]:
        if unit not in cosines:
            other = index.attached(unit)
            if other is not None and len(other) == len(vector):
                cosines[unit] = float(other @ vector)
    fused = fuse(by_words, cosines, WORDS[kind])
    return [(unit, score, cosines.get(unit)) for unit, score in prefer(fused, named)]


def _named(index: Reader, question: Question) -> frozenset[int]:
    """Units that bear exactly the last part of the name that was typed."""
    name = re.split(r"[.#/]|::|->", question.text.strip().removesuffix("()"))[-1]
    roots = question.roots if question.roots is not None else [root.id for root in index.roots()]
    return frozenset(unit for root in roots for unit in index.named(root, name))


def _hits(
    index: Reader,
    question: Question,
    fused: list[tuple[int, float, float | None]],
    by_words: list[tuple[int, float]],
    by_meaning: list[tuple[int, float]],
) -> list[_Hit]:
    """The first `limit` units, each once, folded. Ids that the snapshot does not know are dropped."""
    words_ranks = {unit: rank for rank, (unit, _) in enumerate(by_words, 1)}
    meaning_ranks = {unit: rank for rank, (unit, _) in enumerate(by_meaning, 1)}
    hits: dict[int, _Hit] = {}
    by_file: dict[int, list[UnitRecord]] = {}
    for unit_id, score, cosine in fused:
        found = index.unit(unit_id)
        if found is None:
            continue
        unit = whole(index, found)
        if question.kinds and unit.unit.kind not in question.kinds:
            continue
        if question.roots is not None and unit.root not in question.roots:
            continue
        words_rank, meaning_rank = words_ranks.get(unit_id), meaning_ranks.get(unit_id)
        if (known := hits.get(unit.id)) is not None:  # another part of it, or itself: the first one stands
            known.words_rank = known.words_rank or words_rank
            known.meaning_rank = known.meaning_rank or meaning_rank
            continue
        shown = by_file.setdefault(unit.file, [])
        if _is_folded(shown, unit):
            continue
        shown.append(unit)
        part = found if found.id != unit.id else None
        hits[unit.id] = _Hit(unit, score, part, words_rank, meaning_rank, cosine)
        if len(hits) == question.limit:
            break
    return list(hits.values())


def _is_folded(shown: Sequence[UnitRecord], unit: UnitRecord) -> bool:
    """Whether one of the better hits in its file shows nearly the same lines: a class of one method and this method."""
    for other in shown:
        a, b = other.unit, unit.unit
        inner, outer = (a, b) if a.end_byte - a.start_byte <= b.end_byte - b.start_byte else (b, a)
        nested = outer.start_byte <= inner.start_byte and inner.end_byte <= outer.end_byte
        if nested and (inner.end_byte - inner.start_byte) >= FOLD_SHARE * (outer.end_byte - outer.start_byte):
            return True
    return False


def _result(
    index: Reader,
    describer: Describer,
    hit: _Hit,
    question: Question,
    read: Callable[[FileRecord], bytes | None] | None,
) -> dict[str, Any]:
    record = describer.unit(hit.unit)
    record["score"] = round(hit.score, 4)
    record["why"] = {
        "words": hit.words_rank,
        "meaning": hit.meaning_rank,
        "cosine": None if hit.cosine is None else round(hit.cosine, 4),
    }
    shown = hit.part or hit.unit
    if hit.part:
        record["part"] = {"start_line": shown.unit.start_line, "end_line": shown.unit.end_line}
    if question.snippet_lines and read:
        file = index.file_by_id(hit.unit.file)
        source = read(file) if file and not hit.unit.unit.flags & Flag.STALE else None
        record["snippet"] = (
            None
            if source is None
            else snippet(source, shown.unit.start_line, shown.unit.end_line, question.snippet_lines)
        )
    return record
