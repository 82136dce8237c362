"""From a path and a line to a unit, and to the map that answers show."""

from __future__ import annotations

from typing import Any

import pytest

from codegraphd.daemon.search.units import Describer, locate, places, root_for, snippet
from codegraphd.store.records import RootRecord

SOURCE = '''import os


class Config(dict):
    """Where things are."""

    @property
    def name(self):
        """Its name."""
        return self["name"]

    def load(self, path):
        def inner(text):
            return text
        return inner(path)


async def main():
    pass
'''


@pytest.mark.parametrize(
    ("line", "expect"),
    [
        (1, None),
        (4, "Config"),
        (5, "Config"),
        (6, "Config"),
        (7, "Config.name"),  # the decorator
        (8, "Config.name"),
        (10, "Config.name"),
        (11, "Config"),
        (12, "Config.load"),
        (14, "Config.load.inner"),
        (15, "Config.load"),
        (17, None),
        (18, "main"),
        (99, None),
    ],
)
def test_locate(shelf: Any, line: int, expect: str | None) -> None:
    shelf.put({"a.py": SOURCE})
    found = shelf.ask(lambda view: locate(view, 1, "a.py", line))
    assert (found and found.unit.qualname) == expect


def test_locate_in_a_file_that_is_not_indexed(shelf: Any) -> None:
    shelf.put({"a.py": SOURCE})
    assert shelf.ask(lambda view: locate(view, 1, "b.py", 1)) is None
    assert shelf.ask(lambda view: locate(view, 2, "a.py", 4)) is None


def test_the_unit_record_of_the_interface(shelf: Any) -> None:
    shelf.put({"a.py": SOURCE})
    unit = shelf.unit("a.py", "Config.name")
    record = shelf.ask(lambda view: Describer(view).unit(unit))
    flags = record.pop("flags", [])
    assert record == {
        "id": str(unit.id),
        "root": "/1",
        "path": "a.py",
        "language": "python",
        "kind": unit.unit.kind,
        "name": "name",
        "qualname": "Config.name",
        "signature": "def name(self)",
        "start_line": 7,
        "end_line": 10,
        "doc": "Its name.",
    }
    assert set(flags) <= {"exported", "async", "test", "static", "abstract", "declaration", "generated"}
    assert "async" in shelf.ask(lambda view: Describer(view).unit(shelf.unit("a.py", "main")))["flags"]


@pytest.mark.parametrize(
    ("start", "end", "n", "expect"),
    [(1, 3, 2, "a\nb"), (2, 3, 10, "b\n\ufffd"), (3, 3, 1, "\ufffd"), (4, 9, 5, ""), (1, 3, 0, "")],
)
def test_snippet(start: int, end: int, n: int, expect: str) -> None:
    assert snippet(b"a\r\nb\n\xff", start, end, n) == expect


ROOTS = (RootRecord(1, "/home/me/code"), RootRecord(2, "/home/me/code/inner"), RootRecord(3, "/home/me/codeshop"))


@pytest.mark.parametrize(
    ("path", "expect"),
    [
        ("/home/me/code/a.py", 1),
        ("/home/me/code", 1),
        ("/home/me/code/inner/a.py", 2),
        ("/home/me/codeshop/a.py", 3),
        ("/home/me/codes/a.py", None),
        ("/", None),
    ],
)
def test_the_inner_root_owns_its_files(path: str, expect: int | None) -> None:
    found = root_for(ROOTS, path)
    assert (found and found.id) == expect
    assert root_for([RootRecord(9, "/")], path) == RootRecord(9, "/")


def test_places(shelf: Any) -> None:
    shelf.put({"src/a.py": "def f(): pass\n"}, root=1)
    shelf.put({"src/a.py": "def g(): pass\n"}, root=2)
    one, two = RootRecord(1, "/1"), RootRecord(2, "/2")
    for path, root, expect in [
        ("src/a.py", None, [(one, "src/a.py"), (two, "src/a.py")]),
        ("./src/../src/a.py", two, [(two, "src/a.py")]),
        ("/2/src/a.py", None, [(two, "src/a.py")]),
        ("/2/src/a.py", one, []),
        ("/1", None, []),
        ("src/b.py", None, []),
    ]:
        assert shelf.ask(lambda view, path=path, root=root: places(view, path, root)) == expect
