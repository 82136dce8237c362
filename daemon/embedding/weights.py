"""A model's tensors as its safetensors files hold them, and what is made of them: matrix products and layer norms.

On a processor the weights of a product are laid out once as oneDNN wants them, where that is the faster way.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from codegraphd.daemon.embedding.models import ModelError, ModelInfo

_TYPICAL_TOKENS = 1024


class Weights(Mapping[str, torch.Tensor]):
    """The tensors of the safetensors files, by their names without the model's own prefix ("bert.", "roberta.")."""

    def __init__(self, info: ModelInfo, kind: torch.dtype, device: torch.device) -> None:
        from safetensors import SafetensorError, safe_open

        self._info, self._kind, self._device = info, kind, device
        self._files: dict[str, Any] = {}  # tensor name -> open file
        self._by_path: dict[str, Any] = {}
        try:
            for path in info.weights:
                file: Any = safe_open(path, framework="pt", device="cpu")
                self._by_path[path] = file
                self._files |= dict.fromkeys(file.keys(), file)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"model {info.name}: {path} cannot be read as safetensors: {error}") from None
        anchor = "embeddings.word_embeddings.weight"
        prefixes = sorted((name.removesuffix(anchor) for name in self._files if name.endswith(anchor)), key=len)
        if not prefixes:
            raise ModelError(f"model {info.name}: {info.weights[0]} holds no {info.architecture} encoder")
        self._prefix = prefixes[0]

    def __getitem__(self, name: str) -> torch.Tensor:
        try:
            tensor = self._files[self._prefix + name].get_tensor(self._prefix + name)
        except KeyError:
            raise ModelError(f"model {self._info.name}: {self._info.weights[0]} lacks {name}") from None
        # the copy lets the mapped file go: else its pages count as this process's memory for ever
        return torch.empty(tensor.shape, dtype=self._kind, device=self._device).copy_(tensor)

    def __iter__(self) -> Any:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def mapped(self, name: str) -> torch.Tensor:
        """The tensor as it lies in the file, in float32; on a device of its own, a copy there.

        Through a mapping of its own, which outlives the loading: in the shared one every page has been read.
        """
        from safetensors import safe_open

        full = self._prefix + name
        path = next(path for path, file in self._by_path.items() if file is self._files[full])
        file: Any = safe_open(path, framework="pt", device="cpu")
        tensor = file.get_tensor(full)
        return torch.as_tensor(tensor, dtype=torch.float32, device=self._device)

    def of(self, kind: torch.dtype) -> Weights:
        """The same tensors in another precision."""
        other = copy.copy(self)
        other._kind = kind
        return other

    def linear(self, names: Sequence[str], approximation: str | None = None) -> Linear | PackedLinear:
        """One product for the stacked weights of `names`."""
        weight = torch.cat([self[f"{name}.weight"] for name in names])
        bias = torch.cat([self[f"{name}.bias"] for name in names])
        if self._device.type == "cpu" and _packing_pays(self._kind):
            return PackedLinear(weight, bias, approximation)
        return Linear(weight, bias, approximation)


class Norm:
    def __init__(self, weights: Weights, name: str, eps: float) -> None:
        self._weight, self._bias, self._eps = weights[f"{name}.weight"], weights[f"{name}.bias"], eps

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(hidden, self._weight.shape, self._weight, self._bias, self._eps)


class Linear:
    """x @ w.T + b, then gelu or the addition of what bypasses it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, approximation: str | None) -> None:
        self._weight, self._bias, self._gelu = weight, bias, approximation

    def __call__(self, x: torch.Tensor, bypass: torch.Tensor | None = None) -> torch.Tensor:
        y = functional.linear(x, self._weight, self._bias)
        if self._gelu is not None:
            y = functional.gelu(y, approximate=self._gelu)
        return y if bypass is None else y + bypass


class PackedLinear:
    """The same through oneDNN, with the weights laid out for it once and the addition or gelu in the same loop."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, approximation: str | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_TOKENS)
        self._bias = bias
        self._after: tuple[str, list[float], str] = (
            ("gelu", [], approximation) if approximation is not None else ("none", [], "")
        )
        self._product = torch.ops.mkldnn._linear_pointwise

    def __call__(self, x: torch.Tensor, bypass: torch.Tensor | None = None) -> torch.Tensor:
        if bypass is None:
            y = self._product(x, self._weight, self._bias, *self._after)
        else:
            y = self._product.binary(x, bypass, self._weight, self._bias, "add")
        assert isinstance(y, torch.Tensor)
        return y


@functools.cache
def _packing_pays(kind: torch.dtype) -> bool:
    """Whether oneDNN's product with weights laid out beforehand is there and fast on this processor.

    torch's own product in float32 is MKL's, where it is built with it, and that may use vectors that oneDNN may not:
    limited to AVX2, oneDNN did 80 GFLOP/s and MKL 140.
    """
    weight, bias, x = torch.randn(768, 768), torch.randn(768), torch.randn(128, 768)
    weight, bias, x = weight.to(kind), bias.to(kind), x.to(kind)
    try:
        packed = PackedLinear(weight, bias, None)
        packed(x)
    except RuntimeError:  # not built with oneDNN, or not for this type on this processor
        return False
    if kind != torch.float32:
        return True
    plain = Linear(weight, bias, None)
    ours, theirs = [], []
    for _ in range(4):
        ours.append(_seconds(packed, x))
        theirs.append(_seconds(plain, x))
    return min(ours) < 1.2 * min(theirs)  # it also adds and does gelu in the same loop


def _seconds(product: Linear | PackedLinear, x: torch.Tensor) -> float:
    """Of processor time: other load does not count."""
    start = time.thread_time()
    product(x)
    return time.thread_time() - start
