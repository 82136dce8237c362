"""The pool of parser processes: real processes, real files, and files that hang or crash them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon.packing import packed
from codegraphd.daemon.parser_process import ANALYSIS, module_from_wire, module_to_wire, read_file, unpack
from codegraphd.daemon.parsers import DEPTH, Parsed, ParseJob, Parsers, Rendered, RenderJob
from codegraphd.store.records import EDGE_KINDS, WHOLE_FILE, Binding, CodeFlow, Module, Reference, Unit, Words

# An analysis whose behaviour is written in the file: each line of a well-behaved file is a unit.
STUB = """
import hashlib, os, time
from codegraphd.store.records import Module, Unit, Words

def language_of(path, first_line=b""):
    return "csharp" if path.endswith(".cs") else None

def render(path, source):
    if source.startswith(b"raise"):
        raise RuntimeError("no text")
    return tuple(source.decode().split())

def parse_and_render(path, source):
    module = parse(path, source)
    return module, tuple(unit.name for unit in module.units)

def parse(path, source):
    command, _, argument = source.decode("utf-8", "surrogateescape").partition(" ")
    if command == "spin":
        while True:
            pass
    if command == "sleep":
        time.sleep(float(argument))
    if command == "crash":
        os.abort()
    if command == "crash-once" and not os.path.exists(argument):
        open(argument, "w").close()
        os._exit(3)
    if command == "raise":
        raise RecursionError("too deep")
    if command == "log":
        with open(argument, "a") as log:
            log.write(path + "\\n")
    words = source.decode("utf-8", "surrogateescape").split()
    units = tuple(
        Unit("function", w, w, 0, -1, 0, 1, 1, 1, w, (), (), "", 0, b"f" * 16, b"b" * 16, b"o" * 16, b"s" * 16)
        for w in words
    )
    return Module("text", hashlib.sha256(source).digest(), len(source), 1, "", units,
                  tuple(Words(w, "", "") for w in words), (), (), 0, "")
