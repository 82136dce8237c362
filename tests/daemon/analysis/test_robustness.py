"""Nothing that a file can hold makes the analysis raise, and its bounds hold."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis.languages import FAMILY, grammar_of, language_of
from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.store.records import KINDS, LANGUAGES, Flag, Module, digest

DATA = Path(__file__).parents[2] / "data"
PATHS = {
    "python": "a.py",
    "javascript": "a.js",
    "typescript": "a.tsx",
    "java": "A.java",
    "go": "a.go",
    "rust": "a.rs",
    "c": "a.c",
    "cpp": "a.h",
    "csharp": "A.cs",
    "markdown": "a.md",
    "text": "a.toml",
}


def real_sources(language: str) -> list[bytes]:
    """Sources that nobody wrote for this test: the standard library's, and those of the case files."""
    found = [file.read_bytes() for file in sorted((DATA / language).glob("*.txt"))]
    if language == "python":
        library = Path(sysconfig.get_paths()["stdlib"])
        found += [
            (library / name).read_bytes() for name in ("dataclasses.py", "heapq.py", "tokenize.py", "selectors.py")
        ]
    if language in {"markdown", "text"}:
        found += [(DATA.parents[1] / name).read_bytes() for name in ("README.md", "pyproject.toml")]
    return found or [b"void f() { g(); }"]


SOURCES = {language: real_sources(language) for language in PATHS}


def check(path: str, source: bytes) -> Module:
    """What holds of every module."""
    module = parse(path, source)
    assert module.language in LANGUAGES
    assert len(module.words) == len(module.units)
    texts = render(path, source)
    assert [unit.own for unit in module.units] == [digest(text) for text in texts]
    assert [(unit.start_byte, -unit.end_byte) for unit in module.units] == sorted(
        (unit.start_byte, -unit.end_byte) for unit in module.units
    )
    seen = set()
    for index, unit in enumerate(module.units):
        assert unit.kind in KINDS
        assert unit.name
        assert 0 <= unit.start_byte <= unit.end_byte <= len(source)
        assert 1 <= unit.start_line <= unit.end_line <= max(module.lines, 1)
        assert -1 <= unit.parent < index
        assert "\n" not in unit.signature
        assert len(unit.doc) <= 2_000
        key = (unit.kind, unit.qualname, unit.ordinal)
        assert key not in seen
        seen.add(key)
        for text in (unit.name, unit.qualname, unit.signature, unit.doc, *unit.decorators, *unit.bases):
            text.encode("utf-8")  # no lone surrogate: the store and the model could not take it
        if unit.parent >= 0:
            above = module.units[unit.parent]
            assert above.start_byte <= unit.start_byte
            assert unit.end_byte <= above.end_byte
    for reference in module.references:
        assert -1 <= reference.source < len(module.units)
        assert reference.name
        assert 1 <= reference.line <= module.lines
    for binding in module.bindings:
        assert -1 <= binding.source < len(module.units)
    return module


MANGLES = (
    b"{",
    b"}",
    b"(",
    b")",
    b'"',
    b"'",
    b"`",
    b"/*",
    b"*/",
    b"//",
    b"#",
    b"<",
    b"\\",
    b"\n",
    b"\r\n",
    b"\t",
    b"\0",
    b"\xff",
)


@pytest.mark.parametrize("language", PATHS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mangled_sources_never_raise(language: str, data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(SOURCES[language]))
    begin = data.draw(st.integers(0, max(0, len(source) - 1)))
    source = source[begin : begin + 6_000]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(source)))
        cut = data.draw(st.integers(0, 40))
        source = source[:at] + data.draw(st.sampled_from(MANGLES)) + source[at + cut :]
    check(PATHS[language], source)


@pytest.mark.parametrize("language", PATHS)
@settings(max_examples=30, deadline=None)
@given(
    source=st.one_of(
        st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )
)
def test_any_bytes_never_raise(language: str, source: bytes) -> None:
    check(PATHS[language], source)


