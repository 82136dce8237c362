"""The hnswlib graph over the rows: a faster answer to unfiltered questions among many units, always optional.

hnswlib breaks when a question meets an addition, raises for a `k` above the live count, reports no failed save and
loads whatever a damaged file holds. So: one lock around every call; `k` is clipped; the file is written under another
name, flushed and renamed, and a seal beside it (magic, format, dimensions, count, clock, store, SHA-256) is checked
before hnswlib sees a byte. What is wrong is built again.

Changes reach the graph behind: until then their units are `waiting`, hidden from its answers and searched exactly.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any, Final

import hnswlib
import numpy as np
import numpy.typing as npt

from codegraphd.store import seals
from codegraphd.store.compress import Vector

_MAGIC: Final = "codegraphd hnsw"
_FORMAT: Final = 1
_M: Final = 16
_EF_BUILD: Final = 100
_FILE = "vectors.hnsw"
_SEAL = "vectors.json"

log = logging.getLogger(__name__)


def bytes_per_row(dim: int) -> int:
    """What one element costs in memory: the float32 vector, its links, its label and hnswlib's tables (measured)."""
    return 4 * dim + 8 * _M + 4 * _M // 8 + 144


class Graph:
    """One hnswlib index by cosine, labelled by unit id. Every method is thread-safe."""

    def __init__(self, dim: int, capacity: int = 1_024) -> None:
        self.dim = dim
        self._lock = threading.Lock()
        self._index = hnswlib.Index(space="cosine", dim=dim)
        self._index.init_index(max_elements=capacity, ef_construction=_EF_BUILD, M=_M)
        self._live: set[int] = set()
        self._dead: set[int] = set()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def n_deleted(self) -> int:
        return len(self._dead)

    def n_bytes(self) -> int:
        return (len(self._live) + len(self._dead)) * bytes_per_row(self.dim)

    def put(self, ids: npt.NDArray[np.int64], vectors: Vector) -> None:
        """Add or replace float32[n, dim]. One thread: more would take the machine from its user."""
        with self._lock:
            for id_ in ids.tolist():
                if id_ in self._dead:  # a unit that lost its vector and has one again
                    self._index.unmark_deleted(id_)
                    self._dead.discard(id_)
                self._live.add(id_)
            needed = len(self._live) + len(self._dead)
            if needed > self._index.get_max_elements():
                self._index.resize_index(max(needed, self._index.get_max_elements() * 5 // 4))
            self._index.add_items(vectors, ids, num_threads=1)

    def delete(self, ids: Iterable[int]) -> None:
        """Hide units; unknown ones are no matter."""
        with self._lock:
            for id_ in ids:
                if id_ in self._live:
                    self._index.mark_deleted(id_)
                    self._live.discard(id_)
                    self._dead.add(id_)

    def nearest(self, vector: Vector, k: int) -> list[int] | None:
        """Ids of about the `k` nearest units, as many as there are at most; None: busy, or it failed."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            k = min(k, len(self._live))
            if not k:
                return []
            self._index.set_ef(max(64, 2 * k))
            labels, _ = self._index.knn_query(vector, k=k, num_threads=1)
            return [int(label) for label in labels[0]]
        except RuntimeError:  # fewer than k could be reached
            return None
        finally:
            self._lock.release()

    def save(self, directory: str, store_id: str, clock: int, waiting: list[int]) -> None:
        """Write file and seal, each whole or not at all. Raises OSError, also where hnswlib kept silent.

        It is what the rows were at `clock`, but for the units in `waiting`.
        """
        path = os.path.join(directory, _FILE)
        temporary = path + ".new"
        with self._lock:
            self._index.save_index(temporary)
            expected = self._index.index_file_size()
            seal = {
                "magic": _MAGIC, "format": _FORMAT, "store": store_id, "clock": clock, "dim": self.dim,
                "live": len(self._live), "dead": sorted(self._dead), "waiting": waiting,
            }  # fmt: skip
        if (size := os.stat(temporary).st_size) != expected:
            raise OSError(f"{temporary}: {size} bytes of {expected} were written")
        seal["sha256"] = seals.digest_of(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        seals.write(os.path.join(directory, _SEAL), seal)

    @classmethod
    def load(cls, directory: str, store_id: str, dim: int) -> tuple[Graph, int, list[int]] | None:
        """The saved graph and the clock it is valid for; None where there is none that can be trusted."""
        path = os.path.join(directory, _FILE)
        seal = seals.read(os.path.join(directory, _SEAL))
        wanted = {"magic": _MAGIC, "format": _FORMAT, "store": store_id, "dim": dim}
        if any(seal.get(name) != value for name, value in wanted.items()):
            return None
        try:
            if seal["sha256"] != seals.digest_of(path):
                log.warning("%s: not as it was saved; it is built again", path)
                return None
            graph = cls.__new__(cls)
            graph.dim = dim
            graph._lock = threading.Lock()
            index: Any = hnswlib.Index(space="cosine", dim=dim)
            index.load_index(path)
            labels = {int(label) for label in index.get_ids_list()}
            graph._index, graph._dead = index, set(seal["dead"])
            graph._live = labels - graph._dead
            if len(graph._live) != seal["live"]:
                return None
            return graph, int(seal["clock"]), [int(id_) for id_ in seal["waiting"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("%s: cannot be loaded: %s", path, error)
            return None

    def ids(self) -> set[int]:
        with self._lock:
            return set(self._live)


def remove(directory: str) -> None:
    """Drop what was saved."""
    for name in (_SEAL, _FILE):
        if os.path.exists(path := os.path.join(directory, name)):
            os.remove(path)
