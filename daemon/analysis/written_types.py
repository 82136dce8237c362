"""The types that a file writes down for its variables and fields, and what they say of a receiver."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.places import Owners, Places
from codegraphd.daemon.analysis.syntax import CALLABLES, CONTAINERS, Captures, Dialect, Draft

MAX_SPAN = 200  # bytes of a place that shows a type

_MAX_ARGUMENTS = 400  # bytes of a bracket that are read

_SIGNS = re.compile(r"[<>()\[\],]")


def arguments(n: int) -> str:
    """What ends a type as written that has `n` arguments, where a language has `Box` beside `Box<T>` and `Box<T, U>`:
    "", "<>", "<,>", ..."""
    return f"<{',' * (n - 1)}>" if n else ""


def without_arguments(written: str) -> str:
    """ "Box<,>" -> "Box"."""
    return written.partition("<")[0]


def n_arguments(written: str) -> int:
    """ "Box<,>" -> 2."""
    return len(written) - written.rfind("<") - 1 if written.endswith(">") else 0


def count_arguments(text: str, at: int) -> int:
    """How many types stand in the bracket that opens at `at`: 2 for `<A, B<C, D>>`."""
    depth, count = 0, 1
    for match in _SIGNS.finditer(text, at, at + _MAX_ARGUMENTS):
        sign = match[0]
        if sign == ",":
            count += depth == 1
        elif sign in "<([":
            depth += 1
        else:
            depth -= 1
            if not depth:
                break
    return count


@cache
def _typed(dialect: Dialect) -> Callable[[str], Sequence[tuple[str, str]]]:
    """`dialect.typed` with a memory: the same parameters stand in many signatures."""
    return lru_cache(maxsize=16_384)(dialect.typed)


class WrittenTypes:
    """What has which type, by unit and by class."""

    def __init__(self, captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect) -> None:
        self._drafts = drafts
        self._selves = dialect.selves
        self._has_bare_fields = "self" not in dialect.selves
        self._fields: dict[tuple[str, str], str] = {}  # (last name of a class, field) -> dotted type
        self._of: dict[tuple[int, str], str] = {}  # (unit, variable) -> dotted type
        self.names = set(dialect.selves)  # what `receiver` may know a type of; of most scopes it knows none
        self.owners = Owners(drafts)
        self._collect(captures, source, dialect)

    def _collect(self, captures: Captures, source: Source, dialect: Dialect) -> None:
        places, drafts = Places(self._drafts), self._drafts
        aliases: list[tuple[int, str, str]] = []
        typed, text = _typed(dialect), source.text
        innermost = -1
        for start, end in sorted(captures.spans["typed"]):
            if start >= places.limit:
                innermost = places.of(start)
                if innermost >= 0 and drafts[innermost].kind == "constant":
                    innermost = drafts[innermost].parent  # the variable itself
            for name, of in typed(text[start : end if end - start < MAX_SPAN else start + MAX_SPAN]):
                if of.startswith("="):  # has the type of another variable
                    aliases.append((innermost, name, of[1:]))
                else:
                    self._put(innermost, name, of)
        for innermost, name, other in aliases:
            if of := self._variable(innermost, other):
                self._put(innermost, name, of)

    def _put(self, innermost: int, name: str, of: str) -> None:
        first, dot, member = name.partition(".")
        if not dot:
            self.names.add(name)
            self._of.setdefault((innermost, name), of)
            if innermost >= 0 and (holder := self._drafts[innermost]).kind in CONTAINERS:
                self._fields.setdefault((holder.name, name), of)
        elif first in self._selves and (owner := self.owners[innermost]):
            self.names.add(member)
            self._fields.setdefault((owner.rpartition(".")[2], member), of)

    def receiver(self, unit: int, scope: str) -> str:
        """The type of what `scope` means inside of `unit`; "": not shown."""
        first, dot, member = scope.partition(".")
        if first in self._selves:
            owner = self.owners[unit]
            return self._field(owner, member) if dot else owner
        found = self._variable(unit, first)
        return self._field(found, member) if dot and found else found

    def _field(self, owner: str, member: str) -> str:
        return self._fields.get((without_arguments(owner).rpartition(".")[2], member), "")

    def _variable(self, unit: int, name: str) -> str:
        of = self._of
        while unit >= 0:
            if found := of.get((unit, name)):
                return found
            draft = self._drafts[unit]
            if self._has_bare_fields and draft.kind in CALLABLES and (found := self._field(self.owners[unit], name)):
                return found
            unit = draft.parent
        return of.get((-1, name), "")
