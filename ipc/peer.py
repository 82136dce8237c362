"""Who is at the other end of a Unix socket, as the kernel says."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel says; -1 where it does not."""
    try:
        if sys.platform == "linux":
            size = struct.calcsize("3i")
            _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
            return int(uid)
        uid, gid = ctypes.c_uint32(), ctypes.c_uint32()  # macOS and the BSDs
        if ctypes.CDLL(None).getpeereid(sock.fileno(), ctypes.byref(uid), ctypes.byref(gid)) == 0:
            return int(uid.value)
    except (OSError, AttributeError, struct.error):
        pass
    return -1


def has_left(sock: socket.socket) -> bool:
    """Whether the other end, of which no more comes, is closed altogether."""
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))


def may_connect(uid: int) -> bool:
    """Only the user whose daemon this is."""
    return uid == os.geteuid()
