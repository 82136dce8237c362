# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""C and C++: what the includes show. A name denotes what this file or a file that it includes, through any number of
others, declares or defines; namespaces and classes around the place come first, then the global scope.

Keys of its own:
  inc suffix         files that an include of that text may mean: every suffix of the path: file ids, PLACE
  i path             what the file includes, and its using-directives: NAMES
  c qualname         units of that qualified name anywhere in the root: unit ids, CLASS (which covers their paths)

A name costs one key for each scope around it; which of its definitions are in sight is read off the include closure,
whose keys are recorded once for a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegraphd.daemon.analysis.languages import EXTENSIONS
from codegraphd.daemon.graph.keys import (
    CLASS_KINDS,
    FUNCTION_KINDS,
    NAMELESS_KINDS,
    PLACE,
    Pair,
    class_fact,
    fact,
    ids_of,
    join,
    key,
    names_fact,
    parent_path,
    suffixes,
)
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import NOTHING, Rules, Target
from codegraphd.store.records import Binding, Facts, Flag, UnitRecord

MAX_CLOSURE = 2_000  # files; beyond it a translation unit is no longer read like one
_HEADERS = frozenset({name for name, language in EXTENSIONS.items() if language in {"c", "cpp"}} | {"def", "inc", "h"})
_DEFINED = FUNCTION_KINDS | (CLASS_KINDS - {"type"})  # what may be declared in one place and defined in another
_SCOPES = frozenset({"namespace", "module"})


def is_include(binding: Binding) -> bool:
    """An include, and not a using-directive, a using-declaration or an alias."""
    module = binding.module
    if binding.member != "*":
        return False
    return module[:1] in {"<", ""} or "/" in module or ("." in module and module.rpartition(".")[2] in _HEADERS)


