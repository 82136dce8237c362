"""Bytes to whole msgpack-RPC messages and back. Knows no sockets.

Terms: a *frame* is one whole msgpack value; a *message* is a frame of one of the three forms of msgpack-RPC.

Reading is done twice over the same bytes. A scanner only skips: it finds where a frame ends, in C, building nothing
(4 MiB of one-byte elements in 6 ms), so that a header which claims four thousand million elements costs nothing.
Only a frame that is whole, and so cannot claim more elements than it has bytes, is decoded, and that with a bound on
its elements: 4 MiB of empty maps would become 290 MB of Python objects.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack

from codegraphd.ipc.errors import NOT_A_REQUEST, NOT_MSGPACK, TOO_LARGE

MIB: Final = 1 << 20
FRAME_BYTES: Final = 4 * MIB  # what a client may send at once, by default
MAX_ELEMENTS: Final = 1 << 16  # elements of all arrays and maps of a request together
_PIECE: Final = 64  # elements of a long list encoded at once
_FEED: Final = 1 << 16  # bytes handed to the scanner at once
_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2
_SURROGATES: Final = "codegraphd.surrogates"


class Request(NamedTuple):
    msgid: int
    method: str
    params: dict[str, Any]


class Notification(NamedTuple):
    method: str
    params: dict[str, Any]


class Invalid(NamedTuple):
    """Bytes that are no message. `msgid` where one could be read. `fatal`: what follows cannot be trusted."""

    msgid: int | None
    code: int
    message: str
    fatal: bool


Event = Request | Notification | Invalid


class Receiver:
    """The daemon's reading side of one connection: `feed` bytes as they come, ask for events one at a time.

    Never raises for what a peer sends. After a fatal `Invalid` it swallows everything. It holds what was fed and not
    asked for yet, and of that at most `frame_bytes` a second time, in the scanner.
    """

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        self._limit = frame_bytes
        self._buffer = bytearray()
        self._ended = False
        self._restart_scanner()

    @property
    def n_buffered(self) -> int:
        """Bytes that make no event yet, or were not asked for."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if not self._ended:
            self._buffer += data

    def next_event(self) -> Event | None:
        """The next message; None until more bytes are fed."""
        while not self._ended:
            try:
                self._scanner.skip()
            except msgpack.OutOfData:
                if self._n_scanned > self._limit:
                    return self._end(TOO_LARGE, self._too_large())
                if self._n_scanned == len(self._buffer):
                    return None
                piece = bytes(self._buffer[self._n_scanned : self._n_scanned + _FEED])
                self._scanner.feed(piece)
                self._n_scanned += len(piece)
                continue
            except msgpack.StackError:
                return self._end(NOT_A_REQUEST, "nested too deeply")
            except (ValueError, msgpack.UnpackException):
                return self._end(NOT_MSGPACK, "not msgpack")
            end = self._scanner.tell() - self._offset
            if end > self._limit:
                return self._end(TOO_LARGE, self._too_large())
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._offset += end
            self._n_scanned -= end
            if end > _FEED:  # its buffer never shrinks by itself
                self._restart_scanner()
            event = decode(frame)
            if isinstance(event, Invalid) and event.fatal:
                self._stop()
            return event
        return None

    def _end(self, code: int, message: str) -> Invalid:
        msgid = _msgid_of(bytes(self._buffer[:64]))
        self._stop()
        return Invalid(msgid, code, message, fatal=True)

    def _stop(self) -> None:
        self._ended = True
        self._buffer.clear()
        self._restart_scanner()

    def _restart_scanner(self) -> None:
        self._scanner = msgpack.Unpacker(max_buffer_size=self._limit + 2 * _FEED)
        self._offset = 0  # of the buffer's first byte in what the scanner has seen
        self._n_scanned = 0  # bytes of the buffer that the scanner has been given

    def _too_large(self) -> str:
        return f"the frame is over the limit of {self._limit} bytes (limits.frame_mb)"


