"""What the server and the daemon know of each other: the handler of requests, a client as it sees it, the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from codegraphd.ipc.messages import Params


class Limits(Protocol):
    """What the server reads of the configuration's `[limits]`."""

    @property
    def clients(self) -> int: ...
    @property
    def frame_mb(self) -> float: ...
    @property
    def reply_mb(self) -> float: ...
    @property
    def request_timeout_s(self) -> float: ...


class ClientContext(Protocol):
    """The connection that a request came by, as a handler sees it. Use it on the server's loop only."""

    @property
    def id(self) -> int:
        """Never used again while the daemon runs."""
        ...

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Queue a notification. A client that leaves them unread is disconnected; a gone one swallows them."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the connection ends (at once when it has)."""
        ...


class Handler(Protocol):
    async def handle(self, method: str, params: Params, client: ClientContext) -> Any:
        """The result, of plain types. Raise RequestError to refuse; cancellation means that nobody waits any more."""
        ...
