"""One function for each protocol method: the only place where records meet the wire.

Everything here runs on the event loop and must not hold it: what reads the store or computes goes to the query threads
(`_run`), what waits for the indexer or the model is awaited. A question is answered at all times; what it had to do
without is said in `degraded`, how many units still wait for the model in `pending`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from codegraphd.daemon import answers
from codegraphd.daemon.clone_news import news_of
from codegraphd.daemon.paging import P, page
from codegraphd.daemon.questions import Questions
from codegraphd.daemon.snippets import Snippet
from codegraphd.daemon.status import status_document
from codegraphd.daemon.subscribers import Subscribers
from codegraphd.ipc import messages
from codegraphd.ipc.errors import BAD_PARAMETERS, TIMEOUT, UNAVAILABLE, UNKNOWN_METHOD, RequestError
from codegraphd.ipc.messages import Params
from codegraphd.ipc.server import ClientContext
from codegraphd.store.records import LANGUAGES, RootRecord

if TYPE_CHECKING:
    from codegraphd.daemon.loop import Daemon

log = logging.getLogger(__name__)

T = TypeVar("T")
Vector = npt.NDArray[np.float32]

QUERY_THREADS = 4
_KNOWN_LANGUAGES = frozenset(LANGUAGES)


class Handlers:
    """The daemon's methods. One instance; used on the event loop only."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._pool = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="query")
        self._questions = Questions(daemon)
        self.subscribers = Subscribers()
        self._tasks: set[asyncio.Task[list[tuple[RootRecord, dict[str, Any]]]]] = (
            set()
        )  # a task that nobody holds may vanish
        self._methods: dict[str, Callable[[Any, ClientContext], Any]] = {
            "hello": self._hello,
            "status": self._status,
            "watch": self._watch,
            "unwatch": self._unwatch,
            "search": self._search,
            "similar": self._similar,
            "clones": self._clones,
            "dependents": self._dependents,
            "dependencies": self._dependencies,
            "symbols": self._symbols,
            "explain": self._explain,
            "embed": self._embed,
            "embed_batch": self._embed_batch,
            "similarity": self._similarity,
            "changed": self._changed,
            "sync": self._sync,
            "changes": self._changes,
            "verify": self._verify,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "reindex": self._reindex,
            "gc": self._gc,
            "reload": self._reload,
        }

    async def handle(self, method: str, params: Params, client: ClientContext) -> Any:
        """See ipc.server.Handler."""
        function = self._methods.get(method)
        if function is None:
            raise RequestError(UNKNOWN_METHOD, f"unknown method '{method}'")
        return await function(params, client)

    def shed(self) -> None:
        """Memory is short: forget what can be computed again. From any thread."""
        self._questions.shed()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- about the daemon ---------------------------------------------------------------------------------------------

    async def _hello(self, _: messages.Hello, __: ClientContext) -> Any:
        return messages.hello(sorted(self._methods))

    async def _status(self, _: messages.Status, __: ClientContext) -> Any:
        return await self._run(lambda: status_document(self._daemon))

    async def _watch(self, params: messages.Watch, _: ClientContext) -> Any:
        root = await asyncio.wrap_future(await self._run(lambda: self._daemon.workspaces.watch(params.root)))
        return {"root": root.path, "state": self._state(root)}

    async def _unwatch(self, params: messages.Unwatch, _: ClientContext) -> Any:
        root = await self._run(lambda: self._daemon.unwatch(params.root))
        return {"root": root.path, "state": "unwatched"}

    def _state(self, root: RootRecord) -> str:
        state = self._daemon.indexer.roots.get(root.id)
        if state is None or not state.crawled:
            return "crawling"
        pending = self._daemon.indexer.feeders.pending(root.id) or self._daemon.model.change.is_under_way
        return "missing" if state.missing else "indexing" if state.is_busy or pending else "ready"

    async def _reload(self, _: messages.Reload, __: ClientContext) -> Any:
        problem = await self._run(self._daemon.reload)
        if problem:
            raise RequestError(BAD_PARAMETERS, f"{problem}; the old configuration stays in force")
        await asyncio.wrap_future(self._daemon.indexer.call(lambda: None))  # where another model is taken up
        return {"config": self._daemon.paths.config}

    async def _gc(self, _: messages.Gc, __: ClientContext) -> Any:
        return {"evicted": await self._run(self._daemon.collect_garbage)}

    async def _reindex(self, params: messages.Reindex, _: ClientContext) -> Any:
        roots = self._daemon.workspaces.chosen(params.root)
        for root in roots:
            await self._run(functools.partial(self._daemon.reindex, root))
        return {"roots": [root.path for root in roots]}

    # --- questions ----------------------------------------------------------------------------------------------------

    async def _search(self, params: messages.Search, _: ClientContext) -> Any:
        roots = self._roots(params.root)
        self._check_languages(params.languages)
        if params.sync:
            await self._synced(roots, semantic=False, timeout_s=self._daemon.config.limits.request_timeout_s)

        async def ask() -> Any:
            asked = answers.Asked(None, 0, None)
            if params.mode != "lexical":
                asked = await self._questions.of_query(params.query, params.wait_ms, must=params.mode == "semantic")
            return await self._paged(params, "results", lambda p: answers.search(self._daemon, p, roots, asked))

        return await self._questions.of_one_edition(ask)

    async def _similar(self, params: messages.Similar, _: ClientContext) -> Any:
        self._check_languages(params.languages)
        roots = self._roots(params.root)
        if params.code is None:
            assert params.path is not None
            assert params.line is not None
            root, path = self._daemon.workspaces.resolve(params.path, params.root)
            of_unit = functools.partial(answers.similar_to_unit, self._daemon, root=root, path=path, roots=roots)
            return await self._questions.of_one_edition(lambda: self._paged(params, "matches", of_unit))
        self._check_languages([params.language or ""])
        snippet = await self._run(lambda: self._daemon.snippet(params.code or "", params.language or "text"))

        async def ask() -> Any:
            asked = await self._questions.of_snippet(snippet)
            return await self._paged(
                params, "matches", lambda p: answers.similar_to_code(self._daemon, p, roots, snippet, asked)
            )

        return await self._questions.of_one_edition(ask)

    async def _clones(self, params: messages.Clones, _: ClientContext) -> Any:
        self._check_languages(params.languages)
        roots = self._roots(params.root)
        until = time.monotonic() + self._timeout()
        is_given_up = threading.Event()

        def expired() -> bool:
            return is_given_up.is_set() or time.monotonic() > until

        try:
            return await self._paged(
                params, "families", lambda p: answers.clone_families(self._daemon, p, roots, expired)
            )
        finally:
            is_given_up.set()  # cancelled: the thread is free for the next question

    async def _dependents(self, params: messages.Dependents, _: ClientContext) -> Any:
        return await self._around(params, "in")

    async def _dependencies(self, params: messages.Dependencies, _: ClientContext) -> Any:
        return await self._around(params, "out")

    async def _around(self, params: messages.Dependents | messages.Dependencies, direction: str) -> Any:
        if params.path is not None:
            root, path = self._daemon.workspaces.resolve(params.path, params.root)
            return await self._neighbours(params, (root,), path, direction)
        return await self._neighbours(params, self._roots(params.root), None, direction)

    async def _neighbours(
        self,
        params: messages.Dependents | messages.Dependencies,
        roots: tuple[RootRecord, ...],
        path: str | None,
        direction: str,
    ) -> Any:
        found = await self._paged(params, "units", lambda p: answers.around(self._daemon, p, roots, path, direction))
        return {**found, "truncated": found["truncated"] or found["next"] is not None}

    async def _symbols(self, params: messages.Symbols, _: ClientContext) -> Any:
        if params.path is not None:
            root, path = self._daemon.workspaces.resolve(params.path, params.root)
            return await self._paged(params, "units", lambda p: answers.symbols(self._daemon, p, (root,), path))
        roots = self._roots(params.root)
        return await self._paged(params, "units", lambda p: answers.symbols(self._daemon, p, roots, None))

    async def _explain(self, params: messages.Explain, _: ClientContext) -> Any:
        root, path = self._daemon.workspaces.resolve(params.path, params.root)
        return await self._run(lambda: answers.explain(self._daemon, root, path, params.line))

    async def _changes(self, params: messages.Changes, _: ClientContext) -> Any:
        (root,) = self._roots(params.root)
        return await self._run(lambda: answers.changes(self._daemon, root, params))

    async def _verify(self, params: messages.Verify, _: ClientContext) -> Any:
        (root,) = self._roots(params.root)
        await self._synced((root,), semantic=False, timeout_s=None)
        from codegraphd.daemon.verify import verify

        return await self._run(lambda: verify(self._daemon, root))

    # --- the model ----------------------------------------------------------------------------------------------------

    async def _embed(self, params: messages.Embed, _: ClientContext) -> Any:
        vectors = await self._embedded([params])
        return {"vector": _encoded(vectors[0], params.encoding), "dim": int(vectors.shape[1])}

    async def _embed_batch(self, params: messages.EmbedBatch, _: ClientContext) -> Any:
        if not params.inputs:
            return {"vectors": [], "dim": self._questions.info(self._daemon.model.for_texts).dim}
        vectors = await self._embedded(params.inputs)
        return {"vectors": [_encoded(v, params.encoding) for v in vectors], "dim": int(vectors.shape[1])}

    async def _similarity(self, params: messages.Similarity, _: ClientContext) -> Any:
        languages = [params.language, params.language2 or params.language]
        self._check_languages(languages)
        pairs = list(zip((params.code1, params.code2), languages, strict=True))
        snippets = await self._run(lambda: [self._daemon.snippet(code, language) for code, language in pairs])
        model = self._daemon.model
        name = self._questions.info(model.for_texts).name
        vectors = await self._questions.ask(model.for_texts, snippets, "document", self._timeout())
        return await self._run(lambda: answers.similarity(snippets, languages, vectors, name))

    async def _embedded(self, inputs: Sequence[messages.EmbedInput]) -> npt.NDArray[np.float32]:
        """One row for each input, of unit length."""
        self._check_languages([item.language for item in inputs])
        snippets = await self._run(
            lambda: [
                Snippet(None, i.code) if i.role == "query" else self._daemon.snippet(i.code, i.language) for i in inputs
            ]
        )
        embedder = self._daemon.model.for_texts
        rows: dict[int, Vector] = {}
        for role in ("document", "query"):
            places = [n for n, item in enumerate(inputs) if item.role == role]
            if places:
                found = await self._questions.ask(embedder, [snippets[n] for n in places], role, self._timeout())
                rows.update(zip(places, found, strict=True))
        return np.stack([rows[n] for n in range(len(inputs))])

    # --- keeping up ---------------------------------------------------------------------------------------------------

    async def _sync(self, params: messages.Sync, _: ClientContext) -> Any:
        (root,) = self._roots(params.root)
        if params.semantic and (trouble := self._daemon.model.trouble()):
            raise RequestError(UNAVAILABLE, f"no model to wait for: {trouble}")
        clock = await self._synced((root,), semantic=params.semantic, timeout_s=params.timeout_s)
        return {"clock": self._daemon.store.clock_text(clock)}

    async def _synced(
        self, roots: Sequence[RootRecord], *, semantic: bool, timeout_s: float | None, path: str | None = None
    ) -> int:
        clock = 0
        for root in roots:
            future = self._daemon.synced(root.id, semantic=semantic, path=path)
            try:
                clock = await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
            except TimeoutError:
                raise RequestError(TIMEOUT, f"{root.path} was not up to date after {timeout_s:g} s") from None
            except LookupError as error:
                raise RequestError(UNAVAILABLE, str(error)) from None
        return clock

    async def _changed(self, params: messages.Changed, _: ClientContext) -> Any:
        daemon = self._daemon
        root, path = daemon.workspaces.resolve(params.path, None)
        if params.kind == "opened":
            await asyncio.wrap_future(daemon.indexer.call(lambda: daemon.indexer.raise_file(root.id, path)))
            return {"clock": daemon.store.clock_text(daemon.indexer.clock)}
        if params.origin is not None:
            former, from_path = daemon.workspaces.resolve(params.origin, None)
            daemon.workspaces.watcher.changed(former.id, from_path)
        clock = await self._synced((root,), semantic=False, timeout_s=self._timeout(), path=path)
        return {"clock": daemon.store.clock_text(clock)}

    async def _subscribe(self, params: messages.Subscribe, client: ClientContext) -> Any:
        root = self._roots(params.root)[0].id if params.root else None
        return {"events": self.subscribers.add(client, params.events, root)}

    async def _unsubscribe(self, params: messages.Unsubscribe, client: ClientContext) -> Any:
        root = self._roots(params.root)[0].id if params.root else None
        return {"events": self.subscribers.remove(client, params.events, root)}

    def tell_of_clones(self, units: list[int]) -> None:
        """Those of the units that have clones are told to who asked for it. On the loop's thread."""
        task = asyncio.create_task(self._news(units))
        self._tasks.add(task)
        task.add_done_callback(self._told)

    async def _news(self, units: list[int]) -> list[tuple[RootRecord, dict[str, Any]]]:
        return await self._questions.of_one_edition(lambda: self._run(lambda: news_of(self._daemon, units)))

    def _told(self, task: asyncio.Task[list[tuple[RootRecord, dict[str, Any]]]]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("clones could not be looked for: %s", task.exception())
            return
        for root, message in task.result():
            self.subscribers.notify("clone", root, message)

    # --- helpers ------------------------------------------------------------------------------------------------------

    async def _run(self, function: Callable[[], T]) -> T:
        """On a query thread; a store that fails is the daemon's trouble, told once, as `unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _paged(self, params: P, key: str, ask: Callable[[P], dict[str, Any]]) -> dict[str, Any]:
        return await self._run(lambda: page(params, key, ask))

    def _roots(self, root: str | None) -> tuple[RootRecord, ...]:
        return self._daemon.workspaces.chosen(root)

    def _timeout(self) -> float:
        return float(self._daemon.config.limits.request_timeout_s)

    @staticmethod
    def _check_languages(languages: Sequence[str] | None) -> None:
        for language in languages or ():
            if language not in _KNOWN_LANGUAGES:
                known = " ".join(LANGUAGES)
                raise RequestError(BAD_PARAMETERS, f"unknown language '{language}' (known: {known})")


def _encoded(vector: Vector, encoding: str) -> Any:
    return vector.astype("<f4").tobytes() if encoding == "f32le" else [float(x) for x in vector]
