"""Parsed files into the index: which unit is which, what is defined, and what that may have broken.

Files of one step are matched together, so that a unit that moved from one to another keeps its id; a file that is new
with the bytes of one that is leaving is that file, moved. What others may have built on what is gone or new is put on
the work list of `resolve`; units whose text or face changed become candidates of `refresh`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from codegraphd.daemon.graph.candidates import Candidates, encode_cause, name_of
from codegraphd.daemon.graph.diff import Fresh, content_of, match_units, pair_edited, pair_moves
from codegraphd.daemon.graph.index import Index, Stage
from codegraphd.daemon.graph.keys import Pair, ids_of
from codegraphd.daemon.graph.projects import is_project
from codegraphd.daemon.graph.resolve import definitions
from codegraphd.daemon.graph.work import CHANGED, NEW, NOW, Outcome, ParsedFile, Work
from codegraphd.store.codec import decode_facts
from codegraphd.store.records import FileRecord, LostUnit, PackedModule, UnitChange, UnitRecord


class Applier:
    """Applies work to the index. `changed_files` says which files it wrote, and whether somebody waits for them."""

    def __init__(self, index: Index, candidates: Candidates, outcome: Outcome) -> None:
        self.index, self.candidates, self.outcome = index, candidates, outcome
        self.units: dict[int, UnitRecord | None] = {}  # what it wrote and deleted: need not be read again in this step
        self.changed_files: dict[int, bool] = {}  # file id -> urgent
        self._deleted: dict[int, str] = {}  # unit id -> its name as a cause

    def apply(self, work: Work) -> list[int]:
        """-> ids of the files whose references are to be resolved first."""
        index, outcome = self.index, self.outcome
        if index.root(work.root) is None:
            return []  # dropped since the work was handed over
        for path, stat, digest in work.touched:
            file = index.file(work.root, path)
            if file is None or file.digest != digest:  # a step came between, which held older bytes, or moved the file
                outcome.again.append((work.root, path, stat))
                continue
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
        pairs = pair_moves(gone, fresh)
        pairs += self._moved_with_edits(plans, {file.id for file in leaving}, gone, fresh, pairs)
        moved: set[int] = set()
        for record, item in pairs:
            plans[item.file].known[item.index] = record
            moved.add(record.id)
        urgent = NOW if work.urgent else NEW
        broken = {plan.file_id for plan in plans if plan.parsed.module.errors}
        for record in gone:
            if record.id not in moved:
                if record.file in broken and (words := index.words(record.id)) is not None:
                    outcome.lost.append(LostUnit(record, words, index.attached(record.id), index.edition))
                self._delete(record)
        for file in leaving:
            self._touch(file, index.delete_file(file))
            outcome.files += 1
        return [plan.file_id for plan in plans if self._write(work, plan, urgent)]

    def _plan(self, work: Work, parsed: ParsedFile) -> _Plan | None:
        index, module = self.index, parsed.module
        file = index.file(work.root, parsed.path)
        if file is None:
            for origin in work.leaving.get(module.digest, ()) if module.units else ():
                former = index.file(work.root, origin)
                if former is not None and former.digest == module.digest and len(former.units) == len(module.units):
                    known = dict(enumerate(index.units_of(former)))
                    self._touch(former, index.delete_file(former))
                    return _Plan(parsed, former.id, known, [], None)
            return _Plan(parsed, index.new_id(), {}, [], None)
        if file.digest == module.digest and file.skipped == module.skipped and module.digest and not work.anew:
            index.put_file(replace(file, stat=parsed.stat))
            self.outcome.early_cutoffs += 1
            return None
        known, gone = match_units(index.units_of(file), module.units)
        return _Plan(parsed, file.id, known, gone, file)

    @staticmethod
    def _moved_with_edits(
        plans: list[_Plan],
        leaving: set[int],
        gone: list[UnitRecord],
        fresh: list[Fresh],
        moved: list[tuple[UnitRecord, Fresh]],
    ) -> list[tuple[UnitRecord, Fresh]]:
        known, taken = {record.id for record, _ in moved}, {(item.file, item.index) for _, item in moved}
        return pair_edited(
            [record for record in gone if record.file in leaving and record.id not in known],
            [item for item in fresh if plans[item.file].former is None and (item.file, item.index) not in taken],
            moved,
            [plan.parsed.path for plan in plans],
        )

    def _write(self, work: Work, plan: _Plan, priority: int) -> bool:
        """-> whether the references of the file are to be resolved."""
        index, module, path = self.index, plan.parsed.module, plan.parsed.path
        ids = [plan.known[i].id if i in plan.known else index.new_id() for i in range(len(module.units))]
        records = []
        changes: list[UnitChange] = []
        for i, unit in enumerate(module.units):
            parent = ids[unit.parent] if unit.parent >= 0 else 0
            record = UnitRecord(ids[i], work.root, plan.file_id, path, module.language, parent, unit)
            records.append(record)
            self._write_unit(record, plan.known.get(i), module, i, priority, changes)
            if work.anew:  # another version of this code may make another recipe of the same text
                self.candidates.add(record.id, "content", name_of(record), 0, NEW)
        file = FileRecord(
            plan.file_id, work.root, path, module.language, plan.parsed.stat, module.digest, module.lines,
            module.skipped, module.errors, tuple(ids),
        )  # fmt: skip
        index.put_file(file)
        resolves = work.anew or not plan.refers_as_before(file, index.outline(plan.file_id))
        index.put_facts_row(plan.file_id, module.facts, module.outline)
        if resolves:
            defined = definitions(path, plan.file_id, decode_facts(module.facts), records, module.language)
            self._touch(file, index.set_defines(work.root, plan.file_id, defined))
            index.enqueue(Stage.RESOLVE, plan.file_id)
        self.changed_files[plan.file_id] = work.urgent
        self.outcome.files += 1
        self.outcome.changes += len(changes)
        index.journal(changes)
        return resolves

    def _write_unit(
        self,
        record: UnitRecord,
        old: UnitRecord | None,
        module: PackedModule,
        i: int,
        priority: int,
        changes: list[UnitChange],
    ) -> None:
        index = self.index
        if old is not None and old.unit.own == record.unit.own and old.unit.face == record.unit.face:
            self._look_up(old.id)
        if old != record:
            index.put_unit(record)
            self.units[record.id] = record
        index.put_words_row(record.id, module.words[i])
        if old == record:
            return
        if old is None:
            changes.append(_change("added", record, face=True))
            self.candidates.add(record.id, "initial", name_of(record), 0, priority)
            return
        face = old.unit.face != record.unit.face
        if old.path != record.path or old.unit.qualname != record.unit.qualname:
            changes.append(_change("moved", record, face=face, old=old))
        elif face or old.unit.own != record.unit.own:
            changes.append(_change("modified", record, face=face, old=old))
        if old.unit.own != record.unit.own or old.language != record.language:
            self.candidates.add(record.id, "content", name_of(record), 0, min(priority, CHANGED))
        if face:
            self.candidates.face_changed(record)

    def _look_up(self, unit: int) -> None:
        """A unit of a changed file that says what it said: its recipe is asked for, and known where it has a vector."""
        state = self.index.state(unit)
        if state is not None and state.recipe is not None and state.attached == state.recipe:
            self.outcome.hits += 1

    def _delete(self, record: UnitRecord) -> None:
        # Those that referred to it are resolved again by the keys that it defined.
        self.candidates.deleted(record)
        self._deleted[record.id] = name_of(record)
        self.index.delete_unit(record.id)
        self.units[record.id] = None
        self.outcome.gone.append(record.id)
        self.outcome.changes += 1
        self.index.journal([_change("deleted", record, face=True)])

    def _touch(self, file: FileRecord, pairs: set[Pair]) -> None:
        """Keys of a file that gained or lost a definition: whoever tried them is resolved again."""
        index, root = self.index, file.root
        values: dict[bytes, list[int]] = {}
        for key, value in pairs:
            values.setdefault(key, []).append(value)
        for key, changed in values.items():
            if waiting := index.waiting(root, key):
                level = "project" if is_project(file.path) else "symbol"
                payload = encode_cause((level, self._name_of(key, changed, file), 1, NEW))
                for file_id in waiting:
                    index.enqueue(Stage.RESOLVE, file_id, payload)

    def _name_of(self, key: bytes, changed: list[int], file: FileRecord) -> str:
        """What came, went or changed under a key: a unit, where it is one, else its file."""
        for id_ in (*ids_of(sorted(changed)), *ids_of(self.index.lookup(file.root, key))):
            if id_ in self._deleted:
                return self._deleted[id_]
            if (unit := self.units.get(id_) or self.index.unit(id_)) is not None:
                return name_of(unit)
        return file.path


@dataclass(slots=True)
class _Plan:
    parsed: ParsedFile
    file_id: int
    known: dict[int, UnitRecord]  # index in module.units -> the record that it was before
    gone: list[UnitRecord]
    former: FileRecord | None  # the file as it was at this path; None: it is new there

    def refers_as_before(self, file: FileRecord, outline: bytes) -> bool:
        """Whether all is as it was that resolution reads of the file itself (see `outline`)."""
        former = self.former
        return former is not None and former.units == file.units and outline == self.parsed.module.outline != b""


def _change(change: str, record: UnitRecord, *, face: bool, old: UnitRecord | None = None) -> UnitChange:
    u = record.unit
    origin = name_of(old) if old is not None and change == "moved" else ""
    before = content_of(old) if old is not None else b""
    return UnitChange(change, record.root, record.id, record.path, u.kind, u.qualname, u.ordinal, face, origin, before)
