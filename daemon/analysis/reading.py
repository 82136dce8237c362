"""What a reader of one kind of file hands back to `parse`."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from codegraphd.store.records import Binding, Reference, Unit, Words


@dataclass(slots=True)
class Reading:
    """The parts of a `Module`; `units`, `words` and `texts` (own texts) run side by side. `whole`: the indices of those
    callables whose text holds all of their code, so that their bytes say what the text says."""

    units: list[Unit] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    bindings: list[Binding] = field(default_factory=list)
    package: str = ""
    errors: int = 0


def line_starts(raw: bytes) -> list[int]:
    """The byte offset at which each line begins; bisect_right(line_starts, offset) is the line's number from 1."""
    starts = list(accumulate(map(len, raw.splitlines(keepends=True)), initial=0)) if b"\r" not in raw else []
    if not starts:  # splitlines would end a line at a lone carriage return too
        starts = list(accumulate((len(line) + 1 for line in raw.split(b"\n")), initial=0))
    if len(starts) > 1 and (starts[-1] > len(raw) or raw[-1:] != b"\n"):
        starts.pop()
    return starts
