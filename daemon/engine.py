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

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codegraphd.daemon.graph.cascade import dependents_of_bases, dependents_of_face
from codegraphd.daemon.graph.diff import Fresh, match_units, pair_moves
from codegraphd.daemon.graph.index import Index, Stage, recipe_inputs
from codegraphd.daemon.graph.recipe import BASE_KINDS, quoted, recipe_of
from codegraphd.daemon.graph.resolve import definitions, resolve
from codegraphd.store.records import (
    Facts,
    FileRecord,
    Module,
    Reason,
    Recipe,
    Stat,
    UnitChange,
    UnitRecord,
    UnitState,
)

# Order in which the model gets units; the payload of Stage.EMBED.
NOW, CHANGED, NEW, IDLE = 0, 1, 2, 3

_LEVELS = ("initial", "content", "symbol", "semantic", "project", "model")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A file as it was read: what `apply` takes in."""

    path: str
    stat: Stat
    module: Module


@dataclass(frozen=True, slots=True)
class Work:
    """What one step is to take in for one root. `leaving`: digest -> paths that are about to go, for moves of files."""

    root: int
    parsed: Sequence[ParsedFile] = ()
    gone: Sequence[str] = ()
    touched: Sequence[tuple[str, Stat]] = ()  # same bytes under a new stat
    leaving: Mapping[bytes, Sequence[str]] = field(default_factory=dict)
    anew: bool = False  # equal bytes are taken in again too: a reindex
    urgent: bool = False  # an edit that somebody waits for: its units go to the model first


@dataclass(frozen=True, slots=True)
class Settings:
    max_cascade_depth: int = 3
    max_cascade_units: int = 2000
    faces: bool = False  # whether units have a context input
    own_weight: float = 0.7  # of the own input in the unit's vector; the context input has the rest


@dataclass(slots=True)
class Outcome:
    """What a step did: counters to add up, and what the caller has to know."""

    clock: int = 0
    files: int = 0
    changes: int = 0
    early_cutoffs: int = 0
    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_LEVELS, 0))
    truncated: int = 0
    max_depth: int = 0
    hits: int = 0
    misses: int = 0
    embed: list[tuple[int, int, int]] = field(default_factory=list)  # (unit id, root, priority): queued for the model
    settled: list[int] = field(default_factory=list)  # unit ids that need the model no more: gone, or vector attached
    attached: int = 0
    more: bool = False  # work lists are not empty
    n_resolved: int = 0


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
        first += step.apply(item)
    if resolving:
        step.resolve(first, expired)
        step.refresh(expired)
    elif settings.faces:
        step.postpone()  # what a unit quotes is known only once its references are resolved
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


def set_aside(index: Index, units: Sequence[int]) -> None:
    """Take units off the model's queue that the model cannot digest; their next edit queues them again."""
    for unit_id in units:
        index.dequeue(Stage.EMBED, unit_id)


def requeue_all(index: Index, root: int, reason: str) -> int:
    """Another model or recipe: every unit of the root is a candidate again. -> how many."""
    n = 0
    for file in index.files(root):
        for unit_id in file.units:
            index.enqueue(Stage.RECIPE, unit_id, _cause(reason, "", 0))
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


def _cause(level: str, cause: str, depth: int, priority: int = NEW) -> bytes:
    return json.dumps([level, cause, depth, priority], separators=(",", ":")).encode("utf-8", "surrogatepass")


