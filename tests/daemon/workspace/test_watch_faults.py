"""What goes wrong around a watcher: lost events, limits, permissions, file systems without events, sleep."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from codegraphd.daemon.workspace import watch as watch_module
from codegraphd.daemon.workspace.directory import Directory
from codegraphd.daemon.workspace.inotify import Inotify
from codegraphd.daemon.workspace.root import Root
from codegraphd.daemon.workspace.rules import WorkspaceRules
from codegraphd.daemon.workspace.scan import ScanSettings
from codegraphd.daemon.workspace.throttle import BURST, PERIOD
from codegraphd.daemon.workspace.tree import Tree

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")

N_QUEUE = 16_384  # the kernel's default for max_queued_events; a machine that has more makes the test say so


def overflow(lab: Lab, act: Callable[[], None]) -> None:
    """Make the kernel's queue overflow while `act` runs: inotify's thread is held, and thousands of events come."""
    assert lab.watcher is not None
    assert lab.watcher._inotify is not None
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        assert int(file.read()) <= N_QUEUE, "raise N_QUEUE"
    one, two = lab.write("noise/one.py"), lab.write("noise/two.py")
    lab.sync()
    with lab.watcher._inotify._descriptor._lock:
        for _ in range(N_QUEUE // 2 + 1024):  # alternating: equal neighbours would become one event
            os.utime(one)
            os.utime(two)
        act()


def test_fault_01_queue_overflow(lab: Lab) -> None:
    for number in range(30):
        lab.write(f"d{number}/m.py")
    lab.start()

    def act() -> None:
        for number in range(0, 30, 2):
            shutil.rmtree(lab.root / f"d{number}")
            lab.write(f"new{number}/deep/m.py")
            lab.write(f"d{number + 1}/m.py", "edited")

    overflow(lab, act)
    lab.wait_until(lambda: lab.statistics().rescans > 0, "the rescan")
    lab.check_agrees()
    assert lab.statistics().overflows == 1
    lab.write("afterwards/m.py")
    lab.check_agrees()
    assert lab.statistics().rescans == 1


def test_fault_01_an_overflow_releases_a_barrier_that_was_lost_in_it(lab: Lab) -> None:
    lab.start()
    passed = threading.Event()

    def act() -> None:
        lab.write("lost.py")
        assert lab.watcher is not None
        lab.watcher.barrier(passed.set, 1)

    overflow(lab, act)
    assert passed.wait(30)
    assert "lost.py" in lab.seen
    assert lab.statistics().overflows == 1


def test_fault_02_one_overflow_after_the_other_makes_rescans_rarer(lab: Lab) -> None:
    """Driven by a clock of its own: a thousand overflows within ten minutes."""
    now = 1000.0
    settings = ScanSettings(lambda path, line: "text")
    tree = Tree(str(lab.root), WorkspaceRules(str(lab.root)), settings, clock=lambda: now)
    root = Root(1, tree, lab.listen, lambda: now, settle_s=0.03)
    root.step()
    assert root.state == "watching"
    rescans = []
    for _ in range(6000):
        now += 0.1
        tree.marks.note_overflow()
        before = root.n_rescans
        if root.due() <= now:
            root.step()
        if root.n_rescans > before:
            rescans.append(now)
    assert rescans[0] - 1000 < 0.5
    assert len(rescans) < 30
    assert rescans[-1] - rescans[-2] >= 29
    now += 100  # quiet, then a new one: at once again
    root.step()
    tree.marks.note_overflow()
    root.step()
    now += 0.1
    before = root.n_rescans
    root.step()
    assert root.n_rescans == before + 1


def limit_watches(monkeypatch: pytest.MonkeyPatch, limit: list[int]) -> None:
    """As the kernel does it: no more than limit[0] directories are watched at a time."""
    real = Inotify.watch

    def watch(self: Inotify, path: str, directory: Any) -> tuple[int, int]:
        known = self._descriptor._watch_for_wd
        before = len(known)
        key = real(self, path, directory)
        if len(known) > limit[0] and len(known) > before:
            self.unwatch([key])
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return key

    monkeypatch.setattr(Inotify, "watch", watch)


def test_fault_04_too_few_watches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = [10]
    limit_watches(monkeypatch, limit)
    for number in range(30):
        lab.write(f"d{number}/m.py")
    lab.start()
    statistics = lab.statistics()
    assert (statistics.watches, statistics.unwatched) == (9, 22)
    assert "fs.inotify.max_user_watches" in statistics.problem
    assert len(lab.paths()) == 30
    for number in range(30):
        lab.write(f"d{number}/m.py", "edited")
        lab.write(f"d{number}/new/deep.py")
    lab.wait_until(lambda: len(lab.paths()) == 60, "the poll of what is not watched")
    shutil.rmtree(lab.root / "d7")
    lab.sync()
    assert lab.paths() == set(lab.on_disk())
    limit[0] = 1 << 20
    lab.sync()
    assert lab.statistics().unwatched == 0
    assert lab.statistics().problem == ""
    lab.check_agrees()


def test_fault_04_no_inotify_instance(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Inotify) -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    real = Inotify.__init__
    monkeypatch.setattr(Inotify, "__init__", refuse)
    monkeypatch.setattr(watch_module, "_RETRY_S", 3.0)
    lab.write("d/m.py")
    lab.start()
    assert lab.statistics().backend == "polling"
    assert "fs.inotify.max_user_instances" in lab.statistics().problem
    lab.write("d/n.py")
    lab.wait_until(lambda: "d/n.py" in lab.seen, "the poll")
    monkeypatch.setattr(Inotify, "__init__", real)
    lab.wait_until(lambda: lab.statistics().backend == "inotify", "the next attempt")
    lab.check_agrees()
    assert lab.statistics().problem == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_fault_05_the_event_thread_dies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("d/m.py")
    lab.start()

    def fail(self: Directory, event: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("the handler is broken")

    monkeypatch.setattr(Directory, "on_event", fail)
    lab.write("d/lost.py")
    lab.wait_until(lambda: "d/lost.py" in lab.seen, "the rescan")
    lab.check_agrees()
    lab.write("d/e/afterwards.py")
    lab.check_agrees()


def test_fault_05_the_scanner_survives_its_own_errors(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.start()

    def fail(self: Tree, now: float, *, force: bool = False) -> None:
        monkeypatch.undo()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Tree, "flush", fail)
    lab.write("d/m.py")
    lab.wait_until(lambda: "d/m.py" in lab.seen, "the second look")
    lab.check_agrees()


def test_fault_11_two_edits_of_one_size_within_a_moment(lab: Lab) -> None:
    """Size, times and inode are equal: only the event tells, and it is believed as long as the times are recent."""
    file = lab.write("m.py", "aaaa")
    lab.start()
    lab.sync()
    before = os.lstat(file)
    with file.open("r+") as opened:
        opened.write("bbbb")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # the change time moves on, a coarse clock's would not
    assert [change.path for change in lab.sync()] == ["m.py"]
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [change.path for change in lab.sync()] == ["m.py"]


class Unprivileged(threading.Thread):
    """Runs `action` on a thread (and the threads it starts) that has to respect permissions, even as root."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action, self.error = action, None

    def run(self) -> None:
        try:
            if os.geteuid() == 0:
                _drop_capabilities((1, 2))  # DAC_OVERRIDE, DAC_READ_SEARCH
            self.action()
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self.start()
        self.join()
        if self.error is not None:
            raise self.error


