"""Storms: any sequence of edits, moves, ignores, kills and restarts, in a real directory under a real daemon.

    python -m bench.storm --minutes 30 --seed 7
    python -m bench.storm --replay storm-7-12.json

After each burst of operations the index must equal one built from scratch, its relations must be whole, and at every
few bursts each unit's vector must be that of its text (`bench.storm_world.World.check`). The projects are small and
dense on purpose: few names and paths, so that definitions appear, vanish, shadow and move all the time. `make test` has
a short share of this (`tests/daemon/life/test_storm.py`). A storm that finds something writes its history, cuts it
down to what still shows the fault, and prints how to replay it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from bench.home import Home
from bench.storm_world import CONFIG, EDITS, Operation, World

# --- what is written -------------------------------------------------------------------------------------------------

PYTHON = ("a.py", "b.py", "pkg/__init__.py", "pkg/a.py", "pkg/c.py", "lib/pkg/a.py", "venv/__init__.py", "venv/a.py")
SCRIPT = ("web/app.ts", "web/util.ts", "web/index.js", "web/ui/view.tsx")
GO = ("srv/main.go", "srv/util.go", "srv/sub/util.go")
RUST = ("src/lib.rs", "src/a.rs", "src/a/mod.rs", "target/a.rs")
JAVA = ("j/Base.java", "j/Kid.java", "j/sub/F.java")
C = ("c/a.h", "c/a.cpp", "c/b.c")
CSHARP = ("n/Base.cs", "n/Kid.cs")
TEXT = ("README.md", "pkg/notes.md", "plain.txt", "caf\udce9.md")
DIRECTORIES = (
    "pkg",
    "lib",
    "lib/pkg",
    "web",
    "web/ui",
    "srv",
    "srv/sub",
    "src",
    "j",
    "c",
    "n",
    "new",
    "target",
    "venv",
)
FILES = (*PYTHON, *SCRIPT, *GO, *RUST, *JAVA, *C, *CSHARP, *TEXT)
DOTTED = ("a", "b", "pkg", "pkg.a", "pkg.c", ".a", ".")

name = st.sampled_from(("f", "g", "Base", "Kid"))
small = st.sampled_from(("f", "g"))
big = st.sampled_from(("Base", "Kid"))
number = st.integers(0, 2)
doc = st.sampled_from(("One.", "Two."))


def _filled(text: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.fixed_dictionaries(parts).map(lambda chosen: text % chosen)


def _source(pieces: st.SearchStrategy[str], head: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    return st.builds(
        lambda above, blocks: "\n".join([*above, *blocks]) + "\n",
        st.lists(head, max_size=3) if head is not None else st.just([]),
        st.lists(pieces, min_size=0, max_size=4),
    )


_python = _source(
    _filled('def %(f)s(x):\n    """%(doc)s"""\n    return %(g)s(%(n)s)', f=small, g=name, n=number, doc=doc)
    | _filled("class %(c)s(%(b)s):\n    def %(m)s(self, x):\n        return %(g)s(%(n)s)", c=big,
              b=st.sampled_from(("", "Base", "Kid", "a.Base")), m=small, g=name, n=number)
    | _filled("table%(n)s = [" + "1, " * 40 + "%(n)s]", n=number),
    _filled("from %(m)s import %(n)s", m=st.sampled_from(DOTTED), n=st.sampled_from(("f", "g", "Base", "Kid", "*")))
    | _filled("import %(m)s", m=st.sampled_from(DOTTED[:5])),
)  # fmt: skip
_script = _source(
    _filled("/** %(doc)s */\nexport function %(f)s(x) { return %(g)s(%(n)s) }", f=small, g=name, n=number, doc=doc)
    | _filled("export class %(c)s extends %(b)s { %(m)s(x) { return this.%(g)s(%(n)s) } }", c=big, b=big, m=small,
              g=small, n=number),
    _filled('%(w)s { %(n)s } from "%(m)s"', w=st.sampled_from(("import", "export")), n=name,
            m=st.sampled_from(("./util", "./app", "./ui/view", "@lib/util", "."))),
)  # fmt: skip
_go = _source(
    _filled("func %(f)s(x int) int { return %(g)s(%(n)s) }", f=small, g=small, n=number)
    | _filled("type %(c)s struct { %(b)s }", c=big, b=big)
    | _filled("func (b *%(c)s) %(f)s(x int) int { return %(g)s(%(n)s) }", c=big, f=small, g=small, n=number),
    st.sampled_from(("package srv\n", 'package main\nimport "example.com/p/srv/sub"\n')),
)
_rust = _source(
    _filled("/// %(doc)s\npub fn %(f)s(x: i32) -> i32 { %(g)s(%(n)s) }", f=small, g=small, n=number, doc=doc)
    | _filled("pub struct %(c)s { x: i32 }\nimpl %(b)s { fn %(f)s(x: i32) -> i32 { %(n)s } }", c=big, b=big, f=small,
              n=number),
    _filled("%(w)s;", w=st.sampled_from(("mod a", "use crate::a::f", "use crate::a::*", "pub use a::Base"))),
)  # fmt: skip
_java = _source(
    _filled("class %(c)s extends %(b)s { int %(f)s(int x) { return %(g)s(%(n)s); } }", c=big, b=big, f=small, g=small,
            n=number),
    _filled("%(w)s;", w=st.sampled_from(("package j", "package j.sub", "import j.Base", "import j.*"))),
)  # fmt: skip
_c = _source(
    _filled("int %(f)s(int x) { return %(g)s(%(n)s); }", f=small, g=small, n=number)
    | _filled("int %(f)s(int x);", f=small)
    | _filled("struct %(c)s { int %(f)s(int x); };", c=big, f=small),
    st.sampled_from(('#include "a.h"', "#ifdef X\n#define f(x) g(x)\n#endif", "namespace n {")),
)
_csharp = _source(
    _filled("class %(c)s : %(b)s { int %(f)s(int x) { return %(g)s(%(n)s); } }", c=big, b=big, f=small, g=small,
            n=number),
    st.sampled_from(("using N;", "namespace N;", "global using N;")),
)  # fmt: skip
_text = _source(_filled("# %(c)s\n\nThe `%(f)s` of %(n)s. %(doc)s", c=big, f=small, n=number, doc=doc))
_ignore = st.lists(
    st.sampled_from(("pkg/", "*.ts", "/a.py", "!pkg/a.py", "sub", "web/*", "!web/app.ts", "**/util.*", "c", "")),
    max_size=3,
).map(lambda lines: "\n".join(lines) + "\n")
_project = st.sampled_from(
    (
        ("pyproject.toml", '[project]\nname = "pkg"\n[tool.setuptools]\npackage-dir = {"" = "lib"}\n'),
        ("pyproject.toml", '[project]\nname = "other"\n'),
        ("tsconfig.json", '{"compilerOptions": {"baseUrl": ".", "paths": {"@lib/*": ["web/*"]}}}'),
        ("web/tsconfig.json", '{"compilerOptions": {"paths": {"@lib/*": ["./ui/*"]}}}'),
        ("web/package.json", '{"name": "web", "main": "app.ts"}'),
        ("go.mod", "module example.com/p\n"),
        ("srv/go.mod", "module example.com/q\n"),
        ("Cargo.toml", '[package]\nname = "p"\n'),
        ("n/N.csproj", "<Project><PropertyGroup><RootNamespace>N</RootNamespace></PropertyGroup></Project>"),
        ("lib/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("lib/.git/HEAD", "ref: refs/heads/main\n"),
        (".git/info/exclude", "b.py\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
    )
)

files = st.sampled_from(FILES)
directories = st.sampled_from(DIRECTORIES)
places = files | directories


def _written(paths: tuple[str, ...], sources: st.SearchStrategy[str]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.sampled_from(("write", "write", "save")), st.sampled_from(paths), sources)


writes = st.one_of(
    _written(PYTHON, _python), _written(PYTHON, _python), _written(SCRIPT, _script), _written(GO, _go),
    _written(RUST, _rust), _written(JAVA, _java), _written(C, _c), _written(CSHARP, _csharp), _written(TEXT, _text),
)  # fmt: skip
edits = st.tuples(st.just("edit"), files, st.sampled_from(tuple(EDITS)))
moves = st.one_of(
    st.tuples(st.sampled_from(("move", "swap", "copy")), files, files),
    st.tuples(st.sampled_from(("move", "swap", "copy", "move")), directories, directories),
    st.tuples(st.sampled_from(("case", "delete")), places),
    st.tuples(st.just("move"), files, st.sampled_from(("a.pyi", "web/app.js", "c/a.hpp", "deep/er/x.py", "pkg/a"))),
)
rules = st.one_of(
    st.tuples(st.just("write"), st.sampled_from((".gitignore", "pkg/.gitignore", "web/.gitignore")), _ignore),
    st.tuples(st.just("delete"), st.sampled_from((".gitignore", "web/.gitignore", "lib/CACHEDIR.TAG", "lib/.git"))),
    _project.map(lambda chosen: ("write", *chosen)),
    _project.map(lambda chosen: ("delete", chosen[0])),
)
odd = st.one_of(
    st.tuples(st.sampled_from(("symlink", "hardlink")), places, files),
    st.tuples(st.just("touch"), files),
    st.tuples(st.just("fifo"), files),
    st.tuples(st.just("mkdir"), places),
)
flips = st.tuples(
    st.just("flip"), st.sampled_from((".", "web", "pkg")), st.sampled_from(("body", "double", "break", "doc")),
    st.sampled_from(("0", "5", "40")),
)  # fmt: skip
pauses = st.tuples(st.just("wait"), st.sampled_from(("1", "10", "35", "60")))
operations = st.one_of(writes, edits, edits, edits, moves, moves, rules, odd, flips, pauses)
bursts = st.lists(operations, min_size=1, max_size=6)

TROUBLES = (
    ("kill", "daemon"), ("kill", "daemon"), ("stop",), ("kill", "parsers"), ("kill", "worker"), ("unwatch",),
    ("inner", "pkg"), ("inner", "web"), ("sync",), ("reindex",), ("gc",), ("ask", "f"), ("changed", "a.py"),
    ("changed", "web"), ("configure", 'exclude = ["pkg/"]'), ("configure", 'languages = ["python", "go"]'),
    ("configure", "text_fallback = false"), ("configure", ""),
)  # fmt: skip


class Storm(RuleBasedStateMachine):
    """One workspace in a storm. `worlds` makes the world of the next run; `tally` counts what was done."""

    worlds: ClassVar[Callable[[], World]]
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).worlds()

    def teardown(self) -> None:
        self.world.close()

    def _burst(self, burst: list[Operation], *, semantic: bool = False) -> None:
        self.world.perform(burst)
        self.world.check(semantic=semantic)
        self.tally["operations"] += len(burst)
        self.tally["checks"] += 1
        self.tally["checks of vectors"] += semantic

    @initialize(first=st.lists(writes, max_size=8))
    def begin(self, first: list[Operation]) -> None:
        self._burst(first)

    @rule(burst=bursts)
    def change(self, burst: list[Operation]) -> None:
        self._burst(burst)

    @rule(burst=st.lists(edits | writes, min_size=1, max_size=6))
    def type(self, burst: list[Operation]) -> None:
        self._burst(burst)

    @rule(burst=st.lists(moves | rules, min_size=1, max_size=4))
    def rearrange(self, burst: list[Operation]) -> None:
        self._burst(burst)

    @rule(burst=bursts)
    def change_and_embed(self, burst: list[Operation]) -> None:
        self._burst(burst, semantic=True)

    @rule(
        before=bursts,
        trouble=st.sampled_from(TROUBLES),
        after=st.lists(operations, max_size=4),
        semantic=st.booleans(),
    )
    def trouble(self, before: list[Operation], trouble: Operation, after: list[Operation], semantic: bool) -> None:
        self.tally[" ".join(trouble)] += 1
        self._burst([*before, trouble, *after], semantic=semantic)


@dataclass
class Homes:
    """Worlds, one after the other under one daemon; after one that broke, under a new one."""

    directory: Path
    failure: tuple[Exception, list[list[Operation]]] | None = None  # the first of a run, with its history
    _home: Home | None = None
    _n: int = 0

    def __call__(self) -> World:
        self._n += 1
        if self._home is None:
            self._home = Home(self.directory / f"h{self._n}", CONFIG)
            self._home.start()
        return World(self._home, self.directory / f"w{self._n}" / "workspace")

    def broke(self, error: Exception, world: World) -> None:
        self.failure = self.failure or (error, list(world.history))
        self.close()

    def close(self) -> None:
        if self._home is not None:
            self._home.stop()
            self._home = None


def run(seed: int | None, n_examples: int, n_steps: int, homes: Homes) -> None:
    """Storms until one breaks something: then `homes.failure` says what. `seed` None: the same storms each time."""

    class Machine(Storm):
        worlds = homes

        def _burst(self, burst: list[Operation], *, semantic: bool = False) -> None:
            try:
                super()._burst(burst, semantic=semantic)
            except Exception as error:
                homes.broke(error, self.world)
                raise

    homes.failure = None
    chosen = settings(
        max_examples=n_examples,
        stateful_step_count=n_steps,
        deadline=None,
        database=None,
        derandomize=seed is None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),  # a storm that depends on the moment cannot be shrunk: `cut_down` has patience
        print_blob=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            run_state_machine_as_test(Machine if seed is None else hypothesis.seed(seed)(Machine), settings=chosen)
        except Exception:
            if homes.failure is None:
                raise


def replay(history: list[list[Operation]], homes: Homes) -> str | None:
    """Perform a history again; -> what broke, or None."""
    world = homes()
    try:
        for burst in history:
            world.perform([tuple(operation) for operation in burst])
            world.check(semantic=True)
    except Exception as error:
        homes.broke(error, world)
        return f"{type(error).__name__}: {error}"
    finally:
        world.close()
    return None


def cut_down(history: list[list[Operation]], homes: Homes, until: float) -> list[list[Operation]]:
    """A shorter history that still breaks something, as far as the time goes."""

    def breaks(shorter: list[list[Operation]]) -> bool:
        return time.monotonic() < until and replay(shorter, homes) is not None

    for size in (8, 4, 2, 1):
        start = 0
        while start < len(history):
            shorter = history[:start] + history[start + size :]
            if breaks(shorter):
                history = shorter
            else:
                start += size
    for n, burst in enumerate(history):
        for operation in list(burst):
            shorter = [*history[:n], [o for o in history[n] if o is not operation], *history[n + 1 :]]
            if breaks(shorter):
                history = shorter
    return [burst for burst in history if burst]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first storm; each later one has the next")
    parser.add_argument("--steps", type=int, default=40, help="bursts in one storm")
    parser.add_argument("--replay", type=Path, help="perform the history in this file again")
    parser.add_argument("--cut", type=float, default=3.0, help="minutes for cutting a history down")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as directory:
        homes = Homes(Path(directory))
        try:
            if chosen.replay:
                found = replay(json.loads(chosen.replay.read_text()), homes)
                print(found or "nothing broke")
                return 1 if found else 0
            return _storms(chosen, homes)
        finally:
            homes.close()


def _storms(chosen: argparse.Namespace, homes: Homes) -> int:
    until = time.monotonic() + 60 * chosen.minutes
    n_broken = 0
    for seed in itertools.count(chosen.seed):
        if time.monotonic() >= until:
            break
        run(seed, 5, chosen.steps, homes)
        if homes.failure is not None:
            n_broken += 1
            error, history = homes.failure
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:1500]}", flush=True)
            path = Path(f"storm-{seed}.json")
            path.write_text(json.dumps(history))
            shorter = cut_down(history, homes, time.monotonic() + 60 * chosen.cut)
            path.write_text(json.dumps(shorter))
            n_operations = sum(map(len, shorter))
            print(f"  {path}: {n_operations} operations; python -m bench.storm --replay {path}", flush=True)
            for burst in shorter:
                print(f"    {burst}", flush=True)
        print(f"seed {seed}: {dict(Storm.tally)}", flush=True)
    print(f"{dict(Storm.tally)}; {n_broken} storms broke something")
    return 1 if n_broken else 0


if __name__ == "__main__":
    sys.exit(main())
