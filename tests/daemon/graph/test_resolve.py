"""Case files of `tests/data/resolve`: small projects, and exactly the edges that their sources show.

A case begins with `=== what it shows`. `[file PATH]` begins a file, `[edges]` the expected edges less containment,
each "path:qualname -> path:qualname kind strength" (an overload's ordinal follows as #n), and `[mentions]`, where it
stands, the references left to be matched by name: "path:qualname ? name kind".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.graph.signatures import constant_type, type_parameters

CASES = Path(__file__).parents[2] / "data" / "resolve"


def cases() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("*.txt")):
        for text in path.read_text().split("\n=== ")[1:]:
            title, _, body = text.partition("\n")
            found.append(pytest.param(body, id=f"{path.stem}: {title}"))
    return found


def sections(body: str) -> dict[str, str]:
    parts = re.split(r"^\[(file [^\]]+|edges|mentions)\]\n", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


BODIES = [case.values[0] for case in cases()]


def lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")}


def project(world: Any, files: dict[str, str]) -> Any:
    """The files in a world, resolved. Put in one after the other, each edit resolves what waited on it."""
    for path, text in files.items():
        world.put_module(path, parse(path, text.encode()))
    return world


@pytest.mark.parametrize("body", cases())
def test_case(body: str, world: Any) -> None:
    parts = sections(body)
    files = {name.removeprefix("file "): text for name, text in parts.items() if name.startswith("file ")}
    project(world, files)
    assert world.edges() == lines(parts["edges"])
    if "mentions" in parts:
        assert world.mentions() == lines(parts["mentions"])
    assert world.everything() == world.fresh().everything()


_NOISE = ["", "{", "(", "<", ".", "::", "*", "\0", "\n", "import ", "\udcff", "é", " class ", "/*", "'"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mangled_projects_are_resolved_like_any_other(make: Any, data: st.DataObject) -> None:
    parts = sections(data.draw(st.sampled_from(BODIES)))
    world = make.World()
    for name, text in parts.items():
        if not name.startswith("file "):
            continue
        for _ in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, len(text)))
            end = start + data.draw(st.integers(0, 12))
            text = text[:start] + data.draw(st.sampled_from(_NOISE)) + text[end:]  # noqa: PLW2901
        path = name.removeprefix("file ")
        world.put_module(path, parse(path, text.encode("utf-8", "surrogatepass")))
    assert world.everything() == world.fresh().everything()


def test_containment_is_critical(world: Any) -> None:
    project(world, {"a.py": "class A:\n    def f(self):\n        def g():\n            pass\n"})
    assert world.edges(contain=True) == {
        "a.py:A.f -> a.py:A contain critical",
        "a.py:A.f.g -> a.py:A.f contain critical",
    }


def test_edges_are_ordered_by_first_use(world: Any) -> None:
    project(world, {"a.py": "def z(): pass\ndef y(): pass\ndef f():\n    z()\n    y()\n    z()\n"})
    resolution = world.resolutions[world._paths["a.py"]]
    (found,) = resolution.edges.values()
    assert [world.label(edge.target) for edge in found] == ["a.py:z", "a.py:y"]
    assert found[0].order < found[1].order


def test_a_name_that_appears_resolves_those_that_missed_it(world: Any) -> None:
    files = {"a.py": "from b import load\ndef f():\n    load()\n", "c.py": "def g():\n    pass\n"}
    project(world, files)
    assert world.edges() == set()
    world.resolved.clear()
    project(world, {"b.py": "def load():\n    pass\n"})
    assert world.edges() == {"a.py:f -> b.py:load call strong"}
    assert sorted(world.resolved) == ["a.py", "b.py"]


@pytest.mark.parametrize(("length", "found"), [(40, True), (400, False)])
def test_a_chain_of_reexports_ends_somewhere(length: int, found: bool, world: Any) -> None:
    files = {f"m{n}.py": f"from m{n + 1} import f\n" for n in range(length)}
    files |= {f"m{length}.py": "def f(): pass\n", "main.py": "from m0 import f\ndef main(): f()\n"}
    for path, text in files.items():
        world.put_module(path, parse(path, text.encode()), resolving=False)
    world.resolve_all()
    assert world.edges() == ({f"main.py:main -> m{length}.py:f call strong"} if found else set())


def test_a_tower_of_nested_classes_that_inherit_from_those_around_them(world: Any) -> None:
    depth = 150
    lines = ["package p;", *(f"class C{n} extends C{max(n - 1, 0)} {{" for n in range(depth)), "void f() { g(); }"]
    world.put_module("p/A.java", parse("p/A.java", "\n".join([*lines, "}" * depth]).encode()))
    assert len(world.edges()) == depth - 1
    assert world.mentions() >= {f"p/A.java:{'.'.join(f'C{n}' for n in range(depth))}.f ? g call"}


@pytest.mark.parametrize(
    ("signature", "name", "expect"),
    [
        ("export interface Box<T, Id extends Key<T> = Key>", "Box", {"T", "Id"}),
        ("public <K, V> Map<K, V> f(K key)", "f", {"K", "V"}),
        ("public List<Item> get()", "get", set()),
        ("impl<T: Into<Item>> Foo<T>", "Foo", {"T"}),
        ("fn gen<S: Fn(Item) -> Other, const N: usize>(s: S)", "gen", {"S", "N"}),
        ("func Gen[T any, U Item](x T)", "Gen", {"T", "U"}),
        ("template<typename T, class... Rest> T gen(T x)", "gen", {"T", "Rest"}),
        ("class Box[T](Base)", "Box", {"T"}),
        ("def f(x: list[Item])", "f", set()),
        ("const f = <T,>(x: T)", "f", {"T"}),
        ("public class Box : Box<object>", "Box", set()),
        ("public class Box<T> : Box<List<T>>", "Box", {"T"}),
        ("func (s *Set[Item]) Add(x Item)", "Add", set()),
    ],
)
def test_type_parameters(signature: str, name: str, expect: set[str]) -> None:
    assert type_parameters(signature, name) == expect


@pytest.mark.parametrize(
    ("signature", "name", "expect"),
    [
        ("export const a: Foo<Bar> = make({ x: 1 })", "a", "Foo<Bar>"),
        ("export let made = new pkg.Foo({ a: 1 })", "made", "pkg.Foo"),
        ("PAL: Palette = y", "PAL", "Palette"),
        ("WINDOWS = pkg.Palette([1])", "WINDOWS", "pkg.Palette"),
        ("_called = make(1)", "_called", ""),
        ("var Typed *pkg.Foo = x", "Typed", "*pkg.Foo"),
        ("var Made = &Foo { }", "Made", "Foo"),
        ("var Made = NewFoo()", "Made", "NewFoo"),
        ("pub static A: &Foo = Foo::new()", "A", "&Foo"),
        ("const MAX = 3", "MAX", ""),
    ],
)
def test_constant_types(signature: str, name: str, expect: str) -> None:
    assert constant_type(signature, name) == expect


def test_an_edited_body_resolves_nobody_else(world: Any) -> None:
    project(world, {"b.py": "def load():\n    return 1\n", "a.py": "from b import load\ndef f():\n    load()\n"})
    world.resolved.clear()
    project(world, {"b.py": "def load():\n    return other()\n"})
    assert world.resolved == ["b.py"]


def test_fault_44_cycles_and_hubs(world: Any) -> None:
    files = {
        "a.py": "from b import *\nfrom c import C\nclass A(C): pass\ndef f(): missing()\n",
        "b.py": "from a import *\nfrom c import *\n",
        "c.py": "from a import A\nfrom b import *\nclass C(A):\n    def m(self): self.nothing()\ndef missing(): pass\n",
    }
    project(world, files)
    assert world.edges() == {
        "a.py:A -> c.py:C inherit critical",
        "c.py:C -> a.py:A inherit critical",
        "a.py:f -> c.py:missing call strong",
    }
    assert world.mentions() == {"c.py:C.m ? nothing call"}
