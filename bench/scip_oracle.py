"""How far our relations between units agree with those of two compilers' indexers.

    python -m bench.scip_oracle [--python DIR ...] [--typescript DIR ...] [--json FILE] [--errors N] [--keep DIR]

Installs `@sourcegraph/scip-python` (pyright) and `@sourcegraph/scip-typescript` (tsc) with npm into a directory of its
own, lets them index each project, and compares unit to unit. Without a DIR the projects are `PYTHON` (copied from this
environment) and `TYPESCRIPT` (sources that npm packages ship).

What is compared. An occurrence of a symbol that the project itself defines, in an innermost unit of ours, is a
relation from that unit to the unit that begins at the definition. References of a unit to itself, to what it contains
and to what contains it are left out, as are symbols that are no function, method, class or type (variables, fields,
modules). A constructor counts as its class. Occurrences whose text is neither the symbol's name nor a name that the
file itself gives are left out: for some projects scip-python gives a wrong symbol to most of them. Our side has no word
for a mere mention (`callback=load`), so recall is over occurrences that are called or made (followed by an opening
bracket), inherited from (in the header of a class) or decorate, and over imports inside of units; precision takes any
occurrence of theirs for a confirmation.

  precision   of our STRONG and CRITICAL edges (less containment and declarations), those that the indexer has too.
              An edge by a name of which the indexer knows nothing (an import that it cannot follow) is `unjudged`:
              counted wrong in "strict", left out in "judged"
  recall      of their relations, those that we have at any strength; names that are matched when asked count where
              the name is matched to that unit
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from codegraphd.daemon.analysis.languages import FAMILY, language_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.graph.keys import CLASS_KINDS, FUNCTION_KINDS, NAMELESS_KINDS
from codegraphd.daemon.graph.resolve import Memo, Resolution, definitions, resolve
from codegraphd.store.records import Facts, FileRecord, Stat, UnitRecord

PYTHON = ("rich", "jinja2", "click", "watchdog")
TYPESCRIPT = ("rxjs@7.8.2", "immer", "@reduxjs/toolkit", "@tanstack/query-core")
INDEXERS = ("@sourcegraph/scip-python@0.6.6", "@sourcegraph/scip-typescript")

_PYTHON = frozenset({"python"})
_TYPESCRIPT = frozenset({"javascript", "typescript"})
_DEFINITION, _IMPORT = 1, 2
_ALIAS = re.compile(r"\bas\s+([\w$]+)|\bimport\s+([\w$]+)\s+from|([\w$]+)\s*(?::[^=\n]*)?=[^=]")
_CALLABLE = re.compile(r"^\s*(?:<[^<>()]*>)?\s*\(")


# --- the indexers' files: protocol buffers, of which we read five messages -------------------------------------------


def _fields(raw: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
        elif wire == 2:
            size, at = _varint(raw, at)
            yield tag >> 3, raw[at : at + size]
            at += size
        else:
            at += {1: 8, 5: 4}[wire]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


@dataclass(frozen=True, slots=True)
class Occurrence:
    line: int  # from 0
    start: int
    end_line: int
    end: int
    symbol: str
    roles: int


def read_index(path: Path) -> dict[str, list[Occurrence]]:
    """Relative path -> occurrences."""
    found: dict[str, list[Occurrence]] = {}
    for number, document in _fields(path.read_bytes()):
        if number != 2 or isinstance(document, int):
            continue
        relative, occurrences = "", []
        for field_number, value in _fields(document):
            if isinstance(value, int):
                continue
            if field_number == 1:
                relative = value.decode()
            elif field_number == 2:
                occurrences.append(_occurrence(value))
        found[relative] = occurrences
    return found


def _occurrence(raw: bytes) -> Occurrence:
    place: list[int] = []
    symbol, roles = "", 0
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            at = 0
            while at < len(value):
                part, at = _varint(value, at)
                place.append(part)
        elif number == 2 and isinstance(value, bytes):
            symbol = value.decode("utf-8", "replace")
        elif number == 3 and isinstance(value, int):
            roles = value
    if len(place) == 3:
        place = [place[0], place[1], place[0], place[2]]
    return Occurrence(place[0], place[1], place[2], place[3], symbol, roles)


# --- our side --------------------------------------------------------------------------------------------------------


class Project:
    """A directory, parsed and resolved in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, FileRecord] = {}
        self.sources: dict[str, list[str]] = {}
        self._by_id: dict[int, FileRecord] = {}
        self.records: dict[int, UnitRecord] = {}
        self._facts: dict[int, Facts] = {}
        self._defines: dict[bytes, set[int]] = {}
        self.named: dict[tuple[str, str], list[int]] = {}
        next_id = 1
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root).as_posix()
            if not path.is_file() or path.is_symlink() or "node_modules" in relative:
                continue
            language = language_of(relative)
            if language is None:
                continue
            source = path.read_bytes()
            module = parse(relative, source)
            ids = list(range(next_id + 1, next_id + 1 + len(module.units)))
            for id_, unit in zip(ids, module.units, strict=True):
                parent = ids[unit.parent] if unit.parent >= 0 else 0
                self.records[id_] = UnitRecord(id_, 1, next_id, relative, module.language, parent, unit)
                if unit.kind not in NAMELESS_KINDS:
                    self.named.setdefault((FAMILY[module.language], unit.name), []).append(id_)
            facts = Facts(module.package, module.references, module.bindings)
            file = FileRecord(
                next_id, 1, relative, module.language, Stat(0, 0, 0, 0), b"", 0, "", 0, tuple(ids)
            )  # fmt: skip
            self.files[relative] = self._by_id[next_id] = file
            self._facts[next_id] = facts
            self.sources[relative] = source.decode("utf-8", "replace").splitlines()
            for key, value in definitions(relative, next_id, facts, self.units_of(file), module.language):
                self._defines.setdefault(key, set()).add(value)
            next_id += len(ids) + 1
        started, memo = time.process_time(), Memo()
        self.resolutions: dict[str, Resolution] = {
            path: resolve(self, 1, file, memo) for path, file in self.files.items()
        }
        self.seconds = time.process_time() - started
        self.n_references = sum(len(facts.references) for facts in self._facts.values())

    def lookup(self, root: int, key: bytes) -> tuple[int, ...]:  # noqa: ARG002 - there is one root
        return tuple(sorted(self._defines.get(key, ())))

    def file_by_id(self, id: int) -> FileRecord | None:
        return self._by_id.get(id)

    def unit(self, id: int) -> UnitRecord | None:
        return self.records.get(id)

    def units_of(self, file: FileRecord) -> tuple[UnitRecord, ...]:
        return tuple(self.records[id_] for id_ in file.units)

    def facts(self, file_id: int) -> Facts | None:
        return self._facts.get(file_id)

    def package(self, file_id: int) -> str:
        facts = self._facts.get(file_id)
        return facts.package if facts else ""

    def at(self, path: str, line: int) -> int:
        """The innermost named unit around a line (from 1); 0: none."""
        best = 0
        for id_ in self.files[path].units if path in self.files else ():
            unit = self.records[id_].unit
            if unit.start_line <= line <= unit.end_line and unit.kind not in {"part", "section"}:
                best = id_
        return best

    def defined_at(self, path: str, line: int, name: str) -> int:
        """The unit with that name whose header holds the line (from 1); 0: none."""
        found = 0
        for id_ in self.files[path].units if path in self.files else ():
            unit = self.records[id_].unit
            if unit.start_line <= line <= unit.end_line and unit.name == name:
                found = id_
        return found

    def made(self, id_: int) -> int:
        """For a constructor its class: indexers differ in which of the two a call of the class means."""
        record = self.records[id_]
        return record.parent if record.unit.kind == "constructor" and record.parent else id_

    def place(self, id_: int) -> tuple[str, str]:
        record = self.records[id_]
        return record.path, record.unit.qualname

    def above(self, id_: int) -> set[int]:
        """A unit and all that contains it."""
        found = set()
        while id_:
            found.add(id_)
            id_ = self.records[id_].parent
        return found


