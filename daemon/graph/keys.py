"""Resolution keys: what a file defines under which key, and what it waits on.

A *key* is an opaque digest of a little text ("n", path, name). The index keeps pairs (key, value) that files define
and, for each file, the keys that its resolution looked up, misses included. A key that gains or loses a pair is
*touched*; whoever waits on it is resolved again.

A *value* is the id of a unit or a file, or a **fact**: a tagged digest of something that a reader of the key goes on to
read (bases of a class, what an import binds, the path at which a file stands). Ids stay the same over edits and moves,
so a pair (key, id) would not tell that the bases of a class changed; the pair (key, fact) beside it does, because
another content is another value. That is the one mechanism by which resolution may depend on other files:

    everything that resolution reads of another file is found under a looked-up key and is covered by a fact there.

`tests/daemon/graph/test_resolve_incremental.py` holds it against random projects and edits.

Key texts (fields are separated by NUL):

  p path             the file at that path                                        file id
  n path name        a name at the top of a file, or a qualified name in it       unit ids, CLASS, NAMES
  n path *           what a file takes in by star imports                         NAMES
  j path             what a project file says (package.json, go.mod, ...)         NAMES
  and those of one language family, see `resolve_*.py`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from codegraphd.daemon.graph.signatures import constant_type
from codegraphd.store.records import Binding, Flag, UnitRecord

# Tags of facts, above all ids. A value is below 2**63, as ids are.
PLACE = 1  # (file id, path): the reader uses the path of the file behind an id
CLASS = 2  # (file id, path, kind, package, flags, bases, header): the reader looks into the unit behind an id
NAMES = 3  # (file id, bindings): the reader follows imports
_TAG_SHIFT = 61
FACT_MIN = 1 << _TAG_SHIFT
_MASK = FACT_MIN - 1

# Units that other names stand in: looked into for members, and for their bases.
CLASS_KINDS = frozenset({"class", "struct", "enum", "interface", "trait", "impl", "module", "namespace", "type"})
FUNCTION_KINDS = frozenset({"function", "method", "constructor"})
# Units that no reference can name. An impl block bears the name of its type and is none.
NAMELESS_KINDS = frozenset({"part", "section", "file", "impl"})

Pair = tuple[bytes, int]


def key(text: str) -> bytes:
    """The key of a text: 16 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def fact(tag: int, *parts: object) -> int:
    """A fact: `tag` above 61 bits of a digest of the parts, which are strings, numbers or tuples of such."""
    raw = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()
    return (tag << _TAG_SHIFT) | (int.from_bytes(raw[:8], "little") & _MASK)


def tag_of(value: int) -> int:
    """PLACE, CLASS or NAMES; 0 for an id."""
    return value >> _TAG_SHIFT


def local_name(binding: Binding) -> str:
    """The name under which a binding is found: "*" for stars, the first of a dotted one (`import a.b` binds a)."""
    if binding.member == "*" and binding.local in {"", "*"}:
        return "*"
    return binding.local.partition(".")[0] if binding.local != "." else "*"


def imports_by_name(bindings: Iterable[Binding]) -> dict[str, list[Binding]]:
    """What the imports at the top of a file bring in, under the name by which it is found."""
    found: dict[str, list[Binding]] = {}
    for binding in bindings:
        if binding.source == -1 and (local := local_name(binding)):
            found.setdefault(local, []).append(binding)
    return found


def ids_of(values: Sequence[int]) -> tuple[int, ...]:
    """The ids among the values of a key. Values come in ascending order, so facts stand behind."""
    if not values or values[-1] < FACT_MIN:
        return tuple(values)
    return tuple([value for value in values if value < FACT_MIN])


def names_fact(file_id: int, bindings: Iterable[Binding]) -> int:
    """Covers what the bindings say; where they stand (the line) is nobody's business."""
    return fact(NAMES, file_id, tuple([(b.local, b.module, b.member, b.exported) for b in bindings]))


def class_fact(record: UnitRecord, package: str) -> int:
    """Covers what may be read of a unit of another file, beside its name and qualified name, which are in the key."""
    unit = record.unit
    flags = unit.flags & (Flag.DECLARATION | Flag.EXPORTED | Flag.STATIC)
    header = unit.signature if unit.kind in CLASS_KINDS or unit.kind == "constant" else ""
    return fact(CLASS, record.file, record.path, unit.kind, package, int(flags), unit.bases, header)


def open_units(units: Sequence[UnitRecord]) -> frozenset[int]:
    """Ids of those units of a file that may be looked into; their definitions come with a CLASS fact. Beside classes
    and their like these are constants: objects that contain units, and instances whose type is written."""
    parents = {record.parent for record in units}
    return frozenset(
        [
            record.id
            for record in units
            if (unit := record.unit).kind in CLASS_KINDS
            or (unit.kind == "constant" and (record.id in parents or constant_type(unit.signature, unit.name)))
        ]
    )


def parent_path(path: str) -> str:
    """The directory of a path: "" for the root."""
    return path.rpartition("/")[0]


def join(directory: str, name: str) -> str:
    """`name` in `directory` ("" is the root); "." and ".." of `name` are walked. "\0" (never a path) above the root."""
    parts = directory.split("/") if directory else []
    for part in name.split("/"):
        if part in {"", "."}:
            continue
        if part == "..":
            if not parts:
                return "\0"
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def suffixes(path: str) -> list[str]:
    """ "a/b/c" -> "a/b/c", "b/c", "c"."""
    out = [path]
    while "/" in path:
        path = path.partition("/")[2]
        out.append(path)
    return out
