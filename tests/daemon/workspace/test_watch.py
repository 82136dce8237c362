"""Real directories under a real watcher: what happens to them arrives, all of it and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from codegraphd.daemon.workspace import barriers
from codegraphd.daemon.workspace.root import SLICE, ScanResult
from codegraphd.store.records import FileChange

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")


def summary(changes: list[FileChange]) -> dict[str, str]:
    """path -> "there", "gone", or why it is skipped; a path told twice is a failure."""
    assert len({change.path for change in changes}) == len(changes), changes
    return {change.path: "gone" if change.stat is None else change.skipped or "there" for change in changes}


def test_the_first_crawl_finds_all_and_ends_with_complete(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(SLICE + 20):
        lab.write(f"d{number % 7}/f{number}.py")
    lab.start()
    lab.check_agrees()
    assert [result.complete for result in lab.results] == [False, True]
    assert all(len(result.changes) <= SLICE for result in lab.results)
    assert caplog.text == ""


def test_a_restart_hands_over_only_what_differs(lab: Lab) -> None:
    for name in ("same.py", "edited.py", "deleted.py", "deep/er/deleted.py"):
        lab.write(name)
    (lab.root / "big.py").write_bytes(b"#" * (2 << 20))
    lab.start().stop()
    lab.changes.clear()
    lab.write("edited.py", "longer than before\n")
    lab.write("new.py")
    (lab.root / "deleted.py").unlink()
    shutil.rmtree(lab.root / "deep")
    lab.results.clear()
    lab.start(known=True)
    changes, lab.changes = [c for r in lab.results for c in r.changes], []
    assert summary(changes) == {
        "edited.py": "there", "new.py": "there", "deleted.py": "gone", "deep/er/deleted.py": "gone",
    }  # fmt: skip
    assert lab.results[-1].complete
    lab.check_agrees()


SCENARIOS = {
    "a copied tree": ["cp -r src copy"],
    "a copied tree, times kept": ["cp -a src copy"],
    "a deleted tree": ["rm -rf src"],
    "edits in place": ["sed -i s/x/yy/ src/*/*.py"],
    "appended": ["echo more >> src/d1/f1.py"],
    "directories made deep at once": ["mkdir -p a/b/c/d/e/f/g/h && echo x > a/b/c/d/e/f/g/h/x.py"],
    "an archive unpacked": ["tar cf ../a.tar src && mkdir new && tar xf ../a.tar -C new"],
    "a directory renamed": ["mv src other"],
    "a directory renamed again and again": ["mv src b && mv b c && mv c d && mv d e && mv e src && mv src f"],
    "a directory moved out": ["mv src ../out"],
    "a directory moved in": ["mkdir -p ../in/deep && echo x > ../in/deep/x.py && mv ../in here"],
    "moved out and back": ["mv src ../out && mv ../out src"],
    "two trees swapped": ["cp -r src two && echo more >> two/d1/f1.py && mv src t && mv two src && mv t two"],
    "a directory becomes a file": ["rm -rf src/d1 && echo x > src/d1"],
    "a directory becomes a source file": ["mkdir m.py && echo x > m.py/x.py && rm -rf m.py && echo x > m.py"],
    "a file becomes a directory": ["rm src/d1/f1.py && mkdir src/d1/f1.py && echo x > src/d1/f1.py/x.py"],
    "a file becomes a link": ["rm src/d1/f1.py && ln -s f2.py src/d1/f1.py"],
    "truncated": ["truncate -s 0 src/d1/f1.py"],
    "times set back": ["touch -d 2001-01-01 src/d1/*.py"],
    "deleted and made again": ["rm -rf src/d2 && mkdir src/d2 && echo new > src/d2/new.py"],
    "deleted and made again, often": ["for i in 1 2 3 4 5 6; do rm -rf t && mkdir -p t/u && echo $i > t/u/t.py; done"],
    "renamed over": ["echo new > t && mv t src/d1/f1.py"],
    "into the place of a deleted directory": ["rm -rf src/d1 && mv src/d2 src/d1"],
    "a rename, then an edit below": ["mv src moved && echo more >> moved/d1/f1.py", "echo more >> moved/d2/f2.py"],
    "a move below itself": ["mkdir src/d1/deep && mv src/d2 src/d1/deep/d2 && echo x > src/d1/deep/d2/new.py"],
}  # fmt: skip


@pytest.mark.parametrize("commands", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_fault_08_and_09_trees_that_come_go_and_move(lab: Lab, commands: list[str]) -> None:
    for number in range(60):
        lab.write(f"src/d{number % 6}/f{number % 10}.py")
    lab.start()
    lab.check_agrees()
    for command in commands:
        subprocess.run(["sh", "-ec", command], cwd=lab.root, check=True)
        lab.check_agrees()
    lab.write("afterwards.py")
    lab.check_agrees()
    assert lab.statistics().rescans == 0


def test_changes_are_handed_over_without_a_barrier(lab: Lab) -> None:
    lab.start()
    lab.write("a.py")
    lab.wait_until(lambda: "a.py" in lab.seen, "a new file")


def test_fault_06_an_atomic_save_is_one_modified_file(lab: Lab) -> None:
    lab.write("m.py")
    lab.start()
    lab.sync()
    lab.write(".m.py.swp", "swap")
    lab.write("m.py.tmp", "new content")
    os.replace(lab.root / "m.py.tmp", lab.root / "m.py")
    (lab.root / ".m.py.swp").unlink()
    assert summary(lab.sync()) == {"m.py": "there"}
    (lab.root / "m.py").rename(lab.root / "m.py~")  # the way of vim: the old file aside, the new one in its place
    lab.write("m.py", "newer content")
    assert summary(lab.sync()) == {"m.py": "there"}


def test_fault_09_a_directory_renamed_during_the_crawl(lab: Lab) -> None:
    for number in range(800):
        lab.write(f"d{number % 40}/e{number % 7}/f{number}.py")
    moved: list[str] = []

    def listener(result: ScanResult) -> None:
        lab.listen(result)
        if not moved:  # in the middle of it: the first slice is here, the crawl goes on
            moved.append("now")
            for number in range(0, 40, 3):
                (lab.root / f"d{number}").rename(lab.root / f"moved{number}")
            (lab.root / "d1").rename(lab.root / "d2/inside")

    lab.make_watcher(listener).add(1, str(lab.root))
    lab.sync()
    assert moved
    lab.check_agrees()


def test_fault_10_a_file_that_comes_and_goes_leaves_nothing(lab: Lab) -> None:
    lab.start()
    for number in range(50):
        lab.write(f"t{number}.py").unlink()
    lab.sync()
    assert lab.seen == {}
    lab.check_agrees()


def test_fault_12_links_pipes_and_sockets_are_neither_followed_nor_read(lab: Lab) -> None:
    lab.write("d/m.py")
    (lab.root / "loop").symlink_to(lab.root)
    (lab.root / "d/up.py").symlink_to("..")
    (lab.root / "dangling.py").symlink_to("/nowhere")
    (lab.root / "link.py").symlink_to("d/m.py")
    os.link(lab.root / "d/m.py", lab.root / "hard.py")
    os.mkfifo(lab.root / "fifo.py")
    os.mkfifo(lab.root / "script")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(lab.root / "s.py"))
    lab.start()
    assert lab.paths() == {"d/m.py", "hard.py"}
    assert lab.statistics().skipped == {"not a regular file": 7}
    os.unlink(lab.root / "link.py")
    lab.write("link.py")
    os.unlink(lab.root / "hard.py")
    os.mkfifo(lab.root / "hard.py")
    lab.sync()
    assert lab.paths() == {"d/m.py", "link.py"}


def test_fault_12_a_hard_link_in_a_new_directory_is_known_as_another_name(lab: Lab) -> None:
    """The directory's listing meets it, not an event; a write through it right then tells of no other name."""
    lab.write("a/m.py", "one = 1\n")
    lab.start()
    (lab.root / "new").mkdir()
    os.link(lab.root / "a/m.py", lab.root / "new/linked.py")
    with (lab.root / "new/linked.py").open("a") as file:
        file.write("two = 2\n")
    assert summary(lab.sync()) == {"a/m.py": "there", "new/linked.py": "there"}
    with (lab.root / "new/linked.py").open("a") as file:
        file.write("three = 3\n")
    assert summary(lab.sync()) == {"a/m.py": "there", "new/linked.py": "there"}


