"""The daemon's listening socket: inherited from systemd or launchd, or bound by itself under the home's held lock.

Also the word back to the service manager (`notify_manager`), which needs no library: one datagram.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import stat
import sys
from collections.abc import MutableMapping

from codegraphd.ipc.errors import PathError
from codegraphd.ipc.paths import Paths, secure_directory, short_address

_FIRST_FD = 3  # of those that systemd hands over
LAUNCHD_NAME = "Listeners"  # the key under Sockets in the LaunchAgent
BACKLOG = 512


class Listener:
    """A listening Unix socket, and what of it is on the disk and ours to remove."""

    def __init__(self, sock: socket.socket, address: str, *, inherited: bool, link: str = "") -> None:
        self.sock = sock
        self.address = address
        self.is_inherited = inherited
        self._link = link

    def close(self) -> None:
        """Close it; remove the socket file that we made. An inherited one belongs to the service manager."""
        self.sock.close()
        if not self.is_inherited:
            for path in filter(None, (self._link, self.address)):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def open_listener(paths: Paths, environment: MutableMapping[str, str] | None = None) -> Listener:
    """The inherited socket where there is one, else one bound at the home's address. Raises PathError.

    Call it with the home's lock held: whatever lies at the address then is left over from a daemon that is gone.
    """
    env = os.environ if environment is None else environment
    inherited = _from_systemd(env) or _from_launchd()
    if inherited is not None:
        name = inherited.getsockname()
        return Listener(inherited, os.fsdecode(name) if name else paths.address, inherited=True)
    address = paths.address
    try:
        secure_directory(os.path.dirname(address), "the socket's directory")
        sock = _bind(address)
    except PathError:
        short = short_address(paths.socket, env, os.getuid())
        if not _is_read_only(os.path.dirname(address)) or short == address:
            raise
        secure_directory(os.path.dirname(short), "the socket's directory")
        address, sock = short, _bind(short)
    link = ""
    if address != paths.socket:  # so that whoever looks at the long path sees where the daemon answers
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(paths.socket), mode=0o700, exist_ok=True)
            _remove_stale(paths.socket)
            os.symlink(address, paths.socket)
            link = paths.socket
    return Listener(sock, address, inherited=False, link=link)


def _bind(address: str) -> socket.socket:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(2.0)
        with contextlib.suppress(OSError):
            probe.connect(address)
            raise PathError(f"another daemon answers at {address} with another state directory: stop it first")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(address)
        sock.bind(address)
        os.chmod(address, 0o600)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise PathError(
            f"no socket can be made at {address}: {error.strerror}; set CODEGRAPHD_HOME elsewhere"
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket or link that a dead daemon left. Anything else at that path is not ours: PathError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise PathError(f"{path} is in the way and is no socket: move it, or set CODEGRAPHD_HOME elsewhere")
    os.unlink(path)


def _is_read_only(directory: str) -> bool:
    return os.path.isdir(directory) and not os.access(directory, os.W_OK)


def _from_systemd(env: MutableMapping[str, str]) -> socket.socket | None:
    """The first listening Unix stream socket of LISTEN_FDS, where they are meant for this process."""
    pid, count = env.pop("LISTEN_PID", ""), env.pop("LISTEN_FDS", "")
    env.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return None
    found = None
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        if found is None:
            found = _adopt(fd)
    return found


def _adopt(fd: int) -> socket.socket | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    if (
        sock.family != socket.AF_UNIX
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.detach()
        return None
    sock.setblocking(False)
    return sock


def _from_launchd() -> socket.socket | None:
    """The socket of the LaunchAgent's `Sockets` entry; None when launchd did not start us."""
    if sys.platform != "darwin":
        return None
    activate = ctypes.CDLL(None).launch_activate_socket
    fds, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    if activate(LAUNCHD_NAME.encode(), ctypes.byref(fds), ctypes.byref(count)) != 0:
        return None
    adopted = [_adopt(fds[i]) for i in range(count.value)]
    ctypes.CDLL(None).free(fds)
    return next((sock for sock in adopted if sock is not None), None)


def notify_manager(state: str, environment: MutableMapping[str, str] | None = None) -> bool:
    """Tell systemd `READY=1`, `WATCHDOG=1`, `STATUS=…`, `STOPPING=1`; False where nobody listens. Never raises."""
    env = os.environ if environment is None else environment
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)  # a manager that does not read must not hold the loop
            sock.connect(address)
            sock.send(state.encode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    return True


def watchdog_interval(environment: MutableMapping[str, str] | None = None) -> float | None:
    """Seconds between two `WATCHDOG=1` (half of what the manager allows); None where it does not watch us."""
    env = os.environ if environment is None else environment
    limit, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not limit.isdigit() or int(limit) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit) / 2e6
