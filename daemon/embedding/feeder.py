"""Feeds the model: takes stale units from the backlog, makes their texts, sends batches, attaches what comes back.

A batch forms late and few are under way, two where a processor computes, so that the newest state is what gets
embedded. What was just saved does not wait for one of them to come back: it makes *urgent* batches, which are formed
beside the others, counted apart, and go before them everywhere. Source is read when a batch is formed; a unit whose
file has moved on leaves the batch and comes back with the file's next parse. The same text is never in two batches at
once: units that share it wait for the one under way. Used by the indexer, on its thread only; never blocks.

A feeder serves one edition (`graph.work.Edition`); while the model changes there are two (feeders.py).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from codegraphd.daemon.embedding.backlog import Backlog
from codegraphd.daemon.embedding.text import context_text
from codegraphd.daemon.engine import CHANGED, IDLE, NOW, Edition, Outcome, Settings, attach, set_aside
from codegraphd.daemon.graph.index import Index, View, recipe_inputs
from codegraphd.daemon.graph.recipe import quoted, recipe_of
from codegraphd.store.records import Batch, CodeFlow, FileRecord, Input, UnitRecord, digest

log = logging.getLogger(__name__)

BATCH_UNITS = 64  # the worker cuts and sorts them by tokens; more would make an edit wait longer
UNDER_WAY = 2  # urgent batches: one with the model, one prefetched
RETRY_S = 5.0  # after a batch that failed for reasons of the model's, and for units whose file moved on
TRIES = 5  # how often a unit whose text cannot be had is tried before it waits for the file's next change


class Model(Protocol):
    """The embedder as the feeder sees it."""

    @property
    def reads_flow(self) -> bool:
        """Whether its model reads the data flow of code beside its tokens."""
        ...

    @property
    def batches(self) -> int:
        """How many batches of bulk it wants to have at a time."""
        ...

    def submit(self, batch: Batch) -> None: ...


class Rendered(Protocol):
    """What the parsers made of a file."""

    @property
    def texts(self) -> tuple[str, ...]: ...
    @property
    def flows(self) -> Mapping[int, CodeFlow]: ...


@dataclass(slots=True)
class Shared:
    """What the feeders of one daemon have in common."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of batches
    sequence: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # of what was queued (backlog.py)
    asked: dict[tuple[bytes | None, bytes], int] = field(default_factory=dict)  # model, key -> number of batch


# (file, indices of the units whose data flow is wanted, whether somebody waits, what to call)
Render = Callable[[FileRecord, tuple[int, ...], bool, Callable[["Rendered | None"], None]], None]
Submit = Callable[[Callable[[Index], Outcome], bool, Callable[["Future[Outcome]"], None]], None]


@dataclass(slots=True)
class _Forming:
    """A batch whose texts are still being rendered."""

    number: int
    is_urgent: bool
    reads_flow: bool
    units: list[int]
    files: dict[int, list[UnitRecord]]  # file id -> its units whose own input is needed
    own: dict[int, tuple[str, CodeFlow | None]] = field(default_factory=dict)  # unit id -> what is to be read of it
    lacking: set[int] = field(default_factory=set)  # units whose text could not be had


@dataclass(slots=True)
class _Sent:
    is_urgent: bool
    units: list[int]
    keys: dict[bytes, list[int]]  # cache key -> units that need it
    followers: list[int] = field(default_factory=list)  # units of later batches that need a key of this one


