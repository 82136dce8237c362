"""What the stat of a file says: is it worth reading, and may it have changed since it was last seen?

Owns: the reasons for which a file is not read, the signature by which a change is noticed, and the rule for files
that changed so recently that equal times prove nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from codegraphd.store.records import Stat

TOO_LARGE: Final = "too large"
UNREADABLE: Final = "unreadable"
NOT_REGULAR: Final = "not a regular file"
NO_LANGUAGE: Final = "no known language"
UNREADABLE_DIRECTORY: Final = "unreadable directory"

# Skipped files that the index keeps a record of; of the others it knows nothing, they are just counted.
REPORTED: Final = frozenset({TOO_LARGE, UNREADABLE})

# Two changes within one step of a file system's clock leave equal times. The coarsest steps are two seconds (FAT).
RECENT_NS: Final = 2_000_000_000

_SNIFFED_BYTES: Final = 128

# What is remembered of a file: a signature, or the reason why it is not read. A signature is not negative; its
# complement stands for "the same, but so recent when it was taken that an equal one proves nothing".
FileState = int | str


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What decides whether a file is indexed.

    language_of: (path relative to the root, first line or b"") -> language, or None for a file that is not indexed.
    exclude: patterns as in a .gitignore, relative to the root; they overrule all other ignore rules.
    """

    language_of: Callable[[str, bytes], str | None]
    max_file_bytes: int = 1 << 20
    exclude: tuple[str, ...] = ()


def classify(path: str, absolute: str, found: os.stat_result, settings: ScanSettings) -> str:
    """ "" for a file that is to be read, else the reason why not. Reads at most the first line, of a file without a
    known name that may be a script."""
    if not stat.S_ISREG(found.st_mode):
        return NOT_REGULAR
    if settings.language_of(path, b"") is None:
        line = _script_line(path, absolute, found)
        if not line or settings.language_of(path, line) is None:
            return NO_LANGUAGE
    if found.st_size > settings.max_file_bytes:
        return TOO_LARGE
    if not _is_readable(absolute, found):
        return UNREADABLE
    return ""


def signature(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> int:
    """63 bits that differ (but for one chance in 2**61) where any of the four does."""
    return hash((size, mtime_ns, ctime_ns, inode)) & 0x7FFF_FFFF_FFFF_FFFF


def is_recent(found: os.stat_result, now_ns: int) -> bool:
    """Could the file change once more without a change of its times? Times in the future are just wrong."""
    return abs(now_ns - max(found.st_mtime_ns, found.st_ctime_ns)) < RECENT_NS


def stat_record(found: os.stat_result) -> Stat:
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def wall_clock_ns() -> int:
    """What the times of files are compared with."""
    return time.time_ns()


def _script_line(path: str, absolute: str, found: os.stat_result) -> bytes:
    """The first line of a file without an extension if it begins with "#!", else b""."""
    if "." in path.rpartition("/")[2] or found.st_size < 3:
        return b""
    try:
        descriptor = os.open(absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        head = os.read(descriptor, _SNIFFED_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return head.partition(b"\n")[0] if head.startswith(b"#!") else b""


def _is_readable(absolute: str, found: os.stat_result) -> bool:
    """By the mode, which costs nothing; where that says no, the system is asked (access lists, capabilities)."""
    allowed = found.st_mode & stat.S_IRUSR if found.st_uid == os.geteuid() else found.st_mode & stat.S_IROTH
    return bool(allowed) or os.access(absolute, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
