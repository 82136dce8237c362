"""Row 24: another model, other inputs, changed files of a model, while somebody asks, edits, kills or thinks again.

The change is held open where a test needs it so: the new model's worker is stopped, as a slow one would be.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import RemoteError
from codegraphd.ipc.paths import Paths

MINILM = '[embedding]\nmodel = "all-MiniLM-L6-v2"\n'
HASHING = '[embedding]\nmodel = "hashing"\n'
TOPICS = ("retry a request", "parse a date", "draw a circle", "sort numbers", "open a socket", "compress bytes")


def fill(home: Any, n: int) -> None:
    for i in range(n):
        topic = TOPICS[i % len(TOPICS)]
        home.write(
            f"m{i}.py", f'def {topic.replace(" ", "_")}_{i}(x):\n    """{topic.capitalize()} {i}."""\n    return x\n'
        )


def indexed(home: Any, n: int = 36) -> Any:
    home.start()
    fill(home, n)
    home.watch()
    home.sync(semantic=True)
    return home


def configure(home: Any, text: str) -> None:
    (home.home / "config.toml").write_text(text)
    home.call("reload")


def answer(home: Any, query: str) -> list[tuple[str, float]]:
    """Names and cosines of what is found by meaning."""
    results = home.call("search", query=query, mode="semantic", limit=5)["results"]
    return [(unit["name"], unit["why"]["cosine"]) for unit in results]


def is_same(a: list[tuple[str, float]], b: list[tuple[str, float]]) -> bool:
    """Batches round differently, so two that are nearly equal may change places."""
    return len(a) == len(b) and all(abs(x[1] - y[1]) < 0.005 for x, y in zip(a, b, strict=True))


def former(home: Any) -> Any:
    return home.status()["model"]["former"]


def workers(home: Any) -> list[psutil.Process]:
    found = [child for child in home.children() if any("embedding.process" in word for word in child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())


@pytest.fixture
def hold(wait_for: Callable[..., Any]) -> Iterator[Callable[[Any, set[int]], psutil.Process]]:
    """Stops a home's worker that is none of the `known` ones, as soon as there is one."""
    held: list[psutil.Process] = []

    def stop(home: Any, known: set[int]) -> psutil.Process:
        found = wait_for(lambda: [worker for worker in workers(home) if worker.pid not in known], "the new worker")
        found[0].suspend()
        held.append(found[0])
        return found[0]

    yield stop
    for worker in held:
        if worker.is_running():
            worker.resume()


def finish(home: Any, wait_for: Callable[..., Any], fingerprint: str) -> None:
    """The change is over, and the index is what a fresh one would be."""

    def is_over() -> bool:
        document = home.status()
        model, workspace = document["model"], document["workspaces"][0]
        return model["former"] is None and model["fingerprint"] == fingerprint and workspace["state"] == "ready"

    wait_for(is_over, "the end of the change")
    document = home.status()
    assert document["store"]["vectors"] == document["workspaces"][0]["units"]
    assert document["workspaces"][0]["pending"] == 0
    assert home.call("verify", root=str(home.workspace))["differences"] == []


def fingerprint_of(name: str) -> str:
    from codegraphd.daemon.embedding.models import resolve

    return resolve(name, "/nowhere").fingerprint.hex()


