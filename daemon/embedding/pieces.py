"""The batches that are not answered yet, cut into pieces: which wait, which are with the worker, what has come back.

Bulk waits in the order in which it came, urgent pieces before it, and before both what is under suspicion
(supervision.py): that is sent alone, so that blame is exact. Pure.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from codegraphd.daemon.embedding.events import Embedded, Failed
from codegraphd.daemon.embedding.messages import Vectors
from codegraphd.store.records import Batch, Input

PIECE = 64  # inputs
IN_FLIGHT = 2  # urgent pieces, and bulk ones until the worker says how many it wants
SPLIT = 8


@dataclass(slots=True)
class Piece:
    id: int
    batch: int
    places: range  # in the batch's inputs
    inputs: tuple[Input, ...]
    deaths: int = 0
    sent: float = 0.0
    is_suspect: bool = False
    is_urgent: bool = False


@dataclass(slots=True)
class _Open:
    """A batch that is not answered yet."""

    batch: Batch
    left: int  # inputs
    rows: np.ndarray
    truncated: list[bool]
    tokens: list[int]
    bad: list[bytes] = field(default_factory=list)
    error: str = ""


class Pieces:
    """Guards: every input of an open batch is in exactly one piece that waits or is sent, or its vector is here, or it
    is named as bad."""

    def __init__(self, numbers: Iterator[int]) -> None:
        """`numbers`: the ids of pieces."""
        self.sent: dict[int, Piece] = {}
        self._waiting: collections.deque[Piece] = collections.deque()
        self._open: dict[int, _Open] = {}
        self._numbers = numbers

    def __bool__(self) -> bool:
        return bool(self._waiting or self.sent)

    def depth(self) -> int:
        """Inputs without an answer."""
        return sum(open_.left for open_ in self._open.values())

    def batches(self) -> list[int]:
        """Ids of the batches without an answer."""
        return list(self._open)

    def add(self, batch: Batch, dim: int) -> None:
        n = len(batch.inputs)
        self._open[batch.id] = _Open(batch, n, np.empty((n, dim), np.float32), [False] * n, [0] * n)
        place = sum(1 for piece in self._waiting if piece.is_urgent) if batch.urgent else len(self._waiting)
        for at, piece in enumerate(self._cut(batch, range(n), PIECE), start=place):
            self._waiting.insert(at, piece)

    def _cut(self, batch: Batch, places: range, size: int) -> Iterator[Piece]:
        for at in range(places.start, places.stop, size):
            part = range(at, min(at + size, places.stop))
            inputs = batch.inputs[part.start : part.stop]
            yield Piece(next(self._numbers), batch.id, part, inputs, is_urgent=batch.urgent)

    def send(self, in_flight: int, now: float) -> Piece | None:
        """The next piece for the worker, which wants `in_flight` of bulk at a time; None: none has room there."""
        if not self._waiting or len(self.sent) >= self._room(self._waiting[0], in_flight):
            return None
        piece = self._waiting.popleft()
        self.sent[piece.id] = piece
        piece.sent = now
        return piece

    def _room(self, piece: Piece, in_flight: int) -> int:
        """So many pieces with the worker leave no room for this one."""
        others = self.sent.values()
        if piece.is_suspect or any(other.is_suspect for other in others):
            return 1
        n_bulk = sum(1 for other in others if not other.is_urgent)
        return n_bulk + IN_FLIGHT if piece.is_urgent else len(others) - n_bulk + in_flight

    def recall(self) -> list[Piece]:
        """All that was sent: the worker is gone. They belong to the caller, which puts each back or splits it."""
        pieces = list(self.sent.values())
        self.sent = {}
        return pieces

    def put_back(self, pieces: Sequence[Piece]) -> None:
        """To the front, in their order."""
        self._waiting.extendleft(reversed(pieces))

    def split(self, piece: Piece) -> None:
        """A part of it is bad: its parts are sent one at a time."""
        batch = self._open[piece.batch].batch
        parts = list(self._cut(batch, piece.places, max(1, len(piece.inputs) // SPLIT)))
        for part in parts:
            part.is_suspect = True
        self.put_back(parts)

    def settle(self, piece: Piece, vectors: Vectors, rows: np.ndarray) -> None:
        """The piece's vectors are there."""
        del self.sent[piece.id]
        open_ = self._open[piece.batch]
        places = slice(piece.places.start, piece.places.stop)
        open_.rows[places], open_.truncated[places], open_.tokens[places] = rows, vectors.truncated, vectors.tokens
        open_.left -= len(piece.inputs)

    def condemn(self, piece: Piece, error: str) -> None:
        """The piece's only input is not to be had a vector for."""
        open_ = self._open[piece.batch]
        open_.bad.append(piece.inputs[0].key)
        open_.error = error
        open_.left -= 1

    def answer(self, batch_id: int, model: bytes) -> Embedded | Failed | None:
        """The batch's answer, once there is nothing left of it. `model`: fingerprint of what made the vectors."""
        open_ = self._open[batch_id]
        if open_.left:
            return None
        del self._open[batch_id]
        if open_.bad:
            return Failed(batch_id, open_.error, tuple(open_.bad))
        return Embedded(batch_id, model, open_.rows, tuple(open_.truncated), tuple(open_.tokens))

    def clear(self) -> None:
        """All batches are answered otherwise."""
        self._open.clear()
        self._waiting.clear()
        self.sent.clear()
