"""What a large graph costs: an index of 100,000 units with 500,000 edges, on the disk and in memory.

    python -m bench.graph_memory [--units 100000] [--edges 500000]

The units are those of the standard library's Python files, taken in again under other directories until there are
enough; their words, facts, keys and mentions are stored with them. The edges are drawn: hubs get most of them, as in
real code. Memory is that of a fresh process which does nothing else: it opens the store and answers `dependents` of 200
units to depth 3; another one, for comparison only, builds the digraph of the whole, which the daemon never does.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.harness import Report, describe, machine
from bench.store import modules, put_file, put_relations
from codegraphd.daemon.graph.resolve import Resolution, resolve
from codegraphd.store.env import Store
from codegraphd.store.records import Edge, RootRecord, Strength
from codegraphd.store.writer import Writer

UNITS, EDGES = 100_000, 500_000
QUESTIONS, DEPTH, LIMIT = 200, 3, 1_000
_AT_ONCE = 2_000  # units of one transaction of edges
_KINDS = ("call", "call", "call", "type", "instantiate", "inherit")


def build(directory: str, n_units: int, n_edges: int) -> dict[str, float]:
    """Fill a store; bytes of its tables without the edges, and of those that the edges grow."""
    sources = modules(sysconfig.get_paths()["stdlib"], 10_000)
    store = Store.open(directory)
    writer = Writer(store)
    run = _runner(writer)
    run([lambda txn: txn.put_root(RootRecord(1, directory))])
    count = copy = 0
    while count < n_units:
        taken = []
        for path, module in sources:
            if count < n_units:
                taken.append((f"copy{copy}/{path}", module))
                count += len(module.units)
        run([put_file(path, module) for path, module in taken])
        copy += 1
    with store.snapshot(max_s=3_600) as view:
        files = list(view.files(1))
        found = [(file, resolve(view, 1, file)) for file in files]
    run([put_relations(file, Resolution({}, result.mentions, result.keys)) for file, result in found])
    del found
    ids = [id_ for file in files for id_ in file.units]
    before = _table_bytes(store)
    drawn = list(_drawn(ids, n_edges))
    run([_put_edges(drawn[at : at + _AT_ONCE]) for at in range(0, len(drawn), _AT_ONCE)])
    after = _table_bytes(store)
    writer.close()
    store.close()
    return {"units": len(ids), "edges": sum(len(edges) for _, edges in drawn), "before": before, "after": after}


def _runner(writer: Writer) -> Callable[[list[Callable[[Any], None]]], None]:
    def run(jobs: list[Callable[[Any], None]]) -> None:
        for future in [writer.submit(job, interactive=False) for job in jobs]:
            future.result()

    return run


def _drawn(ids: list[int], n_edges: int) -> Iterator[tuple[int, tuple[Edge, ...]]]:
    """The edges of each unit. The square of a uniform number makes hubs: one edge in 300 goes to the greatest."""
    dice = random.Random(1)
    order = dice.sample(ids, len(ids))
    share, rest = divmod(n_edges, len(ids))
    for n, source in enumerate(ids):
        edges: dict[int, Edge] = {}
        while len(edges) < share + (n < rest):
            target = order[int(dice.random() ** 2 * len(order))]
            kind = dice.choice(_KINDS)
            strength = Strength.CRITICAL if kind == "inherit" else Strength.STRONG
            if target != source:
                edges.setdefault(target, Edge(target, kind, strength, len(edges) + 1))
        yield source, tuple(edges.values())


def _put_edges(drawn: list[tuple[int, tuple[Edge, ...]]]) -> Callable[[Any], None]:
    def job(txn: Any) -> None:
        for source, edges in drawn:
            txn.set_edges(source, edges)

    return job


def _table_bytes(store: Store) -> int:
    return sum(store.statistics()["table_bytes"].values())


# --- what runs in a process of its own -------------------------------------------------------------------------------


def ask(directory: str) -> dict[str, Any]:
    from codegraphd.daemon.graph import graph

    process = psutil.Process()
    before = process.memory_info().rss
    store = Store.open(directory)
    dice = random.Random(2)
    took = []
    sizes = []
    with store.snapshot(max_s=3_600) as view:
        ids = [id_ for file in view.files(1) for id_ in file.units]
    for start in dice.sample(ids, QUESTIONS):
        begin = time.perf_counter()
        with store.snapshot() as view:
            found, _ = graph.neighbourhood(view, [start], "in", DEPTH, LIMIT, weak=True)
        took.append(time.perf_counter() - begin)
        sizes.append(len(found))
    own = process.memory_full_info()
    return {"before": before, "rss": own.rss, "private": own.uss, "took": took, "reached": sizes}


def whole(directory: str) -> dict[str, Any]:
    import networkx

    process = psutil.Process()
    store = Store.open(directory)
    digraph = networkx.DiGraph()
    with store.snapshot(max_s=3_600) as view:
        ids = [id_ for file in view.files(1) for id_ in file.units]
        before = process.memory_full_info().uss
        begin = time.perf_counter()
        for source in ids:
            for edge in view.edges_out(source):
                digraph.add_edge(source, edge.target, kind=edge.kind, strength=edge.strength)
    took = time.perf_counter() - begin
    return {"private": process.memory_full_info().uss - before, "took": took, "edges": digraph.number_of_edges()}


def _apart(what: str, directory: str) -> dict[str, Any]:
    code = f"import json, sys; from bench import graph_memory as m; print(json.dumps(m.{what}(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, directory], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def measure(report: Report, directory: str, n_units: int, n_edges: int) -> None:
    built = build(directory, n_units, n_edges)
    report.add("units", built["units"], "units")
    report.add("edges", built["edges"], "edges", note="less containment")
    per_unit = built["before"] / built["units"]
    report.add("disk for a unit, without edges and vectors", per_unit, "bytes", note="words, facts, keys, mentions")
    report.add("disk for an edge, both directions", (built["after"] - built["before"]) / built["edges"], "bytes")
    report.add("disk, all", built["after"] / 1e6, "MB")
    asked = _apart("ask", directory)
    report.add("a process with its modules, before it opens the store", asked["before"] / 1e6, "MB")
    note = f"{QUESTIONS} questions to depth {DEPTH}, {max(asked['reached']):,} units reached at most"
    report.add("… after `dependents`, resident", asked["rss"] / 1e6, "MB", note=note + "; pages of the map included")
    report.add("… after `dependents`, private", asked["private"] / 1e6, "MB")
    report.spread("`dependents` to depth 3", asked["took"])
    all_of_it = _apart("whole", directory)
    note = f"{all_of_it['edges']:,} edges, built in {all_of_it['took']:.1f} s; for comparison, the daemon builds none"
    report.add("networkx digraph of the whole", all_of_it["private"] / 1e6, "MB", note=note)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.graph_memory", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--units", type=int, default=UNITS)
    parser.add_argument("--edges", type=int, default=EDGES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write (default: under bench/results/)")
    chosen = parser.parse_args(arguments)
    report = Report("graph-memory", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        measure(report, scratch, chosen.units, chosen.edges)
    print(f"\n{report.table()}\n\nwritten to {report.save(chosen.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