def test_fault_24_every_answer_during_a_change_is_of_one_model(
    make_home: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    home = indexed(make_home(), 120)
    queries = [f"{topic} {n}" for n, topic in enumerate(TOPICS)]
    before = {query: answer(home, query) for query in queries}
    heard: list[tuple[str, dict[str, Any]]] = []
    done = threading.Event()

    def ask() -> None:
        with Client.connect(Paths.from_environment(home.environment)) as client:
            while not done.is_set():
                for query in queries:
                    found = client.call("search", query=query, mode="semantic", limit=5, deadline=60)
                    heard.append((query, found))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    configure(home, MINILM)
    assert home.status()["daemon"]["uptime_s"] > 0
    finish(home, wait_for, fingerprint_of("all-MiniLM-L6-v2"))
    time.sleep(0.2)
    done.set()
    for asker in askers:
        asker.join()
    after = {query: answer(home, query) for query in queries}
    assert not any(is_same(before[query], after[query]) for query in queries)
    n_former = 0
    for query, found in heard:
        got = [(unit["name"], unit["why"]["cosine"]) for unit in found["results"]]
        if is_same(got, before[query]):
            n_former += 1
        else:
            assert is_same(got, after[query])
            assert found["degraded"] is None
    assert 0 < n_former < len(heard)
    assert any("former model hashing" in (found["degraded"] or "") for _, found in heard)
    assert any(found["pending"] == 120 for _, found in heard if found["degraded"])


def test_fault_24_edits_during_a_change_are_found_by_meaning(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], hold: Callable[..., Any]
) -> None:
    home = indexed(make_home())
    known = {worker.pid for worker in workers(home)}
    configure(home, MINILM)
    held = hold(home, known)
    home.write("m0.py", 'def measure_the_wind(x):\n    """Speed of the wind from an anemometer."""\n    return x\n')
    home.write("new.py", 'def tune_a_piano(x):\n    """Tune the strings of a piano."""\n    return x\n')
    (home.workspace / "m6.py").unlink()
    home.sync()
    for name, doc in (("measure_the_wind", "speed of the wind from an anemometer"), ("tune_a_piano", "piano strings")):
        wait_for(lambda doc=doc, name=name: answer(home, doc)[0][0] == name, f"{name} is found by its new meaning")
    assert former(home)["name"] == "hashing"
    assert former(home)["progress"]["total"] == 36
    assert "retry_a_request_0" not in [name for name, _ in answer(home, "retry a request 0")]
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    held.resume()
    finish(home, wait_for, fingerprint_of("all-MiniLM-L6-v2"))
    assert answer(home, "speed of the wind from an anemometer")[0][0] == "measure_the_wind"
    assert "retry_a_request_6" not in home.names()


def test_fault_24_kill_in_the_middle_of_a_change_goes_on(
    make_home: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    home = indexed(make_home(), 600)
    before = answer(home, "parse a date 1")
    configure(home, MINILM)
    done = wait_for(lambda: former(home)["progress"]["done"], "the first vectors")
    home.stop(signal.SIGKILL)
    home.start()
    assert former(home)["progress"]["done"] >= done
    now = home.call("search", query="parse a date 1", mode="semantic", limit=5)
    assert "former model hashing" in now["degraded"]  # the new model takes a second to be loaded
    assert is_same([(unit["name"], unit["why"]["cosine"]) for unit in now["results"]], before)
    finish(home, wait_for, fingerprint_of("all-MiniLM-L6-v2"))
    assert home.status()["model"]["embedded"] <= 600 - done


def test_fault_24_kill_at_any_point_of_any_change(make_home: Callable[..., Any], wait_for: Callable[..., Any]) -> None:
    home = indexed(make_home(), 120)
    configurations = [HASHING + more for more in ("max_tokens = 64\n", 'context = "faces"\n', "max_tokens = 32\n", "")]
    for n, pause in enumerate((0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6)):
        configure(home, configurations[n % 4])
        time.sleep(pause)
        assert len(answer(home, "parse a date 1")) == 5
        home.stop(signal.SIGKILL)
        home.start()
        assert len(answer(home, "parse a date 1")) == 5
    configure(home, HASHING)
    finish(home, wait_for, fingerprint_of("hashing"))


def test_fault_24_thinking_again_costs_nothing(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], hold: Callable[..., Any]
) -> None:
    home = indexed(make_home())
    before = answer(home, "sort numbers 3")
    known = {worker.pid for worker in workers(home)}
    configure(home, MINILM)
    hold(home, known)
    embedded = home.status()["model"]["embedded"]
    configure(home, HASHING)
    finish(home, wait_for, fingerprint_of("hashing"))
    assert answer(home, "sort numbers 3") == before
    assert home.status()["model"]["embedded"] == embedded
    wait_for(lambda: len(workers(home)) == 1, "the other model's worker has ended")


