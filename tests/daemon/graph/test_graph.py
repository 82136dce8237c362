"""Walks over the graph: levels, strengths, names in common, cycles, hubs and limits."""

from __future__ import annotations

from typing import Any

import pytest

from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.graph import graph
from codegraphd.store.records import Strength


class GraphView:
    """The read methods that a walk uses, over a resolved world."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.out = {s: edges for r in world.resolutions.values() for s, edges in r.edges.items()}
        self.mentioned = {s: found for r in world.resolutions.values() for s, found in r.mentions.items()}
        self.n_read = 0

    def unit(self, id: int) -> Any:
        self.n_read += 1
        return self.world.unit(id)

    def edges_out(self, id: int) -> Any:
        return self.out.get(id, ())

    def edges_in(self, id: int) -> Any:
        return tuple(sorted((s, e.kind, e.strength) for s, edges in self.out.items() for e in edges if e.target == id))

    def mentioned_by(self, id: int) -> Any:
        return self.mentioned.get(id, ())

    def mentions(self, root: int, family: str, name: str) -> Any:
        return tuple(sorted(s for s, found in self.mentioned.items() if any(m[:2] == (family, name) for m in found)))

    def named(self, root: int, name: str) -> Any:
        return tuple(sorted(id for id, record in self.world._units.items() if record.unit.name == name))


def view_of(make: Any, files: dict[str, str]) -> GraphView:
    world = make.World()
    for path, text in files.items():
        world.put_module(path, parse(path, text.encode()), resolving=False)
    world.resolve_all()
    return GraphView(world)


def ids(view: GraphView, *labels: str) -> list[int]:
    found = {view.world.label(id): id for id in view.world._units}
    return [found[label] for label in labels]


def check(view: GraphView, direction: str, start: str, expect: list[str], depth: int = 3, limit: int = 100) -> bool:
    """`expect` in order: "depth label kind strength". -> truncated."""
    walk = graph.dependents if direction == "in" else graph.dependencies
    found, truncated = walk(view, ids(view, start), depth, limit)
    assert [
        f"{r.depth} {view.world.label(r.unit)} {r.kind} {Strength(r.strength).name.lower()}" for r in found
    ] == expect
    return truncated


CHAIN = {
    "a.py": "def a(): pass\n",
    "b.py": "from a import a\ndef b(): a()\n",
    "c.py": "from b import b\nclass Cat:\n    def c(self): b()\n",
    "d.py": "from c import Cat\nclass D(Cat): pass\ndef d(x: Cat): pass\n",
}


def test_dependents_go_level_by_level(make: Any) -> None:
    view = view_of(make, CHAIN)
    check(view, "in", "a.py:a", ["1 b.py:b call strong", "2 c.py:Cat.c call strong"])
    check(view, "in", "a.py:a", ["1 b.py:b call strong"], depth=1)


def test_dependencies_go_the_other_way(make: Any) -> None:
    view = view_of(make, CHAIN)
    check(view, "out", "c.py:Cat.c", ["1 b.py:b call strong", "2 a.py:a call strong"])


def test_the_strongest_comes_first(make: Any) -> None:
    view = view_of(make, CHAIN)
    check(view, "in", "c.py:Cat", ["1 d.py:D inherit critical", "1 d.py:d type strong"])


def test_names_in_common_are_medium_when_single_and_weak_when_several(make: Any) -> None:
    files = {
        "a.py": "class A:\n    def only(self): pass\n    def both(self): pass\n",
        "b.py": "class B:\n    def both(self): pass\ndef top(x):\n    x.only()\n    x.both()\n",
        "c.js": "export function only() {}\n",
        "d.py": "from b import top\ndef d(): top()\n",
    }
    view = view_of(make, files)
    check(view, "in", "a.py:A.only", ["1 b.py:top call medium", "2 d.py:d call strong"])
    check(view, "in", "a.py:A.both", ["1 b.py:top call weak"])  # and no further
    check(
        view,
        "out",
        "b.py:top",
        ["1 a.py:A.only call medium", "1 a.py:A.both call weak", "1 b.py:B.both call weak"],
    )
    check(view, "in", "c.js:only", [])


def test_a_name_means_only_units_that_its_use_fits(make: Any) -> None:
    files = {"a.py": "class Config: pass\n", "b.py": "def f(x):\n    x.Config\n    x.load()\n", "c.py": "load = 3\n"}
    view = view_of(make, files)
    check(view, "in", "a.py:Config", [])


def test_fault_44_cycles_are_visited_once(make: Any) -> None:
    files = {"a.py": "from b import b\ndef a(): b()\n", "b.py": "from a import a\ndef b(): a()\n"}
    view = view_of(make, files)
    check(view, "in", "a.py:a", ["1 b.py:b call strong"], depth=50)


def test_fault_44_hubs_are_cut_at_the_limit_and_say_so(make: Any) -> None:
    users = "".join(f"def user_{n:03}(x): x.get()\n" for n in range(300))
    view = view_of(make, {"a.py": f"class A:\n    def get(self): pass\n{users}"})
    found, truncated = graph.dependents(view, ids(view, "a.py:A.get"), 3, 50)
    assert (len(found), truncated) == (50, True)
    assert view.world.label(found[0].unit) == "a.py:user_000"
    assert view.n_read < 200
    found, truncated = graph.dependents(view, ids(view, "a.py:A.get"), 3, 300)
    assert (len(found), truncated) == (300, False)


def test_neighbourhood_is_a_digraph_of_what_is_reached(make: Any) -> None:
    view = view_of(make, CHAIN)
    found, truncated = graph.neighbourhood(view, ids(view, "a.py:a"), "in", 3, 100, weak=False)
    label = view.world.label
    assert {(label(s), label(t), e["kind"]) for s, t, e in found.edges(data=True)} == {
        ("b.py:b", "a.py:a", "call"),
        ("c.py:Cat.c", "b.py:b", "call"),
    }
    assert {label(n): d for n, d in found.nodes(data="depth")} == {"a.py:a": 0, "b.py:b": 1, "c.py:Cat.c": 2}
    assert not truncated


@pytest.mark.parametrize("weak", [False, True])
def test_neighbourhood_without_names_has_stored_edges_alone(make: Any, weak: bool) -> None:
    view = view_of(make, {"a.py": "class A:\n    def only(self): pass\ndef f(x): x.only()\n"})
    found, _ = graph.neighbourhood(view, ids(view, "a.py:A.only"), "in", 3, 100, weak=weak)
    assert found.number_of_edges() == weak


def test_a_declaration_stands_for_its_definition(make: Any) -> None:
    files = {
        "tool.h": "int run(int x);\n",
        "tool.c": '#include "tool.h"\nint deep(void) { return 1; }\nint run(int x) { return deep(); }\n',
        "main.c": '#include "tool.h"\nint main(void) { return run(1); }\n',
    }
    view = view_of(make, files)
    check(view, "in", "tool.c:run", ["1 tool.h:run declare critical", "1 main.c:main call strong"])
    check(
        view,
        "out",
        "main.c:main",
        ["1 tool.c:run declare critical", "1 tool.h:run call strong", "2 tool.c:deep call strong"],
    )


SHAPES = {
    "Shape.java": "package s;\npublic interface Shape { int area(); }\n",
    "Round.java": "package s;\npublic class Round implements Shape { public int area() { return 3; } }\n",
    "User.java": "package s;\npublic class User {\n  int of(Shape shape) { return shape.area(); }\n"
    "  int all(Shape shape) { return of(shape); }\n}\n",
}


def test_a_call_through_the_only_abstraction_is_a_medium_dependent_of_what_implements_it(make: Any) -> None:
    view = view_of(make, SHAPES)
    check(
        view,
        "in",
        "Round.java:Round.area",
        ["1 User.java:User.of call medium", "2 User.java:User.all call strong"],
    )
    check(
        view,
        "out",
        "User.java:User.of",
        [
            "1 Shape.java:Shape type strong",
            "1 Shape.java:Shape.area call strong",
            "1 Round.java:Round.area call medium",
        ],
    )


def test_a_call_through_a_base_with_several_overrides_is_a_weak_dependent_of_each(make: Any) -> None:
    square = "package s;\npublic class Square implements Shape { public int area() { return 4; } }\n"
    view = view_of(make, {**SHAPES, "Square.java": square})
    for name in ("Round", "Square"):
        check(view, "in", f"{name}.java:{name}.area", ["1 User.java:User.of call weak"])  # and no further
    check(
        view,
        "in",
        "Shape.java:Shape.area",
        ["1 User.java:User.of call strong", "2 User.java:User.all call strong"],
    )


def test_an_override_counts_through_classes_between_and_a_base_with_a_body_makes_it_weak(make: Any) -> None:
    files = {
        "a.py": "class A:\n    def run(self): pass\n    def other(self): pass\nclass B(A): pass\n",
        "c.py": "from a import B\nclass C(B):\n    def run(self): pass\n",
        "d.py": "from a import A\ndef use(x: A):\n    x.run()\ndef not_it(x: A):\n    x.other()\n",
    }
    check(view_of(make, files), "in", "c.py:C.run", ["1 d.py:use call weak"])


def test_calls_through_a_base_are_no_part_of_the_graph_of_stored_edges(make: Any) -> None:
    view = view_of(make, SHAPES)
    found, _ = graph.neighbourhood(view, ids(view, "Round.java:Round.area"), "in", 3, 100, weak=False)
    assert found.number_of_edges() == 0


@pytest.mark.parametrize(
    ("files", "method", "expect"),
    [
        (
            {
                "s.h": "class Shape { public: virtual int area() = 0; };\n"
                "class Round : public Shape { public: int area() override; };\n",
                "s.cc": '#include "s.h"\nint Round::area() { return 3; }\n',
                "u.cc": '#include "s.h"\nint of(Shape* shape) { return shape->area(); }\n',
            },
            "s.cc:Round.area",
            ["1 s.h:Round.area declare critical", "1 u.cc:of call medium"],
        ),
        (
            {
                "s.cs": "interface IShape { int Area(); }\nclass Round : IShape { public int Area() => 3; }\n",
                "u.cs": "class User { int Of(IShape shape) => shape.Area(); }\n",
            },
            "s.cs:Round.Area",
            ["1 u.cs:User.Of call medium"],
        ),
        (
            {
                "s.ts": "export abstract class Shape { abstract area(): number }\n"
                "export class Round extends Shape { area(): number { return 3 } }\n",
                "u.ts": "import { Shape } from './s'\nexport function of(shape: Shape) { return shape.area() }\n",
            },
            "s.ts:Round.area",
            ["1 u.ts:of call medium"],
        ),
        (
            {
                "Cargo.toml": '[package]\nname = "s"\n',
                "src/lib.rs": "pub trait Shape { fn area(&self) -> i32; }\nstruct Round;\n"
                "impl Shape for Round { fn area(&self) -> i32 { 3 } }\n"
                "fn of(shape: &dyn Shape) -> i32 { shape.area() }\n",
            },
            "src/lib.rs:Round.area",
            ["1 src/lib.rs:of call medium"],
        ),
    ],
    ids=["cpp", "csharp", "typescript", "rust"],
)
def test_calls_through_a_base_in_each_language(
    make: Any, files: dict[str, str], method: str, expect: list[str]
) -> None:
    check(view_of(make, files), "in", method, expect)
