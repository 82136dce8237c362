"""The embedding worker against plain transformers, in one run: `python -m bench.worker` (4 minutes, `--quick`: 1).

The baseline is what people write first: float32 transformers, batches of 32 in their own order, padded to the longest,
with torch's own threads. It runs in a process of its own, started beforehand, and takes turns with the candidates on
the same texts; ratios are of the best turns. Absolute figures are this machine's at this hour; ratios travel.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from bench.corpora import standard_library
from bench.harness import Report, describe, machine, percentile
from codegraphd.daemon.embedding import worker
from codegraphd.daemon.embedding.models import DEFAULT, resolve
from codegraphd.daemon.embedding.worker import Embedded, Embedder, Failed, ModelState
from codegraphd.store.records import Batch, Input, digest

LIKE_A_LAPTOP = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
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
        self.heard: queue.SimpleQueue[Embedded | Failed | ModelState] = queue.SimpleQueue()
        self.numbers = 0
        start = time.perf_counter()
        with surroundings(variables):
            self.embedder = Embedder(section, cache, self.heard.put, nice=nice)
            self.embedder.start()
            self.embedder.query(["warm"], timeout=300).result()
        self.start_s = time.perf_counter() - start

    def submit(self, texts: Sequence[str]) -> int:
        """Send batches; returns how many answers will come."""
        parts = [texts[at : at + PIECE] for at in range(0, len(texts), PIECE)]
        for part in parts:
            self.numbers += 1
            self.embedder.submit(Batch(self.numbers, tuple(Input(digest(text), text) for text in part)))
        return len(parts)

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


class Baseline:
    """Plain transformers in a process of its own: a line of JSON in, seconds out."""

    def __init__(self, directory: str, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", "--baseline", directory],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **variables},
        )
        self.seconds(["warm up"] * 32)

    def seconds(self, texts: Sequence[str]) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(list(texts)) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def serve_baseline(directory: str) -> None:
    """The baseline's process."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    for line in sys.stdin:
        texts = json.loads(line)
        start = time.perf_counter()
        with torch.inference_mode():
            for at in range(0, len(texts), 32):
                some = texts[at : at + 32]
                batch = tokenizer(some, padding=True, truncation=True, max_length=128, return_tensors="pt")
                hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
                torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
        print(time.perf_counter() - start, flush=True)


MATRIX_RATE = """
import sys, threading, time, torch
torch.set_num_threads(1)
device, lanes = sys.argv[1], int(sys.argv[2])
def products(kind, m, n, k):
    a, b = torch.randn(m, k).to(device, kind), torch.randn(n, k).to(device, kind)
    if device == "cpu":
        b = torch.ops.mkldnn._reorder_linear_weight(b, m)
        return lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return lambda: (torch.mm(a, b.t()), torch.cuda.synchronize())
def lane(kind, sizes, found):
    product = products(kind, *sizes)
    for _ in range(3): product()
    start, n = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < 0.25:
        product(); n += 1
    found.append(2 * sizes[0] * sizes[1] * sizes[2] * n / spent)
shapes = [(1024, 1024, 1024), (512, 3072, 768)] if device == "cpu" else [(8192, 8192, 8192), (16384, 3072, 768)]
for kind in (torch.bfloat16, torch.float32):
    rates = []
    for sizes in shapes * 2:
        found = []
        threads = [threading.Thread(target=lane, args=(kind, sizes, found)) for _ in range(lanes)]
        [t.start() for t in threads]; [t.join() for t in threads]
        rates.append(sum(found))
    print(max(rates))
"""


