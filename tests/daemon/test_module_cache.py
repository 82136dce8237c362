"""Modules of files seen before: found again in any workspace, never believed when damaged, bounded, and forgotten."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraphd.daemon import module_cache
from codegraphd.daemon.analysis.languages import language_of
from codegraphd.daemon.analysis.parse import parse
from codegraphd.daemon.module_cache import ModuleCache, Places, key_of
from codegraphd.daemon.packing import packed
from codegraphd.daemon.parser_process import unpack
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers

IDENTITY = b"\xab" * 16
SOURCE = b'import json\n\n\ndef load(path):\n    """Read it."""\n    return json.loads(open(path).read())\n'


def key(n: int) -> bytes:
    return hashlib.sha256(b"%d" % n).digest()[:20]


def make(directory: Path, max_bytes: int = 1 << 20, identity: bytes = IDENTITY) -> ModuleCache:
    return ModuleCache(str(directory), identity, max_bytes)


def entries(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def fill(cache: ModuleCache, numbers: range, size: int = 1000) -> None:
    for n in numbers:
        module_cache.write(cache.places(), key(n), b"%d" % n + bytes(size))


def known(cache: ModuleCache, numbers: range) -> list[int]:
    return [n for n in numbers if module_cache.read(cache.places(), key(n)) is not None]


# --- entries ---------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = make(tmp_path / "modules")
    assert module_cache.read(cache.places(), key(1)) is None
    module_cache.write(cache.places(), key(1), b"module")
    assert module_cache.read(cache.places(), key(1)) == b"module"
    assert module_cache.read(cache.places(), key(2)) is None
    assert module_cache.read(make(tmp_path / "modules").places(), key(1)) == b"module"
    (entry,) = entries(tmp_path)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:5],
        lambda raw: b"",
        lambda raw: raw + b"x",
        lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
        lambda raw: raw[:9] + bytes([raw[9] ^ 1]) + raw[10:],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    ],
)
def test_fault_27_a_damaged_entry_is_none_and_is_written_anew(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    places = make(tmp_path / "modules").places()
    module_cache.write(places, key(1), b"module")
    (entry,) = entries(tmp_path)
    entry.write_bytes(spoil(entry.read_bytes()))
    assert module_cache.read(places, key(1)) is None
    assert entries(tmp_path) == []
    module_cache.write(places, key(1), b"module")
    assert module_cache.read(places, key(1)) == b"module"


def test_an_entry_under_another_name_is_none(tmp_path: Path) -> None:
    places = make(tmp_path / "modules").places()
    module_cache.write(places, key(1), b"module")
    (entry,) = entries(tmp_path)
    name = key(2).hex()
    other = entry.parents[1] / name[:2] / name[2:]
    other.parent.mkdir()
    entry.rename(other)
    assert module_cache.read(places, key(2)) is None


def test_fault_28_a_disk_that_takes_a_part_leaves_nothing(tmp_path: Path) -> None:
    places = make(tmp_path / "modules").places()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="part"):
            module_cache.write(places, key(1), bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert entries(tmp_path) == []


HAMMER = """
    import sys
    from codegraphd.daemon import module_cache
    sys.path.insert(0, sys.argv[2])
    places = (sys.argv[1].encode(),)
    print("ready", flush=True)
    n = 0
    while True:
        for i in range(8):
            module_cache.write(places, bytes([i]) * 20, bytes([i]) * (200_000 + n % 7))
        n += 1