# --- the comparison --------------------------------------------------------------------------------------------------


@dataclass
class Row:
    project: str
    files: int = 0
    references: int = 0
    theirs: int = 0
    ours: int = 0
    right: int = 0
    unjudged: int = 0
    stored: int = 0  # of theirs, those that we have as strong or critical edges
    named: int = 0  # of theirs, those that we have by name only
    us_per_reference: float = 0.0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def measures(self) -> dict[str, float]:
        return {
            "precision_strict": self.right / max(1, self.ours),
            "precision_judged": self.right / max(1, self.ours - self.unjudged),
            "recall": (self.stored + self.named) / max(1, self.theirs),
            "recall_stored": self.stored / max(1, self.theirs),
        }


def compare(name: str, root: Path, index: dict[str, list[Occurrence]], languages: frozenset[str]) -> Row:
    project = Project(root)
    row = Row(name, len(index), project.n_references)
    row.us_per_reference = project.seconds / max(1, project.n_references) * 1e6
    targets: dict[tuple[str, str], int] = {}  # (path of a local symbol or "", symbol) -> unit
    for path, occurrences in index.items():
        lines = project.sources.get(path, [])
        for o in occurrences:
            if o.roles & _DEFINITION and o.line < len(lines):
                unit = project.defined_at(path, o.line + 1, lines[o.line][o.start : o.end])
                if unit:
                    targets.setdefault(_symbol(path, o), project.made(unit))
    theirs: dict[tuple[int, int], str] = {}
    wanted: set[tuple[int, int]] = set()
    known_names: set[tuple[int, str]] = set()  # (source unit, name) where the indexer knows what the name is
    for path, occurrences in index.items():
        if path not in project.files:
            continue
        lines = project.sources[path]
        aliases = {name for found in _ALIAS.findall("\n".join(lines)) for name in found}
        for o in occurrences:
            if o.roles & _DEFINITION or o.line >= len(lines):
                continue
            source = project.at(path, o.line + 1)
            if not source:
                continue
            text = lines[o.line][o.start : o.end]
            target = targets.get(_symbol(path, o), 0)
            if target and not _is_named(project, target, text, aliases):
                continue  # the indexer's mistake: scip-python takes `nx.set_node_attributes` for `selfloop_edges`
            if target or not o.symbol.startswith("local"):
                known_names.add((source, text))
            if not target or target in project.above(source) or source in project.above(target):
                continue
            theirs[source, target] = f"{path}:{o.line + 1}"
            is_own = project.place(source) == project.place(target)  # an overload of itself
            if not is_own and _is_wanted(project, source, target, lines, o):
                wanted.add((source, target))
    ours: dict[tuple[int, int], str] = {}
    by_name: set[tuple[int, int]] = set()
    for path, resolution in project.resolutions.items():
        if path not in index or project.files[path].language not in languages:
            continue
        for source, edges in resolution.edges.items():
            for edge in edges:
                if edge.kind in {"contain", "declare"} or project.made(edge.target) in project.above(source):
                    continue
                if source in project.above(edge.target) or project.records[edge.target].path not in index:
                    continue
                ours[source, project.made(edge.target)] = edge.kind
        for source, mentions in resolution.mentions.items():
            for family, mentioned, _ in mentions:
                targeted = project.named.get((family, mentioned), ())
                by_name.update((source, project.made(target)) for target in targeted)
    same: dict[int, set[int]] = {}  # overloads: a relation to one is a relation to all
    groups: dict[tuple[str, str], set[int]] = {}
    for id_, record in project.records.items():
        same[id_] = groups.setdefault((record.path, record.unit.qualname), set())
        same[id_].add(id_)

    def label(pair: tuple[int, int]) -> str:
        a, b = project.records[pair[0]], project.records[pair[1]]
        return f"{a.path}:{a.unit.qualname} -> {b.path}:{b.unit.qualname}"

    judged: set[tuple[int, str, str]] = set()
    for (source, target), kind in ours.items():
        t = project.records[target]
        once = (source, t.path, t.unit.qualname)
        if once in judged:
            continue
        judged.add(once)
        row.ours += 1
        if any((source, other) in theirs for other in same[target]):
            row.right += 1
        elif (source, t.unit.name) not in known_names:
            row.unjudged += 1
            row.wrong.append(f"unjudged {kind} {label((source, target))}")
        else:
            row.wrong.append(f"wrong {kind} {label((source, target))}")
    row.theirs = len(wanted)
    for source, target in sorted(wanted):
        if any((source, other) in ours for other in same[target]):
            row.stored += 1
        elif any((source, other) in by_name for other in same[target]):
            row.named += 1
        else:
            row.missed.append(f"{theirs[source, target]} {label((source, target))}")
    return row


