"""Starting, finding and stopping the real daemon, as commands do it. The model is the hashing one: nothing to load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegraphd.ipc.client import Client
from codegraphd.ipc.lock import is_locked
from codegraphd.ipc.paths import Paths, read_lock

COMMAND = [sys.executable, "-m", "codegraphd.daemon"]


class Home:
    """A home of its own; its daemon is ended when the test ends."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory
        self.environment = {**os.environ, "CODEGRAPHD_HOME": str(directory), "XDG_CONFIG_HOME": str(config)}
        self.paths = Paths.from_environment(self.environment)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *argv]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=100, check=False, cwd="/"
        )

    def spawn(self, *argv: str) -> subprocess.Popen[str]:
        command = [*COMMAND, *argv]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True, cwd="/")

    def pid(self) -> int:
        with Client.connect(self.paths) as client:
            return int(client.hello()["pid"])

    def end(self) -> None:
        self.run("stop")
        if is_locked(self.paths):  # the test failed: leave nothing behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(read_lock(self.paths.lock)[0], signal.SIGKILL)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    (directory / "config.toml").write_text('[embedding]\nmodel = "hashing"\n')
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "a.py").write_text("def parse_config(path):\n    return open(path)\n")
    made = Home(directory, tmp_path / "config")
    yield made
    made.end()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a process that ended and waits for its parent is gone, too
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_start_stop_and_all_in_between(home: Home, tmp_path: Path) -> None:
    first = home.run("start", "--json")
    assert first.returncode == 0, first.stderr
    started = json.loads(first.stdout)
    assert started["started"] is True
    assert home.pid() == started["pid"]
    again = json.loads(home.run("start", "--json").stdout)
    assert (again["started"], again["pid"]) == (False, started["pid"])
    assert os.stat(home.paths.state).st_mode & 0o077 == 0
    assert os.stat(os.path.join(home.paths.log, "daemon.log")).st_mode & 0o077 == 0

    watched = home.run("watch", "--wait", str(tmp_path / "ws"))
    assert watched.returncode == 0, watched.stderr
    assert "1 file, 1 unit, in " in watched.stdout
    found = home.run("search", "--json", "--root", str(tmp_path / "ws"), "parse the config")
    assert json.loads(found.stdout)["results"][0]["qualname"] == "parse_config"

    restarted = json.loads(home.run("restart", "--json").stdout)
    assert restarted["started"] is True
    assert restarted["pid"] != started["pid"]
    assert not is_alive(started["pid"])
    status = json.loads(home.run("status", "--json").stdout)
    assert [workspace["root"] for workspace in status["workspaces"]] == [str(tmp_path / "ws")]

    stopped = home.run("stop")
    assert stopped.returncode == 0
    assert not is_alive(restarted["pid"])
    assert not is_locked(home.paths)
    assert not os.path.lexists(home.paths.socket)
    assert home.run("status").returncode == 3
    assert "did not run" in home.run("stop").stdout


def test_a_question_starts_the_daemon_once(home: Home) -> None:
    """Several commands at once find none, and all start one: one of them lives, and all are answered."""
    running = [home.spawn("watch", "--json", str(home.directory.parent / "ws")) for _ in range(4)]
    for process in running:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        assert json.loads(out)["root"] == str(home.directory.parent / "ws")
    assert is_alive(home.pid())
    assert home.run("stop").returncode == 0
    assert processes_of(home) == []  # no other one is still on its way up, to take over now


def processes_of(home: Home) -> list[str]:
    """Command lines of the processes that were started for a home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"CODEGRAPHD_HOME={home.directory}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_fault_32_a_second_daemon_says_who_runs_and_leaves(home: Home) -> None:
    pid = json.loads(home.run("start", "--json").stdout)["pid"]
    second = home.run("run")
    assert second.returncode == 1
    assert f"process {pid}" in second.stderr
    assert home.paths.socket in second.stderr
    assert home.pid() == pid


def test_fault_33_after_a_kill_the_next_start_works(home: Home) -> None:
    pid = json.loads(home.run("start", "--json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    while is_locked(home.paths):
        time.sleep(0.01)
    assert os.path.exists(home.paths.socket)  # left over
    assert home.run("status").returncode == 3
    again = json.loads(home.run("start", "--json").stdout)
    assert again["started"] is True
    assert home.pid() == again["pid"]


def test_fault_33_a_start_that_fails_says_why(home: Home) -> None:
    Path(home.paths.socket).write_text("in the way")
    failed = home.run("start")
    assert failed.returncode == 3
    assert "in the way" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    Path(home.paths.socket).unlink()
    assert home.run("start").returncode == 0


def test_fault_34_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    directory.mkdir(parents=True, mode=0o700)
    (directory / "config.toml").write_text('[embedding]\nmodel = "hashing"\n')
    home = Home(directory, tmp_path / "config")
    try:
        started = home.run("start")
        assert started.returncode == 0, started.stderr
        status = json.loads(home.run("status", "--json").stdout)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(read_lock(home.paths.lock)[1])
        assert status["daemon"]["pid"] == home.pid()
    finally:
        home.end()


def test_fault_34_a_home_that_others_write_is_refused(home: Home) -> None:
    home.directory.chmod(0o777)
    refused = home.run("start")
    assert refused.returncode in (1, 3)
    assert "chmod go-w" in refused.stderr
    home.directory.chmod(0o700)


def test_fault_36_garbage_leaves_the_daemon_well(home: Home) -> None:
    assert home.run("start").returncode == 0
    pid = home.pid()
    for noise in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"\xc1" * 100,
        b"\x94\x00\x01\xa1x\xdd\xff\xff\xff\xff",
        os.urandom(100_000),
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(home.paths.address)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.sendall(noise)
    assert home.pid() == pid


def test_fault_48_a_terminated_daemon_is_gone_in_seconds(home: Home) -> None:
    process = home.spawn("run")
    while process.poll() is None and not (is_locked(home.paths) and os.path.exists(home.paths.socket)):
        time.sleep(0.02)
    pid = home.pid()
    assert pid == process.pid
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert not os.path.lexists(home.paths.socket)
