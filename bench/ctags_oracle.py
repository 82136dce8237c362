"""Definitions against universal-ctags: how many of its functions, methods and classes are units.

    python -m bench.ctags_oracle LANGUAGE=DIRECTORY ... [--misses 20]

A tag counts as found when a unit of the same name spans its line; a test macro of C++, whose unit bears the name of the
test, when that one does. ctags is no compiler, so a tag counts only where its line can be a definition
(`is_definition`): it takes calls and keywords for methods in Java and C# (`lock (x)`), enum constants of Java for
methods, type parameters in C# for classes, imported names for aliases in TypeScript, the use of a macro for a prototype
in C and C++, and JavaScript objects for classes. Left out beside these are Rust's associated types and impl blocks, and
C#'s namespaces (a file's only one is its package).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
PARAMETERS = ["--output-format=json", "--fields=+n", "--extras=-{anonymous}", "-o", "-", "-L", "-"]
_FILES_AT_ONCE = 400

_TYPE_END = re.compile(r"[\w>\]?*&)]$")
_NO_TYPE = re.compile(r"(?:=>|->|\b(?:return|new|throw|await|else|in|out|yield|when|case|is|as|and|or|not|if|while))$")
_CONTROL = re.compile(r"(?:\} *)?(?:if|else|while|for|foreach|switch|using|return|catch)\b")
_CALLED_WORDS = frozenset(
    {"base", "catch", "for", "if", "lock", "switch", "synchronized", "this", "try", "using", "while"}
)
_TEST_NAME = re.compile(r"TEST\w*\s*\(\s*(?:\w+\s*,\s*)?(\w+)")
_HEADER_LINES = 5
_PLAIN_TYPE = (
    r"^\s*(?:(?:extern|static|inline|const|unsigned|signed|void|char|short|int|long|float|double|\w+_t)\b[\s*]*)+"
)
_SECOND = re.compile(r"(?:extern|static)\b[^;{}=]*\),$")  # `extern int one(void), two(void);`


class Tag(NamedTuple):
    path: str
    name: str
    kind: str
    line: int
    scope: str


@dataclass(slots=True)
class Recall:
    language: str
    files: int = 0
    tags: int = 0
    found: int = 0
    missed: list[Tag] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.found / max(1, self.tags)


def version() -> str:
    """The first line that ctags says of itself; raises OSError where there is none, ValueError for another ctags."""
    said = subprocess.run(["ctags", "--version"], capture_output=True, text=True, check=False).stdout
    if not said.startswith("Universal Ctags"):
        raise ValueError("not universal-ctags")
    return said.splitlines()[0].split(",")[0]


def tags(directory: Path, language: str) -> Iterator[Tag]:
    """The tags of the wanted kinds."""
    paths: list[str] = []
    for folder, folders, names in os.walk(directory):
        folders.sort()
        paths += [path for name in sorted(names) if language_of(path := os.path.join(folder, name)) == language]
    paths = [path for path in paths if os.path.isfile(path)]
    of, kinds = KINDS[language]
    langmap = ["--langmap=C++:+.h"] if language == "cpp" else []
    for at in range(0, len(paths), _FILES_AT_ONCE):
        process = subprocess.run(
            ["ctags", f"--languages={of}", "--kinds-all=*", *langmap, *PARAMETERS],
            input="\n".join(paths[at : at + _FILES_AT_ONCE]),
            capture_output=True,
            text=True,
            check=True,
            errors="replace",
        )
        for text in process.stdout.splitlines():
            tag = json.loads(text)
            if tag.get("_type") == "tag" and tag["kind"] in kinds:
                yield Tag(tag["path"], tag["name"], tag["kind"], tag["line"], tag.get("scope", ""))


def is_definition(language: str, tag: Tag, lines: Sequence[str]) -> bool:
    """Whether the line of a tag can define what the tag says; `lines` are those of the file."""
    line = lines[tag.line - 1] if tag.line <= len(lines) else ""
    name, kind = tag.name, tag.kind
    if name.startswith("__anon"):
        return False
    if language == "javascript" and kind == "class":
        return _is_class_or_constructor(name, line)
    if language == "typescript" and kind == "alias":
        return re.match(rf"\s*(?:export\s+|declare\s+)*type\s+{re.escape(name)}\s*(?:[<=]|$)", line) is not None
    if language in {"typescript", "javascript"}:  # the line of a header that goes over several can be any of them
        header = "\n".join(lines[max(0, tag.line - _HEADER_LINES) : tag.line])
        return re.search(rf"(?<![\w$]){re.escape(name)}", header) is not None
    if language == "csharp" and kind != "method":
        return re.search(rf"\b(?:class|struct|interface|enum|record)\s+{re.escape(name)}\b", line) is not None
    if language in {"java", "csharp"} and kind == "method":
        return name not in _CALLED_WORDS and _has_type(tag, lines, line)
    if language in {"c", "cpp"} and kind == "prototype":
        if re.fullmatch(r"[A-Z][A-Z0-9_]+", name) and name != tag.scope.rpartition("::")[2]:
            return re.search(rf"{_PLAIN_TYPE}{name}\s*\(", line) is not None
        return _has_type(tag, lines, line)
    return True


def _is_class_or_constructor(name: str, line: str) -> bool:
    """For ctags a JavaScript class is what something is assigned to a member of, functions and plain objects alike."""
    escaped = re.escape(name)
    function = rf"\bfunction\s*\*?\s*{escaped}\s*\(|(?<![\w$]){escaped}['\"]?\s*[=:]\s*(?:async\s+)?function\b"
    return re.search(rf"\bclass\b|{function}", line) is not None


def _has_type(tag: Tag, lines: Sequence[str], line: str) -> bool:
    """Whether a type, or a modifier, stands before a name; constructors and conversions have none."""
    if tag.name.startswith("operator"):
        return True
    name = tag.name.rpartition("::")[2]
    if name.lstrip("~") == re.split(r"::|\.", tag.scope)[-1] or name.startswith(("operator", "~")):
        return True
    # The interface that a C# method implements by name stands before it: `int IStore<T>.Size()`.
    place = re.search(rf"(?<![\w~.])(?:[A-Z]\w*(?:<[^()<>]*>)?\.)*{re.escape(name)}\s*(?:[(<]|\\?$)", line)
    if place is None or _CONTROL.match(line.strip()):
        return False
    before = line[: place.start()].rstrip()
    at = tag.line - 2
    while not before and at >= 0:
        before = lines[at].strip()
        before = "" if before.startswith(("//", "*", "/*", "#")) else before
        at -= 1
    if _SECOND.match(before):
        return True
    return _TYPE_END.search(before) is not None and _NO_TYPE.search(before) is None


def compare(language: str, directory: Path) -> Recall:
    by_file: dict[str, list[Tag]] = defaultdict(list)
    for tag in tags(directory, language):
        by_file[tag.path].append(tag)
    recall = Recall(language)
    for path, wanted in by_file.items():
        source = Path(path).read_bytes()
        module = parse(path, source)
        if module.skipped:
            continue
        recall.files += 1
        lines = source.decode("utf-8", "replace").split("\n")
        spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for unit in module.units:
            name = unit.name
            own = re.search(r"\bfunction\s*\*?\s*([\w$]+)", unit.signature)  # `x.get = function own() {}`
            for spelled in {
                name, name.lstrip("#"), name.replace(" ", ""), name.rpartition(".")[2], unit.qualname,
                own[1] if own else name, *(["exports"] if name == "default" else []),
            }:  # fmt: skip
                spans[spelled].append((unit.start_line, unit.end_line))
        for tag in wanted:
            if not is_definition(language, tag, lines):
                continue
            recall.tags += 1
            named = _TEST_NAME.search(lines[tag.line - 1]) if tag.name.startswith("TEST") else None
            spelled = named[1] if named else tag.name.replace(" ", "").rpartition("::")[2].rpartition(".")[2]
            if any(start <= tag.line <= end for start, end in (*spans[spelled], *spans[tag.name])):
                recall.found += 1
            else:
                recall.missed.append(tag)
    return recall


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpora", nargs="+", metavar="LANGUAGE=DIRECTORY")
    arguments.add_argument("--misses", type=int, default=20)
    options = arguments.parse_args()
    for corpus in options.corpora:
        language, _, directory = corpus.partition("=")
        recall = compare(language, Path(directory))
        missed = dict(Counter(tag.kind for tag in recall.missed))
        print(
            f"{language}: {recall.found} of {recall.tags} tags in {recall.files} files, recall {recall.share:.4f}; "
            f"missed {missed}"
        )
        for tag in recall.missed[:: max(1, len(recall.missed) // max(options.misses, 1))][: options.misses]:
            print(f"    {tag.path}:{tag.line} {tag.kind} {tag.name}")


if __name__ == "__main__":
    main()
