# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""Java and C#: types by their full dotted name, wherever the file that declares them lies.

C#: `Box`, `Box<T>` and `Box<T, U>` are three types of one name, and one type may have parts in many files. A reference
leads to the principal part, and that by "declare" edges to the others; which of the types is meant shows in what is
written: analysis ends it with as many `arguments`.

A module handle is the dotted name of a package or namespace.

Keys of its own (`family` keeps the two languages apart):
  q family full      a type with its package and qualified name, "a.b.Outer.Inner"; in C# members of types too, as
                     those of a partial class lie in many files, with `arguments` behind the type for its
                     parameters: unit ids, CLASS
  ns family full     the files of a package or namespace: file ids
  t family name      types of that simple name, whatever their package: unit ids; and
  s family name      files of packages whose last part is that name: file ids. Both are asked first: most names of a
                     file are of no type of this root, and one miss then says what else each package in sight would
  gu directory       what imports namespaces for every file below (C#): `global using`, a *.csproj: file ids, PLACE
  gs path            the `global using`s of a source file: NAMES
  module family dir  the pom.xml or *.csproj of a directory: file ids, PLACE
  maven artifact     the pom.xml of that name: file id, PLACE

Of several types of one full name those of the file's own module are meant, else those of modules that it refers to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from codegraphd.daemon.analysis.written_types import arguments, count_arguments, n_arguments
from codegraphd.daemon.graph.keys import (
    CLASS_KINDS,
    NAMELESS_KINDS,
    PLACE,
    Pair,
    class_fact,
    fact,
    join,
    key,
    names_fact,
    parent_path,
)
from codegraphd.daemon.graph.projects import Project, is_project
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Rules, Target
from codegraphd.daemon.graph.signatures import type_parameters
from codegraphd.store.records import Binding, Facts, Reference, UnitRecord

_MAX_MODULES = 1_000  # that one refers to


def full_name(package: str, qualname: str) -> str:
    return f"{package}.{qualname}" if package else qualname


class JavaRules(Rules):
    family = "java"
    class_scope = True
    members = False  # whether members of types have keys of their own

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        spaces = {facts.package}
        marked = [_marked(record) if self.members else "" for record in units]
        for record in units:
            unit = record.unit
            above = [units[i].unit.kind for i in _above(units, unit.parent)]
            is_type = unit.kind in CLASS_KINDS
            is_member = self.members and bool(above) and unit.kind != "constructor" and unit.kind not in NAMELESS_KINDS
            if not (is_type or is_member) or not CLASS_KINDS.issuperset(above):
                continue
            full = full_name(facts.package, unit.qualname)
            if unit.kind == "namespace":
                spaces.add(full)
                continue
            names = [f"{full_name(facts.package, marked[unit.parent])}.{unit.name}"] if is_member else []
            if is_type:
                names.append(full)
                yield key(f"t\0{self.family}\0{unit.name}"), record.id
            for name in {key(f"q\0{self.family}\0{name}") for name in names}:
                yield name, record.id
                if is_type:
                    yield name, class_fact(record, facts.package)
        for space in spaces:
            yield key(f"ns\0{self.family}\0{space}"), file_id
            yield key(f"s\0{self.family}\0{space.rpartition('.')[2]}"), file_id

    def type_named(self, names: Names, full: str, path: str = "") -> Target:
        """The types of that full name, as they are seen from a file, by default the one that is resolved."""
        if not names.look(f"t\0{self.family}\0{full.rpartition('.')[2]}"):
            return NOTHING
        return self.near(names, names.found(f"q\0{self.family}\0{full}"), path or names.path)

    def near(self, names: Names, target: Target, path: str) -> Target:
        """Of units of one name in several modules those of the file's own, else of those that this one refers to."""
        if len(target.units) < 2:
            return target
        known = [record for unit_id in target.units if (record := names.unit(unit_id)) is not None]
        if len({record.path for record in known}) < 2:
            return target
        modules = {record.id: self._module(names, parent_path(record.path)) for record in known}
        if len(set(modules.values())) < 2:
            return target
        own = self._module(names, parent_path(path))
        for group in ({own}, self._referred(names, own)):
            meant = tuple([unit_id for unit_id in target.units if modules.get(unit_id, "") in group])
            if meant:
                return target._replace(units=meant)
        return target

    def _module(self, names: Names, directory: str) -> str:
        """The directory of the module that a directory belongs to: of the nearest pom.xml or *.csproj; "": of none."""
        at = f"module\0{directory}"
        found = names.cache.get(at)
        if found is None:
            if not directory or names.look(f"module\0{self.family}\0{directory}"):
                found = directory
            else:
                found = self._module(names, parent_path(directory))
            names.cache[at] = found
        assert isinstance(found, str)
        return found

    def _referred(self, names: Names, module: str) -> set[str]:
        """The modules of this root that a module refers to, and those that they refer to."""
        at = f"referred\0{module}"
        found = names.cache.get(at)
        if found is None:
            reached = [module]
            for directory in reached:  # grows
                for path in names.places(f"module\0{self.family}\0{directory}"):
                    project = names.project(path)
                    for other in () if project is None else self._references(names, directory, project):
                        if other not in reached and len(reached) < _MAX_MODULES:
                            reached.append(other)
            found = names.cache[at] = set(reached[1:])
        assert isinstance(found, set)
        return found

    def _references(self, names: Names, directory: str, project: Project) -> Iterator[str]:
        for _, artifact in project.all("dependency"):
            yield from (parent_path(path) for path in names.places(f"maven\0{artifact}"))
        for _, path in project.all("reference"):
            yield parent_path(join(directory, path))

    def is_space(self, names: Names, full: str) -> bool:
        if not names.look(f"s\0{self.family}\0{full.rpartition('.')[2]}"):
            return False
        return bool(names.look(f"ns\0{self.family}\0{full}"))

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        module, member = binding.module, binding.member
        if member == "*":
            target = self.type_named(names, module)
            if target.units:
                return target
            return Target(modules=(module,)) if self.is_space(names, module) else EXTERNAL
        full = f"{module}.{member}" if member else module
        target = self.type_named(names, full)
        if target.units:
            return target
        owner, _, last = full.rpartition(".")
        of = self.type_named(names, owner) if owner else NOTHING
        return names.member(of, last) if of.units else EXTERNAL

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        return self.type_named(names, full_name(module, name))

    def implicit(self, names: Names, path: str, package: str, name: str) -> Target:
        return self.type_named(names, full_name(package, name))

    def qualified(self, names: Names, source: int, parts: Sequence[str]) -> Target:
        """`a.b.C` or `a.b.C.D` written out: packages are in lower case, types are not."""
        first = next((i for i, part in enumerate(parts) if not part[:1].islower()), 0)
        if not first:
            return NOTHING
        target = self.type_named(names, ".".join(parts[: first + 1]))
        for name in parts[first + 1 :]:
            target = names.member(target, name)
        return target


class CSharpRules(JavaRules):
    """Namespaces nest: what stands in A is seen from A.B. `partial` classes have their members in several files."""

    family = "csharp"
    members = True
    decorator_suffix = "Attribute"

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        yield from super().definitions(path, file_id, facts, units)
        everywhere = [binding for binding in facts.bindings if _is_global(binding)]
        if everywhere:
            directory = parent_path(path)
            if directory.rpartition("/")[2] in {"Properties", "Usings"}:  # by habit about the directory above
                directory = parent_path(directory)
            yield key(f"gu\0{directory}"), file_id
            yield key(f"gu\0{directory}"), fact(PLACE, file_id, path)
            yield key(f"gs\0{path}"), names_fact(file_id, everywhere)

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        """`using Tools;` inside of the namespace App.Core can mean App.Tools. Whether it stands inside of one that is
        around the whole file is not known here, so the full name is tried first."""
        module, member = binding.module, binding.member
        written = f"{module}.{member}" if member not in {"", "*"} else module
        space = self._space(names, binding.source) if path == names.path else names.package_of(path)
        for prefix in ("", *_prefixes(space)):
            full = full_name(prefix, written)
            target = self.type_named(names, full)
            if target.units:
                return target
            if self.is_space(names, full):
                return Target(modules=(full,))
        return EXTERNAL

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        full = full_name(module, name)
        target = self.type_named(names, full)
        if not target.units and self.is_space(names, full):
            return Target(modules=(full,))
        return target

    def implicit(self, names: Names, path: str, package: str, name: str) -> Target:
        target = self._around(names, package, name)
        if target.units or target.modules:
            return target
        for space in self._everywhere(names, parent_path(path)):
            owner = self.type_named(names, space)
            if owner.units:
                target = names.member(owner, name)
            elif self.is_space(names, space):
                target = self.type_named(names, f"{space}.{name}")
            if target.units:
                return target
        return NOTHING

    def _everywhere(self, names: Names, directory: str) -> list[str]:
        """Namespaces and types that are imported for every file of a directory."""
        at = f"everywhere\0{directory}"
        found = names.cache.get(at)
        if found is None:
            spaces: list[str] = []
            for path in names.places(f"gu\0{directory}"):
                project = names.project(path) if is_project(path) else None
                if project is not None:
                    spaces += [space for _, space in project.all("using")]
                else:
                    spaces += [binding.module for binding in names.covered(path, f"gs\0{path}", _is_global)]
            if directory:
                spaces += self._everywhere(names, parent_path(directory))
            found = names.cache[at] = list(dict.fromkeys(spaces))
        assert isinstance(found, list)
        return found

    def visible(self, names: Names, source: int, name: str) -> Target:
        space = self._space(names, source)
        if space != names.facts.package:
            target = self._around(names, space, name)
            if target.units or target.modules:
                return target
        return names.top(names.path, name)

    def visible_from(self, names: Names, record: UnitRecord, name: str) -> Target:
        around = full_name(names.package_of(record.path), record.unit.qualname).rpartition(".")[0]
        target = self._around(names, around, name)
        return target if target.units or target.modules else names.top(record.path, name)

    def own_members(self, names: Names, record: UnitRecord, name: str) -> Target:
        package = names.package_of(record.path)
        full = full_name(package, record.unit.qualname)
        if record.unit.kind == "namespace":
            return self.module_member(names, full, name, set())
        names.look(f"q\0{self.family}\0{full}")  # has facts of where the parts lie that the members are in
        target = names.found(f"q\0{self.family}\0{full_name(package, _marked(record))}.{name}")
        return self.near(names, target, record.path)

    def distinct(self, names: Names, units: Sequence[int]) -> Sequence[int]:
        """One of the parts of a class: its members and bases are those of all."""
        parts = [part for unit_id in units if (part := names.unit(unit_id)) is not None]
        parts.sort(key=lambda part: part.key)
        return [part.id for part in {_marked(part): part for part in reversed(parts)}.values()]

    def bases(self, names: Names, record: UnitRecord) -> Iterator[tuple[UnitRecord, str]]:
        full = full_name(names.package_of(record.path), record.unit.qualname)
        at = f"parts\0{full}\0{_n_parameters(record)}\0{self._module(names, parent_path(record.path))}"
        known = names.cache.get(at)
        if known is None:
            found = [names.unit(unit_id) for unit_id in self.type_named(names, full, record.path).units]
            same = [part for part in found if part is not None and _n_parameters(part) == _n_parameters(record)]
            known = names.cache[at] = sorted(same, key=lambda part: part.key)
        assert isinstance(known, list)
        for part in known or [record]:
            for base in part.unit.bases:
                header = part.unit.signature
                bracket = re.search(rf"(?<![\w.]){re.escape(base)}\s*<", header)
                yield part, base + arguments(count_arguments(header, bracket.end() - 1)) if bracket else base

    def spelled(self, names: Names, target: Target, written: str) -> Target:
        if len(target.units) < 2 or not target.has_members:
            return target
        known = [part for unit_id in target.units if (part := names.unit(unit_id)) is not None]
        meant = [part.id for part in known if _n_parameters(part) == n_arguments(written)]
        is_of_types = all(part.unit.kind in CLASS_KINDS for part in known)
        return target._replace(units=tuple(meant)) if meant and is_of_types else target

    def narrow(self, names: Names, ref: Reference, target: Target) -> Target:
        target = self.spelled(names, target, ref.receiver)
        if len(target.units) < 2 or not target.has_members:
            return target
        known = [part for unit_id in target.units if (part := names.unit(unit_id)) is not None]
        types = [part for part in known if part.unit.kind in CLASS_KINDS]
        if len(types) < len(known) or not types:
            return target
        types.sort(key=_rank, reverse=True)
        principals = {(part.unit.qualname, _n_parameters(part)): part for part in types}
        return target._replace(units=tuple(sorted(part.id for part in principals.values())))

    def extra_edges(self, names: Names) -> Iterator[tuple[int, int, str]]:
        """From the principal part of a type to its others."""
        for record in names.units:
            if record.unit.kind not in CLASS_KINDS or " partial " not in f" {record.unit.signature} ":
                continue
            full = full_name(names.facts.package, record.unit.qualname)
            parts = [names.unit(unit_id) for unit_id in self.type_named(names, full).units]
            same = [p for p in parts if p is not None and _n_parameters(p) == _n_parameters(record)]
            if min(same, key=_rank, default=record).id == record.id:
                yield from ((record.id, part.id, "declare") for part in same if part.id != record.id)

    def qualified(self, names: Names, source: int, parts: Sequence[str]) -> Target:
        for space in _prefixes(self._space(names, source)):
            full = full_name(space, ".".join(parts))
            target = self.type_named(names, full)
            if target.units:
                return target
        return NOTHING

    def _space(self, names: Names, source: int) -> str:
        """The namespace around a place in this file."""
        at = source
        while at != -1:
            unit = names.units[at].unit
            if unit.kind == "namespace":
                return full_name(names.facts.package, unit.qualname)
            at = unit.parent
        return names.facts.package

    def _around(self, names: Names, space: str, name: str) -> Target:
        """A name in a namespace or in those around it."""
        for prefix in _prefixes(space):
            if not prefix or self.is_space(names, prefix) or self.type_named(names, prefix).units:
                target = self.module_member(names, prefix, name, set())
                if target.units or target.modules:
                    return target
        return NOTHING


def _n_parameters(record: UnitRecord) -> int:
    return len(type_parameters(record.unit.signature, record.unit.name))


def _marked(record: UnitRecord) -> str:
    """The qualified name of a type as it begins the keys of its members: `Box` and `Box<T>` have their own."""
    unit = record.unit
    return unit.qualname + arguments(_n_parameters(record)) if unit.kind in CLASS_KINDS else unit.qualname


def _rank(record: UnitRecord) -> tuple[bool, int, tuple[str, str, str, int]]:
    """The principal part of a type is the least: the one that names the bases, in the file of the shortest name."""
    return (not record.unit.bases, len(record.path), record.key)


def _is_global(binding: Binding) -> bool:
    """`global using A.B;`: an import for every file of the project."""
    return binding.exported and binding.member == "*" and binding.source == -1


def _prefixes(space: str) -> Iterator[str]:
    """ "A.B" -> "A.B", "A", ""."""
    while space:
        yield space
        space = space.rpartition(".")[0]
    yield ""


def _above(units: Sequence[UnitRecord], index: int) -> Iterator[int]:
    while index >= 0:
        yield index
        index = units[index].unit.parent
