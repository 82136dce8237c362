"""JavaScript and TypeScript: specifiers to files, exports and re-exports, CommonJS, tsconfig paths, workspace packages.

A module handle is the path of its file.

Keys of its own:
  js stem            files with that path less its extension; an index file also under its directory: file ids, PLACE
  jd path            what the file exports as default, where that is a unit of it: unit ids, CLASS
  npm name           package.json of that package: file id, PLACE

Analysis gives `import x from "m"` the member "default", `import * as x` and `x = require("m")` the member "", and to
`export { a as b }` and `export default a` without a module the bindings b and default with the module "".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from codegraphd.daemon.graph.keys import PLACE, Pair, class_fact, fact, join, key, open_units, parent_path
from codegraphd.daemon.graph.projects import Project
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Rules, Target
from codegraphd.store.records import Binding, Facts, UnitRecord

# Preference among files of one stem: what a bundler and tsc try first.
_EXTENSIONS = (
    ".ts", ".tsx", ".d.ts", ".mts", ".cts", ".d.mts", ".d.cts", ".js", ".jsx", ".mjs", ".cjs",
)  # fmt: skip
_BUILT = ("dist", "lib", "build", "out", "es", "esm", "cjs", "umd", "types", "typings")
_MAX_EXTENDS = 8


def stem_of(path: str) -> tuple[str, str]:
    """ "a/b.d.ts" -> ("a/b", ".d.ts"); a path of another kind has the extension ""."""
    for extension in (".d.ts", ".d.mts", ".d.cts"):
        if path.endswith(extension):
            return path[: -len(extension)], extension
    stem, dot, extension = path.rpartition(".")
    return (stem, dot + extension) if dot + extension in _EXTENSIONS else (path, "")


class JsRules(Rules):
    def definitions(self, path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord]) -> Iterator[Pair]:
        stem = stem_of(path)[0]
        names = [stem]
        if stem.rpartition("/")[2] == "index":
            names.append(parent_path(stem))
        for name in names:
            yield key(f"js\0{name}"), file_id
            yield key(f"js\0{name}"), fact(PLACE, file_id, path)
        opened = open_units(units)
        for record in units:
            if record.unit.parent == -1 and record.unit.signature.startswith("export default"):
                yield key(f"jd\0{path}"), record.id
                if record.id in opened:
                    yield key(f"jd\0{path}"), class_fact(record, facts.package)

    def follow(self, names: Names, path: str, binding: Binding) -> Target:
        if not binding.module:  # `export { a as b }`, `import A = B.C`: a name of this file, or of one of its imports
            first, *rest = binding.member.split(".")
            target = NOTHING if first == binding.local else names.top(path, first)
            for name in rest:
                target = names.member(target, name)
            return target
        handle = self._specifier(names, path, binding.module)
        if handle is None:
            return EXTERNAL
        if not handle:
            return NOTHING
        if binding.member == "*" and binding.local in {"", "*"}:
            return Target(modules=(handle,))
        if binding.member in {"", "*"}:
            whole = self._default(names, handle)
            return Target(whole.units, (handle,), whole.has_members)
        return self.module_member(names, handle, binding.member, set())

    def module_member(self, names: Names, module: str, name: str, seen: set[str]) -> Target:
        if name == "default":
            return self._default(names, module)
        return names.search(module, name, importing=True, seen=seen)

    def _default(self, names: Names, module: str) -> Target:
        target = names.found(f"jd\0{module}")
        return target if target.units else names.top(module, "default", importing=True)

    # --- specifiers ---------------------------------------------------------------------------------------------------

    def _specifier(self, names: Names, path: str, specifier: str) -> str | None:
        """The file that a specifier means in the file at `path`: "" unknown, None outside of this root."""
        at = f"js\0{path if specifier.startswith('.') else parent_path(path)}\0{specifier}"
        if at not in names.cache:
            names.cache[at] = self._find(names, path, specifier)
        found = names.cache[at]
        assert found is None or isinstance(found, str)
        return found

    def _find(self, names: Names, path: str, specifier: str) -> str | None:
        specifier = specifier.partition("?")[0]
        directory = parent_path(path)
        if specifier.startswith("."):
            return self._file(names, join(directory, specifier)) or None
        if specifier.startswith("/"):
            return self._file(names, specifier.strip("/"))
        if found := self._mapped(names, directory, specifier):
            return found
        if found := self._package(names, directory, specifier):
            return found
        return "" if specifier.startswith(("@/", "~", "#", "src/")) else None

    def _file(self, names: Names, base: str) -> str:
        """The file that a bundler takes for a path written without (or with another) extension."""
        stem, extension = stem_of(base)
        best: tuple[tuple[bool, bool, int], str] | None = None
        for name in (stem, base) if extension else (base,):
            for candidate in names.places(f"js\0{name}"):
                its_stem, its_extension = stem_of(candidate)
                rank = (candidate != base, its_stem != name, _EXTENSIONS.index(its_extension) if its_extension else 99)
                if best is None or rank < best[0]:
                    best = rank, candidate
        return best[1] if best else ""

    def _mapped(self, names: Names, directory: str, specifier: str) -> str:
        """By `paths` and `baseUrl` of the nearest tsconfig.json."""
        for config, project in self._configs(names, directory):
            base = project.one("baseUrl")
            here = join(parent_path(config), base)
            best: tuple[int, list[str]] = (-1, [])
            for pattern, target in project.all("paths"):
                prefix, star, suffix = pattern.partition("*")
                if star:
                    if not (specifier.startswith(prefix) and specifier.endswith(suffix)):
                        continue
                    middle = specifier[len(prefix) : len(specifier) - len(suffix)]
                elif specifier == pattern:
                    prefix, middle = specifier + "\0", ""
                else:
                    continue
                if len(prefix) > best[0]:
                    best = (len(prefix), [])
                if len(prefix) == best[0]:
                    best[1].append(target.replace("*", middle))
            for target in best[1]:
                if found := self._file(names, join(here, target)):
                    return found
            if base and (found := self._file(names, join(here, specifier))):
                return found
        return ""

    def _configs(self, names: Names, directory: str) -> list[tuple[str, Project]]:
        """The nearest tsconfig.json with what it extends and refers to, in that order."""
        at = f"tsconfig\0{directory}"
        if at not in names.cache:
            names.cache[at] = self._find_configs(names, directory)
        found = names.cache[at]
        assert isinstance(found, list)
        return found

    def _find_configs(self, names: Names, directory: str) -> list[tuple[str, Project]]:
        here = directory
        while True:
            for name in ("tsconfig.json", "jsconfig.json"):
                if names.project(join(here, name)) is not None:
                    return self._chain(names, join(here, name))
            if not here:
                return []
            here = parent_path(here)

    def _chain(self, names: Names, path: str) -> list[tuple[str, Project]]:
        out: list[tuple[str, Project]] = []
        queue = [path]
        while queue and len(out) < _MAX_EXTENDS:
            path = queue.pop(0)
            project = names.project(path)
            if project is None or any(path == known for known, _ in out):
                continue
            out.append((path, project))
            directory = parent_path(path)
            for sort in ("extends", "references"):
                for _, target in project.all(sort):
                    if not target.startswith("."):
                        continue
                    other = join(directory, target)
                    if not other.endswith(".json"):
                        other = f"{other}.json" if sort == "extends" else f"{other}/tsconfig.json"
                    queue.append(other)
        return out

    def _package(self, names: Names, directory: str, specifier: str) -> str:
        """A package of this root: of a monorepo's workspaces, or the importing file's own."""
        n = 2 if specifier.startswith("@") else 1
        parts = specifier.split("/")
        name, rest = "/".join(parts[:n]), "/".join(parts[n:])
        if specifier.startswith("#"):
            return self._own_imports(names, directory, specifier)
        for package in names.places(f"npm\0{name}"):
            project = names.project(package)
            if project is None:
                continue
            here = parent_path(package)
            for target in self._targets(project, rest):
                if found := self._built(names, here, target):
                    return found
        return ""

    def _own_imports(self, names: Names, directory: str, specifier: str) -> str:
        here = directory
        while True:
            package = join(here, "package.json")
            project = names.project(package)
            if project is not None:
                for target in _matches(project, "imports", specifier):
                    if found := self._built(names, here, target):
                        return found
                return ""
            if not here:
                return ""
            here = parent_path(here)

    def _targets(self, project: Project, rest: str) -> Iterator[str]:
        yield from _matches(project, "exports", f"./{rest}" if rest else ".")
        if rest:
            yield rest
            yield f"src/{rest}"
        else:
            for _, main in project.all("main"):
                yield main
            yield from ("src/index", "index", "src/main", "lib/index")

    def _built(self, names: Names, directory: str, target: str) -> str:
        """What is there of a target: the file, or the source that it is built from ("dist/a.js" from "src/a.ts")."""
        if found := self._file(names, join(directory, target)):
            return found
        parts = target.removeprefix("./").split("/")
        while len(parts) > 1 and parts[0] in _BUILT:
            parts.pop(0)
            rest = "/".join(parts)
            if found := self._file(names, join(directory, f"src/{rest}")) or self._file(names, join(directory, rest)):
                return found
        return ""


def _matches(project: Project, sort: str, name: str) -> Iterator[str]:
    """The targets of `exports` or `imports` for a subpath, exact ones first."""
    for pattern, target in project.all(sort):
        if pattern == name:
            yield target
    for pattern, target in project.all(sort):
        prefix, star, suffix = pattern.partition("*")
        if star and name.startswith(prefix) and name.endswith(suffix) and pattern != name:
            yield target.replace("*", name[len(prefix) : len(name) - len(suffix)])
