"""Is the index what a fresh build would be? `verify` builds one in a store that is thrown away, and compares.

Compared are files, units, definitions, edges, unresolved references and recipes, each under names that do not depend
on ids; that every attached vector is the cached one of its recipe; and that the store agrees with itself
(`store.check`). An empty list of differences is the promise that the whole incremental machinery makes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codegraphd.daemon.engine import Edition, ParsedFile, Settings, Work, advance
from codegraphd.daemon.graph.index import Stage, embed_stage, recipe_inputs
from codegraphd.daemon.graph.keys import tag_of
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers
from codegraphd.daemon.settings import wanted_language
from codegraphd.daemon.workset import skipped_module
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.tree import list_files
from codegraphd.ipc.errors import UNAVAILABLE, RequestError
from codegraphd.store.env import Store
from codegraphd.store.records import FileRecord, RootRecord, Stat
from codegraphd.store.snapshot import Snapshot
from codegraphd.store.writer import Writer

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

SLICE_FILES = 64
STEP_S = 0.2
MAX_DIFFERENCES = 1000
COSINE = 0.999  # batches round differently


def verify(daemon: Daemon, root: RootRecord) -> dict[str, Any]:
    """The result of the method `verify`. Blocks while the root is parsed again; for a query thread."""
    edition = daemon.indexer.feeders.answering.edition
    settings = replace(daemon.indexer.settings, faces=edition.faces)
    try:
        files = crawl(root, daemon)
    except FileNotFoundError:
        raise RequestError(UNAVAILABLE, f"{root.path} is missing: there is nothing to compare with") from None
    directory = tempfile.mkdtemp(prefix="verify-", dir=daemon.paths.state)
    try:
        store = Store.open(directory, volatile=True)
        try:
            fresh_build(store, root, files, daemon.parsers, settings, daemon.indexer.max_file_bytes)
            with daemon.store.snapshot() as live, store.snapshot() as fresh:
                if live.edition != edition.number:  # perhaps of other inputs
                    return verify(daemon, root)
                differences = compare(live, fresh, root.id)
                for other in daemon.indexer.feeders.editions():
                    if other.model is not None:
                        differences += vector_differences(live, root.id, other, settings)
                differences += live.check()
                _, units, edges, _ = live.counts(root.id)
        finally:
            store.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return {"differences": differences[:MAX_DIFFERENCES], "units": units, "edges": edges}


def crawl(root: RootRecord, daemon: Daemon) -> list[tuple[str, Stat, str]]:
    """(path, stat, why skipped) of every file that the root's rules let in, read from the disk now."""
    index = daemon.config.index
    settings = ScanSettings(wanted_language(daemon.config), index.max_file_kb << 10, index.exclude)
    never = frozenset({os.path.realpath(daemon.paths.state), os.path.realpath(daemon.paths.log)})
    found = list_files(root.path, settings, daemon.workspaces.inner(root.path) | never)
    return [(change.path, change.stat, change.skipped) for change in found if change.stat is not None]


def fresh_build(
    store: Store,
    root: RootRecord,
    files: Iterable[tuple[str, Stat, str]],
    parsers: Parsers,
    settings: Settings,
    max_bytes: int,
) -> None:
    """Index (path, stat, why skipped) of a root into an empty store, by the same steps as ever, without vectors."""
    writer = Writer(store)
    editions = [Edition(1, None, settings.faces)]
    try:
        writer.submit(lambda txn: txn.put_root(root)).result()
        for batch in _slices(sorted(files)):
            parsed = list(_parsed(root, batch, parsers, max_bytes))
            work = Work(root.id, parsed)
            writer.submit(lambda txn, w=work: advance(txn, [w], settings, editions, _never, resolving=False)).result()  # type: ignore[misc]
        while writer.submit(lambda txn: advance(txn, [], settings, editions, _soon())).result().more:
            pass  # in many steps: what one step reads and writes lies in memory until its end
    finally:
        writer.close()


def _parsed(
    root: RootRecord, batch: list[tuple[str, Stat, str]], parsers: Parsers, max_bytes: int
) -> Iterator[ParsedFile]:
    answers: list[tuple[str, Stat, str, Future[Parsed] | None]] = []
    for path, stat, skipped in batch:
        answer: Future[Parsed] | None = None
        if not skipped:
            answer = Future()
            parsers.parse(ParseJob(root.path, path, None, max_bytes, anew=True), answer.set_result, urgent=False)
        answers.append((path, stat, skipped, answer))
    for path, stat, skipped, answer in answers:
        if answer is None:
            yield ParsedFile(path, stat, skipped_module(stat, skipped))
            continue
        parsed = answer.result()
        if not parsed.gone:
            stat = parsed.stat or stat  # noqa: PLW2901 - from when the bytes were read
            yield ParsedFile(path, stat, parsed.module or skipped_module(stat, parsed.skipped))


