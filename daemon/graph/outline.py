"""What resolution reads of the file that it resolves: in which order, and a digest by which to see that it is the same.

After most edits a file refers to what it referred to and defines what it defined: lines have moved, bodies and docs say
something else. Such a file need not be resolved again; what came or went in other files it is told by its keys. So

    everything that `resolve` and `definitions` read of the file itself, ids and path aside, is in its outline.

`tests/daemon/graph/test_outline.py` holds it against files of every language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from codegraphd.store.records import DIGEST_BYTES, Binding, Module, Reference


def in_order(references: Iterable[Reference], bindings: Iterable[Binding]) -> list[Reference | Binding]:
    """References, and the imports that stand in a unit, by line: what is used first is quoted first."""
    items: list[Reference | Binding] = [*bindings, *references]
    return sorted(items, key=lambda item: item.line)


def outline_of(module: Module) -> bytes:
    """16 bytes. Lines and spans are in it as an order alone."""
    units = [
        (u.kind, u.name, u.qualname, u.ordinal, u.parent, u.signature, u.decorators, u.bases, int(u.flags))
        for u in module.units
    ]
    said = [
        (r.source, r.kind, r.name, r.scope, r.receiver) if isinstance(r, Reference) else _binding(r)
        for r in in_order(module.references, module.bindings)
    ]
    parts = (module.language, module.package, units, said, [_binding(b) for b in module.bindings])
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES]


def _binding(b: Binding) -> tuple[object, ...]:
    return ("import", b.source, b.local, b.module, b.member, b.exported)
