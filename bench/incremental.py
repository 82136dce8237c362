"""What a change costs: edits in a project of 200,000 units, a branch switch, a rescan in which nothing has changed.

    python -m bench.incremental [--quick]

A daemon without a model indexes the project (`large`). Then the engine runs in this process, on the store that it left,
flushed to the disk at every commit as the daemon's is; the model is left out. `python -m bench` includes this.
"""

from __future__ import annotations

import argparse
import gc
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Report, describe, machine
from bench.lab import ROOT, Lab
from bench.large import RETURN, on_the_branch, words_at_scale
from codegraphd.daemon.analysis.languages import language_of
from codegraphd.daemon.engine import Settings
from codegraphd.daemon.indexer import SLICE_S
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import list_files
from codegraphd.store.records import Strength

EDITS = 60
BRANCH_FILES = 200
RESCAN_FILES = 10_000
AFTERWARDS_S = 75  # what comes after the index of the large corpus


def measure(report: Report, scratch: Path, *, quick: bool) -> None:
    """On the index of a large corpus (`large`), which is made first."""
    root, index = words_at_scale(report, scratch, quick=quick, until_s=min(900.0, report.left_s() - AFTERWARDS_S))
    report.heading("what a change costs there")
    lab = Lab(index.parent, Settings(faces=True), volatile=False, name=index.name)
    try:
        _take_up(report, lab, root)
        report.phase("body edits", lambda: _body_edits(report, lab))
        report.phase("a hub's face", lambda: _face_of_a_hub(report, lab))
        report.phase("branch switch", lambda: _branch_switch(report, lab, BRANCH_FILES))
    finally:
        lab.close()
    report.phase("rescan", lambda: _rescan(report, scratch / "rescan", RESCAN_FILES // 10 if quick else RESCAN_FILES))


def _take_up(report: Report, lab: Lab, root: Path) -> None:
    """The sources that the index is of, and a vector for each unit."""
    with lab.store.snapshot() as view:
        paths = [file.path for file in view.files(ROOT) if not file.skipped]
    lab.sources.update({path: (root / path).read_bytes() for path in paths})
    lab.index({})  # recipes that the daemon had still to compute
    lab.embed()
    gc.collect()
    gc.freeze()  # as the daemon does, and its parser processes
    report.add("units of the project", _n_units(lab), "units", note=f"{len(paths)} files")


def _n_units(lab: Lab) -> int:
    with lab.store.snapshot() as view:
        return view.counts(ROOT)[1]


def _body_edits(report: Report, lab: Lab) -> None:
    """One line added to one function's body: parsed, compared, committed."""
    rng = random.Random(7)
    samples, units, inputs = [], [], []
    paths = [path for path, source in lab.sources.items() if RETURN in source]
    for n, path in enumerate(rng.sample(paths, min(EDITS, len(paths)))):
        source = lab.sources[path].replace(RETURN, b"\n    edited_%d = %d" % (n, n) + RETURN, 1)
        asked = len(lab.asked)
        lab.sources[path] = source
        lab.clear()
        begin = time.perf_counter()
        lab.index({path: source})
        samples.append(time.perf_counter() - begin)
        lab.embed()
        units.append(len({name.partition("#")[0] for name in lab.embedded}))
        inputs.append(len(lab.asked) - asked)
    report.spread("a body edited, parse to commit", samples, target_p95=0.060)
    note = f"{max(inputs)} inputs at most: a long unit is read whole and in parts"
    report.add("units embedded for it, most", max(units), "", target=1, note=note)


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
    """Files changed, and back to what was seen before."""
    paths = [path for path, source in lab.sources.items() if RETURN in source][:n_files]
    before = {path: lab.sources[path] for path in paths}
    lab.edit({path: on_the_branch(source) for path, source in before.items()})
    asked = len(lab.asked)
    lab.edit(before)
    embedded = len(lab.asked) - asked
    report.add("inputs embedded for files seen before", embedded, "", target=0, note=f"{len(paths)} files")


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
    parser.add_argument("--quick", action="store_true", help="a part of the files")
    chosen = parser.parse_args(arguments)
    report = Report("incremental", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        measure(report, Path(scratch), quick=chosen.quick)
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
