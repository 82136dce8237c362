"""The model in use: which one it is, whether it answers, and what the index does when it changes.

Owns the embedder, the link from its answers to the feeder, and the identity under which vectors are attached: the
model's fingerprint and whether units have a context input. With another identity the attached vectors mean nothing any
more: they are dropped, search goes by words, and everything is embedded anew in the background.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from codegraphd.daemon.embedding.feeder import Feeder
from codegraphd.daemon.embedding.models import HASHING
from codegraphd.daemon.embedding.worker import Embedded, Embedder, Failed, ModelState
from codegraphd.daemon.engine import Outcome, detach
from codegraphd.daemon.indexer import Call
from codegraphd.daemon.settings import engine_settings
from codegraphd.store.records import Input
from codegraphd.store.transaction import Transaction

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

log = logging.getLogger("codegraphd")


class ModelInUse:
    """See the module. `begin` and all events run on the indexer's thread; questions may come from any."""

    def __init__(self, daemon: Daemon, cache_dir: str) -> None:
        self._daemon = daemon
        self.embedder = Embedder(daemon.config.embedding, cache_dir, self._on_event)
        self._tokens: tuple[bytes, Any] | None = None  # the tokenizer of the model with this fingerprint

    def make_feeder(self, render: Callable[..., None], submit: Callable[..., None]) -> Feeder:
        settings = engine_settings(self._daemon.config)
        return Feeder(self._daemon.store.snapshot, self.embedder, render, submit, settings)

    def begin(self) -> None:
        self.embedder.start()
        self._use()

    def _on_event(self, event: Embedded | Failed | ModelState) -> None:
        """From the embedder's thread: everything goes on on the indexer's."""
        self._daemon.indexer.post(Call(functools.partial(self._handle, event)))

    def _handle(self, event: Embedded | Failed | ModelState) -> None:
        feeder = self._daemon.indexer.feeder
        match event:
            case Embedded():
                feeder.embedded(event.batch_id, event.vectors, feeder.keys_of(event.batch_id))
            case Failed():
                feeder.failed(event.batch_id, event.error, event.bad, time.monotonic())
            case ModelState():
                self._use()

    def _use(self) -> None:
        info = self.embedder.model
        indexer = self._daemon.indexer
        if info is None or info.fingerprint == indexer.feeder.model:
            return
        identity = info.fingerprint + (b"faces" if indexer.settings.faces else b"none")
        with self._daemon.store.snapshot() as view:
            known = view.meta("model")
        indexer.feeder.model = info.fingerprint
        if known == identity:
            return

        def job(txn: Transaction) -> Outcome:
            txn.put_meta("model", identity)
            if known is not None:
                detach(txn, [unit_id for unit_id, _ in txn.attached_codes()])
            return Outcome(clock=txn.clock)

        self._daemon.writer.submit(job)
        if known is not None:
            log.info("the model is now %s: its vectors are computed in the background", info.name)
            indexer.reindex_model("model")

    @property
    def reads_flow(self) -> bool:
        """Whether the model reads the data flow of code beside its tokens."""
        return self.embedder.reads_flow

    # --- questions ----------------------------------------------------------------------------------------------------

    def trouble(self) -> str | None:
        """Why there is no meaning at present; None: there is a model, loaded or to be loaded when needed."""
        figures = self.embedder.statistics()
        if self.embedder.model is None or figures["state"] == "failed":
            return str(figures.get("error") or "no model is configured")
        return None

    def count_tokens(self, inputs: Sequence[Input]) -> list[tuple[int, int, bool]] | None:
        """(tokens that the model reads of an input, how many of them are variables, whether it is cut) for each; None
        without a model."""
        info = self.embedder.model
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
