"""The daemon's handle on the model: texts in, vectors out, whatever becomes of the process that computes them.

`Embedder` is the shell around `supervision.Supervisor`: one long-lived thread, "embedder", owns the supervisor and the
child process, carries out what the supervisor decides, and calls the listener. Nothing that callers do waits for it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, assert_never

import msgspec
import numpy as np
import psutil

from codegraphd.daemon.child import Child
from codegraphd.daemon.embedding import messages
from codegraphd.daemon.embedding.events import (
    Action,
    Answer,
    Asked,
    Embedded,
    Event,
    Exited,
    Failed,
    Heard,
    Kill,
    Limits,
    ModelState,
    Refuse,
    Send,
    Spawn,
    Submitted,
    Tell,
    Tick,
)
from codegraphd.daemon.embedding.messages import Load
from codegraphd.daemon.embedding.models import ModelInfo, Settings, resolve
from codegraphd.daemon.embedding.supervision import Supervisor
from codegraphd.store.records import Batch, CodeFlow

__all__ = ["Embedded", "Embedder", "Failed", "ModelState", "ModelUnavailableError"]

log = logging.getLogger(__name__)

PROCESS = "codegraphd.daemon.embedding.process"

Listener = Callable[[Embedded | Failed | ModelState], None]


class ModelUnavailableError(Exception):
    """There is no model that could answer: the search goes on by words. The message says why."""


class Embedder:
    """The model. Methods may be called from any thread and return at once; `listener` is called on its own thread."""

    def __init__(
        self,
        settings: Settings,
        cache_dir: str,
        listener: Listener,
        *,
        limits: Limits | None = None,
        nice: int = 10,
        process: str = PROCESS,
    ) -> None:
        """`cache_dir` holds what is remembered of models: digests, measurements, pulled files. `process` is the module
        that is run as the worker."""
        self._settings, self._cache_dir, self._listener = settings, cache_dir, listener
        self._nice, self._process = nice, process
        limits = limits or Limits(idle_s=settings.idle_unload_s, batch_tokens=settings.batch_tokens)
        chain = (settings.model, *settings.fallback_models)
        self._supervisor = Supervisor(chain, lambda name: resolve(name, cache_dir, settings.max_tokens), limits)
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._futures: dict[int, tuple[Future[np.ndarray], float]] = {}  # id -> future, when it was asked
        self._lock = threading.Lock()  # of _futures
        self._numbers = itertools.count(1)
        self._waits: collections.deque[float] = collections.deque(maxlen=512)  # seconds a query took, as seen from here
        self._child: Child | None = None
        self._logged = ""  # the error that was logged last
        self._thread: threading.Thread | None = None

    @property
    def model(self) -> ModelInfo | None:
        """The model in use, known before it is loaded. None: no model of the chain can be used."""
        return self._supervisor.model

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def n_embedded(self) -> int:
        """Inputs of documents that the model computed."""
        return self._supervisor.embedded

    @property
    def chosen(self) -> str | None:
        """What the model in use was configured as; None: there is none."""
        return self._supervisor.chosen

    @property
    def reads_flow(self) -> bool:
        """Whether the model reads the data flow of code beside its tokens."""
        model = self.model
        return model is not None and model.flow

    @property
    def batches(self) -> int:
        """How many batches of bulk the worker wants to have at a time."""
        return self._supervisor.in_flight

    @property
    def state(self) -> ModelState:
        supervisor = self._supervisor
        return ModelState(supervisor.state, supervisor.model, supervisor.error)

    @property
    def child_pid(self) -> int | None:
        """Of the worker process; None: none runs."""
        child = self._child
        return child.pid if child is not None and child.is_alive() else None

    def start(self) -> None:
        """Begin to serve. The model itself is loaded on the first need."""
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the process and the thread. Queries that wait are refused, batches are not answered any more."""
        self._events.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def submit(self, batch: Batch) -> None:
        """Documents. The listener gets an `Embedded` or a `Failed` with the batch's id."""
        self._events.put(Submitted(batch))

    def query(
        self,
        texts: Sequence[str],
        role: str = "query",
        timeout: float = 10.0,
        flows: Sequence[CodeFlow | None] = (),
    ) -> Future[np.ndarray]:
        """float32[n, dim], rows of length 1. Overtakes all bulk work. Fails with ModelUnavailableError, or with
        TimeoutError after `timeout` seconds (loading takes some). `flows`: one for each text, or none at all."""
        future: Future[np.ndarray] = Future()
        now = time.monotonic()
        id_ = next(self._numbers)
        with self._lock:
            self._futures[id_] = future, now
        self._events.put(Asked(id_, role, tuple(texts), now + timeout, tuple(flows) if any(flows) else ()))
        return future

    def tick(self, now: float) -> None:  # noqa: ARG002 the thread keeps its own time; the loop's beat only wakes it
        """Let it look after the process: idleness, silence, memory. Called every few seconds."""
        self._events.put(Tick(self._rss()))

    def statistics(self) -> dict[str, Any]:
        """The `model` part of the status document. None where nothing was measured yet."""
        supervisor, model = self._supervisor, self.model
        loaded = supervisor.loaded
        calls = list(supervisor.calls)
        busy = sum(seconds for seconds, _ in calls)
        each = sorted(1e3 * seconds / n for seconds, n in calls)
        waits = sorted(1e3 * seconds for seconds in list(self._waits))
        return {
            "name": model.name if model else None,
            "fingerprint": model.fingerprint.hex() if model else None,
            "dim": model.dim if model else None,
            "max_tokens": model.max_tokens if model else None,
            "backend": loaded.backend if loaded else None,
            "device": loaded.device if loaded else None,
            "dtype": loaded.dtype if loaded else None,
            "state": supervisor.state,
            "rss_bytes": self._rss(),
            "embedded": supervisor.embedded,
            "p50_ms": _quantile(each, 0.5),
            "p95_ms": _quantile(each, 0.95),
            "units_per_s": round(sum(n for _, n in calls) / busy, 1) if busy else None,
            "queries": supervisor.answered,
            "query_p50_ms": _quantile(waits, 0.5),
            "query_p95_ms": _quantile(waits, 0.95),
            "load_s": round(loaded.seconds, 3) if loaded else None,
            "restarts": supervisor.restarts,
            "set_aside": [key.hex() for key in list(supervisor.set_aside)],
            "fallback": model.name if model and supervisor.place > 0 else None,
            "error": supervisor.error or None,
        }

    # --- the embedder thread

    def _run(self) -> None:
        while True:
            deadline = self._supervisor.next_deadline()
            try:
                timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
                event = self._events.get(timeout=timeout)
            except queue.Empty:
                event = Tick(self._rss())
            if event is None:
                break
            self._do(self._supervisor.handle(event, time.monotonic()))
        if self._child is not None:
            self._child.kill()
            self._child.close()
        with self._lock:
            left, self._futures = self._futures, {}
        for future, _ in left.values():
            _resolve(future, error=ModelUnavailableError("the daemon is stopping"))

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    self._spawn(action)
                case Kill():
                    if self._child is not None:
                        self._child.kill()
                case Send(message):
                    assert self._child is not None
                    self._child.send(messages.encode(message))
                case Tell(record):
                    self._tell(record)
                case Answer(id_, rows):
                    future, asked = self._take(id_)
                    self._waits.append(time.monotonic() - asked)
                    _resolve(future, rows)
                case Refuse(id_, error, is_late):
                    future, _ = self._take(id_)
                    _resolve(future, error=TimeoutError(error) if is_late else ModelUnavailableError(error))
                case _:
                    assert_never(action)

    def _tell(self, record: Embedded | Failed | ModelState) -> None:
        if isinstance(record, ModelState) and record.error and record.error != self._logged:
            self._logged = record.error
            log.warning("%s (%s)", record.error, record.state)
        try:
            self._listener(record)
        except Exception:
            log.exception("the listener failed on %s", type(record).__name__)

    def _take(self, id_: int) -> tuple[Future[np.ndarray], float]:
        with self._lock:
            return self._futures.pop(id_)

    def _spawn(self, spawn: Spawn) -> None:
        settings = self._settings
        threads = settings.threads or default_threads()
        number = spawn.child

        def hear(frame: bytes) -> None:
            try:
                self._events.put(Heard(number, messages.decode_up(frame)))
            except (msgspec.MsgspecError, ValueError):
                raise ValueError("the worker sent garbage") from None  # ends the child

        def exited(status: int) -> None:
            self._events.put(Exited(number, _cause(status)))

        try:
            self._child = Child(
                self._process,
                [],
                name="embedding",
                on_frame=hear,
                on_exit=exited,
                nice=0,  # the process makes its own threads nice, less the one for queries
                environment=_environment(),
            )
        except OSError as error:
            self._events.put(Exited(number, f"it cannot be started: {error}"))
            return
        load = Load(
            spawn.model, settings.device, settings.dtype, threads, spawn.batch_tokens, self._nice, self._cache_dir
        )
        self._child.send(messages.encode(load))

    def _rss(self) -> int:
        """Resident bytes of the process; 0: there is none."""
        child = self._child
        with contextlib.suppress(psutil.Error):
            if child is not None and child.is_alive():
                return int(psutil.Process(child.pid).memory_info().rss)
        return 0


def _environment() -> dict[str, str]:
    """What has to be set before the numeric libraries are loaded.

    One thread a product: threads that share one and spin while they wait for each other turn poisonous when another
    process takes a core (with two of them, throughput fell from 117 to 7 functions/s).
    """
    return {
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def default_threads() -> int:
    """Half of the processors, and both of two: the process is nice, so it yields to whoever needs one."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        available = os.cpu_count() or 1
    return min(8, max(min(2, available), available // 2))


def _cause(status: int) -> str:
    if status == -9:
        return "killed, perhaps for its memory"
    if status < 0:
        return f"signal {-status}"
    return f"exit status {status}"


def _quantile(ordered: Sequence[float], q: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 2) if ordered else None


def _resolve(future: Future[np.ndarray], rows: np.ndarray | None = None, error: Exception | None = None) -> None:
    with contextlib.suppress(InvalidStateError):  # cancelled by who asked
        if rows is not None:
            future.set_result(rows)
        else:
            future.set_exception(error)
