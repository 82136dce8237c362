"""Similar code and clone families over a real store; the vectors are handed in where their angle is the point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraphd.daemon.analysis.parse import parse, render
from codegraphd.daemon.packing import packed
from codegraphd.daemon.search.calibration import OTHER, OVERLAP, SAME, curve_for, likeness_for, similarity_of
from codegraphd.daemon.search.clones import Range, families, similar
from codegraphd.daemon.search.likeness import Sample, compare, overlap, sample_of_code, sample_of_unit, text_of_code

ORIGINAL = '''
def mean_of_squares(values, weight):
    """Average of the squared values."""
    total = 0
    for value in values:
        total = total + value * value * weight
    if not values:
        return None
    return total / len(values)
'''
REFORMATTED = ORIGINAL.replace("    total = 0\n", "    # begin\n    total   =   0\n\n")
RENAMED = ORIGINAL.replace("value", "item").replace("total", "acc").replace("weight", "w").replace("mean_of", "avg")
NEAR = ORIGINAL.replace("    if not values:\n        return None\n", "    print(total, weight)\n")
OTHER_CODE = '''
def connect(host, port):
    """Open a socket."""
    sock = socket.socket()
    sock.settimeout(5)
    sock.connect((host, port))
    return sock
'''
FILES = {
    "a.py": ORIGINAL,
    "b.py": REFORMATTED,
    "c.py": RENAMED,
    "d.py": NEAR,
    "e.py": OTHER_CODE,
    "notes.md": "# Mean of squares\n\n" + "Average of the squared values. " * 8,
}


# What the model is made to say of their likeness to ORIGINAL, as similarity.
ALIKE = {"a.py": 1.0, "b.py": 1.0, "c.py": 0.7, "d.py": 0.9, "e.py": 0.1, "f.py": 0.1, "notes.md": 0.95, "g.py": 0.0}


def put_by_angle(shelf: Any, files: dict[str, str]) -> None:
    """Index the files, and give their units vectors whose angle to that of ORIGINAL is as ALIKE says."""
    shelf.put(files, embedded=False)
    original = sample_of_code(packed(parse("a.py", ORIGINAL.encode())), None)

    def attach(txn: Any) -> None:
        for file in txn.files(1):
            source = shelf.sources[1, file.path]
            shared = overlap(sample_of_code(packed(parse(file.path, source)), None), original)
            cosine = likeness_for(ALIKE[file.path], SAME[""]) - OVERLAP * shared if ALIKE[file.path] < 1 else 1.0
            vector = np.zeros(8, np.float32)
            vector[0], vector[1 + ord(file.path[0]) % 7] = cosine, np.sqrt(1 - cosine * cosine)
            for unit in txn.units_of(file):
                txn.attach(unit.id, vector)

    shelf.writer.submit(attach).result()


def matches(shelf: Any, path: str, name: str, **options: Any) -> list[dict[str, Any]]:
    unit = shelf.unit(path, name)
    found: list[dict[str, Any]] = shelf.ask(
        lambda view: similar(view, shelf.vectors, sample_of_unit(view, unit), Range(**options), "")
    )
    assert all(match["id"] != str(unit.id) for match in found)
    order = [match["similarity"] for match in found]
    assert order == sorted(order, reverse=True)
    return found


def test_kinds_of_clones_of_a_unit(shelf: Any) -> None:
    put_by_angle(shelf, FILES)
    found = matches(shelf, "a.py", "mean_of_squares", threshold=0.5)
    assert [(match["path"], match["type"]) for match in found[:3]] == [
        ("b.py", "exact"),
        ("c.py", "renamed"),
        ("d.py", "near"),
    ]
    assert found[0]["similarity"] == 1.0
    assert found[0]["cosine"] == pytest.approx(1.0, abs=0.01)
    assert all(match["path"] not in {"e.py", "notes.md"} for match in found)


@pytest.mark.parametrize(
    ("options", "expect"),
    [
        ({"threshold": 1.0}, ["b.py"]),
        ({"threshold": 0.97}, ["b.py", "c.py"]),
        ({"threshold": 0.5, "limit": 2}, ["b.py", "c.py"]),
        ({"threshold": 0.97, "languages": frozenset({"go"})}, []),
        ({"threshold": 0.97, "roots": frozenset({2})}, []),
    ],
)
def test_threshold_limit_and_filters(shelf: Any, options: dict[str, Any], expect: list[str]) -> None:
    put_by_angle(shelf, FILES)
    assert [match["path"] for match in matches(shelf, "a.py", "mean_of_squares", **options)] == expect


def test_every_unit_above_the_threshold_not_the_best_few(shelf: Any) -> None:
    shelf.put({f"m{n:03}.py": ORIGINAL for n in range(150)})
    assert len(matches(shelf, "m000.py", "mean_of_squares", threshold=0.99)) == 149


def test_without_a_vector_equal_code_is_still_found(shelf: Any) -> None:
    shelf.put({"a.py": ORIGINAL}, embedded=False)
    shelf.put({path: FILES[path] for path in ("b.py", "c.py", "d.py")})
    found = matches(shelf, "a.py", "mean_of_squares", threshold=0.5)
    assert [(match["path"], match["type"], match["cosine"]) for match in found] == [
        ("b.py", "exact", None),
        ("c.py", "renamed", None),
    ]


def test_what_contains_a_unit_is_no_match_of_it(shelf: Any) -> None:
    body = "".join(f"        values[{n}] = values[{n}] + offset\n" for n in range(20))
    shelf.put({"a.py": f"class Shift:\n    def shift(self, values, offset):\n{body}"})
    for name in ("Shift", "Shift.shift"):
        assert matches(shelf, "a.py", name, threshold=0.0) == []


def test_code_that_is_handed_in(shelf: Any) -> None:
    shelf.put(FILES)
    for code, expect in [(REFORMATTED, "exact"), (RENAMED, "exact"), (NEAR, "exact")]:
        vector = shelf.embed([code])[0]
        sample = sample_of_code(packed(parse("x.py", code.encode())), vector)
        found = shelf.ask(lambda view, sample=sample: similar(view, shelf.vectors, sample, Range(threshold=0.97), ""))
        assert found[0]["type"] == expect
    two = sample_of_code(packed(parse("x.py", (ORIGINAL + OTHER_CODE).encode())), None)
    one = sample_of_code(packed(parse("x.py", ORIGINAL.encode())), None)
    assert two.own not in (b"", one.own)  # both functions together are something else than the one
    assert {"socket", "total"} <= set(two.words)


def test_compare_two_pieces_of_code(shelf: Any) -> None:
    texts = {"original": ORIGINAL, "reformatted": REFORMATTED, "renamed": RENAMED, "near": NEAR, "other": OTHER_CODE}
    samples = {
        name: sample_of_code(packed(parse("x.py", code.encode())), row)
        for (name, code), row in zip(texts.items(), shelf.embed(list(texts.values())), strict=True)
    }
    verdicts = {name: compare(samples["original"], sample, "") for name, sample in samples.items()}
    assert [verdicts[name].type for name in texts] == ["exact", "exact", "renamed", "near", "semantic"]
    assert verdicts["reformatted"].similarity == 1.0
    assert verdicts["other"].similarity < verdicts["near"].similarity
    assert compare(samples["near"], samples["original"], "") == verdicts["near"]


def test_short_renamed_code_is_not_lifted() -> None:
    one = sample_of_code(packed(parse("x.py", b"def a():\n    return b\n")), np.eye(4, dtype=np.float32)[0])
    two = sample_of_code(packed(parse("x.py", b"def c():\n    return d\n")), np.eye(4, dtype=np.float32)[1])
    verdict = compare(one, two, "")
    assert verdict.type == "renamed"
    assert verdict.similarity < 0.5


@pytest.mark.parametrize(
    ("a", "b", "expect"),
    [
        ("f a b c", "f a b c", 1.0),
        ("f a b c", "g x y z", 0.0),
        ("f a b", "f a c", 1 / 3),
        ("a a a", "a a", 1 / 2),
        ("", "", 0.0),
        ("f", "", 0.0),
    ],
)
def test_overlap(a: str, b: str, expect: float) -> None:
    one, other = (
        Sample("python", None, words=tuple(text.split()), pairs=Counter(pairwise(text.split()))) for text in (a, b)
    )
    assert overlap(one, other) == pytest.approx(expect)
    assert overlap(other, one) == pytest.approx(expect)


# --- families --------------------------------------------------------------------------------------------------------


def found_families(shelf: Any, **options: Any) -> list[dict[str, Any]]:
    answer = shelf.ask(lambda view: families(view, 1, "", **options))
    assert answer["truncated"] is False
    found: list[dict[str, Any]] = answer["families"]
    return found


def members(family: dict[str, Any]) -> list[str]:
    return [f"{member['path']}:{member['qualname']}" for member in family["members"]]


def test_families_of_a_workspace(shelf: Any) -> None:
    put_by_angle(shelf, {**FILES, "f.py": OTHER_CODE, "g.py": "def alone(x):\n" + "    x = go(x)\n" * 6})
    squares, connect = found_families(shelf, threshold=0.96)
    assert members(squares) == ["a.py:mean_of_squares", "b.py:mean_of_squares", "c.py:avg_squares"]
    assert (squares["type"], squares["similarity"]) == ("renamed", 0.97)
    assert members(connect) == ["e.py:connect", "f.py:connect"]
    assert (connect["type"], connect["similarity"]) == ("exact", 1.0)


@pytest.mark.parametrize(
    ("options", "n"),
    [({"min_lines": 8}, 1), ({"min_lines": 30}, 0), ({"limit": 1}, 1), ({"languages": frozenset({"go"})}, 0)],
)
def test_bounds_of_families(shelf: Any, options: dict[str, Any], n: int) -> None:
    shelf.put({"a.py": ORIGINAL, "b.py": ORIGINAL, "c.py": OTHER_CODE, "d.py": OTHER_CODE})
    assert len(found_families(shelf, threshold=0.96, **options)) == n


def test_the_methods_of_cloned_classes_are_no_family_of_their_own(shelf: Any) -> None:
    method = ORIGINAL.replace("def mean_of_squares(", "def squares(self, ").replace("\n", "\n    ")
    code = f"class Statistics:\n{method}\n    def other(self):\n        one = self.squares([], 1)\n        return one\n"
    shelf.put({"a.py": code, "b.py": code})
    (family,) = found_families(shelf, threshold=0.96, min_lines=3)
    assert members(family) == ["a.py:Statistics", "b.py:Statistics"]
    shelf.put({"c.py": ORIGINAL.replace("def mean_of_squares(", "def squares(self, ")})
    both = found_families(shelf, threshold=0.96, min_lines=3)
    assert sorted(len(family["members"]) for family in both) == [2, 3]  # the third copy is elsewhere: worth saying


def test_units_without_vectors_are_in_families_by_their_fingerprints(shelf: Any) -> None:
    shelf.put({"a.py": ORIGINAL, "b.py": REFORMATTED, "c.py": RENAMED}, embedded=False)
    (family,) = found_families(shelf)
    assert len(family["members"]) == 3


def test_pairs_by_vector_in_blocks(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"p{n}.py" for n in range(7)]
    bodies = [f"def f{n}(x):\n" + "".join(f"    x = g{n}_{k}(x, {k})\n" for k in range(n + 5)) for n in range(7)]
    shelf.put(dict(zip(names, bodies, strict=True)), embedded=False)
    angles = [0.0, 0.02, 1.0, 1.02, 1.04, 2.0, 3.0]
    units = [shelf.unit(path, f"f{n}") for n, path in enumerate(names)]

    def attach(txn: Any) -> None:
        for unit, angle in zip(units, angles, strict=True):
            txn.attach(unit.id, np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32))

    shelf.writer.submit(attach).result()
    expect = [["p2.py:f2", "p3.py:f3", "p4.py:f4"], ["p0.py:f0", "p1.py:f1"]]
    for rows, columns in [(1024, 4096), (2, 3), (1, 1), (3, 2)]:
        monkeypatch.setattr("codegraphd.daemon.search.clones._ROWS", rows)
        monkeypatch.setattr("codegraphd.daemon.search.clones._COLUMNS", columns)
        assert [members(family) for family in found_families(shelf, threshold=0.95)] == expect


def test_a_chain_of_neighbours_is_no_family(shelf: Any) -> None:
    bodies = [f"def f{n}(x):\n" + "".join(f"    x = g{n}_{k}(x, {k})\n" for k in range(5 + n)) for n in range(9)]
    shelf.put({f"p{n}.py": body for n, body in enumerate(bodies)}, embedded=False)
    step = float(np.arccos(likeness_for(0.96, SAME[""])))

    def attach(txn: Any) -> None:
        for n in range(9):
            unit = shelf.unit(f"p{n}.py", f"f{n}")
            txn.attach(unit.id, np.array([np.cos(n * step), np.sin(n * step), 0, 0], np.float32))

    shelf.writer.submit(attach).result()
    found = sorted(members(family) for family in found_families(shelf, threshold=0.95))
    assert sorted(name for family in found for name in family) == [f"p{n}.py:f{n}" for n in range(9)]  # each in one
    assert max(len(family) for family in found) <= 4


def test_a_search_that_runs_out_of_time_says_so(shelf: Any) -> None:
    shelf.put({"a.py": ORIGINAL, "b.py": NEAR})
    answer = shelf.ask(lambda view: families(view, 1, "", threshold=0.1, expired=lambda: True))
    assert answer["truncated"] is True


# --- calibration -----------------------------------------------------------------------------------------------------

CURVES = [*SAME.values(), *OTHER.values()]


@pytest.mark.parametrize("curve", CURVES)
def test_curves_rise_from_0_to_1(curve: Sequence[tuple[float, float]]) -> None:
    assert list(curve) == sorted(curve)
    assert [y for _, y in curve] == sorted(y for _, y in curve)
    assert (similarity_of(-1.0, curve), similarity_of(1.3, curve)) == (0.0, 1.0)
    assert similarity_of(2.0, curve) == 1.0


@given(st.floats(-1, 1.3), st.floats(-1, 1.3), st.sampled_from(CURVES))
def test_similarity_never_falls(a: float, b: float, curve: Sequence[tuple[float, float]]) -> None:
    low, high = sorted((a, b))
    assert 0.0 <= similarity_of(low, curve) <= similarity_of(high, curve) <= 1.0


@given(st.floats(0.001, 1), st.sampled_from(CURVES))
def test_the_likeness_for_a_similarity_has_it_and_no_less(
    similarity: float, curve: Sequence[tuple[float, float]]
) -> None:
    cosine = likeness_for(similarity, curve)
    assert similarity_of(cosine, curve) == pytest.approx(similarity, abs=1e-6)
    assert similarity_of(cosine - 1e-3, curve) < similarity


def test_an_unknown_model_has_the_curve_of_the_default_one() -> None:
    assert curve_for("no such model", one_language=True) == SAME[""]


# --- containers ------------------------------------------------------------------------------------------------------

SOLUTION = "class Solution:\n    def solve(self, values):\n{}"
ONE = SOLUTION.format(
    "        total = 0\n        for value in values:\n            total += value\n        return total\n"
)
TWO = SOLUTION.format(
    "        values.sort()\n        while values:\n            print(values.pop())\n        return None\n"
)


def test_classes_of_equal_headers_and_other_bodies_are_not_exact(shelf: Any) -> None:
    one, two, again = (sample_of_code(packed(parse("x.py", code.encode())), None) for code in (ONE, TWO, ONE + "\n\n"))
    assert compare(one, two, "").type != "exact"
    assert compare(one, again, "").type == "exact"
    shelf.put({"a.py": ONE, "b.py": TWO, "c.py": ONE})
    found = matches(shelf, "a.py", "Solution", threshold=0.0)
    assert [(m["path"], m["qualname"], m["type"]) for m in found if m["type"] in {"exact", "renamed"}] == [
        ("c.py", "Solution", "exact")
    ]
    handed_in = shelf.ask(lambda view: similar(view, shelf.vectors, one, Range(threshold=0.9), ""))
    assert [(m["path"], m["qualname"], m["type"]) for m in handed_in] == [
        ("a.py", "Solution", "exact"),
        ("c.py", "Solution", "exact"),
    ]


def test_the_text_of_code_has_the_bodies() -> None:
    module = parse("x.py", ONE.encode())
    text = text_of_code(packed(module), render("x.py", ONE.encode()), ONE)
    assert "class Solution" in text
    assert "total += value" in text
    assert text_of_code(packed(parse("x.py", b"")), (), "no code") == "no code"


def test_an_edited_doc_leaves_code_exact() -> None:
    other = ORIGINAL.replace("Average of the squared values.", "What it is good for.")
    samples = [sample_of_code(packed(parse("x.py", code.encode())), None) for code in (ORIGINAL, other)]
    assert samples[0].own != samples[1].own
    assert compare(samples[0], samples[1], "").type == "exact"
