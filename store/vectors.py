"""The embedding cache: (model, recipe part) -> vector, kept over restarts, branches and worktrees.

Two tables. `vectors` finds a row by model (8 bytes) and key (16 bytes); `rows` holds, under ascending row numbers,
that key, the hour of last use and the vector as float16 at full width. Appending in row order fills pages whole, where
random 24-byte keys would leave a third of each empty, and makes eviction trivial: the oldest rows stand in front. A use
moves a row to the end only if it stood in the older half, so that a hot vector costs no write; the order is that of
last use to within half of the cache. A row has no header but these: five rows of 384 dimensions fill a page to the
last ten bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from codegraphd.store.compress import Vector
from codegraphd.store.tables import U64, Tables, delete_current

MODEL_BYTES: Final = 8
KEY_BYTES: Final = 16
_NAME_BYTES = MODEL_BYTES + KEY_BYTES
_HEAD = struct.Struct(f"<{_NAME_BYTES}sI")  # model and key, hour of last use
_STATE = struct.Struct("<QQQ")  # next row, rows held, bytes of the vectors held
_META = b"vectors"


@dataclass(slots=True)
class Budget:
    """Bounds of the cache. `max_bytes` counts vectors with their keys; `ttl_hours` 0: kept for ever."""

    max_bytes: int = 2 << 30
    ttl_hours: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    entries: int
    bytes: int


def read(txn: Any, tables: Tables, name: bytes) -> Vector | None:
    """The vector under `model + key`, float32[dim] of unit length."""
    row = txn.get(name, db=tables.vectors)
    if row is None:
        return None
    raw = txn.get(row, db=tables.rows)
    return _normalised(np.frombuffer(raw, "<f2", offset=_HEAD.size)) if raw is not None else None


def usage(txn: Any, tables: Tables) -> Usage:
    _, entries, n_bytes = _state(txn, tables)
    return Usage(entries, n_bytes)


def write(txn: Any, tables: Tables, name: bytes, vector: Vector, budget: Budget) -> int:
    """Put a vector at the young end and evict old ones over the budget. Returns how many were evicted."""
    if len(name) != _NAME_BYTES:
        raise ValueError(f"a vector's name has {len(name)} bytes, not {_NAME_BYTES}")
    code = vector.astype("<f2").tobytes()
    if not np.isfinite(vector).all():
        raise ValueError("a vector holds a number that is not finite")
    next_row, entries, n_bytes = _state(txn, tables)
    old = txn.get(name, db=tables.vectors)
    if old is not None:
        raw = txn.pop(old, db=tables.rows)
        entries, n_bytes = entries - 1, n_bytes - len(raw or b"")
    _append(txn, tables, name, code, next_row)
    entries, n_bytes = entries + 1, n_bytes + _HEAD.size + len(code)
    evicted = 0
    if n_bytes > budget.max_bytes:
        evicted, freed = _evict(txn, tables, n_bytes - budget.max_bytes, keep=next_row)
        entries, n_bytes = entries - evicted, n_bytes - freed
    txn.put(_META, _STATE.pack(next_row + 1, entries, n_bytes), db=tables.meta)
    return evicted


def touch(txn: Any, tables: Tables, name: bytes) -> bool:
    """Note a use. True when something had to be written: the row stood in the older half."""
    row = txn.get(name, db=tables.vectors)
    if row is None:
        return False
    next_row, entries, n_bytes = _state(txn, tables)
    with txn.cursor(tables.rows) as cursor:
        oldest = U64.unpack(cursor.key())[0] if cursor.first() else next_row
    if U64.unpack(row)[0] >= oldest + (next_row - oldest) // 2:
        return False
    raw = txn.pop(row, db=tables.rows)
    _append(txn, tables, name, raw[_HEAD.size :], next_row)
    txn.put(_META, _STATE.pack(next_row + 1, entries, n_bytes), db=tables.meta)
    return True


def evict(txn: Any, tables: Tables, budget: Budget, limit: int = 5_000) -> int:
    """Drop what is over the budget or over its time, oldest first, at most `limit` rows. Returns how many went."""
    next_row, entries, n_bytes = _state(txn, tables)
    horizon = _hour() - budget.ttl_hours if budget.ttl_hours else 0
    n_gone = 0
    with txn.cursor(tables.rows) as cursor:
        exists = cursor.first()
        while exists and n_gone < limit:
            raw = cursor.value()
            name, hour = _HEAD.unpack_from(raw)
            if n_bytes <= budget.max_bytes and hour >= horizon:
                break
            txn.delete(name, db=tables.vectors)
            n_gone, n_bytes = n_gone + 1, n_bytes - len(raw)
            exists = delete_current(cursor)
    if n_gone:
        txn.put(_META, _STATE.pack(next_row, entries - n_gone, n_bytes), db=tables.meta)
    return n_gone


def drop(
    txn: Any, tables: Tables, is_unused: Callable[[bytes, bytes], bool], after: int, limit: int
) -> tuple[int, int | None]:
    """Look at up to `limit` rows from row `after` on and drop the unused: (dropped, where to go on; None: the end)."""
    next_row, entries, n_bytes = _state(txn, tables)
    n_gone = n_seen = 0
    row: int | None = None
    with txn.cursor(tables.rows) as cursor:
        exists = cursor.set_range(U64.pack(after))
        while exists and n_seen < limit:
            raw = cursor.value()
            name = raw[:_NAME_BYTES]
            n_seen += 1
            if is_unused(name[:MODEL_BYTES], name[MODEL_BYTES:]):
                txn.delete(name, db=tables.vectors)
                n_gone, n_bytes = n_gone + 1, n_bytes - len(raw)
                exists = delete_current(cursor)
            else:
                exists = cursor.next()
        if exists:
            row = U64.unpack(cursor.key())[0]
    if n_gone:
        txn.put(_META, _STATE.pack(next_row, entries - n_gone, n_bytes), db=tables.meta)
    return n_gone, row


def _append(txn: Any, tables: Tables, name: bytes, code: bytes, row: int) -> None:
    key = U64.pack(row)
    txn.put(key, _HEAD.pack(name, _hour()) + code, db=tables.rows, append=True)
    txn.put(name, key, db=tables.vectors)


def _evict(txn: Any, tables: Tables, excess: int, keep: int) -> tuple[int, int]:
    """Drop the oldest rows before row `keep` until `excess` bytes are free. (rows, bytes) dropped."""
    n_gone = freed = 0
    with txn.cursor(tables.rows) as cursor:
        exists = cursor.first()
        while exists and freed < excess and U64.unpack(cursor.key())[0] != keep:
            raw = cursor.value()
            txn.delete(_HEAD.unpack_from(raw)[0], db=tables.vectors)
            n_gone, freed = n_gone + 1, freed + len(raw)
            exists = delete_current(cursor)
    return n_gone, freed


def _state(txn: Any, tables: Tables) -> tuple[int, int, int]:
    raw = txn.get(_META, db=tables.meta)
    return _STATE.unpack(raw) if raw else (1, 0, 0)


def _normalised(half: npt.NDArray[np.float16]) -> Vector:
    vector = half.astype(np.float32)
    norm = float(np.sqrt(vector @ vector))
    return vector / np.float32(norm) if norm > 0 else vector


def _hour() -> int:
    return int(time.time() // 3600)
