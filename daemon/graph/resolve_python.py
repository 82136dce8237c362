# ruff: noqa: ARG002 - rules share their signatures; not every language needs every argument
"""Python: modules by dotted name, relative levels, packages and their `__init__`, star imports, re-exports.

A module handle is the path of its file, or `NAMESPACE` + dotted name for a package without `__init__.py`.

Keys of its own:
  py dotted          files importable as that: every suffix of the path, "src/a/b.py" as "src.a.b", "a.b", "b"
                     file ids, PLACE
  pyproject name     the project file of that distribution: file id, PLACE

A suffix says what a file could be imported as, not from where. Among several files the rule is: not from inside of a
package (a directory with `__init__.py` is no root of imports); then roots above the importing file, the nearest first;
then the root that shares most with it. A name of the standard library is taken only from a root above the importer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from codegraphd.daemon.graph.keys import PLACE, Pair, fact, join, key, parent_path
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Rules, Target
from codegraphd.store.records import Binding, Facts, UnitRecord

NAMESPACE = "\0"
_SOURCES = (".py", ".pyi", ".pyw")


def module_parts(path: str) -> list[str]:
    """ "a/b/__init__.py" -> ["a", "b"]; [] for what cannot be imported."""
    stem, dot, extension = path.rpartition(".")
    if dot + extension not in _SOURCES:
        return []
    parts = stem.split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return parts


class PythonRules(Rules):
    call_makes = True

    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        parts = module_parts(path)
        place = fact(PLACE, file_id, path)
        dotted = ""
        for part in reversed(parts):
            if not part.isidentifier():
                return
            dotted = f"{part}.{dotted}" if dotted else part
            name = key(f"py\0{dotted}")
            yield name, file_id
            yield name, place

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        module, member = binding.module, binding.member
        if module.startswith("."):
            level = len(module) - len(module.lstrip("."))
            directory = parent_path(path)
            for _ in range(level - 1):
                if not directory:
                    return EXTERNAL
                directory = parent_path(directory)
            rest = module[level:]
            base = join(directory, rest.replace(".", "/")) if rest else directory
            handle = _package_or_module(names, base)
            if member in {"", "*"}:
                return Target(modules=(handle,)) if handle else NOTHING
            if handle:
                return self._from(names, handle, member, path)
            below = _package_or_module(names, join(base, member))  # a package without __init__
            return Target(modules=(below,)) if below else NOTHING
        handle = self._module(names, path, module)
        if not member:
            return self._plain(names, path, binding, handle)
        if handle:
            if member == "*":
                return Target(modules=(handle,))
            return self._from(names, handle, member, path)
        below = self._module(names, path, f"{module}.{member}") if member != "*" else ""
        return Target(modules=(below,)) if below else EXTERNAL

    def _plain(self, names: Names, path: str, binding: Binding, handle: str) -> Target:
        """`import a.b.c` binds a, and a.b.c where it says `as`."""
        first, dot, _ = binding.module.partition(".")
        if not dot or binding.local != binding.module:
            return Target(modules=(handle,)) if handle else EXTERNAL
        top = self._module(names, path, first)
        if top:
            return Target(modules=(top,))
        return Target(modules=(NAMESPACE + first,)) if handle else EXTERNAL

    def _from(self, names: Names, handle: str, member: str, path: str) -> Target:
        """`from handle import member`, written in the file at `path`."""
        if handle == path:  # `from . import x` inside of the package's own __init__: a module beside it
            return self._submodule(names, handle, member)
        if (below := self._plain_submodule(names, handle, member)).modules:
            return below
        target = names.top(handle, member, importing=True)
        if target.units or target.modules:
            return target
        below = self._submodule(names, handle, member)
        return below if below.modules else target

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        if module.startswith(NAMESPACE):
            dotted = f"{module[1:]}.{name}"
            handle = self._module(names, names.path, dotted)
            return Target(modules=(handle or NAMESPACE + dotted,))
        if (below := self._plain_submodule(names, module, name)).modules:
            return below
        target = names.search(module, name, importing=True, seen=seen)
        if target.units or target.modules:
            return target
        below = self._submodule(names, module, name)
        return below if below.modules else target

    def is_starred(self, name: str) -> bool:
        return not name.startswith("_")  # less what `__all__` lists

    def _plain_submodule(self, names: Names, package: str, name: str) -> Target:
        """The package's module of that name, where the package itself neither defines nor imports the name and takes
        no star from that very module (`from .add import *` makes `add` the function): found without a search through
        all stars of the package, which may be thousands."""
        own = names.entry(package, name)
        below = NOTHING if own.units or own.bindings else self._submodule(names, package, name)
        stars = names.entry(package, "*").bindings if below.modules else ()
        return NOTHING if any(names.follow(package, star).modules == below.modules for star in stars) else below

    def _submodule(self, names: Names, module: str, name: str) -> Target:
        if not module.endswith(("/__init__.py", "/__init__.pyi")) and module not in {"__init__.py", "__init__.pyi"}:
            return NOTHING
        handle = _package_or_module(names, join(parent_path(module), name))
        return Target(modules=(handle,)) if handle else NOTHING

    def _module(self, names: Names, path: str, dotted: str) -> str:
        """The file that `import dotted` in the file at `path` loads; "" if it is none of this root's."""
        at = f"py\0{path}\0{dotted}"
        found = names.cache.get(at)
        if found is None:
            found = names.cache[at] = self._find(names, path, dotted) or self._mapped(names, dotted)
        assert isinstance(found, str)
        return found

    def _find(self, names: Names, path: str, dotted: str) -> str:
        candidates = names.places(f"py\0{dotted}")
        depth = dotted.count(".") + 1
        standard = dotted.partition(".")[0] in sys.stdlib_module_names
        best: tuple[tuple[bool, int, int, str], str] | None = None
        importer = parent_path(path)
        for candidate in candidates:
            directory = candidate.rpartition(".")[0].removesuffix("/__init__").split("/")[:-depth]
            root = "/".join(directory)
            above = not root or importer == root or importer.startswith(root + "/")
            if standard and not above:
                continue
            if root and names.has_file(f"{root}/__init__.py"):
                continue  # inside of a package, where only the package's own full name leads
            shared = len(root) if above else _shared(root, importer)
            package = candidate.endswith(("/__init__.py", "/__init__.pyi"))
            rank = (not above, -shared, (0 if package else 1) + 2 * (not candidate.endswith(".py")), candidate)
            if best is None or rank < best[0]:
                best = rank, candidate
        return best[1] if best else ""

    def _mapped(self, names: Names, dotted: str) -> str:
        """`dist.a.b` where the distribution's folders are mapped: its project file says so, or bears the name."""
        first, dot, rest = dotted.partition(".")
        if not dot or first in sys.stdlib_module_names:
            return ""
        for project_path in names.places(f"pyproject\0{first}"):
            project = names.project(project_path)
            if project is None:
                continue
            directory = parent_path(project_path)
            package = project.one("package", first)
            if handle := _package_or_module(names, join(join(directory, package), rest.replace(".", "/"))):
                return handle
        return ""


def _package_or_module(names: Names, base: str) -> str:
    """The file of the module whose path without extension is `base` ("": the root itself); "" if there is none."""
    package = f"{base}/__init__.py" if base else "__init__.py"
    for path in (package, f"{base}.py", f"{package}i", f"{base}.pyi"):
        if names.has_file(path):
            return path
    return ""


def _shared(one: str, other: str) -> int:
    """How many leading directories two directories share."""
    n = 0
    for a, b in zip(one.split("/"), other.split("/"), strict=False):
        if a != b:
            break
        n += 1
    return n
