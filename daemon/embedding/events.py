"""What happens to the embedding worker, what is to be done about it, and what the daemon hears of it.

`supervision.Supervisor` turns events into actions; `worker.Embedder` brings the ones and carries out the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from codegraphd.daemon.embedding.messages import Ask, Embed, Up
from codegraphd.daemon.embedding.models import ModelInfo
from codegraphd.store.records import Batch, CodeFlow

# --- what the daemon hears --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A batch is done."""

    batch_id: int
    model: bytes  # fingerprint of the model that made the vectors
    vectors: np.ndarray  # float32[n, dim], rows of length 1, in the order of the batch's inputs
    truncated: tuple[bool, ...]  # whether the model read only the beginning of a text
    tokens: tuple[int, ...]  # what it read


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch got no vectors. `bad` names the inputs that are to blame; without any, it can be submitted again once
    the model is no longer "failed"."""

    batch_id: int
    error: str
    bad: tuple[bytes, ...] = ()  # Input.key


@dataclass(frozen=True, slots=True)
class ModelState:
    """The model's state changed, or another model took over."""

    state: str  # unloaded, loading, ready, failed
    model: ModelInfo | None
    error: str = ""


# --- what happens, and what is to be done -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    batch: Batch


@dataclass(frozen=True, slots=True)
class Asked:
    id: int  # of the future that waits for it
    role: str
    texts: tuple[str, ...]
    deadline: float
    flows: tuple[CodeFlow | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    child: int  # which start of the process it came from: what a former one said last does not count
    message: Up


@dataclass(frozen=True, slots=True)
class Exited:
    child: int
    cause: str


@dataclass(frozen=True, slots=True)
class Tick:
    rss_bytes: int = 0  # of the process; 0: none


Event: TypeAlias = Submitted | Asked | Heard | Exited | Tick


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process and let it load. A former one is gone or has been killed."""

    child: int
    model: ModelInfo
    batch_tokens: int


@dataclass(frozen=True, slots=True)
class Kill:
    pass


@dataclass(frozen=True, slots=True)
class Send:
    message: Embed | Ask


@dataclass(frozen=True, slots=True)
class Tell:
    record: Embedded | Failed | ModelState


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    id: int
    rows: np.ndarray  # float32[n, dim]


@dataclass(frozen=True, slots=True)
class Refuse:
    id: int
    error: str
    is_late: bool = False


Action: TypeAlias = Spawn | Kill | Send | Tell | Answer | Refuse


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, in seconds and bytes."""

    idle_s: float = 600.0  # 0: never unloaded
    load_s: float = 180.0
    hang_s: float = 120.0  # without a word while there is work; a slow machine under load needs seconds for a group
    batch_tokens: int = 2048
    least_tokens: int = 256  # a worker that was killed for its memory gets half of the tokens, down to this
    growth_bytes: int = 1 << 30  # above what it needed once it was loaded
