"""What a change means for the index: the steps of the engine, each a function of one write transaction.

Terms: a *step* is one commit. `advance` does, in this order and as far as its deadline allows:

  apply     parsed files -> files, units, words, definitions; what they may have broken is put on durable work lists
  resolve   a file's references -> edges; units whose edges moved become candidates
  refresh   a candidate's recipe, recomputed without reading source; unchanged: early cutoff; known to the vector
            cache: attached at once; else queued for the model

`attach` takes the model's vectors in. The work lists lie in the index itself, so a step that was cut short, or a
daemon that was killed, goes on where the last commit left off; once the lists are empty the index is what a fresh
build would give. Pure: no clock, no thread, no store of its own; whoever calls supplies the transaction and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from codegraphd.daemon.graph.apply import Applier
from codegraphd.daemon.graph.candidates import Candidates, decode_cause, encode_cause, name_of
from codegraphd.daemon.graph.index import Index, Stage, recipe_inputs
from codegraphd.daemon.graph.recipe import BASE_KINDS, quoted, recipe_of
from codegraphd.daemon.graph.resolve import resolve
from codegraphd.daemon.graph.work import CHANGED, IDLE, NEW, NOW, Outcome, ParsedFile, Settings, Work
from codegraphd.store.records import Reason, Recipe, UnitRecord, UnitState

__all__ = [
    "CHANGED", "IDLE", "NEW", "NOW", "Outcome", "ParsedFile", "Settings", "Work",
    "advance", "attach", "detach", "embed_entry", "embed_payload", "requeue_all", "set_aside",
]  # fmt: skip


def advance(
    index: Index,
    work: Sequence[Work],
    settings: Settings,
    model: bytes | None,
    expired: Callable[[], bool],
    *,
    resolving: bool = True,
) -> Outcome:
    """One step. `expired` says when the time slice is over (asked between files and units); `model` is the fingerprint
    in use, None when there is none: units then wait in the queue. `resolving` False leaves references for later, as
    the first crawl does until its files are all in."""
    outcome = Outcome(clock=index.clock)
    step = _Step(index, settings, model, outcome)
    first: list[int] = []
    for item in work:
        first += step.applier.apply(item)
    if resolving:
        step.resolve(first, expired)
        step.refresh(expired)
    elif settings.faces:
        step.candidates.postpone(
            step.candidates.take()
        )  # what a unit quotes is known only once its references are resolved
    else:
        step.refresh(expired)
    outcome.more = bool(index.queued(Stage.RESOLVE, 1) or index.queued(Stage.RECIPE, 1))
    return outcome


def attach(
    index: Index, settings: Settings, model: bytes, vectors: Mapping[bytes, Any], units: Sequence[int]
) -> Outcome:
    """Take in what the model computed: `vectors` by cache key; `units` are those that waited for them.

    A vector whose unit has moved on is kept in the cache and not attached.
    """
    outcome = Outcome(clock=index.clock)
    for key, vector in vectors.items():
        index.put_vector(model, key, vector)
    for unit_id in units:
        state = index.state(unit_id)
        if state is None or state.recipe is None:
            index.dequeue(Stage.EMBED, unit_id)
            continue
        if state.attached != state.recipe and not _attach(index, settings, model, unit_id, state):
            continue  # its recipe has changed since: it stays queued, with the new one
        outcome.attached += 1
        outcome.settled.append(unit_id)
        index.dequeue(Stage.EMBED, unit_id)
    return outcome


def detach(index: Index, unit_ids: Sequence[int]) -> None:
    """Another model: the vectors that answered for these units mean nothing any more."""
    for unit_id in unit_ids:
        index.attach(unit_id, None)
        if (state := index.state(unit_id)) is not None:
            index.put_state(unit_id, replace(state, attached=None))


def set_aside(index: Index, units: Sequence[int]) -> None:
    """Take units off the model's queue that the model cannot digest; their next edit queues them again."""
    for unit_id in units:
        index.dequeue(Stage.EMBED, unit_id)


def requeue_all(index: Index, root: int, reason: str) -> int:
    """Another model or recipe: every unit of the root is a candidate again. -> how many."""
    n = 0
    for file in index.files(root):
        for unit_id in file.units:
            index.enqueue(Stage.RECIPE, unit_id, encode_cause((reason, "", 0, NEW)))
            n += 1
    return n


def embed_payload(root: int, priority: int) -> bytes:
    """What lies beside a unit in the model's queue, so that the queue can be taken up again without reading units."""
    return bytes([priority]) + root.to_bytes(4, "little")


def embed_entry(payload: bytes) -> tuple[int, int]:
    """-> (root, priority)."""
    return int.from_bytes(payload[1:5], "little"), payload[0]


def _attach(index: Index, settings: Settings, model: bytes, unit_id: int, state: UnitState) -> bool:
    recipe = state.recipe
    assert recipe is not None
    own = index.vector(model, recipe.own)
    if own is None:
        return False
    vector = own
    if recipe.context:
        context = index.vector(model, recipe.context)
        if context is None:
            return False
        vector = settings.own_weight * own + (1.0 - settings.own_weight) * context
        norm = float(vector @ vector) ** 0.5
        vector = vector / norm if norm else own
    index.attach(unit_id, vector)
    index.put_state(unit_id, replace(state, attached=recipe))
    return True


