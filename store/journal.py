"""What each commit changed, for a bounded time.

One row for each clock that changed something: the unit changes, for `changes` and subscribers, and the ids whose words,
whose vectors or whose existence changed, from which the word index and the vector index catch up. The oldest rows go
when there are more than `MAX_LINES` lines in all; `floor` is the newest clock that went.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from codegraphd.store import codec
from codegraphd.store.editions import Editions
from codegraphd.store.records import UnitChange, UnitRecord, Words
from codegraphd.store.tables import U64, Tables, delete_current

MAX_LINES: Final = 200_000
_KEY = b"journal"
_STATE = struct.Struct("<QQ")  # lines held, floor
_LINES = struct.Struct("<I")


@dataclass(slots=True)
class Delta:
    """What one commit means to the indexes: what they must drop, put, and what subscribers are told."""

    words: dict[int, tuple[UnitRecord, Words]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    vectors: dict[int, tuple[UnitRecord, bytes] | None] = field(default_factory=dict)  # None: no vector any more
    coming: dict[int, tuple[UnitRecord, bytes] | None] = field(default_factory=dict)  # the same, of the edition to come
    editions: Editions | None = None  # set where these changed, after all else in here; not kept in the journal
    changes: list[UnitChange] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.words) + len(self.deleted) + len(self.vectors) + len(self.changes)


@dataclass(frozen=True, slots=True)
class Touched:
    """The units that an index has to look at again to get from one clock to a later one."""

    words: frozenset[int]
    deleted: frozenset[int]
    vectors: frozenset[int]


def append(txn: Any, tables: Tables, clock: int, delta: Delta) -> None:
    """Write the row of `clock` and drop the oldest rows over the bound. Nothing to say: nothing written."""
    n_lines = len(delta)
    if not n_lines:
        return
    row = (codec.encode_changes(delta.changes), list(delta.words), list(delta.deleted), list(delta.vectors))
    held, floor = _state(txn, tables)
    held += n_lines
    txn.put(U64.pack(clock), _LINES.pack(n_lines) + codec.deflate(row), db=tables.journal, append=True)
    if held > MAX_LINES:
        cursor = txn.cursor(tables.journal)
        exists = cursor.first()
        while exists and held > MAX_LINES:
            (floor,) = U64.unpack(cursor.key())
            held -= _LINES.unpack_from(cursor.value())[0]
            exists = delete_current(cursor)
        cursor.close()
    txn.put(_KEY, _STATE.pack(held, floor), db=tables.meta)


def changes(txn: Any, tables: Tables, clock: int, root: int | None, since: int) -> list[tuple[int, UnitChange]] | None:
    """(clock, change) after `since`, oldest first, of one root or of all; None where the journal does not reach."""
    rows = _rows(txn, tables, clock, since)
    if rows is None:
        return None
    found: list[tuple[int, UnitChange]] = []
    for at, row in rows:
        found += [(at, codec.decode_change(fields)) for fields in row[0] if root is None or fields[1] == root]
    return found


def touched(txn: Any, tables: Tables, clock: int, since: int) -> Touched | None:
    """What changed after `since`; None where the journal does not reach back that far."""
    rows = _rows(txn, tables, clock, since)
    if rows is None:
        return None
    words: set[int] = set()
    deleted: set[int] = set()
    vectors: set[int] = set()
    for _, row in rows:
        words.update(row[1])
        deleted.update(row[2])
        vectors.update(row[3])
    return Touched(frozenset(words), frozenset(deleted), frozenset(vectors))


def _rows(txn: Any, tables: Tables, clock: int, since: int) -> list[tuple[int, Any]] | None:
    if since > clock or since < _state(txn, tables)[1]:
        return None
    rows = []
    cursor = txn.cursor(tables.journal)
    if cursor.set_range(U64.pack(since + 1)):
        rows = [(U64.unpack(key)[0], codec.inflate(raw[_LINES.size :])) for key, raw in cursor.iternext()]
    cursor.close()
    return rows


def _state(txn: Any, tables: Tables) -> tuple[int, int]:
    raw = txn.get(_KEY, db=tables.meta)
    return _STATE.unpack(raw) if raw else (0, 0)