def matrix_rates(device: str, lanes: int) -> tuple[float, float]:
    """FLOP/s of this machine's own products in bfloat16 and float32, on a processor one thread on each core."""
    found = subprocess.run(
        [sys.executable, "-c", MATRIX_RATE, device, str(lanes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return float(found[0]), float(found[1])


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

    def matrix(self) -> None:
        """The rates that the shares are of."""
        self.report.add("matrix products, bfloat16", self.bf16 / 1e9, "GFLOP/s", note=f"{self.lanes} cores")
        self.report.add("matrix products, float32", self.f32 / 1e9, "GFLOP/s", note=f"{self.lanes} cores")

    def table(
        self, shape: str, model: str, texts: Sequence[str], turns: int, variables: Mapping[str, str], targets: Targets
    ) -> None:
        """Functions a second of the baseline and of each candidate, in turns, and the matrix rate between them."""
        directory = resolve(model, self.cache).directory
        baseline = Baseline(directory, variables)
        section = Section(model=model, device="cpu")
        candidates = {"auto": Candidate(section, self.cache, variables)}
        chosen = candidates["auto"].name()
        for name in self._others(chosen, variables):
            engine, dtype = name.split()
            with contextlib.suppress(RuntimeError):
                candidates[name] = Candidate(
                    dataclasses.replace(section, dtype=dtype),
                    self.cache,
                    {**variables, "CODEGRAPHD_ENGINE": engine},
                )
        best = dict.fromkeys(["baseline", *candidates], float("inf"))
        tokens = candidates["auto"].tokens(texts)
        for _ in range(turns):
            rates = matrix_rates("cpu", self.lanes)
            self.bf16, self.f32 = max(self.bf16, rates[0]), max(self.f32, rates[1])
            best["baseline"] = min(best["baseline"], baseline.seconds(texts))
            for name, candidate in candidates.items():
                best[name] = min(best[name], candidate.seconds(texts))
        n = len(texts)
        self.report.add(f"{shape}: plain transformers", n / best["baseline"], "fn/s")
        for name in candidates:
            seconds = best[name]
            told = f"auto = {chosen}" if name == "auto" else name
            reach = targets.ratio if name == "auto" else None
            self.report.add(f"{shape}: worker, {told}", n / seconds, "fn/s")
            self.report.add(f"{shape}: ratio, {told}", best["baseline"] / seconds, "x", target=reach, at_most=False)
        rate = tokens * flops_per_token(directory) / best["auto"]
        share = 100 * rate / self.bf16
        self.report.add(
            f"{shape}: share of the bfloat16 matrix rate", share, "%", target=targets.share, at_most=False,
            note=f"{tokens / n:.0f} tokens a function",
        )  # fmt: skip
        for each in (baseline, *candidates.values()):
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
        """Queries, idle and under load, and one changed function; niced as the daemon has it."""
        candidate = Candidate(Section(), self.cache, {}, nice=10)
        process = psutil.Process(candidate.embedder.child_pid)
        self._queries(candidate, "one query, idle", n, 6.0, 10.0)
        changed = [candidate.seconds([f"# {i}\n{texts[i % len(texts)]}"]) for i in range(n)]
        self.report.add("one changed function p50", 1e3 * percentile(changed, 50), "ms", target=15)
        self.report.add("one changed function p95", 1e3 * percentile(changed, 95), "ms")
        pending = [candidate.submit(texts)]
        stop = threading.Event()

        def keep_busy() -> None:
            while not stop.is_set():
                candidate.wait(pending.pop())
                pending.append(candidate.submit(texts))

        feeder = threading.Thread(target=keep_busy)
        feeder.start()
        self._queries(candidate, "one query, while it is embedding", n, None, 60.0)
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


def has_card() -> bool:
    """Asked in a process of its own: this one stays without torch."""
    asked = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


def _is_installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def measure(report: Report, scratch: Path, *, quick: bool) -> None:
    """All of it, into the report."""
    bench = Bench(report, scratch, quick=quick)
    texts = functions(512)
    turns, few, many = (1, 64, 96) if quick else (4, 96, 256)
    report.heading("MiniLM at 128 tokens")
    bench.table("MiniLM", DEFAULT, texts[:many], turns, {}, Targets(4.5, 34))
    bench.contention(texts[:many], turns)
    bench.latency(texts[:many], 30 if quick else 100)
    bench.starts("MiniLM", DEFAULT, 2, 1 if quick else 3)
    report.heading("limited to AVX2, as most laptops are")
    bench.table("AVX2 MiniLM", DEFAULT, texts[:few], turns, LIKE_A_LAPTOP, Targets(1.0))
    report.heading("GraphCodeBERT's shape at 128 tokens, random weights")
    roberta = write_roberta(scratch / "roberta")
    bench.table("RoBERTa-base", roberta, texts[: few // 2], max(1, turns // 2), {}, Targets(share=34))
    bench.starts("RoBERTa-base", roberta, 5, 1)
    if not quick:
        bench.table("AVX2 RoBERTa-base", roberta, texts[: few // 4], 1, LIKE_A_LAPTOP, Targets(1.0))
    bench.matrix()
    if has_card():
        report.heading("on the CUDA card, from text to vector")
        bench.card("MiniLM", DEFAULT, functions(8192), turns)
        bench.card("RoBERTa-base", roberta, functions(8192), turns)
    else:
        print("\nno CUDA card here, or a torch that is not built for one: its rows are left out")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer texts and turns: about a minute")
    parser.add_argument("--baseline", metavar="DIR", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.baseline:
        serve_baseline(chosen.baseline)
        return 0
    report = Report("worker-quick" if chosen.quick else "worker", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        measure(report, Path(scratch), quick=chosen.quick)
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
