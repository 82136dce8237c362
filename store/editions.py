"""Two sets of the units' vectors beside each other: one answers while the other is filled for another model.

Terms: an *edition* is what one model made of one kind of inputs: the state and the vector of every unit. Its number is
given once and never again. It lies in one of two *slots*, each a pair of tables (`Tables.slots`).

The one row of this module says which edition answers, which one is to come, and in which slot the first lies; the other
slot is that of the edition to come, or holds what is left of a former one until it is cleared. A switch rewrites the
row and nothing else. So it costs the same for ten units as for a million, and a snapshot sees one edition whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

from codegraphd.store.tables import Tables, delete_current, queue_key

_ROW = struct.Struct("<QQBQ")  # answering, coming, slot of the answering one, highest number given
_KEY = b"editions"


@dataclass(frozen=True, slots=True)
class Editions:
    """What the row says. `coming` 0: no edition is to come."""

    answering: int = 1
    coming: int = 0
    slot: int = 0
    newest: int = 1

    def slot_of(self, edition: int) -> int | None:
        """Where an edition lies; None: it is over, or never was."""
        if edition == self.answering:
            return self.slot
        return 1 - self.slot if edition and edition == self.coming else None

    def begun(self) -> Editions:
        if self.coming:
            raise ValueError(f"edition {self.coming} is to come already")
        return replace(self, coming=self.newest + 1, newest=self.newest + 1)

    def given_up(self) -> Editions:
        return replace(self, coming=0)

    def switched(self) -> Editions:
        if not self.coming:
            raise ValueError("there is no edition to switch to")
        return replace(self, answering=self.coming, coming=0, slot=1 - self.slot)


def read(txn: Any, tables: Tables) -> Editions:
    raw = txn.get(_KEY, db=tables.meta)
    return Editions(*_ROW.unpack(raw)) if raw is not None else Editions()


def write(txn: Any, tables: Tables, row: Editions) -> None:
    txn.put(_KEY, _ROW.pack(row.answering, row.coming, row.slot, row.newest), db=tables.meta)


def is_empty(txn: Any, tables: Tables, slot: int) -> bool:
    return not any(txn.stat(table)["entries"] for table in tables.slots[slot])


def clear(txn: Any, tables: Tables, slot: int) -> None:
    """Empty a slot: its pages go back as a whole, some 15 ms for 100,000 units."""
    for table in tables.slots[slot]:
        txn.drop(table, delete=False)


def clear_list(txn: Any, tables: Tables, stage: int, limit: int) -> int:
    """Drop up to `limit` entries of a work list. Returns how many went."""
    n_gone = 0
    with txn.cursor(tables.queue) as cursor:
        exists = cursor.set_range(queue_key(stage, 0))
        while exists and n_gone < limit and cursor.key()[0] == stage:
            exists = delete_current(cursor)
            n_gone += 1
    return n_gone
