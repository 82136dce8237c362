"""Small JSON notes beside files that carry no checksum of their own: what they are, and the digests that they have.

A seal is written whole or not at all, after what it speaks of. Reading one never fails: a seal that cannot be read says
nothing, and its files are treated as unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any


def write(path: str, note: dict[str, Any]) -> None:
    """Write, flush, rename. Raises OSError."""
    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(note, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: str) -> dict[str, Any]:
    """The note; empty where there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            note = json.load(file)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def remove(path: str) -> None:
    """Raises OSError, but not for a seal that is not there."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def digest_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal: 1.5 GB/s. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: str) -> list[tuple[str, int]]:
    """(name, bytes) of the files right in a folder, lock files left out; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e.name, e.stat().st_size) for e in entries if e.is_file() and not e.name.endswith(".lock"))
    except OSError:
        return []


class Digests:
    """The digests of a folder's files, remembered while size and time of a file stay: most are written once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def of(self, folder: str) -> dict[str, str]:
        """By name. Raises OSError."""
        found: dict[str, tuple[tuple[int, int, int], str]] = {}
        for name, _ in files_in(folder):
            path = os.path.join(folder, name)
            there = os.stat(path)
            stamp = (there.st_ino, there.st_size, there.st_mtime_ns)
            known = self._known.get(name)
            found[name] = known if known is not None and known[0] == stamp else (stamp, digest_of(path))
        self._known = found
        return {name: digest for name, (_, digest) in found.items()}
