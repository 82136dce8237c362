"""What goes into a step of the engine, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegraphd.store.records import LostUnit, PackedModule, Stat

# Order in which the model gets units; the payload of Stage.EMBED.
NOW, CHANGED, NEW, IDLE = 0, 1, 2, 3

_LEVELS = ("initial", "content", "symbol", "semantic", "project", "model")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A file as it was read: what `apply` takes in."""

    path: str
    stat: Stat
    module: PackedModule


@dataclass(frozen=True, slots=True)
class Work:
    """What one step is to take in for one root. `leaving`: digest -> paths that are about to go, for moves of files."""

    root: int
    parsed: Sequence[ParsedFile] = ()
    gone: Sequence[str] = ()
    touched: Sequence[tuple[str, Stat, bytes]] = ()  # a new stat, the digest that the bytes still had when looked at
    leaving: Mapping[bytes, Sequence[str]] = field(default_factory=dict)
    anew: bool = False  # equal bytes are taken in again too: a reindex
    urgent: bool = False  # an edit that somebody waits for: its units go to the model first


@dataclass(frozen=True, slots=True)
class Settings:
    max_cascade_depth: int = 3
    max_cascade_units: int = 2000
    faces: bool = False  # whether units have a context input
    own_weight: float = 0.9  # of the own input in the unit's vector; the context input has the rest (bench.context)


@dataclass(frozen=True, slots=True)
class Edition:
    """What a step embeds for: the vectors of one model, of one kind of inputs (store.editions). There is one, and while
    the model changes a second one. `model` None: it cannot be had, so units wait, and those that changed lose the
    vector that answered for them, since none that is right will come."""

    number: int
    model: bytes | None  # fingerprint
    faces: bool  # whether units have a context input


@dataclass(slots=True)
class Outcome:
    """What a step did: counters to add up, and what the caller has to know."""

    clock: int = 0
    files: int = 0
    changes: int = 0
    early_cutoffs: int = 0
    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_LEVELS, 0))
    truncated: int = 0
    max_depth: int = 0
    hits: int = 0
    misses: int = 0
    embed: list[tuple[int, int, int, int]] = field(default_factory=list)  # (edition, unit id, root, priority): queued
    settled: list[tuple[int, int]] = field(default_factory=list)  # (edition, unit id): its vector is attached
    gone: list[int] = field(default_factory=list)  # unit ids
    attached: int = 0
    more: bool = False  # work lists are not empty
    n_resolved: int = 0
    again: list[tuple[int, str, Stat]] = field(default_factory=list)  # (root, path, stat): touched, but no more as told
    lost: list[LostUnit] = field(default_factory=list)  # gone from a file that has syntax errors now
