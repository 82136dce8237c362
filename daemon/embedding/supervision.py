"""What to do with the worker process: decided here, done in `worker.py`. No threads, no processes, no clock of its own.

`Supervisor.handle(event, now)` takes what happened and returns what to do. The rules:

- The process starts when there is work, and ends after `idle_s` without any, or when it has grown by `growth_bytes`.
- Work is cut into *pieces*. Of bulk, as many are with the worker at a time as it asks for: two on a processor, one in
  the model and one being tokenised; more where a card takes several at once. Urgent pieces go before them, and do not
  wait for one of them to come back.
- When the worker dies, or a call of the model takes `hang_s`, the pieces in the model are under suspicion. They are
  cut into eighths that are sent one at a time, until single inputs are left; an input that dies twice alone is *set
  aside*. All else is sent again. A query that dies is not sent again. When the model only raises, the same is done,
  and the process is started again before an input is set aside: loading ends with a trial, so it proves the model.
- Starts are spaced out exponentially. After `DEATHS` deaths without one vector in between, or when the model cannot be
  loaded, the next model of the chain takes over; behind the last one the breaker is open: all work is refused, and
  after a pause that doubles up to an hour the chain is tried from its beginning.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

from codegraphd.daemon.embedding.events import (
    Action,
    Answer,
    Asked,
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
from codegraphd.daemon.embedding.pieces import IN_FLIGHT, Piece, Pieces
from codegraphd.store.records import Batch

TRIES = 2  # deaths of a single input before it is set aside
DEATHS = 5  # in a row; a piece of 64 with one deadly input costs 4: 64, 8, 1, 1
ASIDE = 3  # inputs set aside in a row, with no vector in between: then it is the model's fault, not theirs
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0  # between a death and the next start
BREAKER_S, LONGEST_BREAKER_S = 300.0, 3600.0


class Supervisor:
    """Guards: every batch is answered by exactly one `Embedded` or `Failed`, each query by one `Answer` or `Refuse`."""

    def __init__(self, chain: Sequence[str], resolve: Callable[[str], ModelInfo], limits: Limits) -> None:
        """`chain`: model names, the wanted one first. `resolve` finds a model's files or raises ModelError."""
        self._chain, self._resolve, self._limits = chain, resolve, limits
        self.state, self.error = "unloaded", ""
        self.model: ModelInfo | None = None
        self.place = -1  # of the model in the chain
        self.loaded: Loaded | None = None
        self.set_aside: dict[bytes, str] = {}  # Input.key -> why
        self.restarts = 0
        self.embedded = self.answered = 0  # inputs; query texts
        self.calls: collections.deque[tuple[float, int]] = collections.deque(
            maxlen=256
        )  # seconds, inputs: of each piece
        self._numbers: Iterator[int] = itertools.count(1)  # pieces and queries share the wire's ids
        self._child = 0
        self._is_alive = False
        self._pieces = Pieces(self._numbers)
        self._asked: dict[int, Asked] = {}  # wire id -> query, sent or not
        self._asked_sent: set[int] = set()  # an expired one stays until the worker is through with it
        self._running: dict[int, float] = {}  # wire ids that the model works for -> when it last began to
        self._deaths = self._breaks = 0  # in a row
        self._aside: list[bytes] = []  # keys set aside since the last vector
        self._not_before = 0.0  # the next start; in state "failed" the next look at the chain
        self._last_word = self._last_work = self._last_piece = 0.0
        self._batch_tokens = limits.batch_tokens
        self._loaded_rss = 0
        self._is_draining = False
        self._choose(0, 0.0)

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do about `event`. `now` is monotonic, in seconds."""
        match event:
            case Submitted(batch):
                actions = self._submit(batch)
            case Asked():
                actions = self._ask(event)
            case Heard(child, message):
                actions = self._hear(message, now) if child == self._child and self._is_alive else []
            case Exited(child, cause):
                actions = self._end(cause, now) if child == self._child and self._is_alive else []
            case Tick(rss):
                actions = self._check(rss, now)
            case _:
                assert_never(event)
        return actions + self._go_on(now)

    def next_deadline(self) -> float | None:
        """When a `Tick` is due at the latest, if nothing happens before."""
        moments = [asked.deadline for asked in self._asked.values()]
        if self.state == "failed" or (self._has_work() and not self._is_alive):
            moments.append(self._not_before)
        if self.state == "loading":
            moments.append(self._last_word + self._limits.load_s)
        elif self._is_alive and self._is_busy():
            moments.append(self._last_sign() + self._limits.hang_s)
        elif self._is_alive and self._limits.idle_s:
            moments.append(self._last_work + self._limits.idle_s)
        return min(moments, default=None)

    @property
    def in_flight(self) -> int:
        """How many pieces of bulk the worker wants to have at a time."""
        return self.loaded.requests if self.loaded is not None else IN_FLIGHT

    @property
    def chosen(self) -> str | None:
        """The name in the chain of the model in use."""
        return self._chain[self.place] if self.model is not None else None

    def depth(self) -> int:
        """Inputs that were submitted and not answered."""
        return self._pieces.depth()

    # --- work comes in

    def _submit(self, batch: Batch) -> list[Action]:
        if bad := tuple(item.key for item in batch.inputs if item.key in self.set_aside):
            return [Tell(Failed(batch.id, self.set_aside[bad[0]], bad))]
        if self.model is None:
            return [Tell(Failed(batch.id, self.error))]
        self._pieces.add(batch, self.model.dim)
        return [] if batch.inputs else self._finish(batch.id)

    def _ask(self, asked: Asked) -> list[Action]:
        if self.model is None:
            return [Refuse(asked.id, self.error)]
        self._asked[next(self._numbers)] = asked
        return []

    # --- the worker speaks

    def _hear(self, message: Up, now: float) -> list[Action]:
        self._last_word = now
        match message:
            case Loaded():
                self.loaded, self._last_work, self._loaded_rss = message, now, 0
                return self._enter("ready")
            case Broken(error):
                self._bury()
                return [Kill(), *self._give_up(error, now)]
            case Started(id_):
                self._running[id_] = now
                return []
            case Vectors():
                return self._receive(message, now)
            case Refused(id_, error):
                return self._refused(id_, error, now)
            case _:
                assert_never(message)

    def _receive(self, message: Vectors, now: float) -> list[Action]:
        assert self.model is not None
        piece = self._pieces.sent.get(message.id)
        asked = self._asked.get(message.id)
        expected = len(piece.inputs) if piece else len(asked.texts) if asked else len(message.tokens)
        try:
            rows = message.matrix()
        except ValueError as error:
            return [Kill(), *self._end(f"it sent garbage: {error}", now)]
        if rows.shape != (expected, self.model.dim) or len(message.truncated) != expected:
            return [Kill(), *self._end("it sent vectors of a wrong number or width", now)]
        self._settle(message.id, now)
        self._deaths = self._breaks = 0
        if asked is not None:
            del self._asked[message.id]
            self.answered += expected
            return [Answer(asked.id, rows)]
        if piece is None:
            return []
        self._aside = []
        self.embedded += expected
        self.calls.append((now - max(piece.sent, self._last_piece), expected))
        self._last_piece = now
        self._pieces.settle(piece, message, rows)
        return self._finish(piece.batch)

    def _refused(self, id_: int, error: str, now: float) -> list[Action]:
        piece = self._pieces.sent.get(id_)
        if piece is not None and len(piece.inputs) == 1:
            self._running = {id_: now}
            return [Kill(), *self._end(error, now)]
        self._settle(id_, now)
        if (asked := self._asked.pop(id_, None)) is not None:
            return [Refuse(asked.id, error)]
        if piece is not None:
            del self._pieces.sent[id_]
            self._pieces.split(piece)
        return []

    def _settle(self, id_: int, now: float) -> None:
        self._last_work = now
        self._asked_sent.discard(id_)
        self._running.pop(id_, None)

    def _finish(self, batch_id: int) -> list[Action]:
        """The batch's answer, once there is nothing left of it."""
        assert self.model is not None
        record = self._pieces.answer(batch_id, self.model.fingerprint)
        return [] if record is None else [Tell(record)]

    # --- the worker ends

    def _end(self, cause: str, now: float) -> list[Action]:
        """The process died or is being killed."""
        was_loading, was_busy, running = self.state == "loading", self._is_busy(), list(self._running)
        self._bury()
        if not was_loading and not was_busy:
            return self._enter("unloaded")  # somebody ended an idle one: nobody's fault
        self.restarts += 1
        self._deaths += 1
        if "memory" in cause:
            self._batch_tokens = max(self._limits.least_tokens, self._batch_tokens // 2)
        assert self.model is not None
        error = f"model {self.model.name}: the worker ended: {cause}"
        actions = self._blame(running, error)
        if self._deaths >= DEATHS or len(self._aside) >= ASIDE:
            for key in self._aside:
                del self.set_aside[key]
            return actions + self._give_up(error, now)
        self._not_before = now + min(FIRST_PAUSE_S * 2 ** (self._deaths - 1), LONGEST_PAUSE_S)
        self.error = error
        return actions + self._enter("unloaded")

    def _bury(self) -> None:
        self._is_alive = self._is_draining = False
        self._running = {}
        self.loaded = None

    def _blame(self, running: Sequence[int], error: str) -> list[Action]:
        """Find who was with the model, and put the rest back."""
        actions: list[Action] = []
        suspects = set(running) or set(list(self._pieces.sent)[:1])
        pieces = self._pieces.recall()
        self._asked_sent = set()
        actions += [Refuse(self._asked.pop(wire).id, error) for wire in sorted(suspects & set(self._asked))]
        self._pieces.put_back([piece for piece in pieces if piece.id not in suspects])
        for piece in pieces:
            if piece.id not in suspects:
                continue
            if len(piece.inputs) > 1:
                self._pieces.split(piece)
            elif len(suspects) == 1:
                actions += self._suspect(piece, error)
            else:  # perhaps it was the other one
                piece.is_suspect = True
                self._pieces.put_back([piece])
        return actions

    def _suspect(self, piece: Piece, error: str) -> list[Action]:
        piece.deaths += 1
        piece.is_suspect = True
        if piece.deaths < TRIES:
            self._pieces.put_back([piece])
            return []
        key = piece.inputs[0].key
        self.set_aside[key] = error
        self._aside.append(key)
        self._deaths = 0  # the culprit is found: the model is not to blame
        self._pieces.condemn(piece, error)
        return self._finish(piece.batch)

    def _give_up(self, error: str, now: float) -> list[Action]:
        """This model is not to be had: the next one takes over. What was asked of it is answered now."""
        actions: list[Action] = [Tell(Failed(batch_id, error)) for batch_id in self._pieces.batches()]
        actions += [Refuse(asked.id, error) for asked in self._asked.values()]
        self._asked, self._asked_sent = {}, set()
        self._pieces.clear()
        self.error = error
        self._deaths, self._aside = 0, []
        self._choose(self.place + 1, now)
        return [*actions, *self._enter("failed" if self.model is None else "unloaded")]

    def _choose(self, start: int, now: float) -> None:
        """The first model of the chain, from `start` on, whose files are there; else the breaker opens."""
        for place in range(start, len(self._chain)):
            try:
                self.model = self._resolve(self._chain[place])
            except ModelError as error:
                self.error = str(error)
                continue
            self.place, self.state = place, "unloaded"
            return
        self.model, self.place, self.state = None, -1, "failed"
        self._not_before = now + min(BREAKER_S * 2**self._breaks, LONGEST_BREAKER_S)
        self._breaks += 1

    # --- time passes

    def _check(self, rss: int, now: float) -> list[Action]:
        limit = self._limits.load_s if self.state == "loading" else self._limits.hang_s
        # compared as `next_deadline` adds them up: a difference rounds otherwise, and the thread would spin
        if self.state == "failed" and now >= self._not_before:
            self._choose(0, now)
            return self._enter(self.state) if self.model is not None else []
        if not self._is_alive:
            return []
        if (self.state == "loading" or self._is_busy()) and now >= self._last_sign() + limit:
            self._running = {wire: at for wire, at in self._running.items() if now >= at + limit}
            return [Kill(), *self._end(f"it said nothing for {limit:.0f} s", now)]
        if self.state != "ready":
            return []
        self._loaded_rss = self._loaded_rss or rss
        self._is_draining = rss > self._loaded_rss + self._limits.growth_bytes
        is_idle = self._limits.idle_s and not self._has_work() and now >= self._last_work + self._limits.idle_s
        if not self._is_busy() and (is_idle or self._is_draining):
            self._bury()
            return [Kill(), *self._enter("unloaded")]
        return []

    def _go_on(self, now: float) -> list[Action]:
        """Let late queries go, start the process if there is work, and give it what it can take."""
        actions: list[Action] = []
        for wire, asked in list(self._asked.items()):
            if asked.deadline <= now:
                del self._asked[wire]
                actions.append(Refuse(asked.id, f"the model did not answer in time ({self.state})", is_late=True))
        if self._has_work() and not self._is_alive and self.model is not None and now >= self._not_before:
            actions += self._start(now)
        if self.state == "ready" and not self._is_draining:
            actions += self._feed(now)
        return actions

    def _start(self, now: float) -> list[Action]:
        assert self.model is not None
        try:
            model = self._resolve(self._chain[self.place])  # its files may have changed
        except ModelError as error:
            return self._give_up(str(error), now)
        actions: list[Action] = []
        if model.fingerprint != self.model.fingerprint:
            actions += [
                Tell(Failed(batch_id, f"model {model.name} changed on disk")) for batch_id in self._pieces.batches()
            ]
            self._pieces.clear()
        self.model = model
        self._child += 1
        self._is_alive, self._last_word = True, now
        return [*actions, *self._enter("loading"), Spawn(self._child, model, self._batch_tokens)]

    def _feed(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if not self._is_busy():
            self._last_word = now
        for wire, asked in self._asked.items():
            if wire not in self._asked_sent:
                self._asked_sent.add(wire)
                actions.append(Send(Ask(wire, asked.role, asked.texts, asked.flows)))
        while (piece := self._pieces.send(self.in_flight, now)) is not None:
            flows = tuple(item.flow for item in piece.inputs)
            texts = tuple(item.text for item in piece.inputs)
            actions.append(Send(Embed(piece.id, texts, flows if any(flows) else (), piece.is_urgent)))
        return actions

    def _enter(self, state: str) -> list[Action]:
        self.state = state
        if state == "ready":
            self.error = "" if self.place == 0 else self.error  # a fallback keeps saying why it is one
        return [Tell(ModelState(state, self.model, self.error))]

    def _has_work(self) -> bool:
        return bool(self._pieces or self._asked)

    def _last_sign(self) -> float:
        """The oldest of the signs of life that we wait for the next one of."""
        return min(self._running.values(), default=self._last_word)

    def _is_busy(self) -> bool:
        """Whether the worker owes us something."""
        return bool(self._pieces.sent or self._asked_sent)
