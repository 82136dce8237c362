"""Source and what is understood of it, case by case: tests/data/LANGUAGE/*.txt.

A case begins with `=== its name`, optionally followed by the file's name; then come sections, each begun by `--- NAME`:

    source        the file
    units         every unit in order: KIND QUALNAME, then what is to be checked of it: `lines=3-9`, `sig="…"`,
                  `doc="…"`, `bases=A,B`, `decorators=a;b`, `flags=exported,test`
    references    every reference, in any order: SOURCE KIND DOTTED-NAME, then ` : TYPE` where a receiver is shown;
                  a source of `-` is the file's top level
    bindings      every binding: LOCAL = MODULE, `:MEMBER` where there is one, `exported` where it is
    own NAME      the text of the unit of that qualified name

A section that is absent is not checked. To write expectations for new cases, print what is found and read it well:
`python tests/daemon/analysis/test_cases.py tests/data/go/units.txt`.
"""

# ruff: noqa: T201 - prints when it is run by hand
from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.store.records import Flag, Module, Unit

DATA = Path(__file__).parents[2] / "data"
NAMES = {
    "python": "a.py",
    "javascript": "a.js",
    "typescript": "a.ts",
    "java": "A.java",
    "go": "a.go",
    "rust": "a.rs",
    "c": "a.c",
    "cpp": "a.cpp",
    "csharp": "A.cs",
    "markdown": "a.md",
    "text": "a.txt",
}


@dataclass
class Case:
    name: str
    path: str
    sections: dict[str, str] = field(default_factory=dict)


def read_cases(file: Path) -> list[Case]:
    cases: list[Case] = []
    for block in re.split(r"^=== ", file.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        head, *sections = re.split(r"^--- ", block, flags=re.MULTILINE)
        name, _, path = head.partition("\n")
        case = Case(name.strip(), path.strip() or NAMES[file.parent.name])
        for section in sections:
            title, _, text = section.partition("\n")
            case.sections[title.strip()] = text.rstrip("\n") + "\n" if title.strip() == "source" else text.strip("\n")
        cases.append(case)
    return cases


FILES = [file for name in NAMES for file in sorted((DATA / name).glob("*.txt"))]
CASES = [
    pytest.param(case, id=f"{file.parent.name}/{file.stem}: {case.name}") for file in FILES for case in read_cases(file)
]


def flags_text(unit: Unit) -> str:
    return ",".join(flag.name.lower() for flag in Flag if unit.flags & flag and flag.name)


def attributes(unit: Unit) -> dict[str, str]:
    return {
        "lines": f"{unit.start_line}-{unit.end_line}",
        "sig": f'"{unit.signature}"',
        "doc": f'"{unit.doc}"'.replace("\n", "\\n"),
        "bases": ",".join(unit.bases),
        "decorators": ";".join(unit.decorators),
        "flags": flags_text(unit),
    }


_ATTRIBUTE = re.compile(r' (lines|sig|doc|bases|decorators|flags)=("(?:[^"]|"(?! \w+=|$))*"|\S*)')


def unit_lines(module: Module, wanted: list[str]) -> list[str]:
    """The units, each with those attributes that the wanted line at its place asks for."""
    lines: list[str] = []
    for i, unit in enumerate(module.units):
        asked = _ATTRIBUTE.findall(wanted[i]) if i < len(wanted) else []
        known = attributes(unit)
        lines.append(f"{unit.kind} {unit.qualname}" + "".join(f" {name}={known[name]}" for name, _ in asked))
    return lines


def reference_lines(module: Module) -> list[str]:
    lines = []
    for reference in module.references:
        source = module.units[reference.source].qualname if reference.source >= 0 else "-"
        name = f"{reference.scope}.{reference.name}" if reference.scope else reference.name
        lines.append(f"{source} {reference.kind} {name}" + (f" : {reference.receiver}" if reference.receiver else ""))
    return lines


def binding_lines(module: Module) -> list[str]:
    return [
        f"{binding.local or '-'} = {binding.module}"
        + (f":{binding.member}" if binding.member else "")
        + (" exported" if binding.exported else "")
        for binding in module.bindings
    ]


def section(case: Case, name: str) -> list[str] | None:
    text = case.sections.get(name)
    return None if text is None else [line for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("case", CASES)
def test_case(case: Case) -> None:
    source = case.sections["source"].encode()
    module = parse(case.path, source)
    if (wanted := section(case, "units")) is not None:
        assert unit_lines(module, wanted) == wanted
    if (wanted := section(case, "references")) is not None:
        assert sorted(reference_lines(module)) == sorted(wanted)
    if (wanted := section(case, "bindings")) is not None:
        assert binding_lines(module) == wanted
    for title, text in case.sections.items():
        if title.startswith("own "):
            index = next(i for i, unit in enumerate(module.units) if unit.qualname == title[4:].strip())
            assert render(case.path, source)[index] == text


def main(paths: list[str]) -> None:
    for path in paths:
        for case in read_cases(Path(path)):
            module = parse(case.path, case.sections["source"].encode())
            print(f"=== {case.name}\n{case.path if case.path not in NAMES.values() else ''}".rstrip())
            print(f"--- source\n{case.sections['source'].rstrip()}")
            wanted = [' lines= sig="" doc="" bases= decorators= flags='] * len(module.units)
            shown = [
                re.sub(r" (?:doc=\"\"|bases=|decorators=|flags=)(?= |$)", "", line)
                for line in unit_lines(module, wanted)
            ]
            print("--- units", *shown, sep="\n")
            print("--- references", *reference_lines(module), sep="\n")
            print("--- bindings", *binding_lines(module), sep="\n")
            for title in case.sections:
                if title.startswith("own "):
                    index = next(i for i, unit in enumerate(module.units) if unit.qualname == title[4:].strip())
                    print(f"--- {title}\n{render(case.path, case.sections['source'].encode())[index]}")
            print()


if __name__ == "__main__":
    main(sys.argv[1:])
