"""What the configuration means for each part of the daemon, and which of its keys have no effect yet or not at once."""

from __future__ import annotations

from collections.abc import Callable

from codegraphd.daemon.analysis.languages import language_of
from codegraphd.daemon.config import Config
from codegraphd.daemon.engine import Settings
from codegraphd.store.vectors import Budget

AT_ONCE = frozenset({"cache", "embedding", "index", "limits", "log"})  # what a running daemon takes; else it restarts


def engine_settings(config: Config) -> Settings:
    """`context = "auto"` is "none": with MiniLM a context input is worth 0.003 of MRR (0.663 against 0.660, within the
    error) at a weight of 0.1 and costs quality from 0.3 on, for twice the model's time (bench.context)."""
    return Settings(
        max_cascade_depth=config.incremental.max_cascade_depth,
        max_cascade_units=config.incremental.max_cascade_units,
        faces=config.embedding.context == "faces",
    )


def cache_budget(config: Config) -> Budget:
    return Budget(max_bytes=int(config.cache.max_mb * 2**20), ttl_hours=int(config.cache.ttl_hours))


def module_cache_bytes(config: Config) -> int:
    """An eighth of what the configuration gives to what can be computed again: by default 256 MB, the modules of some
    18,000 files of 16 KB."""
    return config.cache.max_mb * 2**20 // 8


def wanted_language(config: Config) -> Callable[[str, bytes], str | None]:
    """`analysis.languages.language_of`, less the languages that the configuration leaves out."""
    wanted, with_text = frozenset(config.index.languages), config.index.text_fallback
    if not wanted and with_text:
        return language_of

    def choose(path: str, first_line: bytes = b"") -> str | None:
        language = language_of(path, first_line)
        if language is None or (wanted and language not in wanted) or (language == "text" and not with_text):
            return None
        return language

    return choose


def without_effect(config: Config) -> list[str]:
    """Lines for `status`: keys that are set to what this version cannot do. Better said than silently ignored."""
    lines = []
    if config.compression.dimensions:
        lines.append("[compression] dimensions is not implemented yet: vectors are kept at full width")
    if config.compression.sparsity:
        lines.append("[compression] sparsity is not implemented yet: all components are kept")
    if config.compression.precision == "dynamic":
        lines.append('[compression] precision = "dynamic" is not implemented yet: int8 is used')
    return lines


def store_precision(config: Config) -> str:
    precision = config.compression.precision
    return "int8" if precision == "dynamic" else precision
