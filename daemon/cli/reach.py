"""Reaching the daemon: connecting, starting it where it may be started, stopping it.

It is started through the service manager where the unit is installed for this home, else as a process of its own:
detached, in `/`, its log in the log directory.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from codegraphd.daemon.cli import BAD_CONFIGURATION, DONE, NO_DAEMON, CommandError
from codegraphd.daemon.cli.show import note, print_json
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import ClientError, PathError, Unreachable
from codegraphd.ipc.lock import is_locked
from codegraphd.ipc.paths import Paths, read_lock, secure_directory
from codegraphd.ipc.version import VERSION

if TYPE_CHECKING:
    from codegraphd.daemon.config import Config

START_S = 120.0  # a start that rebuilds an index takes that long; it answers as soon as the store is open
STOP_S = 20.0
_LOG_BYTES = 5 << 20  # a log over this is put aside at the next start; one older one is kept


@contextlib.contextmanager
def connected(*, may_start: bool) -> Iterator[Client]:
    """A client of this home's daemon, which is started where allowed. Raises Unreachable, CommandError."""
    paths = Paths.from_environment()
    try:
        client = Client.connect(paths) if may_start else connect_running(paths)
    except Unreachable as error:
        if not may_start:
            raise Unreachable(f"{error}; 'codegraphd start' starts one") from None
        client = launch(paths)
    with client:
        client.hello(deadline=START_S)  # a service manager accepts for a daemon that is still starting
        tell_version(client)
        yield client


def connect_running(paths: Paths) -> Client:
    """Connect without starting one: where the service manager listens, a mere connection would."""
    from codegraphd.daemon import service as services

    service = services.service_of(paths)
    if service is not None and service.is_installed() and not is_locked(paths):
        raise Unreachable("no daemon runs")
    return Client.connect(paths)


def tell_version(client: Client) -> None:
    """Say so when the daemon is of another version: the package was updated while it ran."""
    if not client.is_same_version():
        theirs = client.hello().get("version", "unknown")
        note(f"the daemon is version {theirs}, this command {VERSION}: 'codegraphd restart' brings them together")


def run_daemon() -> int:
    """`codegraphd run`."""
    os.umask(0o077)  # what it writes is its user's alone
    paths = Paths.from_environment()
    config = _check_configuration(paths)
    # Before numpy is loaded: threads that spin for a product of 2 ms cost more than they give, and heat the machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from codegraphd.daemon.loop import run

    return run(paths, config)


def start(arguments: Namespace) -> int:
    paths = Paths.from_environment()
    try:
        client, is_new = Client.connect(paths), False
    except Unreachable:
        client, is_new = launch(paths), True
    with client:
        tell_version(client)
        pid = client.hello()["pid"]
        if arguments.json:
            print_json({"pid": pid, "socket": client.address, "started": is_new})
        else:
            print(f"codegraphd {'started' if is_new else 'runs already'}: process {pid}, socket {client.address}")
    return DONE


def stop(arguments: Namespace) -> int:
    paths = Paths.from_environment()
    pid = end(paths)
    if arguments.json:
        print_json({"pid": pid, "stopped": pid is not None})
    else:
        print("codegraphd did not run" if pid is None else f"codegraphd stopped: process {pid}")
    return DONE


def restart(arguments: Namespace) -> int:
    paths = Paths.from_environment()
    _check_configuration(paths)  # what runs is not ended for one that could not start
    end(paths)
    return start(arguments)


# --- starting ------------------------------------------------------------------------------------------------------


def launch(paths: Paths) -> Client:
    """Start the daemon, and connect once it answers. Raises CommandError (3, or 78 for a bad configuration)."""
    from codegraphd.daemon import service as services

    _check_configuration(paths)  # the service manager would only say that the start failed
    service = services.service_of(paths)
    if service is not None and service.is_installed():
        try:
            services.start(service)
            return _wait_for(paths, None)
        except services.ServiceError as error:
            note(f"the service could not be started ({error}): starting codegraphd directly")
    with contextlib.closing(_Spawned(paths)) as spawned:
        client = _wait_for(paths, spawned)
        spawned.yield_to(client.hello()["pid"])
        return client


def _check_configuration(paths: Paths) -> Config:
    from codegraphd.daemon.config import ConfigError, load

    try:
        return load(paths.config)
    except ConfigError as error:
        raise CommandError(str(error), BAD_CONFIGURATION) from None


