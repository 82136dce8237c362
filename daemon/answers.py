"""Answers to questions about the index: from typed parameters to the maps of the protocol.

Each function takes one snapshot, asks the pure `search` and `graph` modules, and adds `clock` and `pending`. They run
on query threads and share nothing but the daemon's parts, which are safe to read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.embedding.text import context_text
from codegraphd.daemon.graph.diff import content_of, net_changes
from codegraphd.daemon.graph.recipe import quoted, recipe_of
from codegraphd.daemon.paging import clocked, cut
from codegraphd.daemon.parser_process import UnreadableError, read_file
from codegraphd.daemon.search import clones, query
from codegraphd.daemon.search import symbols as names
from codegraphd.daemon.search.stale import VectorsBeside, WordsBeside, beside
from codegraphd.daemon.search.units import Describer, locate, whole
from codegraphd.daemon.snippets import Snippet
from codegraphd.ipc import messages
from codegraphd.ipc.errors import NOT_FOUND, RequestError
from codegraphd.store.ann import EditionIndex
from codegraphd.store.errors import EditionChanged
from codegraphd.store.records import FileRecord, Input, RootRecord, Strength, UnitRecord
from codegraphd.store.snapshot import Snapshot

if TYPE_CHECKING:
    import networkx

    from codegraphd.daemon.loop import Daemon

Vector = npt.NDArray[np.float32]
_READ_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A question as a model sees it. `vector` None: by words, or by equal code, alone."""

    vector: Vector | None
    edition: int  # whose vectors it can be compared with
    degraded: str | None  # what the answer has to do without


def search(daemon: Daemon, params: messages.Search, roots: Sequence[RootRecord], asked: Asked) -> dict[str, Any]:
    """Raises EditionChanged where another edition answers by now."""
    vector = asked.vector
    question = query.Question(
        text=params.query,
        limit=params.limit,
        mode=params.mode,
        roots=frozenset(root.id for root in roots),
        languages=frozenset(params.languages) if params.languages else None,
        kinds=frozenset(params.kinds) if params.kinds else None,
        paths=tuple(params.paths or ()),
        snippet_lines=params.snippet_lines,
    )
    notes = [asked.degraded] if asked.degraded else []
    if params.mode != "semantic" and not daemon.words.is_ready:
        notes.append("word index being rebuilt")
    if vector is not None and not daemon.vectors.is_ready:
        notes.append("vector index being rebuilt")
    with daemon.store.snapshot() as view:
        words: query.WordSearch = daemon.words
        vectors: query.VectorSearch = _vectors(daemon, view, asked)
        if lost := daemon.indexer.lost.standing(view):
            words, vectors = WordsBeside(daemon.words, lost), VectorsBeside(vectors, lost)
        results = query.search(beside(view, lost), words, vectors, question, vector, lambda file: _source(view, file))
        return {
            "results": results,
            **_standing(daemon, view, roots),
            "mode": params.mode if vector is not None or params.mode == "lexical" else "lexical",
            "degraded": "; ".join(notes) or None,
        }


def similar_to_unit(
    daemon: Daemon, params: messages.Similar, root: RootRecord, path: str, roots: Sequence[RootRecord]
) -> dict[str, Any]:
    assert params.line is not None
    with daemon.store.snapshot() as view:
        unit = _unit_at(view, root, path, params.line)
        sample = clones.sample_of_unit(view, unit)
        asked = _range(params, roots if params.root else tuple(daemon.workspaces.roots.values()))
        matches = clones.similar(view, daemon.vectors.at(view.edition), sample, asked, _model_name(daemon))
        missing = "" if sample.vector is not None else "the unit has no vector yet: only equal code is found"
        notes = [note for note in (daemon.model.note(daemon.model.answering), missing) if note]
        degraded = "; ".join(notes) or None
        return {
            "unit": Describer(view).unit(unit),
            "matches": matches,
            **_standing(daemon, view, roots),
            "degraded": degraded,
        }


def similar_to_code(
    daemon: Daemon,
    params: messages.Similar,
    roots: Sequence[RootRecord],
    snippet: Snippet,
    asked: Asked,
) -> dict[str, Any]:
    sample = _sample_of_snippet(snippet, params.language or "text", asked.vector)
    with daemon.store.snapshot() as view:
        vectors = _vectors(daemon, view, asked)
        matches = clones.similar(view, vectors, sample, _range(params, roots), _model_name(daemon))
        return {"matches": matches, **_standing(daemon, view, roots), "degraded": asked.degraded}


def clone_families(
    daemon: Daemon, params: messages.Clones, roots: Sequence[RootRecord], expired: Callable[[], bool]
) -> dict[str, Any]:
    (root,) = roots
    with daemon.store.snapshot() as view:
        found = clones.families(
            view,
            root.id,
            _model_name(daemon),
            threshold=params.threshold,
            min_lines=params.min_lines,
            languages=frozenset(params.languages) if params.languages else None,
            limit=params.limit,
            expired=expired,
        )
        degraded = daemon.model.note(daemon.model.answering)
        return {**found, **_standing(daemon, view, roots), "degraded": degraded}


