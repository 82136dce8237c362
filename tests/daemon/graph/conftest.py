"""An index in memory that does with definitions, waits and touched keys what the engine does, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from codegraphd.daemon.graph.resolve import Memo, Resolution, definitions, resolve
from codegraphd.store.records import (
    Binding,
    Facts,
    FileRecord,
    Flag,
    Module,
    Reference,
    Stat,
    Strength,
    Unit,
    UnitRecord,
    digest,
)

ROOT = 1
_STAT = Stat(0, 0, 0, 0)


def unit(
    kind: str,
    qualname: str,
    parent: int = -1,
    *,
    bases: Sequence[str] = (),
    signature: str = "",
    flags: int = 0,
    ordinal: int = 0,
) -> Unit:
    """A unit as analysis would give it, where only what resolution reads is filled in."""
    name = qualname.rpartition(".")[2]
    return Unit(
        kind, name, qualname, ordinal, parent, 0, 1, 1, 1, signature or f"{kind} {name}", (), tuple(bases), "",
        flags, b"", b"", b"", b"",
    )  # fmt: skip


def ref(source: int, text: str, kind: str = "call", receiver: str = "", line: int = 1) -> Reference:
    """`ref(0, "a.b.c")`: name c with scope a.b."""
    scope, _, name = text.rpartition(".")
    return Reference(source, kind, name, scope, receiver, line)


def bind(local: str, module: str, member: str = "", source: int = -1, *, exported: bool = True) -> Binding:
    return Binding(source, local, module, member, exported, 1)


class World:
    """A root in memory. `put` and `remove` commit at once: what waits on a touched key is resolved again."""

    def __init__(self) -> None:
        self._next = 1
        self._by_id: dict[int, FileRecord] = {}
        self._paths: dict[str, int] = {}
        self._units: dict[int, UnitRecord] = {}
        self._facts: dict[int, Facts] = {}
        self._defines: dict[bytes, set[tuple[int, int]]] = {}
        self._defined: dict[int, set[tuple[bytes, int]]] = {}
        self._waiting: dict[bytes, set[int]] = {}
        self._tried: dict[int, frozenset[bytes]] = {}
        self.resolutions: dict[int, Resolution] = {}
        self.resolved: list[str] = []  # paths, in order, since it was last cleared
        self.memo = Memo()

    # --- View ---------------------------------------------------------------------------------------------------------

    def lookup(self, root: int, key: bytes) -> tuple[int, ...]:
        assert root == ROOT
        return tuple(sorted({value for value, _ in self._defines.get(key, ())}))

    def file_by_id(self, id: int) -> FileRecord | None:
        return self._by_id.get(id)

    def unit(self, id: int) -> UnitRecord | None:
        return self._units.get(id)

    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]:
        return tuple(self._units[id] for id in file.units)

    def facts(self, file_id: int) -> Facts | None:
        return self._facts.get(file_id)

    def package(self, file_id: int) -> str:
        facts = self._facts.get(file_id)
        return facts.package if facts else ""

    # --- edits --------------------------------------------------------------------------------------------------------

    def put(
        self,
        path: str,
        language: str,
        units: Sequence[Unit] = (),
        references: Sequence[Reference] = (),
        bindings: Sequence[Binding] = (),
        package: str = "",
        *,
        resolving: bool = True,
    ) -> None:
        """Add or change a file. Units keep their ids by (qualified name, ordinal), whatever becomes of them."""
        file_id = self._paths.get(path)
        known: dict[tuple[str, int], int] = {}
        if file_id is None:
            file_id = self._new_id()
        else:
            for id in self._by_id[file_id].units:
                old = self._units.pop(id)
                known[old.unit.qualname, old.unit.ordinal] = id
        ids = [known.get((u.qualname, u.ordinal)) or self._new_id() for u in units]
        for id, u in zip(ids, units, strict=True):
            parent = ids[u.parent] if u.parent >= 0 else 0
            self._units[id] = UnitRecord(id, ROOT, file_id, path, language, parent, u)
        self._paths[path] = file_id
        self._by_id[file_id] = FileRecord(file_id, ROOT, path, language, _STAT, b"", 1, "", 0, tuple(ids))
        self._facts[file_id] = Facts(package, tuple(references), tuple(bindings))
        self._commit({file_id}, self._define(file_id), resolving=resolving)

    def put_module(self, path: str, module: Module, *, resolving: bool = True) -> None:
        self.put(
            path, module.language, module.units, module.references, module.bindings, module.package,
            resolving=resolving,
        )  # fmt: skip

    def remove(self, path: str) -> None:
        file_id = self._paths.pop(path)
        touched = self._set_defines(file_id, set())
        for id in self._by_id.pop(file_id).units:
            del self._units[id]
        del self._facts[file_id]
        self.resolutions.pop(file_id, None)
        for key in self._tried.pop(file_id, frozenset()):
            self._waiting[key].discard(file_id)
        self._commit(set(), touched)

    def move(self, path: str, to: str) -> None:
        """The file and its units keep their ids, as the engine has it for an untouched file under a new name."""
        file_id = self._paths.pop(path)
        old = self._by_id[file_id]
        self._paths[to] = file_id
        self._by_id[file_id] = FileRecord(file_id, ROOT, to, old.language, _STAT, b"", old.lines, "", 0, old.units)
        for id in old.units:
            r = self._units[id]
            self._units[id] = UnitRecord(id, ROOT, file_id, to, r.language, r.parent, r.unit)
        self._commit({file_id}, self._define(file_id))

    def resolve_all(self) -> None:
        for file_id in sorted(self._by_id):
            self._resolve(file_id)

    def _new_id(self) -> int:
        self._next += 1
        return self._next

    def _define(self, file_id: int) -> set[bytes]:
        file = self._by_id[file_id]
        pairs = definitions(file.path, file_id, self._facts[file_id], self.units_of(file), file.language)
        assert len(pairs) == len(set(pairs))
        assert all(0 < value < 2**63 and len(key) == 16 for key, value in pairs)
        return self._set_defines(file_id, set(pairs))

    def _set_defines(self, file_id: int, pairs: set[tuple[bytes, int]]) -> set[bytes]:
        before = self._defined.get(file_id, set())
        for key, value in before - pairs:
            self._defines[key].discard((value, file_id))
        for key, value in pairs - before:
            self._defines.setdefault(key, set()).add((value, file_id))
        self._defined[file_id] = pairs
        return {key for key, _ in before ^ pairs}

    def _commit(self, changed: set[int], touched: set[bytes], *, resolving: bool = True) -> None:
        if resolving:
            for file_id in sorted(changed.union(*(self._waiting.get(key, ()) for key in touched))):
                self._resolve(file_id)

    def _resolve(self, file_id: int) -> None:
        file = self._by_id[file_id]
        self.resolved.append(file.path)
        resolution = resolve(self, ROOT, file, self.memo)
        self.resolutions[file_id] = resolution
        for key in self._tried.get(file_id, ()):
            self._waiting[key].discard(file_id)
        for key in resolution.keys:
            self._waiting.setdefault(key, set()).add(file_id)
        self._tried[file_id] = resolution.keys

    # --- what there is, without ids -----------------------------------------------------------------------------------

    def label(self, unit_id: int) -> str:
        record = self._units[unit_id]
        ordinal = f"#{record.unit.ordinal}" if record.unit.ordinal else ""
        return f"{record.path}:{record.unit.qualname}{ordinal}"

    def edges(self, *, contain: bool = False) -> set[str]:
        """ "a.py:main -> b.py:load call strong" for every edge."""
        return {
            f"{self.label(source)} -> {self.label(edge.target)} {edge.kind} {Strength(edge.strength).name.lower()}"
            for resolution in self.resolutions.values()
            for source, edges in resolution.edges.items()
            for edge in edges
            if contain or edge.kind != "contain"
        }

    def mentions(self) -> set[str]:
        """ "a.py:main ? load call" for every reference left open."""
        return {
            f"{self.label(source)} ? {name} {kind}"
            for resolution in self.resolutions.values()
            for source, mentions in resolution.mentions.items()
            for _, name, kind in mentions
        }

    def everything(self) -> tuple[Any, ...]:
        """All that resolution found, with the order of edges, ids aside."""
        edges = {
            (self.label(source), self.label(e.target), e.kind, e.strength, e.order)
            for resolution in self.resolutions.values()
            for source, found in resolution.edges.items()
            for e in found
        }
        return edges, self.mentions(), {self._by_id[id].path: r.keys for id, r in self.resolutions.items()}

    def fresh(self) -> World:
        """The same files in another world, resolved from scratch, with other ids."""
        other = World()
        other._next = 10_000
        for path in sorted(self._paths, key=digest):
            file = self._by_id[self._paths[path]]
            facts = self._facts[file.id]
            other.put(
                path, file.language, [self._units[id].unit for id in file.units], facts.references, facts.bindings,
                facts.package, resolving=False,
            )  # fmt: skip
        other.resolve_all()
        return other


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make() -> Any:
    """The builders, as test modules cannot import each other: `make.unit`, `make.ref`, `make.bind`, `make.World`."""

    class Make:
        World, Flag = World, Flag

    Make.unit, Make.ref, Make.bind = staticmethod(unit), staticmethod(ref), staticmethod(bind)  # type: ignore[attr-defined]
    return Make