"""


class Workplace:
    """A folder with files, and answers collected by path."""

    def __init__(self, root: Path) -> None:
        self.root, self.answers, self.order = root, dict[str, Any](), list[str]()
        self._arrived = threading.Condition()

    def write(self, name: str, content: str | bytes) -> bytes:
        raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        target = os.path.join(os.fsencode(self.root), os.fsencode(name))
        with open(target, "wb") as file:
            file.write(raw)
        return hashlib.sha256(raw).digest()

    def job(self, name: str, known: bytes | None = None, max_bytes: int = 1 << 20) -> ParseJob:
        return ParseJob(str(self.root), name, known, max_bytes)

    def receive(self, name: str) -> Callable[[Any], None]:
        def done(answer: Any) -> None:
            with self._arrived:
                assert name not in self.answers, "answered twice"
                self.answers[name] = answer
                self.order.append(name)
                self._arrived.notify_all()

        return done

    def wait(self, *names: str) -> list[Any]:
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: all(name in self.answers for name in names), 60)
            assert arrived, f"no answer for {set(names) - set(self.answers)}"
        return [self.answers[name] for name in names]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "stub_analysis.py").write_text(STUB)
    (tmp_path / "root").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stub"))
    return Workplace(tmp_path / "root")


@pytest.fixture
def make(place: Workplace) -> Iterator[Callable[..., Parsers]]:
    pools: list[Parsers] = []

    def start(**options: Any) -> Parsers:
        pools.append(Parsers(**{"module": "stub_analysis", "deadline_s": 0.5, "warm_after_s": math.inf, **options}))
        return pools[-1]

    yield start
    for pool in pools:
        pool.close()


def check(place: Workplace, pool: Parsers, name: str, known: bytes | None = None, max_bytes: int = 1 << 20) -> Parsed:
    """Parse one file and return its answer."""
    place.answers.pop(name, None)
    pool.parse(place.job(name, known, max_bytes), place.receive(name), urgent=True)
    (parsed,) = place.wait(name)
    assert parsed.path == name
    return parsed


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_outcomes(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make()
    digest = place.write("a.py", "one two")
    found = check(place, pool, "a.py")
    assert found.module is not None
    assert [unit.name for unit in found.module.units] == ["one", "two"]
    assert found.module.digest == digest
    assert found.stat is not None
    status = os.stat(place.root / "a.py")
    assert dataclasses.astuple(found.stat) == (7, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert check(place, pool, "a.py", known=digest) == Parsed("a.py", found.stat, unchanged=True)
    assert check(place, pool, "a.py", known=b"x" * 32).module == found.module
    assert check(place, pool, "none.py") == Parsed("none.py", gone=True)
    assert check(place, pool, "a.py/below") == Parsed("a.py/below", gone=True)
    large = check(place, pool, "a.py", max_bytes=6)
    assert (large.skipped, large.stat, large.module) == ("too large", found.stat, None)
    assert check(place, pool, "a.py", max_bytes=7).module is not None
    assert pool.statistics()["unchanged"] == 1


def test_an_urgent_answer_brings_the_own_texts_along(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make()
    place.write("edited.py", "one two")
    place.write("crawled.py", "three")
    pool.parse(place.job("edited.py"), place.receive("edited.py"), urgent=True)
    pool.parse(place.job("crawled.py"), place.receive("crawled.py"), urgent=False)
    edited, crawled = place.wait("edited.py", "crawled.py")
    assert unpack(edited.texts) == ("one", "two")
    assert crawled.texts == b""


def test_fault_12_links_and_devices_are_not_read(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make()
    place.write("a.py", "one")
    os.symlink("a.py", place.root / "link.py")
    os.mkfifo(place.root / "pipe.py")
    (place.root / "dir.py").mkdir()
    for name in ("link.py", "pipe.py", "dir.py"):
        assert check(place, pool, name) == Parsed(name, gone=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_fault_13_unreadable(place: Workplace, make: Callable[..., Parsers]) -> None:
    place.write("a.py", "one")
    (place.root / "a.py").chmod(0)
    assert check(place, make(), "a.py") == Parsed("a.py", skipped="unreadable")


def test_fault_13_unreadable_while_it_is_read(place: Workplace) -> None:
    # /proc/self/mem is a regular file that opens and then gives EIO: unreadable for root too.
    with pytest.raises(Exception, match="unreadable"):
        read_file(b"/proc/self", b"mem", 1 << 20)


def test_fault_15_names_and_contents_that_are_not_utf8(place: Workplace, make: Callable[..., Parsers]) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    place.write(name, b"na\xefve")
    found = check(place, make(), name)
    assert found.module is not None
    assert found.module.units[0].name == "na\udcefve"


def test_fault_16_a_hanging_file_is_skipped_by_its_digest(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make()
    digest = place.write("bad.cs", "spin")
    place.write("good.py", "one")
    pool.parse(place.job("bad.cs"), place.receive("bad.cs"), urgent=False)
    pool.parse(place.job("good.py"), place.receive("good.py"), urgent=False)
    bad, good = place.wait("bad.cs", "good.py")
    assert (bad.module.skipped, bad.module.digest, bad.module.language, bad.module.size) == (
        "parser timeout",
        digest,
        "csharp",
        4,
    )
    assert bad.stat is not None
    assert bad.module.units == ()
    assert [unit.name for unit in good.module.units] == ["one"]
    assert check(place, pool, "bad.cs", known=digest).unchanged  # no second time
    assert pool.statistics()["timeouts"] == 1


def test_a_sleeping_child_is_given_patience_but_not_forever(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(deadline_s=0.3)  # so patience ends after 1.5 s without processor time
    place.write("slow.py", "sleep 0.7")
    place.write("stuck.py", "sleep 1000")
    assert check(place, pool, "slow.py").module.skipped == ""  # type: ignore[union-attr]
    assert check(place, pool, "stuck.py").module.skipped == "parser timeout"  # type: ignore[union-attr]


def test_fault_16_a_crashing_file_costs_itself_only(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=1)
    digest = place.write("bad.py", "crash")
    names = [f"f{n}.py" for n in range(10)]
    for name in names:
        place.write(name, name)
    for name in [*names[:5], "bad.py", *names[5:]]:
        pool.parse(place.job(name), place.receive(name), urgent=False)
    for name, answer in zip(names, place.wait(*names), strict=True):
        assert [unit.name for unit in answer.module.units] == [name]
    (bad,) = place.wait("bad.py")
    assert (bad.module.skipped, bad.module.digest) == ("parser crash", digest)
    statistics = pool.statistics()
    assert (statistics["crashes"], statistics["parsed"], statistics["starts"]) == (2, 10, 3)


def test_a_crash_by_accident_is_tried_again(place: Workplace, make: Callable[..., Parsers], tmp_path: Path) -> None:
    place.write("a.py", f"crash-once {tmp_path / 'seen'}")
    parsed = check(place, make(), "a.py")
    assert parsed.module is not None
    assert parsed.module.skipped == ""


def test_an_analysis_that_raises_costs_one_file_and_no_process(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=1)
    digest = place.write("bad.py", "raise")
    bad = check(place, pool, "bad.py")
    assert bad.module is not None
    assert (bad.module.skipped, bad.module.digest) == ("parser crash", digest)
    place.write("good.py", "one")
    assert check(place, pool, "good.py").module is not None
    assert pool.statistics()["starts"] == 1


def test_kill_9_of_every_child_again_and_again(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make()
    names = [f"f{n}.py" for n in range(60)]
    for name in names:
        place.write(name, "sleep 0.02")
        pool.parse(place.job(name), place.receive(name), urgent=False)
    for _ in range(3):
        before = len(place.answers)
        wait_until(lambda before=before: len(place.answers) > before)  # type: ignore[misc]
        for pid in pool.statistics()["children"]:
            os.kill(pid, signal.SIGKILL)
    answers = place.wait(*names)  # each once: `receive` checks it
    assert sum(answer.module.skipped == "" for answer in answers) >= 54  # a file can be hit twice, by bad luck


def test_fault_51_children_die_with_their_parent(place: Workplace, tmp_path: Path) -> None:
    place.write("a.py", "spin")
    script = (
        "import sys, time, os, signal\n"
        "from codegraphd.daemon.parsers import Parsers, ParseJob\n"
        "pool = Parsers(module='stub_analysis', deadline_s=1000)\n"
        "pool.parse(ParseJob(sys.argv[1], 'a.py', None, 1000), print, urgent=False)\n"
        "while not any(slot.started for slot in pool._slots): time.sleep(0.01)\n"
        "print(*pool.statistics()['children'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess

    output = subprocess.run([sys.executable, "-c", script, str(place.root)], stdout=subprocess.PIPE, check=False).stdout
    pids = [int(pid) for pid in output.split()]
    assert pids
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_urgent_overtakes_bulk(place: Workplace, make: Callable[..., Parsers], tmp_path: Path) -> None:
    pool = make(most=1, deadline_s=30)
    place.write("gate.py", "sleep 0.5")
    bulk = [f"b{n}.py" for n in range(20)]
    for name in [*bulk, "now.py"]:
        place.write(name, f"log {tmp_path / 'log'}")
    for name in ["gate.py", *bulk]:
        pool.parse(place.job(name), place.receive(name), urgent=False)
    wait_until(lambda: any(slot.started for slot in pool._slots))
    pool.parse(place.job("now.py"), place.receive("now.py"), urgent=True)
    place.wait(*bulk, "now.py")
    assert (tmp_path / "log").read_text().split()[0] == "now.py"  # before all that lay in the child, too
    assert pool.statistics()["starts"] == 1


def test_two_children_share_a_crawl_and_one_stays_warm(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=2, idle_s=0.2)
    names = [f"f{n}.py" for n in range(40)]
    for name in names:
        place.write(name, "sleep 0.03")
        pool.parse(place.job(name), place.receive(name), urgent=False)
    wait_until(lambda: len(pool.statistics()["children"]) == 2)
    place.wait(*names)
    wait_until(lambda: len(pool.statistics()["children"]) == 1)
    (warm,) = pool.statistics()["children"]
    time.sleep(0.5)
    assert pool.statistics()["children"] == [warm]
    place.write("edit.py", "one")
    check(place, pool, "edit.py")
    assert pool.statistics()["starts"] == 2


def test_one_child_is_kept_warm_without_any_work(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=4, warm_after_s=0.0)
    wait_until(lambda: any(slot.ready for slot in pool._slots))
    (pid,) = pool.statistics()["children"]
    os.kill(pid, signal.SIGKILL)  # the system was short of memory, say
    wait_until(lambda: any(slot.ready for slot in pool._slots) and pool.statistics()["children"] != [pid])
    place.write("a.py", "one")
    check(place, pool, "a.py")
    assert pool.statistics()["starts"] == 2


def test_few_files_start_one_child(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=4)
    names = [f"f{n}.py" for n in range(DEPTH)]
    for name in names:
        place.write(name, "one")
        pool.parse(place.job(name), place.receive(name), urgent=False)
    place.wait(*names)
    assert pool.statistics()["starts"] == 1


@pytest.mark.parametrize(
    ("content", "known", "expect"),
    [("one two", "one two", ("one", "two")), ("one two", "one", None), ("raise", "raise", None), (None, "one", None)],
)
def test_render(
    place: Workplace, make: Callable[..., Parsers], content: str | None, known: str, expect: tuple[str, ...] | None
) -> None:
    if content is not None:
        place.write("a.py", content)
    pool = make()
    job = RenderJob(str(place.root), "a.py", hashlib.sha256(known.encode()).digest())
    pool.render(job, place.receive("a.py"), urgent=False)
    assert place.wait("a.py") == [None if expect is None else Rendered(expect, {})]


def test_render_with_the_data_flow_of_some_units(place: Workplace, make: Callable[..., Parsers]) -> None:
    source = "def f(a):\n    b = a\n    return b\n\n\ndef g():\n    pass\n"
    place.write("a.py", source)
    pool = make(module=ANALYSIS)
    job = RenderJob(str(place.root), "a.py", hashlib.sha256(source.encode()).digest(), (0, WHOLE_FILE))
    pool.render(job, place.receive("a.py"), urgent=False)
    (rendered,) = place.wait("a.py")
    assert [text.splitlines()[0] for text in rendered.texts] == ["def f(a):", "def g():"]
    assert sorted(rendered.flows) == [WHOLE_FILE, 0]
    tokens = ("def", "f", "(", "a", ")", ":", "b", "=", "a", "return", "b")
    assert rendered.flows[0] == CodeFlow("", tokens, ((3, ()), (6, (8,)), (8, (3,)), (10, (6,))))
    assert rendered.flows[WHOLE_FILE].tokens == (*tokens, "def", "g", "(", ")", ":", "pass")


def test_children_that_cannot_start_are_reported_and_not_respawned_in_a_storm(
    place: Workplace, make: Callable[..., Parsers]
) -> None:
    pool = make(module="no_such_module")
    place.write("a.py", "one")
    pool.parse(place.job("a.py"), place.receive("a.py"), urgent=True)
    wait_until(lambda: pool.statistics()["failing"])
    assert pool.statistics()["starts"] <= 3
    assert not place.answers  # it waits for better times instead of being called a bad file
    assert pool.statistics()["queued"] == 1


def test_close_ends_a_hanging_child_and_answers_nothing_more(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(deadline_s=1000)
    place.write("a.py", "spin")
    pool.parse(place.job("a.py"), place.receive("a.py"), urgent=False)
    wait_until(lambda: any(slot.started for slot in pool._slots))
    (pid,) = pool.statistics()["children"]
    pool.close()
    assert not alive(pid)
    pool.parse(place.job("a.py"), place.receive("a.py"), urgent=False)
    assert place.answers == {}


def test_a_receiver_that_raises_breaks_nothing(place: Workplace, make: Callable[..., Parsers]) -> None:
    pool = make(most=1)
    place.write("a.py", "one")

    def bad(_: Parsed) -> None:
        raise ValueError("not ready for this")

    pool.parse(place.job("a.py"), bad, urgent=False)
    assert check(place, pool, "a.py").module is not None
    assert pool.statistics()["starts"] == 1


texts = st.text(st.characters(codec=None), max_size=8)
digests = st.binary(min_size=16, max_size=16)
numbers = st.integers(0, 2**40)
units = st.builds(
    Unit,
    *[texts, texts, texts, numbers, st.integers(-1, 9), numbers, numbers, numbers, numbers, texts],
    *[st.tuples(texts), st.tuples(texts, texts), texts, numbers, digests, digests, digests, digests],
)  # fmt: skip
modules = st.builds(
    Module,
    *[texts, st.binary(max_size=32), numbers, numbers, texts],
    st.lists(units, max_size=3).map(tuple),
    st.lists(st.builds(Words, texts, texts, texts), max_size=3).map(tuple),
    st.lists(
        st.builds(Reference, st.integers(-1, 9), st.sampled_from(EDGE_KINDS), texts, texts, texts, numbers), max_size=3
    ).map(tuple),
    st.lists(st.builds(Binding, st.integers(-1, 9), texts, texts, texts, st.booleans(), numbers), max_size=3).map(
        tuple
    ),
    numbers,
    texts,
)


@given(modules)
@settings(max_examples=60, deadline=None)
def test_a_module_survives_the_wire(module: Module) -> None:
    assert module_from_wire(module_to_wire(packed(module))) == packed(module)
