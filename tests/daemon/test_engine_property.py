"""The property to have: after any sequence of edits the index equals one built from scratch.

Projects are small and dense on purpose: few names, so that definitions appear, vanish, shadow and move all the time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bench.lab import Lab
from codegraphd.daemon.engine import Settings

MODULES = ("a", "b", "pkg/__init__", "pkg/a", "pkg/c")
NAMES = ("f", "g", "Base", "Kid")
DOTTED = {"a": "a", "b": "b", "pkg/__init__": "pkg", "pkg/a": "pkg.a", "pkg/c": "pkg.c"}

imports = st.builds(
    lambda module, name, alias: f"from {DOTTED[module]} import {name}" + (f" as {alias}" if alias else ""),
    st.sampled_from(MODULES),
    st.sampled_from((*NAMES, "*")),
    st.none(),
) | st.builds(lambda module: f"import {DOTTED[module]}", st.sampled_from(MODULES))
calls = st.builds(
    lambda name, n: f"{name}({n})", st.sampled_from((*NAMES, "pkg.a.f", "self.m", "a.Base")), st.integers(0, 2)
)
functions = st.builds(
    lambda name, argument, doc, call: f"def {name}({argument}):\n    {doc!r}\n    return {call}",
    st.sampled_from(("f", "g")),
    st.sampled_from(("x", "x, y")),
    st.sampled_from(("One.", "Two.")),
    calls,
)
classes = st.builds(
    lambda name, base, method, call: f"class {name}({base}):\n    def {method}(self):\n        return {call}",
    st.sampled_from(("Base", "Kid")),
    st.sampled_from(("", "Base", "Kid", "a.Base")),
    st.sampled_from(("m", "n")),
    calls,
)
sources = st.builds(
    lambda head, body, broken: "\n".join([*head, *body, *(["def broken("] if broken else [])]) + "\n",
    st.lists(imports, max_size=3),
    st.lists(functions | classes, max_size=4),
    st.sampled_from((False, False, False, True)),
)
paths = st.sampled_from([f"{module}.py" for module in MODULES])
patience = st.sampled_from((1, 2, 5, 1_000_000))


class Edits(RuleBasedStateMachine):
    faces = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.lab = Lab(Path(self.directory.name), Settings(faces=self.faces, max_cascade_units=3))
        self.asked_before = 0

    def teardown(self) -> None:
        self.lab.close()
        self.directory.cleanup()

    @initialize(first=st.dictionaries(paths, sources, max_size=5))
    def begin(self, first: dict[str, str]) -> None:
        self.lab.edit({path: source.encode() for path, source in first.items()})

    @rule(edits=st.dictionaries(paths, sources, min_size=1, max_size=3), patience=patience)
    def write(self, edits: dict[str, str], patience: int) -> None:
        self.lab.edit({path: source.encode() for path, source in edits.items()}, patience=patience)

    @rule(path=paths, patience=patience)
    def delete(self, path: str, patience: int) -> None:
        self.lab.edit({path: None}, patience=patience)

    @precondition(lambda self: self.lab.sources)
    @rule(data=st.data(), to=paths, patience=patience)
    def move(self, data: st.DataObject, to: str, patience: int) -> None:
        source = data.draw(st.sampled_from(sorted(self.lab.sources)))
        if source != to:
            self.lab.edit({source: None, to: self.lab.sources[source]}, patience=patience)

    @rule(first=paths, second=paths)
    def swap(self, first: str, second: str) -> None:
        held = self.lab.sources
        if first in held and second in held and first != second:
            self.lab.edit({first: held[second], second: held[first]})

    @rule()
    def reformat(self) -> None:
        """Comments and blank lines are nothing that the model sees."""
        before = len(self.lab.asked)
        self.lab.edit(
            {path: source.replace(b"\ndef ", b"\n\n# a word\ndef ") for path, source in self.lab.sources.items()}
        )
        assert len(self.lab.asked) == before

    @rule()
    def restart(self) -> None:
        self.lab.reopen()

    @invariant()
    def equals_a_fresh_build(self) -> None:
        assert self.lab.differences() == []

    @invariant()
    def nothing_is_embedded_twice(self) -> None:
        assert len(set(self.lab.asked)) == len(self.lab.asked)


class EditsWithoutContext(Edits):
    faces = False


@pytest.mark.parametrize("machine", [Edits, EditsWithoutContext])
def test_any_edits_equal_a_fresh_build(machine: type[Edits]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
