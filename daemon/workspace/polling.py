"""Where events cannot be relied on: file systems that send none, and names that the disk spells in its own way.

Owns: which mounts are of that kind, and how often such a root is walked. A walk is a crawl like any other: what is
watched by it too sends events, which just come sooner.
"""

from __future__ import annotations

import os
import re
from typing import Final

# Changes made on another machine, or by the host of a virtual one, pass this kernel by.
_NO_EVENTS: Final = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "drvfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})  # fmt: skip

MIN_INTERVAL: Final = 2.0
MAX_INTERVAL: Final = 60.0
_SHARE: Final = 0.02  # of one core that polling may take while something changes; half of that when nothing does
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def poll_interval(walk_s: float, idle_s: float) -> float:
    """Seconds between two walks, when one takes `walk_s` and nothing has changed for `idle_s`."""
    share = _SHARE if idle_s < 120 else _SHARE / 2
    return min(MAX_INTERVAL, max(MIN_INTERVAL, walk_s / share))


def silent_file_system(root: str, mounts: str | None = None) -> str | None:
    """The type of the file system at or below `root` that sends no events for all changes; None: there is none.

    `mounts` is the content of /proc/self/mountinfo; by default it is read, and nothing is known where it is missing.
    """
    if mounts is None:
        mounts = read_mounts()
    root = root.rstrip("/") or "/"
    holder, holder_type = "", ""
    below: list[str] = []
    for line in mounts.splitlines():
        place, kind = _parse_mount(line)
        if root == place or root.startswith(place.rstrip("/") + "/"):
            if len(place) >= len(holder):  # a later mount at the same place hides the earlier one
                holder, holder_type = place, kind
        elif place.startswith(root.rstrip("/") + "/"):
            below.append(kind)
    return next((kind for kind in (holder_type, *below) if _is_silent(kind)), None)


def read_mounts() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def is_caseless(directory: str) -> bool:
    """Does the file system find the directory under a name spelled in other case? False where its name has none."""
    above, name = os.path.split(directory.rstrip("/"))
    if not name or name.swapcase() == name:
        return False
    try:
        found, other = os.lstat(directory), os.lstat(os.path.join(above, name.swapcase()))
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (other.st_dev, other.st_ino)


def _parse_mount(line: str) -> tuple[str, str]:
    """(mount point, type) of a line of mountinfo; ("", "") where it has another form."""
    before, separator, after = line.partition(" - ")
    fields = before.split(" ")
    if not separator or len(fields) < 6:
        return "", ""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[4]), after.split(" ", 1)[0]


def _is_silent(kind: str) -> bool:
    return kind in _NO_EVENTS or kind.startswith("fuse.")
