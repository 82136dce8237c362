"""MinHash: a short signature of a unit's tokens from which the overlap of two units can be estimated.

Broder 1997, "On the resemblance and containment of documents": the share of positions in which two signatures agree is
an unbiased estimate of the Jaccard similarity of the two sets of *shingles* (n-grams of tokens), with a standard error
of sqrt(s (1 - s) / permutations): at most 0.044 with 128. Each position is the minimum of one random function over the
shingles; the functions are the multiply-shift family (Dietzfelbinger et al. 1997) on 64 bits, the upper 32 of which are
kept, so a signature is `permutations` × 4 bytes.

Tokens come from the caller (`fingerprint` has the normalised and the shape tokens of a unit; `tokens` here serves where
there are none). Signatures of one setting are stable over runs, machines and versions of Python and numpy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Signature = NDArray[np.uint32]

PERMUTATIONS = 128
SHINGLE = 5
_EMPTY = np.uint32(0xFFFFFFFF)  # every position of a signature of no tokens
_BLOCK = 4096  # shingles at a time: bounds memory to 4096 × permutations × 8 bytes
_WORD = re.compile(rb"[^\W\d]\w*|\d[\w.]*|\S")


def minhash(tokens: Iterable[str | bytes], shingle: int = SHINGLE, permutations: int = PERMUTATIONS) -> Signature:
    """The signature of a sequence of tokens: uint32[permutations].

    Fewer tokens than `shingle` make one shingle of them all; none give the signature of nothing, which is similar to
    no other. Raises ValueError unless `shingle` and `permutations` are at least 1.
    """
    if shingle < 1 or permutations < 1:
        raise ValueError(f"shingle and permutations must be at least 1, not {shingle} and {permutations}")
    shingles = _shingles(tokens, shingle)
    signature = np.full(permutations, _EMPTY, dtype=np.uint32)
    multipliers, offsets = _family(permutations)
    for start in range(0, len(shingles), _BLOCK):
        block = shingles[start : start + _BLOCK, None] * multipliers + offsets
        np.minimum(signature, (block >> np.uint64(32)).min(axis=0).astype(np.uint32), out=signature)
    return signature


def similarity(one: Signature, other: Signature) -> float:
    """The estimated Jaccard similarity of what two signatures stand for, 0 to 1.

    Raises ValueError when they are of different lengths. A signature of nothing is similar to nothing: 0.
    """
    if one.shape != other.shape:
        raise ValueError(f"signatures of {one.shape} and {other.shape} cannot be compared")
    if bool((one == _EMPTY).all()) or bool((other == _EMPTY).all()):
        return 0.0
    return float(np.count_nonzero(one == other)) / one.size


def similarities(one: Signature, others: NDArray[np.uint32]) -> NDArray[np.float32]:
    """`similarity` of one signature to each row of uint32[n, permutations]: float32[n]."""
    if others.ndim != 2 or others.shape[1:] != one.shape:
        raise ValueError(f"a signature of {one.shape} cannot be compared with rows of {others.shape}")
    if bool((one == _EMPTY).all()):
        return np.zeros(len(others), dtype=np.float32)
    shared: NDArray[np.float32] = np.count_nonzero(others == one, axis=1).astype(np.float32) / np.float32(one.size)
    shared[(others == _EMPTY).all(axis=1)] = 0.0
    return shared


def to_bytes(signature: Signature) -> bytes:
    """Little-endian, 4 bytes a position."""
    return signature.astype("<u4").tobytes()


def from_bytes(raw: bytes) -> Signature:
    """What `to_bytes` gave. Raises ValueError when the length is no multiple of 4."""
    return np.frombuffer(raw, dtype="<u4").astype(np.uint32)


def tokens(source: bytes) -> list[bytes]:
    """Words, numbers and single signs of a text, white space left out: for units without normalised tokens."""
    return _WORD.findall(source)


def _shingles(tokens: Iterable[str | bytes], size: int) -> NDArray[np.uint64]:
    """The distinct shingles as well-mixed 64-bit numbers, sorted."""
    known: dict[str | bytes, int] = {}
    codes = np.fromiter((known.setdefault(token, len(known)) for token in tokens), dtype=np.int64)
    if not len(codes):
        return np.empty(0, dtype=np.uint64)
    hashes = np.array([_token_hash(token) for token in known], dtype=np.uint64)[codes]
    size = min(size, len(hashes))
    n_shingles = len(hashes) - size + 1
    mixed = np.full(n_shingles, size, dtype=np.uint64)
    for i in range(size):  # order counts: mix after each token
        mixed = _mix(mixed ^ hashes[i : i + n_shingles])
    return np.unique(mixed)


def _token_hash(token: str | bytes) -> int:
    raw = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else token
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): a permutation of 64-bit numbers without visible pattern."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _family(permutations: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Odd multipliers and offsets, always the same for one number of permutations."""
    numbers = _mix(np.arange(2 * permutations, dtype=np.uint64))
    return numbers[:permutations] | np.uint64(1), numbers[permutations:]


__all__ = [
    "PERMUTATIONS", "SHINGLE", "Signature", "from_bytes", "minhash", "similarities", "similarity", "to_bytes", "tokens",
]  # fmt: skip
