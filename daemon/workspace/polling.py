"""Where events cannot be relied on: file systems that send none, and names that the disk spells in its own way.

Owns: which mounts are of that kind, and how often such a root is walked. A walk is a crawl like any other: what is
watched by it too sends events, which just come sooner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

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


class Mount(NamedTuple):
    place: str
    kind: str  # "ext4", "nfs4", "fuse.sshfs"
    device: str  # "254:0"


def mounts_of(root: str, mounts: str) -> tuple[Mount, ...]:
    """The mount that holds `root`, and those below it. `mounts` is the content of /proc/self/mountinfo."""
    lead = root.rstrip("/") + "/"
    holder: Mount | None = None
    below: list[Mount] = []
    for line in mounts.splitlines():
        mount = _parse_mount(line)
        if mount is None:
            continue
        if lead.startswith(mount.place.rstrip("/") + "/"):
            if holder is None or len(mount.place) >= len(holder.place):  # a later mount hides an earlier one
                holder = mount
        elif mount.place.startswith(lead):
            below.append(mount)
    return (*([holder] if holder else []), *below)


def silent_file_system(mounts: Iterable[Mount]) -> str | None:
    """The type of one that does not send events for all changes; None: there is none."""
    return next((mount.kind for mount in mounts if mount.kind in _NO_EVENTS or mount.kind.startswith("fuse.")), None)


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


def _parse_mount(line: str) -> Mount | None:
    """A line of mountinfo; None where it has another form."""
    before, separator, after = line.partition(" - ")
    fields = before.split(" ")
    if not separator or len(fields) < 6:
        return None
    return Mount(_ESCAPE.sub(lambda m: chr(int(m[1], 8)), fields[4]), after.split(" ", 1)[0], fields[2])
