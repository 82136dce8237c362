"""A change of the model, from the first unit to the last, as the index goes through it.

Who makes an edition's vectors is its *maker*: a model by its fingerprint, and the kind of inputs. When another maker is
wanted than the one whose edition answers:

    clear    what a former edition left in the other slot
    begin    an edition to come there; where nothing answers yet by meaning, it answers from now on, unit by unit
    fill     every unit gets its recipe in it, in slices: with its vector where the cache has it, else queued
    wait     until nothing is left with the model but what it cannot take; what a missing workspace lacks holds it up
    switch   one commit, in which nothing moves: from it on the edition answers, whole
    clear    the former edition; its vectors stay in the cache

Until the switch the former edition answers, from its own model's vectors alone. A unit that is edited meanwhile is
embedded by both models: for the answers now, and for those to come. Where the former model is not to be had, such a
unit loses its vector and is found by words until the switch.

Each step is one commit or a chain of short ones, and what the next one is follows from the store alone: a killed daemon
goes on where it was. If a third maker is wanted, the edition to come is given up and another one begins; if the former
one is wanted again, there is nothing to do but to give up. All of this on the indexer's thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from codegraphd.daemon.embedding.feeders import load
from codegraphd.daemon.engine import Edition, Outcome, embed_entry, fill
from codegraphd.daemon.graph.index import Stage, embed_stage
from codegraphd.daemon.indexer import SLICE_S, Call
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.transaction import Transaction

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

log = logging.getLogger("codegraphd")

T = TypeVar("T")
RETRY_S = 2.0  # after a commit that failed
_FILL = "fill"  # in the store's meta: the edition that is being filled, and behind which unit to go on


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes the vectors of an edition."""

    model: str  # as it was configured: a known name, or a directory
    max_tokens: int  # as configured
    name: str
    fingerprint: bytes
    faces: bool

    @property
    def identity(self) -> tuple[bytes, bool]:
        """Equal exactly where the vectors can be compared."""
        return self.fingerprint, self.faces

    @property
    def source(self) -> tuple[str, int]:
        """What the model is found by."""
        return self.model, self.max_tokens

    def encode(self) -> bytes:
        fields = [self.model, self.max_tokens, self.name, self.fingerprint.hex(), self.faces]
        return json.dumps(fields, separators=(",", ":")).encode("utf-8", "surrogatepass")

    @classmethod
    def decode(cls, raw: bytes) -> Maker:
        model, max_tokens, name, fingerprint, faces = json.loads(raw.decode("utf-8", "surrogatepass"))
        return cls(model, max_tokens, name, bytes.fromhex(fingerprint), faces)


