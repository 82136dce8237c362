"""The flags of units as plain integers: or-ing members of an `IntFlag` costs a microsecond each."""

from __future__ import annotations

from codegraphd.store.records import Flag

EXPORTED = int(Flag.EXPORTED)
ASYNC = int(Flag.ASYNC)
TEST = int(Flag.TEST)
STATIC = int(Flag.STATIC)
ABSTRACT = int(Flag.ABSTRACT)
DECLARATION = int(Flag.DECLARATION)
