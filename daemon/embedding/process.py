"""The worker process: it holds the model and does nothing else.

The main thread takes frames apart; the tokeniser thread turns the texts of bulk requests into groups of token ids, one
request ahead of the model; and one or more *lanes* run the model, each on one core. Lanes rather than threads inside
of each product: they never wait for each other, so a core that another process takes costs that core and no more.

Queries have a thread of their own. The others are nice and it is not, so that it takes a core from a lane at once: a
query waits for nothing, neither for the group that is with the model nor for what else the machine does in the
background.
"""

from __future__ import annotations

import collections
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, assert_never

import msgspec
import numpy as np

from codegraphd.daemon.child import child_streams, read_frames, write_frame
from codegraphd.daemon.embedding import messages
from codegraphd.daemon.embedding.backends import Backend, Tokeniser, open_backend, open_tokens
from codegraphd.daemon.embedding.messages import Ask, Broken, Embed, Load, Loaded, Refused, Started, Up, Vectors
from codegraphd.daemon.embedding.models import ModelError
from codegraphd.daemon.embedding.packing import groups
from codegraphd.store.records import CodeFlow

_TOKENISED_AT_ONCE = 32  # texts: the tokeniser holds on to a core for about 5 ms
_PER_THREAD = sys.platform == "linux"  # where niceness is a thread's own; elsewhere the whole process is nice


@dataclass(slots=True)
class _Request:
    """A bulk request with its token ids, on its way through the model group by group."""

    id: int
    ids: list[list[int]]
    truncated: tuple[bool, ...]
    waiting: collections.deque[list[int]]  # groups that no lane has taken yet
    left: int  # groups that are not done
    rows: np.ndarray


