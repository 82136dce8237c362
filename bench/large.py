"""A large corpus by words: the cold index of a daemon without a model, and its answers.

Context inputs are on, so that what a changed face reaches is real: `bench.incremental` goes on with this index.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from bench.corpora import documented, installed_packages
from bench.harness import Report, timed
from bench.home import Home

FILES = 5_000  # some 100,000 units
CONFIG = '[embedding]\nmodel = "/no/such/model"\ncontext = "faces"\n'


def words_at_scale(report: Report, scratch: Path, *, quick: bool, until_s: float = 900.0) -> tuple[Path, Path]:
    """-> the root, and where its index lies; the daemon has ended. `until_s`: seconds that indexing may take."""
    corpus = installed_packages(scratch / "packages", at_most=300 if quick else FILES)
    report.heading(f"{corpus.name}, words only: {corpus.files} files, {corpus.bytes / 1e6:.0f} MB")
    questions = documented(corpus, 200)
    home = Home(scratch / "home-words", CONFIG)
    with home.running(), home.client() as client:
        began = time.perf_counter()
        client.call("watch", root=str(corpus.root))
        client.call("sync", root=str(corpus.root), timeout_s=until_s)
        crawled = time.perf_counter() - began
        line = home.workspace(client, corpus.root)
        report.add("watch to answers by words, large corpus", crawled, "s", note=f"{line['units']:,} units")
        report.add("cold index by words, large corpus", line["files"] / crawled, "files/s")
        report.add("cold index by words, large corpus", corpus.bytes / 1e6 / crawled, "MB/s")
        for name, pattern in (("1 word", r"\w+"), ("3 words", r"\w+\W+\w+\W+\w+"), ("a sentence", r".*")):
            spent: list[float] = []
            for question in questions:
                match = re.match(pattern, question.sentence)
                with timed(spent):
                    client.call("search", query=match.group() if match else "read", mode="lexical")
            report.spread(f"lexical query of {name}, large corpus", spent)
        report.add("resident memory, daemon, large corpus", home.memory_mb()["daemon"], "MB")
        size = home.status()["store"]["bytes"]
        report.add("bytes a unit in LMDB, large corpus", size / line["units"], "bytes")
    return corpus.root, home.directory / "state" / "index"
