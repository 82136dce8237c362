"""What a reader of one kind of file hands back to `parse`."""

from __future__ import annotations

from dataclasses import dataclass, field

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