@pytest.mark.parametrize("language", PATHS)
def test_truncated_anywhere(language: str) -> None:
    """As if typed: every prefix of a source is a source."""
    source = max(SOURCES[language], key=len)[:1_500]
    for end in range(0, len(source), 37):
        check(PATHS[language], source[:end])


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.py", b"f(" * 10_000 + b")" * 10_000),
        ("a.py", b"".join(b" " * i + b"if x:\n" for i in range(300))),
        ("a.py", b"[" * 10_000),
        ("a.js", b"f(()=>{" * 5_000),
        ("a.js", b"`${" * 3_000),
        ("a.tsx", b"<a>" * 5_000),
        ("A.java", b"class A {" * 2_000 + b"}" * 2_000),
        ("a.go", b"func f() {" + b"if x {" * 5_000),
        ("a.rs", b"mod m {" * 2_000 + b"}" * 2_000),
        ("a.rs", b"/*" * 10_000),
        ("a.c", b"{" * 10_000),
        ("a.h", b"namespace a {" * 2_000 + b"}" * 2_000),
        ("A.cs", b"namespace A {" * 1_000 + b"}" * 1_000),
        ("a.md", b"# " * 10_000 + b"\n" + b"> " * 10_000),
        ("a.py", b"def f():\n" + b"".join(b" " * i + b"def f():\n" for i in range(1, 200))),
        ("a.py", b"class A:\n" + b"    def f(self): pass\n" * 5_000),
        ("a.py", b"x = [\n" + b"    (1, 'a'),\n" * 50_000 + b"]\n"),
        ("a.py", b"f(1)\n" * 30_000),
        ("a.go", b"package p\nvar (\n" + b"\tA = f(1)\n" * 12_000 + b")\n"),
        ("a.js", b"module.exports = {\n" + b"  'k': 'v', x: [1, 'y'],\n" * 10_000 + b"};\n"),
        ("a.js", b"describe('a', () => {\n" + b"  it('b', () => { expect(run(1)).toBe(1); });\n" * 3_000 + b"});\n"),
        ("a.js", b"x" + b".then(a => b(a))\n" * 5_000 + b";\n"),
        ("a.js", b"function f(){\n" * 1_000 + b"}\n" * 1_000),
        ("a.rs", b"use " + b"a::{" * 3_000 + b"b" + b"}" * 3_000 + b";\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:20]),
)
def test_deep_and_long_sources(path: str, source: bytes) -> None:
    check(path, source)


def check_skipped(path: str, source: bytes, reason: str) -> None:
    module = parse(path, source)
    assert module.skipped == reason
    assert not module.units
    assert module.size == len(source)


def test_fault_14_binary_minified_and_long_lines() -> None:
    check_skipped("a.py", b"x = 1\n\0\1\2", "binary")
    check_skipped("a.js", b"function a(){return 1};" * 2_000, "minified")
    check_skipped("a.json", b"[" + b"1," * 5_000_000 + b"1]", "minified")
    check_skipped("a.css", b"a{b:c}" * 10_000, "minified")
    assert parse("a.py", b"x = 1\n" * 2_000 + b"\0").skipped == ""
    long_string = b"def f():\n    return '" + b"x" * 25_000 + b"'\n" + b"# padding of ordinary lines\n" * 200
    assert parse("a.py", long_string).skipped == ""


def test_fault_15_names_and_contents_that_are_not_utf_8() -> None:
    module = check("a.py", b"def caf\xe9():\n    '''doc \xff'''\n    return 'x\xfe'\n")
    assert module.units[0].doc == "doc \ufffd"
    check("b\udcff.py", b"def f(): pass\n")
    check("a.c", "int größe(void) { return 0; }".encode("latin-1"))
    check("a.py", "def f(): pass\n".encode("utf-16"))


@pytest.mark.parametrize(
    "header",
    [
        b"// Code generated by protoc-gen-go. DO NOT EDIT.\n",
        b"/* @generated */\n",
        b"// <auto-generated>\n",
        b"# This file was automatically generated by SWIG. Do not edit.\n",
    ],
)
def test_generated_files_are_flagged(header: bytes) -> None:
    path = "a.py" if header.startswith(b"#") else "a.js"
    code = b"def f(): pass\n" if path == "a.py" else b"function f() {}\n"
    assert parse(path, header + code).units[0].flags & Flag.GENERATED
    assert not parse(path, code).units[0].flags & Flag.GENERATED


def test_references_of_a_unit_are_bounded() -> None:
    calls = "".join(f"    f{i}()\n" for i in range(5_000))
    module = check("a.py", f"def g():\n{calls}".encode())
    assert len(module.references) == 2_000


