"""Words of identifiers, of prose and of queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.analysis.words import clip, query_terms, split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("load", "load"),
        ("parseConfigFile", "parseconfigfile pars config file"),
        ("HTTPServer", "httpserver http server"),
        ("parseHTTPRequest2", "parsehttprequest2 pars http request 2"),
        ("snake_case_name", "snake_case_name snak case name"),
        ("__init__", "init"),
        ("SCREAMING_CASE", "screaming_case scream case"),
        ("x1", "x1 x 1"),
        ("a.b(c)", "a b c"),
        ("it's 3-way", "it s 3 way"),
        ("größeBerechnen", "größeberechnen"),
        ("größe_der_Fläche", "größe_der_fläche größe der fläche"),
        ("读取配置", "读取 取配 配置"),
        ("", ""),
        ("... --", ""),
    ],
)
def test_split(text: str, words: str) -> None:
    assert split(text) == words.split()


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("how to parse the config", ["pars", "config"]),
        ("parseConfig parse", ["parseconfig", "pars", "config"]),
        ("what is this", ["what", "is", "thi"]),
        ("", []),
    ],
)
def test_query_terms(query: str, terms: list[str]) -> None:
    assert query_terms(query) == terms


@pytest.mark.parametrize(
    "forms",
    [
        ["parse", "parses", "parsed", "parsing"],
        ["query", "queries"],
        ["class", "classes"],
        ["stop", "stopped", "stopping", "stops"],
        ["file", "files"],
        ["match", "matches", "matched", "matching"],
    ],
)
def test_forms_of_one_word_are_one_word(forms: list[str]) -> None:
    assert len({scan.stem(form) for form in forms}) == 1


@pytest.mark.parametrize("word", ["", "a", "is", "bus", "ring", "bed", "größe", "x86s", "pass"])
def test_what_is_no_ending_stays(word: str) -> None:
    assert scan.stem(word) == word


@given(st.text())
def test_words_are_small_and_short(text: str) -> None:
    for word in split(text):
        assert word
        assert " " not in word
        assert word == word.lower() or not word.isascii()
        assert len(word) <= 3 * 64  # lower case may be longer than upper


def test_a_unit_and_a_query_meet() -> None:
    module = parse(
        "a.py", b"def readJSONConfig(path_name):\n    '''Opens it.'''\n    # closes later\n    return 'some text'\n"
    )
    found = module.words[0]
    assert found.name == "readjsonconfig read json config"
    assert found.doc == "open it"
    assert (
        set(query_terms("json config reading of path name, closes some text"))
        - set(f"{found.name} {found.doc} {found.body}".split())
        == set()
    )


def test_body_words_of_a_class_leave_out_its_methods() -> None:
    module = parse("a.py", b"class A:\n    limit = 3\n    def f(self):\n        inside()\n")
    assert "insid" not in module.words[0].body
    assert "limit" in module.words[0].body
    assert "insid" in module.words[1].body


def test_keywords_are_no_words() -> None:
    assert parse("a.py", b"def f():\n    return None\n").words[0].body == "f"


def test_clip_keeps_whole_words() -> None:
    text = "word " * 10_000
    assert clip(text).endswith("word")
    assert clip("short") == "short"