class Feeder:
    """See the module. `render(file, flows, urgent, done)` and `submit(job, interactive, done)` call back on the
    indexer's thread."""

    def __init__(
        self,
        snapshot: Callable[[], AbstractContextManager[View]],
        embedder: Model,
        render: Render,
        submit: Submit,
        settings: Settings,
        edition: Edition,
        shared: Shared | None = None,
    ) -> None:
        self._shared = shared or Shared()
        self.backlog = Backlog(self._shared.sequence)
        self.edition = edition  # without a model nothing is sent
        self.set_aside: dict[str, str] = {}  # "path:qualname" -> why the model cannot take it
        self._snapshot, self._embedder, self._render, self._submit = snapshot, embedder, render, submit
        self.settings = settings
        self.worst = IDLE  # of the priorities that are sent; what is behind it waits
        self._forming: dict[bool, _Forming] = {}  # whether it is urgent -> at most one
        self._sent: dict[int, _Sent] = {}
        self._deferred: list[tuple[float, int]] = []  # (when, unit): in flight in the backlog, to be put back then
        self._tries: dict[int, int] = {}  # of units whose text could not be had
        self._given_up: set[int] = set()  # of those: until files are read again
        self._quiet_until = 0.0

    @property
    def model(self) -> bytes | None:
        """Fingerprint in use; None: nothing is sent."""
        return self.edition.model

    @property
    def is_idle(self) -> bool:
        return not len(self.backlog)

    def use(self, edition: Edition, embedder: Model) -> None:
        """Another handle on the edition's model, or none: what is under way there is sent again."""
        self.edition = edition
        if embedder is not self._embedder:
            self._embedder = embedder
            for number in list(self._sent):
                self._take_back(number)
            self._quiet_until = 0.0

    def _take_back(self, number: int) -> None:
        if (sent := self._release(number)) is not None:
            self.backlog.put_back([*sent.units, *sent.followers])

    def tick(self, now: float) -> None:
        """Once a second or so: bring back what was deferred."""
        due = [unit for when, unit in self._deferred if when <= now]
        if due:
            self._deferred = [(when, unit) for when, unit in self._deferred if when > now]
            self.backlog.put_back(due)
        self.pump(now)

    def files_read(self, now: float) -> None:
        """Files were read again: texts that could not be had, since their files had moved on, may be there now."""
        if not self._tries and not self._given_up:
            return
        due = [unit for _, unit in self._deferred if unit in self._tries]
        self._deferred = [(when, unit) for when, unit in self._deferred if unit not in self._tries]
        given_up, self._given_up = self._given_up, set()
        self._tries.clear()
        self.backlog.put_back(due)
        with self._snapshot() as view:
            for unit_id in given_up:
                if (unit := view.unit(unit_id)) is not None:
                    self.backlog.add(unit_id, unit.root, CHANGED, now)

    def pump(self, now: float) -> None:
        """Form and send batches while there is room."""
        self._pump(NOW, UNDER_WAY, now, is_urgent=True)
        self._pump(self.worst, self._embedder.batches, now, is_urgent=False)

    def _pump(self, worst: int, most: int, now: float, *, is_urgent: bool) -> None:
        while (
            self.model is not None
            and is_urgent not in self._forming
            and sum(1 for sent in self._sent.values() if sent.is_urgent == is_urgent) < most
            and now >= self._quiet_until
            and (units := self.backlog.take(BATCH_UNITS, worst))
        ):
            self._form(units, now, is_urgent=is_urgent)

    def drop_root(self, root: int) -> None:
        self.backlog.drop_root(root)

    # --- forming ------------------------------------------------------------------------------------------------------

    def _form(self, units: list[int], now: float, *, is_urgent: bool) -> None:
        assert self.model is not None
        forming = _Forming(next(self._shared.numbers), is_urgent, self._embedder.reads_flow, [], {})
        ready: list[int] = []
        with self._snapshot() as view:
            files: dict[int, FileRecord | None] = {}
            for unit_id in units:
                state = view.state(unit_id, self.edition.number)
                unit = view.unit(unit_id)
                if unit is None or state is None or state.recipe is None:
                    self.backlog.finish([unit_id])
                    continue
                needed = [key for key in recipe_inputs(state.recipe) if not view.has_vector(self.model, key)]
                if self._follows(unit_id, needed, now):
                    continue
                if not needed:
                    ready.append(unit_id)
                    continue
                forming.units.append(unit_id)
                if state.recipe.own in needed:
                    forming.files.setdefault(unit.file, []).append(unit)
            for file_id in forming.files:
                files[file_id] = view.file_by_id(file_id)
        if ready:
            self._attach({}, ready, is_urgent=is_urgent)
        if not forming.units:
            return
        self._forming[is_urgent] = forming
        if not forming.files:
            self._send(forming, now)
            return
        for file_id, file in files.items():
            if file is None:
                self._rendered(forming, file_id, (), None, now)
                continue
            wanted: tuple[int, ...] = ()
            if forming.reads_flow:
                ids = {unit.id for unit in forming.files[file_id]}
                wanted = tuple(index for index, unit_id in enumerate(file.units) if unit_id in ids)
            self._render(
                file, wanted, is_urgent, lambda done, f=file: self._rendered(forming, f.id, f.units, done, now)  # type: ignore[misc]
            )  # fmt: skip

    def _follows(self, unit_id: int, needed: Iterable[bytes], now: float) -> bool:
        """Whether a batch under way has one of the keys: then the unit waits for that."""
        asked = self._shared.asked
        names = ((self.model, key) for key in needed)
        other = next((asked[name] for name in names if name in asked), None)
        if other is None:
            return False
        if other in self._sent:
            self._sent[other].followers.append(unit_id)
        else:  # the other edition's feeder waits for the same text: it will be in the cache
            self._deferred.append((now, unit_id))
        return True

    def _rendered(
        self, forming: _Forming, file_id: int, unit_ids: tuple[int, ...], rendered: Rendered | None, now: float
    ) -> None:
        for unit in forming.files.pop(file_id, ()):
            if rendered is not None and len(rendered.texts) == len(unit_ids) and unit.id in unit_ids:
                index = unit_ids.index(unit.id)
                text = rendered.texts[index]
                if digest(text) == unit.unit.own:
                    forming.own[unit.id] = (text, rendered.flows.get(index))
                    continue
            forming.lacking.add(unit.id)
        if not forming.files and self._forming.get(forming.is_urgent) is forming:
            self._send(forming, now)

    def _send(self, forming: _Forming, now: float) -> None:
        """All texts are there: build the inputs against the index as it is now, and hand the batch over."""
        del self._forming[forming.is_urgent]
        if self.model is None or forming.reads_flow != self._embedder.reads_flow:  # lost or changed meanwhile
            self.backlog.put_back(forming.units)
            return
        sent = _Sent(forming.is_urgent, [], {})
        inputs: dict[bytes, Input] = {}
        with self._snapshot() as view:
            for unit_id in forming.units:
                state = view.state(unit_id, self.edition.number)
                keys = recipe_inputs(state.recipe) if state is not None and state.recipe is not None else ()
                needed = [key for key in keys if not view.has_vector(self.model, key)]
                if self._follows(unit_id, needed, now):  # what formed beside this one was sent before it
                    continue
                if unit_id in forming.lacking or not self._inputs_of(view, unit_id, forming.own, sent, inputs):
                    self._defer(unit_id, now)
        if not sent.units:
            return
        self._sent[forming.number] = sent
        if not inputs:
            self._finish(forming.number, {})
            return
        for key in inputs:
            self._shared.asked[self.model, key] = forming.number
        self._embedder.submit(Batch(forming.number, tuple(inputs.values()), forming.is_urgent))

    def _inputs_of(
        self,
        view: View,
        unit_id: int,
        own: Mapping[int, tuple[str, CodeFlow | None]],
        sent: _Sent,
        inputs: dict[bytes, Input],
    ) -> bool:
        """Add what the unit still needs to the batch. False: it has changed since its text was rendered."""
        assert self.model is not None
        state, unit = view.state(unit_id, self.edition.number), view.unit(unit_id)
        if unit is None or state is None or state.recipe is None:
            return False
        if recipe_of(unit, None).own != state.recipe.own:
            return False  # the step that wrote the unit had no time for its recipe: this text belongs to another key
        needed: dict[bytes, Input] = {}
        if not view.has_vector(self.model, state.recipe.own):
            text, flow = own.get(unit_id, (None, None))
            if text is None or digest(text) != unit.unit.own:
                return False
            needed[state.recipe.own] = Input(state.recipe.own, text, flow)
        if state.recipe.context and not view.has_vector(self.model, state.recipe.context):
            quotes = quoted(view, unit, self.settings.max_cascade_depth, view.unit)
            if recipe_of(unit, quotes) != state.recipe:
                return False
            needed[state.recipe.context] = Input(state.recipe.context, context_text(unit, quotes))
        sent.units.append(unit_id)
        for key, item in needed.items():
            sent.keys.setdefault(key, []).append(unit_id)
            inputs.setdefault(key, item)
        self._tries.pop(unit_id, None)
        return True

    def _defer(self, unit_id: int, now: float) -> None:
        tries = self._tries.get(unit_id, 0) + 1
        if tries >= TRIES:  # until files are read again; the durable list keeps it over a restart
            self._tries.pop(unit_id, None)
            self._given_up.add(unit_id)
            self.backlog.finish([unit_id])
            log.info("unit %d: its text could not be rendered from its file; waiting for the next change", unit_id)
            return
        self._tries[unit_id] = tries
        self._deferred.append((now + RETRY_S * tries, unit_id))

    # --- what comes back ----------------------------------------------------------------------------------------------

    def embedded(self, number: int, model: bytes, vectors: Iterable[Any], keys: Iterable[bytes]) -> None:
        """The vectors that `model` made for a batch, in the order of its inputs; those of a model that has taken over
        meanwhile are no use here."""
        if model == self.model:
            self._finish(number, dict(zip(keys, vectors, strict=True)))
        else:
            self._take_back(number)

    def keys_of(self, number: int) -> tuple[bytes, ...]:
        """The cache keys of a batch under way, in the order of its inputs."""
        sent = self._sent.get(number)
        return tuple(sent.keys) if sent else ()

    def failed(self, number: int, error: str, bad: Iterable[bytes], now: float) -> None:
        """A batch came back without vectors. `bad` are inputs that the model cannot take: set aside by name."""
        sent = self._release(number)
        if sent is None:
            return
        outcasts = {unit for key in bad for unit in sent.keys.get(key, ())}
        if outcasts:
            with self._snapshot() as view:
                for unit_id in outcasts:
                    if (unit := view.unit(unit_id)) is not None:
                        self.set_aside[f"{unit.path}:{unit.unit.qualname}"] = error
            edition = self.edition
            self._submit(lambda index: _set_aside(index, edition, outcasts), False, lambda _: None)
            self.backlog.finish(outcasts)
        else:
            self._quiet_until = now + RETRY_S
        self.backlog.put_back([u for u in [*sent.units, *sent.followers] if u not in outcasts])

    def _finish(self, number: int, vectors: dict[bytes, Any]) -> None:
        sent = self._release(number)
        if sent is not None:
            # an edit may be among the followers
            self._attach(vectors, [*sent.units, *sent.followers], is_urgent=sent.is_urgent or bool(sent.followers))

    def _release(self, number: int) -> _Sent | None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            asked = self._shared.asked
            for name in [name for name, at in asked.items() if at == number]:
                del asked[name]
        return sent

    def _attach(self, vectors: dict[bytes, Any], units: list[int], *, is_urgent: bool) -> None:
        """Commit them. What nobody waits for goes behind the steps of edits."""
        edition, settings = self.edition, self.settings
        if edition.model is None:
            self.backlog.put_back(units)
            return

        def done(future: Future[Outcome]) -> None:
            if future.exception() is not None:
                log.warning("vectors could not be stored: %s", future.exception())
                self._deferred += [(self._quiet_until, unit) for unit in units]
                return
            settled = {unit for _, unit in future.result().settled}
            self.backlog.finish(settled)
            # The rest has a newer recipe by now: it waits again under that one.
            self._deferred += [(0.0, unit) for unit in units if unit not in settled]

        self._submit(lambda index: attach(index, settings, edition, vectors, units), is_urgent, done)


def _set_aside(index: Index, edition: Edition, units: Iterable[int]) -> Outcome:
    set_aside(index, edition, list(units))
    return Outcome(clock=index.clock)
