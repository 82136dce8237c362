"""Old units against new ones: which unit is which after an edit.

A unit keeps its id, and with it its vector and its history, when it is still the same unit. Inside one file that is
decided by qualified name and signature, then by qualified name and text, then by order among equals; what is left on
both sides is paired by equal text or equal body: renamed, or moved. Across the files of one step only the latter holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from codegraphd.store.records import Unit, UnitChange, UnitRecord, digest


@dataclass(frozen=True, slots=True)
class Fresh:
    """A unit of the new source that is not known yet where it stands: `file` and `index` are the caller's."""

    file: int
    index: int
    unit: Unit


def match_units(old: Sequence[UnitRecord], new: Sequence[Unit]) -> tuple[dict[int, UnitRecord], list[UnitRecord]]:
    """Which old unit each new one is.

    -> (index in `new` -> old record, old records that nothing matches, in their order).
    """
    found: dict[int, UnitRecord] = {}
    left_old = list(old)
    left_new = list(range(len(new)))
    if len(old) == len(new) and all(_place(o.unit) == _place(n) for o, n in zip(old, new, strict=True)):
        return dict(enumerate(old)), []  # the common case: an edit inside of units
    for rule in _RULES:
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


_RULES: tuple[Callable[[Unit], Hashable], ...] = (
    lambda u: (u.kind, u.qualname, u.signature, u.own),
    lambda u: (u.kind, u.qualname, u.signature),
    lambda u: (u.kind, u.qualname, u.own),
    lambda u: (u.kind, u.qualname),
    _text,
    _body,
)
