"""A save while the model has work for minutes: `python -m bench.busy_saves` (about a minute and a half).

A function is added to a file and saved; from the end of the write until a question by meaning finds it: first while the
daemon has nothing else to do, then while the standard library's 20,000 units wait for the model.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.corpora import standard_library
from bench.end_to_end import filler, new_function, wait_for
from bench.harness import Report, describe, machine, timed
from bench.home import Home
from codegraphd.ipc.client import Client

SAVED_FILES = 12
SAMPLES = 50
LINES = 100


def measure(report: Report, scratch: Path) -> None:
    """Both halves, into the report."""
    saved = scratch / "saved"
    saved.mkdir()
    for n in range(SAVED_FILES):
        (saved / f"saved_{n}.py").write_text(filler(LINES))
    corpus = standard_library(scratch / "stdlib")
    home = Home(scratch / "home")
    with home.running(), home.client() as client:
        client.call("watch", root=str(saved))
        client.call("sync", root=str(saved), semantic=True, timeout_s=600)
        report.spread("save to searchable by meaning, idle", _saves(client, saved, "idle"))
        client.call("watch", root=str(corpus.root))
        client.call("sync", root=str(corpus.root), timeout_s=900)
        before = home.workspace(client, corpus.root)["pending"]
        spent = _saves(client, saved, "busy")
        left = home.workspace(client, corpus.root)["pending"]
        note = f"{before:,} units wait at the start, {left:,} at the end"
        report.spread("save to searchable by meaning, while embedding", spent, note=note)


def _saves(client: Client, saved: Path, salt: str) -> list[float]:
    spent: list[float] = []
    for n in range(SAMPLES):
        time.sleep(0.25)
        name, sentence = new_function(salt, n)
        text = f'{filler(LINES)}\n\ndef {name}(values):\n    """{sentence}"""\n    return {name}.state[values]\n'
        (saved / f"saved_{n % SAVED_FILES}.py").write_text(text)
        with timed(spent):
            wait_for(client, sentence, "semantic", name)
    return spent


def main() -> int:
    report = Report("busy-saves", machine=machine())
    print(describe(report.machine))
    with tempfile.TemporaryDirectory(prefix="codegraphd-bench-") as scratch:
        measure(report, Path(scratch))
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
