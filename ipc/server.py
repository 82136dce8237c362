"""The asyncio Unix server over a `Handler`: the daemon's front door.

Everything here runs on one event loop. `connection.py` has what happens on one connection, and its bounds.

    server = Server(handler, config.limits)
    await server.start(open_listener(paths))
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from codegraphd.ipc.connection import Connection, Front
from codegraphd.ipc.handler import ClientContext, Handler, Limits
from codegraphd.ipc.listen import Listener

__all__ = ["ClientContext", "Handler", "Limits", "Server"]


class Server:
    """Accepts connections on a listener and carries requests to the handler, answers back."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self._front = Front(handler, limits)
        self._ids = itertools.count(1)
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: Listener) -> None:
        """Accept from now on. The listener is closed with the server."""
        self._listener = listener
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: Connection(self._front, next(self._ids)), sock=listener.sock
        )

    @property
    def address(self) -> str:
        """Where clients connect to; "" before `start`."""
        return self._listener.address if self._listener is not None else ""

    @property
    def limits(self) -> Limits:
        """May be replaced while it runs (a configuration read again): `frame_mb` holds for new connections then."""
        return self._front.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._front.limits = limits

    async def close(self, grace_s: float = 1.0) -> None:
        """Accept nothing more, let answers on their way leave for `grace_s` seconds, cancel the rest, close all."""
        if self._server is not None:
            self._server.close()
        tasks = [task for connection in self._front.connections for task in connection.tasks.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for connection in list(self._front.connections):
            connection.close()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for connection in list(self._front.connections):
            connection.abort()
        await asyncio.sleep(0)
        if self._listener is not None:
            self._listener.close()

    def statistics(self) -> dict[str, Any]:
        """The `ipc` part of the status document. Latencies in milliseconds, of the latest 4,096 requests."""
        ordered = sorted(self._front.latencies)

        def at(share: float) -> float | None:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3, 3) if ordered else None

        return {
            "clients": sum(not connection.is_refused for connection in self._front.connections),
            "requests": self._front.n_requests,
            "errors": self._front.n_errors,
            "p50_ms": at(0.50),
            "p95_ms": at(0.95),
            "p99_ms": at(0.99),
            "in_flight": sum(len(connection.tasks) for connection in self._front.connections),
            "refused": self._front.n_refused,
            "slow_readers": self._front.n_slow_readers,
        }
