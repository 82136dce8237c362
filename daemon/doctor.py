"""`codegraphd doctor`: is this installation sound, and if not, what mends it. Starts no daemon, changes nothing.

Each check looks at one thing and gives one `Check`; a check that breaks is itself a finding.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from codegraphd.daemon.config import Config, ConfigError, load
from codegraphd.ipc.errors import ClientError, PathError
from codegraphd.ipc.paths import Paths, read_lock
from codegraphd.ipc.version import VERSION

OK, WARN, FAIL = "ok", "warn", "fail"

_MIN_PYTHON = (3, 11)
_WATCHES = 65_536  # below it, workspaces of many directories are polled in part
_DESCRIPTORS = 1024
_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """`verdict`: ok; warn: works, but not as well as it could; fail: something does not work. `mend`: what to do."""

    name: str
    verdict: str
    says: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "verdict": self.verdict, "says": self.says, "mend": self.mend}


def examine() -> list[Check]:
    """All checks of this installation and this environment's home, in a fixed order."""
    found = [*_guarded("python", _python), *_guarded("packages", _packages)]
    try:
        paths = Paths.from_environment()
    except PathError as error:
        return [*found, Check("paths", FAIL, str(error), "set CODEGRAPHD_HOME to a directory of your own")]
    config = Config()
    try:
        config = load(paths.config)
        there = paths.config if os.path.exists(paths.config) else f"{paths.config} is not there: all defaults"
        found.append(Check("config", OK, there))
    except ConfigError as error:
        found.append(Check("config", FAIL, str(error), "edit the file, then 'codegraphd config check'"))
    for name, check in (
        ("directories", lambda: _directories(paths)),
        ("socket", lambda: _socket(paths)),
        ("disk", lambda: _disk(paths)),
        ("limits", _limits),
        ("model", lambda: _model(paths, config)),
        ("daemon", lambda: _daemon(paths)),
        ("store", lambda: _store(paths)),
        ("service", lambda: _service(paths)),
    ):
        found += _guarded(name, check)
    return found


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:
        yield Check(name, FAIL, f"could not be examined: {type(error).__name__}: {error}")


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _MIN_PYTHON:
        yield Check("python", FAIL, version, "install codegraphd with Python 3.11 or newer")
    else:
        yield Check("python", OK, f"{version}, {sys.executable}")


def _packages() -> Iterator[Check]:
    """Every run-time dependency is there, in a version that we allow."""
    requirements = [r for r in importlib.metadata.requires("codegraphd") or () if "extra ==" not in r]
    wrong = []
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not allows(requirement[len(name) :], version):
            wrong.append(f"{name} {version} (needs {requirement[len(name) :].strip()})")
    if wrong:
        yield Check("packages", FAIL, "; ".join(wrong), f"{sys.executable} -m pip install --force-reinstall codegraphd")
    else:
        yield Check("packages", OK, f"{len(requirements)} dependencies, all in versions that fit")


def allows(specifiers: str, version: str) -> bool:
    """Whether `>=1.1,<2` allows a version, by its release numbers; a clause that is not understood allows it."""
    for clause in specifiers.split(";", maxsplit=1)[0].split(","):
        match = re.fullmatch(r"\s*(>=|<=|==|<|>|~=)\s*([0-9.]+)\s*", clause)
        if match is None:
            continue
        have, want = _release(version), _release(match[2])
        size = max(len(have), len(want))
        have, want = have + (0,) * (size - len(have)), want + (0,) * (size - len(want))
        fits = {
            ">=": have >= want,
            "<=": have <= want,
            "==": have == want,
            "<": have < want,
            ">": have > want,
            "~=": have >= want,
        }
        if not fits[match[1]]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)


def _directories(paths: Paths) -> Iterator[Check]:
    wrong = False
    for what, path in (("state", paths.state), ("log", paths.log), ("socket", os.path.dirname(paths.address))):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue  # made at the first start
        except OSError as error:
            wrong = True
            yield Check("directories", FAIL, f"{what}: {path}: {error.strerror}", "set CODEGRAPHD_HOME elsewhere")
            continue
        if found.st_uid != os.geteuid():
            wrong = True
            yield Check("directories", FAIL, f"{what}: {path} belongs to user {found.st_uid}", "set CODEGRAPHD_HOME")
        elif found.st_mode & 0o022 and what != "log":
            wrong = True
            yield Check("directories", FAIL, f"{what}: {path} can be written by others", f"chmod go-w '{path}'")
        elif not os.access(path, os.W_OK | os.X_OK):
            wrong = True
            yield Check("directories", FAIL, f"{what}: {path} cannot be written", f"chmod u+rwx '{path}'")
    if not wrong:
        yield Check("directories", OK, f"state {paths.state}, log {paths.log}")


def _socket(paths: Paths) -> Iterator[Check]:
    if paths.address != paths.socket:
        yield Check("socket", OK, f"{paths.address} (the path {paths.socket} is too long for a socket)")
    else:
        yield Check("socket", OK, paths.socket)


