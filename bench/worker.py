"""The embedding worker against plain transformers, in one run: `python -m bench.worker` (4 minutes, `--quick`: 1).

The baseline is what people write first: float32 transformers, batches of 32 in their own order, padded to the longest,
with torch's own threads. It runs in a process of its own (bench.rivals), started beforehand, and takes turns with the
candidates on the same texts; ratios are of the best turns. Absolute figures are this machine's at this hour; ratios
travel.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from bench.candidate import Candidate, Section
from bench.corpora import standard_library
from bench.harness import Report, describe, machine, percentile, wait_until
from bench.rivals import Rival, matrix_rates
from codegraphd.daemon.embedding import worker
from codegraphd.daemon.embedding.models import DEFAULT, resolve

LIKE_A_LAPTOP = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def functions(count: int) -> list[str]:
    """The source of functions of the standard library, in a fixed random order."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(standard_library(Path(scratch), quick=True).root.rglob("*.py")):
            source = path.read_text(encoding="utf-8", errors="replace")
            lines = source.splitlines(keepends=True)
            with contextlib.suppress(SyntaxError):
                nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
                found += ["".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes]
    found = [text for text in found if text.count("\n") > 2]
    random.Random(1).shuffle(found)
    return found[:count]


def write_roberta(directory: Path) -> str:
    """A model of GraphCodeBERT's shape with random weights, and MiniLM's tokenizer: the time is the same."""
    import shutil

    import transformers

    config = transformers.RobertaConfig(vocab_size=50265, type_vocab_size=1, max_position_embeddings=514)
    transformers.RobertaModel(config).save_pretrained(directory)
    source = Path(resolve(DEFAULT, str(directory)).directory)
    for name in ("tokenizer.json", "vocab.txt"):
        shutil.copyfile(source / name, directory / name)
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return str(directory)


def flops_per_token(directory: str) -> float:
    """Of the products with weights alone; the attention's own come on top and count as overhead."""
    config = json.loads(Path(directory, "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return float(2 * config["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * inner))