"""


@pytest.fixture
def hammers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that write the same entries over and over."""
    script = tmp_path / "hammer.py"
    script.write_text(textwrap.dedent(HAMMER))
    command = [sys.executable, str(script), str(tmp_path / "modules"), str(Path.cwd())]
    found = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for child in found:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    yield found
    for child in found:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_fault_26_two_writers_and_a_kill_leave_whole_entries(
    hammers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    places = (os.fsencode(tmp_path / "modules"),)

    def looked() -> int:
        found = [module_cache.read(places, bytes([i]) * 20) for i in range(8)]
        assert all(set(raw) == {i} for i, raw in enumerate(found) if raw is not None)
        return sum(raw is not None for raw in found)

    deadline = time.monotonic() + 30
    while looked() < 8:
        assert time.monotonic() < deadline
    assert all(looked() == 8 for _ in range(50))  # a read never meets an entry that is being written
    for child in hammers:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert looked() == 8


# --- generations -----------------------------------------------------------------------------------------------------


def test_it_is_bounded_and_what_is_asked_for_stays(tmp_path: Path) -> None:
    cache = make(tmp_path / "modules", max_bytes=1_000_000)
    for begin in range(0, 5_000, 100):
        fill(cache, range(begin, begin + 100))
        cache.tend()
        assert known(cache, range(5)) == list(range(5))
    assert sum(path.stat().st_size for path in entries(tmp_path)) < 1_500_000
    assert known(cache, range(4_900, 5_000)) == list(range(4_900, 5_000))
    assert known(cache, range(5, 1_000)) == []


def test_another_version_of_the_code_finds_nothing(tmp_path: Path) -> None:
    old = make(tmp_path / "modules")
    fill(old, range(20))
    new = make(tmp_path / "modules", identity=b"\xcd" * 16)
    assert known(new, range(20)) == []
    fill(new, range(10))
    new.tend()
    assert len(entries(tmp_path)) == 10
    assert known(new, range(10)) == list(range(10))


def test_what_is_forgotten_does_not_come_back(tmp_path: Path) -> None:
    cache = make(tmp_path / "modules")
    fill(cache, range(30))
    cache.clear()
    assert known(cache, range(30)) == []
    again = make(tmp_path / "modules")  # a restart before anything was deleted
    assert known(again, range(30)) == []
    fill(again, range(40, 45))
    again.tend()
    assert len(entries(tmp_path)) == 5


def test_a_long_deletion_is_cut_into_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_cache, "SLICE", 7)
    cache = make(tmp_path / "modules")
    fill(cache, range(30))
    cache.clear()
    left = []
    for _ in range(6):
        cache.tend()
        left.append(len(entries(tmp_path)))
    assert left == [23, 16, 9, 2, 0, 0]
    assert list((tmp_path / "modules").iterdir()) == []


def test_what_takes_nothing_is_left_alone_for_a_while(tmp_path: Path) -> None:
    now = itertools.count(0, 25)
    cache = ModuleCache(str(tmp_path / "modules"), IDENTITY, 1 << 20, clock=lambda: float(next(now)))
    assert cache.places() != ()  # at 0
    cache.refused()  # at 25
    assert [cache.places() != () for _ in range(4)] == [False, False, True, True]  # at 50, 75, 100, 125


def test_no_bytes_no_cache(tmp_path: Path) -> None:
    assert make(tmp_path, max_bytes=0).places() == ()


# --- keys ------------------------------------------------------------------------------------------------------------

NAMES = (
    "a.py", "b.py", "sub/dir/a.py", "a.pyi", "a.js", "a.jsx", "a.ts", "b.ts", "a.tsx", "a.c", "a.h", "a.cpp", "A.java",
    "a.go", "a.rs", "a.cs", "a.md", "README", "a.rst", "a.txt", "a.toml", "a.json", "x/package.json", "package.json",
    "tsconfig.json", "tsconfig.base.json", "go.mod", "Cargo.toml", "pyproject.toml", "pom.xml", "a.csproj", "b.csproj",
    "script", "other/script", "tool", "Makefile", "a.yaml", "a.html", "a.sh", "a.csv",
)  # fmt: skip
SOURCES = (
    SOURCE, b"#!/usr/bin/env python\n" + SOURCE, b"#!/bin/sh\necho one\n", b'{"name": "q", "main": "x.js"}',
    b"Title\n=====\n\ntext\n\n# Other\n\nmore\n", b"[project]\nname = 'q'\n", b"module x.io/r\n",
    b"class A { void f() {} }", b"<Project><Using Include='a.b' /></Project>", b"let x = <T>(y: T) => y;\n",
    b"a,b\n1,2\n", b"",
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(SOURCES))
def test_equal_keys_mean_equal_modules(one: str, other: str, source: bytes) -> None:
    def keyed(path: str) -> bytes:
        return key_of(b"digest", path, language_of(path, source.partition(b"\n")[0]) or "text")

    if keyed(one) == keyed(other):
        assert packed(parse(one, source)) == packed(parse(other, source))


def test_paths_do_not_matter_where_parsing_does_not_look_at_them() -> None:
    assert key_of(b"d", "a.py", "python") == key_of(b"d", "x/y/b.py", "python")
    assert key_of(b"d", "a.ts", "typescript") != key_of(b"d", "a.tsx", "typescript")
    assert key_of(b"d", "a.py", "python") != key_of(b"e", "a.py", "python")
    assert key_of(b"d", "x/notes.md", "markdown") == key_of(b"d", "notes.md", "markdown")
    assert key_of(b"d", "package.json", "text") != key_of(b"d", "a.json", "text")


