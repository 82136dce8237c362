"""The command: `python -m bench`. Prints each figure as it is measured, then the table; writes JSON."""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import tempfile
from pathlib import Path

from bench import end_to_end, incremental, large, quality
from bench.harness import Report, describe, machine

LIMIT_S = 15 * 60  # for all of it
INCREMENTAL_S, LARGE_S = 150, 90  # what these phases need at least


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the corpora, few samples: about a minute")
    parser.add_argument("--eval", type=Path, metavar="DIR", help="measure the quality of answers on labelled data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write (default: under bench/results/)")
    parser.add_argument("--keep", action="store_true", help="leave the scratch directory behind")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a config.toml for the daemon under measurement")
    chosen = parser.parse_args(arguments)
    report = Report("quality" if chosen.eval else "quick" if chosen.quick else "full", machine=machine())
    print(describe(report.machine))
    scratch = Path(tempfile.mkdtemp(prefix="codegraphd-bench-"))
    try:
        if chosen.eval:
            quality.measure(report, chosen.eval, quick=chosen.quick)
        else:
            config = chosen.config.read_text() if chosen.config else ""
            report.limit_s = LIMIT_S
            run = end_to_end.Run(report, scratch, chosen.quick, config)
            end_to_end.measure(run)
            changes = functools.partial(incremental.measure, report, scratch, quick=chosen.quick)
            report.phase("changes", changes, needs_s=INCREMENTAL_S)
            report.phase("words at scale", lambda: large.words_at_scale(run), needs_s=LARGE_S)
    finally:
        path = report.save(chosen.json)
        if not chosen.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"\n{report.table()}\n\nwritten to {path}")
    return 0 if all(figure.value is not None for figure in report.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
