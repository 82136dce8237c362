"""What the daemon and the worker process say to each other, one msgpack struct a frame.

Down: `Load` once, then `Embed` (bulk, and edits, which are urgent) and `Ask` (a query). Up: `Loaded` or `Broken` once,
then for each request `Vectors` or `Refused`, in any order; `Started` before each call of the model names the requests
it works for, so that a worker's death or silence has an author.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import numpy as np

from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.store.records import CodeFlow


class Load(msgspec.Struct, tag="load", frozen=True):
    info: ModelInfo
    device: str
    dtype: str
    threads: int
    batch_tokens: int
    nice: int  # of the threads for bulk work
    cache_dir: str


class Embed(msgspec.Struct, tag="embed", frozen=True):
    id: int
    texts: tuple[str, ...]
    flows: tuple[CodeFlow | None, ...] = ()  # one for each text; (): none has any
    urgent: bool = False  # somebody has just saved it: before all that waits


class Ask(msgspec.Struct, tag="ask", frozen=True):
    id: int
    role: str
    texts: tuple[str, ...]
    flows: tuple[CodeFlow | None, ...] = ()


class Loaded(msgspec.Struct, tag="loaded", frozen=True):
    backend: str
    device: str
    dtype: str
    seconds: float
    requests: int = 2  # how many of bulk it wants to have at a time


class Broken(msgspec.Struct, tag="broken", frozen=True):
    """The model cannot be loaded; the process ends after this."""

    error: str


class Started(msgspec.Struct, tag="started", frozen=True):
    id: int


class Vectors(msgspec.Struct, tag="vectors", frozen=True):
    id: int
    dim: int
    data: bytes  # float32[n, dim], rows of length 1
    truncated: tuple[bool, ...]
    tokens: tuple[int, ...]

    def matrix(self) -> np.ndarray:
        """float32[n, dim]. Raises ValueError when the bytes are not that."""
        rows = np.frombuffer(self.data, "<f4").reshape(len(self.tokens), self.dim)
        if not np.isfinite(rows).all():
            raise ValueError("the worker sent vectors that are not finite")
        return rows


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The model raised on this request. The worker goes on."""

    id: int
    error: str


Down: TypeAlias = Load | Embed | Ask
Up: TypeAlias = Loaded | Broken | Started | Vectors | Refused

encode = msgspec.msgpack.Encoder().encode
decode_down = msgspec.msgpack.Decoder(Down).decode
decode_up = msgspec.msgpack.Decoder(Up).decode
