"""Resolution: what a file's references denote, as far as imports, scopes and written types tell.

`definitions` says what a file gives to others: pairs (key, value). `resolve` says what a file refers to, and every key
that it tried. The engine stores both; a key that gains or loses a value resolves exactly the files again that tried it.
How a dependence on another file's contents is expressed in keys is told in `keys`; how names are looked up in
`resolve_names`; what each language adds in `resolve_<family>`.

The order for a reference: inner scopes and their imports; the enclosing class for `self` and its like, then its bases;
the written type of what stands before the name; what that scope denotes by imports and by names. What these settle is
an edge, STRONG, or CRITICAL for inheritance, decorators, declarations and containment. What they leave open is a
mention, matched by name when somebody asks. What an import leads out of the root with is
neither. A constant stands for the object or the type that its definition shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codegraphd.daemon.analysis.languages import FAMILY
from codegraphd.daemon.graph.keys import (
    FUNCTION_KINDS,
    NAMELESS_KINDS,
    PLACE,
    Pair,
    class_fact,
    fact,
    imports_by_name,
    key,
    names_fact,
    open_units,
)
from codegraphd.daemon.graph.outline import in_order
from codegraphd.daemon.graph.projects import definitions_of_project, is_project
from codegraphd.daemon.graph.resolve_c import CRules
from codegraphd.daemon.graph.resolve_dotted import CSharpRules, JavaRules
from codegraphd.daemon.graph.resolve_go import GoRules
from codegraphd.daemon.graph.resolve_js import JsRules
from codegraphd.daemon.graph.resolve_names import Names
from codegraphd.daemon.graph.resolve_python import PythonRules
from codegraphd.daemon.graph.resolve_rules import EXTERNAL, NOTHING, Memo, Rules, Target, View
from codegraphd.daemon.graph.resolve_rust import RustRules
from codegraphd.daemon.graph.signatures import type_parameters
from codegraphd.store.records import Binding, Edge, Facts, FileRecord, Reference, Strength, UnitRecord

__all__ = ["Memo", "Resolution", "View", "definitions", "resolve"]

RULES: dict[str, Rules] = {
    "python": PythonRules(),
    "js": JsRules(),
    "java": JavaRules(),
    "csharp": CSharpRules(),
    "go": GoRules(),
    "rust": RustRules(),
    "c": CRules(),
}
_SHARED = Memo()  # import lists by their digests: equal digests are equal lists, whatever index they come from
_CRITICAL = frozenset({"inherit", "implement", "decorate", "declare", "contain"})
_TYPES = frozenset({"inherit", "implement", "type", "instantiate"})
# Where the header of a unit is looked up: outside of the unit.
_HEADER = frozenset({"inherit", "implement", "decorate"})


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a file's references come to. Units that have none are absent."""

    edges: dict[int, tuple[Edge, ...]]  # unit id -> STRONG and CRITICAL edges, in order of first use
    mentions: dict[int, tuple[tuple[str, str, str], ...]]  # unit id -> sorted (family, name, kind) left to be matched
    keys: frozenset[bytes]  # every key tried, misses included


def definitions(
    path: str, file_id: int, facts: Facts, units: Sequence[UnitRecord], language: str
) -> list[tuple[bytes, int]]:
    """What the file defines: (key, value) pairs, each once. See `keys` for keys and values."""
    pairs: set[Pair] = {(key(f"p\0{path}"), file_id)}
    if is_project(path):
        pairs.add((key(f"j\0{path}"), names_fact(file_id, facts.bindings)))
        for text in definitions_of_project(path, facts.bindings):
            pairs.add((key(text), file_id))
            pairs.add((key(text), fact(PLACE, file_id, path)))
        return sorted(pairs)
    rules = RULES.get(FAMILY.get(language, ""))
    if rules is None:
        return sorted(pairs)
    pairs.update(rules.definitions(path, file_id, facts, units))
    opened = open_units(units)
    inner: set[int] = set()  # units that no other file can name: those inside of functions
    for i, record in enumerate(units):
        unit = record.unit
        if unit.parent in inner or (unit.parent >= 0 and units[unit.parent].unit.kind in FUNCTION_KINDS):
            inner.add(i)
        elif unit.kind not in NAMELESS_KINDS and not (rules.class_scope and unit.kind == "constructor"):
            name = key(f"n\0{path}\0{unit.qualname}")
            pairs.add((name, record.id))
            if record.id in opened:
                pairs.add((name, class_fact(record, facts.package)))
    for local, bindings in imports_by_name(facts.bindings).items():
        pairs.add((key(f"n\0{path}\0{local}"), names_fact(file_id, bindings)))
    return sorted(pairs)


