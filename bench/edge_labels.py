"""Edges that were checked by hand, in languages for which there is no compiler's word at hand.

    python -m bench.edge_labels CHECKOUTS [--sample LANGUAGE REPOSITORY N]

CHECKOUTS holds a directory for each repository named in `bench/labels/*.tsv`, at the commit named there. Each line of
a label file is an edge of a random sample of what resolution found when it was labelled: repository, commit, path,
line, source, target path, target, kind, and the verdict: `right`, `wrong` (then with the path and name of what is
meant) or `part` (one of several declarations of the right name). `Name#1` is the second of the file's units of that
name, where these are two things (`Box` and `Box<T>`) and no overloads. The sample was drawn over STRONG and CRITICAL
edges less containment; no source is copied.

Prints for each language and repository: how many labelled edges are still found, and the precision among those.
`--sample` prints a new sample with the text of each line, for labelling.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.scip_oracle import Project

LABELS = Path(__file__).parent / "labels"
LANGUAGES = tuple(sorted(path.stem for path in LABELS.glob("*.tsv")))


class Label(NamedTuple):
    repository: str
    commit: str
    path: str
    line: int
    source: str
    target_path: str
    target: str
    kind: str
    verdict: str
    meant: tuple[str, ...] = ()  # path and name, where the verdict is `wrong`


def read(path: Path) -> Iterator[Label]:
    for text in path.read_text().splitlines():
        if text and not text.startswith("#"):
            fields = text.split("\t")
            yield Label(*fields[:3], int(fields[3]), *fields[4:9], tuple(fields[9:]))


def repositories(language: str) -> list[str]:
    """Those that edges of a language are labelled in, in the order of the file."""
    return list(dict.fromkeys(label.repository for label in read(LABELS / f"{language}.tsv")))


def edges(project: Project, language: str, *, numbered: bool = False) -> Iterator[tuple[str, int, str, str, str, str]]:
    """(path, line, source, target path, target, kind) of every edge less containment; `numbered`: the targets with
    their number among the units of that name in their file."""
    for path, resolution in project.resolutions.items():
        file = project.files[path]
        if file.language != language:
            continue
        facts = project.facts(file.id)
        assert facts is not None
        lines = {(file.units[r.source], r.name): r.line for r in reversed(facts.references) if r.source >= 0}
        for source, found in resolution.edges.items():
            unit = project.records[source].unit
            for edge in found:
                target = project.records[edge.target]
                if edge.kind != "contain":
                    line = lines.get((source, target.unit.name), unit.start_line)
                    name = f"{target.unit.qualname}#{target.unit.ordinal}" if numbered else target.unit.qualname
                    yield path, line, unit.qualname, target.path, name, edge.kind


class Count(NamedTuple):
    labelled: int
    found: int  # of the labelled edges, those that there still are
    right: int
    part: int
    wrong: int

    @property
    def precision(self) -> float:
        return (self.right + self.part) / max(1, self.found)


def judge(language: str, repository: str, checkout: Callable[[str], Path]) -> Count:
    """The labelled edges of a language in a repository against what is found now; `checkout`: name -> directory."""
    labels = [label for label in read(LABELS / f"{language}.tsv") if label.repository == repository]
    project = Project(checkout(repository))
    now = {*edges(project, language), *edges(project, language, numbered=True)}
    places = {(path, source, target_path, target, kind) for path, _, source, target_path, target, kind in now}
    verdicts = Counter(
        label.verdict
        for label in labels
        if (label.path, label.source, label.target_path, label.target, label.kind) in places
    )
    return Count(len(labels), verdicts.total(), verdicts["right"], verdicts["part"], verdicts["wrong"])


def sample(checkouts: Path, language: str, repository: str, n: int) -> None:
    project = Project(checkouts / repository)
    found = sorted(set(edges(project, language)))
    for edge in sorted(random.Random(1).sample(found, min(n, len(found)))):
        text = project.sources[edge[0]][edge[1] - 1].strip()[:110]
        print("\t".join(map(str, edge)), "|", text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("--sample", nargs=3, metavar=("LANGUAGE", "REPOSITORY", "N"))
    chosen = parser.parse_args(arguments)
    if chosen.sample:
        sample(chosen.checkouts, chosen.sample[0], chosen.sample[1], int(chosen.sample[2]))
        return 0
    print("| language | repository | labelled | still found | right | part | wrong | precision |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for language in LANGUAGES:
        for repository in repositories(language):
            count = judge(language, repository, lambda name: chosen.checkouts / name)
            print(
                f"| {language} | {repository} | {count.labelled} | {count.found} | {count.right} | {count.part} | "
                f"{count.wrong} | {count.precision:.3f} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
