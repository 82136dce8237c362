"""What the context input is worth: MRR@10 by vectors alone, for weights of a face vector beside the own vector.

    python -m bench.context --eval DIR

The labelled functions stand alone, so their context input is what every unit's begins with: its own face (decorators,
name and signature, first line of the doc). Bases and callees are not in this data; that they are quoted is for
freshness, and off by default.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Report, describe, machine
from bench.quality import Model, read_items, reciprocal_rank
from codegraphd.daemon.embedding.text import face_text
from codegraphd.store.records import UnitRecord

WEIGHTS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the own vector
TRACKS = ("cosqa", "docstring", "task")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.context", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--eval", type=Path, required=True, metavar="DIR")
    folder = parser.parse_args(arguments).eval
    report = Report("context", machine=machine())
    print(describe(report.machine))
    model = Model()
    corpus = _rows(folder / "nl2code_corpus.jsonl")
    queries = _rows(folder / "nl2code.jsonl")
    means: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    for track in TRACKS:
        items = [item for item in read_items([row for row in corpus if row["track"] == track]) if item.module.units]
        own = model.embed([item.texts[0] for item in items], "document")
        faces = [face_text(UnitRecord(0, 0, 0, "", item.module.language, 0, item.module.units[0])) for item in items]
        face = model.embed(faces, "document")
        asked = [row for row in queries if row["track"] == track]
        questions = model.embed([row["query"] for row in asked], "query")
        ids = [item.id for item in items]
        for weight in WEIGHTS:
            mixed = weight * own + (1 - weight) * face
            mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
            mrr = _mrr(questions @ mixed.T, ids, asked)
            means[weight].append(mrr)
            report.add(f"{track}, own {weight:g} and face {1 - weight:.1g}", mrr, "MRR@10", at_most=False)
    for weight, values in means.items():
        report.add(f"mean of tracks, own {weight:g}", float(np.mean(values)), "MRR@10", at_most=False)
    model.save()
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


def _mrr(cosines: np.ndarray, ids: Sequence[str], asked: Sequence[dict[str, Any]]) -> float:
    ranks = []
    for row, question in zip(cosines, asked, strict=True):
        best = np.argpartition(-row, 10)[:10]
        ranked = [ids[n] for n in best[np.argsort(-row[best])]]
        ranks.append(reciprocal_rank(ranked, frozenset(question["relevant"])))
    return float(np.mean(ranks))


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    sys.exit(main())
