"""The pool of parser processes: files in, modules out, and no file can hold the daemon.

Terms: a *job* is one file to parse or to render; it is *urgent* when a person waits for it (an edit), else *bulk*; a
*slot* is the place of one child process; jobs that were handed to a child are *in flight*.

Parsing holds the interpreter lock and can hang on hostile input, so it always happens in another process
(`daemon.parser_process`), which also opens, reads and hashes the file: a file that did not change costs the daemon
nothing but its stat. What was parsed before, here or in another workspace, is not parsed again: the child takes the
module from the cache (`daemon.module_cache`). Up to `DEPTH` jobs are in flight for each child, so that it never waits
for us; an urgent job goes to the child with the least in flight, and that child takes it before the bulk that it
already holds.

Blame. A child that makes no progress for `deadline_s`, or that dies, had told which file it was parsing ("start", with
stat and digest). That file is skipped ("parser timeout"), or tried once more and then skipped ("parser crash"); all
others go back to the front of their queue. Where the child had told nothing, all it held is tried again one at a time,
so that the next time leaves no doubt.

The deadline is of processor time, because a busy machine is no hostile file; a child that neither works nor answers is
given `PATIENCE` times as long.

Threads. Any thread may submit. Answers come on the reader thread of a child, or on the pool's own thread: `done` must
be quick and must not raise. Children are started by the pool's thread, which lives as long as the pool (see child.py).
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil

from codegraphd.daemon.child import Child
from codegraphd.daemon.module_cache import ModuleCache
from codegraphd.daemon.packing import skipped_module
from codegraphd.daemon.parser_process import ANALYSIS, module_from_wire, pack, unpack
from codegraphd.store.records import CodeFlow, PackedModule, Stat

log = logging.getLogger(__name__)

DEPTH = 3  # jobs in flight for one child: enough that it never waits for the daemon, few enough to be given back
START_S = 60.0  # a child that is not ready by then is killed; imports take 0.3 s on a quiet machine
MAX_ATTEMPTS = 2  # a file that brought down its process this often is skipped
PATIENCE = 5  # deadlines of wall time, for a child that waits (for the disk, for a processor)
BACKOFF_S = (0.1, 0.5, 2.0, 10.0, 30.0)  # between starts of children that die before they are ready


@dataclass(frozen=True, slots=True)
class ParseJob:
    root_path: str  # absolute
    path: str  # relative to the root, surrogate-escaped
    known_digest: bytes | None  # SHA-256: equal bytes are not parsed again
    max_bytes: int  # longer files are skipped as "too large"
    anew: bool = False  # parsed whatever the module cache has


@dataclass(frozen=True, slots=True)
class StudyJob:
    root_path: str
    path: str
    digest: bytes  # SHA-256 of the bytes that the spans belong to
    language: str
    start_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """What became of a file: exactly one of `module`, `unchanged`, `gone` and `skipped` (the reason) is set."""

    path: str
    stat: Stat | None = None  # from just before the bytes were read; None: gone, or never seen
    module: PackedModule | None = None  # its `skipped` says "parser timeout" or "parser crash" for such a file
    unchanged: bool = False
    gone: bool = False  # no regular file of that name (any more)
    skipped: str = ""  # "unreadable", "too large": there, but its bytes were not had
    texts: bytes = b""  # packed own texts of the module's units, where the job was urgent


@dataclass(frozen=True, slots=True)
class RenderJob:
    root_path: str
    path: str
    digest: bytes  # SHA-256 of the bytes that were parsed
    flows: tuple[int, ...] = ()  # indices of the units whose data flow is wanted; records.WHOLE_FILE: that of all of it


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a model may read of the units of a file."""

    texts: tuple[str, ...]  # of all units, in their order
    flows: Mapping[int, CodeFlow]  # of those that were asked for, as far as they have one


@dataclass(slots=True, eq=False)
class _Task:
    number: int
    name: str
    request: bytes
    urgent: bool
    finish: Callable[[Any], None]  # with Parsed, Rendered or a study
    kind: str  # "parse", "render" or "study"
    attempts: int = 0  # how often a process went down while it had this file in hand
    alone: bool = False  # under suspicion: nothing else is in flight beside it


@dataclass(frozen=True, slots=True)
class _Start:
    """What a child told before it began to parse."""

    number: int  # of the task
    stat: Stat
    digest: bytes
    language: str
    cpu_s: float  # processor time the child had used by then


