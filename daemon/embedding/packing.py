"""Which texts go through the model together: sorted by length, bounded by tokens.

Sorted, texts of one length stand together, which the attention takes in one call, and a backend that pads to a
rectangle pads little; unsorted, 38% of the work went into padding. 512 to 2,048 tokens a group are as fast as 8,000 on
a processor; a card wants more than one request holds. So requests that wait are merged into a *bundle* as long as one
group can hold it, and a bundle is cut into groups.

Pure. The worker process guards what it shares between threads.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np

TYPICAL_REQUEST = 64 * 64  # tokens: texts of a request, tokens of a text


def groups(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of `lengths` in groups of at most `budget` tokens (a longer text stands alone), longest first.

    Longest first, so that memory reaches its height at once and a text that does not fit fails early.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    used = 0
    for index in order:
        if not found or used + lengths[index] > budget:
            found.append([])
            used = 0
        found[-1].append(index)
        used += lengths[index]
    return found


def requests_for(budget: int) -> int:
    """How many requests a worker whose groups hold `budget` tokens wants to have at a time: what fills a group that is
    with the model, one that waits for it and one that is being tokenised; two at least."""
    return max(2, -(-3 * budget // TYPICAL_REQUEST))


class Request:
    """A bulk request with its token ids, on its way through the model."""

    def __init__(
        self, id_: int, ids: list[list[int]], truncated: tuple[bool, ...], dim: int, *, is_urgent: bool = False
    ) -> None:
        self.id, self.ids, self.truncated, self.is_urgent = id_, ids, truncated, is_urgent
        self.rows = np.empty((len(ids), dim), np.float32)
        self.left = len(ids)  # texts without a vector; 0 as well once it is given up
        self.n_tokens = sum(map(len, ids))


class Group:
    """Texts that go through the model at once: (request, place in it)."""

    def __init__(self, texts: Sequence[tuple[Request, int]]) -> None:
        self._texts = texts

    def ids(self) -> list[list[int]]:
        return [request.ids[place] for request, place in self._texts]

    def requests(self) -> list[Request]:
        """Those that have a text here, in the order in which they came."""
        found = {request.id: request for request, _ in self._texts}
        return [found[id_] for id_ in sorted(found)]

    def settle(self, rows: np.ndarray) -> list[Request]:
        """The vectors are there. Returns the requests that are complete with them."""
        for (request, place), row in zip(self._texts, rows, strict=True):
            request.rows[place] = row
        counts = collections.Counter(request.id for request, _ in self._texts)
        done = []
        for request in self.requests():
            if request.left:  # else it was given up meanwhile
                request.left -= counts[request.id]
                if not request.left:
                    done.append(request)
        return done


class _Bundle:
    """Requests that are cut into groups together."""

    def __init__(self, request: Request, budget: int) -> None:
        self.is_urgent = request.is_urgent
        self.is_begun = False
        self._requests: list[Request] = []
        self._budget = budget
        self.waiting: collections.deque[Group] = collections.deque()
        self.add(request)

    def has_room(self, request: Request) -> bool:
        if self.is_begun or self.is_urgent != request.is_urgent:
            return False
        return self.n_tokens + request.n_tokens <= self._budget

    @property
    def n_tokens(self) -> int:
        """Of all its texts, whether they wait or not."""
        return sum(request.n_tokens for request in self._requests)

    def add(self, request: Request) -> None:
        self._requests.append(request)
        self._cut()

    def drop(self, requests: Sequence[Request]) -> None:
        """Those are given up: none of their texts waits any more."""
        texts = [[text for text in group._texts if text[0] not in requests] for group in self.waiting]
        self.waiting = collections.deque(Group(left) for left in texts if left)

    def _cut(self) -> None:
        texts = [(request, place) for request in self._requests for place in range(len(request.ids))]
        lengths = [len(request.ids[place]) for request, place in texts]
        self.waiting = collections.deque(Group([texts[i] for i in group]) for group in groups(lengths, self._budget))


class Bundles:
    """The bundles with groups that no lane has taken yet, urgent ones first, else as they came."""

    def __init__(self, budget: int = 512) -> None:
        self.budget = budget
        self._waiting: list[_Bundle] = []

    def is_full(self) -> bool:
        """Whether there is enough for the lanes: one bundle for now, and one for then that is large enough."""
        return len(self._waiting) > 1 and 2 * self._waiting[-1].n_tokens >= self.budget

    def add(self, request: Request) -> None:
        last = next((other for other in reversed(self._waiting) if other.is_urgent == request.is_urgent), None)
        if last is not None and last.has_room(request):
            last.add(request)
            return
        n_urgent = sum(1 for other in self._waiting if other.is_urgent)
        self._waiting.insert(n_urgent if request.is_urgent else len(self._waiting), _Bundle(request, self.budget))

    def take(self) -> Group | None:
        """The next group for a lane; None: there is none."""
        if not self._waiting:
            return None
        bundle = self._waiting[0]
        bundle.is_begun = True
        group = bundle.waiting.popleft()
        if not bundle.waiting:
            self._waiting.pop(0)
        return group

    def give_up(self, group: Group) -> list[Request]:
        """The model raised on the group: none of its requests goes on. Returns those that had not been given up yet."""
        refused = [request for request in group.requests() if request.left]
        for request in refused:
            request.left = 0
        for bundle in self._waiting:
            bundle.drop(refused)
        self._waiting = [bundle for bundle in self._waiting if bundle.waiting]
        return refused
