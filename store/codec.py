"""Records to bytes and back. Owns the format's version and what each version changed.

A unit's bytes begin with a fixed header (root, file, language, kind, path, name), so that an index can read what it
filters by, and a writer can see that nothing of it moved, without decoding the rest. Everything else is a msgpack array
in the order of the record's fields. Texts may hold lone surrogates (names that are not UTF-8), which pass through.

Format history
1  the first: 2026-11.
2  states and vectors lie in two slots, so that an edition can be filled while another one answers; a root counts the
   vectors of both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from codegraphd.store.errors import StoreDamaged
from codegraphd.store.records import (
    EDGE_KINDS,
    KINDS,
    LANGUAGES,
    Binding,
    Edge,
    Facts,
    FileRecord,
    Reason,
    Recipe,
    Reference,
    Stat,
    Unit,
    UnitChange,
    UnitRecord,
    UnitState,
    Words,
)
from codegraphd.store.tables import text_bytes, text_of

FORMAT: Final = 2

# Stored as indices: these lists may grow at their end; any other change of them is a new format.
_KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}
_LANGUAGE_CODE = {language: code for code, language in enumerate(LANGUAGES)}
_EDGE_CODE = {kind: code for code, kind in enumerate(EDGE_KINDS)}

_ERRORS = "surrogatepass"
_HEADER = struct.Struct("<IQBBHH")  # root, file, language, kind, bytes of path, bytes of name
_STAT = struct.Struct("<QQqqQ")  # file id, size, mtime, ctime, inode
_EDGE = struct.Struct("<QBBI")  # target, kind, strength, order
_SOURCE = struct.Struct(">QBB")  # source, kind, strength: big endian, so that duplicates sort by source
_COUNTS = struct.Struct("<5Q")
_ZLIB_LEVEL = 1
_PACKAGE_BYTES = 512  # in which the name of a package ends, the head of its array before it


def _pack(value: object) -> bytes:
    return msgpack.packb(value, unicode_errors=_ERRORS)  # type: ignore[no-any-return]


def _unpack(raw: bytes) -> Any:
    try:
        return msgpack.unpackb(raw, use_list=False, unicode_errors=_ERRORS, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise StoreDamaged(f"a record of the store cannot be read: {error}") from error


def _decompress(raw: bytes) -> bytes:
    try:
        return zlib.decompress(raw)
    except zlib.error as error:
        raise StoreDamaged(f"a record of the store cannot be read: {error}") from error


# --- files -----------------------------------------------------------------------------------------------------------


def encode_file(file: FileRecord) -> bytes:
    s = file.stat
    return _pack(
        (
            file.id, file.root, file.path, file.language, (s.size, s.mtime_ns, s.ctime_ns, s.inode), file.digest,
            file.lines, file.skipped, file.errors, file.units,
        )
    )  # fmt: skip


def decode_file(raw: bytes) -> FileRecord:
    id_, root, path, language, stat, digest, lines, skipped, errors, units = _unpack(raw)
    return FileRecord(id_, root, path, language, Stat(*stat), digest, lines, skipped, errors, units)


def encode_path(file: FileRecord) -> bytes:
    """The row that start-up compares with the disk: file id, stat and why it was skipped."""
    s = file.stat
    return _STAT.pack(file.id, s.size, s.mtime_ns, s.ctime_ns, s.inode) + text_bytes(file.skipped)


def decode_path(raw: bytes) -> tuple[int, Stat, str]:
    id_, size, mtime_ns, ctime_ns, inode = _STAT.unpack_from(raw)
    return id_, Stat(size, mtime_ns, ctime_ns, inode), text_of(raw[_STAT.size :])


def path_file(raw: bytes) -> int:
    return int.from_bytes(raw[:8], "little")


# --- units -----------------------------------------------------------------------------------------------------------


class UnitHead(NamedTuple):
    """What the indexes filter by, read without decoding the unit. `prefix` is its bytes: equal heads, equal bytes."""

    root: int
    file: int
    language: int  # index in LANGUAGES
    kind: int  # index in KINDS
    path: bytes
    name: bytes
    prefix: bytes


def encode_unit(record: UnitRecord) -> bytes:
    u = record.unit
    path, name = text_bytes(record.path), text_bytes(u.name)
    language, kind = _LANGUAGE_CODE[record.language], _KIND_CODE[u.kind]
    rest = (
        record.parent, u.qualname, u.ordinal, u.parent, u.start_byte, u.end_byte, u.start_line, u.end_line,
        u.signature, u.decorators, u.bases, u.doc, u.flags, u.face, u.body, u.own, u.shape,
    )  # fmt: skip
    return _HEADER.pack(record.root, record.file, language, kind, len(path), len(name)) + path + name + _pack(rest)


def decode_unit(id: int, raw: bytes) -> UnitRecord:
    root, file, language, kind, n_path, n_name = _HEADER.unpack_from(raw)
    end_path = _HEADER.size + n_path
    end_name = end_path + n_name
    parent, *rest = _unpack(raw[end_name:])
    return UnitRecord(
        id,
        root,
        file,
        raw[_HEADER.size : end_path].decode("utf-8", _ERRORS),
        LANGUAGES[language],
        parent,
        Unit(KINDS[kind], raw[end_path:end_name].decode("utf-8", _ERRORS), *rest),
    )


def unit_head(raw: bytes) -> UnitHead:
    root, file, language, kind, n_path, n_name = _HEADER.unpack_from(raw)
    end_path = _HEADER.size + n_path
    end_name = end_path + n_name
    return UnitHead(root, file, language, kind, raw[_HEADER.size : end_path], raw[end_path:end_name], raw[:end_name])


def unit_root(raw: bytes) -> int:
    return int.from_bytes(raw[:4], "little")


# --- words and facts: read seldom, so compressed ---------------------------------------------------------------------


def encode_words(words: Words) -> bytes:
    return zlib.compress(_pack((words.name, words.doc, words.body)), _ZLIB_LEVEL)


def decode_words(raw: bytes) -> Words:
    return Words(*_unpack(_decompress(raw)))


def encode_facts(facts: Facts) -> bytes:
    references = [(r.source, _EDGE_CODE[r.kind], r.name, r.scope, r.receiver, r.line) for r in facts.references]
    bindings = [(b.source, b.local, b.module, b.member, b.exported, b.line) for b in facts.bindings]
    return zlib.compress(_pack((facts.package, references, bindings)), _ZLIB_LEVEL)


def decode_facts(raw: bytes) -> Facts:
    package, references, bindings = _unpack(_decompress(raw))
    return Facts(
        package,
        tuple([Reference(source, EDGE_KINDS[kind], *rest) for source, kind, *rest in references]),
        tuple([Binding(*fields) for fields in bindings]),
    )


def decode_package(raw: bytes) -> str:
    """The package of encoded facts, which stands first: no more than it takes is inflated."""
    unpacker = msgpack.Unpacker(unicode_errors=_ERRORS)
    try:
        unpacker.feed(zlib.decompressobj().decompress(raw, _PACKAGE_BYTES))
        unpacker.read_array_header()
        package: str = unpacker.unpack()
    except (zlib.error, ValueError, msgpack.exceptions.UnpackException):  # damaged, or a name of absurd length
        return decode_facts(raw).package
    return package


# --- relations -------------------------------------------------------------------------------------------------------


def encode_edges(edges: Iterable[Edge]) -> bytes:
    pack, code = _EDGE.pack, _EDGE_CODE
    return b"".join([pack(e.target, code[e.kind], e.strength, e.order) for e in edges])


def decode_edges(raw: bytes) -> tuple[Edge, ...]:
    return tuple([Edge(t, EDGE_KINDS[k], s, o) for t, k, s, o in _EDGE.iter_unpack(raw)])


def reverse_edges(source: int, raw: bytes) -> set[tuple[int, bytes]]:
    """(target, bytes under that target) of a source's packed edges. Edges that differ in order alone are one."""
    pack = _SOURCE.pack
    return {(t, pack(source, k, s)) for t, k, s, _ in _EDGE.iter_unpack(raw)}


