"""Our encoder against transformers: the real MiniLM, and small models of each kind through the real loading path."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.tiny_models import functions, texts, write_tiny
from codegraphd.daemon.embedding import backends, encoder
from codegraphd.daemon.embedding.backends import Backend, open_backend, open_tokens
from codegraphd.daemon.embedding.models import DEFAULT, ModelError, ModelInfo, resolve
from codegraphd.daemon.embedding.packing import groups

torch.set_num_threads(1)  # two that spin, on a busy machine, are slower than one by far


def embed(info: ModelInfo, backend: Backend, inputs: Sequence[str], role: str = "document") -> np.ndarray:
    """As the worker does it: sorted, packed, put back in order."""
    ids = [row for row, _ in open_tokens(info).encode([info.prefix(role) + text for text in inputs])]
    rows = np.empty((len(ids), info.dim), np.float32)
    for group in groups([len(row) for row in ids], 512):
        rows[group] = backend.encode([ids[i] for i in group])
    return rows


POOL = {"first": lambda hidden: hidden[0], "mean": lambda hidden: hidden.mean(0), "max": lambda hidden: hidden.amax(0)}


def hidden_states(info: ModelInfo, inputs: Sequence[str], role: str = "document") -> list[torch.Tensor]:
    """float32[tokens, dim] of each text by plain transformers, one text at a time, without a line of ours."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(info.directory)
    model = AutoModel.from_pretrained(info.directory, dtype=torch.float32).eval()
    found = []
    with torch.inference_mode():
        for text in inputs:
            if "unixcoder" in info.name:  # as its authors do it
                tokens = ["<s>", "<encoder-only>", "</s>", *tokenizer.tokenize(text)[: info.max_tokens - 4], "</s>"]
                batch = {"input_ids": torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])}
            else:
                full = info.prefix(role) + text
                batch = dict(tokenizer(full, truncation=True, max_length=info.max_tokens, return_tensors="pt"))
            found.append(model(**batch).last_hidden_state[0])
    return found


def reference(info: ModelInfo, inputs: Sequence[str]) -> np.ndarray:
    pooled = [POOL[info.pooling](hidden) for hidden in hidden_states(info, inputs)]
    return np.asarray(torch.nn.functional.normalize(torch.stack(pooled), dim=1).numpy())


def overlap(a: np.ndarray, b: np.ndarray, k: int = 10) -> float:
    """The share of each row's k nearest others that both agree on."""
    tops = []
    for rows in (a, b):
        scores = rows @ rows.T
        np.fill_diagonal(scores, -2)
        tops.append(np.argsort(-scores, axis=1)[:, :k])
    return float(np.mean([len(set(x) & set(y)) / k for x, y in zip(*tops, strict=True)]))


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelInfo, np.ndarray]:
    info = resolve(DEFAULT, str(tmp_path_factory.mktemp("cache")))
    return info, reference(info, texts())


@pytest.mark.parametrize(("dtype", "cosine", "agreement"), [("float32", 0.999999, 0.999), ("bfloat16", 0.9999, 0.99)])
def test_minilm_is_faithful(
    mini: tuple[ModelInfo, np.ndarray], dtype: str, cosine: float, agreement: float, tmp_path: Path
) -> None:
    info, expect = mini
    rows = embed(info, open_backend(info, "cpu", dtype, str(tmp_path)), texts())
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert (rows * expect).sum(1).min() >= cosine
    assert overlap(rows, expect) >= agreement


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_minilm_is_faithful_on_other_devices(mini: tuple[ModelInfo, np.ndarray], device: str, tmp_path: Path) -> None:
    has = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not has:
        pytest.skip(f"this machine has no {device} device")
    info, expect = mini
    rows = embed(info, open_backend(info, device, "auto", str(tmp_path)), texts())
    assert (rows * expect).sum(1).min() >= 0.9999
    assert overlap(rows, expect) >= 0.99


