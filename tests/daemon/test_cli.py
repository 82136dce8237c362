"""The command line against a real server on a real socket, with a handler that answers from a script."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codegraphd.daemon.cli import main
from codegraphd.daemon.cli.installation import with_key
from codegraphd.daemon.cli.metrics import prometheus_text
from codegraphd.daemon.cli.show import duration, number, plain, size
from codegraphd.daemon.config import Limits
from codegraphd.ipc.errors import INTERNAL, NOT_FOUND, NOT_WATCHED, UNAVAILABLE, RequestError
from codegraphd.ipc.listen import open_listener
from codegraphd.ipc.lock import acquire_lock
from codegraphd.ipc.messages import Params, hello
from codegraphd.ipc.paths import Paths
from codegraphd.ipc.server import ClientContext, Server
from codegraphd.ipc.version import VERSION


def unit(path: str, line: int, name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "7", "root": "", "path": path, "language": "python", "kind": "function", "name": name, "qualname": name,
        "signature": f"def {name}()", "start_line": line, "end_line": line + 3, "doc": f"Does {name}.\nMore.", **more,
    }  # fmt: skip


@dataclass
class Scripted:
    """Answers like the daemon; remembers what it was asked."""

    roots: list[str] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    version: str = VERSION

    async def handle(self, method: str, params: Params, client: ClientContext) -> Any:
        given = msgspec.structs.asdict(params)
        self.asked.append((method, given))
        if method == "hello":
            return {**hello(), "version": self.version}
        if method == "status":
            return self.status()
        if given.get("root") and method != "watch":
            self._check(given["root"])
        answer = self.answers.get(method)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, RequestError):
            raise answer
        if answer is None:
            raise RequestError(INTERNAL, f"no answer for {method}")
        return answer

    def _check(self, path: str) -> None:
        if not any(path == root or path.startswith(root + "/") for root in self.roots):
            raise RequestError(NOT_WATCHED, f"{path} is in no watched workspace: codegraphd watch DIR")

    def status(self) -> dict[str, Any]:
        workspaces = [
            {
                "root": root, "state": "ready", "clock": "s:3", "files": 2, "units": 10, "edges": 4, "pending": 0,
                "progress": {"done": 10, "total": 10, "eta_s": None}, "languages": {"python": 2},
                "watch": {"backend": "inotify", "watches": 3, "overflows": 0, "rescans": 1},
                "last_change_s": 4.2, "skipped": {"too large": 1},
            }
            for root in self.roots
        ]  # fmt: skip
        return {
            "schema_version": 1,
            "daemon": {
                "version": self.version, "pid": os.getpid(), "uptime_s": 7200.0, "state": "ready",
                "problems": ["a \x1b problem"], "rss_bytes": 142_000_000,
                "cpu_percent": 0.1, "loop_lag_p99_ms": 1.25, "socket": "/s", "protocol": 1,
            },
            "model": {"name": "all-MiniLM-L6-v2", "dim": 384, "state": "ready", "embedded": 10, "device": "cpu",
                      "dtype": "bfloat16", "rss_bytes": 310_000_000, "units_per_s": 180.5},
            "cache": {"hits": 9, "misses": 1, "hit_rate": 0.9, "lookup_p50_us": 3.1, "evictions": 0, "entries": 10,
                      "bytes": 15_360},
            "store": {"bytes": 1_048_576, "map_bytes": 1 << 30, "vectors": 10, "bytes_per_vector": 392,
                      "precision": "int8", "pca": None, "index": {"kind": "exact", "elements": 10}},
            "queue": {"depth": 0, "oldest_s": 0, "embedding": 0},
            "invalidation": {"changes": 12, "content": 10, "symbol": 1, "semantic": 1, "project": 0, "early_cutoffs": 3,
                             "truncated": 0, "max_depth": 1},
            "ipc": {"clients": 1, "requests": 40, "errors": 1, "p50_ms": 4.2, "p95_ms": 11.0, "p99_ms": 20.0},
            "workspaces": workspaces,
        }  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (tmp_path / "ws" / "src").mkdir(parents=True)
    (tmp_path / "ws" / "src" / "a.py").write_text("def a(): pass\n")
    monkeypatch.setenv("CODEGRAPHD_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path / "ws")
    return home


@pytest.fixture
def daemon(home: Path, tmp_path: Path) -> Iterator[Scripted]:
    """A scripted daemon that watches `ws`, the directory that the commands run in."""
    script = Scripted(roots=[str(tmp_path / "ws")])
    paths = Paths.from_environment()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    lock = acquire_lock(paths)

    async def start() -> Server:
        server = Server(script, Limits())
        await server.start(open_listener(paths))
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    lock.record(server.address)
    yield script
    asyncio.run_coroutine_threadsafe(server.close(grace_s=0.1), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()
    lock.release()


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be."""
        found = json.loads(self.out)
        assert found["schema_version"] == 1
        return dict(found)


