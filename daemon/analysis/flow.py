"""How control and values flow through one unit: the control-flow graph and the data-flow edges that `explain` shows.

The public face of `flow_control` (blocks, successors) and `flow_data` (where each value comes from); both are driven by
`flow_tables` and work on `flow_tree`'s forest. Pure and on demand: nothing here runs when files are indexed.
"""

from __future__ import annotations

from codegraphd.daemon.analysis.flow_blocks import Block, ControlFlow
from codegraphd.daemon.analysis.flow_control import control_flow_of
from codegraphd.daemon.analysis.flow_data import data_flow_of
from codegraphd.daemon.analysis.flow_tables import SYNTAX
from codegraphd.daemon.analysis.flow_tokens import DataEdge, DataFlow, Token
from codegraphd.daemon.analysis.flow_tree import forest

__all__ = ["LANGUAGES", "Block", "ControlFlow", "DataEdge", "DataFlow", "Token", "control_flow", "data_flow"]

LANGUAGES = frozenset(SYNTAX)  # those of store.records that are code, and "tsx"


def control_flow(language: str, source: bytes, start_byte: int, end_byte: int) -> ControlFlow:
    """The control-flow graph of the unit that spans [start_byte, end_byte) of a source.

    A unit that is one function (decorators, exports and the like around it do not matter) gives the graph of its body;
    any other one gives that of its statements in order, in which functions and classes are opaque. Raises ValueError
    for a language that is not in LANGUAGES, and nothing else: broken source gives what can be had of it.
    """
    return control_flow_of(forest(language, source, start_byte, end_byte))


def data_flow(language: str, source: bytes, start_byte: int, end_byte: int, *, published: bool = False) -> DataFlow:
    """The data-flow edges of the unit that spans [start_byte, end_byte) of a source.

    With `published`, exactly what GraphCodeBERT's published extractors find, for its own model's input (for Python,
    Java, Go, JavaScript and C#; the other languages have one set of rules). Raises ValueError for a language that is
    not in LANGUAGES, and nothing else.
    """
    syntax = SYNTAX.get(language)
    rules = (syntax.published or syntax.data) if syntax is not None and published else None
    tree = forest(language, source, start_byte, end_byte)
    return data_flow_of(tree, rules or tree.syntax.data)
