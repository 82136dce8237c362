"""Parameters: every method has the defaults of the interface, and says clearly what is wrong."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.ipc import messages
from codegraphd.ipc.errors import BAD_PARAMETERS, UNKNOWN_METHOD, RequestError
from codegraphd.ipc.version import VERSION

# The least that each method takes, and what the interface promises as defaults.
LEAST: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "hello": ({}, {"client": None}),
    "status": ({}, {}),
    "watch": ({"root": "/r"}, {}),
    "unwatch": ({"root": "/r"}, {}),
    "search": (
        {"query": "q"},
        {"wait_ms": 2500, "root": None, "limit": 10, "mode": "hybrid", "snippet_lines": 0, "sync": False},
    ),
    "verify": ({"root": "/r"}, {}),
    "similar": ({"path": "a.py", "line": 1}, {"threshold": 0.85, "limit": None}),
    "clones": ({"root": "/r"}, {"threshold": 0.9, "min_lines": 5, "limit": None}),
    "dependents": ({"symbol": "f"}, {"depth": 3, "limit": 1000}),
    "dependencies": ({"symbol": "f"}, {"depth": 3, "limit": 1000}),
    "symbols": ({}, {"pattern": None, "path": None, "limit": 100, "root": None}),
    "explain": ({"path": "a.py", "line": 1}, {"root": None}),
    "embed": ({"code": "x", "language": "python"}, {"role": "document", "encoding": "list"}),
    "embed_batch": ({"inputs": []}, {"encoding": "list"}),
    "similarity": ({"code1": "a", "code2": "b", "language": "go"}, {"language2": None}),
    "changed": ({"path": "a.py", "kind": "modified"}, {"origin": None}),
    "sync": ({"root": "/r"}, {"semantic": False, "timeout_s": 30.0}),
    "changes": ({"root": "/r", "since": "s:1"}, {}),
    "subscribe": ({"events": ["progress"]}, {"root": None}),
    "unsubscribe": ({"events": ["progress"]}, {"root": None}),
    "reindex": ({}, {"root": None}),
    "gc": ({}, {}),
    "reload": ({}, {}),
}


def refusal(method: str, params: dict[str, Any]) -> tuple[int, str]:
    with pytest.raises(RequestError) as refused:
        messages.parse_params(method, params)
    assert "\n" not in refused.value.message
    return refused.value.code, refused.value.message


def test_every_method_is_listed_here() -> None:
    assert LEAST.keys() == messages.METHODS.keys()


@pytest.mark.parametrize("method", LEAST)
def test_defaults_are_those_of_the_interface(method: str) -> None:
    given_, defaults = LEAST[method]
    params = messages.parse_params(method, given_)
    assert {name: getattr(params, name) for name in defaults} == defaults


@pytest.mark.parametrize("method", LEAST)
def test_every_field_beyond_the_least_has_a_default(method: str) -> None:
    for field in msgspec.structs.fields(messages.METHODS[method]):
        needed = field.required
        assert not needed or field.encode_name in LEAST[method][0]


@pytest.mark.parametrize("method", LEAST)
def test_unknown_fields_are_refused_by_name(method: str) -> None:
    code, message = refusal(method, {**LEAST[method][0], "no_such_field": 1})
    assert code == BAD_PARAMETERS
    assert "'no_such_field'" in message


@pytest.mark.parametrize(
    ("method", "params", "says"),
    [
        ("search", {"query": "q", "limt": 5}, "did you mean 'limit'"),
        ("search", {"query": "q", "limit": 0}, "`$.limit`"),
        ("search", {"query": "q", "limit": -1}, "`$.limit`"),
        ("search", {"query": "q", "limit": 2**63}, "`$.limit`"),
        ("search", {"query": "q", "limit": "ten"}, "`$.limit`"),
        ("search", {"query": "q", "limit": True}, "`$.limit`"),
        ("search", {"query": ""}, "`$.query`"),
        ("search", {"query": None}, "`$.query`"),
        ("search", {"query": "x" * 65_537}, "65536"),
        (
            "search",
            {"query": "q", "mode": "semantical"},
            "'semantic'? (allowed: hybrid, semantic, lexical)",
        ),
        ("search", {"query": "q", "languages": "python"}, "`$.languages`"),
        ("similar", {}, "`path` and `line`, or `code` and `language`"),
        ("similar", {"path": "a"}, "`path` and `line`"),
        ("similar", {"code": "x"}, "needs `language`"),
        ("similar", {"code": "x", "language": "c", "path": "a", "line": 1}, "not both"),
        ("similar", {"path": "a", "line": 1, "threshold": 1.5}, "`$.threshold`"),
        ("similar", {"path": "a", "line": 1, "threshold": math.nan}, "`$.threshold`"),
        ("dependents", {}, "`symbol`"),
        ("dependents", {"path": "a"}, "go together"),
        ("dependents", {"path": "a", "line": 1, "symbol": "x"}, "either"),
        ("dependents", {"symbol": "x", "depth": 0}, "`$.depth`"),
        ("explain", {"path": "a", "line": 0}, "`$.line`"),
        ("explain", {"path": "a\0b", "line": 1}, "without NUL"),
        ("watch", {"root": ""}, "`$.root`"),
        ("changed", {"path": "..", "kind": "modified"}, "leaves the workspace"),
        ("changed", {"path": "a", "kind": "moved", "from": "a/../../b"}, "leaves the workspace"),
        ("changed", {"path": "a/..", "kind": "modified"}, "the workspace itself"),
        ("explain", {"path": "../x", "line": 1}, "leaves the workspace"),
        ("symbols", {"path": ".."}, "leaves the workspace"),
        ("changed", {"path": "a", "kind": "moved"}, "needs `from`"),
        ("changed", {"path": "a", "kind": "renamed"}, "`$.kind`"),
        ("sync", {"root": "/r", "timeout_s": -1}, "`$.timeout_s`"),
        ("sync", {"root": "/r", "timeout_s": math.inf}, "`$.timeout_s`"),
        ("subscribe", {"events": ["everything"]}, "`$.events[0]` (allowed: progress, indexed, clone)"),
        ("embed_batch", {"inputs": [{"code": "x"}]}, "`language`"),
    ],
)
def test_bad_values_are_refused_with_what_is_wrong(method: str, params: dict[str, Any], says: str) -> None:
    code, message = refusal(method, params)
    assert code == BAD_PARAMETERS
    assert message.startswith(f"{method}: ")
    assert says in message


def test_unknown_methods_name_the_nearest() -> None:
    assert refusal("serch", {}) == (UNKNOWN_METHOD, "unknown method 'serch'; did you mean 'search'?")
    code, message = refusal("x" * 100_000, {})
    assert code == UNKNOWN_METHOD
    assert len(message) < 200
    refusal("\ud800", {})


def test_from_travels_under_its_own_name() -> None:
    params = messages.parse_params("changed", {"path": "b", "kind": "moved", "from": "a"})
    assert isinstance(params, messages.Changed)
    assert params.origin == "a"


def test_texts_are_unicode_and_paths_are_bytes() -> None:
    similar = messages.parse_params("similar", {"code": "a\udcff\ud800é", "language": "go", "root": "/caf\udce9"})
    assert isinstance(similar, messages.Similar)
    assert similar.code == "a??é"
    assert similar.root == "/caf\udce9"
    item = {"code": "\udcff", "language": "go"}
    batch = messages.parse_params("embed_batch", {"inputs": [item]})
    assert isinstance(batch, messages.EmbedBatch)
    assert batch.inputs[0].code == "?"
    assert item["code"] == "\udcff"


def test_whole_numbers_serve_as_shares() -> None:
    params = messages.parse_params("similar", {"path": "a", "line": 1, "threshold": 1})
    assert isinstance(params, messages.Similar)
    assert params.threshold == 1.0


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none())))
def test_any_map_gives_params_or_a_refusal(params: dict[str, Any]) -> None:
    for method in messages.METHODS:
        try:
            outcome: messages.Params | int = messages.parse_params(method, params)
        except RequestError as error:
            outcome = error.code
        assert outcome == BAD_PARAMETERS or isinstance(outcome, messages.Params)


def test_fault_39_hello_names_methods_and_fields() -> None:
    told = messages.hello(["search", "status"])
    assert told["methods"] == ["search", "status"]
    assert told["params"]["status"] == []
    assert "from" in messages.hello()["params"]["changed"]


def test_the_version_is_that_of_the_distribution() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text())["project"]["version"] == VERSION
