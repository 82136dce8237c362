"""What a change means for the index: the steps of the engine, each a function of one write transaction.

Terms: a *step* is one commit. `advance` does, in this order and as far as its deadline allows:

  apply     parsed files -> files, units, words, definitions; what they may have broken is put on durable work lists
  resolve   a file's references -> edges; units whose edges moved become candidates
  refresh   a candidate's recipe, recomputed without reading source; unchanged: early cutoff; known to the vector
            cache: attached at once; else queued for the model

`attach` takes the model's vectors in. While the model changes there are two editions, and a candidate is refreshed in
both; `fill` gives the units that nobody touches their recipes in the one to come. The work lists lie in the index
itself, so a step that was cut short, or a daemon that was killed, goes on where the last commit left off; once the
lists are empty the index is what a fresh build would give. Pure: no clock, no thread, no store of its own; whoever
calls supplies the transaction and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from codegraphd.daemon.graph.apply import Applier
from codegraphd.daemon.graph.candidates import Candidates, decode_cause, name_of
from codegraphd.daemon.graph.index import Index, Stage, embed_stage, recipe_inputs
from codegraphd.daemon.graph.recipe import BASE_KINDS, quoted, recipe_of
from codegraphd.daemon.graph.resolve import resolve
from codegraphd.daemon.graph.work import CHANGED, IDLE, NEW, NOW, Edition, Outcome, ParsedFile, Settings, Work
from codegraphd.store.records import Reason, Recipe, UnitRecord, UnitState

__all__ = [
    "CHANGED", "IDLE", "NEW", "NOW", "Edition", "Outcome", "ParsedFile", "Settings", "Work",
    "advance", "attach", "embed_entry", "embed_payload", "fill", "set_aside",
]  # fmt: skip


def advance(
    index: Index,
    work: Sequence[Work],
    settings: Settings,
    editions: Sequence[Edition],
    expired: Callable[[], bool],
    *,
    resolving: bool = True,
) -> Outcome:
    """One step. `expired` says when the time slice is over (asked between files and units). `editions` are those that
    the caller knows of, the one that answers first; one that is over by now is left out. `resolving` False leaves
    references for later, as the first crawl does until its files are all in."""
    outcome = Outcome(clock=index.clock)
    settings = replace(settings, faces=any(edition.faces for edition in editions))
    step = _Step(index, settings, editions, outcome)
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
    index: Index, settings: Settings, edition: Edition, vectors: Mapping[bytes, Any], units: Sequence[int]
) -> Outcome:
    """Take in what the edition's model computed: `vectors` by cache key; `units` are those that waited for them.

    A vector whose unit has moved on, or whose edition is over, is kept in the cache and not attached.
    """
    outcome = Outcome(clock=index.clock)
    assert edition.model is not None
    for key, vector in vectors.items():
        index.put_vector(edition.model, key, vector)
    if index.slot_of(edition.number) is None:
        return outcome
    stage = embed_stage(index, edition.number)
    for unit_id in units:
        state = index.state(unit_id, edition.number)
        if state is None or state.recipe is None:
            index.dequeue(stage, unit_id)
            continue
        if state.attached != state.recipe and not _attach(index, settings, edition, unit_id, state):
            continue  # its recipe has changed since: it stays queued, with the new one
        outcome.attached += 1
        outcome.settled.append((edition.number, unit_id))
        index.dequeue(stage, unit_id)
    return outcome


def fill(
    index: Index, settings: Settings, edition: Edition, after: int, expired: Callable[[], bool]
) -> tuple[Outcome, int | None]:
    """Give the units above id `after` their recipes in an edition that has begun: with the vector from the cache where
    it is known, else queued for the model. What `advance` did for the edition already is left as it is.

    -> the outcome, and behind which unit to go on; None: every unit has a recipe.
    """
    outcome = Outcome(clock=index.clock)
    step = _Step(index, replace(settings, faces=edition.faces), [edition], outcome)
    while step.editions and (unit_ids := index.unit_ids(after, 64)):
        for unit_id in unit_ids:
            if index.state(unit_id, edition.number) is None:
                step.refresh_unit(unit_id, "model", "", 0, NEW)
        after = unit_ids[-1]
        if expired():
            return outcome, after
    return outcome, None


def set_aside(index: Index, edition: Edition, units: Sequence[int]) -> None:
    """Take units off the model's queue that the model cannot digest; their next edit queues them again."""
    if index.slot_of(edition.number) is not None:
        for unit_id in units:
            index.dequeue(embed_stage(index, edition.number), unit_id)


