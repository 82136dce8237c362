"""The models in use: which one is wanted, which one answers, and which process holds each.

Mostly these are one. While the model changes (change.py), or as long as the wanted one is not to be had, they are two:
the former one answers from its own vectors, in a process of its own beside the new one's, and is unloaded and loaded
again as any. Every question is told which edition its vector is for, so vectors of two models are never compared.

A change of the `[embedding]` section comes here too: what is configured takes over in the running daemon.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegraphd.daemon.change import Change, Maker
from codegraphd.daemon.config import Config
from codegraphd.daemon.embedding.feeder import Feeder, Shared
from codegraphd.daemon.embedding.feeders import Feeders, load
from codegraphd.daemon.embedding.models import HASHING, Settings
from codegraphd.daemon.embedding.worker import Embedded, Embedder, Failed, ModelState
from codegraphd.daemon.engine import Edition
from codegraphd.daemon.indexer import Call
from codegraphd.daemon.settings import engine_settings
from codegraphd.store.journal import Delta
from codegraphd.store.records import Input
from codegraphd.store.snapshot import Snapshot

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

log = logging.getLogger("codegraphd")

_MADE_OF = ("model", "device", "dtype", "batch_tokens", "max_tokens", "fallback_models", "idle_unload_s", "threads")


@dataclass(frozen=True, slots=True)
class Side:
    """An edition as it is served."""

    edition: int
    maker: Maker | None  # None: of a new store, before any model was there
    embedder: Embedder

    @property
    def is_there(self) -> bool:
        """Whether the embedder has the model that made the edition's vectors."""
        info = self.embedder.model
        return info is not None and self.maker is not None and info.fingerprint == self.maker.fingerprint


