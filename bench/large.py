"""A large corpus by words: the cold index of a daemon without a model, and its answers."""

from __future__ import annotations

import re
import time

from bench.corpora import documented, installed_packages
from bench.end_to_end import Run
from bench.harness import timed
from bench.home import Home

NO_MODEL = '[embedding]\nmodel = "/no/such/model"\n'
AFTERWARDS_S = 20  # what the questions need


def words_at_scale(run: Run) -> None:
    """As much of it as the time that is left allows: what is not indexed by then is a failed figure."""
    corpus = installed_packages(run.scratch / "packages", quick=run.quick)
    report = run.report
    report.heading(f"{corpus.name}, words only: {corpus.files} files, {corpus.bytes / 1e6:.0f} MB")
    questions = documented(corpus, 200)
    home = Home(run.scratch / "home-words", NO_MODEL)
    with home.running(), home.client() as client:
        began = time.perf_counter()
        client.call("watch", root=str(corpus.root))
        client.call("sync", root=str(corpus.root), timeout_s=min(900, report.left_s() - AFTERWARDS_S))
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
