"""The worker process: it holds the model and does nothing else.

The main thread takes frames apart; tokenisers turn the texts of bulk requests into *bundles* of token ids, one bundle
ahead of the model; and one or more *lanes* run the model, on a processor each on one core. Lanes rather than threads
inside of each product: they never wait for each other, so a core that another process takes costs that core, no more.

What a person waits for has a thread of its own: queries, then the few texts of an edit. The others are nice and it is
not, so that it takes a core from a lane at once: it waits for nothing, neither for the group that is with the model nor
for what else the machine does in the background. A larger edit goes to the lanes, before all that waits there.
"""

from __future__ import annotations

import collections
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, assert_never

import msgspec
import numpy as np

from codegraphd.daemon.child import child_streams, read_frames, write_frame
from codegraphd.daemon.embedding import messages
from codegraphd.daemon.embedding.backends import Backend, Tokeniser, open_backend, open_tokens
from codegraphd.daemon.embedding.messages import Ask, Broken, Embed, Load, Loaded, Refused, Started, Up, Vectors
from codegraphd.daemon.embedding.models import ModelError
from codegraphd.daemon.embedding.packing import Bundles, Group, Request, groups, requests_for
from codegraphd.store.records import CodeFlow

_TOKENISED_AT_ONCE = 32  # texts: the tokeniser holds on to a core for about 5 ms
_CHARACTERS_PER_TOKEN = 4
_PER_THREAD = sys.platform == "linux"  # where niceness is a thread's own; elsewhere the whole process is nice


class Worker:
    """The state of the process. `run` is the main thread's."""

    def __init__(self, inbox: IO[bytes], outbox: IO[bytes]) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._sending = threading.Lock()
        self._guard = threading.Lock()  # of the queues, and of the bundles in them
        # A condition for each kind of thread: a query that woke all of them would wait for each to look and lie down.
        self._may_answer = threading.Condition(self._guard)
        self._may_tokenise = threading.Condition(self._guard)
        self._may_run = threading.Condition(self._guard)
        self._asked: collections.deque[Ask] = collections.deque()
        self._edits: collections.deque[Embed] = collections.deque()  # urgent ones that are small
        self._texts: collections.deque[Embed] = collections.deque()  # urgent ones first
        self._ready = Bundles()

    def run(self) -> int:
        """Serve until the input ends. Returns the exit status."""
        frames = read_frames(self._inbox)
        load = messages.decode_down(next(frames))
        if not isinstance(load, Load):
            return 2
        start = time.perf_counter()
        gc.disable()  # loading makes 260,000 objects that stay: looking through them again and again took 0.12 s
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
        gc.freeze()  # and every later look is spared them
        gc.enable()
        backend = self._backend
        # the configured bound is meant for a processor; a card is given what fills it
        is_cpu = backend.device == "cpu"
        self._budget = min(load.batch_tokens, backend.group_tokens) if is_cpu else backend.group_tokens
        self._ready.budget = self._budget
        self._nice = load.nice
        if not _PER_THREAD:
            os.nice(load.nice)
        for number in range(min(load.threads, backend.lanes)):
            threading.Thread(target=self._lane, name=f"lane-{number}", daemon=True).start()
        for number in range(1 if is_cpu else load.threads):  # a card is faster than one of them
            threading.Thread(target=self._tokenise, name=f"tokeniser-{number}", daemon=True).start()
        threading.Thread(target=self._answer, name="prompt", daemon=True).start()
        seconds = time.perf_counter() - start
        self._send(Loaded(backend.name, backend.device, backend.dtype, seconds, requests_for(self._budget)))
        self._read(frames)
        return 0

    def _read(self, frames: Iterator[bytes]) -> None:
        """Frames into the queues, until the input ends or cannot be trusted."""
        try:
            for frame in frames:
                message = messages.decode_down(frame)
                with self._guard:
                    match message:
                        case Ask():
                            self._asked.append(message)
                            self._may_answer.notify()
                        case Embed():
                            self._sort(message)
                        case Load():
                            return
                        case _:
                            assert_never(message)
        except (OSError, ValueError, msgspec.MsgspecError):
            return

    def _sort(self, embed: Embed) -> None:
        """A bulk request or an edit into its queue."""
        longest = _CHARACTERS_PER_TOKEN * self._info.max_tokens  # the rest of a text is not read
        size = sum(min(len(text), longest) for text in embed.texts)
        if embed.urgent and size <= _CHARACTERS_PER_TOKEN * self._budget:
            self._edits.append(embed)
            self._may_answer.notify()
            return
        place = sum(1 for other in self._texts if other.urgent) if embed.urgent else len(self._texts)
        self._texts.insert(place, embed)
        self._may_tokenise.notify()

    def _tokenise(self) -> None:
        """A tokeniser's thread: at most one bundle that no lane has begun waits behind it."""
        self._be_nice()
        while True:
            with self._guard:
                while not self._texts or (self._ready.is_full() and not self._texts[0].urgent):
                    self._may_tokenise.wait()
                embed = self._texts.popleft()
            try:
                found: list[tuple[list[int], bool]] = []
                for at in range(0, len(embed.texts), _TOKENISED_AT_ONCE):
                    part = slice(at, at + _TOKENISED_AT_ONCE)
                    found += self._ids("document", embed.texts[part], embed.flows[part])
            except Exception as error:  # whatever the tokenizer raises is this request's trouble
                self._send(Refused(embed.id, f"{type(error).__name__}: {error}"))
                continue
            cuts = tuple(cut for _, cut in found)
            request = Request(embed.id, [row for row, _ in found], cuts, self._info.dim, is_urgent=embed.urgent)
            with self._guard:
                self._ready.add(request)
                self._may_run.notify_all()

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
            with self._guard:
                while not (group := self._ready.take()):
                    self._may_run.wait()
                self._may_tokenise.notify()
            self._advance(group)

    def _advance(self, group: Group) -> None:
        """One group of bulk requests through the model."""
        for request in group.requests():
            self._send(Started(request.id))
        try:
            rows = self._backend.encode(group.ids())
        except Exception as error:  # whatever the model raises is the trouble of those requests
            with self._guard:
                refused = self._ready.give_up(group)
                self._may_tokenise.notify()
            for request in refused:
                self._send(Refused(request.id, f"{type(error).__name__}: {error}"))
            return
        with self._guard:
            done = group.settle(rows)
        for request in done:
            self._send_vectors(request.id, request.rows, list(zip(request.ids, request.truncated, strict=True)))

    # --- what a person waits for

    def _answer(self) -> None:
        """The prompt thread."""
        while True:
            with self._guard:
                while not self._asked and not self._edits:
                    self._may_answer.wait()
                asked = self._asked.popleft() if self._asked else self._edits.popleft()
            role = asked.role if isinstance(asked, Ask) else "document"
            self._send(Started(asked.id))
            try:
                found = self._ids(role, asked.texts, asked.flows)
                self._send_vectors(asked.id, self._in_groups([ids for ids, _ in found]), found)
            except Exception as error:  # whatever the model raises is this request's trouble
                self._send(Refused(asked.id, f"{type(error).__name__}: {error}"))

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
