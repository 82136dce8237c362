"""Code that comes with a question and lies in no file: parsed as any file is, in a parser process.

The pool reads files, so the code is put into one for the moment, in the state directory. Called on query threads.
"""

from __future__ import annotations

import os
import secrets
from concurrent.futures import Future
from dataclasses import dataclass

from codegraphd.daemon.analysis.languages import EXTENSIONS
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers
from codegraphd.daemon.search.likeness import text_of_code
from codegraphd.store.records import Module

MAX_BYTES = 4 << 20
WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Snippet:
    """`module` is None where the code could not be parsed; `text` is then the code as it came."""

    module: Module | None
    text: str  # what the model reads: the normalised text of the units, in order


def read_snippet(parsers: Parsers, directory: str, code: str, language: str) -> Snippet:
    """Parse and normalise a piece of code. Never raises for what the code is."""
    extension = next(extension for extension, name in EXTENSIONS.items() if name == language)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    name = f"snippet-{secrets.token_hex(8)}.{extension}"
    path = os.path.join(directory, name)
    source = code.encode("utf-8", "surrogatepass")
    with open(path, "xb") as file:
        file.write(source)
    try:
        parsed: Future[Parsed] = Future()
        parsers.parse(ParseJob(directory, name, None, MAX_BYTES), parsed.set_result, urgent=True)
        module = parsed.result(WAIT_S).module
        if module is None or not module.units:
            return Snippet(module, code)
        texts: Future[tuple[str, ...] | None] = Future()
        parsers.render(directory, name, module.digest, texts.set_result, urgent=True)
        rendered = texts.result(WAIT_S)
    except TimeoutError:
        return Snippet(None, code)
    finally:
        os.unlink(path)
    if rendered is None:
        return Snippet(module, code)
    return Snippet(module, text_of_code(module, rendered, code))
