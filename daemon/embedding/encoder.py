"""Our own encoder for the BERT family (BERT, RoBERTa and what is built like them), in torch, without transformers.

Why not transformers: importing it takes 4 s and 150 MB, it pads every batch to a rectangle, and its layers are made of
many small operations. Here a batch is *packed*: the tokens of all its texts stand one after another in one matrix,
and everything works on that matrix. The query, key and value projections are one product; on a CPU the weights are laid
out beforehand as oneDNN wants them, and the activation and the addition of what bypasses a layer happen inside the
product's own loop.

Tests hold it equal to transformers on the real MiniLM and on small models of each kind.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.nn import functional

from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.daemon.embedding.weights import Norm, Weights

_ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}  # models.ACTIVATIONS in torch's words


def placement(device: str) -> tuple[int, int]:
    """How many threads may run a model at the same time, and how many tokens they should be given at once.

    On a processor 512 tokens are as fast as 2,048 and stay in its cache. A card wants to be filled; of its two threads
    one prepares while the other one waits for the card.
    """
    return (64, 512) if device == "cpu" else (2 if device == "cuda" else 1, 16384)


def placed(array: np.ndarray, device: str) -> torch.Tensor:
    """The array on the device. On a card without waiting for what that is doing."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor.to(device)


class Encoder:
    """A loaded model. `encode` turns token ids into pooled, normalised vectors. Any number of threads may call it."""

    name = "torch"

    def __init__(self, info: ModelInfo, device: str, dtype: str) -> None:
        """Raises ModelError when the weights are not what the configuration says."""
        with open(os.path.join(info.directory, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.device, self.dtype = device, dtype
        self.lanes, self.group_tokens = placement(device)
        self._pooling = info.pooling
        kind = getattr(torch, dtype)
        weights = Weights(info, kind, torch.device(device))
        eps = float(config.get("layer_norm_eps", 1e-12))
        padding = int(config.get("pad_token_id") or 0)
        self._first_position = padding + 1 if info.architecture == "roberta" else 0
        # The embeddings stay in float32 until their norm is taken: it costs nothing, and of the rounding that a short
        # text suffers in bfloat16, half was here. The word table is read where it lies in the mapped file: only the
        # rows of words that occur take memory.
        self._kind = kind
        self._words = weights.mapped("embeddings.word_embeddings.weight")
        # one segment only, so its row is added to the positions once and for all
        exact = weights.of(torch.float32)
        self._positions = exact["embeddings.position_embeddings.weight"]
        self._positions += exact["embeddings.token_type_embeddings.weight"][0]
        self._norm = Norm(exact, "embeddings.LayerNorm", eps)
        heads = int(config["num_attention_heads"])
        packed = packed_attention(device, kind, heads, info.dim // heads)
        approximation = _ACTIVATIONS[config.get("hidden_act", "gelu")]
        self._layers = [
            _Layer(weights, f"encoder.layer.{i}", heads, eps, approximation, packed)
            for i in range(int(config["num_hidden_layers"]))
        ]

    @torch.inference_mode()
    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Token ids, best of about the same length each -> float32[n, dim], every row of length 1."""
        n_texts = len(batch)
        batch = filled(batch)
        lengths = [len(ids) for ids in batch]
        extra = self._extra(lengths[0]) if n_texts == 1 else 0
        flat = np.concatenate([np.asarray(ids, np.int64) for ids in [*batch, [batch[0][0]] * extra]])
        ids = placed(flat, self.device)
        # index_select takes a third of the time of indexing
        hidden = self._words.index_select(0, ids)
        first = self._first_position
        if n_texts == 1:  # a question: what it can do without counts, each small operation costs it 10 to 50 us
            hidden += self._positions[first : first + lengths[0] + extra]
        else:
            places = np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]) + first
            hidden += self._positions.index_select(0, placed(places, self.device))
        hidden = self._norm(hidden).to(self._kind)
        shape = Shape(lengths, self.device, extra)
        for layer in self._layers:
            hidden = layer(hidden, shape)
        return self._rows(hidden, shape, n_texts)

    def _extra(self, length: int) -> int:
        """How many rows fill up a text that stands alone: for what `filled` says, and the kernels count in tiles."""
        extra = -length % _LANE
        return extra if self.device == "cpu" and self._first_position + length + extra <= len(self._positions) else 0

    def _rows(self, hidden: torch.Tensor, shape: Shape, n_texts: int) -> np.ndarray:
        """The vectors of the first `n_texts` texts: pooled, of length 1."""
        rows = np.asarray(self._pool(hidden.float(), shape)[:n_texts].cpu().numpy())
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        return np.asarray(rows / np.maximum(lengths, 1e-12))

    def _pool(self, hidden: torch.Tensor, shape: Shape) -> torch.Tensor:
        """[tokens, dim] -> [texts, dim], up to the length of each row."""
        if len(shape.sizes) == 1:
            hidden = hidden[: shape.longest]
            if self._pooling == "first":
                return hidden[:1]
            return hidden.amax(0, keepdim=True) if self._pooling == "max" else hidden.sum(0, keepdim=True)
        if self._pooling == "first":
            return hidden[shape.starts[:-1]]
        if self._pooling == "max":
            return torch.segment_reduce(hidden, "max", lengths=shape.lengths)
        # The sum does for the mean. segment_reduce took four times as long.
        owners = torch.repeat_interleave(shape.lengths)
        return hidden.new_zeros(len(shape.sizes), hidden.shape[1]).index_add_(0, owners, hidden)


def filled(batch: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
    """The batch, or with one more text, of any token, whose vector is to be dropped: oneDNN keeps compiled code for
    every number of rows that it meets, which came to 60 MB for each thousand texts (687 MB after 3,260; with this 381).
    """
    over = sum(map(len, batch)) % _ROWS
    return [*batch, [batch[0][0]] * (_ROWS - over)] if len(batch) > 1 and over else batch


class Run(NamedTuple):
    """Neighbours of one length, which the attention takes as they lie in the matrix.

    Each looks at its own tokens and, through a mask, at what follows them in the matrix up to a multiple of 16: the
    kernel computes the exponentials of the last, odd ones one by one, which for 31 or 127 tokens doubled its time.
    """

    first: int  # row of the first text's first token
    texts: int
    length: int
    seen: int  # rows that each text is shown
    mask: torch.Tensor | None  # float32[1, 1, 1, seen]: 0, or minus infinity where a row is another text's


class Shape:
    """How the texts of a packed batch lie in its matrix, and what each way of attention needs to know of it."""

    is_masked = False  # whether `mask` says more than where the texts end: then only the rectangle will do

    def __init__(self, lengths: Sequence[int], device: str, extra: int = 0) -> None:
        """`extra`: so many rows follow the only text, and nobody looks at them."""
        self.sizes = list(lengths)
        self._extra = extra
        self._device = device
        self.longest = max(self.sizes)
        self.is_even = min(self.sizes) == self.longest

    @functools.cached_property
    def lengths(self) -> torch.Tensor:
        return placed(np.asarray(self.sizes, np.int64), self._device)

    @functools.cached_property
    def starts(self) -> torch.Tensor:
        """Rows of the texts' first tokens, and the end of the last one."""
        return functional.pad(self.lengths.cumsum(0), (1, 0))

    @functools.cached_property
    def runs(self) -> list[Run]:
        if self._extra:
            rows = self.longest + self._extra
            return [Run(0, 1, rows, rows, _mask_from(self.longest, rows))]
        return _runs(self.sizes)

    @functools.cached_property
    def bounds(self) -> torch.Tensor:
        """`starts` as the packed attention takes them."""
        return self.starts.to(torch.int32)

    @functools.cached_property
    def _real(self) -> torch.Tensor:
        """bool[texts, longest]: which places of the rectangle hold a token."""
        return torch.arange(self.longest, device=self._device) < self.lengths[:, None]

    @functools.cached_property
    def mask(self) -> torch.Tensor:
        """bool[texts, 1, 1, longest]: what the attention may look at in the rectangle."""
        return self._real[:, None, None, :]

    @functools.cached_property
    def slots(self) -> torch.Tensor:
        """Where each token stands in the rectangle."""
        return self._real.flatten().nonzero().squeeze(1)


def _runs(sizes: Sequence[int]) -> list[Run]:
    found: list[Run] = []
    rows, first = sum(sizes), 0
    for length, same in itertools.groupby(sizes):
        texts = len(list(same))
        last = first + (texts - 1) * length
        seen = min(-(-length // _LANE) * _LANE, rows - last)
        mask = _mask_from(length, seen) if seen > length else None
        found.append(Run(first, texts, length, seen, mask))
        first = last + length
    return found


def _mask_from(length: int, seen: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, 1, seen)
    mask[..., length:] = -torch.inf
    return mask


# asks, keys, values: [tokens, heads, each]; twice the int32 bounds of the texts; twice the longest -> like `asks`
Packed = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, int], torch.Tensor]


def packed_attention(device: str, kind: torch.dtype, heads: int, each: int) -> Packed | None:
    """Flash attention over a packed matrix, where torch has it for this card and it gives what the plain one gives."""
    if not device.startswith("cuda") or kind not in {torch.bfloat16, torch.float16}:
        return None
    try:
        from torch.nn.attention import varlen

        attend: Packed = cast("Packed", varlen.varlen_attn)
        trial = torch.randn(3, 24, heads, each, device=device).to(kind)
        bounds = torch.tensor([0, 5, 24], dtype=torch.int32, device=device)
        found = attend(trial[0], trial[1], trial[2], bounds, bounds, 19, 19)
        parts = [part.transpose(1, 2) for part in (trial[:, :5], trial[:, 5:])]
        expect = [functional.scaled_dot_product_attention(q, k, v).transpose(0, 1) for q, k, v in parts]
        is_right = torch.allclose(found, torch.cat(expect), atol=0.03)
    except (ImportError, RuntimeError, TypeError, ValueError):  # older torch, older card, another signature
        return None
    return attend if is_right else None


class _Layer:
    def __init__(
        self, weights: Weights, prefix: str, heads: int, eps: float, approximation: str, packed: Packed | None
    ) -> None:
        self._heads, self._packed = heads, packed
        names = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        self._qkv = weights.linear(names)
        self._out = weights.linear([f"{prefix}.attention.output.dense"])
        self._norm_out = Norm(weights, f"{prefix}.attention.output.LayerNorm", eps)
        self._up = weights.linear([f"{prefix}.intermediate.dense"], approximation)
        self._down = weights.linear([f"{prefix}.output.dense"])
        self._norm_down = Norm(weights, f"{prefix}.output.LayerNorm", eps)

    def __call__(self, hidden: torch.Tensor, shape: Shape) -> torch.Tensor:
        hidden = self._norm_out(self._out(self._attention(self._qkv(hidden), shape), hidden))
        return self._norm_down(self._down(self._up(hidden), hidden))

    def _attention(self, qkv: torch.Tensor, shape: Shape) -> torch.Tensor:
        """[tokens, 3 * dim] -> [tokens, dim]; no text sees another.

        A processor goes run by run. A card would stand idle with so many calls: there one call goes over the packed
        matrix. Where neither will do, the texts are spread over a rectangle and a mask hides what fills it.
        """
        if self._packed is not None and not shape.is_masked:
            tokens, width = qkv.shape[0], qkv.shape[1] // 3
            asks, keys, values = qkv.view(tokens, 3, self._heads, width // self._heads).unbind(1)
            bounds, longest = shape.bounds, shape.longest
            return self._packed(asks, keys, values, bounds, bounds, longest, longest).reshape(tokens, width)
        if qkv.device.type == "cpu" and not shape.is_masked:
            mixed = [self._mix(qkv, run) for run in shape.runs]
            return mixed[0] if len(mixed) == 1 else torch.cat(mixed)
        texts, longest = len(shape.sizes), shape.longest
        if shape.is_even:
            return self._mix(qkv, Run(0, texts, longest, longest, None))
        rectangle = qkv.new_zeros(texts * longest, qkv.shape[1])
        rectangle[shape.slots] = qkv
        return self._mix(rectangle, Run(0, texts, longest, longest, shape.mask))[shape.slots]

    def _mix(self, qkv: torch.Tensor, run: Run) -> torch.Tensor:
        """The attention of one run: [texts * length, dim]."""
        kind, stride = qkv.dtype, qkv.shape[1]
        width = stride // 3
        if qkv.shape[0] <= _FEW_TOKENS and qkv.device.type == "cpu":
            qkv = qkv.float()  # the kernel for bfloat16 lays keys and values out first: 1.3 ms in six layers, this 0.95
        each = width // self._heads
        steps = (run.length * stride, each, stride, 1)
        first = run.first * stride
        asks = qkv.as_strided((run.texts, self._heads, run.length, each), steps, first)
        keys = qkv.as_strided((run.texts, self._heads, run.seen, each), steps, first + width)
        values = qkv.as_strided((run.texts, self._heads, run.seen, each), steps, first + 2 * width)
        mixed = functional.scaled_dot_product_attention(asks, keys, values, attn_mask=run.mask)
        return mixed.transpose(1, 2).reshape(run.texts * run.length, width).to(kind)


_FEW_TOKENS = 24  # a question; from 32 on bfloat16 is as fast
_LANE = 16  # floats of the widest vector registers, and rows of a matrix tile
_ROWS = 32  # a batch's tokens are filled up to a multiple of it
