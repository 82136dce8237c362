"""The embedder with real processes: the hashing model, and one that fails on demand."""

from __future__ import annotations

import dataclasses
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from codegraphd.daemon.embedding import worker
from codegraphd.daemon.embedding.events import Limits
from codegraphd.daemon.embedding.models import DEFAULT, resolve
from codegraphd.daemon.embedding.worker import Embedded, Embedder, Failed, ModelState, ModelUnavailableError
from codegraphd.store.records import Batch, Input, digest

LIMITS = Limits(hang_s=3.0)


@dataclasses.dataclass(frozen=True)
class Section:
    """The configuration's [embedding]."""

    model: str = "hashing"
    device: str = "cpu"
    dtype: str = "auto"
    batch_tokens: int = 2048
    max_tokens: int = 0
    fallback_models: tuple[str, ...] = ()
    idle_unload_s: float = 600
    threads: int = 2


def batch(number: int, texts: list[str]) -> Batch:
    return Batch(number, tuple(Input(digest(text), text) for text in texts))


class Desk:
    """An embedder and what its listener heard."""

    def __init__(self, embedder: Callable[..., Embedder], section: Section, directory: Path) -> None:
        self.heard: queue.SimpleQueue[Embedded | Failed | ModelState] = queue.SimpleQueue()
        self.states: list[str] = []
        self.embedder = embedder(section, str(directory), self.heard.put)
        self.embedder.start()

    def result(self) -> Embedded | Failed:
        """The next answer to a batch."""
        while True:
            record = self.heard.get(timeout=60)
            if not isinstance(record, ModelState):
                return record
            self.states.append(record.state)

    def embed(self, texts: list[str], number: int = 1) -> Embedded | Failed:
        self.embedder.submit(batch(number, texts))
        return self.result()

    def pid(self) -> int:
        assert self.embedder.child_pid is not None
        return self.embedder.child_pid


@pytest.fixture
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*, deadly: bool = False, limits: Limits = LIMITS, **section: object) -> Desk:
        def embedder(*arguments: object) -> Embedder:
            module = "deadly_worker" if deadly else worker.PROCESS
            return Embedder(*arguments, limits=limits, process=module)  # type: ignore[arg-type]

        made.append(Desk(embedder, Section(**section), tmp_path))  # type: ignore[arg-type]
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield make
        for each in made:
            each.embedder.close()


def test_vectors_states_and_figures(desk: Callable[..., Desk]) -> None:
    here = desk()
    assert here.embedder.model is not None
    assert here.embedder.statistics()["state"] == "unloaded"
    done = here.embed(["load the config", "load the configuration", "colour of a pixel"])
    assert isinstance(done, Embedded)
    assert done.vectors.shape == (3, here.embedder.model.dim)
    assert np.linalg.norm(done.vectors, axis=1) == pytest.approx(1)
    assert done.vectors[0] @ done.vectors[1] > done.vectors[0] @ done.vectors[2]
    assert done.tokens == (3, 3, 4)
    assert done.model == here.embedder.model.fingerprint
    query = here.embedder.query(["load the config"], timeout=30).result()
    assert np.allclose(query[0], done.vectors[0], atol=1e-6)
    figures = here.embedder.statistics()
    assert (figures["state"], figures["embedded"], figures["queries"]) == ("ready", 3, 1)
    assert figures["rss_bytes"] > 1e6
    assert figures["p50_ms"] > 0
    assert figures["fingerprint"] == here.embedder.model.fingerprint.hex()
    assert here.states == ["loading", "ready"]


@pytest.mark.parametrize("order", ["exit", "kill", "hang", "raise", "nan", "torn", "garbage", "memory"])
def test_fault_42_a_text_that_breaks_the_worker_is_named(desk: Callable[..., Desk], order: str) -> None:
    here = desk(deadly=True, limits=dataclasses.replace(LIMITS, hang_s=1.0))
    texts = [f"text {i}" for i in range(10)]
    failed = here.embed([*texts, f"now {order}"])
    assert isinstance(failed, Failed)
    assert failed.bad == (digest(f"now {order}"),)
    done = here.embed(texts, 2)
    assert isinstance(done, Embedded)
    assert here.embedder.statistics()["set_aside"] == [digest(f"now {order}").hex()]


