"""One line of an ignore file as a regular expression that means what git's wildmatch means.

Owns: the syntax of patterns. They are matched byte by byte ("?" is one byte, not one letter): the strings here stand
for bytes, see `ignore`.

A pattern becomes a regular expression without nested backtracking: a run between two stars has a fixed length, so its
leftmost match is as good as any (an atomic group), and the same holds for the components between two "**/". So a
hostile ignore file costs time quadratic in the length of a path, not exponential.
"""

from __future__ import annotations

import itertools
import re
from typing import Final, NamedTuple

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


class Pattern(NamedTuple):
    number: int
    negated: bool
    only_directories: bool
    anchored: bool  # has a slash other than at its end: matched against the path, else against the name
    regex: str
    shape: str  # of its last component: "literal", "suffix" (*text), "prefix" (text*), "" (anything else)
    text: str  # of that shape
    last_regex: str  # what a name has to match if this pattern is to match a path that ends in it


def parse_pattern(line: str, number: int, fold: bool) -> Pattern | None:
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
    tokens = _tokenize(line, fold)
    if tokens is None:
        return None
    prefix = next((i for i, c in enumerate(line) if c in _SPECIAL), len(line))
    regex = _regex(tokens, prefix)
    return Pattern(number, negated, only_directories, anchored, regex, *_last_component(tokens, prefix))


def _last_component(tokens: list[str], prefix: int) -> tuple[str, str, str]:
    """(shape, text, regular expression) of what a name has to match, see `Pattern`."""
    anything = "", "", "[^/]*"
    last = tokens[max((i + 1 for i, token in enumerate(tokens) if token in _SLASHES), default=0) :]
    if not last or (_STAR, _STAR) in itertools.pairwise(last):
        return anything
    if tokens[prefix : prefix + 2] == [_STAR, _STAR] and tokens[max(0, prefix - 1)] not in (_STAR, _SLASH):
        return anything  # stars that may stand for directories, or for nothing, in the middle of a name: see `_regex`
    begins, ends = last[0] == _STAR, last[-1] == _STAR
    literal = last[1:] if begins else last[:-1] if ends else last
    if not literal or _STAR in literal or any(len(token) > 1 and not token.startswith("\\") for token in literal):
        return "", "", _components(last)
    shape = "suffix" if begins else "prefix" if ends else "literal"
    return shape, "".join(token[-1] for token in literal), _components(last)


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
_SLASHES: Final = frozenset({_SLASH, _ESCAPED_SLASH})


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
        begins = run in (0, prefix) or tokens[run - 1] in _SLASHES
        ends = i == len(tokens) or tokens[i] in _SLASHES
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
        if token in _SLASHES:
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
