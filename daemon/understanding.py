"""Which code understood the files: an index holds what a certain version of the analysis made of them.

Files that did not change are not read again, so after an upgrade an index would go on answering with what the former
version saw. Each workspace therefore remembers the identity of the code that read it; where that is another one, all of
its files are read anew, and what comes out the same costs no model time.
"""

from __future__ import annotations

import functools
import hashlib
import os
from importlib.metadata import PackageNotFoundError, version

from codegraphd.daemon.analysis.compiled import scan

_PARTS = ("daemon/analysis", "daemon/graph")  # folders whose code decides what lies in the index
_FILES = ("daemon/packing.py", "daemon/parser_process.py", "store/codec.py", "store/records.py")  # and in what form
_SUFFIXES = (".py", ".scm")
_PACKAGES = ("tree-sitter", "tree-sitter-language-pack")


@functools.cache
def identity() -> bytes:
    """16 bytes: equal where the same code reads the same files. Some milliseconds, once."""
    digest = hashlib.sha256(scan.identity.encode())  # of what it was built from: the sources need not be here
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = list(_FILES)
    for part in _PARTS:
        for directory, _, files in os.walk(os.path.join(top, part)):
            below = os.path.relpath(directory, top)
            found += [os.path.join(below, name) for name in files if name.endswith(_SUFFIXES)]
    for name in sorted(found):
        with open(os.path.join(top, name), "rb") as file:
            content = file.read()
        digest.update(name.encode() + b"\0%d\0" % len(content) + content)
    for package in _PACKAGES:
        try:
            digest.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:
            continue
    return digest.digest()[:16]


def key_of(root: int) -> str:
    """Where the store's `meta` has the identity of the code that read this root."""
    return f"understanding:{root}"
