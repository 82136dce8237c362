"""gitignore(5), asked one directory at a time.

Owns: the meaning of an ignore file. A directory is asked about its own entries only, so an entry below an ignored
directory never comes up (git does the same), and the crawl and the events ask the same question and cannot disagree.

Terms: a *pattern* is one line of an ignore file; `Rules` are the patterns of one file, compiled; a *level* is such a
file at its place; an `Ignore` is the list of levels that speak in one directory, strongest first. Where several
patterns of one file match, the last one decides; where several levels do, the strongest.

Patterns are matched byte by byte, as git's wildmatch does it ("?" is one byte, not one letter). A string stands here
for bytes: an ASCII string for itself, any other as its file-system encoding read as Latin-1 (`_as_bytes_view`).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from codegraphd.daemon.workspace.patterns import Pattern, parse_pattern

MAX_IGNORE_FILE_BYTES: Final = 4 << 20  # a larger ignore file is not read: nobody wrote it by hand

_CACHE_ENTRIES: Final = 1 << 14  # verdicts by name kept per ignore file

# Of a name: the number of the last pattern without a slash that matches it (-1: none), and those with one that may.
Verdict: TypeAlias = "tuple[int, _Union | None]"


class Rules:
    """The compiled patterns of one ignore file. Not changed after it is made, but for its cache of verdicts.

    What is decided by the name alone is kept for each name: the last unanchored pattern that matches, and which
    anchored ones could match, by their last component. Those are few, mostly none, so that a path is rarely looked at.
    """

    __slots__ = (
        "_by_last_glob",
        "_by_last_literal",
        "_by_name",
        "_fold",
        "_signs",
        "_unions",
        "known_dirs",
        "known_files",
    )

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        """`text` is the file's content decoded as Latin-1 (see `from_bytes`)."""
        self._fold = ignore_case
        self._signs: list[bool] = []  # of each pattern: True ignores, False includes again
        self.known_files: dict[str, Verdict] = {}
        self.known_dirs: dict[str, Verdict] = {}
        by_name: list[Pattern] = []
        self._by_last_literal: dict[str, list[Pattern]] = {}
        globs: dict[str, list[Pattern]] = {}
        for line in text.removeprefix("\xef\xbb\xbf").split("\n"):
            pattern = parse_pattern(line, len(self._signs), ignore_case)
            if pattern is None:
                continue
            self._signs.append(not pattern.negated)
            if not pattern.anchored:
                by_name.append(pattern)
            elif pattern.shape == "literal":
                self._by_last_literal.setdefault(pattern.text, []).append(pattern)
            else:
                globs.setdefault(pattern.last_regex, []).append(pattern)
        self._by_last_glob = [(re.compile(r, re.DOTALL | re.ASCII).fullmatch, found) for r, found in globs.items()]
        self._by_name = _Names(by_name, directories=False), _Names(by_name, directories=True)
        self._unions: dict[tuple[int, ...], _Union] = {}  # by the numbers of anchored patterns

    @classmethod
    def from_bytes(cls, content: bytes, *, ignore_case: bool = False) -> Rules:
        return _cached_rules(content, ignore_case)

    @classmethod
    def from_lines(cls, lines: Iterable[str]) -> Rules:
        """Patterns that come from a configuration rather than a file."""
        return cls.from_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))

    def match(self, path: str, name: str, *, is_dir: bool) -> bool | None:
        """True: ignored. False: included again. None: nothing said. `path` is relative to the ignore file's place."""
        number, anchored = self.by_name(name, is_dir)
        if anchored is not None:
            number = max(number, self.by_path(anchored, path))
        return None if number < 0 else self._signs[number]

    def is_empty(self) -> bool:
        return not self._signs

    def is_ignoring(self, number: int) -> bool:
        """Does the pattern of that number ignore what it matches?"""
        return self._signs[number]

    def by_name(self, name: str, is_dir: bool) -> Verdict:
        """(number of the last pattern without a slash that matches, or -1; those with one that could match)."""
        known = self.known_dirs if is_dir else self.known_files
        verdict = known.get(name)
        if verdict is None:
            view = self._view(name)
            verdict = self._by_name[is_dir].last_match(view), self._candidates(view, is_dir)
            if len(known) >= _CACHE_ENTRIES:
                known.clear()
            known[name] = verdict
        return verdict

    def by_path(self, anchored: _Union, path: str) -> int:
        """The number of the last of these patterns that matches; -1: none."""
        return anchored.last_match(self._view(path))

    def _candidates(self, view: str, is_dir: bool) -> _Union | None:
        """The anchored patterns whose last component matches this name."""
        found = self._by_last_literal.get(view, [])
        for matches, patterns in self._by_last_glob:
            if matches(view):
                found = found + patterns
        if not is_dir:
            found = [pattern for pattern in found if not pattern.only_directories]
        if not found:
            return None
        numbers = tuple(sorted(pattern.number for pattern in found))
        union = self._unions.get(numbers)
        if union is None:
            union = self._unions[numbers] = _Union(sorted(found))
        return union

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
            known = (rules.known_dirs if is_dir else rules.known_files).get(name)
            number, anchored = known if known is not None else rules.by_name(name, is_dir)
            if anchored is not None:
                number = max(number, rules.by_path(anchored, lead + directory[skip:] + name))
            if number >= 0:
                return rules.is_ignoring(number)
        return None


