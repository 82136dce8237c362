"""Globs over paths, as `--path` takes them.

`*` and `?` stay inside one component, `**` crosses them, `[...]` and `{a,b}` are as in a shell. A glob without a slash
matches a component anywhere (`*.py`, `tests`); one with a slash is anchored at the root. What matches a directory
matches all below it. A glob that begins with `!` excludes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache


def matcher(globs: Sequence[str]) -> Callable[[str], bool]:
    """Whether a relative path is wanted: it matches one of the globs (or there are none but excluding ones), and none
    that excludes. A glob that is no glob (an unclosed bracket) is taken literally."""
    wanted = _union([glob for glob in globs if not glob.startswith("!")])
    unwanted = _union([glob[1:] for glob in globs if glob.startswith("!")])
    return lambda path: (wanted is None or wanted(path) is not None) and (unwanted is None or unwanted(path) is None)


def _union(globs: Sequence[str]) -> Callable[[str], re.Match[str] | None] | None:
    if not globs:
        return None
    return re.compile("|".join(f"(?:{_whole(glob)})" for glob in globs), re.DOTALL).fullmatch


@lru_cache(256)
def _whole(glob: str) -> str:
    plain = glob.removeprefix("./").rstrip("/")
    anchored = "/" in plain
    return ("" if anchored else "(?:.*/)?") + component_regex(plain.removeprefix("/")) + "(?:/.*)?"


def component_regex(glob: str) -> str:
    """The glob as a regular expression over a path."""
    out: list[str] = []
    depth = at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            if glob[at : at + 1] != "*":
                out.append("[^/]*")
                continue
            while glob[at : at + 1] == "*":
                at += 1
            if glob[at : at + 1] == "/" and (at < 3 or glob[at - 3] == "/"):
                at += 1
                out.append("(?:.*/)?")
            else:
                out.append(".*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[" and (end := glob.find("]", at + 1 + (glob[at : at + 1] in ("!", "^")))) > 0:
            inner = glob[at:end].replace("\\", r"\\").replace("[", r"\[").replace("&&", r"\&&").replace("||", r"\||")
            out.append(f"(?!/)[{'^' + inner[1:] if inner[:1] in ('!', '^') else inner}]")
            at = end + 1
        elif char == "{" and "}" in glob[at:]:
            depth += 1
            out.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
    return "".join(out) + ")" * depth
