"""Modules of files seen before, on the disk: what was parsed once is read, in any workspace, until it is pushed out.

A checkout brings back what was there an hour ago, a second worktree and a fresh clone bring what is there already. The
vector cache spares them the model; this spares them the parser, which costs a millisecond for two kilobytes.

An entry is one file, named by the digest of all that a module is a function of: the bytes, and of the path what `parse`
looks at. A *generation* is a folder of entries; `<identity>-<number>`, the identity being that of the code that parsed
(`understanding`): another version finds nothing. There are two, the younger one, which is written, and the elder one,
from which what is asked for moves over. When the younger one has its share of bytes the next one begins, and the elder
one is dropped with all that nobody asked for in its time.

The parser processes read and write entries (`read`, `write`); where, each request tells them. The daemon decides that,
counts and cleans up (`ModuleCache`). An entry is written beside its place and renamed, and is believed only if its
checksum and its name agree: a torn or spoilt one is no entry. A disk that takes nothing costs the cache only: the
elder generation goes, and nothing is written for a while. Entries hold the words of the source; so when a workspace is
no longer watched, all of them go.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from codegraphd.daemon.analysis.languages import grammar_of

LEAST_BYTES: Final = 64  # of source: shorter files are parsed in less time than a file takes to open
REFUSED_S: Final = 60.0  # without writing, after the disk took nothing
SLICE: Final = 1_000  # files that one call of `tend` deletes: some 20 ms
_FOLDERS_A_SAMPLE: Final = 16  # of its 256 folders a generation is weighed by each sixteenth
_MAGIC: Final = b"cgm1"
_KEY_BYTES: Final = 20

Places = tuple[bytes, ...]  # folders of generations, the younger one first; none: there is no cache


def key_of(digest: bytes, path: str, language: str) -> bytes:
    """The key of a file's module: `digest` is that of its bytes, `language` what it was found to be written in."""
    grammar = grammar_of(path, language)
    # Text is read by its extension, and project files by their names.
    kind = f"{language}\0{grammar}" if grammar else f"{language}\0\0{path.rpartition('/')[2]}"
    return hashlib.sha256(digest + kind.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


# --- in the parser processes -----------------------------------------------------------------------------------------


def read(places: Places, key: bytes) -> bytes | None:
    """The packed module under a key; one of the elder generation moves to the younger."""
    for place in places:
        path = _path(place, key)
        try:
            with open(path, "rb", buffering=0) as file:
                raw = file.read()
        except OSError:
            continue
        packed = raw[len(_MAGIC) + _KEY_BYTES + 4 :]
        if raw[: -len(packed)] != _head(key, packed):
            with contextlib.suppress(OSError):
                os.unlink(path)
            continue
        if place is not places[0]:
            with contextlib.suppress(OSError):
                _renamed(path, _path(places[0], key))
        return packed
    return None


def write(places: Places, key: bytes, packed: bytes) -> None:
    """Keep a packed module. Raises OSError where the disk does not take it; nothing is left then."""
    path = _path(places[0], key)
    beside = path + b".%d" % os.getpid()
    try:
        try:
            file = _created(beside)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            file = _created(beside)
        try:
            whole = _head(key, packed) + packed
            if os.write(file, whole) != len(whole):
                raise OSError("the disk took a part of it")
        finally:
            os.close(file)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _path(place: bytes, key: bytes) -> bytes:
    name = key.hex().encode()
    return b"%s/%s/%s" % (place, name[:2], name[2:])


def _head(key: bytes, packed: bytes) -> bytes:
    return _MAGIC + key + zlib.crc32(packed).to_bytes(4, "little")


def _created(path: bytes) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _renamed(path: bytes, to: bytes) -> None:
    try:
        os.replace(path, to)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(to), mode=0o700, exist_ok=True)
        os.replace(path, to)


# --- in the daemon ---------------------------------------------------------------------------------------------------


class ModuleCache:
    """The folders, and how much may lie in them. Any thread may call any of it; `tend` is for one that may wait."""

    def __init__(
        self, directory: str, identity: bytes, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_bytes = max_bytes
        self._directory, self._identity, self._clock = os.fsencode(directory), identity.hex().encode(), clock
        self._lock = threading.Lock()
        numbers = sorted(self._numbers(), reverse=True)
        self._young = numbers[0] if numbers else 1
        self._elder = numbers[1] if len(numbers) > 1 else 0  # 0: there is none
        self._bytes = 0  # of the younger generation, when it was last weighed
        self._is_weighed = False
        self._refused_at = -math.inf

    def places(self) -> Places:
        """Where a request may read and write; nowhere for a while after the disk took nothing."""
        with self._lock:
            if self.max_bytes <= 0 or self._clock() < self._refused_at + REFUSED_S:
                return ()
            self._is_weighed = False
            return tuple([self._folder(number) for number in (self._young, self._elder) if number])

    def refused(self) -> None:
        """The disk did not take an entry: what is there makes room, and nothing is written for a while."""
        with self._lock:
            self._refused_at = self._clock()
        self.shrink()

    def shrink(self) -> None:
        """Let go of what nobody has asked for since the younger generation began."""
        with self._lock:
            self._elder = 0

    def clear(self) -> None:
        """Forget everything. What is there bears no name of a generation any more; `tend` deletes it."""
        with self._lock:
            self._young, self._elder = self._young + 1, 0
            for folder in self._folders():
                with contextlib.suppress(OSError):
                    os.rename(folder, b"%s/dropped-%s" % (self._directory, secrets.token_hex(8).encode()))

    def tend(self) -> None:
        """To be called every few seconds: begins the next generation where that is due, and drops what is in none."""
        with self._lock:
            if not self._is_weighed:
                self._is_weighed = True
                self._bytes = self._weight(self._folder(self._young))
                if self._bytes > self.max_bytes // 2:
                    self._young, self._elder, self._bytes = self._young + 1, self._young, 0
            kept = {self._folder(number) for number in (self._young, self._elder) if number}
        left = SLICE
        for folder in self._folders():
            if folder not in kept and left > 0:
                left -= _delete(folder, left)

    def statistics(self) -> dict[str, Any]:
        with self._lock:
            return {"bytes": self._bytes, "max_bytes": self.max_bytes, "generation": self._young}

    def _folder(self, number: int) -> bytes:
        return b"%s/%s-%d" % (self._directory, self._identity, number)

    def _folders(self) -> list[bytes]:
        try:
            with os.scandir(self._directory) as entries:
                return [entry.path for entry in entries]
        except OSError:
            return []

    def _numbers(self) -> Iterator[int]:
        for folder in self._folders():
            identity, _, number = os.path.basename(folder).partition(b"-")
            if identity == self._identity and number.isdigit():
                yield int(number)

    @staticmethod
    def _weight(folder: bytes) -> int:
        """Bytes of a generation, by a sample: keys are digests, so one sixteenth of its folders is like the others."""
        total = 0
        for number in range(0, 256, _FOLDERS_A_SAMPLE):
            with contextlib.suppress(OSError), os.scandir(b"%s/%02x" % (folder, number)) as entries:
                total += sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        return total * _FOLDERS_A_SAMPLE


def _delete(folder: bytes, most: int) -> int:
    """Delete at most so many files of a folder, and it with them once it is empty. -> how many."""
    n_gone = 0
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            for entry in entries:
                if n_gone >= most:
                    return n_gone
                if entry.is_dir(follow_symlinks=False):
                    n_gone += _delete(entry.path, most - n_gone)
                else:
                    os.unlink(entry.path)
                    n_gone += 1
        os.rmdir(folder)
    return n_gone