def around(
    daemon: Daemon,
    params: messages.Dependents | messages.Dependencies,
    roots: Sequence[RootRecord],
    path: str | None,
    direction: str,
) -> dict[str, Any]:
    """`dependents` (direction "in") and `dependencies` ("out") of a unit, nearest first."""
    from codegraphd.daemon.graph import graph  # networkx: 0.1 s and 20 MB that no other question needs

    with daemon.store.snapshot() as view:
        if path is not None:
            assert params.line is not None
            start = [_unit_at(view, roots[0], path, params.line)]
        else:
            start = names.find_symbol(view, roots, params.symbol or "")
            if not start:
                raise RequestError(NOT_FOUND, f"no unit is named '{params.symbol}': codegraphd symbols lists names")
        found, truncated = graph.neighbourhood(
            view, [unit.id for unit in start], direction, params.depth, params.limit, weak=True
        )
        describer = Describer(view)
        units = []
        for node, depth in found.nodes(data="depth"):
            unit = view.unit(node) if depth else None
            if unit is not None:
                units.append({**describer.unit(unit), "depth": depth, "edge": _edge_of(found, node, depth, direction)})
        return {
            "of": [describer.unit(unit) for unit in start],
            "units": units,
            "truncated": truncated,
            **_standing(daemon, view, roots),
        }


def symbols(daemon: Daemon, params: messages.Symbols, roots: Sequence[RootRecord], path: str | None) -> dict[str, Any]:
    with daemon.store.snapshot() as view:
        if path not in (None, "", ".") and view.file(roots[0].id, path) is None:
            below = next(view.files(roots[0].id, path.rstrip("/") + "/"), None)
            if below is None:
                raise RequestError(NOT_FOUND, f"{path} is not indexed in {roots[0].path}")
        index = beside(view, daemon.indexer.lost.standing(view))
        units = names.symbols(index, roots, pattern=params.pattern, path=path, limit=params.limit)
        return {"units": units, **_standing(daemon, view, roots)}


def explain(daemon: Daemon, root: RootRecord, path: str, line: int) -> dict[str, Any]:
    """What the model reads for a unit, and why and when it was last embedded."""
    settings = daemon.indexer.settings
    with daemon.store.snapshot() as view:
        unit = _unit_at(view, root, path, line)
        state = view.state(unit.id)
        file = view.file_by_id(unit.file)
        source = _source(view, file) if file is not None else None
        quotes = quoted(view, unit, settings.max_cascade_depth, view.unit) if settings.faces else None
        recipe = recipe_of(unit, quotes)
        record = Describer(view).unit(unit)
        standing = _standing(daemon, view, (root,))
        quoted_names = [f"{q.path}:{q.unit.qualname}" for q in quotes or ()]
    inputs: list[dict[str, Any]] = []
    read: list[Input] = []
    if file is not None and source is not None and unit.id in file.units:
        place = file.units.index(unit.id)
        if (rendered := daemon.rendered(root, file, place)) is not None:
            read.append(Input(recipe.own, rendered.texts[place], rendered.flows.get(place)))
            inputs.append({"input": "own", "hash": recipe.own.hex(), "text": read[-1].text, **_code_of(read[-1])})
    if quotes is not None:
        read.append(Input(recipe.context, context_text(unit, quotes)))
        inputs.append({"input": "context", "hash": recipe.context.hex(), "text": read[-1].text, "quotes": quoted_names})
    counted = daemon.model.count_tokens(read)
    for item, (tokens, variables, is_cut) in zip(inputs, counted or (), strict=False):
        item["tokens"], item["variables"], item["truncated"] = tokens, variables, is_cut
    reason = state.reason if state is not None else None
    return {
        "unit": record,
        "inputs": inputs,
        "input_hash": hashlib.sha256(recipe.own + recipe.context).hexdigest()[:32],
        "tokens": sum(item.get("tokens", 0) for item in inputs) if counted else None,
        "truncated": any(item.get("truncated", False) for item in inputs) if counted else None,
        "embedded": state is not None and state.attached == recipe,
        "reason": None
        if reason is None
        else {
            "level": reason.level,
            "cause": reason.cause,
            "depth": reason.depth,
            "clock": daemon.store.clock_text(reason.clock),
        },
        **(daemon.studied(root, file, unit) or {"features": None, "control_flow": None, "data_flow": None}),
        **standing,
        "degraded": None if source is not None else "the file has changed since it was indexed",
    }


