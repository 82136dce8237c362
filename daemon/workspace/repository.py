"""What git would be told about a directory, read as plain text.

Owns: where a repository begins, and which ignore files outside of the working tree speak in it: `info/exclude` of the
repository (of the main one, for a linked worktree) and the user's `core.excludesFile`. git itself is never run: its
configuration can name programs.

Read from configuration files: `core.excludesFile`, `core.ignoreCase`, `include.path`. Not read: `includeIf`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from codegraphd.daemon.workspace.ignore import read_regular

_MAX_CONFIG_BYTES: Final = 1 << 20
_MAX_INCLUDES: Final = 10  # deep, as in git
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_ESCAPES: Final = {"n": "\n", "t": "\t", "b": "\b", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A working tree's top and the ignore files outside of it, strongest first (they may not exist)."""

    top: str  # absolute path
    excludes: tuple[str, ...]
    ignore_case: bool
    sources: tuple[str, ...]  # every file whose change may change the answer, the excludes among them


def find_repository(path: str, environment: Mapping[str, str] = os.environ) -> Repository | None:
    """The repository whose working tree holds `path` (absolute), or None."""
    while True:
        found = repository_at(path, environment)
        parent = os.path.dirname(path)
        if found is not None or parent == path:
            return found
        path = parent


def repository_at(top: str, environment: Mapping[str, str] = os.environ) -> Repository | None:
    """The repository whose working tree begins at `top`, or None where no working `.git` lies."""
    directory = _git_directory(os.path.join(top, ".git"))
    if directory is None:
        return None
    common = _common_directory(directory)
    config = os.path.join(common, "config")
    user = list(_user_configs(environment))
    excludes_file, ignore_case = "", False
    sources: list[str] = []
    for file in (*user, config):
        for read, key, value in _settings(file, environment, 0, sources):
            if key == "core.excludesfile":
                excludes_file = _expand(value, os.path.dirname(read), environment, base=top)
            elif key == "core.ignorecase":
                ignore_case = value.lower() in _TRUE
    if not excludes_file:
        base = environment.get("XDG_CONFIG_HOME") or os.path.join(_home(environment), ".config")
        excludes_file = os.path.join(base, "git", "ignore")
    excludes = (os.path.join(common, "info", "exclude"), excludes_file)
    return Repository(top, excludes, ignore_case, (*excludes, *sources))


def parse_config(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of a git configuration file, in order. Sections and names are lower case, subsections as written:
    "core.excludesfile", "remote.origin.url". A key without "=" has the value "true". Lines that are not well formed
    are passed over (git would refuse the whole file)."""
    section = ""
    lines = iter(text.removeprefix("\ufeff").split("\n"))
    for raw in lines:
        line = raw.strip()
        if line.startswith("["):
            end = _end_of_header(line)
            if end < 0:
                section = ""
                continue
            section = _section_name(line[1:end])
            line = line[end + 1 :].strip()
        if not line or line[0] in "#;" or not section:
            continue
        name, equals, rest = line.partition("=")
        name = name.strip().lower()
        if not name.replace("-", "").isalnum():
            name = name.split("#")[0].split(";")[0].strip()
            if equals or not name.replace("-", "").isalnum():
                continue
        yield f"{section}.{name}", _value(rest, lines) if equals else "true"


def _end_of_header(line: str) -> int:
    quoted = False
    i = 1
    while i < len(line):
        if quoted and line[i] == "\\":
            i += 1
        elif line[i] == '"':
            quoted = not quoted
        elif line[i] == "]" and not quoted:
            return i
        i += 1
    return -1


def _section_name(header: str) -> str:
    name, quote, rest = header.partition('"')
    name = name.strip().lower()
    if not quote:
        return name
    return f"{name}.{_unquote(rest)}"


def _unquote(text: str) -> str:
    return text.rpartition('"')[0].replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")


def _value(text: str, lines: Iterator[str]) -> str:
    """A value: quotes, escapes, comments, and lines continued by a backslash."""
    out: list[str] = []
    keep = 0  # what trailing blanks may not go below
    quoted = False
    text = text.lstrip()
    i = 0
    while True:
        if i >= len(text):
            break
        c = text[i]
        if c == "\\":
            i += 1
            if i >= len(text) or text[i:] == "\r":
                text, i = next(lines, ""), 0
                continue
            out.append(_ESCAPES.get(text[i], text[i]))
            keep = len(out)
        elif c == '"':
            quoted = not quoted
            keep = len(out)
        elif c in "#;" and not quoted:
            break
        else:
            out.append(c)
            if quoted or not c.isspace():
                keep = len(out)
        i += 1
    return "".join(out[:keep])


def _settings(
    path: str, environment: Mapping[str, str], depth: int, sources: list[str]
) -> Iterator[tuple[str, str, str]]:
    """(file read, key, value) of a configuration file and of those it includes."""
    sources.append(path)
    content = read_regular(path, _MAX_CONFIG_BYTES, follow=True)
    if content is None:
        return
    for key, value in parse_config(content.decode("utf-8", "surrogateescape")):
        if key == "include.path" and depth < _MAX_INCLUDES:
            included = _expand(value, os.path.dirname(path), environment)
            yield from _settings(included, environment, depth + 1, sources)
        else:
            yield path, key, value


def _user_configs(environment: Mapping[str, str]) -> Iterator[str]:
    """The system's and the user's configuration files, weakest first."""
    if environment.get("GIT_CONFIG_NOSYSTEM", "").lower() not in _TRUE:
        yield environment.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig"
    if only := environment.get("GIT_CONFIG_GLOBAL"):
        yield only
        return
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(_home(environment), ".config")
    yield os.path.join(base, "git", "config")
    yield os.path.join(_home(environment), ".gitconfig")


def _home(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or os.path.expanduser("~")


def _expand(value: str, directory: str, environment: Mapping[str, str], base: str = "") -> str:
    """A path from a configuration value; a relative one is relative to `base`, or to the file's `directory`."""
    if value == "~" or value.startswith("~/"):
        return _home(environment) + value[1:]
    if value.startswith("~"):
        return os.path.expanduser(value)
    return os.path.join(base or directory, value) if value else ""


def _git_directory(path: str) -> str | None:
    """What `.git` is or, as a file, points to: a directory with HEAD in it; None where git would not accept it."""
    if os.path.isdir(path):
        directory = path
    else:
        content = read_regular(path, 1 << 16, follow=True)
        if content is None or not content.startswith(b"gitdir:"):
            return None
        target = os.fsdecode(content[len(b"gitdir:") :].strip(b" \r\n"))
        if "\0" in target:
            return None
        directory = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if not os.path.lexists(os.path.join(directory, "HEAD")):
        return None
    return directory if os.path.isdir(os.path.join(_common_directory(directory), "objects")) else None


def _common_directory(directory: str) -> str:
    """A linked worktree shares configuration and `info/exclude` with the main one, named in `commondir`."""
    content = read_regular(os.path.join(directory, "commondir"), 1 << 16, follow=True)
    if content is None or b"\0" in content:
        return directory
    return os.path.normpath(os.path.join(directory, os.fsdecode(content.rstrip(b"\r\n"))))
