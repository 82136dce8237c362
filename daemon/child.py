"""A supervised child process that speaks frames over its standard input and output.

Owns: the start (a fresh interpreter, never a fork of this threaded process), the niceness, the link by which a child
dies with its parent (parent-death signal on Linux, end of input everywhere), and the framing: four bytes of length,
little endian, then the frame. The parser processes and the embedding worker are both such children.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

_LENGTH = struct.Struct("<I")
_PR_SET_PDEATHSIG = 1


class Child:
    """One child. `send` may be called from any thread; `on_frame` and `on_exit` run on the child's reader thread.

    `on_exit` is called exactly once, with the exit status as subprocess has it (negative: a signal).

    Make it on a thread that lives as long as the daemon: the parent-death signal is bound to the *thread* that forked,
    so a child started on a short-lived one (another child's reader, say) dies with that thread.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        name: str,
        on_frame: Callable[[bytes], None],
        on_exit: Callable[[int], None],
        nice: int = 10,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._on_frame, self._on_exit = on_frame, on_exit
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "CODEGRAPHD_NICE": str(nice),
                "CODEGRAPHD_PARENT": str(os.getpid()),
                **(environment or {}),
            },
            start_new_session=True,  # a terminal's Ctrl-C is for the daemon, which ends its children in order
        )
        self.pid = self._process.pid
        threading.Thread(target=self._write, name=f"{name}-out", daemon=True).start()
        self._reader = threading.Thread(target=self._read, name=f"{name}-in", daemon=True)
        self._reader.start()

    def send(self, frame: bytes) -> None:
        """Queue a frame; a child that is gone swallows it (its end is told by `on_exit`)."""
        self._outbox.put(frame)

    def kill(self) -> None:
        """End it now. `on_exit` follows."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self, timeout: float = 3.0) -> None:
        """Let it finish (its input ends), and kill it if it has not left after `timeout` seconds."""
        self._outbox.put(None)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := self._outbox.get()) is not None:
                stdin.write(_LENGTH.pack(len(frame)) + frame)
                stdin.flush()
        with contextlib.suppress(OSError):
            stdin.close()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            for frame in read_frames(stdout):
                self._on_frame(frame)
        except (OSError, ValueError):
            self.kill()  # a torn frame: what comes after cannot be trusted
        finally:
            status = self._process.wait()
            self._outbox.put(None)
            stdout.close()
            self._on_exit(status)


def read_frames(stream: IO[bytes]) -> Iterator[bytes]:
    """Frames until the end of the stream. Raises ValueError when it ends inside of one."""
    while head := stream.read(_LENGTH.size):
        if len(head) < _LENGTH.size:
            raise ValueError("the stream ended inside a frame's length")
        (length,) = _LENGTH.unpack(head)
        frame = stream.read(length)
        if len(frame) < length:
            raise ValueError("the stream ended inside a frame")
        yield frame


def write_frame(stream: IO[bytes], frame: bytes) -> None:
    stream.write(_LENGTH.pack(len(frame)) + frame)
    stream.flush()


def child_streams() -> tuple[IO[bytes], IO[bytes]]:
    """In the child, first thing: its frame streams. Also sets niceness and ties its life to the parent's.

    Standard output is pointed at standard error afterwards, so that a stray print cannot tear a frame.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get("CODEGRAPHD_PARENT", os.getppid())):
            os._exit(1)  # the parent died before the signal was asked for
    with contextlib.suppress(OSError, ValueError):
        os.nice(int(os.environ.get("CODEGRAPHD_NICE", "0")))
    inbox = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    outbox = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return inbox, outbox
