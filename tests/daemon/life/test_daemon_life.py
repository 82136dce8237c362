"""Start, stop, crash, restart; with a model, with a broken one, with none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import ClientError, DeadlineError, RemoteError


def fill(home: Any, n: int = 12) -> None:
    for i in range(n):
        home.write(f"m{i}.py", f'def f{i}(x):\n    """Number {i}."""\n    return x * {i} + 1\n')


def test_after_a_restart_nothing_is_embedded_again(home: Any) -> None:
    fill(home)
    home.watch()
    clock = home.sync(semantic=True)
    assert home.stop() == 0
    home.start()
    assert home.found("f7")[0] == "f7"
    assert home.sync(semantic=True) == clock
    document = home.status()
    assert document["model"]["embedded"] == 0
    assert document["store"]["vectors"] == 12
    assert document["workspaces"][0]["state"] == "ready"


def test_what_changed_while_it_was_down_is_found(home: Any) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    home.stop()
    home.write("m3.py", "def changed_meanwhile():\n    return 1\n")
    (home.workspace / "m4.py").unlink()
    home.write("new.py", "def new_meanwhile():\n    return 1\n")
    home.start()
    home.sync(semantic=True)
    names = home.names()
    assert {"changed_meanwhile", "new_meanwhile"} <= names
    assert not {"f3", "f4"} & names
    assert home.status()["model"]["embedded"] == 2


def test_fault_26_kill_at_any_point_goes_on_from_the_last_commit(home: Any) -> None:
    fill(home, 60)
    home.watch()
    for pause in (0.0, 0.05, 0.15, 0.4):
        time.sleep(pause)
        home.stop(signal.SIGKILL)
        home.start()
    home.sync(semantic=True)
    assert home.names() == {f"f{i}" for i in range(60)}
    assert home.call("verify", root=str(home.workspace))["differences"] == []
    assert home.status()["store"]["vectors"] == 60


def test_fault_31_a_store_that_is_deleted_under_the_daemon_is_built_again(
    home: Any, wait_for: Callable[..., Any]
) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    (home.home / "state" / "index" / "data.mdb").unlink()

    home.client.close()

    def healed() -> bool:
        try:
            with Client.connect(_paths(home)) as client:
                workspaces = client.call("status", deadline=10)["workspaces"]
                found = client.call("symbols", limit=100, deadline=10)["units"]
                return workspaces[0]["state"] == "ready" and len(found) == 12
        except (ClientError, IndexError):
            return False

    wait_for(healed, "all units indexed again")
    with Client.connect(_paths(home)) as client:
        assert client.call("search", query="f7")["results"][0]["name"] == "f7"


def test_fault_51_children_end_with_a_killed_daemon(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    children = home.children()
    assert len(children) >= 2  # a parser and the model
    home.stop(signal.SIGKILL)
    wait_for(
        lambda: not [child for child in children if child.is_running() and child.status() != "zombie"], "all ended"
    )


def test_fault_48_sigterm_ends_it_in_seconds_while_it_indexes(home: Any) -> None:
    fill(home, 300)
    home.watch()
    assert home.stop() == 0


def test_fault_32_a_second_daemon_says_who_runs_and_leaves(home: Any) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "codegraphd.daemon", "run"],
        env=home.environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"process {home.process.pid}" in second.stderr
    assert home.call("hello")["pid"] == home.process.pid


def test_fault_42_a_killed_worker_costs_a_batch_and_no_more(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    worker = next(child for child in home.children() if "embedding" in " ".join(child.cmdline()))
    worker.kill()
    home.write("late.py", 'def late():\n    """After the accident."""\n')
    home.sync(semantic=True)
    assert home.found("after the accident", mode="semantic")[0] == "late"


def test_a_killed_parser_is_replaced(home: Any) -> None:
    fill(home)
    home.watch()
    home.sync()
    for child in home.children():
        if "parser_process" in " ".join(child.cmdline()):
            child.kill()
    home.write("late.py", "def late():\n    return 1\n")
    home.sync()
    assert "late" in home.names()


@pytest.mark.parametrize("model", ["no-such-model", "/nowhere/at/all"])
def test_fault_43_without_a_model_search_goes_by_words(make_home: Callable[..., Any], model: str) -> None:
    home = make_home(f'[embedding]\nmodel = "{model}"\n')
    home.start()
    fill(home)
    home.watch()
    home.sync()
    answer = home.call("search", query="f5")
    assert answer["results"][0]["name"] == "f5"
    assert answer["mode"] == "lexical"
    assert model in answer["degraded"]
    assert any(model in problem for problem in home.status()["daemon"]["problems"])
    with pytest.raises(RemoteError) as refused:
        home.call("search", query="f5", mode="semantic")
    assert refused.value.code == 5
    with pytest.raises(RemoteError) as refused:
        home.sync(semantic=True)
    assert refused.value.code == 5


def test_fault_21_missing_root_keeps_its_index(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    away = home.directory / "away"
    home.workspace.rename(away)
    wait_for(lambda: home.status()["workspaces"][0]["state"] == "missing", "state missing")
    assert home.found("f3")[0] == "f3"
    away.rename(home.workspace)
    wait_for(lambda: home.status()["workspaces"][0]["state"] == "ready", "state ready")
    assert len(home.names()) == 12
    assert home.status()["model"]["embedded"] == 12


def test_fault_23_a_bad_configuration_is_refused_and_the_old_one_stays(home: Any, wait_for: Callable[..., Any]) -> None:
    (home.home / "config.toml").write_text("[embedding]\nmodle = 1\n")
    home.process.send_signal(signal.SIGHUP)
    problem = wait_for(lambda: home.status()["daemon"]["problems"], "a problem")[0]
    assert "modle" in problem
    assert "model" in problem
    (home.home / "config.toml").write_text('[embedding]\nmodel = "hashing"\n[cache]\nmax_mb = 7\n')
    wait_for(lambda: not home.status()["daemon"]["problems"], "no problem")  # it is read when it changes, too


def test_fault_23_what_is_indexed_follows_the_configuration(home: Any) -> None:
    home.write("a.py", "def a():\n    return 1\n")
    home.write("b.go", "package b\n\nfunc B() int { return 1 }\n")
    home.write("big.py", "def big():\n    return 1\n" + "# prose\n" * 200)
    home.watch()
    home.sync()
    for index, expected in [
        ('languages = ["python"]', {"a", "big"}),
        ('languages = ["go"]\ntext_fallback = false', {"B"}),
        ('exclude = ["a.py"]', {"B", "big"}),
        ("max_file_kb = 1", {"a", "B"}),
        ("", {"a", "B", "big"}),
    ]:
        (home.home / "config.toml").write_text(f'[embedding]\nmodel = "hashing"\n[index]\n{index}\n')
        home.call("reload")
        home.sync()
        assert home.names() - {"<file>"} == expected, index
        assert home.call("verify", root=str(home.workspace))["differences"] == []


def test_fault_24_another_model_answers_after_a_reload(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    before = home.status()["model"]["fingerprint"]
    home.client.close()
    (home.home / "config.toml").write_text('[embedding]\nmodel = "hashing"\nmax_tokens = 64\n')

    def switched() -> bool:
        try:
            with Client.connect(_paths(home)) as client:
                document = client.call("status", deadline=10)
                return (
                    document["model"]["fingerprint"] not in (None, before)
                    and document["workspaces"][0]["state"] == "ready"
                    and document["store"]["vectors"] == 12
                )
        except (ClientError, IndexError):
            return False

    wait_for(switched, "all embedded by the other model")


def test_fault_40_queries_during_a_full_index(home: Any) -> None:
    for n in range(400):
        home.write(f"d{n % 7}/m{n}.py", "\n".join(f"def f{n}_{i}(x):\n    return x + {i}\n" for i in range(20)))
    home.watch()
    answers: list[dict[str, Any]] = []
    done = threading.Event()

    def ask() -> None:
        with Client.connect(_paths(home)) as client:
            while not done.is_set():
                answers.append(client.call("search", query="f1_1", deadline=30))

    asker = threading.Thread(target=ask)
    asker.start()
    home.sync(semantic=True)
    done.set()
    asker.join()
    assert len(answers) > 5
    assert all("clock" in answer and answer["pending"] >= 0 for answer in answers)
    assert home.found("f1_1")[0] == "f1_1"


def test_clients_hear_what_is_indexed(home: Any) -> None:
    home.watch()
    home.sync()
    with Client.connect(_paths(home)) as client:
        client.call("subscribe", events=["indexed"], root=str(home.workspace))
        home.write("a.py", "def a():\n    return 1\n")
        method, params = next(client.notifications(timeout=30))
    assert method == "codegraphd.indexed"
    assert params["root"] == str(home.workspace)
    assert params["changes"] == 1


def test_unwatch_drops_what_was_indexed(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync(semantic=True)
    home.call("unwatch", root=str(home.workspace))
    wait_for(lambda: home.status()["store"]["vectors"] == 0, "no vectors")
    assert home.status()["workspaces"] == []
    home.watch()
    home.sync(semantic=True)
    assert home.status()["model"]["embedded"] == 12  # the cache kept them


def test_a_workspace_that_is_watched_again_at_once_is_indexed(home: Any) -> None:
    fill(home)
    home.watch()
    home.sync()
    for _ in range(5):
        home.call("unwatch", root=str(home.workspace))
        home.watch()
    home.sync(semantic=True)
    assert len(home.names()) == 12
    assert home.call("verify", root=str(home.workspace))["differences"] == []


def test_fault_21_a_missing_root_cannot_be_verified(home: Any, wait_for: Callable[..., Any]) -> None:
    fill(home)
    home.watch()
    home.sync()
    home.workspace.rename(home.directory / "away")
    wait_for(lambda: home.status()["workspaces"][0]["state"] == "missing", "state missing")
    with pytest.raises(RemoteError) as refused:
        home.call("verify", root=str(home.workspace))
    assert refused.value.code == 5
    assert "missing" in refused.value.message


def test_idle_costs_next_to_nothing(home: Any) -> None:
    """No timing is asserted but that of the processor: an idle daemon must not spin."""
    fill(home)
    home.watch()
    home.sync(semantic=True)
    time.sleep(1.0)
    processes = [psutil.Process(home.process.pid), *home.children()]
    before = sum(sum(process.cpu_times()[:2]) for process in processes)
    time.sleep(4.0)
    after = sum(sum(process.cpu_times()[:2]) for process in processes)
    assert after - before < 0.4  # a tenth of a core, on a machine that may be busy with other tests


def test_the_command_line_tour(home: Any) -> None:
    fill(home)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "codegraphd.daemon", *arguments],
            env=home.environment, capture_output=True, check=False, text=True, timeout=90, cwd=home.workspace,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("watch", "--wait", ".")
    assert json.loads(run("search", "f4", "--json"))["results"][0]["name"] == "f4"
    assert json.loads(run("status", "--json"))["workspaces"][0]["units"] == 12
    assert json.loads(run("symbols", "m4.py", "--json"))["units"][0]["name"] == "f4"
    explained = json.loads(run("explain", "m4.py:2", "--json"))
    assert explained["reason"]["level"] == "initial"
    assert explained["features"]["cyclomatic"] == 1
    assert {edge["name"] for edge in explained["data_flow"]["edges"]} == {"x"}
    assert explained["control_flow"]["blocks"][0]["kind"] == "entry"
    assert "--- control flow" in run("explain", "m4.py:2")
    matches = json.loads(run("similar", "m4.py:2", "--threshold", "0.5", "--json"))["matches"]
    assert "f4" not in {match["name"] for match in matches}
    assert json.loads(run("dependents", "f4", "--json"))["units"] == []
    assert "clock" in json.loads(run("sync", "--json"))
    assert json.loads(run("verify", "--json"))["differences"] == []


def test_sync_that_cannot_end_in_time_says_so(home: Any) -> None:
    fill(home, 200)
    home.watch()
    with pytest.raises((RemoteError, DeadlineError)) as late:
        home.call("sync", root=str(home.workspace), semantic=True, timeout_s=0.0)
    assert getattr(late.value, "code", 4) == 4


def _paths(home: Any) -> Any:
    from codegraphd.ipc.paths import Paths

    return Paths.from_environment(home.environment)
