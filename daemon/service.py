"""The user service: systemd on Linux, launchd on macOS. Renders, installs, removes and asks after the units of a home.

The templates lie in the folders `systemd/` and `launchd/` beside this package. The default home's units are called
`codegraphd`, another home's carry a digest of its path, so that two homes never share a unit, and the units of a home
are found by name alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codegraphd.ipc.paths import Paths

_TEMPLATES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MANAGER_S = 60.0  # for one order to systemctl or launchctl; starting the daemon has its own deadline in the unit
# What decides where the home lies; the service manager's environment need not have it.
_KEPT = ("CODEGRAPHD_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE")


class ServiceError(Exception):
    """The service manager refused, or there is none. One line."""


class Service(NamedTuple):
    """The service of one home under one manager."""

    manager: str  # systemd, launchd
    name: str  # the unit's name without suffix, or the agent's label
    files: tuple[str, ...]  # absolute paths of the unit files
    paths: Paths

    def is_installed(self) -> bool:
        return all(os.path.exists(path) for path in self.files)


def service_of(
    paths: Paths, environment: Mapping[str, str] | None = None, *, platform: str = sys.platform
) -> Service | None:
    """The service that a home has or would have; None on a system without a known manager. Touches nothing."""
    env = os.environ if environment is None else environment
    suffix = hashlib.sha256(os.fsencode(paths.home)).hexdigest()[:8] if paths.home else ""
    if platform == "darwin":
        label = f"io.codegraphd.daemon.{suffix}" if suffix else "io.codegraphd.daemon"
        directory = os.path.join(os.path.expanduser("~"), "Library", "LaunchAgents")
        return Service("launchd", label, (os.path.join(directory, f"{label}.plist"),), paths)
    if platform.startswith("linux"):
        name = f"codegraphd-{suffix}" if suffix else "codegraphd"
        config = env.get("XDG_CONFIG_HOME", "")
        base = config if os.path.isabs(config) else os.path.join(os.path.expanduser("~"), ".config")
        directory = os.path.join(base, "systemd", "user")
        return Service("systemd", name, tuple(os.path.join(directory, f"{name}.{k}") for k in _UNITS), paths)
    return None


_UNITS = ("socket", "service")


def render(service: Service, environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """File path -> content of the service's units, for this interpreter and this environment."""
    env = os.environ if environment is None else environment
    kept = {name: env[name] for name in _KEPT if env.get(name)}
    if service.paths.home:
        kept["CODEGRAPHD_HOME"] = service.paths.home
    command = [sys.executable, "-m", "codegraphd.daemon"]
    if service.manager == "launchd":
        return {service.files[0]: _render_plist(service, command, kept)}
    label = f" ({service.paths.home})" if service.paths.home else ""
    values = {
        "NAME": service.name,
        "LABEL": _specifiers(label),
        "SOCKET": _specifiers(service.paths.address),
        "COMMAND": " ".join(_quoted(part).replace("$", "$$") for part in command),
        "ENVIRONMENT": "\n".join("Environment=" + _quoted(f"{k}={v}") for k, v in kept.items()),
    }
    return {
        path: _fill(_template("systemd", f"codegraphd.{kind}"), values).encode("utf-8", "surrogateescape")
        for path, kind in zip(service.files, _UNITS, strict=True)
    }


def install(service: Service) -> list[str]:
    """Write the units and let the manager listen on the socket. -> the files written. Raises ServiceError.

    No daemon may run for this home: its socket would be in the way.
    """
    written = []
    try:
        for path, content in render(service).items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            partial = f"{path}.new"
            with open(partial, "wb") as file:
                file.write(content)
            os.replace(partial, path)
            written.append(path)
        os.makedirs(service.paths.log, mode=0o700, exist_ok=True)
        os.makedirs(os.path.dirname(service.paths.address), mode=0o700, exist_ok=True)
    except OSError as error:
        raise ServiceError(f"{error.filename}: {error.strerror}") from None
    if service.manager == "launchd":
        with contextlib.suppress(ServiceError):
            _launchctl("bootout", f"{_domain()}/{service.name}")
        _launchctl("bootstrap", _domain(), service.files[0])
    else:
        _systemctl("daemon-reload")
        _systemctl("enable", f"{service.name}.service")  # from the next login on it watches without being asked
        _systemctl("start", f"{service.name}.socket")
    return written


