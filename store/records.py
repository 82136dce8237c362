"""Every record that flows through codegraphd. Read this first.

Terms: a *root* is a watched workspace; a *unit* is a piece of code worth finding (a function, a class, a section of
a text); a unit's *face* is what other code can see of it, its *body* is the rest; a *reference* is a place where a
unit names something else; a *binding* is a name that an import brings into a file; a *recipe* is the digest of what
the model reads for a unit. `daemon.analysis` makes `Module`s; `daemon.graph` and `daemon.engine` turn them into the
stored records; `store.codec` knows their bytes.

Standard library only: the parser processes and the command line import this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, TypeVar

LANGUAGES = ("rust", "python", "javascript", "typescript", "java", "go", "c", "cpp", "csharp", "markdown", "text")

KINDS = (
    "function", "method", "constructor", "class", "struct", "enum", "interface", "trait", "impl", "module",
    "namespace", "constant", "type", "macro", "property", "section", "part", "file",
)  # fmt: skip

DIGEST_BYTES = 16


def digest(*parts: bytes | str) -> bytes:
    """SHA-256 over the length-prefixed parts, cut to 16 bytes: what is enough to tell 2**40 units apart."""
    h = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "little"))
        h.update(raw)
    return h.digest()[:DIGEST_BYTES]


_Record = TypeVar("_Record")


def _quick(record: type[_Record]) -> type[_Record]:
    """A frozen dataclass with an `__init__` that takes half the time: there are some 100,000 of these to a project.

    `dataclass` sets the fields of a frozen class through `object.__setattr__`, which looks each of them up by name;
    this one goes to the slots. For records without defaults.
    """
    names = tuple(record.__dataclass_fields__)  # type: ignore[attr-defined]
    setters = {f"set_{name}": getattr(record, name).__set__ for name in names}
    body = "\n".join(f"    set_{name}(self, {name})" for name in names)
    exec(f"def __init__(self, {', '.join(names)}):\n{body}", setters)  # noqa: S102
    record.__init__ = setters["__init__"]  # type: ignore[method-assign]
    return record


# --- what the analysis finds in one file -----------------------------------------------------------------------------


class Flag(IntFlag):
    """Properties of a unit that a query or a reader may ask for."""

    EXPORTED = 1
    ASYNC = 2
    TEST = 4
    STATIC = 8
    ABSTRACT = 16
    DECLARATION = 32  # no body here: a prototype, an abstract method, an overload
    GENERATED = 64
    STALE = 128  # in answers only: its source does not parse at present


@_quick
@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as its own file's bytes show it. Knows no path, no id and no other file."""

    kind: str  # of KINDS
    name: str  # "load"
    qualname: str  # "Config.load": relative to the file, or to the package or namespace that the source declares
    ordinal: int  # 0, 1, ... among units of equal (kind, qualname) in the file, in source order
    parent: int  # index in Module.units of the enclosing unit; -1: none
    start_byte: int  # half-open byte span, decorators and doc comment included
    end_byte: int
    start_line: int  # 1-based, inclusive
    end_line: int
    signature: str  # one line, canonical white space: "def load(path: str) -> Config", "class Foo(Base)"
    decorators: tuple[str, ...]  # as written, canonical white space, without '@' or brackets
    bases: tuple[str, ...]  # names of what it inherits from or implements, as written, type arguments dropped
    doc: str  # the doc comment, markers removed, at most 2,000 characters
    flags: int  # Flag
    face: bytes  # digest of kind, name, signature, decorators, bases, first line of doc
    body: bytes  # digest of what is in `own` and not in the face
    own: bytes  # digest of the unit's normalised text: equal exactly where the model would read the same
    shape: bytes  # like `own`, with identifiers and literals abstracted: renamed clones agree


@_quick
@dataclass(frozen=True, slots=True)
class Words:
    """What the word index reads of one unit: lower-case words joined by single blanks, see daemon.analysis.words."""

    name: str  # the parts of its name and qualified name
    doc: str
    body: str  # identifiers (whole and split), words of comments and strings, in order, repeats kept


@_quick
@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a unit that names something. `json.loads(x)`: name "loads", scope "json"."""

    source: int  # index in Module.units of the innermost unit it stands in; -1: the file's top level
    kind: str  # of EDGE_KINDS, less "import" and "contain"
    name: str  # the last identifier
    scope: str  # what stands before it, "." as separator: "json", "self", "a.b", "super"; "": nothing
    receiver: str  # the written type of the scope where the same file shows it ("Config" for `c: Config; c.load()`)
    # In C# a type that is written with arguments ends in "<>" there; "<>" alone says it of the name itself.
    line: int


@_quick
@dataclass(frozen=True, slots=True)
class Binding:
    """A name that an import brings in. `from ..a import b as c`: local "c", module "..a", member "b"."""

    source: int  # index in Module.units of the innermost unit it stands in; -1: the file's top level
    local: str  # the name it has in this file; "" for an import for its effects; "*" for all names
    module: str  # the specifier as written: "pkg.mod", "..a", "./x.js", "foo/bar.h", "crate::a::b", "java.util"
    member: str  # what is taken from the module; "": the module itself; "*": everything
    exported: bool  # visible to those who import this file (re-export, `pub use`, top level of a Python module)
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed file. `skipped` says why there are no units: "binary", "minified", "parser timeout", …"""

    language: str  # of LANGUAGES
    digest: bytes  # SHA-256 of the bytes, 32 bytes
    size: int  # bytes
    lines: int
    package: str  # what the source declares: Java or Go package, C# namespace, Rust "", C++ ""
    units: tuple[Unit, ...]  # in order of (start_byte, -end_byte): parents before children
    words: tuple[Words, ...]  # one for each unit
    references: tuple[Reference, ...]
    bindings: tuple[Binding, ...]
    errors: int  # syntax errors met; what parses is in `units`
    skipped: str  # "": not skipped