def resolve(view: View, root: int, file: FileRecord, memo: Memo | None = None) -> Resolution:
    """Resolve every reference of a file. `memo`: import lists read before, by default those of this process."""
    family = FAMILY.get(file.language, "")
    rules = RULES.get(family) or Rules()
    names = Names(view, root, file, rules, _SHARED if memo is None else memo)
    found = _Found(family, names)
    for record in names.units:
        if record.parent:
            found.add(record.id, record.parent, "contain", 0)
    at_top = next((record.id for record in names.units if record.unit.kind == "file"), 0)
    for order, item in enumerate(in_order(names.facts.references, names.facts.bindings), 1):
        source = names.units[item.source].id if item.source >= 0 else at_top
        if not source:
            continue
        if isinstance(item, Binding):
            target = names.follow(names.path, item)
            for unit_id in target.units:
                found.add(source, unit_id, "import", order)
        else:
            found.reference(source, item, order)
    for source, unit_id, kind in rules.extra_edges(names):
        found.add(source, unit_id, kind, 0)
    return found.resolution()


class _Found:
    """Edges and mentions as they are found, each once."""

    def __init__(self, family: str, names: Names) -> None:
        self._family, self._names = family, names
        self._edges: dict[int, dict[tuple[int, str], int]] = {}  # unit -> (target, kind) -> order of first use
        self._mentions: dict[int, set[tuple[str, str, str]]] = {}
        self._parameters: dict[int, frozenset[str]] = {}  # index of unit -> its type parameters
        self._known: dict[tuple[int, str, str, str, str], Target] = {}

    def add(self, source: int, target: int, kind: str, order: int) -> None:
        if source != target:
            self._edges.setdefault(source, {}).setdefault((target, kind), order)

    def reference(self, source: int, ref: Reference, order: int) -> None:
        names = self._names
        at = ref.source
        if ref.kind in _HEADER and at >= 0:
            at = names.units[at].unit.parent
        what = (at, ref.name, ref.scope, ref.receiver, ref.kind)
        target = self._known.get(what)
        if target is None:
            target = self._denoted(at, ref)
            self._known[what] = target
        if target.units:
            kind = ref.kind
            target = names.rules.narrow(names, ref, target)
            if names.rules.call_makes and kind in {"call", "instantiate"}:
                kind = "instantiate" if target.has_members and names.is_type(target) else "call"
            for unit_id in target.units:
                self.add(source, unit_id, kind, order)
        elif not (target.external or target.modules):
            self._mentions.setdefault(source, set()).add((self._family, ref.name, ref.kind))

    def _denoted(self, at: int, ref: Reference) -> Target:
        names = self._names
        if ref.scope and self._is_parameter(ref.source, ref.scope.partition(".")[0]):
            return EXTERNAL  # `T.Item`
        receiver = "" if ref.receiver.startswith("<") else ref.receiver  # then it tells of the name itself
        if receiver or (ref.scope and not (ref.kind == "type" and ref.scope == "?")):
            return names.scoped(at, ref.scope, ref.name, receiver)
        if ref.kind == "type" and self._is_parameter(ref.source, ref.name):
            return EXTERNAL  # `T` of `class Box<T>` denotes nothing, whatever bears that name elsewhere
        target = names.bare(at, ref.name, of_type=ref.kind in _TYPES)
        if ref.kind == "decorate" and target == NOTHING and names.rules.decorator_suffix:
            return names.bare(at, ref.name + names.rules.decorator_suffix)
        return target

    def _is_parameter(self, source: int, name: str) -> bool:
        """Whether a name is a type parameter of a unit around a place."""
        while source != -1:
            unit = self._names.units[source].unit
            if source not in self._parameters:
                self._parameters[source] = type_parameters(unit.signature, unit.name)
            if name in self._parameters[source]:
                return True
            source = unit.parent
        return False

    def resolution(self) -> Resolution:
        edges = {}
        for source, targets in self._edges.items():
            # Ids are opaque, so they may order only what is equal in everything else.
            ordered = sorted((order, kind, target) for (target, kind), order in targets.items())
            edges[source] = tuple(
                [
                    Edge(target, kind, Strength.CRITICAL if kind in _CRITICAL else Strength.STRONG, order)
                    for order, kind, target in ordered
                ]
            )
        mentions = {source: tuple(sorted(found)) for source, found in self._mentions.items()}
        return Resolution(edges, mentions, frozenset(self._names.keys))
