"""Who wants to be told of what: subscriptions, one set for each connection, and telling them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codegraphd.ipc.server import ClientContext
from codegraphd.store.records import RootRecord


class Subscribers:
    """All that subscribed. Used on the event loop, but for `want`."""

    def __init__(self) -> None:
        self._clients: dict[int, ClientContext] = {}
        self._topics: dict[int, frozenset[tuple[str, int | None]]] = {}  # client -> (event, root id; None: all)

    def add(self, client: ClientContext, events: Sequence[str], root: int | None) -> list[str]:
        """-> the events that the client is told of from now on."""
        if client.id not in self._clients:
            self._clients[client.id] = client
            client.on_close(lambda: self._forget(client.id))
        self._topics[client.id] = self._topics.get(client.id, frozenset()) | {(event, root) for event in events}
        return self._events(client)

    def remove(self, client: ClientContext, events: Sequence[str], root: int | None) -> list[str]:
        """`root` None: of every root. -> the events that are left."""
        topics = self._topics.get(client.id, frozenset())
        if topics:
            kept = {(event, of) for event, of in topics if event not in events or root not in (None, of)}
            self._topics[client.id] = frozenset(kept)
        return self._events(client)

    def want(self, event: str) -> bool:
        """Whether anybody subscribed to it. From any thread."""
        return any(wanted == event for topics in list(self._topics.values()) for wanted, _ in topics)

    def notify(self, event: str, root: RootRecord | None, message: dict[str, Any]) -> None:
        """Tell those who asked for this event of this root; None: of one that is not watched any more."""
        told = {"root": root.path if root else "", **message}
        for id_, topics in list(self._topics.items()):
            if (event, None) in topics or (root is not None and (event, root.id) in topics):
                self._clients[id_].notify(f"codegraphd.{event}", told)

    def _events(self, client: ClientContext) -> list[str]:
        return sorted({event for event, _ in self._topics.get(client.id, ())})

    def _forget(self, client: int) -> None:
        self._clients.pop(client, None)
        self._topics.pop(client, None)
