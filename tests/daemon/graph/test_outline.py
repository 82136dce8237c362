"""The outline of a file covers what resolution reads of the file itself, and nothing that the edit of a body moves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bench.lab import ROOT, Lab, stat_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.engine import Outcome, ParsedFile, Work, advance
from codegraphd.daemon.graph.outline import outline_of
from codegraphd.daemon.packing import packed
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


# --- in the engine ---------------------------------------------------------------------------------------------------

B = b"import a\n\n\ndef g(x):\n    return a.f(x) + a.h(x)\n"
A = b"def f(x):\n    return x\n\n\ndef h(x):\n    return x\n"


def resolved(lab: Lab, edits: dict[str, bytes | None]) -> int:
    """How many files an edit resolved; the index is then what a fresh build gives."""
    outcomes = lab.edit(edits)
    assert lab.differences() == []
    return sum(outcome.n_resolved for outcome in outcomes)


def test_an_edit_that_refers_as_before_resolves_no_file(lab: Lab) -> None:
    lab.edit({"a.py": A, "b.py": B})
    assert resolved(lab, {"b.py": b"# new\n\n" + B.replace(b"    return", b"    y = 2\n    return")}) == 0
    assert resolved(lab, {"a.py": A.replace(b"return x\n\n", b"# one\n    return 2 * x\n\n")}) == 0
    assert resolved(lab, {"b.py": B.replace(b"a.f(x) + a.h(x)", b"a.h(x) + a.f(x)")}) == 1
    assert resolved(lab, {"b.py": B}) == 1
    assert resolved(lab, {"b.py": B, "a.py": b"def h(x):\n    return x\n"}) == 2
    assert resolved(lab, {"b.py": B.replace(b"x)\n", b"x)  # why\n"), "a.py": A}) == 2  # the key `f` reaches it


def test_a_file_that_moves_is_resolved(lab: Lab) -> None:
    lab.edit({"pkg/a.py": A, "pkg/b.py": B.replace(b"import a", b"from . import a")})
    moved = {"b.py": lab.sources["pkg/b.py"], "pkg/b.py": None}
    assert resolved(lab, moved) == 1


def test_a_unit_that_is_another_one_resolves_its_file(lab: Lab) -> None:
    """Two files swap what they hold: each outline is the other's, and the units behind it too."""
    one, two = b"import a\n\n\ndef g(x):\n    return a.f(x)\n", b"import a\n\n\ndef k(x):\n    return a.h(x)\n"
    lab.edit({"a.py": A, "one.py": one, "two.py": two})
    assert resolved(lab, {"one.py": two, "two.py": one}) == 2


def test_what_waits_to_be_resolved_goes_on_waiting(lab: Lab) -> None:
    """A file on the work list whose own edit changes nothing for it: it is resolved for what it waits for."""
    lab.edit({"a.py": A, "b.py": B})
    lab.sources |= {"a.py": A.replace(b"def f", b"def f2"), "b.py": b"# new\n" + B}

    def step(path: str, *, resolving: bool) -> Outcome:
        source = lab.sources[path]
        work = [Work(ROOT, [ParsedFile(path, stat_of(source), packed(parse(path, source)))])]
        return lab.writer.submit(
            lambda txn: advance(txn, work, lab.settings, lab.editions, lambda: False, resolving=resolving)
        ).result()

    assert step("a.py", resolving=False).n_resolved == 0
    assert step("b.py", resolving=True).n_resolved == 2
    lab.embed()
    assert lab.differences() == []


def test_what_an_older_version_left_without_outline_is_resolved(lab: Lab) -> None:
    lab.edit({"a.py": A, "b.py": B})
    with lab.store.snapshot() as view:
        file = view.file(ROOT, "b.py")
        facts = view.facts(file.id) if file else None
    assert file is not None
    assert facts is not None
    lab.writer.submit(lambda txn: txn.put_facts(file.id, facts)).result()
    assert resolved(lab, {"b.py": b"# new\n" + B}) == 1
    assert resolved(lab, {"b.py": b"# newer\n" + B}) == 0
