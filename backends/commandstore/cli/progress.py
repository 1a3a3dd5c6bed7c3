"""Progress on stderr: on a terminal a line that moves, else a line now and then, for logs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TextIO, TypeVar

__all__ = ["PLAIN_EVERY", "PlainProgress", "progress"]

PLAIN_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""

T = TypeVar("T")


class PlainProgress(Generic[T]):
    """A line every few seconds.

    Args:
        stream: where to.
        text: says how far it is.
        at_once: also a line for the first that is told.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        stream: TextIO,
        text: Callable[[T], str],
        *,
        at_once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._text = text
        self._clock = clock
        self._next = clock() + (0 if at_once else PLAIN_EVERY)
        self._lock = threading.Lock()  # batches report from several threads

    def __call__(self, now: T) -> None:
        """Show it, if it is time."""
        with self._lock:
            clock = self._clock()
            if clock >= self._next:
                self._next = clock + PLAIN_EVERY
                self._stream.write(f"{self._text(now)}\n")
                self._stream.flush()


@contextmanager
def progress(
    text: Callable[[T], str],
    *,
    part: Callable[[T], tuple[int, int | None]] | None = None,
    at_once: bool = False,
) -> Iterator[Callable[[T], None]]:
    """Shows progress on stderr; what it yields is to be called with each.

    Args:
        text: says how far it is.
        part: how much is done, and of how much (None: unknown): a bar, on a terminal.
        at_once: without a terminal, show the first that is told.
    """
    if not sys.stderr.isatty():
        yield PlainProgress(sys.stderr, text, at_once=at_once)
        return
    from rich.console import Console  # noqa: PLC0415 - start-up
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    said = TextColumn("{task.fields[said]}")
    columns: list[ProgressColumn] = [SpinnerColumn(), said, TimeElapsedColumn()]
    if part is not None:
        columns = [BarColumn(), TaskProgressColumn(), said, TimeRemainingColumn()]
    line = Progress(*columns, console=Console(stderr=True), transient=True)
    with line:
        task = line.add_task("", total=None, said="")

        def show(now: T) -> None:
            done, whole = (0, None) if part is None else part(now)
            line.update(task, completed=done, total=whole, said=text(now))

        yield show
