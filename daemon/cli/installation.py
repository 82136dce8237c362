"""The commands about the installation: config, model, service. None of them starts a daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from argparse import Namespace
from typing import Any

from codegraphd.daemon import config as configuration
from codegraphd.daemon import service as services
from codegraphd.daemon.cli import BAD_CONFIGURATION, DONE, USAGE, CommandError
from codegraphd.daemon.cli.reach import connect_running, end, running_pid
from codegraphd.daemon.cli.show import is_terminal, paint, plain, print_json, size
from codegraphd.ipc.errors import ClientError
from codegraphd.ipc.paths import Paths, secure_directory

_LOAD_S = 120.0  # for a model's first vector


def config(arguments: Namespace) -> int:
    """show: the effective configuration as TOML; check: is the file good; path: where everything of this home lies."""
    paths = Paths.from_environment()
    if arguments.action == "path":
        places = {"config": paths.config, "socket": paths.address, "state": paths.state, "log": paths.log}
        if arguments.json:
            print_json(places)
        else:
            for name, path in places.items():
                print(f"{name:<7} {path}")
        return DONE
    loaded = _load(paths)
    exists = os.path.exists(paths.config)
    if arguments.action == "check":
        if arguments.json:
            print_json({"path": paths.config, "exists": exists, "ok": True})
        else:
            print(f"{plain(paths.config)}: {'good' if exists else 'not there: all defaults hold'}")
    elif arguments.json:
        print_json({"path": paths.config, "exists": exists, "config": configuration.as_table(loaded)})
    else:
        print(configuration.as_toml(loaded), end="")
    return DONE


def model(arguments: Namespace) -> int:
    paths = Paths.from_environment()
    loaded = _load(paths)
    if arguments.action != "list":
        secure_directory(paths.state, "the state directory")  # what is learnt of models is kept there
    if arguments.action == "use":
        if not arguments.name:
            raise CommandError("model use needs a name: 'codegraphd model list' has the known ones", USAGE)
        return _use_model(arguments, paths, loaded)
    if arguments.action == "pull":
        if not arguments.name:
            raise CommandError("model pull needs a name: 'codegraphd model list' has the known ones", USAGE)
        return _pull_model(arguments, paths)
    if arguments.action == "check":
        return _check_model(arguments, paths, loaded)
    return _list_models(arguments, paths, loaded)


def service(arguments: Namespace) -> int:
    paths = Paths.from_environment()
    found = services.service_of(paths)
    if found is None:
        raise CommandError("no service manager is known for this system: 'codegraphd start' runs without one")
    try:
        if arguments.action == "install":
            if running_pid(paths) is not None:
                end(paths)  # its socket would be in the way of the manager's
            with contextlib.suppress(FileNotFoundError):
                os.unlink(paths.address)
            files = services.install(found)
            _tell_service(arguments, found, "installed", files)
        elif arguments.action == "uninstall":
            _tell_service(arguments, found, "removed", services.uninstall(found))
        else:
            _tell_service(arguments, found, "", list(found.files))
    except services.ServiceError as error:
        written = " (the units are written: 'codegraphd service status')" if found.is_installed() else ""
        raise CommandError(f"{error}{written}") from None
    return DONE


def _tell_service(arguments: Namespace, found: services.Service, done: str, files: list[str]) -> None:
    state = services.state(found)
    if arguments.json:
        print_json({**state, **({done: files} if done else {})})
        return
    for file in files if done else ():
        print(f"{done} {plain(file)}")
    if not state["installed"]:
        print(f"{found.name}: not installed ({found.manager}); 'codegraphd service install' does it")
        return
    parts = [f"{kind} {state[kind]}" for kind in ("socket", "service", "error") if kind in state]
    print(f"{found.name}: installed ({found.manager}), {', '.join(parts)}")


def _load(paths: Paths) -> configuration.Config:
    try:
        return configuration.load(paths.config)
    except configuration.ConfigError as error:
        raise CommandError(str(error), BAD_CONFIGURATION) from None


# --- models --------------------------------------------------------------------------------------------------------


def _models_directory(paths: Paths) -> str:
    """What the daemon remembers of models: digests of files, measurements."""
    return os.path.join(paths.state, "models")


def _list_models(arguments: Namespace, paths: Paths, loaded: configuration.Config) -> int:
    from codegraphd.daemon.embedding.models import KNOWN, ModelError, locate

    in_use = loaded.embedding.model
    rows: list[dict[str, Any]] = []
    for known in KNOWN.values():
        try:
            directory: str | None = locate(known.name, _models_directory(paths)) if known.name != "hashing" else ""
        except ModelError:
            directory = None
        rows.append(
            {
                "name": known.name,
                "source": known.source,
                "licence": known.licence,
                "dim": known.dim,
                "directory": directory,
                "max_tokens": known.max_tokens,
                "pooling": known.pooling,
                "query_prefix": known.query_prefix,
                "document_prefix": known.document_prefix,
                "flow": known.flow,
                "runs": known.runs or None,
                "at_hand": directory is not None,
                "in_use": known.name == in_use,
            }
        )
    if not any(row["in_use"] for row in rows):
        rows.insert(0, {"name": in_use, "source": in_use, "at_hand": os.path.isdir(in_use), "in_use": True})
    if arguments.json:
        print_json({"models": rows})
        return DONE
    for row in rows:
        mark = "*" if row["in_use"] else " "
        hand = "at hand" if row["at_hand"] else "no files here"
        notes = "  (reads data flow)" if row.get("flow") else ""
        if row.get("runs", "own") is None:
            hand, notes = "cannot be used", "  (runs only with code of its own, which is never loaded)"
        details = f"{row.get('dim', '?'):>5}  {row.get('licence', ''):<11}{hand:<15}{plain(str(row['source']))}{notes}"
        name = f"{plain(str(row['name'])):<35}"
        print(f"{mark} {paint(name, 'bold')}{details}")
    return DONE


def _check_model(arguments: Namespace, paths: Paths, loaded: configuration.Config) -> int:
    """Load the model in a worker process as the daemon would, and embed one line. Raises CommandError."""
    import dataclasses

    from codegraphd.daemon.embedding.models import ModelError, resolve
    from codegraphd.daemon.embedding.worker import Embedder

    name = arguments.name or loaded.embedding.model
    settings = dataclasses.replace(loaded.embedding, model=name, fallback_models=())
    try:
        info = resolve(name, _models_directory(paths), settings.max_tokens)
    except ModelError as error:
        raise CommandError(str(error)) from None
    logging.getLogger("codegraphd").addHandler(logging.NullHandler())  # what it would log is in the answer
    embedder = Embedder(settings, _models_directory(paths), lambda _event: None)
    embedder.start()
    try:
        began = time.perf_counter()
        (vector,) = embedder.query(["def parse_config(path):"], "query", _LOAD_S).result(_LOAD_S + 5)
        took = time.perf_counter() - began
        figures = embedder.statistics()
    except Exception as error:
        reason = embedder.state.error or str(error) or type(error).__name__
        raise CommandError(f"{name} does not load: {reason}") from None
    finally:
        embedder.close()
    answer = {
        "name": info.name,
        "directory": info.directory,
        "fingerprint": info.fingerprint.hex(),
        "dim": len(vector),
        "max_tokens": info.max_tokens,
        "pooling": info.pooling,
        **{f"{role}_prefix": prefix for role, prefix in info.prefixes},
        "runs_in": "codegraphd" if info.architecture != "other" else "transformers",
        "reads": "code and its data flow, other text as it is" if info.flow else "text",
        "backend": figures["backend"],
        "device": figures["device"],
        "dtype": figures["dtype"],
        "first_vector_s": round(took, 2),
    }
    if arguments.json:
        print_json(answer)
    else:
        for key, value in answer.items():
            print(f"{key:<15} {plain(str(value))}")
    return DONE


def _pull_model(arguments: Namespace, paths: Paths) -> int:
    from codegraphd.daemon.embedding.models import KNOWN
    from codegraphd.daemon.pull import PullError, pull

    known = KNOWN.get(arguments.name)
    source = known.source if known is not None else arguments.name
    if known is not None and source.startswith("package:"):
        raise CommandError(f"{known.name} needs no files")
    if known is not None and not known.runs:
        raise CommandError(f"{known.name} runs only with code of its own, which is never loaded")
    below = known.name if known is not None else source.replace("/", "--")
    directory = os.path.join(_models_directory(paths), "models", below)
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    try:
        revision = pull(source, directory, _show_progress)
    except PullError as error:
        raise CommandError(str(error)) from None
    finally:
        if is_terminal(sys.stderr):
            print(end="\r\x1b[K", file=sys.stderr)
    name = known.name if known is not None else directory
    if arguments.json:
        print_json({"name": name, "source": source, "revision": revision, "directory": directory})
    else:
        print(f"{plain(source)} ({revision[:12]}) is in {plain(directory)}: 'codegraphd model use {plain(name)}'")
    return DONE


def _show_progress(file: str, done: int, size_: int) -> None:
    if is_terminal(sys.stderr):
        share = f" of {size(size_)}" if size_ >= 0 else ""
        print(end=f"\r\x1b[K{plain(file)}: {size(done)}{share}", file=sys.stderr, flush=True)


def _use_model(arguments: Namespace, paths: Paths, loaded: configuration.Config) -> int:
    from codegraphd.daemon.embedding.models import KNOWN, ModelError, resolve

    name = arguments.name if arguments.name in KNOWN else os.path.expanduser(arguments.name)
    if name not in KNOWN and os.path.isdir(name):
        name = os.path.abspath(name)
    try:
        info = resolve(name, _models_directory(paths), loaded.embedding.max_tokens)
    except ModelError as error:
        raise CommandError(str(error)) from None
    _write_model(paths.config, name, loaded)
    told = "the next start uses it"
    with contextlib.suppress(ClientError), connect_running(paths) as client:
        client.call("reload", deadline=60.0)
        told = "the daemon was told; the old vectors answer until the new ones are in"
    if arguments.json:
        print_json({"name": info.name, "dim": info.dim, "config": paths.config})
    else:
        print(f"{plain(info.name)} ({info.dim} dimensions) is written into {plain(paths.config)}: {told}")
    return DONE


def _write_model(path: str, name: str, before: configuration.Config) -> None:
    """Set `[embedding] model` in the file and leave every other byte of it alone."""
    import dataclasses

    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        text = ""
    wanted = dataclasses.replace(before, embedding=dataclasses.replace(before.embedding, model=name))
    changed = with_key(text, "embedding", "model", name)
    try:
        is_right = configuration.parse(changed.encode(), path) == wanted
    except configuration.ConfigError:
        is_right = False
    if not is_right:  # a dotted key, a string over several lines: a person reads that better
        raise CommandError(f"{path} is written in a way that cannot be edited safely: set [embedding] model = by hand")
    target = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        partial = f"{target}.new"
        with open(partial, "w", encoding="utf-8", newline="") as file:
            file.write(changed)
        os.replace(partial, target)
    except OSError as error:
        raise CommandError(f"{target} cannot be written: {error.strerror}") from None


def with_key(text: str, section: str, key: str, value: str) -> str:
    """TOML text with one key of one section set to a string; its line is replaced, or added under the header."""
    line = f"{key} = {configuration.as_toml_value(value)}"
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\s*\[\s*{section}\s*\]\s*(#.*)?$")
    at = next((n for n, found in enumerate(lines) if header.match(found)), None)
    if at is None:
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{section}]\n{line}\n"
    for n in range(at + 1, len(lines)):
        if re.match(r"\s*\[", lines[n]):
            break
        if re.match(rf"\s*{key}\s*=", lines[n]):
            lines[n] = f"{line}\n"
            return "".join(lines)
    if not lines[at].endswith("\n"):
        lines[at] += "\n"
    lines.insert(at + 1, f"{line}\n")
    return "".join(lines)
