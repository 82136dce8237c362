"""`codegraphd metrics`: the status document as Prometheus text, format 0.0.4.

A figure `section.name` becomes `codegraphd_section_name`; what is counted from the daemon's start is a counter, with
`_total`, all else a gauge. States are one sample for each state with the value 1 for the one that holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from codegraphd.daemon.cli import DONE
from codegraphd.daemon.cli.reach import connected

_COUNTERS = frozenset({
    "cache_hits", "cache_misses", "cache_evictions", "store_commits", "model_embedded", "model_queries",
    "model_restarts", "invalidation_changes", "invalidation_content", "invalidation_symbol", "invalidation_semantic",
    "invalidation_project", "invalidation_initial", "invalidation_early_cutoffs", "invalidation_truncated",
    "ipc_requests", "ipc_errors", "ipc_refused", "ipc_slow_readers", "workspace_watch_overflows",
    "workspace_watch_rescans",
})  # fmt: skip
_STATES = {
    "daemon_state": ("starting", "indexing", "ready", "degraded"),
    "model_state": ("unloaded", "loading", "ready", "failed"),
    "workspace_state": ("crawling", "indexing", "ready", "missing"),
}
_LABELLED = {"workspace_languages": "language", "workspace_skipped": "reason"}
_LEFT_OUT = frozenset({"schema_version", "daemon_pid", "daemon_protocol", "daemon_problems", "model_set_aside"})


class Sample(NamedTuple):
    name: str  # without the prefix
    labels: tuple[tuple[str, str], ...]
    value: float


def metrics() -> int:
    with connected(may_start=False) as client:
        document = client.call("status", deadline=60.0)
    print(prometheus_text(document), end="")
    return DONE


def prometheus_text(document: dict[str, Any]) -> str:
    """Samples of one metric stand together, each under one TYPE line."""
    grouped: dict[str, list[Sample]] = {}
    for sample in samples(document):
        grouped.setdefault(sample.name, []).append(sample)
    lines = []
    for name, group in grouped.items():
        is_counter = name in _COUNTERS
        full = f"codegraphd_{name}{'_total' if is_counter else ''}"
        lines.append(f"# TYPE {full} {'counter' if is_counter else 'gauge'}")
        for sample in group:
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample.labels)
            lines.append(f"{full}{{{labels}}} {sample.value:.15g}" if labels else f"{full} {sample.value:.15g}")
    return "\n".join(lines) + "\n"


def samples(document: dict[str, Any]) -> Iterator[Sample]:
    daemon = document.get("daemon") or {}
    yield Sample("info", (("version", str(daemon.get("version", ""))),), 1)
    yield Sample("daemon_problems", (), len(daemon.get("problems") or ()))
    for section, figures in document.items():
        if section == "workspaces":
            for workspace in figures:
                yield from _walk("workspace", workspace, (("root", str(workspace.get("root", ""))),))
        else:
            yield from _walk(section, figures, ())


def _walk(name: str, value: Any, labels: tuple[tuple[str, str], ...]) -> Iterator[Sample]:
    if name in _LEFT_OUT:
        return
    if name in _STATES:
        states = dict.fromkeys((*_STATES[name], str(value)))
        for state in states:
            yield Sample(name, (*labels, ("state", state)), float(state == value))
    elif isinstance(value, bool):
        yield Sample(name, labels, float(value))
    elif isinstance(value, int | float):
        yield Sample(name, labels, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if name in _LABELLED:
                yield from _walk(f"{name}_files", item, (*labels, (_LABELLED[name], str(key))))
            elif str(key).isidentifier() and str(key).isascii():
                yield from _walk(f"{name}_{key}", item, labels)


def _escaped(value: str) -> str:
    plain = value.encode("utf-8", "backslashreplace").decode()  # an exposition is UTF-8, whatever a path is
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
