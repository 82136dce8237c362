"""Opens and keeps the LMDB environment: named databases, format, map size, readers, damage.

One `Store` is one open directory. Reading is by `snapshot`, from any thread; writing is by `store.writer` alone. LMDB
forbids to resize its map while a transaction of this process is open, so every transaction passes a gate that
`grow` closes. The map is address space, not memory or disk: 64 GiB cost nothing on a 64-bit system, and growing is
the exception.

A commit is whole after kill -9 and after a power cut (`sync`, `metasync=False`: the latter may lose the last one).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import lmdb

from codegraphd.store import codec, vectors
from codegraphd.store.errors import StoreDamaged, StoreError, StoreFull, StoreNewer
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.tables import FLAGS, Tables

MAP_MB: Final = 64 << 10
MAX_READERS: Final = 512
_GATE_TIMEOUT_S: Final = 30.0
_DATA = "data.mdb"
_ASIDE = ".aside"


class Store:
    """An open store. Make it with `open`."""

    def __init__(self, directory: str, env: Any, tables: Tables, *, read_only: bool) -> None:
        self.directory = directory
        self.read_only = read_only
        self.cache_budget = vectors.Budget()
        self.precision = "int8"  # of the codes that `attach` makes
        self.notes: list[str] = []  # what opening had to mend, for the log and for status
        self._env, self._tables = env, tables
        self._gate = threading.Condition()
        self._n_open = 0
        there = os.stat(os.path.join(directory, _DATA))
        self._inode = (there.st_dev, there.st_ino)
        self._is_growing = False
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
            store, found = cls._open(directory, map_mb, read_only, volatile)
        except _OlderFormatError as older:
            if read_only:
                raise StoreError(
                    f"{directory}: {older}; it can only be rebuilt, which a read-only store cannot"
                ) from None
            aside = move_aside(directory)
            store, found = cls._open(directory, map_mb, read_only, volatile)
            store.notes.append(f"{older}; moved to {aside}, the index is built again")
        if found:
            store.notes.append(f"cleared {found} readers of processes that are gone")
        return store

    @classmethod
    def _open(cls, directory: str, map_mb: int, read_only: bool, volatile: bool) -> tuple[Store, int]:
        path = os.path.join(directory, _DATA)
        env = None
        try:
            if not read_only:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            env = _open_env(directory, map_mb << 20, read_only, volatile)
            _check_length(env, path)
            tables = _open_tables(env, read_only)
            _check_format(env, tables, path, read_only)
            n_dead = 0 if read_only else env.reader_check()
            return cls(directory, env, tables, read_only=read_only), n_dead
        except (lmdb.Error, OSError, StoreError, _OlderFormatError) as error:
            if env is not None:
                env.close()
            if isinstance(error, (StoreError, _OlderFormatError)):
                raise
            raise error_of(error, path) from error

    def close(self) -> None:
        """Close the environment. Snapshots must have been left, and the writer closed."""
        with self._gate:
            self._env.close()

    # --- transactions ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """All reads at the newest clock. Leave it soon: what it sees cannot be reused on the disk until then."""
        self._enter()
        try:
            txn = self._env.begin(buffers=False)
            try:
                yield Snapshot(txn, self._tables)
            finally:
                txn.abort()
        finally:
            self._leave()

    @contextlib.contextmanager
    def write(self) -> Iterator[Any]:
        """A raw LMDB write transaction, aborted unless it was committed: for `store.writer` alone."""
        self._enter()
        try:
            txn = self._env.begin(write=True)
            try:
                yield txn
            finally:
                txn.abort()  # after a commit it does nothing
        finally:
            self._leave()

    def grow(self, factor: int = 2) -> None:
        """Enlarge the map, once no transaction of this process is open. Raises StoreFull where that cannot be."""
        deadline = time.monotonic() + _GATE_TIMEOUT_S
        with self._gate:
            self._is_growing = True
            try:
                while self._n_open:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._gate.wait(left):
                        raise StoreFull(f"{self.directory}: the map must grow, but a reader keeps its transaction open")
                size = self._env.info()["map_size"] * factor
                try:
                    self._env.set_mapsize(size)
                except (lmdb.Error, OSError, MemoryError) as error:
                    raise StoreFull(f"{self.directory}: the map cannot grow to {size >> 20} MiB: {error}") from error
            finally:
                self._is_growing = False
                self._gate.notify_all()

    def _enter(self) -> None:
        with self._gate:
            while self._is_growing:
                self._gate.wait()
            self._n_open += 1

    def _leave(self) -> None:
        with self._gate:
            self._n_open -= 1
            if not self._n_open:
                self._gate.notify_all()

    # --- upkeep ------------------------------------------------------------------------------------------------------

    def tend(self) -> str | None:
        """For now and then: clears readers of dead processes; says what is wrong with the file, if anything.

        A file that was deleted, replaced or cut under the daemon cannot be trusted: close, move aside, rebuild.
        """
        path = os.path.join(self.directory, _DATA)
        try:
            there = os.stat(path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        if (there.st_dev, there.st_ino) != self._inode:
            return f"{path}: replaced by another file"
        if there.st_size < _used_bytes(self._env):
            return f"{path}: cut short"
        if not self.read_only:
            self._env.reader_check()
        return None

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
            "bytes": os.stat(os.path.join(self.directory, _DATA)).st_blocks * 512,
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
    if isinstance(error, (lmdb.MapFullError, lmdb.DiskError)) or _is_full(error, path):
        return StoreFull(f"{path}: no room left: {error}")
    return StoreError(text)


class _OlderFormatError(Exception):
    """Carries the sentence; caught in `Store.open`."""


def _is_full(error: BaseException, path: str) -> bool:
    """LMDB tells a short write as an input/output error: whether there is room tells the two apart."""
    if not isinstance(error, (OSError, lmdb.Error)):
        return False
    try:
        free = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    return free.f_bavail * free.f_frsize < 1 << 20


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
