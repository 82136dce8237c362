"""Opens and keeps the LMDB environment: named databases, format, map size, readers, damage.

One `Store` is one open directory. Reading is by `snapshot`, from any thread; writing is by `store.writer` alone. LMDB
forbids to resize its map while a transaction of this process is open, so every transaction passes a gate that
`grow` closes. The map is address space, not memory or disk: 64 GiB cost nothing on a 64-bit system, and growing is
the exception.

A commit is whole after kill -9 and after a power cut (`sync`, `metasync=False`: the latter may lose the last one).
What somebody else does to the file is noticed: at the start by `store.trust`, later by `tend`.

A snapshot that is held for minutes keeps every page that it sees from being used again, so the file would grow with
each commit. `tend` ends those: their next question raises SnapshotExpired.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import lmdb

from codegraphd.store import codec, trust, vectors
from codegraphd.store.errors import StoreDamaged, StoreError, StoreFull, StoreNewer
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import FLAGS, Tables

MAP_MB: Final = 64 << 10
MAX_READERS: Final = 512
SNAPSHOT_S: Final = 120.0
_GATE_TIMEOUT_S: Final = 30.0
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_DATA = "data.mdb"
_ASIDE = ".aside"


log = logging.getLogger(__name__)


class Store:
    """An open store. Make it with `open`."""

    def __init__(self, directory: str, env: Any, tables: Tables, *, read_only: bool) -> None:
        self.directory = directory
        self.read_only = read_only
        self.cache_budget = vectors.Budget()
        self.precision = "int8"  # of the codes that `attach` makes
        self._options: tuple[int, bool, bool] = (MAP_MB << 20, read_only, False)
        self.notes: list[str] = []  # what opening had to mend, for the log and for status
        self._env, self._tables = env, tables
        self._gate = threading.Condition()
        self._is_growing = False
        # Transactions of this process, each under a token of its own: a snapshot with when it must be left, or None.
        # Single dictionary operations need no lock, so that a hundred questions at once do not wait for each other.
        self._in_use: dict[object, tuple[Snapshot, float] | None] = {}
        self._path = os.path.join(directory, _DATA)
        self._expired: list[Any] = []  # transactions that nobody can reach any more
        self._writing = threading.Lock()
        self._stamp = trust.stamp_of(self._path)  # of the file after our own last write
        self._seen: trust.Stamp | None = None  # by `tend`, the last time
        self._sealed: trust.Stamp | None = None
        with self.snapshot() as snapshot:
            raw = snapshot._txn.get(b"store id", db=tables.meta)
        self.store_id: str = raw.decode("ascii") if raw else "none"

    @classmethod
    def open(cls, directory: str, *, map_mb: int = MAP_MB, read_only: bool = False, volatile: bool = False) -> Store:
        """Open or create the store in `directory`.

        `map_mb` is where the map begins; it grows by itself. `volatile`: no flush to the disk, for stores that are
        thrown away. An older format is moved aside and a new store begun (see `notes`). Raises StoreNewer for a newer
        one, StoreDamaged for what is no store or is cut short, StoreError where the directory cannot be used.
        """
        try:
            return cls._open(directory, map_mb, read_only, volatile)
        except _OlderFormatError as older:
            if read_only:
                raise StoreError(
                    f"{directory}: {older}; it can only be rebuilt, which a read-only store cannot"
                ) from None
            aside = move_aside(directory)
            store = cls._open(directory, map_mb, read_only, volatile)
            store.notes.append(f"{older}; moved to {aside}, the index is built again")
            return store

    @classmethod
    def _open(cls, directory: str, map_mb: int, read_only: bool, volatile: bool) -> Store:
        path = os.path.join(directory, _DATA)
        env = None
        try:
            if not read_only:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            examined = None if volatile else trust.examine(path)
            env = _open_env(directory, map_mb << 20, read_only, volatile)
            _check_length(env, path)
            tables = _open_tables(env, read_only)
            _check_format(env, tables, path, read_only)
            n_dead = 0 if read_only else env.reader_check()
            if not (read_only or volatile):  # from now on a write of ours must not look like somebody else's
                trust.seal(path, trust.stamp_of(path), is_closed=False)
            store = cls(directory, env, tables, read_only=read_only)
        except (lmdb.Error, OSError, StoreError, _OlderFormatError) as error:
            if env is not None:
                env.close()
            if isinstance(error, (StoreError, _OlderFormatError)):
                raise
            raise error_of(error, path) from error
        store._options = (map_mb << 20, read_only, volatile)
        if examined:
            store.notes.append(examined)
        if n_dead:
            store.notes.append(f"cleared {n_dead} readers of processes that are gone")
        return store

    def close(self) -> None:
        """Close the environment and seal the file. Snapshots must have been left, and the writer closed."""
        with self._gate:
            self._env.close()
        if not (self.read_only or self._options[2]) and self._is_ours():
            trust.seal(self._path, self._stamp, is_closed=True)

    def reopen(self) -> None:
        """Close and open again, once no transaction of this process is open: LMDB wants it after a failed meta page."""
        with self._alone("the environment must be opened again"):
            self._env.close()
            self._open_again()

    def _open_again(self) -> None:
        self._env = _open_env(self.directory, *self._options)
        self._tables = _open_tables(self._env, self.read_only)
        self._stamp = trust.stamp_of(self._path)

    # --- transactions ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self, max_s: float = SNAPSHOT_S) -> Iterator[Snapshot]:
        """All reads at the newest clock. Leave it soon; `tend` ends one that is held for over `max_s` seconds."""
        token = self._enter()
        try:
            txn = self._env.begin(buffers=False)
            try:
                snapshot = Snapshot(txn, self._tables)
                self._in_use[token] = (snapshot, time.monotonic() + max_s)
                yield snapshot
            finally:
                txn.abort()  # nothing happens where `tend` did it before
        finally:
            self._leave(token)

    @contextlib.contextmanager
    def write(self) -> Iterator[Any]:
        """A raw LMDB write transaction, aborted unless it was committed: for `store.writer` alone."""
        token = self._enter()
        try:
            with self._writing:
                try:
                    txn = self._env.begin(write=True)
                    try:
                        yield txn
                    finally:
                        txn.abort()  # after a commit it does nothing
                finally:
                    with contextlib.suppress(OSError):
                        self._stamp = trust.stamp_of(self._path)
        finally:
            self._leave(token)

    def grow(self, factor: int = 2) -> None:
        """Enlarge the map, once no transaction of this process is open. Raises StoreFull where that cannot be."""
        with self._alone("the map must grow"):
            size = self._env.info()["map_size"] * factor
            try:
                self._env.set_mapsize(size)
            except (lmdb.Error, OSError, MemoryError) as error:
                raise StoreFull(f"{self.directory}: the map cannot grow to {size >> 20} MiB: {error}") from error

    @contextlib.contextmanager
    def _alone(self, why: str) -> Iterator[None]:
        """No transaction of this process is open inside."""
        deadline = time.monotonic() + _GATE_TIMEOUT_S
        with self._gate:
            self._is_growing = True
            try:
                while self._in_use:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._gate.wait(left):
                        raise StoreFull(f"{self.directory}: {why}, but a reader keeps its transaction open")
                yield
            finally:
                self._is_growing = False
                self._gate.notify_all()

    def _enter(self) -> object:
        """Register a transaction before it begins. Either `_alone` sees it, or it sees that it has to wait."""
        token = object()
        while True:
            self._in_use[token] = None
            if not self._is_growing:
                return token
            self._leave(token)
            with self._gate:
                while self._is_growing:
                    self._gate.wait()

    def _leave(self, token: object) -> None:
        self._in_use.pop(token, None)
        if self._is_growing:
            with self._gate:
                self._gate.notify_all()

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def tend(self) -> str | None:
        """To be called about once a second. Says what is wrong with the file, if anything.

        Ends snapshots that are held for too long, clears readers of dead processes, seals the file in a quiet moment.
        A file that was deleted, replaced, cut or spoilt by another cannot be trusted: close, move aside, rebuild.
        """
        self._end_old_snapshots()
        if not self._writing.acquire(blocking=False):
            return None  # a commit is under way: next time
        try:
            try:
                there = trust.stamp_of(self._path)
            except OSError as error:
                return f"{self._path}: {error.strerror}"
            if there[0] != self._stamp[0]:
                return f"{self._path}: replaced by another file"
            if there[1] < _used_bytes(self._env):
                return f"{self._path}: cut short"
            if there != self._stamp:
                # Somebody touched it, or a network file system is late with its times: what counts is the content.
                if (found := trust.walk(self._path)) is not None:
                    return f"{self._path}: written by another program: {found}"
                log.warning("%s: another program touched it; it was examined and is sound", self._path)
                self._stamp = there
            if self.read_only:
                return None
            self._env.reader_check()
        finally:
            self._writing.release()
        # Quiet since the last time. A commit that comes in between makes the seal stale, which is no harm.
        if there == self._seen and there != self._sealed and not self._options[2]:
            trust.seal(self._path, there, is_closed=False)
            self._sealed = there
        self._seen = there
        return None

    def compact(self) -> int:
        """Give the disk back what deletions left free, by a copy: takes as much room again while it runs.

        No transaction of this process may be open meanwhile: those that come wait. Returns the bytes saved. Raises
        StoreFull; the store is then as it was.
        """
        folder = os.path.join(self.directory, "compact")
        with self._alone("the store is to be compacted"):
            before = os.path.getsize(self._path)
            try:
                shutil.rmtree(folder, ignore_errors=True)
                os.makedirs(folder, mode=0o700)
                self._env.copy(folder, compact=True)
            except (lmdb.Error, OSError) as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise error_of(error, folder) from error
            self._env.close()
            os.replace(os.path.join(folder, _DATA), self._path)
            os.rmdir(folder)
            self._open_again()
            return before - os.path.getsize(self._path)

    def _is_ours(self) -> bool:
        try:
            return trust.stamp_of(self._path) == self._stamp
        except OSError:
            return False

    def _end_old_snapshots(self) -> None:
        """In two steps, a second or more apart: first nobody can begin a call on the transaction, then it is ended."""
        for txn in self._expired:
            txn.abort()
        self._expired.clear()
        now = time.monotonic()
        for reader in list(self._in_use.values()):
            if reader is not None and now >= reader[1] and (txn := reader[0].expire()) is not None:
                self._expired.append(txn)

    def statistics(self) -> dict[str, Any]:
        """`bytes`: on the disk; `map_bytes`: address space; `entries` and `table_bytes` for each named database."""
        entries: dict[str, int] = {}
        table_bytes: dict[str, int] = {}
        with self.snapshot() as snapshot:
            usage = vectors.usage(snapshot._txn, self._tables)
            for name, table in self._tables._asdict().items():
                stat = snapshot._txn.stat(table)
                entries[name] = stat["entries"]
                n_pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                table_bytes[name] = n_pages * stat["psize"]
        info = self._env.info()
        return {
            "bytes": os.stat(self._path).st_blocks * 512,
            "map_bytes": info["map_size"],
            "readers": info["num_readers"],
            "cache_entries": usage.entries,
            "cache_bytes": usage.bytes,
            "entries": entries,
            "table_bytes": table_bytes,
        }

    def clock_text(self, n: int) -> str:
        """The clock as clients see it."""
        return f"{self.store_id}:{n}"

    def parse_clock(self, text: str) -> int | None:
        """The number of a clock of this store; None for one of another store, or for what is no clock."""
        store_id, _, number = text.rpartition(":")
        return int(number) if store_id == self.store_id and number.isascii() and number.isdigit() else None


def move_aside(directory: str) -> str:
    """Rename a store that is closed, so that a new one can be built in its place. Returns where it went.

    One is kept: what was moved aside before is dropped.
    """
    aside = directory.rstrip(os.sep) + _ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(directory, aside)
    return aside


def error_of(error: BaseException, path: str) -> StoreError:
    """The store's word for what LMDB or the system raised."""
    text = f"{path}: {error}"
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return StoreDamaged(text)
    if isinstance(error, lmdb.VersionMismatchError):
        return StoreDamaged(f"{text} (another version of LMDB wrote it)")
    # LMDB tells a short write, which is how a full disk begins, as an input/output error.
    number = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    if isinstance(error, (lmdb.MapFullError, lmdb.DiskError)) or number in _NO_ROOM:
        return StoreFull(f"{text} (no room left, or a failing disk)")
    return StoreError(text)