def _is_named(project: Project, target: int, text: str, aliases: set[str]) -> bool:
    """Whether a text can stand for a unit: its name, or a name that the file gives to something else."""
    return text in {project.records[target].unit.name, "super", "constructor", "__init__", "cls"} or text in aliases


def _symbol(path: str, o: Occurrence) -> tuple[str, str]:
    return (path if o.symbol.startswith("local") else "", o.symbol)


def _is_wanted(project: Project, source: int, target: int, lines: Sequence[str], o: Occurrence) -> bool:
    """Whether an occurrence is a call, an instantiation, an inheritance, a decorator or an import in a unit."""
    kind = project.records[target].unit.kind
    if kind not in CLASS_KINDS | FUNCTION_KINDS:
        return False
    line = lines[o.line]
    if o.roles & _IMPORT:
        return project.records[source].unit.kind != "file"
    if _CALLABLE.match(line[o.end :]):
        return True
    if line[: o.start].lstrip().startswith("@"):
        return True
    unit = project.records[source].unit
    return unit.kind in CLASS_KINDS and line[o.start : o.end] in {base.rpartition(".")[2] for base in unit.bases}


# --- the projects and the indexers -----------------------------------------------------------------------------------


def install(home: Path) -> None:
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", *INDEXERS], cwd=home, check=True)