def _drop_capabilities(numbers: tuple[int, ...]) -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, data) == 0
    for number in numbers:
        data[0] &= ~(1 << number)
    assert libc.capset(header, data) == 0


def test_fault_13_what_cannot_be_read_is_named_and_taken_up_later(lab: Lab) -> None:
    lab.write("open.py")
    lab.write("closed.py").chmod(0)
    lab.write("d/deep/m.py")
    (lab.root / "d").chmod(0)

    def action() -> None:
        lab.start()
        assert {path: skipped for path, (_, skipped) in lab.seen.items()} == {"open.py": "", "closed.py": "unreadable"}
        assert lab.statistics().skipped == {"unreadable directory": 1}
        (lab.root / "closed.py").chmod(0o600)
        (lab.root / "d").chmod(0o700)
        lab.check_agrees()
        assert lab.statistics().skipped == {}
        (lab.root / "d").chmod(0)  # a rescan meets it closed: what is in it is out of the index
        assert lab.watcher is not None
        lab.watcher.rescan()
        lab.sync()
        assert lab.paths() == {"open.py", "closed.py"}
        (lab.root / "d").chmod(0o700)
        lab.check_agrees()
        (lab.root / "open.py").chmod(0)
        lab.sync()
        assert lab.paths() == {"closed.py", "d/deep/m.py"}

    Unprivileged(action).finish()


