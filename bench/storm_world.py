"""The world of a storm: a real directory that is knocked about, a real daemon that watches it, and what must hold.

An *operation* is a tuple of strings, (name, argument, …), so that a history of them can be printed, stored as JSON and
performed again. Operations never fail: one that makes no sense where things stand (to move what is not there) does
nothing. `World.check` is the proof after each burst: what was synced equals a fresh build (`verify`), its relations
are whole, a client that only follows `changes` knows the same units, and the daemon's log tells of no fault.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.home import Home
from codegraphd.daemon.analysis.parse import render
from codegraphd.daemon.embedding.hashing import HashingBackend, HashingTokens
from codegraphd.daemon.embedding.models import resolve
from codegraphd.daemon.embedding.text import context_text
from codegraphd.daemon.graph.recipe import quoted
from codegraphd.ipc.client import Client
from codegraphd.store.env import Store

Operation = tuple[str, ...]

# Cascades are real only with context inputs; a low cap makes it bite.
CONFIG = '[embedding]\nmodel = "hashing"\ncontext = "faces"\n[incremental]\nmax_cascade_units = 3\n'
SYNC_S = 60.0
COSINE = 0.999
OWN_WEIGHT, CASCADE_DEPTH = 0.9, 3  # the daemon's defaults
_FAULT = re.compile(r"^.*(?:Traceback|ERROR|CRITICAL).*$", re.MULTILINE)
_TOLD = re.compile(r"exit|killed|died|signal|ended", re.IGNORECASE)  # a child that was killed is no fault of ours


class BrokenError(AssertionError):
    """Something that must hold does not; the message says what."""


class World:
    """One workspace directory under one daemon. `close` forgets it, so that the daemon can serve the next."""

    def __init__(self, home: Home, place: Path) -> None:
        self.home, self.place = home, place
        self.history: list[list[Operation]] = []  # a burst each
        place.mkdir(parents=True)
        self._client: Client | None = None
        self._inner: Path | None = None
        self._logged = 0
        self._mirror: dict[str, tuple[Any, ...]] = {}  # unit id -> what a client that follows `changes` knows of it
        self._clock = ""
        self._watched = False
        self._actions: dict[str, Callable[..., None]] = {
            "write": self._write, "save": self._save, "edit": self._edit, "delete": self._delete, "move": self._move,
            "swap": self._swap, "copy": self._copy, "symlink": self._symlink, "hardlink": self._hardlink,
            "case": self._case, "mkdir": self._mkdir, "touch": self._touch, "wait": self._wait, "kill": self._kill,
            "stop": self._stop, "unwatch": self._unwatch, "inner": self._watch_inner, "sync": self._sync,
            "fifo": self._fifo, "ask": self._ask, "changed": self._changed, "reindex": self._reindex, "gc": self._gc,
            "configure": self._configure, "flip": self._flip,
        }  # fmt: skip

    def perform(self, burst: list[Operation]) -> None:
        self.history.append(burst)
        for name, *arguments in burst:
            with contextlib.suppress(OSError, shutil.Error):
                self._actions[name](*arguments)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self, *, semantic: bool) -> None:
        """Raises BrokenError. `semantic`: vectors too."""
        client = self.client()
        if self._inner is not None and self._is_missing(client, self._inner):
            self._watch_inner("")
        for root in [self.place, *([self._inner] if self._inner else [])]:
            client.call("sync", root=str(root), semantic=semantic, timeout_s=SYNC_S, deadline=SYNC_S + 10)
            found = client.call("verify", root=str(root), deadline=SYNC_S)["differences"]
            if found:
                raise BrokenError("the index is not what a fresh build gives:\n" + "\n".join(found[:20]))
        self._check_changes(client)
        if semantic:
            self._check_vectors(client)
        self._check_log()

    @staticmethod
    def _is_missing(client: Client, root: Path) -> bool:
        """A missing root has nothing to be compared with: it is gone, or an empty directory has taken its place, as
        where nothing is mounted any more; then its index is kept. Of one that holds something the daemon may not say
        so."""
        if not root.is_dir():
            return True
        client.call("sync", root=str(root), timeout_s=SYNC_S, deadline=SYNC_S + 10)
        states = {line["root"]: line["state"] for line in client.call("status")["workspaces"]}
        return states[str(root)] == "missing" and next(root.iterdir(), None) is None

    def _check_changes(self, client: Client) -> None:
        """Follow `changes` from the last clock; the mirror must then hold exactly what `symbols` answers."""
        told = client.call("changes", root=str(self.place), since=self._clock) if self._clock else {"reset": True}
        clock = told.get("clock", "")
        units = client.call("symbols", root=str(self.place), limit=100_000)
        now = {unit["id"]: _known(unit) for unit in units["units"] if not unit.get("stale")}
        if told["reset"]:
            self._mirror, clock = dict(now), units["clock"]
        for unit in told.get("units", ()):
            before = self._mirror.pop(unit["id"], None)
            if (unit["change"] == "added") != (before is None):
                raise BrokenError(
                    f"`changes` says {unit['change']} of {unit['path']}:{unit['qualname']}, before: {before}"
                )
            if unit["change"] == "moved" and before is not None and unit["from"] != f"{before[0]}:{before[2]}":
                raise BrokenError(
                    f"{unit['path']}:{unit['qualname']} is said to come from {unit['from']}, before: {before}"
                )
            if unit["change"] != "deleted":
                self._mirror[unit["id"]] = _known(unit)
            if unit["change"] == "moved" and before is not None and _known(unit)[:3] == before[:3]:
                raise BrokenError(f"{unit['path']}:{unit['qualname']} is said to have moved from where it is")
        if self._mirror != now:
            odd = sorted(set(self._mirror.items()) ^ set(now.items()), key=str)
            raise BrokenError(f"who follows `changes` does not know what `symbols` says: {odd[:6]}")
        self._clock = clock

    def _check_vectors(self, client: Client) -> None:
        """Each unit's vector is what the model gives for its text of now, as computed here, apart from the daemon."""
        status = client.call("status")
        for line in status["workspaces"]:
            if line["pending"] or line["attached"] != line["units"]:
                raise BrokenError(f"after sync --semantic {line['root']} has {line}")
        if status["store"]["vectors"] != sum(line["units"] for line in status["workspaces"]):
            raise BrokenError(f"the vector index holds {status['store']['vectors']} vectors: {status['workspaces']}")
        info = resolve("hashing", "")
        tokens, backend = HashingTokens(info), HashingBackend(info)

        def vector_of(text: str) -> Any:
            return backend.encode([tokens.encode([text])[0][0]])[0]

        store = Store.open(str(self.home.directory / "state" / "index"), read_only=True, volatile=True)
        try:
            with store.snapshot() as view:
                root = next(root for root in view.roots() if root.path == str(self.place))
                for file in view.files(root.id):
                    texts = render(file.path, self._at(file.path).read_bytes()) if file.units else ()
                    for unit, text in zip(view.units_of(file), texts, strict=True):
                        quotes = quoted(view, unit, CASCADE_DEPTH, view.unit)
                        wanted = OWN_WEIGHT * vector_of(text) + (1 - OWN_WEIGHT) * vector_of(context_text(unit, quotes))
                        attached = view.attached(unit.id)
                        cosine = 0.0 if attached is None else float(attached @ wanted) / float(np.linalg.norm(wanted))
                        if cosine < COSINE:
                            name, state = f"{file.path}:{unit.unit.qualname}", view.state(unit.id)
                            raise BrokenError(f"{name}: its vector is not that of its text ({cosine:.4f}): {state}")
        finally:
            store.close()

    def _check_log(self) -> None:
        text = self.home.log()
        fresh, self._logged = text[self._logged :], len(text)
        faults = [line for line in _FAULT.findall(fresh) if not _TOLD.search(line)]
        if faults:
            raise BrokenError("the daemon's log: " + fresh[max(0, fresh.index(faults[0]) - 200) :][:3000])

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def client(self) -> Client:
        """Of a daemon that runs and watches the workspace."""
        if not self.home.is_running():
            self._client = None
            self.home.start()
        if self._client is None:
            self._client = self.home.client()
            self._logged = min(self._logged, len(self.home.log()))
        if not self._watched:
            self._client.call("watch", root=str(self.place))
            self._watched, self._clock = True, ""
        return self._client

    def close(self) -> None:
        if self.home.is_running():  # one that broke something has been stopped: it is not to be started again
            self._let_go()
        self._hang_up()
        shutil.rmtree(self.place, ignore_errors=True)

    def _let_go(self) -> None:
        with contextlib.suppress(Exception):
            self._configure("")
            for root in [*([self._inner] if self._inner else []), self.place]:
                self.client().call("unwatch", root=str(root))

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _kill(self, what: str) -> None:
        if what == "daemon":
            self._hang_up()
            self.home.kill()
        elif self.home.is_running():
            # Of several parsers one: to lose two over one file is to lose the file until it changes, as it should be.
            for process in self.home.processes()[what][:1]:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _stop(self) -> None:
        self._hang_up()
        self.home.stop()

    def _unwatch(self) -> None:
        self.client().call("unwatch", root=str(self.place))
        self._watched = False

    def _watch_inner(self, path: str) -> None:
        """A directory of the workspace becomes a root of its own, or is one no more."""
        client = self.client()
        if self._inner is not None:
            client.call("unwatch", root=str(self._inner))
            self._inner = None
        elif self._at(path).is_dir():
            self._inner = self._at(path)
            client.call("watch", root=str(self._inner))

    def _sync(self) -> None:
        """Without a check after it: others come upon what is half done."""
        self.client().call("sync", root=str(self.place), timeout_s=SYNC_S, deadline=SYNC_S + 10)

    def _ask(self, query: str) -> None:
        for mode in ("lexical", "hybrid"):
            self.client().call("search", query=query, mode=mode, snippet_lines=2, deadline=SYNC_S)
        self.client().call("symbols", pattern=query, deadline=SYNC_S)

    def _changed(self, path: str) -> None:
        self.client().call("changed", path=str(self._at(path)), kind="modified", deadline=SYNC_S)

    def _reindex(self) -> None:
        self.client().call("reindex", root=str(self.place), deadline=SYNC_S)

    def _gc(self) -> None:
        self.client().call("gc", deadline=SYNC_S)

    def _configure(self, index: str) -> None:
        """Other keys of [index], which a running daemon takes in."""
        (self.home.directory / "config.toml").write_text(f"{CONFIG}[index]\n{index}\n")
        if self.home.is_running():
            self.client().call("reload", deadline=SYNC_S)

    # --- the directory ------------------------------------------------------------------------------------------------

    def _at(self, path: str) -> Path:
        return self.place / path

    def _make_room(self, file: Path) -> None:
        for parent in reversed(file.relative_to(self.place).parents):
            above = self.place / parent
            if above.is_symlink() or above.is_file():
                above.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif file.is_fifo():
            file.unlink()  # to open it would block

    def _write(self, path: str, text: str) -> None:
        self._make_room(self._at(path))
        self._at(path).write_bytes(text.encode("utf-8", "surrogateescape"))

    def _save(self, path: str, text: str) -> None:
        """As editors do: into another file, renamed over."""
        self._make_room(self._at(path))
        other = self._at(path).with_name(f".{self._at(path).name}.swp")
        other.write_bytes(text.encode())
        other.replace(self._at(path))

    def _edit(self, path: str, how: str) -> None:
        if self._at(path).is_file():
            self._at(path).write_bytes(EDITS[how](self._at(path).read_bytes()))

    def _flip(self, path: str, how: str, ms: str) -> None:
        """Files are edited and changed back at once, as a stash does it: each time another file."""
        files = [file for file in self._at(path).rglob("*") if file.is_file() and not file.is_symlink()]
        sources = {file: file.read_bytes() for file in files}
        for edit in (EDITS[how], lambda source: source):
            for file, source in sources.items():
                file.unlink()
                file.write_bytes(edit(source))
            time.sleep(int(ms) / 1000)

    def _delete(self, path: str) -> None:
        place = self._at(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def _move(self, source: str, to: str) -> None:
        if not self._at(source).exists() or (to + "/").startswith(source + "/") or (source + "/").startswith(to + "/"):
            return
        self._make_room(self._at(to))
        self._at(source).replace(self._at(to))

    def _swap(self, first: str, second: str) -> None:
        one, two, aside = self._at(first), self._at(second), self.place / "aside.tmp"
        if one.exists() and two.exists() and not one.is_relative_to(two) and not two.is_relative_to(one):
            one.rename(aside)
            two.rename(one)
            aside.rename(two)

    def _copy(self, source: str, to: str) -> None:
        here, there = self._at(source), self._at(to)
        if here.is_dir() and not there.is_relative_to(here):
            shutil.copytree(here, there, symlinks=True, dirs_exist_ok=True)
        elif here.is_file():
            self._make_room(there)
            shutil.copy2(here, there)

    def _symlink(self, target: str, path: str) -> None:
        self._make_room(self._at(path))
        self._at(path).unlink(missing_ok=True)
        self._at(path).symlink_to(self._at(target))

    def _hardlink(self, target: str, path: str) -> None:
        if self._at(target).is_file() and target != path:
            self._make_room(self._at(path))
            self._at(path).unlink(missing_ok=True)
            self._at(path).hardlink_to(self._at(target))

    def _fifo(self, path: str) -> None:
        self._make_room(self._at(path))
        self._at(path).unlink(missing_ok=True)
        os.mkfifo(self._at(path))

    def _case(self, path: str) -> None:
        """Only the case of the name changes."""
        place = self._at(path)
        if place.exists() and not place.with_name(place.name.swapcase()).exists():
            place.rename(place.with_name(place.name.swapcase()))

    def _mkdir(self, path: str) -> None:
        self._at(path).mkdir(parents=True, exist_ok=True)

    def _touch(self, path: str) -> None:
        if self._at(path).is_file():
            os.utime(self._at(path))

    def _wait(self, ms: str) -> None:
        time.sleep(int(ms) / 1000)


def _known(unit: dict[str, Any]) -> tuple[Any, ...]:
    return unit["path"], unit["kind"], unit["qualname"], unit["signature"], unit["doc"]


def _blocks(source: bytes) -> list[bytes]:
    return re.split(rb"\n(?=\S)", source.rstrip(b"\n"))


def _joined(blocks: list[bytes]) -> bytes:
    return b"\n".join(blocks) + b"\n"


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "body": lambda s: re.sub(rb"(\d+)(?=\D*$)", lambda m: b"%d" % (int(m[1]) + 1), s, count=1),
    "first body": lambda s: re.sub(rb"\d+", lambda m: b"%d" % (int(m[0]) + 1), s, count=1),
    "face": lambda s: s.replace(b"(x", b"(x_, x", 1) if b"(x_" not in s else s.replace(b"(x_, x", b"(x", 1),
    "doc": lambda s: s.replace(b"One.", b"Two.", 1) if b"One." in s else s.replace(b"Two.", b"One.", 1),
    "reformat": lambda s: s.replace(b"\n", b"\n\n", 3),
    "break": lambda s: s + b"\ndef broken((\n",
    "break above": lambda s: b"class (\n" + s,
    "mend": lambda s: s.replace(b"\ndef broken((\n", b"").replace(b"class (\n", b""),
    "double": lambda s: _joined([*_blocks(s), _blocks(s)[-1]]),
    "drop": lambda s: _joined(_blocks(s)[:-1]),
    "drop first": lambda s: _joined(_blocks(s)[1:]),
    "turn": lambda s: _joined(_blocks(s)[::-1]),
    "rename f": lambda s: re.sub(rb"\bf\b", b"g2", s),
    "rename Base": lambda s: re.sub(rb"\bBase\b", b"Ground", s),
    "rename back": lambda s: re.sub(rb"\bGround\b", b"Base", re.sub(rb"\bg2\b", b"f", s)),
    "crlf": lambda s: s.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "mark": lambda s: s.removeprefix(b"\xef\xbb\xbf") if s.startswith(b"\xef\xbb\xbf") else b"\xef\xbb\xbf" + s,
    "binary": lambda s: s + b"\0\0\0",
    "text": lambda s: s.replace(b"\0", b""),
    "empty": lambda _: b"",
}
