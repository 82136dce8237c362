"""What the daemon does with its surroundings before and while it runs: the store it opens, the log, files it minds."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys

from codegraphd.daemon.config import Config
from codegraphd.store.env import Store, move_aside
from codegraphd.store.errors import StoreDamaged

log = logging.getLogger("codegraphd")

_M_ARENA_MAX = -8  # glibc's malloc.h


def open_store(directory: str, problems: list[str]) -> Store:
    """The store; a damaged one is moved aside and the index built again from the workspaces."""
    try:
        store = Store.open(directory)
    except StoreDamaged as error:
        aside = move_aside(directory)
        log.error("%s: moved to %s, the index is built again", error, aside)  # noqa: TRY400 - one line, no traceback
        store = Store.open(directory)
    for note in store.notes:
        log.warning("%s", note)
    if store.read_only:
        problems.append(f"{directory} is read-only: answers come from what is there")
    return store


def log_to_stderr(config: Config) -> None:
    if config.log.format == "json":
        pattern = '{"time":"%(asctime)s","level":"%(levelname)s","name":"%(name)s","message":"%(message)s"}'
    else:
        pattern = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=config.log.level.upper(), format=pattern, stream=sys.stderr)


def stamp(path: str) -> tuple[int, int] | None:
    """What tells that a file has changed; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def few_arenas() -> None:
    """Keep the C library's memory in two pools: with one for each of a dozen threads, freed memory stays in most."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def release_free_memory() -> None:
    """Have the C library give freed pages back to the system, where it can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
