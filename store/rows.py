"""The vectors of the units as int8 rows in memory, and exact search over them.

Owns the matrix and the columns beside it (unit, root, language, kind, length), which grow together and reuse freed
rows. One table holds one number of dimensions. A cosine is the product of a row with the question, divided by the
row's length: exact but for the rounding to int8, which moves it by less than 0.002.

Exact search turns blocks of rows to float32 and multiplies: 20,000 rows of 384 take about 2.5 ms on one core. From
`HAMMING_ROWS` on, `nearest` first ranks by the signs of the centred numbers (48 bytes a row, in columns) and then
computes the cosines of the nearest thousand or more; it finds 96 to 98 of the true hundred there. `within` is always
exact.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from codegraphd.store.compress import Vector
from codegraphd.store.records import KINDS, LANGUAGES, Where

HAMMING_ROWS: Final = 30_000
_BLOCK = 2_048
_HAMMING_BLOCK = 32_768
_FAR = np.uint16(65_535)
_LANGUAGE_CODE = {language: code for code, language in enumerate(LANGUAGES)}
_KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class RowTable:
    """Not thread-safe: `store.ann` lets many readers or one writer in."""

    def __init__(self, dim: int, *, hamming_rows: int = HAMMING_ROWS, capacity: int = 1_024) -> None:
        self.dim = dim
        self.hamming_rows = hamming_rows
        self.codes: npt.NDArray[np.int8] = np.zeros((capacity, dim), np.int8)
        self.ids: npt.NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._roots: npt.NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._languages: npt.NDArray[np.uint8] = np.zeros(capacity, np.uint8)
        self._kinds: npt.NDArray[np.uint8] = np.zeros(capacity, np.uint8)
        self._inverse: Vector = np.zeros(capacity, np.float32)  # 1 / length of the row; 0: a free row
        self._signs: npt.NDArray[np.uint64] | None = None  # words x capacity; None below `hamming_rows`
        self._mean: Vector = np.zeros(dim, np.float32)
        self._n_at_mean = 0  # rows when the mean was taken
        self._n = 0  # rows in use or free again: all search goes over these
        self._free: list[int] = []
        self._row_of: dict[int, int] = {}
        self._buffers = threading.local()

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, id: int) -> bool:
        return id in self._row_of

    @property
    def has_signs(self) -> bool:
        return self._signs is not None

    def ids_used(self) -> list[int]:
        return list(self._row_of)

    def n_bytes(self) -> int:
        signs = self._signs.nbytes if self._signs is not None else 0
        columns = (self.codes, self.ids, self._roots, self._languages, self._kinds, self._inverse)
        return signs + sum(column.nbytes for column in columns)

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, id: int, root: int, language: int, kind: int, code: npt.NDArray[np.int8]) -> None:
        """Put or replace the row of a unit. `language` and `kind` are indices in LANGUAGES and KINDS."""
        row = self._row_of.get(id)
        if row is None:
            row = self._free.pop() if self._free else self._next_row()
            self._row_of[id] = row
        self.codes[row] = code
        self._describe(row, id, root, language, kind)
        numbers = code.astype(np.float32)
        length = float(np.sqrt(numbers @ numbers))
        self._inverse[row] = 1 / length if length else 1.0
        if self._signs is not None:
            self._signs[:, row] = self._sign_words(numbers[None, :] * self._inverse[row])[:, 0]

    def delete(self, id: int) -> bool:
        row = self._row_of.pop(id, None)
        if row is None:
            return False
        self._inverse[row] = 0.0
        self._free.append(row)
        return True

    def extend(
        self,
        ids: npt.NDArray[np.int64],
        roots: npt.NDArray[np.int64],
        languages: Sequence[int],
        kinds: Sequence[int],
        codes: npt.NDArray[np.int8],
    ) -> None:
        """Add rows of units that have none yet, all at once; the signs are left to `sharpen`."""
        begin, end = self._n, self._n + len(ids)
        self._make_room(end)
        self._n, self._signs = end, None
        self.codes[begin:end], self.ids[begin:end], self._roots[begin:end] = codes, ids, roots
        self._languages[begin:end], self._kinds[begin:end] = languages, kinds
        self._row_of.update(zip(ids.tolist(), range(begin, end), strict=True))
        for at in range(begin, end, _BLOCK):
            numbers = self.codes[at : min(at + _BLOCK, end)].astype(np.float32)
            lengths = np.sqrt(np.einsum("ij,ij->i", numbers, numbers))
            self._inverse[at : at + len(numbers)] = 1 / np.where(lengths > 0, lengths, 1.0)

    def sharpen(self) -> bool:
        """Make or refresh the signs where there are rows enough. True when something was done (about 1 s a million)."""
        if len(self) < self.hamming_rows or (self._signs is not None and len(self) < 2 * self._n_at_mean):
            return False
        live = np.flatnonzero(self._inverse[: self._n] > 0)
        sample = live[:: max(1, len(live) // 20_000)]
        self._mean = (self.codes[sample].astype(np.float32) * self._inverse[sample, None]).mean(axis=0)
        self._n_at_mean = len(self)
        signs = np.zeros((-(-self.dim // 64), len(self.codes)), np.uint64)
        for begin in range(0, self._n, _BLOCK):
            end = min(begin + _BLOCK, self._n)
            numbers = self.codes[begin:end].astype(np.float32) * self._inverse[begin:end, None]
            signs[:, begin:end] = self._sign_words(numbers)
        self._signs = signs
        return True

    def _next_row(self) -> int:
        self._make_room(self._n + 1)
        self._n += 1
        return self._n - 1

    def _make_room(self, n: int) -> None:
        """Grow every column so that `n` rows fit, by an eighth at least."""
        if n <= len(self.codes):
            return
        capacity = max(n, len(self.codes) + max(1_024, self._n // 8))
        for name in ("codes", "ids", "_roots", "_languages", "_kinds", "_inverse"):
            column = getattr(self, name)
            grown = np.zeros((capacity, *column.shape[1:]), column.dtype)
            grown[: self._n] = column[: self._n]
            setattr(self, name, grown)
        if self._signs is not None:
            grown = np.zeros((len(self._signs), capacity), np.uint64)
            grown[:, : self._n] = self._signs[:, : self._n]
            self._signs = grown

    def _describe(self, row: int, id: int, root: int, language: int, kind: int) -> None:
        self.ids[row], self._roots[row] = id, root
        self._languages[row], self._kinds[row] = language, kind

    def _sign_words(self, numbers: Vector) -> npt.NDArray[np.uint64]:
        bits = np.packbits(numbers > self._mean, axis=1)
        short = -bits.shape[1] % 8
        if short:
            bits = np.pad(bits, ((0, 0), (0, short)))
        return np.ascontiguousarray(np.ascontiguousarray(bits).view(np.uint64).T)

    # --- reading -----------------------------------------------------------------------------------------------------

    def vector(self, id: int) -> Vector | None:
        """float32[dim] of unit length."""
        row = self._row_of.get(id)
        return self.codes[row].astype(np.float32) * self._inverse[row] if row is not None else None

    def vectors(self, ids: list[int]) -> Vector:
        """float32[n, dim] of unit length, of units that all have a row."""
        rows = self.rows_of(ids)
        return self.codes[rows].astype(np.float32) * self._inverse[rows, None]

    def mask(self, where: Where) -> Mask:
        """The rows that a filter lets through; `where.keep` is not asked here."""
        mask: Mask = self._inverse[: self._n] > 0
        if where.roots is not None:
            mask &= np.isin(self._roots[: self._n], list(where.roots))
        if where.languages is not None:
            mask &= np.isin(self._languages[: self._n], [_LANGUAGE_CODE.get(name, 255) for name in where.languages])
        if where.kinds is not None:
            mask &= np.isin(self._kinds[: self._n], [_KIND_CODE.get(name, 255) for name in where.kinds])
        return mask

    def nearest(self, vector: Vector, k: int, where: Where) -> list[tuple[int, float]]:
        """(unit, cosine) of the `k` nearest rows, nearest first."""
        mask = self.mask(where)
        rows = np.flatnonzero(mask)
        if self._signs is not None and len(rows) >= self.hamming_rows:
            candidates = self._near_by_signs(vector, mask, min(len(rows), _n_candidates(len(rows), k)))
            found = self.best(candidates, self.cosines(vector, candidates), k, where)
            if len(found) == k or where.keep is None:
                return found
        return self.best(rows, self.cosines(vector, rows), k, where)

    def within(self, vector: Vector, threshold: float, where: Where) -> list[tuple[int, float]]:
        """(unit, cosine) of every row with cosine >= threshold, nearest first."""
        rows = np.flatnonzero(self.mask(where))
        cosines = self.cosines(vector, rows)
        hits = np.flatnonzero(cosines >= threshold)
        return self.best(rows[hits], cosines[hits], len(hits), where)

    def cosines(self, vector: Vector, rows: Rows) -> Vector:
        """The cosine of each of these rows with the vector, which is of unit length."""
        found = np.empty(len(rows), np.float32)
        buffer = self._buffer()
        is_all = len(rows) == self._n
        for begin in range(0, len(rows), _BLOCK):
            end = min(begin + _BLOCK, len(rows))
            block = buffer[: end - begin]
            np.copyto(block, self.codes[begin:end] if is_all else self.codes[rows[begin:end]])
            np.dot(block, vector, out=found[begin:end])
        found *= self._inverse[: self._n] if is_all else self._inverse[rows]
        return found

    def rows_of(self, ids: list[int]) -> Rows:
        """Their rows; units without one are left out."""
        return np.array([self._row_of[id_] for id_ in ids if id_ in self._row_of], np.int64)

    def best(self, rows: Rows, cosines: Vector, k: int, where: Where) -> list[tuple[int, float]]:
        """(unit, cosine) of the `k` best of these rows that `where.keep` lets through, nearest first."""
        keep = where.keep
        n_wanted = k if keep is None else 4 * k
        while True:
            n_wanted = min(n_wanted, len(rows))
            if n_wanted < len(rows):
                top = np.argpartition(-cosines, n_wanted - 1)[:n_wanted] if n_wanted else np.empty(0, np.int64)
            else:
                top = np.arange(len(rows))
            ids, values = self.ids[rows[top]], cosines[top]
            order = np.lexsort((ids, -values))
            found = [(int(ids[at]), float(values[at])) for at in order]
            if keep is None:
                return found
            kept = []
            for hit in found:
                if keep(hit[0]):
                    kept.append(hit)
                    if len(kept) == k:
                        break
            if len(kept) >= k or n_wanted == len(rows):
                return kept
            n_wanted *= 4

    def _near_by_signs(self, vector: Vector, mask: Mask, n: int) -> Rows:
        """The `n` rows of the mask whose signs differ least from the vector's; n <= rows in the mask."""
        assert self._signs is not None
        question = self._sign_words(vector[None, :])[:, 0]
        distances = np.empty(self._n, np.uint16)
        crossed, bits = np.empty(_HAMMING_BLOCK, np.uint64), np.empty(_HAMMING_BLOCK, np.uint8)
        for begin in range(0, self._n, _HAMMING_BLOCK):
            end = min(begin + _HAMMING_BLOCK, self._n)
            part = distances[begin:end]
            part[:] = 0
            for column, word in zip(self._signs, question, strict=True):
                np.bitwise_xor(column[begin:end], word, out=crossed[: end - begin])
                np.bitwise_count(crossed[: end - begin], out=bits[: end - begin])
                np.add(part, bits[: end - begin], out=part)
        distances[~mask] = _FAR
        step = 16 if len(distances) > 50_000 else 1
        histogram = np.bincount(distances[::step], minlength=self.dim + 1)[: self.dim + 1]
        radius = int(np.searchsorted(np.cumsum(histogram) * step, n * 1.3))
        while len(rows := np.flatnonzero(distances <= radius)) < n:
            radius += 2
        return rows if len(rows) == n else rows[np.argpartition(distances[rows], n - 1)[:n]]

    def _buffer(self) -> Vector:
        buffer: Vector | None = getattr(self._buffers, "block", None)
        if buffer is None or buffer.shape[1] != self.dim:
            buffer = self._buffers.block = np.empty((_BLOCK, self.dim), np.float32)
        return buffer


def _n_candidates(n_rows: int, k: int) -> int:
    """How many rows the signs hand on: 500 below 30,000 rows, 1,000 at 100,000, 2,000 at a million; 10 for each hit."""
    return max(500 if n_rows < 30_000 else 1_000 if n_rows < 300_000 else 2_000, 10 * k)
