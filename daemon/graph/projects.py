"""Project files: what package.json, tsconfig.json, go.mod, Cargo.toml, pyproject.toml, pom.xml, *.csproj say of names.

`project_bindings(path, source)` reads one, text in, facts out, never raising. The facts travel and are stored as the
`Binding`s of a file of language "text" (local: the entry's name, module: its value, member: the entry's sort), so a
project file is stored, diffed and touched like any source. `project_of` turns them back into a `Project`.

Of pom.xml and *.csproj it is which modules of this root a module refers to, so that of two types of one full name the
right one is taken, and in C# the namespaces that are imported for every file. Where a type lies they do not say: that
is declared in the sources.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegraphd.store.records import Binding

_MAX_ENTRIES = 2_000  # of one project file
_LINE_COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\\n])*")|,(?=\s*[}\]])', re.DOTALL)
_GO_REPLACE = re.compile(r"^\s*(?:replace\s+)?(\S+)(?:\s+v\S+)?\s*=>\s*(\.\S*)", re.MULTILINE)
_USING = re.compile(r"<Using\b([^>]*)>")
_INCLUDE = re.compile(r"""\bInclude\s*=\s*["']([\w.]+)["']""")
_REFERENCE = re.compile(r"""<ProjectReference\b[^>]*?\bInclude\s*=\s*["']([^"']+)["']""")
_ARTIFACT = re.compile(r"<artifactId>\s*([\w.-]+)\s*</artifactId>")
_DEPENDENCY = re.compile(r"<dependency>(.*?)</dependency>", re.DOTALL)
_NOT_ITS_NAME = re.compile(
    r"<(parent|dependencyManagement|dependencies|build|profiles|reporting)\b[^>]*>.*?</\1>", re.DOTALL
)
_XML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_GO_MODULE = re.compile(r'^\s*module\s+"?([^\s"]+)', re.MULTILINE)

_DOTNET = (".csproj", ".props", ".targets")

Entry = tuple[str, str, str]  # sort, name, value


@dataclass(frozen=True, slots=True)
class Project:
    """A project file's entries, in the order of the file. Values are as written."""

    path: str
    entries: tuple[Entry, ...]

    def one(self, sort: str, name: str = "") -> str:
        """The first value under (sort, name); "" if none."""
        return next((value for s, n, value in self.entries if s == sort and n == name), "")

    def all(self, sort: str) -> Iterator[tuple[str, str]]:
        """(name, value) of every entry of that sort."""
        return ((name, value) for s, name, value in self.entries if s == sort)


def is_project(path: str) -> bool:
    """Whether `project_bindings` knows this kind of file, by its name."""
    return _reader(path) is not None


def project_bindings(path: str, source: bytes) -> tuple[Binding, ...]:
    """What a project file says; () for another file or one that cannot be read."""
    reader = _reader(path)
    if reader is None:
        return ()
    try:
        entries = list(reader(source.decode("utf-8-sig", "replace")))
    except (ValueError, TypeError, AttributeError, RecursionError):  # half-typed: nothing is known until it parses
        return ()
    unique = dict.fromkeys(entry for entry in entries if all(isinstance(part, str) for part in entry))
    return tuple([Binding(-1, name, value, sort, True, 0) for sort, name, value in list(unique)[:_MAX_ENTRIES]])


def project_of(path: str, bindings: Iterable[Binding]) -> Project:
    """The other way round."""
    return Project(path, tuple([(b.member, b.local, b.module) for b in bindings]))


def definitions_of_project(path: str, bindings: Sequence[Binding]) -> list[str]:
    """Key texts under which a project file is found from elsewhere, beside its own path."""
    project = project_of(path, bindings)
    name = project.one("name")
    base = path.rpartition("/")[2]
    directory = path.rpartition("/")[0]
    if base.endswith(_DOTNET):
        found = [f"gu\0{directory}"] if any(project.all("using")) else []
        return [*found, f"module\0csharp\0{directory}"] if base.endswith(".csproj") else found
    if base == "pom.xml":
        return [f"module\0java\0{directory}", *([f"maven\0{name}"] if name else [])]
    if not name:
        return []
    sort = {"package.json": "npm", "go.mod": "gomod", "Cargo.toml": "crate", "pyproject.toml": "pyproject"}.get(base)
    if sort is None:
        return []
    return [f"{sort}\0{name.replace('-', '_') if sort in {'crate', 'pyproject'} else name}"]


def _reader(path: str) -> Callable[[str], Iterable[Entry]] | None:
    base = path.rpartition("/")[2]
    if base in _READERS:
        return _READERS[base]
    if base.endswith(_DOTNET):
        return _csproj
    if base.startswith(("tsconfig", "jsconfig")) and base.endswith(".json"):
        return _tsconfig
    return None


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:  # comments and trailing commas, as tsconfig.json has them
        bare = _LINE_COMMENT.sub(lambda m: m.group(1) or " ", text)
        value = json.loads(_TRAILING_COMMA.sub(lambda m: m.group(1) or "", bare))
    return value if isinstance(value, dict) else {}


def _package_json(text: str) -> Iterator[Entry]:
    data = _json(text)
    yield "name", "", data.get("name", "")
    for field in ("source", "types", "typings", "module", "main", "browser"):
        if isinstance(data.get(field), str):
            yield "main", "", data[field]
    for sort in ("exports", "imports"):
        table = data.get(sort)
        if isinstance(table, str | list) or (isinstance(table, dict) and not any(k[:1] in ".#" for k in table)):
            table = {".": table}
        for name, value in (table or {}).items():
            for target in _conditions(value):
                yield sort, name, target


def _conditions(value: object) -> Iterator[str]:
    """The targets of an export, through its nested conditions."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _conditions(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _conditions(item)


def _tsconfig(text: str) -> Iterator[Entry]:
    data = _json(text)
    extends = data.get("extends", [])
    for base in [extends] if isinstance(extends, str) else extends:
        yield "extends", "", base
    options = data.get("compilerOptions") or {}
    if "baseUrl" in options:
        yield "baseUrl", "", options["baseUrl"]
    for name, targets in (options.get("paths") or {}).items():
        for target in targets:
            yield "paths", name, target
    for reference in data.get("references") or ():
        yield "references", "", reference.get("path", "")


def _go_mod(text: str) -> Iterator[Entry]:
    if match := _GO_MODULE.search(text):
        yield "name", "", match.group(1)
    for name, target in _GO_REPLACE.findall(text):
        yield "replace", name, target


def _cargo(text: str) -> Iterator[Entry]:
    data = tomllib.loads(text)
    library = data.get("lib") or {}
    yield "name", "", library.get("name") or (data.get("package") or {}).get("name", "")
    if "path" in library:
        yield "lib", "", library["path"]
    tables = [data, *(data.get("target") or {}).values()]
    for table in tables:
        for field in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, value in (table.get(field) or {}).items():
                known = value if isinstance(value, dict) else {}
                yield "dependency", name.replace("-", "_"), known.get("package", "")
                yield "dependency path", name.replace("-", "_"), known.get("path", "")
    for field in ("bin", "test", "bench", "example"):
        for target in data.get(field) or ():
            yield "root", "", target.get("path", "")


def _pyproject(text: str) -> Iterator[Entry]:
    data = tomllib.loads(text)
    tool = data.get("tool") or {}
    poetry = tool.get("poetry") or {}
    yield "name", "", (data.get("project") or {}).get("name") or poetry.get("name", "")
    setuptools = tool.get("setuptools") or {}
    for name, directory in (setuptools.get("package-dir") or {}).items():
        yield "package", name, directory
    packages = setuptools.get("packages")
    if isinstance(packages, dict):
        for directory in (packages.get("find") or {}).get("where") or ():
            yield "package", "", directory
    for package in poetry.get("packages") or ():
        if "from" in package:
            yield "package", "", package["from"]


def _csproj(text: str) -> Iterator[Entry]:
    text = _XML_COMMENT.sub("", text)
    for attributes in _USING.findall(text):
        if match := _INCLUDE.search(attributes):
            yield "using", "", match.group(1)
    for reference in _REFERENCE.findall(text):
        yield "reference", "", reference.replace("\\", "/")


def _pom(text: str) -> Iterator[Entry]:
    text = _XML_COMMENT.sub("", text)
    if match := _ARTIFACT.search(_NOT_ITS_NAME.sub("", text)):
        yield "name", "", match.group(1)
    for dependency in _DEPENDENCY.findall(text):
        if match := _ARTIFACT.search(dependency):
            yield "dependency", "", match.group(1)


_READERS: dict[str, Callable[[str], Iterable[Entry]]] = {
    "package.json": _package_json,
    "tsconfig.json": _tsconfig,
    "jsconfig.json": _tsconfig,
    "go.mod": _go_mod,
    "Cargo.toml": _cargo,
    "pyproject.toml": _pyproject,
    "pom.xml": _pom,
}