def n_edges(raw: bytes) -> int:
    return len(raw) // _EDGE.size


def decode_source(raw: bytes) -> tuple[int, str, int]:
    source, kind, strength = _SOURCE.unpack(raw)
    return source, EDGE_KINDS[kind], strength


def encode_keys(root: int, keys: Iterable[bytes]) -> bytes:
    return root.to_bytes(4, "little") + b"".join(keys)


def decode_keys(raw: bytes) -> list[bytes]:
    return [raw[at : at + 16] for at in range(4, len(raw), 16)]


def encode_pairs(root: int, pairs: Iterable[tuple[bytes, int]]) -> bytes:
    return root.to_bytes(4, "little") + b"".join([key + id_.to_bytes(8, "little") for key, id_ in pairs])


def decode_pairs(raw: bytes) -> list[tuple[bytes, int]]:
    return [(raw[at : at + 16], int.from_bytes(raw[at + 16 : at + 24], "little")) for at in range(4, len(raw), 24)]


def relation_root(raw: bytes) -> int:
    """The root in which a file's keys or pairs, or a unit's mentions, stand."""
    return int.from_bytes(raw[:4], "little")


def encode_mentions(root: int, mentions: Sequence[tuple[str, str, str]]) -> bytes:
    """`mentions` are sorted (family, name, kind): a family is written once, its names with their kinds after it."""
    groups: list[tuple[str, list[str | int]]] = []
    for family, name, kind in mentions:
        if not groups or groups[-1][0] != family:
            groups.append((family, []))
        groups[-1][1].extend((name, _EDGE_CODE[kind]))
    return root.to_bytes(4, "little") + _pack(groups)


