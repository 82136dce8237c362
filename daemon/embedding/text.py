"""What the model reads for a unit beside its own text: the context input.

The own input is the unit's normalised text (`analysis.parse.render`). Both are functions of exactly what the recipe
digests (`graph.recipe`): equal recipes, equal texts.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegraphd.store.records import UnitRecord


def face_text(unit: UnitRecord) -> str:
    """What a face says, as text: decorators, signature, first line of the doc."""
    u = unit.unit
    first = u.doc.split("\n", 1)[0].strip()
    lines = [*(f"@{d}" for d in u.decorators), u.signature or f"{u.kind} {u.name}"]
    if first:
        lines.append(first)
    return "\n".join(lines)


def context_text(unit: UnitRecord, quoted: Sequence[UnitRecord]) -> str:
    """The context input: the unit's own face, then the faces it quotes (`graph.recipe.quoted`)."""
    return "\n".join([face_text(unit), *(face_text(q) for q in quoted)])