def uninstall(service: Service) -> list[str]:
    """Stop it, and remove its units. -> the files removed. Raises ServiceError where a file cannot be removed."""
    with contextlib.suppress(ServiceError):  # without a manager nothing runs; the files go all the same
        if service.manager == "launchd":
            _launchctl("bootout", f"{_domain()}/{service.name}")
        else:
            _systemctl("disable", "--now", f"{service.name}.socket", f"{service.name}.service")
    removed = []
    for path in service.files:
        try:
            os.unlink(path)
            removed.append(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ServiceError(f"{path}: {error.strerror}") from None
    if service.manager == "systemd":
        with contextlib.suppress(ServiceError):
            _systemctl("daemon-reload")
    return removed


def start(service: Service) -> None:
    """Start the installed service. Raises ServiceError, also where the manager cannot be reached."""
    if service.manager == "launchd":
        with contextlib.suppress(ServiceError):  # not there after a log-out that took it away
            _launchctl("bootstrap", _domain(), service.files[0])
        _launchctl("kickstart", f"{_domain()}/{service.name}")
    else:
        _systemctl("start", f"{service.name}.socket", f"{service.name}.service")


def stop(service: Service) -> None:
    """Stop it, and its socket, which would start it again. Raises ServiceError."""
    if service.manager == "launchd":
        _launchctl("bootout", f"{_domain()}/{service.name}")
    else:
        _systemctl("stop", f"{service.name}.socket", f"{service.name}.service")


def state(service: Service) -> dict[str, Any]:
    """`manager`, `name`, `installed`, `files`; `socket` and `service` as the manager calls their states, or `error`."""
    found: dict[str, Any] = {
        "manager": service.manager,
        "name": service.name,
        "installed": service.is_installed(),
        "files": list(service.files),
    }
    if not found["installed"]:
        return found
    try:
        if service.manager == "launchd":
            text = _launchctl("print", f"{_domain()}/{service.name}")
            found["service"] = "active" if "state = running" in text else "inactive"
        else:
            for kind in _UNITS:
                found[kind] = _systemctl("is-active", f"{service.name}.{kind}", may_fail=True).strip() or "unknown"
    except ServiceError as error:
        found["error"] = str(error)
    return found


# --- rendering -----------------------------------------------------------------------------------------------------


def _template(folder: str, name: str) -> str:
    with open(os.path.join(_TEMPLATES, folder, name), encoding="utf-8") as file:
        return file.read()


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Each `@NAME@` replaced; values are never looked at again."""
    parts = template.split("@")
    out = [parts[0]]
    i = 1
    while i < len(parts):
        if parts[i] in values and i + 1 < len(parts):
            out += [values[parts[i]], parts[i + 1]]
            i += 2
        else:
            out.append("@" + parts[i])
            i += 1
    return "".join(out)


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """As systemd reads a word: in double quotes, with C escapes, specifiers doubled."""
    return '"' + _specifiers(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _render_plist(service: Service, command: Sequence[str], environment: Mapping[str, str]) -> bytes:
    import plistlib

    agent = plistlib.loads(_template("launchd", "io.codegraphd.daemon.plist").encode())
    agent["Label"] = service.name
    agent["ProgramArguments"] = [*command, "run"]
    agent["EnvironmentVariables"] = dict(environment)
    agent["Sockets"]["Listeners"]["SockPathName"] = service.paths.address
    agent["StandardErrorPath"] = os.path.join(service.paths.log, "daemon.log")
    return plistlib.dumps(agent)


# --- the managers --------------------------------------------------------------------------------------------------


def _systemctl(*arguments: str, may_fail: bool = False) -> str:
    return _order(["systemctl", "--user", *arguments], may_fail=may_fail)


def _launchctl(*arguments: str) -> str:
    return _order(["launchctl", *arguments])


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _order(command: Sequence[str], *, may_fail: bool = False) -> str:
    import subprocess

    env = {**os.environ, "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    if "XDG_RUNTIME_DIR" not in env and os.path.isdir(f"/run/user/{os.getuid()}"):
        env["XDG_RUNTIME_DIR"] = f"/run/user/{os.getuid()}"  # in a shell that sudo or cron opened
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MANAGER_S, env=env, check=False)
    except FileNotFoundError:
        raise ServiceError(f"{command[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{' '.join(command)} took over {_MANAGER_S:g} s") from None
    said = done.stderr.strip().splitlines()
    if done.returncode != 0 and (not may_fail or (said and "bus" in said[0])):
        raise ServiceError(f"{' '.join(command)}: {said[0] if said else f'exit status {done.returncode}'}")
    return done.stdout