class _Step:
    """The state of one step: candidates found so far, and a cache of units read in it."""

    def __init__(self, index: Index, settings: Settings, model: bytes | None, outcome: Outcome) -> None:
        self.index, self.settings, self.model, self.outcome = index, settings, model, outcome
        self.candidates: dict[int, tuple[str, str, int, int]] = {}  # unit id -> level, cause, depth, priority
        self.changed_files: dict[int, bool] = {}  # file id -> urgent
        self._units: dict[int, UnitRecord | None] = {}

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self, work: Work) -> list[int]:
        """-> ids of the files whose references are to be resolved first."""
        index, outcome = self.index, self.outcome
        for path, stat in work.touched:
            if (file := index.file(work.root, path)) is not None:
                index.put_file(replace(file, stat=stat))
                outcome.early_cutoffs += 1
        plans = [plan for parsed in work.parsed if (plan := self._plan(work, parsed)) is not None]
        leaving = [file for path in work.gone if (file := index.file(work.root, path)) is not None]
        gone = [unit for plan in plans for unit in plan.gone]
        for file in leaving:
            gone += [unit for unit in index.units_of(file) if unit.file == file.id]
        fresh = [
            Fresh(n, i, unit)
            for n, plan in enumerate(plans)
            for i, unit in enumerate(plan.parsed.module.units)
            if i not in plan.known
        ]
        moved: set[int] = set()
        for record, item in pair_moves(gone, fresh):
            plans[item.file].known[item.index] = record
            moved.add(record.id)
        urgent = NOW if work.urgent else NEW
        for record in gone:
            if record.id not in moved:
                self._delete(record)
        for file in leaving:
            self._touch(work.root, index.delete_file(file))
            outcome.files += 1
        for plan in plans:
            self._write(work, plan, urgent)
        return [plan.file_id for plan in plans]

    def _plan(self, work: Work, parsed: ParsedFile) -> _Plan | None:
        index, module = self.index, parsed.module
        file = index.file(work.root, parsed.path)
        if file is None:
            for origin in work.leaving.get(module.digest, ()) if module.units else ():
                former = index.file(work.root, origin)
                if former is not None and former.digest == module.digest and len(former.units) == len(module.units):
                    known = dict(enumerate(index.units_of(former)))
                    self._touch(work.root, index.delete_file(former))
                    return _Plan(parsed, former.id, known, [], is_new=True)
            return _Plan(parsed, index.new_id(), {}, [], is_new=True)
        if file.digest == module.digest and file.skipped == module.skipped and module.digest and not work.anew:
            index.put_file(replace(file, stat=parsed.stat))
            self.outcome.early_cutoffs += 1
            return None
        known, gone = match_units(index.units_of(file), module.units)
        return _Plan(parsed, file.id, known, gone, is_new=False)

    def _write(self, work: Work, plan: _Plan, priority: int) -> None:
        index, module, path = self.index, plan.parsed.module, plan.parsed.path
        ids = [plan.known[i].id if i in plan.known else index.new_id() for i in range(len(module.units))]
        records = []
        changes: list[UnitChange] = []
        for i, unit in enumerate(module.units):
            parent = ids[unit.parent] if unit.parent >= 0 else 0
            record = UnitRecord(ids[i], work.root, plan.file_id, path, module.language, parent, unit)
            records.append(record)
            self._write_unit(record, plan.known.get(i), module, i, priority, changes)
        index.put_file(
            FileRecord(
                plan.file_id, work.root, path, module.language, plan.parsed.stat, module.digest, module.lines,
                module.skipped, module.errors, tuple(ids),
            )
        )  # fmt: skip
        facts = Facts(module.package, module.references, module.bindings)
        index.put_facts(plan.file_id, facts)
        self._touch(
            work.root,
            index.set_defines(
                work.root, plan.file_id, definitions(path, plan.file_id, facts, records, module.language)
            ),
        )
        index.enqueue(Stage.RESOLVE, plan.file_id)
        self.changed_files[plan.file_id] = work.urgent
        self.outcome.files += 1
        self.outcome.changes += len(changes)
        index.journal(changes)

    def _write_unit(
        self,
        record: UnitRecord,
        old: UnitRecord | None,
        module: Module,
        i: int,
        priority: int,
        changes: list[UnitChange],
    ) -> None:
        index = self.index
        if old == record:
            if index.words(record.id) != module.words[i]:
                index.put_words(record.id, module.words[i])
            return
        index.put_unit(record)
        self._units[record.id] = record
        index.put_words(record.id, module.words[i])
        if old is None:
            changes.append(_change("added", record, face=True))
            self._candidate(record.id, "initial", _name(record), 0, priority)
            return
        face = old.unit.face != record.unit.face
        if old.path != record.path or old.unit.qualname != record.unit.qualname:
            changes.append(_change("moved", record, face=face, origin=f"{old.path}:{old.unit.qualname}"))
        elif face or old.unit.own != record.unit.own:
            changes.append(_change("modified", record, face=face))
        if old.unit.own != record.unit.own:
            self._candidate(record.id, "content", _name(record), 0, min(priority, CHANGED))
        if face:
            self._face_changed(record)

    def _delete(self, record: UnitRecord) -> None:
        # Those that referred to it are resolved again by the keys that it defined. Their edges go with it here, so that
        # resolving would find nothing changed: their recipes are looked at because of the deletion itself.
        if self.settings.faces:
            for dependent, distance in dependents_of_face(self.index, record.id, self.settings.max_cascade_depth):
                self._candidate(dependent, _level(distance), _name(record), distance, NEW)
        self.candidates.pop(record.id, None)
        self.index.delete_unit(record.id)
        self._units[record.id] = None
        self.outcome.settled.append(record.id)
        self.outcome.changes += 1
        self.index.journal([_change("deleted", record, face=True)])

    def _touch(self, root: int, keys: set[bytes]) -> None:
        """Keys that gained or lost a definition: whoever tried them is resolved again."""
        for key in keys:
            for file_id in self.index.waiting(root, key):
                self.index.enqueue(Stage.RESOLVE, file_id)

    # --- resolve ------------------------------------------------------------------------------------------------------

    def resolve(self, first: Sequence[int], expired: Callable[[], bool]) -> None:
        """Files of this step first, whatever the time; then the list as long as there is time."""
        done = set()
        for file_id in first:
            self._resolve_file(file_id)
            done.add(file_id)
        while True:
            batch = [file_id for file_id, _ in self.index.queued(Stage.RESOLVE, 16) if file_id not in done]
            if not batch:
                return
            for file_id in batch:
                self._resolve_file(file_id)
                done.add(file_id)
                if expired():
                    return

    def _resolve_file(self, file_id: int) -> None:
        index = self.index
        index.dequeue(Stage.RESOLVE, file_id)
        file = index.file_by_id(file_id)
        if file is None:
            return
        self.outcome.n_resolved += 1
        resolution = resolve(index, file.root, file)
        own_edit = file_id in self.changed_files
        priority = NOW if self.changed_files.get(file_id) else CHANGED if own_edit else NEW
        for unit_id in file.units:
            edges = resolution.edges.get(unit_id, ())
            bases = {e for e in index.edges_out(unit_id) if e.kind in BASE_KINDS} if self.settings.faces else set()
            if index.set_edges(unit_id, edges) and self.settings.faces:
                level = "content" if own_edit else "symbol"
                self._candidate(unit_id, level, file.path, 0 if own_edit else 1, priority)
                if bases != {e for e in edges if e.kind in BASE_KINDS}:
                    for dependent, distance in dependents_of_bases(index, unit_id, self.settings.max_cascade_depth):
                        self._candidate(dependent, _level(distance), file.path, distance, NEW)
            index.set_mentions(file.root, unit_id, resolution.mentions.get(unit_id, ()))
        index.set_waits(file.root, file_id, resolution.keys)

    # --- refresh ------------------------------------------------------------------------------------------------------

    def refresh(self, expired: Callable[[], bool]) -> None:
        """Candidates of this step, nearest first; then the list. What the time does not allow goes onto the list."""
        ordered = sorted(self.candidates.items(), key=lambda item: (item[1][3], item[1][2]))
        n_cascaded = 0
        for n, (unit_id, (level, cause, depth, priority)) in enumerate(ordered):
            if n and expired():
                self.candidates = dict(ordered[n:])
                self.postpone()
                return
            if depth and self._refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)):
                n_cascaded += 1
            elif not depth:
                self._refresh_unit(unit_id, level, cause, depth, priority)
        while batch := self.index.queued(Stage.RECIPE, 64):  # at least one batch, so that every step gets on
            for unit_id, payload in batch:
                level, cause, depth, priority = json.loads(payload.decode("utf-8", "surrogatepass"))
                if self._refresh_unit(unit_id, level, cause, depth, self._capped(priority, n_cascaded)) and depth:
                    n_cascaded += 1
                self.index.dequeue(Stage.RECIPE, unit_id)
            if expired():
                return

    def postpone(self) -> None:
        """Put the candidates onto the durable list."""
        for unit_id, (level, cause, depth, priority) in self.candidates.items():
            self.index.enqueue(Stage.RECIPE, unit_id, _cause(level, cause, depth, priority))

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
        quotes = quoted(index, unit, self.settings.max_cascade_depth, self._unit) if self.settings.faces else None
        recipe = recipe_of(unit, quotes)
        if recipe == state.recipe and level != "model":
            outcome.early_cutoffs += 1
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

    def _candidate(self, unit_id: int, level: str, cause: str, depth: int, priority: int) -> None:
        known = self.candidates.get(unit_id)
        if known is None or (depth, priority) < (known[2], known[3]):
            self.candidates[unit_id] = (level, cause, depth, min(priority, known[3]) if known else priority)

    def _face_changed(self, record: UnitRecord) -> None:
        if not self.settings.faces:
            return
        self._candidate(record.id, "content", _name(record), 0, CHANGED)
        for dependent, distance in dependents_of_face(self.index, record.id, self.settings.max_cascade_depth):
            self._candidate(dependent, _level(distance), _name(record), distance, NEW)

    def _unit(self, unit_id: int) -> UnitRecord | None:
        if unit_id not in self._units:
            self._units[unit_id] = self.index.unit(unit_id)
        return self._units[unit_id]


@dataclass(slots=True)
class _Plan:
    parsed: ParsedFile
    file_id: int
    known: dict[int, UnitRecord]  # index in module.units -> the record that it was before
    gone: list[UnitRecord]
    is_new: bool


def _level(distance: int) -> str:
    return "symbol" if distance <= 1 else "semantic"


def _name(record: UnitRecord) -> str:
    return f"{record.path}:{record.unit.qualname}"


def _change(change: str, record: UnitRecord, *, face: bool, origin: str = "") -> UnitChange:
    u = record.unit
    return UnitChange(change, record.root, record.id, record.path, u.kind, u.qualname, u.ordinal, face, origin)
