"""The command line: a client of the daemon like any other.

`commands` is the argparse tree; each command's module is imported when it runs, so that `codegraphd status` starts in
tens of milliseconds. Exit codes: 0 done; 1 refused (by the daemon, or by what the command met); 2 wrong usage; 3 no
daemon could be reached or started; 78 bad configuration. One line on standard error says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from codegraphd.ipc.errors import ClientError, Disconnected, PathError, RemoteError, Unreachable

DONE, REFUSED, USAGE, NO_DAEMON, BAD_CONFIGURATION = 0, 1, 2, 3, 78
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot be done: one line for standard error, and the exit code."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. -> exit code; argparse itself exits with 2 on wrong usage."""
    from codegraphd.daemon.cli.commands import build_parser

    for stream in (sys.stdout, sys.stderr):  # names that are not UTF-8 leave as the bytes they are
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    arguments = build_parser().parse_args(argv)
    try:
        os.getcwd()
    except OSError:  # the shell's directory was removed: status and the like still work
        os.chdir("/")
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except CommandError as error:
        return _fail(str(error), error.code)
    except RemoteError as error:
        return _fail(error.message, REFUSED)
    except (Unreachable, Disconnected) as error:
        return _fail(str(error), NO_DAEMON)
    except (ClientError, PathError) as error:
        return _fail(str(error), REFUSED)
    except BrokenPipeError:
        # Whoever read us left (`| head`): no traceback from the flush at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # the disk behind the output is full, say; and no second complaint from the flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail(str(error), REFUSED)
    return code


def _fail(message: str, code: int) -> int:
    sys.stdout.flush()
    from codegraphd.daemon.cli.show import plain

    print(f"codegraphd: {plain(message)}", file=sys.stderr)
    return code
