"""Incremental cases as text: files of several moments, and which units the model sees again.

    [case body_edit]
    [file a.py]            the project at first
    [file a.py.2]          after the second moment (a whole file); `[delete a.py.2]` takes it away
    [move a.py b.py.2]     renames it
    [embedded 2]           exactly the units whose vectors the model computes at that moment, with the level
    a.py:f content
    [not embedded 2]       units that are expected to be left alone, and are there

After every moment the index equals a fresh build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codegraphd.daemon.engine import Settings

DATA = Path(__file__).parent.parent / "data" / "incremental"
_HEADER = re.compile(r"\[(case|file|delete|move|embedded|not embedded|depth)(?: ([^\]]*))?\]\s*")


@dataclass
class Case:
    name: str
    depth: int = 3
    edits: dict[int, dict[str, str | None]] = field(default_factory=dict)
    moves: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    embedded: dict[int, set[str]] = field(default_factory=dict)
    spared: dict[int, set[str]] = field(default_factory=dict)


def read_cases(text: str) -> list[Case]:
    cases: list[Case] = []
    for word, rest, body in _sections(text):
        if word == "case":
            cases.append(Case(rest))
            continue
        case = cases[-1]
        if word == "depth":
            case.depth = int(rest)
        elif word == "move":
            source, _, target = rest.partition(" ")
            target, moment = _moment(target)
            case.moves.setdefault(moment, []).append((source, target))
        elif word in ("file", "delete"):
            path, moment = _moment(rest)
            case.edits.setdefault(moment, {})[path] = body if word == "file" else None
        else:
            lines = {line for line in body.splitlines() if line.strip()}
            (case.embedded if word == "embedded" else case.spared)[int(rest)] = lines
    return cases


def _sections(text: str) -> list[tuple[str, str, str]]:
    """(word, rest of the header, body) of each section; the blank lines before the next header are not the body's."""
    sections: list[tuple[str, str, list[str]]] = []
    for line in text.splitlines():
        if (header := _HEADER.fullmatch(line)) is not None:
            sections.append((header.group(1), (header.group(2) or "").strip(), []))
        elif sections:
            sections[-1][2].append(line)
    return [(word, rest, "\n".join(body).rstrip("\n") + "\n" if body else "") for word, rest, body in sections]


def _moment(path: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*)\.(\d+)", path)
    return (found.group(1), int(found.group(2))) if found else (path, 1)


CASES = [(file.stem, case) for file in sorted(DATA.glob("*.txt")) for case in read_cases(file.read_text())]


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[f"{stem}-{case.name}" for stem, case in CASES])
def test_case(case: Case, make_lab: Any) -> None:
    lab = make_lab(Settings(faces=True, max_cascade_depth=case.depth))
    moments = sorted(case.edits.keys() | case.moves.keys() | case.embedded.keys())
    for moment in moments:
        edits: dict[str, bytes | None] = {
            path: None if text is None else text.encode() for path, text in case.edits.get(moment, {}).items()
        }
        for source, target in case.moves.get(moment, []):
            edits[source], edits[target] = None, lab.sources[source]
        lab.clear()
        lab.edit(edits)
        if moment > 1 or moment in case.embedded:
            found = {f"{name} {lab.levels[name]}" for name in lab.embedded}
            assert found == case.embedded.get(moment, set()), f"moment {moment}"
            there = names(lab)
            assert case.spared.get(moment, set()) <= there - lab.embedded, f"moment {moment}"
        assert lab.differences() == [], f"moment {moment}"


def names(lab: Any) -> set[str]:
    with lab.store.snapshot() as view:
        return {f"{unit.path}:{unit.unit.qualname}" for unit in view.units(1)}


def test_there_are_cases() -> None:
    assert len(CASES) >= 120
    assert len({(stem, case.name) for stem, case in CASES}) == len(CASES)
