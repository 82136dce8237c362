"""What a model that reads data flow is given, and its vectors, against the published code on plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.tiny_models import functions, write_tiny
from codegraphd.daemon.analysis.parse import parse, render_flows
from codegraphd.daemon.embedding.backends import Backend, open_backend, open_tokens
from codegraphd.daemon.embedding.code_graph import SHARE, CodeIds
from codegraphd.daemon.embedding.models import ModelError, ModelInfo, resolve
from codegraphd.daemon.embedding.packing import groups
from codegraphd.store.records import CodeFlow


def flows_of(path: str, source: str) -> list[CodeFlow]:
    module = parse(path, source.encode())
    _, flows = render_flows(path, source.encode(), range(len(module.units)))
    return [flows[index] for index in sorted(flows)]


def corpus() -> list[CodeFlow]:
    """Functions of the standard library and of each other language that has a published extractor, or none."""
    import configparser
    import textwrap

    found = [flow for source in functions(configparser, textwrap)[:60] for flow in flows_of("a.py", source)]
    for path, source in {
        "a.java": "class A { /** Adds. */ int f(int x) { int y = x + z; if (y > 3) { y = 2; } return y; } }",
        "a.go": "package m\n// F does.\nfunc F(x int) int {\ny := x\nfor i := 0; i < y; i++ { x = i }\nreturn x\n}\n",
        "a.js": "class A { f(x) { let y = x; while (y) { y = y - x }\n return y } }\nconst g = (a) => a + 1\n",
        "a.rs": 'fn f(x: &str) -> String { let y = x.len(); format!("größer {}", y) }',
        "a.cpp": "int f(int n) { int s = 0; for (int i = 0; i < n; ++i) { s += i; } return s; }",
    }.items():
        found += flows_of(path, source)
    return [flow for flow in found if flow.tokens]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    """A tiny GraphCodeBERT with room for 160 tokens."""
    directory = tmp_path_factory.mktemp("models") / "graphcodebert-base"
    return resolve(str(write_tiny(directory, "graphcodebert", max_position_embeddings=162)), "")


def published_features(flow: CodeFlow, tokenizer: Any, length: int, flow_length: int) -> dict[str, Any]:
    """`convert_examples_to_features` of GraphCodeBERT/codesearch/run.py, its steps and names kept.

    Two things are added: the comment and its end before the code, as in the paper, and that a node is left out when its
    code was cut off.
    """
    dfg = [(flow.tokens[token], token, "", [], list(sources)) for token, sources in flow.variables]
    comment = tokenizer.tokenize(flow.comment)[:flow_length] if flow.comment else []
    before = [tokenizer.cls_token, *comment, *([tokenizer.sep_token] if comment else [])]
    pieces = [
        tokenizer.tokenize("@ " + x)[1:] if idx != 0 else tokenizer.tokenize(x) for idx, x in enumerate(flow.tokens)
    ]
    ori2cur_pos = {-1: (0, 0)}
    for i in range(len(pieces)):
        ori2cur_pos[i] = (ori2cur_pos[i - 1][1], ori2cur_pos[i - 1][1] + len(pieces[i]))
    code_tokens = [y for x in pieces for y in x]
    code_tokens = code_tokens[: length - len(before) - 1 - min(len(dfg), flow_length)]
    code_tokens = [*before, *code_tokens, tokenizer.sep_token]
    code_ids = tokenizer.convert_tokens_to_ids(code_tokens)
    position_idx = [i + tokenizer.pad_token_id + 1 for i in range(len(code_tokens))]
    dfg = dfg[: length - len(code_tokens)]
    dfg = [x for x in dfg if ori2cur_pos[x[1]][1] + len(before) < len(code_tokens)]
    position_idx += [0 for _ in dfg]
    code_ids += [tokenizer.unk_token_id for _ in dfg]
    padding_length = length - len(code_ids)
    position_idx += [tokenizer.pad_token_id] * padding_length
    code_ids += [tokenizer.pad_token_id] * padding_length
    reverse_index = {}
    for idx, x in enumerate(dfg):
        reverse_index[x[1]] = idx
    dfg_to_dfg = [[reverse_index[i] for i in x[-1] if i in reverse_index] for x in dfg]
    dfg_to_code = [(a + len(before), b + len(before)) for a, b in (ori2cur_pos[x[1]] for x in dfg)]
    return {"code_ids": code_ids, "position_idx": position_idx, "dfg_to_code": dfg_to_code, "dfg_to_dfg": dfg_to_dfg}


def published_mask(features: dict[str, Any]) -> np.ndarray:
    """The mask of `TextDataset.__getitem__`."""
    position_idx = features["position_idx"]
    attn_mask = np.zeros((len(position_idx), len(position_idx)), dtype=bool)
    node_index = sum(i > 1 for i in position_idx)
    max_length = sum(i != 1 for i in position_idx)
    attn_mask[:node_index, :node_index] = True
    for idx, i in enumerate(features["code_ids"]):
        if i in [0, 2]:
            attn_mask[idx, :max_length] = True
    for idx, (a, b) in enumerate(features["dfg_to_code"]):
        if a < node_index and b < node_index:
            attn_mask[idx + node_index, a:b] = True
            attn_mask[a:b, idx + node_index] = True
    for idx, nodes in enumerate(features["dfg_to_dfg"]):
        for a in nodes:
            if a + node_index < len(position_idx):
                attn_mask[idx + node_index, a + node_index] = True
    return attn_mask


class Published:
    """The published way from a flow to a vector, with transformers alone."""

    def __init__(self, info: ModelInfo) -> None:
        from transformers import RobertaModel, RobertaTokenizer

        self.info = info
        self.tokenizer = RobertaTokenizer.from_pretrained(info.directory)
        self.model = RobertaModel.from_pretrained(
            info.directory, dtype=torch.float32, attn_implementation="eager", add_pooling_layer=False
        ).eval()

    def features(self, flow: CodeFlow) -> dict[str, Any]:
        return published_features(flow, self.tokenizer, self.info.max_tokens, self.info.max_tokens // SHARE)

    @torch.inference_mode()
    def vectors(self, flows: Sequence[CodeFlow]) -> np.ndarray:
        """`forward` of GraphCodeBERT/codesearch/model.py, pooled over the text."""
        features = [self.features(flow) for flow in flows]
        code_inputs = torch.tensor([each["code_ids"] for each in features])
        position_idx = torch.tensor([each["position_idx"] for each in features])
        attn_mask = torch.tensor(np.stack([published_mask(each) for each in features]))
        nodes_mask = position_idx.eq(0)
        token_mask = position_idx.ge(2)
        inputs_embeddings = self.model.embeddings.word_embeddings(code_inputs)
        nodes_to_token_mask = nodes_mask[:, :, None] & token_mask[:, None, :] & attn_mask
        nodes_to_token_mask = nodes_to_token_mask / (nodes_to_token_mask.sum(-1) + 1e-10)[:, :, None]
        avg_embeddings = torch.einsum("abc,acd->abd", nodes_to_token_mask, inputs_embeddings)
        inputs_embeddings = inputs_embeddings * (~nodes_mask)[:, :, None] + avg_embeddings * nodes_mask[:, :, None]
        # today's transformers take a mask of each pair as what is added to the scores, which it was turned into then
        added = torch.zeros(attn_mask.shape).masked_fill(~attn_mask, torch.finfo(torch.float32).min)[:, None]
        hidden = self.model(
            inputs_embeds=inputs_embeddings, attention_mask=added, position_ids=position_idx
        ).last_hidden_state
        pooled = (hidden * token_mask[:, :, None]).sum(1) / token_mask.sum(1, keepdim=True)
        return np.asarray(torch.nn.functional.normalize(pooled, dim=1).numpy())


@pytest.fixture(scope="module")
def published(graph: ModelInfo) -> Published:
    return Published(graph)


def embed(backend: Backend, ids: Sequence[Sequence[int]], budget: int = 512) -> np.ndarray:
    rows = np.empty((len(ids), 32), np.float32)
    for group in groups([len(row) for row in ids], budget):
        rows[group] = backend.encode([ids[i] for i in group])
    return rows


def ids_of(info: ModelInfo, flows: Sequence[CodeFlow]) -> list[CodeIds]:
    found = [ids for ids, _ in open_tokens(info).encode([""] * len(flows), flows)]
    assert all(isinstance(ids, CodeIds) for ids in found)
    return found  # type: ignore[return-value]


def test_the_input_is_the_published_one(graph: ModelInfo, published: Published) -> None:
    flows = corpus()
    for flow, ids in zip(flows, ids_of(graph, flows), strict=True):
        expect = published.features(flow)
        assert list(ids) == [i for i, p in zip(expect["code_ids"], expect["position_idx"], strict=True) if p != 1]
        assert ids.n_text == sum(p > 1 for p in expect["position_idx"])
        assert list(ids.variables) == expect["dfg_to_code"]
        assert [list(sources) for sources in ids.sources] == expect["dfg_to_dfg"]
        assert len(ids) <= graph.max_tokens
    assert any(len(published.features(flow)["dfg_to_code"]) > 5 for flow in flows)


@pytest.mark.parametrize(("dtype", "cosine"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_the_vectors_are_the_published_ones(
    graph: ModelInfo, published: Published, dtype: str, cosine: float, tmp_path: Path
) -> None:
    flows = corpus()
    backend = open_backend(graph, "cpu", dtype, str(tmp_path))
    rows = embed(backend, ids_of(graph, flows))
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert (rows * published.vectors(flows)).sum(1).min() >= cosine


def test_neighbours_in_a_batch_change_nothing(graph: ModelInfo, tmp_path: Path) -> None:
    flows = corpus()[:20]
    backend = open_backend(graph, "cpu", "float32", str(tmp_path))
    plain = [ids for ids, _ in open_tokens(graph).encode(["def f(x):\n    return x", "read the configuration", ""])]
    ids: list[Sequence[int]] = [*ids_of(graph, flows), *plain]
    together = backend.encode(ids)
    alone = np.concatenate([backend.encode([row]) for row in ids])
    assert np.abs(together - alone).max() < 1e-5
    twins = backend.encode([ids[0], ids[0]])  # of equal length: the rectangle has no holes
    assert np.abs(twins - alone[0]).max() < 1e-5


def test_the_flow_reaches_the_vector(graph: ModelInfo, tmp_path: Path) -> None:
    """Equal tokens with another flow give another vector; without any, that of the tokens as plain text."""
    (flow,) = flows_of("a.py", "def f(a, b):\n    c = a\n    b = c\n    return b\n")
    other = CodeFlow(flow.comment, flow.tokens, tuple((token, ()) for token, _ in flow.variables))
    none = CodeFlow(flow.comment, flow.tokens, ())
    backend = open_backend(graph, "cpu", "float32", str(tmp_path))
    rows = embed(backend, ids_of(graph, [flow, other, none]))
    assert rows[0] @ rows[1] < 0.99999
    assert rows[0] @ rows[2] < 0.9999
    (plain, _), *_ = open_tokens(graph).encode([" ".join(flow.tokens)])
    assert plain == list(ids_of(graph, [none])[0])
    assert backend.encode([plain])[0] == pytest.approx(rows[2], abs=1e-6)


@pytest.mark.parametrize("n_tokens", [1, 126, 127, 128, 129, 158, 159, 160, 400])
@pytest.mark.parametrize("n_variables", [0, 1, 31, 32, 33, 200])
def test_what_is_cut_is_cut_as_published(
    graph: ModelInfo, published: Published, n_tokens: int, n_variables: int
) -> None:
    variables = tuple((i * n_tokens // n_variables, (max(0, i - 1),)) for i in range(n_variables))
    for comment in ("", "Reads the configuration file. " * 20):
        flow = CodeFlow(comment, ("x",) * n_tokens, variables)
        ((ids, is_cut),) = open_tokens(graph).encode([""], [flow])
        expect = published.features(flow)
        assert isinstance(ids, CodeIds)
        assert list(ids) == [i for i, p in zip(expect["code_ids"], expect["position_idx"], strict=True) if p != 1]
        assert list(ids.variables) == expect["dfg_to_code"]
        assert len(ids) <= 160
        whole = published_features(flow, published.tokenizer, 5000, 2000)
        assert is_cut == (ids.n_text < sum(p > 1 for p in whole["position_idx"]))


def test_a_leaf_longer_than_all_that_can_be_read(graph: ModelInfo, published: Published) -> None:
    flow = CodeFlow("", ("x", "=", "'" + "lorem ipsum " * 1000 + "'", ";", "x"), ((0, (2,)), (2, ()), (4, (0,))))
    ((ids, is_cut),) = open_tokens(graph).encode([""], [flow])
    expect = published.features(flow)
    assert list(ids) == [i for i, p in zip(expect["code_ids"], expect["position_idx"], strict=True) if p != 1]
    assert is_cut
    assert isinstance(ids, CodeIds)
    assert ids.variables == expect["dfg_to_code"] == [(1, 2)]


def test_only_a_model_trained_on_it_reads_flow(graph: ModelInfo, tmp_path: Path) -> None:
    assert graph.flow
    assert not resolve(str(write_tiny(tmp_path / "codebert-base", "codebert")), "").flow
    plain = write_tiny(tmp_path / "other" / "graphcodebert-base", "graphcodebert", max_position_embeddings=162)
    (plain / "modules.json").write_text('[{"type": "sentence_transformers.models.Transformer"}]')
    trained_further = resolve(str(plain), "")  # by sentence-transformers, which gives plain text to it
    assert not trained_further.flow
    (plain / "modules.json").unlink()
    assert resolve(str(plain), "").fingerprint == graph.fingerprint != trained_further.fingerprint


def test_openvino_is_no_choice_for_flow(graph: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEGRAPHD_ENGINE", "openvino")
    with pytest.raises(ModelError, match="graphcodebert-base: openvino is not installed, or cannot run it"):
        open_backend(graph, "cpu", "auto", str(tmp_path))
    monkeypatch.delenv("CODEGRAPHD_ENGINE")
    assert open_backend(graph, "cpu", "auto", str(tmp_path)).name == "torch"
