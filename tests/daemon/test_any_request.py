"""Row 8 of the house rules, from the outside: whatever a client asks, it is answered, and the daemon stays well.

Typed requests of odd content against the real daemon. The first run of this ended the model's thread (a lone
surrogate), made `sync` wait for ever (`changed` with `..`), indexed files twice (`changed` with `.`) and ended the
daemon (`search` with a limit of 2**31).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegraphd.ipc import messages
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import INTERNAL, RemoteError
from codegraphd.ipc.paths import Paths, read_lock

LEFT_OUT = ("watch", "unwatch", "reindex", "verify", "reload")  # they change what the others are asked about
REPOSITORY = Path(__file__).parents[2]
BOUND_S = 30.0

texts = st.one_of(
    st.sampled_from([
        "parse config", "*", "[", "a\\", "(((", '"unbalanced', "foo:bar^2", "~", "+-", "AND OR", "\u202e", "^$", "!*",
        "é" * 100, "x" * 60_000, "a b " * 2000, "**/*.py", "{a,b}", "[!", "decode", "Receiver.next_event", "\n\n", "0",
        "\udcff", "\ud800", "def f(x):\n    return x\n", "class A:\n  def f(self): pass\n" * 50,
    ]),
    st.text(max_size=20),
)  # fmt: skip
paths = st.sampled_from([
    "@", "@/ipc", "@/ipc/frames.py", "ipc/frames.py", "/", "..", "../x", "/nowhere", "a" * 5000, "caf\udce9.py", "x\ny",
    ".", "@/../ws", "ipc/", "ipc/nothing.py", "ipc/./frames.py", "ipc/../ipc/frames.py", "@/ipc/frames.py/x", "~", "",
])  # fmt: skip
whole = st.sampled_from([0, 1, 2, 5, 10, 1000, 2**31, 2**63 - 1, 2**64 - 1, -1])
languages = st.sampled_from(["python", "c", "cpp", "markdown", "text", "csharp", "nolang", ""])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "root": paths, "path": paths, "from": paths,
    "limit": whole, "line": whole, "depth": whole, "min_lines": whole, "snippet_lines": whole,
    "wait_ms": st.sampled_from([0, 10]), "timeout_s": st.sampled_from([0, 0.01, 0.5]),
    "threshold": st.sampled_from([0, 0.3, 0.85, 1, 1.5]),
    "languages": st.lists(languages, max_size=2), "language": languages, "language2": languages,
    "kinds": st.lists(st.sampled_from(["function", "zzz"]), max_size=2), "paths": st.lists(texts, max_size=3),
    "mode": st.sampled_from(["hybrid", "lexical", "semantic"]),
    "sync": st.booleans(), "semantic": st.booleans(),
    "events": st.lists(st.sampled_from(["progress", "indexed", "clone"]), max_size=2),
    "kind": st.sampled_from(["added", "modified", "deleted", "moved", "opened"]),
    "role": st.sampled_from(["document", "query"]), "encoding": st.sampled_from(["list", "f32le"]),
    "inputs": st.lists(st.fixed_dictionaries({"code": texts, "language": languages}), max_size=3),
    "cursor": st.none() | texts,
}  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A method, its needed fields and some of the others."""
    method = draw(st.sampled_from(sorted(messages.METHODS.keys() - set(LEFT_OUT))))
    params = {}
    for field in msgspec.structs.fields(messages.METHODS[method]):
        if field.required or draw(st.booleans()):
            params[field.encode_name] = draw(FIELDS.get(field.encode_name, texts))
    return method, params


class Running:
    """A daemon of its own that watches a copy of some of our files."""

    def __init__(self, home: Path, workspace: Path) -> None:
        self.workspace = workspace
        self.environment = {**os.environ, "CODEGRAPHD_HOME": str(home), "XDG_CONFIG_HOME": str(home / "none")}
        self.paths = Paths.from_environment(self.environment)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "codegraphd.daemon", *argv]
        env = self.environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False, cwd="/")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("any")
    home, workspace = directory / "home", directory / "ws"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text('[embedding]\nmodel = "hashing"\n')
    (workspace / "ipc").mkdir(parents=True)
    for name in ("frames.py", "client.py", "errors.py", "paths.py"):
        shutil.copy(REPOSITORY / "ipc" / name, workspace / "ipc" / name)
    made = Running(home, workspace)
    watched = made.run("watch", "--wait", str(workspace))
    assert watched.returncode == 0, watched.stderr
    yield made
    if made.run("stop").returncode:
        with contextlib.suppress(ProcessLookupError):
            os.kill(read_lock(made.paths.lock)[0], signal.SIGKILL)


def placed(value: Any, workspace: str) -> Any:
    return workspace + value[1:] if isinstance(value, str) and value.startswith("@") else value


def test_any_request_is_answered_and_the_daemon_stays_well(running: Running) -> None:
    with Client.connect(running.paths) as client:
        pid = client.hello()["pid"]

        @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(requests())
        def ask(request: tuple[str, dict[str, Any]]) -> None:
            method, params = request
            sent = {name: placed(value, str(running.workspace)) for name, value in params.items()}
            try:
                client.call(method, deadline=BOUND_S, **sent)
            except RemoteError as error:
                refused = error
            else:
                return
            assert refused.code != INTERNAL, (method, refused.message)
            assert refused.message
            assert "\n" not in refused.message

        ask()
        client.call("sync", root=str(running.workspace), timeout_s=BOUND_S)
        assert client.call("hello")["pid"] == pid
        assert client.call("embed", code="x", language="python")["dim"] == 64  # the model's thread lives
    verified = running.run("verify", "--json", str(running.workspace))
    assert json.loads(verified.stdout)["differences"] == []
