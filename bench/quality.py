"""How good the answers are, on labelled data given by path: `python -m bench --eval DIR`.

DIR holds JSON Lines. `nl2code_corpus.jsonl`: id, track, language, code; `nl2code.jsonl`: query, track, relevant (ids);
`clones_code.jsonl`: id, language, code; `clones.jsonl`: a, b (ids), type, label (1 a clone, 0 none), language.

The functions go through the product's own way (parse, normalise, model, word index, vectors, fusion); only the watching
and the processes are left out. Each track is a root of its own. MRR and NDCG at 10; standard errors are about 0.02.
Vectors are kept beside the results, so that a second run costs no model time.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import RESULTS, Report
from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.daemon.analysis.words import query_terms
from codegraphd.daemon.embedding.backends import open_backend, open_tokens
from codegraphd.daemon.embedding.models import resolve
from codegraphd.daemon.embedding.packing import groups
from codegraphd.daemon.packing import packed
from codegraphd.daemon.search import fusion, likeness
from codegraphd.daemon.search.query import DEPTH, Question, search
from codegraphd.daemon.search.units import whole
from codegraphd.store.ann import VectorIndex
from codegraphd.store.env import Store
from codegraphd.store.lexical import WordIndex
from codegraphd.store.records import FileRecord, Module, RootRecord, Stat, UnitRecord, Where
from codegraphd.store.writer import Transaction, Writer

EXTENSIONS = {
    "python": "py", "javascript": "js", "typescript": "ts", "java": "java", "go": "go", "rust": "rs", "cpp": "cpp",
    "c": "c", "csharp": "cs",
}  # fmt: skip
CLONE_TYPES = ("exact", "near", "functional", "semantic")


# --- metrics ---------------------------------------------------------------------------------------------------------


def reciprocal_rank(ranked: Sequence[str], relevant: frozenset[str], k: int = 10) -> float:
    """1 / rank of the first relevant one among the first `k`; 0: none."""
    return next((1.0 / rank for rank, item in enumerate(ranked[:k], 1) if item in relevant), 0.0)


def ndcg(ranked: Sequence[str], relevant: frozenset[str], k: int = 10) -> float:
    """Discounted gain of the first `k`, each relevant one worth 1, against the best possible order."""
    gain = sum(1.0 / math.log2(rank + 1) for rank, item in enumerate(ranked[:k], 1) if item in relevant)
    best = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(len(relevant), k) + 1))
    return gain / best if best else 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """The threshold of best F1 (score >= threshold is a clone), and the average precision over all thresholds."""

    f1: float
    threshold: float
    precision: float
    recall: float
    average_precision: float


def sweep(scores: Sequence[float], labels: Sequence[int]) -> Sweep:
    """Equal scores move together. Needs at least one positive."""
    order = sorted(zip(scores, labels, strict=True), reverse=True)
    positives = sum(labels)
    best, area, recall_before, true = Sweep(0.0, math.inf, 0.0, 0.0, 0.0), 0.0, 0.0, 0
    for seen, (score, label) in enumerate(order, 1):
        true += label
        if seen < len(order) and order[seen][0] == score:
            continue
        precision, recall = true / seen, true / positives
        area += precision * (recall - recall_before)
        recall_before = recall
        f1 = 2 * precision * recall / (precision + recall) if true else 0.0
        if f1 > best.f1:
            best = Sweep(f1, score, precision, recall, 0.0)
    return Sweep(best.f1, best.threshold, best.precision, best.recall, area)


def at_threshold(scores: Sequence[float], labels: Sequence[int], threshold: float) -> tuple[float, float, float]:
    """-> precision, recall, F1."""
    said = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
    precision, recall = sum(said) / len(said) if said else 0.0, sum(said) / sum(labels)
    return precision, recall, 2 * precision * recall / (precision + recall) if said and sum(said) else 0.0


# --- the product's way, without the daemon ---------------------------------------------------------------------------


class Model:
    """The configured model in this process, with its vectors kept on disk by text."""

    def __init__(self, name: str = "auto", max_tokens: int = 0) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.info = resolve(name, str(RESULTS), max_tokens)
        self._tokens, self._backend = open_tokens(self.info), None
        self._file = RESULTS / f"vectors-{self.info.fingerprint.hex()}.npz"
        self._known: dict[bytes, np.ndarray] = {}
        if self._file.exists():
            with np.load(self._file) as kept:
                self._known = dict(zip((bytes(key) for key in kept["keys"]), kept["rows"], strict=True))

    def embed(self, texts: Sequence[str], role: str) -> np.ndarray:
        """float32[texts, dim], rows of length 1."""
        full = [self.info.prefix(role) + text for text in texts]
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in full]
        missing = list({key: text for key, text in zip(keys, full, strict=True) if key not in self._known}.items())
        if missing:
            if self._backend is None:
                self._backend = open_backend(self.info, "cpu", "auto", str(RESULTS))
            ids = [found[0] for found in self._tokens.encode([text for _, text in missing])]
            for group in groups([len(one) for one in ids], 2048):
                rows = self._backend.encode([ids[n] for n in group])
                self._known.update((missing[n][0], row) for n, row in zip(group, rows, strict=True))
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        keys = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, 32)
        np.savez(self._file, keys=keys, rows=np.stack(list(self._known.values())))


@dataclass(frozen=True, slots=True)
class Item:
    """A labelled piece of code, parsed."""

    id: str
    path: str
    code: str
    module: Module
    texts: tuple[str, ...]


def read_items(rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    items = []
    for row in rows:
        path, source = f"{row['id']}.{EXTENSIONS[row['language']]}", row["code"].encode("utf-8", "surrogatepass")
        items.append(Item(row["id"], path, row["code"], parse(path, source), render(path, source)))
    return items


class Shelf:
    """Items of several tracks in a store, a word index and a vector index, as the daemon would hold them."""

    def __init__(self, directory: str, tracks: Mapping[str, Sequence[Item]], model: Model) -> None:
        self.store = Store.open(directory + "/store", volatile=True)
        self.words = WordIndex(directory + "/words", behind=False)
        self.vectors = VectorIndex(directory + "/vectors")
        self.roots = {track: number for number, track in enumerate(tracks, 1)}
        with self.store.snapshot() as view:
            self.words.open_or_rebuild(view)
            self.vectors.open_or_rebuild(view)
        writer = Writer(self.store, [self.words.apply, self.vectors.apply])
        try:
            for track, items in tracks.items():
                texts = list(dict.fromkeys(text for item in items for text in item.texts))
                vectors = dict(zip(texts, model.embed(texts, "document"), strict=True))
                root = RootRecord(self.roots[track], f"/{track}")

                def put(txn: Transaction, root: RootRecord = root, items: Sequence[Item] = items) -> None:
                    txn.put_root(root)
                    for item in items:
                        _put(txn, root.id, item, vectors)  # noqa: B023 - run before the next round

                writer.submit(put).result()
                self.words.commit()
        finally:
            writer.close()


def _put(txn: Transaction, root: int, item: Item, vectors: Mapping[str, np.ndarray]) -> None:
    module = item.module
    file_id = txn.new_id()
    ids = tuple(txn.new_id() for _ in module.units)
    stat = Stat(module.size, 0, 0, file_id)
    txn.put_file(FileRecord(file_id, root, item.path, module.language, stat, module.digest, module.lines, "", 0, ids))
    for id_, unit, words, text in zip(ids, module.units, module.words, item.texts, strict=True):
        parent = ids[unit.parent] if unit.parent >= 0 else 0
        txn.put_unit(UnitRecord(id_, root, file_id, item.path, module.language, parent, unit))
        txn.put_words(id_, words)
        txn.attach(id_, vectors[text])


# --- search ----------------------------------------------------------------------------------------------------------

Ranking = Sequence[tuple[int, float]]
Ranker = Callable[[Ranking, Mapping[int, float], fusion.Kind], list[tuple[int, float]]]


def _rankers() -> dict[str, Ranker]:
    """Ways to make one ranking of two, to choose among: (words, cosines, kind of question) -> ranking."""
    ways: dict[str, Ranker] = {
        "words": lambda words, _, __: list(words),
        "meaning": lambda _, cosines, __: _sorted(cosines),
        "RRF k=10": lambda words, cosines, _: reciprocal([words, _sorted(cosines)], 10),
        "RRF k=60": lambda words, cosines, _: reciprocal([words, _sorted(cosines)], 60),
        "z-scores, meaning 0.7": lambda words, cosines, _: by_z_scores(words, cosines, 0.7),
        "z-scores, meaning 0.9": lambda words, cosines, _: by_z_scores(words, cosines, 0.9),
    }
    for weight in (0.1, 0.15, 0.2, 0.3, 0.4):
        ways[f"words over the crowd {weight}"] = lambda words, cosines, _, weight=weight: fusion.fuse(
            words, cosines, weight
        )
    ways["as built"] = lambda words, cosines, kind: fusion.fuse(words, cosines, fusion.WORDS[kind])
    return ways


def reciprocal(rankings: Sequence[Ranking], k: float) -> list[tuple[int, float]]:
    """Reciprocal rank fusion: the sum of 1 / (k + rank)."""
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, (unit, _) in enumerate(ranking, 1):
            scores[unit] += 1 / (k + rank)
    return _sorted(scores)


def by_z_scores(words: Ranking, cosines: Mapping[int, float], weight: float) -> list[tuple[int, float]]:
    """Scores of each side in standard deviations from its mean, weighted; who is not found has the side's least."""
    if not words or not cosines:
        return list(words) or _sorted(cosines)
    one, other = _standardised(dict(words)), _standardised(cosines)
    least, least_other = min(one.values()), min(other.values())
    return _sorted(
        {
            unit: (1 - weight) * one.get(unit, least) + weight * other.get(unit, least_other)
            for unit in one.keys() | other.keys()
        }
    )