class _Spawned:
    """A daemon that we started ourselves, and what it says on its way up."""

    def __init__(self, paths: Paths) -> None:
        import subprocess

        env = dict(os.environ)
        if paths.home:
            env["CODEGRAPHD_HOME"] = paths.home  # it may have been relative to the shell's directory
        for name in ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"):
            env.pop(name, None)  # meant for whoever called us
        self._log = _open_log(paths)
        self._offset = self._log.seek(0, os.SEEK_END)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "codegraphd.daemon", "run"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            env=env,
            start_new_session=True,
        )

    def exit_status(self) -> int | None:
        return self._process.poll()

    def yield_to(self, pid: int) -> None:
        """Another daemon was faster. Ours may be on its way up yet; were that one stopped now, ours would take over."""
        if self._process.pid != pid:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The last line that it wrote; "" when it said nothing."""
        self._log.seek(max(self._offset, self._log.seek(0, os.SEEK_END) - 4096))
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("codegraphd: ") if lines else ""

    def close(self) -> None:
        self._log.close()
        self._process.returncode = self._process.poll() or 0  # it lives on: no warning that nobody waited for it


def _open_log(paths: Paths) -> IO[bytes]:
    """The log, for appending; a file that goes with us where the home takes no writing."""
    log = log_file(paths)
    try:
        secure_directory(paths.log, "the log directory")
        with contextlib.suppress(OSError):
            if os.path.getsize(log) > _LOG_BYTES:
                os.replace(log, f"{log}.1")
        return os.fdopen(os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "a+b", buffering=0)
    except (OSError, PathError) as error:
        import tempfile

        note(f"no log is kept: {error}")
        return tempfile.TemporaryFile(buffering=0)


def log_file(paths: Paths) -> str:
    return os.path.join(paths.log, "daemon.log")


def _wait_for(paths: Paths, spawned: _Spawned | None) -> Client:
    """Connect once the daemon answers `hello`; give up when it ended, or after START_S seconds."""
    end_at = time.monotonic() + START_S
    pause, ended_at = 0.005, None
    while time.monotonic() < end_at:
        with contextlib.suppress(ClientError):
            client = Client.connect(paths)
            try:
                client.hello()
            except BaseException:
                client.close()
                raise
            return client
        if spawned is not None and (status := spawned.exit_status()) is not None:
            # It may have found another one that had just been started: that one's socket comes in a moment.
            ended_at = ended_at or time.monotonic()
            if not is_locked(paths) and time.monotonic() - ended_at > 0.5:
                code = BAD_CONFIGURATION if status == BAD_CONFIGURATION else NO_DAEMON
                said = spawned.last_words() or f"exit status {status}; its log is {log_file(paths)}"
                raise CommandError(f"the daemon ended at its start: {said}", code)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    raise CommandError(f"no daemon answered within {START_S:g} s; its log is {log_file(paths)}", NO_DAEMON)


# --- stopping ------------------------------------------------------------------------------------------------------


def end(paths: Paths) -> int | None:
    """Stop the home's daemon, and its socket unit with it. -> its pid; None when none ran. Returns once it is gone."""
    from codegraphd.daemon import service as services

    pid = running_pid(paths)
    handle = _open_process(pid) if pid is not None else None
    service = services.service_of(paths)
    if service is not None and service.is_installed():
        with contextlib.suppress(services.ServiceError):  # no manager: then the daemon is a process of its own
            services.stop(service)
    if pid is None:
        return None
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise CommandError(f"process {pid} belongs to another user") from None
    end_at = time.monotonic() + STOP_S
    while not _is_gone(pid, handle, paths):
        if time.monotonic() > end_at:
            raise CommandError(f"process {pid} has not ended after {STOP_S:g} s; 'kill -9 {pid}' loses nothing stored")
        time.sleep(0.02)
    if handle is not None:
        os.close(handle)
    return pid


def running_pid(paths: Paths) -> int | None:
    """The daemon's process, as it says itself; where it does not answer, as recorded in the lock that it holds."""
    with contextlib.suppress(ClientError), connect_running(paths) as client:
        return int(client.hello()["pid"])
    if is_locked(paths):
        pid = read_lock(paths.lock)[0]
        return pid or None
    return None


def _open_process(pid: int) -> int | None:
    """A handle that tells the end of exactly this process, where the system has such."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _is_gone(pid: int, handle: int | None, paths: Paths) -> bool:
    if is_locked(paths):
        return False
    if handle is not None:
        return bool(select.select([handle], [], [], 0)[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def describe_holder(paths: Paths) -> dict[str, Any] | None:
    """Who holds the home's lock now: `pid`, `socket`, `version`; None when nobody does."""
    if not is_locked(paths):
        return None
    pid, socket, version = read_lock(paths.lock)
    return {"pid": pid, "socket": socket, "version": version}
