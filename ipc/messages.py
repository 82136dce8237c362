"""Typed parameters of every method, validated at the edge, once.

A request's map is converted to the Struct that `METHODS` names; an unknown field, a wrong type or a value out of range
is answered with `BAD_PARAMETERS` and one line that names the field. Results travel as plain maps: only the handlers
make them. Defaults are those of the interface. Fields are only ever added, each with a default.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from codegraphd.ipc.errors import BAD_PARAMETERS, UNKNOWN_METHOD, RequestError
from codegraphd.ipc.version import PROTOCOL, VERSION

_MAX_INT = 2**63 - 1
Positive = Annotated[int, Meta(ge=1, le=_MAX_INT)]
Count = Annotated[int, Meta(ge=0, le=_MAX_INT)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
PathText = Annotated[str, Meta(min_length=1, max_length=65_536, pattern=r"\A[^\0]*\Z")]  # no NUL: the system takes none
Text = Annotated[str, Meta(min_length=1)]
Phrase = Annotated[str, Meta(min_length=1, max_length=65_536)]  # a question: as long as a pasted file, not as a book
Cursor = str | None


class Params(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one request carries."""


def _inside(path: str | None) -> None:
    """A relative path is relative to its workspace's root, and stays below it."""
    if path is not None and not os.path.isabs(path) and os.path.normpath(path).split(os.sep)[0] == os.pardir:
        raise ValueError("`path` leaves the workspace: give it relative to the root, or absolute")


class Hello(Params, frozen=True):
    client: str | None = None


class Status(Params, frozen=True):
    pass


class Watch(Params, frozen=True):
    root: PathText


class Unwatch(Params, frozen=True):
    root: PathText


class Search(Params, frozen=True):
    query: Phrase
    wait_ms: Count = 2500
    root: PathText | None = None
    limit: Positive = 10
    mode: Literal["hybrid", "semantic", "lexical"] = "hybrid"
    languages: list[str] | None = None
    kinds: list[str] | None = None
    paths: list[str] | None = None
    snippet_lines: Count = 0
    sync: bool = False
    cursor: Cursor = None


class Verify(Params, frozen=True):
    root: PathText


class Similar(Params, frozen=True):
    path: PathText | None = None
    line: Positive | None = None
    code: Text | None = None
    language: Text | None = None
    threshold: Share = 0.85
    limit: Positive | None = None
    languages: list[str] | None = None
    root: PathText | None = None
    cursor: Cursor = None

    def __post_init__(self) -> None:
        _inside(self.path)
        if self.code is None:
            if self.path is None or self.line is None:
                raise ValueError("give `path` and `line`, or `code` and `language`")
        elif self.path is not None or self.line is not None:
            raise ValueError("give either `path` and `line` or `code` and `language`, not both")
        elif self.language is None:
            raise ValueError("`code` needs `language`")


class Clones(Params, frozen=True):
    root: PathText
    threshold: Share = 0.9
    min_lines: Positive = 5
    languages: list[str] | None = None
    limit: Positive | None = None
    cursor: Cursor = None


class _Around(Params, frozen=True):
    path: PathText | None = None
    line: Positive | None = None
    symbol: Phrase | None = None
    depth: Positive = 3
    limit: Positive = 1000
    root: PathText | None = None
    cursor: Cursor = None

    def __post_init__(self) -> None:
        _inside(self.path)
        if (self.path is None) != (self.line is None):
            raise ValueError("`path` and `line` go together")
        if (self.path is None) == (self.symbol is None):
            raise ValueError("give either `path` and `line` or `symbol`")


class Dependents(_Around, frozen=True):
    pass


class Dependencies(_Around, frozen=True):
    pass


class Symbols(Params, frozen=True):
    pattern: Annotated[str, Meta(max_length=65_536)] | None = None
    path: PathText | None = None
    limit: Positive = 100
    root: PathText | None = None
    cursor: Cursor = None

    def __post_init__(self) -> None:
        _inside(self.path)


class Explain(Params, frozen=True):
    path: PathText
    line: Positive
    root: PathText | None = None

    def __post_init__(self) -> None:
        _inside(self.path)


class EmbedInput(Params, frozen=True):
    code: str
    language: str
    role: Literal["document", "query"] = "document"


class Embed(EmbedInput, frozen=True):
    encoding: Literal["list", "f32le"] = "list"


class EmbedBatch(Params, frozen=True):
    inputs: list[EmbedInput]
    encoding: Literal["list", "f32le"] = "list"


class Similarity(Params, frozen=True):
    code1: Text
    code2: Text
    language: Text
    language2: Text | None = None


class Changed(Params, frozen=True):
    path: PathText
    kind: Literal["added", "modified", "deleted", "moved", "opened"]
    origin: PathText | None = field(name="from", default=None)

    def __post_init__(self) -> None:
        _inside(self.path)
        _inside(self.origin)
        if os.path.normpath(self.path) == os.curdir:
            raise ValueError("`path` is the workspace itself: name what changed in it")
        if self.kind == "moved" and self.origin is None:
            raise ValueError('`kind` "moved" needs `from`')