def _standardised(scores: Mapping[int, float]) -> dict[int, float]:
    values = np.array(list(scores.values()))
    deviation = float(values.std()) or 1.0
    return dict(zip(scores, ((values - values.mean()) / deviation).tolist(), strict=True))


def _sorted(scores: Mapping[int, float]) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))


def measure_search(report: Report, folder: Path, model: Model, *, quick: bool) -> None:
    corpus, queries = defaultdict(list), _read(folder / "nl2code.jsonl")
    for row in _read(folder / "nl2code_corpus.jsonl"):
        corpus[row["track"]].append(row)
    if quick:
        queries = queries[::10]
    tracks = {track: read_items(rows) for track, rows in corpus.items()}
    report.heading("Search (MRR@10 | NDCG@10)")
    with tempfile.TemporaryDirectory() as directory:
        shelf = Shelf(directory, tracks, model)
        vectors = model.embed([row["query"] for row in queries], "query")
        model.save()
        scores: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
        with shelf.store.snapshot() as view:
            for row, vector in zip(queries, vectors, strict=True):
                root, relevant = shelf.roots[row["track"]], frozenset(row["relevant"])
                where, kind = Where(roots=frozenset({root})), fusion.kind_of(row["query"])
                by_words = shelf.words.query(query_terms(row["query"]), DEPTH, where)
                cosines = dict(shelf.vectors.nearest(vector, DEPTH, where))
                for unit_id, _ in by_words:
                    other = view.attached(unit_id)
                    if other is not None:
                        cosines.setdefault(unit_id, float(other @ vector))
                for name, ranker in _rankers().items():
                    ranked = _items(view, ranker(by_words, cosines, kind))
                    figures = (reciprocal_rank(ranked, relevant), ndcg(ranked, relevant))
                    for group in ("all", kind):
                        scores[name, row["track"], group].append(figures)
                question = Question(row["query"], 10, roots=frozenset({root}))
                found = search(view, shelf.words, shelf.vectors, question, vector)
                ranked = [result["path"].rsplit(".", 1)[0] for result in found]
                scores["search()", row["track"], "all"].append(
                    (reciprocal_rank(ranked, relevant), ndcg(ranked, relevant))
                )
        for name in [*_rankers(), "search()"]:
            means = []
            for track in tracks:
                values = scores[name, track, "all"]
                mrr, gain = (sum(v[n] for v in values) / len(values) for n in (0, 1))
                means.append((mrr, gain))
                kinds = {k: v for (n, t, k), v in scores.items() if (n, t) == (name, track) and k != "all"}
                told = ", ".join(
                    f"{k} {sum(x[0] for x in v) / len(v):.3f} ({len(v)})" for k, v in sorted(kinds.items())
                )
                report.add(f"MRR@10, {name}, {track}", round(mrr, 4), "", note=f"NDCG {gain:.3f}; {told}")
            report.add(f"MRR@10, {name}, mean", round(sum(m for m, _ in means) / len(means), 4), "")
        shelf.store.close()


