"""The BERT family through OpenVINO, where it is installed: the second backend behind the same interface.

It is an extra (`pip install openvino`), not a dependency: `backends` measures it against torch on the user's processor
at first load, and takes it where it is clearly faster. The network is built here from the safetensors, so that neither
torch nor a converter is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from codegraphd.daemon.embedding.models import ModelError, ModelInfo

_ACTIVATIONS = {"gelu": "ERF", "gelu_new": "TANH", "gelu_pytorch_tanh": "TANH"}


class OpenvinoEncoder:
    """A loaded model. Any number of threads may call it; each has an inference request of its own."""

    name, device = "openvino", "cpu"
    lanes, group_tokens = 64, 512

    def __init__(self, info: ModelInfo, dtype: str) -> None:
        """Raises ModelError when the weights are not what the configuration says."""
        openvino: Any = importlib.import_module("openvino")
        self.dtype = dtype
        with open(os.path.join(info.directory, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self._first_position = int(config.get("pad_token_id") or 0) + 1 if info.architecture == "roberta" else 0
        network = _Network(info, config).build()
        precision = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        # A stream of one thread for each lane and one for the queries: with fewer, lanes would wait for each other.
        streams = min(8, os.cpu_count() or 1) + 1
        self._compiled = openvino.Core().compile_model(
            network,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": streams,
                "NUM_STREAMS": streams,
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._local = threading.local()

    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Token ids, best of about the same length each -> float32[n, dim], every row of length 1."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), np.int64)
        mask = np.zeros((len(batch), longest), np.float32)
        for i, row in enumerate(batch):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        places = np.arange(self._first_position, self._first_position + longest, dtype=np.int64)
        request.infer([ids, mask, places], share_inputs=True)
        rows = np.array(request.get_output_tensor(0).data, np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


class _Network:
    """Builds the graph: ids int64[n, m], mask float32[n, m] of 1 and 0, places int64[m] -> pooled [n, dim]."""

    def __init__(self, info: ModelInfo, config: dict[str, Any]) -> None:
        ops: Any = importlib.import_module("openvino.opset13")
        self._ops, self._info, self._config = ops, info, config
        self._tensors = _tensors(info)
        self._eps = float(config.get("layer_norm_eps", 1e-12))

    def build(self) -> Any:
        openvino: Any = importlib.import_module("openvino")
        ops, config = self._ops, self._config
        ids = ops.parameter([-1, -1], np.int64, "ids")
        mask = ops.parameter([-1, -1], np.float32, "mask")
        places = ops.parameter([-1], np.int64, "places")
        table = "embeddings.{}.weight"
        positions = (
            self._tensor(table.format("position_embeddings")) + self._tensor(table.format("token_type_embeddings"))[0]
        )
        words = ops.gather(self._constant(table.format("word_embeddings")), ids, 0)
        hidden = self._norm(ops.add(words, ops.gather(positions, places, 0)), "embeddings.LayerNorm")
        # 0 where the attention may look, a very negative number elsewhere; [n, 1, 1, m]
        bias = ops.unsqueeze(ops.multiply(ops.subtract(mask, np.float32(1)), np.float32(1e9)), [1, 2])
        for layer in range(int(config["num_hidden_layers"])):
            hidden = self._layer(hidden, bias, f"encoder.layer.{layer}")
        return openvino.Model([self._pool(hidden, mask)], [ids, mask, places], self._info.name)

    def _layer(self, hidden: Any, bias: Any, prefix: str) -> Any:
        ops = self._ops
        heads, dim = int(self._config["num_attention_heads"]), self._info.dim
        split = []
        for part in ("query", "key", "value"):
            x = self._linear(hidden, f"{prefix}.attention.self.{part}")
            x = ops.reshape(x, [0, 0, heads, dim // heads], special_zero=True)
            split.append(ops.transpose(x, [0, 2, 1, 3]))
        mixed = ops.scaled_dot_product_attention(*split, bias)
        mixed = ops.reshape(ops.transpose(mixed, [0, 2, 1, 3]), [0, 0, dim], special_zero=True)
        out = self._linear(mixed, f"{prefix}.attention.output.dense")
        hidden = self._norm(ops.add(out, hidden), f"{prefix}.attention.output.LayerNorm")
        activation = _ACTIVATIONS[self._config.get("hidden_act", "gelu")]
        up = ops.gelu(self._linear(hidden, f"{prefix}.intermediate.dense"), activation)
        return self._norm(ops.add(self._linear(up, f"{prefix}.output.dense"), hidden), f"{prefix}.output.LayerNorm")

    def _pool(self, hidden: Any, mask: Any) -> Any:
        ops = self._ops
        if self._info.pooling == "first":
            return ops.gather(hidden, np.int64(0), 1)
        column = ops.unsqueeze(mask, [2])
        if self._info.pooling == "max":
            low = ops.multiply(ops.subtract(column, np.float32(1)), np.float32(1e9))
            return ops.reduce_max(ops.add(hidden, low), [1])
        return ops.divide(ops.reduce_sum(ops.multiply(hidden, column), [1]), ops.reduce_sum(column, [1]))

    def _linear(self, x: Any, name: str) -> Any:
        product = self._ops.matmul(x, self._constant(f"{name}.weight"), transpose_a=False, transpose_b=True)
        return self._ops.add(product, self._constant(f"{name}.bias"))

    def _norm(self, x: Any, name: str) -> Any:
        ops = self._ops
        centred = ops.mvn(x, [-1], normalize_variance=True, eps=self._eps, eps_mode="inside_sqrt")
        return ops.add(ops.multiply(centred, self._constant(f"{name}.weight")), self._constant(f"{name}.bias"))

    def _constant(self, name: str) -> Any:
        return self._ops.constant(self._tensor(name))

    def _tensor(self, name: str) -> np.ndarray:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelError(f"model {self._info.name}: {self._info.weights[0]} lacks {name}") from None


def _tensors(info: ModelInfo) -> dict[str, np.ndarray]:
    """float32 tensors by their names without the model's own prefix. Raises ModelError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[str, np.ndarray] = {}
    try:
        for path in info.weights:
            found |= load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"model {info.name}: {path} cannot be read as safetensors: {error}") from None
    anchor = "embeddings.word_embeddings.weight"
    prefixes = sorted((name.removesuffix(anchor) for name in found if name.endswith(anchor)), key=len)
    if not prefixes:
        raise ModelError(f"model {info.name}: {info.weights[0]} holds no {info.architecture} encoder")
    return {
        name.removeprefix(prefixes[0]): np.asarray(tensor, np.float32)
        for name, tensor in found.items()
        if name.startswith(prefixes[0])
    }