def test_fault_24_a_third_model_in_the_middle(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], hold: Callable[..., Any]
) -> None:
    home = indexed(make_home())
    before = answer(home, "draw a circle 2")
    known = {worker.pid for worker in workers(home)}
    configure(home, MINILM)
    hold(home, known)
    configure(home, HASHING + "max_tokens = 64\n")
    wait_for(lambda: former(home) is None, "the third model answers")
    assert is_same(answer(home, "draw a circle 2"), before)  # the same model on texts of some ten tokens
    assert home.status()["model"]["max_tokens"] == 64
    finish(home, wait_for, home.status()["model"]["fingerprint"])


def test_fault_24_a_model_that_is_not_to_be_had_leaves_the_former_one(
    make_home: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    home = indexed(make_home())
    before = answer(home, "open a socket 4")
    configure(home, '[embedding]\nmodel = "no-such-model"\n')
    wait_for(lambda: home.status()["model"]["error"], "the trouble is told")
    assert answer(home, "open a socket 4") == before
    found = home.call("search", query="open a socket 4")
    assert "former model hashing" in found["degraded"]
    assert "no-such-model" in found["degraded"]
    assert any("no-such-model" in problem for problem in home.status()["daemon"]["problems"])
    home.write("late.py", 'def late():\n    """Yesterday, all my troubles."""\n')
    home.sync(semantic=True)
    assert answer(home, "yesterday all my troubles")[0][0] == "late"
    home.stop()
    home.start()
    assert answer(home, "yesterday all my troubles")[0][0] == "late"
    assert home.status()["model"]["embedded"] == 0
    configure(home, HASHING)
    finish(home, wait_for, fingerprint_of("hashing"))


def test_fault_24_a_model_that_cannot_be_loaded_leaves_the_former_one(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], tmp_path: Any
) -> None:
    directory = model_copy(tmp_path / "mine")
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").write_bytes(b"no weights")
    broken = f'[embedding]\nmodel = "{directory}"\n'
    home = indexed(make_home())
    before = answer(home, "open a socket 4")
    configure(home, broken)
    wait_for(lambda: home.status()["model"]["state"] == "failed", "the new model has failed")
    assert any("mine" in problem for problem in home.status()["daemon"]["problems"])
    found = home.call("search", query="open a socket 4")
    assert "answers by the former model hashing until all is embedded by mine" in found["degraded"]
    assert found["pending"] == 36
    assert answer(home, "open a socket 4") == before
    home.write("late.py", 'def late():\n    """Yesterday, all my troubles."""\n')
    home.sync()
    wait_for(lambda: answer(home, "yesterday all my troubles")[0][0] == "late", "edits are found by meaning")
    with pytest.raises(RemoteError, match="no model to wait for"):
        home.sync(semantic=True)
    configure(home, HASHING)
    finish(home, wait_for, fingerprint_of("hashing"))
    assert answer(home, "yesterday all my troubles")[0][0] == "late"

    other = make_home(broken)  # and where nothing answers, the next model answers as its vectors come
    other.start()
    fill(other, 12)
    other.watch()
    other.sync()
    configure(other, HASHING)
    finish(other, wait_for, fingerprint_of("hashing"))
    assert answer(other, "draw a circle 2")[0][0] == "draw_a_circle_2"