def _items(view: Any, ranking: Sequence[tuple[int, float]]) -> list[str]:
    """Items in the order of their best unit; the first ten."""
    found: dict[str, None] = {}
    for unit_id, _ in ranking:
        unit = view.unit(unit_id)
        if unit is not None:
            found[whole(view, unit).path.rsplit(".", 1)[0]] = None
        if len(found) == 10:
            break
    return list(found)


# --- clones ----------------------------------------------------------------------------------------------------------


def measure_clones(report: Report, folder: Path, model: Model, *, quick: bool) -> None:
    pairs = _read(folder / "clones.jsonl")
    if quick:
        pairs = pairs[::10]
    wanted = {pair[side] for pair in pairs for side in "ab"}
    items = {item.id: item for item in read_items(r for r in _read(folder / "clones_code.jsonl") if r["id"] in wanted)}
    texts = {id_: likeness.text_of_code(packed(item.module), item.texts, item.code) for id_, item in items.items()}
    rows = dict(zip(texts, model.embed(list(texts.values()), "document"), strict=True))
    model.save()
    samples = {id_: likeness.sample_of_code(packed(item.module), rows[id_]) for id_, item in items.items()}
    report.heading("Clones")
    judged = [(pair, likeness.compare(samples[pair["a"]], samples[pair["b"]], model.info.name)) for pair in pairs]
    f1s, fixed = [], []
    for kind in CLONE_TYPES:
        of_kind = [(pair, verdict) for pair, verdict in judged if pair["type"] == kind]
        labels = [pair["label"] for pair, _ in of_kind]
        cosine = sweep([verdict.cosine or 0.0 for _, verdict in of_kind], labels)
        best = sweep([verdict.similarity for _, verdict in of_kind], labels)
        precision, recall, f1 = at_threshold([v.similarity for _, v in of_kind], labels, 0.85)
        f1s.append(best.f1)
        fixed.append(f1)
        note = (
            f"similarity {best.threshold:.3f}, P {best.precision:.3f}, R {best.recall:.3f}, "
            f"AP {best.average_precision:.3f}; cosine alone: F1 {cosine.f1:.3f} at {cosine.threshold:.3f}"
        )
        report.add(f"clones, {kind}: best F1", round(best.f1, 4), "", note=note)
        report.add(f"clones, {kind}: F1 at 0.85", round(f1, 4), "", note=f"P {precision:.3f}, R {recall:.3f}")
    report.add("clones, macro best F1", round(sum(f1s) / 4, 4), "")
    report.add("clones, macro F1 at 0.85", round(sum(fixed) / 4, 4), "")
    for kind in CLONE_TYPES:
        said: dict[str, int] = defaultdict(int)
        for pair, verdict in judged:
            if pair["type"] == kind and pair["label"]:
                said[verdict.type] += 1
        total = sum(said.values())
        right = {"exact": ("exact",), "near": ("renamed", "near")}.get(kind, ("semantic",))
        share = sum(said[name] for name in right) / total
        report.add(f"clones, {kind}: type told", round(100 * share, 1), "%", note=json.dumps(said))


def measure(report: Report, folder: Path, *, quick: bool) -> None:
    """Everything that DIR has data for."""
    model = Model()
    report.add("model tokens read", model.info.max_tokens, "", note=model.info.name)
    if (folder / "nl2code.jsonl").exists():
        measure_search(report, folder, model, quick=quick)
    if (folder / "clones.jsonl").exists():
        measure_clones(report, folder, model, quick=quick)


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
