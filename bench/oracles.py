"""What codegraphd finds in code against those who know better: one command, one table.

    python -m bench.oracles [--checkouts DIR] [--only PART ...] [--keep DIR] [--json FILE]

definitions   functions, methods and classes against universal-ctags (`ctags_oracle`)
references    relations between units against scip-python and scip-typescript, which npm installs here (`scip_oracle`)
labels        edges that were checked by hand in languages without such an indexer (`edge_labels`)
flow          data-flow edges against GraphCodeBERT's published extractors (`flow_agreement`)

The repositories (`checkouts`) are taken from --checkouts, or fetched with git; --keep says where all of it is put, to
be used again. What cannot be had here is said on one line, and the rest is measured.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import ctags_oracle, edge_labels, flow_agreement, scip_oracle
from bench.checkouts import Checkouts, UnavailableError
from bench.harness import Report, describe, machine

# language -> repositories with the folder of each that is compared
DEFINITIONS = {
    "python": (("flask", ""),),
    "javascript": (("express", ""),),
    "typescript": (("vite", "packages/vite"),),
    "java": (("gson", ""),),
    "go": (("cobra", ""), ("gin", "")),
    "rust": (("ripgrep", ""), ("serde", "")),
    "c": (("jq", ""),),
    "cpp": (("leveldb", ""), ("fmt", "")),
    "csharp": (("Polly", ""), ("serilog", "")),
}
FLOW = {"python": "flask", "java": "gson", "go": "cobra", "javascript": "express", "csharp": "Polly"}
FUNCTIONS = 400  # of each language, for the flow


def definitions(report: Report, checkouts: Checkouts, home: Path) -> None:  # noqa: ARG001 - the parts share a signature
    report.machine["versions"]["ctags"] = ctags_oracle.version()
    for language, places in DEFINITIONS.items():
        for name, folder in places:
            with _said(report, f"definitions, {language}, {name}: recall") as figure:
                recall = ctags_oracle.compare(language, checkouts.get(name) / folder)
                note = f"{recall.tags:,} tags in {recall.files} files"
                report.add(figure, round(recall.share, 4), "", target=0.98, at_most=False, note=note)


def references(report: Report, checkouts: Checkouts, home: Path) -> None:  # noqa: ARG001
    scip_oracle.install(home)
    for indexer in scip_oracle.versions(home):
        name, _, version = indexer.partition(" ")
        report.machine["versions"][name] = version
    for name, measure in scip_oracle.packages(home):
        with _said(report, f"references, {name}"):
            row = measure()
            measures = row.measures()
            for what, target, n in (
                ("precision_strict", 0.90, f"{row.ours:,} strong and critical edges, {row.unjudged} unjudged"),
                ("recall", 0.85, f"{row.theirs:,} relations; {measures['recall_stored']:.3f} by stored edges"),
            ):
                value = round(measures[what], 4)
                report.add(
                    f"references, {row.project}: {what.partition('_')[0]}",
                    value,
                    "",
                    target=target,
                    at_most=False,
                    note=n,
                )


def labels(report: Report, checkouts: Checkouts, home: Path) -> None:  # noqa: ARG001
    for language in edge_labels.LANGUAGES:
        for name in edge_labels.repositories(language):
            with _said(report, f"hand-checked edges, {language}, {name}: precision") as figure:
                count = edge_labels.judge(language, name, checkouts.get)
                note = f"{count.labelled} labelled, {count.found} still found, {count.part} of them one part of several"
                report.add(figure, round(count.precision, 4), "", target=0.90, at_most=False, note=note)


def flow(report: Report, checkouts: Checkouts, home: Path) -> None:  # noqa: ARG001
    published = flow_agreement.load_published(str(checkouts.get("CodeBERT")))
    for language, name in FLOW.items():
        with _said(report, f"data flow, {language}, {name}: agreement") as figure:
            row = flow_agreement.measure(published, language, str(checkouts.get(name)), FUNCTIONS)
            note = f"{row.edges:,} edges in {row.functions} functions, {row.skipped} skipped"
            report.add(figure, round(row.agreement, 4), "", target=0.95, at_most=False, note=note)


PARTS: dict[str, Callable[[Report, Checkouts, Path], None]] = {
    "definitions": definitions,
    "references": references,
    "labels": labels,
    "flow": flow,
}
_MISSING = (UnavailableError, OSError, subprocess.SubprocessError, ValueError)


@contextmanager
def _said(report: Report, figure: str) -> Iterator[str]:
    """A figure, which is said to be missing where what it needs cannot be had."""
    try:
        yield figure
    except _MISSING as error:
        report.failed(figure, error)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkouts", type=Path, metavar="DIR", help="repositories that are here, by their names")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work here and leave everything behind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write (default: under bench/results/)")
    chosen = parser.parse_args(arguments)
    home = chosen.keep or Path(tempfile.mkdtemp(prefix="codegraphd-oracles-"))
    home.mkdir(parents=True, exist_ok=True)
    report = Report("oracles", machine=machine())
    checkouts = Checkouts(home / "repositories", chosen.checkouts)
    try:
        for part in chosen.only:
            report.heading(part)
            with _said(report, part):
                PARTS[part](report, checkouts, home)
    finally:
        if chosen.keep is None:
            shutil.rmtree(home, ignore_errors=True)
    print(f"\n{describe(report.machine)}\n\n{report.table()}\n\nwritten to {report.save(chosen.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
