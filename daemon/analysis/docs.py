"""Doc comments without their markers: `/** ... */`, `///`, `//!`, `#`, triple quotes, C#'s XML tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_DOC = 2_000  # characters

_STRING = re.compile(r"""[a-zA-Z]*("{3}|'{3}|"|')(.*)\1""", re.DOTALL)
_BLOCK_EDGE = re.compile(r"^[ \t]*\*(?!/) ?", re.MULTILINE)
_LINE_MARK = re.compile(r"(?://[/!]?|#+!?|--) ?")
_XML_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_XML_NAME = re.compile(r'<(?:see|paramref|typeparamref)\s[^<>]*?"(?:[A-Z]:)?([^"]*)"\s*/?>')
_RULE = re.compile(r"^[\s*=\-_#/~+.]*$")  # a line of ornament
_ORNAMENT = frozenset(" *=-_#/~+.")
_GAP = re.compile(r"\n{3,}")


def clean(comments: Sequence[str]) -> str:
    """The text of a unit's doc comments or doc string, at most MAX_DOC characters."""
    if not comments:
        return ""
    text = "\n".join(_unmark(comment[: 4 * MAX_DOC]) for comment in comments)
    if "</" in text or "/>" in text:
        text = _XML_TAG.sub(" ", _XML_NAME.sub(r"\1", text))
        text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    lines = _dedented([line.rstrip() for line in text.split("\n")])
    joined = "\n".join(["" if line[:1] in _ORNAMENT and _RULE.match(line) else line for line in lines]).strip()
    if "\n\n\n" in joined:
        joined = _GAP.sub("\n\n", joined)
    return joined[:MAX_DOC].rstrip()


def _dedented(lines: list[str]) -> list[str]:
    """Lines without the indentation that all but blank ones share."""
    margin = 1_000
    for line in lines:
        if line:
            margin = min(margin, len(line) - len(line.lstrip()))
            if not margin:
                return lines
    return [line[margin:] for line in lines]


def _unmark(comment: str) -> str:
    if comment.startswith("/*"):
        text = comment.lstrip("/*!<").removesuffix("*/").rstrip("*/ \t")
        text = _BLOCK_EDGE.sub("", text)
        first, *rest = text.split("\n")
        return "\n".join([first.strip(), *_dedented([line.rstrip() for line in rest])])
    if comment.startswith(("//", "#", "--")):
        return _LINE_MARK.sub("", comment, count=1).rstrip("\r\n")
    match = _STRING.match(comment)
    text = match[2] if match is not None else comment.strip("rRuUbBfF\"'")
    first, *rest = text.split("\n")
    return "\n".join([first.strip(), *_dedented([line.rstrip().expandtabs() for line in rest])])
