"""Old units against new ones: which unit is which after an edit.

A unit keeps its id, and with it its vector and its history, when it is still the same unit. Inside one file that is
decided by qualified name and signature, then by qualified name and text, then by order among equals; what is left on
both sides is paired by equal text or equal body: renamed, or moved. Across the files of one step only the latter holds,
and then, between a file that went and one that came in its place, the names again: it was moved with edits.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from codegraphd.store.records import Unit, UnitChange, UnitRecord, digest

Rule = Callable[[Unit], Hashable]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A unit of the new source that is not known yet where it stands: `file` and `index` are the caller's."""

    file: int
    index: int
    unit: Unit


def match_units(
    old: Sequence[UnitRecord], new: Sequence[Unit], rules: Sequence[Rule] | None = None
) -> tuple[dict[int, UnitRecord], list[UnitRecord]]:
    """Which old unit each new one is. `rules`: in order; by default those for one file before and after an edit.

    -> (index in `new` -> old record, old records that nothing matches, in their order).
    """
    found: dict[int, UnitRecord] = {}
    left_old = list(old)
    left_new = list(range(len(new)))
    if len(old) == len(new) and all(_place(o.unit) == _place(n) for o, n in zip(old, new, strict=True)):
        return dict(enumerate(old)), []  # the common case: an edit inside of units
    for rule in _RULES if rules is None else rules:
        pool: defaultdict[Hashable, list[UnitRecord]] = defaultdict(list)
        for record in reversed(left_old):
            pool[rule(record.unit)].append(record)
        taken: set[int] = set()
        rest = []
        for index in left_new:
            if candidates := pool.get(rule(new[index])):
                record = candidates.pop()
                found[index] = record
                taken.add(record.id)
            else:
                rest.append(index)
        left_old = [record for record in left_old if record.id not in taken]
        left_new = rest
        if not left_old or not left_new:
            break
    return found, left_old


def pair_moves(gone: Iterable[UnitRecord], fresh: Iterable[Fresh]) -> list[tuple[UnitRecord, Fresh]]:
    """Units that left one place and turned up at another: equal text first, then equal name and body.

    Both in the order given; each is used once. Units without a body of their own (a bare declaration) stay unpaired by
    the second rule, since an empty body says nothing.
    """
    gone, fresh = list(gone), list(fresh)
    pairs: list[tuple[UnitRecord, Fresh]] = []
    for rule in (_text, _named_body):
        pool: defaultdict[Hashable, list[UnitRecord]] = defaultdict(list)
        for record in reversed(gone):
            pool[rule(record.unit)].append(record)
        used: set[int] = set()
        rest = []
        for item in fresh:
            if candidates := pool.get(rule(item.unit)):
                record = candidates.pop()
                pairs.append((record, item))
                used.add(record.id)
            else:
                rest.append(item)
        gone = [record for record in gone if record.id not in used]
        fresh = rest
    return pairs


def pair_edited(
    gone: Iterable[UnitRecord], fresh: Iterable[Fresh], moved: Iterable[tuple[UnitRecord, Fresh]], paths: Sequence[str]
) -> list[tuple[UnitRecord, Fresh]]:
    """Units of files that were moved with edits, by name. `gone` are of files that are gone, `fresh` of files that are
    new, both without those that were `moved` unchanged; `paths` are those of the new files, by `Fresh.file`.

    A new file is the one that most of its units moved from; without any, the only one of its name that went.
    """
    votes = Counter((record.file, item.file) for record, item in moved)
    left: defaultdict[int, list[UnitRecord]] = defaultdict(list)
    for record in gone:
        left[record.file].append(record)
    named: defaultdict[str, list[int]] = defaultdict(list)
    for file, records in left.items():
        named[os.path.basename(records[0].path)].append(file)
    came: defaultdict[int, list[Fresh]] = defaultdict(list)
    for item in fresh:
        came[item.file].append(item)
    heirs = Counter(os.path.basename(paths[file]) for file in came)
    origins = {file: old for (old, file), _ in reversed(votes.most_common())}
    pairs: list[tuple[UnitRecord, Fresh]] = []
    for file, items in came.items():
        name = os.path.basename(paths[file])
        namesakes = named[name] if heirs[name] == 1 and len(named[name]) == 1 else []
        origin = origins.get(file, *namesakes[:1] or [0])
        records = left.pop(origin, [])
        found, _ = match_units(records, [item.unit for item in items], _NAMED)
        pairs += [(record, items[index]) for index, record in found.items()]
    return pairs


def content_of(record: UnitRecord) -> bytes:
    """What a unit says, whatever its place: equal where nothing that counts was modified."""
    return digest(record.unit.own, record.unit.face)


def net_changes(
    lines: Iterable[tuple[int, UnitChange]], until: int, present: Callable[[int], bytes | None]
) -> list[UnitChange]:
    """What has become of each unit, from the journal's lines after some clock up to the clock `until`, oldest first.

    Lines after `until` say what a unit was then; `present` gives the content of those without: None for one that is
    gone. A unit that is as it was, at its place, is left out. `origin`: its place at the earlier clock, if another.
    """
    first: dict[int, UnitChange] = {}
    last: dict[int, UnitChange] = {}
    place: dict[int, str] = {}  # at the earlier clock
    after: dict[int, bytes] = {}  # content at `until`
    for at, line in lines:
        if at > until:
            after.setdefault(line.unit, line.before)
            continue
        first.setdefault(line.unit, line)
        place.setdefault(line.unit, line.origin or f"{line.path}:{line.qualname}")
        last.pop(line.unit, None)
        last[line.unit] = line
    found = []
    for unit, line in last.items():
        was = first[unit]
        origin = place[unit] if was.change != "added" and place[unit] != f"{line.path}:{line.qualname}" else ""
        if line.change == "deleted":
            if was.change == "added":
                continue  # came and went in between
            change = "deleted"
        elif was.change == "added":
            change = "added"
        elif origin:
            change = "moved"
        else:
            content = after[unit] if unit in after else present(unit)
            if was.before and was.before == content:
                continue  # what was done to it was undone
            change = "modified"
        found.append(replace(line, change=change, origin=origin))
    return found


def _place(unit: Unit) -> Hashable:
    return (unit.kind, unit.qualname, unit.ordinal, unit.signature)


def _text(unit: Unit) -> Hashable:
    return (unit.kind, unit.own)


def _named_body(unit: Unit) -> Hashable:
    return (unit.kind, unit.name, unit.body)


def _body(unit: Unit) -> Hashable:
    return (unit.kind, unit.body)


_NAMED: tuple[Rule, ...] = (
    lambda u: (u.kind, u.qualname, u.signature),
    lambda u: (u.kind, u.qualname),
)
_RULES: tuple[Rule, ...] = (
    lambda u: (u.kind, u.qualname, u.signature, u.own),
    lambda u: (u.kind, u.qualname, u.signature),
    lambda u: (u.kind, u.qualname, u.own),
    lambda u: (u.kind, u.qualname),
    _text,
    _body,
)
