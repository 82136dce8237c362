"""The argparse tree: every command with its options, and nothing else. What a command does is imported when it runs."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from codegraphd.ipc.version import VERSION

Run = Callable[[Namespace], int]

_EPILOG = """\
Paths on the command line are those of the shell. Lists go to standard output as `path:line  kind name`; with --json
one JSON document does. Commands that need the daemon start it, unless --no-start is given.
"""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="codegraphd",
        description="An always-fresh semantic index of your code, on your own machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"codegraphd {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Run, text: str, *, as_json: bool = True, starts: bool = False) -> ArgumentParser:
        sub: ArgumentParser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run, json=False, no_start=not starts)
        if as_json:
            sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        if starts:
            sub.add_argument("--no-start", action="store_true", default=False, help="do not start the daemon")
        return sub

    _add_daemon(command)
    _add_workspaces(command)
    _add_questions(command)
    _add_installation(command)
    return parser


def _add_daemon(command: Callable[..., ArgumentParser]) -> None:
    command("run", _run, "the daemon in the foreground; logs to standard error", as_json=False)
    command("start", _start, "start the daemon in the background")
    command("stop", _stop, "stop the daemon")
    command("restart", _restart, "stop the daemon and start it again")
    sub = command("status", _status, "health, progress, cache, model, store and watch figures")
    sub.add_argument("--follow", action="store_true", help="again and again; with --json one document a line")
    sub.add_argument("--interval", type=_positive_number, default=1.0, metavar="S", help="seconds between (1)")
    command("metrics", _metrics, "Prometheus text, read over the socket", as_json=False)


def _add_workspaces(command: Callable[..., ArgumentParser]) -> None:
    sub = command("watch", _watch, "add a workspace", starts=True)
    sub.add_argument("root", metavar="ROOT", nargs="?", default=".", help="its directory (here)")
    sub.add_argument("--wait", action="store_true", help="until it is fully indexed, with progress on a terminal")
    sub = command("unwatch", _unwatch, "remove a workspace", starts=True)
    sub.add_argument("root", metavar="ROOT", nargs="?", default=".", help="its directory (here)")
    sub = command("sync", _sync, "return once every change made before the call is indexed", starts=True)
    sub.add_argument("root", metavar="ROOT", nargs="?", help="a workspace (that of this directory)")
    sub.add_argument("--semantic", action="store_true", help="and embedded")
    sub.add_argument("--timeout", type=_positive_number, default=30.0, metavar="S", help="deadline in seconds (30)")
    sub = command("verify", _verify, "compare the index with a fresh build in memory", starts=True)
    sub.add_argument("root", metavar="ROOT", nargs="?", help="a workspace (that of this directory)")
    sub = command("reindex", _reindex, "rebuild from the files", starts=True)
    sub.add_argument("root", metavar="ROOT", nargs="?", help="a workspace (all)")
    command("gc", _gc, "drop what nothing uses", starts=True)


def _add_questions(command: Callable[..., ArgumentParser]) -> None:
    sub = command("search", _search, "search by meaning and by words", starts=True)
    sub.add_argument("query", metavar="QUERY", nargs="+")
    sub.add_argument("-n", "--limit", type=_positive, default=10, metavar="N", help="how many results (10)")
    sub.add_argument("--mode", choices=("hybrid", "semantic", "lexical"), default="hybrid")
    _add_languages(sub)
    sub.add_argument("--kind", action="append", metavar="KIND", help="function, class, section, …; may be repeated")
    sub.add_argument("--path", action="append", metavar="GLOB", help="only in files that match; may be repeated")
    sub.add_argument("--snippet", type=_count, default=0, metavar="N", help="show the first N lines of each")
    sub.add_argument("--sync", action="store_true", help="index all changes made until now first")
    sub.add_argument("--wait-ms", type=_count, metavar="MS", help="for a model that is loading (2500)")
    _add_root(sub)

    sub = command("similar", _similar, "every unit similar to one, or to code on standard input", starts=True)
    sub.add_argument("where", metavar="FILE:LINE|-", help="a unit, or - for code on standard input (with --lang)")
    _add_languages(sub)
    sub.add_argument("--threshold", type=_share, default=0.85, metavar="T", help="least similarity, 0 to 1 (0.85)")
    sub.add_argument("-n", "--limit", type=_positive, metavar="N", help="at most N (all)")
    _add_root(sub)

    sub = command("clones", _clones, "clone families of a workspace", starts=True)
    sub.add_argument("--threshold", type=_share, default=0.9, metavar="T", help="least similarity, 0 to 1 (0.9)")
    sub.add_argument("--min-lines", type=_positive, default=5, metavar="N", help="only units of N lines or more (5)")
    sub.add_argument("-n", "--limit", type=_positive, metavar="N", help="at most N families (all)")
    _add_languages(sub)
    _add_root(sub)

    for name, run, text in (
        ("dependents", _dependents, "what depends on a unit"),
        ("dependencies", _dependencies, "what a unit depends on"),
    ):
        sub = command(name, run, text, starts=True)
        sub.add_argument("where", metavar="FILE:LINE|SYMBOL")
        sub.add_argument("--depth", type=_positive, default=3, metavar="N", help="steps along the graph (3)")
        sub.add_argument("-n", "--limit", type=_positive, default=1000, metavar="N", help="at most N units (1000)")
        _add_root(sub)

    sub = command("symbols", _symbols, "units by name or by file", starts=True)
    sub.add_argument("what", metavar="PATTERN|FILE", nargs="?")
    sub.add_argument("-n", "--limit", type=_positive, default=100, metavar="N", help="at most N units (100)")
    _add_root(sub)

    sub = command(
        "explain", _explain, "what the model saw of a unit, and why and when it was last embedded", starts=True
    )
    sub.add_argument("where", metavar="FILE:LINE")
    _add_root(sub, all_too=False)


def _add_installation(command: Callable[..., ArgumentParser]) -> None:
    command("doctor", _doctor, "check the installation and say how to mend it")
    sub = command("config", _config, "the effective configuration")
    sub.add_argument("action", choices=("show", "check", "path"), nargs="?", default="show")
    sub = command("model", _model, "embedding models: known ones, the one in use, does it load, fetch one")
    sub.add_argument("action", choices=("list", "use", "check", "pull"), nargs="?", default="list")
    sub.add_argument("name", metavar="MODEL", nargs="?", help="a known name, a directory; to pull, owner/name too")
    sub = command("service", _service, "the systemd or launchd user service")
    sub.add_argument("action", choices=("install", "uninstall", "status"), nargs="?", default="status")


def _add_root(sub: ArgumentParser, *, all_too: bool = True) -> None:
    sub.add_argument("--root", metavar="DIR", help="the workspace to ask (that of this directory, else all)")
    if all_too:
        sub.add_argument("--all", action="store_true", help="ask all workspaces")


def _add_languages(sub: ArgumentParser) -> None:
    sub.add_argument("--lang", action="append", metavar="LANGUAGE", help="python, go, …; may be repeated")


def _positive(text: str) -> int:
    return int(_bounded(text, int, 1, 2**63 - 1, "a whole number from 1"))


def _count(text: str) -> int:
    return int(_bounded(text, int, 0, 2**63 - 1, "a whole number from 0"))


def _share(text: str) -> float:
    return float(_bounded(text, float, 0.0, 1.0, "a number from 0 to 1"))


def _positive_number(text: str) -> float:
    return float(_bounded(text, float, 0.001, 86_400.0, "a number of seconds, up to 86400"))


def _bounded(text: str, kind: Callable[[str], Any], low: float, high: float, allowed: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"'{text}' is not {allowed}")
    return value


# --- the commands: each imports what it needs -----------------------------------------------------------------------


def _run(_: Namespace) -> int:
    from codegraphd.daemon.cli.reach import run_daemon

    return run_daemon()


def _start(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.reach import start

    return start(arguments)


def _stop(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.reach import stop

    return stop(arguments)


def _restart(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.reach import restart

    return restart(arguments)


def _status(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.health import status

    return status(arguments)


def _metrics(_: Namespace) -> int:
    from codegraphd.daemon.cli.metrics import metrics

    return metrics()


def _doctor(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.health import doctor

    return doctor(arguments)


def _watch(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import watch

    return watch(arguments)


def _unwatch(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import unwatch

    return unwatch(arguments)


def _sync(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import sync

    return sync(arguments)


def _verify(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import verify

    return verify(arguments)


def _reindex(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import reindex

    return reindex(arguments)


def _gc(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.workspaces import gc

    return gc(arguments)


def _search(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import search

    return search(arguments)


def _similar(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import similar

    return similar(arguments)


def _clones(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import clones

    return clones(arguments)


def _dependents(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import around

    return around("dependents", arguments)


def _dependencies(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import around

    return around("dependencies", arguments)


def _symbols(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import symbols

    return symbols(arguments)


def _explain(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.questions import explain

    return explain(arguments)


def _config(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.installation import config

    return config(arguments)


def _model(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.installation import model

    return model(arguments)


def _service(arguments: Namespace) -> int:
    from codegraphd.daemon.cli.installation import service

    return service(arguments)
