"""Small models of each kind with random weights, written to disk as their authors ship them, and texts to feed them.

For tests of the whole loading path, and for measurements that need a model's shape and not its knowledge.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def functions(*modules: ModuleType) -> list[str]:
    """The source of every function of some modules of the standard library."""
    found = []
    for module in modules:
        source = inspect.getsource(module)
        lines = source.splitlines(keepends=True)
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        found += ["".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes]
    return found


@functools.cache
def texts() -> list[str]:
    import argparse
    import configparser
    import shutil
    import textwrap

    return ["", "x", "a b", "\n", *functions(argparse, configparser, shutil, textwrap)][:200]


TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,  # so large that every weight shows in the result
}


def write_tiny(directory: Path, kind: str, vocabulary: int = 600, **sizes: Any) -> Path:
    """A model with random weights, with the tokenizer files that its authors would ship. `sizes` go over TINY; they and
    the size of the vocabulary count for the kinds that are built like RoBERTa."""
    import transformers
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

    torch.manual_seed(7)
    directory.mkdir(parents=True)
    corpus = texts()
    if kind in {"codebert", "graphcodebert", "unixcoder"}:
        trained = ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", *(["<encoder-only>"] if kind == "unixcoder" else []), "<mask>"]
        trained.train_from_iterator(corpus, vocab_size=vocabulary, special_tokens=special, show_progress=False)
        trained.save_model(str(directory))
        config = transformers.RobertaConfig(vocab_size=vocabulary, type_vocab_size=1, pad_token_id=1, **(TINY | sizes))
        model: Any = transformers.RobertaModel(config)
    else:
        pieces = BertWordPieceTokenizer()
        pieces.train_from_iterator(corpus, vocab_size=600, show_progress=False)
        pieces.save_model(str(directory))
        if kind == "sentence":
            transformers.BertTokenizer(vocab=str(directory / "vocab.txt")).save_pretrained(directory)
        if kind == "foreign":
            own = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 66}
            model = transformers.DistilBertModel(transformers.DistilBertConfig(vocab_size=600, **own))
        else:
            act = "gelu_new" if kind == "bert-tanh" else "gelu"
            model = transformers.BertModel(transformers.BertConfig(vocab_size=600, hidden_act=act, **TINY))
    if kind == "sentence":
        (directory / "modules.json").write_text(
            json.dumps(
                [
                    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
                    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
                ]
            )
        )
        (directory / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
        prompts = {"prompts": {"query": "find this: ", "document": ""}}
        (directory / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    if kind == "graphcodebert":  # as a language model's checkpoint: every name has the model's prefix
        model = transformers.RobertaForMaskedLM(config)
    with torch.no_grad():  # layer norms begin as ones and zeros, which would hide a mix-up
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(directory)
    return directory
