"""The questions: search, similar, clones, dependents, dependencies, symbols, explain.

A question asked inside of a watched workspace is about that one; elsewhere about all of them, with a word on how to
watch the directory at hand.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from typing import Any

from codegraphd.daemon.cli import DONE, USAGE, CommandError
from codegraphd.daemon.cli.reach import connected
from codegraphd.daemon.cli.show import count, first_line, note, number, paint, plain, print_json, unit_lines
from codegraphd.ipc.client import Client
from codegraphd.ipc.errors import NOT_WATCHED, RemoteError

_PLACE = re.compile(r"(?P<path>.+?):(?P<line>[1-9][0-9]*)(:[0-9]+)?")


def search(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        found = _ask(
            client,
            arguments,
            "search",
            query=" ".join(arguments.query),
            limit=arguments.limit,
            mode=arguments.mode,
            languages=arguments.lang,
            kinds=arguments.kind,
            paths=arguments.path,
            snippet_lines=arguments.snippet,
            sync=arguments.sync,
            wait_ms=arguments.wait_ms,
        )
    if arguments.json:
        print_json(found)
        return DONE
    results = found["results"]
    for line in unit_lines(results, back=[first_line(u.get("doc")) for u in results], snippets=arguments.snippet > 0):
        print(line)
    _tell_rest(found, nothing=not results)
    return DONE


def similar(arguments: Namespace) -> int:
    about: dict[str, Any]
    if arguments.where == "-":
        if not arguments.lang or len(arguments.lang) != 1:
            raise CommandError("code on standard input needs its language: similar --lang python -", USAGE)
        code = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        if not code.strip():
            raise CommandError("there is no code on standard input")
        about = {"code": code, "language": arguments.lang[0]}
    else:
        path, line = _path_and_line(arguments.where)
        about = {"path": path, "line": line, "languages": arguments.lang}
    with connected(may_start=not arguments.no_start) as client:
        found = _ask(client, arguments, "similar", **about, threshold=arguments.threshold, limit=arguments.limit)
    if arguments.json:
        print_json(found)
        return DONE
    matches = found["matches"]
    front = [f"{match.get('similarity', 0):.2f} {match.get('type', ''):<8} " for match in matches]
    for text in unit_lines(matches, front=front):
        print(text)
    _tell_rest(found, nothing=not matches)
    return DONE


def clones(arguments: Namespace) -> int:
    with connected(may_start=not arguments.no_start) as client:
        found = _ask(
            client,
            arguments,
            "clones",
            needs_root=True,
            threshold=arguments.threshold,
            min_lines=arguments.min_lines,
            limit=arguments.limit,
            languages=arguments.lang,
        )
    if arguments.json:
        print_json(found)
        return DONE
    families = found["families"]
    for family in families:
        members = family.get("members") or family.get("units") or []
        saved = f", {count(family['lines'], 'line')} to save" if family.get("lines") else ""
        likeness = f"{family.get('type', '')} {family.get('similarity', 0):.2f}"
        print(paint(f"{count(len(members), 'unit')}  {likeness}{saved}", "bold"))
        for line in unit_lines(members):
            print(f"  {line}")
    _tell_rest(found, nothing=not families)
    return DONE


def around(method: str, arguments: Namespace) -> int:
    about: dict[str, Any]
    if match := _PLACE.fullmatch(arguments.where):
        about = {"path": os.path.abspath(match["path"]), "line": int(match["line"])}
    else:
        about = {"symbol": arguments.where}
    with connected(may_start=not arguments.no_start) as client:
        found = _ask(client, arguments, method, **about, depth=arguments.depth, limit=arguments.limit)
    if arguments.json:
        print_json(found)
        return DONE
    units = found["units"]
    front = ["  " * (int(unit.get("depth", 1)) - 1) for unit in units]
    back = []
    for unit in units:
        edge = unit.get("edge") or {}
        back.append(f"{edge.get('kind', '')} ({edge.get('strength', '')})" if edge else "")
    for line in unit_lines(units, front=front, back=back):
        print(line)
    _tell_rest(found, nothing=not units)
    return DONE


def symbols(arguments: Namespace) -> int:
    about: dict[str, Any] = {}
    what = arguments.what
    if what and (os.path.isfile(what) or ("/" in what and os.path.exists(what))):
        about["path"] = os.path.abspath(what)
    elif what:
        about["pattern"] = what
    with connected(may_start=not arguments.no_start) as client:
        found = _ask(client, arguments, "symbols", **about, limit=arguments.limit)
    if arguments.json:
        print_json(found)
        return DONE
    units = found["units"]
    for line in unit_lines(units, back=[str(unit.get("signature") or "") for unit in units]):
        print(line)
    _tell_rest(found, nothing=not units)
    return DONE


def explain(arguments: Namespace) -> int:
    path, line = _path_and_line(arguments.where)
    root = os.path.abspath(arguments.root) if arguments.root else None
    with connected(may_start=not arguments.no_start) as client:
        found = client.call("explain", path=path, line=line, root=root)
    if arguments.json:
        print_json(found)
        return DONE
    unit = found["unit"]
    print(unit_lines([unit])[0])
    if unit.get("signature"):
        print(f"  {plain(unit['signature'])}")
    reason = found.get("reason") or {}
    if reason:
        depth = f", {count(reason['depth'], 'step')} away" if reason.get("depth") else ""
        print(f"reason   {reason.get('level')}: {plain(str(reason.get('cause')))}{depth}, at {reason.get('clock')}")
    cut = ", cut to what the model reads" if found.get("truncated") else ""
    print(f"input    {found.get('input_hash')}, {number(found.get('tokens'))} tokens{cut}")
    if "embedded" in found:
        print(f"vector   {'of this input' if found['embedded'] else 'not of this input yet'}")
    for item in found.get("inputs", ()):
        _show_input(item)
    if features := found.get("features"):
        print(paint("\n--- features", "dim"))
        figures = [f"{name} {value}" for name, value in features.items() if isinstance(value, int) and value]
        print(plain(", ".join(figures)))
    _show_flow(found)
    _tell_rest(found, nothing=False)
    return DONE


def _show_input(item: dict[str, Any]) -> None:
    """The text that the model read; of a model that reads data flow, what it read in its place."""
    variables = item.get("variables")
    those = f", {count(variables, 'variable')} of the data flow among them" if variables else ""
    print(
        paint(
            f"\n--- {item.get('input', item.get('kind', 'input'))} ({number(item.get('tokens'))} tokens{those})", "dim"
        )
    )
    read = item.get("read")
    if not read:
        for text in str(item.get("text", "")).splitlines():
            print(plain(text))
        return
    if read["comment"]:
        print(plain(read["comment"]))
    print(plain(" ".join(read["code"])))
    for edge in read["variables"]:
        if edge["from"]:
            sources = ", ".join(f"{read['code'][token]}:{token}" for token in edge["from"])
            print(plain(f"{edge['variable']}:{edge['token']} from {sources}"))


def _show_flow(found: dict[str, Any]) -> None:
    """Control flow a line a block, data flow a line a variable that gets a value from another."""
    if blocks := (found.get("control_flow") or {}).get("blocks"):
        print(paint("\n--- control flow", "dim"))
        for block in blocks:
            where = f"{block['start_line']}-{block['end_line']}" if block["start_line"] else ""
            to = ", ".join(f"{s['block']} {s['when']}".strip() for s in block["successors"])
            print(plain(f"{block['id']:>3} {block['kind']:<10} {where:<9} -> {to or 'end'}"))
    if edges := (found.get("data_flow") or {}).get("edges"):
        print(paint("\n--- data flow", "dim"))
        for edge in edges:
            if edge["sources"]:
                sources = ", ".join(f"{s['name']}:{s['line']}" for s in edge["sources"])
                print(plain(f"{edge['name']}:{edge['line']} {edge['relation']} {sources}"))


# --- which workspace -----------------------------------------------------------------------------------------------


def _ask(client: Client, arguments: Namespace, method: str, *, needs_root: bool = False, **params: Any) -> Any:
    """Ask about `--root`, about the workspace at hand, or about all (`--all`, or outside of any)."""
    if arguments.root:
        return client.call(method, root=os.path.abspath(arguments.root), **params)
    if params.get("path") is not None and method != "search":
        if method != "similar":
            return client.call(method, **params)  # the file decides; an error names its workspace
        if arguments.all:
            return client.call(method, **params)
        return client.call(method, root=params["path"], **params)
    if arguments.all and not needs_root:
        return client.call(method, **params)
    here = os.getcwd()
    try:
        return client.call(method, root=here, **params)
    except RemoteError as error:
        if error.code != NOT_WATCHED:
            raise
    roots = [workspace["root"] for workspace in client.call("status").get("workspaces", [])]
    if not roots:
        raise CommandError("no workspace is watched: 'codegraphd watch DIR' adds one")
    if needs_root and len(roots) > 1:
        known = ", ".join(map(plain, roots))
        raise CommandError(
            f"{plain(here)} is in no watched workspace ('codegraphd watch' adds it): give --root of {known}"
        )
    of = roots[0] if len(roots) == 1 else f"all {len(roots)} workspaces"
    note(f"{here} is in no watched workspace ('codegraphd watch' adds it); this is the answer of {of}")
    return client.call(method, root=roots[0] if needs_root else None, **params)


def _path_and_line(where: str) -> tuple[str, int]:
    match = _PLACE.fullmatch(where)
    if match is None:
        raise CommandError(f"'{plain(where)}' is not FILE:LINE, such as src/main.py:12", USAGE)
    return os.path.abspath(match["path"]), int(match["line"])


def _tell_rest(found: dict[str, Any], *, nothing: bool) -> None:
    """What the list on standard output does not say."""
    if nothing:
        note("nothing found")
    if found.get("truncated") and "inputs" not in found:
        note("there is more: raise --limit")
    if found.get("degraded"):
        note(f"answered without: {found['degraded']}")
    if found.get("pending"):
        note(f"{count(found['pending'], 'unit')} not embedded yet: answers by meaning are incomplete")