def load_rules(path: str, *, ignore_case: bool = False) -> Rules | None:
    """The rules of an ignore file; None where there is none to read. Raises OSError, see `read_regular`.

    git follows no symbolic link here, and neither do we; a fifo or a device of that name is left alone.
    """
    content = read_regular(path, MAX_IGNORE_FILE_BYTES)
    return None if content is None else Rules.from_bytes(content, ignore_case=ignore_case)


def read_regular(path: str, limit: int, *, follow: bool = False) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None where there is none to be read by us.

    Never blocks on a fifo or device. Raises OSError where the machine is in trouble (no descriptors left, an I/O
    error): then it is not known whether there are rules, and nothing must be concluded.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except ValueError:
        return None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
            raise
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return None
        parts = []
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


@lru_cache(maxsize=512)
def _cached_rules(content: bytes, ignore_case: bool) -> Rules:
    return Rules(content.decode("latin-1"), ignore_case=ignore_case)


def _as_bytes_view(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


class _Names:
    """Many patterns for names: the common shapes by look-up, the others as one regular expression."""

    __slots__ = ("_literals", "_prefixes", "_prefixes_tuple", "_rest", "_suffixes", "_suffixes_tuple")

    def __init__(self, patterns: list[Pattern], *, directories: bool) -> None:
        chosen = [p for p in patterns if directories or not p.only_directories]
        self._literals = {p.text: p.number for p in chosen if p.shape == "literal"}  # the last one of a text decides
        self._suffixes = {p.text: p.number for p in chosen if p.shape == "suffix"}
        self._prefixes = {p.text: p.number for p in chosen if p.shape == "prefix"}
        self._suffixes_tuple, self._prefixes_tuple = tuple(self._suffixes), tuple(self._prefixes)
        rest = [p for p in chosen if not p.shape]
        self._rest = _Union(rest) if rest else None

    def last_match(self, name: str) -> int:
        number = self._literals.get(name, -1)
        if name.endswith(self._suffixes_tuple):
            number = max(number, *(n for text, n in self._suffixes.items() if name.endswith(text)))
        if name.startswith(self._prefixes_tuple):
            number = max(number, *(n for text, n in self._prefixes.items() if name.startswith(text)))
        return number if self._rest is None else max(number, self._rest.last_match(name))


class _Union:
    """Patterns, in order, as one regular expression, last one first: the first alternative that matches decides."""

    __slots__ = ("_match", "_numbers", "_patterns")

    def __init__(self, patterns: list[Pattern]) -> None:
        self._numbers = [p.number for p in reversed(patterns)]
        self._patterns = [p.regex for p in reversed(patterns)]
        self._match: Callable[[str], re.Match[str] | None] | None = None

    def last_match(self, text: str) -> int:
        match = self._match
        if match is None:  # compiled when first asked: many ignore files never are
            match = self._match = re.compile("|".join(f"({p})" for p in self._patterns), re.DOTALL | re.ASCII).fullmatch
            self._patterns = []
        found = match(text)
        if found is None or found.lastindex is None:
            return -1
        return self._numbers[found.lastindex - 1]