def embed_payload(root: int, priority: int) -> bytes:
    """What lies beside a unit in the model's queue, so that the queue can be taken up again without reading units."""
    return bytes([priority]) + root.to_bytes(4, "little")


def embed_entry(payload: bytes) -> tuple[int, int]:
    """-> (root, priority)."""
    return int.from_bytes(payload[1:5], "little"), payload[0]


def _attach(index: Index, settings: Settings, edition: Edition, unit_id: int, state: UnitState) -> bool:
    recipe, model = state.recipe, edition.model
    assert recipe is not None
    assert model is not None
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
    index.attach(unit_id, vector, edition.number)
    index.put_state(unit_id, replace(state, attached=recipe), edition.number)
    return True


class _Step:
    """The state of one step: candidates found so far, and a cache of units read in it."""

    def __init__(self, index: Index, settings: Settings, editions: Sequence[Edition], outcome: Outcome) -> None:
        self.index, self.settings, self.outcome = index, settings, outcome
        self.editions = [edition for edition in editions if index.slot_of(edition.number) is not None]
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
        if self.applier.changed_files.get(file_id):
            priority = NOW
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
            if depth and self.refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)):
                n_cascaded += 1
            elif not depth:
                self.refresh_unit(unit_id, level, cause, depth, priority)
        while batch := self.index.queued(Stage.RECIPE, 64):  # at least one batch, so that every step gets on
            for unit_id, payload in batch:
                level, cause, depth, priority = decode_cause(payload)
                if self.refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)) and depth:
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

    def refresh_unit(self, unit_id: int, level: str, cause: str, depth: int, priority: int) -> bool:
        """-> whether the recipe was another than before, in any edition."""
        index, outcome = self.index, self.outcome
        unit = self._unit(unit_id)
        if unit is None:
            return False
        quotes = quoted(index, unit, self.settings.max_cascade_depth, self._unit) if self.settings.faces else None
        is_new = is_known = False
        for edition in self.editions:
            state = index.state(unit_id, edition.number) or UnitState(None, None, None)
            if state.recipe is None and edition.number == index.edition and level != "model":
                level, cause, depth = "initial", name_of(unit), 0
            recipe = recipe_of(unit, quotes if edition.faces else None)
            if recipe != state.recipe:
                state = UnitState(recipe, state.attached, Reason(level, cause, depth, index.clock))
                self._offer(edition, unit, recipe, state, priority)
                is_new = True
            else:
                is_known |= state.attached == recipe
        if is_new:
            outcome.levels[level] += 1
            outcome.max_depth = max(outcome.max_depth, depth)
        else:
            outcome.early_cutoffs += 1
            outcome.hits += is_known  # asked for again, and known
        return is_new

    def _offer(self, edition: Edition, unit: UnitRecord, recipe: Recipe, state: UnitState, priority: int) -> None:
        """The vector from the cache where it is known, else from the model, later."""
        index, outcome, model = self.index, self.outcome, edition.model
        stage = embed_stage(index, edition.number)
        if model is not None and all(index.has_vector(model, key) for key in recipe_inputs(recipe)):
            outcome.hits += 1
            if _attach(index, self.settings, edition, unit.id, state):
                outcome.attached += 1
                outcome.settled.append((edition.number, unit.id))
                index.dequeue(stage, unit.id)
                return
        outcome.misses += 1
        if model is None and state.attached not in (None, recipe):
            index.attach(unit.id, None, edition.number)
            state = replace(state, attached=None)
        index.put_state(unit.id, state, edition.number)
        index.enqueue(stage, unit.id, embed_payload(unit.root, priority))
        outcome.embed.append((edition.number, unit.id, unit.root, priority))

    def _unit(self, unit_id: int) -> UnitRecord | None:
        if unit_id not in self._units:
            self._units[unit_id] = self.index.unit(unit_id)
        return self._units[unit_id]