class Cli:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: str) -> Done:
        self._capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = self._capsys.readouterr()
        return Done(code, out, err)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def asked(daemon: Scripted, method: str) -> dict[str, Any]:
    """The parameters of the last request of a method that were given."""
    found = [params for name, params in daemon.asked if name == method]
    return {name: value for name, value in found[-1].items() if value is not None}


# --- without a daemon ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["metrics"], ["search", "--no-start", "x"]])
def test_no_daemon_is_exit_3(home: Path, cli: Cli, command: list[str]) -> None:
    done = cli(*command)
    assert (done.code, done.out) == (3, "")
    assert "codegraphd start" in done.err
    assert not (home / "state").exists()  # nothing was started, nothing was made


@pytest.mark.parametrize(
    "command",
    [
        [], ["nothing"], ["search"], ["search", "x", "-n", "0"], ["search", "x", "--mode", "deep"], ["similar"],
        ["similar", "a.py:1", "--threshold", "2"], ["dependents", "x", "--depth", "zero"], ["config", "edit"],
        ["similar", "no-line.py"], ["explain", "a.py"], ["similar", "-"], ["model", "use"], ["sync", "--timeout", "-1"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_2(home: Path, cli: Cli, command: list[str]) -> None:
    done = cli(*command)
    assert (done.code, done.out) == (2, "")
    assert "codegraphd" in done.err


def test_stop_succeeds_when_nothing_runs(home: Path, cli: Cli) -> None:
    assert cli("stop").code == 0
    assert cli("stop", "--json").document == {"schema_version": 1, "pid": None, "stopped": False}


def test_config(home: Path, cli: Cli) -> None:
    assert cli("config", "path", "--json").document["socket"] == str(home / "daemon.sock")
    assert str(home / "config.toml") in cli("config", "path").out
    assert cli("config", "check").code == 0
    (home / "config.toml").write_text("[limits]\nclients = 7\n")
    assert "clients = 7" in cli("config", "show").out
    assert cli("config", "--json").document["config"]["limits"]["clients"] == 7


@pytest.mark.parametrize("command", [["config", "check"], ["config"], ["run"], ["start"], ["model"], ["search", "x"]])
def test_a_bad_configuration_is_exit_78(home: Path, cli: Cli, command: list[str]) -> None:
    (home / "config.toml").write_text("[limits]\nclint = 7\n")
    done = cli(*command)
    assert (done.code, done.out) == (78, "")
    assert done.err == (
        f"codegraphd: {home}/config.toml: [limits] clint: unknown key; did you mean \"clients\"? "
        "(allowed: clients, frame_mb, reply_mb, request_timeout_s, memory_mb)\n"
    )  # fmt: skip


def test_models(home: Path, cli: Cli) -> None:
    listed = {row["name"]: row for row in cli("model", "list", "--json").document["models"]}
    assert listed["all-MiniLM-L6-v2"]["in_use"]
    assert cli("model", "use", "hashing").code == 0
    assert (home / "config.toml").read_text() == '[embedding]\nmodel = "hashing"\n'
    assert cli("model", "check", "--json").document["name"] == "hashing"
    broken = home / "broken"
    broken.mkdir()
    for name, text in (("config.json", '{"model_type": "bert", "hidden_size": 8}'), ("vocab.txt", "[UNK]\n")):
        (broken / name).write_text(text)
    (broken / "model.safetensors").write_bytes(b"\0" * 1000)
    unloadable = cli("model", "check", str(broken))
    assert (unloadable.code, unloadable.out) == (1, "")
    assert str(broken) in unloadable.err
    refused = cli("model", "use", "no-such-model")
    assert refused.code == 1
    assert "no-such-model" in refused.err
    assert "hashing" in (home / "config.toml").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[embedding]\nmodel = "m"\n'),
        ("[log]\nlevel = 'info'\n", "[log]\nlevel = 'info'\n\n[embedding]\nmodel = \"m\"\n"),
        ("[embedding]", '[embedding]\nmodel = "m"\n'),
        ("[embedding] # mine\nmodel='x' # old\ndtype='auto'\n", "[embedding] # mine\nmodel = \"m\"\ndtype='auto'\n"),
        ("[embedding]\ndtype='auto'\n[log]\n", "[embedding]\nmodel = \"m\"\ndtype='auto'\n[log]\n"),
    ],
)
def test_model_use_leaves_the_rest_of_the_file_alone(before: str, after: str) -> None:
    assert with_key(before, "embedding", "model", "m") == after


# --- questions -----------------------------------------------------------------------------------------------------


def test_search_prints_a_plain_list(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    root = str(tmp_path / "ws")
    daemon.answers["search"] = {
        "results": [unit("src/a.py", 1, "a", root=root),
                    unit("src/long_name.py", 120, "b.c", root=root, kind="method")],
        "clock": "s:1", "pending": 0, "mode": "hybrid", "degraded": None,
    }  # fmt: skip
    done = cli("search", "parse", "the config")
    assert done.code == 0
    assert done.out.splitlines() == [
        "src/a.py:1            function a  Does a.",
        "src/long_name.py:120  method b.c  Does b.c.",
    ]
    assert done.err == ""
    assert asked(daemon, "search")["query"] == "parse the config"
    assert asked(daemon, "search")["root"] == root


def test_search_passes_every_option(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    daemon.answers["search"] = {"results": [unit("a.py", 1, "a", snippet="def a():\n    pass")], "pending": 7,
                                "degraded": "model loading"}  # fmt: skip
    done = cli("search", "q", "-n", "3", "--mode", "lexical", "--lang", "python", "--lang", "go", "--kind", "class",
               "--path", "src/**", "--snippet", "2", "--sync", "--wait-ms", "0", "--root", "src")  # fmt: skip
    assert asked(daemon, "search") == {
        "query": "q", "limit": 3, "mode": "lexical", "languages": ["python", "go"], "kinds": ["class"],
        "paths": ["src/**"], "snippet_lines": 2, "sync": True, "wait_ms": 0, "root": str(tmp_path / "ws" / "src"),
    }  # fmt: skip
    assert "    def a():\n        pass\n" in done.out
    assert "model loading" in done.err
    assert "7 units not embedded yet" in done.err


def test_json_is_one_document_and_nothing_else(daemon: Scripted, cli: Cli) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    daemon.answers["search"] = {"results": [unit(name, 1, "a")], "pending": 3, "degraded": "model loading"}
    done = cli("search", "--json", "q")
    assert done.document["results"][0]["path"] == name
    assert done.document["pending"] == 3
    assert done.out.isascii()
    assert done.err == ""


def test_outside_of_a_workspace_a_question_says_how_to_watch(
    daemon: Scripted, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon.answers["search"] = {"results": [unit("src/a.py", 1, "a", root=str(tmp_path / "ws"))]}
    done = cli("search", "q")
    assert done.code == 0
    assert done.out.startswith("ws/src/a.py:1  ")
    assert "codegraphd watch" in done.err
    assert "root" not in asked(daemon, "search")
    daemon.answers["clones"] = {"families": []}
    assert cli("clones").code == 0
    assert asked(daemon, "clones")["root"] == str(tmp_path / "ws")
    daemon.roots.append("/another")
    assert cli("clones").code == 1  # of which one?
    daemon.roots.clear()
    for command in (["search", "q"], ["clones"], ["symbols"], ["sync"], ["verify"]):
        done = cli(*command)
        assert (done.code, done.out) == (1, "")
        assert "codegraphd watch DIR" in done.err


def test_all_workspaces(daemon: Scripted, cli: Cli) -> None:
    daemon.answers["search"] = {"results": []}
    done = cli("search", "q", "--all")
    assert "root" not in asked(daemon, "search")
    assert "nothing found" in done.err


def test_similar(daemon: Scripted, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    match = unit("src/b.py", 4, "b", root=str(tmp_path / "ws"), similarity=0.934, cosine=0.9, type="near")
    daemon.answers["similar"] = {"matches": [match]}
    done = cli("similar", "src/a.py:1", "--threshold", "0.5")
    assert done.out == "0.93 near     src/b.py:4  function b\n"
    assert asked(daemon, "similar")["path"] == str(tmp_path / "ws" / "src" / "a.py")
    assert asked(daemon, "similar")["threshold"] == 0.5
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"def f(): # \xff\n    pass\n")))
    assert cli("similar", "--lang", "python", "-", "--json").document["matches"] == [match]
    assert asked(daemon, "similar")["code"] == "def f(): # ?\n    pass\n"
    assert asked(daemon, "similar")["language"] == "python"


def test_clones(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    members = [unit("a.py", 1, "a", root=str(tmp_path / "ws")), unit("b.py", 2, "b", root=str(tmp_path / "ws"))]
    daemon.answers["clones"] = {"families": [{"members": members, "type": "exact", "similarity": 1.0, "lines": 4}]}
    assert cli("clones").out.splitlines() == [
        "2 units  exact 1.00, 4 lines to save",
        "  a.py:1  function a",
        "  b.py:2  function b",
    ]


def test_the_graph(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    near = unit("a.py", 1, "a", root=str(tmp_path / "ws"), depth=1, edge={"kind": "call", "strength": "strong"})
    far = unit("b.py", 2, "b", root=str(tmp_path / "ws"), depth=2, edge={"kind": "inherit", "strength": "critical"})
    for method in ("dependents", "dependencies"):
        daemon.answers[method] = {"units": [near, far], "truncated": True}
        done = cli(method, "pkg.Class.name", "--depth", "5", "-n", "2")
        assert done.out.splitlines() == [
            "a.py:1  function a  call (strong)",
            "  b.py:2  function b  inherit (critical)",
        ]
        assert "raise --limit" in done.err
        assert asked(daemon, method) == {
            "symbol": "pkg.Class.name", "depth": 5, "limit": 2, "root": str(tmp_path / "ws"),
        }  # fmt: skip
        cli(method, "src/a.py:12")
        assert asked(daemon, method)["path"] == str(tmp_path / "ws" / "src" / "a.py")
        assert asked(daemon, method)["line"] == 12


def test_symbols_by_name_and_by_file(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    daemon.answers["symbols"] = {"units": [unit("src/a.py", 1, "a", root=str(tmp_path / "ws"))]}
    assert cli("symbols", "load*").out == "src/a.py:1  function a  def a()\n"
    assert asked(daemon, "symbols")["pattern"] == "load*"
    cli("symbols", "src/a.py")
    assert asked(daemon, "symbols")["path"] == str(tmp_path / "ws" / "src" / "a.py")
    assert "pattern" not in asked(daemon, "symbols")


def test_explain(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    daemon.answers["explain"] = {
        "unit": unit("src/a.py", 1, "a", root=str(tmp_path / "ws")), "input_hash": "abc", "tokens": 12,
        "truncated": True,
        "inputs": [{"input": "own", "text": "def a():\n\x1b[31m", "tokens": 12}], "features": {"branches": 2},
        "reason": {"level": "semantic", "cause": "b.py:B", "depth": 1, "clock": "s:4"}, "embedded": True,
    }  # fmt: skip
    out = cli("explain", "src/a.py:1").out
    assert "semantic: b.py:B, 1 step away, at s:4" in out
    assert "def a():" in out
    assert "branches 2" in out
    assert "\x1b" not in out  # a file cannot drive the terminal


def test_refusals_are_exit_1_with_the_daemons_word(daemon: Scripted, cli: Cli) -> None:
    daemon.answers["explain"] = RequestError(NOT_FOUND, "src/a.py:9 is in no unit")
    done = cli("explain", "src/a.py:9", "--json")
    assert (done.code, done.out, done.err) == (1, "", "codegraphd: src/a.py:9 is in no unit\n")


# --- workspaces ----------------------------------------------------------------------------------------------------


def test_watch_and_unwatch(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    root = str(tmp_path / "ws")
    daemon.answers["watch"] = {"root": root, "state": "crawling"}
    daemon.answers["unwatch"] = {"root": root, "state": "unwatched"}
    assert root in cli("watch", ".").out
    assert asked(daemon, "watch")["root"] == root
    assert cli("watch", "--json", "src").document["state"] == "crawling"
    assert asked(daemon, "watch")["root"] == root + "/src"
    assert cli("unwatch").code == 0


def test_watch_wait_ends_with_the_sync(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    root = str(tmp_path / "ws")
    daemon.answers["watch"] = {"root": root, "state": "crawling"}
    daemon.answers["sync"] = {"clock": "s:3"}
    done = cli("watch", "--wait", root)
    assert done.code == 0
    assert done.out.startswith(f"{root}: 2 files, 10 units, in ")
    assert asked(daemon, "sync")["semantic"] is True
    assert cli("watch", "--wait", "--json", root).document["pending"] == 0


def test_watch_wait_without_a_model_waits_for_the_words(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    root = str(tmp_path / "ws")
    daemon.answers["watch"] = {"root": root, "state": "crawling"}
    daemon.answers["sync"] = [RequestError(UNAVAILABLE, "no model to wait for: no files"), {"clock": "s:3"}]
    done = cli("watch", "--wait", root)
    assert done.code == 0
    assert "by words only: no model to wait for" in done.err
    assert asked(daemon, "sync")["semantic"] is False


def test_sync_verify_reindex_gc(daemon: Scripted, cli: Cli, tmp_path: Path) -> None:
    daemon.answers |= {
        "sync": {"clock": "s:3"}, "gc": {"evicted": 5}, "reindex": {"roots": daemon.roots},
        "verify": [{"differences": [], "units": 10, "edges": 4},
                   {"differences": [{"unit": "a", "is": "gone"}], "units": 1}],
    }  # fmt: skip
    done = cli("sync", "--semantic", "--timeout", "5")
    assert (done.code, done.out) == (0, "")
    assert asked(daemon, "sync") == {"root": str(tmp_path / "ws"), "semantic": True, "timeout_s": 5.0}
    assert cli("sync", "--json", "src").document["clock"] == "s:3"
    assert cli("verify").out == "10 units, 4 edges: no difference\n"
    done = cli("verify")
    assert done.code == 1
    assert done.out == "unit: a  is: gone\n1 unit, 0 edges: 1 difference\n"
    assert str(tmp_path / "ws") in cli("reindex").out
    assert cli("gc").out == "evicted: 5\n"


# --- status --------------------------------------------------------------------------------------------------------


def test_status_for_people(daemon: Scripted, cli: Cli) -> None:
    out = cli("status").out
    for part in (
        "codegraphd", "ready", "up 2 h 0 min", "! a \\x1b problem", daemon.roots[0], "2 files, 10 units, 4 edges",
        "python 2", "skipped: 1 too large", "all-MiniLM-L6-v2", "90.0% hits", "int8", "12 seen", "p95 11 ms",
    ):  # fmt: skip
        assert part in out
    assert "\x1b" not in out


def test_fault_24_status_tells_how_far_a_change_of_the_model_is(
    daemon: Scripted, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = {"name": "hashing", "answers": True, "progress": {"done": 3, "total": 10}}
    document = daemon.status()
    monkeypatch.setattr(daemon, "status", lambda: {**document, "model": {**document["model"], "former": former}})
    assert "hashing answers until all is embedded (3 of 10)" in cli("status").out
    former["answers"] = False
    assert "search by words answers until all is embedded (3 of 10)" in cli("status").out


def test_status_of_a_daemon_that_leaves_figures_out(
    daemon: Scripted, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "status", lambda: {"daemon": {"state": "starting"}, "model": None, "new": {"x": 1}})
    done = cli("status")
    assert done.code == 0
    assert "starting" in done.out


def test_status_as_json(daemon: Scripted, cli: Cli) -> None:
    assert cli("status", "--json").document["daemon"]["state"] == "ready"


def test_metrics_are_prometheus_text(daemon: Scripted, cli: Cli) -> None:
    out = cli("metrics").out
    lines = out.splitlines()
    assert "# TYPE codegraphd_model_embedded_total counter" in lines
    assert "codegraphd_model_embedded_total 10" in lines
    assert "codegraphd_daemon_rss_bytes 142000000" in lines
    assert 'codegraphd_daemon_state{state="ready"} 1' in lines
    assert 'codegraphd_daemon_state{state="degraded"} 0' in lines
    assert f'codegraphd_workspace_languages_files{{root="{daemon.roots[0]}",language="python"}} 2' in lines
    assert f'codegraphd_workspace_watch_rescans_total{{root="{daemon.roots[0]}"}} 1' in lines
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    known = {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}
    assert known == set(names)


def test_metrics_escape_labels() -> None:
    text = prometheus_text({"workspaces": [{"root": 'a"\\\nb\udcff', "files": 1}]})
    assert 'codegraphd_workspace_files{root="a\\"\\\\\\nb\\\\udcff"} 1' in text.splitlines()


def test_fault_49_another_version_is_told(daemon: Scripted, cli: Cli) -> None:
    daemon.version = "9.9.9"
    daemon.answers["gc"] = {"evicted": 0}
    for command in (["gc"], ["status", "--json"]):
        done = cli(*command)
        assert done.code == 0
        assert "9.9.9" in done.err
        assert "codegraphd restart" in done.err


def test_start_succeeds_when_one_runs(daemon: Scripted, cli: Cli, home: Path) -> None:
    assert cli("start", "--json").document == {
        "schema_version": 1, "pid": os.getpid(), "socket": str(home / "daemon.sock"), "started": False,
    }  # fmt: skip


# --- figures -------------------------------------------------------------------------------------------------------


def test_figures() -> None:
    assert [number(v) for v in (None, 0, 1234567, 3.0, 12.34, 1.234, 0.0123)] == [
        "-", "0", "1,234,567", "3", "12.3", "1.23", "0.012",
    ]  # fmt: skip
    assert [size(v) for v in (None, 999, 1000, 15_360, 142_000_000)] == ["-", "999 bytes", "1.0 KB", "15 KB", "142 MB"]
    assert [duration(v) for v in (None, 0.5, 59, 61, 7300, 200_000)] == [
        "-", "0.5 s", "59 s", "1 min", "2 h 1 min", "2 d 7 h",
    ]  # fmt: skip
    assert plain("a\x1b[31m\nb\u202e\udcff") == "a\\x1b[31m b\\u202e\udcff"


# --- as a process --------------------------------------------------------------------------------------------------


def run(*argv: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "codegraphd.daemon", *argv]
    return subprocess.run(command, capture_output=True, timeout=60, check=False, **more)


def test_a_directory_that_is_gone_is_no_trouble(daemon: Scripted, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd {tmp_path}/gone; rmdir {tmp_path}/gone; {sys.executable} -m codegraphd.daemon status"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_that_are_not_utf8_are_printed_as_they_are(daemon: Scripted) -> None:
    daemon.answers["symbols"] = {"units": [unit("caf\udce9.py", 1, "a", root=daemon.roots[0])]}
    done = run("symbols")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"caf\xe9.py:1  function a  def a()\n"


def test_a_reader_that_leaves_early_sees_no_traceback(daemon: Scripted) -> None:
    daemon.answers["symbols"] = {"units": [unit("a.py", n, "a" * 100, root=daemon.roots[0]) for n in range(1, 5000)]}
    command = f"{sys.executable} -m codegraphd.daemon symbols | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60, check=False)
    assert done.stdout.startswith(b"a.py:1 ")
    assert done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is Linux's")
def test_output_that_cannot_be_written_is_one_line(daemon: Scripted) -> None:
    daemon.answers["symbols"] = {"units": [unit("a.py", 1, "a", root=daemon.roots[0])]}
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "codegraphd.daemon", "symbols"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"codegraphd: [Errno 28] No space left on device\n")


def test_the_light_commands_import_nothing_heavy(daemon: Scripted) -> None:
    code = (
        "import sys; from codegraphd.daemon.cli import main; main(['status']); main(['search', 'x', '--no-start'])\n"
        "heavy = {'torch', 'numpy', 'msgspec', 'rich', 'asyncio', 'lmdb', 'tree_sitter', 'psutil', 'tomllib'}\n"
        "sys.exit(' '.join(heavy & sys.modules.keys()) or 0)"
    )
    daemon.answers["search"] = {"results": []}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "codegraphd: nothing found\n")


def test_follow_prints_one_document_a_line(daemon: Scripted) -> None:
    command = [sys.executable, "-m", "codegraphd.daemon", "status", "--follow", "--json", "--interval", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    assert [json.loads(line)["daemon"]["state"] for line in lines] == ["ready"] * 3


def on_a_terminal(*argv: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    env.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "codegraphd.daemon", *argv]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the last one that had it open left
            while block := os.read(master, 65_536):
                shown += block
    os.close(master)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_terminal_gets_colour_and_lines_that_fit(daemon: Scripted) -> None:
    long = unit("src/a.py", 1, "a", root=daemon.roots[0], doc="word " * 100)
    daemon.answers["search"] = {"results": [long]}
    shown = on_a_terminal("search", "q")
    assert "\x1b[36msrc/a.py:1\x1b[0m" in shown
    (line,) = shown.strip().splitlines()
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 100
    assert "\x1b[32mready" in on_a_terminal("status")


def test_watch_wait_draws_bars_on_a_terminal(daemon: Scripted) -> None:
    daemon.answers["watch"] = {"root": daemon.roots[0], "state": "crawling"}
    daemon.answers["sync"] = {"clock": "s:3"}
    shown = on_a_terminal("watch", "--wait", daemon.roots[0])
    assert "reading" in shown
    assert "10/10" in shown
    assert f"{daemon.roots[0]}: 2 files, 10 units, in " in shown.replace("\r\n", "\n")
