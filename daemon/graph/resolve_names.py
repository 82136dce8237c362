"""Names: what a name means at a place in a file, found by recorded look-ups.

`Names` serves the resolution of one file. It owns the set of keys tried and every cache of that run. What differs by
language (how a specifier leads to a file, what is visible without an import) is in `Rules`, one per family; the terms
are told in `resolve_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from codegraphd.daemon.graph.keys import (
    CLASS,
    CLASS_KINDS,
    FACT_MIN,
    NAMELESS_KINDS,
    NAMES,
    ids_of,
    imports_by_name,
    key,
    local_name,
    names_fact,
    open_units,
    tag_of,
)
from codegraphd.daemon.graph.projects import Project, project_of
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Memo, Rules, Target, View, merge
from codegraphd.daemon.graph.signatures import constant_type
from codegraphd.store.records import Binding, Facts, FileRecord, UnitRecord

MAX_BASES = 64  # classes looked through for one inherited member: a bound for absurd hierarchies, cycles end by `seen`
MAX_DEPTH = 50  # re-exports that lead to re-exports, bases that are found through bases
_TYPE_HEAD = re.compile(r"[^\W\d][\w$]*(?:(?:\.|::)[^\W\d][\w$]*)*|\$[\w$]*")
_SELVES = frozenset({"self", "this", "cls", "Self"})
_SUPERS = frozenset({"super", "base", "parent"})
_SPACES = frozenset({"module", "namespace"})
_HOLDERS = CLASS_KINDS | {"constant"}  # what a method may be a member of


class Entry(NamedTuple):
    """What a file has under one name."""

    units: tuple[int, ...] = ()
    bindings: tuple[Binding, ...] = ()
    has_members: bool = False


_NO_ENTRY = Entry()


class Names:
    """The names of one file, and through them those of others. `keys` is what resolution depends on."""

    def __init__(self, view: View, root: int, file: FileRecord, rules: Rules, memo: Memo) -> None:
        self.view, self.root, self.file, self.rules, self.memo = view, root, file, rules, memo
        self.path = file.path
        self.keys: set[bytes] = set()
        self.units = view.units_of(file)
        self.facts = view.facts(file.id) or Facts("", (), ())
        self.children: dict[tuple[int, str], list[int]] = {}  # (index of parent, name) -> indices
        self._records = {record.id: record for record in self.units}
        self._open = open_units(self.units)
        self._index = {record.id: i for i, record in enumerate(self.units)}
        self._qualified: dict[str, list[UnitRecord]] = {}
        for i, record in enumerate(self.units):
            unit = record.unit
            if unit.kind in NAMELESS_KINDS or (rules.class_scope and unit.kind == "constructor"):
                continue
            above = self.units[unit.parent].unit if unit.parent >= 0 else None
            parent = -1 if above is None or above.kind == "file" else unit.parent
            # A method that is written outside of its class (Go, C++, `A.prototype.f`) is none of the names beside it,
            # nor is one of an object that bears no name (`return { f() {} }`).
            is_beside = unit.kind != "method" or (parent >= 0 and above is not None and above.kind in _HOLDERS)
            if is_beside and unit.qualname == (f"{above.qualname}.{unit.name}" if parent >= 0 and above else unit.name):
                self.children.setdefault((parent, unit.name), []).append(i)
            self._qualified.setdefault(unit.qualname, []).append(record)
        self.bindings: dict[tuple[int, str], tuple[Binding, ...]] = {}  # (index of unit or -1, local) -> bindings
        for b in self.facts.bindings:
            at = (b.source, local_name(b))
            self.bindings[at] = (*self.bindings.get(at, ()), b)
        # Names that some inner scope has; where inner scopes take in whole containers, any name may be theirs.
        self._deep_names = {name for at, name in (*self.children, *self.bindings) if at != -1}
        self._is_deep = self.rules.class_scope or "*" in self._deep_names
        self._bare: dict[tuple[int, str], Target] = {}
        self._looked: dict[str, tuple[int, ...]] = {}
        self._top: dict[tuple[str, str, bool], Target] = {}
        self._followed: dict[tuple[str, int, str, str, str], Target] = {}
        self._scopes: dict[tuple[int, str], Target] = {}
        self._members: dict[tuple[Target, str], Target] = {}
        self._depth = 0
        self._bases: dict[int, list[int]] = {}
        self._projects: dict[str, Project | None] = {}
        self._packages: dict[str, str] = {}
        self.cache: dict[str, object] = {}  # for the rules: whatever they derive for this file alone

    # --- recorded reads -----------------------------------------------------------------------------------------------

    def look(self, text: str) -> tuple[int, ...]:
        """The values of a key, ascending: ids, then facts. The only door to other files."""
        found = self._looked.get(text)
        if found is None:
            digest = key(text)
            self.keys.add(digest)
            found = self._looked[text] = self.view.lookup(self.root, digest)
        return found

    def has_file(self, path: str) -> bool:
        return bool(self.look(f"p\0{path}"))

    def places(self, text: str) -> list[str]:
        """Paths of the files under a key whose pairs carry PLACE facts, in order of the paths."""
        files = [self.view.file_by_id(value) for value in ids_of(self.look(text))]
        return sorted(file.path for file in files if file is not None)

    def found(self, text: str) -> Target:
        """The units under a key, with whether they may be looked into."""
        values = self.look(text)
        if not values:
            return NOTHING
        return Target(ids_of(values), (), any(tag_of(value) == CLASS for value in values))

    def unit(self, unit_id: int) -> UnitRecord | None:
        """A unit that was found under a key with a CLASS fact, or one of this file."""
        if unit_id not in self._records:
            record = self.view.unit(unit_id)
            if record is None:
                return None
            self._records[unit_id] = record
        return self._records[unit_id]

    def entry(self, path: str, name: str) -> Entry:
        """What the file at `path` has under a qualified name: units, and bindings at its top level."""
        if path == self.path:
            records = self._qualified.get(name, ())
            bindings = self.bindings.get((-1, name), ())
            if not records and not bindings:
                return _NO_ENTRY
            return Entry(tuple([r.id for r in records]), bindings, any(r.id in self._open for r in records))
        values = self.look(f"n\0{path}\0{name}")
        if not values:
            return _NO_ENTRY
        if values[-1] < FACT_MIN:
            return Entry(values)
        bindings = ()
        for value in values:
            if tag_of(value) == NAMES:
                bindings += self._foreign_bindings(path, value)
        return Entry(ids_of(values), bindings, any(tag_of(value) == CLASS for value in values))

    def _foreign_bindings(self, path: str, value: int) -> tuple[Binding, ...]:
        """The bindings that a NAMES fact of the file covers. All names of the file are noted at once: reading a file's
        facts again for each of its names was 40% of resolving a large project."""
        known = self.memo.bindings.get(value)
        if known is None:
            ids = self._ids_at(path)
            facts = self.view.facts(ids[0]) if ids else None
            found = {
                names_fact(ids[0], bindings): tuple(bindings)
                for bindings in (imports_by_name(facts.bindings).values() if facts else ())
            }
            for one, bindings in found.items():
                self.memo.put(one, bindings)
            known = found.get(value, ())
        return known

    def covered(self, path: str, text: str, keep: Callable[[Binding], bool]) -> tuple[Binding, ...]:
        """Those bindings of a file that the NAMES fact under a key covers: `keep` is what the definer chose them by."""
        value = next((value for value in self.look(text) if tag_of(value) == NAMES), 0)
        if not value:
            return ()
        known = self.memo.bindings.get(value)
        if known is None:
            facts = self._facts_at(path)
            known = () if facts is None else tuple([b for b in facts.bindings if keep(b)])
            self.memo.put(value, known)
        return known

    def index_of(self, record: UnitRecord) -> int:
        """Where a unit of this file stands in `units`."""
        return self._index[record.id]

    def project(self, path: str) -> Project | None:
        """What the project file at `path` says; None where there is none."""
        if path not in self._projects:
            self._projects[path] = self._project(path)
        return self._projects[path]

    def _project(self, path: str) -> Project | None:
        bindings = self.covered(path, f"j\0{path}", lambda _binding: True)
        return project_of(path, bindings) if bindings or self.look(f"j\0{path}") else None

    def package_of(self, path: str) -> str:
        """The package that a file declares. Of another file: only where a CLASS fact of it was looked up."""
        if path == self.path:
            return self.facts.package
        if path not in self._packages:
            ids = self._ids_at(path)
            self._packages[path] = self.view.package(ids[0]) if ids else ""
        return self._packages[path]

    def _facts_at(self, path: str) -> Facts | None:
        """A file's facts, where a recorded key has the fact that covers what is read of them: not recorded again."""
        ids = self._ids_at(path)
        return self.view.facts(ids[0]) if ids else None

    def _ids_at(self, path: str) -> tuple[int, ...]:
        return ids_of(self.view.lookup(self.root, key(f"p\0{path}")))

    # --- names at the top of a file -----------------------------------------------------------------------------------

    def in_file(self, path: str, qualname: str) -> Target:
        """The units of a file with that qualified name."""
        entry = self.entry(path, qualname)
        return Target(entry.units, (), entry.has_members) if entry.units else NOTHING

    def top(self, path: str, name: str, *, importing: bool = False) -> Target:
        """What a name denotes at the top of a file; `importing`: to those who import the file."""
        at = (path, name, importing)
        found = self._top.get(at)
        if found is None:
            self._top[at] = NOTHING  # a cycle of re-exports has nothing at its end
            found = self._top[at] = self.search(path, name, importing=importing, seen=set())
        return found

    def search(self, path: str, name: str, *, importing: bool, seen: set[str]) -> Target:
        """`top`, inside of a search that has been through the files in `seen`: star imports may form cycles."""
        if path in seen:
            return NOTHING
        seen.add(path)
        entry = self.entry(path, name)
        if entry.units:
            return Target(entry.units, (), entry.has_members)
        outside = NOTHING
        for binding in entry.bindings:
            target = self.follow(path, binding)
            if target.units or target.modules:
                return target
            outside = target if target.external else outside
        if outside.external:
            return outside
        if not importing:
            target = self.rules.implicit(self, path, self.package_of(path), name)
            if target.units or target.modules:
                return target
        for binding in self.entry(path, "*").bindings if self.rules.is_starred(name) else ():
            target = self._through(self.follow(path, binding), name, seen)
            if target.units or target.modules:
                return target
        return NOTHING

    def _through(self, container: Target, name: str, seen: set[str]) -> Target:
        for module in container.modules:
            target = self.rules.module_member(self, module, name, seen)
            if target.units or target.modules:
                return target
        return self.member(container._replace(modules=()), name) if container.units else NOTHING

    def follow(self, path: str, binding: Binding) -> Target:
        """What an import of the file at `path` brings in."""
        source = binding.source if path == self.path else -1
        at = (path, source, binding.local, binding.module, binding.member)
        found = self._followed.get(at)
        if found is None:
            self._followed[at] = NOTHING
            if self._depth < MAX_DEPTH:
                self._depth += 1
                found = self._followed[at] = self.rules.follow(self, path, binding)
                self._depth -= 1
            else:
                found = NOTHING
        return found

    # --- members ------------------------------------------------------------------------------------------------------

    def member(self, container: Target, name: str) -> Target:
        """What `name` denotes inside of what another name denotes."""
        at = (container, name)
        found = self._members.get(at)
        if found is None:
            self._members[at] = NOTHING
            found = self._members[at] = self._member(container, name)
        return found

    def _member(self, container: Target, name: str) -> Target:
        if container.external:
            return EXTERNAL
        if container.has_members:  # several units: all of them, as their ids say nothing of an order
            found = [self.class_member(unit_id, name) for unit_id in self.rules.distinct(self, container.units)]
            merged = merge(found)
            if merged.units or merged.modules:
                return merged
        outside = NOTHING
        for module in container.modules:
            target = self.rules.module_member(self, module, name, set())
            if target.units or target.modules:
                return target
            outside = target if target.external else outside
        return outside

    def class_member(self, unit_id: int, name: str, *, above: bool = False) -> Target:
        """A member of a class or of its bases, depth first in the order written; `above`: of its bases only."""
        seen = {unit_id}
        stack = [unit_id]
        while stack and len(seen) < MAX_BASES:
            record = self.unit(stack.pop())
            if record is None or (record.unit.kind not in CLASS_KINDS and record.unit.kind != "constant"):
                continue
            if not above:
                target = self.rules.own_members(self, record, name)
                if target.units or target.modules:
                    return target
            above = False
            fresh = [base_id for base_id in self._bases_of(record) if base_id not in seen]
            seen.update(fresh)
            stack += reversed(fresh)
        return NOTHING

    def _bases_of(self, record: UnitRecord) -> list[int]:
        """The units that a class inherits from, in the order written; several of one name in that of their keys."""
        found = self._bases.get(record.id)
        if found is None:
            self._bases[record.id] = []  # what is looked up for a base finds nothing through that base
            found = []
            is_constant = record.unit.kind == "constant"
            of = constant_type(record.unit.signature, record.unit.name) if is_constant else ""
            for place, base in [(record, of)] if is_constant else self.rules.bases(self, record):
                found += sorted(self.rules.spelled(self, self.base(place, base), base).units, key=self._order)
            found = self._bases[record.id] = list(dict.fromkeys(found))
        return found

    def _order(self, unit_id: int) -> tuple[str, str, str, int]:
        """Ids are opaque: what needs an order takes it from the keys of the units."""
        record = self.unit(unit_id)
        return record.key if record is not None else ("", "", "", 0)

    def is_type(self, target: Target) -> bool:
        """Whether a target that may be looked into is a class or its like, and no constant."""
        return any((record := self.unit(unit_id)) is None or record.unit.kind != "constant" for unit_id in target.units)

    def base(self, record: UnitRecord, base: str) -> Target:
        """What a name in the header of a class denotes, seen from where that class stands."""
        if self._depth >= MAX_DEPTH:
            return NOTHING
        self._depth += 1
        head, *rest = type_parts(base)
        if record.id in self._index:
            target = self.dotted(self.units[self._index[record.id]].unit.parent, base)
        else:
            target = self.rules.visible_from(self, record, head) if head else NOTHING
            for name in rest:
                target = self.member(target, name)
        self._depth -= 1
        return target

    # --- names at a place in this file --------------------------------------------------------------------------------

    def bare(self, source: int, name: str, *, of_type: bool = False) -> Target:
        """A name without a scope, in the unit at index `source` (-1: the file's top): inner scopes first. `of_type`:
        a type is named, so that a property of the same name does not hide it."""
        if source != -1 and (self._is_deep or name in self._deep_names):
            target = self._inner(source, name, of_type=of_type)
            if target is not None:
                return target
        at = (-1, name)
        found = self._bare.get(at)
        if found is None:
            found = self._bare[at] = self._own(at) if at in self.children else NOTHING
        return found if found.units else self.rules.visible(self, source, name)

    def _inner(self, source: int, name: str, *, of_type: bool) -> Target | None:
        """A name of the scopes between a place and the file's top; None: of none."""
        at, first = source, True
        while at != -1:
            unit = self.units[at].unit
            is_class = unit.kind in CLASS_KINDS
            # What an object literal contains is no name in its functions; what a class contains, in some languages.
            is_open = self.rules.class_scope or first or unit.kind not in _HOLDERS - _SPACES
            target = self._own((at, name)) if is_open and (at, name) in self.children else NOTHING
            if not target.units and self.rules.class_scope:
                record = self.units[at]
                target = self.class_member(record.id, name) if is_class else self.rules.around(self, record, name)
            if (target.units or target.modules) and not (of_type and self.rules.class_scope and not target.has_members):
                return target
            for binding in self.bindings.get((at, name), ()):
                target = self.follow(self.path, binding)
                if target != NOTHING:
                    return target
            for binding in self.bindings.get((at, "*"), ()):
                target = self._through(self.follow(self.path, binding), name, set())
                if target.units or target.modules:
                    return target
            at, first = unit.parent, False
        return None

    def _own(self, at: tuple[int, str]) -> Target:
        records = [self.units[i] for i in self.children[at]]
        return Target(tuple([r.id for r in records]), (), any(r.id in self._open for r in records))

    def enclosing_class(self, source: int) -> int:
        """Index of the class around a place, itself included, or of the object that has a name; -1: none."""
        while source != -1:
            unit = self.units[source].unit
            if unit.kind in _HOLDERS - _SPACES:
                return source
            source = unit.parent
        return -1

    def dotted(self, source: int, text: str) -> Target:
        """A type or scope as written, "a.b.C", seen from a place in this file."""
        at = (source, text)
        found = self._scopes.get(at)
        if found is None:
            self._scopes[at] = NOTHING
            found = self._scopes[at] = self._dotted(source, type_parts(text))
        return found

    def _dotted(self, source: int, parts: Sequence[str]) -> Target:
        if not parts[0]:
            return NOTHING
        target = self.bare(source, parts[0])
        if target == NOTHING and parts[0] in _SELVES and (index := self.enclosing_class(source)) != -1:
            target = Target((self.units[index].id,), (), has_members=True)
        if target == NOTHING:
            target = self.rules.scope_head(self, source, parts[0])
        if target == NOTHING and len(parts) > 1:
            return self.rules.qualified(self, source, parts)
        for name in parts[1:]:
            if target == NOTHING:
                return NOTHING
            target = self.member(target, name)
        return target

    def scoped(self, source: int, scope: str, name: str, receiver: str) -> Target:
        """`scope.name`, where `receiver` is the written type of the scope ("": not written)."""
        is_super = scope in _SUPERS
        if is_super or scope in _SELVES:
            index = self.enclosing_class(source)
            if index != -1:
                target = self.class_member(self.units[index].id, name, above=is_super)
                if target.units or target.modules:
                    return target
        for written in filter(None, (receiver, scope)):
            container = self.dotted(source, written)
            if container != NOTHING:
                target = self.member(self.rules.spelled(self, container, written), name)
                return self.member(container, name) if target == NOTHING else target
        return NOTHING


def type_parts(text: str) -> list[str]:
    """The dotted name at the head of a type as written: "*pkg.Config[int]" -> ["pkg", "Config"]; [""] if none."""
    match = _TYPE_HEAD.search(text)
    return match.group().replace("::", ".").split(".") if match else [""]
