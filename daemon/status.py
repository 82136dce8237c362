"""The status document: every figure is read or measured at the time of asking, none is a constant.

Also owns the health rule: what makes the daemon `starting`, `indexing`, `ready` or `degraded`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil

from codegraphd.daemon.graph.index import Stage
from codegraphd.ipc.version import PROTOCOL, VERSION
from codegraphd.store.records import RootRecord

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

SCHEMA_VERSION = 1
_CPU_WINDOW_S = 5.0


class LoopLag:
    """How late the event loop's timers come, in milliseconds; the last 600 samples."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._next = 0

    def add(self, lag_s: float) -> None:
        lag_ms = max(0.0, lag_s * 1000.0)
        if len(self._samples) < 600:
            self._samples.append(lag_ms)
        else:
            self._samples[self._next] = lag_ms
            self._next = (self._next + 1) % 600

    def p99_ms(self) -> float | None:
        if not self._samples:
            return None
        ordered = sorted(self._samples)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3)


class Usage:
    """Memory and processor share of this process."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._at, self._cpu = time.monotonic(), self._cpu_s()
        self._percent = 0.0

    def rss_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def own_bytes(self) -> int:
        """Resident bytes less those that only show files: the system takes such pages back when it needs them. Where
        it does not tell them apart, all."""
        info = self._process.memory_info()
        return int(info.rss - getattr(info, "shared", 0))

    def cpu_percent(self) -> float:
        """Of one core, over the time since the last window of at least five seconds began."""
        with self._lock:
            now, cpu = time.monotonic(), self._cpu_s()
            if now - self._at > 0.2:
                self._percent = round(100.0 * (cpu - self._cpu) / (now - self._at), 2)
            if now - self._at > _CPU_WINDOW_S:
                self._at, self._cpu = now, cpu
            return self._percent

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def status_document(daemon: Daemon) -> dict[str, Any]:
    """The document of the interface. Called on a query thread; takes one snapshot of the store."""
    indexer = daemon.indexer
    model = daemon.model.statistics()
    store = daemon.store.statistics()
    vectors = daemon.vectors.statistics()
    now = time.monotonic()
    with daemon.store.snapshot() as view:
        workspaces = [_workspace(daemon, view, root) for root in daemon.workspaces.roots.values()]
        n_waiting = max(view.n_queued(Stage.EMBED), view.n_queued(Stage.EMBED_1))
        clock = view.clock
    hits, misses = indexer.counters["hits"], indexer.counters["misses"]
    problems = _problems(daemon, model, workspaces)
    return {
        "schema_version": SCHEMA_VERSION,
        "daemon": {
            "version": VERSION,
            "pid": os.getpid(),
            "uptime_s": round(now - daemon.started, 1),
            "state": _state(daemon, workspaces, problems),
            "rss_bytes": daemon.usage.rss_bytes(),
            "cpu_percent": daemon.usage.cpu_percent(),
            "loop_lag_p99_ms": daemon.lag.p99_ms(),
            "socket": daemon.paths.socket,
            "protocol": PROTOCOL,
            "problems": problems,
        },
        "model": model,
        "cache": {
            "hits": hits,
            "misses": misses,
            "hit_rate": round(hits / (hits + misses), 4) if hits + misses else None,
            "lookup_p50_us": daemon.lookup_p50_us(),
            "evictions": daemon.writer.n_evicted,
            "entries": store["cache_entries"],
            "bytes": store["cache_bytes"],
        },
        "store": {
            "bytes": store["bytes"],
            "map_bytes": store["map_bytes"],
            "clock": daemon.store.clock_text(clock),
            "commits": daemon.writer.n_commits,
            "precision": daemon.store.precision,
            **_vector_figures(vectors),
            "words": daemon.words.statistics(),
            "table_bytes": store["table_bytes"],
        },
        "queue": {
            "depth": n_waiting,
            "oldest_s": round(indexer.feeders.oldest_s(now), 1),
            "embedding": indexer.feeders.n_in_flight,
            "set_aside": indexer.feeders.set_aside,
        },
        "invalidation": {
            "changes": indexer.counters["changes"],
            **{level: indexer.levels[level] for level in ("content", "symbol", "semantic", "project")},
            "initial": indexer.levels["initial"],
            "early_cutoffs": indexer.counters["early_cutoffs"],
            "truncated": indexer.counters["truncated"],
            "max_depth": indexer.max_depth,
        },
        "ipc": daemon.server_statistics(),
        "parsers": daemon.parsers.statistics(),
        "workspaces": workspaces,
    }


def _vector_figures(vectors: dict[str, Any]) -> dict[str, Any]:
    """`bytes_per_vector`: in memory, all of the index's structures counted. `pca`: none is fitted."""
    elements = vectors["elements"]
    return {
        "vectors": elements,
        "bytes_per_vector": round(vectors["bytes"] / elements, 1) if elements else None,
        "dim": vectors["dim"],
        "pca": None,
        "index": {name: value for name, value in vectors.items() if name != "dim"},
    }


