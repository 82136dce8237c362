# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""Java and C#: types by their full dotted name, wherever the file that declares them lies.

A module handle is the dotted name of a package or namespace.

Keys of its own (`family` keeps the two languages apart):
  q family full      a type with its package and qualified name, "a.b.Outer.Inner": unit ids, CLASS
  ns family full     the files of a package or namespace: file ids; asked so that a name is not looked up in every
                     package that is imported whole and is none of this root's
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegraphd.daemon.graph.keys import CLASS_KINDS, Pair, class_fact, key
from codegraphd.daemon.graph.resolve_names import EXTERNAL, NOTHING, Names, Rules, Target, merge
from codegraphd.store.records import Binding, Facts, UnitRecord


def full_name(package: str, qualname: str) -> str:
    return f"{package}.{qualname}" if package else qualname


class JavaRules(Rules):
    family = "java"
    class_scope = True

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        spaces = {facts.package}
        for record in units:
            unit = record.unit
            if unit.kind not in CLASS_KINDS or any(
                units[i].unit.kind not in CLASS_KINDS for i in _above(units, unit.parent)
            ):
                continue
            full = full_name(facts.package, unit.qualname)
            if unit.kind == "namespace":
                spaces.add(full)
                continue
            name = key(f"q\0{self.family}\0{full}")
            yield name, record.id
            yield name, class_fact(record, facts.package)
        for space in spaces:
            yield key(f"ns\0{self.family}\0{space}"), file_id

    def type_named(self, names: Names, full: str) -> Target:
        return names.found(f"q\0{self.family}\0{full}")

    def is_space(self, names: Names, full: str) -> bool:
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
    decorator_suffix = "Attribute"

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        module, member = binding.module, binding.member
        full = f"{module}.{member}" if member not in {"", "*"} else module
        target = self.type_named(names, full)
        if target.units:
            return target
        return Target(modules=(full,)) if self.is_space(names, full) else EXTERNAL

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        full = full_name(module, name)
        target = self.type_named(names, full)
        if not target.units and self.is_space(names, full):
            return Target(modules=(full,))
        return target

    def implicit(self, names: Names, path: str, package: str, name: str) -> Target:
        return self._around(names, package, name)

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
        full = full_name(names.package_of(record.path), record.unit.qualname)
        if record.unit.kind == "namespace":
            return self.module_member(names, full, name, set())
        parts = [names.unit(unit_id) for unit_id in self.type_named(names, full).units]
        known = {part.path: part for part in parts if part is not None} | {record.path: record}
        return merge(names.in_file(path, f"{known[path].unit.qualname}.{name}") for path in sorted(known))

    def bases(self, names: Names, record: UnitRecord) -> Iterator[tuple[UnitRecord, str]]:
        full = full_name(names.package_of(record.path), record.unit.qualname)
        parts = [names.unit(unit_id) for unit_id in self.type_named(names, full).units]
        known = [part for part in parts if part is not None] or [record]
        for part in sorted(known, key=lambda part: (part.id != record.id, part.key)):
            for base in part.unit.bases:
                yield part, base

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
