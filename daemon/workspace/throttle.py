"""How often one and the same path may be handed over: a file written every 100 ms must not cost a commit each time.

Owns: a token bucket for each path that changed lately. A person who saves never meets it: BURST changes in a row are
let through, afterwards one in PERIOD seconds; the last content always comes through in the end.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

BURST: Final = 10
PERIOD: Final = 0.5
_ENTRIES: Final = 4096


class Throttle:
    """Buckets by key. Times are seconds of a monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # key -> (tokens left, as of when)

    def wait_until(self, key: Hashable, now: float) -> float | None:
        """None: let it through (and count it). Else the time at which it will be let through."""
        tokens, since = self._buckets.get(key, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - since) / PERIOD)
        if tokens < 1:
            return now + (1 - tokens) * PERIOD
        if len(self._buckets) >= _ENTRIES:
            self._forget_full(now)
        self._buckets[key] = tokens - 1, now
        return None

    def __len__(self) -> int:
        return len(self._buckets)

    def _forget_full(self, now: float) -> None:
        """Buckets that have filled up again are as good as none. Should all be busy: a fresh start for all."""
        horizon = BURST * PERIOD
        self._buckets = {key: value for key, value in self._buckets.items() if now - value[1] < horizon}
        if len(self._buckets) >= _ENTRIES:
            self._buckets.clear()
