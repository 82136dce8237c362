"""From `watch` to answers, as a user meets it: a real daemon in a fresh home, asked over its socket.

Order of the phases, each on what the former left: memory of an empty daemon; cold index with questions all the while;
questions while idle; throughput; saves; sizes; restart; idle minute.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.corpora import Corpus, Documented, documented, standard_library
from bench.harness import Report, timed, wait_until
from bench.home import Home
from codegraphd.ipc.client import Client

CLIENTS = (1, 4, 8, 16)
SAVE_LINES = (100, 1_000, 10_000)
SAVED_FILES = 12
AFTERWARDS_S = 400  # what the run needs after all is embedded


@dataclass(slots=True)
class Run:
    """What the phases share."""

    report: Report
    scratch: Path
    quick: bool
    config: str = ""
    questions: list[Documented] = field(default_factory=list)

    def n(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def measure(run: Run) -> None:
    """All phases."""
    corpus = standard_library(run.scratch / "stdlib", quick=run.quick)
    run.questions = documented(corpus, 600)
    run.report.heading(f"{corpus.name}: {corpus.files} files, {corpus.bytes / 1e6:.1f} MB")
    run.report.phase("baselines", lambda: baselines(run, corpus))
    home = Home(run.scratch / "home", run.config)
    with home.running():
        empty = home.memory_mb()
        run.report.add("resident memory, daemon, nothing watched", empty["daemon"], "MB")
        run.report.phase("cold index", lambda: cold_index(run, home, corpus))
        run.report.phase("questions while idle", lambda: idle_questions(run, home))
        run.report.phase("throughput", lambda: throughput(run, home))
        run.report.phase("saves", lambda: saves(run, home, corpus))
        run.report.phase("sizes", lambda: sizes(run, home, empty["daemon"]))
        run.report.phase("restart", lambda: restart(run, home, corpus))
        run.report.phase("idle", lambda: idle(run, home))


# --- what the machine can do -----------------------------------------------------------------------------------------


def baselines(run: Run, corpus: Corpus) -> None:
    """The least that any index has to do (read and hash), and what people use without one (grep)."""
    files = [path for path in corpus.root.rglob("*.py") if path.is_file()]
    spent: list[float] = []
    for _ in range(3):
        with timed(spent):
            for path in files:
                hashlib.sha256(path.read_bytes()).digest()
    run.report.add("baseline: read and hash every file", min(spent) * 1000, "ms")
    spent = []
    for question in run.questions[: run.n(20, 5)]:
        with timed(spent):
            subprocess.run(["grep", "-rnF", question.name, str(corpus.root)], stdout=subprocess.DEVNULL, check=False)
    run.report.spread("baseline: grep -rnF of a name", spent)


# --- cold index ------------------------------------------------------------------------------------------------------


def cold_index(run: Run, home: Home, corpus: Corpus) -> None:
    report = run.report
    asked = Asker(home, run.questions)
    with home.client() as client:
        began = time.perf_counter()
        client.call("watch", root=str(corpus.root))
        first = wait_until(lambda: _answered(client, began), 120, "the first answer by words", 0.01)
        client.call("sync", root=str(corpus.root), timeout_s=900)
        crawled = time.perf_counter() - began
        line = home.workspace(client, corpus.root)
        report.add("watch to the first answer by words", first, "s")
        report.add("watch to answers by words for all of it", crawled, "s", target=None if run.quick else 10.0)
        report.add("cold index by words", line["files"] / crawled, "files/s", note=f"{line['files']} files")
        report.add("cold index by words", line["units"] / crawled, "units/s", note=f"{line['units']} units")
        asked.start()
        peaks = {"daemon": 0.0, "worker": 0.0, "parsers": 0.0}

        def embedded() -> float | None:
            for kind, value in home.memory_mb().items():
                peaks[kind] = max(peaks.get(kind, 0.0), value)
            ready = home.workspace(client, corpus.root).get("state") == "ready"
            return time.perf_counter() - began if ready else None

        try:
            whole = wait_until(embedded, min(1500, report.left_s() - AFTERWARDS_S), "the end of embedding", 0.25)
        finally:
            asked.stop()
        report.add("watch to all embedded", whole, "s")
        report.add("embedding rate", line["units"] / max(whole - crawled, 0.01), "units/s", note="after the crawl")
        report.spread("hybrid query while indexing", asked.spent, target_p95=0.150)
        status = client.call("status")
        report.add("loop lag p99 while indexing", status["daemon"]["loop_lag_p99_ms"], "ms", target=10.0)
        report.add("peak resident memory, daemon", peaks["daemon"], "MB", target=250.0)
        report.add("peak resident memory, worker", peaks["worker"], "MB", target=700.0)
        report.add("peak resident memory, parsers", peaks["parsers"], "MB")
        report.add("model p95 a batch", status["model"]["p95_ms"], "ms")


def _answered(client: Client, began: float) -> float | None:
    found = client.call("search", query="open file", mode="lexical", limit=1)["results"]
    return time.perf_counter() - began if found else None


class Asker:
    """Asks hybrid questions, each a new one, one after another on a thread, and keeps how long each took."""

    def __init__(self, home: Home, questions: list[Documented]) -> None:
        self.spent: list[float] = []
        self.error: Exception | None = None
        self._home, self._questions = home, itertools.cycle(questions)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="asker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.error:
            raise self.error

    def _ask(self) -> None:
        try:
            with self._home.client() as client:
                for n, question in enumerate(self._questions):
                    if self._stop.is_set():
                        return
                    text = f"{question.sentence} {n // len(question.sentence)}"  # never the same: no cached vector
                    with timed(self.spent):
                        client.call("search", query=text, wait_ms=0)
                    self._stop.wait(0.25)  # an agent at work, not a flood: the model's time is for indexing
        except Exception as error:
            self.error = error


# --- questions -------------------------------------------------------------------------------------------------------


def idle_questions(run: Run, home: Home) -> None:
    report, n = run.report, run.n(200, 60)
    fresh = _fresh_texts(run.questions)
    with home.client() as client:
        for mode, target in (("lexical", None), ("semantic", None), ("hybrid", 0.025)):
            spent: list[float] = []
            for text in itertools.islice(fresh, n):
                with timed(spent):
                    client.call("search", query=text, mode=mode)
            report.spread(f"{mode} query, idle", spent, target_p95=target)
        spent, found = [], 0
        for question in run.questions[:n]:
            with timed(spent):
                results = client.call("search", query=question.name, limit=10)["results"]
            found += any(r["name"] == question.name for r in results)
        report.spread("query for a name, idle", spent)
        report.add("names found in the first ten", 100 * found / len(run.questions[:n]), "%")
        hits = 0.0
        for question in run.questions[:n]:
            results = client.call("search", query=question.sentence, limit=10)["results"]
            ranks = [k for k, r in enumerate(results, 1) if (r["path"], r["name"]) == (question.path, question.name)]
            hits += 1 / ranks[0] if ranks else 0.0
        report.add(
            "MRR of functions by their own first doc line", hits / len(run.questions[:n]), "", note="doc is indexed"
        )


def _fresh_texts(questions: list[Documented]) -> Iterator[str]:
    """Sentences that no cache has seen: each is a doc line with the name of another function."""
    for n in itertools.count(1):
        for one, other in zip(questions, questions[n:] + questions[:n], strict=True):
            yield f"{one.sentence} {other.name}"


def throughput(run: Run, home: Home) -> None:
    seconds = run.n(4, 1)
    texts = _fresh_texts(run.questions[::-1])
    lock = threading.Lock()

    def next_text() -> str:
        with lock:
            return next(texts)

    for mode in ("lexical", "hybrid"):
        for clients in CLIENTS:
            spent: list[float] = []
            errors: list[Exception] = []
            end = time.perf_counter() + seconds

            def ask(mode: str = mode, end: float = end, spent: list[float] = spent) -> None:
                try:
                    with home.client() as client:
                        while time.perf_counter() < end:
                            with timed(spent):
                                client.call("search", query=next_text(), mode=mode)
                except Exception as error:
                    errors.append(error)  # noqa: B023 - joined before the next round

            threads = [threading.Thread(target=ask) for _ in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            note = f"{len(errors)} errors: {errors[0]}" if errors else f"{len(spent)} answers"
            run.report.add(f"{mode} throughput, {clients} clients", len(spent) / seconds, "/s", note=note)
    with home.client() as client:
        lag = client.call("status")["daemon"]["loop_lag_p99_ms"]
    run.report.add("loop lag p99 under 16 clients", lag, "ms", target=10.0)


# --- saves -----------------------------------------------------------------------------------------------------------

_VERBS = ("merge", "rotate", "estimate", "translate", "schedule", "compress", "validate", "interpolate")
_NOUNS = ("harbour", "orchard", "glacier", "violin", "lantern", "compass", "tapestry", "meadow", "anchor", "quarry")


def saves(run: Run, home: Home, corpus: Corpus) -> None:
    """A function is added to a file and saved; from the end of the write until a question finds it.

    The saves go round several files: nobody saves one file five times a second, and a daemon may slow down who does.
    """
    for lines in SAVE_LINES[: run.n(3, 2)]:
        paths = [corpus.root / f"bench_saved_{lines}_{n}.py" for n in range(SAVED_FILES)]
        body = filler(lines)  # the same for all: what is equal is embedded once
        for path in paths:
            path.write_text(body)
        with home.client() as client:
            client.call("sync", root=str(corpus.root), semantic=True, timeout_s=600)
            for mode in ("lexical", "semantic"):
                spent: list[float] = []
                for n in range(run.n(20 if lines > 1000 else 40, 8)):
                    time.sleep(0.25)  # the daemon is at rest again
                    path = paths[n % SAVED_FILES]
                    name, sentence = new_function(f"{mode}{lines}", n)
                    text = f'{body}\n\ndef {name}(values):\n    """{sentence}"""\n    return {name}.state[values]\n'
                    query = name if mode == "lexical" else sentence
                    path.write_text(text)
                    with timed(spent):
                        wait_for(client, query, mode, name)
                target = 0.120 if mode == "semantic" and lines <= 1000 else None
                by = "words" if mode == "lexical" else "meaning"
                run.report.spread(f"save to searchable by {by}, {lines:,} lines", spent, target_p95=target)
        for path in paths:
            path.unlink()


def wait_for(client: Client, query: str, mode: str, name: str) -> None:
    wait_until(lambda: _finds(client, query, mode, name), 30, f"{name} by {mode} search", every_s=0.002)


def _finds(client: Client, query: str, mode: str, name: str) -> bool:
    results = client.call("search", query=query, mode=mode, limit=20)["results"]
    return any(result["name"] == name for result in results)


def new_function(salt: str, n: int) -> tuple[str, str]:
    """A name and a sentence that are nowhere else: the same in every run."""
    pick = random.Random(f"{salt}-{n}")
    verb, (noun, other) = pick.choice(_VERBS), pick.sample(_NOUNS, 2)
    return f"{verb}_{noun}_{n}_{salt}", f"{verb.capitalize()} the {noun} of every {other} in round {n}."


def filler(lines: int) -> str:
    """A module of about so many lines, of functions of ten."""
    functions = []
    for n in range(lines // 10):
        steps = "\n".join(f"    total += (value + {n}) * {k}" for k in range(5))
        functions.append(f"def step_{n}(value, scale=1):\n    total = 0\n{steps}\n    return total * scale\n\n")
    return "\n".join(functions)


# --- sizes, restart, idle --------------------------------------------------------------------------------------------


def sizes(run: Run, home: Home, empty_mb: float) -> None:
    status = home.status()
    units = sum(line["units"] for line in status["workspaces"])
    memory = home.memory_mb()
    disk = sum(path.stat().st_blocks * 512 for path in (home.directory / "state").rglob("*") if path.is_file())
    run.report.add("resident memory, daemon, all indexed", memory["daemon"], "MB", target=250.0)
    run.report.add("resident memory, worker", memory["worker"], "MB", target=700.0)
    run.report.add("bytes a unit in the daemon's memory", (memory["daemon"] - empty_mb) * 1e6 / units, "bytes")
    run.report.add("bytes a unit on the disk", disk / units, "bytes", note=f"{disk / 1e6:.0f} MB, {units} units")
    run.report.add("bytes a unit in LMDB", status["store"]["bytes"] / units, "bytes")


def restart(run: Run, home: Home, corpus: Corpus) -> None:
    stopped: list[float] = []
    with timed(stopped):
        home.stop()
    before = time.perf_counter()
    home.start()
    with home.client() as client:
        wait_until(
            lambda: client.call("search", query="open file", mode="lexical", limit=1)["results"], 60, "an answer", 0.005
        )
        run.report.add("restart to the first answer by words", time.perf_counter() - before, "s", target=1.0)
        wait_until(lambda: home.workspace(client, corpus.root).get("state") == "ready", 300, "readiness")
        run.report.add("restart to ready, nothing changed", time.perf_counter() - before, "s")
        wait_until(lambda: client.call("search", query="open a file")["degraded"] is None, 120, "meaning")
        run.report.add("restart to the first answer by meaning", time.perf_counter() - before, "s")
        embedded = client.call("status")["model"]["embedded"]
        run.report.add("embedded after a restart", embedded, "inputs", target=0)
    run.report.add("stop", stopped[0], "s")


def idle(run: Run, home: Home) -> None:
    seconds = run.n(60, 6)
    time.sleep(run.n(35, 3))  # parsers that idle have ended, indexes are committed
    before = home.cpu_s()
    time.sleep(seconds)
    share = 100 * (home.cpu_s() - before) / seconds
    run.report.add("idle CPU", share, "% core", target=0.2, note=f"over {seconds} s")
    for kind, value in home.memory_mb().items():
        if kind != "other":
            run.report.add(f"resident memory, {kind}, idle", value, "MB")
