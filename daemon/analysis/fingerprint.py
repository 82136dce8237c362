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
from hashlib import sha256
from typing import NamedTuple

from codegraphd.daemon.analysis.compiled import scan
from codegraphd.daemon.analysis.normal import PLACEHOLDER, Source, filled, one_line
from codegraphd.daemon.analysis.repair import Span
from codegraphd.daemon.analysis.syntax import Dialect, Draft
from codegraphd.daemon.analysis.words import FOREIGN
from codegraphd.store.records import DIGEST_BYTES

HEAD = 400  # characters of the doc that stand before the code: a model that reads 128 tokens must reach the signature
DEPTH = 3  # levels of nested functions that a function's text holds; keeps the work linear in the size of the file
MAX_SIGNATURE = 1_000  # characters
HEADLESS = frozenset({"constant", "file", "part"})  # kinds whose text is the code alone
MAX_VALUE = 100  # characters of a constant that are its signature


class Info(NamedTuple):
    """What is known of a unit beside its code; readable text."""

    name: str
    signature: str
    decorators: tuple[str, ...]
    bases: tuple[str, ...]
    doc: str


class Print(NamedTuple):
    """The text and digests of one unit, and the words of its code, its literals and its comments."""

    own_text: str
    face: bytes
    body: bytes
    own: bytes
    shape: bytes
    words: str
    is_whole: bool  # no hole where something nested is left out


class Fingerprints:
    """Signatures, texts and digests of all units of one file.

    `sign` first: a container's text holds the signatures of what is nested in it.
    """

    def __init__(self, drafts: Sequence[Draft], source: Source, dialect: Dialect) -> None:
        self._drafts, self._source, self._dialect = drafts, source, dialect

    def sign(self) -> None:
        """Set every draft's signature (in Latin-1 form)."""
        source, drafts = self._source, self._drafts
        headers = [(draft.head, draft.head if draft.kind in HEADLESS else draft.body) for draft in drafts]
        for draft, text in zip(drafts, scan.signatures(source.masked, headers), strict=True):
            if draft.kind == "file":
                continue
            if draft.kind == "part":
                draft.signature = drafts[draft.parent].signature
            elif draft.kind == "constant":
                _sign_constant(draft, source)
            else:
                _sign(draft, text, source, self._dialect)

    def take(self, infos: Sequence[Info]) -> list[Print]:
        """The fingerprints of the units; `infos` is what their digests hold beside their code."""
        source, dialect = self._source, self._dialect
        parts = [_code_of(draft, self._drafts, source, dialect.is_layout) for draft in self._drafts]
        units = [
            (*code, *_frame(draft, info, dialect.is_layout))
            for draft, info, code in zip(self._drafts, infos, parts, strict=True)
        ]
        read = scan.prints(
            source.text, source.masked, source.literals, source.comments, units,
            dialect.keywords, dialect.contextual, FOREIGN, dialect.is_layout, source.has_return,
        )  # fmt: skip
        n, hashed = DIGEST_BYTES, sha256  # the parts are length-prefixed already, as in `records.digest`
        return [
            Print(
                own_text,
                hashed(face).digest()[:n],
                hashed(body).digest()[:n],
                hashed(own).digest()[:n],
                hashed(shape).digest()[:n],
                words,
                len(code) == 1,
            )
            for (own_text, words, face, body, own, shape), (_, code, _) in zip(read, parts, strict=True)
        ]


def _sign(draft: Draft, text: str, source: Source, dialect: Dialect) -> None:
    while True:
        text = text.rstrip(" :;,")
        if text.endswith(("=>", " =")):
            text = text[:-2]
        else:
            break
        draft.is_assigned = True
    if draft.node.type == "call_expression":  # a test: `it('loads')`
        arguments = draft.node.child_by_field_name("arguments")
        end = draft.body if arguments is None else arguments.named_children[0].end_byte
        text = one_line(scan.tokens(source.masked[draft.head : end]), source.literals_in(draft.head, end)) + ")"
    elif PLACEHOLDER in text:
        text = filled(text, source.literals_in(draft.head, draft.body)).replace("\n", " ")
    draft.signature = dialect.tidy(text[:MAX_SIGNATURE])
    if draft.node.type == "type_definition" and not draft.is_bodiless:  # `typedef struct {…} Name;`
        draft.signature += f" {draft.name}"


def _sign_constant(draft: Draft, source: Source) -> None:
    """A short constant is its own signature; of a long one it is what stands before the value."""
    tokens = scan.tokens(source.masked[draft.head : min(draft.end, draft.head + 4 * MAX_VALUE)])
    while tokens and tokens[-1] in {";", ","}:
        tokens.pop()
    literals = source.literals_in(draft.head, draft.end)
    if draft.end <= draft.head + 4 * MAX_VALUE:
        short = one_line(tokens, literals)
        if len(short) <= MAX_VALUE:
            draft.signature = short
            return
    ends = [tokens.index(token) for token in ("=", "{", "[") if token in tokens[1:]]
    before = tokens[: min(ends)] if ends else tokens[:8]
    draft.signature = one_line(before, literals)[:MAX_SIGNATURE]


def _frame(draft: Draft, info: Info, is_layout: bool) -> tuple[str, str | None, str, str, str, tuple[str, ...]]:
    """What `scan.prints` is told of a unit beside its code."""
    doc, signature = info.doc, info.signature
    decorators = "\n@".join(info.decorators)
    before = f"@{decorators}" if decorators else ""
    head = tail = first_line = rest = ""
    if doc:
        head, tail = doc_parts(doc)
        first_line, _, rest = doc.partition("\n")
        before = f"{head}\n{before}" if head and before else head or before
    if draft.kind in HEADLESS:
        lead = None
    elif is_layout:
        lead = signature if draft.is_bodiless else f"{signature}:"
    else:
        lead = f"{signature} = " if draft.is_assigned else f"{signature} "
    face = (draft.kind, info.name, signature, decorators, "\n".join(info.bases), first_line)
    return before, lead, signature, tail, rest, face


def _code_of(
    draft: Draft, drafts: Sequence[Draft], source: Source, is_layout: bool
) -> tuple[Span, list[Span], list[str]]:
    """For `scan.prints`: the header, the other code, the signatures between the spans of that."""
    is_headless = draft.kind in HEADLESS
    start = draft.head if is_headless else draft.body
    header = draft.head, start
    if is_layout and draft.kind == "part":  # the first line's indentation stands before it
        line = source.masked.rfind("\n", 0, start) + 1
        start = line if not source.masked[line:start].strip() else start
    hidden = _hidden(draft, drafts)
    if not hidden:
        return header, [(start, draft.end)], []
    code: list[Span] = []
    for nested in hidden:
        code.append((start, nested.start))
        start = nested.end
    code.append((start, draft.end))
    return header, code, [nested.signature for nested in hidden] if draft.kind != "file" else []


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


def doc_parts(doc: str) -> tuple[str, str]:
    """The part of a doc that stands before the code, and the part after it."""
    paragraph, _, rest = doc.partition("\n\n")
    if len(paragraph) <= HEAD:
        return paragraph, rest
    cut = paragraph.rfind(" ", 0, HEAD)
    cut = HEAD if cut <= 0 else cut
    return doc[:cut], doc[cut:].strip()
