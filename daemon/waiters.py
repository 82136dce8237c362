"""Who waits in `sync`, and when their time has come.

A waiter's changes are those made before it asked. A *barrier* calls back once the watcher has handed in all of these;
the newest sequence number then is the waiter's: everything up to it must be committed. If the waiter wants meaning too,
the units that wait for the model at that moment must be embedded. A barrier that passes before the root's first crawl
has ended says nothing and is raised again after it. Pure; used on the indexer's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from codegraphd.daemon.workset import RootWork


class Backlog(Protocol):
    """Who waits for the model (embedding.feeders)."""

    @property
    def is_changing_models(self) -> bool: ...
    def mark(self) -> int: ...
    def is_clear(self, mark: int, root: int) -> bool: ...


Barrier = Callable[[Callable[[], None]], None]
Passed = Callable[[RootWork | None, int], None]


@dataclass(slots=True, eq=False)
class _Waiter:
    root: int
    semantic: bool
    future: Future[int]
    raise_barrier: Callable[[], None]
    sequence: int = -1  # -1: the barrier has not been passed yet
    mark: int = -1  # -1: not committed yet


class Waiters:
    """All that wait. Futures give the clock."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, root: int, *, semantic: bool, barrier: Callable[[Passed], None]) -> Future[int]:
        """`barrier` is given what is to be called, with the root's work and the newest sequence, once it is passed."""
        waiter = _Waiter(root, semantic, Future(), lambda: None)

        def passed(work: RootWork | None, sequence: int) -> None:
            if work is not None and work.crawled:
                waiter.sequence = sequence

        waiter.raise_barrier = lambda: barrier(passed)
        self._waiters.append(waiter)
        waiter.raise_barrier()
        return waiter.future

    def crawled(self, root: int) -> None:
        """The root's first crawl has ended."""
        for waiter in self._waiters:
            if waiter.root == root and waiter.sequence < 0:
                waiter.raise_barrier()

    def forget(self, root: int) -> None:
        """The root is not watched any more: its waiters get a LookupError."""
        for waiter in [w for w in self._waiters if w.root == root]:
            self._waiters.remove(waiter)
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(LookupError("the workspace is not watched any more"))

    def release(self, roots: dict[int, RootWork], backlog: Backlog, clock: int, *, is_behind: bool) -> None:
        """Answer those whose changes are in. `is_behind`: a step is under way or the work lists are not empty."""
        for waiter in list(self._waiters):
            root = roots.get(waiter.root)
            if not waiter.future.cancelled() and not (root and self._is_done(waiter, root, backlog, is_behind)):
                continue
            self._waiters.remove(waiter)
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_result(clock)

    @staticmethod
    def _is_done(waiter: _Waiter, root: RootWork, backlog: Backlog, is_behind: bool) -> bool:
        if waiter.sequence < 0:
            return False
        if waiter.semantic and backlog.is_changing_models:
            waiter.mark = -1  # units are queued for the new model behind what was marked before
            return False
        if waiter.mark < 0:
            if is_behind or not root.crawled or _any_up_to(root.unapplied.values(), waiter.sequence):
                return False
            waiter.mark = backlog.mark()
        return not waiter.semantic or backlog.is_clear(waiter.mark, waiter.root)


def _any_up_to(sequences: Iterable[int], last: int) -> bool:
    return any(sequence <= last for sequence in sequences)
