"""The feeder over a real store: texts of files that have moved on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.lab import MODEL, OTHER, ROOT, Lab, vector_of
from codegraphd.daemon.analysis.parse import render, render_flows
from codegraphd.daemon.embedding.feeder import BATCH_UNITS, TRIES, Feeder, Shared
from codegraphd.daemon.embedding.feeders import load
from codegraphd.daemon.engine import NEW, NOW, Edition, Outcome, Settings
from codegraphd.daemon.graph.index import Stage
from codegraphd.daemon.parsers import Rendered
from codegraphd.store.records import Batch, FileRecord, Recipe


class Bench:
    """A feeder, what the model was sent, and a disk whose files may be other ones than those that are indexed."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.disk = lab, dict(lab.sources)
        self.sent: list[Batch] = []
        self.shared = Shared()
        self.reads_flow = False
        self.batches = 2
        self.commits: list[bool] = []  # of each: whether it goes before bulk
        self.rendering: list[Callable[[], None]] | None = None  # a list: texts come once these are called
        self.feeder = self.make_feeder(lab.editions[0])

    def make_feeder(self, edition: Edition) -> Feeder:
        snapshot, settings = self.lab.store.snapshot, self.lab.settings
        return Feeder(snapshot, self, self._render, self._submit, settings, edition, self.shared)

    def submit(self, batch: Batch) -> None:
        self.sent.append(batch)

    def _render(
        self, file: FileRecord, flows: tuple[int, ...], _: bool, done: Callable[[Rendered | None], None]
    ) -> None:
        source = self.disk.get(file.path, b"")
        found = Rendered(*render_flows(file.path, source, flows))
        answer = found if source == self.lab.sources[file.path] else None
        if self.rendering is None:
            done(answer)
        else:
            self.rendering.append(lambda: done(answer))

    def _submit(self, job: Callable[[Any], Outcome], interactive: bool, then: Callable[[Any], None]) -> None:
        self.commits.append(interactive)
        future = self.lab.writer.submit(job)
        future.result()
        then(future)

    def index(self, **sources: str) -> None:
        """Modules by name."""
        files = {f"{name}.py": source.encode() for name, source in sources.items()}
        self.lab.index(files)
        self.lab.sources.update(files)
        self.disk.update(files)

    def queue(self, priority: int = NOW) -> None:
        with self.lab.store.snapshot() as view:
            for unit, _ in view.queued(Stage.EMBED):
                self.feeder.backlog.add(unit, ROOT, priority, 0.0)

    def told(self) -> list[tuple[bool, int]]:
        """Of each batch that was sent: whether it is urgent, how many texts."""
        return [(batch.urgent, len(batch.inputs)) for batch in self.sent]

    def answer(self) -> None:
        for batch in self.sent:
            keys = self.feeder.keys_of(batch.id)
            self.feeder.embedded(batch.id, MODEL, [vector_of(MODEL, key) for key in keys], keys)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    lab = Lab(tmp_path, Settings())
    lab.index({"a.py": b"def f():\n    return 1\n"})
    lab.sources["a.py"] = b"def f():\n    return 1\n"
    yield Bench(lab)
    lab.close()


def test_the_data_flow_goes_along_where_the_model_reads_it(bench: Bench) -> None:
    bench.queue()
    bench.feeder.pump(0.0)
    (plain,) = bench.sent
    assert [item.flow for item in plain.inputs] == [None]
    bench.answer()
    bench.sent.clear()
    bench.reads_flow = True
    bench.lab.index({"a.py": b"def f(x):\n    return x\n"})
    bench.lab.sources["a.py"] = bench.disk["a.py"] = b"def f(x):\n    return x\n"
    bench.queue()
    bench.feeder.pump(0.0)
    (batch,) = bench.sent
    (item,) = batch.inputs
    assert item.flow is not None
    assert " ".join(item.flow.tokens) == "def f ( x ) : return x"
    assert item.flow.variables == ((3, ()), (7, (3,)))


def test_a_text_that_could_not_be_had_is_sent_once_files_are_read_again(bench: Bench) -> None:
    """Two saves in a row: the second one's bytes lie on the disk when the text of the first one is wanted."""
    bench.disk["a.py"] = b"def f():\n    return 1\n\n# saved again\n"
    bench.queue()
    bench.feeder.pump(0.0)
    assert bench.sent == []
    bench.lab.index({"a.py": bench.disk["a.py"]})
    bench.lab.sources["a.py"] = bench.disk["a.py"]
    bench.feeder.files_read(0.1)
    bench.feeder.pump(0.1)  # not after the pause between tries
    (batch,) = bench.sent
    assert [item.text for item in batch.inputs] == list(render("a.py", bench.disk["a.py"]))
    bench.answer()
    assert bench.feeder.is_idle
    with bench.lab.store.snapshot() as view:
        assert view.counts(ROOT)[3] == 1


def test_a_new_text_is_not_sent_under_the_key_of_the_old_one(bench: Bench) -> None:
    """The step that wrote the unit was cut short before its recipe: whoever has the old text would get that vector."""
    with bench.lab.store.snapshot() as view:
        (unit,) = view.units(ROOT)
        state = view.state(unit.id)
    assert state is not None
    old = replace(state, recipe=Recipe(b"key of the old text", b""))
    bench.lab.writer.submit(lambda txn: txn.put_state(unit.id, old)).result()
    bench.queue()
    bench.feeder.pump(0.0)
    assert bench.sent == []
    bench.lab.writer.submit(lambda txn: txn.put_state(unit.id, state)).result()
    bench.feeder.files_read(0.1)
    bench.feeder.pump(0.1)
    assert [item.key for batch in bench.sent for item in batch.inputs] == [state.recipe and state.recipe.own]


