"""A module made ready for the index: what is stored as it is becomes the store's rows.

Done where a file is parsed, in the parser processes, so that the one thread that writes need not compress the words of
units, most of which say what they said before: it compares bytes. Pure.
"""

from __future__ import annotations

from codegraphd.daemon.graph.outline import outline_of
from codegraphd.store.codec import encode_facts, encode_words
from codegraphd.store.records import Facts, Module, PackedModule

_NO_FACTS = encode_facts(Facts("", (), ()))


def packed(module: Module) -> PackedModule:
    return PackedModule(
        language=module.language,
        digest=module.digest,
        size=module.size,
        lines=module.lines,
        units=module.units,
        words=tuple([encode_words(words) for words in module.words]),
        facts=encode_facts(Facts(module.package, module.references, module.bindings)),
        outline=outline_of(module),
        errors=module.errors,
        skipped=module.skipped,
    )


def skipped_module(language: str, digest: bytes, size: int, reason: str) -> PackedModule:
    """A file that gives no units, and why."""
    return PackedModule(language, digest, size, 0, (), (), _NO_FACTS, b"", 0, reason)
