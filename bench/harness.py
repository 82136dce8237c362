"""Figures with their unit, target and baseline; percentiles; the machine; the table and the JSON of a run.

A figure without a baseline says how fast this machine is as much as how good the program is: so a run measures its
baselines itself, on the same files, in the same process tree, and figures name the one they are to be read against.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
VERSIONED = (
    "codegraphd", "hnswlib", "lmdb", "msgpack", "numpy", "tantivy", "tokenizers", "torch", "transformers",
    "tree-sitter", "tree-sitter-language-pack", "watchdog",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `target`: what it is to reach (None: none is set); `at_most`: on which side of it."""

    name: str
    value: float | None  # None: could not be measured; `note` says why
    unit: str
    target: float | None = None
    at_most: bool = True
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target


@dataclass(slots=True)
class Report:
    """What one run measured, in order."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)  # name -> seconds
    started: float = field(default_factory=time.time)
    limit_s: float = math.inf  # for the whole run

    def left_s(self) -> float:
        """Seconds that are left for the run."""
        return self.started + self.limit_s - time.time()

    def phase(self, name: str, work: Callable[[], None], *, needs_s: float = 0.0) -> None:
        """A part of the run. One that fails, or for which there is no time left, is one failed figure; the next ones go
        on as far as they can."""
        begin = time.time()
        try:
            if needs_s > self.left_s():
                raise TimeoutError(f"needs some {needs_s:.0f} s; {self.left_s():.0f} s are left")  # noqa: TRY301
            work()
        except Exception as error:
            self.failed(name, error)
        self.phases[name] = round(time.time() - begin, 1)

    def add(
        self,
        name: str,
        value: float | None,
        unit: str,
        *,
        target: float | None = None,
        at_most: bool = True,
        note: str = "",
    ) -> None:
        figure = Figure(name, value, unit, target, at_most, note)
        self.figures.append(figure)
        print(_line(figure), flush=True)

    def spread(self, name: str, samples_s: Sequence[float], *, target_p95: float | None = None, note: str = "") -> None:
        """p50, p95 and p99 of durations in seconds, told in milliseconds; the target, in seconds, is for p95."""
        told = f"{len(samples_s)} samples" + (f"; {note}" if note else "")
        for share, target in ((50, None), (95, target_p95), (99, None)):
            value = percentile(samples_s, share) * 1000 if samples_s else None
            self.add(f"{name} p{share}", value, "ms", target=None if target is None else target * 1000, note=told)

    def failed(self, name: str, error: BaseException) -> None:
        self.add(name, None, "", note=f"{type(error).__name__}: {error}"[:300])

    def heading(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def save(self, path: Path | None = None) -> Path:
        """Write the JSON; the default name is the time and the title, under bench/results/."""
        if path is None:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.started))
            path = RESULTS / f"{stamp}-{self.title}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "schema_version": 1,
            "title": self.title,
            "started": self.started,
            "seconds": round(time.time() - self.started, 1),
            "machine": self.machine,
            "phases": self.phases,
            "figures": [{**asdict(figure), "is_met": figure.is_met} for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path

    def table(self) -> str:
        """Markdown, for the README."""
        lines = ["| figure | value | to reach | |", "| --- | ---: | ---: | --- |"]
        for figure in self.figures:
            sign = "≤" if figure.at_most else "≥"
            target = "" if figure.target is None else f"{sign} {_number(figure.target)}"
            verdict = {True: "met", False: "**missed**", None: ""}[figure.is_met]
            words = "; ".join(filter(None, (verdict, figure.note)))
            lines.append(f"| {figure.name} | {_number(figure.value)} {figure.unit} | {target} | {words} |")
        return "\n".join(lines)


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, 0 < share <= 100, of at least one sample."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Append the seconds that the block took."""
    before = time.perf_counter()
    yield
    into.append(time.perf_counter() - before)


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str, every_s: float = 0.02) -> Any:
    """The condition's first true value; raises TimeoutError that says what did not come."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {timeout_s:g} s")
        time.sleep(every_s)
    return value


def machine() -> dict[str, Any]:
    """What the figures depend on beside the program."""
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions,
    }


def describe(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, {facts['system']}, "
        f"Python {facts['python']}, load {facts['load_at_start']} at the start\n{versions}"
    )


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _line(figure: Figure) -> str:
    target = "" if figure.target is None else f"  ({'≤' if figure.at_most else '≥'} {_number(figure.target)})"
    verdict = {True: " ok", False: " MISSED", None: ""}[figure.is_met]
    note = f"   {figure.note}" if figure.note else ""
    return f"  {figure.name:<58}{_number(figure.value):>10} {figure.unit:<8}{target}{verdict}{note}"