def test_fault_12_a_write_through_an_ignored_name_changes_the_others(lab: Lab) -> None:
    """No event tells of the one in a directory that is ignored as a whole, so a sync looks."""
    lab.write(".gitignore", "b/*\nignored/\n")
    lab.write("a/m.py", "one = 1\n")
    for name in ("b/linked.py", "ignored/linked.py"):
        (lab.root / name).parent.mkdir()
        os.link(lab.root / "a/m.py", lab.root / name)
    lab.start()
    for name in ("b/linked.py", "ignored/linked.py"):
        with (lab.root / name).open("a") as file:
            file.write("more = 2\n")
        assert summary(lab.sync()) == {"a/m.py": "there"}


def test_fault_12_a_write_through_one_hard_link_changes_all_names(lab: Lab) -> None:
    lab.write("a/m.py")
    lab.write("b/n.py")
    lab.start()
    os.link(lab.root / "a/m.py", lab.root / "b/linked.py")
    lab.check_agrees()
    n_rescans = lab.statistics().rescans
    for name in ("b/linked.py", "a/m.py"):
        lab.sync()
        with (lab.root / name).open("a") as file:
            file.write("more\n")
        assert summary(lab.sync()) == {"a/m.py": "there", "b/linked.py": "there"}
    lab.check_agrees()
    assert lab.statistics().rescans == n_rescans