def decode_mentions(raw: bytes) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        [
            (family, flat[at], EDGE_KINDS[flat[at + 1]])
            for family, flat in _unpack(raw[4:])
            for at in range(0, len(flat), 2)
        ]
    )


# --- state, journal, counters ----------------------------------------------------------------------------------------


def encode_state(state: UnitState) -> bytes:
    def pair(recipe: Recipe | None) -> tuple[bytes, bytes] | None:
        return None if recipe is None else (recipe.own, recipe.context)

    reason = state.reason
    attached = True if state.attached == state.recipe else pair(state.attached)  # equal is the rule: said in a byte
    return _pack(
        (
            pair(state.recipe),
            attached,
            None if reason is None else (reason.level, reason.cause, reason.depth, reason.clock),
        )
    )


def decode_state(raw: bytes) -> UnitState:
    first, second, reason = _unpack(raw)
    recipe = None if first is None else Recipe(*first)
    attached = recipe if second is True else None if second is None else Recipe(*second)
    return UnitState(recipe, attached, None if reason is None else Reason(*reason))


def encode_changes(changes: Sequence[UnitChange]) -> list[tuple[Any, ...]]:
    return [
        (c.change, c.root, c.unit, c.path, c.kind, c.qualname, c.ordinal, c.face, c.origin, c.before) for c in changes
    ]


def decode_change(fields: tuple[Any, ...]) -> UnitChange:
    """Of a line that was written before `before` was: nothing is known of what the unit was."""
    return UnitChange(*fields)


def encode_counts(counts: Sequence[int]) -> bytes:
    return _COUNTS.pack(*counts)


def decode_counts(raw: bytes) -> tuple[int, int, int, int, int]:
    return _COUNTS.unpack(raw)


def deflate(value: object) -> bytes:
    return zlib.compress(_pack(value), _ZLIB_LEVEL)


def inflate(raw: bytes) -> Any:
    return _unpack(_decompress(raw))