def test_fault_42_kill_dash_nine_costs_no_batch(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    for number in (1, 2):
        here.embedder.submit(batch(number, [f"slow {number} {i}" for i in range(5)]))
    while here.embedder.statistics()["state"] != "ready":
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(here.pid(), signal.SIGKILL)
    assert sorted(here.result().batch_id for _ in range(2)) == [1, 2]
    assert here.embedder.statistics()["restarts"] == 1


def test_fault_42_a_stopped_worker_is_replaced(desk: Callable[..., Desk]) -> None:
    here = desk(limits=dataclasses.replace(LIMITS, hang_s=1.0))
    assert isinstance(here.embed(["x"]), Embedded)
    os.kill(here.pid(), signal.SIGSTOP)
    assert isinstance(here.embed(["y"], 2), Embedded)
    assert here.embedder.query(["z"], timeout=30).result().shape == (1, 64)


def test_fault_42_a_query_that_breaks_the_worker_costs_itself_only(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embedder.query(["warm"], timeout=30).result()
    for order in ("kill", "exit", "raise", "torn"):
        with pytest.raises(ModelUnavailableError):
            here.embedder.query([order], timeout=30).result()
        assert here.embedder.query(["after"], timeout=30).result().shape == (1, 64)


def test_fault_42_a_worker_that_always_dies_opens_the_breaker(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    failed = here.embed([f"kill {i}" for i in range(40)])
    assert isinstance(failed, Failed)
    assert not failed.bad  # it is the model's fault, not that of forty texts
    assert here.embedder.statistics()["state"] == "failed"
    with pytest.raises(ModelUnavailableError, match="the worker ended"):
        here.embedder.query(["x"], timeout=30).result()


def test_fault_42_a_lost_device_is_left_for_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegraphd.daemon.embedding import backends

    def lost(*_: object) -> None:
        raise RuntimeError("CUDA error: the device is lost")

    monkeypatch.setattr(backends, "_accelerator", lambda: "cuda")
    monkeypatch.setattr(backends, "_on_accelerator", lost)
    info = resolve(DEFAULT, str(tmp_path))
    assert backends.open_backend(info, "auto", "float32", str(tmp_path)).device == "cpu"
    with pytest.raises(RuntimeError, match="the device is lost"):  # asked for by name, it is not replaced in silence
        backends.open_backend(info, "cuda", "float32", str(tmp_path))


def test_fault_46_a_worker_that_grows_is_replaced(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True, limits=dataclasses.replace(LIMITS, growth_bytes=100 << 20))
    assert isinstance(here.embed(["small"]), Embedded)
    first = psutil.Process(here.pid())
    here.embedder.tick(0.0)  # what it has from the beginning
    assert isinstance(here.embed(["grow"], 2), Embedded)
    assert first.memory_info().rss > 200 << 20
    here.embedder.tick(0.0)
    first.wait(timeout=30)
    assert here.embedder.statistics()["rss_bytes"] == 0
    assert isinstance(here.embed(["small"], 3), Embedded)
    assert here.embedder.statistics()["restarts"] == 0  # nobody's fault


def test_fault_40_a_query_goes_before_the_bulk(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embedder.query(["warm"], timeout=30).result()
    for number in range(20):
        here.embedder.submit(batch(number, [f"slow {number}"]))
    assert here.embedder.query(["quick"], timeout=30).result().shape == (1, 64)
    assert here.embedder.statistics()["embedded"] <= 2


def test_an_edit_goes_before_the_bulk(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embedder.query(["warm"], timeout=30).result()
    for number in range(6):
        here.embedder.submit(batch(number, [f"slow {number} {i}" for i in range(10)]))  # two seconds each
    here.embedder.submit(dataclasses.replace(batch(99, ["just saved"]), urgent=True))
    first = here.result()
    assert isinstance(first, Embedded)
    assert first.batch_id == 99


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_bulk_threads_are_nice_and_that_of_queries_is_not(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embed(["x"])
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    threads = [int(name) for name in os.listdir(f"/proc/{here.pid()}/task")]
    levels = sorted(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads)
    assert levels == [mine, mine, *[min(19, mine + 10)] * 3]  # reader and queries; tokeniser and two lanes


def test_a_listener_that_fails_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def listen(record: object) -> None:
        raise RuntimeError("no")

    embedder = Embedder(Section(), str(tmp_path), listen)
    embedder.start()
    embedder.submit(batch(1, ["x"]))
    assert embedder.query(["x"], timeout=30).result().shape == (1, 64)
    embedder.close()
    assert "the listener failed on ModelState" in caplog.text


def test_a_query_that_cannot_be_answered_in_time(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embedder.query(["warm"], timeout=30).result()
    with pytest.raises(TimeoutError):
        here.embedder.query(["hang"], timeout=0.3).result()
    assert here.embedder.query(["after"], timeout=30).result().shape == (1, 64)


def test_the_idle_process_ends_and_comes_back(desk: Callable[..., Desk]) -> None:
    here = desk(limits=Limits(idle_s=0.3))
    first = here.embedder.query(["x"], timeout=30).result()
    process = psutil.Process(here.pid())
    process.wait(timeout=30)
    assert here.embedder.statistics()["rss_bytes"] == 0
    assert np.array_equal(here.embedder.query(["x"], timeout=30).result(), first)


def test_minilm_in_its_process(desk: Callable[..., Desk]) -> None:
    here = desk(model="", limits=Limits())
    texts = ["def load_config(path): return tomllib.load(open(path))", "x", "class Colour: red, green = 1, 2"]
    done = here.embed(texts)
    assert isinstance(done, Embedded)
    queries = here.embedder.query([*texts, "read the settings file"], role="document", timeout=60).result()
    assert (queries[:3] * done.vectors).sum(1).min() >= 0.999
    assert (queries[3] @ done.vectors.T).argmax() == 0
    figures = here.embedder.statistics()
    assert (figures["name"], figures["dim"], figures["device"]) == ("all-MiniLM-L6-v2", 384, "cpu")
    assert figures["rss_bytes"] < 450e6


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="AVX2 is the x86 processors'")
def test_a_processor_without_bfloat16_gets_float32(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    here = desk(model="", limits=Limits())
    assert here.embedder.query(["x"], timeout=100).result().shape == (1, 384)
    assert here.embedder.statistics()["dtype"] == "float32"


def test_fault_43_a_missing_model_falls_back(desk: Callable[..., Desk], tmp_path: Path) -> None:
    here = desk(model=f"{tmp_path}/nothing", fallback_models=("hashing",))
    assert isinstance(here.embed(["x"]), Embedded)
    figures = here.embedder.statistics()
    assert figures["fallback"] == "hashing"
    assert "nothing" in figures["error"]


def test_fault_43_without_a_model_there_are_words_only(desk: Callable[..., Desk]) -> None:
    here = desk(model="no-such-model")
    assert here.embedder.model is None
    with pytest.raises(ModelUnavailableError, match="no-such-model"):
        here.embedder.query(["x"], timeout=30).result()
    assert isinstance(here.embed(["x"]), Failed)
    assert here.embedder.statistics()["state"] == "failed"


def test_closing_refuses_what_waits(desk: Callable[..., Desk]) -> None:
    here = desk(deadly=True)
    here.embedder.query(["warm"], timeout=30).result()
    pid = here.pid()
    future = here.embedder.query(["hang"], timeout=100)
    here.embedder.close()
    with pytest.raises(ModelUnavailableError):
        future.result(timeout=0)
    assert not psutil.pid_exists(pid)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("embed")]


def test_fault_51_the_worker_ends_with_the_daemon(tmp_path: Path) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-c", _DAEMON, str(Path(__file__).parent), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    assert psutil.pid_exists(pid)
    child = psutil.Process(pid)
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    child.wait(timeout=30)


_DAEMON = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_worker import Section
from codegraphd.daemon.embedding.worker import Embedder
embedder = Embedder(Section(), sys.argv[2], lambda record: None)
embedder.start()
embedder.query(["x"], timeout=30).result()
print(embedder.child_pid, flush=True)
time.sleep(1000)
"""
