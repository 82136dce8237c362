"""The vector index against brute force: rows, signs and graph; and the graph's file under kills and damage (row 27)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest

from codegraphd.store import compress
from codegraphd.store.ann import VectorIndex
from codegraphd.store.journal import Delta
from codegraphd.store.records import Where

ROWS = [(1, "python", "function"), (1, "go", "class"), (2, "python", "class")]


def fill(bench: Any, make: Any, vectors: Any) -> list[int]:
    """Units with these vectors, their root, language and kind by turns from ROWS."""

    def job(txn: Any) -> list[int]:
        ids = [txn.new_id() for _ in vectors]
        for n, (id_, vector) in enumerate(zip(ids, vectors, strict=True)):
            root, language, kind = ROWS[n % 3]
            txn.put_unit(make.record(id_, "f", root=root, language=language, kind=kind))
            txn.attach(id_, vector)
        return ids

    return bench.do(job)


def opened(bench: Any, directory: Any, **options: Any) -> VectorIndex:
    index = VectorIndex(str(directory), behind=False, **options)
    bench.writer.add_listener(index.apply)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    return index


class Brute:
    """The truth: every attached code of a store, decoded."""

    def __init__(self, bench: Any) -> None:
        with bench.store.snapshot() as s:
            codes = list(s.attached_codes())
            self.ids = np.array([id_ for id_, _ in codes])
            self.vectors = np.array([compress.decode(code) for _, code in codes])
            heads = [s.unit(int(id_)) for id_ in self.ids]
            self.facts = [(unit.root, unit.language, unit.unit.kind) for unit in heads]

    def cosines(self, question: Any, where: Where = Where()) -> dict[int, float]:  # noqa: B008 - frozen
        found = {}
        for id_, (root, language, kind), cosine in zip(self.ids, self.facts, self.vectors @ question, strict=True):
            if (
                (where.roots is None or root in where.roots)
                and (where.languages is None or language in where.languages)
                and (where.kinds is None or kind in where.kinds)
                and (where.keep is None or where.keep(int(id_)))
            ):
                found[int(id_)] = float(cosine)
        return found


def check_exact(index: VectorIndex, truth: dict[int, float], question: Any, where: Where) -> None:
    """`nearest` and `within` answer what brute force does, in order, cosines alike to rounding."""
    best = sorted(truth.items(), key=lambda hit: -hit[1])
    for k in (1, 7, len(truth), len(truth) + 5):
        found = index.nearest(question, k, where)
        assert len(found) == min(k, len(truth))
        np.testing.assert_allclose([c for _, c in found], [c for _, c in best[:k]], atol=2e-5)
        assert all(abs(truth[id_] - cosine) < 2e-5 for id_, cosine in found)
    for threshold in (-1.1, 0.0, 0.3, 2.0):
        found = index.within(question, threshold, where)
        certain = {id_ for id_, cosine in truth.items() if cosine >= threshold + 2e-5}
        possible = {id_ for id_, cosine in truth.items() if cosine >= threshold - 2e-5}
        assert certain <= {id_ for id_, _ in found} <= possible
        assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)


def test_rows_answer_as_brute_force_does(bench: Any, tmp_path: Any, make: Any) -> None:
    ids = fill(bench, make, make.vectors(300, 96))
    index = opened(bench, tmp_path / "v")
    wheres = [
        Where(),
        Where(roots=frozenset({2})),
        Where(roots=frozenset({1}), languages=frozenset({"python", "rust"})),
        Where(kinds=frozenset({"class"}), keep=lambda id_: id_ % 2 == 0),
        Where(keep=lambda id_: id_ in ids[:3]),
        Where(roots=frozenset({7})),
        Where(languages=frozenset()),
    ]

    def check_all() -> None:
        truth = Brute(bench)
        for question in make.vectors(4, 96, seed=5):
            for where in wheres:
                check_exact(index, truth.cosines(question, where), question, where)

    check_all()
    # Then edits of every kind, so that rows are freed, reused and grown.
    bench.do(lambda txn: [txn.delete_unit(id_) for id_ in ids[::4]])
    check_all()
    fill(bench, make, make.vectors(40, 96, seed=1))
    bench.do(lambda txn: [txn.attach(ids[1], make.vectors(1, 96, seed=3)[0]), txn.attach(ids[2], None)])
    check_all()
    fill(bench, make, make.vectors(1500, 96, seed=2))
    check_all()
    assert index.statistics()["elements"] == len(Brute(bench).ids)
    # Edits at a steady size take no more memory: freed rows are used again.
    sizes = set()
    for n in range(12):
        some = fill(bench, make, make.vectors(300, 96, seed=n))
        bench.do(lambda txn, some=some: [txn.delete_unit(id_) for id_ in some])
        sizes.add(index.statistics()["bytes"])
    assert len(sizes) == 1


def test_an_empty_index_answers_nothing(bench: Any, tmp_path: Any, make: Any) -> None:
    index = opened(bench, tmp_path / "v")
    (question,) = make.vectors(1, 64)
    assert index.nearest(question, 5) == index.within(question, 0.0) == []
    (a,) = fill(bench, make, make.vectors(1, 64))
    assert [id_ for id_, _ in index.nearest(question, 5)] == [a]
    assert index.nearest(question, 0) == []
    bench.do(lambda txn: txn.delete_unit(a))
    assert index.nearest(question, 5) == []
    assert index.nearest(np.zeros(64, np.float32), 5) == []


def test_a_question_of_any_length_is_the_same(bench: Any, tmp_path: Any, make: Any) -> None:
    fill(bench, make, make.vectors(50, 64))
    index = opened(bench, tmp_path / "v")
    (question,) = make.vectors(1, 64, seed=3)
    expected = index.nearest(question, 5)
    for other in (question * 9, question.astype(np.float64), question[::-1].copy()[::-1]):
        found = index.nearest(other, 5)
        assert [id_ for id_, _ in found] == [id_ for id_, _ in expected]


def test_models_of_other_dimensions_do_not_mix(bench: Any, tmp_path: Any, make: Any) -> None:
    old, new = make.vectors(6, 64), make.vectors(6, 48)
    ids = fill(bench, make, old)
    index = opened(bench, tmp_path / "v")
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids[:2], new, strict=False)])
    for _ in range(2):
        assert {id_ for id_, _ in index.nearest(old[0], 9)} == set(ids[2:])
        assert {id_ for id_, _ in index.nearest(new[0], 9)} == set(ids[:2])
        assert index.nearest(np.ones(32, np.float32), 9) == []
        index = opened(bench, tmp_path / "v")


def near(vectors: Any, n: int, seed: int = 9) -> Any:
    """Questions as they come: close to something that is there, equal to nothing."""
    random = np.random.default_rng(seed)
    chosen = vectors[random.choice(len(vectors), n, replace=False)]
    moved = chosen + 0.5 / np.sqrt(vectors.shape[1]) * random.standard_normal(chosen.shape)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def recall(found: list[list[int]], truth: list[list[int]]) -> float:
    return sum(len(set(a) & set(b)) for a, b in zip(found, truth, strict=True)) / sum(map(len, truth))


def test_signs_find_what_brute_force_does(bench: Any, tmp_path: Any, make: Any) -> None:
    vectors = make.vectors(6_000, 128)
    ids = fill(bench, make, vectors)
    index = opened(bench, tmp_path / "v", hamming_rows=1_000)
    assert index.statistics()["kind"] == "signs"
    for where in (Where(), Where(roots=frozenset({1})), Where(keep=lambda id_: id_ % 3 > 0)):
        truth = Brute(bench)
        found, expected = [], []
        for question in near(truth.vectors, 20):
            cosines = truth.cosines(question, where)
            found.append([id_ for id_, _ in index.nearest(question, 10, where)])
            expected.append(sorted(cosines, key=lambda id_: -cosines[id_])[:10])
        assert recall(found, expected) >= 0.95
        # Changed rows have changed signs.
        bench.do(lambda txn, gone=ids[:1_500]: [txn.delete_unit(id_) for id_ in gone])
        ids = ids[1_500:] + fill(bench, make, make.vectors(1_200, 128, seed=len(ids)))
    (question,) = make.vectors(1, 128, seed=10)
    check_exact_within(index, Brute(bench).cosines(question), question)


def check_exact_within(index: VectorIndex, truth: dict[int, float], question: Any) -> None:
    for threshold in (0.2, 0.4):
        found = {id_ for id_, _ in index.within(question, threshold)}
        assert {id_ for id_, c in truth.items() if c >= threshold + 2e-5} <= found
        assert found <= {id_ for id_, c in truth.items() if c >= threshold - 2e-5}


def test_the_graph_is_forced_on_few_units(bench: Any, tmp_path: Any, make: Any) -> None:
    ids = fill(bench, make, make.vectors(2_000, 96))
    index = opened(bench, tmp_path / "v", graph_rows=500)
    assert index.statistics()["kind"] == "exact"
    index.settle()
    assert index.statistics()["kind"] == "hnsw"

    def check(n_least: int) -> None:
        truth = Brute(bench)
        found, expected = [], []
        for question in near(truth.vectors, 30):
            cosines = truth.cosines(question)
            answer = index.nearest(question, 10)
            assert all(abs(cosines[id_] - cosine) < 2e-5 for id_, cosine in answer)
            found.append([id_ for id_, _ in answer])
            expected.append(sorted(cosines, key=lambda id_: -cosines[id_])[:10])
        assert recall(found, expected) >= 0.95
        assert len(truth.ids) >= n_least
        (question,) = make.vectors(1, 96, seed=11)
        assert len(index.nearest(question, len(truth.ids) + 10)) >= 0.95 * len(truth.ids)

    check(2_000)
    # What the graph does not know yet is searched beside it: new, replaced and deleted units, seen at once.
    new = fill(bench, make, make.vectors(50, 96, seed=4))
    moved = make.vectors(50, 96, seed=6)
    bench.do(lambda txn: [txn.attach(id_, vector) for id_, vector in zip(ids[:50], moved, strict=True)])
    bench.do(lambda txn: [txn.delete_unit(id_) for id_ in ids[100:200]])
    bench.do(lambda txn: txn.attach(ids[60], None))
    assert index.statistics()["waiting"] == 201
    assert index.nearest(moved[0], 1)[0][0] == ids[0]
    check(1_900)
    index.settle()
    assert index.statistics()["waiting"] == 0
    assert index.statistics()["deleted"] == 101
    assert index.nearest(moved[0], 1)[0][0] == ids[0]
    check(1_900)
    assert new[0] in {id_ for id_, _ in index.nearest(make.vectors(50, 96, seed=4)[0], 1)}
    bench.do(lambda txn: txn.attach(ids[60], moved[1]))  # deleted in the graph, and back
    index.settle()
    check(1_900)


def test_the_graph_is_compacted_and_dropped(bench: Any, tmp_path: Any, make: Any) -> None:
    ids = fill(bench, make, make.vectors(3_000, 16))
    index = opened(bench, tmp_path / "v", graph_rows=500)
    index.settle()
    bench.do(lambda txn: [txn.delete_unit(id_) for id_ in ids[:1_500]])
    index.settle()
    assert index.statistics()["deleted"] <= 1_000
    index.settle()
    assert index.statistics()["kind"] == "hnsw"
    bench.do(lambda txn: [txn.delete_unit(id_) for id_ in ids[1_500:2_900]])
    index.settle()
    assert index.statistics()["kind"] == "exact"
    (question,) = make.vectors(1, 16)
    assert len(index.nearest(question, 200)) == 100


def test_the_graph_keeps_to_its_memory(bench: Any, tmp_path: Any, make: Any) -> None:
    fill(bench, make, make.vectors(3_000, 128))
    for max_mb, kind in ((0, "exact"), (1, "exact"), (8, "hnsw")):
        index = opened(bench, tmp_path / "v", graph_rows=500, max_mb=max_mb)
        index.settle()
        assert index.statistics()["kind"] == kind


def test_the_thread_builds_and_close_saves(bench: Any, tmp_path: Any, make: Any) -> None:
    fill(bench, make, make.vectors(1_000, 32))
    index = VectorIndex(str(tmp_path / "v"), graph_rows=500)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    deadline = time.monotonic() + 60
    while index.statistics()["kind"] != "hnsw":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    index.close()
    assert {"vectors.hnsw", "vectors.json"} <= set(os.listdir(tmp_path / "v"))


def test_the_graph_is_saved_once_it_is_quiet(
    bench: Any, tmp_path: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegraphd.store import ann

    monkeypatch.setattr(ann, "SAVE_QUIET_S", 0.2)
    index = VectorIndex(str(tmp_path / "v"), graph_rows=500)
    bench.writer.add_listener(index.apply)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    fill(bench, make, make.vectors(700, 32))
    seal = tmp_path / "v" / "vectors.json"
    deadline = time.monotonic() + 60
    while not (seal.exists() and json.loads(seal.read_text())["live"] == 700):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    written = seal.stat().st_mtime_ns
    fill(bench, make, make.vectors(5, 32, seed=1))  # too few to write the whole again
    time.sleep(0.6)
    index.close()
    assert seal.stat().st_mtime_ns == written
    again = opened(bench, tmp_path / "v", graph_rows=500)
    assert (again.statistics()["kind"], again.statistics()["waiting"]) == ("hnsw", 5)


def test_questions_while_the_graph_grows(bench: Any, tmp_path: Any, make: Any) -> None:
    """hnswlib fails when a question meets an addition; here none ever does, and every answer is whole."""
    fill(bench, make, make.vectors(1_500, 48))
    index = opened(bench, tmp_path / "v", graph_rows=100)
    index.settle()
    questions = make.vectors(50, 48, seed=3)
    wrong: list[Any] = []
    done = threading.Event()

    def ask(seed: int) -> None:
        try:
            while not done.is_set():
                answer = index.nearest(questions[seed], 10)
                if len(answer) != 10 or len({id_ for id_, _ in answer}) != 10:
                    wrong.append(answer)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for n in range(6):
        some = fill(bench, make, make.vectors(60, 48, seed=20 + n))
        index.settle()
        bench.do(lambda txn, some=some: [txn.delete_unit(id_) for id_ in some[::2]])
        index.settle()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- the graph's file ------------------------------------------------------------------------------------------------


def saved(bench: Any, directory: Any, make: Any) -> list[int]:
    ids = fill(bench, make, make.vectors(800, 32))
    index = opened(bench, directory, graph_rows=500)
    index.settle()
    index.close()
    return ids


def test_the_saved_graph_is_used_and_catches_up(bench: Any, tmp_path: Any, make: Any) -> None:
    ids = saved(bench, tmp_path / "v", make)
    (moved, other) = make.vectors(2, 32, seed=8)
    bench.do(lambda txn: (txn.attach(ids[0], moved), txn.delete_unit(ids[1]), txn.attach(ids[2], other)))
    index = opened(bench, tmp_path / "v", graph_rows=500)
    assert (index.statistics()["kind"], index.statistics()["waiting"]) == ("hnsw", 3)
    assert index.nearest(moved, 1)[0][0] == ids[0]
    assert ids[1] not in {id_ for id_, _ in index.nearest(moved, 799)}
    index.settle()
    assert index.nearest(other, 1)[0][0] == ids[2]
    assert (index.statistics()["waiting"], index.statistics()["deleted"]) == (0, 1)


def change_seal(directory: Any, **changes: Any) -> None:
    seal = json.loads((directory / "vectors.json").read_text())
    (directory / "vectors.json").write_text(json.dumps(seal | changes))


def flip(path: Any, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: flip(d / "vectors.hnsw", 10),
        lambda d: flip(d / "vectors.hnsw", 50_000),
        lambda d: os.truncate(d / "vectors.hnsw", 1_000),
        lambda d: (d / "vectors.hnsw").unlink(),
        lambda d: (d / "vectors.hnsw").write_bytes(b""),
        lambda d: (d / "vectors.json").unlink(),
        lambda d: (d / "vectors.json").write_text("{}"),
        lambda d: (d / "vectors.json").write_text("["),
        lambda d: change_seal(d, dim=48),
        lambda d: change_seal(d, format=2),
        lambda d: change_seal(d, store="another"),
        lambda d: change_seal(d, live=3),
        lambda d: change_seal(d, clock=10**9),
    ],
    ids="flip-head flip-body cut gone empty no-seal no-fields no-json dim format store count future".split(),  # noqa: SIM905
)
def test_fault_27_a_spoiled_graph_is_built_again(bench: Any, tmp_path: Any, make: Any, spoil: Any) -> None:
    saved(bench, tmp_path / "v", make)
    spoil(tmp_path / "v")
    index = opened(bench, tmp_path / "v", graph_rows=500)
    assert index.statistics()["kind"] == "exact"
    (question,) = make.vectors(1, 32, seed=8)
    before = index.nearest(question, 5)
    index.settle()
    index.close()
    assert index.statistics()["kind"] == "hnsw"
    assert index.nearest(question, 5) == before
    again = opened(bench, tmp_path / "v", graph_rows=500)
    assert again.statistics()["kind"] == "hnsw"


KILLED = """
    import sys
    import numpy as np
    from codegraphd.store import compress
    from codegraphd.store.ann import VectorIndex
    from codegraphd.store.env import Store

    store = Store.open(sys.argv[1], read_only=True)
    index = VectorIndex(sys.argv[2], graph_rows=500, behind=False)
    with store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    index.settle()
    for n in range(10_000):
        index._n_unsaved = 10**6
        index.save()
        print(n, flush=True)
