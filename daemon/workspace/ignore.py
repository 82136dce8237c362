"""gitignore(5), asked one directory at a time.

Owns: the meaning of an ignore file. A directory is asked about its own entries only, so an entry below an ignored
directory never comes up (git does the same), and the crawl and the events ask the same question and cannot disagree.

Terms: a *pattern* is one line of an ignore file; `Rules` are the patterns of one file, compiled; a *level* is such a
file at its place; an `Ignore` is the list of levels that speak in one directory, strongest first. Where several
patterns of one file match, the last one decides; where several levels do, the strongest.

Patterns are matched byte by byte, as git's wildmatch does it ("?" is one byte, not one letter). A string stands here
for bytes: an ASCII string for itself, any other as its file-system encoding read as Latin-1 (`_as_bytes_view`).

A pattern becomes a regular expression without nested backtracking: a run between two stars has a fixed length, so its
leftmost match is as good as any (an atomic group), and the same holds for the components between two "**/". So a
hostile ignore file costs time quadratic in the length of a path, not exponential.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple

MAX_IGNORE_FILE_BYTES: Final = 4 << 20  # a larger ignore file is not read: nobody wrote it by hand

_CACHE_ENTRIES: Final = 4096  # verdicts by name kept per ignore file
_SPECIAL: Final = frozenset("*?[\\")

# git's own character tests (it does not use those of the C library); None-ASCII bytes are in no class.
_CLASSES: Final = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\t\n\r\x20",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


class Rules:
    """The compiled patterns of one ignore file. Not changed after it is made, but for its cache of verdicts."""

    __slots__ = ("_anchored", "_by_name", "_fold", "_literal", "_signs", "has_paths", "known_dirs", "known_files")

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        """`text` is the file's content decoded as Latin-1 (see `from_bytes`)."""
        self._fold = ignore_case
        self._signs: list[bool] = []  # of each pattern: True ignores, False includes again
        self.known_files: dict[str, int] = {}  # name -> number of the last unanchored pattern that matches, or -1
        self.known_dirs: dict[str, int] = {}
        by_name: list[_Pattern] = []
        anchored: list[_Pattern] = []
        literal: tuple[dict[str, int], dict[str, int]] = {}, {}  # path -> number: for files, for directories
        for line in text.removeprefix("\xef\xbb\xbf").split("\n"):
            pattern = _parse_line(line, len(self._signs), ignore_case)
            if pattern is None:
                continue
            self._signs.append(not pattern.negated)
            if not pattern.anchored:
                by_name.append(pattern)
            elif pattern.literal is None:
                anchored.append(pattern)
            else:
                literal[1][pattern.literal] = pattern.number
                if not pattern.only_directories:
                    literal[0][pattern.literal] = pattern.number
        self._by_name = _Union(by_name, directories=False), _Union(by_name, directories=True)
        self._anchored = _Union(anchored, directories=False), _Union(anchored, directories=True)
        self._literal = literal
        self.has_paths = bool(anchored or literal[1])

    @classmethod
    def from_bytes(cls, content: bytes, *, ignore_case: bool = False) -> Rules:
        return _cached_rules(content, ignore_case)

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Rules:
        """Patterns that come from a configuration rather than a file."""
        return cls.from_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))

    def match(self, path: str, name: str, *, is_dir: bool) -> bool | None:
        """True: ignored. False: included again. None: nothing said. `path` is relative to the ignore file's place."""
        return self.verdict(max(self.by_name(name, is_dir), self.by_path(path, is_dir)))

    def verdict(self, number: int) -> bool | None:
        return None if number < 0 else self._signs[number]

    def by_name(self, name: str, is_dir: bool) -> int:
        """The number of the last pattern without a slash that matches; -1: none."""
        known = self.known_dirs if is_dir else self.known_files
        number = known.get(name)
        if number is None:
            number = self._by_name[is_dir].last_match(self._view(name))
            if len(known) >= _CACHE_ENTRIES:
                known.clear()
            known[name] = number
        return number

    def by_path(self, path: str, is_dir: bool) -> int:
        """The number of the last pattern with a slash that matches; -1: none."""
        view = self._view(path)
        number = self._literal[is_dir].get(view, -1)
        matched = self._anchored[is_dir].last_match(view)
        return max(number, matched)

    def _view(self, text: str) -> str:
        if not text.isascii():
            text = _as_bytes_view(text)
            return text.encode("latin-1").lower().decode("latin-1") if self._fold else text
        return text.lower() if self._fold else text


class Level(NamedTuple):
    """An ignore file at its place.

    `skip`: how many characters of a directory path (relative to the root, "" or ending in "/") lead to that place.
    `lead`: for an ignore file above the root, the path from its place to the root, ending in "/".
    """

    skip: int
    lead: str
    rules: Rules


