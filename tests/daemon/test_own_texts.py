"""Own texts of edited files are at hand; all others are rendered by a parser process. Real processes, real files."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegraphd.daemon.own_texts import KEPT_BYTES, OwnTexts
from codegraphd.daemon.parser_process import pack
from codegraphd.daemon.parsers import Parsers, RenderJob

SOURCE = b"def one():\n    return 1\n"


@pytest.fixture
def pool() -> Iterator[Parsers]:
    parsers = Parsers()
    yield parsers
    parsers.close()


class Asked:
    """Answers as they come, whether at once or posted from another thread."""

    def __init__(self, pool: Parsers) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.texts = OwnTexts(pool, self._posted.put)

    def ask(self, root: Path, path: str, source: bytes) -> tuple[bool, tuple[str, ...] | None]:
        """-> (whether the answer came at once, the answer)."""
        found: list[Any] = []
        job = RenderJob(str(root), path, hashlib.sha256(source).digest())
        self.texts.render(job, found.append, urgent=True)
        at_once = bool(found)
        if not at_once:
            self._posted.get(timeout=60)()
        return at_once, found[0] and found[0].texts


def test_kept_texts_are_at_hand_and_no_others(pool: Parsers, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(SOURCE)
    asked = Asked(pool)
    asked.texts.keep("a.py", hashlib.sha256(SOURCE).digest(), pack(("kept",)))
    assert asked.ask(tmp_path, "a.py", SOURCE) == (True, ("kept",))
    assert asked.ask(tmp_path, "a.py", SOURCE + b"\n") == (False, None)  # of other bytes, which are not there
    assert asked.ask(tmp_path, "a.txt", SOURCE) == (False, None)  # another path may be another language
    assert pool.statistics()["rendered"] == 2


def test_without_texts_the_file_is_rendered(pool: Parsers, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(SOURCE)
    asked = Asked(pool)
    asked.texts.keep("a.py", hashlib.sha256(SOURCE).digest(), b"")
    at_once, texts = asked.ask(tmp_path, "a.py", SOURCE)
    assert not at_once
    assert texts is not None
    assert len(texts) == 1
    assert "one" in texts[0]


def test_the_oldest_texts_make_room(pool: Parsers, tmp_path: Path) -> None:
    asked = Asked(pool)
    for n in range(3):
        source = b"%d" % n
        asked.texts.keep("a.py", hashlib.sha256(source).digest(), pack(("x" * (KEPT_BYTES // 2 - 100),)))
    assert not asked.ask(tmp_path, "a.py", b"0")[0]
    assert asked.ask(tmp_path, "a.py", b"1")[0]
    assert asked.ask(tmp_path, "a.py", b"2")[0]
