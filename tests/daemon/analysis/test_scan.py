"""The compiled module: what it promises of any text, and what it refuses.

What it makes of real code is in the cases of each language and in `test_normal_form`; here it is by itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon import understanding
from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.words import FOREIGN
from codegraphd.store.records import Reference

LATIN = st.text(st.characters(max_codepoint=255))
CODE = st.text(st.sampled_from("ab_$Z09 \t\n\r()[]{}<>.,;:!?=*&+-/|#@'~^%\xe9\xa0\x85\x01\\"), max_size=80)
BLANK = re.compile(r"[ \t\n\r\f\v]+")


def prints(masked: str, *, is_layout: bool = False, keywords: frozenset[str] = frozenset(), **given: Any) -> Any:
    """`scan.prints` of one unit that is all of the code."""
    span = (0, len(masked))
    unit = ((0, 0), [span], [], "", None, "", "", "", ())
    return scan.prints(
        given.get("text", masked), masked, given.get("literals", []), given.get("comments", []),
        given.get("units", [unit]), keywords, given.get("contextual", frozenset()), FOREIGN, is_layout,
        given.get("has_return", False),
    )  # fmt: skip


# --- tokens


@pytest.mark.parametrize(
    ("masked", "tokens"),
    [
        ("", []),
        ("  \t\n ", []),
        ("a.b(c)", ["a", ".", "b", "(", "c", ")"]),
        ("x+=1.5e3;", ["x", "+=", "1.5e3", ";"]),
        ("1..2", ["1", "..", "2"]),
        ("a??=b?.c?:d", ["a", "??=", "b", "?.", "c", "?:", "d"]),
        ("a<<=b>>c", ["a", "<<=", "b", ">", ">", "c"]),
        ("&'a str", ["&", "'a", "str"]),
        ("'1", ["'", "1"]),
        ("gr\xc3\xb6\xc3\x9fe", ["gr\xc3\xb6\xc3\x9fe"]),
        ("...", ["..."]),
        ("..", [".."]),
        ("a\x01b", ["a", "\x01", "b"]),
    ],
)
def test_tokens(masked: str, tokens: list[str]) -> None:
    assert scan.tokens(masked) == tokens


@given(LATIN | CODE)
def test_tokens_are_all_but_the_blanks(masked: str) -> None:
    tokens = scan.tokens(masked)
    assert "".join(tokens) == BLANK.sub("", masked)
    assert all(tokens)


@given(CODE)
def test_tokens_of_tokens_are_the_same(masked: str) -> None:
    tokens = scan.tokens(masked)
    assert scan.tokens(" ".join(tokens)) == tokens


# --- forms


@pytest.mark.parametrize(
    ("masked", "text"),
    [
        ("if(a){b ( c ) ;d;}", "if(a) {\nb(c);\nd;\n}"),
        ("a . b [ 1 ] , c", "a.b[1], c"),
        ("x ? y : z", "x ? y: z"),
        ("func ( a )", "func (a)"),
        ("a :: b", "a::b"),
        ("{ }", "{\n}"),
    ],
)
def test_normal_form(masked: str, text: str) -> None:
    assert prints(masked)[0][0] == text


def test_normal_form_where_the_layout_counts() -> None:
    masked = "\n  if a :\n\n      b ( c,\n d )\n  e\n"
    assert prints(masked, is_layout=True)[0][0] == "if a:\n    b(c, d)\ne"


@given(CODE)
def test_the_normal_form_is_its_own(masked: str) -> None:
    masked = re.sub("[.:]", "", masked)  # `a . . . b` comes so close together that it is another token
    text = prints(masked)[0][0]
    assert "\ufffd" in text or prints(text.encode().decode("latin-1"))[0][0] == text


@given(st.text(st.sampled_from("ab_$Z09 \t\n\r()[]{}<>.,;:!?=*&+-/|#@'~^%"), max_size=80), st.booleans())
def test_the_normal_form_is_the_code_but_for_blanks(masked: str, is_layout: bool) -> None:
    assert BLANK.sub("", prints(masked, is_layout=is_layout)[0][0]) == BLANK.sub("", masked)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("def f ( a , * b , ** c ) -> int", "def f(a, *b, **c) -> int"),
        ("Map < String , List < T > > m ( )", "Map<String, List<T>> m()"),
        ("int * f ( int & a , )", "int *f(int &a)"),
        ("a ?: b ! c", "a?: b! c"),
        ("f ( a ? ( b ) , ... c )", "f(a?(b), ...c)"),
        ("", ""),
    ],
)
def test_tight(code: str, text: str) -> None:
    assert scan.tight(scan.tokens(code)) == text
    assert scan.signatures(code, [(0, len(code))]) == [text]


def test_signatures_of_no_spans_and_of_empty_ones() -> None:
    assert scan.signatures("a ( b )", []) == []
    assert scan.signatures("a ( b )", [(0, 0), (0, 7), (4, 2)]) == ["", "a(b)", ""]


# --- what the prints of a unit are taken of


def part(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def test_shape_numbers_names_and_abstracts_numbers() -> None:
    shape = prints("if x == 10 { y(x) }", keywords=frozenset({"if"}))[0][5]
    assert shape == part(b"if $0 == 0 { $1 ( $0 ) }")


def test_a_contextual_keyword_is_a_name_without_words() -> None:
    found = prints("get x", contextual=frozenset({"get"}))[0]
    assert (found[1], found[5]) == ("x", part(b"$0 $1"))


@given(CODE)
def test_shape_survives_new_names(masked: str) -> None:
    renamed = re.sub(r"[A-Za-z_$\x80-\xff][\w$\x80-\xff]*", lambda match: f"q{match[0]}", masked, flags=re.ASCII)
    if "'" not in masked and not re.search(r"\d[A-Za-z_$\x80-\xff]", masked):
        assert prints(renamed)[0][5] == prints(masked)[0][5]


def test_words_of_code_then_of_literals_then_of_comments() -> None:
    text = "loadFiles('some texts') # closing it"
    masked, literals, comments = scan.mask(text, [(10, 22, 2), (24, 36, 1)])
    found = prints(masked, text=text, literals=literals, comments=comments)
    assert found[0][1] == "loadfiles load file some text clos it"
    assert found[0][0] == "loadFiles('some texts')"


def test_nested_units_stand_by_their_signatures() -> None:
    masked = "{ int a ; int f ( ) { return 1 ; } int b ; }"
    start, end = masked.index("int f"), masked.index("int b") - 1
    unit = (
        (0, 0),
        [(0, start), (end, len(masked))],
        ["int f()"],
        "before",
        "class A ",
        "",
        "after",
        "rest",
        ("a", "bc"),
    )
    own, _, face, body, of_own, _ = prints(masked, units=[unit])[0]
    code = "{\nint a;\nint f();\nint b;\n}"
    assert own == f"before\nclass A {code}\nafter"
    assert face == part(b"a") + part(b"bc")
    assert body == part(code.encode()) + part(b"rest")
    assert of_own == part(own.encode())


def test_what_is_no_utf_8_becomes_the_replacement_character() -> None:
    assert prints("a\xff b")[0][0] == "a\ufffd b"
    assert prints("gr\xc3\xb6\xc3\x9fe")[0][:2] == ("größe", "größe")


def test_own_text_is_cut_at_a_character() -> None:
    own = prints("\xc3\xb6" * 70_000)[0][0]
    assert own == "ö" * 65_536


# --- masks


@given(LATIN, st.data())
def test_a_mask_keeps_all_offsets(text: str, data: st.DataObject) -> None:
    at = st.integers(0, len(text))
    pairs = data.draw(st.lists(st.tuples(at, at, st.integers(0, 2))))
    atoms = [(min(a, b), max(a, b), of) for a, b, of in pairs]
    masked, literals, comments = scan.mask(text, atoms)
    assert len(masked) == len(text)
    taken = sorted(literals + comments)
    assert all(a[1] <= b[0] for a, b in pairwise(taken))
    assert all(masked[start:end] == "\x01".ljust(end - start) for start, end in literals)
    assert all(not masked[start:end].strip(" ") for start, end in comments)


def test_a_line_that_goes_on_is_one_line() -> None:
    assert scan.mask("a \\\nb \\\r\nc \\d", [])[0] == "a   b    c \\d"


def test_a_literal_in_a_literal_is_none() -> None:
    assert scan.mask("abcdef", [(2, 3, 2), (1, 5, 2)]) == ("a\x01   f", [(1, 5)], [])


@given(st.binary())
def test_line_starts(raw: bytes) -> None:
    starts = scan.line_starts(raw)
    assert all(bisect_right(starts, at) == raw.count(b"\n", 0, at) + 1 for at in range(len(raw) + 1))


@given(CODE, st.integers(0, 80))
def test_skips(masked: str, position: int) -> None:
    position = min(position, len(masked))
    blanks = " \t\n\r\f\v"
    assert scan.skip(masked, position) == len(masked) - len(masked[position:].lstrip(blanks))
    assert scan.skip_back(masked, position) == len(masked[:position].rstrip(blanks))


# --- references


class Names(dict[str, Any]):
    """Says of each name that it is called."""

    def __missing__(self, text: str) -> tuple[str, ...]:
        scope, _, name = text.rpartition(".")
        self[text] = ("call", name, scope, scope.partition(".")[0], "", "", "", "")
        return self[text]


def references(text: str, spans: list[tuple[int, int]], **given: Any) -> Any:
    names = Names()
    return scan.references(
        text, given.get("masked", text), given.get("kinds", [("call", spans, names, names, False)]),
        given.get("units", []), [], scan.line_starts(text.encode("latin-1")), Reference, set(),
        lambda _unit, _scope: "", given.get("others", lambda *_: []), False,
    )  # fmt: skip


def test_references_in_order_and_once_a_unit() -> None:
    text = "f(g)\nb(g)\nf(g)"
    units = [(0, 9, "one", False), (10, 14, "two", False)]
    found, bases = references(text, [(10, 11), (2, 3), (5, 6), (7, 8), (12, 13)], units=units)
    assert [(one.source, one.name, one.line) for one in found] == [(0, "g", 1), (0, "b", 2), (1, "f", 3), (1, "g", 3)]
    assert bases == []


@pytest.mark.parametrize(
    ("text", "scope", "name", "receiver"),
    [
        ("a.b.c", "a.b", "c", ""),
        ("a::b->c", "a.b", "c", ""),
        ("a\n  .b", "a", "b", ""),
        ("a(x).c", "", "c", ""),
        ("new A(x).c", "", "c", "A"),
        ("new a.B ( x ) . c", "", "c", "a.B"),
        ("new A(x(y)).c", "", "c", ""),
    ],
)
def test_how_a_name_is_read(text: str, scope: str, name: str, receiver: str) -> None:
    assert references(text, [(0, len(text))])[0] == [Reference(-1, "call", name, scope, receiver, 1)]


def test_others_are_asked_for_what_is_no_name() -> None:
    asked: list[tuple[Any, ...]] = []

    def others(*of: Any) -> list[tuple[tuple[str, ...], str]]:
        asked.append(of)
        return [(("call", "x", "y", "y", "", "", "", ""), "T")]

    found, _ = references("a[1]", [(0, 4)], others=others)
    assert asked == [(-1, 0, 4, "call")]
    assert found == [Reference(-1, "call", "x", "y", "T", 1)]


def test_an_error_of_those_who_are_asked_comes_through() -> None:
    def others(*_: Any) -> Any:
        raise LookupError("no")

    with pytest.raises(LookupError):
        references("a[1]", [(0, 4)], others=others)


class Node:
    def __init__(self, start: int, end: int) -> None:
        self.byte_range, self.end_byte = (start, end), end


def test_captures_are_sorted_by_name() -> None:
    one, two = Node(0, 9), Node(3, 4)
    matches = [(0, {"unit.class": [one]}), (1, {"ref.call": [one], "end": [two]}), (1, {"ref.call": [two]})]
    assert scan.captures(matches) == ({"unit.class": [one]}, {"ref.call": [(0, 4), (3, 4)]})


# --- what is refused


UNIT = ((0, 0), [(0, 1)], [], "", None, "", "", "", ())


@pytest.mark.parametrize(
    "call",
    [
        lambda: scan.mask("abc", [(0, 4, 1)]),
        lambda: scan.mask("abc", [(2, 1, 1)]),
        lambda: scan.mask("abc", [(-1, 1, 1)]),
        lambda: scan.mask("abc", [(0, 1)]),
        lambda: scan.mask("\u4e2d", []),
        lambda: scan.tokens("\u4e2d"),
        lambda: scan.tight([""]),
        lambda: scan.tight(["\x02"]),
        lambda: scan.signatures("abc", [(0, 4)]),
        lambda: scan.signatures("abc", [(1 << 70, 1 << 70)]),
        lambda: scan.skip("abc", 4),
        lambda: scan.skip_back("abc", -1),
        lambda: prints("abc", text="ab"),
        lambda: prints("abc", literals=[(2, 3), (0, 1)]),
        lambda: prints("abc", comments=[(0, 4)]),
        lambda: prints("abc", units=[((0, 9), *UNIT[1:])]),
        lambda: prints("abc", units=[((0, 0), [], *UNIT[2:])]),
        lambda: prints("abc", units=[((0, 0), [(0, 1)], ["a", "b"], *UNIT[3:])]),
        lambda: prints("abc", units=[UNIT[:-1]]),
        lambda: prints("abc", keywords=frozenset({""})),
        lambda: references("abc", [(0, 4)]),
        lambda: references("abc", [(2, 1)]),
        lambda: references("abc", [], masked="ab"),
        lambda: references("abc", [], units=[(0, 9, "a", False)]),
        lambda: references("a[1]", [(0, 4)], others=lambda *_: [("call",)]),
        lambda: references("a[1]", [(0, 4)], others=lambda *_: [(("call",), "")]),
        lambda: scan.captures([(0, {"a": Node(0, 1)})]),
        lambda: scan.captures([{}]),
    ],
)
def test_what_does_not_fit_is_refused(call: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: scan.tokens(b"a"),
        lambda: scan.skip("a"),
        lambda: scan.mask("a", 3),
        lambda: scan.mask("a", [("a", 1, 1)]),
        lambda: references("abc", [], units=3),
    ],
)
def test_what_is_of_another_type_is_refused(call: Any) -> None:
    with pytest.raises(TypeError):
        call()


@pytest.mark.parametrize(
    "text", ["x" * 3_000_000, "X_YZ(" * 600_000, "((((" * 700_000, " " * 3_000_000, "a.b " * 700_000]
)
def test_one_line_of_megabytes(text: str) -> None:
    tokens = scan.tokens(text)
    assert sum(map(len, tokens)) == len(text) - text.count(" ")
    for is_layout in (False, True):
        assert len(prints(text, is_layout=is_layout)[0][0]) <= 65_536
    assert len(scan.macros(text.encode())) == 5
    assert scan.conditionals(text.encode()) == []
    assert len(scan.signatures(text, [(0, len(text))])) == 1


@given(st.binary(max_size=200))
def test_macros_begin_inside_of_the_source(raw: bytes) -> None:
    for starts in scan.macros(raw):
        assert all(0 <= start < len(raw) for start in starts)


CPP = st.lists(
    st.sampled_from(["#if A", "#else", "#endif", "#elif", "\n", "\\", "/*", "*/", "//", '"', "'", *"(){}[];:,aA "])
).map("".join)


@given(CPP)
def test_conditionals_are_whole_lines_in_order(text: str) -> None:
    position = 0
    raw = text.encode()
    for start, end, word, depth in scan.conditionals(raw):
        assert position <= start < end <= len(raw)
        assert raw[start:end].lstrip(b" \t#").startswith(word.encode())
        assert depth >= -1
        position = end


@pytest.mark.parametrize(
    ("text", "depths"),
    [
        ("#if A\nint a;\n#else\nint b;\n#endif\nint c;\n", [0, 0, 0]),
        ("namespace a {\n#ifdef A\nvoid f() {\n}\n#endif\n}\n", [1, 1]),
        ("#ifdef A\nif (a) {\n#else\n{\n#endif\n}\n", [0, 1, 2]),
        ("int a[] = {\n  1,\n#if A\n  2,\n#endif\n};\n", [-1, -1]),
        ("f(a,\n#if A\n  b);\n#else\n  c);\n#endif\n", [-1, 0, 0]),
        ("if (a) {}\n#if A\nelse {}\n#endif\n", [-1, 0]),
        ("int a\n#if A\n;\n#endif\n", [-1, 0]),
        ("int a = b;\n#if A\n+ c;\n#endif\n", [-1, 0]),
        ("#if A\nPUSH_(1)  // ;\n#endif\nclass B;\n", [0, 0]),
        ("#if A\npush(1)\n#endif\nclass B;\n", [0, -1]),
        ("/* (\n#if A\n*/ '(' \"(\"\n#if B\n", [-1]),
        ("int a;\n#define M(x) f( \\\n#if\n#endif\n", [0]),
        ("# if A \\\n && B\n;\n  # endif", [0, 0]),
    ],
)
def test_conditionals_between_and_within_statements(text: str, depths: list[int]) -> None:
    assert [depth for *_, depth in scan.conditionals(text.encode())] == depths


# --- which code it is


def test_the_understanding_knows_what_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    understanding.identity.cache_clear()
    before = understanding.identity()
    monkeypatch.setattr(scan, "identity", "another")
    understanding.identity.cache_clear()
    assert understanding.identity() != before
    understanding.identity.cache_clear()
