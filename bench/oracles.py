"""Definitions against universal-ctags: how many of its functions, methods and classes are units.

    python bench/oracles.py LANGUAGE=DIRECTORY ... [--misses 20]

A tag counts as found when a unit of the same name spans its line. Recall is given for each language, with the misses,
since ctags is no compiler either: what differs is to be looked at. Left out: JavaScript objects that ctags takes for
classes, calls that it takes for methods in Java and C# (their names have a dot), Rust's associated types and impl
blocks, C#'s namespaces (a file's only one is its package), and the test macros of C++, which are units by their
test's name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator

from codegraphd.daemon.analysis.languages import language_of
from codegraphd.daemon.analysis.parse import parse

# language -> (ctags' languages, the kinds of tags that are functions, methods and classes)
KINDS = {
    "python": ("Python", {"class", "function", "member"}),
    "javascript": ("JavaScript", {"function", "class", "method", "generator", "getter", "setter"}),
    "typescript": (
        "TypeScript",
        {"function", "class", "interface", "enum", "method", "namespace", "generator", "alias"},
    ),
    "java": ("Java", {"class", "interface", "enum", "method", "annotation"}),
    "go": ("Go", {"func", "struct", "interface", "type", "methodSpec"}),
    "rust": ("Rust", {"struct", "enum", "function", "method", "interface", "macro"}),
    "c": ("C", {"function", "struct", "enum", "union", "prototype"}),
    "cpp": ("C++,C", {"function", "class", "struct", "enum", "union", "prototype", "namespace"}),
    "csharp": ("C#", {"class", "interface", "struct", "enum", "method"}),
}
HEADERS = {"cpp": ["--langmap=C++:+.h"]}
PARAMETERS = ["--output-format=json", "--fields=+n", "--extras=-{anonymous}", "-o", "-", "-L", "-"]


def tags(directory: str, language: str, limit: int) -> Iterator[tuple[str, str, str, int]]:
    """(path, name, kind, line) of each tag of the wanted kinds."""
    paths = []
    for folder, folders, names in os.walk(directory):
        folders.sort()
        paths += [path for name in sorted(names) if language_of(path := os.path.join(folder, name)) == language]
    paths = [path for path in paths if os.path.isfile(path)][:limit]
    of, kinds = KINDS[language]
    process = subprocess.run(
        [
            "ctags",
            f"--languages={of}",
            "--kinds-all=*",
            *(["--langmap=C++:+.h"] if language == "cpp" else []),
            *PARAMETERS,
        ],
        input="\n".join(paths),
        capture_output=True,
        text=True,
        check=True,
        errors="replace",
    )
    for line in process.stdout.splitlines():
        tag = json.loads(line)
        if tag.get("_type") == "tag" and tag["kind"] in kinds:
            yield tag["path"], tag["name"], tag["kind"], tag["line"]


def compare(language: str, directory: str, limit: int, n_misses: int) -> None:
    by_file: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for path, name, kind, line in tags(directory, language, limit):
        by_file[path].append((name, kind, line))
    total: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    misses: list[str] = []
    for path, wanted in by_file.items():
        with open(path, "rb") as file:
            module = parse(path, file.read())
        if module.skipped:
            continue
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for unit in module.units:
            for spelled in {
                unit.name,
                unit.name.lstrip("#"),
                unit.name.replace(" ", ""),
                unit.name.rpartition(".")[2],
                unit.qualname,
            }:
                spans[spelled].append((unit.start_line, unit.end_line))
        for name, kind, line in wanted:
            if language in {"java", "csharp"} and "." in name:
                continue
            if name.startswith(("__anon", "TEST")) or (
                language == "javascript" and kind == "class" and not _is_class(path, line)
            ):
                continue
            total[kind] += 1
            spelled = name.replace(" ", "").rpartition("::")[2].rpartition(".")[2]
            if not any(start <= line <= end for start, end in (*spans[spelled], *spans[name])):
                missed[kind] += 1
                misses.append(f"{path}:{line} {kind} {name}")
    n = sum(total.values())
    found = n - sum(missed.values())
    recall = found / max(n, 1)
    print(f"{language}: {found} of {n} tags in {len(by_file)} files, recall {recall:.4f}; missed {dict(missed)}")
    for miss in misses[:: max(1, len(misses) // max(n_misses, 1))][:n_misses]:
        print("   ", miss)


def _is_class(path: str, line: int) -> bool:
    """ctags takes any JavaScript object with a function in it for a class."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return "class" in file.read().split("\n")[line - 1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="+", metavar="LANGUAGE=DIRECTORY")
    arguments.add_argument("--misses", type=int, default=20)
    arguments.add_argument("--files", type=int, default=400)
    options = arguments.parse_args()
    for corpus in options.corpora:
        language, _, directory = corpus.partition("=")
        compare(language, directory, options.files, options.misses)


if __name__ == "__main__":
    main()
