"""The named LMDB databases and their keys.

Ids (of files and units) are unsigned 64-bit in native byte order under LMDB's integer keys; roots are 32-bit. Where
order or a prefix matters, keys are bytes: root (big endian), then text as UTF-8 with surrogates passed through, whose
byte order is the order of Python's strings. LMDB bounds a key to 511 bytes, so a text over `TEXT_BYTES` is cut and
ends in a mark that no UTF-8 has and a digest of the whole; the records hold the full text.

Every pair of databases that holds one relation from both sides is written together by `store.transaction`, and
`store.check` compares them.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from codegraphd.store.records import digest

U64 = struct.Struct("=Q")  # native: what LMDB's integer keys compare
ROOT = struct.Struct(">I")
TEXT_BYTES: Final = 400
_CUT = b"\xff"
_SPREAD: Final = 0x9E3779B97F4A7C15  # odd, so that every root shifts keys elsewhere
_MASK: Final = (1 << 64) - 1


class Tables(NamedTuple):
    """Handles of the named databases (`lmdb._Database`, which has no types)."""

    meta: Any  # name -> bytes
    roots: Any  # root -> record
    counts: Any  # root or stage -> counters
    paths: Any  # root + path -> file id, stat, skipped
    files: Any  # file -> record
    units: Any  # unit -> record
    names: Any  # root + name -> unit, many
    words: Any  # unit -> compressed words
    facts: Any  # file -> compressed facts
    outlines: Any  # file -> digest of what resolution read of the file itself
    defines: Any  # root + key -> (id, file), many: who defines a resolution key
    defined: Any  # file -> root, (key, id) pairs: the same from the file's side
    waits: Any  # 64 bits of root and key -> file, many: whose resolution tried a key
    tried: Any  # file -> root, keys: the same from the file's side
    edges: Any  # unit -> packed edges
    redges: Any  # unit -> (source, kind, strength), many: the same from the target's side
    mentions: Any  # root + family + name -> unit, many: references left to be matched by name
    mentioned: Any  # unit -> root, (family, name, kind): the same from the unit's side
    states: Any  # unit -> recipe, attached recipe, reason; of the edition in slot 0 (store.editions)
    attached: Any  # unit -> code of its vector
    states_1: Any  # the same of the edition in slot 1
    attached_1: Any
    vectors: Any  # model + key -> row of the embedding cache
    rows: Any  # row -> model + key, time, vector: in order of last use
    queue: Any  # stage + id -> payload
    journal: Any  # clock -> changes

    @property
    def slots(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """(states, attached) of each slot."""
        return (self.states, self.attached), (self.states_1, self.attached_1)


_INTEGER: Final[dict[str, bool]] = {"integerkey": True}
_IDS: Final[dict[str, bool]] = {"dupsort": True, "dupfixed": True, "integerdup": True}

FLAGS: Final[dict[str, dict[str, bool]]] = {
    "meta": {}, "roots": {}, "counts": {}, "paths": {},
    "files": _INTEGER, "units": _INTEGER, "names": _IDS, "words": _INTEGER, "facts": _INTEGER,
    "outlines": _INTEGER,
    "defines": {"dupsort": True, "dupfixed": True}, "defined": _INTEGER,
    "waits": _INTEGER | _IDS, "tried": _INTEGER,
    "edges": _INTEGER, "redges": {"integerkey": True, "dupsort": True, "dupfixed": True},
    "mentions": _IDS, "mentioned": _INTEGER,
    "states": _INTEGER, "attached": _INTEGER, "states_1": _INTEGER, "attached_1": _INTEGER,
    "vectors": {}, "rows": _INTEGER,
    "queue": {}, "journal": _INTEGER,
}  # fmt: skip


def text_bytes(text: str) -> bytes:
    """UTF-8 that any Python string survives, ordered as the strings are."""
    return text.encode("utf-8", "surrogatepass")


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def bounded(raw: bytes) -> bytes:
    """`raw` where it fits into a key, else its head and a digest."""
    return raw if len(raw) <= TEXT_BYTES else raw[:TEXT_BYTES] + _CUT + digest(raw)


def is_cut(raw: bytes) -> bool:
    """Whether `bounded` had to cut: the full text is then to be read from the record."""
    return len(raw) > TEXT_BYTES


def text_key(root: int, text: str) -> bytes:
    return ROOT.pack(root) + bounded(text_bytes(text))


def mention_key(root: int, family: str, name: str) -> bytes:
    return ROOT.pack(root) + bounded(text_bytes(f"{family}\0{name}"))


def digest_key(root: int, key: bytes) -> bytes:
    return ROOT.pack(root) + key


def wait_key(root: int, key: bytes) -> bytes:
    """64 of the key's 128 bits, shifted by the root: half the bytes in the largest of the relations.

    Where two keys meet (once in 2**64), a file is resolved again without need; nothing is ever missed.
    """
    return U64.pack((int.from_bytes(key[:8], "little") + root * _SPREAD) & _MASK)


def queue_key(stage: int, id: int) -> bytes:
    return bytes((stage,)) + id.to_bytes(8, "big")


def root_counter(root: int) -> bytes:
    return b"r" + ROOT.pack(root)


def stage_counter(stage: int) -> bytes:
    return b"q" + bytes((stage,))


def delete_current(cursor: Any) -> bool:
    """Delete the row under a cursor. Whether it stands on a next one: `Cursor.delete` says True after the last, too."""
    cursor.delete()
    return bool(cursor.key())
