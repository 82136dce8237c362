"""The one writer thread: runs jobs, each in one LMDB write transaction.

A job is a function of a `Transaction`. When it returns, the transaction is committed, the indexes that follow the store
are told (`listeners`), and only then its future resolves: a question asked after that sees the change everywhere. When
it raises, nothing happened. A map that is full is grown and the job run again, so a job changes nothing but the
transaction. Interactive jobs overtake queued bulk jobs; the one that runs is never interrupted.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import lmdb

from codegraphd.store.env import Store, error_of
from codegraphd.store.errors import StoreError
from codegraphd.store.journal import Delta
from codegraphd.store.transaction import Transaction

__all__ = ["Delta", "Listener", "Transaction", "Writer"]

T = TypeVar("T")
Job = Callable[[Transaction], T]
Listener = Callable[[int, Delta], None]
_GROW_TIMES: Final = 8  # doublings for one job

log = logging.getLogger(__name__)


class Writer:
    """Owns the thread on which every write to a store happens."""

    def __init__(self, store: Store, listeners: Sequence[Listener] = ()) -> None:
        self.problem: str | None = None  # why the last commit failed, for status; None once one goes through
        self.n_commits = 0
        self.n_evicted = 0
        self.busy_s = 0.0
        self._store = store
        self._listeners = list(listeners)
        self._wake = threading.Condition()
        self._interactive: collections.deque[tuple[Job[Any], Future[Any]]] = collections.deque()
        self._bulk: collections.deque[tuple[Job[Any], Future[Any]]] = collections.deque()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job[T], *, interactive: bool = True) -> Future[T]:
        """Queue a job. Its future gives what the job returned, once that is committed, or raises what went wrong.

        StoreFull: there is no room; nothing was written, the job may be submitted again later.
        """
        future: Future[T] = Future()
        with self._wake:
            if self._is_closed:
                raise RuntimeError("the writer is closed")
            (self._interactive if interactive else self._bulk).append((job, future))
            self._wake.notify()
        return future

    def add_listener(self, listener: Listener) -> None:
        """Called after each commit that follows, on the writer's thread, with the clock and what changed."""
        self._listeners.append(listener)

    def n_waiting(self) -> int:
        with self._wake:
            return len(self._interactive) + len(self._bulk)

    def close(self) -> None:
        """Do what is queued, then end the thread."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        self._thread.join()

    def statistics(self) -> dict[str, Any]:
        return {
            "commits": self.n_commits,
            "waiting": self.n_waiting(),
            "busy_s": round(self.busy_s, 3),
            "evictions": self.n_evicted,
            "problem": self.problem,
        }

    def _run(self) -> None:
        while (item := self._next()) is not None:
            job, future = item
            if not future.set_running_or_notify_cancel():
                continue
            begin = time.perf_counter()
            try:
                result = self._commit(job)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                self.busy_s += time.perf_counter() - begin
                del job, future, item

    def _next(self) -> tuple[Job[Any], Future[Any]] | None:
        with self._wake:
            while not (self._interactive or self._bulk or self._is_closed):
                self._wake.wait()
            if self._interactive:
                return self._interactive.popleft()
            return self._bulk.popleft() if self._bulk else None

    def _commit(self, job: Job[T]) -> T:
        for attempt in range(_GROW_TIMES + 1):
            try:
                result, clock, delta = self._attempt(job)
            except lmdb.MapFullError:
                if attempt == _GROW_TIMES:
                    raise
                self._grow()
            else:
                self._tell(clock, delta)
                return result
        raise AssertionError("unreachable")

    def _attempt(self, job: Job[T]) -> tuple[T, int, Delta]:
        store = self._store
        try:
            with store.write() as txn:
                transaction = Transaction(txn, store._tables, store.cache_budget, store.precision)
                result = job(transaction)
                if not transaction.finish():
                    return result, 0, transaction.delta
                txn.commit()
        except lmdb.MapFullError:
            raise
        except lmdb.Error as error:
            found = error_of(error, store.directory)
            self.problem = str(found)
            if isinstance(error, lmdb.PanicError):  # a meta page failed: LMDB goes on only after opening again
                self._reopen()
            raise found from error
        self.problem = None
        self.n_commits += 1
        self.n_evicted += transaction.n_evicted
        return result, transaction.clock, transaction.delta

    def _grow(self) -> None:
        try:
            self._store.grow()
        except StoreError as error:
            self.problem = str(error)
            raise

    def _reopen(self) -> None:
        try:
            self._store.reopen()
        except (StoreError, lmdb.Error, OSError):
            log.exception("%s: cannot be opened again", self._store.directory)

    def _tell(self, clock: int, delta: Delta) -> None:
        if not clock:
            return
        for listener in self._listeners:
            try:
                listener(clock, delta)
            except Exception:  # the commit stands; an index that failed says so itself and is built again
                log.exception("a follower of the store failed at clock %d", clock)
