"""`codegraphd model …` as a person types it, on small models of each kind that lie on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.tiny_models import write_tiny

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "CODEGRAPHD_HOME": str(home), "HF_HOME": str(tmp_path / "hub")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "codegraphd.daemon", "model", *arguments],
            env=environment, capture_output=True, check=False, text=True, timeout=100,
        )  # fmt: skip

    return run


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why."""
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("kind", "expect"),
    [
        ("graphcodebert", {"runs_in": "codegraphd", "backend": "torch", "max_tokens": 64, "pooling": "mean",
                           "reads": "code and its data flow, other text as it is"}),
        ("codebert", {"runs_in": "codegraphd", "max_tokens": 64, "pooling": "mean", "reads": "text"}),
        ("unixcoder", {"runs_in": "codegraphd", "reads": "text", "query_prefix": "<encoder-only></s>",
                       "document_prefix": "<encoder-only></s>"}),
        ("sentence", {"runs_in": "codegraphd", "max_tokens": 48, "pooling": "first", "query_prefix": "find this: "}),
        ("foreign", {"runs_in": "transformers", "backend": "transformers", "reads": "text"}),
    ],
)  # fmt: skip
def test_check_says_what_it_would_do(tmp_path: Path, run: Run, kind: str, expect: dict[str, Any]) -> None:
    name = kind if kind in {"sentence", "foreign"} else f"{kind}-base"
    directory = write_tiny(tmp_path / name, kind)
    done = run("check", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["name"], answer["dim"], answer["directory"]) == (name, 32, str(directory))
    assert {key: answer[key] for key in expect} == expect


@pytest.mark.parametrize("damage", ["weights", "tokenizer", "config"])
def test_fault_43_check_names_what_is_broken(tmp_path: Path, run: Run, damage: str) -> None:
    directory = write_tiny(tmp_path / "m", "bert")
    path = {"weights": "model.safetensors", "tokenizer": "vocab.txt", "config": "config.json"}[damage]
    (directory / path).write_bytes(b"\xff" * 100)
    assert str(directory) in refusal(run("check", str(directory)))


def test_a_model_that_needs_code_of_its_own_is_refused(tmp_path: Path, run: Run) -> None:
    """One of them calls itself a plain BERT; its weights have other names, which random ones must not stand in for."""
    from safetensors.torch import load_file, save_file

    directory = write_tiny(tmp_path / "m", "bert")
    config = json.loads((directory / "config.json").read_text())
    auto_map = {"AutoModel": "owner/name--modeling_own.OwnModel"}
    (directory / "config.json").write_text(json.dumps(config | {"hidden_act": "silu", "auto_map": auto_map}))
    tensors = load_file(directory / "model.safetensors")
    save_file({name.replace("query", "q_proj"): tensor for name, tensor in tensors.items()},
              directory / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    line = refusal(run("check", str(directory)))
    assert "lacks encoder.layer.0.attention.self.query" in line
    assert "code of its own" in line
    for action in ("check", "use", "pull"):
        assert "code of its own, which is never loaded" in refusal(run(action, "jina-embeddings-v2-base-code"))


def test_list_tells_what_each_needs(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)["models"]}
    assert rows["graphcodebert-base"]["flow"]
    assert rows["unixcoder-base"]["query_prefix"] == "<encoder-only></s>"
    assert (rows["codebert-base"]["runs"], rows["codebert-base"]["licence"]) == ("own", "MIT")
    assert rows["CodeRankEmbed"]["runs"] == "transformers"
    assert rows["jina-embeddings-v2-base-code"]["runs"] is None
    assert [name for name, row in rows.items() if row["in_use"]] == ["all-MiniLM-L6-v2"]
    lines = run("list").stdout.splitlines()
    assert next(line for line in lines if "graphcodebert" in line).endswith("(reads data flow)")


def test_bad_input_gives_one_line(tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty").mkdir()
    assert "neither a directory nor a known model" in refusal(run("check", "nonsense"))
    assert "config.json" in refusal(run("use", str(tmp_path / "empty")))
    assert "model pull graphcodebert-base" in refusal(run("check", "graphcodebert-base"))
    assert "is no model of the hub" in refusal(run("pull", "nonsense"))
    assert run("use").returncode == 2


def test_use_takes_a_directory_and_check_then_means_it(tmp_path: Path, run: Run) -> None:
    directory = write_tiny(tmp_path / "codebert-base", "codebert")
    assert run("use", str(directory)).returncode == 0
    assert json.loads(run("check", "--json").stdout)["directory"] == str(directory)
    rows = json.loads(run("list", "--json").stdout)["models"]
    assert [(row["name"], row["at_hand"]) for row in rows if row["in_use"]] == [(str(directory), True)]