class Worker:
    """The state of the process. `run` is the main thread's."""

    def __init__(self, inbox: IO[bytes], outbox: IO[bytes]) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._sending = threading.Lock()
        self._wake = threading.Condition()  # guards the three queues and the requests in them
        self._asked: collections.deque[Ask] = collections.deque()
        self._texts: collections.deque[Embed] = collections.deque()
        self._ready: collections.deque[_Request] = collections.deque()  # with groups that no lane has taken yet

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
            self._backend: Backend = open_backend(load.info, load.device, load.dtype, load.cache_dir)
            self._backend.encode([self._tokens.encode(["warm up"])[0][0]])
        except ModelError as error:
            self._send(Broken(str(error)))
            return 3
        except Exception as error:  # a library's trouble with this model is the model's trouble
            self._send(Broken(f"model {load.info.name}: {type(error).__name__}: {error}"))
            return 3
        backend = self._backend
        # the configured bound is meant for a processor; a card is given what fills it
        self._budget = min(load.batch_tokens, backend.group_tokens) if backend.device == "cpu" else backend.group_tokens
        self._nice = load.nice
        if not _PER_THREAD:
            os.nice(load.nice)
        for number in range(min(load.threads, backend.lanes)):
            threading.Thread(target=self._lane, name=f"lane-{number}", daemon=True).start()
        threading.Thread(target=self._tokenise, name="tokeniser", daemon=True).start()
        threading.Thread(target=self._answer, name="queries", daemon=True).start()
        self._send(Loaded(backend.name, backend.device, backend.dtype, time.perf_counter() - start))
        self._read(frames)
        return 0

    def _read(self, frames: Iterator[bytes]) -> None:
        """Frames into the two queues, until the input ends or cannot be trusted."""
        try:
            for frame in frames:
                message = messages.decode_down(frame)
                with self._wake:
                    match message:
                        case Ask():
                            self._asked.append(message)
                        case Embed():
                            self._texts.append(message)
                        case Load():
                            return
                        case _:
                            assert_never(message)
                    self._wake.notify_all()
        except (OSError, ValueError, msgspec.MsgspecError):
            return

    def _tokenise(self) -> None:
        """The tokeniser thread: at most one request that no lane has begun waits behind it."""
        self._be_nice()
        while True:
            with self._wake:
                while not self._texts or len(self._ready) > 1:
                    self._wake.wait()
                embed = self._texts.popleft()
            try:
                found: list[tuple[list[int], bool]] = []
                for at in range(0, len(embed.texts), _TOKENISED_AT_ONCE):
                    part = slice(at, at + _TOKENISED_AT_ONCE)
                    found += self._ids("document", embed.texts[part], embed.flows[part])
            except Exception as error:  # whatever the tokenizer raises is this request's trouble
                self._send(Refused(embed.id, f"{type(error).__name__}: {error}"))
                continue
            ids = [row for row, _ in found]
            parts = groups([len(row) for row in ids], self._budget)
            rows = np.empty((len(ids), self._info.dim), np.float32)
            cuts = tuple(cut for _, cut in found)
            with self._wake:
                self._ready.append(_Request(embed.id, ids, cuts, collections.deque(parts), len(parts), rows))
                self._wake.notify_all()

    def _ids(self, role: str, texts: Sequence[str], flows: Sequence[CodeFlow | None]) -> list[tuple[list[int], bool]]:
        prefix = self._info.prefix(role)
        return self._tokens.encode([prefix + text for text in texts], flows)

    def _be_nice(self) -> None:
        if _PER_THREAD:
            os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + self._nice))

    # --- bulk work

    def _lane(self) -> None:
        """A lane's thread."""
        self._be_nice()
        while True:
            with self._wake:
                while not self._ready:
                    self._wake.wait()
                taken = self._take()
            self._advance(*taken)

    def _take(self) -> tuple[_Request, list[int]]:
        request = self._ready[0]
        group = request.waiting.popleft()
        if not request.waiting:
            self._ready.popleft()
            self._wake.notify_all()  # the tokeniser may go one request further
        return request, group

    def _advance(self, request: _Request, group: list[int]) -> None:
        """One group of a bulk request through the model."""
        self._send(Started(request.id))
        try:
            rows = self._backend.encode([request.ids[i] for i in group])
        except Exception as error:  # whatever the model raises is this request's trouble
            with self._wake:
                is_first = request.left > 0
                request.left = 0
                request.waiting.clear()
                if request in self._ready:
                    self._ready.remove(request)
                self._wake.notify_all()
            if is_first:
                self._send(Refused(request.id, f"{type(error).__name__}: {error}"))
            return
        with self._wake:
            request.rows[group] = rows
            request.left -= 1
            is_last = request.left == 0
        if is_last:
            found = list(zip(request.ids, request.truncated, strict=True))
            self._send_vectors(request.id, request.rows, found)

    # --- queries

    def _answer(self) -> None:
        """The queries' thread."""
        while True:
            with self._wake:
                while not self._asked:
                    self._wake.wait()
                ask = self._asked.popleft()
            self._send(Started(ask.id))
            try:
                found = self._ids(ask.role, ask.texts, ask.flows)
                self._send_vectors(ask.id, self._in_groups([ids for ids, _ in found]), found)
            except Exception as error:  # whatever the model raises is this request's trouble
                self._send(Refused(ask.id, f"{type(error).__name__}: {error}"))

    def _in_groups(self, ids: Sequence[list[int]]) -> np.ndarray:
        rows = np.empty((len(ids), self._info.dim), np.float32)
        for group in groups([len(row) for row in ids], self._budget):
            rows[group] = self._backend.encode([ids[i] for i in group])
        return rows

    def _send_vectors(self, id_: int, rows: np.ndarray, found: Sequence[tuple[list[int], bool]]) -> None:
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        tokens = tuple(len(ids) for ids, _ in found)
        self._send(Vectors(id_, rows.shape[1], data, tuple(cut for _, cut in found), tokens))

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
        os._exit(status)  # other threads may be inside the model; there is nothing to save


if __name__ == "__main__":
    main()
