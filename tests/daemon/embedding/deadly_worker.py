"""The real worker process, with a model that obeys: a word in a text says how it is to fail."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Sequence

import numpy as np
import psutil

from codegraphd.daemon.child import write_frame
from codegraphd.daemon.embedding import process
from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens

HANG, EXIT, KILL, RAISE, GARBAGE, TORN, NAN, SLOW, MEMORY, GROW = range(1000, 1010)
NAMES = ["hang", "exit", "kill", "raise", "garbage", "torn", "nan", "slow", "memory", "grow"]
WORDS = dict(zip(NAMES, range(1000, 1010), strict=True))
LEAK: list[np.ndarray] = []


class Tokens(HashingTokens):
    def encode(self, texts: Sequence[str], flows: Sequence[object] = ()) -> list[tuple[list[int], bool]]:
        orders = [[WORDS[word] for word in text.split() if word in WORDS] for text in texts]
        return [(order or ids, cut) for order, (ids, cut) in zip(orders, super().encode(texts), strict=True)]


class Backend(HashingBackend):
    lanes = 2

    def encode(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        for ids in batch:
            self._obey(ids[0])
        rows = super().encode(batch)
        for row, ids in zip(rows, batch, strict=True):
            if ids[0] == NAN:
                row[0] = np.nan
        return rows

    def _obey(self, order: int) -> None:
        if order == HANG:
            time.sleep(1000)
        elif order == EXIT:
            os._exit(7)
        elif order == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == RAISE:
            raise RuntimeError("the model raised")
        elif order == GARBAGE:
            write_frame(OUTBOX, b"\xc1 this is no message")
        elif order == TORN:
            OUTBOX.write(b"\xff\xff\xff\x00 half a frame")
            OUTBOX.flush()
            os._exit(0)
        elif order == MEMORY:  # as under a limit of the system's: the next large piece is not to be had
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (64 << 20), hard))
            LEAK.append(np.ones(1 << 28))
        elif order == GROW:
            LEAK.append(np.ones(25 << 20))  # 200 MB
        elif order == SLOW:
            time.sleep(0.2)


if __name__ == "__main__":
    process.open_tokens = Tokens
    process.open_backend = lambda info, *_: Backend(info)
    streams = process.child_streams()
    OUTBOX = streams[1]
    process.child_streams = lambda: streams
    sys.exit(process.main())
