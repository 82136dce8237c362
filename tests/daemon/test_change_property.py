"""Another model at any moment between any edits: no answer is made of two models, and nothing is lost (row 24)."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from bench.lab import MODEL, OTHER, ROOT, vector_of
from codegraphd.daemon.engine import Edition
from codegraphd.daemon.graph.index import embed_stage
from tests.daemon.test_engine_property import Edits, paths, patience, sources


class Changes(Edits):
    """Two models of different dimensions, with context inputs and without; the former one may be lost."""

    faces = False

    def __init__(self) -> None:
        super().__init__()
        self.after: int | None = None  # behind which unit filling goes on; None: it is done
        self.makers = {1: (MODEL, self.faces)}

    @rule()
    def reformat(self) -> None:
        self.lab.embed()
        super().reformat()

    @rule(edits=st.dictionaries(paths, sources, min_size=1, max_size=3), patience=patience, most=st.integers(0, 3))
    def write_and_embed_some(self, edits: dict[str, str], patience: int, most: int) -> None:
        self.lab.index({path: source.encode() for path, source in edits.items()}, patience=patience)
        self.lab.sources.update({path: source.encode() for path, source in edits.items()})
        for edition in self.lab.editions:
            self.lab.embed_for(edition, most)

    @rule(model=st.sampled_from((MODEL, OTHER)), faces=st.booleans())
    def want(self, model: bytes, faces: bool) -> None:
        """As `daemon.change` decides it."""
        answering, *coming = self.lab.editions
        if coming and self.makers[coming[0].number] == (model, faces):
            return
        if self.makers[answering.number] != (model, faces):
            self.lab.begin(model, faces=faces)
            self.makers[self.lab.editions[1].number] = model, faces
            self.after = 0
        else:
            if coming:
                self.lab.give_up()
            self.lab.editions[0] = Edition(answering.number, model, faces)  # it is there, or there again

    @precondition(lambda self: len(self.lab.editions) > 1 and self.after is not None)
    @rule(patience=st.sampled_from((1, 2, 1_000_000)))
    def fill(self, patience: int) -> None:
        self.after = self.lab.fill(self.after, patience)

    @precondition(lambda self: len(self.lab.editions) > 1)
    @rule(most=st.integers(1, 5))
    def embed_some(self, most: int) -> None:
        self.lab.embed_for(self.lab.editions[1], most)

    @precondition(lambda self: len(self.lab.editions) > 1 and self.after is None)
    @rule()
    def switch(self) -> None:
        self.lab.embed_for(self.lab.editions[1])
        self.lab.switch()
        with self.lab.store.snapshot() as view:
            _, units, _, attached = view.counts(ROOT)
            assert attached == units, "all of it answers from the first moment"

    @precondition(lambda self: len(self.lab.editions) > 1)
    @rule()
    def lose_the_former_model(self) -> None:
        former = self.lab.editions[0]
        self.lab.embed_for(former)
        self.lab.editions[0] = Edition(former.number, None, former.faces)

    @invariant()
    def every_answer_is_of_one_model(self) -> None:
        with self.lab.store.snapshot() as view:
            for edition in self.lab.editions:
                model, faces = self.makers[edition.number]
                waiting = {unit for unit, _ in view.queued(embed_stage(view, edition.number))}
                for unit in view.units(ROOT):
                    state, vector = view.state(unit.id, edition.number), view.attached(unit.id, edition.number)
                    assert (vector is None) == (state is None or state.attached is None)
                    if vector is None or state is None or state.attached is None:
                        continue
                    assert bool(state.attached.context) == faces
                    wanted = self.expected(model, state.attached)
                    assert len(vector) == len(wanted)
                    assert float(vector @ wanted) > 0.999
                    if state.attached != state.recipe:
                        assert unit.id in waiting
                        assert edition.model is not None, "a stale vector that no model will replace"

    def expected(self, model: bytes, recipe: Any) -> Any:
        own, weight = vector_of(model, recipe.own), self.lab.settings.own_weight
        if not recipe.context:
            return own
        mixed = weight * own + (1 - weight) * vector_of(model, recipe.context)
        return mixed / np.linalg.norm(mixed)


class ChangesWithContext(Changes):
    faces = True


@pytest.mark.parametrize("machine", [Changes, ChangesWithContext])
def test_fault_24_any_change_of_the_model_between_any_edits(machine: type[Changes]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=16,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