class Change:
    """See the module. `answering` and `coming` (0: none) are editions, `makers` those of both, where they are known."""

    def __init__(self, daemon: Daemon, arranged: Callable[[], None]) -> None:
        """`arranged` is called when other editions than before are there to be served."""
        self._daemon, self._arranged = daemon, arranged
        self.wanted: Maker | None = None
        self.makers: dict[int, Maker] = {}
        self._filling: tuple[int, int] | None = None
        self._is_clear = False  # the other slot, as far as we know
        self._is_busy = False  # a job of ours is with the writer
        self._is_retried = False  # what was given up in the edition to come was tried once more
        self._not_before = 0.0
        with daemon.store.snapshot() as view:
            self.answering, self.coming = view.edition, view.editions.coming
            for edition in (self.answering, self.coming):
                if raw := view.meta(_key(edition)):
                    self.makers[edition] = Maker.decode(raw)
            if raw := view.meta(_FILL):
                number, after = map(int, raw.split(b":"))
                self._filling = number, after

    @property
    def is_under_way(self) -> bool:
        here = self.makers.get(self.answering)
        is_other = self.wanted is not None and here is not None and self.wanted.identity != here.identity
        return is_other or bool(self.coming) or self._filling is not None

    @property
    def target(self) -> int:
        """The edition that is being made; 0: none yet."""
        return self.coming or (self.answering if self._filling is not None else 0)

    def want(self, maker: Maker | None) -> None:
        """The maker that the configuration means; None: it is not known, and the edition that answers is kept."""
        self.wanted = maker
        if maker is not None and self.answering not in self.makers:
            self.makers[self.answering] = maker
            self._daemon.writer.submit(lambda txn: txn.put_meta(_key(txn.edition), maker.encode()))
        self.advance()

    def advance(self) -> None:
        """Do what is to be done next, if anything; called every few seconds, and again after each step."""
        indexer = self._daemon.indexer
        indexer.feeders.is_changing = self.is_under_way
        if self._is_busy or time.monotonic() < self._not_before:
            return
        wanted, here, other = self.wanted, self.makers.get(self.answering), self.makers.get(self.coming)
        if self.coming and (wanted is None or other is None or wanted.identity != other.identity):
            self._give_up()
        elif not self.coming and not self._is_clear:
            self._clear()
        elif wanted is not None and here is not None and not self.coming and wanted.identity != here.identity:
            self._begin(wanted)
        elif self._filling is not None:
            if not indexer.is_behind:  # else units would get the recipe of references that are half resolved
                self._fill(*self._filling)
        elif self.coming:
            self._switch()

    # --- the steps ----------------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        def done(_: None) -> None:
            self.makers.pop(self.coming, None)
            self.coming, self._filling, self._is_clear = 0, None, False
            self._arranged()

        def job(txn: Transaction) -> None:
            txn.give_up_edition()
            txn.put_meta(_FILL, b"")

        self._submit(job, done)

    def _clear(self) -> None:
        def done(is_clear: bool) -> None:
            self._is_clear = is_clear

        self._submit(lambda txn: txn.clear_slot(Stage.EMBED if txn.editions.slot else Stage.EMBED_1), done)

    def _begin(self, maker: Maker) -> None:
        def job(txn: Transaction) -> tuple[int, bool]:
            number = txn.begin_edition()
            txn.put_meta(_key(number), maker.encode())
            txn.put_meta(_FILL, b"%d:0" % number)
            answers_at_once = not any(txn.counts(root.id)[3] for root in txn.roots())
            if answers_at_once:
                txn.switch_edition()
            return number, answers_at_once

        def done(begun: tuple[int, bool]) -> None:
            number, answers_at_once = begun
            self.makers[number] = maker
            self._filling, self._is_retried = (number, 0), False
            if answers_at_once:
                self.answering, self._is_clear = number, False
            else:
                self.coming = number
            log.info("the model is now %s: its vectors are computed in the background", maker.name)
            self._arranged()

        self._submit(job, done)

    def _fill(self, number: int, after: int) -> None:
        settings, maker = self._daemon.indexer.settings, self.makers[number]
        edition = Edition(number, maker.fingerprint, maker.faces)

        def job(txn: Transaction) -> tuple[Outcome, int | None]:
            until = time.monotonic() + SLICE_S
            outcome, last = fill(txn, settings, edition, after, lambda: time.monotonic() >= until)
            txn.put_meta(_FILL, b"" if last is None else b"%d:%d" % (number, last))
            return outcome, last

        def done(filled: tuple[Outcome, int | None]) -> None:
            outcome, last = filled
            self._filling = None if last is None else (number, last)
            self._daemon.indexer.feeders.take(outcome, time.monotonic())
            self._daemon.indexer.count(outcome)

        self._submit(job, done)

    def _switch(self) -> None:
        indexer = self._daemon.indexer
        feeder = indexer.feeders.coming
        if feeder is None or not feeder.is_idle or indexer.is_behind:
            return
        with self._daemon.store.snapshot() as view:
            roots = roots_that_wait(view, self.coming)
            works = [work for root in roots if (work := indexer.roots.get(root)) is not None]
            if any(work.missing or not work.crawled for work in works):
                return
            if works and not self._is_retried:
                self._is_retried = True
                load(feeder, view)
                return
        former, number = self.answering, self.coming

        def job(txn: Transaction) -> None:
            txn.switch_edition()
            txn.put_meta(_key(former), b"")

        def done(_: None) -> None:
            self.makers.pop(former, None)
            self.answering, self.coming, self._is_clear = number, 0, False
            log.info("all is embedded by %s: it answers now", self.makers[number].name)
            self._arranged()

        self._submit(job, done)

    def _submit(self, job: Callable[[Transaction], T], done: Callable[[T], None]) -> None:
        """One step; the next one follows at once."""
        self._is_busy = True

        def handle(future: Future[T]) -> None:
            self._is_busy = False
            if (error := future.exception()) is not None:
                log.warning("the change of the model has to wait: %s", error)
                self._not_before = time.monotonic() + RETRY_S
                return
            done(future.result())
            self.advance()

        indexer = self._daemon.indexer
        future = self._daemon.writer.submit(job, interactive=False)
        future.add_done_callback(lambda over: indexer.post(Call(lambda: handle(over))))


def roots_that_wait(view: Snapshot, edition: int) -> set[int]:
    """The roots of which some units have no vector in the edition."""
    return {embed_entry(payload)[0] for _, payload in view.queued(embed_stage(view, edition))}


def _key(edition: int) -> str:
    """Where the store's meta has an edition's maker."""
    return f"edition:{edition}"
