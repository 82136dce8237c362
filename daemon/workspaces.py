"""The watched roots: adding, removing, and which root a path belongs to.

Of overlapping roots the inner one owns its files: the outer one's crawl leaves it out. Roots are remembered in the
store, so a restart watches them again. Methods are called from the event loop's thread or at start; what touches the
index goes through the writer, what touches the work in hand through the indexer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future

from codegraphd.daemon.indexer import Indexer, Scanned
from codegraphd.daemon.understanding import identity, key_of
from codegraphd.daemon.workspace.watch import ScanResult, Watcher
from codegraphd.ipc.errors import BAD_PARAMETERS, NOT_WATCHED, RequestError
from codegraphd.store.env import Store
from codegraphd.store.records import RootRecord, Stat
from codegraphd.store.transaction import Transaction
from codegraphd.store.writer import Writer

log = logging.getLogger(__name__)


class Workspaces:
    """All roots of this daemon. `roots` maps id -> record and is replaced, never changed, so any thread may read it."""

    def __init__(
        self, store: Store, writer: Writer, indexer: Indexer, make_watcher: Callable[..., Watcher], memory: str
    ) -> None:
        """`memory` is the file that lists the roots beside the store: a damaged store must not forget them."""
        self._store, self._writer, self._indexer, self._memory = store, writer, indexer, memory
        self.watcher = make_watcher(self._scanned)
        with store.snapshot() as view:  # known from the first moment: questions are answered before watching begins
            self.roots: dict[int, RootRecord] = {root.id: root for root in view.roots()}

    def start(self) -> None:
        """Watch what was watched before; go on dropping what was being dropped."""
        for root in self.roots.values():
            self._begin(root)
        if not self.roots:  # a new store: of a new home, or in the place of a damaged one
            for path in self._remembered():
                with contextlib.suppress(RequestError):
                    self.watch(path)
        with self._store.snapshot() as view:
            dropping = view.dropping()
        for root_id in dropping:
            self._drop(root_id)

    def watch(self, path: str) -> Future[RootRecord]:
        """-> the root's record, once it is stored and its crawl has begun."""
        path = os.path.expanduser(path)
        if not os.path.isabs(path):  # relative to what? The daemon's directory is nobody's business
            raise RequestError(BAD_PARAMETERS, f"{path} is relative: give the absolute path of a directory")
        real = os.path.realpath(path)
        if not os.path.isdir(real):
            raise RequestError(BAD_PARAMETERS, f"{path} is not a directory: give the directory of a workspace")
        if real == os.sep:
            raise RequestError(BAD_PARAMETERS, "/ is too much for one workspace: give a directory below it")
        done: Future[RootRecord] = Future()
        if (known := self.at(real)) is not None:
            done.set_result(known)
            return done

        def job(txn: Transaction) -> RootRecord:
            if (root := txn.root_of(real)) is None:
                root = RootRecord(txn.new_id(), real)
                txn.put_root(root)
                txn.put_meta(key_of(root.id), identity())
            return root

        def stored(future: Future[RootRecord]) -> None:
            if (error := future.exception()) is not None:
                done.set_exception(error)
                return
            root = future.result()
            if root.id not in self.roots:
                self.roots = {**self.roots, root.id: root}
                self._begin(root)
                self._tell_outer(root.path)
                self._remember()
            done.set_result(root)

        self._writer.submit(job).add_done_callback(stored)
        return done

    def unwatch(self, path: str) -> RootRecord:
        """Stop watching; its part of the index is dropped in the background, its vectors stay in the cache."""
        root = self.at(os.path.realpath(os.path.expanduser(path))) or self.at(os.path.abspath(path))
        if root is None:
            raise RequestError(NOT_WATCHED, f"{path} is not a watched workspace{self._list()}")
        self.roots = {id: other for id, other in self.roots.items() if id != root.id}
        self._remember()
        self.watcher.remove(root.id)
        self._indexer.call(lambda: self._indexer.forget_root(root.id))
        self._drop(root.id, interactive=True)  # who watches it again right now gets another root, not this one
        self._tell_outer(root.path)
        return root

    def begin_anew(self, root: RootRecord) -> None:
        """Read every file of the root again: nothing counts as known."""
        self._begin(root, anew=True)

    def close(self) -> None:
        self.watcher.close()

    # --- which root ---------------------------------------------------------------------------------------------------

    def at(self, path: str) -> RootRecord | None:
        """The root that stands at exactly this absolute path."""
        return next((root for root in self.roots.values() if root.path == path), None)

    def chosen(self, path: str | None) -> tuple[RootRecord, ...]:
        """The roots that a request means by `root`: all for None; a path inside of a root means that root."""
        if path is None:
            return tuple(self.roots.values())
        return (self.owner(path)[0],)

    def owner(self, path: str) -> tuple[RootRecord, str]:
        """-> (the innermost root that holds an absolute path, the path relative to it)."""
        for candidate in (os.path.abspath(path), os.path.realpath(path)):
            best = None
            for root in self.roots.values():
                inside = candidate == root.path or candidate.startswith(root.path + os.sep)
                if inside and (best is None or len(root.path) > len(best.path)):
                    best = root
            if best is not None:
                return best, candidate[len(best.path) + 1 :].replace(os.sep, "/")
        raise RequestError(NOT_WATCHED, f"{path} is in no watched workspace: codegraphd watch DIR{self._list()}")

    def resolve(self, path: str, root: str | None) -> tuple[RootRecord, str]:
        """A request's `path`: absolute, or relative to `root`, or to the one root that there is."""
        if os.path.isabs(path):
            return self.owner(path)
        roots = self.chosen(root)
        if len(roots) == 1:
            return roots[0], os.path.normpath(path).replace(os.sep, "/")
        if not roots:
            raise RequestError(NOT_WATCHED, "no workspace is watched: codegraphd watch DIR")
        held = [r for r in roots if os.path.lexists(os.path.join(r.path, path))]
        if len(held) == 1:
            return held[0], os.path.normpath(path).replace(os.sep, "/")
        raise RequestError(BAD_PARAMETERS, f"{path} is relative and {len(roots)} workspaces are watched: give `root`")

    def _list(self) -> str:
        paths = ", ".join(sorted(root.path for root in self.roots.values()))
        return f" (watched: {paths})" if paths else ""

    # --- the watcher and the indexer ----------------------------------------------------------------------------------

    def _begin(self, root: RootRecord, *, anew: bool = False) -> None:
        with self._store.snapshot() as view:
            known = list(view.stats(root.id))
            is_upgraded = view.meta(key_of(root.id)) != identity()
        if is_upgraded:
            log.info("%s was read by another version: its files are read again", root.path)
            anew = True
        if anew:  # a stat that no file has: all that are there differ, all that are not are still known to be gone
            known = [(path, Stat(-1, 0, 0, 0), skipped) for path, _, skipped in known]
        inner = self.inner(root.path)

        def add() -> None:
            self._indexer.add_root(root.id, root.path)
            if anew:
                self._indexer.read_anew(root.id)
            self.watcher.add(root.id, root.path, known, inner)
            if is_upgraded:
                done = self._indexer.wait_synced(
                    root.id, lambda passed: self.watcher.barrier(passed, root.id), semantic=False
                )
                done.add_done_callback(lambda future: self._understood(root, future))

        self._indexer.call(add)

    def _understood(self, root: RootRecord, read: Future[int]) -> None:
        """Every file was read by this version. If the daemon ends before, the next one begins again."""
        if read.exception() is None:
            self._writer.submit(lambda txn: txn.put_meta(key_of(root.id), identity()), interactive=False)

    def _remember(self) -> None:
        """Write the list of roots; a disk that takes no writing costs the list, not the daemon."""
        temporary = f"{self._memory}.new"
        try:
            with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
                json.dump(sorted(root.path for root in self.roots.values()), file, ensure_ascii=False, indent=1)
            os.replace(temporary, self._memory)
        except OSError as error:
            log.warning("%s: the list of workspaces could not be written: %s", self._memory, error)

    def _remembered(self) -> list[str]:
        try:
            with open(self._memory, encoding="utf-8", errors="surrogateescape") as file:
                paths = json.load(file)
        except (OSError, ValueError):
            return []
        return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []

    def inner(self, path: str) -> frozenset[str]:
        """Paths of the roots below `path`: they own their files."""
        return frozenset(root.path for root in self.roots.values() if root.path.startswith(path + os.sep))

    def _tell_outer(self, path: str) -> None:
        """A root came or went below others: they leave it out, or take it in again."""
        for root in self.roots.values():
            if path.startswith(root.path + os.sep):
                self.watcher.set_exclude(root.id, self.inner(root.path))

    def _drop(self, root_id: int, *, interactive: bool = False) -> None:
        def dropped(future: Future[bool]) -> None:
            if future.exception() is not None:
                log.error("the index of a workspace could not be dropped: %s", future.exception())
            elif not future.result():
                self._drop(root_id)

        self._writer.submit(lambda txn: txn.delete_root(root_id), interactive=interactive).add_done_callback(dropped)

    def _scanned(self, result: ScanResult) -> None:
        self._indexer.post(Scanned(result.root_id, result.changes, result.complete, result.missing))