def changes(daemon: Daemon, root: RootRecord, params: messages.Changes) -> dict[str, Any]:
    """The units that differ from an earlier clock, as unit records; of one that is gone, what was noted of it.
    `reset` where that clock cannot be reached: what is known of the workspace is then to be asked for anew."""
    number = daemon.store.parse_clock(params.since)
    with daemon.store.snapshot() as view:
        begin, end, newest = clocked(params, view.clock)
        found = view.changes(root.id, number) if number is not None and number <= view.clock else None
        clock = daemon.store.clock_text(newest)
        if found is None:
            return {"clock": daemon.store.clock_text(view.clock), "units": [], "reset": True, "next": None}

        def content_now(id: int) -> bytes | None:
            return content_of(unit) if (unit := view.unit(id)) is not None else None

        lines = [
            {
                "id": str(change.unit),
                "root": root.path,
                "path": change.path,
                "kind": change.kind,
                "qualname": change.qualname,
                "change": change.change,
                "from": change.origin or None,
            }
            for change in net_changes(found, newest, content_now)
        ]
        answer = {"clock": clock, "reset": False, **cut(lines, "units", begin, end, newest)}
        describer = Describer(view)
        for line in answer["units"]:
            unit = view.unit(int(line["id"])) if line["change"] != "deleted" else None
            if unit is not None:
                line.update(describer.unit(unit))
        return answer


def similarity(snippets: Sequence[Snippet], languages: Sequence[str], vectors: Any, model: str) -> dict[str, Any]:
    """What two pieces of code are to each other, by the rules of `similar`. `vectors`: float32[2, dim] of `model`."""
    first, second = map(_sample_of_snippet, snippets, languages, vectors)
    found = clones.compare(first, second, model)
    if languages[0] == languages[1] and snippets[0].text == snippets[1].text:  # of code that holds no unit, too
        found = dataclasses.replace(found, similarity=1.0, type="exact")
    cosine = None if found.cosine is None else round(found.cosine, 4)
    return {"similarity": round(found.similarity, 4), "cosine": cosine, "type": found.type}


# --- parts of answers ------------------------------------------------------------------------------------------------


def _code_of(item: Input) -> dict[str, Any]:
    """What a model that reads data flow reads in place of the text: the comment, the code's tokens, its variables."""
    if item.flow is None:
        return {}
    flow = item.flow
    edges = [
        {"variable": flow.tokens[token], "token": token, "from": list(sources)} for token, sources in flow.variables
    ]
    return {"read": {"comment": flow.comment, "code": list(flow.tokens), "variables": edges}}


def _edge_of(found: networkx.DiGraph, node: int, depth: int, direction: str) -> dict[str, Any]:
    """The strongest edge by which a walk came to a node: from one that is a step nearer to the start; where there is
    none, it came with its declaration or its definition."""
    edges = found.out_edges(node, data=True) if direction == "in" else found.in_edges(node, data=True)
    nearer = [
        (data["strength"], data["kind"])
        for source, target, data in edges
        if found.nodes[target if direction == "in" else source]["depth"] < depth
    ]
    strength, kind = max(nearer, default=(int(Strength.CRITICAL), "declare"))
    return {"kind": kind, "strength": Strength(strength).name.lower()}


def _standing(daemon: Daemon, view: Snapshot, roots: Sequence[RootRecord]) -> dict[str, Any]:
    return {
        "clock": daemon.store.clock_text(view.clock),
        "pending": sum(daemon.model.pending(view, root.id) for root in roots),
    }


def _vectors(daemon: Daemon, view: Snapshot, asked: Asked) -> EditionIndex:
    """What the question's vector may be compared with."""
    if asked.vector is not None and view.edition != asked.edition:
        raise EditionChanged(f"edition {view.edition} answers, not {asked.edition}")
    return daemon.vectors.at(view.edition)


def _sample_of_snippet(snippet: Snippet, language: str, vector: Vector | None) -> clones.Sample:
    return clones.sample_of_code(snippet.module, vector) if snippet.module else clones.Sample(language, vector)


def _range(params: messages.Similar, roots: Sequence[RootRecord]) -> clones.Range:
    return clones.Range(
        params.threshold,
        params.limit,
        frozenset(root.id for root in roots),
        frozenset(params.languages) if params.languages else None,
    )


def _model_name(daemon: Daemon) -> str:
    """Of the model whose vectors answer."""
    maker = daemon.model.answering.maker
    return maker.name if maker is not None else ""


def _unit_at(view: Snapshot, root: RootRecord, path: str, line: int) -> UnitRecord:
    file = view.file(root.id, path)
    if file is None:
        raise RequestError(NOT_FOUND, f"{path or root.path} is not indexed in {root.path}")
    if file.skipped:
        raise RequestError(NOT_FOUND, f"{path} is not indexed: {file.skipped}")
    unit = locate(view, root.id, path, line)
    if unit is None:
        raise RequestError(NOT_FOUND, f"no unit at {path}:{line}: codegraphd symbols {path} lists what there is")
    return whole(view, unit)


def _source(view: Snapshot, file: FileRecord) -> bytes | None:
    """The bytes of a file if they are still those that were indexed."""
    root = view.root(file.root)
    if root is None:
        return None
    try:
        found = read_file(os.fsencode(root.path), os.fsencode(file.path), _READ_BYTES)
    except UnreadableError:
        return None
    if found is None or hashlib.sha256(found[1]).digest() != file.digest:
        return None
    return found[1]
