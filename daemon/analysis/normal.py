"""Source in its normal form: what the model reads and what digests are taken of.

The normal form of a piece of code is its tokens, with one fixed spacing between them. Comments and white space are no
tokens, so neither changes it; each other token does. String and character literals are one token each and kept as
written, inner white space included (only a line end is always one LF). Where the layout says something (Python), line
ends outside of brackets and the depth of indentation are tokens as well: one logical line a line, one tab a level,
blank lines and continuations gone. In all other languages a new line begins after `{`, `}` and `;`.

Offsets. tree-sitter counts bytes, Python's strings count characters. All work is therefore done on the bytes decoded
as Latin-1, where both are equal; `Source.readable` turns a piece into proper text at the very end. Literals are
replaced by PLACEHOLDER and blanks, comments by blanks, both at equal length: the `masked` text has the offsets of the
source, and a regular expression can take it apart into tokens at C speed. Control characters are our own (`plain_bytes`
blanks those of the source), and all pieces of a file go through each step at once, with BREAKs between them: a call
for each unit would cost more than the work.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache

_GAP = "\0"  # between tokens until the spacing is settled
PLACEHOLDER = "\x01"  # stands for a literal, or for a nested unit that is shown by its signature only
BREAK = "\x02"  # between pieces that are normalised together
_CONTROLS = bytes(range(9)) + bytes(range(14, 32)) + b"\x7f"
_TO_BLANKS = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))

_IDENTIFIER = r"[A-Za-z_$\x80-\xff][\w$\x80-\xff]*"
_LIFETIME = r"'[A-Za-z_]\w*"  # of Rust; in other languages an apostrophe begins a literal
_NUMBER = r"\d\w*(?:\.\d\w*)?"
_OPERATOR = (
    r"->|=>|::|&&|\|\||[-+*/%&|^=!<>]=|\+\+|--|\*\*=?|//=?|\.\.[.=]?|:=|<-|<<=?|\?\.|\?\?=?|\?:"
    r"|\S"
)
# White space is matched in front of each token: skipping it by failing at each blank takes twice as long.
_TOKEN = re.compile(rf"\s*({_IDENTIFIER}|[()\[\]{{}},;]|{_NUMBER}|{_LIFETIME}|{_OPERATOR})", re.ASCII)
_TOKEN_OR_LINE = re.compile(rf"[ \r\f\v]*({_IDENTIFIER}|[()\[\]{{}},;]|{_NUMBER}|\n\t*|{_OPERATOR})", re.ASCII)

_DEEPEST = 100  # levels of indentation that are told apart
_LEVELS = ["\n" + "\t" * level for level in range(_DEEPEST + 1)]
_LINE_BREAK = f"\n{BREAK}\n"
_TO_ROUND = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}()\n"))

_CALL_GAP = re.compile(r"\0(?=[(\[])(?<=[\w\x80-\xff\]>]\0)(?<!\bfunc\0)", re.ASCII)  # a literal first: 5 times faster
_SIGN_GAP = re.compile(r"(?<=[(,=\[{])(\0?)([-*&!~+@]|\*\*|\.\.\.)\0", re.ASCII)


def plain_bytes(source: bytes) -> bytes:
    """`source` with its control characters made blanks; of the same length."""
    return source.translate(_TO_BLANKS)


class Source:
    """One file's bytes, and where its comments and literals are.

    `comments` and `literals` are sorted, disjoint, half-open byte spans; `text` is the source as Latin-1, `masked` the
    same with comments and literals replaced, doc strings being masked like comments.
    """

    def __init__(self, raw: bytes, atoms: Iterable[tuple[int, int, int]]) -> None:
        """`atoms`: (start, end, class) class 0 for a doc string, 1 a comment, 2 a literal; nested ones are dropped."""
        self.raw = raw
        self.text = raw.decode("latin-1")
        self.is_ascii = raw.isascii()
        self.has_return = b"\r" in raw
        self.comments: list[tuple[int, int]] = []
        self.literals: list[tuple[int, int]] = []
        pieces: list[str] = []
        position = 0
        text = self.text
        for start, end, of in sorted(atoms):
            if start < position:
                continue  # a literal inside of a literal
            pieces.append(text[position:start])
            if of == 2:
                pieces.append(PLACEHOLDER)
                pieces.append(" " * (end - start - 1))
                self.literals.append((start, end))
            else:
                pieces.append(" " * (end - start))
                if of == 1:
                    self.comments.append((start, end))
            position = end
        pieces.append(text[position:])
        self.masked = "".join(pieces)
        if "\\" in self.masked:  # lines that go on in the next: in C, in its macros, in Python
            self.masked = self.masked.replace("\\\r\n", "   ").replace("\\\n", "  ")
        self._literal_starts = [start for start, _ in self.literals]
        self._comment_starts = [start for start, _ in self.comments]

    def readable(self, text: str) -> str:
        """Proper text for a piece of `text` or of what was made from it. What is not UTF-8 becomes U+FFFD."""
        if self.has_return:
            text = text.replace("\r\n", "\n")
        if self.is_ascii or text.isascii():
            return text
        return text.encode("latin-1", "replace").decode("utf-8", "replace")

    def spans_in(self, start: int, end: int) -> list[tuple[int, int]]:
        """The spans of the literals that begin between `start` and `end`."""
        return self.literals[bisect_left(self._literal_starts, start) : bisect_left(self._literal_starts, end)]

    def literals_in(self, start: int, end: int) -> list[str]:
        text = self.text
        values = [text[a:b] for a, b in self.spans_in(start, end)]
        return [value.replace("\r\n", "\n") for value in values] if self.has_return else values

    def prose_in(self, spans: Iterable[tuple[int, int]]) -> list[str]:
        """The literals and then the comments that begin in each span."""
        of_literals, of_comments, text = self._literal_starts, self._comment_starts, self.text
        found: list[str] = []
        for start, end in spans:
            low = bisect_left(of_literals, start)
            if low < len(of_literals) and of_literals[low] < end:
                found += self.literals_in(start, end)
            low = bisect_left(of_comments, start)
            if low < len(of_comments) and of_comments[low] < end:
                found += [text[a:b] for a, b in self.comments[low : bisect_left(of_comments, end, low)]]
        return found

    def comment_before(self, end: int) -> int:
        """Index of the last comment that starts before `end`; -1: none."""
        return bisect_left(self._comment_starts, end) - 1


def tokens_of(masked: str) -> list[str]:
    """The tokens of a masked piece whose layout says nothing."""
    # Each of n blanks at the end would be tried as the beginning of a token, over the n that follow it.
    return _TOKEN.findall(masked.rstrip(" \t\n\r\f\v"))


def layout_tokens_of(masked: str) -> list[str]:
    """The tokens of a masked piece of Python, logical line ends ("\\n" and a tab for each level) included."""
    return _TOKEN_OR_LINE.findall(_logical_lines(masked))


def _logical_lines(masked: str) -> str:
    pieces: list[str] = []
    levels: list[int] = []
    depth = 0  # of open brackets
    brackets_of_lines = masked.encode("latin-1").translate(_TO_ROUND, _NO_BRACKETS).split(b"\n")
    for line, brackets in zip(masked.split("\n"), brackets_of_lines, strict=True):
        code = line.strip()
        if not code:
            continue
        if code[0] == BREAK:
            pieces.append(BREAK)
            levels, depth = [], 0
            continue
        if depth > 0:
            pieces.append(" ")
        else:
            indent = len(line) - len(line.lstrip())
            if "\t" in line and "\t" in line[:indent]:
                indent = len(line[:indent].expandtabs())
            if not levels or indent != levels[-1]:
                while levels and indent < levels[-1]:
                    levels.pop()
                if not levels or indent > levels[-1]:
                    levels.append(indent)
            pieces.append(_LEVELS[min(len(levels), _DEEPEST)])
        pieces.append(code)
        if brackets and brackets != b"()":
            depth = max(0, depth + brackets.count(b"(") - brackets.count(b")"))
    return "".join(pieces)


def normal_forms(pieces: Sequence[str], *, is_layout: bool) -> tuple[list[str], list[list[str]]]:
    """The normal form of each masked piece, PLACEHOLDERs still in it, and its tokens."""
    if is_layout:
        tokens = layout_tokens_of(_LINE_BREAK.join(pieces))
        texts = _settled_layout(spaced(tokens)).split(BREAK)
    else:
        tokens = tokens_of(BREAK.join(pieces))
        texts = [text.strip() for text in _settled(spaced(tokens)).split(BREAK)]
    return texts, _split_tokens(tokens)


def signatures(pieces: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The same for what becomes one line each."""
    tokens = tokens_of(BREAK.join(pieces))
    return _tight(tokens).split(BREAK), _split_tokens(tokens)


