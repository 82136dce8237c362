"""Blanks the macros of C and C++ that no grammar can see through: `class API Name`, `Q_OBJECT`, `API int f();`.

Each pattern is tried only where a word in capitals stands, or what else it cannot do without: a search for all of them
over the whole file took half as long as the parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from codegraphd.daemon.analysis.compiled import scan

_MACRO = rb"(?P<macro>_*[A-Z][A-Z0-9_]{3,}(?:[ \t]*\([^;{}()]*\))?)"
_CLASS_MACRO = re.compile(
    rb"\b(?:class|struct|union|enum)[ \t]+" + _MACRO + rb"(?=\s+[A-Za-z_][\w:]*\s*(?:<[^;{}()]*>\s*)?(?:final\s*)?[:{])"
)
_LINE_MACRO = re.compile(rb"^[ \t]*" + _MACRO + rb"(?=[ \t]*\r?$(?!\s*(?:\{|[A-Za-z_]\w*\s*\()))", re.MULTILINE)
_TYPE_MACRO = re.compile(
    rb"^[ \t]*(?:extern[ \t]+|static[ \t]+|inline[ \t]+)*"
    + _MACRO
    + rb"(?=[ \t]+(?:(?:const|unsigned|signed|long|struct|static|inline|virtual|explicit|extern|enum)[ \t]+)*"
    rb"(?:[A-Za-z_][\w:<>]*[ \t*&]+[\w:~]+|~\w+)[ \t]*\()",
    re.MULTILINE,
)
_TAIL_MACRO = re.compile(
    rb"^(?![ \t]*(?:if|for|while|else|switch|return|\}|#)\b)[^\n;{}]*\)[ \t]*"
    rb"(?:const\b[ \t]*|override\b[ \t]*|noexcept\b[ \t]*)*\s" + _MACRO + rb"(?=\s*[;{])",
    re.MULTILINE,
)
_LOCK_MACRO = re.compile(  # what clang's thread safety analysis reads, by the names that its manual gives them
    rb"(?<!define)(?<=[\w)\]>])\s+(?P<macro>(?:[A-Z]+_)?(?:(?:PT_)?GUARDED_BY|LOCKS_EXCLUDED|(?:(?:EXCLUSIVE|SHARED)_)?(?:LOCKS_REQUIRED|"
    rb"LOCK_FUNCTION|TRYLOCK_FUNCTION)|UNLOCK_FUNCTION|LOCK_RETURNED|RETURN_CAPABILITY|NO_THREAD_SAFETY_ANALYSIS|EXCLUDES|"
    rb"(?:REQUIRES|ACQUIRE|RELEASE|TRY_ACQUIRE|ASSERT)(?:_SHARED|_CAPABILITY)?|ACQUIRED_(?:BEFORE|AFTER))"
    rb"(?:[ \t]*\([^;{}()]*(?:\([^;{}()]*\)[^;{}()]*)*\))?)(?=\s*(?:[;{=:]|[A-Z]+_))"
)
_DEFAULTED = re.compile(  # `A::~A() = default;` is an assignment to the grammar
    rb"^([A-Za-z_][\w:<>, \t]*::~?\w+[ \t]*\([^;{}()]*\)[^\n;{}=]*)(=\s*default\s*;)", re.MULTILINE
)
_NAME_MACRO = re.compile(  # `int API f(…)`, where a type stands before the macro
    rb"^(?:(?:static|extern|inline|const|local)[ \t]+)*"
    rb"(?!(?:static|extern|inline|const|local|typedef|return|else|struct|enum|union|unsigned|case|goto)\b)"
    rb"[A-Za-z_]\w*[ \t]*[ \t*]" + _MACRO + rb"(?=[ \t]+\*?[A-Za-z_]\w*[ \t]*\()",
    re.MULTILINE,
)
_TYPE_ARGUMENT = re.compile(  # `ASSERT_OCTAL(unsigned short, 7);`, which is a call to the grammar but for the type
    rb"^[ \t]*_*[A-Z][A-Z0-9_]{3,}[ \t]*\(\s*"
    rb"(?P<macro>(?:(?:const|unsigned|signed|long|short|int|char|bool|float|double)\b[ \t*]*)+,)"
    rb"(?=[^;{}\n]*(?:\n[^;{}\n]*)?\)[ \t]*;)",
    re.MULTILINE,
)
_OLD_PROTOTYPE = re.compile(  # `int f OF((int a));`
    rb"\b((?:OF|PARAMS|__P|_P|PROTO|ARGS)[ \t]*\()(\([^;{}]*\))\)(?=\s*;)"
)
_INNER_COMMENT = re.compile(rb"/\*(?:[^*\n]|\*(?!/))*\*/(?=[^\n]*\\\r?\n)")  # to the grammar a macro ends at a comment
_NOT_LINE_END = re.compile(rb"[^\n]")
_PROTOTYPE_MACROS = (b"OF", b"PARAMS", b"_P", b"PROTO", b"ARGS")


def without_inner_comments(raw: bytes) -> bytes:
    """`raw` with the comments that stand in the lines of a macro made blanks."""
    if b"\\" not in raw or b"/*" not in raw:
        return raw
    return _INNER_COMMENT.sub(lambda match: b" " * len(match[0]), raw)


def without_macros(raw: bytes) -> bytes:
    """`raw` as the parser shall see it, of equal length. In the middle of a unit macros stay part of its text."""
    before = raw
    classes, leading, inner, tails, locks = scan.macros(raw)
    raw = _blanked(_CLASS_MACRO, raw, classes)
    raw = _blanked(_LINE_MACRO, raw, leading)
    raw = _blanked(_TYPE_MACRO, raw, leading)
    raw = _blanked(_TYPE_ARGUMENT, raw, leading)
    raw = _blanked(_NAME_MACRO, raw, inner)
    if _may_have_prototype_macro(raw):
        raw = _OLD_PROTOTYPE.sub(lambda match: b" " * len(match[1]) + match[2] + b" ", raw)
    if raw is not before:
        *_, locks = scan.macros(raw)
    if locks:
        raw = _blanked(_LOCK_MACRO, raw, locks)
    if raw is not before:
        *_, tails, _ = scan.macros(raw)
    raw = _blanked(_TAIL_MACRO, raw, tails)
    if b"default" not in raw:
        return raw
    return _DEFAULTED.sub(lambda match: match[1] + b"{" + b" " * (len(match[2]) - 2) + b"}", raw)


def _blanked(pattern: re.Pattern[bytes], raw: bytes, starts: Iterable[int]) -> bytes:
    """`raw` with the macro of each match that begins at one of `starts`, which ascend, made blanks."""
    pieces: list[bytes] = []
    position = match_end = 0
    for start in starts:
        if start >= match_end and (match := pattern.match(raw, start)) is not None:
            begin, end = match.span("macro")
            pieces.append(raw[position:begin])
            pieces.append(_NOT_LINE_END.sub(b" ", raw[begin:end]))
            position, match_end = end, match.end()
    if not pieces:
        return raw
    pieces.append(raw[position:])
    return b"".join(pieces)


def _may_have_prototype_macro(raw: bytes) -> bool:
    at = raw.find(b"((")
    while at >= 0:
        before = raw[max(0, at - 40) : at].rstrip(b" \t")
        if before.endswith(_PROTOTYPE_MACROS) or (not before and at):
            return True
        at = raw.find(b"((", at + 1)
    return False
