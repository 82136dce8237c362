"""Records of the analysis are frozen dataclasses in every respect, although they are made in a quicker way."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from codegraphd.store.records import Binding, Reference, Words


def test_fields_by_place_and_by_name_are_the_same() -> None:
    by_name = Reference(source=3, kind="call", name="load", scope="json", receiver="", line=7)
    assert Reference(3, "call", "load", "json", "", 7) == by_name
    assert (by_name.source, by_name.kind, by_name.name, by_name.scope, by_name.line) == (3, "call", "load", "json", 7)
    assert hash(by_name) == hash(replace(by_name))
    assert repr(Words("a", "", "b")) == "Words(name='a', doc='', body='b')"


def test_a_record_cannot_be_changed() -> None:
    binding = Binding(source=-1, local="c", module="..a", member="b", exported=True, line=1)
    with pytest.raises(FrozenInstanceError):
        binding.local = "d"  # type: ignore[misc]
    assert replace(binding, local="d").local == "d"


def test_each_field_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="body"):
        Words("a", "b")  # type: ignore[call-arg]
