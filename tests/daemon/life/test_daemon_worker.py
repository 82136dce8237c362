"""A real daemon and its model: faults of the worker, of the files, of memory; a model that reads data flow."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bench.tiny_models import write_tiny
from codegraphd.daemon.analysis.parse import render_flows
from codegraphd.daemon.embedding.backends import open_backend, open_tokens
from codegraphd.daemon.embedding.models import resolve
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import ClientError
from codegraphd.ipc.paths import Paths


def workers_of(home: Any) -> list[psutil.Process]:
    found = []
    for child in home.children():
        with contextlib.suppress(psutil.Error):  # it may be ending
            if "embedding" in " ".join(child.cmdline()):
                found.append(child)
    return found


def worker_of(home: Any) -> psutil.Process:
    (worker,) = workers_of(home)
    return worker


def config(directory: Path, **more: Any) -> str:
    keys = {"model": str(directory), "dtype": "float32", **more}
    return "[embedding]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def test_fault_41_a_vector_that_comes_too_late_is_not_attached(home: Any, wait_for: Callable[..., Any]) -> None:
    home.write("a.py", "def f(x):\n    return x\n")
    home.watch()
    home.sync(semantic=True)
    worker = worker_of(home)
    worker.suspend()
    first, second = ("def f(x):\n    return parse(x)\n", "def f(x):\n    return colour * x\n")
    home.write("a.py", first)
    home.sync()
    wait_for(lambda: home.status()["queue"]["embedding"] == 1, "the first edit is with the model")
    home.write("a.py", second)
    home.sync()
    worker.resume()
    home.sync(semantic=True)
    assert home.call("explain", path="a.py", line=1, root=str(home.workspace))["embedded"]
    (match,) = home.call("similar", code=second, language="python", threshold=0.0)["matches"]
    assert match["cosine"] >= 0.999
    assert home.status()["model"]["embedded"] == 3
    home.write("a.py", first)  # the late vector was kept in the cache
    home.sync(semantic=True)
    (match,) = home.call("similar", code=first, language="python", threshold=0.0)["matches"]
    assert match["cosine"] >= 0.999
    assert home.status()["model"]["embedded"] == 3


def test_fault_42_a_unit_that_the_model_cannot_take_is_set_aside_by_name(
    make_home: Callable[..., Any], tmp_path: Path
) -> None:
    """A tokenizer with a word more than the weights have rows: texts with that word make the model raise."""
    directory = write_tiny(tmp_path / "m", "bert")
    vocabulary = (directory / "vocab.txt").read_text().splitlines()
    filler = [f"[unused{i}]" for i in range(len(vocabulary), 600)]
    (directory / "vocab.txt").write_text("\n".join([*vocabulary, *filler, "poison"]) + "\n")
    home = make_home(config(directory))
    home.start()
    for i in range(20):
        home.write(f"m{i}.py", f"def f{i}(x):\n    return x * {i} + 1\n")
    home.write("bad.py", "def poison(x):\n    return x\n")
    home.watch()
    home.sync(semantic=True)
    document = home.status()
    assert list(document["queue"]["set_aside"]) == ["bad.py:poison"]
    assert "set aside by the model: bad.py:poison" in document["daemon"]["problems"]
    assert document["store"]["vectors"] == 20
    assert {f"f{i}" for i in range(20)} >= set(home.found("f7", mode="semantic")) > set()
    assert home.found("poison", mode="lexical") == ["poison"]
    home.write("bad.py", "def mended(x):\n    return x\n")
    home.sync(semantic=True)
    assert "mended" in home.found("mended", mode="semantic", limit=50)


def test_fault_42_a_worker_killed_again_and_again_costs_no_unit(home: Any, wait_for: Callable[..., Any]) -> None:
    for i in range(30):
        home.write(f"m{i}.py", "\n".join(f"def f{i}_{k}(x):\n    return x * {k} + {i}\n\n" for k in range(10)))
    home.watch()
    for _ in range(3):
        worker = wait_for(lambda: workers_of(home), "a worker")[0]
        worker.kill()
    home.sync(semantic=True)
    document = home.status()
    assert document["store"]["vectors"] == 300
    assert document["queue"]["set_aside"] == {}


@pytest.mark.parametrize("damaged", ["model.safetensors", "vocab.txt", "config.json"])
def test_fault_43_broken_files_are_named_and_the_fallback_answers(
    make_home: Callable[..., Any], tmp_path: Path, damaged: str
) -> None:
    directory = write_tiny(tmp_path / "m", "bert")
    (directory / damaged).write_bytes(b"\xff" * 100)
    for fallback in ([], ["hashing"]):
        home = make_home(config(directory, fallback_models=fallback))
        home.start()
        home.write("a.py", "def f(x):\n    return x\n")
        home.watch()
        home.sync()
        answer = home.call("search", query="f", wait_ms=60_000)
        assert answer["results"][0]["name"] == "f"
        if fallback:
            home.sync(semantic=True)
            assert home.found("f", mode="semantic") == ["f"]
            assert home.status()["model"]["fallback"] == "hashing"
        else:
            assert answer["mode"] == "lexical"
            assert str(directory) in answer["degraded"]
        assert any(str(directory) in problem for problem in home.status()["daemon"]["problems"])
        home.stop()


def test_fault_46_over_its_memory_limit_the_daemon_begins_anew_once(
    make_home: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    home = make_home('[embedding]\nmodel = "hashing"\n[limits]\nmemory_mb = 32\n')
    home.start()
    pid = home.process.pid
    for n in range(200):
        home.write(f"m{n}.py", "\n".join(f"def f{n}_{i}(x):\n    return x + {i}\n" for i in range(20)))
    home.watch()
    wait_for(lambda: home.log.read_text().count("starting again") == 1, "a clean start")
    home.client.close()
    home.client = None

    def is_indexed() -> bool:
        try:
            with Client.connect(Paths.from_environment(home.environment)) as client:
                client.call("sync", root=str(home.workspace), semantic=True, timeout_s=60, deadline=70)
                return bool(client.call("search", query="f7_3", deadline=10)["results"][0]["name"] == "f7_3")
        except ClientError:
            return False

    wait_for(is_indexed, "nothing was lost")
    assert psutil.pid_exists(pid)
    assert home.log.read_text().count("starting again") == 1


def test_an_idle_model_gives_its_memory_back(make_home: Callable[..., Any]) -> None:
    home = make_home("[embedding]\nidle_unload_s = 2\n")
    home.start()
    home.write("a.py", "def read_settings(path):\n    return path\n")
    home.watch()
    home.sync(semantic=True)
    worker = worker_of(home)
    assert worker.memory_info().rss > 100 << 20
    worker.wait(60)
    figures = home.status()["model"]
    assert (figures["state"], figures["rss_bytes"]) == ("unloaded", 0)
    assert home.found("read the configuration", mode="semantic") == ["read_settings"]
    assert worker_of(home).pid != worker.pid


def test_a_model_that_reads_data_flow_is_given_it_everywhere(make_home: Callable[..., Any], tmp_path: Path) -> None:
    """Index, snippets and `explain` agree on what GraphCodeBERT reads of a function, in and out of its class."""
    directory = write_tiny(tmp_path / "graphcodebert-base", "graphcodebert", max_position_embeddings=162)
    home = make_home(config(directory))
    home.start()
    method = 'def add(self, a, b):\n        """Adds."""\n        c = a + b\n        return c\n'
    home.write("a.py", f"class A:\n    limit = 3\n\n    {method}")
    home.write("b.md", "# Title\n\nSome words.\n")
    home.watch()
    home.sync(semantic=True)

    explained = home.call("explain", path="a.py", line=4, root=str(home.workspace))
    own = explained["inputs"][0]
    assert own["read"]["comment"] == "Adds."
    assert own["read"]["code"] == "def add ( self , a , b ) : c = a + b return c".split()  # noqa: SIM905
    assert {"variable": "c", "token": 10, "from": [12, 14]} in own["read"]["variables"]
    assert own["variables"] == len(own["read"]["variables"])
    assert own["tokens"] > own["variables"] + len(own["read"]["code"])
    assert "read" not in home.call("explain", path="a.py", line=1, root=str(home.workspace))["inputs"][0]

    info = resolve(str(directory), str(tmp_path))
    source = f"class A:\n    {method}".encode()
    _, flows = render_flows("a.py", source, (1,))
    ids = [row for row, _ in open_tokens(info).encode([""], [flows[1]])]
    expect = open_backend(info, "cpu", "float32", str(tmp_path)).encode(ids)[0]
    vector = np.asarray(home.call("embed", code=method, language="python", role="document")["vector"])
    assert vector @ expect >= 0.99999
    plain = np.asarray(home.call("embed", code=method, language="python", role="query")["vector"])
    assert plain @ expect < 0.999
    matches = home.call("similar", code=method, language="python", threshold=0.0)["matches"]
    assert next(m for m in matches if m["qualname"] == "A.add")["cosine"] >= 0.999