def decode(frame: bytes) -> Event:
    """One whole frame as a message; never raises."""
    try:
        message = _unpack(frame)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        msgid = _msgid_of(frame[:64])
        return Invalid(msgid, NOT_A_REQUEST, f"not a request: {error or type(error).__name__}", fatal=msgid is None)
    match message:
        case [0, int() as msgid, str() as method, list() as arguments] if _is_msgid(msgid):
            params = _params(arguments)
            if params is None:
                return Invalid(msgid, NOT_A_REQUEST, "params must be an array that holds one map", fatal=False)
            return Request(msgid, method, params)
        case [2, str() as method, list() as arguments]:
            params = _params(arguments)
            if params is None:
                return Invalid(None, NOT_A_REQUEST, "params must be an array that holds one map", fatal=False)
            return Notification(method, params)
        case [0, int() as msgid, *_] if _is_msgid(msgid):
            return Invalid(msgid, NOT_A_REQUEST, "a request is [0, msgid, method, params]", fatal=False)
        case _:
            return Invalid(None, NOT_A_REQUEST, "a message is [0, msgid, method, params] or [2, method, params]", True)


def _params(arguments: list[Any]) -> dict[str, Any] | None:
    match arguments:
        case []:
            return {}
        case [dict() as params]:
            return params
        case [[]]:  # how Lua writes an empty table
            return {}
        case _:
            return None


def _unpack(frame: bytes) -> Any:
    n_left = MAX_ELEMENTS

    def count(value: Any) -> Any:
        nonlocal n_left
        n_left -= len(value) + 1
        if n_left < 0:
            raise ValueError(f"over {MAX_ELEMENTS} elements")
        return value

    return msgpack.unpackb(
        frame,
        unicode_errors="surrogateescape",
        max_array_len=MAX_ELEMENTS,
        max_map_len=MAX_ELEMENTS,
        object_hook=count,
        list_hook=count,
        ext_hook=_no_extension,
    )


def _no_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _msgid_of(start: bytes) -> int | None:
    """The msgid of a request of which only the first bytes can be trusted."""
    head = msgpack.Unpacker()
    head.feed(start)
    try:
        if head.read_array_header() != 4 or head.unpack() != _REQUEST:
            return None
        msgid = head.unpack()
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return msgid if _is_msgid(msgid) else None


def _is_msgid(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# --- writing -------------------------------------------------------------------------------------------------------


def _escape(error: UnicodeError) -> tuple[bytes, int]:
    """Names that are not UTF-8 travel as the bytes they are on the disk; any other lone surrogate as '?'."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    raw = bytes(
        ord(c) - 0xDC00 if 0xDC80 <= ord(c) <= 0xDCFF else ord("?") for c in error.object[error.start : error.end]
    )
    return raw, error.end


codecs.register_error(_SURROGATES, _escape)


def encode_request(msgid: int, method: str, params: dict[str, Any]) -> bytes:
    return bytes(_packer().pack([_REQUEST, msgid, method, [params]]))


def encode_notification(method: str, params: dict[str, Any]) -> bytes:
    return bytes(_packer().pack([_NOTIFICATION, method, [params]]))


def encode_error(msgid: int, code: int, message: str) -> bytes:
    return bytes(_packer().pack([_RESPONSE, msgid, [code, message], None]))


def encode_result(msgid: int, result: Any) -> Iterator[bytes]:
    """A response in pieces, so that a long answer need not hold the loop while it is encoded.

    Raises TypeError, ValueError or OverflowError for what msgpack cannot say.
    """
    packer = _packer()
    yield packer.pack_array_header(4) + packer.pack(_RESPONSE) + packer.pack(msgid) + packer.pack(None)
    if not isinstance(result, dict):
        yield from _pieces(packer, result)
        return
    yield packer.pack_map_header(len(result))
    for key, value in result.items():
        yield packer.pack(key)
        yield from _pieces(packer, value)


def _pieces(packer: msgpack.Packer, value: Any) -> Iterator[bytes]:
    if not isinstance(value, list | tuple) or len(value) <= _PIECE:
        yield packer.pack(value)
        return
    yield packer.pack_array_header(len(value))
    for start in range(0, len(value), _PIECE):
        yield b"".join([packer.pack(item) for item in value[start : start + _PIECE]])


def _packer() -> msgpack.Packer:
    return msgpack.Packer(unicode_errors=_SURROGATES)