# --- the pool --------------------------------------------------------------------------------------------------------


class Place:
    """Two workspaces, and a pool with a cache."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.modules = directory, directory / "modules"
        self.pools: list[Parsers] = []

    def pool(self, identity: bytes = IDENTITY, **options: Any) -> Parsers:
        self.pools.append(Parsers(modules=make(self.modules, identity=identity), **options))
        return self.pools[-1]

    def write(self, path: str, source: bytes) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source)

    def parse(self, pool: Parsers, path: str, *, urgent: bool = False, anew: bool = False) -> Parsed:
        found: list[Parsed] = []
        root, _, name = path.partition("/")
        pool.parse(ParseJob(str(self.directory / root), name, None, 1 << 20, anew), found.append, urgent=urgent)
        deadline = time.monotonic() + 60
        while not found:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return found[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for pool in place.pools:
        pool.close()


def counted(pool: Parsers) -> tuple[int, int]:
    figures = pool.statistics()
    return figures["parsed"], figures["seen"]


def test_a_file_seen_before_is_not_parsed(place: Place) -> None:
    """Changed and changed back; then the same code in a second worktree, under another name, after a restart."""
    pool = place.pool()
    place.write("one/a.py", SOURCE)
    first = place.parse(pool, "one/a.py")
    place.write("one/a.py", SOURCE.replace(b"load", b"read"))
    changed = place.parse(pool, "one/a.py")
    place.write("one/a.py", SOURCE)
    back = place.parse(pool, "one/a.py")
    assert (counted(pool), back.module) == ((2, 1), first.module)
    assert first.module == packed(parse("a.py", SOURCE))
    assert changed.module is not None
    assert [unit.name for unit in changed.module.units] == ["read"]
    place.write("two/other.py", SOURCE)
    assert place.parse(pool, "two/other.py").module == first.module
    assert counted(pool) == (2, 2)
    again = place.pool()
    assert place.parse(again, "two/other.py").module == first.module
    assert counted(again) == (0, 1)


def test_another_version_parses_again(place: Place) -> None:
    place.write("one/a.py", SOURCE)
    place.parse(place.pool(), "one/a.py")
    other = place.pool(identity=b"\xcd" * 16)
    place.parse(other, "one/a.py")
    assert counted(other) == (1, 0)


def test_who_wants_it_parsed_gets_it_parsed(place: Place) -> None:
    place.write("one/a.py", SOURCE)
    pool = place.pool()
    place.parse(pool, "one/a.py")
    place.parse(pool, "one/a.py", anew=True)
    assert counted(pool) == (2, 0)


def test_an_edit_brings_its_texts_and_a_return_none(place: Place) -> None:
    place.write("one/a.py", SOURCE)
    pool = place.pool()
    edited = place.parse(pool, "one/a.py", urgent=True)
    assert len(unpack(edited.texts)) == 1
    returned = place.parse(pool, "one/a.py", urgent=True)
    assert (returned.module, returned.texts) == (edited.module, b"")
    assert counted(pool) == (1, 1)


def test_a_damaged_entry_is_parsed_again(place: Place) -> None:
    place.write("one/a.py", SOURCE)
    pool = place.pool()
    first = place.parse(pool, "one/a.py", urgent=True)
    deadline = time.monotonic() + 30
    while not entries(place.modules):  # it is written after the answer
        assert time.monotonic() < deadline
    (entry,) = entries(place.modules)
    entry.write_bytes(b"no module")
    assert place.parse(pool, "one/a.py").module == first.module
    assert place.parse(pool, "one/a.py").module == first.module
    assert counted(pool) == (2, 1)


def test_fault_53_where_nothing_can_be_written_files_are_parsed(place: Place) -> None:
    place.modules.write_text("a file in the place of the folder")
    place.write("one/a.py", SOURCE)
    pool = place.pool()
    for _ in range(3):
        assert place.parse(pool, "one/a.py").module == packed(parse("a.py", SOURCE))
    assert counted(pool) == (3, 0)


def test_short_files_are_not_worth_an_entry(place: Place) -> None:
    place.write("one/a.py", b"x = 1\n")
    pool = place.pool()
    place.parse(pool, "one/a.py")
    place.parse(pool, "one/a.py")
    assert (counted(pool), entries(place.modules)) == ((2, 0), [])


def test_keys_of_places_are_folders(tmp_path: Path) -> None:
    places: Places = make(tmp_path / "modules").places()
    assert places == (os.fsencode(tmp_path / "modules" / f"{IDENTITY.hex()}-1"),)
