"""What a change costs: edits in a project of 100,000 units, a branch switch, a rescan in which nothing has changed.

    python -m bench.incremental [--quick]

The engine runs in this process, on a store that is flushed to the disk at every commit as the daemon's is; the model is
left out. `python -m bench` includes this.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from bench.corpora import installed_packages
from bench.harness import Report, describe, machine
from bench.lab import ROOT, Lab
from codegraphd.daemon.analysis.languages import language_of
from codegraphd.daemon.engine import Settings
from codegraphd.daemon.indexer import SLICE_S
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import list_files
from codegraphd.store.records import Strength

UNITS = 100_000
EDITS = 60
BRANCH_FILES = 1000
RESCAN_FILES = 10_000
AFTERWARDS_S = 75  # what the phases after the filling need


def measure(report: Report, scratch: Path, *, quick: bool) -> None:
    corpus = installed_packages(scratch / "packages", quick=quick)
    lab_directory = scratch / "lab"
    lab_directory.mkdir()
    lab = Lab(lab_directory, Settings(faces=True), volatile=False)
    try:
        _fill(report, lab, corpus.root, UNITS // 20 if quick else UNITS)
        report.phase("body edits", lambda: _body_edits(report, lab))
        report.phase("a hub's face", lambda: _face_of_a_hub(report, lab))
        report.phase("branch switch", lambda: _branch_switch(report, lab, 100 if quick else BRANCH_FILES))
    finally:
        lab.close()
    report.phase("rescan", lambda: _rescan(report, scratch / "rescan", RESCAN_FILES // 10 if quick else RESCAN_FILES))


def _fill(report: Report, lab: Lab, root: Path, n_units: int) -> None:
    """`n_units` units, or as many as the time of the run allows."""
    begin = time.perf_counter()
    batch: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*.py")):
        batch[path.relative_to(root).as_posix()] = path.read_bytes()
        if len(batch) == 50:
            lab.index(batch)
            lab.sources.update({path: source for path, source in batch.items() if source is not None})
            batch = {}
            if _n_units(lab) >= n_units or report.left_s() < AFTERWARDS_S:
                break
    lab.embed()
    report.add("units of the project", _n_units(lab), "units", note=f"indexed in {time.perf_counter() - begin:.0f} s")


def _n_units(lab: Lab) -> int:
    with lab.store.snapshot() as view:
        return view.counts(ROOT)[1]


def _body_edits(report: Report, lab: Lab) -> None:
    """One line added to one function's body: parsed, compared, committed."""
    rng = random.Random(7)
    samples, embedded = [], []
    paths = [path for path, source in lab.sources.items() if b"\n    return " in source]
    for n, path in enumerate(rng.sample(paths, min(EDITS, len(paths)))):
        source = lab.sources[path].replace(b"\n    return ", b"\n    edited_%d = %d\n    return " % (n, n), 1)
        asked = len(lab.asked)
        lab.sources[path] = source
        begin = time.perf_counter()
        lab.index({path: source})
        samples.append(time.perf_counter() - begin)
        lab.embed()
        embedded.append(len(lab.asked) - asked)
    report.spread("a body edited, parse to commit", samples, target_p95=0.060)
    report.add("inputs embedded for it, most", max(embedded), "", target=1)


def _face_of_a_hub(report: Report, lab: Lab) -> None:
    """The face of the unit with most dependents (up to about a thousand) changes."""
    with lab.store.snapshot() as view:
        hub, n_dependents = None, 0
        for unit in view.units(ROOT):
            n = sum(1 for _, _, strength in view.edges_in(unit.id) if strength >= Strength.STRONG)
            if n_dependents < n <= 1200 and unit.unit.kind == "function":
                hub, n_dependents = unit, n
    assert hub is not None
    source = lab.sources[hub.path]
    unit, name = source[hub.unit.start_byte : hub.unit.end_byte], hub.unit.name.encode()
    changed = re.sub(rb"(def\s+%s\s*\()" % re.escape(name), rb"\1an_added_parameter=None, ", unit, count=1)
    begin = time.perf_counter()
    edited = source[: hub.unit.start_byte] + changed + source[hub.unit.end_byte :]
    outcomes = lab.index({hub.path: edited}, slice_s=SLICE_S)
    spent = time.perf_counter() - begin
    lab.embed()
    symbol = sum(outcome.levels["symbol"] for outcome in outcomes)
    note = f"{n_dependents} dependents, {symbol} with another recipe, {len(outcomes)} steps"
    report.add("a face with many dependents edited", 1000 * spent, "ms", note=note)
    report.add("its longest step", 1000 * max(lab.step_s), "ms", note="what another edit waits for; queries do not")


def _branch_switch(report: Report, lab: Lab, n_files: int) -> None:
    """A thousand files changed, and back to what was seen before."""
    paths = [path for path, source in lab.sources.items() if b"\n    return " in source][:n_files]
    before = {path: lab.sources[path] for path in paths}
    after = {
        path: source.replace(b"\n    return ", b"\n    branch = 2\n    return ", 1) for path, source in before.items()
    }
    lab.edit(after)
    asked = len(lab.asked)
    begin = time.perf_counter()
    lab.edit(before)
    spent = time.perf_counter() - begin
    report.add(f"branch switch of {len(paths)} files seen before", spent, "s", target=3.0, note="parsed in one process")
    report.add("inputs embedded for it", len(lab.asked) - asked, "", target=0)


def _rescan(report: Report, root: Path, n_files: int) -> None:
    for n in range(n_files):
        path = root / f"d{n % 100}" / f"f{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    settings = ScanSettings(language_of)
    list_files(str(root), settings)
    begin = time.perf_counter()
    found = list_files(str(root), settings)
    report.add(f"rescan of {len(found):,} files", time.perf_counter() - begin, "s", target=0.5)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.incremental", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the units")
    chosen = parser.parse_args(arguments)
    report = Report("incremental", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        measure(report, Path(scratch), quick=chosen.quick)
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
