"""Control flow and data flow: readable cases for each language, then what must hold for any input.

`tests/data/flow/<language>.txt` holds the cases: a source, `---`, what is expected. A control-flow case lists each
block as `id kind lines -> successor label, …`; a data-flow case each edge as `name@line.column relation sources`,
columns 0-based; "published" in its title asks for GraphCodeBERT's rules.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import textwrap
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis import flow_blocks, flow_tokens, flow_tree
from codegraphd.daemon.analysis.flow import LANGUAGES, ControlFlow, DataFlow, control_flow, data_flow

DATA = os.path.join(os.path.dirname(__file__), "..", "..", "data", "flow")


def cases(kind: str) -> Iterator[tuple[str, str, bytes, str]]:
    """(language, title, source, expected) of all cases of a kind."""
    for name in sorted(os.listdir(DATA)):
        with open(os.path.join(DATA, name), encoding="utf-8") as file:
            for case in re.split("^=== ", file.read(), flags=re.MULTILINE)[1:]:
                head, _, body = case.partition("\n")
                case_kind, _, title = head.partition(" ")
                source, _, expected = body.partition("\n---\n")
                if case_kind == kind:
                    yield name.removesuffix(".txt"), title, source.encode(), expected.strip()


def show_control(graph: ControlFlow) -> str:
    lines = []
    for block in graph.blocks:
        where = f" {block.start_line}-{block.end_line}" if block.statements else ""
        successors = ", ".join(f"{to} {label}".strip() for to, label in block.successors)
        dead = "" if block.reachable else " dead"
        lines.append(f"{block.id} {block.kind}{where}{dead}{' -> ' if successors else ''}{successors}")
    return "\n".join(lines)


def show_data(flow: DataFlow) -> str:
    def place(index: int) -> str:
        token = flow.tokens[index]
        return f"{token.text}@{token.line}.{token.column}"

    edges: dict[tuple[int, str], list[int]] = {}
    for edge in flow.edges:
        edges.setdefault((edge.index, edge.relation), []).extend(edge.source_indices)
    return "\n".join(
        f"{place(index)} {relation} {', '.join(map(place, sources))}"
        for (index, relation), sources in edges.items()
        if sources
    )


def ids(kind: str) -> list[str]:
    return [f"{language}: {title}" for language, title, _, _ in cases(kind)]


@pytest.mark.parametrize(("language", "title", "source", "expected"), list(cases("cfg")), ids=ids("cfg"))
def test_control_flow(language: str, title: str, source: bytes, expected: str) -> None:
    assert show_control(control_flow(language, source, 0, len(source))) == expected


@pytest.mark.parametrize(("language", "title", "source", "expected"), list(cases("dfg")), ids=ids("dfg"))
def test_data_flow(language: str, title: str, source: bytes, expected: str) -> None:
    flow = data_flow(language, source, 0, len(source), published="published" in title)
    assert show_data(flow) == expected


@pytest.mark.parametrize("language", sorted(LANGUAGES - {"tsx"}))
@pytest.mark.parametrize("kind", ["cfg", "dfg"])
def test_every_language_has_its_cases(language: str, kind: str) -> None:
    assert sum(case[0] == language for case in cases(kind)) >= 6


def test_a_unit_inside_a_file_has_the_lines_and_columns_of_the_file() -> None:
    head = b"import a\n\nclass B:\n"
    body = b"    def f(self, x):\n        if x:\n            return x\n        return 0\n"
    source = head + body + b"\n\ndef g(): pass\n"
    graph = control_flow("python", source, len(head), len(head) + len(body))
    assert show_control(graph).splitlines()[1] == "1 block 5-5 -> 2 true, 3 false"
    flow = data_flow("python", source, len(head), len(head) + len(body))
    assert show_data(flow) == "x@5.11 comesFrom x@4.16\nx@6.19 comesFrom x@4.16"


def test_a_method_whose_span_begins_with_its_comment_and_decorator() -> None:
    source = b"class A {\n  // why\n  @dec\n  m(a) { if (a) return 1; }\n  n() {}\n}\n"
    start = source.index(b"// why")
    graph = control_flow("typescript", source, start, source.index(b"\n  n()"))
    assert graph.function == "method_definition"
    assert len(graph.blocks) == 4


def test_conditionals_in_the_middle_of_a_statement_are_read_through() -> None:
    source = b"""class A {
  void F(object v) {
    if (v is B) { G(); }
#if C
    else if (v is C) { H(); }
#endif
  }
}
"""
    graph = control_flow("csharp", source, source.index(b"void"), source.index(b"  }\n}") + 3)
    assert show_control(graph).splitlines() == [
        "0 entry -> 1",
        "1 block 3-3 -> 2 true, 3 false",
        "2 block 3-3 -> 5",
        "3 block 5-5 -> 4 true, 5 false",
        "4 block 5-5 -> 5",
        "5 exit",
    ]


def test_only_the_span_is_parsed_of_a_huge_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_tree, "MAX_SOURCE", 100)
    source = b"# " + b"x" * 200 + b"\n  \ndef f(a):\n    b = a\n    return b\n"
    whole = data_flow("python", source, source.index(b"def"), len(source))
    assert show_data(whole) == "b@4.4 computedFrom a@4.8\na@4.8 comesFrom a@3.6\nb@5.11 comesFrom b@4.4"
    assert [token.text for token in whole.tokens[:2]] == ["def", "f"]
    assert source[whole.tokens[1].start_byte : whole.tokens[1].end_byte] == b"f"


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    source = b"def f(a):\n" + b"    a = a + 1\n" * 200
    assert not data_flow("python", source, 0, len(source)).truncated
    monkeypatch.setattr(flow_tree, "MAX_NODES", 50)
    assert data_flow("python", source, 0, len(source)).truncated
    assert control_flow("python", source, 0, len(source)).truncated
    monkeypatch.setattr(flow_tree, "MAX_NODES", 100_000)
    monkeypatch.setattr(flow_tokens, "BUDGET", 100)
    assert data_flow("python", source, 0, len(source)).truncated
    monkeypatch.setattr(flow_blocks, "BUDGET", 3)
    nested = b"def f(a):\n" + b"    while a:\n        return 1\n" * 5
    assert control_flow("python", nested, 0, len(nested)).truncated


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="cobol"):
        control_flow("cobol", b"", 0, 0)
    with pytest.raises(ValueError, match="cobol"):
        data_flow("cobol", b"", 0, 0)


# --- any input


def check(language: str, source: bytes, start: int = 0, end: int | None = None) -> None:
    """What holds for every answer, whatever the source."""
    end = len(source) if end is None else end
    graph = control_flow(language, source, start, end)
    blocks = graph.blocks
    assert blocks[0].kind == "entry"
    assert blocks[-1].kind == "exit"
    assert not blocks[-1].successors
    assert [block.id for block in blocks] == list(range(len(blocks)))
    seen, queue = {0}, [0]
    while queue:
        for to, _ in blocks[queue.pop()].successors:
            assert 0 < to < len(blocks)
            if to not in seen:
                seen.add(to)
                queue.append(to)
    assert seen == {block.id for block in blocks if block.reachable}
    for published in (False, True):
        flow = data_flow(language, source, start, end, published=published)
        for edge in flow.edges:
            assert flow.tokens[edge.index].text == edge.variable
            assert tuple(flow.tokens[i].text for i in edge.source_indices) == edge.sources
            assert edge.relation in ("comesFrom", "computedFrom")
        json.dumps(flow.to_dict())
    json.dumps(graph.to_dict())


def real_sources() -> list[tuple[str, bytes]]:
    """The cases, all of a language as one file, and modules that were not written for us."""
    small = [(language, source) for kind in ("cfg", "dfg", "features") for language, _, source, _ in cases(kind)]
    large = [(name, b"\n".join(source for language, source in small if language == name)) for name in sorted(LANGUAGES)]
    for module in (textwrap, contextlib):
        with open(module.__file__, "rb") as file:
            large.append(("python", file.read()[:12_000]))
    return small + 5 * large


SOURCES = real_sources()


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes; what is drawn is small already
)
@given(st.data())
def test_mangled_source_never_raises(data: st.DataObject) -> None:
    language, source = data.draw(st.sampled_from(SOURCES))
    other = data.draw(st.sampled_from(SOURCES))[1]
    cut = data.draw(st.integers(0, len(source)))
    gap = data.draw(st.integers(0, 12))
    filler = data.draw(st.sampled_from([b"", b"{", b"}", b")", b"'", b'"', b"\x00", b"\xff\xfe", b"\r\n", other]))
    mangled = source[:cut] + filler + source[cut + gap :]
    start = data.draw(st.integers(0, len(mangled)))
    check(language, mangled)
    check(language, mangled, start, data.draw(st.integers(0, len(mangled))))


def test_dead_code_may_end_in_an_empty_fork() -> None:
    check(
        "python",
        b"""def f(self, a, *, b=1, **c):
    if a:
 }eturn 1
    elif b and c:
        return 2
    else:
        for x in a:
            if not x:
                raise KeyError
    return [y for y in a if y]""",
    )


NEST = {
    "python": (b"(", b")"), "java": (b"if (a) {", b"}"), "javascript": (b"if (a) {", b"}"),
    "typescript": (b"while (a) {", b"}"), "go": (b"{", b"}"), "rust": (b"fn f() {" + b"loop {", b"}"),
    "c": (b"for (;;) {", b"}"), "cpp": (b"try {", b"} catch (...) {}"), "csharp": (b"{", b"}"),
}  # fmt: skip


@pytest.mark.parametrize("language", sorted(NEST))
def test_ten_thousand_levels(language: str) -> None:
    opening, closing = NEST[language]
    check(language, opening * 10_000 + b"x = 1;" + closing * 10_000)


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("python", b"".join(b" " * i + b"for x%d in x%d:\n" % (i, i - 1) for i in range(1, 90))),
        ("javascript", b"while (a) { b = a; c = b; a = c; " * 400 + b"}" * 400),
        ("java", b"".join(b"if (a%d) { x%d = a; } else " % (i, i) for i in range(5000)) + b"{}"),
        ("c", b"int a[] = {" + b"1, " * 50_000 + b"};"),
        ("go", b"x" + b", x" * 2000 + b" = y" + b", y" * 2000),
        ("rust", b"let a = " + b"|x| { let y = " * 3000 + b"1" + b"; y }" * 3000),
        ("csharp", b"try { a(); " * 2000 + b"} catch (E e) { b(); } finally { c(); }" * 2000),
        ("python", b"x" * 3_000_000),
    ],
)
def test_hostile_source_is_bounded(language: str, source: bytes) -> None:
    # Unbounded, the first takes 2**89 walks and the others quadratic time; the limit is the test's own.
    check(language, source)