class _OlderFormatError(Exception):
    """Carries the sentence; caught in `Store.open`."""


def _open_env(directory: str, map_size: int, read_only: bool, volatile: bool) -> Any:
    while True:
        try:
            return lmdb.open(
                directory,
                map_size=map_size,
                max_dbs=len(FLAGS) + 8,
                max_readers=MAX_READERS,
                readonly=read_only,
                create=not read_only,
                metasync=False,
                sync=not volatile,
                writemap=False,
                readahead=True,
                mode=0o600,
                max_spare_txns=16,
            )
        except (lmdb.MemoryError, MemoryError):
            if map_size <= 64 << 20:
                raise
            map_size //= 4  # a limit on the address space: begin smaller, and grow as far as it goes


def _used_bytes(env: Any) -> int:
    return (env.info()["last_pgno"] + 1) * env.stat()["psize"]  # type: ignore[no-any-return]


def _check_length(env: Any, path: str) -> None:
    """Reading a page behind the end of a mapped file kills the process, so look before."""
    size, used = os.stat(path).st_size, _used_bytes(env)
    if size < used:
        raise StoreDamaged(f"{path}: cut short: {size} bytes of {used}")


def _open_tables(env: Any, read_only: bool) -> Tables:
    return Tables(**{name: env.open_db(name.encode(), create=not read_only, **flags) for name, flags in FLAGS.items()})


def _check_format(env: Any, tables: Tables, path: str, read_only: bool) -> None:
    with env.begin(write=not read_only) as txn:
        raw = txn.get(b"format", db=tables.meta)
        if raw is None and not read_only:
            txn.put(b"format", str(codec.FORMAT).encode(), db=tables.meta)
            txn.put(b"store id", secrets.token_hex(6).encode(), db=tables.meta)
            return
    if raw is None or not raw.isdigit():
        raise StoreDamaged(f"{path}: says no format")
    if (found := int(raw)) > codec.FORMAT:
        told = f"format {found} is from a newer codegraphd (this one knows {codec.FORMAT})"
        raise StoreNewer(f"{path}: {told}; install that one, or set another CODEGRAPHD_HOME")
    if found < codec.FORMAT:
        raise _OlderFormatError(f"{path}: format {found} is older than {codec.FORMAT}")