def _split_tokens(tokens: list[str]) -> list[list[str]]:
    """The tokens between the BREAKs."""
    split: list[list[str]] = []
    start = 0
    for _ in range(tokens.count(BREAK)):
        end = tokens.index(BREAK, start)
        split.append(tokens[start:end])
        start = end + 1
    split.append(tokens[start:])
    return split


def spaced(tokens: Sequence[str]) -> str:
    """Tokens with the one spacing of the normal form; PLACEHOLDERs still in it."""
    text = _GAP.join(tokens)
    text = text.replace("\0.\0", ".").replace("\0,", ",").replace("(\0", "(").replace("\0)", ")")
    text = text.replace("[\0", "[").replace("\0]", "]").replace("\0;", ";").replace("\0:\0", ":\0")
    text = text.replace("\0::\0", "::")
    return _CALL_GAP.sub("", text)


def _settled(text: str) -> str:
    """The gaps of code in braces made blanks and line ends."""
    return (
        text.replace("{\0", "{\n").replace(";\0", ";\n").replace("\0}", "\n}").replace("}\0", "}\n").replace(_GAP, " ")
    )


def _settled_layout(text: str) -> str:
    """The gaps of Python made blanks; levels of indentation become four blanks."""
    text = text.replace("\0\n", "\n").replace("\t\0", "\t").replace("\n\0", "\n").replace(f"{_GAP}{BREAK}", BREAK)
    return text.replace("\t", "    ").replace(_GAP, " ")