class CRules(Rules):
    class_scope = True
    call_makes = True

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        place = fact(PLACE, file_id, path)
        for suffix in suffixes(path):
            yield key(f"inc\0{suffix}"), file_id
            yield key(f"inc\0{suffix}"), place
        includes = [b for b in facts.bindings if is_include(b)]
        if includes:
            yield key(f"i\0{path}"), names_fact(file_id, includes)
        for record in units:
            unit = record.unit
            inside = unit.parent >= 0 and units[unit.parent].unit.kind in FUNCTION_KINDS
            if unit.kind not in NAMELESS_KINDS and not inside and not _is_test(record):
                name = key(f"c\0{unit.qualname}")
                yield name, record.id
                yield name, class_fact(record, facts.package)

    # --- includes -----------------------------------------------------------------------------------------------------

    def includes(self, names: Names, path: str) -> list[str]:
        """The files of this root that a file includes, in order."""
        if path == names.path:
            bindings: Sequence[Binding] = [b for b in names.facts.bindings if is_include(b)]
        else:
            bindings = names.covered(path, f"i\0{path}", is_include)
        found = [self._included(names, path, binding.module) for binding in bindings]
        return [include for include in dict.fromkeys(found) if include]

    def _included(self, names: Names, path: str, text: str) -> str:
        directory = parent_path(path)
        text = bare = text.strip("<>")
        while bare.startswith(("./", "../")):
            bare = bare.partition("/")[2]
        candidates = names.places(f"inc\0{bare}")
        if len(candidates) < 2 and bare == text:
            return candidates[0] if candidates else ""
        exact = join(directory, text)
        if exact in candidates:
            return exact
        # Where include paths are unknown: the candidate that shares most directories with the includer, then the
        # one nearest to the root.
        return min(candidates, key=lambda c: (-_shared(directory, parent_path(c)), c.count("/"), c), default="")

    def closure(self, names: Names) -> dict[str, int]:
        """Path -> distance of this file and of all that it includes."""
        found = names.cache.get("closure")
        if found is None:
            found = names.cache["closure"] = self._closure(names)
        assert isinstance(found, dict)
        return found

    def _closure(self, names: Names) -> dict[str, int]:
        found = {names.path: 0}
        queue = [names.path]
        for path in queue:
            for include in self.includes(names, path):
                if include not in found and len(found) < MAX_CLOSURE:
                    found[include] = found[path] + 1
                    queue.append(include)
        return found

    # --- names --------------------------------------------------------------------------------------------------------

    def visible(self, names: Names, source: int, name: str) -> Target:
        for scope in self._scopes(names, source):
            target = self.named(names, f"{scope}.{name}" if scope else name)
            if target.units:
                return target
        aliases = names.bindings.get((-1, name), ())
        for binding in aliases:
            if not is_include(binding):
                target = names.follow(names.path, binding)
                if target.units or target.modules:
                    return target
        for binding in names.bindings.get((-1, "*"), ()):
            if not is_include(binding):
                target = self.named(names, f"{binding.module.replace('::', '.')}.{name}")
                if target.units:
                    return target
        return NOTHING

    def around(self, names: Names, record: UnitRecord, name: str) -> Target:
        unit = record.unit
        outside = names.units[unit.parent].unit.qualname if unit.parent >= 0 else ""
        scope = unit.qualname.rpartition(".")[0]
        while len(scope) > len(outside):
            target = names.member(self.named(names, scope), name)
            if target.units:
                return target
            scope = scope.rpartition(".")[0]
        return NOTHING

    def visible_from(self, names: Names, record: UnitRecord, name: str) -> Target:
        scope = record.unit.qualname.rpartition(".")[0]
        while True:
            target = self.named(names, f"{scope}.{name}" if scope else name)
            if target.units or not scope:
                return target
            scope = scope.rpartition(".")[0]

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        """A using-declaration or alias; includes bring in no name of their own."""
        if is_include(binding):
            return NOTHING
        full = binding.module.replace("::", ".").strip(".")
        if binding.member not in {"", "*"}:
            full = f"{full}.{binding.member}" if full else binding.member
        return self.named(names, full)

    def own_members(self, names: Names, record: UnitRecord, name: str) -> Target:
        if record.unit.kind in _SCOPES:
            return self.named(names, f"{record.unit.qualname}.{name}")
        # This file's definition, else the declaration in the class; a class that is not in sight has its own alone.
        target = self.named(names, f"{record.unit.qualname}.{name}")
        if target.units:
            return target
        target = names.in_file(record.path, f"{record.unit.qualname}.{name}")
        tests = [unit_id for unit_id in target.units if (unit := names.unit(unit_id)) is not None and _is_test(unit)]
        return NOTHING if tests else target

    def named(self, names: Names, qualname: str) -> Target:
        """The units of that qualified name that are in sight: this file's own, else the nearest included ones."""
        closure = self.closure(names)
        found: list[tuple[int, UnitRecord]] = []
        for unit_id in ids_of(names.look(f"c\0{qualname}")):
            record = names.unit(unit_id)
            if record is None or record.unit.kind == "constructor":  # `Foo` in Foo is the class
                continue
            if (distance := closure.get(record.path)) is not None:
                found.append((distance, record))
        if not found:
            return NOTHING
        own = [record for distance, record in found if not distance]
        records = own or [record for _, record in found]
        whole = [r for r in records if not (r.unit.kind in CLASS_KINDS and r.unit.flags & Flag.DECLARATION)]
        records = whole or records  # `class Foo;` only where Foo itself is not in sight
        return Target(tuple([r.id for r in records]), (), any(r.unit.kind in CLASS_KINDS for r in records))

    def _scopes(self, names: Names, source: int) -> Iterator[str]:
        """Qualified names of the scopes around a place: "ns.Foo" for `void ns::Foo::bar() {}`, then "ns", then ""."""
        scope = ""
        if source != -1:
            unit = names.units[source].unit
            scope = unit.qualname if unit.kind in CLASS_KINDS else unit.qualname.rpartition(".")[0]
        while scope:
            yield scope
            scope = scope.rpartition(".")[0]
        yield ""

    # --- declarations to definitions ----------------------------------------------------------------------------------

    def extra_edges(self, names: Names) -> Iterator[tuple[int, int, str]]:
        """From each declaration of this file to its definitions: in files that include it, or of the same stem."""
        for record in names.units:
            unit = record.unit
            if not unit.flags & Flag.DECLARATION or unit.kind not in _DEFINED:
                continue
            for unit_id in ids_of(names.look(f"c\0{unit.qualname}")):
                other = names.unit(unit_id)
                if other is None or other.unit.flags & Flag.DECLARATION or other.unit.kind not in _DEFINED:
                    continue
                if self._defines(names, other.path, record.path):
                    yield record.id, other.id, "declare"

    def _defines(self, names: Names, path: str, header: str) -> bool:
        if path == header or _stem(path) == _stem(header):
            return True
        return header in self.includes(names, path) or path in self.closure(names)


def _is_test(record: UnitRecord) -> bool:
    """`TEST(Suite, name)`: a unit by that name, which nothing can call."""
    unit = record.unit
    return unit.kind == "function" and bool(unit.flags & Flag.TEST) and not unit.name.startswith("test_")


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _shared(one: str, other: str) -> int:
    n = 0
    for a, b in zip(one.split("/"), other.split("/"), strict=False):
        if a != b:
            break
        n += 1
    return n