def _workspace(daemon: Daemon, view: Any, root: RootRecord) -> dict[str, Any]:
    files, units, edges, attached = view.counts(root.id)
    state = daemon.indexer.roots.get(root.id)
    watch = daemon.workspaces.watcher.statistics(root.id)
    pending = daemon.model.pending(view, root.id)
    languages, skipped = daemon.file_counts(view, root.id)
    progress = {"done": units - min(pending, units), "total": units, "eta_s": _eta(daemon, pending)}
    busy = state is None or not state.crawled or state.is_busy
    if state is not None and state.missing:
        name = "missing"
    elif state is None or not state.crawled:
        name = "crawling"
    else:
        at_work = busy or pending or daemon.indexer.is_behind or daemon.model.change.is_under_way
        name = "indexing" if at_work else "ready"
    if busy and state is not None:
        progress = {"done": state.done, "total": max(state.total, state.done), "eta_s": None}
    return {
        "root": root.path,
        "state": name,
        "clock": daemon.store.clock_text(view.clock),
        "files": files,
        "units": units,
        "edges": edges,
        "attached": attached,
        "pending": pending,
        "progress": progress,
        "languages": languages,
        "watch": {
            "backend": watch.backend,
            "watches": watch.watches,
            "overflows": watch.overflows,
            "rescans": watch.rescans,
            "unwatched": watch.unwatched,
        },
        "last_change_s": round(time.time() - state.last_change, 1) if state and state.last_change else None,
        "skipped": dict(Counter(watch.skipped) + Counter(skipped)),
    }


def _eta(daemon: Daemon, pending: int) -> float | None:
    rate = daemon.model.embedder.statistics().get("units_per_s")
    return round(pending / rate, 1) if pending and rate else None


def _problems(daemon: Daemon, model: dict[str, Any], workspaces: list[dict[str, Any]]) -> list[str]:
    problems = [*daemon.problems, *daemon.config_problems]
    for problem in (daemon.writer.problem, daemon.indexer.problem, daemon.memory.problem):
        if problem and problem not in problems:
            problems.append(problem)
    if model.get("error"):
        problems.append(f"model: {model['error']}")
    if model["former"] is not None and model["former"]["error"]:
        problems.append(f"model: {model['former']['error']}")
    watched = {root.path: daemon.workspaces.watcher.statistics(root.id) for root in daemon.workspaces.roots.values()}
    problems += [f"{path}: {watch.problem}" for path, watch in watched.items() if watch.problem]
    problems += [f"{w['root']}: the workspace's directory is missing" for w in workspaces if w["state"] == "missing"]
    problems += [f"set aside by the model: {name}" for name in list(daemon.indexer.feeders.set_aside)[:5]]
    return problems


def _state(daemon: Daemon, workspaces: list[dict[str, Any]], problems: list[str]) -> str:
    if not daemon.is_ready:
        return "starting"
    if problems:
        return "degraded"
    return "indexing" if any(w["state"] in ("crawling", "indexing") for w in workspaces) else "ready"
