"""Cuts long units into parts, so that what stands at line 400 of a function can be found by its meaning too.

Cuts fall before statements, and which of them is decided by the statement's own text (content-defined chunking): a
statement whose digest ends in zero bits ends the part before it, once that has MIN_LINES; a part never has more than
MAX_LINES unless one statement does. So an edit changes the parts around it and leaves those further on alone. Only what
begins a line may end a part: of the twenty numbers in a row of a table one nearly always would, so that the count of
lines alone decided, and one line more at its top changed every part of it.
"""

from __future__ import annotations

import zlib

import tree_sitter

LONG = 200  # lines of body from which a unit gets parts
MIN_LINES, MAX_LINES = 25, 120
_MASK = 0b11  # one statement in four ends a part: about 40 lines a part in common code


def cuts(body: tree_sitter.Node, raw: bytes) -> list[tuple[int, int]]:
    """Half-open byte spans of the parts of `body`, in order; none if it is not long."""
    first, last = body.start_point.row, body.end_point.row
    if last - first < LONG:
        return []
    spans: list[tuple[int, int]] = []
    start, start_row = -1, 0
    end = body.start_byte
    for offset, row, end_of in _statements(body):
        if start < 0:
            start, start_row = offset, row
        elif row - start_row >= MAX_LINES or (row - start_row >= MIN_LINES and _ends_part(raw, offset)):
            spans.append((start, end))
            start, start_row = offset, row
        end = max(end, end_of)
    if start >= 0:
        spans.append((start, end))
    return spans if len(spans) > 1 else []


def _ends_part(raw: bytes, offset: int) -> bool:
    if raw[raw.rfind(b"\n", 0, offset) + 1 : offset].strip():
        return False
    line_end = raw.find(b"\n", offset)
    line = raw[offset : line_end if line_end >= 0 else offset + 200]
    return zlib.crc32(b"".join(line[:200].split())) & _MASK == 0


def _statements(body: tree_sitter.Node) -> list[tuple[int, int, int]]:
    """(offset, row, end) of each statement, in order; those that are long by themselves are taken apart."""
    found: list[tuple[int, int, int]] = []
    stack = [body]
    while stack:
        node = stack.pop()
        row, last = node.start_point.row, node.end_point.row
        if node is not body and last - row < MAX_LINES // 2:
            found.append((node.start_byte, row, node.end_byte))
        elif node.named_child_count:
            stack.extend(reversed(node.named_children))
        else:
            found.append((node.start_byte, row, node.end_byte))
    return found