def test_fault_14_a_huge_file_is_skipped_with_the_reason(lab: Lab) -> None:
    (lab.root / "big.py").write_bytes(b"#" * 5000)
    lab.write("small.py")
    lab.write("data.bin")
    lab.start(max_file_kb=4)
    assert summary(lab.sync() or list(lab.changes)) == {}
    assert {path: skipped for path, (_, skipped) in lab.seen.items()} == {"big.py": "too large", "small.py": ""}
    assert lab.statistics().skipped == {"no known language": 1}
    os.truncate(lab.root / "big.py", 100)
    (lab.root / "small.py").write_bytes(b"#" * 5000)
    assert summary(lab.sync()) == {"big.py": "there", "small.py": "too large"}


def test_fault_15_names_that_are_not_utf8(lab: Lab) -> None:
    directory = os.fsencode(lab.root) + b"/d\xff"
    os.mkdir(directory)
    lab.start()
    with open(directory + b"/\xe9\xfe.py", "w", encoding="utf-8") as file:
        file.write("x")
    lab.sync()
    (path,) = lab.seen
    assert os.fsencode(path) == b"d\xff/\xe9\xfe.py"
    os.unlink(os.fsencode(lab.root) + b"/" + os.fsencode(path))
    lab.sync()
    assert lab.seen == {}


def test_scripts_are_known_by_their_first_line(lab: Lab) -> None:
    lab.write("run", "#!/usr/bin/env python\n")
    lab.write("LICENSE", "text")
    lab.start()
    assert lab.paths() == {"run"}
    lab.write("run", "no longer a script")
    lab.write("LICENSE", "#!/usr/bin/python3 -u\n")
    assert summary(lab.sync()) == {"run": "gone", "LICENSE": "there"}


def test_a_hint_is_looked_at(lab: Lab) -> None:
    lab.start(settle_ms=60_000)  # nothing comes by itself for now
    assert lab.watcher is not None
    lab.write("new/deep/a.py")
    lab.watcher.changed(1, "new/deep/a.py")
    lab.wait_until(lambda: "new/deep/a.py" in lab.seen, "the hinted file")
    lab.write("b.py")
    for path in ("nowhere/at/all.py", "../outside.py", "a//b.py", "", "\0.py", "\ud800.py"):
        lab.watcher.changed(1, path)
    lab.watcher.changed(1, "b.py")
    lab.wait_until(lambda: "b.py" in lab.seen, "the hinted file")


def test_a_hint_with_a_callback_needs_no_barrier(lab: Lab) -> None:
    lab.start(settle_ms=60_000)
    assert lab.watcher is not None
    lab.write("new/deep/a.py")
    lab.write("new/b.py")
    passed = threading.Event()
    lab.watcher.changed(1, "new/deep/a.py", passed.set)
    assert passed.wait(30)
    assert lab.paths() == {"new/deep/a.py", "new/b.py"}
    lab.stop()
    calls: list[str] = []
    watcher = lab.make_watcher()
    watcher.changed(99, "unknown root", lambda: calls.append("unknown"))
    watcher.close()
    watcher.changed(1, "closed", lambda: calls.append("closed"))
    assert calls == ["unknown", "closed"]


def test_a_save_during_a_long_crawl_does_not_wait_for_its_end(lab: Lab) -> None:
    for number in range(150):
        lab.write(f"d{number}/m.py")
    lab.start(settle_ms=0)
    assert lab.watcher is not None
    lab.sync()
    lab.results.clear()
    crawl = lab.watcher._roots[1].tree.work
    slow = threading.Event()

    def work(until: float, *, enough: int) -> None:
        slow.wait(0.01)
        crawl(0.0, enough=enough)  # one directory at a time

    lab.watcher._roots[1].tree.work = work  # type: ignore[method-assign]
    lab.watcher.rescan()
    lab.write("d7/saved.py")
    lab.wait_until(lambda: "d7/saved.py" in lab.seen, "the save")
    assert not any(result.complete for result in lab.results)
    lab.wait_until(lambda: any(result.complete for result in lab.results), "the end of the crawl")


