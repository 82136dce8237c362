"""Speed of the analysis against tree-sitter's bare parse and query, per language, in the same run.

    python bench/analysis.py LANGUAGE=DIRECTORY ... [--limit-mb 4] [--json]

`ratio` is what codegraphd's target is about: bytes to units, references and fingerprints at 0.50 or more of the rate
of the parse and the query alone. The passes alternate over slices of the files, so other load on the machine hits both.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator

import tree_sitter

from codegraphd.daemon.analysis.dialects import dialect
from codegraphd.daemon.analysis.languages import grammar_of, language_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.analysis.syntax import language as grammar_language
from codegraphd.daemon.analysis.syntax import query


def sources(directory: str, language: str, limit: int) -> Iterator[tuple[str, bytes]]:
    total = 0
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if language_of(path) != language or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                raw = file.read()
            if parse(path, raw).skipped:
                continue
            yield path, raw
            total += len(raw)
            if total > limit:
                return


def bare(path: str, language: str, raw: bytes) -> None:
    chosen = dialect(grammar_of(path, language))
    tree = tree_sitter.Parser(grammar_language(chosen.grammar)).parse(raw)
    tree_sitter.QueryCursor(query(chosen.grammar, chosen.queries)).matches(tree.root_node)


def measure(language: str, directory: str, limit: int) -> dict[str, object]:
    files = list(sources(directory, language, limit))
    size = sum(len(raw) for _, raw in files)
    times = {"bare": 0.0, "whole": 0.0}
    n_units = n_references = 0
    for path, raw in files:
        best_bare = best_whole = 9e9
        for _ in range(2):
            begin = time.process_time()
            bare(path, language, raw)
            middle = time.process_time()
            module = parse(path, raw)
            end = time.process_time()
            best_bare, best_whole = min(best_bare, middle - begin), min(best_whole, end - middle)
        times["bare"] += best_bare
        times["whole"] += best_whole
        n_units += len(module.units)
        n_references += len(module.references)
    return {
        "language": language,
        "files": len(files),
        "mb": round(size / 1e6, 2),
        "units": n_units,
        "references": n_references,
        "bare_mb_s": round(size / 1e6 / times["bare"], 2),
        "whole_mb_s": round(size / 1e6 / times["whole"], 2),
        "files_s": round(len(files) / times["whole"], 1),
        "ratio": round(times["bare"] / times["whole"], 3),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="+", metavar="LANGUAGE=DIRECTORY")
    arguments.add_argument("--limit-mb", type=float, default=4.0)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    for corpus in options.corpora:
        language, _, directory = corpus.partition("=")
        row = measure(language, directory, int(options.limit_mb * 1e6))
        print(json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
