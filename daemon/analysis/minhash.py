"""MinHash of normalised token n-grams: how much two units have in common, without comparing them token by token.

Computed on demand; kept out of `fingerprint` so that the parser processes need no numpy.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_PRIME = (1 << 61) - 1
_GRAM = 5  # tokens


def minhash(own_text: str, size: int = 128) -> NDArray[np.uint64]:
    """uint64[size]: the share of equal places of two of them estimates the Jaccard index of their token 5-grams."""
    tokens = own_text.split()
    grams = {" ".join(tokens[i : i + _GRAM]) for i in range(max(1, len(tokens) - _GRAM + 1))}
    digests = b"".join(hashlib.blake2b(gram.encode("utf-8", "replace"), digest_size=4).digest() for gram in grams)
    hashes = np.frombuffer(digests, dtype="<u4").astype(np.uint64)
    random = np.random.Generator(np.random.PCG64(20_261_121))
    a = random.integers(1, 1 << 32, size, dtype=np.uint64)
    b = random.integers(0, 1 << 32, size, dtype=np.uint64)
    signature = np.full(size, np.iinfo(np.uint64).max, dtype=np.uint64)
    for i in range(0, len(hashes), 4096):  # bounded memory: 4096 * size * 8 bytes
        block = (hashes[i : i + 4096, None] * a[None, :] + b[None, :]) % np.uint64(_PRIME)
        np.minimum(signature, block.min(axis=0), out=signature)
    return signature


def resemblance(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """The estimated Jaccard index, 0 to 1, of two `minhash`es of one size."""
    return float(np.count_nonzero(left == right)) / len(left)
