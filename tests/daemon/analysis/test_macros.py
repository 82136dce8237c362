"""Which macros the parser of C and C++ does not see."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.analysis.dialects import cpp_macros
from codegraphd.daemon.analysis.dialects.cpp_macros import without_macros


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("class MY_API Widget : Base {", "class        Widget : Base {"),
        ("enum MY_API(1) Color {", "enum           Color {"),
        ("  Q_OBJECT\nint x;", "          \nint x;"),
        ("MY_API int f(int a);", "       int f(int a);"),
        ("extern MY_API int f(int a);", "extern        int f(int a);"),
        ("int MY_CALL f(int a);", "int         f(int a);"),
        ("void f() NO_THROW;", "void f()         ;"),
        ("void f()\nNO_THROW;", "void f()\n        ;"),
        ("int f OF((int a));", "int f    (int a) ;"),
        ("A::~A() = default;", "A::~A() {        }"),
        ("#define MY_API int f(int a);", "#define MY_API int f(int a);"),
        ("x = CONSTANT;", "x = CONSTANT;"),
        ("if (a) BREAK;", "if (a) BREAK;"),
        ("int api f(int a);", "int api f(int a);"),
    ],
)
def test_seen_by_the_parser(source: str, seen: str) -> None:
    assert without_macros(source.encode()) == seen.encode()


def _everywhere(raw: bytes) -> bytes:
    """What `without_macros` gives, with each pattern tried at each place."""

    def blank(match: re.Match[bytes]) -> bytes:
        start, end = match.span("macro")
        blanks = bytes(byte if byte == 10 else 32 for byte in match[0][start - match.start() : end - match.start()])
        return match[0][: start - match.start()] + blanks + match[0][end - match.start() :]

    for pattern in (
        cpp_macros._CLASS_MACRO,
        cpp_macros._LINE_MACRO,
        cpp_macros._TYPE_MACRO,
        cpp_macros._NAME_MACRO,
    ):
        raw = pattern.sub(blank, raw)
    raw = cpp_macros._OLD_PROTOTYPE.sub(lambda match: b" " * len(match[1]) + match[2] + b" ", raw)
    raw = cpp_macros._TAIL_MACRO.sub(blank, raw)
    return cpp_macros._DEFAULTED.sub(lambda match: match[1] + b"{" + b" " * (len(match[2]) - 2) + b"}", raw)


_PIECES = [
    b"class", b"enum", b"extern", b"static", b"int", b"const", b"f", b"Name", b"MY_API", b"__ABCD", b"ABCDx", b"OF",
    b"((", b"(", b")", b"))", b"{", b"}", b";", b":", b"::", b"~", b"*", b"= default;", b"#", b"define", b"\n", b"\r\n",
    b" ", b"\t", b"  ", b" MY_API ", b"\nMY_API\n", b" f(",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join))
def test_trying_few_places_finds_what_trying_all_does(raw: bytes) -> None:
    seen = without_macros(raw)
    assert seen == _everywhere(raw)
    assert len(seen) == len(raw)
