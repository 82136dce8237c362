"""The held lock: one daemon for one home.

It is an flock on the state directory itself, which can be taken even where nothing can be written, and which the
system drops however the daemon ends. Beside it lies the lock file, held as well: it records who runs and on which
socket, for people, for the second daemon's message and for clients.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from codegraphd.ipc.errors import AlreadyRunning, PathError
from codegraphd.ipc.paths import Paths, read_lock, secure_directory
from codegraphd.ipc.version import VERSION

_TRIES, _PAUSE_S = 5, 0.05  # somebody who only asks (`is_locked`) holds it for some microseconds


class Lock:
    """The held lock of a home. It is held until `release`, or until the process ends."""

    def __init__(self, directory_fd: int, file_fd: int | None) -> None:
        self._directory_fd = directory_fd
        self._file_fd = file_fd

    @property
    def is_writable(self) -> bool:
        """False: the state directory takes no writing."""
        return self._file_fd is not None

    def record(self, socket: str) -> None:
        """Write who holds it and where it answers."""
        if self._file_fd is None:
            return
        text = b"pid %d\nversion %s\nsocket %s\n" % (os.getpid(), VERSION.encode(), os.fsencode(socket))
        with contextlib.suppress(OSError):  # a full disk must not end the daemon; the lock itself is held
            os.ftruncate(self._file_fd, 0)
            os.pwrite(self._file_fd, text, 0)

    def release(self) -> None:
        if self._file_fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file_fd, 0)
            os.close(self._file_fd)
            self._file_fd = None
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1


def acquire_lock(paths: Paths) -> Lock:
    """Take the home's lock. Raises AlreadyRunning, which names the holder, or PathError."""
    secure_directory(paths.state, "the state directory")
    directory_fd = os.open(paths.state, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    for attempt in range(_TRIES):
        if _try(directory_fd):
            break
        if attempt == _TRIES - 1:
            os.close(directory_fd)
            pid, socket, _ = read_lock(paths.lock)
            raise AlreadyRunning(pid, socket)
        time.sleep(_PAUSE_S)
    try:
        return Lock(directory_fd, _open_file(paths.lock))
    except BaseException:
        os.close(directory_fd)
        raise


def is_locked(paths: Paths) -> bool:
    """Whether a daemon holds the home's lock now. Writes nothing."""
    try:
        fd = os.open(paths.state, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        return not _try(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _open_file(path: str) -> int | None:
    """The lock file, held; None where the directory takes no writing."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.ENOSPC):
            return None
        raise PathError(f"the lock {path} cannot be opened: {error.strerror}; remove it") from None
    _try(fd)
    return fd


def _try(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        raise PathError(f"the state directory cannot be locked: {error.strerror}; set CODEGRAPHD_HOME") from None
    return True
