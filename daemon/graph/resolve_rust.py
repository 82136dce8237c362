"""Rust: the tree of modules (file, `mod.rs`, inline), `use` paths, crates of a workspace, impl blocks and traits.

A module handle is the path of its file. A file is a module wherever it lies right for one; whether some `mod` item
declares it is not asked.

Keys of its own:
  crate name         the Cargo.toml of a crate: file id, PLACE
  rslib name         the `src/lib.rs` in a directory of that name, for crates without a readable Cargo.toml
  impl crate type    impl blocks of a type anywhere in the crate: unit ids, CLASS
  implm crate type.m what impl blocks of a type define, anywhere in the crate: unit ids
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegraphd.daemon.graph.keys import PLACE, Pair, class_fact, fact, ids_of, join, key, open_units, parent_path
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Rules, Target
from codegraphd.store.records import Binding, Facts, UnitRecord

_ROOTS = ("lib.rs", "main.rs")
_STANDARD = frozenset({"std", "core", "alloc", "proc_macro", "test"})
_CRATE_FOLDERS = ("src", "tests", "benches", "examples")


def crate_of(path: str) -> str:
    """The directory of the crate that a file belongs to, as its path shows it; "" too where it does not show it."""
    parts = path.split("/")[:-1]
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] in _CRATE_FOLDERS:
            return "/".join(parts[:i])
    return ""


class RustRules(Rules):
    call_makes = True  # a tuple struct, a variant

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        crate = crate_of(path)
        if path.endswith("src/lib.rs"):
            name = crate.rpartition("/")[2].replace("-", "_")
            yield key(f"rslib\0{name}"), file_id
            yield key(f"rslib\0{name}"), fact(PLACE, file_id, path)
        opened = open_units(units)
        for record in units:
            unit = record.unit
            parent = units[unit.parent].unit if unit.parent >= 0 else None
            if unit.kind == "impl":
                found = key(f"impl\0{crate}\0{_plain(unit.name)}")
                yield found, record.id
                yield found, class_fact(record, facts.package)
            elif parent is not None and parent.kind == "impl":
                found = key(f"implm\0{crate}\0{_plain(parent.name)}.{unit.name}")
                yield found, record.id
                if record.id in opened:
                    yield found, class_fact(record, facts.package)

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        parts = [part for part in binding.module.replace("::", ".").split(".") if part]
        if binding.member not in {"", "*"}:
            parts.append(binding.member)
        source = binding.source if path == names.path else -1
        return self._walk(names, path, source, parts, binding)

    def _walk(
        self, names: Names, path: str, source: int, parts: Sequence[str], binding: Binding | None = None
    ) -> Target:
        """A path of a `use` or of an expression, seen from a place in the file at `path`."""
        at = 1
        module = _inline(names, source) if path == names.path else -1
        if not parts:
            return NOTHING
        if parts[0] == "crate":
            target = Target(modules=self._roots(names, path))
        elif parts[0] in {"self", "super"}:
            target = self._here(names, path, module)
            at = 0 if parts[0] == "super" else 1
            while at < len(parts) and parts[at] == "super":
                target = self._above(names, path, module)
                path, module = (path, _inline(names, names.units[module].unit.parent)) if module != -1 else ("", -1)
                if not path:
                    path = target.modules[0] if target.modules else ""
                at += 1
        else:
            target = self._first(names, path, module, parts[0], binding)
        for name in parts[at:]:
            if not (target.units or target.modules):
                break
            target = names.member(target, name)
        return target

    def _first(self, names: Names, path: str, module: int, head: str, binding: Binding | None) -> Target:
        """The first name of a path: a module below, a name in sight that is not this import itself, a crate."""
        here = self._here(names, path, module)
        if module == -1:
            below = self._file_module(names, path, head)
            if below.modules:
                return below
        if binding is None or binding.local != head:
            target = names.member(here, head)
            if target.units or target.modules:
                return target
        if crate := self._crate(names, path, head):
            return Target(modules=(crate,))
        return EXTERNAL

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        target = names.search(module, name, importing=True, seen=seen)
        below = self._file_module(names, module, name)
        return target._replace(modules=target.modules + below.modules) if below.modules else target

    def visible(self, names: Names, source: int, name: str) -> Target:
        if name == "Self" and (index := names.enclosing_class(source)) != -1:
            record = names.units[index]
            if record.unit.kind != "impl":
                return Target((record.id,), (), has_members=True)
            return names.dotted(record.unit.parent, record.unit.name)
        return names.top(names.path, name)

    def visible_from(self, names: Names, record: UnitRecord, name: str) -> Target:
        if name in {"crate", "self", "super"}:
            return self._walk(names, record.path, -1, [name])
        target = super().visible_from(names, record, name)
        return target if target.units or target.modules else self._file_module(names, record.path, name)

    def own_members(self, names: Names, record: UnitRecord, name: str) -> Target:
        unit = record.unit
        target = names.in_file(record.path, f"{unit.qualname}.{name}")
        if target.units:
            return target
        if unit.kind == "enum" and name[:1].isupper():  # a variant: no unit of its own
            return Target((record.id,), (), has_members=True)
        if unit.kind == "module":
            if record.path == names.path:  # an inline module of this file: its imports, and those it takes in whole
                return self._inline_member(names, names.index_of(record), name)
            return NOTHING
        return names.found(f"implm\0{crate_of(record.path)}\0{_plain(unit.name)}.{name}")

    def _inline_member(self, names: Names, module: int, name: str) -> Target:
        for binding in names.bindings.get((module, name), ()):
            target = names.follow(names.path, binding)
            if target.units or target.modules:
                return target
        return NOTHING

    def bases(self, names: Names, record: UnitRecord) -> Iterator[tuple[UnitRecord, str]]:
        yield from ((record, base) for base in record.unit.bases)
        if record.unit.kind in {"trait", "module"}:
            return
        values = names.look(f"impl\0{crate_of(record.path)}\0{_plain(record.unit.name)}")
        blocks = [names.unit(unit_id) for unit_id in ids_of(values)]
        for block in sorted([block for block in blocks if block is not None], key=lambda block: block.key):
            if block.id != record.id:
                yield from ((block, base) for base in block.unit.bases)

    def scope_head(self, names: Names, source: int, head: str) -> Target:
        if head in {"crate", "self", "super"}:
            return self._walk(names, names.path, source, [head])
        below = self._file_module(names, names.path, head)
        if below.modules:
            return below
        if not head[:1].islower():
            return NOTHING
        if crate := self._crate(names, names.path, head):
            return Target(modules=(crate,))
        own = names.project(join(crate_of(names.path), "Cargo.toml"))
        depends = own is not None and any(name == head for name, _ in own.all("dependency"))
        return EXTERNAL if depends or head in _STANDARD else NOTHING

    # --- the tree of modules ------------------------------------------------------------------------------------------

    def _here(self, names: Names, path: str, module: int) -> Target:
        """The module around a place."""
        if module != -1:
            return Target((names.units[module].id,), (), has_members=True)
        return Target(modules=(path,))

    def _above(self, names: Names, path: str, module: int) -> Target:
        """The module above that one."""
        if module != -1:
            return self._here(names, path, _inline(names, names.units[module].unit.parent))
        directory = parent_path(path)
        base = path.rpartition("/")[2]
        if base in _ROOTS:
            return NOTHING
        if base == "mod.rs":
            if not directory:
                return NOTHING
            directory = parent_path(directory)
        candidates = [join(directory, name) for name in ("mod.rs", *_ROOTS)]
        if directory:
            candidates.insert(0, f"{directory}.rs")
        found = tuple([candidate for candidate in candidates if candidate != path and names.has_file(candidate)])
        return Target(modules=found) if found else NOTHING

    def _file_module(self, names: Names, path: str, name: str) -> Target:
        """The file of a module below that of a file."""
        directory = parent_path(path)
        if path.rpartition("/")[2] not in {"mod.rs", *_ROOTS} and parent_path(path).rpartition("/")[2] not in {
            "bin",
            *_CRATE_FOLDERS[1:],
        }:
            directory = path.removesuffix(".rs")
        for candidate in (join(directory, f"{name}.rs"), join(directory, f"{name}/mod.rs")):
            if candidate != path and names.has_file(candidate):
                return Target(modules=(candidate,))
        return NOTHING

    def _roots(self, names: Names, path: str) -> tuple[str, ...]:
        """The root modules of the crate around a file: of a library and a program in one directory, both."""
        at = f"crate roots\0{path}"
        found = names.cache.get(at)
        if found is None:
            found = names.cache[at] = self._find_roots(names, path)
        assert isinstance(found, tuple)
        return found

    def _find_roots(self, names: Names, path: str) -> tuple[str, ...]:
        crate = crate_of(path)
        inside = path[len(crate) :].strip("/")
        folder, _, rest = inside.partition("/")
        if folder in _CRATE_FOLDERS[1:] and "/" not in rest:
            return (path,)
        if folder == "src" and rest.startswith("bin/") and rest.count("/") == 1:
            return (path,)
        here = parent_path(path)
        while True:
            found = tuple([join(here, name) for name in _ROOTS if names.has_file(join(here, name))])
            if found:
                return found
            if here == crate or not here:
                break
            here = parent_path(here)
        project = names.project(join(crate, "Cargo.toml"))
        if project is not None and (library := project.one("lib")):
            return (join(crate, library),)
        return ()

    def _crate(self, names: Names, path: str, name: str) -> str:
        """The root module of a crate of this root, by its own name or by what Cargo.toml calls it; "": none."""
        at = f"crate\0{crate_of(path)}\0{name}"
        found = names.cache.get(at)
        if found is None:
            found = names.cache[at] = self._find_crate(names, path, name)
        assert isinstance(found, str)
        return found

    def _find_crate(self, names: Names, path: str, name: str) -> str:
        if name in _STANDARD:
            return ""
        own = names.project(join(crate_of(path), "Cargo.toml"))
        directories = []
        if own is not None:
            if where := own.one("dependency path", name):
                directories.append(join(crate_of(path), where))
            name = own.one("dependency", name).replace("-", "_") or name
        directories += [parent_path(cargo) for cargo in names.places(f"crate\0{name}")]
        for directory in directories:
            cargo = names.project(join(directory, "Cargo.toml"))
            library = join(directory, (cargo.one("lib") if cargo else "") or "src/lib.rs")
            if names.has_file(library):
                return library
        return next(iter(names.places(f"rslib\0{name}")), "")


def _inline(names: Names, source: int) -> int:
    """Index of the inline module around a place in this file; -1: the file itself."""
    while source != -1 and names.units[source].unit.kind != "module":
        source = names.units[source].unit.parent
    return source


def _plain(name: str) -> str:
    """The type that an impl block is of, without its arguments."""
    return name.partition("<")[0].rpartition("::")[2]
