"""What is compiled of the analysis: the work on each character and each token.

All code is Latin-1 (see normal.py), spans are half-open; what reaches outside of its text is a ValueError. `foreign`
gives the words of a token that is not all ASCII.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any as _Any

from tree_sitter import Node as _Node

from codegraphd.store.records import Reference as _Reference

_Span = tuple[int, int]
_Unit = tuple[_Span, Sequence[_Span], Sequence[str], str, str | None, str, str, str, tuple[str, ...]]

identity: str  # of the sources that it was built from

def mask(text: str, atoms: Sequence[tuple[int, int, int]]) -> tuple[str, list[_Span], list[_Span]]:
    """The text with its atoms masked, the literals and the comments.

    An atom is (start, end, class), class 0 for a doc string, 1 a comment, 2 a literal. Of two that overlap, the first
    counts. A literal becomes a PLACEHOLDER and blanks, the others blanks, of equal length; so does the end of a line
    that goes on in the next.
    """

def tokens(masked: str) -> list[str]:
    """The tokens of masked code whose layout says nothing."""

def tight(tokens: Sequence[str]) -> str:
    """Tokens in one line, with type arguments, pointers and references written tight; PLACEHOLDERs still in it."""

def signatures(masked: str, spans: Sequence[_Span]) -> list[str]:
    """`tight` of the tokens of each span."""

def prints(
    text: str,
    masked: str,
    literals: Sequence[_Span],
    comments: Sequence[_Span],
    units: Sequence[_Unit],
    keywords: frozenset[str],
    contextual: frozenset[str],
    foreign: Mapping[str, str],
    is_layout: bool,
    has_return: bool,
    /,
) -> list[tuple[str, str, bytes, bytes, bytes, bytes]]:
    """For each unit: its own text; its words; what the digests of its face, body, own text and shape are taken of.

    A unit is the span of its header; the spans of its other code; what stands between these, signatures of nested units
    or nothing at all; then, readable: what its own text has before the code; what leads the code, None for nothing;
    what is there in place of both if there is no code; what comes after; the rest of its doc; the parts of its face.
    """

def captures(
    matches: Sequence[tuple[int, dict[str, list[_Node]]]],
) -> tuple[dict[str, list[_Node]], dict[str, list[_Span]]]:
    """What `QueryCursor.matches` gives by the names of the captures: the nodes of those that begin with "unit.", the
    spans of all others. A capture "end" says where the other one of its match shall end."""

def references(
    text: str,
    masked: str,
    kinds: Sequence[tuple[str, Sequence[_Span], dict[str, _Any], dict[str, _Any] | None, bool]],
    units: Sequence[tuple[int, int, str, bool]],
    definitions: Sequence[_Span],
    line_starts: Sequence[int],
    reference: type[_Reference],
    typed_names: set[str],
    receiver: Callable[[int, str], str],
    others: Callable[[int, int, int, str], Sequence[tuple[_Any, str]]],
    reads_types: bool,
    /,
) -> tuple[list[_Reference], list[tuple[int, str]]]:
    """The references of a file, made as `reference`s in order, and what units inherit from: (unit, dotted name).

    Of a kind: its spans; what names say; what they say after a call (None: that depends on the call); whether a name
    with type arguments says something else. Of two kinds for one span the later one counts. Of a unit: its span, its
    name, and whether it is a part of the one around it. `others` is asked for spans that are no such names.
    """

def macros(raw: bytes) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Where a match of a pattern of `dialects.cpp_macros` may begin, in ascending order.

    At a keyword before a macro; in a line that begins with a macro, or with `extern` and its like before one; in any
    other line that begins with a name and has a macro; in a line in which a bracket closes before a macro and a `;` or
    a `{` follows it, or in the line before if the macro begins its own; at the blanks before a macro of the thread
    safety analysis.
    """

def conditionals(raw: bytes) -> list[tuple[int, int, str, int]]:
    """The lines of the conditionals of C and C++: start, end, the word after `#`, and how many braces are open; -1
    instead of that where a statement, an expression or a list goes on beyond the line."""

def line_starts(raw: bytes) -> list[int]:
    """The byte offset at which each line begins; bisect_right(starts, offset) is the line's number from 1."""

def skip(masked: str, position: int) -> int:
    """Where the next code at or after `position` begins."""

def skip_back(masked: str, position: int) -> int:
    """The end of the last code before `position`; 0 if there is none."""

def clean(comments: Sequence[str]) -> str:
    """The text of a unit's doc comments or doc string without their markers, at most 2,000 characters."""

def words(text: str, foreign: Mapping[str, str]) -> str:
    """The words of a text, joined by blanks."""

def stem(word: str) -> str:
    """A lower-case ASCII word without its English ending: what is left need be no word, only the same for its forms."""