class Ignore:
    """The levels that speak in one directory, strongest first. Immutable; shared by directories without own rules.

    `ignore_case`: what the repository around it says of its names (`core.ignoreCase`).
    """

    __slots__ = ("ignore_case", "levels")

    def __init__(self, levels: Iterable[Level] = (), *, ignore_case: bool = False) -> None:
        self.levels = tuple(levels)
        self.ignore_case = ignore_case

    def ignored(self, directory: str, name: str, is_dir: bool) -> bool:
        """Is this entry ignored? `directory` is relative to the root: "" or "a/b/"."""
        return bool(self.verdict(directory, name, is_dir))

    def verdict(self, directory: str, name: str, is_dir: bool) -> bool | None:
        """True: ignored. False: included again by name or path. None: no pattern speaks of it."""
        for skip, lead, rules in self.levels:
            number = (rules.known_dirs if is_dir else rules.known_files).get(name)
            if number is None:
                number = rules.by_name(name, is_dir)
            if rules.has_paths:
                anchored = rules.by_path(lead + directory[skip:] + name, is_dir)
                number = max(number, anchored)
            if number >= 0:
                return rules.verdict(number)
        return None


def load_rules(path: str, *, ignore_case: bool = False) -> Rules | None:
    """The rules of an ignore file; None where there is none to read.

    git follows no symbolic link here, and neither do we; a fifo or a device of that name is left alone.
    """
    content = read_regular(path, MAX_IGNORE_FILE_BYTES)
    return None if content is None else Rules.from_bytes(content, ignore_case=ignore_case)


def read_regular(path: str, limit: int, *, follow: bool = False) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None otherwise. Never blocks on a fifo or device."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)


@lru_cache(maxsize=512)
def _cached_rules(content: bytes, ignore_case: bool) -> Rules:
    return Rules(content.decode("latin-1"), ignore_case=ignore_case)