def _tight(tokens: Sequence[str]) -> str:
    """One line, with type arguments, pointers and references written tight."""
    text = _SIGN_GAP.sub(r"\1\2", spaced(tokens))
    text = text.replace("\0<\0", "<").replace("\0>", ">").replace("*\0", "*").replace("&\0", "&").replace(",)", ")")
    text = text.replace("@\0", "@").replace("#\0", "#").replace("~\0", "~").replace("\0!\0", "! ")
    text = text.replace("\0...\0", " ...").replace("\0?:\0", "?: ").replace("\0?\0(", "?(").replace("\0?\0", "? ")
    return text.replace(f"{_GAP}{BREAK}", BREAK).replace(f"{BREAK}{_GAP}", BREAK).replace(_GAP, " ")


def one_line(tokens: Sequence[str], values: Sequence[str]) -> str:
    """Tokens as a signature is written."""
    return filled(_tight(tokens), values).replace("\n", " ")


def filled(text: str, values: Sequence[str]) -> str:
    """`text` with its PLACEHOLDERs replaced by `values` in order."""
    if not values:
        return text
    parts = text.split(PLACEHOLDER)
    n_values = min(len(values), len(parts) - 1)
    pieces = [""] * (2 * len(parts) - 1)
    pieces[::2] = parts
    pieces[1 : 2 * n_values : 2] = values[:n_values]
    return "".join(pieces)


_MAX_SYMBOLS = 100_000  # remembered by a process for each language


class _Symbols(dict[str, str]):
    """Token -> what it is in a shape; "" for an identifier. One for each set of keywords."""

    def __init__(self, keywords: frozenset[str]) -> None:
        self._keywords = {keyword: keyword for keyword in keywords}
        super().__init__(self._keywords)

    def __missing__(self, token: str) -> str:
        if len(self) > _MAX_SYMBOLS:
            self.clear()
            self.update(self._keywords)
        first = token[0]
        is_name = first.isalpha() or first in "_$'" or first > "\x7f"
        symbol = "" if is_name else "0" if first.isdigit() else token
        self[token] = symbol
        return symbol


@cache
def _symbols(keywords: frozenset[str]) -> _Symbols:
    return _Symbols(keywords)


_NUMBERED = [f"${number}" for number in range(1_000)]


def shape_of(tokens: Sequence[str], keywords: frozenset[str]) -> str:
    """Tokens with identifiers numbered by first appearance and literals abstracted to their kind."""
    of = _symbols(keywords)
    symbols: dict[str, str] = dict.fromkeys(tokens, "")
    n_names = 0
    for token in symbols:
        symbol = of[token]
        if not symbol:
            symbol = _NUMBERED[n_names] if n_names < 1_000 else f"${n_names}"
            n_names += 1
        symbols[token] = symbol
    return " ".join(map(symbols.__getitem__, tokens))
