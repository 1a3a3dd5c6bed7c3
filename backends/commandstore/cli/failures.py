"""What went wrong: one clear line, an exit code, and (with ``--json``) one document. Never a traceback or a secret."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

from commandstore.cli import output
from commandstore.errors import (
    CommandExists,
    CommandStoreError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    SyncError,
)
from commandstore.url import redact, secrets_in

__all__ = ["Terminated", "failed", "interrupted"]

_COMMANDS_FAILED = 1
_COULD_NOT_RUN = 2
_INTERRUPTED = 130
_TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does; only the exit code differs."""


def failed(error: Exception, args: Sequence[str]) -> int:
    """Say what went wrong; the exit code."""
    _trace(error, args)
    # What typer raises for wrong usage has other names in other releases; this method it always has.
    usage = getattr(error, "format_message", None)
    if usage is not None:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "commandstore"
        kind, text, code = "UsageError", f"{str(usage()).rstrip('.')} (see: {path} --help)", _COULD_NOT_RUN
    elif isinstance(error, CommandStoreError):
        kind, text, code = type(error).__name__, str(error), _code(error)
    else:
        kind, code = type(error).__name__, _COULD_NOT_RUN
        text = f"a bug in commandstore: {kind}. COMMANDSTORE_DEBUG=1 shows the traceback; please report it"
    text = _without_secrets(text, args)
    if "--json" in args:
        report = getattr(error, "report", None)
        output.emit({**(report.to_dict() if report else {}), "error": {"type": kind, "message": text}})
    output.note(f"commandstore: error: {text}")
    return code


def interrupted(interrupt: KeyboardInterrupt, args: Sequence[str]) -> int:
    """Say that the command was interrupted, and what that means (the notes on it); the exit code."""
    _trace(interrupt, args)
    word, code = ("terminated", _TERMINATED) if isinstance(interrupt, Terminated) else ("interrupted", _INTERRUPTED)
    text = ": ".join([word, *getattr(interrupt, "__notes__", ())])
    if "--json" in args:
        output.emit({"error": {"type": word.capitalize(), "message": text}})
    output.note(f"commandstore: {text}")
    return code


def _code(error: CommandStoreError) -> int:
    about_commands = InvalidCommand | CorruptRecord | DecryptionError
    if isinstance(error, SyncError):
        cause = error.__cause__
        if cause is None:
            return _COMMANDS_FAILED if error.report is not None and error.report.failed else _COULD_NOT_RUN
        return _COMMANDS_FAILED if isinstance(cause, about_commands) else _COULD_NOT_RUN
    return _COMMANDS_FAILED if isinstance(error, CommandExists | CorruptRecord | DecryptionError) else _COULD_NOT_RUN


def _trace(error: BaseException, args: Sequence[str]) -> None:
    if os.environ.get("COMMANDSTORE_DEBUG", "0") not in {"", "0"}:
        sys.stderr.write(_without_secrets("".join(traceback.format_exception(error)), args))


def _without_secrets(text: str, args: Sequence[str]) -> str:
    """The text without the passwords of the URLs that were given, mistyped ones too.

    A parser or a driver may quote them in part, in Python's escapes, or as the path that somebody took them for.
    """
    for given in args:
        text = text.replace(given, redact(given))
        for before, secret, behind in secrets_in(given):
            quoted = "".join(_quoted(character) for character in secret)
            text = f"{before}***{behind}".join(re.split(re.escape(before) + quoted + re.escape(behind), text))
    return text


def _quoted(character: str) -> str:
    """A pattern for what may have become of a character where a text was quoted."""
    if character in "/.":  # a path leaves out what it can
        return f"{re.escape(character)}?"
    itself = re.escape(character)
    if character.isascii() and character.isprintable() and character not in "\\'\"":
        return itself
    return rf"(?:{itself}|\\(?:x..|u....|U........|.))"