@dataclass(slots=True, eq=False)
class _Slot:
    child: ChildLike | None = None  # None for the moment between the decision to start it and its start
    ready: bool = False
    in_flight: dict[int, _Task] = field(default_factory=dict)
    started: _Start | None = None
    heard: float = 0.0  # when it last made progress, or was handed work after idling; monotonic
    due: float = 0.0  # when to look whether it is overdue
    hung: bool = False  # killed for its deadline, or retired: takes no more work


class ChildLike(Protocol):
    pid: int

    def send(self, frame: bytes) -> None: ...
    def kill(self) -> None: ...
    def close(self, timeout: float = 3.0) -> None: ...


class Parsers:
    """Up to `most` parser processes. Others than the one that is kept warm for edits end after `idle_s`.

    The first one starts with the first job, or `warm_after_s` after the pool was made (or has lost its last child): the
    first edit then does not wait 0.3 s for a start, and a daemon that starts is not slowed down by it.

    Every job is answered exactly once, unless the pool is closed first. `module` names the module that children parse
    with: one with the functions of `daemon.analysis.parse`. `modules`: the cache of what they parsed.
    """

    def __init__(
        self,
        *,
        most: int = 2,
        deadline_s: float = 2.0,
        idle_s: float = 30.0,
        warm_after_s: float = 2.0,
        module: str = ANALYSIS,
        modules: ModuleCache | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._deadline_s, self._idle_s, self._module, self._clock = most, deadline_s, idle_s, module, clock
        self._modules = modules
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._urgent: deque[_Task] = deque()
        self._bulk: deque[_Task] = deque()
        self._slots: list[_Slot] = []
        self._closed = False
        self._wakes_at = 0.0  # when the pool's thread looks again by itself; 0: it is awake
        self._failed_starts, self._may_start = 0, 0.0
        self._warm_after_s, self._warm_at = warm_after_s, clock() + warm_after_s
        outcomes = ("parsed", "seen", "unchanged", "gone", "skipped", "rendered", "studied")
        self._counts = dict.fromkeys((*outcomes, "timeouts", "crashes", "starts"), 0)
        self._parse_s = 0.0
        self._thread = threading.Thread(target=self._manage, name="parsers", daemon=True)
        self._thread.start()

    def parse(self, job: ParseJob, done: Callable[[Parsed], None], *, urgent: bool) -> None:
        """Read and hash one file; parse it, or take its module from the cache."""
        places = self._modules.places() if self._modules and not job.anew else ()
        where, rest = (job.root_path, job.path), (job.known_digest, job.max_bytes, places)
        self._submit(where, rest, done, kind="parse", urgent=urgent)

    def render(self, job: RenderJob, done: Callable[[Rendered | None], None], *, urgent: bool) -> None:
        """What the model reads of the units of a file; None: the file has moved on or cannot be had."""
        self._submit((job.root_path, job.path), (job.digest, job.flows), done, kind="render", urgent=urgent)

    def study(self, job: StudyJob, done: Callable[[dict[str, Any] | None], None]) -> None:
        """Features, control flow and data flow of one unit; None: the file has moved on, cannot be had, or took too
        long. Somebody waits for it: it is urgent."""
        rest = (job.digest, job.language, job.start_byte, job.end_byte)
        self._submit((job.root_path, job.path), rest, done, kind="study", urgent=True)

    def close(self) -> None:
        """End all children. Jobs that are not answered yet never will be."""
        with self._lock:
            self._closed = True
            self._urgent.clear()
            self._bulk.clear()
            slots = list(self._slots)
            self._changed.notify()
        self._thread.join()
        for slot in slots:
            if slot.child:
                if slot.in_flight or not slot.ready:
                    slot.child.kill()
                slot.child.close()

    def statistics(self) -> dict[str, Any]:
        """Counters since the start, and what runs now."""
        with self._lock:
            return {
                **self._counts,
                "parse_s": round(self._parse_s, 3),  # processor time in the children, about
                "children": [slot.child.pid for slot in self._slots if slot.child],
                "queued": len(self._urgent) + len(self._bulk),
                "in_flight": sum(len(slot.in_flight) for slot in self._slots),
                "failing": self._failed_starts > 1,  # children die before they are ready
                "cache": self._modules.statistics() if self._modules else None,
            }

    # --- handing out ---------------------------------------------------------------------------------------------

    def _submit(
        self,
        where: tuple[str, str],
        rest: tuple[Any, ...],
        finish: Callable[[Any], None],
        *,
        kind: str,
        urgent: bool,
    ) -> None:
        number, (root, path) = next(self._numbers), where
        request = pack((number, kind, urgent, os.fsencode(root), os.fsencode(path), *rest))
        with self._lock:
            if self._closed:
                return
            (self._urgent if urgent else self._bulk).append(_Task(number, path, request, urgent, finish, kind))
            self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting tasks to children that can take them; ask for another child where they cannot. Locked."""
        while task := self._first():
            # An urgent task may always join the bulk that a child holds: it is taken next there.
            able = [
                slot
                for slot in self._slots
                if slot.ready
                and slot.child
                and not slot.hung
                and not any(held.alone for held in slot.in_flight.values())
                and (not slot.in_flight if task.alone else len(slot.in_flight) < DEPTH + task.urgent)
            ]
            if not able:
                break
            slot = min(able, key=lambda slot: len(slot.in_flight))
            (self._urgent if task.urgent else self._bulk).popleft()
            if not slot.in_flight:
                self._progress(slot)
            slot.in_flight[task.number] = task
            assert slot.child is not None
            slot.child.send(task.request)
        if self._wants_child():
            self._changed.notify()

    def _progress(self, slot: _Slot) -> None:
        """It is alive: its time counts from now. The pool's thread wakes by itself for any earlier time."""
        slot.heard = self._clock()
        slot.due = slot.heard + self._deadline_s
        if slot.due < self._wakes_at:
            self._changed.notify()

    def _first(self) -> _Task | None:
        return self._urgent[0] if self._urgent else self._bulk[0] if self._bulk else None

    def _wants_child(self) -> bool:
        waiting = len(self._urgent) + len(self._bulk)
        return (
            waiting > 0
            and len(self._slots) < self._most
            and all(slot.ready for slot in self._slots)
            and (not self._slots or waiting > DEPTH)
        )

    def _warms(self, now: float) -> bool:
        return not self._slots and max(self._warm_at, self._may_start) <= now

    def _give_back(self, tasks: list[_Task]) -> None:
        """To the front of their queues, in their old order. Locked."""
        for task in sorted(tasks, key=lambda task: task.number, reverse=True):
            (self._urgent if task.urgent else self._bulk).appendleft(task)

    # --- answers (reader threads) --------------------------------------------------------------------------------

    def _on_frame(self, slot: _Slot, frame: bytes) -> None:
        number, tag, *rest = unpack(frame)
        with self._lock:
            self._progress(slot)
            if tag == "ready":
                slot.ready, self._failed_starts = True, 0
                self._hand_out()
                return
            if tag == "refused":
                assert self._modules is not None
                self._modules.refused()
                return
            if tag == "start":
                slot.started = _Start(number, Stat(*rest[0]), *rest[1:])
                return
            task = slot.in_flight.pop(number, None)
            started, slot.started = slot.started, None
            if task is not None:
                self._count(tag, rest)
            self._hand_out()
        if task is not None:
            self._finish(task, _outcome(task, tag, rest, started))

    def _count(self, tag: str, rest: list[Any]) -> None:
        name = {"module": "parsed", "texts": "rendered", "raised": "crashes"}.get(tag, tag)
        self._counts[name] += 1
        if tag == "module":
            self._parse_s += rest[2]

    def _on_exit(self, slot: _Slot, status: int) -> None:
        """The child is gone: sort out who is to blame, and give the rest back."""
        with self._lock:
            self._slots.remove(slot)
            self._warm_at = self._clock() + self._warm_after_s
            if self._closed:
                return
            if not slot.ready:
                self._failed_starts += 1
                wait = BACKOFF_S[min(self._failed_starts, len(BACKOFF_S)) - 1]
                self._may_start = self._clock() + wait
                log.error("a parser process ended with status %d before it was ready; next start in %gs", status, wait)
            held = list(slot.in_flight.values())
            number = slot.started.number if slot.started else held[0].number if len(held) == 1 else 0
            blamed = next((task for task in held if task.number == number), None)
            verdict = ""
            if blamed:
                blamed.attempts += 1
                if slot.hung:
                    verdict = "parser timeout"
                    self._counts["timeouts"] += 1
                else:
                    self._counts["crashes"] += 1
                    if blamed.attempts >= MAX_ATTEMPTS:
                        verdict = "parser crash"
                log.warning("parser process %s over %s", verdict or f"died with {status}", blamed.name)
            for task in held:
                task.alone = task.alone or blamed is None or task is blamed
            self._give_back([task for task in held if task is not blamed or not verdict])
            self._hand_out()
            self._changed.notify()
        if blamed and verdict:
            self._finish(blamed, _failure(blamed, verdict, slot.started))

    def _finish(self, task: _Task, outcome: Any) -> None:
        try:
            task.finish(outcome)
        except Exception:
            log.exception("the receiver of %s failed", task.name)

    # --- the pool's own thread -----------------------------------------------------------------------------------

    def _manage(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                now = self._clock()
                overdue = [slot for slot in self._slots if not slot.hung and self._overdue(slot, now)]
                retired = self._retire(now)
                born = None
                if (self._wants_child() and self._may_start <= now) or self._warms(now):
                    born = _Slot(heard=now)
                    self._slots.append(born)
                    self._counts["starts"] += 1
                if not (overdue or retired or born):
                    wait = self._next_wake(now)
                    self._wakes_at = float("inf") if wait is None else now + wait
                    self._changed.wait(wait)
                    self._wakes_at = 0.0
                    continue
                for slot in overdue:
                    slot.hung = True
            for slot in overdue:
                assert slot.child is not None
                slot.child.kill()  # what it held is sorted out by _on_exit
            for child in retired:
                child.close()
            if born:
                self._start(born)

    def _due(self, slot: _Slot) -> float:
        """When this child must have made progress."""
        if slot.child is None:
            return float("inf")
        if not slot.ready:
            return slot.heard + START_S
        return slot.due if slot.in_flight else float("inf")

    def _overdue(self, slot: _Slot, now: float) -> bool:
        """Whether a child whose time has come is to be killed; else it has a new time. Locked."""
        if self._due(slot) > now:
            return False
        left = slot.heard + self._deadline_s * PATIENCE - now
        if not slot.ready or left <= 0:
            return True
        if slot.started and slot.child:
            left = min(left, self._deadline_s - (_processor_s(slot.child.pid) - slot.started.cpu_s))
        slot.due = now + max(left, 0.01)
        return left <= 0

    def _retire(self, now: float) -> list[ChildLike]:
        """Children to end: all idle ones but the one that stays warm. They take no more work. Locked."""
        idle = [slot for slot in self._slots if slot.ready and not slot.hung and not slot.in_flight]
        spare = len(self._slots) - 1
        old = [slot for slot in idle if now - slot.heard >= self._idle_s][: max(0, spare)]
        for slot in old:
            slot.hung = True  # keeps _hand_out away; its exit finds nothing in flight
        return [slot.child for slot in old if slot.child]

    def _next_wake(self, now: float) -> float | None:
        """Seconds until something is due; None: only a notification can bring work."""
        times = [self._due(slot) for slot in self._slots if not slot.hung]
        if self._wants_child():
            times.append(self._may_start)
        if not self._slots:
            times.append(max(self._warm_at, self._may_start))
        if len(self._slots) > 1:
            times += [slot.heard + self._idle_s for slot in self._slots if slot.ready and not slot.in_flight]
        first = min(times, default=float("inf"))
        return None if first == float("inf") else max(0.0, first - now)

    def _start(self, slot: _Slot) -> None:
        try:
            child = Child(
                "codegraphd.daemon.parser_process",
                [self._module],
                name="parser",
                on_frame=lambda frame: self._on_frame(slot, frame),
                on_exit=lambda status: self._on_exit(slot, status),
            )
        except OSError as error:
            log.exception("a parser process could not be started")
            self._on_exit(slot, error.errno or -1)
            return
        with self._lock:
            slot.child = child
            closed = self._closed
            if slot.ready:  # it answered before we stored it
                self._hand_out()
        if closed:
            child.kill()


def _processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used; infinite when it is gone: its exit is being reported."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return float("inf")
    return float(times.user + times.system)


def _outcome(task: _Task, tag: str, rest: list[Any], started: _Start | None) -> Any:
    match tag:
        case "studied":
            return rest[0]
        case "texts":
            texts, flows = rest
            return None if texts is None else Rendered(texts, {i: CodeFlow(*flow) for i, flow in flows})
        case "module":
            return Parsed(task.name, Stat(*rest[0]), module_from_wire(rest[1]), texts=rest[3])
        case "seen":
            return Parsed(task.name, Stat(*rest[0]), module_from_wire(rest[1]))
        case "unchanged":
            return Parsed(task.name, Stat(*rest[0]), unchanged=True)
        case "gone":
            return Parsed(task.name, gone=True)
        case "skipped":
            return Parsed(task.name, Stat(*rest[0]) if rest[0] else None, skipped=rest[1])
        case "raised":
            log.error("analysis of %s raised %s", task.name, rest[0])
            return _failure(task, "parser crash", started)
    raise AssertionError(tag)


def _failure(task: _Task, reason: str, started: _Start | None) -> Any:
    """The answer for a file that cannot be parsed. A file that was never even read is "unreadable"."""
    if task.kind != "parse":
        return None
    if started is None or started.number != task.number:
        return Parsed(task.name, skipped="unreadable")
    module = skipped_module(started.language, started.digest, started.stat.size, reason)
    return Parsed(task.name, started.stat, module)
