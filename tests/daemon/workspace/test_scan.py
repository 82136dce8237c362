"""What a stat says of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegraphd.daemon.workspace.scan import ScanSettings, classify, signature
from codegraphd.daemon.workspace.throttle import BURST, PERIOD, Throttle


def language_of(path: str, line: bytes) -> str | None:
    return "python" if path.endswith(".py") or line.startswith(b"#!/usr/bin/python") else None


@pytest.mark.parametrize(
    ("name", "content", "expect"),
    [
        ("a.py", b"x", ""),
        ("a.py", b"x" * 101, "too large"),
        ("a.png", b"x", "no known language"),
        ("script", b"#!/usr/bin/python\nx", ""),
        ("script", b"#!/usr/bin/python" + b"x" * 100, "too large"),
        ("script", b"#!/bin/ed", "no known language"),
        ("script", b"", "no known language"),
        ("script.bin", b"#!/usr/bin/python", "no known language"),
    ],
)
def test_classify(tmp_path: Path, name: str, content: bytes, expect: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert classify(f"deep/{name}", str(file), os.lstat(file), ScanSettings(language_of, max_file_bytes=100)) == expect


def test_signatures_differ_in_each_part_and_have_a_complement() -> None:
    base = (10, 1_700_000_000_000_000_000, 1_700_000_000_000_000_001, 42)
    signatures = {signature(*base)}
    for part in range(4):
        changed = list(base)
        changed[part] += 1
        signatures.add(signature(*changed))
    assert len(signatures) == 5
    assert all(0 <= s < 1 << 63 for s in signatures)


def test_a_throttle_lets_a_burst_through_and_then_one_a_period() -> None:
    throttle = Throttle()
    let_through = []
    now = 100.0
    for _ in range(600):  # every 100 ms for a minute
        if throttle.wait_until("a", now) is None:
            let_through.append(now)
        now += 0.1
    assert BURST + 60 / PERIOD - 2 <= len(let_through) <= BURST + 60 / PERIOD + 1
    due = throttle.wait_until("a", now)
    assert due is None or now < due <= now + PERIOD
    assert throttle.wait_until("b", now) is None
    assert throttle.wait_until("a", now + BURST * PERIOD) is None


def test_a_throttles_memory_is_bounded() -> None:
    throttle = Throttle()
    for number in range(20_000):
        throttle.wait_until(number, number / 1000)
    assert len(throttle) <= 4096
