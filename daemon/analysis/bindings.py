"""Which names a file's imports bring in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from codegraphd.daemon.analysis.normal import Source
from codegraphd.daemon.analysis.places import Places
from codegraphd.daemon.analysis.syntax import Captures, Dialect, Draft, Import
from codegraphd.store.records import Binding


@cache
def _imports(dialect: Dialect) -> Callable[[str], Sequence[Import]]:
    """`dialect.imports` with a memory: the files of a project import the same names."""
    return lru_cache(maxsize=4_096)(dialect.imports)


def bindings_of(
    captures: Captures, drafts: Sequence[Draft], source: Source, dialect: Dialect, line_starts: Sequence[int]
) -> list[Binding]:
    """What the imports bring in. At the top level the source is -1, in a file with a "file" unit too."""
    places, imports, readable = Places(drafts), _imports(dialect), source.readable
    bindings: list[Binding] = []
    read_to = 0
    for start, end in sorted(captures.spans["import"], key=lambda span: (span[0], -span[1])):
        if end <= read_to:
            continue  # `import(…)` inside of a declaration that was read as a whole
        read_to = end
        unit = places.of(start)
        if unit >= 0 and drafts[unit].kind == "file":
            unit = -1
        line = bisect_right(line_starts, start)
        for local, module, member, exported in imports(_with_literals(source, start, end)):
            bindings.append(
                Binding(unit, readable(local), readable(module), readable(member), exported and unit < 0, line)
            )
    return bindings


def _with_literals(source: Source, start: int, end: int) -> str:
    """The text of a span with its comments blanked and its literals kept."""
    literals = source.spans_in(start, end)
    if not literals:
        return source.masked[start:end]
    pieces: list[str] = []
    position = start
    for literal_start, literal_end in literals:
        pieces.append(source.masked[position:literal_start])
        pieces.append(source.text[literal_start:literal_end])
        position = literal_end
    pieces.append(source.masked[position:end])
    return "".join(pieces)
