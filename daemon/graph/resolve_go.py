# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""Go: a package is a directory; import paths begin with the module path that a go.mod declares.

A module handle is a directory. Tests of package `x_test` are a package of their own: `directory` + TESTS.

Keys of its own:
  go directory name  a name or qualified name of the package: unit ids, CLASS
  god directory      the files of the package: file ids, with a fact of the package's name
  gomod path         the go.mod that declares that module: file id, PLACE
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegraphd.daemon.graph.keys import (
    CLASS,
    FUNCTION_KINDS,
    NAMELESS_KINDS,
    Pair,
    class_fact,
    fact,
    join,
    key,
    open_units,
    parent_path,
)
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Rules, Target
from codegraphd.store.records import Binding, Facts, UnitRecord

TESTS = "\0test"


def directory_of(path: str, package: str) -> str:
    return parent_path(path) + (TESTS if package.endswith("_test") else "")


class GoRules(Rules):
    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        directory = directory_of(path, facts.package)
        yield key(f"god\0{directory}"), file_id
        yield key(f"god\0{directory}"), fact(CLASS, file_id, path, facts.package)
        opened = open_units(units)
        for record in units:
            unit = record.unit
            inside = unit.parent >= 0 and units[unit.parent].unit.kind in FUNCTION_KINDS
            if unit.kind not in NAMELESS_KINDS and not inside:
                name = key(f"go\0{directory}\0{unit.qualname}")
                yield name, record.id
                if record.id in opened:
                    yield name, class_fact(record, facts.package)

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        directory = self._directory(names, path, binding.module)
        if directory is None:
            return EXTERNAL
        if binding.member not in {"", "*"}:
            return self.module_member(names, directory, binding.member, set())
        return Target(modules=(directory,))

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        return names.found(f"go\0{module}\0{name}")

    def implicit(self, names: Names, path: str, package: str, name: str) -> Target:
        return names.found(f"go\0{directory_of(path, package)}\0{name}")

    def own_members(self, names: Names, record: UnitRecord, name: str) -> Target:
        directory = directory_of(record.path, names.package_of(record.path))
        return names.found(f"go\0{directory}\0{record.unit.qualname}.{name}")

    def scope_head(self, names: Names, source: int, head: str) -> Target:
        """A package whose name is not the last part of its import path: `yaml` of "gopkg.in/yaml.v3"."""
        known = names.cache.get("go packages")
        if known is None:
            known = names.cache["go packages"] = self._packages(names)
        assert isinstance(known, dict)
        directory = known.get(head)
        return Target(modules=(directory,)) if directory is not None else NOTHING

    def _packages(self, names: Names) -> dict[str, str]:
        """Package name -> directory, of what this file imports from this root."""
        found: dict[str, str] = {}
        for binding in names.facts.bindings:
            if binding.member or binding.local in {"", "_", "."}:
                continue
            for directory in names.follow(names.path, binding).modules:
                for path in names.places(f"god\0{directory}")[:1]:
                    found.setdefault(names.package_of(path), directory)
        return found

    def _directory(self, names: Names, path: str, module: str) -> str | None:
        """The directory of an import path; None: outside of this root."""
        at = f"go\0{parent_path(path)}\0{module}"
        if at not in names.cache:
            names.cache[at] = self._find(names, path, module)
        found = names.cache[at]
        assert found is None or isinstance(found, str)
        return found

    def _find(self, names: Names, path: str, module: str) -> str | None:
        if module.startswith("."):
            return self._known(names, join(parent_path(path), module))
        here = parent_path(path)
        own = None
        while own is None:
            own = names.project(join(here, "go.mod"))
            if own is not None:
                if (directory := self._inside(names, here, own.one("name"), module)) is not None:
                    return directory
                for name, target in own.all("replace"):
                    if (directory := self._inside(names, join(here, target), name, module)) is not None:
                        return directory
            if not here:
                break
            here = parent_path(here)
        if "." not in module.partition("/")[0]:  # the standard library, unless this root is it
            return self._known(names, module)
        for prefix in _prefixes(module):
            for go_mod in names.places(f"gomod\0{prefix}"):
                if (directory := self._inside(names, parent_path(go_mod), prefix, module)) is not None:
                    return directory
        if own is not None:
            return self._known(names, f"vendor/{module}")
        suffix = module  # no go.mod anywhere above: the longest end of the path that is a directory
        while suffix:
            if (directory := self._known(names, suffix)) is not None:
                return directory
            suffix = suffix.partition("/")[2]
        return None

    def _inside(self, names: Names, directory: str, name: str, module: str) -> str | None:
        if module == name:
            return self._known(names, directory)
        if name and module.startswith(name + "/"):
            return self._known(names, join(directory, module[len(name) + 1 :]))
        return None

    def _known(self, names: Names, directory: str) -> str | None:
        return directory if names.look(f"god\0{directory}") else None


def _prefixes(module: str) -> Iterator[str]:
    while module:
        yield module
        module = module.rpartition("/")[0]
