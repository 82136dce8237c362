"""The configuration: TOML sections as frozen dataclasses, checked once, with a default for every key.

An unknown key or a bad value is one `ConfigError`, a line that names the file, the key, what is allowed and the
nearest right name. A missing file is an empty one.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from codegraphd.store.records import LANGUAGES

BAD_CONFIGURATION = 78  # exit code, EX_CONFIG of sysexits.h


class ConfigError(Exception):
    """One line: the file, the key, what is allowed."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a key allows: `allowed` for the message, `check` gives the value to keep or raises TypeError, ValueError."""

    allowed: str
    check: Callable[[Any], Any]
    choices: tuple[str, ...] = ()


def _key(default: Any, rule: _Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


def _one_of(*choices: str) -> _Rule:
    def check(value: Any) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError
        return value

    return _Rule("one of " + ", ".join(f'"{c}"' for c in choices), check, choices)


def _whole(low: int, high: int, note: str = "") -> _Rule:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return _Rule(f"a whole number from {low} to {high}{note}", check)


def _number(low: float, high: float, note: str = "") -> _Rule:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError
        return float(value)

    return _Rule(f"a number from {low:.10g} to {high:.10g}{note}", check)


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_text(item) for item in value)


def _languages(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    if not set(names) <= set(LANGUAGES):
        raise ValueError
    return names


@dataclass(frozen=True, slots=True)
class Embedding:
    model: str = _key("all-MiniLM-L6-v2", _Rule("the name of a known model, or a directory that holds one", _text))
    device: str = _key("auto", _one_of("auto", "cpu", "cuda", "mps"))
    dtype: str = _key("auto", _one_of("auto", "float32", "bfloat16", "int8"))
    batch_tokens: int = _key(2048, _whole(64, 1 << 20))
    max_tokens: int = _key(0, _whole(0, 1 << 20, " (0: what suits the model best)"))
    context: str = _key("auto", _one_of("auto", "none", "faces"))
    fallback_models: tuple[str, ...] = _key((), _Rule("a list of model names or directories", _texts))
    idle_unload_s: float = _key(600.0, _number(0, 1e9, " (0: never)"))
    threads: int = _key(0, _whole(0, 1024, " (0: chosen by the machine)"))


@dataclass(frozen=True, slots=True)
class Compression:
    dimensions: int = _key(0, _whole(0, 65_536, " (0: all of the model's)"))
    precision: str = _key("int8", _one_of("float32", "float16", "int8", "int4", "binary", "dynamic"))
    sparsity: float = _key(0.0, _number(0, 0.99, " (the share of smallest components dropped)"))


@dataclass(frozen=True, slots=True)
class Incremental:
    max_cascade_depth: int = _key(3, _whole(0, 100))
    max_cascade_units: int = _key(2000, _whole(0, 10_000_000))
    settle_ms: float = _key(30.0, _number(0, 60_000))


@dataclass(frozen=True, slots=True)
class Cache:
    max_mb: int = _key(2048, _whole(1, 1 << 24))
    ttl_hours: float = _key(0.0, _number(0, 1e9, " (0: never too old)"))


@dataclass(frozen=True, slots=True)
class Index:
    languages: tuple[str, ...] = _key(
        (), _Rule("a list of " + ", ".join(LANGUAGES) + " (empty: all)", _languages, LANGUAGES)
    )
    exclude: tuple[str, ...] = _key((), _Rule("a list of patterns as in .gitignore", _texts))
    max_file_kb: int = _key(1024, _whole(1, 1 << 20))
    text_fallback: bool = _key(default=True, rule=_Rule("true or false", _yes_or_no))
    ann_max_mb: int = _key(256, _whole(0, 1 << 24, " (0: exact scans only)"))


@dataclass(frozen=True, slots=True)
class Limits:
    clients: int = _key(256, _whole(1, 100_000))
    frame_mb: float = _key(4.0, _number(0.001, 1024))
    reply_mb: float = _key(256.0, _number(0.001, 2048))
    request_timeout_s: float = _key(120.0, _number(0.01, 86_400))
    memory_mb: int = _key(1024, _whole(32, 1 << 24))


@dataclass(frozen=True, slots=True)
class Log:
    level: str = _key("info", _one_of("debug", "info", "warning", "error"))
    format: str = _key("text", _one_of("text", "json"))


@dataclass(frozen=True, slots=True)
class Config:
    embedding: Embedding = Embedding()
    compression: Compression = Compression()
    incremental: Incremental = Incremental()
    cache: Cache = Cache()
    index: Index = Index()
    limits: Limits = Limits()
    log: Log = Log()


def load(path: str) -> Config:
    """The configuration in a file; the defaults where there is none. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(raw, path)


def parse(raw: bytes, path: str) -> Config:
    """The configuration that these bytes say; `path` is for the message. Raises ConfigError."""
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error or 'nested too deeply'}") from None
    sections: dict[str, Any] = {section.name: section.default for section in dataclasses.fields(Config)}
    for name, value in table.items():
        if name not in sections:
            owners = [s for s, default in sections.items() if name in _rules(default)]
            if owners:
                raise ConfigError(f"{path}: {name}: belongs into a section: write it below [{owners[0]}]")
            known = ", ".join(sections)
            raise ConfigError(f"{path}: [{_shown(name)}]: unknown section{_nearest(name, sections)} (allowed: {known})")
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {name}: is a section: write [{name}] and its keys below")
        sections[name] = _section(name, sections[name], value, path)
    return Config(**sections)


def as_table(config: Config) -> dict[str, dict[str, Any]]:
    """Section -> key -> value, of plain types."""
    return {name: dict(keys) for name, keys in dataclasses.asdict(config).items()}


def as_toml(config: Config) -> str:
    """The effective configuration as a file that `load` reads back."""
    lines: list[str] = []
    for name, keys in as_table(config).items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {as_toml_value(value)}" for key, value in keys.items()]
        lines.append("")
    return "\n".join(lines)


def _section(name: str, default: Any, given: Mapping[str, Any], path: str) -> Any:
    rules = _rules(default)
    values = {}
    for key, value in given.items():
        where = f"{path}: [{name}] {_shown(key)}"
        rule = rules.get(key)
        if rule is None:
            raise ConfigError(f"{where}: unknown key{_nearest(key, rules)} (allowed: {', '.join(rules)})")
        try:
            values[key] = rule.check(value)
        except (TypeError, ValueError):
            wrong = value if isinstance(value, list) else [value]
            wrong = [item for item in wrong if isinstance(item, str) and item not in rule.choices]
            near = _nearest(wrong[0], rule.choices) if wrong else ""
            raise ConfigError(f"{where} = {_shown(as_toml_value(value))}: allowed is {rule.allowed}{near}") from None
    return dataclasses.replace(default, **values)


def _rules(section: Any) -> dict[str, _Rule]:
    return {f.name: f.metadata["rule"] for f in dataclasses.fields(section)}


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _shown(text: str) -> str:
    """Fit for one line of a message."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if len(plain) <= 80 else plain[:77] + "..."


def as_toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, tuple | list):
        return "[" + ", ".join(as_toml_value(item) for item in value) + "]"
    return str(value)


def _toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def changed_sections(old: Config, new: Config) -> tuple[str, ...]:
    """Names of the sections that differ: what a reload has to carry out."""
    return tuple(f.name for f in dataclasses.fields(Config) if getattr(old, f.name) != getattr(new, f.name))
