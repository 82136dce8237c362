"""The lab: the real engine over a real store with real parsing, in one process and with a model that counts.

Its "model" gives every cache key a vector of its own, so what was embedded, and from which recipe, can be told apart.
Tests of the engine and the replay of real history (`bench.replay`) are made of it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.engine import Edition, Outcome, ParsedFile, Settings, Work, advance, attach, fill
from codegraphd.daemon.graph.index import Stage, embed_stage, recipe_inputs
from codegraphd.daemon.packing import packed
from codegraphd.daemon.verify import compare, vector_differences
from codegraphd.store.env import Store
from codegraphd.store.records import RootRecord, Stat
from codegraphd.store.writer import Writer

MODEL = b"counting"
OTHER = b"another1"
ROOT = 1
_DIMENSIONS = {MODEL: 32}  # any other model has 48


def vector_of(model: bytes, key: bytes) -> Any:
    """float32[dim] of unit length that belongs to this model and key alone."""
    seed = int.from_bytes(hashlib.sha256(model + key).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(_DIMENSIONS.get(model, 48)).astype(np.float32)
    return vector / np.linalg.norm(vector)


class Lab:
    """A project in memory, its index in a store, and what the model was asked for."""

    def __init__(self, directory: Path, settings: Settings, *, volatile: bool = True, name: str = "live") -> None:
        """`name`: of the store in the directory; one that is there already is gone on with."""
        self.directory, self.settings, self.volatile, self.name = directory, settings, volatile, name
        self.sources: dict[str, bytes] = {}
        self.n_stores = 0
        self.store, self.writer = self._open(name)
        self.editions = [Edition(1, MODEL, settings.faces)]  # the one that answers, and the one to come
        self.asked: list[tuple[bytes, bytes]] = []  # (model, cache key) that was computed, in order
        self.missed: Counter[str] = Counter()  # units that the model had to work for, by "text" or "context" alone
        self.embedded: set[str] = set()  # "path:qualname" of units with such a key, since the last `clear`
        self.levels: dict[str, str] = {}  # of those units: why
        self.step_s: list[float] = []  # of the last `index`

    def _open(self, name: str) -> tuple[Store, Writer]:
        store = Store.open(str(self.directory / name), volatile=self.volatile)
        writer = Writer(store)
        writer.submit(lambda txn: txn.put_root(RootRecord(ROOT, "/lab"))).result()
        return store, writer

    def close(self) -> None:
        self.writer.close()
        self.store.close()

    def reopen(self) -> None:
        """A restart: everything but the store is forgotten."""
        self.close()
        self.store = Store.open(str(self.directory / self.name), volatile=self.volatile)
        self.writer = Writer(self.store)

    def edit(self, edits: Mapping[str, bytes | None], *, patience: int = 1_000_000) -> list[Outcome]:
        """Change files (None: delete), index, and let the model work. `patience`: questions of `expired` that a step
        may ask before its time is over; few of them cut the work into many steps."""
        self.sources.update({path: source for path, source in edits.items() if source is not None})
        for path in [path for path, source in edits.items() if source is None]:
            self.sources.pop(path, None)
        outcomes = self.index(edits, patience=patience)
        self.embed()
        return outcomes

    def index(
        self, edits: Mapping[str, bytes | None], *, patience: int = 1_000_000, slice_s: float = math.inf
    ) -> list[Outcome]:
        """`slice_s`: seconds that a step may take, as the daemon's do. How long each took is left in `step_s`."""
        gone = [path for path, source in edits.items() if source is None]
        leaving: dict[bytes, list[str]] = {}
        with self.store.snapshot() as view:
            for path in gone:
                if (file := view.file(ROOT, path)) is not None:
                    leaving.setdefault(file.digest, []).append(path)
        parsed = [
            ParsedFile(path, stat_of(source), packed(parse(path, source)))
            for path, source in edits.items()
            if source is not None
        ]
        work = [Work(ROOT, parsed, gone, (), leaving)]
        self.step_s = []
        outcomes = [self._step(work, patience, slice_s)]
        while outcomes[-1].more:
            outcomes.append(self._step([], patience, slice_s))
        return outcomes

    def _step(self, work: list[Work], patience: int, slice_s: float) -> Outcome:
        begin = time.perf_counter()

        def job(txn: Any) -> Outcome:
            left = iter(range(patience))

            def expired() -> bool:
                return next(left, None) is None or time.perf_counter() >= begin + slice_s

            return advance(txn, work, self.settings, self.editions, expired)

        outcome = self.writer.submit(job).result()
        self.step_s.append(time.perf_counter() - begin)
        return outcome

    def embed(self) -> None:
        """The models: everything that is queued."""
        for edition in self.editions:
            self.embed_for(edition)

    def embed_for(self, edition: Edition, most: int | None = None) -> None:
        """One model: what is queued for its edition, at most so many units."""
        model, vectors = edition.model, {}
        if model is None:
            return
        with self.store.snapshot() as view:
            units = [unit for unit, _ in view.queued(embed_stage(view, edition.number), most)]
            for unit_id in units:
                state, unit = view.state(unit_id, edition.number), view.unit(unit_id)
                assert state is not None
                assert state.recipe is not None
                assert unit is not None
                needed = [key for key in recipe_inputs(state.recipe) if not view.has_vector(model, key)]
                if needed:
                    name = f"{unit.path}:{unit.unit.qualname}"
                    self.embedded.add(name)
                    self.levels[name] = state.reason.level if state.reason else ""
                    self.missed["text" if state.recipe.own in needed else "context"] += 1
                vectors.update({key: vector_of(model, key) for key in needed})
        self.asked += [(model, key) for key in vectors]
        if units:
            self.writer.submit(lambda txn: attach(txn, self.settings, edition, vectors, units)).result()

    # --- another model ------------------------------------------------------------------------------------------------

    def begin(self, model: bytes, *, faces: bool) -> None:
        """An edition to come, in the place of another one that was to come."""
        if len(self.editions) > 1:
            self.give_up()
        number = self.writer.submit(lambda txn: txn.begin_edition()).result()
        self.editions.append(Edition(number, model, faces))

    def fill(self, after: int = 0, patience: int = 1_000_000) -> int | None:
        """-> behind which unit to go on."""
        left = iter(range(patience))
        edition = self.editions[1]
        _, last = self.writer.submit(
            lambda txn: fill(txn, self.settings, edition, after, lambda: next(left, None) is None)
        ).result()
        return last

    def switch(self) -> None:
        self.writer.submit(lambda txn: txn.switch_edition()).result()
        del self.editions[0]
        self._clear()

    def give_up(self) -> None:
        self.writer.submit(lambda txn: txn.give_up_edition()).result()
        del self.editions[1]
        self._clear()

    def _clear(self) -> None:
        while not self.writer.submit(
            lambda txn: txn.clear_slot(Stage.EMBED if txn.editions.slot else Stage.EMBED_1, limit=3)
        ).result():
            pass

    def clear(self) -> None:
        self.embedded.clear()
        self.levels.clear()

    def differences(self) -> list[str]:
        """Of the index to one built from scratch, and of the attached vectors to those of the recipes."""
        self.n_stores += 1
        fresh = Lab.__new__(Lab)
        fresh.directory, fresh.settings, fresh.volatile = self.directory, self.settings, True
        fresh.editions = [Edition(1, None, self.editions[0].faces)]
        fresh.store, fresh.writer = fresh._open(f"fresh{self.n_stores}")
        try:
            fresh.index(self.sources)
            with self.store.snapshot() as live, fresh.store.snapshot() as view:
                found = compare(live, view, ROOT)
                for edition in self.editions:
                    found += vector_differences(live, ROOT, edition, self.settings) if edition.model else []
                return found + getattr(live, "check", list)()
        finally:
            fresh.close()


def stat_of(source: bytes) -> Stat:
    number = int.from_bytes(hashlib.sha256(source).digest()[:6], "little")
    return Stat(len(source), number, number, 1)
