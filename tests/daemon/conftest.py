"""The lab as a fixture: see bench.lab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab import Lab
from codegraphd.daemon.engine import Settings


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, Settings(faces=True))
    yield lab
    lab.close()


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Any]:
    labs: list[Lab] = []

    def make(settings: Settings, name: str = "lab") -> Lab:
        directory = tmp_path / f"{name}{len(labs)}"
        directory.mkdir()
        labs.append(Lab(directory, settings))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()
