"""Units by name: `symbols` lists, `find_symbol` resolves what a person wrote for one symbol.

A name is matched in this order, and the first rule that finds anything in a root is the last one asked:

    1. the name or the qualified name, exactly     load   Config.load   app.config.Config.load (app/config.py)
    2. the same, whatever the case                 config.LOAD
    3. the name's beginning                        loa
    4. any part of the qualified name              onfig.lo

A pattern with `*`, `?` or `[` is a glob over names, or over qualified names where it holds a separator. The separators
`.`, `::`, `#` and `->` are one and the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from codegraphd.daemon.search.globs import component_regex
from codegraphd.daemon.search.units import PART, Describer, Index
from codegraphd.store.records import FileRecord, RootRecord, UnitRecord

_SEPARATOR = re.compile(r"::|->|[.#]")
_KIND_ORDER = {"class": 0, "struct": 0, "interface": 0, "trait": 0, "enum": 0, "function": 1, "method": 2}


class Names(Index, Protocol):
    """What the look-up by name reads of a store.Snapshot."""

    def files(self, root: int, prefix: str = "") -> Iterator[FileRecord]: ...
    def named(self, root: int, name: str) -> tuple[int, ...]: ...
    def names(self, root: int, prefix: str = "") -> Iterator[tuple[str, int]]: ...


def symbols(
    index: Names,
    roots: Iterable[RootRecord],
    *,
    pattern: str | None = None,
    path: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """At most `limit` unit maps, best match first. `path` is a file or a directory relative to the root.

    Without a pattern: all units of the path (or of the roots), in order of path and place.
    """
    found: list[UnitRecord] = []
    for root in roots:
        units = _below(index, root.id, path) if path is not None else None
        if pattern:
            found += _matching(index, root.id, pattern, units)
        else:
            for unit in units if units is not None else _below(index, root.id, ""):
                found.append(unit)
                if len(found) >= limit:
                    break
    describer = Describer(index)
    return [describer.unit(unit) for unit in found[:limit]]


def find_symbol(index: Names, roots: Iterable[RootRecord], symbol: str) -> list[UnitRecord]:
    """All units that a symbol names: by qualified name, else by name (rules 1 and 2). The order is of no meaning."""
    roots = list(roots)
    for ignore_case in (False, True):
        units = [unit for root in roots for unit in _exactly(index, root.id, symbol, ignore_case)]
        if units:
            return units
    return []


def _below(index: Names, root: int, path: str) -> Iterator[UnitRecord]:
    """Units of a file, or of all files in a directory, in order; parts left out."""
    plain = path.removeprefix("./").strip("/")
    plain = "" if plain == "." else plain
    file = index.file(root, plain)
    files = [file] if file else index.files(root, plain + "/" if plain else "")
    for one in files:
        yield from (unit for unit in index.units_of(one) if unit.unit.kind != PART)


def _matching(index: Names, root: int, pattern: str, units: Iterator[UnitRecord] | None) -> list[UnitRecord]:
    if any(char in pattern for char in "*?["):
        return _globbed(index, root, pattern, units)
    if units is None:
        for ignore_case in (False, True):
            if exact := _exactly(index, root, pattern, ignore_case):
                return sorted(exact, key=_order)
        candidates: Iterable[UnitRecord] = _holding(index, root, _parts(pattern)[-1])
    else:
        candidates = list(units)
    return _ranked(candidates, pattern)


def _exactly(index: Names, root: int, symbol: str, ignore_case: bool) -> list[UnitRecord]:
    """Units whose qualified name ends in the symbol's parts; where a whole qualified name matches, only those."""
    parts = _parts(symbol)
    if ignore_case:
        low = parts[-1].lower()
        ids = {id_ for name, id_ in index.names(root) if name.lower() in {low, symbol.lower()}}
    else:
        ids = {*index.named(root, parts[-1]), *index.named(root, symbol)}  # a section's name may hold separators
    fold: Callable[[str], str] = str.lower if ignore_case else str
    wanted = [fold(part) for part in parts]
    ending, whole = [], []
    for unit in _units(index, sorted(ids)):
        have = [fold(part) for part in _parts(unit.unit.qualname)]
        places = [fold(part) for part in re.split(r"[/.]", os.path.splitext(unit.path)[0])]
        if (places + have)[-len(wanted) :] == wanted or fold(unit.unit.name) == fold(symbol):
            ending.append(unit)
            if have == wanted and len(wanted) > 1:
                whole.append(unit)
    return whole or ending


def _holding(index: Names, root: int, piece: str) -> list[UnitRecord]:
    low = piece.lower()
    return list(_units(index, [id_ for name, id_ in index.names(root) if low in name.lower()]))


def _ranked(units: Iterable[UnitRecord], pattern: str) -> list[UnitRecord]:
    """The units that the best rule of the four finds, in order."""
    low, wanted = pattern.lower(), ".".join(_parts(pattern))
    groups: list[list[UnitRecord]] = [[], [], [], []]
    for unit in units:
        name, qualname = unit.unit.name, ".".join(_parts(unit.unit.qualname))
        if pattern == name or qualname == wanted or qualname.endswith("." + wanted):
            groups[0].append(unit)
        elif low == name.lower() or ("." + qualname.lower()).endswith("." + wanted.lower()):
            groups[1].append(unit)
        elif name.lower().startswith(low):
            groups[2].append(unit)
        elif low in name.lower() or wanted.lower() in qualname.lower():
            groups[3].append(unit)
    if groups[0] or groups[1]:
        groups[2:] = [[], []]
    return [unit for group in groups for unit in sorted(group, key=_order)]


def _globbed(index: Names, root: int, pattern: str, units: Iterator[UnitRecord] | None) -> list[UnitRecord]:
    qualified = bool(_SEPARATOR.search(re.sub(r"\[[^\]]*\]", "", pattern)))
    text = _SEPARATOR.sub(".", pattern) if qualified else pattern
    flags = 0 if any(char.isupper() for char in pattern) else re.IGNORECASE
    match = re.compile(component_regex(text), flags | re.DOTALL).fullmatch
    if units is None:
        if qualified:
            units = _below(index, root, "")
        else:
            units = _units(index, [id_ for name, id_ in index.names(root) if match(name)])
    names = (lambda u: ".".join(_parts(u.unit.qualname))) if qualified else (lambda u: u.unit.name)
    return sorted([unit for unit in units if match(names(unit))], key=_order)


def _units(index: Names, ids: Iterable[int]) -> Iterator[UnitRecord]:
    for id_ in ids:
        unit = index.unit(id_)
        if unit is not None and unit.unit.kind != PART:
            yield unit


def _parts(name: str) -> list[str]:
    return [part for part in _SEPARATOR.split(name) if part] or [name]


def _order(unit: UnitRecord) -> tuple[int, int, str, int]:
    inner = unit.unit
    return (len(inner.qualname), _KIND_ORDER.get(inner.kind, 3), unit.path, inner.start_byte)