class _Step:
    """The state of one step: candidates found so far, and a cache of units read in it."""

    def __init__(self, index: Index, settings: Settings, model: bytes | None, outcome: Outcome) -> None:
        self.index, self.settings, self.model, self.outcome = index, settings, model, outcome
        self.candidates = Candidates(index, settings)
        self.applier = Applier(index, self.candidates, outcome)
        self._units = self.applier.units

    # --- resolve ------------------------------------------------------------------------------------------------------

    def resolve(self, first: Sequence[int], expired: Callable[[], bool]) -> None:
        """Files of this step first, whatever the time; then the list as long as there is time."""
        done = set()
        for file_id in first:
            self._resolve_file(file_id, b"")
            done.add(file_id)
        while True:
            batch = [entry for entry in self.index.queued(Stage.RESOLVE, 16) if entry[0] not in done]
            if not batch:
                return
            for file_id, payload in batch:
                self._resolve_file(file_id, payload)
                done.add(file_id)
                if expired():
                    return

    def _resolve_file(self, file_id: int, payload: bytes) -> None:
        """`payload`: what it is resolved again for; b"": it was read."""
        index = self.index
        index.dequeue(Stage.RESOLVE, file_id)
        file = index.file_by_id(file_id)
        if file is None:
            return
        self.outcome.n_resolved += 1
        resolution = resolve(index, file.root, file)
        level, cause, depth, priority = decode_cause(payload) if payload else ("content", file.path, 0, NEW)
        if file_id in self.applier.changed_files:
            priority = NOW if self.applier.changed_files[file_id] else CHANGED
        for unit_id in file.units:
            edges = resolution.edges.get(unit_id, ())
            bases = {e for e in index.edges_out(unit_id) if e.kind in BASE_KINDS} if self.settings.faces else set()
            if index.set_edges(unit_id, edges) and self.settings.faces:
                self.candidates.add(unit_id, level, cause, depth, priority)
                if bases != {e for e in edges if e.kind in BASE_KINDS}:
                    self.candidates.bases_changed(unit_id, cause)
            index.set_mentions(file.root, unit_id, resolution.mentions.get(unit_id, ()))
        index.set_waits(file.root, file_id, resolution.keys)

    # --- refresh ------------------------------------------------------------------------------------------------------

    def refresh(self, expired: Callable[[], bool]) -> None:
        """Candidates of this step, nearest first; then the list. What the time does not allow goes onto the list, but
        for the units that the step's own files changed: to write each down and read it again costs more than it."""
        ordered = self.candidates.take()
        n_cascaded = 0
        for n, (unit_id, (level, cause, depth, priority)) in enumerate(ordered):
            if n and depth and expired():
                self.candidates.postpone(ordered[n:])
                return
            if depth and self._refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)):
                n_cascaded += 1
            elif not depth:
                self._refresh_unit(unit_id, level, cause, depth, priority)
        while batch := self.index.queued(Stage.RECIPE, 64):  # at least one batch, so that every step gets on
            for unit_id, payload in batch:
                level, cause, depth, priority = decode_cause(payload)
                if self._refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)) and depth:
                    n_cascaded += 1
                self.index.dequeue(Stage.RECIPE, unit_id)
            if expired():
                return

    def _capped(self, priority: int, n_cascaded: int) -> int:
        """Beyond max_cascade_units a cascade's vectors wait until there is nothing else to do."""
        if n_cascaded < self.settings.max_cascade_units:
            return priority
        self.outcome.truncated += 1
        return IDLE

    def _refresh_unit(self, unit_id: int, level: str, cause: str, depth: int, priority: int) -> bool:
        """-> whether the recipe was another than before."""
        index, outcome = self.index, self.outcome
        unit = self._unit(unit_id)
        if unit is None:
            return False
        state = index.state(unit_id) or UnitState(None, None, None)
        if state.recipe is None:
            level, cause, depth = "initial", name_of(unit), 0
        quotes = quoted(index, unit, self.settings.max_cascade_depth, self._unit) if self.settings.faces else None
        recipe = recipe_of(unit, quotes)
        if recipe == state.recipe and level != "model":
            outcome.early_cutoffs += 1
            outcome.hits += state.attached == recipe  # asked for again, and known
            return False
        outcome.levels[level] += 1
        outcome.max_depth = max(outcome.max_depth, depth)
        state = UnitState(recipe, state.attached, Reason(level, cause, depth, index.clock))
        self._offer(unit, recipe, state, priority)
        return True

    def _offer(self, unit: UnitRecord, recipe: Recipe, state: UnitState, priority: int) -> None:
        """The vector from the cache where it is known, else from the model, later."""
        index, outcome, model = self.index, self.outcome, self.model
        if model is not None and all(index.has_vector(model, key) for key in recipe_inputs(recipe)):
            outcome.hits += 1
            if _attach(index, self.settings, model, unit.id, state):
                outcome.attached += 1
                outcome.settled.append(unit.id)
                index.dequeue(Stage.EMBED, unit.id)
                return
        outcome.misses += 1
        index.put_state(unit.id, state)
        index.enqueue(Stage.EMBED, unit.id, embed_payload(unit.root, priority))
        outcome.embed.append((unit.id, unit.root, priority))

    def _unit(self, unit_id: int) -> UnitRecord | None:
        if unit_id not in self._units:
            self._units[unit_id] = self.index.unit(unit_id)
        return self._units[unit_id]
