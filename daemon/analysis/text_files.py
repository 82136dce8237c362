"""Reads text that we have no grammar for: Markdown and reStructuredText by section, the rest by paragraph.

A section spans its subsections, which are nested in it; its own text is its heading and what stands before the next
heading. Everything else is cut into blocks of whole paragraphs, at most MAX_BLOCK characters each; which paragraph
ends a block is decided by the paragraphs' own text, so that an edit changes the blocks around it and no others. A
section with more text than that has such blocks as its parts. At most MAX_UNITS units a file, of data files
MAX_DATA_UNITS: the rest of such a file is found by its path alone.

Normal form: prose is reflowed (a paragraph is one line, runs of white space are one blank), other text keeps its
lines and their indentation and loses blank lines and white space at the ends of lines.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codegraphd.daemon.analysis import words
from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.languages import is_restructured_text, names
from codegraphd.daemon.analysis.reading import Reading
from codegraphd.store.records import Flag, Unit, Words, digest

MIN_BLOCK, MAX_BLOCK = 400, 1_500  # bytes: what a model reads at once
MAX_UNITS, MAX_DATA_UNITS = 400, 20
UNNAMED = "-"  # the name of a block or section without a letter in its title
MAX_NAME = 80  # characters

_DATA = names("json json5 jsonc xml svg csv tsv ipynb lock mod patch diff po pot properties sql html htm xhtml")
_ATX = re.compile(rb" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*\r?$")
_SETEXT = re.compile(rb" {0,3}(=+|-+)[ \t]*\r?$")
_FENCE = re.compile(rb" {0,3}(```+|~~~+)")
_RULE = re.compile(rb"([=\-`:'\"~^_*+#<>.])\1{2,}[ \t]*\r?$")
_TABLE = re.compile(rb"\[\[?([^\[\]]+)\]\]?[ \t]*(?:[#;].*)?\r?$")  # of TOML, of an INI file
_LETTERS = re.compile(r"[^\W_]", re.UNICODE)


@dataclass(slots=True)
class _Block:
    """Lines first (inclusive) to last (exclusive) under a name; `own_last` ends what is its own text."""

    kind: str
    name: str
    first: int
    own_last: int
    last: int
    level: int = 0
    parent: int = -1
    qualname: str = ""
    children: list[int] = field(default_factory=list)


def read(path: str, language: str, raw: bytes, shift: int, flags: Flag) -> Reading:
    """`shift` is added to byte offsets (a byte order mark was cut off); `flags` hold for every unit."""
    lines = raw.split(b"\n")
    extension = path.rpartition(".")[2].lower()
    if language == "markdown":
        blocks = _sections(lines, list(_rst_headings(lines) if is_restructured_text(path) else _headings(lines)))
    else:
        tables = [i for i, line in enumerate(lines) if _TABLE.match(line)] if extension in _TABLED else []
        blocks = _plain_blocks(lines, tables)
    limit = MAX_DATA_UNITS if extension in _DATA else MAX_UNITS
    return _reading(blocks[:limit], lines, scan.line_starts(raw), shift, int(flags), is_prose=language == "markdown")


_TABLED = frozenset({"toml", "ini", "cfg", "conf", "service", "editorconfig"})


# --- headings ---------------------------------------------------------------------------------------------------------


def _headings(lines: Sequence[bytes]) -> Iterator[tuple[int, int, int, bytes]]:
    """(line, line after the heading, level, title) of each Markdown heading."""
    fence = b""
    front_matter = bool(lines) and lines[0].rstrip() == b"---"
    for i, line in enumerate(lines):
        if front_matter:
            front_matter = i == 0 or line.rstrip() not in {b"---", b"..."}
            continue
        if match := _FENCE.match(line):
            if not fence:
                fence = match[1]
            elif match[1].startswith(fence):
                fence = b""
            continue
        if fence:
            continue
        if match := _ATX.match(line):
            yield i, i + 1, len(match[1]), match[2]
        elif (
            i + 1 < len(lines)
            and (under := _SETEXT.match(lines[i + 1]))
            and line.strip()
            and not line.startswith((b"    ", b"\t", b"-", b"*", b">", b"|"))
            and (i == 0 or not lines[i - 1].strip())
        ):
            yield i, i + 2, 1 if under[1].startswith(b"=") else 2, line.strip()


def _rst_headings(lines: Sequence[bytes]) -> Iterator[tuple[int, int, int, bytes]]:
    """The same for reStructuredText: levels are numbered as their styles of underline first appear."""
    levels: dict[tuple[bytes, bool], int] = {}
    i = 0
    while i + 1 < len(lines):
        title, under = lines[i], lines[i + 1]
        over = _RULE.match(title)
        if over and i + 2 < len(lines) and _RULE.match(lines[i + 2]) and under.strip():
            if lines[i + 2][:1] == title[:1]:
                level = levels.setdefault((title[:1], True), len(levels) + 1)
                yield i, i + 3, level, under.strip()
                i += 3
                continue
        elif (
            not over
            and title[:1].strip()
            and _RULE.match(under)
            and len(under.strip()) + 2 >= len(title.strip())
            and (i == 0 or not lines[i - 1].strip())
        ):
            level = levels.setdefault((under[:1], False), len(levels) + 1)
            yield i, i + 2, level, title.strip()
            i += 2
            continue
        i += 1


def _sections(lines: Sequence[bytes], headings: Sequence[tuple[int, int, int, bytes]]) -> list[_Block]:
    blocks: list[_Block] = []
    first_heading = headings[0][0] if headings else len(lines)
    blocks.extend(_cut(lines, 0, first_heading, []))
    stack: list[int] = []
    for number, (line, _, level, title) in enumerate(headings):
        own_last = headings[number + 1][0] if number + 1 < len(headings) else len(lines)
        while stack and blocks[stack[-1]].level >= level:
            blocks[stack.pop()].last = line
        parent = stack[-1] if stack else -1
        index = len(blocks)
        name = _title(title)
        prefix = f"{blocks[parent].qualname}." if parent >= 0 else ""
        section = _Block("section", name, line, own_last, len(lines), level, parent, prefix + name)
        blocks.append(section)
        if parent >= 0:
            blocks[parent].children.append(index)
        stack.append(index)
        pieces = _cut(lines, line, own_last, [])
        if len(pieces) > 1:
            for n, piece in enumerate(pieces, start=1):
                piece.kind, piece.parent = "part", index
                piece.name, piece.qualname = f"{name}#{n}", f"{section.qualname}#{n}"
                blocks.append(piece)
    return blocks


def _plain_blocks(lines: Sequence[bytes], tables: Sequence[int]) -> list[_Block]:
    return _cut(lines, 0, len(lines), tables)


# --- blocks of paragraphs ---------------------------------------------------------------------------------------------


def _cut(lines: Sequence[bytes], first: int, last: int, forced: Sequence[int]) -> list[_Block]:
    """Lines first to last (exclusive) in blocks; a line of `forced` always begins one."""
    blocks: list[_Block] = []
    must = set(forced)
    start, size, was_blank = -1, 0, True
    end = first
    for i in range(first, last):
        line = lines[i]
        if not line.strip():
            was_blank = True
            continue
        if start >= 0:
            can = was_blank and size >= MIN_BLOCK and zlib.crc32(b"".join(line.split())) & 1
            if i in must or can or size + len(line) > MAX_BLOCK:
                blocks.append(_block(lines, start, end))
                start, size = -1, 0
        if start < 0:
            start = i
        size += len(line) + 1
        was_blank = False
        end = i + 1
    if start >= 0:
        blocks.append(_block(lines, start, end))
    return blocks


def _block(lines: Sequence[bytes], first: int, last: int) -> _Block:
    name = next((title for line in lines[first:last] if _LETTERS.search(title := _title(line))), UNNAMED)
    return _Block("section", name, first, last, last, 0, -1, name)


def _title(line: bytes) -> str:
    text = line[: 4 * MAX_NAME].decode("utf-8", "replace")
    return " ".join(text.split())[:MAX_NAME].strip("#*=-`[]<>!/\\ \t") or " ".join(text.split())[:MAX_NAME] or UNNAMED


# --- units ------------------------------------------------------------------------------------------------------------


def _reading(
    blocks: Sequence[_Block], lines: Sequence[bytes], starts: Sequence[int], shift: int, flags: int, *, is_prose: bool
) -> Reading:
    found = Reading()
    ordinals: Counter[tuple[str, str]] = Counter()
    for block in blocks:
        last = block.last
        while last > block.first + 1 and not lines[last - 1].strip():
            last -= 1
        end = starts[last - 1] + len(lines[last - 1]) if last else 0
        text = b"\n".join(lines[block.first : block.own_last])[: 4 * MAX_BLOCK * MAX_DATA_UNITS]
        own = _normal(text.decode("utf-8", "replace"), is_prose=is_prose)
        ordinal = ordinals[block.kind, block.qualname]
        ordinals[block.kind, block.qualname] += 1
        head, _, rest = own.partition("\n")
        found.units.append(
            Unit(
                kind=block.kind,
                name=block.name,
                qualname=block.qualname,
                ordinal=ordinal,
                parent=block.parent,
                start_byte=starts[block.first] + shift,
                end_byte=end + shift,
                start_line=block.first + 1,
                end_line=last,
                signature=block.name,
                decorators=(),
                bases=(),
                doc="",
                flags=flags,
                face=digest(block.kind, block.name),
                body=digest(rest if head == block.name else own),
                own=digest(own),
                shape=digest(re.sub(r"\d+", "0", own.lower())),
            )
        )
        found.texts.append(own)
        body = words.clip(words.words_of(own[: words.MAX_TEXT]))
        found.words.append(Words(name=words.words_of(block.qualname), doc="", body=body))
    return found


def _normal(text: str, *, is_prose: bool) -> str:
    if is_prose:
        return "\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip())
    return "\n".join(line.rstrip().expandtabs(4) for line in text.split("\n") if line.strip())
