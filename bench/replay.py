"""Replay of real history: is the index after each commit what a fresh build would give, and at what cost?

    python -m bench.replay REPOSITORY [--commits 300] [--every 10] [--context none]
    python -m bench.replay --releases networkx==3.2 3.3 3.4 3.5

The first form reads a git repository (its directory, bare or not) with plumbing commands: HEAD and what it descends
from by first parents, merges among them, oldest first. The second is for everyone: successive releases of a package
from PyPI. Either runs the real engine on real parses in this process, with a model that counts (`bench.lab`), and every
so many commits compares with a fresh build.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import Report, describe, machine
from bench.lab import Lab
from codegraphd.daemon.analysis.languages import grammar_of, language_of
from codegraphd.daemon.engine import Outcome, Settings

MAX_BYTES = 1 << 20
Edits = dict[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Moment:
    """One commit or release: its name, and the files that it changed (None: deleted)."""

    name: str
    edits: Edits


def git_history(repository: Path, n_commits: int) -> Iterator[Moment]:
    """The whole tree first, then one moment a commit."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True).stdout

    commits = git("rev-list", "--first-parent", f"--max-count={n_commits + 1}", "HEAD").decode().split()[::-1]
    blobs = subprocess.Popen(
        ["git", "-C", str(repository), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert blobs.stdin is not None
    assert blobs.stdout is not None

    def read(blob: str) -> bytes | None:
        blobs.stdin.write(blob.encode() + b"\n")  # type: ignore[union-attr]
        blobs.stdin.flush()  # type: ignore[union-attr]
        head = blobs.stdout.readline().split()  # type: ignore[union-attr]
        if len(head) != 3:
            return None
        source = blobs.stdout.read(int(head[2]) + 1)[:-1]  # type: ignore[union-attr]
        return source if head[1] == b"blob" else None

    def edits(lines: list[tuple[str, str, str]]) -> Edits:
        found: Edits = {}
        for mode, blob, path in lines:
            if mode.startswith("100") and language_of(path) is not None:
                source = read(blob)
                found[path] = source if source is not None and len(source) <= MAX_BYTES else None
            elif language_of(path) is not None:
                found[path] = None
        return found

    tree = git("ls-tree", "-r", "-z", commits[0]).decode("utf-8", "surrogateescape").split("\0")[:-1]
    first = [(line.split("\t")[0].split()[0], line.split("\t")[0].split()[2], line.split("\t", 1)[1]) for line in tree]
    yield Moment(commits[0], {path: source for path, source in edits(first).items() if source is not None})
    for before, after in itertools.pairwise(commits):
        raw = git("diff-tree", "-r", "-z", "--no-renames", before, after).decode("utf-8", "surrogateescape").split("\0")
        pairs = zip(raw[0::2], raw[1::2], strict=False)
        yield Moment(after, edits([(head.split()[1], head.split()[3], path) for head, path in pairs if head]))
    blobs.stdin.close()
    blobs.wait()


def release_history(package: str, versions: list[str]) -> Iterator[Moment]:
    """Releases as whole trees; only what differs from the one before is an edit."""
    held: dict[str, bytes] = {}
    for version in versions:
        with tempfile.TemporaryDirectory() as directory:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", directory]
            subprocess.run([*pip, f"{package}=={version}"], check=True)
            (archive,) = Path(directory).iterdir()
            tree = {path: source for path, source in _unpacked(archive) if language_of(path) is not None}
        edits: Edits = {path: source for path, source in tree.items() if held.get(path) != source}
        edits.update(dict.fromkeys(held.keys() - tree.keys()))
        held = tree
        yield Moment(version, edits)


def _unpacked(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if not name.endswith("/"):
                    yield name, wheel.read(name)
        return
    with tarfile.open(archive) as source:
        for member in source:
            if member.isfile() and (file := source.extractfile(member)) is not None:
                yield member.name.split("/", 1)[-1], file.read()


@dataclass(slots=True)
class Replay:
    """What a replay counted, the first moment (the cold index) left out."""

    moments: int = 0
    files: int = 0
    changed: int = 0  # units that a person changed: added, or with another text of their own
    embedded: int = 0  # inputs that the model computed
    hits: Counter[str] = field(default_factory=Counter)  # of "code", and of "text" that no grammar reads
    misses: Counter[str] = field(default_factory=Counter)
    cutoffs: int = 0
    missed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (code or text, text or context alone)
    levels: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    differences: int = 0
    seconds: float = 0.0
    first_seconds: float = 0.0

    def count(self, of: str, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.hits[of] += outcome.hits
            self.misses[of] += outcome.misses
            self.cutoffs += outcome.early_cutoffs
            self.levels.update(outcome.levels)
            self.changed += outcome.levels["initial"] + outcome.levels["content"]


def replay(moments: Iterator[Moment], every: int, settings: Settings) -> Replay:
    """Run through the moments, printing each difference to a fresh build as it is found."""
    result = Replay()
    with tempfile.TemporaryDirectory() as directory:
        lab = Lab(Path(directory), settings)
        try:
            for n, moment in enumerate(moments):
                result.moments += n > 0
                for of, edits in _halves(moment.edits).items():
                    begin = time.perf_counter()
                    asked = len(lab.asked)
                    lab.missed.clear()
                    outcomes = lab.edit(edits)
                    spent = time.perf_counter() - begin
                    if n == 0:
                        result.first_seconds += spent
                        continue
                    result.seconds += spent
                    result.files += len(edits)
                    result.embedded += len(lab.asked) - asked
                    result.missed.update({(of, why): number for why, number in lab.missed.items()})
                    result.count(of, outcomes)
                if n % every == 0:
                    result.compared += 1
                    differences = lab.differences()
                    result.differences += len(differences)
                    for line in differences[:10]:
                        print(f"{moment.name[:12]}: {line[:300]}", flush=True)
        finally:
            lab.close()
    return result


def _halves(edits: Edits) -> dict[str, Edits]:
    """A commit in two steps, so that each has its own count: what has a grammar, and all other text."""
    halves: dict[str, Edits] = {"code": {}, "text": {}}
    for path, source in edits.items():
        halves["code" if grammar_of(path, language_of(path) or "text") else "text"][path] = source
    return halves


def _add_hits(report: Report, result: Replay, of: str) -> None:
    """The share of look-ups that cost no model time, and what it would be if only units with new text of their own
    did."""
    kinds = ["code", "text"] if of == "all" else [of]
    misses = sum(result.misses[kind] for kind in kinds)
    looked_up = sum(result.hits[kind] for kind in kinds) + misses
    if not looked_up:
        return
    new = sum(result.missed[kind, "text"] for kind in kinds)
    note = f"of {looked_up} look-ups; {100 * (1 - new / looked_up):.1f} were possible, {new} units have a new text"
    share = 100 * (1 - misses / looked_up)
    report.add(f"cache hits, {of}", share, "%", target=92.0, at_most=False, note=note)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("repository", type=Path, nargs="?")
    parser.add_argument("--releases", nargs="+", metavar="VERSION", help="PACKAGE==VERSION VERSION …, oldest first")
    parser.add_argument("--commits", type=int, default=300)
    parser.add_argument("--every", type=int, default=10, help="compare with a fresh build at every Nth")
    parser.add_argument("--context", choices=["faces", "none"], default="faces")
    chosen = parser.parse_args(arguments)
    if (chosen.repository is None) == (chosen.releases is None):
        parser.error("give a repository, or --releases")
    if chosen.releases:
        package, _, first = chosen.releases[0].partition("==")
        name, moments, every = package, release_history(package, [first, *chosen.releases[1:]]), 1
    else:
        name = chosen.repository.resolve().parent.name if chosen.repository.name == "repo" else chosen.repository.name
        moments, every = git_history(chosen.repository, chosen.commits), chosen.every
    result = replay(moments, every, Settings(faces=chosen.context == "faces"))
    report = Report(f"replay of {name}", machine=machine())
    print(describe(report.machine))
    report.add("commits replayed", result.moments, "")
    report.add("files changed", result.files, "")
    report.add("cold index of the first", result.first_seconds, "s")
    report.add("time for a commit, mean", 1000 * result.seconds / max(1, result.moments), "ms")
    report.add("units changed by people", result.changed, "")
    report.add("inputs embedded", result.embedded, "")
    report.add("embedded for a changed unit", result.embedded / max(1, result.changed), "", target=3.0)
    for of in ("all", "code", "text"):
        _add_hits(report, result, of)
    for why, name in (("text", "another text"), ("context", "another context alone")):
        report.add(f"misses, {name}", result.missed["code", why] + result.missed["text", why], "units")
    for level, n in sorted(result.levels.items()):
        report.add(f"level {level}", n, "units")
    report.add("early cutoffs", result.cutoffs, "")
    report.add("compared with a fresh build", result.compared, "times")
    report.add("differences", result.differences, "", target=0)
    print(f"\n{report.table()}\n\nwritten to {report.save()}")
    return 1 if result.differences else 0


if __name__ == "__main__":
    sys.exit(main())
