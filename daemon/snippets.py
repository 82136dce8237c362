"""Code that comes with a question and lies in no file: parsed as any file is, in a parser process.

The pool reads files, so the code is put into one for the moment, in the state directory. Called on query threads.
"""

from __future__ import annotations

import os
import secrets
from concurrent.futures import Future
from dataclasses import dataclass

from codegraphd.daemon.analysis.languages import EXTENSIONS
from codegraphd.daemon.parsers import Parsed, ParseJob, Parsers, Rendered, RenderJob
from codegraphd.daemon.search.likeness import text_of_code
from codegraphd.daemon.search.units import PART
from codegraphd.store.records import WHOLE_FILE, CodeFlow, PackedModule

MAX_BYTES = 4 << 20
WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Snippet:
    """`module` is None where the code could not be parsed; `text` is then the code as it came."""

    module: PackedModule | None
    text: str  # what the model reads: the normalised text of the units, in order
    flow: CodeFlow | None = None  # what it reads instead, if it reads data flow and this is code that has one


def read_snippet(parsers: Parsers, directory: str, code: str, language: str, *, with_flow: bool = False) -> Snippet:
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
        if module is None or not (module.units or with_flow):
            return Snippet(module, code)
        # One unit reads as it does in the index, flow and all; several are read as one piece of code.
        chosen = [index for index, unit in enumerate(module.units) if unit.kind != PART]
        place = chosen[0] if len(chosen) == 1 else WHOLE_FILE
        done: Future[Rendered | None] = Future()
        job = RenderJob(directory, name, module.digest, (place,) if with_flow else ())
        parsers.render(job, done.set_result, urgent=True)
        rendered = done.result(WAIT_S)
    except TimeoutError:
        return Snippet(None, code)
    finally:
        os.unlink(path)
    if rendered is None:
        return Snippet(module, code)
    return Snippet(module, text_of_code(module, rendered.texts, code), rendered.flows.get(place))
