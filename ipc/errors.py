"""What can go wrong on the wire, as the numbers that both ends know.

Exception
├── RequestError       the daemon refuses one request: `code` and `message` travel as `[code, message]`
├── PathError          a socket, lock or directory cannot be used; the text says what to set
│   └── AlreadyRunning the home's lock is held by another daemon
└── ClientError        seen by a client
    ├── RemoteError    the daemon answered `[code, message]`
    ├── Unreachable    no daemon answers at the socket
    ├── Disconnected   the connection ended, or what came was no msgpack-RPC
    └── DeadlineError  no answer in time
"""

from __future__ import annotations

NOT_MSGPACK = -32700
NOT_A_REQUEST = -32600
UNKNOWN_METHOD = -32601
BAD_PARAMETERS = -32602
INTERNAL = -32603
NOT_WATCHED = 1
NOT_FOUND = 2
BUSY = 3
TIMEOUT = 4
UNAVAILABLE = 5
TOO_LARGE = 6


class RequestError(Exception):
    """Raised by a handler: the request is answered with `[code, message]`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PathError(Exception):
    """A path that the daemon or a client needs cannot be used; one line that says what to set."""


class AlreadyRunning(PathError):  # noqa: N818 - a state, named as one
    """Another daemon holds this home's lock. `pid` is 0 and `socket` "" where the holder could not write them."""

    def __init__(self, pid: int, socket: str) -> None:
        who = f"process {pid}" if pid else "another process"
        where = f", socket {socket}" if socket else ""
        super().__init__(f"codegraphd already runs for this home: {who}{where}; 'codegraphd stop' ends it")
        self.pid = pid
        self.socket = socket


class ClientError(Exception):
    """What a client can meet."""


class RemoteError(ClientError):
    """The daemon refused: `code` is one of this module's numbers."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unreachable(ClientError):  # noqa: N818
    """No daemon answers at the socket."""


class Disconnected(ClientError):  # noqa: N818
    """The daemon closed the connection, or sent what is no msgpack-RPC."""


class DeadlineError(ClientError):
    """No answer within the deadline; the request was cancelled."""