"""


def test_fault_27_killed_while_the_graph_is_saved(tmp_path: Any, make: Any) -> None:
    directory = tmp_path / "v"
    with make.bench(str(tmp_path / "db")) as bench:
        saved(bench, directory, make)
    kinds = []
    for round_ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "db"), str(directory)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        for n, _ in enumerate(child.stdout):
            if n == 3 * round_:
                break
        child.kill()
        child.communicate()
        with make.bench(str(tmp_path / "db")) as bench:
            index = opened(bench, directory, graph_rows=500)
            kinds.append(index.statistics()["kind"])
            truth = Brute(bench)
            for question in make.vectors(5, 32, seed=8):
                cosines = truth.cosines(question)
                best = sorted(cosines, key=lambda id_: -cosines[id_])[:5]
                assert len({id_ for id_, _ in index.nearest(question, 5)} & set(best)) >= 4
    assert set(kinds) <= {"exact", "hnsw"}  # either whole or noticed


def test_a_save_that_fails_is_no_file(bench: Any, tmp_path: Any, make: Any) -> None:
    fill(bench, make, make.vectors(800, 32))
    (tmp_path / "v").write_text("in the way")
    index = opened(bench, tmp_path / "v", graph_rows=500)
    index.settle()
    index.close()
    assert index.statistics()["kind"] == "hnsw"


def test_what_is_heard_before_the_rows_are_read_wins(bench: Any, tmp_path: Any, make: Any) -> None:
    old, new = make.vectors(2, 32)
    ids = fill(bench, make, [old, old])
    index = VectorIndex(str(tmp_path / "v"), behind=False)
    with bench.store.snapshot() as snapshot:
        record = snapshot.unit(ids[0])
        index.apply(snapshot.clock + 1, Delta(deleted={ids[1]}, vectors={ids[0]: (record, compress.encode(new))}))
        index.open_or_rebuild(snapshot)
    assert [id_ for id_, _ in index.nearest(new, 2)] == [ids[0]]
    assert index.nearest(new, 2)[0][1] > 0.99
