"""One client's connection: reading, its requests in flight, and its outbox.

What a client can cost is bounded: the bytes of a half-sent frame and the time it may take, requests in flight (beyond
the bound reading pauses), one encoded reply (`reply_mb`) and some notifications that wait to be read, and the time for
which a client may leave its answers unread. Whoever goes over a bound loses its own connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from codegraphd.ipc.errors import BUSY, INTERNAL, NOT_A_REQUEST, TIMEOUT, TOO_LARGE, RequestError
from codegraphd.ipc.frames import (
    MIB,
    Event,
    Invalid,
    Notification,
    Receiver,
    Request,
    encode_error,
    encode_notification,
    encode_result,
)
from codegraphd.ipc.handler import Handler, Limits
from codegraphd.ipc.messages import parse_params
from codegraphd.ipc.peer import has_left, may_connect, peer_uid

log = logging.getLogger("codegraphd.ipc")

IN_FLIGHT: Final = 256  # requests of one connection; beyond it nothing more is read from it
QUEUE_BYTES: Final = 4 * MIB  # notifications and refusals that wait for one client to read them
SLOW_READER_S: Final = 30.0  # a client that reads nothing for so long while answers wait is disconnected
LINGER_S: Final = 2.0  # for a client to read why it is hung up on
HALF_SENT_S: Final = 30.0  # a frame must be whole within this time of its first byte
REFUSED: Final = 32  # connections over `limits.clients` that are still told why
_HIGH_WATER, _LOW_WATER = MIB // 2, MIB // 8  # bytes given to the system and not taken by the client
_AT_ONCE: Final = 64  # messages taken in one step of the loop
MESSAGE_CHARS: Final = 2000  # of an error
_SLICE: Final = MIB // 4
_BREATH_BYTES: Final = MIB // 4  # encoded between two breaths of the loop: one to two milliseconds
RESERVOIR: Final = 4096  # latest latencies kept
_UNTIMED = frozenset({"verify", "reindex", "gc"})  # as long as they take, until cancelled
_WAITING = _UNTIMED | {"sync"}  # their time says nothing about ours: not in the latency figures


class Front:
    """What all connections of a server share."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.n_requests = 0
        self.n_errors = 0
        self.n_refused = 0
        self.n_slow_readers = 0
        self.latencies: deque[float] = deque(maxlen=RESERVOIR)
        self.connections: set[Connection] = set()