def test_words_of_a_unit_are_bounded() -> None:
    table = ",\n".join(f'"word{i}"' for i in range(20_000))
    module = check("a.py", f"TABLE = [\n{table}\n]\n".encode())
    assert len(module.words[0].body) <= 16_000


def long_function(edited: int | None = None) -> bytes:
    noise = random.Random(7)
    lines = [f"    value_{i} = compute_{noise.randrange(99)}({i}, options[{noise.randrange(99)}])" for i in range(600)]
    if edited is not None:
        lines[edited] = "    something = entirely(different)"
    return ("def long(options):\n" + "\n".join(lines) + "\n").encode()


def test_long_functions_have_parts() -> None:
    module = check("a.py", long_function())
    parts = [unit for unit in module.units if unit.kind == "part"]
    assert len(parts) > 5
    assert {unit.parent for unit in parts} == {0}
    assert [unit.qualname for unit in parts] == [f"long#{n}" for n in range(1, len(parts) + 1)]
    assert all(unit.end_line - unit.start_line <= 125 for unit in parts)
    assert parts[0].start_line == 2
    assert all(right.start_line == left.end_line + 1 for left, right in pairwise(parts))
    assert all(reference.source == 0 for reference in module.references)


def test_an_edit_leaves_distant_parts_alone() -> None:
    before = {unit.own for unit in parse("a.py", long_function()).units if unit.kind == "part"}
    after = {unit.own for unit in parse("a.py", long_function(edited=40)).units if unit.kind == "part"}
    assert len(before - after) <= 2
    inserted = long_function().replace(b"options):\n", b"options):\n    first = begin()\n", 1)
    shifted = {unit.own for unit in parse("a.py", inserted).units if unit.kind == "part"}
    assert len(before - shifted) <= 2


def test_an_edit_leaves_distant_parts_of_a_table_alone() -> None:
    """Many numbers in a row: one line more above them moves no cut that lies far behind."""
    rows = "".join(
        "        " + "".join(f"{n * n * 7919 % 1000}, " for n in range(row, row + 16)) + "\n" for row in range(400)
    )
    before = parse("a.py", f"def table():\n    return [\n{rows}    ]\n".encode())
    after = parse("a.py", f"def table():\n    edited = 1\n    return [\n{rows}    ]\n".encode())
    owns = [{unit.own for unit in module.units if unit.kind == "part"} for module in (before, after)]
    assert len(owns[0]) > 5
    assert len(owns[1] - owns[0]) <= 2


def test_parts_in_braces() -> None:
    body = b"".join(b"  step_%d(a, b);\n" % i for i in range(500))
    for path in ("a.js", "A.java", "a.go", "a.rs", "a.c", "a.h", "A.cs"):
        head = {"A.java": b"class A { void f() {\n", "A.cs": b"class A { void f() {\n", "a.rs": b"fn f() {\n"}.get(path)
        head = head or (
            b"package p\nfunc f() {\n" if path == "a.go" else b"void f() {\n" if path != "a.js" else b"function f() {\n"
        )
        module = check(path, head + body + b"}" * head.count(b"{"))
        assert sum(unit.kind == "part" for unit in module.units) > 3, path


def test_paths_decide_the_language() -> None:
    assert language_of("src/a.h") == "cpp"
    assert language_of("a.tsx") == "typescript"
    assert grammar_of("a.tsx", "typescript") == "tsx"
    assert language_of("deep/Makefile") == "text"
    assert language_of("README") == "markdown"
    assert language_of("a.rst") == "markdown"
    assert language_of("tool", b"#!/usr/bin/env python3") == "python"
    assert language_of("tool", b"#! /bin/sh -e") == "text"
    assert language_of("tool") is None
    assert language_of("a.png") is None
    assert language_of("package-lock.json") is None
    assert language_of("x/jquery.min.js") is None
    assert language_of(".gitignore") == "text"
    assert set(FAMILY) == set(LANGUAGES)


def test_importing_the_parser_is_light() -> None:
    code = "import sys; import codegraphd.daemon.analysis.parse; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = re.compile(r"(numpy|torch|lmdb|asyncio|tantivy|transformers|tree_sitter_language_pack)$")
    assert [name for name in modules if heavy.match(name)] == []
