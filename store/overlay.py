"""Units that the word index does not hold yet, scored as it would score them.

Owns the changes since the index's last commit: new texts, and deletions that hide what the index still has. The score
is BM25 as tantivy computes it (k1 1.2, b 0.75), over the index's own document counts where it has enough, so that both
answers can be merged by score; the rest of the difference, tantivy's rounding of lengths, is at most 1.4 percent.

A crawl puts a thousand units here between two commits, and most are never asked for in that time: the words of a unit
are counted when a question first meets one of its own in the unit's text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from codegraphd.store.records import Where

# One field for all words, in which a name counts three times and a doc twice (BM25F in its simple form): with a field
# and a sum for each kind of text, names outvoted everything (MRR 0.46 against 0.56 on three kinds of questions), and
# a question costs a quarter of the postings.
FIELDS: Final = ("text",)
BOOSTS: Final = (1.0,)
AVERAGE: Final = (140.0,)  # mean lengths to begin with, before the index knows better
_K1 = 1.2
_B = 0.75
_LEAST_IDF = 1e-6  # as tantivy: a word that every unit holds still finds them
_PATH_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One unit as the index is to have it; compared by identity, so that a newer put of equal text is another."""

    root: int
    language: str
    kind: str
    name: str
    doc: str
    body: str
    path: str
    is_deleted: bool = False


class Overlay:
    """Not thread-safe: `store.lexical` holds its lock."""

    def __init__(self, entries: Mapping[int, Entry] | None = None) -> None:
        self._entries: dict[int, Entry] = {}
        self._texts: dict[int, str] = {}  # all words of a unit, for a first look
        self._counts: dict[int, _Counts] = {}  # of the units that a question met
        for id_, entry in (entries or {}).items():
            self.put(id_, entry)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: int) -> bool:
        return id in self._entries

    def ids(self) -> frozenset[int]:
        """What the index must not answer for."""
        return frozenset(self._entries)

    def entries(self) -> dict[int, Entry]:
        return dict(self._entries)

    def put(self, id: int, entry: Entry) -> None:
        self._drop(id)
        self._entries[id] = entry
        if not entry.is_deleted:
            self._texts[id] = text_of(entry)

    def delete(self, id: int) -> None:
        self.put(id, Entry(0, "", "", "", "", "", "", is_deleted=True))

    def forget(self, committed: Mapping[int, Entry]) -> None:
        """Drop what the index has now, unless it changed again meanwhile."""
        for id_, entry in committed.items():
            if self._entries.get(id_) is entry:
                self._drop(id_)
                del self._entries[id_]

    def score(
        self,
        words: list[str],
        where: Where,
        index: tuple[int, Mapping[tuple[int, str], int], list[float]],
    ) -> list[tuple[int, float]]:
        """(unit id, score) of every unit here that holds any of the words, unsorted; `where.keep` is left to later.

        `index`: number of units, units for each (field, word), mean length for each field, of the committed index.
        """
        n_index, known, averages = index
        met = list(self._met(words))
        here = Counter(
            (field, word) for _, counts in met for field, of_field in enumerate(counts.words) for word in words
            if word in of_field
        )  # fmt: skip
        n_here = len(self._texts)
        alone = n_index < n_here  # a first crawl: the index knows too little of what is usual
        n_units = n_index + n_here if alone else n_index
        weights: dict[tuple[int, str], float] = {}
        for key, n_met in here.items():
            # A word that is new here would else weigh more than once the index has it.
            frequency = known.get(key, 0) + n_met if alone else max(known.get(key, 0), n_met)
            idf = math.log(1 + (n_units - frequency + 0.5) / (frequency + 0.5)) if n_units >= frequency else 0.0
            weights[key] = BOOSTS[key[0]] * max(idf, _LEAST_IDF) * (_K1 + 1)
        found = []
        for id_, counts in met:
            if not _is_wanted(self._entries[id_], where):
                continue
            score = 0.0
            for field, of_field in enumerate(counts.words):
                for word in words:
                    if times := of_field.get(word):
                        length = counts.lengths[field] / averages[field]
                        score += weights[field, word] * times / (times + _K1 * (1 - _B + _B * length))
            if score:
                found.append((id_, score))
        return found

    def _met(self, words: list[str]) -> Iterator[tuple[int, _Counts]]:
        """The units whose text holds any of the words, and perhaps some that hold them inside of longer words."""
        for id_, text in self._texts.items():
            counts = self._counts.get(id_)
            if counts is None:
                if not any(word in text for word in words):
                    continue
                counts = self._counts[id_] = _count(text)
            yield id_, counts

    def _drop(self, id: int) -> None:
        self._texts.pop(id, None)
        self._counts.pop(id, None)


@dataclass(frozen=True, slots=True)
class _Counts:
    words: tuple[Counter[str], ...]  # by field: word -> times
    lengths: tuple[int, ...]


def _count(text: str) -> _Counts:
    fields = [field.split() for field in text.split("\n")]
    return _Counts(tuple([Counter(field) for field in fields]), tuple([len(field) for field in fields]))


def text_of(entry: Entry) -> str:
    """What the one field holds of a unit."""
    parts = (entry.name, entry.name, entry.name, entry.doc, entry.doc, entry.body, path_words(entry.path))
    return " ".join(filter(None, parts))


def path_words(path: str) -> str:
    """The words of a path, its last suffix left out: "pkg/HttpServer/io_loop.py" gives "pkg http server io loop"."""
    stem = path.rpartition(".")[0] if "." in path.rpartition("/")[2] else path
    return " ".join(word.lower() for word in _PATH_WORD.findall(stem))


def _is_wanted(entry: Entry, where: Where) -> bool:
    return (
        (where.roots is None or entry.root in where.roots)
        and (where.languages is None or entry.language in where.languages)
        and (where.kinds is None or entry.kind in where.kinds)
    )