def require(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed here: it is an optional extra")
    monkeypatch.setenv("CODEGRAPHD_ENGINE", engine)


@pytest.mark.parametrize(("dtype", "cosine"), [("float32", 0.999999), ("bfloat16", 0.9999)])
def test_minilm_is_faithful_in_openvino(
    mini: tuple[ModelInfo, np.ndarray], dtype: str, cosine: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("openvino", monkeypatch)
    info, expect = mini
    backend = open_backend(info, "cpu", dtype, str(tmp_path))
    assert backend.name == "openvino"
    rows = embed(info, backend, texts())
    assert (rows * expect).sum(1).min() >= cosine
    assert overlap(rows, expect) >= 0.99


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_text_of_a_batch_sees_another(mini: tuple[ModelInfo, np.ndarray], dtype: str, tmp_path: Path) -> None:
    backend = open_backend(mini[0], "cpu", dtype, str(tmp_path))
    lengths = [31, 31, 17, 16, 3, 1]  # each but the fourth is shown rows of what follows it, behind a mask
    for at in range(len(lengths)):
        rows = []
        for word in (2000, 9000):  # what all the others are made of
            batch = [np.arange(3000, 3000 + n) if i == at else np.full(n, word) for i, n in enumerate(lengths)]
            rows.append(backend.encode([ids.tolist() for ids in batch]))
        assert np.array_equal(rows[0][at], rows[1][at])
        assert not np.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("pooling", list(POOL))
@pytest.mark.parametrize("length", [1, 2, 13, 16, 17, 24, 25, 95, 128, 500, 512])
def test_a_text_alone_gets_the_vector_that_it_gets_in_a_batch(
    mini: tuple[ModelInfo, np.ndarray], length: int, pooling: str, tmp_path: Path
) -> None:
    """Alone it goes a shorter way, with rows behind it that nothing may come from."""
    info = dataclasses.replace(mini[0], pooling=pooling)
    backend = open_backend(info, "cpu", "float32", str(tmp_path))
    text = list(range(3000, 3000 + length))
    together = backend.encode([text, [2000] * 33])
    assert np.allclose(backend.encode([text])[0], together[0], atol=2e-6)


def varlen_attention(
    asks: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    starts: torch.Tensor,
    ends: torch.Tensor,
    *longest: int,
) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` does on a card, text by text."""
    assert starts.dtype == ends.dtype == torch.int32
    assert longest == (int(starts.diff().max()),) * 2
    found = []
    for a, b in itertools.pairwise(starts.tolist()):
        parts = [part[a:b].transpose(0, 1) for part in (asks, keys, values)]
        found.append(torch.nn.functional.scaled_dot_product_attention(*parts).transpose(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("way", ["packed", "rectangle"])
def test_the_ways_of_a_card_are_faithful(
    mini: tuple[ModelInfo, np.ndarray], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, expect = mini
    if way == "packed":
        monkeypatch.setattr(encoder, "packed_attention", lambda *_: varlen_attention)
    else:
        monkeypatch.setattr(encoder.Shape, "is_masked", True)
    rows = embed(info, open_backend(info, "cpu", "float32", str(tmp_path)), texts()[:40])
    assert (rows * expect[:40]).sum(1).min() >= 0.999999


def test_a_device_that_is_not_there_is_refused(mini: tuple[ModelInfo, np.ndarray], tmp_path: Path) -> None:
    device = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ModelError, match=f"device {device} was asked for"):
        open_backend(mini[0], device, "auto", str(tmp_path))


def test_auto_measures_once_for_a_processor(
    mini: tuple[ModelInfo, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_trial", lambda backend, *_: 2.0 - (backend.dtype == "float32"))
    assert open_backend(mini[0], "cpu", "auto", str(tmp_path)).dtype == "float32"
    monkeypatch.setattr(backends, "_trial", lambda *_: pytest.fail("measured again"))
    assert open_backend(mini[0], "cpu", "auto", str(tmp_path)).dtype == "float32"


def test_auto_leaves_out_what_cannot_run_on_this_processor(
    mini: tuple[ModelInfo, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO where it may use AVX2 at most, say: it raises, and torch is there."""
    load = backends._load

    def raising(*refused: str) -> None:
        def fake(engine: str, info: ModelInfo, device: str, dtype: str) -> Backend:
            if f"{engine} {dtype}" in refused:
                raise RuntimeError("no primitive for this processor")
            return load(engine, info, device, dtype)

        monkeypatch.setattr(backends, "_load", fake)

    raising("torch bfloat16")
    assert open_backend(mini[0], "cpu", "auto", str(tmp_path / "1")).dtype == "float32"
    raising("torch float32")
    assert open_backend(mini[0], "cpu", "auto", str(tmp_path / "2")).dtype == "bfloat16"
    raising("torch float32", "torch bfloat16", "openvino float32", "openvino bfloat16")
    with pytest.raises(RuntimeError, match="no primitive"):
        open_backend(mini[0], "cpu", "auto", str(tmp_path / "3"))


def test_the_cut_before_the_tokenizer_is_exact(mini: tuple[ModelInfo, np.ndarray]) -> None:
    info, _ = mini
    from tokenizers import Tokenizer

    whole = Tokenizer.from_file(f"{info.directory}/tokenizer.json")
    whole.no_padding()
    whole.enable_truncation(info.max_tokens)
    long = [
        " ".join(functions(inspect))[:20_000],
        " " * 5000 + "end of blanks",
        "word" + "\n\t " * 3000 + "another",
        "xyzw" * 4000,
        ("y" * 150 + " ") * 400,  # each word is one unknown token
        "é\u0301" * 3000,
        "abc \ud800 def",
    ]
    for text, (ids, is_cut) in zip(long, open_tokens(info).encode(long), strict=True):
        expect = whole.encode(text.replace("\ud800", "?"))
        assert ids == expect.ids
        assert is_cut == bool(expect.overflowing)


# --- small models of each kind ----------------------------------------------------------------------------------------

KINDS = ["codebert", "graphcodebert", "unixcoder", "sentence", "bert", "bert-tanh", "foreign"]


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_equal_transformers(
    tmp_path: Path, kind: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(engine, monkeypatch)
    if (kind, engine) == ("foreign", "openvino"):
        with pytest.raises(ModelError, match="cannot run it"):
            open_backend(resolve(str(write_tiny(tmp_path / kind, kind)), ""), "cpu", "auto", str(tmp_path))
        return
    name = f"{kind}-base" if kind in {"codebert", "graphcodebert", "unixcoder"} else kind
    directory = write_tiny(tmp_path / name, kind)
    some = ["", "def f(x):\n    return x", "größer", *texts()[4:30]]
    for role in ("document", "query"):
        info = resolve(str(directory), str(tmp_path))
        states = hidden_states(info, some, role)
        for pooling in ("first", "mean", "max"):
            (directory / "1_Pooling").mkdir(exist_ok=True)
            (directory / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
            info = resolve(str(directory), str(tmp_path))
            backend = open_backend(info, "cpu", "float32", str(tmp_path))
            assert backend.name == ("transformers" if kind == "foreign" else engine)
            expect = torch.nn.functional.normalize(torch.stack([POOL[pooling](state) for state in states]), dim=1)
            assert np.abs(embed(info, backend, some, role) - expect.numpy()).max() < 2e-5


def test_prefixes_differ_by_role(tmp_path: Path) -> None:
    info = resolve(str(write_tiny(tmp_path / "m", "sentence")), str(tmp_path))
    assert (info.prefix("query"), info.prefix("document"), info.max_tokens) == ("find this: ", "", 48)
    unixcoder = resolve(str(write_tiny(tmp_path / "unixcoder-base", "unixcoder")), str(tmp_path))
    ids = open_tokens(unixcoder).encode([unixcoder.prefix("document") + "x"])[0][0]
    assert ids[:3] == [0, 4, 2]  # <s> <encoder-only> </s>


@pytest.mark.parametrize("damage", ["truncated", "header", "lacks a tensor", "another architecture"])
def test_fault_43_broken_weights_are_named(tmp_path: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    directory = write_tiny(tmp_path / "m", "bert")
    path = directory / "model.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "header":
        path.write_bytes(b"\xff" * 100)
    elif damage == "lacks a tensor":
        tensors = load_file(path)
        del tensors["encoder.layer.1.output.dense.weight"]
        save_file(tensors, path)
    else:
        save_file({"conv.weight": torch.zeros(3)}, path)
    info = resolve(str(directory), str(tmp_path))
    with pytest.raises(ModelError, match=str(path)):
        open_backend(info, "cpu", "float32", str(tmp_path))


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_lanes_do_not_disturb_each_other(
    mini: tuple[ModelInfo, np.ndarray], engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(engine, monkeypatch)
    info, _ = mini
    backend = open_backend(info, "cpu", "float32", str(tmp_path))
    batches = [[row] for row, _ in open_tokens(info).encode(texts()[4:16])]
    alone = [backend.encode(batch) for batch in batches]
    with ThreadPoolExecutor(3) as lanes:
        together = list(lanes.map(backend.encode, batches * 3))
    assert all(np.array_equal(a, b) for a, b in zip(together, alone * 3, strict=True))
