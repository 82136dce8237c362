"""Two threads change a tree at random while it is watched; in the end what was told equals a plain walk."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")

DIRECTORIES = ["a", "b", "c", "d"]
FILES = ["f.py", "g.py", "h.txt", "a", "b.py"]


def storm(root: Path, outside: Path, seed: int, n_operations: int) -> None:
    rng = random.Random(seed)

    def directory() -> Path:
        return root.joinpath(*(rng.choice(DIRECTORIES) for _ in range(rng.randint(0, 3))))

    def file() -> Path:
        return directory() / rng.choice(FILES)

    for number in range(n_operations):
        with contextlib.suppress(OSError):  # the other thread was faster
            match rng.randint(0, 13):
                case 0 | 1 | 2 | 3:
                    path = file()
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(str(number))
                case 4:
                    with file().open("a") as opened:
                        opened.write("more")
                case 5:
                    file().unlink()
                case 6:
                    os.replace(file(), file())
                case 7 | 8:
                    directory().rename(directory())
                case 9:
                    shutil.rmtree(directory() / rng.choice(DIRECTORIES))
                case 10:
                    directory().joinpath(*(rng.choice(DIRECTORIES) for _ in range(6))).mkdir(parents=True)
                case 11:
                    place = outside / str(seed * 100_000 + number)
                    (directory() / rng.choice(DIRECTORIES)).rename(place)
                    place.rename(directory() / rng.choice(DIRECTORIES))
                case 12:
                    (directory() / rng.choice(DIRECTORIES)).symlink_to(root)
                case 13 if rng.random() < 0.02:
                    root.rename(outside / "root")
                    (outside / "root").rename(root)


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_of_changes_ends_in_agreement(lab: Lab, seed: int) -> None:
    outside = lab.base / "outside"
    outside.mkdir()
    lab.start()
    threads = [threading.Thread(target=storm, args=(lab.root, outside, seed * 2 + i, 1200)) for i in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        lab.sync()  # looks are cut short at random moments
    for thread in threads:
        thread.join()
    lab.check_agrees()
    lab.write("afterwards.py")
    lab.check_agrees()
