"""Features: cases from the definitions' own papers and for each language, then what must hold for any input.

The cases stand beside those of `test_flow`, in `tests/data/flow/<language>.txt`, under `=== features`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis import flow_tree
from codegraphd.daemon.analysis.features import Features, features

DATA = os.path.join(os.path.dirname(__file__), "..", "..", "data", "flow")


def cases() -> Iterator[tuple[str, str, bytes, str]]:
    """(language, title, source, expected)."""
    for name in sorted(os.listdir(DATA)):
        with open(os.path.join(DATA, name), encoding="utf-8") as file:
            for case in re.split("^=== ", file.read(), flags=re.MULTILINE)[1:]:
                head, _, body = case.partition("\n")
                source, _, expected = body.partition("\n---\n")
                if head.startswith("features "):
                    yield name.removesuffix(".txt"), head.removeprefix("features "), source.encode(), expected.strip()


CASES = list(cases())


@pytest.mark.parametrize(
    ("language", "title", "source", "expected"), CASES, ids=[f"{language}: {title}" for language, title, _, _ in CASES]
)
def test_features(language: str, title: str, source: bytes, expected: str) -> None:
    found = features(language, source, 0, len(source))
    shown = [f"{line.split()[0]} {getattr(found, line.split()[0])}" for line in expected.splitlines()]
    assert shown == expected.splitlines()


def of(language: str, source: bytes) -> Features:
    return features(language, source, 0, len(source))


def test_histogram_and_depth() -> None:
    found = of("python", b"a = b + c\n")
    assert dict(found.node_types) == {"identifier": 3, "assignment": 1, "binary_operator": 1}
    assert next(iter(found.node_types)) == "identifier"
    assert (found.nodes, found.depth) == (5, 3)
    assert json.loads(json.dumps(found.to_dict()))["node_types"]["identifier"] == 3


def test_only_the_span_counts() -> None:
    source = b"import a\n\ndef f(x):\n    if x: return 1\n\ndef g(): pass\n"
    start, end = source.index(b"def f"), source.index(b"\n\ndef g")
    found = features("python", source, start, end)
    assert (found.functions, found.imports, found.lines, found.cyclomatic) == (1, 0, 2, 2)


@pytest.mark.parametrize(
    ("language", "source", "parameters"),
    [
        ("javascript", b"const f = x => x;", 1),
        ("javascript", b"function f({a, b}, ...c) {}", 2),
        ("typescript", b"function f(this: A, b?: number) {}", 2),
        ("rust", b"fn f(&mut self, (a, b): (u8, u8)) {}", 2),
        ("csharp", b"var f = (int a, int b) => a;", 2),
        ("csharp", b"A F(this B b, params int[] c) { return null; }", 2),
        ("cpp", b"template <class T> void A<T>::f(T &&a, int b, ...) const {}", 2),
        ("c", b"int *(*f(int a))(void) { return 0; }", 1),
        ("java", b"void f(final int a, String... b) {}", 2),
        ("python", b"f = lambda a, *, b: a", 2),
        ("go", b"func f(int, string) {}", 2),
    ],
)
def test_parameters(language: str, source: bytes, parameters: int) -> None:
    assert of(language, source).parameters == parameters


def test_nothing_has_nothing() -> None:
    found = of("go", b"")
    assert (found.nodes, found.depth, found.lines, found.cognitive, found.cyclomatic) == (0, 0, 0, 0, 1)
    assert not found.truncated


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_tree, "MAX_NODES", 10)
    found = of("python", b"a = 1\n" * 100)
    assert found.truncated
    assert found.lines == 100


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="fortran"):
        of("fortran", b"")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mangled_source_never_raises(data: st.DataObject) -> None:
    language, _, source, _ = data.draw(st.sampled_from(CASES))
    cut = data.draw(st.integers(0, len(source)))
    gap = data.draw(st.integers(0, 9))
    mangled = source[:cut] + data.draw(st.binary(max_size=4)) + source[cut + gap :]
    start = data.draw(st.integers(-5, len(mangled) + 5))
    found = features(language, mangled, start, data.draw(st.integers(-5, len(mangled) + 5)))
    assert found.nodes == sum(found.node_types.values())
    assert found.cyclomatic >= 1
    assert found.cognitive >= 0
    json.dumps(found.to_dict())


@pytest.mark.parametrize(("language", "unit"), [("python", b"("), ("javascript", b"if (a) {"), ("java", b"() -> {")])
def test_ten_thousand_levels(language: str, unit: bytes) -> None:
    assert of(language, unit * 10_000).cyclomatic >= 1
