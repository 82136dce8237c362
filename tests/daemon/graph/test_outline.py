"""The outline of a file covers what resolution reads of the file itself, and nothing that the edit of a body moves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.graph.outline import outline_of
from codegraphd.store.records import Module

CASES = Path(__file__).parents[2] / "data" / "resolve"


def projects(path: Path) -> list[dict[str, bytes]]:
    """The files of each case, by path."""
    found = []
    for case in path.read_text().split("\n=== ")[1:]:
        files = {}
        for part in case.split("\n[file ")[1:]:
            name, _, rest = part.partition("]\n")
            files[name] = rest.partition("\n[")[0].encode()
        found.append(files)
    return found


def moved(module: Module) -> Module:
    """The module as it would be if comments, docs and bodies said something else: every line and every span moves."""
    units = tuple(
        dataclasses.replace(
            unit,
            start_byte=3 * unit.start_byte + 5,
            end_byte=3 * unit.end_byte + 5,
            start_line=2 * unit.start_line + 1,
            end_line=2 * unit.end_line + 1,
            doc="said otherwise",
            face=b"f",
            body=b"b",
            own=b"o",
            shape=b"s",
        )
        for unit in module.units
    )
    references = tuple(dataclasses.replace(r, line=2 * r.line + 1) for r in module.references)
    bindings = tuple(dataclasses.replace(b, line=2 * b.line + 1) for b in module.bindings)
    return dataclasses.replace(
        module, digest=b"d", size=1, lines=1, units=units, words=(), references=references, bindings=bindings, errors=7
    )


@pytest.mark.parametrize("language", sorted(path.stem for path in CASES.glob("*.txt")))
def test_resolution_reads_nothing_beside_it(language: str, make: Any) -> None:
    cases = projects(CASES / f"{language}.txt")
    assert sum(len(files) for files in cases) > 20
    for files in cases:
        modules = {path: parse(path, source) for path, source in files.items()}
        here, there = make.World(), make.World()
        for path, module in modules.items():
            assert outline_of(moved(module)) == outline_of(module)
            here.put_module(path, module)
            there.put_module(path, moved(module))
        assert there.resolutions == here.resolutions
        assert there._defined == here._defined


@pytest.mark.parametrize(
    "after",
    [
        b"import b\n\ndef f():\n    b.g()\n    b.h()\n\ndef k(x):\n    b.g()\n",  # a face
        b"import b\n\ndef f():\n    b.h()\n    b.g()\n\ndef k():\n    b.g()\n",  # the order of what is used
        b"import b\n\ndef f():\n    b.g()\n    b.h()\n\ndef k():\n    b.h()\n",  # what is used
        b"import c as b\n\ndef f():\n    b.g()\n    b.h()\n\ndef k():\n    b.g()\n",  # what is imported
        b"import b\n\ndef f():\n    b.g()\n    b.h()\n\nasync def k():\n    b.g()\n",
    ],
)
def test_what_resolution_reads_is_in_it(after: bytes) -> None:
    before = b"import b\n\ndef f():\n    b.g()\n    b.h()\n\ndef k():\n    b.g()\n"
    assert outline_of(parse("a.py", after)) != outline_of(parse("a.py", before))


def test_an_edited_body_is_not_in_it() -> None:
    before = b"import b\n\ndef f():\n    b.g()\n    b.h()\n"
    after = b'import b\n\n# new\ndef f():\n    """Other."""\n    x = 1\n    b.g()\n    return b.h() + 2 * x\n'
    assert outline_of(parse("a.py", after)) == outline_of(parse("a.py", before))
