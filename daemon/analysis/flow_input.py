"""A unit's code as GraphCodeBERT reads it: its tokens, and where the value of each variable comes from.

Computed only for models that read data flow. It has to be a function of the unit's language and own text, since that is
what the vector cache is keyed by, and yet that text cannot be parsed: the normal form has lost the line ends that end
statements in Go and in much JavaScript. So the unit's bytes are parsed as they lie in the file, but alone, as the
published code does it, whatever stands around them; comments and layout, which the text lacks, are no tokens; and of
the tokens only those are taken that the text has too (it leaves out a few, such as C++'s `virtual`).

A method cut out of its class does not parse in every language: where it does not, it is read inside a class made up
around it, and in Python at its indentation.
"""

from __future__ import annotations

from codegraphd.daemon.analysis.flow_data import data_flow_of
from codegraphd.daemon.analysis.flow_tables import SYNTAX
from codegraphd.daemon.analysis.flow_tree import Forest, forest
from codegraphd.store.records import CodeFlow

LANGUAGES = frozenset(SYNTAX)
MAX_CODE = 16_384  # bytes: more than any encoder of this family reads
MAX_TOKENS = 512  # as many positions as they have, and each token of the code is one of theirs at least
BUDGET = 100_000  # steps of the flow's walk, a sixth of what `explain` may take: some 0.2 s
ADDED = 4  # characters that the text may have where the source has none: a semicolon, the "@" of an attribute
LEAST_SAID = 0.8  # of the tokens
_BEFORE, _AFTER = b"class A {\n", b"\n};"
_IN_CLASSES = frozenset({"javascript", "typescript", "tsx", "java", "csharp", "cpp"})


def code_flow(
    language: str, source: bytes, start: int, end: int, *, comment: str = "", text: str | None = None
) -> CodeFlow | None:
    """What the model is to read of the unit that spans [start, end) of a source.

    `language` is of LANGUAGES; `comment` is what the unit's doc says first; `text` the own text without that, None: all
    that the source says is read. None: source and text say too different things. Never raises on what the source holds.
    """
    tree = _forest(language, source, start, min(end, start + MAX_CODE))
    flow = data_flow_of(tree, tree.syntax.published or tree.syntax.data, BUDGET)
    # a literal of several lines is one token without its line ends, as published
    tokens = [token.text.replace("\n", "") for token in flow.tokens[:MAX_TOKENS]]
    said = list(range(len(tokens))) if text is None else _said(tokens, text)
    if len(said) < LEAST_SAID * len(tokens):
        return None
    places = {old: new for new, old in enumerate(said)}
    variables = [
        (places[edge.index], tuple(places[i] for i in edge.source_indices if i in places))
        for edge in flow.edges
        if edge.index in places
    ]
    return CodeFlow(comment, tuple(tokens[i] for i in said), tuple(variables[:MAX_TOKENS]))


def _said(tokens: list[str], text: str) -> list[int]:
    """The indices of those tokens that the text has, in order."""
    solid = "".join(text.split())
    found, position = [], 0
    for index, token in enumerate(tokens):
        piece = "".join(token.split())
        at = solid.find(piece, position, position + len(piece) + ADDED)
        if at >= 0:
            found.append(index)
            position = at + len(piece)
    return found


def _forest(language: str, source: bytes, start: int, end: int) -> Forest:
    code = source[start:end]
    if language == "python":
        indent = source[source.rfind(b"\n", 0, start) + 1 : start]
        before = b"if x:\n" + indent if indent and indent.isspace() else b""
        return forest(language, before + code, len(before), len(before) + len(code))
    alone = forest(language, code, 0, len(code))
    if not alone.errors or language not in _IN_CLASSES:
        return alone
    inside = forest(language, _BEFORE + code + _AFTER, len(_BEFORE), len(_BEFORE) + len(code))
    return inside if inside.errors < alone.errors else alone