@dataclass(frozen=True, slots=True)
class PackedModule:
    """A `Module` as it goes to the index (`daemon.packing`): what is stored as it is lies in it as the store's rows."""

    language: str
    digest: bytes
    size: int
    lines: int
    units: tuple[Unit, ...]
    words: tuple[bytes, ...]  # one row for each unit, as store.codec has them
    facts: bytes  # a row: package, references, bindings
    outline: bytes  # digest of what resolution reads of the file itself (daemon.graph.outline); b"": not known
    errors: int
    skipped: str


# --- the file system -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stat:
    """What tells cheaply that a file may have changed. A file changed within the last two seconds is hashed again."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class FileChange:
    """A path whose stat moved since it was last seen. `stat` is None when there is no (indexable) file any more."""

    path: str  # relative to the root, "/" as separator, surrogate-escaped
    stat: Stat | None
    skipped: str = ""  # why the file is not to be read although it is there: "too large", "unreadable", …


# --- what is stored --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RootRecord:
    id: int  # never used again for another path
    path: str  # absolute, real path


@dataclass(frozen=True, slots=True)
class FileRecord:
    id: int  # stable over edits and moves of the file
    root: int
    path: str
    language: str
    stat: Stat
    digest: bytes  # 32 bytes; b"" when it was never read
    lines: int
    skipped: str
    errors: int
    units: tuple[int, ...]  # unit ids, in the order of Module.units


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A unit at its place. `id` is opaque: no part of an equality or a tie-break; it stays over edits and moves."""

    id: int
    root: int
    file: int  # FileRecord.id
    path: str
    language: str
    parent: int  # unit id; 0: none. `unit.parent` is the same as an index into the file's units
    unit: Unit

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Identity inside a root: path, kind, qualified name, ordinal."""
        return (self.path, self.unit.kind, self.unit.qualname, self.unit.ordinal)


@dataclass(frozen=True, slots=True)
class Facts:
    """What resolution needs of a file without reading its source again. Indices are those of FileRecord.units."""

    package: str
    references: tuple[Reference, ...]
    bindings: tuple[Binding, ...]


EDGE_KINDS = ("import", "call", "inherit", "implement", "type", "decorate", "instantiate", "contain", "declare")


class Strength(IntEnum):
    """How sure and how binding an edge is. Only CRITICAL and STRONG ones are stored and enter recipes."""

    WEAK = 1  # one of several definitions of that name
    MEDIUM = 2  # the only definition of that name in the root
    STRONG = 3  # by import, scope or written type: calls, type uses, instantiation
    CRITICAL = 4  # as STRONG, and the source cannot be understood without it: inherit, implement, decorate, declare


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """From one unit to another; the source is the unit under which it is stored."""

    target: int  # unit id
    kind: str  # of EDGE_KINDS
    strength: int  # Strength
    order: int = 0  # of first use in the source unit: ties in what is quoted go by it


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model reads for a unit, as digests: keys of the vector cache. `context` b"": no context input."""

    own: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a unit was last (to be) embedded."""

    level: str  # initial, content, symbol, semantic, project, model
    cause: str  # "path:qualname" of the unit whose change brought it, or the path of a project file
    depth: int  # 0: the unit itself
    clock: int  # of the commit that found it stale


@dataclass(frozen=True, slots=True)
class UnitState:
    """What is known of a unit beside its source."""

    recipe: Recipe | None  # None: not computed yet
    attached: Recipe | None  # the recipe of the vector that answers now; None: no vector
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class UnitChange:
    """One line of the journal. For "moved", `origin` is the former path and qualified name; for "moved" and "modified",
    `before` is the `content` of the unit as it was."""

    change: str  # added, modified, deleted, moved
    root: int
    unit: int  # id
    path: str
    kind: str
    qualname: str
    ordinal: int
    face: bool  # its face changed
    origin: str = ""
    before: bytes = b""


@dataclass(frozen=True, slots=True)
class LostUnit:
    """A unit that went with a syntax error in its file, as it was: it answers a while longer."""

    unit: UnitRecord
    words: Words
    vector: Any  # float32[dim] | None
    edition: int  # that the vector is of


@dataclass(frozen=True, slots=True)
class Where:
    """A filter for both indexes. None: no restriction."""

    roots: frozenset[int] | None = None
    languages: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    keep: Callable[[int], bool] | None = None  # asked last, for a unit id: what the indexes cannot know (path globs)


# --- to the model and back -------------------------------------------------------------------------------------------


WHOLE_FILE = -1  # in the place of a unit's index: the whole of a file's source


@dataclass(frozen=True, slots=True)
class CodeFlow:
    """A unit's code for a model that reads data flow (GraphCodeBERT): a function of its language and own text."""

    comment: str  # what the unit's doc says first
    tokens: tuple[str, ...]  # the leaves of its syntax tree, comments left out
    variables: tuple[tuple[int, tuple[int, ...]], ...]  # (its token, the tokens that its value comes from)


@dataclass(frozen=True, slots=True)
class Input:
    """One text for the model. `key` is its digest in the vector cache."""

    key: bytes
    text: str
    flow: CodeFlow | None = None  # read in place of the text, where there is one


@dataclass(frozen=True, slots=True)
class Batch:
    id: int
    inputs: tuple[Input, ...]
    urgent: bool = False  # somebody has just saved it, and waits


def flags_of(names: Iterable[Flag]) -> int:
    """The flags or-ed together, as stored in `Unit.flags`."""
    value = 0
    for name in names:
        value |= int(name)
    return value
