"""What the worker is measured against: plain transformers, onnxruntime, and the machine's own matrix rate.

Each runs in a process of its own, so that no library of theirs is in ours: `python -m bench.rivals KIND DIRECTORY`
answers a line of JSON, the texts, with the seconds that it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegraphd.daemon.embedding.packing import groups

BATCH_TOKENS = 512  # of onnxruntime: what the worker's lanes have


class Rival:
    """Another way to run a model. `kind`: a key of KINDS."""

    def __init__(self, kind: str, directory: str, variables: Mapping[str, str]) -> None:
        """Raises RuntimeError when it cannot run the model."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.rivals", kind, directory],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **variables},
        )
        try:
            self.seconds(["warm up"] * 32)
        except (ValueError, OSError):
            self.close()
            raise RuntimeError(f"{kind} cannot run {directory}") from None

    def seconds(self, texts: Sequence[str]) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(list(texts)) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


Embed = Callable[[Sequence[str]], Any]


def plain(directory: str) -> Embed:
    """What people write first: float32, batches of 32 in their own order, padded, torch's own threads."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> None:
        for at in range(0, len(texts), 32):
            some = list(texts[at : at + 32])
            batch = tokenizer(some, padding=True, truncation=True, max_length=128, return_tensors="pt")
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
            torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()

    return embed


def onnx(directory: str) -> Embed:
    """onnxruntime in float32 as the worker would use it: sorted, a lane of one thread for each core."""
    import numpy as np
    import onnxruntime
    import torch
    from transformers import AutoModel, AutoTokenizer

    model: Any = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        file, example = f"{scratch}/model.onnx", torch.ones(2, 16, dtype=torch.long)
        axes = {name: {0: "texts", 1: "tokens"} for name in ("ids", "mask", "hidden")}
        torch.onnx.export(
            Hidden(), (example, example), file, input_names=["ids", "mask"], output_names=["hidden"],
            dynamic_axes=axes, dynamo=False, opset_version=17,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(rows: Sequence[Sequence[int]]) -> None:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        (hidden,) = session.run(None, {"ids": ids, "mask": mask})
        (hidden * mask[:, :, None]).sum(1)

    def embed(texts: Sequence[str]) -> None:
        rows = tokenizer(list(texts), truncation=True, max_length=128)["input_ids"]
        waiting = iter([[rows[i] for i in group] for group in groups([len(row) for row in rows], BATCH_TOKENS)])
        guard = threading.Lock()

        def lane() -> None:
            while True:
                with guard:
                    group = next(waiting, None)
                if group is None:
                    return
                run(group)

        threads = [threading.Thread(target=lane) for _ in range(len(os.sched_getaffinity(0)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return embed


KINDS: dict[str, Callable[[str], Embed]] = {"plain": plain, "onnxruntime": onnx}


def main() -> None:
    embed = KINDS[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        texts = json.loads(line)
        start = time.perf_counter()
        embed(texts)
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


if __name__ == "__main__":
    main()
