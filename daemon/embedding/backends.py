"""Which code runs a model on which device in which precision.

A *backend* is a loaded model behind one small interface; all of them give the same vectors to cosine 0.9999. `auto`
takes what is there: a CUDA card, Apple's GPU, else the processor, and there what was measured to be fastest: torch or
OpenVINO, bfloat16 or float32. Limited to AVX2, as most laptops are, torch's bfloat16 does a sixth of its float32.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens
from codegraphd.daemon.embedding.models import FAMILY, HASHING, ModelError, ModelInfo, write_json
from codegraphd.store.records import CodeFlow, digest


class Backend(Protocol):
    """A loaded model. `lanes` threads, and one for queries, call it at the same time."""

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

    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Token ids, best of about equal length -> float32[n, dim], rows of length 1."""
        ...


class Tokeniser(Protocol):
    def encode(self, texts: Sequence[str], flows: Sequence[CodeFlow | None] = ()) -> list[tuple[list[int], bool]]:
        """For each text its token ids and whether it was cut. `flows`: one for each text, or none at all."""
        ...


def open_tokens(info: ModelInfo) -> Tokeniser:
    """Raises ModelError."""
    if info.architecture == HASHING:
        return HashingTokens(info)
    if info.flow:
        from codegraphd.daemon.embedding.code_graph import CodeTokens

        return CodeTokens(info)
    from codegraphd.daemon.embedding.tokens import Tokens

    return Tokens(info)


def open_backend(info: ModelInfo, device: str, dtype: str, cache_dir: str) -> Backend:
    """Load a model. Raises ModelError when it cannot be loaded as asked."""
    if info.architecture == HASHING:
        return HashingBackend(info)
    if dtype == "int8":
        # per-token int8 products give cosine 0.998 to float32 and 0.94 of the top ten: not the same answers
        raise ModelError(f"model {info.name}: int8 is not offered: its vectors are too far from float32's")
    if device == "cpu" or (device == "auto" and _accelerator() is None):
        return _on_processor(info, dtype, cache_dir)
    found = _accelerator()
    if device not in {"auto", found}:
        raise ModelError(f"device {device} was asked for, and torch finds none")
    assert found is not None
    try:
        return _on_accelerator(info, found, dtype)
    except RuntimeError:  # a card that is there and does not work: lost, or without memory
        if device != "auto":
            raise
        return _on_processor(info, dtype, cache_dir)


def _accelerator() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None


def _on_accelerator(info: ModelInfo, device: str, dtype: str) -> Backend:
    import torch

    if dtype == "auto" and device == "cuda":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    backend = _load("torch", info, device, "float32" if dtype == "auto" else dtype)
    backend.encode([[2, 3]])  # the first product shows whether the device works
    return backend


def _on_processor(info: ModelInfo, dtype: str, cache_dir: str) -> Backend:
    """The fastest backend and precision, by a measurement that is kept for this processor and these versions."""
    dtypes = ("float32", "bfloat16") if dtype == "auto" else (dtype,)
    choices = [f"{engine} {kind}" for engine in _engines(info) for kind in dtypes]
    if len(choices) == 1:
        return _load_choice(choices[0], info)
    memory = os.path.join(cache_dir, "backend-choices.json")
    try:
        with open(memory, encoding="utf-8") as file:
            known: dict[str, Any] = dict(json.load(file))
    except (OSError, ValueError, TypeError):
        known = {}
    key = _circumstances(info, choices)
    if known.get(key) in choices:
        return _load_choice(known[key], info)
    best, best_time = choices[0], float("inf")
    failure: RuntimeError | None = None
    for choice in choices:  # one after another, each gone before the next: two at a time would double the memory
        try:
            seconds = _trial(_load_choice(choice, info), info, best_time)
        except RuntimeError as error:  # as OpenVINO's where it may use AVX2 at most: the other one is there
            failure = error
            continue
        _give_memory_back()
        # Another engine has to win clearly: it is one more library beside the default one.
        if seconds < best_time * (1.0 if choice.split()[0] == best.split()[0] else 0.95):
            best, best_time = choice, seconds
    if best_time == float("inf") and failure is not None:
        raise failure
    known[key] = best
    write_json(memory, known)
    return _load_choice(best, info)


def _engines(info: ModelInfo) -> list[str]:
    """The libraries that can run this model on a processor and are installed, the default first."""
    # in OpenVINO there is no way for nodes and their mask
    able = ("torch", "openvino") if info.architecture in FAMILY and not info.flow else ("torch",)
    wanted = os.environ.get("CODEGRAPHD_ENGINE")  # for measurements and bug reports
    found = [name for name in able if _is_installed(name) and wanted in {None, "", name}]
    if not found:
        raise ModelError(f"model {info.name}: {wanted or 'torch'} is not installed, or cannot run it")
    return found


def _load_choice(choice: str, info: ModelInfo) -> Backend:
    engine, dtype = choice.split()
    return _load(engine, info, "cpu", dtype)


def _load(engine: str, info: ModelInfo, device: str, dtype: str) -> Backend:
    if engine == "openvino":
        from codegraphd.daemon.embedding.openvino_encoder import OpenvinoEncoder

        return OpenvinoEncoder(info, dtype)
    import torch

    torch.set_num_threads(1)  # the lanes of the worker are the parallelism
    if info.flow:
        from codegraphd.daemon.embedding.graph_encoder import GraphEncoder

        return GraphEncoder(info, device, dtype)
    if info.architecture in FAMILY:
        from codegraphd.daemon.embedding.encoder import Encoder

        return Encoder(info, device, dtype)
    from codegraphd.daemon.embedding.foreign import ForeignEncoder

    return ForeignEncoder(info, device, dtype)


def _trial(backend: Backend, info: ModelInfo, to_beat: float) -> float:
    """Seconds of processor time for 128 tokens, the best of three: other load does not count."""
    length = min(64, info.max_tokens)
    batch = [[2] * length] * (128 // length)
    best = float("inf")
    for turn in range(4):
        start = time.process_time()
        backend.encode(batch)
        seconds = time.process_time() - start
        if turn:  # the first lays out what the kernels need
            best = min(best, seconds)
        elif seconds > 4 * to_beat:  # emulated bfloat16 is hopeless at once, and takes seconds with a large model
            return seconds
    return best


def _give_memory_back() -> None:
    """What a trial used goes back to the system: cycles, which nobody collects while the worker loads, and what glibc
    alone keeps."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _circumstances(info: ModelInfo, choices: Sequence[str]) -> str:
    """What the choice depends on: the processor as the libraries may use it, their versions, the model's shape."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "openvino") if _is_installed(name)]
    limits = [f"{name}={os.environ.get(name)}" for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().partition("\n\n")[0].splitlines()
        names = sorted(line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags")))
    except OSError:
        names = [platform.processor()]
    return digest(info.architecture, str(info.dim), platform.machine(), *choices, *versions, *limits, *names).hex()


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
