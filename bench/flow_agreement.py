"""How far our data-flow edges agree with those of GraphCodeBERT's published extractors.

    python -m bench.flow_agreement CHECKOUT --source python=DIR --source java=DIR … [--limit 400] [--json FILE]

CHECKOUT is a checkout of microsoft/CodeBERT; its `GraphCodeBERT/codesearch/parser/{DFG,utils}.py` is imported from
there, nothing of it is part of this project. Each DIR holds sources of that language. Of each language up to `--limit`
functions, spread evenly over the files, are taken out as text, as CodeSearchNet does, and go through both.

The published code was written for the grammars of 2020. `published_tree` shows it today's trees in the shapes that it
knows; what it does there:
  * strings are leaves (Java, Go and C# see into them today);
  * JavaScript: the children of `else_clause` stand in the `if_statement`;
  * C#: `foreach_statement` is called `for_each_statement`, and an initialiser stands in an `equals_value_clause`.
Go's newline tokens, which the published code takes for variables without a name, are left out of its edges.

Columns: functions compared; edges of theirs; agreement of our `published=True` edges with theirs on the same text,
as |both| / |either| over (variable, relation, source) by position; share of functions with equal edge lists; the same
agreement for edges from the file itself, comments in place, against theirs from the cut text; and that of our default
rules, which differ on purpose (see flow_data). Functions that the published code cannot do (it recurses) are counted
as skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from tree_sitter_language_pack import get_parser

from codegraphd.daemon.analysis.flow import DataFlow, data_flow
from codegraphd.daemon.analysis.flow_tables import SYNTAX

EXTENSIONS = {"python": ".py", "java": ".java", "go": ".go", "javascript": ".js", "csharp": ".cs"}

Place = tuple[int, int]  # byte span
Edge = tuple[Place, str, Place]


@dataclass
class Row:
    language: str
    functions: int = 0
    skipped: int = 0
    edges: int = 0
    both: int = 0
    either: int = 0
    equal: int = 0
    in_place_both: int = 0
    in_place_either: int = 0
    default_both: int = 0
    default_either: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        return self.both / max(1, self.either)


class PublishedNode:
    """A node as the published extractors expect it."""

    def __init__(self, kind: str, span: tuple[Any, Any], place: Place, children: list[PublishedNode]) -> None:
        self.type = kind
        self.start_point, self.end_point = span
        self.place = place
        self.children = children
        self.fields: dict[str, PublishedNode] = {}

    def child_by_field_name(self, name: str) -> PublishedNode | None:
        return self.fields.get(name)


def published_tree(language: str, node: Any) -> PublishedNode:
    """Today's tree in the shapes of 2020."""
    syntax = SYNTAX[language]
    kind = {"foreach_statement": "for_each_statement"}.get(node.type, node.type) if language == "csharp" else node.type
    mapped = PublishedNode(kind, (node.start_point, node.end_point), (node.start_byte, node.end_byte), [])
    if node.type in syntax.atoms:
        return mapped
    for i, child in enumerate(node.children):
        if child.start_byte == child.end_byte:
            continue  # made up by the parser
        inner = published_tree(language, child)
        name = node.field_name_for_child(i)
        if name is not None:
            mapped.fields.setdefault(name, inner)
        mapped.children.extend(inner.children if child.type == "else_clause" and language == "javascript" else [inner])
    if language == "csharp" and kind == "variable_declarator" and [c.type for c in mapped.children[1:2]] == ["="]:
        equals, *value = mapped.children[1:]
        whole = (equals.start_point, value[-1].end_point) if value else (equals.start_point, equals.end_point)
        clause = PublishedNode("equals_value_clause", whole, equals.place, [equals, *value])
        mapped.children = [mapped.children[0], clause]
    return mapped


