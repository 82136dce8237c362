"""A deterministic encoder without a model: hashed words and pairs of words, projected by their hash.

It ships with the code, for tests and for machines without torch: the whole path of the worker runs with it, it starts
in the time that numpy takes to import, and texts that share words come out near each other. It is no replacement for
a trained encoder.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.store.records import CodeFlow

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\sA-Za-z\d]")


class HashingTokens:
    """Words as token ids: the CRC of the lower-case word. Camel-case and snake-case names fall apart."""

    def __init__(self, info: ModelInfo) -> None:
        self._limit = info.max_tokens

    def encode(
        self,
        texts: Sequence[str],
        flows: Sequence[CodeFlow | None] = (),  # noqa: ARG002 of models that read them
    ) -> list[tuple[list[int], bool]]:
        """For each text its ids and whether it was cut."""
        found = []
        for text in texts:
            ids = [zlib.crc32(word.lower().encode("utf-8", "surrogatepass")) for word in _WORD.findall(text)]
            found.append((ids[: self._limit] or [0], len(ids) > self._limit))
        return found


class HashingBackend:
    """Vectors as the sum of a sign vector for each word and, at half weight, for each pair of neighbours."""

    name, device, dtype = "hashing", "cpu", "float32"
    lanes, group_tokens = 1, 2048

    def __init__(self, info: ModelInfo) -> None:
        self._dim = info.dim

    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        rows = np.zeros((len(batch), self._dim), np.float32)
        for i, ids in enumerate(batch):
            words = np.asarray(ids, np.uint64)
            pairs = words[:-1] * np.uint64(31) + words[1:] + np.uint64(1)
            total = self._signs(words).sum(0) + 0.5 * self._signs(pairs).sum(0)
            rows[i] = total / (np.linalg.norm(total) or 1.0)
        return rows

    def _signs(self, ids: np.ndarray) -> np.ndarray:
        """uint64[n] -> float32[n, dim] of -1 and 1: splitmix64 of the id, one bit a column."""
        bits = []
        for block in range((self._dim + 63) // 64):
            x = ids + np.uint64(0x9E3779B97F4A7C15 * (block + 1) & 0xFFFFFFFFFFFFFFFF)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
            bits.append(np.unpackbits(x.view(np.uint8).reshape(len(ids), 8), axis=1))
        return np.concatenate(bits, axis=1)[:, : self._dim].astype(np.float32) * 2 - 1
