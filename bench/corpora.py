"""The code that is measured on: nothing is downloaded, every machine with this checkout has it.

`standard_library` is for meaning: the running Python's own library without its tests, some 730 files and 12 MB.
`installed_packages` is for words: the first of the Python files of the environment's packages, some 20 KB each.
Both are copied to a scratch directory, so that the bench can edit them and no installation is watched or changed.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QUICK = ("asyncio", "concurrent", "http", "json", "logging", "urllib")
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "turtledemo"}


@dataclass(frozen=True, slots=True)
class Corpus:
    name: str
    root: Path
    files: int
    bytes: int


def standard_library(target: Path, *, quick: bool = False) -> Corpus:
    """Copy the standard library's Python files (quick: some packages of it) below `target`."""
    source = Path(sysconfig.get_paths()["stdlib"])
    return _copied("standard library" + (" (part)" if quick else ""), source, target, QUICK if quick else None)


def installed_packages(target: Path, *, at_most: int = 0) -> Corpus:
    """Copy the Python files of the installed packages, or the first ones."""
    source = Path(sysconfig.get_paths()["purelib"])
    name = f"installed packages, the first {at_most:,} files" if at_most else "installed packages"
    return _copied(name, source, target, None, at_most)


def _copied(name: str, source: Path, target: Path, only: tuple[str, ...] | None, at_most: int = 0) -> Corpus:
    files = size = 0
    for path in _python_files(source):
        below = path.relative_to(source)
        if only is not None and below.parts[0] not in only:
            continue
        copy = target / below
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        files, size = files + 1, size + copy.stat().st_size
        if files == at_most:
            break
    return Corpus(name, target, files, size)


def _python_files(source: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(source):
        names[:] = sorted(name for name in names if name not in _LEFT_OUT)
        yield from (Path(directory, name) for name in sorted(files) if name.endswith(".py"))


@dataclass(frozen=True, slots=True)
class Documented:
    """A function of a corpus and the first line of its doc: a question with its answer."""

    path: str
    name: str
    sentence: str


def documented(corpus: Corpus, n: int, seed: int = 1) -> list[Documented]:
    """`n` functions (or as many as there are) with a doc of at least four words, drawn evenly, always the same."""
    found: list[Documented] = []
    for path in _python_files(corpus.root):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                doc = (ast.get_docstring(node) or "").split("\n", 1)[0].strip()
                if len(doc.split()) >= 4:
                    found.append(Documented(path.relative_to(corpus.root).as_posix(), node.name, doc))
    random.Random(seed).shuffle(found)
    return found[:n]