def index_python(home: Path, root: Path, output: Path) -> None:
    (home / "environment.json").write_text("[]")
    command = [
        home / "node_modules/.bin/scip-python", "index", ".", "--project-name", "x", "--project-version", "1",
        "--environment", home / "environment.json", "--output", output,
    ]  # fmt: skip
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def index_typescript(home: Path, root: Path, output: Path) -> None:
    command = [home / "node_modules/.bin/scip-typescript", "index", "--infer-tsconfig", "--output", output]
    subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL)


def fetch_python(home: Path, name: str) -> Path:
    root = home / "python" / name
    source = Path(sysconfig.get_paths()["purelib"]) / name
    shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.so"))
    return root


def fetch_typescript(home: Path, name: str) -> Path:
    """The sources of an npm package: its `src` and what configures it; built files are left out."""
    work = home / "npm"
    work.mkdir(exist_ok=True)
    packed = subprocess.run(
        ["npm", "pack", "--silent", name], cwd=work, check=True, capture_output=True, text=True
    ).stdout.strip()
    unpacked = work / packed.removesuffix(".tgz")
    unpacked.mkdir()
    subprocess.run(["tar", "xzf", packed, "-C", unpacked, "--strip-components=1"], cwd=work, check=True)
    root = home / "typescript" / packed.removesuffix(".tgz")
    shutil.copytree(unpacked / "src", root / "src")
    shutil.copy(unpacked / "package.json", root)
    own = json.loads((root / "package.json").read_text())["name"]
    options = {
        "target": "es2022",
        "moduleResolution": "node",
        "jsx": "react",
        # For sources that import their own package by its name. A repository's own tsconfig.json, which is not shipped,
        # has such a mapping.
        "paths": {own: ["./src/index"], f"{own}/*": ["./src/*/index", "./src/*"]},
    }
    (root / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    return root


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="*", type=Path, metavar="DIR")
    parser.add_argument("--typescript", nargs="*", type=Path, metavar="DIR")
    parser.add_argument("--index", type=Path, metavar="FILE", help="a ready .scip for the one DIR given")
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="show up to N missed and wrong relations")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work here and leave everything behind")
    chosen = parser.parse_args(arguments)
    home = chosen.keep or Path(tempfile.mkdtemp(prefix="codegraphd-scip-"))
    home.mkdir(parents=True, exist_ok=True)
    try:
        rows = list(_rows(home, chosen))
    finally:
        if chosen.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    for row in rows:
        for what, items in (("missed", row.missed), ("", row.wrong)):
            for item in items[:: max(1, len(items) // chosen.errors)] if chosen.errors else ():
                print(what, item)
    print(table(rows))
    if chosen.json:
        plain = [{**asdict(row), "missed": [], "wrong": [], **row.measures()} for row in rows]
        chosen.json.write_text(json.dumps(plain, indent=1))
    return 0


def packages(home: Path) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The projects, each with what fetches, indexes and compares it."""
    for name in PYTHON:
        yield name, partial(_row, home, name, fetch_python, index_python, _PYTHON)
    for name in TYPESCRIPT:
        yield name, partial(_row, home, name, fetch_typescript, index_typescript, _TYPESCRIPT)


def _row(
    home: Path,
    name: str,
    fetch: Callable[[Path, str], Path],
    index: Callable[[Path, Path, Path], None],
    languages: frozenset[str],
) -> Row:
    root = fetch(home, name)
    output = home / f"{root.name}.scip"
    index(home, root, output)
    return compare(root.name, root, read_index(output), languages)


def versions(home: Path) -> list[str]:
    """The indexers that `install` has put there."""
    found = []
    for name in ("scip-python", "scip-typescript"):
        package = home / "node_modules/@sourcegraph" / name / "package.json"
        found.append(f"{name} {json.loads(package.read_text())['version']}")
    return found


def _rows(home: Path, chosen: argparse.Namespace) -> Iterator[Row]:
    if chosen.index is None:
        install(home)
    if chosen.python is None and chosen.typescript is None:
        yield from (measure() for _, measure in packages(home))
    for roots, index, languages in (
        (chosen.python or (), index_python, _PYTHON),
        (chosen.typescript or (), index_typescript, _TYPESCRIPT),
    ):
        for root in roots:
            output = chosen.index or home / f"{root.name}.scip"
            if chosen.index is None:
                index(home, root, output)
            yield compare(root.name, root, read_index(output), languages)


def table(rows: Iterable[Row]) -> str:
    lines = [
        "| project | files | their relations | recall | by edges | our edges | precision | judged | us/reference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        m = row.measures()
        lines.append(
            f"| {row.project} | {row.files} | {row.theirs} | {m['recall']:.3f} | {m['recall_stored']:.3f} | "
            f"{row.ours} | {m['precision_strict']:.3f} | {m['precision_judged']:.3f} | {row.us_per_reference:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
