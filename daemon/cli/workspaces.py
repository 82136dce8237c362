"""The commands about whole workspaces: watch, unwatch, sync, verify, reindex, gc."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from typing import Any

from codegraphd.daemon.cli import DONE, REFUSED, CommandError
from codegraphd.daemon.cli.reach import connected
from codegraphd.daemon.cli.show import count, duration, is_terminal, note, number, plain, print_json
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import NOT_WATCHED, UNAVAILABLE, RemoteError

_A_DAY_S = 86_400.0
_LOOK_S = 0.25  # between two looks at the progress


def watch(arguments: Namespace) -> int:
    root = os.path.abspath(arguments.root)
    with connected(may_start=not arguments.no_start) as client:
        answer = client.call("watch", root=root)
        if arguments.wait:
            answer = {**answer, **_wait_indexed(client, answer["root"])}
        if arguments.json:
            print_json(answer)
        elif arguments.wait:
            print(_summary(answer))
            if answer.get("degraded"):
                note(f"indexed for search by words only: {answer['degraded']}")
        else:
            print(f"watching {plain(answer['root'])} ({answer['state']}); 'codegraphd status' shows the progress")
    return DONE


def unwatch(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        answer = client.call("unwatch", root=os.path.abspath(arguments.root))
    if arguments.json:
        print_json(answer)
    else:
        print(f"not watching {plain(answer['root'])} any more")
    return DONE


def sync(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        root = _root(client, arguments.root)
        answer = client.call("sync", root=root, semantic=arguments.semantic, timeout_s=arguments.timeout)
    if arguments.json:
        print_json(answer)
    return DONE


def verify(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        answer = client.call("verify", root=_root(client, arguments.root))
    differences = answer["differences"]
    if arguments.json:
        print_json(answer)
    else:
        for difference in differences:
            print(plain(_difference(difference)))
        compared = f"{count(answer.get('units', 0), 'unit')}, {count(answer.get('edges', 0), 'edge')}"
        print(f"{compared}: {count(len(differences), 'difference') if differences else 'no difference'}")
    return REFUSED if differences else DONE


def reindex(arguments: Namespace) -> int:
    root = os.path.abspath(arguments.root) if arguments.root else None
    with connected(may_start=not arguments.no_start) as client:
        answer = client.call("reindex", root=root)
    if arguments.json:
        print_json(answer)
    else:
        roots = ", ".join(map(plain, answer.get("roots", []))) or "no workspace"
        print(f"reading again: {roots}; 'codegraphd status' shows the progress")
    return DONE


def gc(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        answer = client.call("gc")
    if arguments.json:
        print_json(answer)
    else:
        print(", ".join(f"{name.replace('_', ' ')}: {number(n)}" for name, n in answer.items()) or "done")
    return DONE


def _difference(difference: Any) -> str:
    if not isinstance(difference, dict):
        return str(difference)
    return "  ".join(f"{name}: {value}" for name, value in difference.items())


def _root(client: Client, given: str | None) -> str:
    """A given workspace, else that of this directory, else the only one."""
    if given is not None:
        return os.path.abspath(given)
    here = os.getcwd()
    roots = [workspace["root"] for workspace in client.call("status").get("workspaces", [])]
    if any(here == root or here.startswith(root.rstrip("/") + "/") for root in roots):
        return here
    if len(roots) == 1:
        return str(roots[0])
    if not roots:
        raise CommandError("no workspace is watched: 'codegraphd watch DIR' adds one")
    raise CommandError(f"{plain(here)} is in no watched workspace: give one of {', '.join(map(plain, roots))}")


# --- watch --wait --------------------------------------------------------------------------------------------------


def _wait_indexed(client: Client, root: str) -> dict[str, Any]:
    """Return once everything is indexed and embedded (without a model: indexed). -> what status says of the root.

    The end is told by `sync`, which is exact; the status in between only feeds the bars.
    """
    began = time.monotonic()
    degraded = None
    with _Bars(root) as bars:
        waiting = client.send("sync", root=root, semantic=True, timeout_s=_A_DAY_S)
        while True:
            if not client.is_answered(waiting, within=_LOOK_S):
                bars.show(client.call("status"))
                continue
            try:
                client.wait(waiting)
                break
            except RemoteError as error:
                if error.code != UNAVAILABLE or degraded is not None:
                    raise
                degraded = error.message
                waiting = client.send("sync", root=root, semantic=False, timeout_s=_A_DAY_S)
        document = client.call("status")
        bars.show(document)
    workspace = _workspace(document, root)
    if workspace is None:
        raise RemoteError(NOT_WATCHED, f"{root} is not watched any more")
    return {**workspace, "degraded": degraded, "took_s": round(time.monotonic() - began, 2)}


def _workspace(document: dict[str, Any], root: str) -> dict[str, Any] | None:
    return next((w for w in document.get("workspaces", []) if w.get("root") == root), None)


def _summary(answer: dict[str, Any]) -> str:
    figures = f"{count(answer.get('files', 0), 'file')}, {count(answer.get('units', 0), 'unit')}"
    pending = f", {number(answer['pending'])} not embedded" if answer.get("pending") else ""
    return f"{plain(answer['root'])}: {figures}{pending}, in {duration(answer.get('took_s'))}"


class _Bars:
    """Progress bars on a terminal; nothing at all elsewhere. rich is imported only where they are drawn."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._progress: Any = None

    def __enter__(self) -> _Bars:
        if is_terminal(sys.stderr):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._files = self._progress.add_task("reading", total=None)
            self._units = self._progress.add_task("meaning", total=None, visible=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, document: dict[str, Any]) -> None:
        workspace = _workspace(document, self._root)
        if self._progress is None or workspace is None:
            return
        progress = workspace.get("progress") or {}
        units, pending = workspace.get("units") or 0, workspace.get("pending") or 0
        if workspace.get("state") == "crawling":
            total = progress.get("total") or None
            self._progress.update(self._files, completed=progress.get("done") or 0, total=total)
        else:
            files = workspace.get("files") or 0
            self._progress.update(self._files, completed=files, total=files or None)
        self._progress.update(self._units, completed=max(0, units - pending), total=units or None, visible=units > 0)
