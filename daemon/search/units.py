"""Units as answers show them, and the way from a path and a line to a unit.

Owns: the map that a unit becomes on the wire (the unit record of the interface), the innermost unit at a line, and the
rule by which a path that a person writes finds its workspace.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from codegraphd.store.records import FileRecord, Flag, RootRecord, UnitRecord

PART = "part"  # a piece of a unit that is too long to be read at once: found, but shown as the unit it belongs to


class Index(Protocol):
    """What answers read of a store.Snapshot."""

    def roots(self) -> tuple[RootRecord, ...]: ...
    def root(self, id: int) -> RootRecord | None: ...
    def file(self, root: int, path: str) -> FileRecord | None: ...
    def file_by_id(self, id: int) -> FileRecord | None: ...
    def unit(self, id: int) -> UnitRecord | None: ...
    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]: ...


class Describer:
    """Turns units into maps for one answer; remembers the roots' paths."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._roots: dict[int, str] = {}

    def unit(self, unit: UnitRecord) -> dict[str, Any]:
        """The unit record of the interface. `flags` is left out where there are none."""
        inner = unit.unit
        record: dict[str, Any] = {
            "id": str(unit.id),
            "root": self.root(unit.root),
            "path": unit.path,
            "language": unit.language,
            "kind": inner.kind,
            "name": inner.name,
            "qualname": inner.qualname,
            "signature": inner.signature,
            "start_line": inner.start_line,
            "end_line": inner.end_line,
            "doc": inner.doc,
        }
        if inner.flags & Flag.STALE:
            record["stale"] = True
        if inner.flags:
            record["flags"] = [str(flag.name).lower() for flag in Flag if inner.flags & flag]
        return record

    def root(self, root: int) -> str:
        if root not in self._roots:
            found = self._index.root(root)
            self._roots[root] = found.path if found else ""
        return self._roots[root]


def snippet(source: bytes, start_line: int, end_line: int, n_lines: int) -> str:
    """At most `n_lines` lines of a unit, from its first; bytes that are not UTF-8 are replaced."""
    last = min(end_line, start_line + n_lines - 1)
    lines = source.splitlines()[start_line - 1 : last]
    return b"\n".join(lines).decode("utf-8", "replace")


def locate(index: Index, root: int, path: str, line: int, *, parts: bool = False) -> UnitRecord | None:
    """The innermost unit at a line (1-based), decorators and doc comment included; None: there is none.

    A part is passed over in favour of the unit it belongs to, unless `parts` asks for it.
    """
    file = index.file(root, path)
    if file is None:
        return None
    return innermost(index.units_of(file), line, parts=parts)


def innermost(units: Iterable[UnitRecord], line: int, *, parts: bool = False) -> UnitRecord | None:
    """Of the units of one file the shortest that covers the line; of equals the one that begins last."""
    best: UnitRecord | None = None
    for unit in units:
        inner = unit.unit
        if not inner.start_line <= line <= inner.end_line or (inner.kind == PART and not parts):
            continue
        if best is None or inner.end_byte - inner.start_byte <= best.unit.end_byte - best.unit.start_byte:
            best = unit
    return best


def whole(index: Index, unit: UnitRecord) -> UnitRecord:
    """The unit itself, or, for a part, the unit it belongs to."""
    while unit.unit.kind == PART and unit.parent:
        parent = index.unit(unit.parent)
        if parent is None:
            break
        unit = parent
    return unit


def root_for(roots: Iterable[RootRecord], path: str) -> RootRecord | None:
    """The innermost root that an absolute path lies in (or is)."""
    holding = [root for root in roots if path == root.path or path.startswith(root.path.rstrip("/") + "/")]
    return max(holding, key=lambda root: len(root.path), default=None)


def places(index: Index, path: str, root: RootRecord | None = None) -> list[tuple[RootRecord, str]]:
    """Where a path as a person writes it may lie: (root, path relative to it), best first.

    An absolute path lies in one root at most; a relative one in each root that has such a file.
    """
    roots = (root,) if root else index.roots()
    if os.path.isabs(path):
        plain = os.path.normpath(path)
        home = root_for(roots, plain)
        if home is None:  # the roots are real paths; this one may lead through a link
            plain = os.path.join(os.path.realpath(os.path.dirname(plain)), os.path.basename(plain))
            home = root_for(roots, plain)
        if home is None or plain == home.path:
            return []
        return [(home, plain[len(home.path.rstrip("/")) + 1 :])]
    plain = os.path.normpath(path)
    return [(home, plain) for home in roots if index.file(home.id, plain)]
