"""Where the socket, the state, the configuration and the log of one home lie, and whether they can be trusted.

`CODEGRAPHD_HOME=DIR` puts everything under DIR; without it XDG directories on Linux, Apple's on macOS. A home has one
daemon. Client and daemon compute the same paths from the same environment; where their environments differ (no
XDG_RUNTIME_DIR in a cron job), the socket that the daemon recorded in its lock file is what a client tries next.

A Unix socket's path must fit in `sun_path` (107 bytes on Linux, 103 on macOS). A longer one is replaced by a short one
in the user's runtime directory, named by a digest of the long one, and the long path becomes a symbolic link to it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from codegraphd.ipc.errors import PathError

SUN_PATH_BYTES = 103 if sys.platform == "darwin" else 107
SOCKET_NAME = "daemon.sock"
LOCK_NAME = "daemon.lock"


class Paths(NamedTuple):
    """Absolute paths of one home. `home` is "" where CODEGRAPHD_HOME is not set."""

    home: str
    socket: str  # where users look for it
    address: str  # what is bound and connected to: `socket`, or a short path that stands for it
    state: str  # directory
    config: str  # file
    log: str  # directory

    @property
    def lock(self) -> str:
        return os.path.join(self.state, LOCK_NAME)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, platform: str = sys.platform, uid: int | None = None
    ) -> Paths:
        """The paths of the home that the environment names. Touches nothing. Raises PathError."""
        env = os.environ if environment is None else environment
        uid = os.getuid() if uid is None else uid
        home = env.get("CODEGRAPHD_HOME", "")
        if "\0" in home or "\n" in home:
            raise PathError("CODEGRAPHD_HOME holds a line break or NUL: set it to a plain directory")
        if home:
            home = os.path.abspath(home)
            socket, state, config, log = (os.path.join(home, n) for n in (SOCKET_NAME, "state", "config.toml", "log"))
        elif platform == "darwin":
            library = os.path.join(_user_home(env), "Library")
            state = os.path.join(library, "Application Support", "codegraphd")
            socket, config = os.path.join(state, SOCKET_NAME), os.path.join(state, "config.toml")
            log = os.path.join(library, "Logs", "codegraphd")
        else:
            state = os.path.join(_xdg(env, "XDG_STATE_HOME", ".local/state"), "codegraphd")
            config = os.path.join(_xdg(env, "XDG_CONFIG_HOME", ".config"), "codegraphd", "config.toml")
            log = os.path.join(state, "log")
            runtime = _runtime_directory(env, uid)
            socket = os.path.join(os.path.join(runtime, "codegraphd") if runtime else state, SOCKET_NAME)
        return cls(home, socket, _address(socket, env, uid), state, config, log)

    def addresses(self) -> Iterator[str]:
        """What a client connects to, in the order in which to try: computed, recorded, short."""
        seen = {self.address}
        yield self.address
        for other in (read_lock(self.lock)[1], short_address(self.socket, os.environ, os.getuid())):
            if other and other not in seen:
                seen.add(other)
                yield other


def read_lock(path: str) -> tuple[int, str, str]:
    """What a daemon wrote into its lock file: pid, socket, version; (0, "", "") where there is nothing to read.

    It says who held the lock last; whether somebody holds it now, only trying the lock tells (`ipc.lock`).
    """
    pid, socket, version = 0, "", ""
    with contextlib.suppress(OSError, ValueError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            for line in os.read(fd, 65_536).split(b"\n"):
                name, _, value = line.partition(b" ")
                if name == b"pid":
                    pid = int(value)
                elif name == b"socket":
                    socket = os.fsdecode(value)
                elif name == b"version":
                    version = value.decode("ascii", "replace")
        finally:
            os.close(fd)
    return pid, socket, version


def short_address(socket: str, env: Mapping[str, str], uid: int) -> str:
    """The short path that stands for a socket path that is too long or lies where nothing can be written."""
    import hashlib

    name = hashlib.sha256(os.fsencode(socket)).hexdigest()[:16] + ".sock"
    for directory in (_runtime_directory(env, uid), "/tmp"):  # noqa: S108 - its owner and mode are checked before use
        if directory:
            below = "codegraphd" if directory != "/tmp" else f"codegraphd-{uid}"  # noqa: S108
            path = os.path.join(directory, below, name)
            if fits(path):
                return path
    raise PathError(f"no socket path is short enough (longest: {SUN_PATH_BYTES} bytes): set CODEGRAPHD_HOME shorter")


def fits(path: str) -> bool:
    return len(os.fsencode(path)) <= SUN_PATH_BYTES


def secure_directory(path: str, what: str) -> str:
    """The directory, made with mode 0700 where it was missing; its real path.

    Refused with PathError: not ours, writable by group or others, a link that is not ours, or no directory. Whoever
    could write in it could put a socket of their own where a client of ours would connect to it.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if stat.S_ISLNK(os.lstat(path).st_mode) and os.lstat(path).st_uid != os.geteuid():
            raise PathError(f"{what} {path} is a link that belongs to another user: {_ELSEWHERE}")
        real = os.path.realpath(path)
        found = os.stat(real)
    except FileExistsError:
        raise PathError(f"{what} {path} is not a directory: {_ELSEWHERE}") from None
    except OSError as error:
        raise PathError(f"{what} {path} cannot be used: {error.strerror or error}; {_ELSEWHERE}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise PathError(f"{what} {path} is not a directory: {_ELSEWHERE}")
    if found.st_uid != os.geteuid():
        raise PathError(f"{what} {path} belongs to user {found.st_uid}, not to you ({os.geteuid()}): {_ELSEWHERE}")
    if found.st_mode & 0o022:
        raise PathError(f"{what} {path} can be written by others: run chmod go-w '{path}', or {_ELSEWHERE}")
    return real


_ELSEWHERE = "set CODEGRAPHD_HOME to a directory of your own"


def _address(socket: str, env: Mapping[str, str], uid: int) -> str:
    return socket if fits(socket) else short_address(socket, env, uid)


def _user_home(env: Mapping[str, str]) -> str:
    home = env.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        raise PathError("HOME is not set: set CODEGRAPHD_HOME to a directory of your own")
    return home


def _xdg(env: Mapping[str, str], name: str, default: str) -> str:
    value = env.get(name, "")
    return value if os.path.isabs(value) else os.path.join(_user_home(env), default)  # relative ones are to be ignored


def _runtime_directory(env: Mapping[str, str], uid: int) -> str:
    """XDG_RUNTIME_DIR, or where the system would have it; "" where there is none."""
    value = env.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(value):
        return value
    usual = f"/run/user/{uid}"
    with contextlib.suppress(OSError):
        if os.stat(usual).st_uid == uid:
            return usual
    return ""
