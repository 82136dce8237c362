"""What the models are asked by the protocol's methods, and by which of them.

A question by meaning goes to the model whose vectors answer, and keeps the number of the edition that it may be
compared with (`Asked`); where another edition has taken over before it was answered, it is asked again. Texts that are
compared with nothing in the index go to the wanted model. On the event loop only.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from codegraphd.daemon.answers import Asked
from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.daemon.embedding.worker import Embedder
from codegraphd.daemon.model import Side
from codegraphd.daemon.snippets import Snippet
from codegraphd.ipc.errors import TIMEOUT, UNAVAILABLE, RequestError
from codegraphd.store.errors import EditionChanged

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

T = TypeVar("T")
Vector = npt.NDArray[np.float32]

QUERY_MODEL_S = 10.0  # the longest that a loaded model may take for one question before words answer alone
_CACHED_QUERIES = 512
_SWITCHES = 50  # how often a question is asked again that meets a switch: over after milliseconds


class Questions:
    """See the module."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._vectors: OrderedDict[tuple[bytes, str], Vector] = OrderedDict()

    def shed(self) -> None:
        """Memory is short: forget what can be computed again. From any thread."""
        self._vectors = OrderedDict()

    async def of_one_edition(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A question that was under way while another edition took over is asked again, from its vector on."""
        for _ in range(_SWITCHES):
            try:
                return await ask()
            except EditionChanged:
                await asyncio.sleep(0.02)
        return await ask()

    async def of_query(self, text: str, wait_ms: int, *, must: bool) -> Asked:
        """The query as the model sees it whose vectors answer."""
        model = self._daemon.model
        side = model.answering
        info, note = side.embedder.model, model.note(side)
        if info is None or (side.maker is not None and not side.is_there):
            why = note or model.trouble() or "no model"
            if must:
                raise RequestError(UNAVAILABLE, f"no model: {why}")
            return Asked(None, side.edition, why)
        key = (info.fingerprint, text)
        if (known := self._vectors.get(key)) is not None:
            self._vectors.move_to_end(key)
            return Asked(known, side.edition, note)
        state = side.embedder.state.state
        wait_s = self._timeout() if must else QUERY_MODEL_S if state == "ready" else wait_ms / 1000
        try:
            vector = (await self.ask(side.embedder, [Snippet(None, text)], "query", wait_s))[0]
        except RequestError as error:
            if model.answering != side:  # its process was ended, since another one took over
                raise EditionChanged(error.message) from None
            if must:
                raise RequestError(UNAVAILABLE, f"no answer by meaning: {error.message}") from None
            why = "model loading" if error.code == TIMEOUT and state != "failed" else error.message
            return Asked(None, side.edition, why)
        _check(side, info)
        self._vectors[key] = vector
        if len(self._vectors) > _CACHED_QUERIES:
            self._vectors.popitem(last=False)
        return Asked(vector, side.edition, note)

    async def of_snippet(self, snippet: Snippet) -> Asked:
        """A document's vector; none, with the reason, where there is no model: then only equal code is found."""
        model = self._daemon.model
        side = model.answering
        info, note = side.embedder.model, model.note(side)
        if info is None or (side.maker is not None and not side.is_there):
            return Asked(None, side.edition, note or model.trouble() or "no model")
        try:
            vector = (await self.ask(side.embedder, [snippet], "document", self._timeout()))[0]
        except RequestError as error:
            if model.answering != side:
                raise EditionChanged(error.message) from None
            return Asked(None, side.edition, error.message)
        _check(side, info)
        return Asked(vector, side.edition, note)

    async def ask(
        self, embedder: Embedder, snippets: Sequence[Snippet], role: str, wait_s: float
    ) -> npt.NDArray[np.float32]:
        self.info(embedder)
        texts, flows = [snippet.text for snippet in snippets], [snippet.flow for snippet in snippets]
        future: Future[Any] = embedder.query(texts, role, wait_s, flows)
        try:
            vectors: npt.NDArray[np.float32] = await asyncio.wait_for(asyncio.wrap_future(future), wait_s)
        except TimeoutError:
            raise RequestError(TIMEOUT, "the model did not answer in time") from None
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            raise RequestError(UNAVAILABLE, f"the model cannot answer: {error}") from None
        return vectors

    def info(self, embedder: Embedder) -> ModelInfo:
        info = embedder.model
        if info is None:
            raise RequestError(UNAVAILABLE, f"no model: {self._daemon.model.trouble() or 'none is installed'}")
        return info

    def _timeout(self) -> float:
        return float(self._daemon.config.limits.request_timeout_s)


def _check(side: Side, asked: ModelInfo) -> None:
    """A fallback may have taken over in the embedder between the question and its vector, which is then of no use."""
    info = side.embedder.model
    if info is None or info.fingerprint != asked.fingerprint:
        raise EditionChanged(f"the vector is not by {asked.name}")
