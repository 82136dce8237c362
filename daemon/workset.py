"""Which paths of a root are in work, and how far each has come. Pure: the indexer hands in events and the time.

A path that changed is *waiting* to be parsed, *in flight* with the parsers, *ready* for a commit (or *touched*: the
same bytes under a new stat), or *gone*. The newest state is what counts: a path that changes again while it waits is
parsed once; one that changes while it is in flight is parsed again after that.

`unapplied` has for each path the sequence number of its earliest change that no commit holds yet: what `sync` waits
for. `covered` has the last sequence number that what is ready reflects: a file reflects all changes that were told
before it was read.

Order: paths that are *urgent* (a person's edits) are taken first and need not wait for a crawl. Paths that went away
are held back until nothing is left to be parsed, or for GONE_S, so that a moved file is seen as moved and not as gone;
and with them what is ready and bears the name of one of them: it may be that file, moved with edits.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field

from codegraphd.daemon import packing
from codegraphd.daemon.engine import ParsedFile, Work
from codegraphd.store.records import FileChange, PackedModule, Stat

STEP_UNITS = 400  # of parsed files in one bulk step: some 50 ms, what an edit may have to wait for
STEP_GONE = 500
GONE_S = 2.0

Sequences = dict[tuple[int, str], int]  # (root, path) -> last sequence number that a step covers


@dataclass(slots=True)
class RootWork:
    """One root's paths in work. Times are seconds, monotonic."""

    id: int
    path: str
    waiting: dict[str, FileChange] = field(default_factory=dict)
    in_flight: dict[str, FileChange] = field(default_factory=dict)
    ready: dict[str, ParsedFile] = field(default_factory=dict)
    touched: dict[str, tuple[Stat, bytes]] = field(default_factory=dict)
    gone: dict[str, bytes] = field(default_factory=dict)  # path -> digest of its last known bytes
    gone_since: float = 0.0
    unapplied: dict[str, int] = field(default_factory=dict)
    covered: dict[str, int] = field(default_factory=dict)
    urgent: set[str] = field(default_factory=set)
    anew: bool = False  # until the next crawl is done every file is parsed, known or not
    crawled: bool = False
    missing: bool = False
    done: int = 0  # files of the present pass that are committed
    total: int = 0
    last_change: float | None = None  # wall clock, seconds

    @property
    def is_busy(self) -> bool:
        return bool(self.unapplied)

    @property
    def n_unparsed(self) -> int:
        return len(self.waiting) + len(self.in_flight)

    def changed(self, change: FileChange, sequence: int, digest: bytes, now: float, *, urgent: bool) -> None:
        """The watcher's word. `digest` is that of the last known bytes of a path that is gone."""
        path = change.path
        if not self.unapplied:
            self.done, self.total = 0, 0
        if path not in self.unapplied:
            self.total += 1
        self.unapplied.setdefault(path, sequence)
        self.covered[path] = sequence
        for where in (self.ready, self.touched, self.waiting, self.gone):
            where.pop(path, None)
        (self.urgent.add if urgent else self.urgent.discard)(path)
        if change.stat is None:
            self._mark_gone(path, digest, now)
        elif change.skipped:
            self.ready[path] = ParsedFile(path, change.stat, skipped_module(change.stat, change.skipped))
        else:
            self.waiting[path] = change

    def to_parse(self, most_in_flight: int) -> list[str]:
        """Paths that may be handed to the parsers now: all urgent ones, of the rest as many as there is room."""
        paths = [path for path in self.waiting if path in self.urgent] if self.urgent else []
        room = most_in_flight - len(self.in_flight)
        if room > 0 and len(paths) < len(self.waiting):
            bulk = (path for path in self.waiting if path not in self.urgent)
            paths += [path for path, _ in zip(bulk, range(room), strict=False)]
        return [path for path in paths if path not in self.in_flight]

    def sent(self, path: str) -> FileChange:
        change = self.waiting.pop(path)
        self.in_flight[path] = change
        return change

    def answered(self, change: FileChange, sequence: int) -> bool:
        """The parsers' answer to a path, handed to them when `sequence` was the newest. False: nobody waits for it."""
        path = change.path
        if self.in_flight.get(path) is not change:
            return False
        del self.in_flight[path]
        self.ready.pop(path, None)  # of an earlier answer that no step has taken yet
        self.touched.pop(path, None)
        if path in self.gone:
            return False
        self.covered[path] = sequence
        return True

    def vanished(self, path: str, digest: bytes, now: float) -> None:
        """The parsers found no file."""
        self._mark_gone(path, digest, now)

    def _mark_gone(self, path: str, digest: bytes, now: float) -> None:
        if not self.gone:
            self.gone_since = now
        self.gone[path] = digest

    # --- steps --------------------------------------------------------------------------------------------------------

    def collect(self, now: float, *, urgent: bool) -> tuple[Work, Sequences] | None:
        """What is ready, for one step: of the urgent paths everything, else a slice. It is then the step's."""
        parsed = self._take_ready(self._possibly_moved(now, urgent=urgent), urgent=urgent)
        touched = [(path, *self.touched.pop(path)) for path in list(self.touched) if not urgent or path in self.urgent]
        leaving: defaultdict[bytes, list[str]] = defaultdict(list)
        if parsed:
            for path, digest in self.gone.items():
                if digest:
                    leaving[digest].append(path)
        gone: list[str] = []
        if self.gone and self._may_go(now, urgent=urgent):
            gone = [path for path in self.gone if not urgent or path in self.urgent][:STEP_GONE]
        if not (parsed or touched or gone):
            return None
        for path in gone:
            del self.gone[path]
        paths = [item.path for item in parsed] + [path for path, _, _ in touched] + gone
        sequences = {(self.id, path): self.covered.pop(path, 0) for path in paths}
        return Work(self.id, parsed, gone, touched, dict(leaving), self.anew, urgent), sequences

    def _possibly_moved(self, now: float, *, urgent: bool) -> frozenset[str]:
        """What is ready and has to wait: for the step in which what it may have been is let go."""
        if not self.gone or now - self.gone_since > GONE_S:
            return frozenset()
        names = {os.path.basename(path) for path in self.gone}
        held = frozenset(path for path in self.ready if os.path.basename(path) in names)
        if urgent:
            is_early = any(path in self.waiting or path in self.in_flight for path in self.urgent)
        else:
            is_early = self.n_unparsed > 0 or len(held) < len(self.ready)
        return held if is_early else frozenset()

    def _take_ready(self, held: frozenset[str], *, urgent: bool) -> list[ParsedFile]:
        parsed: list[ParsedFile] = []
        n_units = 0
        for path in list(self.ready):
            if (urgent and path not in self.urgent) or path in held:
                continue
            if not urgent and parsed and n_units + len(self.ready[path].module.units) > STEP_UNITS:
                break
            item = self.ready.pop(path)
            n_units += len(item.module.units)
            parsed.append(item)
        return parsed

    def _may_go(self, now: float, *, urgent: bool) -> bool:
        if now - self.gone_since > GONE_S:
            return True
        if urgent:  # one of these may turn out to be where a file went that is gone elsewhere
            return not any(path in self.waiting or path in self.in_flight for path in self.urgent)
        return not (self.n_unparsed or self.ready)

    def is_in_work(self, path: str) -> bool:
        """Whether a newer state of the path is on its way."""
        return any(path in where for where in (self.waiting, self.in_flight, self.ready, self.touched, self.gone))

    def committed(self, path: str, sequence: int) -> None:
        """A step that covered the path's changes up to `sequence` is in the index."""
        self.done += 1
        if self.is_in_work(path):
            self.unapplied[path] = sequence + 1  # it changed again meanwhile: only that is still to come
        else:
            self.unapplied.pop(path, None)
            self.urgent.discard(path)
        if self.anew and self.crawled and not self.unapplied:
            self.anew = False

    def take_back(self, work: Work, sequences: Sequences) -> None:
        """The step did not happen: its work is ready again, unless a newer state of the path is on its way."""
        for item in work.parsed:
            if not self.is_in_work(item.path):
                self.ready[item.path] = item
                self.covered[item.path] = sequences[self.id, item.path]
        for path, stat, digest in work.touched:
            if not self.is_in_work(path):
                self.touched[path] = (stat, digest)
                self.covered[path] = sequences[self.id, path]
        for path in work.gone:
            if not self.is_in_work(path):
                self.gone[path] = b""
                self.covered[path] = sequences[self.id, path]


def skipped_module(stat: Stat, reason: str) -> PackedModule:
    """A file that was not read, and why."""
    return packing.skipped_module("text", b"", stat.size, reason)