class ModelInUse:
    """See the module. All runs on the indexer's thread but what is under "questions", which may come from any."""

    def __init__(self, daemon: Daemon, cache_dir: str) -> None:
        self._daemon, self._cache_dir = daemon, cache_dir
        self._is_started = False
        self._n_embedded = 0  # by embedders that were ended
        self._shared = Shared()
        self._make_feeder: Callable[[Edition, Embedder], Feeder]
        self._config = daemon.config
        self.embedder = self._open(daemon.config)  # of the wanted model
        self._others: dict[tuple[str, int], Embedder] = {}  # of former ones, by what they are found by
        self.change = Change(daemon, self._arrange)
        self._answering = self.change.answering
        self._sides: dict[int, Side] = {}
        self._arrange_sides()
        self._tokens: tuple[bytes, Any] | None = None  # the tokenizer of the model with this fingerprint

    def make_feeders(self, render: Callable[..., None], submit: Callable[..., None]) -> Feeders:
        settings, snapshot = engine_settings(self._daemon.config), self._daemon.store.snapshot

        def make(edition: Edition, embedder: Embedder) -> Feeder:
            return Feeder(snapshot, embedder, render, submit, settings, edition, self._shared)

        self._make_feeder = make
        feeders = Feeders(self._new_feeder(self.change.answering))
        if self.change.coming:
            feeders.coming = self._new_feeder(self.change.coming)
        return feeders

    def begin(self) -> None:
        self._is_started = True
        for embedder in self._embedders():
            embedder.start()
        self._use()

    def close(self) -> None:
        for embedder in self._embedders():
            embedder.close()

    def tick(self, now: float) -> None:
        for embedder in self._embedders():
            embedder.tick(now)
        if self._is_started:
            self.change.advance()

    def reconfigure(self, config: Config) -> None:
        """Another `[embedding]` section: its model takes over, at once or when all is embedded."""
        former, source = self.embedder, self._source()
        self._config = config
        alike = (other for other in self._embedders() if other.model and _key(other.settings) == _key(config.embedding))
        self.embedder = next(alike, None) or self._open(config)
        self._others = {key: other for key, other in self._others.items() if other is not self.embedder}
        if former is not self.embedder:
            if source in self._others:
                self._close(self._others[source])
            self._others[source] = former
        if self.embedder.model is None:
            self.change.want(None)
        self._use()

    def _open(self, config: Config) -> Embedder:
        embedder = Embedder(config.embedding, self._cache_dir, self._on_event)
        if self._is_started:
            embedder.start()
        return embedder

    def _close(self, embedder: Embedder) -> None:
        self._n_embedded += embedder.n_embedded
        embedder.close()

    def _embedders(self) -> tuple[Embedder, ...]:
        return (self.embedder, *self._others.values())

    def _source(self) -> tuple[str, int]:
        """What the wanted model is found by."""
        return self.embedder.chosen or self._config.embedding.model, self._config.embedding.max_tokens

    def _on_event(self, event: Embedded | Failed | ModelState) -> None:
        """From an embedder's thread: everything goes on on the indexer's."""
        self._daemon.indexer.post(Call(functools.partial(self._handle, event)))

    def _handle(self, event: Embedded | Failed | ModelState) -> None:
        if isinstance(event, ModelState):
            self._use()
            return
        for feeder in self._daemon.indexer.feeders.all():  # batches have numbers of their own: one knows it, or none
            match event:
                case Embedded():
                    keys = feeder.keys_of(event.batch_id)
                    if keys:
                        feeder.embedded(event.batch_id, event.model, event.vectors, keys)
                case Failed():
                    feeder.failed(event.batch_id, event.error, event.bad, time.monotonic())

    def _use(self) -> None:
        """Look again which model is wanted, and who serves what."""
        info = self.embedder.model
        if info is not None:
            faces = engine_settings(self._config).faces
            self.change.want(Maker(*self._source(), info.name, info.fingerprint, faces))
        self._arrange()

    # --- who serves what ----------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Give each edition its embedder and its feeder, and end the embedders that none needs."""
        self._arrange_sides()
        feeders, change = self._daemon.indexer.feeders, self.change
        if feeders.coming is not None and feeders.coming.edition.number == change.answering:
            feeders.switch()
        if feeders.answering.edition.number != change.answering:
            feeders.answering = self._loaded_feeder(change.answering)
        if not change.coming:
            feeders.coming = None
        elif feeders.coming is None or feeders.coming.edition.number != change.coming:
            feeders.coming = self._loaded_feeder(change.coming)
        settings = self._daemon.indexer.settings
        self._daemon.indexer.settings = dataclasses.replace(settings, faces=feeders.answering.edition.faces)
        for feeder in feeders.all():
            side = self._sides[feeder.edition.number]
            feeder.use(self._edition(side, feeder.model), side.embedder)

    def _arrange_sides(self) -> None:
        change = self.change
        numbers = [change.answering, *([change.coming] if change.coming else [])]
        makers = [change.makers.get(number) for number in numbers]
        self._sides = {n: Side(n, maker, self._embedder_of(maker)) for n, maker in zip(numbers, makers, strict=True)}
        self._answering = max(self._answering, change.answering)
        needed = [side.embedder for side in self._sides.values()]
        for source, embedder in list(self._others.items()):
            if embedder not in needed:
                del self._others[source]
                self._close(embedder)

    def _embedder_of(self, maker: Maker | None) -> Embedder:
        """The one that has the model, else the one that would have it if it were to be had."""
        if maker is None:
            return self.embedder
        for embedder in self._embedders():
            if embedder.model is not None and embedder.model.fingerprint == maker.fingerprint:
                return embedder
        if maker.source == self._source():
            return self.embedder
        if maker.source not in self._others:
            model, max_tokens = maker.source
            section = dataclasses.replace(
                self._config.embedding, model=model, max_tokens=max_tokens, fallback_models=()
            )
            self._others[maker.source] = self._open(dataclasses.replace(self._config, embedding=section))
        return self._others[maker.source]

    def _new_feeder(self, number: int) -> Feeder:
        side = self._sides[number]
        return self._make_feeder(self._edition(side, None), side.embedder)

    def _loaded_feeder(self, number: int) -> Feeder:
        feeder = self._new_feeder(number)
        with self._daemon.store.snapshot() as view:
            load(feeder, view)
        return feeder

    def _edition(self, side: Side, known: bytes | None) -> Edition:
        """`known`: the model that the edition's feeder has. The wanted one may fail for a while and is waited for."""
        maker = side.maker
        if maker is None:
            return Edition(side.edition, None, engine_settings(self._config).faces)
        waits = side.embedder is self.embedder and self.embedder.model is None
        return Edition(side.edition, maker.fingerprint if side.is_there else known if waits else None, maker.faces)

    @property
    def reads_flow(self) -> bool:
        """Whether some model in use reads the data flow of code beside its tokens."""
        return any(embedder.reads_flow for embedder in self._embedders())

    # --- questions ----------------------------------------------------------------------------------------------------

    def committed(self, _: int, delta: Delta) -> None:
        """On the writer's thread: from this commit on another edition may answer."""
        if delta.editions is not None:
            self._answering = delta.editions.answering

    @property
    def answering(self) -> Side:
        """Whom questions by meaning go to."""
        sides = self._sides
        return sides.get(self._answering) or next(iter(sides.values()))

    @property
    def former(self) -> Side | None:
        """The side that answers, where another model or other inputs are wanted."""
        side, wanted = self.answering, self.change.wanted
        if side.maker is None or (wanted is None and side.embedder is self.embedder):
            return None
        return side if wanted is None or wanted.identity != side.maker.identity else None

    @property
    def for_texts(self) -> Embedder:
        """For texts that are compared with nothing in the index: the wanted model, or the one that is to be had."""
        return self.embedder if self.embedder.model is not None else self.answering.embedder

    def fingerprints(self) -> frozenset[bytes]:
        """Of the models whose cached vectors some edition uses."""
        makers = [*self.change.makers.values(), self.change.wanted]
        return frozenset(maker.fingerprint for maker in makers if maker is not None)

    def pending(self, view: Snapshot, root: int) -> int:
        """Units of a root that wait for the model; while it changes, all that have no vector of the new one yet."""
        queued = self._daemon.indexer.feeders.pending(root)
        if not self.change.is_under_way:
            return queued
        _, units, _, done = view.counts(root, self.change.target)
        return max(queued, units - done)

    def note(self, side: Side) -> str | None:
        """What a question that is answered by this side has to know; None: it is the wanted model."""
        former, wanted = self.former, self.change.wanted
        if former is None or former.edition != side.edition or side.maker is None:
            return None
        error = self.embedder.state.error
        name, whom = side.maker.name, wanted.name if wanted is not None else self._config.embedding.model
        until = f"until all is embedded by {whom}" + (f" ({error})" if error else "")
        if not side.is_there:
            why = side.embedder.state.error or "its files have changed"
            return f"the former model {name} is not to be had ({why}): by words {until}"
        if wanted is not None and wanted.fingerprint == side.maker.fingerprint:
            return "answers by the former inputs of the model until all is embedded anew"
        return f"answers by the former model {name} {until}"

    def trouble(self) -> str | None:
        """Why there is no meaning to wait for at present; None: there is a model, loaded or to be loaded on need."""
        if not self.change.is_under_way and self.answering.is_there and self.answering.embedder is not self.embedder:
            return None  # the wanted one is not to be had, and the former one goes on
        figures = self.embedder.statistics()
        if self.embedder.model is None or figures["state"] == "failed":
            return str(figures.get("error") or "no model is configured")
        return None

    def statistics(self) -> dict[str, Any]:
        """The `model` part of the status document: the wanted model, and the former one while it answers."""
        former = self.former
        figures = {**self.embedder.statistics(), "former": None}
        figures["embedded"] = self._n_embedded + sum(embedder.n_embedded for embedder in self._embedders())
        if former is None or former.maker is None:
            return figures
        theirs = former.embedder.statistics()
        with self._daemon.store.snapshot() as view:
            counts = [view.counts(root.id, self.change.target) for root in view.roots()]
        figures["former"] = {
            "name": former.maker.name,
            "fingerprint": former.maker.fingerprint.hex(),
            "context": "faces" if former.maker.faces else "none",
            "answers": former.is_there,
            "state": theirs["state"],
            "rss_bytes": theirs["rss_bytes"] if former.embedder is not self.embedder else 0,
            "error": self.note(former) if not former.is_there else None,
            "progress": {"done": sum(c[3] for c in counts), "total": sum(c[1] for c in counts)},
        }
        return figures

    def count_tokens(self, inputs: Sequence[Input]) -> list[tuple[int, int, bool]] | None:
        """(tokens that the model reads of an input, how many of them are variables, whether it is cut) for each; None
        without a model."""
        info = self.answering.embedder.model
        if info is None or info.name == HASHING:
            return None
        from codegraphd.daemon.embedding.backends import open_tokens  # some 20 MB, which only `explain` needs here

        if self._tokens is None or self._tokens[0] != info.fingerprint:
            self._tokens = (info.fingerprint, open_tokens(info))
        found = self._tokens[1].encode([item.text for item in inputs], [item.flow for item in inputs])
        return [(len(ids), len(getattr(ids, "variables", ())), is_cut) for ids, is_cut in found]

    def shed(self) -> None:
        """Memory is short: forget what can be computed again."""
        self._tokens = None


def _key(section: Settings) -> tuple[Any, ...]:
    """What an embedder is made of: with the same, the same one serves."""
    return tuple(getattr(section, name) for name in _MADE_OF)
