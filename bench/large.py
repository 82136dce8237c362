"""A large corpus by words: the cold index of a daemon without a model, and its answers.

Context inputs are on, so that what a changed face reaches is real: `bench.incremental` goes on with this index.
"""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

from bench.corpora import documented, installed_packages
from bench.harness import Report, timed
from bench.home import Home
from codegraphd.ipc.client import Client

BRANCH_FILES = 1_000
CONFIG = '[embedding]\nmodel = "/no/such/model"\ncontext = "faces"\n'


def words_at_scale(report: Report, scratch: Path, *, quick: bool, until_s: float = 900.0) -> tuple[Path, Path]:
    """-> the root, and where its index lies; the daemon has ended. `until_s`: seconds that indexing may take."""
    corpus = installed_packages(scratch / "packages", at_most=300 if quick else 0)
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
        branch_switch(report, client, corpus.root, 100 if quick else BRANCH_FILES)
        report.add("resident memory, daemon, large corpus", home.memory_mb()["daemon"], "MB")
        size = home.status()["store"]["bytes"]
        report.add("bytes a unit in LMDB, large corpus", size / line["units"], "bytes")
    return corpus.root, home.directory / "state" / "index"


def branch_switch(report: Report, client: Client, root: Path, n_files: int) -> None:
    """A line is added to a function of each of many files. Then they are as they were: timed from the first write."""
    found = ((path, path.read_bytes()) for path in sorted(root.rglob("*.py")))
    before = dict(itertools.islice(((path, source) for path, source in found if RETURN in source), n_files))
    for path, source in before.items():
        path.write_bytes(on_the_branch(source))
    client.call("sync", root=str(root), timeout_s=300)
    spent: list[float] = []
    with timed(spent):
        for path, source in before.items():
            path.write_bytes(source)
        client.call("sync", root=str(root), timeout_s=300)
    size = sum(map(len, before.values())) / 1e6
    note = f"{size:.0f} MB, on the disk and by words"
    report.add(f"branch switch of {len(before):,} files seen before", spent[0], "s", target=3.0, note=note)


RETURN = b"\n    return "


def on_the_branch(source: bytes) -> bytes:
    """A file with a function's body edited."""
    return source.replace(RETURN, b"\n    branch = 2" + RETURN, 1)
