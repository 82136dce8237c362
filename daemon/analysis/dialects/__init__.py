"""What a query cannot say about a language: one module each, with a `DIALECT` record. Loaded when first needed."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from codegraphd.daemon.analysis.syntax import Dialect

_MODULES = {"tsx": "javascript", "typescript": "javascript", "c": "cpp"}


@cache
def dialect(grammar: str) -> Dialect:
    """The dialect for a tree-sitter grammar's name. Raises LookupError for a grammar that we have no queries for."""
    module = import_module(f"{__name__}.{_MODULES.get(grammar, grammar)}")
    found: Dialect = module.DIALECTS[grammar]
    return found
