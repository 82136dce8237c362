"""Which readings of a file with errors are tried: each costs a parse."""

from __future__ import annotations

import pytest
import tree_sitter

from codegraphd.daemon.analysis import syntax
from codegraphd.daemon.analysis.dialects import dialect
from codegraphd.daemon.analysis.repair import repaired


class Counting:
    """A parser that counts."""

    def __init__(self, grammar: str) -> None:
        self.n_parses = 0
        self._parser = tree_sitter.Parser(syntax.language(grammar))

    def parse(self, *source: bytes | tree_sitter.Tree) -> tree_sitter.Tree:
        self.n_parses += 1
        return self._parser.parse(*source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "n_parses", "n_left"),
    [
        ("int a;\n#if A\nint b;\n#endif\n", 0, 0),
        ("int a = = 1;\n#if A\nint b;\n#else\nint c;\n#endif\n", 0, 1),  # a neighbour, whole by itself
        ("int f() {\n#if A\n  if (a) {\n#else\n  {\n#endif\n  }\n}\n", 2, 0),
        ("int a = f(1,\n#if A\n  2\n#endif\n);\n", 1, 0),
    ],
)
def test_a_reading_is_tried_where_a_conditional_may_break_something(text: str, n_parses: int, n_left: int) -> None:
    of, raw, counting = dialect("cpp"), text.encode(), Counting("cpp")
    tree = counting.parse(raw)
    counting.n_parses = 0
    *_, errors = repaired(counting, tree, raw, of.repairs(raw), of.shelves)  # type: ignore[arg-type]
    assert (counting.n_parses, errors) == (n_parses, n_left)
