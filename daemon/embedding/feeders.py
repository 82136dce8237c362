"""The feeders of the editions: one that answers, and while the model changes one for the edition that is to come.

Edits go through both, the old model's first: so they are found by meaning during a change, and what was embedded for
the edition to come need not be done again. All else goes to the new model alone. Owned by the indexer's thread; figures
may be read from any.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from codegraphd.daemon.embedding.feeder import Feeder
from codegraphd.daemon.engine import CHANGED, NOW, Edition, Outcome, embed_entry
from codegraphd.daemon.graph.index import View, embed_stage


class Feeders:
    """`answering` is always there. `is_changing`: another edition is wanted, or one is not filled yet."""

    def __init__(self, answering: Feeder) -> None:
        self.answering = answering
        self.coming: Feeder | None = None
        self.is_changing = False

    def all(self) -> tuple[Feeder, ...]:
        coming = self.coming
        return (self.answering,) if coming is None else (self.answering, coming)

    def editions(self) -> tuple[Edition, ...]:
        return tuple(feeder.edition for feeder in self.all())

    def switch(self) -> None:
        """The edition to come answers."""
        assert self.coming is not None
        self.answering, self.coming = self.coming, None

    def load(self, view: View) -> None:
        """Take up what waits in the index: after a start."""
        for feeder in self.all():
            load(feeder, view)

    def take(self, outcome: Outcome, now: float) -> None:
        """What a step settled and queued."""
        of = {feeder.edition.number: feeder.backlog for feeder in self.all()}
        for unit in outcome.gone:
            for backlog in of.values():
                backlog.discard(unit)
        for edition, unit in outcome.settled:
            if edition in of:
                of[edition].discard(unit)
        for edition, unit, root, priority in outcome.embed:
            if edition in of:
                of[edition].add(unit, root, priority, now)

    def tick(self, now: float) -> None:
        for feeder in self.all():
            feeder.tick(now)

    def files_read(self, now: float) -> None:
        for feeder in self.all():
            feeder.files_read(now)

    def pump(self, now: float, worst: int) -> None:
        """`worst`: of the priorities that may be sent."""
        for feeder in self.all():
            is_leaving = feeder is self.answering and self.coming is not None
            feeder.worst = min(worst, CHANGED) if is_leaving else worst
            feeder.pump(now)

    def drop_root(self, root: int) -> None:
        for feeder in self.all():
            feeder.drop_root(root)

    def raise_units(self, units: Iterable[int]) -> None:
        """Somebody looks at these: they go to the model before all others."""
        for feeder in self.all():
            feeder.backlog.raise_priority(units, NOW, time.monotonic())

    # --- figures ------------------------------------------------------------------------------------------------------

    def pending(self, root: int) -> int:
        """Units that wait for a model."""
        return max(feeder.backlog.pending(root) for feeder in self.all())

    def oldest_s(self, now: float) -> float:
        return max(feeder.backlog.oldest_s(now) for feeder in self.all())

    @property
    def n_in_flight(self) -> int:
        return sum(feeder.backlog.n_in_flight for feeder in self.all())

    @property
    def set_aside(self) -> dict[str, str]:
        """ "path:qualname" -> why no model can take it."""
        return {name: why for feeder in self.all() for name, why in list(feeder.set_aside.items())}

    @property
    def is_changing_models(self) -> bool:
        """Whether units may still be queued for another model than the one that answers, or that answered."""
        return self.is_changing or self.coming is not None

    def mark(self) -> int:
        return max(feeder.backlog.mark() for feeder in self.all())

    def is_clear(self, mark: int, root: int) -> bool:
        """Whether nothing of the root that was queued at `mark` or before still waits."""
        return self.answering.backlog.is_clear(mark, root)


def load(feeder: Feeder, view: View) -> None:
    """Queue what the edition's work list holds."""
    if view.slot_of(feeder.edition.number) is None:
        return
    now = time.monotonic()
    for unit, payload in view.queued(embed_stage(view, feeder.edition.number)):
        root, priority = embed_entry(payload)
        feeder.backlog.add(unit, root, priority, now)
