"""The encoder for models that read data flow: our own one, with nodes behind the text and a mask for each input.

What `code_graph` makes goes through the same layers as plain text does; three things differ. A node enters as the mean
of its variable's token embeddings, at position 0. The attention goes by a mask of [tokens, tokens] for each input. And
the vector is pooled over the text alone: nodes have done their work in it by then, a question has none, and the
published model takes the first token, which is text too. A batch without data flow takes the plain way.

Tests hold it equal to the published code on transformers' RobertaModel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from codegraphd.daemon.embedding.code_graph import CodeIds
from codegraphd.daemon.embedding.encoder import Encoder, Shape, filled, placed


class GraphEncoder(Encoder):
    """A loaded model that reads data flow. Any number of threads may call it."""

    @torch.inference_mode()
    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Token ids, some of them `CodeIds`, best of about equal length -> float32[n, dim], every row of length 1."""
        if not any(isinstance(row, CodeIds) and row.variables for row in batch):
            return super().encode(batch)
        n_inputs = len(batch)
        batch = filled(batch)
        layout = _Layout(batch)
        shape = _GraphShape(layout, self.device)
        ids = placed(layout.ids, self.device)
        words = self._words[ids]
        words[placed(layout.nodes, self.device)] = torch.segment_reduce(
            words[placed(layout.node_tokens, self.device)],
            "mean",
            lengths=placed(layout.node_lengths, self.device),
        )
        places = placed(layout.places(self._first_position), self.device)
        hidden = self._norm(words + self._positions[places]).to(self._kind)
        for layer in self._layers:
            hidden = layer(hidden, shape)
        text = hidden[placed(layout.text, self.device)].float()
        return self._rows(text, Shape(layout.text_lengths, self.device), n_inputs)


class _Layout:
    """Where the parts of a packed batch lie in its matrix."""

    def __init__(self, batch: Sequence[Sequence[int]]) -> None:
        self.batch = batch
        self.lengths = [len(row) for row in batch]
        self.text_lengths = [row.n_text if isinstance(row, CodeIds) else len(row) for row in batch]
        self.ids = np.concatenate([np.asarray(row, np.int64) for row in batch])
        starts = np.cumsum([0, *self.lengths[:-1]])
        is_text = np.concatenate([np.arange(n) < m for n, m in zip(self.lengths, self.text_lengths, strict=True)])
        self.text = np.flatnonzero(is_text)
        self.nodes = np.flatnonzero(~is_text)
        spans = [
            (start + a, start + b)
            for start, row in zip(starts, batch, strict=True)
            if isinstance(row, CodeIds)
            for a, b in row.variables
        ]
        self.node_tokens = np.concatenate([np.arange(a, b) for a, b in spans])  # those of all nodes, one after another
        self.node_lengths = np.asarray([b - a for a, b in spans])

    def places(self, first: int) -> np.ndarray:
        """Positions: of text from `first` on, of nodes 0."""
        return np.concatenate(
            [
                np.concatenate([np.arange(m, dtype=np.int64) + first, np.zeros(n - m, np.int64)])
                for n, m in zip(self.lengths, self.text_lengths, strict=True)
            ]
        )

    def mask(self) -> np.ndarray:
        """bool[inputs, longest, longest]: who (row) sees whom."""
        longest = max(self.lengths)
        mask = np.zeros((len(self.batch), longest, longest), np.bool_)
        for row, m, sees in zip(self.batch, self.text_lengths, mask, strict=True):
            sees[:m, :m] = True
            sees[len(row) :, 0] = True  # what fills the rectangle: no row may be blind, it would come out as nan
            if not isinstance(row, CodeIds):
                continue
            sees[row.specials, : len(row)] = True
            for node, ((a, b), sources) in enumerate(zip(row.variables, row.sources, strict=True), start=m):
                sees[node, a:b] = sees[a:b, node] = True
                sees[node, [m + source for source in sources]] = True
        return mask


class _GraphShape(Shape):
    """How the inputs lie in the matrix, each with a mask of its own."""

    is_masked = True

    def __init__(self, layout: _Layout, device: str) -> None:
        super().__init__(layout.lengths, device)
        self.mask = placed(layout.mask(), device)[:, None]
        if self.is_even:  # a mask needs the rectangle, which is the packed matrix itself here
            self.is_even = False
            self.slots = torch.arange(sum(layout.lengths), device=device)
