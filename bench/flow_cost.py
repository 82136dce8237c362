"""What data flow costs a model of GraphCodeBERT's shape: `python -m bench.flow_cost`.

On functions of the standard library: the time to compute the input of a unit, and functions a second through the
encoder on one thread, the same functions as plain text and with their flow, in turns. The weights are random and the
tokenizer is trained on the corpus: neither changes the time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.tiny_models import functions, write_tiny
from codegraphd.daemon.analysis.parse import parse, render, render_flows
from codegraphd.daemon.embedding.backends import Backend, open_backend, open_tokens
from codegraphd.daemon.embedding.code_graph import CodeIds
from codegraphd.daemon.embedding.models import resolve
from codegraphd.daemon.embedding.packing import groups
from codegraphd.store.records import CodeFlow

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--functions", type=int, default=120)
    arguments.add_argument("--turns", type=int, default=3)
    options = arguments.parse_args()
    texts, flows, computed = inputs(options.functions)
    print(f"{len(texts)} functions; their input with flow: {spread(computed)} ms a unit")
    print(f"(parsing its file again for its text: {rendering(texts):.2f} ms)")
    with tempfile.TemporaryDirectory() as scratch:
        directory = write_tiny(
            Path(scratch) / "graphcodebert-base", "graphcodebert", 8000, max_position_embeddings=514, **BASE
        )
        info = resolve(str(directory), scratch)
        backend = open_backend(info, "cpu", "auto", scratch)
        tokens = open_tokens(info)
        plain = [ids for ids, _ in tokens.encode(texts)]
        start = time.perf_counter()
        graph = [ids for ids, _ in tokens.encode(texts, flows)]
        tokenising = 1e3 * (time.perf_counter() - start) / len(texts)
        nodes = float(np.mean([len(ids.variables) for ids in graph if isinstance(ids, CodeIds)]))
        print(f"{backend.name} {backend.dtype}; tokens each: {mean(plain):.0f} as text, {mean(graph):.0f} with flow")
        print(f"({nodes:.0f} of them variables); tokenising with flow {tokenising:.2f} ms a function")
        rates: dict[str, list[float]] = {"as text": [], "with flow": []}
        for _ in range(options.turns):
            for name, ids in (("as text", plain), ("with flow", graph)):
                rates[name].append(len(ids) / seconds(backend, ids))
        for name, found in rates.items():
            print(f"{name:<10} {np.median(found):.1f} functions/s on one thread ({min(found):.1f} to {max(found):.1f})")


def inputs(n: int) -> tuple[list[str], list[CodeFlow | None], list[float]]:
    """Own texts and flows of functions, and what the latter took, in milliseconds."""
    import argparse as one
    import configparser as two
    import shutil as three

    texts, flows, took = [], [], []
    for source in functions(one, two, three):
        raw = source.encode()
        before = time.perf_counter()
        rendered, found = render_flows("a.py", raw, (0,))
        between = time.perf_counter()
        render("a.py", raw)
        after = time.perf_counter()
        if 0 in found and len(texts) < n:
            texts.append(rendered[0])
            flows.append(found[0])
            took.append(max(0.0, 1e3 * (between - before - (after - between))))
    return texts, flows, took


def rendering(texts: Sequence[str]) -> float:
    """Milliseconds that a unit's file takes to be parsed again for its texts, for comparison."""
    start = time.perf_counter()
    for text in texts:
        parse("a.py", text.encode())
    return 1e3 * (time.perf_counter() - start) / len(texts)


def seconds(backend: Backend, ids: Sequence[Sequence[int]]) -> float:
    start = time.perf_counter()
    for group in groups([len(row) for row in ids], 512):
        backend.encode([ids[i] for i in group])
    return time.perf_counter() - start


def mean(ids: Sequence[Sequence[int]]) -> float:
    return float(np.mean([len(row) for row in ids]))


def spread(values: Sequence[float]) -> str:
    p50, p95 = np.quantile(values, (0.5, 0.95))
    return f"p50 {p50:.2f}, p95 {p95:.2f}"


if __name__ == "__main__":
    main()