def test_fault_13_a_root_that_cannot_be_listed_is_missing(lab: Lab) -> None:
    lab.write("m.py")

    def action() -> None:
        lab.start()
        lab.root.chmod(0)
        assert lab.watcher is not None
        lab.watcher.rescan()
        lab.sync()
        assert lab.statistics().state == "missing"
        assert lab.paths() == {"m.py"}
        lab.root.chmod(0o700)
        lab.sync()
        lab.check_agrees()

    Unprivileged(action).finish()


def test_an_error_of_the_disk_costs_nothing_that_is_known(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("d/m.py")
    lab.start()
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("/d"):
            raise OSError(errno.EIO, "input/output error")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert lab.watcher is not None
    lab.watcher.rescan()
    lab.sync()
    assert lab.paths() == {"d/m.py"}
    assert "could not be listed" in lab.statistics().problem
    monkeypatch.undo()
    lab.write("d/n.py")
    lab.check_agrees()
    assert lab.statistics().problem == ""


def test_rules_that_cannot_be_read_for_want_of_descriptors_stay_in_force(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(".gitignore", "gen/\n")
    lab.write("gen/g.py")
    lab.write("m.py")
    lab.start()
    real = os.open

    def refuse(path: str, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(".gitignore"):
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert lab.watcher is not None
    lab.watcher.rescan()
    lab.sync()
    assert lab.paths() == {"m.py"}
    assert "could not be listed" in lab.statistics().problem
    monkeypatch.undo()
    lab.write("n.py")
    lab.sync()
    assert lab.paths() == {"m.py", "n.py"}
    assert lab.statistics().problem == ""


def test_fault_18_a_file_system_without_events_is_polled(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_HAS_INOTIFY", False)
    lab.write("d/m.py")
    lab.start()
    assert lab.statistics().backend == "polling"
    assert lab.statistics().watches == 0
    lab.write("d/new.py")
    lab.write("d/m.py", "edited")
    lab.wait_until(lambda: "d/new.py" in lab.seen, "the poll")
    shutil.rmtree(lab.root / "d")
    lab.write("e/m.py")
    lab.sync()  # a forced walk
    assert {path: stat for path, (stat, _) in lab.seen.items()} == lab.on_disk()
    assert lab.statistics().rescans > 0


def test_fault_18_a_mount_that_sends_no_events_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_MOUNTS_S", 0.0)
    lab.start()
    assert lab.statistics().backend == "inotify"
    line = f"99 1 0:99 / {lab.root} rw - fuse.sshfs host:/x rw\n"
    monkeypatch.setattr(watch_module, "read_mounts", lambda: line)
    lab.wait_until(lambda: lab.statistics().backend == "polling", "the tick")
    monkeypatch.setattr(Directory, "on_event", lambda self, event: None)
    lab.write("quiet.py")
    lab.wait_until(lambda: "quiet.py" in lab.seen, "the poll")
    lab.write("quieter.py")
    lab.sync()
    assert lab.paths() == {"quiet.py", "quieter.py"}


def test_fault_45_after_sleep_everything_is_looked_at_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("m.py")
    lab.start()
    slept = [watch_module._suspended_s() + 3600]
    monkeypatch.setattr(watch_module, "_suspended_s", lambda: slept[0])
    lab.wait_until(lambda: lab.statistics().rescans == 1, "the tick")
    slept[0] += 0.001
    lab.check_agrees()


def test_fault_52_a_file_that_changes_all_the_time_is_coalesced(lab: Lab) -> None:
    file = lab.write("m.py")
    lab.start(settle_ms=1)
    lab.results.clear()
    begin = time.monotonic()
    number = 0
    while time.monotonic() - begin < 3:
        number += 1
        file.write_text("x" * number)
        threading.Event().wait(0.02)
    n_results = len(lab.results)
    lab.wait_until(lambda: lab.seen["m.py"][0].size == number, "the last content")
    assert number > 50
    assert n_results <= BURST + 3 / PERIOD + 1
    lab.check_agrees()
