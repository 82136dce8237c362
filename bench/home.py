"""A daemon under measurement: its own fresh CODEGRAPHD_HOME, driven and watched from outside like a user's.

Owns its life (start, stop, kill) and what can be seen of its processes: resident memory and processor time, told apart
into daemon, model worker and parsers by their command lines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.harness import wait_until
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import Unreachable


class Home:
    """One home directory and the daemon that runs on it."""

    def __init__(self, directory: Path, config: str = "") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.toml").write_text(config)
        self.environment = {**os.environ, "CODEGRAPHD_HOME": str(directory)}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode at hand
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start the daemon; returns the seconds until a client was answered."""
        before = time.perf_counter()
        with open(self.directory / "daemon.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "codegraphd.daemon", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 60, "the daemon", every_s=0.005)
        return time.perf_counter() - before

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self._process.returncode}: {self.log_tail()}")
        try:
            with self.client() as client:
                client.hello()
        except (Unreachable, OSError):
            return False
        return True

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL: nothing is closed in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def running(self) -> Iterator[Home]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def client(self) -> Client:
        return Client.connect(str(self.directory / "daemon.sock"))

    def log(self) -> str:
        return (self.directory / "daemon.log").read_text(errors="replace")

    def log_tail(self) -> str:
        return self.log()[-1500:]

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The daemon's processes by what they do: "daemon", "worker", "parsers", "other"."""
        assert self._process is not None
        daemon = psutil.Process(self._process.pid)
        found: dict[str, list[psutil.Process]] = {"daemon": [daemon], "worker": [], "parsers": [], "other": []}
        for child in daemon.children(recursive=True):
            try:
                command = " ".join(child.cmdline())
            except psutil.Error:
                continue
            kind = "parsers" if "parser" in command else "worker" if "embedding" in command else "other"
            found[kind].append(child)
        return found

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by kind of process."""
        return {kind: sum(_rss(p) for p in group) / 1e6 for kind, group in self.processes().items()}

    def cpu_s(self) -> float:
        """Processor time of the daemon and all that it started and still runs."""
        return sum(_cpu(process) for group in self.processes().values() for process in group)

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.call("status"))

    def workspace(self, client: Client, root: Path) -> dict[str, Any]:
        """The workspace's line of the status document; empty while it is not listed."""
        for line in client.call("status")["workspaces"]:
            if line["root"] == str(root):
                return dict(line)
        return {}


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