def load_published(checkout: str) -> types.ModuleType:
    """The published parser package, under a name of its own."""
    folder = os.path.join(checkout, "GraphCodeBERT", "codesearch", "parser")
    for name in ("utils", "DFG"):
        full = f"graphcodebert_parser.{name}"
        if "graphcodebert_parser" not in sys.modules:
            package = types.ModuleType("graphcodebert_parser")
            package.__path__ = [folder]
            sys.modules["graphcodebert_parser"] = package
        spec = importlib.util.spec_from_file_location(full, os.path.join(folder, f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules["graphcodebert_parser.DFG"]


def published_edges(published: types.ModuleType, language: str, text: str) -> tuple[list[Any], list[tuple[Place, str]]]:
    """What the published `extract_dataflow` gives: its edges and its tokens with their places."""
    root = published_tree(language, get_parser(language).parse(text.encode("latin-1")).root_node)  # type: ignore[arg-type]
    places: list[Place] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if not node.children and node.type not in SYNTAX[language].comments:
            places.append(node.place)
        stack.extend(reversed(node.children))
    spans = published.tree_to_token_index(root)
    lines = text.split("\n")
    codes = [published.index_to_code_token(span, lines) for span in spans]
    index_to_code = {span: (i, code) for i, (span, code) in enumerate(zip(spans, codes, strict=True))}
    edges, _ = getattr(published, f"DFG_{language}")(root, index_to_code, {})
    edges = sorted(edges, key=lambda edge: edge[1])
    used = {i for edge in edges if edge[-1] for i in (edge[1], *edge[-1])}
    return [edge for edge in edges if edge[1] in used], list(zip(places, codes, strict=True))


def functions_of(language: str, folder: str, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """Functions as (file, span), at most `limit`, spread evenly over all that there are."""
    found: list[tuple[str, int, int]] = []
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.endswith(EXTENSIONS[language]) and not name.endswith(".min.js"):
                full = os.path.join(path, name)
                with open(full, "rb") as file:
                    source = file.read()
                stack = [get_parser(language).parse(source).root_node]  # type: ignore[arg-type]
                while stack:
                    node = stack.pop()
                    if node.type in SYNTAX[language].functions and not node.has_error:
                        found.append((full, node.start_byte, node.end_byte))
                    else:
                        stack.extend(reversed(node.children))
    step = max(1, len(found) // limit)
    for full, start, end in found[::step][:limit]:
        with open(full, "rb") as file:
            yield file.read(), start, end


def flat(flow: DataFlow) -> set[Edge]:
    spans = [(token.start_byte, token.end_byte) for token in flow.tokens]
    return {(spans[e.index], e.relation, spans[i]) for e in flow.edges for i in e.source_indices}


def compare(published: types.ModuleType, row: Row, source: bytes, start: int, end: int) -> None:
    """One function through both."""
    language = row.language
    text = source[start:end].decode("latin-1")
    with contextlib.suppress(Exception):  # as published: then with its comments
        text = published.remove_comments_and_docstrings(text, language)
    try:
        theirs, tokens = published_edges(published, language, text)
    except (RecursionError, AttributeError, KeyError):
        row.skipped += 1
        return
    nameless = {i for i, (_, code) in enumerate(tokens) if not code}
    their_edges = {
        (tokens[i][0], relation, tokens[j][0])
        for _, i, relation, _, sources in theirs
        for j in sources
        if i not in nameless and j not in nameless
    }
    raw = text.encode("latin-1")
    ours = data_flow(language, raw, 0, len(raw), published=True)
    our_edges = flat(ours)
    row.functions += 1
    row.edges += len(their_edges)
    row.both += len(their_edges & our_edges)
    row.either += len(their_edges | our_edges)
    row.equal += their_edges == our_edges
    if their_edges != our_edges and len(row.examples) < 3:
        row.examples.append(
            f"missing {sorted(their_edges - our_edges)[:3]} added {sorted(our_edges - their_edges)[:3]}\n{text[:1500]}"
        )
    default = flat(data_flow(language, raw, 0, len(raw)))
    row.default_both += len(their_edges & default)
    row.default_either += len(their_edges | default)
    placed = data_flow(language, source, start, end, published=True)
    if [t.text for t in placed.tokens] == [t.text for t in ours.tokens]:
        moved = {
            (p.start_byte, p.end_byte): (o.start_byte, o.end_byte)
            for p, o in zip(placed.tokens, ours.tokens, strict=True)
        }
        placed_edges = {(moved[a], relation, moved[b]) for a, relation, b in flat(placed)}
    else:  # the published comment stripper has changed more than comments, or the cut text parses differently
        placed_edges = set()
    row.in_place_both += len(their_edges & placed_edges)
    row.in_place_either += len(their_edges | placed_edges)


def measure(published: types.ModuleType, language: str, folder: str, limit: int) -> Row:
    row = Row(language)
    for source, start, end in functions_of(language, folder, limit):
        compare(published, row, source, start, end)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", help="a checkout of microsoft/CodeBERT")
    parser.add_argument("--source", action="append", required=True, metavar="LANGUAGE=DIR")
    parser.add_argument("--limit", type=int, default=400, help="functions of each language")
    parser.add_argument("--json", help="also write the figures here")
    parser.add_argument("--examples", action="store_true", help="print functions that differ")
    options = parser.parse_args()
    published = load_published(options.checkout)
    rows: list[Row] = []
    print(
        f"{'language':<12}{'functions':>10}{'skipped':>9}{'edges':>9}{'agreement':>11}{'equal':>8}"
        f"{'in place':>10}{'default':>9}"
    )
    for argument in options.source:
        language, _, folder = argument.partition("=")
        row = measure(published, language, folder, options.limit)
        rows.append(row)
        print(
            f"{language:<12}{row.functions:>10}{row.skipped:>9}{row.edges:>9}"
            f"{row.agreement:>11.4f}{row.equal / max(1, row.functions):>8.3f}"
            f"{row.in_place_both / max(1, row.in_place_either):>10.4f}"
            f"{row.default_both / max(1, row.default_either):>9.4f}"
        )
        if options.examples:
            print("\n".join(row.examples))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
