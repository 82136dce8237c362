"""Which code runs a model on which device in which precision.

A *backend* is a loaded model behind one small interface; all of them give the same vectors to cosine 0.9999. `auto`
takes what is there: a CUDA card, Apple's GPU, else the processor, and there bfloat16 only where it was measured to be
faster: limited to AVX2, as most laptops are, torch's bfloat16 does a sixth of its float32.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens
from codegraphd.daemon.embedding.models import HASHING, ModelError, ModelInfo, write_json


class Backend(Protocol):
    """A loaded model. `lanes` threads at most call it at the same time."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def lanes(self) -> int: ...
    @property
    def group_tokens(self) -> int:
        """How many tokens it should be given at once."""
        ...

    def encode(self, batch: Sequence[Sequence[int]], between: Callable[[], None]) -> np.ndarray:
        """Token ids, best of about equal length -> float32[n, dim], rows of length 1. `between` is called wherever
        the work can be left for a moment: a query then goes first."""
        ...


class Tokeniser(Protocol):
    def encode(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """For each text its token ids and whether it was cut."""
        ...


def open_tokens(info: ModelInfo) -> Tokeniser:
    """Raises ModelError."""
    if info.architecture == HASHING:
        return HashingTokens(info)
    from codegraphd.daemon.embedding.tokens import Tokens

    return Tokens(info)


def open_backend(info: ModelInfo, device: str, dtype: str, cache_dir: str) -> Backend:
    """Load a model. Raises ModelError when it cannot be loaded as asked."""
    if info.architecture == HASHING:
        return HashingBackend(info)
    try:
        import torch
    except ImportError as error:
        raise ModelError(f"model {info.name}: torch is not installed ({error})") from None
    torch.set_num_threads(1)  # the lanes of the worker are the parallelism
    device = _device(device)
    if dtype == "int8":
        raise ModelError(f"model {info.name}: int8 is not offered on {device}: its vectors are not float32's")
    if dtype != "auto":
        return _load(info, device, dtype)
    if device == "cuda":
        return _load(info, device, "bfloat16" if torch.cuda.is_bf16_supported() else "float16")
    if device == "mps":
        return _load(info, device, "float32")
    return _fastest(info, cache_dir)


def _load(info: ModelInfo, device: str, dtype: str) -> Backend:
    from codegraphd.daemon.embedding.encoder import Encoder, can_encode

    if can_encode(info):
        return Encoder(info, device, dtype)
    from codegraphd.daemon.embedding.foreign import ForeignEncoder

    return ForeignEncoder(info, device, dtype)


def _device(asked: str) -> str:
    import torch

    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if asked in {"auto", "cpu", found}:
        return found if asked == "auto" else asked
    raise ModelError(f"device {asked} was asked for, and torch finds none")


def _fastest(info: ModelInfo, cache_dir: str) -> Backend:
    """float32 or bfloat16 on this processor, by a measurement that is kept for it."""
    memory = os.path.join(cache_dir, "backend-choices.json")
    known: dict[str, Any] = {}
    try:
        with open(memory, encoding="utf-8") as file:
            known = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        known = {}
    key = _processor(info)
    if known.get(key) in {"float32", "bfloat16"}:
        return _load(info, "cpu", known[key])
    candidates = [_load(info, "cpu", dtype) for dtype in ("bfloat16", "float32")]
    seconds = _race(candidates, info)
    best = candidates[seconds.index(min(seconds))]
    known[key] = best.dtype
    write_json(memory, known)
    return best


def _race(candidates: Sequence[Backend], info: ModelInfo) -> list[float]:
    """Seconds for a small batch, the best of three, in turns: what slows one down slows the others too."""
    batch = [[2] * min(64, info.max_tokens)] * 4
    best = [float("inf")] * len(candidates)
    for turn in range(4):
        for i, backend in enumerate(candidates):
            start = time.perf_counter()
            backend.encode(batch, _nothing)
            if turn:  # the first lays out what the kernels need
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def _nothing() -> None:
    pass


def _processor(info: ModelInfo) -> str:
    import torch

    names = [info.architecture, str(info.dim), torch.__version__, platform.machine()]
    names.append(torch.backends.cpu.get_cpu_capability())
    names += [f"{name}={os.environ.get(name)}" for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().partition("\n\n")[0].splitlines()
        names += sorted(line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags")))
    except OSError:
        names.append(platform.processor())
    from codegraphd.store.records import digest

    return digest(*names).hex()
