"""Where a unit of a file stands: the innermost one around a position, and the class around a unit."""

from __future__ import annotations

from collections.abc import Sequence

from codegraphd.daemon.analysis.syntax import CALLABLES, CONTAINERS, Draft

_NO_OWNER = CONTAINERS & {"namespace", "module"}


class Places:
    """Finds the innermost unit around a position. Positions must be asked in ascending order.

    The answer holds for all positions before `limit`: a caller with many of them asks again only from there on.
    """

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._drafts = drafts
        self._next = 0
        self._stack: list[int] = []
        self.limit = 0

    def of(self, position: int) -> int:
        drafts, stack = self._drafts, self._stack
        while self._next < len(drafts) and drafts[self._next].start <= position:
            if drafts[self._next].kind != "part":  # what stands in a part belongs to the unit that was cut
                stack.append(self._next)
            self._next += 1
        while stack and drafts[stack[-1]].end <= position:
            stack.pop()
        limit = drafts[self._next].start if self._next < len(drafts) else 1 << 62
        self.limit = min(limit, drafts[stack[-1]].end) if stack else limit
        return stack[-1] if stack else -1


class Owners(dict[int, str]):
    """Index of a unit -> the qualified name of the class that it is in, or whose method it is; "": none."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        super().__init__()
        self._drafts = drafts

    def __missing__(self, unit: int) -> str:
        owner = ""
        at = unit
        while at >= 0:
            draft = self._drafts[at]
            if draft.kind in CONTAINERS and draft.kind not in _NO_OWNER:
                owner = draft.qualname
                break
            if draft.scope and draft.kind in CALLABLES:
                owner = draft.qualname.rpartition(".")[0]
                break
            at = draft.parent
        self[unit] = owner
        return owner
