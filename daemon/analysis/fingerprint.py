"""What the model reads of a unit, and the digests of it.

The *own text* of a unit is, in this order: the first paragraph of its doc (at most HEAD characters), its decorators,
its signature, its body in normal form (`normal`), the rest of its doc. A container (a class, a namespace) shows each
nested unit by its signature; a function holds its nested functions in full, down to DEPTH levels of functions.

Four digests. `face`: kind, name, signature, decorators, bases, first line of the doc. `body`: what the own text has
beside these. `own`: the own text. `shape`: the tokens of header and body with identifiers numbered by first appearance
and literals abstracted, so that renamed clones agree. So comments, white space and line breaks change none of them;
an identifier renamed throughout leaves `shape` alone; any other token changes `own`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegraphd.daemon.analysis.normal import (
    PLACEHOLDER,
    Source,
    filled,
    layout_tokens_of,
    one_line,
    settled,
    settled_layout,
    shape_of,
    spaced,
    tokens_of,
)
from codegraphd.daemon.analysis.syntax import Dialect, Draft
from codegraphd.store.records import digest

HEAD = 400  # characters of the doc that stand before the code: a model that reads 128 tokens must reach the signature
DEPTH = 3  # levels of nested functions that a function's text holds; keeps the work linear in the size of the file
MAX_OWN = 65_536  # characters of own text; no model reads that far, and a table of data may have megabytes
MAX_SIGNATURE = 1_000  # characters
HEADLESS = frozenset({"constant", "file", "part"})  # kinds whose text is the code alone
_TRAILING = frozenset({":", ";", ",", "=", "=>"})  # what is no part of a signature at its end
MAX_VALUE = 100  # characters of a constant that are its signature


@dataclass(slots=True)
class Print:
    """The text and digests of one unit, and the tokens for the word index."""

    own_text: str
    face: bytes
    body: bytes
    own: bytes
    shape: bytes
    tokens: list[str]  # Latin-1 form
    segments: list[tuple[int, int]]  # byte spans of the header and body without what nested units have for themselves


def sign(drafts: Sequence[Draft], source: Source) -> None:
    """Set every draft's signature (in Latin-1 form)."""
    for draft in drafts:
        if draft.kind == "file":
            continue
        if draft.kind == "part":
            draft.signature = drafts[draft.parent].signature
            continue
        if draft.kind == "constant":
            _sign_constant(draft, source)
            continue
        tokens = tokens_of(source.masked[draft.head : draft.body])
        while tokens and tokens[-1] in _TRAILING:
            if tokens.pop() in {"=", "=>"}:
                draft.is_assigned = True
        draft.signature = one_line(tokens, source.literals_in(draft.head, draft.body))[:MAX_SIGNATURE]
        if draft.node.type == "type_definition" and not draft.is_bodiless:  # `typedef struct {…} Name;`
            draft.signature += f" {draft.name}"


def _sign_constant(draft: Draft, source: Source) -> None:
    """A short constant is its own signature; of a long one it is what stands before the value."""
    tokens = tokens_of(source.masked[draft.head : min(draft.end, draft.head + 4 * MAX_VALUE)])
    while tokens and tokens[-1] in {";", ","}:
        tokens.pop()
    short = one_line(tokens, source.literals_in(draft.head, draft.end))
    if draft.end <= draft.head + 4 * MAX_VALUE and len(short) <= MAX_VALUE:
        draft.signature = short
        return
    before = tokens[: tokens.index("=")] if "=" in tokens else tokens[:8]
    draft.signature = one_line(before, source.literals_in(draft.head, draft.end))[:MAX_SIGNATURE]


def fingerprint(
    draft: Draft,
    drafts: Sequence[Draft],
    source: Source,
    dialect: Dialect,
    decorators: Sequence[str],
    bases: Sequence[str],
    doc: str,
) -> Print:
    """`decorators`, `bases` and `doc` are readable text; the draft is signed, and so are those nested in it."""
    masked, values, segments = _body(draft, drafts, source, dialect.is_layout)
    header = tokens_of(source.masked[draft.head : draft.body]) if draft.kind not in HEADLESS else []
    if dialect.is_layout:
        tokens = layout_tokens_of(masked)
        text = settled_layout(spaced(tokens))
        opening = "" if draft.is_bodiless else ":"
    else:
        tokens = tokens_of(masked)
        text = settled(spaced(tokens))
        opening = " = " if draft.is_assigned else " "
    signature = source.readable(draft.signature)
    body_text = source.readable(filled(text, values))
    head, tail = _doc_parts(doc)
    lines = [head, *(f"@{decorator}" for decorator in decorators)]
    if draft.kind in HEADLESS:
        lines.append(body_text.strip("\n"))
    else:
        lines.append(signature + opening + body_text if body_text else signature)
    own_text = "\n".join(filter(None, [*lines, tail]))[:MAX_OWN]
    name = source.readable(draft.name)
    first_line, _, rest_of_doc = doc.partition("\n")
    tokens = header + tokens
    return Print(
        own_text=own_text,
        face=digest(draft.kind, name, signature, "\n".join(decorators), "\n".join(bases), first_line),
        body=digest(body_text, rest_of_doc),
        own=digest(own_text),
        shape=digest(shape_of(tokens, dialect.keywords)),
        tokens=tokens,
        segments=segments,
    )


def _body(
    draft: Draft, drafts: Sequence[Draft], source: Source, is_layout: bool
) -> tuple[str, list[str], list[tuple[int, int]]]:
    """The masked body, nested units that it shows by signature replaced by PLACEHOLDERs; the values for these; the
    spans that are the unit's own, header included."""
    start = draft.head if draft.kind in HEADLESS else draft.body
    if is_layout and draft.kind == "part":  # the first line's indentation stands before it
        line = source.masked.rfind("\n", 0, start) + 1
        start = line if not source.masked[line:start].strip() else start
    hidden = _hidden(draft, drafts)
    if not hidden:
        return source.masked[start : draft.end], source.literals_in(start, draft.end), [(draft.head, draft.end)]
    pieces: list[str] = []
    values: list[str] = []
    segments: list[tuple[int, int]] = []
    position = start
    for nested in hidden:
        pieces.append(source.masked[position : nested.start])
        values += source.literals_in(position, nested.start)
        if draft.kind != "file":
            is_ended = is_layout or source.masked.startswith(";", nested.end)
            pieces.append(PLACEHOLDER if is_ended else f"{PLACEHOLDER};")
            values.append(nested.signature)
        segments.append((position, nested.start))
        position = nested.end
    segments.append((position, draft.end))
    segments[0] = (draft.head, segments[0][1])
    pieces.append(source.masked[position : draft.end])
    values += source.literals_in(position, draft.end)
    return "".join(pieces), values, segments


def _hidden(draft: Draft, drafts: Sequence[Draft]) -> list[Draft]:
    """The nested units that are not part of the draft's text, in order."""
    if not draft.children:
        return []
    if draft.is_container or draft.kind == "file":
        return [drafts[child] for child in draft.children]
    level = [drafts[child] for child in draft.children]
    for _ in range(DEPTH - 1):
        level = [drafts[child] for nested in level for child in nested.children]
    return level


def _doc_parts(doc: str) -> tuple[str, str]:
    """The part of a doc that stands before the code, and the part after it."""
    paragraph, _, rest = doc.partition("\n\n")
    if len(paragraph) <= HEAD:
        return paragraph, rest
    cut = paragraph.rfind(" ", 0, HEAD)
    cut = HEAD if cut <= 0 else cut
    return doc[:cut], doc[cut:].strip()
