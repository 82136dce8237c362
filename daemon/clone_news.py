"""News of clones: a unit that was added or changed and is, now that its vector is there, a clone of another one.

For subscribers of `clone` only; without one, a commit costs a look at a set. What the first crawl of a workspace finds
is no news, nor is a flood such as a change of branch: `clones` answers for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codegraphd.daemon.search import clones
from codegraphd.daemon.search.units import Describer
from codegraphd.store.journal import Delta
from codegraphd.store.records import RootRecord

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

THRESHOLD = 0.9  # similarity; as `clones` has it by default
MIN_LINES = 5
MATCHES = 10  # that one message names, the most similar ones
FLOOD = 500  # units


class CloneNews:
    """Listens to commits. `committed` is called on the writer's thread and is quick."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._awaited: set[int] = set()  # units with new text that have not got their vector yet

    def committed(self, _: int, delta: Delta) -> None:
        daemon = self._daemon
        if not daemon.handlers.subscribers.want("clone"):
            self._awaited.clear()
            return
        roots = daemon.indexer.roots
        for change in delta.changes:
            root = roots.get(change.root)
            if change.change in ("added", "modified") and root is not None and root.crawled:
                self._awaited.add(change.unit)
        self._awaited -= delta.deleted
        if len(self._awaited) > FLOOD:
            self._awaited.clear()
        ready = sorted(id_ for id_ in self._awaited if delta.vectors.get(id_) is not None)
        if ready:
            self._awaited.difference_update(ready)
            daemon.on_loop(lambda: daemon.handlers.tell_of_clones(ready))


def news_of(daemon: Daemon, units: list[int]) -> list[tuple[RootRecord, dict[str, Any]]]:
    """(root, message) for each of the units that has clones in its workspace. On a query thread."""
    found = []
    info = daemon.model.answering.maker
    with daemon.store.snapshot() as view:
        for id_ in units:
            unit = view.unit(id_)
            if unit is None or unit.unit.kind in clones.LOOSE_KINDS or unit.language in clones.PROSE:
                continue
            if unit.unit.end_line - unit.unit.start_line + 1 < MIN_LINES:
                continue
            asked = clones.Range(THRESHOLD, MATCHES, frozenset({unit.root}))
            sample = clones.sample_of_unit(view, unit)
            matches = clones.similar(view, daemon.vectors.at(view.edition), sample, asked, info.name if info else "")
            matches = [match for match in matches if match["end_line"] - match["start_line"] + 1 >= MIN_LINES]
            root = view.root(unit.root)
            if matches and root is not None:
                message = {"clock": daemon.store.clock_text(view.clock), "unit": Describer(view).unit(unit)}
                found.append((root, {**message, "matches": matches}))
    return found
