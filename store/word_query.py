"""What tantivy is told: the fields of the word index, its documents and its questions.

Words come ready split (`Words`), so fields are cut at blanks only and keep no positions. Questions are built from
terms, never parsed from text, so nothing in them needs escaping.
"""

from __future__ import annotations

from typing import Any

import tantivy

from codegraphd.store.overlay import BOOSTS, FIELDS, Entry, text_of
from codegraphd.store.records import UnitRecord, Where, Words


def schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", indexed=True, fast=True)
    builder.add_integer_field("root", indexed=True)
    builder.add_text_field("language", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("kind", tokenizer_name="raw", index_option="basic")
    for field in FIELDS:
        builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
    return builder.build()


def entry_of(unit: UnitRecord, words: Words) -> Entry:
    return make_entry(unit.root, unit.language, unit.unit.kind, words, unit.path)


def make_entry(root: int, language: str, kind: str, words: Words, path: str) -> Entry:
    return Entry(root, language, kind, text_for(words.name), text_for(words.doc), text_for(words.body), path)


def text_for(text: str) -> str:
    """As tantivy and the overlay take it: UTF-8, lone surrogates (bytes that are no text) replaced, one line."""
    if "\n" in text:
        text = text.replace("\n", " ")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def document_of(id: int, entry: Entry) -> tuple[Any, tuple[int, ...]]:
    """The document of a unit and how many words each field has."""
    text = text_of(entry)
    document = tantivy.Document(id=id, root=entry.root, language=entry.language, kind=entry.kind, text=text)
    return document, (text.count(" ") + 1 if text else 0,)


def query_for(fields: Any, words: list[str], where: Where) -> Any:
    """Any of the words in any field, weighed; `where.keep` is left to the caller. `fields` is the schema."""
    query, must, should = tantivy.Query, tantivy.Occur.Must, tantivy.Occur.Should
    wanted = [
        (should, query.boost_query(query.term_query(fields, field, word, "freq"), boost))
        for word in words
        for field, boost in zip(FIELDS, BOOSTS, strict=True)
    ]
    filters: list[tuple[str, frozenset[Any] | None]] = [
        ("root", where.roots), ("language", where.languages), ("kind", where.kinds)
    ]  # fmt: skip
    clauses = [(must, query.boolean_query(wanted))] if any(values is not None for _, values in filters) else wanted
    for field, values in filters:
        if values is not None:
            any_of = [(should, query.term_query(fields, field, value)) for value in sorted(values)]
            clauses.append((must, query.const_score_query(query.boolean_query(any_of), 0.0)))
    return query.boolean_query(clauses)