def _as_bytes_view(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


class _Pattern(NamedTuple):
    number: int
    negated: bool
    only_directories: bool
    anchored: bool  # has a slash other than at its end: matched against the path, else against the name
    literal: str | None  # the path it names, where it has no wildcard
    regex: str


class _Union:
    """Many patterns as one regular expression, last one first: the first alternative that matches decides."""

    __slots__ = ("_match", "_numbers", "_patterns")

    def __init__(self, patterns: list[_Pattern], *, directories: bool) -> None:
        chosen = [p for p in reversed(patterns) if directories or not p.only_directories]
        self._numbers = [p.number for p in chosen]
        self._patterns = [p.regex for p in chosen]
        self._match: Callable[[str], re.Match[str] | None] | None = None if chosen else _never

    def last_match(self, text: str) -> int:
        match = self._match
        if match is None:  # compiled when first asked: many ignore files never are
            match = self._match = re.compile("|".join(f"({p})" for p in self._patterns), re.DOTALL | re.ASCII).fullmatch
            self._patterns = []
        found = match(text)
        if found is None or found.lastindex is None:
            return -1
        return self._numbers[found.lastindex - 1]


def _never(_text: str) -> None:
    return None


def _parse_line(line: str, number: int, fold: bool) -> _Pattern | None:
    line = _strip_trailing_blanks(line.partition("\0")[0].removesuffix("\r"))
    if not line or line[0] == "#":
        return None
    negated = line[0] == "!"
    if negated:
        line = line[1:]
    only_directories = line.endswith("/")
    if only_directories:
        line = line[:-1]
    if not line:
        return None
    anchored = "/" in line
    if anchored:
        line = line.removeprefix("/")
    prefix = next((i for i, c in enumerate(line) if c in _SPECIAL), len(line))
    if prefix == len(line):
        literal = line.lower() if fold and line.isascii() else line
        if not fold or line.isascii():
            return _Pattern(number, negated, only_directories, anchored, literal, re.escape(literal))
    tokens = _tokenize(line, fold)
    if tokens is None:
        return None
    return _Pattern(number, negated, only_directories, anchored, None, _regex(tokens, prefix))


def _strip_trailing_blanks(line: str) -> str:
    """Blanks at the end go, unless escaped."""
    end = len(line)
    while end and line[end - 1] == " ":
        start = end - 1
        while start and line[start - 1] == "\\":
            start -= 1
        if (end - 1 - start) % 2:
            break
        end -= 1
    return line[:end]


# A token is the regular expression of exactly one character, or one of these.
_STAR: Final = "*"
_SLASH: Final = "/"
_ESCAPED_SLASH: Final = "\\/"


def _tokenize(pattern: str, fold: bool) -> list[str] | None:
    """None: malformed, matches nothing. A run of n stars gives n tokens; what it means depends on its neighbours."""
    tokens: list[str] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        if c in "*/":
            tokens.append(c)
        elif c == "?":
            tokens.append("[^/]")
        elif c == "[":
            parsed = _bracket(pattern, i, fold)
            if parsed is None:
                return None
            token, i = parsed
            tokens.append(token)
            continue
        else:
            if c == "\\":
                i += 1
                if i == len(pattern):
                    return None
                c = pattern[i]
            elif fold and c.isascii():
                c = c.lower()  # an escaped capital letter is not folded by git, and matches nothing then
            tokens.append(_ESCAPED_SLASH if c == "/" else re.escape(c))
        i += 1
    return tokens


def _bracket(pattern: str, start: int, fold: bool) -> tuple[str, int] | None:
    """The character set that begins at `start`, as a regular expression, and where it ends. None: malformed."""
    i = start + 1
    end = len(pattern)
    negated = i < end and pattern[i] in "!^"
    if negated:
        i += 1
    items: list[str] = []
    previous = ""  # what a range could begin with
    first = True
    while True:
        if i >= end:
            return None
        c = pattern[i]
        if c == "]" and not first:
            break
        first = False
        if c == "\\":
            i += 1
            if i >= end:
                return None
            c = pattern[i]
            items.append(re.escape(c))
            previous = c
        elif c == "-" and previous and i + 1 < end and pattern[i + 1] != "]":
            i += 1
            if pattern[i] == "\\":
                i += 1
                if i >= end:
                    return None
            items += _range(previous, pattern[i], fold)
            previous = ""
        elif c == "[" and pattern.startswith(":", i + 1):
            close = pattern.find("]", i + 2)
            if close < 0:
                return None
            if close == i + 2 or pattern[close - 1] != ":":  # no class after all
                items.append(r"\[")
                previous = c
            else:
                name = pattern[i + 2 : close - 1]
                if name not in _CLASSES:
                    return None
                items.append("a-z" if fold and name == "upper" else _CLASSES[name])
                previous = ""
                i = close
        else:
            items.append(re.escape(c))
            previous = c
        i += 1
    body = "".join(items)
    if negated:
        return f"[^/{body}]", i + 1
    return (f"(?!/)[{body}]" if body else "(?!)[^/]"), i + 1


def _range(low: str, high: str, fold: bool) -> list[str]:
    if low > high:
        return []
    items = [f"{re.escape(low)}-{re.escape(high)}"]
    if fold and low <= "Z" and high >= "A":
        items.append(f"{max(low, 'A').lower()}-{min(high, 'Z').lower()}")
    return items


def _regex(tokens: list[str], prefix: int) -> str:
    """The regular expression of a tokenized pattern.

    `prefix`: how many of its first characters are literal. git compares them apart, so that a run of stars right
    behind them counts as if it stood at the beginning of a component ("foo**/bar" matches "foo/a/bar").
    """
    # Cut at each "**" that stands for whole directories; [tokens] lead up to it.
    segments: list[tuple[str, list[str]]] = []  # (what precedes the segment, its tokens)
    glue, segment = "", list[str]()
    i = 0
    while i < len(tokens):
        if tokens[i] != _STAR:
            segment.append(tokens[i])
            i += 1
            continue
        run = i
        while i < len(tokens) and tokens[i] == _STAR:
            i += 1
        begins = run in (0, prefix) or tokens[run - 1] in (_SLASH, _ESCAPED_SLASH)
        ends = i == len(tokens) or tokens[i] in (_SLASH, _ESCAPED_SLASH)
        if i - run == 1 or not begins or not ends:
            segment.append(_STAR)
            continue
        segments.append((glue, segment))
        if i == len(tokens):
            glue, segment = ".*", []
        elif tokens[i] == _SLASH:
            glue, segment = "(?:.*?/)??", []
            i += 1
        else:
            glue, segment = ".*?", []
    segments.append((glue, segment))
    parts = []
    for number, (before, inner) in enumerate(segments):
        text = before + _components(inner)
        parts.append(f"(?>{text})" if 0 < number < len(segments) - 1 else text)
    return "".join(parts)


def _components(tokens: list[str]) -> str:
    """Components without "**": in each, the runs between two stars are matched leftmost, the last one at its end."""
    out: list[str] = []
    runs: list[list[str]] = [[]]

    def finish() -> None:
        out.extend(runs[0])
        out.extend(f"(?>[^/]*?{''.join(run)})" for run in runs[1:-1])
        if len(runs) > 1:
            out.append("[^/]*" + "".join(runs[-1]))

    for token in tokens:
        if token in (_SLASH, _ESCAPED_SLASH):
            finish()
            out.append("/")
            runs = [[]]
        elif token == _STAR:
            if runs[-1] or len(runs) == 1:
                runs.append([])
        else:
            runs[-1].append(token)
    finish()
    return "".join(out)
