"""Resolving only what waits on a touched key gives what resolving everything gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.graph.projects import project_bindings

KINDS = {"rust": ["struct", "impl", "trait", "module"], "cpp": ["class", "namespace"], "csharp": ["class", "namespace"]}
NAMES = ["A", "B", "f", "g"]
SCOPES = ["", "", "", "self", "A", "B", "f", "m.g", "m", "n.A", "super"]

# language -> paths, specifiers, members, packages: small pools, so that names meet often.
POOLS: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {
    "python": (
        ["m.py", "n.py", "p/__init__.py", "p/m.py", "p/q/__init__.py", "p/q/n.py", "src/p/m.py", "src/n.py"],
        ["m", "n", "p", "p.m", "p.q", "p.q.n", ".", ".m", "..", "..m", ".q", "json"],
        ["", "A", "f", "m", "n", "*"],
        [""],
    ),
    "typescript": (
        ["m.ts", "n.js", "p/index.ts", "p/m.tsx", "p/n.ts", "packages/q/src/index.ts", "packages/q/m.d.ts"],
        ["./m", "./n.js", "./p", "../m", ".", "@p/m", "q", "q/m", "", "lib"],
        ["", "A", "f", "default", "*", "n"],
        [""],
    ),
    "java": (
        ["a/A.java", "a/B.java", "b/A.java", "b/B.java"],
        ["a", "b", "a.A", "a.B", "java.util", "a.A.B"],
        ["", "A", "B", "f", "*"],
        ["a", "b", ""],
    ),
    "csharp": (
        ["A.cs", "B.cs", "c/A.cs", "c/B.cs", "d/A.cs"],
        ["a", "a.b", "a.A", "System"],
        ["", "*", "A"],
        ["a", "a.b", ""],
    ),
    "go": (
        ["m/a.go", "m/b.go", "m/a_test.go", "x/n/a.go", "x/n/b.go"],
        ["x.io/r/m", "x.io/r/n", "n", "m", "fmt", "./n"],
        ["", "", "*"],
        ["m", "n", "m_test"],
    ),
    "rust": (
        ["src/lib.rs", "src/main.rs", "src/m.rs", "src/n/mod.rs", "src/n/m.rs", "k/src/lib.rs", "k/src/m.rs"],
        ["crate", "crate::m", "super", "self::m", "k", "k::m", "crate::n::m", "std::io", "super::super", "m"],
        ["", "A", "f", "m", "*"],
        [""],
    ),
    "cpp": (
        ["m.h", "m.cpp", "n.h", "p/m.h", "p/n.cpp", "include/p/m.h"],
        ["m.h", "n.h", "p/m.h", "../m.h", "vector", "./n.h"],
        ["", "", "*"],
        [""],
    ),
}  # fmt: skip

PROJECTS: dict[str, dict[str, list[str]]] = {
    "csharp": {
        "c/c.csproj": [
            "<Using Include='a.b' />",
            "<Using Include='a.A' Static='true' /><Using Include='a' />",
            "<ProjectReference Include='../d/d.csproj' />",
        ],
        "d/d.csproj": ["<Project />"],
    },
    "java": {
        "a/pom.xml": ["<artifactId>a</artifactId>", "<dependency><artifactId>b</artifactId></dependency>"],
        "b/pom.xml": ["<artifactId>b</artifactId>", "<dependency><artifactId>a</artifactId></dependency>"],
    },
    "go": {"go.mod": ["module x.io/r"], "x/go.mod": ["module x.io/r", "module n\nreplace x.io/r => ../"]},
    "rust": {
        "Cargo.toml": ["[package]\nname='k'", "[package]\nname='r'\n[dependencies]\nm={path='k', package='k'}"],
        "k/Cargo.toml": ["[package]\nname='k'\n[lib]\npath='src/m.rs'", "[package]\nname='m'"],
    },
    "python": {
        "pyproject.toml": ["[project]\nname='m'", "[project]\nname='p'\n[tool.setuptools.package-dir]\np='src'"]
    },
    "typescript": {
        "tsconfig.json": [
            json.dumps({"compilerOptions": {"baseUrl": ".", "paths": {"@p/*": ["p/*"]}}}),
            json.dumps({"extends": "./packages/tsconfig.json", "compilerOptions": {"paths": {"@p/*": ["packages/*"]}}}),
        ],
        "packages/tsconfig.json": [json.dumps({"compilerOptions": {"paths": {"q": ["q/src"]}}})],
        "packages/q/package.json": [
            json.dumps({"name": "q", "main": "dist/index.js"}),
            json.dumps({"name": "lib", "exports": {".": "./m.d.ts"}}),
        ],
    },
}


@st.composite
def contents(draw: st.DrawFn, language: str, make: Any) -> dict[str, Any]:
    _, modules, members, packages = POOLS[language]
    units = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)):
        if name.isupper():
            bases = draw(st.lists(st.sampled_from(["A", "B", "m.A", "n"]), max_size=2, unique=True))
            kind = draw(st.sampled_from(KINDS.get(language, ["class", "interface"])))
            signature = draw(st.sampled_from(["", f"partial class {name}", f"class {name}<T> : A<int>"]))
            units.append(make.unit(kind, name, bases=bases, signature=signature))
            parent = len(units) - 1
            methods = draw(st.lists(st.sampled_from(["f", "g", "A"]), max_size=2, unique=True))
            units += [
                make.unit("method", f"{name}.{method}", parent, flags=draw(st.sampled_from([0, make.Flag.DECLARATION])))
                for method in methods
            ]
        else:
            flags = draw(st.sampled_from([0, make.Flag.DECLARATION, make.Flag.STATIC]))
            signature = draw(st.sampled_from(["", "export default function"]))
            if draw(st.booleans()):
                units.append(make.unit("function", name, signature=signature, flags=flags))
            else:
                shown = draw(st.sampled_from([f"{name} = m.A()", f"{name}: B", f"{name} = new A()", f"{name} = 1"]))
                units.append(make.unit("constant", name, signature=shown))
    place = st.integers(-1, len(units) - 1)
    references = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["call", "type", "inherit", "decorate"]))
        scope = draw(st.sampled_from(SCOPES))
        text = f"{scope}.{draw(st.sampled_from(NAMES))}" if scope else draw(st.sampled_from(NAMES))
        receiver = draw(st.sampled_from(["", "", "A", "m.B", "A<>", "<>"]))
        references.append(make.ref(draw(place), text, kind, receiver, draw(st.integers(1, 9))))
    bindings = []
    for _ in range(draw(st.integers(0, 3))):
        member = draw(st.sampled_from(members))
        local = "*" if member == "*" else draw(st.sampled_from(["A", "B", "f", "m", "n"]))
        source = draw(place) if draw(st.booleans()) else -1
        module = draw(st.sampled_from(modules))
        bindings.append(make.bind(local, module, member, source, exported=draw(st.booleans())))
    return {
        "units": units,
        "references": references,
        "bindings": bindings,
        "package": draw(st.sampled_from(packages)),
    }


@st.composite
def edits(draw: st.DrawFn, language: str, make: Any) -> tuple[Any, ...]:
    """One edit; those of files that are not there are skipped."""
    paths = POOLS[language][0]
    path = draw(st.sampled_from(paths))
    action = draw(st.sampled_from(["put", "put", "put", "put", "project", "remove", "move"]))
    projects = PROJECTS.get(language)
    if action == "project" and projects:
        path = draw(st.sampled_from(sorted(projects)))
        return "project", path, draw(st.sampled_from(["", *projects[path]]))
    if action == "move":
        return action, path, draw(st.sampled_from(paths))
    if action == "remove":
        return action, path
    return "put", path, draw(contents(language, make))


def apply(world: Any, language: str, edit: tuple[Any, ...]) -> None:
    match edit:
        case ("put", path, content):
            world.put(path, language, **content)
        case ("project", path, ""):
            if path in world._paths:
                world.remove(path)
        case ("project", path, text):
            world.put(path, "text", bindings=project_bindings(path, text.encode()))
        case ("remove", path) if path in world._paths:
            world.remove(path)
        case ("move", path, to) if path in world._paths and to not in world._paths:
            world.move(path, to)


@pytest.mark.parametrize("language", sorted(POOLS))
def test_incremental_equals_fresh(language: str, make: Any) -> None:
    @settings(max_examples=120, deadline=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        world = make.World()
        for path in POOLS[language][0]:
            if data.draw(st.booleans()):
                world.put(path, language, **data.draw(contents(language, make)))
        for edit in data.draw(st.lists(edits(language, make), min_size=1, max_size=5)):
            apply(world, language, edit)
            assert world.everything() == world.fresh().everything()

    run()
