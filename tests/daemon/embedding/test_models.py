"""Names to files to fingerprints, and what is wrong with files that are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codegraphd.daemon.embedding import models
from codegraphd.daemon.embedding.models import DEFAULT, KNOWN, ModelError, resolve

CONFIG = {"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 64}


def write(directory: Path, **files: object) -> Path:
    """A model directory; the names of the arguments have "__" for "." and "___" for "/"."""
    directory.mkdir(parents=True, exist_ok=True)
    base: dict[str, object] = {"config__json": CONFIG, "tokenizer__json": {}, "model__safetensors": "weights"}
    for name, content in (base | files).items():
        path = directory / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def test_the_default_comes_with_the_installation(tmp_path: Path) -> None:
    for name in ("", "auto", DEFAULT, "sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"):
        info = resolve(name, str(tmp_path))
        assert (info.name, info.dim, info.max_tokens, info.pooling) == (DEFAULT, 384, 128, "mean")
    assert json.loads((tmp_path / "model-digests.json").read_text())


def test_fault_43_damaged_default_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(resolve(DEFAULT, str(tmp_path)).directory)
    copy = tmp_path / "site" / KNOWN[DEFAULT].package / "model"
    shutil.copytree(source, copy)
    (copy.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert resolve(DEFAULT, str(tmp_path)).directory == str(copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ModelError, match=f"{copy}/model.safetensors is damaged"):
        resolve(DEFAULT, str(tmp_path))


def test_the_digest_is_remembered_by_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write(tmp_path / "m")
    first = resolve(str(directory), str(tmp_path))
    monkeypatch.setattr(models.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert resolve(str(directory), str(tmp_path)) == first


@pytest.mark.parametrize(
    "change",
    [
        {"model__safetensors": "other weights"},
        {"tokenizer__json": {"other": 1}},
        {"1_Pooling___config__json": {"pooling_mode_cls_token": True}},
        {"config_sentence_transformers__json": {"prompts": {"document": "text: "}}},
        {"sentence_bert_config__json": {"max_seq_length": 32}},
    ],
)
def test_the_fingerprint_follows_what_the_vectors_depend_on(tmp_path: Path, change: dict[str, object]) -> None:
    plain = resolve(str(write(tmp_path / "a")), str(tmp_path))
    same = resolve(str(write(tmp_path / "b")), str(tmp_path))
    other = resolve(str(write(tmp_path / "c", **change)), str(tmp_path))
    assert plain.fingerprint == same.fingerprint != other.fingerprint
    assert len(plain.fingerprint) == 8


@pytest.mark.parametrize(
    ("files", "expect"),
    [
        ({"1_Pooling___config__json": {"pooling_mode_cls_token": True}}, "first"),
        ({"1_Pooling___config__json": {"pooling_mode_max_tokens": True}}, "max"),
        ({"1_Pooling___config__json": {"pooling_mode": "cls"}}, "first"),
        ({"1_Pooling___config__json": {"pooling_mode": "mean"}}, "mean"),
        ({"modules__json": [{"type": "x.Pooling", "path": "p"}], "p___config__json": {"pooling_mode": "max"}}, "max"),
        ({}, "mean"),
    ],
)
def test_pooling_is_what_the_directory_says(tmp_path: Path, files: dict[str, object], expect: str) -> None:
    assert resolve(str(write(tmp_path / "m", **files)), str(tmp_path)).pooling == expect


def test_the_token_limit(tmp_path: Path) -> None:
    directory = str(write(tmp_path / "m", config__json=CONFIG | {"model_type": "roberta", "pad_token_id": 1}))
    assert resolve(directory, str(tmp_path)).max_tokens == 62
    assert resolve(directory, str(tmp_path), 40).max_tokens == 40
    assert resolve(directory, str(tmp_path), 400).max_tokens == 62
    assert resolve(DEFAULT, str(tmp_path), 256).max_tokens == 256


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config__json": None}, "cannot read .*config.json"),
        ({"config__json": "{"}, "config.json is not JSON"),
        ({"config__json": {"model_type": "vit"}}, "not that of a text encoder"),
        ({"model__safetensors": None}, "no model.safetensors in"),
        ({"model__safetensors": None, "pytorch_model__bin": "x"}, "convert it to safetensors"),
        ({"tokenizer__json": None}, "no tokenizer.json"),
        ({"1_Pooling___config__json": {"pooling_mode_weightedmean_tokens": True}}, "pooling that .* asks for"),
        ({"modules__json": [{"type": "sentence_transformers.models.Dense"}]}, "asks for a Dense layer"),
    ],
)
def test_fault_43_wrong_files_are_named(tmp_path: Path, files: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        resolve(str(write(tmp_path / "m", **files)), str(tmp_path))
    assert str(tmp_path) in str(error.value)


def test_where_models_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(ModelError, match="model pull codebert-base"):
        resolve("codebert-base", str(tmp_path))
    with pytest.raises(ModelError, match="neither a directory nor a known model"):
        resolve("nonsense", str(tmp_path))
    hub = tmp_path / "hf" / "hub" / "models--microsoft--codebert-base"
    snapshot = write(hub / "snapshots" / "abc")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    assert resolve("codebert-base", str(tmp_path)).directory == str(snapshot)
    pulled = write(tmp_path / "models" / "codebert-base")
    assert resolve("microsoft/codebert-base", str(tmp_path)).directory == str(pulled)


def test_a_directory_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert resolve(str(write(tmp_path / "m")), str(blocked / "cache")).dim == 8
