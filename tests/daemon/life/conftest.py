"""A real daemon: its own process, its own home, a workspace of real files, questions over the real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import ClientError
from codegraphd.ipc.paths import Paths

HASHING = '[embedding]\nmodel = "hashing"\n'


class Home:
    """One CODEGRAPHD_HOME and the daemon that runs for it."""

    def __init__(self, directory: Path, config: str) -> None:
        self.directory = directory
        self.workspace = directory / "workspace"
        self.workspace.mkdir(parents=True)
        self.home = directory / "home"
        self.home.mkdir(mode=0o700)
        (self.home / "config.toml").write_text(config)
        self.environment = {**os.environ, "CODEGRAPHD_HOME": str(self.home)}
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client: Client | None = None

    def start(self) -> Client:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "codegraphd.daemon", "run"], env=self.environment, stderr=log, stdout=log
            )
        paths = Paths.from_environment(self.environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client = Client.connect(paths)
            except ClientError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
            else:
                return self.client

    def stop(self, how: int = signal.SIGTERM) -> int:
        """-> exit status."""
        assert self.process is not None
        if self.client is not None:
            self.client.close()
            self.client = None
        self.process.send_signal(how)
        try:
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def call(self, method: str, **params: Any) -> Any:
        assert self.client is not None
        return self.client.call(method, deadline=90, **params)

    def watch(self) -> None:
        self.call("watch", root=str(self.workspace))

    def sync(self, *, semantic: bool = False) -> str:
        clock: str = self.call("sync", root=str(self.workspace), semantic=semantic, timeout_s=80)["clock"]
        return clock

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def found(self, query: str, **params: Any) -> list[str]:
        """Names of what a search finds, best first."""
        return [unit["name"] for unit in self.call("search", query=query, **params)["results"]]

    def names(self, path: str | None = None) -> set[str]:
        return {
            unit["qualname"]
            for unit in self.call("symbols", path=path, root=str(self.workspace), limit=10_000)["units"]
        }

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = self.call("status")
        return document

    def children(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def make(config: str = HASHING) -> Home:
        homes.append(Home(tmp_path / f"home{len(homes)}", config))
        return homes[-1]

    yield make
    for home in homes:
        if home.process is not None and home.process.poll() is None:
            home.stop(signal.SIGKILL)
        elif home.client is not None:
            home.client.close()


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    home = make_home()
    home.start()
    return home


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What a condition gives once it is true; fails after `seconds`. For what no call can wait for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., Any]:
    return wait_for
