"""Long answers in pages: a `cursor` goes in, a part of the answer's list comes out, and `next` says where to go on.

A cursor is opaque to clients. It holds a place in the answer and no snapshot: a page is as fresh as any answer, so what
is saved between two pages may move a line over their border. Where that would lose something (`changes`), the cursor
holds the clock up to which the answer reaches, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from codegraphd.ipc.errors import BAD_PARAMETERS, RequestError

_MAX_INT = 2**63 - 1


class Paged(Protocol):
    """Parameters that carry a page. `limit` None: all that is left."""

    @property
    def limit(self) -> int | None: ...
    @property
    def cursor(self) -> str | None: ...


P = TypeVar("P", bound=Paged)


def page(params: P, key: str, ask: Callable[[P], dict[str, Any]]) -> dict[str, Any]:
    """The answer of `ask`, its list `key` cut to the page, with `next`: None on the last page. `ask` is given
    parameters whose limit reaches one item over the page, which says whether there is more."""
    (begin,) = _numbers(params.cursor, 1) if params.cursor is not None else (0,)
    end = None if params.limit is None else begin + params.limit
    limit = None if end is None else min(end + 1, _MAX_INT)
    answer = ask(msgspec.structs.replace(params, limit=limit, cursor=None))  # type: ignore[type-var]
    return {**answer, **cut(answer[key], key, begin, end)}


def cut(items: list[Any], key: str, begin: int, end: int | None, *more: int) -> dict[str, Any]:
    """Items `begin` to `end` under `key`, and `next`, which holds `more` beside the place to go on from."""
    is_last = end is None or len(items) <= end
    return {key: items[begin:end], "next": None if is_last else ":".join(map(str, (end, *more)))}


def clocked(params: Paged, newest: int) -> tuple[int, int | None, int]:
    """-> (begin, end, clock) of a page that reaches up to the clock of its first page, `newest` for that one."""
    begin, clock = _numbers(params.cursor, 2) if params.cursor is not None else (0, newest)
    return begin, None if params.limit is None else begin + params.limit, clock


def _numbers(cursor: str, n: int) -> list[int]:
    parts = cursor.split(":")
    if len(parts) != n or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        raise RequestError(BAD_PARAMETERS, "`cursor` is none of this method's: give back what `next` held")
    return [int(part) for part in parts]