@contextlib.contextmanager
def a_core_taken() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Bench:
    """One run: what it needs, and what it has found so far."""

    def __init__(self, report: Report, scratch: Path, *, quick: bool) -> None:
        self.report, self.scratch, self.quick = report, scratch, quick
        self.cache = str(scratch / "cache")
        self.lanes = worker.default_threads()
        # The best of all turns, since it is the measure of the others: on a virtual machine a single measurement found
        # between 770 and 2,000 GFLOP/s.
        self.bf16, self.f32 = matrix_rates("cpu", self.lanes)

    def n(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def roberta(self) -> str:
        directory = self.scratch / "roberta"
        return str(directory) if directory.exists() else write_roberta(directory)

    def matrix(self) -> None:
        """The rates that the shares are of."""
        self.report.add("matrix products, bfloat16", self.bf16 / 1e9, "GFLOP/s", note=f"{self.lanes} cores")
        self.report.add("matrix products, float32", self.f32 / 1e9, "GFLOP/s", note=f"{self.lanes} cores")

    def table(
        self, shape: str, model: str, texts: Sequence[str], turns: int, variables: Mapping[str, str], targets: Targets
    ) -> None:
        """Functions a second of the baseline and of each candidate, in turns, and the matrix rate between them."""
        directory = resolve(model, self.cache).directory
        baseline = Rival("plain", directory, variables)
        section = Section(model=model, device="cpu")
        candidates = {"auto": Candidate(section, self.cache, variables)}
        chosen = candidates["auto"].name()
        for name in self._others(chosen, variables):
            engine, dtype = name.split()
            with contextlib.suppress(worker.ModelUnavailableError):
                candidates[name] = Candidate(
                    dataclasses.replace(section, dtype=dtype),
                    self.cache,
                    {**variables, "CODEGRAPHD_ENGINE": engine},
                )
        others: dict[str, Rival] = {}
        if _is_installed("onnxruntime") and _is_installed("onnx"):
            others["onnxruntime float32"] = Rival("onnxruntime", directory, variables)
        best = dict.fromkeys(["baseline", *candidates, *others], float("inf"))
        tokens = candidates["auto"].tokens(texts)
        for _ in range(turns):
            rates = matrix_rates("cpu", self.lanes)
            self.bf16, self.f32 = max(self.bf16, rates[0]), max(self.f32, rates[1])
            best["baseline"] = min(best["baseline"], baseline.seconds(texts))
            for name, runner in [*candidates.items(), *others.items()]:
                best[name] = min(best[name], runner.seconds(texts))
        n = len(texts)
        self.report.add(f"{shape}: plain transformers", n / best["baseline"], "fn/s")
        for name in candidates:
            seconds = best[name]
            told = f"auto = {chosen}" if name == "auto" else name
            reach = targets.ratio if name == "auto" else None
            self.report.add(f"{shape}: worker, {told}", n / seconds, "fn/s")
            self.report.add(f"{shape}: ratio, {told}", best["baseline"] / seconds, "x", target=reach, at_most=False)
        for name in others:
            self.report.add(f"{shape}: {name}", n / best[name], "fn/s")
        rate = tokens * flops_per_token(directory) / best["auto"]
        share = 100 * rate / self.bf16
        self.report.add(
            f"{shape}: share of the bfloat16 matrix rate", share, "%", target=targets.share, at_most=False,
            note=f"{tokens / n:.0f} tokens a function",
        )  # fmt: skip
        for each in (baseline, *candidates.values(), *others.values()):
            each.close()

    def _others(self, chosen: str, variables: Mapping[str, str]) -> list[str]:
        names = ["torch bfloat16", "torch float32", "openvino bfloat16", "openvino float32"]
        if variables:  # where bfloat16 is emulated it takes minutes
            names = [name for name in names if name.endswith("float32")]
        return [name for name in names if name != chosen and _is_installed(name.split()[0])]

    def card(self, shape: str, model: str, texts: Sequence[str], turns: int) -> None:
        """The share of a CUDA card's own matrix rate that the worker reaches, from text to vector."""
        rate, _ = matrix_rates("cuda", 1)
        candidate = Candidate(Section(model=model, device="cuda"), self.cache, {})
        tokens = candidate.tokens(texts)
        seconds = min(candidate.seconds(texts) for _ in range(turns))
        self.report.add(f"CUDA {shape}: matrix products, bfloat16", rate / 1e12, "TFLOP/s")
        self.report.add(f"CUDA {shape}: worker, {candidate.name()}", len(texts) / seconds, "fn/s")
        share = 100 * tokens * flops_per_token(resolve(model, self.cache).directory) / seconds / rate
        self.report.add(f"CUDA {shape}: share of the bfloat16 matrix rate", share, "%", target=25, at_most=False)
        candidate.close()

    def contention(self, texts: Sequence[str], turns: int) -> None:
        """With one core taken by another process of the same niceness."""
        candidate = Candidate(Section(), self.cache, {})
        quiet = taken = float("inf")
        for _ in range(turns):
            quiet = min(quiet, candidate.seconds(texts))
            with a_core_taken():
                taken = min(taken, candidate.seconds(texts))
        candidate.close()
        self.report.add(
            "MiniLM with one core taken by another process", 100 * quiet / taken, "% of quiet", target=45, at_most=False
        )  # fmt: skip

    def latency(self, texts: Sequence[str], n: int) -> None:
        """Queries and changed functions, idle and under load; niced as the daemon has it."""
        candidate = Candidate(Section(), self.cache, {}, nice=10)
        process = psutil.Process(candidate.embedder.child_pid)
        self._queries(candidate, "one query, idle", n, 6.0, 10.0)
        self._edits(candidate, "one changed function, idle", texts, n, 15.0)
        pending = [candidate.submit(texts)]
        stop = threading.Event()

        def keep_busy() -> None:
            while not stop.is_set():
                candidate.wait(pending.pop())
                pending.append(candidate.submit(texts))

        feeder = threading.Thread(target=keep_busy)
        feeder.start()
        self._queries(candidate, "one query, while it is embedding", n, None, 60.0)
        self._edits(candidate, "one changed function, while it is embedding", texts, n, None)
        stop.set()
        feeder.join()
        candidate.wait(pending.pop())
        self.report.add("resident memory, MiniLM", process.memory_info().rss / 1e6, "MB", target=450)
        before = process.cpu_times()
        time.sleep(3)
        after = process.cpu_times()
        spent = max(0.0, after.user + after.system - before.user - before.system)
        self.report.add("processor time when idle", spent, "s in 3 s", target=0.01)
        candidate.close()

    def memory(self, texts: Sequence[str]) -> None:
        """Of all processes that the embedder starts: before the model is loaded, when it has worked, once it has been
        idle for `idle_unload_s`."""
        before = _children_mb()
        candidate = Candidate(Section(idle_unload_s=1), self.cache, {})
        candidate.seconds(texts)
        loaded = _children_mb()
        wait_until(lambda: candidate.embedder.statistics()["state"] == "unloaded", 30, "unloading")
        wait_until(lambda: _children_mb() <= before, 5, "the end of the process")
        self.report.add("worker's memory before the model is loaded", before, "MB")
        self.report.add("worker's memory after a batch", loaded, "MB")
        self.report.add("worker's memory after idle_unload_s", _children_mb(), "MB", target=before)
        candidate.close()

    def _edits(self, candidate: Candidate, name: str, texts: Sequence[str], n: int, p50: float | None) -> None:
        spent = []
        for i in range(n):
            spent.append(1e3 * candidate.edit(f"# {i}\n{texts[i % len(texts)]}"))
            time.sleep(0.01)
        self.report.add(f"{name} p50", percentile(spent, 50), "ms", target=p50)
        self.report.add(f"{name} p95", percentile(spent, 95), "ms")

    def _queries(self, candidate: Candidate, name: str, n: int, p50: float | None, p95: float | None) -> None:
        spent = []
        for i in range(n):
            start = time.perf_counter()
            candidate.embedder.query([f"where is the config file number {i} parsed"], timeout=60).result()
            spent.append(1e3 * (time.perf_counter() - start))
            time.sleep(0.01)
        self.report.add(f"{name} p50", percentile(spent, 50), "ms", target=p50)
        self.report.add(f"{name} p95", percentile(spent, 95), "ms", target=p95)

    def starts(self, name: str, model: str, target: float, times: int) -> None:
        """From nothing to the first vector, the choice of the backend remembered. The best of some."""
        found = []
        for _ in range(times):
            candidate = Candidate(Section(model=model), self.cache, {})
            found.append(candidate.start_s)
            pid = candidate.embedder.child_pid
            rss = psutil.Process(pid).memory_info().rss / 1e6
            candidate.close()
        self.report.add(f"start to first vector, {name}", min(found), "s", target=target, note=f"then {rss:.0f} MB")


@dataclasses.dataclass(frozen=True)
class Targets:
    ratio: float | None = None
    share: float | None = None


def _children_mb() -> float:
    found = 0.0
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            found += process.memory_info().rss / 1e6
    return found


def has_card() -> bool:
    """Asked in a process of its own: this one stays without torch."""
    asked = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def _is_installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _mini(bench: Bench) -> None:
    texts, turns, many = functions(256), bench.n(4, 1), bench.n(256, 96)
    bench.report.heading("MiniLM at 128 tokens")
    bench.table("MiniLM", DEFAULT, texts[:many], turns, {}, Targets(4.5, 34))
    bench.contention(texts[:many], turns)


def _waits(bench: Bench) -> None:
    texts = functions(256)
    bench.report.heading("what somebody waits for, and memory")
    bench.latency(texts[: bench.n(256, 96)], bench.n(100, 30))
    bench.memory(texts[: bench.n(96, 64)])
    bench.starts("MiniLM", DEFAULT, 2, bench.n(3, 1))


def _laptop(bench: Bench) -> None:
    bench.report.heading("limited to AVX2, as most laptops are")
    texts = functions(96)[: bench.n(96, 64)]
    bench.table("AVX2 MiniLM", DEFAULT, texts, bench.n(4, 1), LIKE_A_LAPTOP, Targets(1.0))
    if not bench.quick:
        bench.table("AVX2 RoBERTa-base", bench.roberta(), texts[:24], 1, LIKE_A_LAPTOP, Targets(1.0))


def _roberta(bench: Bench) -> None:
    bench.report.heading("GraphCodeBERT's shape at 128 tokens, random weights")
    texts = functions(48)[: bench.n(48, 32)]
    bench.table("RoBERTa-base", bench.roberta(), texts, bench.n(2, 1), {}, Targets(share=34))
    bench.starts("RoBERTa-base", bench.roberta(), 5, 1)


def _card(bench: Bench) -> None:
    if not has_card():
        print("\nno CUDA card here, or a torch that is not built for one: its rows are left out")
        return
    bench.report.heading("on the CUDA card, from text to vector")
    bench.card("MiniLM", DEFAULT, functions(8192), bench.n(4, 1))
    bench.card("RoBERTa-base", bench.roberta(), functions(8192), bench.n(4, 1))


PHASES = {"mini": _mini, "waits": _waits, "laptop": _laptop, "roberta": _roberta, "card": _card}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer texts and turns: about a minute")
    parser.add_argument("--only", choices=list(PHASES), help="one part of it")
    chosen = parser.parse_args()
    report = Report("worker-quick" if chosen.quick else "worker", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        bench = Bench(report, Path(scratch), quick=chosen.quick)
        for name, phase in PHASES.items():
            if chosen.only in {None, name}:
                phase(bench)
        bench.matrix()
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
