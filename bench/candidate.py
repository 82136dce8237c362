"""The worker under measurement: the real one, driven as the daemon drives it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from codegraphd.daemon.embedding.models import DEFAULT
from codegraphd.daemon.embedding.worker import Embedded, Embedder, Failed, ModelState, ModelUnavailableError
from codegraphd.store.records import Batch, Input, digest

PIECE = 64  # what the feeder puts into a batch


@dataclasses.dataclass(frozen=True)
class Section:
    """The configuration's [embedding]."""

    model: str = DEFAULT
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int = 2048
    max_tokens: int = 128
    fallback_models: tuple[str, ...] = ()
    idle_unload_s: float = 600
    threads: int = 0


@contextlib.contextmanager
def surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Candidate:
    """The real worker, as the daemon uses it but without niceness, so that it and the baseline are scheduled alike."""

    def __init__(self, section: Section, cache: str, variables: Mapping[str, str], nice: int = 0) -> None:
        """Raises ModelUnavailableError when the model cannot be run so."""
        self.heard: queue.SimpleQueue[Embedded | Failed | ModelState] = queue.SimpleQueue()
        self.numbers = 0
        self.edits: dict[int, threading.Event] = {}  # batch -> set when it is answered
        start = time.perf_counter()
        with surroundings(variables):
            self.embedder = Embedder(section, cache, self._hear, nice=nice)
            self.embedder.start()
            try:
                self.embedder.query(["warm"], timeout=300).result()
            except ModelUnavailableError:
                self.embedder.close()
                raise
        self.start_s = time.perf_counter() - start

    def submit(self, texts: Sequence[str]) -> int:
        """Send batches; returns how many answers will come."""
        parts = [texts[at : at + PIECE] for at in range(0, len(texts), PIECE)]
        for part in parts:
            self.numbers += 1
            self.embedder.submit(Batch(self.numbers, tuple(Input(digest(text), text) for text in part)))
        return len(parts)

    def edit(self, text: str) -> float:
        """Seconds for one text that was just saved."""
        number = -len(self.edits) - 1
        done = self.edits[number] = threading.Event()
        start = time.perf_counter()
        self.embedder.submit(Batch(number, (Input(digest(text), text),), urgent=True))
        if not done.wait(60):
            raise RuntimeError("an edit was not embedded")
        return time.perf_counter() - start

    def _hear(self, record: Embedded | Failed | ModelState) -> None:
        if isinstance(record, Embedded) and record.batch_id < 0:
            self.edits[record.batch_id].set()
        else:
            self.heard.put(record)

    def wait(self, n: int) -> list[Embedded]:
        done: list[Embedded] = []
        while len(done) < n:
            record = self.heard.get(timeout=600)
            if isinstance(record, Failed):
                raise RuntimeError(record.error)  # noqa: TRY004 not a question of type
            if isinstance(record, Embedded):
                done.append(record)
        return done

    def seconds(self, texts: Sequence[str]) -> float:
        start = time.perf_counter()
        self.wait(self.submit(texts))
        return time.perf_counter() - start

    def tokens(self, texts: Sequence[str]) -> int:
        return sum(sum(record.tokens) for record in self.wait(self.submit(texts)))

    def name(self) -> str:
        figures = self.embedder.statistics()
        return f"{figures['backend']} {figures['dtype']}"

    def close(self) -> None:
        self.embedder.close()
