"""Units by name."""

from __future__ import annotations

from typing import Any

import pytest

from codegraphd.daemon.search.symbols import find_symbol, symbols
from codegraphd.store.records import RootRecord

FILES = {
    "app/config.py": """
class Config:
    def load(self, path):
        return path
    def reload(self):
        return self.load("")

def load_config(path):
    return Config().load(path)
""",
    "app/http.py": """
class HTTPServer:
    def Load(self):
        pass
    def handle_request(self):
        pass

def unload():
    pass
""",
    "tests/test_config.py": "def load():\n    pass\n",
}
ROOT = RootRecord(1, "/1")


@pytest.fixture
def named(shelf: Any) -> Any:
    shelf.put(FILES)
    return shelf


@pytest.mark.parametrize(
    ("pattern", "expect"),
    [
        ("load", ["load", "Config.load"]),
        ("Config.load", ["Config.load"]),
        ("config::Config::load", ["Config.load"]),  # where it lies may be said as well
        ("app.config.load_config", ["load_config"]),
        ("http.Config.load", []),
        ("Config::load", ["Config.load"]),
        ("Config#load", ["Config.load"]),
        ("CONFIG", ["Config"]),
        ("httpserver.load", ["HTTPServer.Load"]),
        ("rel", ["Config.reload"]),
        ("load_", ["load_config"]),
        ("request", ["HTTPServer.handle_request"]),
        ("Config.re", ["Config.reload"]),
        ("*load", ["load", "unload", "Config.load", "Config.reload", "HTTPServer.Load"]),
        ("Load*", ["HTTPServer.Load"]),
        ("Config.*", ["Config.load", "Config.reload"]),
        ("?nload", ["unload"]),
        ("[lu]*oad", ["load", "unload", "Config.load", "HTTPServer.Load"]),
        ("nothing", []),
    ],
)
def test_symbols_by_pattern(named: Any, pattern: str, expect: list[str]) -> None:
    found = named.ask(lambda view: symbols(view, [ROOT], pattern=pattern))
    assert sorted(unit["qualname"] for unit in found) == sorted(expect)


@pytest.mark.parametrize(
    ("path", "pattern", "expect"),
    [
        ("app/config.py", None, ["Config", "Config.load", "Config.reload", "load_config"]),
        ("app/config.py", "load", ["Config.load"]),
        ("app", "load*", ["load_config", "Config.load", "HTTPServer.Load"]),
        ("./app/", "unload", ["unload"]),
        ("ap", None, []),
        ("tests", None, ["load"]),
    ],
)
def test_symbols_of_a_path(named: Any, path: str, pattern: str | None, expect: list[str]) -> None:
    found = named.ask(lambda view: symbols(view, [ROOT], pattern=pattern, path=path))
    assert [unit["qualname"] for unit in found] == expect


def test_all_symbols_in_order_and_bounded(named: Any) -> None:
    every = named.ask(lambda view: symbols(view, [ROOT]))
    assert [unit["path"] for unit in every] == sorted(unit["path"] for unit in every)
    assert len(every) == 9
    assert named.ask(lambda view: symbols(view, [ROOT], limit=3)) == every[:3]
    assert len(named.ask(lambda view: symbols(view, [ROOT], pattern="load", limit=1))) == 1


@pytest.mark.parametrize(
    ("symbol", "expect"),
    [
        ("Config.load", {"Config.load"}),
        ("load", {"load", "Config.load"}),
        ("LOAD", {"load", "Config.load", "HTTPServer.Load"}),
        ("Server.Load", set()),
        ("loa", set()),
    ],
)
def test_find_symbol(named: Any, symbol: str, expect: set[str]) -> None:
    found = named.ask(lambda view: find_symbol(view, [ROOT], symbol))
    assert {unit.unit.qualname for unit in found} == expect


def test_a_whole_qualified_name_goes_before_its_ending(shelf: Any) -> None:
    shelf.put({"a.py": "class A:\n    class B:\n        def f(self): pass\nclass B:\n    def f(self): pass\n"})
    found = shelf.ask(lambda view: find_symbol(view, [ROOT], "B.f"))
    assert [unit.unit.qualname for unit in found] == ["B.f"]


def test_names_with_dots_are_found_whole(shelf: Any) -> None:
    shelf.put({"README.md": "# Version 1.2 of it\n\ntext\n"})
    found = shelf.ask(lambda view: find_symbol(view, [ROOT], "Version 1.2 of it"))
    assert [unit.unit.kind for unit in found] == ["section"]


def test_only_the_roots_asked_for(named: Any) -> None:
    named.put({"b.py": "def load(): pass\n"}, root=2)
    for roots, expect in [([ROOT], 2), ([RootRecord(2, "/2")], 1), ([ROOT, RootRecord(2, "/2")], 3)]:
        assert len(named.ask(lambda view, roots=roots: symbols(view, roots, pattern="load"))) == expect
