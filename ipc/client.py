"""A blocking client for the command line, tests and users. Imports in milliseconds: msgpack and socket only.

    with Client.connect() as client:
        for unit in client.call("search", query="parse the config")["results"]: ...

One thread uses a client at a time. Several requests may be in flight (`send`, then `wait` for each).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgpack

from codegraphd.ipc.errors import (
    DeadlineError,
    Disconnected,
    PathError,
    RemoteError,
    Unreachable,
)
from codegraphd.ipc.frames import MIB, encode_notification, encode_request
from codegraphd.ipc.paths import Paths
from codegraphd.ipc.version import VERSION

_READ_BYTES = 1 << 18
_REPLY_BYTES = 1024 * MIB  # more than any daemon sends: its own bound is limits.reply_mb
_MAX_NOTICES = 10_000


class Client:
    """A connection to the daemon. Use `Client.connect`."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self._socket = sock
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=_REPLY_BYTES, unicode_errors="surrogateescape", strict_map_key=False
        )
        self._next_id = 0
        self._waiting: set[int] = set()
        self._answers: dict[int, tuple[Any, Any]] = {}
        self._notices: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_MAX_NOTICES)
        self._hello: dict[str, Any] | None = None

    @classmethod
    def connect(cls, where: Paths | str | None = None, *, timeout: float = 5.0) -> Client:
        """Connect to a home's daemon (None: the environment's home), or to the socket at a path.

        Raises Unreachable where none answers within `timeout` seconds.
        """
        if where is None or isinstance(where, Paths):
            try:
                addresses = list((where or Paths.from_environment()).addresses())
            except PathError as error:
                raise Unreachable(str(error)) from None
        else:
            addresses = [where]
        reason = ""
        for address in addresses:
            try:
                return cls(_connect(address, timeout), address)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError | ConnectionRefusedError)
                reason = reason or ("" if gone else f" ({error.strerror or error})")
        raise Unreachable(f"no daemon answers at {addresses[0]}{reason}")

    def call(self, method: str, /, *, deadline: float | None = None, **params: Any) -> Any:
        """The result of one request. Parameters that are None are left out.

        Raises RemoteError(code, message), DeadlineError after `deadline` seconds (None: waits as long as it takes;
        the daemon has bounds of its own), Disconnected.
        """
        return self.wait(self.send(method, **params), deadline=deadline)

    def send(self, method: str, /, **params: Any) -> int:
        """Send a request without waiting; its msgid for `wait` or `cancel`."""
        msgid = self._next_id + 1
        given = {name: value for name, value in params.items() if value is not None}
        if self._hello is not None and method in (known := self._hello.get("params") or {}):
            # A daemon older than we are refuses a field that it does not know; all that were added have defaults.
            given = {name: value for name, value in given.items() if name in known[method]}
        frame = encode_request(msgid, method, given)
        self._next_id = msgid
        self._waiting.add(msgid)
        self._write(frame)
        return msgid

    def wait(self, msgid: int, *, deadline: float | None = None) -> Any:
        """The result of a request that was sent; answers to others are kept until they are asked for."""
        end = None if deadline is None else time.monotonic() + deadline
        while msgid not in self._answers:
            if not self._read(end):
                self.cancel(msgid)
                raise DeadlineError(f"no answer within {deadline:g} s")
        self._waiting.discard(msgid)
        error, result = self._answers.pop(msgid)
        if error is not None:
            code, message = error if isinstance(error, list) and len(error) == 2 else (0, str(error))
            raise RemoteError(code, message)
        return result

    def is_answered(self, msgid: int, *, within: float) -> bool:
        """Whether the answer to a request that was sent is there, after waiting for it up to `within` seconds."""
        end = time.monotonic() + within
        while msgid not in self._answers and self._read(end):
            pass
        return msgid in self._answers

    def cancel(self, msgid: int) -> None:
        """The daemon stops work on that request; what it still answers to it is dropped."""
        self._waiting.discard(msgid)
        self._answers.pop(msgid, None)
        self._write(encode_notification("cancel", {"msgid": msgid}))

    def notify(self, method: str, /, **params: Any) -> None:
        self._write(encode_notification(method, params))

    def notifications(self, *, timeout: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """What the daemon sends by itself, until `timeout` seconds pass with none (None: for ever)."""
        while True:
            end = None if timeout is None else time.monotonic() + timeout
            while not self._notices:
                if not self._read(end):
                    return
            yield self._notices.popleft()

    def hello(self, *, deadline: float = 10.0) -> dict[str, Any]:
        """What the daemon is: `version`, `protocol`, `pid`, `methods`; asked once for a connection."""
        if self._hello is None:
            self._hello = dict(self.call("hello", client=f"codegraphd {VERSION}", deadline=deadline))
        return self._hello

    def is_same_version(self) -> bool:
        """False: the package was updated since that daemon started (or the daemon is newer than this client)."""
        return self.hello().get("version") == VERSION

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(None)
            self._socket.sendall(data)
        except OSError as error:
            # A daemon that refuses says why before it closes: that answer is worth more than "broken pipe".
            with contextlib.suppress(Disconnected):
                while self._read(time.monotonic()):
                    pass
            if not (self._waiting & self._answers.keys()):
                raise Disconnected(f"the daemon closed the connection: {error.strerror}") from None

    def _read(self, end: float | None) -> bool:
        """Take what comes next; False when nothing came until `end` (monotonic seconds)."""
        left = None if end is None else end - time.monotonic()
        try:
            self._socket.settimeout(left if left is None or left > 0 else 1e-6)
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            return False
        except OSError as error:
            raise Disconnected(f"the connection broke: {error.strerror or error}") from None
        if not data:
            raise Disconnected("the daemon closed the connection")
        try:
            self._unpacker.feed(data)
            for message in self._unpacker:
                self._take(message)
        except (ValueError, msgpack.UnpackException) as error:
            raise Disconnected(f"what came is no msgpack-RPC: {error}") from None
        return True

    def _take(self, message: Any) -> None:
        match message:
            case [1, int() as msgid, error, result]:
                if msgid in self._waiting:
                    self._answers[msgid] = (error, result)
            case [2, str() as method, [dict() as params]]:
                self._notices.append((method, params))
            case _:
                raise Disconnected("what came is no msgpack-RPC")


def _connect(address: str, timeout: float) -> socket.socket:
    if os.stat(address).st_uid not in (os.geteuid(), 0):
        raise OSError(errno.EPERM, "the socket belongs to another user")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
