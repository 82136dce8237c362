"""The worker process: it holds the model and does nothing else.

Three threads: the reader takes frames apart, the tokeniser turns the texts of bulk requests into groups of token ids,
one request ahead of the model, and the main thread runs the model. A query does not wait for the group that is with
the model: it goes between two of its layers.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, assert_never

import msgspec
import numpy as np

from codegraphd.daemon.child import child_streams, read_frames, write_frame
from codegraphd.daemon.embedding import messages
from codegraphd.daemon.embedding.backends import Backend, Tokeniser, open_backend, open_tokens
from codegraphd.daemon.embedding.messages import Ask, Broken, Embed, Load, Loaded, Refused, Started, Up, Vectors
from codegraphd.daemon.embedding.models import ModelError
from codegraphd.daemon.embedding.packing import groups

_TOKENISED_AT_ONCE = 32  # texts: the tokeniser holds on to a core for about 5 ms


@dataclass(slots=True)
class _Request:
    """A bulk request with its token ids, on its way through the model group by group."""

    id: int
    ids: list[list[int]]
    truncated: tuple[bool, ...]
    groups: list[list[int]]
    rows: np.ndarray | None = None
    done: int = 0  # groups
    seconds: list[float] = field(default_factory=list)


class Worker:
    """The state of the process. `run` is the main thread's."""

    def __init__(self, inbox: IO[bytes], outbox: IO[bytes]) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._sending = threading.Lock()
        self._wake = threading.Condition()
        self._asked: collections.deque[Ask] = collections.deque()
        self._texts: collections.deque[Embed] = collections.deque()
        self._ready: collections.deque[_Request] = collections.deque()
        self._ended = False

    def run(self) -> int:
        """Serve until the input ends. Returns the exit status."""
        frames = read_frames(self._inbox)
        load = messages.decode_down(next(frames))
        if not isinstance(load, Load):
            return 2
        start = time.perf_counter()
        try:
            self._info = load.info
            self._tokens: Tokeniser = open_tokens(load.info)
            self._backend: Backend = open_backend(load.info, load.device, load.dtype, load.threads, load.cache_dir)
            self._call([self._tokens.encode(["warm up"])[0][0]])
        except ModelError as error:
            self._send(Broken(str(error)))
            return 3
        except Exception as error:
            self._send(Broken(f"model {load.info.name}: {type(error).__name__}: {error}"))
            return 3
        self._budget = load.batch_tokens
        backend = self._backend
        self._send(Loaded(backend.name, backend.device, backend.dtype, time.perf_counter() - start))
        threading.Thread(target=self._read, args=(frames,), name="reader", daemon=True).start()
        threading.Thread(target=self._tokenise, name="tokeniser", daemon=True).start()
        self._serve()
        return 0

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not (self._ended or self._asked or self._ready):
                    self._wake.wait()
                if self._ended:
                    return
                request = None if self._asked else self._ready[0]
            self._answer_queries()
            if request is not None:
                self._advance(request)

    def _answer_queries(self) -> None:
        """All the queries that wait. Called between two layers too."""
        while self._asked:
            ask = self._asked.popleft()
            self._send(Started(ask.id))
            try:
                prefix = self._info.prefix(ask.role)
                found = self._tokens.encode([prefix + text for text in ask.texts])
                start = time.perf_counter()
                rows = self._call([ids for ids, _ in found])
                self._send_vectors(ask.id, rows, found, [time.perf_counter() - start])
            except Exception as error:
                self._send(Refused(ask.id, f"{type(error).__name__}: {error}"))

    def _advance(self, request: _Request) -> None:
        """One group of a bulk request through the model."""
        group = request.groups[request.done]
        self._send(Started(request.id))
        start = time.perf_counter()
        try:
            rows = self._backend.encode([request.ids[i] for i in group], self._answer_queries)
        except Exception as error:
            self._ready.popleft()
            self._send(Refused(request.id, f"{type(error).__name__}: {error}"))
            return
        request.seconds.append(time.perf_counter() - start)
        if request.rows is None:
            request.rows = np.empty((len(request.ids), rows.shape[1]), np.float32)
        request.rows[group] = rows
        request.done += 1
        if request.done == len(request.groups):
            self._ready.popleft()
            with self._wake:
                self._wake.notify_all()  # the tokeniser may go one request further
            found = list(zip(request.ids, request.truncated, strict=True))
            self._send_vectors(request.id, request.rows, found, request.seconds)

    def _call(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        return self._backend.encode(ids, lambda: None)

    def _read(self, frames: object) -> None:
        """The reader thread: frames into the two lanes, until the input ends or cannot be trusted."""
        try:
            for frame in frames:  # type: ignore[attr-defined]
                message = messages.decode_down(frame)
                with self._wake:
                    match message:
                        case Ask():
                            self._asked.append(message)
                        case Embed():
                            self._texts.append(message)
                        case Load():
                            break
                        case _:
                            assert_never(message)
                    self._wake.notify_all()
        except (OSError, ValueError, msgspec.MsgspecError):
            pass
        with self._wake:
            self._ended = True
            self._wake.notify_all()

    def _tokenise(self) -> None:
        """The tokeniser thread: one request ahead of the model."""
        while True:
            with self._wake:
                while not self._texts or len(self._ready) > 1:
                    self._wake.wait()
                embed = self._texts.popleft()
            try:
                prefix = self._info.prefix("document")
                found: list[tuple[list[int], bool]] = []
                for at in range(0, len(embed.texts), _TOKENISED_AT_ONCE):
                    texts = embed.texts[at : at + _TOKENISED_AT_ONCE]
                    found += self._tokens.encode([prefix + text for text in texts])
            except Exception as error:
                self._send(Refused(embed.id, f"{type(error).__name__}: {error}"))
                continue
            ids = [row for row, _ in found]
            parts = groups([len(row) for row in ids], self._budget)
            request = _Request(embed.id, ids, tuple(cut for _, cut in found), parts)
            with self._wake:
                self._ready.append(request)
                self._wake.notify_all()

    def _send_vectors(
        self, id_: int, rows: np.ndarray, found: Sequence[tuple[list[int], bool]], seconds: Sequence[float]
    ) -> None:
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        tokens = tuple(len(ids) for ids, _ in found)
        self._send(Vectors(id_, rows.shape[1], data, tuple(cut for _, cut in found), tokens, tuple(seconds)))

    def _send(self, message: Up) -> None:
        with self._sending:
            write_frame(self._outbox, messages.encode(message))


def main() -> None:
    inbox, outbox = child_streams()
    status = 1
    try:
        status = Worker(inbox, outbox).run()
    except (BrokenPipeError, StopIteration):
        status = 0  # the daemon is gone, or never said what to load
    finally:
        outbox.flush()
        os._exit(status)  # other threads may be inside the tokenizer; there is nothing to save


if __name__ == "__main__":
    main()
