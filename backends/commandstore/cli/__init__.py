"""The command line: parses, prints, and says by its exit code how it went. No logic of its own.

| code | meaning                                                                                        |
|------|------------------------------------------------------------------------------------------------|
| 0    | done                                                                                           |
| 1    | done, but commands failed or differ: conflicts, unreadable commands, ``get`` finding none      |
| 2    | could not run: usage, configuration, a store that is missing or does not answer, no permission |
| 130  | Ctrl-C                                                                                         |
| 141  | whoever read the output has gone                                                               |
| 143  | SIGTERM                                                                                        |

Results go to stdout, everything else (progress, notes, errors) to stderr. With ``--json``, stdout holds exactly one
JSON document, also when something went wrong: then it has ``error``, with ``type`` and ``message``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["main"]

_USAGE = 2
_NO_READER = 141  # as a program that SIGPIPE ends


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. ``argv`` defaults to the program's own arguments."""
    args = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    if missing := [name for name in ("typer", "rich") if find_spec(name) is None]:
        sys.stderr.write(
            f"commandstore: error: the command line needs {' and '.join(missing)}: pip install 'commandstore[cli]'\n"
        )
        return _USAGE
    from commandstore.cli import output  # noqa: PLC0415 - needs the extra

    with _terminated_as_interrupt():
        try:
            code = _guarded(args)
            sys.stdout.flush()
        except BrokenPipeError:
            output.discard()
            return _NO_READER
        except OSError as error:
            output.discard()
            output.note(f"commandstore: error: can't write the output: {error.strerror}")
            return _USAGE
        return code


def _guarded(args: list[str]) -> int:
    from commandstore.cli import failures  # noqa: PLC0415 - needs the extra

    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interrupt:
        return failures.interrupted(interrupt, args)
    except Exception as error:  # noqa: BLE001 - never a traceback
        return failures.failed(error, args)
    return code


def _run(args: list[str]) -> int:
    import typer  # noqa: PLC0415 - an extra

    from commandstore.cli import secret_files  # noqa: PLC0415 - needs the extra
    from commandstore.cli.app import app  # noqa: PLC0415 - needs the extra

    secret_files.forget()
    command: Any = typer.main.get_command(app)
    # Not the command's own main(): that one swallows Ctrl-C and closed pipes, and draws a box around each error.
    try:
        with command.make_context("commandstore", list(args) or ["--help"]) as context:
            return command.invoke(context) or 0
    except typer.Exit as done:
        return done.exit_code if args else _USAGE


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, with its checkpoint saved and everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from commandstore.cli.failures import Terminated  # noqa: PLC0415 - needs the extra

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
