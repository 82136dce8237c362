"""The word index: the same answers from the overlay and from tantivy, at once, after kills and damage."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegraphd.store.journal import Delta
from codegraphd.store.lexical import WordIndex
from codegraphd.store.overlay import path_words
from codegraphd.store.records import RootRecord, Where, Words


def opened(bench: Any, directory: Any, *, behind: bool = False) -> WordIndex:
    index = WordIndex(str(directory), behind=behind)
    bench.writer.add_listener(index.apply)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    return index


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pkg/HttpServer/io_loop.py", "pkg http server io loop"),
        ("a.b/c.d.e", "a b c d"),
        ("HTTPServer2.java", "http server 2"),
        (".github/x", "github x"),
        ("\udcff/ünï.py", "ünï"),
        ("", ""),
    ],
)
def test_words_of_a_path(path: str, words: str) -> None:
    assert path_words(path) == words


def test_a_change_is_seen_at_once(bench: Any, tmp_path: Any) -> None:
    index = opened(bench, tmp_path / "words")
    a, b = bench.add_file("a.py", ["load", "save"], words="open the config file")

    def found(*terms: str) -> set[int]:
        return {id_ for id_, _ in index.query(terms, 10)}

    assert (found("load"), found("config"), found("nothing")) == ({a}, {a, b}, set())
    index.commit()
    assert (found("load"), found("config")) == ({a}, {a, b})
    bench.do(lambda txn: txn.put_words(a, Words("load", "", "parse yaml")))
    assert (found("config"), found("yaml"), found("load")) == ({b}, {a}, {a})
    bench.do(lambda txn: txn.delete_unit(b))
    assert (found("config"), found("save"), found("load")) == (set(), set(), {a})
    index.commit()
    assert (found("config"), found("yaml"), found("load")) == (set(), {a}, {a})
    assert index.statistics()["pending"] == 0
    index.close()


def test_a_change_during_a_commit_is_not_lost(bench: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened(bench, tmp_path / "words")
    a, b = bench.add_file("a.py", ["load", "save"])
    put_all = index._put_all

    def meanwhile(writer: Any, entries: Any) -> None:
        put_all(writer, entries)
        bench.do(lambda txn: (txn.put_words(a, Words("reload", "", "")), txn.delete_unit(b)))

    with monkeypatch.context() as patched:
        patched.setattr(index, "_put_all", meanwhile)
        assert index.commit() == 2
    for n_waiting in (2, 0):
        found = {name: {id_ for id_, _ in index.query([name], 5)} for name in ("load", "save", "reload")}
        assert found == {"load": set(), "save": set(), "reload": {a}}
        assert index.statistics()["pending"] == n_waiting
        index.commit()
    index.close()


def test_names_weigh_more_than_bodies(bench: Any, tmp_path: Any) -> None:
    index = opened(bench, tmp_path / "words")
    (named,) = bench.add_file("a.py", ["retry"], words="do it all over and over")
    (bodied,) = bench.add_file("b.py", ["other"], words="retry it all over and over")
    bench.add_file("c.py", ["x", "y", "z"])
    for commit in (False, True):
        if commit:
            index.commit()
        assert [id_ for id_, _ in index.query(["retry"], 2)] == [named, bodied]
        assert [id_ for id_, _ in index.query(["retry", "retry", ""], 1)] == [named]
        assert index.query([], 5) == index.query(["retry"], 0) == []
    index.close()


def test_filters(bench: Any, tmp_path: Any, make: Any) -> None:
    index = opened(bench, tmp_path / "words")
    rows = [(1, "python", "function"), (1, "python", "class"), (1, "go", "function"), (2, "go", "class")]

    def fill(txn: Any) -> list[int]:
        ids = [txn.new_id() for _ in rows]
        for id_, (root, language, kind) in zip(ids, rows, strict=True):
            txn.put_unit(make.record(id_, "load", root=root, language=language, kind=kind))
            txn.put_words(id_, Words("load", "", "load"))
        return ids

    ids = bench.do(fill)
    for commit in (False, True):
        if commit:
            index.commit()

        def check(where: Where, expected: list[int], k: int = 10) -> None:
            assert sorted(id_ for id_, _ in index.query(["load"], k, where)) == [ids[n] for n in expected]

        check(Where(), [0, 1, 2, 3])
        check(Where(roots=frozenset({1})), [0, 1, 2])
        check(Where(roots=frozenset({1, 2}), languages=frozenset({"go"})), [2, 3])
        check(Where(kinds=frozenset({"class", "method"})), [1, 3])
        check(Where(roots=frozenset({2}), kinds=frozenset({"function"})), [])
        check(Where(roots=frozenset()), [])
        check(Where(keep=lambda id_: id_ == ids[2]), [2], k=1)
        check(Where(languages=frozenset({"go"}), keep=lambda id_: id_ != ids[2]), [3])
    index.close()


VOCABULARY = [f"w{n}" for n in range(12)]
texts = st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join)
edits = st.lists(st.tuples(st.integers(1, 12), st.none() | st.tuples(texts, texts, texts)), max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(edits, st.booleans()), max_size=4), st.lists(st.sampled_from(VOCABULARY), max_size=3))
def test_overlay_and_index_agree(tmp_path_factory: Any, make: Any, rounds: Any, terms: list[str]) -> None:
    """However the edits are split between overlay and index, the same units are found, at nearly the same scores."""
    with make.bench(str(tmp_path_factory.mktemp("db")), volatile=True) as bench:
        split = opened(bench, tmp_path_factory.mktemp("split"))
        bench.do(lambda txn: [txn.new_id() for _ in range(30)])
        live: dict[int, tuple[str, str, str]] = {}

        def apply(txn: Any, some: Any) -> None:
            for id_, words in some:
                if words is None:
                    txn.delete_unit(id_)
                    live.pop(id_, None)
                else:
                    txn.put_unit(make.record(id_, "f"))
                    txn.put_words(id_, Words(*words))
                    live[id_] = words

        for some, commit in rounds:
            bench.do(lambda txn, some=some: apply(txn, some))
            if commit:
                split.commit()
            hits = split.query(terms, 100)
            expected = {id_ for id_, words in live.items() if set(terms) & set(" ".join(words).split())}
            assert {id_ for id_, _ in hits} == expected
            assert all(score > 0 for _, score in hits)
            assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
        split.close()


def test_overlay_scores_as_the_index_does(bench: Any, tmp_path: Any, make: Any) -> None:
    """Among units enough for statistics: put again, a unit scores from the overlay what it scored from the index."""
    draw = random.Random(7)
    vocabulary = [f"w{n}" for n in range(300)]
    weights = [1 / (n + 1) for n in range(300)]

    def text(n: int) -> str:
        return " ".join(draw.choices(vocabulary, weights, k=n))

    def fill(txn: Any) -> dict[int, Words]:
        words = {}
        for _ in range(600):
            id_ = txn.new_id()
            words[id_] = Words(text(3), text(8), text(draw.randint(20, 200)))
            txn.put_unit(make.record(id_, "f"))
            txn.put_words(id_, words[id_])
        return words

    words = bench.do(fill)
    index = opened(bench, tmp_path / "words")
    questions = [draw.choices(vocabulary, k=3) for _ in range(30)]
    before = [dict(index.query(terms, 600)) for terms in questions]
    some = draw.sample(sorted(words), 60)
    delta = Delta(words={id_: (make.record(id_, "f"), words[id_]) for id_ in some})
    index.apply(99, delta)
    assert index.statistics()["pending"] == 60
    for terms, scores in zip(questions, before, strict=True):
        after = dict(index.query(terms, 600))
        assert after.keys() == scores.keys()
        for id_ in some:
            if id_ in scores:
                assert after[id_] == pytest.approx(scores[id_], rel=0.05)
    index.close()


def test_it_commits_behind_and_seals_itself(bench: Any, tmp_path: Any) -> None:
    index = opened(bench, tmp_path / "words", behind=True)
    (a,) = bench.add_file("a.py", ["load"])
    until(lambda: index.statistics()["documents"] == 1)
    until(lambda: os.path.exists(tmp_path / "words" / "seal.json"))
    bench.do(lambda txn: txn.delete_unit(a))
    until(lambda: index.statistics()["documents"] == 0)
    index.close()


def test_it_reopens_by_its_seal_and_catches_up(bench: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opened(bench, tmp_path / "words")
    a, b = bench.add_file("a.py", ["load", "save"])
    index.close()
    (c,) = bench.add_file("b.py", ["later"])  # the index hears of it, closed: lost to its files
    bench.do(lambda txn: txn.delete_unit(b))
    monkeypatch.setattr(WordIndex, "_rebuild", lambda *_: pytest.fail("built again"))
    index = opened(bench, tmp_path / "words")
    found = {name: {id_ for id_, _ in index.query([name], 5)} for name in ("load", "save", "later")}
    assert found == {"load": {a}, "save": set(), "later": {c}}
    index.close()


def test_fault_27_another_stores_index_is_not_used(bench: Any, tmp_path: Any, make: Any) -> None:
    opened(bench, tmp_path / "words").close()
    with make.bench(str(tmp_path / "other")) as other:
        (a,) = other.add_file("z.py", ["zebra"])
        index = opened(other, tmp_path / "words")
        assert [id_ for id_, _ in index.query(["zebra"], 5)] == [a]
        index.close()


def flip(path: str, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "no seal", "seal of nonsense", "empty"])
@pytest.mark.parametrize("suffix", [".idx", ".term", ".store", ".fast", "meta.json"])
def test_fault_27_damaged_files_are_noticed(bench: Any, tmp_path: Any, damage: str, suffix: str) -> None:
    index = opened(bench, tmp_path / "words")
    ids = [bench.add_file(f"{n}.py", ["load", "save"])[0] for n in range(30)]
    index.close()
    folder = tmp_path / "words" / "index"
    (name,) = [name for name in os.listdir(folder) if name.endswith(suffix)]
    file, seal = folder / name, tmp_path / "words" / "seal.json"
    match damage:
        case "flip":
            flip(str(file), os.path.getsize(file) // 2)
        case "cut":
            os.truncate(file, os.path.getsize(file) // 2)
        case "remove":
            file.unlink()
        case "no seal":
            seal.unlink()
        case "seal of nonsense":
            seal.write_text("{")
        case "empty":
            file.write_bytes(b"")
    index = opened(bench, tmp_path / "words")
    assert index.problem is None
    assert sorted(id_ for id_, _ in index.query(["load"], 100)) == ids
    index.close()


KILLED = """
    import sys
    from codegraphd.store.env import Store
    from codegraphd.store.lexical import WordIndex
    from codegraphd.store.records import RootRecord, Unit, UnitRecord, Words, digest
    from codegraphd.store.writer import Writer

    store = Store.open(sys.argv[1])
    index = WordIndex(sys.argv[2], behind=False)
    writer = Writer(store, [index.apply])
    with store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)

    def commit(txn):
        id_ = txn.new_id()
        d = digest(str(id_))
        u = Unit("function", f"f{id_}", f"f{id_}", 0, -1, 0, 9, 1, 2, "def f()", (), (), "", 0, d, d, d, d)
        txn.put_unit(UnitRecord(id_, 1, 1, "a.py", "python", 0, u))
        txn.put_words(id_, Words(f"f{id_}", "", "body"))
        if id_ > 5:
            txn.delete_unit(id_ - 5)
        return id_

    while True:
        n = writer.submit(commit).result()
        index.commit()
        if n % 3 == 0:
            index._seal()
        print(n, flush=True)
