"""Source in its normal form: what the model reads and what digests are taken of.

The normal form of a piece of code is its tokens, with one fixed spacing between them. Comments and white space are no
tokens, so neither changes it; each other token does. String and character literals are one token each and kept as
written, inner white space included (only a line end is always one LF). Where the layout says something (Python), line
ends outside of brackets and the depth of indentation are tokens as well: one logical line a line, one tab a level,
blank lines and continuations gone. In all other languages a new line begins after `{`, `}` and `;`.

Offsets. tree-sitter counts bytes, Python's strings count characters. All work is therefore done on the bytes decoded
as Latin-1, where both are equal; `Source.readable` turns a piece into proper text at the very end. Literals are
replaced by PLACEHOLDER and blanks, comments by blanks, both at equal length: the `masked` text has the offsets of the
source. Control characters are our own (`plain_bytes` blanks those of the source).

Tokens and their spacing are the work of the compiled module `_scan`, for all units of a file in one call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from codegraphd.daemon.analysis.compiled import scan

PLACEHOLDER = "\x01"  # stands for a literal, or for a nested unit that is shown by its signature only
_CONTROLS = bytes(range(9)) + bytes(range(14, 32)) + b"\x7f"
_TO_BLANKS = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))


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
        self.masked, self.literals, self.comments = scan.mask(self.text, list(atoms))
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

    def comment_before(self, end: int) -> int:
        """Index of the last comment that starts before `end`; -1: none."""
        return bisect_left(self._comment_starts, end) - 1


def one_line(tokens: Sequence[str], values: Sequence[str]) -> str:
    """Tokens as a signature is written."""
    return filled(scan.tight(tokens), values).replace("\n", " ")


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
