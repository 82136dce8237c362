"""The supervisor's decisions, without a process: a worker made of rules answers what it is sent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.embedding import supervision
from codegraphd.daemon.embedding.events import (
    Action,
    Answer,
    Asked,
    Embedded,
    Event,
    Exited,
    Failed,
    Heard,
    Kill,
    Limits,
    ModelState,
    Refuse,
    Send,
    Spawn,
    Submitted,
    Tell,
    Tick,
)
from codegraphd.daemon.embedding.messages import Ask, Broken, Embed, Loaded, Refused, Started, Up, Vectors
from codegraphd.daemon.embedding.models import ModelError, ModelInfo
from codegraphd.daemon.embedding.supervision import Supervisor
from codegraphd.store.records import Batch, CodeFlow, Input

DIM = 4


def model(name: str) -> ModelInfo:
    return ModelInfo(name, name.encode().ljust(8, b"\0"), DIM, 128, "", (), "mean", (), "hashing")


def resolve(name: str) -> ModelInfo:
    if name.startswith("missing"):
        raise ModelError(f"model {name}: no files")
    return model(name)


def batch(number: int, *texts: str) -> Batch:
    return Batch(number, tuple(Input(text.encode(), text) for text in texts))


class World:
    """A supervisor with a worker that follows rules: texts with "die" kill it, with "hang" silence it, with "raise"
    make the model raise; a model whose name has "broken" does not load. Time passes only by `now`."""

    def __init__(self, *chain: str, limits: Limits | None = None, requests: int = 2) -> None:
        """`requests`: how many of bulk the worker wants at a time."""
        self._loaded = Loaded("rules", "cpu", "float32", 0.1, requests)
        self.supervisor = Supervisor(chain or ("m",), resolve, limits or Limits())
        self.now = 100.0
        self.records: list[Embedded | Failed | ModelState] = []
        self.answers: dict[int, np.ndarray | str] = {}
        self.starts: list[float] = []
        self.is_up = False
        self.rss = 1000
        self._child = 0
        self._inbox: list[Embed | Ask] = []
        self._model = ""

    def event(self, event: Event) -> None:
        self._do(self.supervisor.handle(event, self.now))

    def run(self, until: float | None = None, steps: int = 400) -> None:
        """Let the worker work and time pass, until nothing is left to do or `until` is reached."""
        for _ in range(steps):
            if self._inbox:
                self._work(self._inbox.pop(0))
                continue
            deadline = self.supervisor.next_deadline()
            if deadline is None or deadline > (until or self.now + 200):
                if until is not None:
                    self.now = max(self.now, until)
                return
            self.now = max(self.now, deadline)
            self.event(Tick(self.rss if self.is_up else 0))
        raise AssertionError("it goes round in circles")

    def of(self, kind: type) -> list:
        return [record for record in self.records if isinstance(record, kind)]

    def die(self, cause: str = "signal 11") -> None:
        self.is_up = False
        self._inbox.clear()
        self.event(Exited(self._child, cause))

    def _hear(self, message: Up) -> None:
        self.event(Heard(self._child, message))

    def _work(self, message: Embed | Ask) -> None:
        self._hear(Started(message.id))
        joined = " ".join(message.texts)
        if "die" in joined:
            self.die("killed, perhaps for its memory" if "memory" in joined else "signal 11")
        elif "hang" in joined:
            self._inbox.clear()
        elif "raise" in joined:
            self._hear(Refused(message.id, "RuntimeError: it raised"))
        else:
            n = len(message.texts)
            data = np.asarray([[len(text)] * DIM for text in message.texts], "<f4").tobytes()
            self._hear(Vectors(message.id, DIM, data, (False,) * n, (3,) * n))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(child, info, _):
                    self._child, self.is_up, self._inbox, self._model = child, True, [], info.name
                    self.starts.append(self.now)
                    self._hear(Broken("no load") if "broken" in info.name else self._loaded)
                case Kill():
                    self.is_up = False
                    self._inbox.clear()
                case Send(message):
                    assert self.is_up
                    self._inbox.append(message)
                case Tell(record):
                    self.records.append(record)
                case Answer(id_, rows):
                    assert id_ not in self.answers
                    self.answers[id_] = rows
                case Refuse(id_, error, _):
                    assert id_ not in self.answers
                    self.answers[id_] = error


def check(texts: list[str], bad: list[str], chain: tuple[str, ...] = ("m",)) -> World:
    """Submit one batch, run, and compare who is blamed."""
    world = World(*chain)
    world.event(Submitted(batch(1, *texts)))
    world.run()
    done, failed = world.of(Embedded), world.of(Failed)
    assert len(done) + len(failed) == 1
    if bad:
        assert sorted(failed[0].bad) == sorted(text.encode() for text in bad)
    else:
        assert done[0].vectors[:, 0].tolist() == [len(text) for text in texts]
    return world


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    check(["a" * n for n in range(1, 200)], [])


def test_the_data_flow_of_an_input_goes_with_it() -> None:
    flow = CodeFlow("", ("x",), ((0, ()),))
    inputs = [Input(b"%d" % i, f"text {i}", flow if i == 70 else None) for i in range(80)]
    world = World()
    world.event(Submitted(Batch(1, tuple(inputs))))
    first, second = world._inbox[:2]
    assert isinstance(second, Embed)
    assert first.flows == ()
    assert [i for i, each in enumerate(second.flows) if each == flow] == [70 - 64]
    assert len(second.flows) == len(second.texts)
    world.event(Asked(1, "document", ("a", "b"), world.now + 5, (None, flow)))
    assert world._inbox[-1].flows == (None, flow)


def sent(world: World) -> list[str]:
    """The first text of each request that lies at the worker."""
    return [message.texts[0] for message in world._inbox]


def test_an_edit_goes_to_the_worker_beside_the_bulk_and_before_what_waits() -> None:
    world = World()
    for number in range(1, 5):
        world.event(Submitted(batch(number, f"bulk {number}")))
    world.event(Submitted(replace(batch(5, "edit 5"), urgent=True)))
    world.event(Submitted(replace(batch(6, "edit 6"), urgent=True)))
    world.event(Submitted(replace(batch(7, "edit 7"), urgent=True)))
    assert sent(world) == ["bulk 1", "bulk 2", "edit 5", "edit 6"]
    assert [message.urgent for message in world._inbox if isinstance(message, Embed)] == [False, False, True, True]
    world._work(world._inbox.pop(0))
    assert sent(world) == ["bulk 2", "edit 5", "edit 6"]  # edit 7 is next, and has room once an edit is done
    world._work(world._inbox.pop(1))
    assert sent(world) == ["bulk 2", "edit 6", "edit 7", "bulk 3"]
    world.run()
    assert {record.batch_id for record in world.of(Embedded)} == set(range(1, 8))


def test_a_worker_gets_as_many_requests_as_it_wants() -> None:
    world = World(requests=12)
    world.event(Submitted(batch(1, *[f"text {i}" for i in range(64 * 20)])))
    assert sent(world) == [f"text {64 * i}" for i in range(12)]
    world._work(world._inbox.pop(0))
    assert sent(world)[-1] == f"text {64 * 12}"


def test_fault_42_an_edit_that_kills_the_worker_is_found_among_bulk() -> None:
    world = World()
    world.event(Submitted(batch(1, *[f"text {i}" for i in range(200)])))
    world.event(Submitted(replace(batch(2, *[f"edit {i}" for i in range(20)], "die"), urgent=True)))
    world.run()
    assert [record.batch_id for record in world.of(Embedded)] == [1]
    assert [record.bad for record in world.of(Failed)] == [(b"die",)]


def test_an_empty_batch_is_answered() -> None:
    check([], [])


@pytest.mark.parametrize("verb", ["die", "hang", "raise"])
@pytest.mark.parametrize("place", [0, 37, 99])
def test_fault_42_a_deadly_input_is_found_and_named(verb: str, place: int) -> None:
    texts = [f"text {i}" for i in range(100)]
    texts[place] = f"{verb} {place}"
    world = check(texts, [texts[place]])
    assert world.supervisor.restarts <= 4
    assert list(world.supervisor.set_aside) == [texts[place].encode()]
    assert world.supervisor.state != "failed"


def test_two_deadly_inputs_in_one_piece() -> None:
    check([f"die {i}" if i in (3, 5) else f"text {i}" for i in range(64)], ["die 3", "die 5"])


def test_an_input_that_was_set_aside_is_refused_at_once() -> None:
    world = check(["die", "x"], ["die"])
    starts = len(world.starts)
    world.event(Submitted(batch(2, "y", "die")))
    assert world.records[-1] == Failed(2, world.supervisor.set_aside[b"die"], (b"die",))
    assert len(world.starts) == starts


def test_fault_42_other_batches_survive_a_death() -> None:
    world = World()
    world.event(Submitted(batch(1, *[f"a{i}" for i in range(64)])))
    world.event(Submitted(batch(2, *[f"b{i}" for i in range(64)])))
    world.die()  # with both on their way
    world.run()
    assert sorted(record.batch_id for record in world.of(Embedded)) == [1, 2]
    assert world.supervisor.restarts == 1


def test_fault_42_a_model_that_dies_of_everything_opens_the_breaker() -> None:
    world = World()
    world.event(Submitted(batch(1, *[f"die {i}" for i in range(200)])))
    world.event(Submitted(batch(2, "die a")))
    world.run()
    assert world.supervisor.state == "failed"
    assert not world.supervisor.set_aside
    assert {record.batch_id: record.bad for record in world.of(Failed)} == {1: (), 2: ()}
    pauses = np.diff(world.starts)[:3]
    assert pauses.tolist() == [supervision.FIRST_PAUSE_S * 2**n for n in range(3)]
    for reopened in (1, 2, 3):  # each time it is tried again later
        reopens = world.supervisor.next_deadline()
        assert reopens == pytest.approx(world.now + supervision.BREAKER_S * 2 ** (reopened - 1))
        world.now = reopens
        world.event(Tick())
        assert world.supervisor.state == "unloaded"
        world.event(Submitted(batch(2 + reopened, *[f"die {i}" for i in range(200)])))
        world.run()
        assert world.supervisor.state == "failed"


def test_fault_43_the_chain_falls_back_and_says_why() -> None:
    world = World("broken", "missing", "spare")
    world.event(Submitted(batch(1, "x")))
    assert world.records[-1].model == model("spare")  # type: ignore[union-attr]
    assert [record.error for record in world.of(Failed)] == ["no load"]
    world.event(Submitted(batch(2, "x")))
    world.run()
    assert world.of(Embedded)[0].model == model("spare").fingerprint
    assert world.supervisor.error == "model missing: no files"


def test_fault_43_without_any_model_all_is_refused_and_tried_again_later() -> None:
    world = World("missing one", "missing two")
    assert world.supervisor.state == "failed"
    world.event(Submitted(batch(1, "x")))
    world.event(Asked(1, "query", ("q",), world.now + 5))
    assert world.of(Failed) == [Failed(1, "model missing two: no files")]
    assert world.answers == {1: "model missing two: no files"}
    assert not world.starts
    world.supervisor._chain = ("m",)  # somebody put the files there
    world.run(until=world.now + supervision.BREAKER_S + 1)
    assert world.records[-1] == ModelState("unloaded", model("m"), "model missing two: no files")
    world.event(Submitted(batch(2, "x")))
    world.run()
    assert [record.batch_id for record in world.of(Embedded)] == [2]


def test_the_process_starts_on_need_and_ends_when_idle() -> None:
    world = World(limits=Limits(idle_s=600))
    world.run(until=world.now + 1000)
    assert not world.starts
    world.event(Submitted(batch(1, "x")))
    world.run(until=world.now + 599)
    assert world.is_up
    world.run(until=world.now + 2)
    assert not world.is_up
    assert world.supervisor.state == "unloaded"
    world.event(Asked(1, "query", ("abc",), world.now + 5))
    world.run()
    assert world.answers[1][0, 0] == 3  # type: ignore[index]


def test_fault_46_a_process_that_grows_is_replaced_between_two_pieces() -> None:
    world = World(limits=Limits(growth_bytes=500))
    world.event(Submitted(batch(1, "x")))
    world.event(Tick(1000))
    world.rss = 2000
    world.event(Tick(2000))
    world.event(Submitted(batch(2, *[f"text {i}" for i in range(500)])))
    world.run(until=world.now + 1)
    assert world.is_up
    world.event(Tick(2000))
    world.rss = 1000
    world.run()
    assert sorted(record.batch_id for record in world.of(Embedded)) == [1, 2]
    assert len(world.starts) == 2
    assert world.supervisor.restarts == 0


def test_fault_42_of_two_lanes_the_guilty_one_is_found() -> None:
    world = World()
    world.event(Submitted(batch(1, "good")))
    world.event(Submitted(batch(2, "die")))
    for sent in list(world._inbox):
        world.event(Heard(1, Started(sent.id)))
    world.die()
    world.run()
    assert [record.batch_id for record in world.of(Embedded)] == [1]
    assert [record.bad for record in world.of(Failed)] == [(b"die",)]


def test_fault_42_a_lane_that_hangs_is_noticed_while_another_works() -> None:
    world = World(limits=Limits(hang_s=120))
    world.event(Submitted(batch(1, "hang")))
    stuck = world._inbox.pop()
    world.event(Heard(1, Started(stuck.id)))
    for number in range(2, 16):
        world.event(Submitted(batch(number, "x")))
        world.run(until=world.now + 10)
    assert len(world.starts) == 2
    world.run()
    assert [record.bad for record in world.of(Failed)] == [(b"hang",)]
    assert len(world.of(Embedded)) == 14


def test_a_query_that_kills_is_not_sent_again() -> None:
    world = World()
    world.event(Submitted(batch(1, *[f"text {i}" for i in range(100)])))
    world.event(Asked(1, "query", ("die",), world.now + 500))
    world.event(Asked(2, "query", ("live",), world.now + 500))
    world.run()
    assert "signal 11" in str(world.answers[1])
    assert isinstance(world.answers[2], np.ndarray)
    assert world.supervisor.restarts == 1
    assert len(world.of(Embedded)) == 1
    assert not world.supervisor.set_aside


def test_a_late_query_is_refused_and_its_answer_dropped() -> None:
    world = World()
    world.event(Asked(1, "query", ("hang",), world.now + 2))
    world.event(Asked(2, "query", ("x",), world.now + 200))
    world.run()
    assert "in time" in str(world.answers[1])
    assert isinstance(world.answers[2], np.ndarray)


def test_fault_42_less_memory_is_asked_for_after_an_out_of_memory_kill() -> None:
    world = World(limits=Limits(batch_tokens=2048))
    world.event(Submitted(batch(1, *(["x"] * 63), "die of memory")))
    world.run()
    assert world.supervisor._batch_tokens == 256


def test_an_idle_process_that_dies_is_nobodys_fault() -> None:
    world = World()
    world.event(Submitted(batch(1, "x")))
    world.run(until=world.now + 1)
    world.die("signal 9")
    assert world.supervisor.state == "unloaded"
    assert world.supervisor.restarts == 0
    world.event(Submitted(batch(2, "x")))
    world.run()
    assert len(world.of(Embedded)) == 2


def garbage(id_: int, n: int) -> list[Vectors]:
    ones = np.ones((n, DIM), "<f4").tobytes()
    cuts, tokens = (False,) * n, (1,) * n
    return [
        Vectors(id_, DIM, ones[:-4], cuts, tokens),
        Vectors(id_, DIM, np.full((n, DIM), np.nan, "<f4").tobytes(), cuts, tokens),
        Vectors(id_, DIM * 2, np.ones((n, DIM * 2), "<f4").tobytes(), cuts, tokens),
        Vectors(id_, DIM, ones + ones, cuts * 2, tokens * 2),
        Vectors(id_, DIM, ones, cuts * 2, tokens),
        Vectors(id_, 0, b"", cuts, tokens),
    ]


@pytest.mark.parametrize("kind", range(6))
def test_fault_42_garbage_costs_the_process_not_the_batch(kind: int) -> None:
    world = World()
    world.event(Submitted(batch(1, "a", "b", "c")))
    sent = world._inbox.pop()
    world.event(Heard(1, garbage(sent.id, 3)[kind]))
    assert not world.is_up
    world.run()
    assert world.of(Embedded)[0].vectors[:, 0].tolist() == [1, 1, 1]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.lists(st.sampled_from(["a", "bb", "die", "hang", "raise"]), max_size=9)),
        st.tuples(st.just("ask"), st.sampled_from(["q", "qq", "die", "hang", "raise"])),
        st.tuples(st.just("die"), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 3.0, 700.0])),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.sampled_from([("m",), ("broken", "m"), ("missing",), ("m", "spare")]))
def test_everything_is_answered_exactly_once(events: list[tuple[str, object]], chain: tuple[str, ...]) -> None:
    world = World(*chain)
    batches = asked = 0
    for verb, value in events:
        if verb == "submit":
            batches += 1
            # keys differ, so that a batch is not refused for what another one did
            texts = [f"{text} {batches} {i}" for i, text in enumerate(value)]  # type: ignore[arg-type,var-annotated]
            world.event(Submitted(batch(batches, *texts)))
        elif verb == "ask":
            asked += 1
            world.event(Asked(asked, "query", (str(value),), world.now + 30))
        elif verb == "die" and world.is_up:
            world.die()
        elif verb == "wait":
            world.run(until=world.now + float(value))  # type: ignore[arg-type]
    for _ in range(40):
        world.run(steps=2000)
        world.now += 400
        world.event(Tick())
    answered = [record.batch_id for record in world.records if not isinstance(record, ModelState)]
    assert sorted(answered) == list(range(1, batches + 1))
    assert sorted(world.answers) == list(range(1, asked + 1))