"""


def test_fault_27_killed_while_the_index_is_saved(tmp_path: Any, make: Any) -> None:
    for round_ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "db"), str(tmp_path / "words")],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        for n, _ in enumerate(child.stdout):
            if n == 4 + round_:
                break
        child.kill()
        child.communicate()
        with make.bench(str(tmp_path / "db")) as bench:
            index = opened(bench, tmp_path / "words")
            stored = bench.ask(lambda s: {id_ for id_, _, _ in s.all_words()})
            assert {id_ for id_, _ in index.query(["body"], 100)} == stored
            assert len(stored) == 5
            index.close()


def test_a_broken_index_goes_on_from_the_overlay_and_is_mended(bench: Any, tmp_path: Any) -> None:
    index = opened(bench, tmp_path / "words")
    (a,) = bench.add_file("a.py", ["load"])
    index.commit()

    class Panic(BaseException):
        """tantivy's panics are no Exception either."""

    class Broken:
        num_docs = num_segments = 1

        def doc_freq(self, field: str, word: str) -> int:
            return 1

        def search(self, *_: Any, **__: Any) -> None:
            raise Panic("called `Option::unwrap()` on a `None` value")

    index._searcher = Broken()
    (b,) = bench.add_file("b.py", ["load"])
    assert [id_ for id_, _ in index.query(["load"], 5)] == [b]
    assert (index.is_ready, "unwrap" in (index.problem or "")) == (False, True)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    assert (index.is_ready, index.problem) == (True, None)
    assert {id_ for id_, _ in index.query(["load"], 5)} == {a, b}
    index.close()


