"""Other readings of a source whose syntax tree has errors: pieces of it blanked, so that all offsets stay.

A dialect names the pieces, reading by reading (`Dialect.repairs`). A reading costs a parse, even though tree-sitter
goes on from the tree before: C++ is so ambiguous that it takes half of the time again. So one is left out that has no
piece with an error in it, and of the pieces that may break something none in a place where an error could come from.
Such a place is the definition or statement that has the error, with its neighbours: what stands around a broken one is
often part of it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import tree_sitter

from codegraphd.daemon.analysis.compiled import scan

Span = tuple[int, int]


class Reading(NamedTuple):
    """Pieces to blank, and what of them may break what stands around it."""

    pieces: Sequence[Span]
    breaking: Sequence[Span]


MAX_ERRORS = 1_000  # counted in one tree

_NOT_LINE_END = re.compile(rb"[^\r\n]")


def n_errors(root: tree_sitter.Node) -> int:
    """Syntax errors in the tree: nodes that are errors or missing. Those within an error count too: one around the
    whole file is a worse reading than five small ones."""
    if not root.has_error:
        return 0
    count = 0
    stack = [root]
    while stack and count < MAX_ERRORS:
        node = stack.pop()
        if node.is_error or node.is_missing:
            count += 1
        if node.has_error:
            stack.extend(node.children)
    return max(count, 1)


def blanked(raw: bytes, spans: Iterable[Span]) -> bytes:
    found = bytearray(raw)
    for start, end in spans:
        found[start:end] = _NOT_LINE_END.sub(b" ", raw[start:end])
    return bytes(found)


def repaired(
    parser: tree_sitter.Parser,
    tree: tree_sitter.Tree,
    raw: bytes,
    readings: Iterable[Reading],
    shelves: frozenset[str],
) -> tuple[tree_sitter.Tree, bytes, int]:
    """The tree of the reading with the fewest errors, the text that it shows, and how many errors it has.

    `shelves`: the types of nodes in which definitions and statements stand side by side; none: all readings are tried.
    """
    fewest = before = n_errors(tree.root_node)
    if not fewest:
        return tree, raw, 0
    text = raw
    line_starts: list[int] = []
    last, done = tree, set[Span]()
    found: tuple[list[Span], list[Span]] | None = None
    for spans, breaking in readings:
        new = [span for span in spans if span not in done]
        if not new:
            continue
        if shelves:
            places, errors = found = found or _places(tree.root_node, shelves)
            if not _touches(breaking, places) and not _overlaps(spans, errors):
                continue
        reading = blanked(raw, spans)
        line_starts = line_starts or scan.line_starts(raw)
        edited = last.copy()
        for start, end in new:
            at, to = _point(line_starts, start), _point(line_starts, end)
            edited.edit(start, end, end, at, to, to)
        last = parser.parse(reading, edited)
        done.update(new)
        n_left = n_errors(last.root_node)
        if n_left < fewest:
            text = reading if fewest == before else text  # of two repairs the first one leaves more in
            tree, fewest, found = last, n_left, None
        if not fewest:
            break
    return tree, text, fewest


def _point(line_starts: Sequence[int], offset: int) -> tuple[int, int]:
    row = bisect_right(line_starts, offset) - 1
    return row, offset - line_starts[row]


def _touches(spans: Iterable[Span], places: Sequence[Span]) -> bool:
    return any(start <= to and at <= end for at, to in spans for start, end in places)


def _overlaps(spans: Iterable[Span], others: Sequence[Span]) -> bool:
    return any(start < to and at < end for at, to in spans for start, end in others)


def _places(root: tree_sitter.Node, shelves: frozenset[str]) -> tuple[list[Span], list[Span]]:
    """Where the errors of the tree may come from, and where they are."""
    whole = root.byte_range
    if root.is_error:
        return [whole], [whole]
    places: set[Span] = set()
    errors: list[Span] = []
    stack = [(root, whole)]
    while stack and len(errors) < MAX_ERRORS:
        node, place = stack.pop()
        children = node.children
        for i, child in enumerate(children):
            if not (child.has_error or child.is_missing):
                continue
            of = place
            if node.type in shelves:
                before, after = children[max(i - 1, 0)], children[min(i + 1, len(children) - 1)]
                of = before.start_byte, after.end_byte
            if child.is_missing:
                if child.end_byte + 2 >= whole[1]:  # a bracket: it may have been opened anywhere
                    of = whole
                errors.append(whole if child.type == "#endif" else child.byte_range)
                places.add(of)
            elif child.is_error:
                errors.append(child.byte_range)
                places.add(of)
            stack.append((child, of))
    return (list(places), errors) if len(errors) < MAX_ERRORS else ([whole], [whole])
