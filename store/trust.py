"""Whether the data file is what we left: LMDB has no checksums and believes what it reads.

A *seal* beside the file names its stamp (inode, size, times) as of the last quiet moment and, after a clean close, its
SHA-256. A file with the sealed stamp is ours. With another one it is ours still if the digest agrees (a copied home).
A file that was closed cleanly and differs was changed by somebody else: damaged. After a kill the stamp is older than
the file, and the file is walked page by page before LMDB sees it (1.1 s for 94 MB): a commit that was cut off leaves a
sound file, a torn disk does not.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from lmdb import verify as lmdb_verify

from codegraphd.store import seals
from codegraphd.store.errors import StoreDamaged

Stamp = tuple[int, int, int]  # inode, bytes, time of the last write in nanoseconds

log = logging.getLogger(__name__)


def stamp_of(path: str) -> Stamp:
    there = os.stat(path)
    return there.st_ino, there.st_size, there.st_mtime_ns


def examine(path: str) -> str | None:
    """Look at a data file before LMDB does. None: nothing to say; a sentence: what had to be examined.

    Raises StoreDamaged for a file that cannot be trusted.
    """
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    note = seals.read(_seal_path(path))
    if note.get("stamp") == list(stamp_of(path)):
        return None
    if "sha256" in note:
        if note["sha256"] == seals.digest_of(path):
            return None
        raise StoreDamaged(f"{path}: changed by another program since it was closed")
    if (found := walk(path)) is not None:
        raise StoreDamaged(f"{path}: {found}")
    return f"{path}: was not closed in order; it was examined and is sound"


def walk(path: str) -> str | None:
    """Look at every page of a data file without LMDB. What is wrong with it; None: it is sound."""
    try:
        found: list[str] = lmdb_verify.verify(path, subdir=False)  # type: ignore[no-untyped-call]
    except (lmdb_verify.VerifyError, OSError) as error:
        found = [str(error)]
    if not found:
        return None
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def seal(path: str, stamp: Stamp, *, is_closed: bool) -> None:
    """Note that the file is ours as it stands. Failing to is no harm: it is examined at the next start."""
    note: dict[str, Any] = {"stamp": list(stamp)}
    try:
        if is_closed:
            note["sha256"] = seals.digest_of(path)
        seals.write(_seal_path(path), note)
    except OSError as error:
        log.warning("%s: could not be sealed: %s", path, error)


def _seal_path(path: str) -> str:
    return os.path.join(os.path.dirname(path), "seal.json")