class Sync(Params, frozen=True):
    root: PathText
    semantic: bool = False
    timeout_s: Seconds = 30.0


class Changes(Params, frozen=True):
    root: PathText
    since: Text
    limit: Positive | None = None
    cursor: Cursor = None


class Subscribe(Params, frozen=True):
    events: list[Literal["progress", "indexed", "clone"]]
    root: PathText | None = None


class Unsubscribe(Params, frozen=True):
    events: list[Literal["progress", "indexed", "clone"]]
    root: PathText | None = None


class Reindex(Params, frozen=True):
    """Read every file of the workspace again, as if nothing were known. `root` None: of every workspace."""

    root: PathText | None = None


class Gc(Params, frozen=True):
    """Drop what nothing uses: cached vectors over their time, entries of dead workspaces."""


class Reload(Params, frozen=True):
    """Read the configuration again, as SIGHUP does."""


METHODS: dict[str, type[Params]] = {
    "hello": Hello,
    "status": Status,
    "watch": Watch,
    "unwatch": Unwatch,
    "search": Search,
    "verify": Verify,
    "similar": Similar,
    "clones": Clones,
    "dependents": Dependents,
    "dependencies": Dependencies,
    "symbols": Symbols,
    "explain": Explain,
    "embed": Embed,
    "embed_batch": EmbedBatch,
    "similarity": Similarity,
    "changed": Changed,
    "sync": Sync,
    "changes": Changes,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "reindex": Reindex,
    "gc": Gc,
    "reload": Reload,
}


def parse_params(method: str, params: dict[str, Any]) -> Params:
    """The Struct of a request. Raises RequestError (UNKNOWN_METHOD, BAD_PARAMETERS) with what would be right."""
    kind = METHODS.get(method)
    if kind is None:
        shown = method[:80].encode("utf-8", "backslashreplace").decode()
        raise RequestError(UNKNOWN_METHOD, f"unknown method '{shown}'{_nearest(method, METHODS)}")
    try:
        return msgspec.convert(_with_unicode(params), kind)
    except msgspec.ValidationError as error:
        raise RequestError(BAD_PARAMETERS, f"{method}: {_explain(str(error), kind)}") from None


_FREE_TEXTS = ("query", "code", "code1", "code2")


def _with_unicode(params: dict[str, Any]) -> dict[str, Any]:
    """Texts for the model and the word index hold Unicode only: what is not UTF-8 in them is replaced. Paths keep
    the bytes that the disk has, as lone surrogates."""
    changed: dict[str, Any] = {}
    for name in _FREE_TEXTS:
        value = params.get(name)
        if isinstance(value, str) and not value.isascii():
            changed[name] = value.encode("utf-8", "replace").decode("utf-8")
    inputs = params.get("inputs")
    if isinstance(inputs, list):
        changed["inputs"] = [_with_unicode(item) if isinstance(item, dict) else item for item in inputs]
    return {**params, **changed} if changed else params


def field_names(kind: type[Params]) -> list[str]:
    """Names of the fields as they travel."""
    return [f.encode_name for f in msgspec.structs.fields(kind)]


def hello(methods: list[str] | None = None) -> dict[str, Any]:
    """The answer to `hello` of a daemon that knows `methods` (all of `METHODS` by default).

    `params` names the fields of each method, so that a newer client leaves out what this daemon does not know.
    """
    known = sorted(METHODS if methods is None else methods)
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "methods": known,
        "params": {name: field_names(METHODS[name]) for name in known if name in METHODS},
    }


_NO_CHOICE = re.compile(r"Invalid enum value '(.*)' - at `\$\.(\w+)", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"\AObject contains unknown field `(.*)`\Z", re.DOTALL)


def _explain(text: str, kind: type[Params]) -> str:
    """msgspec's line, with the fields that there are where the trouble is an unknown one."""
    if found := _UNKNOWN_FIELD.search(text):
        names = field_names(kind)
        name = found.group(1)[:80]
        known = ", ".join(names) or "none"
        return f"unknown field '{name}'{_nearest(name, names)} (fields: {known})"
    if found := _NO_CHOICE.match(text):
        field_ = next((f for f in msgspec.structs.fields(kind) if f.encode_name == found.group(2)), None)
        choices = _choices(field_.type) if field_ is not None else ()
        return f"{text}{_nearest(found.group(1), choices)} (allowed: {', '.join(choices)})" if choices else text
    return re.sub(r"Expected `str` matching regex '[^']*'", "Expected `str` without NUL", text)


def _choices(type_: Any) -> tuple[str, ...]:
    """The values of the Literal that a field's type is, or is a list of."""
    if get_origin(type_) is Literal:
        return tuple(get_args(type_))
    return next((found for part in get_args(type_) if (found := _choices(part))), ())


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name[:80], list(names), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
