"""What runs inside a parser process: read a file, hash it, parse it, answer.

Owns: the wire between the pool (`daemon.parsers`) and its children, and the child's main loop. The wire joins processes
of one version only, so it is nothing but msgpack of tuples in the order of the records' fields.

    request   [id, "parse", urgent, root, path, known digest or nil, max_bytes, places of the module cache]
              [id, "render", urgent, root, path, digest, indices of the units whose data flow is wanted]
              [id, "study", urgent, root, path, digest, language, start_byte, end_byte]
    answer    [0, "ready", process id]                      once, when the grammars are at hand
              [id, "start", stat, digest, language, cpu]    parsing of these bytes begins now; processor time so far
              [id, "module", stat, packed module, seconds, packed texts of an urgent request]
              [id, "seen", stat, packed module]             as the module cache had it
              [0, "refused"]                                the disk did not take an entry of that cache
              [id, "unchanged", stat]   [id, "gone"]   [id, "skipped", stat or nil, reason]   [id, "raised", text]
              [id, "texts", texts or nil, [[index, flow], …]]   [id, "studied", map or nil]

The child looks at its input between two files, so that an urgent request overtakes the bulk that already lies there.
A "start" is sent in the same write as the answer before it: it costs no extra wake-up of the daemon, and it tells the
pool whom to blame, and with which digest, when the process hangs or dies.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import importlib
import os
import select
import stat as stat_module
import struct
import sys
import time
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import IO, Any, Protocol

import msgpack

from codegraphd.daemon import module_cache
from codegraphd.daemon.child import child_streams, write_frame
from codegraphd.daemon.packing import packed
from codegraphd.store.records import CodeFlow, Module, PackedModule, Stat, Unit

ANALYSIS = "codegraphd.daemon.analysis.parse"
_LENGTH = struct.Struct("<I")
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENAMETOOLONG})


# --- the wire --------------------------------------------------------------------------------------------------------


def _fields(record: type) -> Callable[[Any], tuple[Any, ...]]:
    names = tuple(record.__dataclass_fields__)  # type: ignore[attr-defined]
    getter: Callable[[Any], tuple[Any, ...]] = attrgetter(*names)
    return getter


_unit, _stat, _flow = map(_fields, (Unit, Stat, CodeFlow))


def pack(value: Any) -> bytes:
    """msgpack with any string that Python can hold: names of files and pieces of source need not be UTF-8."""
    raw: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return raw


def unpack(frame: bytes) -> Any:
    """Arrays as tuples. Raises ValueError on what is not msgpack."""
    return msgpack.unpackb(frame, use_list=False, unicode_errors="surrogatepass")


def module_to_wire(module: PackedModule) -> bytes:
    m = module
    units = [_unit(unit) for unit in m.units]
    return pack((m.language, m.digest, m.size, m.lines, units, m.words, m.facts, m.outline, m.errors, m.skipped))


def module_from_wire(raw: bytes) -> PackedModule:
    language, digest, size, lines, units, *rest = unpack(raw)
    return PackedModule(language, digest, size, lines, tuple([Unit(*unit) for unit in units]), *rest)


# --- reading ---------------------------------------------------------------------------------------------------------


class UnreadableError(Exception):
    """The file is there and cannot be had. `reason` as in FileRecord.skipped; `stat` where it was seen."""

    def __init__(self, reason: str, stat: Stat | None = None) -> None:
        super().__init__(reason)
        self.reason, self.stat = reason, stat


def read_file(root: bytes, path: bytes, max_bytes: int) -> tuple[Stat, bytes] | None:
    """The bytes, and the stat from just before they were read; None when no regular file is there.

    Never blocks on a fifo or a device and follows no link in the last component. A writer at work makes the stat older
    than the bytes, never younger: the next scan then reads again. Raises UnreadableError.
    """
    try:
        handle = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise UnreadableError("unreadable") from error
    try:
        found = os.fstat(handle)
        if not stat_module.S_ISREG(found.st_mode):
            return None
        stat = Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        if found.st_size > max_bytes:
            raise UnreadableError("too large", stat)
        try:
            with os.fdopen(os.dup(handle), "rb", buffering=0) as file:
                source = b"".join(iter(lambda: file.read(max(stat.size, 65536) + 1), b""))
        except OSError as error:
            raise UnreadableError("unreadable", stat) from error
        if len(source) > max_bytes:  # it grew under our hands
            raise UnreadableError("too large", stat)
        return stat, source
    finally:
        os.close(handle)


# --- the child -------------------------------------------------------------------------------------------------------


class Analysis(Protocol):
    """What the child needs of `daemon.analysis.parse` (tests hand in a module of their own)."""

    def parse(self, path: str, source: bytes) -> Module: ...

    def render(self, path: str, source: bytes) -> tuple[str, ...]: ...

    def render_flows(
        self, path: str, source: bytes, wanted: Collection[int]
    ) -> tuple[tuple[str, ...], dict[int, CodeFlow]]: ...

    def parse_and_render(self, path: str, source: bytes) -> tuple[Module, tuple[str, ...]]: ...


class Inbox:
    """Requests as they lie in the pipe: `next` takes the first urgent one, else the first one."""

    def __init__(self, handle: int) -> None:
        self._handle, self._buffer, self._waiting, self._open = handle, bytearray(), list[tuple[Any, ...]](), True

    def next(self, *, wait: bool) -> tuple[Any, ...] | None:
        """None: nothing there (`wait` False), or the input has ended (`wait` True)."""
        while self._readable():
            self._fill()
        while wait and self._open and not self._waiting:
            self._fill()
        for place, request in enumerate(self._waiting):
            if request[2]:
                return self._waiting.pop(place)
        return self._waiting.pop(0) if self._waiting else None

    def _readable(self) -> bool:
        return self._open and bool(select.select([self._handle], [], [], 0)[0])

    def _fill(self) -> None:
        got = os.read(self._handle, 1 << 16)
        if not got:
            self._open = False
        self._buffer += got
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                break
            self._waiting.append(unpack(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]


def answer(
    request: tuple[Any, ...], analysis: Analysis, send: Callable[..., None], started: Callable[..., None]
) -> None:
    """Do one request. `started(id, "start", ...)` is called before any parsing, `send` with the answer."""
    number, task, urgent, root, path, *rest = request
    name = os.fsdecode(path)
    is_parse = task == "parse"
    nothing = (number, "studied", None) if task == "study" else (number, "texts", None, ())
    try:
        found = read_file(root, path, rest[1] if is_parse else sys.maxsize)
    except UnreadableError as trouble:
        stat = trouble.stat and _stat(trouble.stat)
        return send(*((number, "skipped", stat, trouble.reason) if is_parse else nothing))
    if found is None:
        return send(*((number, "gone") if is_parse else nothing))
    stat, source = found
    digest = hashlib.sha256(source).digest()
    if (digest == rest[0]) != (not is_parse):
        return send(*((number, "unchanged", _stat(stat)) if is_parse else nothing))
    language = _language(analysis, name, source)
    places = rest[2] if is_parse and len(source) >= module_cache.LEAST_BYTES else ()
    key = module_cache.key_of(digest, name, language)
    if places and (seen := module_cache.read(places, key)) is not None:
        return send(number, "seen", _stat(stat), seen)
    started(number, "start", _stat(stat), digest, language, time.process_time())
    before = time.perf_counter()
    try:
        if task == "render":
            return send(number, "texts", *_texts(analysis, name, source, rest[1]))
        if task == "study":
            return send(number, "studied", _study(source, *rest[1:]))
        module, texts = _parsed(analysis, name, source, urgent=urgent)
    except Exception as error:  # "never raises" is a promise; breaking it must cost one file only
        return send(number, "raised", f"{type(error).__name__}: {error}"[:500])
    send(number, "module", _stat(stat), module, time.perf_counter() - before, texts)
    if places:  # somebody may wait for the answer, nobody for this
        try:
            module_cache.write(places, key, module)
        except OSError:
            send(0, "refused")
    return None


def _parsed(analysis: Analysis, name: str, source: bytes, *, urgent: bool) -> tuple[bytes, bytes]:
    """The module, and the own texts of an edit: they go to the model next, and need no second parse then."""
    if not urgent:
        return module_to_wire(packed(analysis.parse(name, source))), b""
    module, texts = analysis.parse_and_render(name, source)
    return module_to_wire(packed(module)), pack(texts)


def _texts(analysis: Analysis, name: str, source: bytes, wanted: Collection[int]) -> tuple[Any, ...]:
    if not wanted:
        return analysis.render(name, source), ()
    texts, flows = analysis.render_flows(name, source, wanted)
    return texts, [(index, _flow(flow)) for index, flow in flows.items()]


def _study(source: bytes, language: str, start: int, end: int) -> dict[str, Any]:
    """What `explain` shows of a unit beyond what is indexed: computed when asked for, here, since it parses again."""
    from codegraphd.daemon.analysis import features, flow

    found: dict[str, Any] = {"features": None, "control_flow": None, "data_flow": None}
    if language in flow.LANGUAGES:
        found["features"] = features.features(language, source, start, end).to_dict()
        found["control_flow"] = flow.control_flow(language, source, start, end).to_dict()
        found["data_flow"] = flow.data_flow(language, source, start, end).to_dict()
    return found


def _language(analysis: Analysis, path: str, source: bytes) -> str:
    language_of = getattr(analysis, "language_of", None)
    if language_of is None:
        language_of = importlib.import_module("codegraphd.daemon.analysis.languages").language_of
    return language_of(path, source[:200].split(b"\n", 1)[0]) or "text"


def main(arguments: list[str]) -> None:
    inbox_stream, outbox = child_streams()
    analysis: Any = importlib.import_module(arguments[0] if arguments else ANALYSIS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)  # parsing leaves no cycles, and looking for them took 6% of it
    inbox = Inbox(inbox_stream.fileno())
    with contextlib.suppress(BrokenPipeError):
        write_frame(outbox, pack((0, "ready", os.getpid())))
        _serve(inbox, outbox, analysis)


def _serve(inbox: Inbox, outbox: IO[bytes], analysis: Analysis) -> None:
    def send(*message: Any) -> None:
        frame = pack(message)
        outbox.write(_LENGTH.pack(len(frame)) + frame)

    def flush(*message: Any) -> None:
        send(*message)
        outbox.flush()

    while True:
        request = inbox.next(wait=False)
        if request is None:
            outbox.flush()
            request = inbox.next(wait=True)
            if request is None:
                return
        answer(request, analysis, flush if request[2] else send, flush)


if __name__ == "__main__":
    main(sys.argv[1:])