def compare(live: Snapshot, fresh: Snapshot, root: int) -> list[str]:
    """Every difference between two stores' views of a root, as lines; ids, clocks, reasons and stats aside."""
    differences = [f"work list {stage.name.lower()} is not empty" for stage in _INDEX_STAGES if live.n_queued(stage)]
    ours, theirs = (({file.path: file for file in view.files(root)}) for view in (live, fresh))
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in theirs:
            differences.append(f"{path}: indexed, but a fresh build has no such file")
        elif path not in ours:
            differences.append(f"{path}: not indexed, but a fresh build has it")
        else:
            a, b = _portrait(live, ours[path]), _portrait(fresh, theirs[path])
            if a != b:
                differences += _lines(path, a, b)
        if len(differences) >= MAX_DIFFERENCES:
            break
    return differences


_INDEX_STAGES = (Stage.RESOLVE, Stage.RECIPE)


def _portrait(view: Snapshot, file: FileRecord) -> dict[str, Any]:
    """All that is known of a file, with ids replaced by names."""
    portrait: dict[str, Any] = {
        "file": (file.language, file.digest.hex(), file.lines, file.skipped, file.errors),
        "facts": view.facts(file.id),
        "keys": view.keys_of(file.id),
        "defines": sorted((key, _place(view, id)) for key, id in view.defines(file.id)),
    }
    for unit in view.units_of(file):
        state = view.state(unit.id)
        name = f"unit {':'.join(map(str, unit.key[1:]))}"
        portrait[name] = {
            "unit": unit.unit,
            "language": unit.language,
            "parent": _place(view, unit.parent),
            "words": view.words(unit.id),
            "recipe": state.recipe if state else None,
            "edges": sorted((_place(view, e.target), e.kind, e.strength, e.order) for e in view.edges_out(unit.id)),
            "dependents": sorted((_place(view, s), kind, strength) for s, kind, strength in view.edges_in(unit.id)),
            "mentions": sorted(view.mentioned_by(unit.id)),
        }
    return portrait


def _place(view: Snapshot, id: int) -> str:
    """A unit or file id as what it stands for; a fact (`graph.keys`), which is made of ids, as its tag."""
    if tag := tag_of(id):
        return f"fact {tag}"
    if not id:
        return ""
    if (unit := view.unit(id)) is not None:
        return ":".join(map(str, unit.key))
    if (file := view.file_by_id(id)) is not None:
        return file.path
    return "nobody"


def _lines(path: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) == b.get(name):
            continue
        if name not in a or name not in b:
            yield f"{path}: {name}: only {'in the index' if name in a else 'in a fresh build'}"
        elif isinstance(a[name], dict):
            for part in a[name]:
                if a[name][part] != b[name][part]:
                    yield f"{path}: {name}: {part}: {a[name][part]!r} instead of {b[name][part]!r}"[:400]
        else:
            yield f"{path}: {name}: {a[name]!r} instead of {b[name]!r}"[:400]


def vector_differences(view: Snapshot, root: int, edition: Edition, settings: Settings) -> list[str]:
    """Units whose attached vector is not the one that the cache has for their recipe. In an edition that is to come
    some wait for their recipe still."""
    differences: list[str] = []
    if view.slot_of(edition.number) is None:
        return differences
    assert edition.model is not None
    queued = {unit for unit, _ in view.queued(embed_stage(view, edition.number))}
    for unit in view.units(root):
        state, attached = view.state(unit.id, edition.number), view.attached(unit.id, edition.number)
        name = f"{unit.path}: unit {unit.unit.qualname}"
        if state is None or state.recipe is None:
            if edition.number == view.edition:
                differences.append(f"{name}: no recipe")
        elif unit.id in queued:
            continue
        elif attached is None or state.attached != state.recipe:
            differences.append(f"{name}: no vector, and not queued for one")
        else:
            parts = [view.vector(edition.model, key) for key in recipe_inputs(state.recipe)]
            if any(part is None for part in parts):
                continue  # evicted: what it was attached from is not there to compare
            wanted: Any = parts[0] if len(parts) == 1 else _mix(parts[0], parts[1], settings.own_weight)
            if len(wanted) != len(attached) or float(wanted @ attached) < COSINE:
                differences.append(f"{name}: its vector is not that of its recipe")
    return differences


def _mix(own: Any, context: Any, weight: float) -> Any:
    mixed = weight * own + (1.0 - weight) * context
    return mixed / np.linalg.norm(mixed)


def _slices(items: list[tuple[str, Stat, str]]) -> Iterator[list[tuple[str, Stat, str]]]:
    for start in range(0, len(items), SLICE_FILES):
        yield items[start : start + SLICE_FILES]


def _never() -> bool:
    return False


def _soon() -> Callable[[], bool]:
    end = time.monotonic() + STEP_S
    return lambda: time.monotonic() >= end
