# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""What resolution reads, what a name can denote, and what a language decides: the terms of `resolve_names`.

A *container* is what names are looked up in: a file or package (a *module handle*, a string whose form only the rules
of its language know) or a unit with members. A *target* is what a name denotes: units of one qualified name, or
containers, or something outside of this root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from codegraphd.daemon.graph.keys import Pair
from codegraphd.store.records import Binding, Facts, FileRecord, Reference, UnitRecord

if TYPE_CHECKING:
    from codegraphd.daemon.graph.resolve_names import Names


class View(Protocol):
    """What resolution reads of the index: `graph.index.View` is one."""

    def lookup(self, root: int, key: bytes) -> tuple[int, ...]: ...
    def file_by_id(self, id: int) -> FileRecord | None: ...
    def unit(self, id: int) -> UnitRecord | None: ...
    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]: ...
    def facts(self, file_id: int) -> Facts | None: ...
    def package(self, file_id: int) -> str: ...


class Target(NamedTuple):
    """What a name denotes. All empty: nothing is known of it."""

    units: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()
    has_members: bool = False  # some of `units` may be looked into (their keys carry CLASS facts)
    external: bool = False  # an import binds it to something that this root does not have


NOTHING = Target()
EXTERNAL = Target(external=True)


def merge(targets: Iterable[Target]) -> Target:
    """All of them as one."""
    kept = [target for target in dict.fromkeys(targets) if target != NOTHING]
    if len(kept) < 2:
        return kept[0] if kept else NOTHING
    return Target(
        tuple(dict.fromkeys(unit_id for target in kept for unit_id in target.units)),
        tuple(dict.fromkeys(module for target in kept for module in target.modules)),
        any(target.has_members for target in kept),
        all(target.external for target in kept),
    )


class Memo:
    """Import lists of files, by the fact that covers them: right for ever, so they serve many resolutions.

    Bounded (some 500 bytes each): emptied when full; a crawl goes from file to file and the hot ones come back at once.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self.bindings: dict[int, tuple[Binding, ...]] = {}
        self._limit = limit

    def put(self, value: int, bindings: tuple[Binding, ...]) -> None:
        if len(self.bindings) >= self._limit:
            self.bindings.clear()
        self.bindings[value] = bindings


class Rules:
    """One language family. The defaults are those of a language without imports."""

    class_scope = False  # members of an enclosing class are visible by their bare name; constructors bear its name
    call_makes = False  # calling a class instantiates it
    decorator_suffix = ""  # what may be left out of the name of a decorator

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterable[Pair]:
        """Pairs beside those that every language has."""
        return ()

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        """What a binding of the file at `path` denotes; for a star: the containers that it opens."""
        return NOTHING

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        """What an importer gets from a module under a name."""
        return names.search(module, name, importing=True, seen=seen)

    def implicit(self, names: Names, path: str, package: str, name: str) -> Target:
        """What is visible at the top of a file without an import: same package, prelude."""
        return NOTHING

    def is_starred(self, name: str) -> bool:
        """Whether a star import can bring in a name."""
        return True

    def own_members(self, names: Names, record: UnitRecord, name: str) -> Target:
        """Members that the class itself has under a name, wherever they are defined."""
        return names.in_file(record.path, f"{record.unit.qualname}.{name}")

    def distinct(self, names: Names, units: Sequence[int]) -> Sequence[int]:
        """Those of several units of one name that have members of their own."""
        return units

    def bases(self, names: Names, record: UnitRecord) -> Iterable[tuple[UnitRecord, str]]:
        """What the class inherits from: names, each with the unit in whose header it is written."""
        return [(record, base) for base in record.unit.bases]

    def spelled(self, names: Names, target: Target, written: str) -> Target:
        """Which of the units that a name denotes the type means that was written."""
        return target

    def around(self, names: Names, record: UnitRecord, name: str) -> Target:
        """A name in the class of a method of this file that is written outside of its class."""
        return NOTHING

    def narrow(self, names: Names, ref: Reference, target: Target) -> Target:
        """Which of the units that a name denotes a reference means, as far as its own unit's signature tells."""
        return target

    def visible(self, names: Names, source: int, name: str) -> Target:
        """A name that no scope inside of this file has."""
        return names.top(names.path, name)

    def visible_from(self, names: Names, record: UnitRecord, name: str) -> Target:
        """A name in the header of a class of another file: beside or around the class, then at the file's top."""
        outer = record.unit.qualname.rpartition(".")[0]
        while outer:
            target = names.in_file(record.path, f"{outer}.{name}")
            if target.units:
                return target
            outer = outer.rpartition(".")[0]
        return names.top(record.path, name)

    def extra_edges(self, names: Names) -> Iterable[tuple[int, int, str]]:
        """Edges (source unit, target unit, kind) of this file that come from no reference."""
        return ()

    def scope_head(self, names: Names, source: int, head: str) -> Target:
        """What the first name of a scope denotes where it is no name in sight: `crate`, a module beside the file."""
        return NOTHING

    def qualified(self, names: Names, source: int, parts: Sequence[str]) -> Target:
        """What a whole scope denotes whose first name is nothing in sight: a full name with its package."""
        return NOTHING
