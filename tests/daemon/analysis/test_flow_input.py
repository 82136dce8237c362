"""What is read of a unit's code by a model that reads data flow: one input for one text, whatever stands around it."""

from __future__ import annotations

import pytest

from codegraphd.daemon.analysis.flow_input import MAX_CODE, MAX_TOKENS
from codegraphd.daemon.analysis.parse import parse, render_flows
from codegraphd.store.records import WHOLE_FILE, CodeFlow


def flow_of(path: str, source: str, name: str) -> CodeFlow | None:
    raw = source.encode()
    units = parse(path, raw).units
    texts, flows = render_flows(path, raw, range(len(units)))
    assert len(texts) == len(units)
    return flows.get(next(index for index, unit in enumerate(units) if unit.qualname == name))


def edges(flow: CodeFlow | None) -> list[str]:
    """ "b:6 a:8": the value of token 6, b, comes from token 8, a."""
    assert flow is not None
    found = []
    for token, sources in flow.variables:
        found.append(" ".join(f"{flow.tokens[i]}:{i}" for i in (token, *sources)))
    return found


@pytest.mark.parametrize(
    ("path", "source", "name", "tokens", "expect"),
    [
        ("a.py", 'class A:\n    @cached\n    def f(self, x):\n        """D."""\n        y = x  # so\n        return y',
         "A.f", "@ cached def f ( self , x ) : y = x return y", ["x:7", "y:10 x:12", "x:12 x:7", "y:14 y:10"]),
        ("a.java", "class A { int f(int x) { int y = x; return y; } }",
         "A.f", "int f ( int x ) { int y = x ; return y ; }", ["x:4", "y:8 x:10", "x:10 x:4", "y:13 y:8"]),
        ("a.go", "package p\nfunc f(x int) int {\n\ty := x\n\treturn y\n}\n",
         "f", "func f ( x int ) int { y := x return y }", ["x:3", "x:10 x:3", "y:8", "y:12 y:8"]),
        ("a.js", "class A {\n  f(x) {\n    const y = x\n    return y\n  }\n}\n",
         "A.f", "f ( x ) { const y = x return y }", ["x:2", "y:6 x:8", "x:8 x:2", "y:10 y:6"]),
        ("a.ts", "class A { private f(x: T) { const y: T = x; return y } }",
         "A.f", "private f ( x : T ) { const y : T = x ; return y }", ["x:3", "y:9 x:13", "x:13 x:3", "y:16 y:9"]),
        ("a.rs", "impl A { fn f(&self, x: i32) -> i32 { let y = x; y } }",
         "A.f", "fn f ( & self , x : i32 ) -> i32 { let y = x ; y }", ["x:6", "y:14 x:16", "x:16 x:6", "y:18 y:14"]),
        ("a.cpp", "class A { A(int x) : y(x) {} int y; };",
         "A.A", "A ( int x ) : y ( x ) { }", ["x:3", "x:8 x:3"]),
        ("a.c", "int f(int x) { int y = x; return y; }",
         "f", "int f ( int x ) { int y = x ; return y ; }", ["x:4", "y:8 x:10", "x:10 x:4", "y:13 y:8"]),
        ("a.cs", "class A { int F(int x) { var y = x; return y; } }",
         "A.F", "int F ( int x ) { var y = x ; return y ; }", ["x:4", "y:8 x:10", "x:10 x:4", "y:13 y:8"]),
    ],
)  # fmt: skip
def test_tokens_and_edges_of_each_language(path: str, source: str, name: str, tokens: str, expect: list[str]) -> None:
    flow = flow_of(path, source, name)
    assert flow is not None
    assert " ".join(flow.tokens) == tokens
    assert sorted(edges(flow)) == sorted(expect)


@pytest.mark.parametrize(
    ("path", "one", "other", "name"),
    [
        ("a.py", "class A:\n    def f(self, x):\n        y = x\n        return y\n",
         "x = 1\nclass A(\n  B):\n        def f(self,\n x):  # a\n\n            y = x\n            return y\n", "A.f"),
        ("a.js", "class A { f(x) { const y = x\n return y } }",
         "x = 2\nclass A extends B {\n  f( x ) {\n const y =\n x\n return y\n }\n}\n", "A.f"),
        ("a.java", "class A { int f(int x) { int y = x; return y; } }",
         "import b; class A { int x; // x\n int f(int x) {\n/* */ int y=x; return y; } int z; }", "A.f"),
        ("a.go", "package p\nfunc f(x int) int {\n\ty := x\n\treturn y\n}\n",
         "package q\nvar x = 1\n\nfunc f(x int) int {\n\n\ty := x // y\n\treturn y\n}\nvar broken = (\n", "f"),
    ],
)  # fmt: skip
def test_equal_text_gives_an_equal_input(path: str, one: str, other: str, name: str) -> None:
    texts = []
    for source in (one, other):
        units = parse(path, source.encode()).units
        index = next(index for index, unit in enumerate(units) if unit.qualname == name)
        texts.append(render_flows(path, source.encode(), (index,))[0][index])
    assert texts[0] == texts[1]
    assert flow_of(path, one, name) == flow_of(path, other, name)


def test_the_comment_is_what_the_doc_says_first() -> None:
    flow = flow_of("a.py", 'def f(x):\n    """Says it.\n\n    And more.\n    """\n    return x\n', "f")
    assert flow is not None
    assert flow.comment == "Says it."
    assert "Says" not in " ".join(flow.tokens)


@pytest.mark.parametrize(
    ("path", "source", "name"),
    [
        ("a.py", "class A:\n    def f(self):\n        return 1\n", "A"),  # its text shows the signature of f only
        ("a.py", "LIMIT = 12\n", "LIMIT"),
        ("a.md", "# Title\n\nSome text.\n", "Title"),
        (
            "a.py",
            "def a():\n def b():\n  def c():\n   def d():\n    return 1\n   return d\n  return c\n return b\n",
            "a",
        ),
    ],
)
def test_what_has_no_flow(path: str, source: str, name: str) -> None:
    assert flow_of(path, source, name) is None


def test_the_whole_file_as_a_snippet_is_read() -> None:
    _, flows = render_flows("a.py", b"class A:\n    def f(self, x):\n        return x\n", (WHOLE_FILE,))
    assert " ".join(flows[WHOLE_FILE].tokens) == "class A : def f ( self , x ) : return x"
    assert render_flows("a.txt", b"words\n", (WHOLE_FILE,))[1] == {}


def test_a_long_function_is_bounded() -> None:
    lines = "".join(f"    for x{i} in x{i - 1}:\n        y = x{i} + y\n" for i in range(1, 3000))
    flow = flow_of("a.py", f"def f(x0, y):\n{lines}    return y\n", "f")
    assert len(lines) > 4 * MAX_CODE
    assert flow is not None
    assert len(flow.tokens) == MAX_TOKENS
    assert 100 < len(flow.variables) <= MAX_TOKENS
    assert all(0 <= i < MAX_TOKENS for token, sources in flow.variables for i in (token, *sources))