class Connection(asyncio.Protocol):
    """One client. Its `ClientContext` is this object itself."""

    def __init__(self, front: Front, number: int) -> None:
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.is_refused = False
        self._front = front
        self._id = number
        self._receiver = Receiver(int(front.limits.frame_mb * MIB))
        self._transport: asyncio.Transport
        self._is_closed = False
        self._is_deaf = False  # it sent what cannot be read on: it is told so, and what it still sends is dropped
        self._is_half_closed = False  # it will ask nothing more, and waits for its answers
        self._callbacks: list[Callable[[], None]] = []
        self._cancellable: set[int] = set()
        self._unanswered = 0  # counts down: what stands for the msgid of a request that wants no answer
        self._outbox: deque[bytes | bytearray] = deque()
        self._queued_bytes = 0  # of notifications and refusals in the outbox; of replies it holds one at most
        self._pump: asyncio.Task[None] | None = None
        self._encoding = asyncio.Lock()  # one reply at a time is held encoded
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._slow: asyncio.TimerHandle | None = None
        self._half_sent: asyncio.TimerHandle | None = None
        self._is_reading = True
        self._is_scheduled = False

    # --- ClientContext ---

    @property
    def id(self) -> int:
        return self._id

    def notify(self, method: str, params: dict[str, Any]) -> None:
        if self._is_closed:
            return
        if self._queued_bytes > QUEUE_BYTES:
            self._drop_slow()
            return
        self._write(encode_notification(method, params))

    def on_close(self, callback: Callable[[], None]) -> None:
        if self._is_closed:
            callback()
        else:
            self._callbacks.append(callback)

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        uid = peer_uid(transport.get_extra_info("socket"))
        front = self._front
        if not may_connect(uid):
            log.warning("refused a connection of user %s", uid)
            front.n_refused += 1
            self._is_closed = True
            transport.abort()
            return
        n_clients = sum(not connection.is_refused for connection in front.connections)
        if n_clients >= front.limits.clients:
            front.n_refused += 1
            self.is_refused = True  # its first request is answered with BUSY
            self._arm_half_sent()
            if len(front.connections) - n_clients >= REFUSED:
                self._is_closed = True
                transport.abort()
                return
        front.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_closed or self._is_deaf:
            return
        self._receiver.feed(data)
        self._read_on()

    def _read_on(self) -> None:
        """Take what has arrived, a few messages at a time: a read can bring 40,000 of them. Nothing more is read from
        the socket before it is done, so that whoever asks faster than we answer waits in its own `send`."""
        self._is_scheduled = False
        n_taken = 0
        while not (self._is_closed or self._is_deaf):
            if len(self.tasks) >= IN_FLIGHT or self._queued_bytes > QUEUE_BYTES:
                return self._set_reading(False)  # a task or the pump calls again
            if n_taken == _AT_ONCE:
                self._is_scheduled = True
                asyncio.get_running_loop().call_soon(self._read_on)
                return self._set_reading(False)
            event = self._receiver.next_event()
            if event is None:
                break
            n_taken += 1
            self._take(event)
        if self._is_closed or self._is_deaf:
            return None
        if self._receiver.n_buffered == 0:
            if self._half_sent is not None and not self.is_refused:
                self._half_sent.cancel()
                self._half_sent = None
        elif n_taken or self._half_sent is None:
            self._arm_half_sent()
        self._set_reading(True)
        return self._end_when_sent()

    def _set_reading(self, wanted: bool) -> None:
        if wanted != self._is_reading and not self._transport.is_closing():
            self._is_reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The other end closed (so do we, and its requests are cancelled) or only has no more to ask."""
        if self._is_deaf or has_left(self._transport.get_extra_info("socket")):
            return False
        self._is_half_closed = True
        return bool(self.tasks) or not self._is_reading

    def pause_writing(self) -> None:
        self._may_write.clear()
        self._slow = asyncio.get_running_loop().call_later(SLOW_READER_S, self._drop_slow)

    def resume_writing(self) -> None:
        self._may_write.set()
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._is_closed = True
        self._front.connections.discard(self)
        for timer in (self._slow, self._half_sent):
            if timer is not None:
                timer.cancel()
        for task in (*self.tasks.values(), self._pump):
            if task is not None:
                task.cancel()
        self._outbox.clear()
        self._may_write.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("a callback at the end of connection %d failed", self._id)

    # --- requests ---

    def _take(self, event: Event) -> None:
        match event:
            case Request(msgid, method, params):
                if self.is_refused:
                    limit = self._front.limits.clients
                    self._refuse(msgid, BUSY, f"too many clients: {limit} are connected (limits.clients)")
                    self._hang_up()
                elif msgid in self.tasks:
                    self._refuse(msgid, NOT_A_REQUEST, f"msgid {msgid} is in flight already")
                else:
                    self._start(msgid, method, params)
            case Notification("cancel", params):
                msgid = params.get("msgid")
                if isinstance(msgid, int) and msgid in self._cancellable:
                    self.tasks[msgid].cancel()
            case Notification(method, params):  # a request that wants no answer, such as `changed` from an editor
                if not self.is_refused:
                    self._unanswered -= 1
                    self._start(self._unanswered, method, params)
            case Invalid(msgid, code, message, fatal):
                if msgid is not None:
                    self._refuse(msgid, code, message)
                else:
                    self._front.n_errors += 1
                if fatal:
                    log.info("connection %d closed: %s", self._id, message)
                    self._hang_up()

    def _start(self, msgid: int, method: str, params: dict[str, Any]) -> None:
        self._front.n_requests += 1
        self.tasks[msgid] = asyncio.get_running_loop().create_task(self._answer(msgid, method, params))
        self._cancellable.add(msgid)

    async def _answer(self, msgid: int, method: str, params: dict[str, Any]) -> None:
        started = time.perf_counter()
        try:
            try:
                result = await self._handle(method, params)
                self._cancellable.discard(msgid)  # half an answer would tear the stream
                if msgid >= 0:
                    await self._reply(msgid, result)
            except RequestError as error:
                self._refuse(msgid, error.code, error.message)
            except TimeoutError as error:
                self._refuse(msgid, TIMEOUT, str(error) or f"{method} took too long")
            except asyncio.CancelledError:
                if self._is_closed or self._is_deaf:
                    raise
                self._refuse(msgid, TIMEOUT, "cancelled")
            except Exception as error:
                log.exception("%s failed", method)
                self._refuse(msgid, INTERNAL, f"internal error: {type(error).__name__}: {error}")
        finally:
            self._cancellable.discard(msgid)
            self.tasks.pop(msgid, None)
            if method not in _WAITING:
                self._front.latencies.append(time.perf_counter() - started)
            self._go_on()

    async def _handle(self, method: str, params: dict[str, Any]) -> Any:
        typed = parse_params(method, params)
        seconds: float | None = None
        if method not in _UNTIMED:
            seconds = self._front.limits.request_timeout_s
            seconds += getattr(typed, "timeout_s", 0.0) + getattr(typed, "wait_ms", 0) / 1e3
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await self._front.handler.handle(method, typed, self)
        except TimeoutError:
            if deadline.expired():
                raise RequestError(TIMEOUT, f"{method} took over {seconds:g} s (limits.request_timeout_s)") from None
            raise

    async def _reply(self, msgid: int, result: Any) -> None:
        """Encode a result and write it. The next reply of this connection waits until this one has left."""
        async with self._encoding:
            while self._outbox and not self._is_closed:
                await self._may_write.wait()
                await asyncio.sleep(0)
            limit = int(self._front.limits.reply_mb * MIB)
            reply, breath = bytearray(), _BREATH_BYTES
            try:
                for piece in encode_result(msgid, result):
                    reply += piece
                    if len(reply) > limit:
                        raise RequestError(
                            TOO_LARGE, f"the answer is over {limit} bytes (limits.reply_mb): ask for less"
                        )
                    if len(reply) > breath:
                        breath = len(reply) + _BREATH_BYTES
                        await asyncio.sleep(0)
            except (TypeError, ValueError, OverflowError) as error:
                log.exception("an answer cannot be encoded")
                raise RequestError(INTERNAL, f"the answer cannot be encoded: {error}") from error
            self._write(reply, is_reply=True)

    def _refuse(self, msgid: int, code: int, message: str) -> None:
        self._front.n_errors += 1
        if msgid < 0:
            log.debug("connection %d: a notification was refused: %s", self._id, message)
            return
        self._write(encode_error(msgid, code, one_line(message)))

    # --- writing ---

    def _write(self, frame: bytes | bytearray, *, is_reply: bool = False) -> None:
        """Write a whole frame, or queue it behind those that wait."""
        if self._is_closed or self._is_deaf:
            return
        if not self._outbox and self._may_write.is_set() and len(frame) <= _SLICE:
            self._transport.write(frame)
            return
        self._outbox.append(frame)
        self._queued_bytes += 0 if is_reply else len(frame)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run_pump())

    async def _run_pump(self) -> None:
        while self._outbox and not self._is_closed:
            frame = self._outbox[0]  # stays first while its slices leave: nothing may come between
            for start in range(0, len(frame), _SLICE):
                await self._may_write.wait()
                if self._is_closed:
                    return
                self._transport.write(bytes(memoryview(frame)[start : start + _SLICE]))
                await asyncio.sleep(0)  # a client that reads as fast as we write would keep the loop otherwise
                if self._is_closed:
                    return
            self._outbox.popleft()
        self._queued_bytes = 0
        self._go_on()

    def _hang_up(self) -> None:
        """End it so that the client can still read why: closing at once would break what it is sending."""
        self._is_deaf = True
        for task in self.tasks.values():
            task.cancel()
        if self._half_sent is not None:
            self._half_sent.cancel()
        self._half_sent = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
        self._end_when_sent()

    def _go_on(self) -> None:
        """After an answer: take what could not be taken before, or end."""
        if not self._is_reading and not self._is_scheduled:
            self._read_on()
        self._end_when_sent()

    def _end_when_sent(self) -> None:
        if self._outbox or self._is_closed:
            return
        if self._is_deaf:
            self._transport.write_eof()
        elif self._is_half_closed and self._is_reading and not self.tasks:
            self._transport.close()

    def close(self) -> None:
        """Cancel its requests and close once what is written has left."""
        self._is_closed = True
        for task in self.tasks.values():
            task.cancel()
        if not self._transport.is_closing():
            self._transport.close()
            self._arm_half_sent()  # a client that does not read must not keep it open

    def abort(self) -> None:
        self._is_closed = True
        self._transport.abort()

    def _drop_slow(self) -> None:
        log.info("connection %d closed: it does not read its answers", self._id)
        self._front.n_slow_readers += 1
        self.abort()

    def _arm_half_sent(self) -> None:
        if self._half_sent is not None:
            self._half_sent.cancel()
        self._half_sent = asyncio.get_running_loop().call_later(HALF_SENT_S, self._transport.abort)


def one_line(message: str) -> str:
    """A message may quote what a client sent: without line breaks and control characters, and not without end."""
    text = message if len(message) <= MESSAGE_CHARS else f"{message[:MESSAGE_CHARS]}…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else repr(c)[1:-1] for c in text)
