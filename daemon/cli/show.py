"""What the commands print: plain lists, colour on a terminal only, or one JSON document."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

SCHEMA_VERSION = 1
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def paint(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """The text with terminal colours, where the stream is a terminal and NO_COLOR is not set."""
    if not is_terminal(stream or sys.stdout) or os.environ.get("NO_COLOR") or not text:
        return text
    return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def plain(text: str) -> str:
    """One line that a terminal can take: a file may be named with an escape sequence."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or 0xDC80 <= ord(c) <= 0xDCFF else repr(c)[1:-1] if c not in "\n\t" else " " for c in text
    )


def note(text: str) -> None:
    """A remark beside the answer."""
    sys.stdout.flush()
    print(f"codegraphd: {plain(text)}", file=sys.stderr)


def print_json(document: Mapping[str, Any], *, compact: bool = False) -> None:
    """One JSON document, in ASCII: names that are not UTF-8 are lone surrogates in it, for every JSON reader."""
    import json

    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 2}
    print(json.dumps({"schema_version": SCHEMA_VERSION, **document}, **layout), flush=True)


def place(unit: Mapping[str, Any], here: str) -> str:
    """`path:line` as the shell in the directory `here` would name it; absolute for what lies elsewhere."""
    root = str(unit.get("root", ""))
    path = os.path.join(root, str(unit.get("path", "")))
    is_near = here == root or here.startswith(root.rstrip("/") + "/") or path.startswith(f"{here}/")
    if root and is_near and here != "/":
        path = os.path.relpath(path, here)
    return plain(f"{path}:{unit.get('start_line', 0)}")


def unit_lines(
    units: Iterable[Mapping[str, Any]], *, front: Iterable[str] = (), back: Iterable[str] = (), snippets: bool = False
) -> list[str]:
    """`[front] path:line  kind qualname  [back]`, aligned; `back` falls to the width of a terminal."""
    units = list(units)
    here = _here()
    heads = [*front] or [""] * len(units)
    tails = [*back] or [""] * len(units)
    places = [place(unit, here) for unit in units]
    width = min(60, max(map(len, places), default=0))
    columns = shutil.get_terminal_size((100, 24)).columns if is_terminal(sys.stdout) else 0
    lines = []
    for unit, head, where, tail in zip(units, heads, places, tails, strict=True):
        kind, name = plain(str(unit.get("kind", ""))), plain(str(unit.get("qualname") or unit.get("name", "")))
        used = len(head) + max(len(where), width) + len(kind) + len(name) + 6
        end = plain(tail)[: max(0, columns - used) if columns else None]
        text = f"{head}{paint(where, 'cyan')}{' ' * (width - len(where))}  {paint(kind, 'dim')} {paint(name, 'bold')}"
        lines.append(f"{text}  {paint(end, 'dim')}".rstrip())
        if snippets and unit.get("snippet"):
            lines += [f"    {plain(line)}".rstrip() for line in str(unit["snippet"]).splitlines()]
    return lines


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the shell's directory was removed
        return "/"


# --- figures -------------------------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """1,234; a dash where nothing was measured."""
    if value is None:
        return "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2g}" if abs(value) < 0.1 else f"{value:,.2f}"
    return f"{int(value):,}"


def size(n_bytes: Any) -> str:
    if n_bytes is None:
        return "-"
    amount, unit = float(n_bytes), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"


def duration(seconds: Any) -> str:
    """3.2 s, 5 min, 3 h 12 min, 4 d 2 h."""
    if seconds is None:
        return "-"
    s = float(seconds)
    if s < 60:
        return f"{s:.1f} s" if s < 10 else f"{s:.0f} s"
    minutes, hours, days = int(s // 60), int(s // 3600), int(s // 86_400)
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def count(n: Any, noun: str) -> str:
    """1 file, 2 files."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number(n)} {noun if n == 1 else plural}"
