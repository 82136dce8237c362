"""The bench's own arithmetic: percentiles, targets, the report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is run from the checkout and is never installed

from bench.corpora import Corpus, documented
from bench.harness import Figure, Report, machine, percentile, wait_until
from bench.quality import at_threshold, ndcg, reciprocal_rank, sweep


@pytest.mark.parametrize(
    ("samples", "share", "expect"),
    [([5.0], 50, 5.0), ([1, 2, 3, 4], 50, 2), ([4, 3, 2, 1], 95, 4), (list(range(1, 101)), 95, 95), ([1, 2], 1, 1)],
)
def test_percentile(samples: list[float], share: float, expect: float) -> None:
    assert percentile(samples, share) == expect


@pytest.mark.parametrize(
    ("value", "target", "at_most", "expect"),
    [(5, 10, True, True), (15, 10, True, False), (15, 10, False, True), (5, None, True, None), (None, 5, True, None)],
)
def test_targets(value: float | None, target: float | None, at_most: bool, expect: bool | None) -> None:
    assert Figure("f", value, "s", target, at_most).is_met is expect


def test_a_report_as_json_and_as_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("quick", machine=machine())
    report.spread("query", [0.001 * n for n in range(1, 101)], target_p95=0.09)
    report.spread("nothing", [])
    report.add("rate", 1234.5, "/s", target=1000, at_most=False, note="good")
    report.failed("phase", ValueError("broke"))
    document = json.loads(report.save(tmp_path / "r.json").read_text())
    by_name = {figure["name"]: figure for figure in document["figures"]}
    assert by_name["query p95"]["value"] == pytest.approx(95.0)
    assert by_name["query p95"]["is_met"] is False
    assert by_name["nothing p50"]["value"] is None
    assert by_name["rate"]["is_met"] is True
    assert by_name["phase"]["note"] == "ValueError: broke"
    assert document["machine"]["versions"]["numpy"]
    table = report.table().splitlines()
    assert "| rate | 1,234 /s | ≥ 1,000 | met; good |" in table
    assert "| query p95 | 95 ms | ≤ 90 | **missed**; 100 samples |" in table
    assert "rate" in capsys.readouterr().out


def test_wait_until() -> None:
    turns = iter([0, None, 7])
    assert wait_until(lambda: next(turns), 5, "it", 0.0) == 7
    with pytest.raises(TimeoutError, match="it did not come"):
        wait_until(lambda: False, 0, "it", 0.0)


def test_documented_functions_of_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.py").write_text(
        'def one():\n    """Say the words of one.\n\n    More."""\n\nclass C:\n    async def two(self):\n'
        '        """Say all that two says."""\n    def three(self):\n        """Too short."""\n'
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    corpus = Corpus("test", tmp_path, 2, 0)
    found = documented(corpus, 10)
    assert {(item.path, item.name, item.sentence) for item in found} == {
        ("a/b.py", "one", "Say the words of one."),
        ("a/b.py", "two", "Say all that two says."),
    }
    assert documented(corpus, 1) == found[:1]


RELEVANT = frozenset({"a", "b"})


@pytest.mark.parametrize(
    ("ranked", "mrr", "gain"),
    [
        (["a", "b"], 1.0, 1.0),
        (["x", "b"], 0.5, 0.3869),
        (["x"] * 9 + ["a"], 0.1, 0.1773),
        (["x"] * 10 + ["a"], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_ranking_metrics(ranked: list[str], mrr: float, gain: float) -> None:
    assert reciprocal_rank(ranked, RELEVANT) == pytest.approx(mrr)
    assert ndcg(ranked, RELEVANT) == pytest.approx(gain, abs=1e-4)


def test_sweep_finds_the_best_threshold_and_moves_ties_together() -> None:
    best = sweep([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    assert (best.threshold, best.recall) == (0.8, 1.0)
    assert best.precision == pytest.approx(2 / 3)
    assert best.f1 == pytest.approx(0.8)
    assert best.average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert sweep([0.9, 0.1], [1, 0]).f1 == 1.0
    assert at_threshold([0.9, 0.8, 0.8, 0.1], [1, 1, 0, 0], 0.85) == (1.0, 0.5, pytest.approx(2 / 3))
    assert at_threshold([0.1, 0.2], [1, 0], 0.85) == (0.0, 0.0, 0.0)
