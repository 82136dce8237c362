"""Speed of the analysis against tree-sitter's bare parse and query, per language, in the same run.

    python -m bench.analysis LANGUAGE=DIRECTORY ... [--limit-mb 4] [--processes] [--json]

`ratio` is what codegraphd's target is about: bytes to units, references and fingerprints at 0.50 or more of the rate
of the parse and the query alone. Both go over each file once, in turns, so other load on the machine hits both, and
what the analysis remembers of names and words it has from the files before, as in a cold index; `ratio_again` is the
same over files that it has read before, as after a save. `ms_1000_lines` is the processor time of such a second
reading. `--processes` adds `two_processes`: the rate of two processes over that of one, by the clock.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

import tree_sitter

from codegraphd.daemon.analysis.dialects import dialect
from codegraphd.daemon.analysis.languages import grammar_of, language_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.analysis.syntax import language as grammar_language
from codegraphd.daemon.analysis.syntax import query

File = tuple[str, bytes]


def sources(directory: str, language: str, limit: int) -> Iterator[File]:
    total = 0
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if language_of(path) != language or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                raw = file.read()
            yield path, raw
            total += len(raw)
            if total > limit:
                return


def bare(path: str, language: str, raw: bytes) -> None:
    chosen = dialect(grammar_of(path, language))
    tree = tree_sitter.Parser(grammar_language(chosen.grammar)).parse(raw)
    tree_sitter.QueryCursor(query(chosen.grammar, chosen.queries)).matches(tree.root_node)


def measure(language: str, directory: str, limit: int) -> dict[str, object]:
    bare("", language, b"")  # loads the grammar and compiles the query
    size = lines = n_files = n_units = n_references = 0
    of_bare = first = of_bare_again = again = 0.0
    for path, raw in sources(directory, language, limit):
        times = [time.process_time()]
        for _ in range(2):
            bare(path, language, raw)
            times.append(time.process_time())
            module = parse(path, raw)
            times.append(time.process_time())
        if module.skipped:
            continue
        of_bare += times[1] - times[0]
        first += times[2] - times[1]
        of_bare_again += times[3] - times[2]
        again += times[4] - times[3]
        n_files, size, lines = n_files + 1, size + len(raw), lines + module.lines
        n_units += len(module.units)
        n_references += len(module.references)
    return {
        "language": language,
        "files": n_files,
        "mb": round(size / 1e6, 2),
        "units": n_units,
        "references": n_references,
        "bare_mb_s": round(size / 1e6 / of_bare, 2),
        "whole_mb_s": round(size / 1e6 / first, 2),
        "files_s": round(n_files / first, 1),
        "ratio": round(of_bare / first, 3),
        "ratio_again": round(of_bare_again / again, 3),
        "ms_1000_lines": round(again / lines * 1e6, 1),
    }


def read_all(files: Sequence[File]) -> int:
    return sum(len(parse(path, raw).units) for path, raw in files)


def gain_of_two(language: str, directory: str, limit: int) -> float:
    """How many times as fast two processes are as one, once they have their grammars."""
    files = sorted(sources(directory, language, limit), key=lambda file: len(file[1]))
    seconds = []
    for n in (1, 2):
        with ExitStack() as stack:
            context = multiprocessing.get_context("spawn")
            processes = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(n)]
            for ready in [process.submit(read_all, files[:20]) for process in processes]:
                ready.result()
            begin = time.perf_counter()
            for done in [process.submit(read_all, files[i::n]) for i, process in enumerate(processes)]:
                done.result()
            seconds.append(time.perf_counter() - begin)
    return round(seconds[0] / seconds[1], 2)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="+", metavar="LANGUAGE=DIRECTORY")
    arguments.add_argument("--limit-mb", type=float, default=4.0)
    arguments.add_argument("--processes", action="store_true")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    for corpus in options.corpora:
        language, _, directory = corpus.partition("=")
        limit = int(options.limit_mb * 1e6)
        row = measure(language, directory, limit)
        if options.processes:
            row["two_processes"] = gain_of_two(language, directory, limit)
        print(json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
