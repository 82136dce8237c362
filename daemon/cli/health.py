"""How it goes: status for people and for programs, and doctor."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

from codegraphd.daemon.cli import DONE, REFUSED
from codegraphd.daemon.cli.reach import connected
from codegraphd.daemon.cli.show import count, duration, number, paint, plain, print_json, size

_STATE_COLOURS = {"ready": "green", "indexing": "cyan", "crawling": "cyan", "starting": "cyan", "loading": "cyan"}
_BAD_STATES = {"degraded": "yellow", "missing": "yellow", "failed": "red"}
_WIDTH = 11  # of the column of headings


def status(arguments: Namespace) -> int:
    with connected(may_start=False) as client:
        while True:
            document = client.call("status", deadline=60.0)
            if arguments.json:
                print_json(document, compact=arguments.follow)
            else:
                print("\n".join(status_lines(document)), flush=True)
            if not arguments.follow:
                return DONE
            if not arguments.json:
                print()
            time.sleep(arguments.interval)


def status_lines(document: dict[str, Any]) -> list[str]:
    """The status document for people. A figure that an older or newer daemon leaves out is left out here."""
    daemon = document.get("daemon") or {}
    title = f"{paint('codegraphd', 'bold')} {daemon.get('version', '?')}  {_state(daemon.get('state'))}"
    lines = [f"{title}  up {duration(daemon.get('uptime_s'))}  process {daemon.get('pid', '?')}"]
    lines += [f"{paint('!', 'yellow')} {plain(str(problem))}" for problem in daemon.get("problems") or ()]
    lines += _workspace_lines(document.get("workspaces") or [])
    lines += _section("model", _model(document.get("model") or {}))
    cache = document.get("cache") or {}
    rate = cache.get("hit_rate")
    lines += _section(
        "cache",
        [
            "no lookup yet" if rate is None else f"{100 * rate:.1f}% hits ({number(cache.get('hits'))})",
            f"{number(cache.get('entries'))} vectors",
            size(cache.get("bytes")),
            f"lookup {number(cache['lookup_p50_us'])} µs" if cache.get("lookup_p50_us") is not None else "",
            f"{count(cache['evictions'], 'eviction')}" if cache.get("evictions") else "",
        ],
    )
    store = document.get("store") or {}
    index = store.get("index") or {}
    lines += _section(
        "store",
        [
            f"{size(store.get('bytes'))} on disk",
            f"{count(store.get('vectors', 0), 'vector')} of {number(store.get('bytes_per_vector'))} bytes",
            str(store.get("precision") or ""),
            f"{index['kind']} index" if index.get("kind") else "",
        ],
    )
    queue = document.get("queue") or {}
    lines += _section(
        "queue",
        [
            f"{number(queue.get('depth', 0))} waiting",
            f"{number(queue['embedding'])} with the model" if queue.get("embedding") else "",
            f"oldest {duration(queue['oldest_s'])}" if queue.get("oldest_s") else "",
        ],
    )
    seen = document.get("invalidation") or {}
    levels = ", ".join(f"{number(seen[n])} {n}" for n in ("content", "symbol", "semantic", "project") if seen.get(n))
    lines += _section(
        "changes",
        [
            f"{number(seen.get('changes', 0))} seen",
            levels,
            f"{number(seen['early_cutoffs'])} said nothing new" if seen.get("early_cutoffs") else "",
            f"{number(seen['truncated'])} over the cap" if seen.get("truncated") else "",
        ],
    )
    ipc = document.get("ipc") or {}
    times = [f"{p} {number(ipc[f'{p}_ms'])} ms" for p in ("p50", "p95", "p99") if ipc.get(f"{p}_ms") is not None]
    lines += _section(
        "requests",
        [
            f"{number(ipc.get('requests', 0))} from {count(ipc.get('clients', 0), 'client')}",
            f"{count(ipc['errors'], 'error')}" if ipc.get("errors") else "",
            ", ".join(times),
        ],
    )
    lag = daemon.get("loop_lag_p99_ms")
    lines += _section(
        "daemon",
        [
            size(daemon.get("rss_bytes")),
            f"{number(daemon.get('cpu_percent'))}% CPU",
            f"loop lag p99 {number(lag)} ms" if lag is not None else "",
            plain(str(daemon.get("socket", ""))),
        ],
    )
    return lines


def _workspace_lines(workspaces: list[dict[str, Any]]) -> list[str]:
    if not workspaces:
        return [f"{'workspaces':<{_WIDTH}}none: 'codegraphd watch DIR' adds one"]
    lines = []
    for workspace in workspaces:
        progress = workspace.get("progress") or {}
        pending = workspace.get("pending") or 0
        under_way = ""
        if workspace.get("state") == "crawling" and progress.get("total"):
            under_way = f"{number(progress.get('done'))} of {number(progress['total'])} files read"
        elif pending:
            eta = f", {duration(progress['eta_s'])} left" if progress.get("eta_s") else ""
            under_way = f"{number(pending)} not embedded{eta}"
        lines.append(
            f"{paint(plain(str(workspace.get('root'))), 'bold')}  {_state(workspace.get('state'))}  {under_way}"
        )
        lines[-1] = lines[-1].rstrip()
        counts = [count(workspace.get(noun, 0), noun[:-1]) for noun in ("files", "units", "edges")]
        languages = [f"{name} {number(n)}" for name, n in (workspace.get("languages") or {}).items()]
        lines.append("  " + _joined([", ".join(counts), ", ".join(languages[:8])]))
        watch = workspace.get("watch") or {}
        skipped = ", ".join(f"{number(n)} {plain(reason)}" for reason, n in (workspace.get("skipped") or {}).items())
        age = workspace.get("last_change_s")
        parts = [
            f"{watch['backend']}, {number(watch.get('watches', 0))} watched" if watch.get("backend") else "",
            f"{count(watch['overflows'], 'overflow')}" if watch.get("overflows") else "",
            f"last change {duration(age)} ago" if age is not None else "",
            f"skipped: {skipped}" if skipped else "",
        ]
        lines.append("  " + _joined(parts))
    return lines


def _model(model: dict[str, Any]) -> list[str]:
    if not model.get("name"):
        instead = _former(model.get("former")) or "search goes by words"
        return [paint("none", "yellow"), instead, plain(str(model.get("error") or ""))]
    where = " ".join(str(model[name]) for name in ("device", "dtype") if model.get(name))
    return [
        f"{plain(str(model['name']))}, {number(model.get('dim'))} dimensions",
        _state(model.get("state")),
        where,
        f"{number(model.get('embedded', 0))} embedded",
        f"{number(model['units_per_s'])}/s" if model.get("units_per_s") else "",
        size(model["rss_bytes"]) if model.get("rss_bytes") else "",
        f"in place of {plain(str(model['fallback']))}" if model.get("fallback") else "",
        _former(model.get("former")),
    ]


def _former(former: dict[str, Any] | None) -> str:
    """How far a change of the model has come."""
    if not former:
        return ""
    progress = former.get("progress") or {}
    who = plain(str(former.get("name"))) if former.get("answers") else "search by words"
    return f"{who} answers until all is embedded ({number(progress.get('done'))} of {number(progress.get('total'))})"


def _section(name: str, parts: list[str]) -> list[str]:
    return [f"{paint(f'{name:<{_WIDTH}}', 'dim')}{_joined(parts)}"]


def _joined(parts: list[str]) -> str:
    return " · ".join(part for part in parts if part)


def _state(name: Any) -> str:
    text = str(name or "?")
    return paint(text, _STATE_COLOURS.get(text) or _BAD_STATES.get(text) or "dim")


def doctor(arguments: Namespace) -> int:
    from codegraphd.daemon.doctor import FAIL, WARN, examine

    checks = examine()
    if arguments.json:
        print_json({"checks": [check.as_dict() for check in checks], "ok": all(c.verdict != FAIL for c in checks)})
    else:
        marks = {FAIL: paint("fail", "red"), WARN: paint("warn", "yellow")}
        for check in checks:
            print(f"{marks.get(check.verdict, paint('ok', 'green') + '  ')}  {check.name:<12} {plain(check.says)}")
            if check.mend:
                print(f"      {'':<12} -> {plain(check.mend)}")
    return REFUSED if any(check.verdict == FAIL for check in checks) else DONE