def _disk(paths: Paths) -> Iterator[Check]:
    place = paths.state
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    says = f"{free / 1e9:,.1f} GB free at {place}"
    if free < _FREE_BYTES:
        yield Check("disk", WARN, says, "make room: when the disk is full, nothing new is indexed")
    else:
        yield Check("disk", OK, says)


def _limits() -> Iterator[Check]:
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors != resource.RLIM_INFINITY and descriptors < _DESCRIPTORS:
        yield Check("limits", WARN, f"only {descriptors} open files allowed", f"ulimit -n {4 * _DESCRIPTORS}")
    if not sys.platform.startswith("linux"):
        return
    for name, least, wanted in (("max_user_watches", _WATCHES, 524_288), ("max_user_instances", 16, 512)):
        try:
            with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
                value = int(file.read())
        except (OSError, ValueError):
            yield Check("limits", WARN, f"fs.inotify.{name} cannot be read", "workspaces are polled without inotify")
            continue
        if value < least:
            mend = f"sudo sysctl fs.inotify.{name}={wanted} (and the same line in /etc/sysctl.d/60-inotify.conf)"
            yield Check("limits", WARN, f"fs.inotify.{name} is {value}: larger workspaces are polled", mend)
        else:
            yield Check("limits", OK, f"fs.inotify.{name} {value:,}")


def _model(paths: Paths, config: Config) -> Iterator[Check]:
    """The files of the configured model are there and are what they should be; it is not loaded."""
    from codegraphd.daemon.embedding.models import ModelError, resolve

    known = os.path.join(paths.state, "models")  # where the daemon keeps the digests of files it has read
    with contextlib.ExitStack() as stack:
        if not os.path.isdir(known):
            known = stack.enter_context(tempfile.TemporaryDirectory())
        for name in (config.embedding.model, *config.embedding.fallback_models):
            try:
                info = resolve(name, known, config.embedding.max_tokens)
            except ModelError as error:
                mend = "install the model's files, or choose another: 'codegraphd model list'; until then words only"
                yield Check("model", FAIL, str(error), mend)
                continue
            where = f" in {info.directory}" if info.directory else ""
            yield Check("model", OK, f"{info.name}, {info.dim} dimensions, {info.fingerprint.hex()}{where}")


def _daemon(paths: Paths) -> Iterator[Check]:
    from codegraphd.ipc.client import Client
    from codegraphd.ipc.lock import is_locked

    if not is_locked(paths):
        left = (
            " (a socket of an earlier one is left: the next start removes it)" if os.path.lexists(paths.socket) else ""
        )
        yield Check("daemon", OK, f"does not run{left}")
        return
    pid = read_lock(paths.lock)[0]
    try:
        with Client.connect(paths, timeout=5.0) as client:
            told = client.hello()
            problems = list((client.call("status", deadline=30.0).get("daemon") or {}).get("problems") or ())
    except ClientError as error:
        yield Check("daemon", FAIL, f"process {pid} holds the lock and does not answer: {error}", "codegraphd restart")
        return
    if told.get("version") != VERSION:
        yield Check("daemon", WARN, f"runs version {told.get('version')}, installed is {VERSION}", "codegraphd restart")
    else:
        yield Check("daemon", OK, f"runs: process {told.get('pid')}")
    for problem in problems:
        yield Check("daemon", WARN, str(problem))


def _store(paths: Paths) -> Iterator[Check]:
    from codegraphd.ipc.lock import is_locked
    from codegraphd.store.env import Store
    from codegraphd.store.errors import StoreError

    directory = os.path.join(paths.state, "index")
    if not os.path.exists(os.path.join(directory, "data.mdb")):
        yield Check("store", OK, "none yet")
        return
    if is_locked(paths):
        yield Check("store", OK, f"{directory}, in use by the daemon")
        return
    try:
        store = Store.open(directory, read_only=True)
    except StoreError as error:
        mend = f"remove {directory}: it is built again from the workspaces (which must then be watched again)"
        yield Check("store", FAIL, str(error), mend)
        return
    try:
        figures: dict[str, Any] = store.statistics()
        yield Check("store", OK, f"{directory}, {figures.get('bytes', 0) / 1e6:,.1f} MB")
    finally:
        store.close()


def _service(paths: Paths) -> Iterator[Check]:
    from codegraphd.daemon import service as services

    service = services.service_of(paths)
    if service is None or not service.is_installed():
        yield Check("service", OK, "not installed: commands start the daemon themselves")
        return
    found = services.state(service)
    if found.get("error"):
        yield Check(
            "service", WARN, f"{service.name}: {found['error']}", "log in with a session that has systemd --user"
        )
    else:
        states = ", ".join(f"{kind} {found[kind]}" for kind in ("socket", "service") if kind in found)
        yield Check("service", OK, f"{service.name}: {states}")
