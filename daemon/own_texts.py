"""The own texts of a file's units: those of a file that was just edited are at hand, others are rendered again.

A parser process sends an edit's texts along with the module, so that the way to the model needs no second parse. They
are kept here, packed, under the file's path (which says the language) and the digest of its bytes: of these alone they
are a function. Used by the indexer, on its thread only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from codegraphd.daemon.parser_process import unpack
from codegraphd.daemon.parsers import Parsers, Rendered, RenderJob

KEPT_BYTES = 2 << 20  # packed; a file of 10,000 lines has some 300 KB

Done = Callable[[Rendered | None], None]


class OwnTexts:
    """`post` runs a function on the indexer's thread."""

    def __init__(self, parsers: Parsers, post: Callable[[Callable[[], None]], None]) -> None:
        self._parsers, self._post = parsers, post
        self._kept: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._n_bytes = 0

    def keep(self, path: str, digest: bytes, texts: bytes) -> None:
        """Of a file that was parsed. Empty: there are none, as after a job that nobody waits for."""
        if not texts or (path, digest) in self._kept:
            return
        self._kept[path, digest] = texts
        self._n_bytes += len(texts)
        while self._n_bytes > KEPT_BYTES:
            self._n_bytes -= len(self._kept.popitem(last=False)[1])

    def render(self, job: RenderJob, done: Done, *, urgent: bool) -> None:
        """Call `done`, at once or later, with the texts in the order of the units; None: the file has moved on."""
        texts = self._kept.get((job.path, job.digest))
        if texts is not None and not job.flows:
            done(Rendered(unpack(texts), {}))
            return
        self._parsers.render(job, lambda found: self._post(lambda: done(found)), urgent=urgent)