def test_fault_24_other_inputs_of_the_same_model(make_home: Callable[..., Any], wait_for: Callable[..., Any]) -> None:
    home = indexed(make_home())
    home.write("base.py", "class Base:\n    def m(self):\n        return 1\n\n\nclass Kid(Base):\n    pass\n")
    home.sync(semantic=True)
    pid = workers(home)[0].pid
    assert len(home.call("explain", path="base.py", line=6)["inputs"]) == 1
    for context, n_inputs, n_new in (("faces", 2, 39), ("none", 1, 0)):
        embedded = home.status()["model"]["embedded"]
        configure(home, HASHING + f'context = "{context}"\n')
        wait_for(lambda: answer(home, "compress bytes 5") and former(home) is None, "the change is over")
        finish(home, wait_for, fingerprint_of("hashing"))
        assert len(home.call("explain", path="base.py", line=6)["inputs"]) == n_inputs
        assert home.call("explain", path="base.py", line=6)["embedded"]
        assert home.status()["model"]["embedded"] <= embedded + n_new  # of contexts alone, equal ones once
    assert [worker.pid for worker in workers(home)] == [pid]  # one process for both
    assert home.call("similar", path="base.py", line=6, threshold=0.1)["degraded"] is None


def test_fault_24_a_former_model_whose_files_are_gone(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], hold: Callable[..., Any], tmp_path: Any
) -> None:
    directory = model_copy(tmp_path / "mine")
    home = indexed(make_home(f'[embedding]\nmodel = "{directory}"\n'), 12)
    home.stop()
    directory.rename(tmp_path / "away")
    (home.home / "config.toml").write_text(HASHING)
    home.start()
    held = hold(home, set())
    found = home.call("search", query="retry a request 6")
    assert found["mode"] == "lexical"
    assert found["results"][0]["name"] == "retry_a_request_6"
    assert "mine is not to be had" in found["degraded"]
    with pytest.raises(RemoteError, match="mine is not to be had"):
        home.call("search", query="retry a request 6", mode="semantic")
    assert not former(home)["answers"]
    matches = home.call("similar", path="m6.py", line=1, threshold=0.0)["matches"]
    assert matches[0]["cosine"] > 0.5  # both vectors are there: no model is needed
    home.write("m6.py", 'def other(x):\n    """Something else."""\n    return x\n')
    home.sync()
    found = home.call("similar", path="m6.py", line=1, threshold=0.0)
    assert {match["cosine"] for match in found["matches"]} == {None}  # by equal code, not by the vector it had
    held.resume()
    finish(home, wait_for, fingerprint_of("hashing"))
    assert answer(home, "something else")[0][0] == "other"


def test_fault_24_a_model_whose_files_change_in_place(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], tmp_path: Any
) -> None:
    directory = model_copy(tmp_path / "mine")
    home = indexed(make_home(f'[embedding]\nmodel = "{directory}"\n'), 12)
    before = home.status()["model"]["fingerprint"]
    pooling = directory / "1_Pooling" / "config.json"
    text = pooling.read_text()
    pooling.unlink()
    pooling.write_text(
        text.replace('mean_tokens": true', 'mean_tokens": false').replace('cls_token": false', 'cls_token": true')
    )
    workers(home)[0].kill()
    home.call("search", query="retry")  # loads it again
    wait_for(lambda: home.status()["model"]["fingerprint"] != before, "another model is seen in the same place")
    finish(home, wait_for, home.status()["model"]["fingerprint"])


def test_gc_keeps_what_an_edition_uses(
    make_home: Callable[..., Any], wait_for: Callable[..., Any], hold: Callable[..., Any]
) -> None:
    home = indexed(make_home())
    known = {worker.pid for worker in workers(home)}
    configure(home, MINILM)
    held = hold(home, known)
    assert home.call("gc")["evicted"] == 0
    held.resume()
    finish(home, wait_for, fingerprint_of("all-MiniLM-L6-v2"))
    assert home.call("gc")["evicted"] == 36  # those of the former model
    assert home.status()["cache"]["entries"] == 36


def model_copy(directory: Any) -> Any:
    """MiniLM under a directory of its own, its weights linked."""
    from codegraphd.daemon.embedding.models import resolve

    source = resolve("all-MiniLM-L6-v2", "/nowhere").directory
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("model.safetensors"))
    os.symlink(os.path.join(source, "model.safetensors"), directory / "model.safetensors")
    return directory