def test_a_barrier_without_a_root_covers_all_roots(lab: Lab) -> None:
    lab.start(settle_ms=60_000)
    assert lab.watcher is not None
    other = lab.base / "other"
    other.mkdir()
    lab.watcher.add(2, str(other))
    lab.sync(None)
    lab.results.clear()
    lab.write("a.py")
    (other / "b.py").write_text("x")
    lab.sync(None)
    assert {(r.root_id, c.path) for r in lab.results for c in r.changes} == {(1, "a.py"), (2, "b.py")}


@pytest.mark.parametrize("n_rounds", [100])
def test_a_barrier_misses_nothing(lab: Lab, n_rounds: int) -> None:
    for number in range(30):
        (lab.root / f"d{number}").mkdir()
    lab.start(settle_ms=60_000)
    for number in range(n_rounds):
        lab.write(f"d{number % 30}/f{number % 50}.py", str(number))
        if number % 7 == 0:
            lab.write(f"d{number % 30}/n{number}/f.py")
        lab.check_agrees()


def test_an_inner_root_owns_its_files(lab: Lab) -> None:
    lab.write("a.py")
    lab.write("inner/b.py")
    lab.start(exclude=frozenset({str(lab.root / "inner")}))
    assert lab.watcher is not None
    assert lab.paths() == {"a.py"}
    lab.write("inner/c.py")
    lab.sync()
    assert lab.paths() == {"a.py"}
    lab.watcher.set_exclude(1, frozenset())
    lab.check_agrees()
    lab.watcher.set_exclude(1, frozenset({str(lab.root / "inner")}))
    lab.sync()
    assert lab.paths() == {"a.py"}


def test_fault_50_the_state_directory_inside_a_workspace_is_never_looked_at(lab: Lab) -> None:
    state = lab.root / "state"
    lab.base = state
    lab.write("state/log.txt")
    lab.write("a.py")
    lab.start(never=frozenset({str(state)}))
    assert lab.paths() == {"a.py"}
    n_results = len(lab.results)
    for number in range(20):
        lab.write("state/log.txt", str(number))
        lab.sync()
    assert len(lab.results) == n_results
    assert lab.statistics().watches == 1
    assert lab.watcher is not None
    lab.watcher.add(2, str(state))
    lab.sync(2)
    assert "codegraphd's own" in lab.watcher.statistics(2).problem
    assert {result.root_id for result in lab.results if result.changes} == {1}


def test_removed_roots_leave_no_watches(lab: Lab) -> None:
    lab.write("d/e/a.py")
    lab.start()
    assert lab.watcher is not None
    inotify = lab.watcher._inotify
    assert inotify is not None
    assert len(inotify._descriptor._watch_for_wd) == 4  # root, d, d/e and the barrier's directory
    lab.watcher.remove(1)
    lab.sync(None)
    assert len(inotify._descriptor._watch_for_wd) == 1
    lab.seen.clear()
    lab.watcher.add(1, str(lab.root))
    lab.check_agrees()


def test_new_settings_are_applied_to_all_files(lab: Lab) -> None:
    for name in ("a.py", "gen/b.py", "c.txt"):
        lab.write(name)
    (lab.root / "big.py").write_bytes(b"#" * 5000)
    lab.start()
    assert lab.watcher is not None
    lab.sync()
    lab.watcher.configure(exclude_patterns=("gen/",), max_file_kb=4)
    assert summary(lab.sync()) == {"gen/b.py": "gone", "big.py": "too large"}
    lab.watcher.configure(exclude_patterns=(), max_file_kb=1024)
    assert summary(lab.sync()) == {"gen/b.py": "there", "big.py": "there"}


def test_what_a_listener_could_not_take_comes_again(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    broken: list[bool] = []

    def listener(result: ScanResult) -> None:
        if broken and result.changes:
            broken.clear()
            raise RuntimeError("no room")
        lab.listen(result)

    lab.write("old.py")
    lab.make_watcher(listener).add(1, str(lab.root))
    lab.sync()
    broken.append(True)
    lab.write("new.py")
    (lab.root / "old.py").unlink()
    lab.sync()
    lab.sync()
    assert lab.paths() == {"new.py"}
    lab.check_agrees()
    assert "could not be handed over" in caplog.text


def test_close_calls_waiting_barriers_and_ends_the_threads(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers.Beacon, "light", lambda self, register: register("never arrives"))
    monkeypatch.setattr(barriers, "_WAIT_S", 1000.0)
    watcher = lab.make_watcher()
    called: list[str] = []
    watcher.barrier(lambda: called.append("waiting"))
    watcher.close()
    watcher.barrier(lambda: called.append("closed"))
    assert called == ["waiting", "closed"]
    assert not watcher._thread.is_alive()