def test_a_unit_that_was_given_up_is_tried_again_once_files_are_read(bench: Bench) -> None:
    """A file that is written all the time: its units' texts cannot be had until it rests."""
    indexed = bench.disk["a.py"]
    bench.disk["a.py"] = b""
    bench.queue()
    for n in range(TRIES + 1):
        bench.feeder.tick(1000.0 * n)
    assert (bench.sent, bench.feeder.is_idle) == ([], True)
    bench.disk["a.py"] = indexed
    bench.feeder.files_read(9000.0)
    bench.feeder.pump(9000.0)
    assert len(bench.sent) == 1


def test_fault_24_a_text_that_two_editions_want_is_sent_once(bench: Bench) -> None:
    lab = bench.lab
    lab.begin(MODEL, faces=True)
    lab.fill()
    other = bench.make_feeder(lab.editions[1])
    bench.queue()
    with lab.store.snapshot() as view:
        load(other, view)
    bench.feeder.pump(0.0)
    other.pump(0.0)
    assert [len(batch.inputs) for batch in bench.sent] == [1]  # the other one's waits for it
    bench.answer()
    assert bench.feeder.is_idle
    other.tick(1.0)
    assert [len(batch.inputs) for batch in bench.sent] == [1, 1]  # its context alone
    own, context = (batch.inputs[0].key for batch in bench.sent)
    assert own != context
    other.embedded(bench.sent[1].id, MODEL, [vector_of(MODEL, context)], [context])
    assert other.is_idle
    assert lab.differences() == []


def test_fault_24_vectors_of_a_model_that_took_over_are_not_taken(bench: Bench) -> None:
    bench.queue()
    bench.feeder.pump(0.0)
    (batch,) = bench.sent
    keys = bench.feeder.keys_of(batch.id)
    bench.feeder.embedded(batch.id, OTHER, [vector_of(OTHER, key) for key in keys], keys)
    with bench.lab.store.snapshot() as view:
        assert view.cache_usage().entries == 0
    bench.feeder.pump(0.0)
    assert [sent.inputs for sent in bench.sent[1:]] == [batch.inputs]  # asked for again


def functions(prefix: str, count: int) -> str:
    return "\n".join(f"def {prefix}{i}():\n    return {prefix!r}, {i}\n" for i in range(count))


def test_what_was_just_saved_does_not_wait_for_the_bulk_to_come_back(bench: Bench) -> None:
    bench.index(b=functions("b", 3 * BATCH_UNITS))
    bench.queue(NEW)
    bench.feeder.pump(0.0)
    assert bench.told() == [(False, BATCH_UNITS)] * 2
    bench.index(c=functions("c", 2))
    with bench.lab.store.snapshot() as view:
        for unit in view.units(ROOT):
            if unit.path == "c.py":
                bench.feeder.backlog.add(unit.id, ROOT, NOW, 1.0)
    bench.feeder.pump(1.0)
    assert bench.told() == [(False, BATCH_UNITS), (False, BATCH_UNITS), (True, 2)]
    assert {item.text.split("(")[0] for item in bench.sent[-1].inputs} == {"def c0", "def c1"}
    bench.answer()
    assert bench.commits == [False, False, True]


def test_what_was_just_saved_does_not_wait_for_texts_of_the_bulk(bench: Bench) -> None:
    bench.rendering = []
    bench.index(b=functions("b", 2))
    bench.queue(NEW)
    bench.feeder.pump(0.0)
    bench.index(c=functions("c", 1))
    with bench.lab.store.snapshot() as view:
        (unit,) = (unit for unit in view.units(ROOT) if unit.path == "c.py")
    bench.feeder.backlog.add(unit.id, ROOT, NOW, 1.0)
    bench.feeder.pump(1.0)
    *bulk, edit = bench.rendering
    edit()
    assert bench.told() == [(True, 1)]
    for answer in bulk:
        answer()
    assert bench.told() == [(True, 1), (False, 3)]


def test_a_text_that_forms_twice_at_once_is_sent_once(bench: Bench) -> None:
    """A saved unit whose text is that of a unit of the bulk: as in a copied file."""
    bench.rendering = []
    bench.queue(NEW)
    bench.feeder.pump(0.0)
    bench.index(copy="def f():\n    return 1\n")
    with bench.lab.store.snapshot() as view:
        (unit,) = (unit for unit in view.units(ROOT) if unit.path == "copy.py")
    bench.feeder.backlog.add(unit.id, ROOT, NOW, 1.0)
    bench.feeder.pump(1.0)
    bulk, edit = bench.rendering
    edit()
    bulk()
    assert bench.told() == [(True, 1)]
    bench.answer()
    assert bench.feeder.is_idle
    assert bench.lab.differences() == []


def test_a_model_gets_as_many_batches_as_it_wants(bench: Bench) -> None:
    bench.batches = 5
    bench.index(b=functions("b", 6 * BATCH_UNITS))
    bench.queue(NEW)
    bench.feeder.pump(0.0)
    assert bench.told() == [(False, BATCH_UNITS)] * 5


def test_what_is_under_way_is_sent_to_the_next_embedder(bench: Bench) -> None:
    bench.queue()
    bench.feeder.pump(0.0)
    heard: list[Batch] = []

    class Next:
        reads_flow = False
        batches = 2

        def submit(self, batch: Batch) -> None:
            heard.append(batch)

    bench.feeder.use(bench.feeder.edition, Next())
    bench.feeder.pump(0.0)
    assert [batch.inputs for batch in heard] == [batch.inputs for batch in bench.sent]
    bench.feeder.use(Edition(1, None, faces=False), Next())  # and to none where the model is lost
    bench.feeder.pump(0.0)
    assert len(heard) == 1
    assert len(bench.feeder.backlog) == 1
