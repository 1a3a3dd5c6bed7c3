"""What is printed and how: tables and lines for people, one document for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from commandstore.errors import CommandStoreError

if TYPE_CHECKING:
    from commandstore.command import Command

__all__ = [
    "Column",
    "OutputError",
    "command_document",
    "emit",
    "moment",
    "note",
    "one_line",
    "printable",
    "say",
    "table",
]

# Between 1973 and the end of int64, in nanoseconds: no plausible count of seconds, milliseconds or microseconds is
# in there.
_FIRST_NANOSECONDS = 10**17
_SECOND = 10**9
_GAP = 2


class OutputError(CommandStoreError, OSError):
    """What was to be printed can't be, as on a full disk."""


def say(text: str) -> None:
    """A line of the result."""
    _write(f"{text}\n")


def emit(document: Any) -> None:
    """The JSON document. Plain ASCII, which every terminal and pipe takes as it is."""
    _write(json.dumps(document, indent=2) + "\n")


def note(text: str) -> None:
    """A line that is not the result: on stderr."""
    sys.stderr.write(one_line(text) + "\n")
    sys.stderr.flush()


def _write(text: str) -> None:
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard()
        raise OutputError(f"can't write the output: {error.strerror}") from error


def discard() -> None:
    """Send what is still buffered nowhere: it would be tried again, and fail again, when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey: what is stored is not ours to trust."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str) -> str:
    """The text on one line: drivers like to answer in several."""
    return printable(" ".join(text.split()))


def moment(created_at: int) -> str:
    """The time in UTC where the value looks like nanoseconds since 1970, else nothing. Exact to the nanosecond."""
    if created_at < _FIRST_NANOSECONDS:
        return ""
    seconds, rest = divmod(created_at, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def command_document(command: Command) -> dict[str, Any]:
    """The command under the names of its fields; ``data_bytes`` in base64."""
    return command.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        right: numbers stand at the right.
        may_shrink: on a narrow terminal, this one is cut with an ellipsis; the others never are.
    """

    name: str
    right: bool = False
    may_shrink: bool = False


_SHRUNK = 12


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """Rows in columns. Into a file or pipe nothing is ever cut."""
    from rich.cells import cell_len  # noqa: PLC0415 - start-up
    from rich.console import Console  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    cells = [[printable(cell) for cell in row] for row in rows]
    wide = [max(cell_len(cell) for cell in (c.name, *(row[i] for row in cells))) for i, c in enumerate(columns)]
    narrow = [min(w, _SHRUNK) if c.may_shrink else w for c, w in zip(columns, wide, strict=True)]
    margins = indent + _GAP * len(columns)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, sum(narrow) + margins) if console.is_terminal else sum(wide) + margins
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=not column.may_shrink,
            overflow="ellipsis" if column.may_shrink else "crop",
        )
    for row in cells:
        grid.add_row(*(Text(cell) for cell in row))
    with console.capture() as captured:
        console.print(Padding(grid, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        say(line.rstrip())
