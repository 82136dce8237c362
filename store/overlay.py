"""Units that the word index does not hold yet, scored as it would score them.

Owns the changes since the index's last commit: new texts, and deletions that hide what the index still has. The score
is BM25 as tantivy computes it (k1 1.2, b 0.75), over the index's own document counts where it has enough, so that both
answers can be merged by score; the rest of the difference, tantivy's rounding of lengths, is at most 1.4 percent.

A crawl puts thousands of units here between two commits, and most are never asked for in that time: words are counted
at the first question after a put, not at the put.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from codegraphd.store.records import Where

FIELDS: Final = ("name", "doc", "body", "path")
BOOSTS: Final = (4.0, 2.0, 1.0, 0.5)
AVERAGE: Final = (4.0, 8.0, 100.0, 6.0)  # mean lengths to begin with, before the index knows better
_K1 = 1.2
_B = 0.75
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

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._uncounted: dict[int, Entry] = {}
        self._postings: dict[tuple[int, str], dict[int, int]] = {}  # (field, word) -> unit -> times
        self._counted: dict[int, tuple[list[tuple[int, str]], tuple[int, ...]]] = {}  # unit -> its postings, lengths

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
        self._uncount(id)
        self._entries[id] = entry
        if not entry.is_deleted:
            self._uncounted[id] = entry

    def delete(self, id: int) -> None:
        self.put(id, Entry(0, "", "", "", "", "", "", is_deleted=True))

    def forget(self, committed: Mapping[int, Entry]) -> None:
        """Drop what the index has now, unless it changed again meanwhile."""
        for id_, entry in committed.items():
            if self._entries.get(id_) is entry:
                self._uncount(id_)
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
        if self._uncounted:
            self._count()
        n_index, frequencies, averages = index
        n_here = len(self._counted)
        alone = n_index < n_here  # a first crawl: the index knows too little of what is usual
        n_units = n_index + n_here if alone else n_index
        found: dict[int, float] = {}
        for field, boost in enumerate(BOOSTS):
            average = averages[field]
            for word in words:
                postings = self._postings.get((field, word))
                if not postings:
                    continue
                known = frequencies.get((field, word), 0)
                # A word that is new here would else weigh more than once the index has it.
                frequency = known + len(postings) if alone else max(known, len(postings))
                idf = math.log(1 + (n_units - frequency + 0.5) / (frequency + 0.5))
                weight = boost * idf * (_K1 + 1)
                for id_, times in postings.items():
                    length = self._counted[id_][1][field]
                    part = weight * times / (times + _K1 * (1 - _B + _B * length / average))
                    found[id_] = found.get(id_, 0.0) + part
        return [(id_, score) for id_, score in found.items() if _is_wanted(self._entries[id_], where)]

    def _count(self) -> None:
        for id_, entry in self._uncounted.items():
            keys: list[tuple[int, str]] = []
            lengths = []
            for field, text in enumerate((entry.name, entry.doc, entry.body, path_words(entry.path))):
                words = text.split()
                lengths.append(len(words))
                for word, times in Counter(words).items():
                    key = (field, word)
                    keys.append(key)
                    self._postings.setdefault(key, {})[id_] = times
            self._counted[id_] = (keys, tuple(lengths))
        self._uncounted.clear()

    def _uncount(self, id: int) -> None:
        self._uncounted.pop(id, None)
        keys, _ = self._counted.pop(id, ([], ()))
        for key in keys:
            postings = self._postings[key]
            del postings[id]
            if not postings:
                del self._postings[key]


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
