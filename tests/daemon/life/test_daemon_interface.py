"""What the interface promises about answers, asked of a real daemon as a client that knows only the interface would."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from codegraphd.daemon.understanding import identity, key_of
from codegraphd.ipc.errors import BAD_PARAMETERS, NOT_FOUND, NOT_WATCHED, TIMEOUT, UNAVAILABLE, RemoteError
from codegraphd.store.env import Store
from codegraphd.store.writer import Writer

RECORD = {
    "id": str, "root": str, "path": str, "language": str, "kind": str, "name": str, "qualname": str, "signature": str,
    "start_line": int, "end_line": int, "doc": str,
}  # fmt: skip
LONG = "def {name}({a}, {b}):\n    total = 0\n    for {i} in {a}:\n        if {i} > {b}:\n            total += {i} * {b}\n    return total\n"  # noqa: E501


def refused(home: Any, method: str, **params: Any) -> tuple[int, str]:
    with pytest.raises(RemoteError) as caught:
        home.call(method, **params)
    return caught.value.code, caught.value.message


def a_chain(home: Any, n: int = 12) -> None:
    """f0 <- f1 <- ...: each calls the one before; hub calls them all."""
    calls = "".join(f"    f{i}()\n" for i in range(n))
    names = ", ".join(f"f{i}" for i in range(n))
    home.write("chain.py", "".join(f"def f{i}():\n    return {f'f{i - 1}()' if i else 0}\n" for i in range(n)))
    home.write("hub.py", f"from chain import {names}\n\ndef hub():\n{calls}")
    home.watch()
    home.sync(semantic=True)


def pages(home: Any, method: str, key: str, limit: int, **params: Any) -> list[list[str]]:
    """Ids of every page, first to last."""
    found, cursor = [], None
    while len(found) < 50:
        answer = home.call(method, limit=limit, cursor=cursor, **params)
        found.append([unit["id"] for unit in answer[key]])
        cursor = answer["next"]
        if cursor is None:
            return found
    raise AssertionError("no end")


@pytest.mark.parametrize(
    ("method", "key", "params"),
    [
        ("symbols", "units", {}),
        ("symbols", "units", {"pattern": "f*"}),
        ("search", "results", {"query": "return f3"}),
        ("search", "results", {"query": "f3", "mode": "lexical"}),
        ("dependents", "units", {"symbol": "f0", "depth": 20}),
        ("dependencies", "units", {"symbol": "hub"}),
        ("similar", "matches", {"path": "chain.py", "line": 8, "threshold": 0.1}),
        ("similar", "matches", {"code": "def f():\n    return f3()\n", "language": "python", "threshold": 0.1}),
    ],
)
def test_pages_put_together_are_the_whole_answer(home: Any, method: str, key: str, params: dict[str, Any]) -> None:
    a_chain(home)
    whole = home.call(method, limit=1000, **params)
    assert whole["next"] is None
    ids = [unit["id"] for unit in whole[key]]
    assert len(ids) > 5
    found = pages(home, method, key, 5, **params)
    assert [id_ for page in found for id_ in page] == ids
    assert [len(page) for page in found[:-1]] == [5] * (len(found) - 1)
    assert refused(home, method, cursor="x", **params)[0] == BAD_PARAMETERS


def test_a_walk_that_is_cut_says_so(home: Any) -> None:
    a_chain(home)
    answer = home.call("dependents", symbol="f0", depth=20, limit=3)
    assert (len(answer["units"]), answer["truncated"]) == (3, True)
    answer = home.call("dependents", symbol="f0", depth=20)
    assert (len(answer["units"]), answer["truncated"]) == (12, False)
    assert sorted(unit["depth"] for unit in answer["units"]) == [1, 1, *range(2, 12)]
    answer = home.call("dependents", symbol="f0", depth=2)
    assert {unit["name"]: unit["depth"] for unit in answer["units"]} == {"f1": 1, "hub": 1, "f2": 2}
    assert not answer["truncated"]


def test_a_definition_that_comes_with_its_declaration_comes_by_a_critical_edge(home: Any) -> None:
    home.write("load.h", "int load(int a);\n")
    home.write("load.c", '#include "load.h"\nint load(int a) { return a; }\n')
    home.write("main.c", '#include "load.h"\nint run(void) { return load(1); }\n')
    home.watch()
    home.sync()
    answer = home.call("dependencies", symbol="run")
    assert {unit["path"]: (unit["depth"], unit["edge"]) for unit in answer["units"]} == {
        "load.h": (1, {"kind": "call", "strength": "strong"}),
        "load.c": (1, {"kind": "declare", "strength": "critical"}),
    }


def test_changes_are_unit_records_and_a_page_of_them_loses_nothing(home: Any) -> None:
    a_chain(home)
    root = str(home.workspace)
    before = home.sync()
    home.write("more.py", "".join(f"def g{i}():\n    return {i}\n" for i in range(7)))
    home.sync()
    first = home.call("changes", root=root, since=before, limit=4)
    for unit in first["units"]:
        assert unit["change"] == "added"
        assert {name: type(unit[name]) for name in RECORD} == RECORD
    home.write("more.py", "".join(f"def g{i}():\n    return {i} + 1\n" for i in range(3)))
    home.write("other.py", "def h():\n    return 1\n")
    home.sync()
    second = home.call("changes", root=root, since=before, limit=4, cursor=first["next"])
    assert (second["next"], second["clock"]) == (None, first["clock"])
    assert [unit["qualname"] for unit in first["units"] + second["units"]] == [f"g{i}" for i in range(7)]
    then = home.call("changes", root=root, since=second["clock"])
    assert {(unit["qualname"], unit["change"]) for unit in then["units"]} == {
        *((f"g{i}", "modified") for i in range(3)), *((f"g{i}", "deleted") for i in range(3, 7)), ("h", "added"),
    }  # fmt: skip
    assert home.call("changes", root=root, since="else:1")["reset"] is True


def test_similarity_is_that_of_similar(home: Any) -> None:
    one = LONG.format(name="count", a="values", b="least", i="value")
    other = LONG.format(name="tally", a="rows", b="floor", i="row")
    home.write("a.py", one)
    home.watch()
    home.sync(semantic=True)
    for code, type_ in ((one, "exact"), (other, "renamed"), (one + "    # a remark\n", "exact")):
        (match,) = home.call("similar", code=code, language="python", threshold=0.0)["matches"]
        answer = home.call("similarity", code1=code, code2=one, language="python")
        assert answer["similarity"] == pytest.approx(match["similarity"], abs=0.01)  # the index keeps vectors as int8
        assert (answer["type"], match["type"]) == (type_, type_)
    assert home.call("similarity", code1="x = 1", code2="x = 1", language="python")["similarity"] == 1.0
    far = home.call("similarity", code1=one, code2="import socket\n\nclass Q:\n    pass\n", language="python")
    assert far["similarity"] < 0.8


def test_a_class_on_standard_input_is_read_with_its_bodies(home: Any) -> None:
    code = "class C:\n    def a(self):\n        return {}\n\n    def b(self):\n        return {}\n"
    home.watch()
    vectors = [
        home.call("embed", code=code.format(*words), language="python")["vector"]
        for words in (("socket.listen()", "reader"), ("banana + cherry", "apple"))
    ]
    assert vectors[0] != vectors[1]


def test_paths_and_roots(home: Any) -> None:
    a_chain(home)
    root = str(home.workspace)
    assert home.names(root) == home.names(".") == home.names() == {"hub", *(f"f{i}" for i in range(12))}
    assert home.names("chain.py") == home.names(root + "/chain.py") == home.names("./chain.py")
    assert refused(home, "watch", root="workspace")[0] == BAD_PARAMETERS
    assert "absolute" in refused(home, "watch", root="workspace")[1]
    assert refused(home, "explain", path=root, line=1) == (NOT_FOUND, f"{root} is not indexed in {root}")
    assert refused(home, "explain", path="../x", line=1)[0] == BAD_PARAMETERS
    assert refused(home, "explain", path="/etc/hostname", line=1)[0] == NOT_WATCHED
    assert refused(home, "sync", root=root, timeout_s=0)[0] == TIMEOUT


def test_a_directory_whose_name_is_not_utf_8(home: Any) -> None:
    file = os.path.join(os.fsencode(home.workspace), b"d\xff", b"caf\xe9.py")
    os.makedirs(os.path.dirname(file))
    with open(file, "wb") as stream:
        stream.write(b"def odd():\n    return 1\n")
    home.watch()
    home.sync()
    (unit,) = home.call("symbols", path="d\udcff")["units"]
    assert (unit["name"], unit["path"]) == ("odd", "d\udcff/caf\udce9.py")
    assert home.call("explain", path=unit["path"], line=1)["unit"]["id"] == unit["id"]


def test_meaning_alone_without_a_model_is_unavailable(make_home: Any) -> None:
    home = make_home('[embedding]\nmodel = "/nowhere/at/all"\n')
    home.start()
    a_few = home.write("a.py", "def f():\n    return 1\n")
    home.watch()
    home.sync()
    assert refused(home, "search", query="f", mode="semantic")[0] == UNAVAILABLE
    answer = home.call("search", query="f", wait_ms=2**63 - 1)
    assert [unit["path"] for unit in answer["results"]] == [a_few.name]
    assert answer["mode"] == "lexical"
    assert answer["degraded"]


def told(home: Any, n: int) -> list[tuple[str, dict[str, Any]]]:
    """The first `n` notifications."""
    found = []
    for news in home.client.notifications(timeout=20):
        found.append(news)
        if len(found) == n:
            break
    return found


def test_a_subscriber_hears_of_a_clone_that_came_and_of_nothing_else(home: Any) -> None:
    root = str(home.workspace)
    home.write("a.py", LONG.format(name="count", a="values", b="least", i="value"))
    home.write("b.py", LONG.format(name="count", a="values", b="least", i="value"))  # there before: no news
    home.watch()
    home.sync(semantic=True)
    assert home.call("subscribe", events=["clone"]) == {"events": ["clone"]}
    home.write(
        "alone.py",
        "import socket\n\ndef listen(port):\n    s = socket.socket()\n    s.bind(port)\n    s.listen()\n    return s\n",
    )
    home.write("short.py", "def short():\n    return 1\n")
    home.write("short2.py", "def short():\n    return 1\n")
    home.sync(semantic=True)
    home.write("c.py", "\n\n" + LONG.format(name="tally", a="values", b="least", i="value"))
    home.sync(semantic=True)
    ((event, news),) = told(home, 1)
    assert (event, news["root"], news["unit"]["path"], news["unit"]["name"]) == (
        "codegraphd.clone",
        root,
        "c.py",
        "tally",
    )
    assert {(match["path"], match["type"]) for match in news["matches"]} == {("a.py", "renamed"), ("b.py", "renamed")}
    assert {name: type(news["unit"][name]) for name in RECORD} == RECORD
    home.write(
        "c.py", "\n# moved down\n\n\n" + LONG.format(name="tally", a="values", b="least", i="value")
    )  # no new text
    home.sync(semantic=True)
    home.call("unsubscribe", events=["clone"])
    home.call("subscribe", events=["indexed"], root=root)
    home.write("d.py", LONG.format(name="sum_up", a="lines", b="least", i="line"))
    home.sync(semantic=True)
    ((event, news),) = told(home, 1)
    assert (event, news["root"], news["files"]) == ("codegraphd.indexed", root, 1)
    assert home.call("changes", root=root, since=news["clock"]) | {"clock": ""} == {
        "clock": "", "units": [], "reset": False, "next": None,
    }  # fmt: skip


def test_after_an_upgrade_files_are_read_again_and_nothing_is_embedded_again(home: Any) -> None:
    a_chain(home)
    home.stop()
    index = os.path.join(home.home, "state", "index")
    store = Store.open(index)
    writer = Writer(store)
    with store.snapshot() as view:
        (root,) = view.roots()
        assert view.meta(key_of(root.id)) == identity()

    def as_read_by_another_version(txn: Any) -> None:
        (unit,) = (txn.unit(id_) for id_ in txn.named(root.id, "f3"))
        txn.put_unit(dataclasses.replace(unit, unit=dataclasses.replace(unit.unit, doc="of old")))
        txn.put_meta(key_of(root.id), b"another")

    writer.submit(as_read_by_another_version).result()
    writer.close()
    store.close()
    home.start()
    home.sync(semantic=True)
    (unit,) = home.call("symbols", pattern="f3")["units"]
    assert unit["doc"] == ""
    parsers = home.status()["parsers"]
    assert parsers["parsed"] + parsers["seen"] == 2  # in truth another version, whose modules are no use
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    assert home.status()["model"]["embedded"] == 0
    home.stop()
    home.start()
    home.sync()
    parsers = home.status()["parsers"]
    assert parsers["parsed"] + parsers["seen"] == 0  # once is enough
