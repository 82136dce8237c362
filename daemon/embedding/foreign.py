"""Any other encoder, through transformers: slower to start and to run, and padded, but it reads what people have.

Loading is offline, from safetensors, and without the model's own code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from codegraphd.daemon.embedding.encoder import placement
from codegraphd.daemon.embedding.models import ModelError, ModelInfo


class ForeignEncoder:
    """A model that `encoder.Encoder` does not know. Any number of threads may call it."""

    name = "transformers"

    def __init__(self, info: ModelInfo, device: str, dtype: str) -> None:
        """Raises ModelError when transformers cannot load it."""
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.device, self.dtype = device, dtype
        self.lanes, self.group_tokens = placement(device)
        self._pooling = info.pooling
        try:
            config = AutoConfig.from_pretrained(info.directory, local_files_only=True, trust_remote_code=False)
            self._model, report = AutoModel.from_pretrained(
                info.directory,
                config=config,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except Exception as error:  # transformers raises whatever its parts raise
            line = str(error).strip().partition("\n")[0]
            raise ModelError(f"model {info.name}: transformers cannot load {info.directory}: {line}") from None
        # transformers fills up what the file lacks with random numbers: so it is where a model that needs code of its
        # own calls itself a plain BERT
        if missing := sorted(key for key in report["missing_keys"] if "pooler" not in key):
            raise ModelError(
                f"model {info.name}: {info.weights[0]} lacks {missing[0]}: it is not what its config.json says, "
                "or it needs code of its own, which is never loaded"
            )
        self._model.eval().to(device)
        self._padding = int(getattr(config, "pad_token_id", None) or 0)

    @torch.inference_mode()
    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        """Token ids -> float32[n, dim], every row of length 1."""
        lengths = torch.tensor([len(ids) for ids in batch])
        longest = int(lengths.max())
        ids = torch.tensor([[*row, *[self._padding] * (longest - len(row))] for row in batch])
        mask = (torch.arange(longest) < lengths[:, None]).to(self.device)
        hidden = self._model(input_ids=ids.to(self.device), attention_mask=mask.long()).last_hidden_state.float()
        if self._pooling == "first":
            pooled = hidden[:, 0]
        elif self._pooling == "max":
            pooled = hidden.masked_fill(~mask[:, :, None], -torch.inf).amax(1)
        else:
            pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return np.asarray(functional.normalize(pooled, dim=1).cpu().numpy())