def is_removed(directory: Path) -> bool:
    """Removes it; False where the index wrote into it meanwhile."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def test_fault_27_an_index_removed_under_the_daemon_is_built_again(
    bench: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegraphd.store import lexical

    monkeypatch.setattr(lexical, "RETRY_S", 0.05)
    monkeypatch.setattr(lexical, "QUIET_S", 0.05)
    index = WordIndex(str(tmp_path / "words"), snapshots=bench.store.snapshot)
    bench.writer.add_listener(index.apply)
    with bench.store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    (a,) = bench.add_file("a.py", ["load"])
    until(lambda: index.statistics()["documents"] == 1)
    until(lambda: is_removed(tmp_path / "words"))
    (b,) = bench.add_file("b.py", ["load"])
    assert b in {id_ for id_, _ in index.query(["load"], 5)}
    until(lambda: index.statistics()["documents"] == 2)
    assert {id_ for id_, _ in index.query(["load"], 5)} == {a, b}
    until(lambda: index.problem is None and (tmp_path / "words" / "seal.json").exists())
    index.close()


def test_words_that_are_no_text(bench: Any, tmp_path: Any) -> None:
    index = opened(bench, tmp_path / "words")
    (a,) = bench.add_file("\udcff.py", ["load"], words="caf\udce9 latte")
    index.commit()
    assert [id_ for id_, _ in index.query(["latte"], 5)] == [a]
    assert index.query(["caf\udce9"], 5) in ([], [(a, pytest.approx(1, abs=9))])
    assert index.problem is None
    index.close()


def test_a_directory_that_cannot_be_written_means_memory(bench: Any, tmp_path: Any) -> None:
    (a,) = bench.add_file("a.py", ["load"])
    (tmp_path / "words").write_text("in the way")
    index = opened(bench, tmp_path / "words")
    (b,) = bench.add_file("b.py", ["load"])
    index.commit()
    assert {id_ for id_, _ in index.query(["load"], 5)} == {a, b}
    assert index.is_ready
    assert RootRecord(1, "/work") in bench.ask(lambda s: s.roots())
    index.close()


FULL = """
    import os, resource, sys
    from codegraphd.store.env import Store
    from codegraphd.store.lexical import WordIndex
    from codegraphd.store.records import Unit, UnitRecord, digest, Words
    from codegraphd.store.journal import Delta

    def put(first, last):
        words = {}
        for id_ in range(first, last):
            d = digest(str(id_))
            u = Unit("function", "f", "f", 0, -1, 0, 9, 1, 2, "def f()", (), (), "", 0, d, d, d, d)
            text = " ".join(digest(str(id_ * 50 + n)).hex() for n in range(50))
            words[id_] = (UnitRecord(id_, 1, 1, "a.py", "python", 0, u), Words(f"f{id_}", "", text))
        index.apply(last, Delta(words=words))

    store = Store.open(sys.argv[1])
    index = WordIndex(sys.argv[2], behind=False)
    with store.snapshot() as snapshot:
        index.open_or_rebuild(snapshot)
    put(1, 100)
    assert index.commit() == 99
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    put(100, 1000)
    for _ in range(2):
        assert index.commit() == 0
        assert index.is_ready and index.problem, index.problem
        assert index.query(["f50"], 5)[0][0] == 50
        assert index.query(["f500"], 5)[0][0] == 500
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert index.commit() == 900
    assert index.problem is None
    assert index.query(["f500"], 5)[0][0] == 500
    print(index.statistics()["documents"])
"""


def test_fault_28_no_room_for_the_word_index(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path / "db"), str(tmp_path / "words")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "999"), done.stderr
