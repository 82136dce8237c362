"""Project files, read as text: what they say about names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.graph.projects import is_project, project_bindings, project_of

NAMES = [
    "package.json",
    "tsconfig.json",
    "tsconfig.app.json",
    "jsconfig.json",
    "go.mod",
    "Cargo.toml",
    "pyproject.toml",
    "pom.xml",
    "App.csproj",
]


def check(path: str, text: str, expect: set[tuple[str, str, str]]) -> None:
    """`expect`: (sort, name, value) of the entries, empty values aside."""
    project = project_of(path, project_bindings(path, text.encode()))
    assert {entry for entry in project.entries if entry[2]} == expect


def test_package_json() -> None:
    text = {
        "name": "@x/core",
        "main": "./dist/index.js",
        "types": "./dist/index.d.ts",
        "exports": {".": {"import": "./dist/index.mjs", "require": ["./dist/index.cjs"]}, "./*": "./src/*.ts"},
        "imports": {"#util": "./src/util.ts"},
    }
    check(
        "packages/core/package.json",
        json.dumps(text),
        {
            ("name", "", "@x/core"),
            ("main", "", "./dist/index.js"),
            ("main", "", "./dist/index.d.ts"),
            ("exports", ".", "./dist/index.mjs"),
            ("exports", ".", "./dist/index.cjs"),
            ("exports", "./*", "./src/*.ts"),
            ("imports", "#util", "./src/util.ts"),
        },
    )
    check("package.json", '{"exports": "./a.js"}', {("exports", ".", "./a.js")})
    check("package.json", '{"exports": {"import": "./a.js"}}', {("exports", ".", "./a.js")})


def test_tsconfig_has_comments_and_trailing_commas() -> None:
    text = """{
      "extends": ["./base.json"], /* the rest // is ours */
      "compilerOptions": {
        "baseUrl": "src", // not "lib"
        "paths": { "@/*": ["app/*", "gen/*",], "url": ["http://x/*no comment*/"] },
      },
      "references": [{ "path": "./app" }],
    }"""
    expect = {
        ("extends", "", "./base.json"),
        ("baseUrl", "", "src"),
        ("paths", "@/*", "app/*"),
        ("paths", "@/*", "gen/*"),
        ("paths", "url", "http://x/*no comment*/"),
        ("references", "", "./app"),
    }
    check("tsconfig.json", text, expect)
    check("a/tsconfig.build.json", text, expect)


def test_go_mod() -> None:
    text = """// comment
module example.com/tool // indirect

go 1.22

require example.com/x v1.2.3

replace example.com/x => ../x
replace (
	example.com/y v1.0.0 => ./y
	example.com/z => example.com/other v1.0.0
)
"""
    expect = {
        ("name", "", "example.com/tool"),
        ("replace", "example.com/x", "../x"),
        ("replace", "example.com/y", "./y"),
    }
    check("go.mod", text, expect)


def test_cargo_toml() -> None:
    text = """
[package]
name = "my-tool"
[lib]
path = "lib/root.rs"
[dependencies]
serde = "1"
my-core = { path = "../core" }
renamed = { path = "../other", package = "other-crate" }
[target.'cfg(unix)'.dependencies]
nix = { package = "nix-fork", version = "1" }
[[bin]]
name = "tool"
path = "cmd/tool.rs"
"""
    expect = {
        ("name", "", "my-tool"),
        ("lib", "", "lib/root.rs"),
        ("dependency path", "my_core", "../core"),
        ("dependency path", "renamed", "../other"),
        ("dependency", "renamed", "other-crate"),
        ("dependency", "nix", "nix-fork"),
        ("root", "", "cmd/tool.rs"),
    }
    check("Cargo.toml", text, expect)
    project = project_of("Cargo.toml", project_bindings("Cargo.toml", text.encode()))
    assert [name for name, _ in project.all("dependency")] == ["serde", "my_core", "renamed", "nix"]


def test_pyproject_toml() -> None:
    check(
        "pyproject.toml",
        "[project]\nname = 'dist'\n[tool.setuptools]\npackage-dir = {'' = 'src'}\npackages.find.where = ['lib']",
        {("name", "", "dist"), ("package", "", "src"), ("package", "", "lib")},
    )
    check(
        "pyproject.toml",
        "[tool.poetry]\nname = 'dist'\npackages = [{include = 'a', from = 'py'}, {include = 'b'}]",
        {("name", "", "dist"), ("package", "", "py")},
    )


@pytest.mark.parametrize("name", NAMES)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="{}[]\"'=,:#\n ab.*/", max_size=80).map(str.encode)))
def test_half_typed_files_say_nothing_and_never_raise(name: str, source: bytes) -> None:
    assert isinstance(project_bindings(name, source), tuple)


@pytest.mark.parametrize("name", ["package.json", "tsconfig.json"])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "exports", "main", "compilerOptions", "paths", "extends", "references", "."]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_values_of_any_type_never_raise(name: str, value: object) -> None:
    for binding in project_bindings(name, json.dumps(value).encode()):
        assert isinstance(binding.local + binding.module + binding.member, str)


def test_csproj() -> None:
    text = """<Project>
      <!-- <Using Include="Gone" /> -->
      <Using Include="A.B" /> <Using Static='true' Include='A.C'/> <Using Remove="A.D" />
      <ProjectReference Condition="x" Include="..\\Lib\\Lib.csproj" />
    </Project>"""
    expect = {("using", "", "A.B"), ("using", "", "A.C"), ("reference", "", "../Lib/Lib.csproj")}
    check("app/App.csproj", text, expect)
    check("Directory.Build.props", text, expect)


def test_pom() -> None:
    text = """<project><!-- <artifactId>gone</artifactId> -->
      <parent><groupId>a</groupId><artifactId>parent</artifactId></parent>
      <build><plugins><plugin><artifactId>plugin</artifactId></plugin></plugins></build>
      <artifactId> core </artifactId>
      <dependencies>
        <dependency><groupId>a</groupId><artifactId>api</artifactId></dependency>
        <dependency><artifactId>junit</artifactId><scope>test</scope></dependency>
      </dependencies></project>"""
    check("core/pom.xml", text, {("name", "", "core"), ("dependency", "", "api"), ("dependency", "", "junit")})


def test_other_files_are_none() -> None:
    assert not is_project("package-lock.json")
    assert not is_project("src/main.rs")
    assert project_bindings("src/main.rs", b"x") == ()
    assert is_project("deep/down/tsconfig.lib.json")
