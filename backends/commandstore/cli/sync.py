"""``commandstore sync``: the progress while it runs, and the account at its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from commandstore.cli.output import emit, note, printable, say
from commandstore.cli.stores import open_with_key
from commandstore.errors import SyncError
from commandstore.replication import SyncProgress, SyncReport, sync_command_store
from commandstore.store import CommandStore

__all__ = ["PlainProgress", "account", "copy", "print_report", "progress", "sync", "what_it_means"]

MAX_SHOWN = 20
"""How many failures people are shown; ``--json`` has all that the report lists."""

PLAIN_EVERY = 5.0
"""Seconds between two lines of progress where there is no terminal."""


def sync(
    source_url: str,
    destination_url: str,
    settings: dict[str, Any],
    *,
    source_key_file: Path | None = None,
    destination_key_file: Path | None = None,
    signing_key: str | None = None,
    json: bool = False,
) -> int:
    """Copy what is new; 0 when all is in the destination as it is in the source, else 1."""
    try:
        with (
            open_with_key(source_url, source_key_file, read_only=True) as source,
            open_with_key(destination_url, destination_key_file, signing_key=signing_key) as destination,
        ):
            report = copy(source, destination, settings)
    except SyncError as error:
        if not json and error.report is not None:
            print_report(error.report)
        raise
    if json:
        emit(report.to_dict())
    else:
        print_report(report)
    return 0 if report.clean else 1


def copy(
    source: CommandStore, destination: CommandStore, settings: dict[str, Any], *, announce: bool = True
) -> SyncReport:
    """Run the sync under a progress bar. Ctrl-C goes on up, with a note on what it means."""
    dry_run = bool(settings.get("dry_run"))
    if announce:
        note(f"{'comparing' if dry_run else 'syncing'} {source} -> {destination}")
    latest = SyncProgress(0, 0)

    with progress() as show:

        def both(now: SyncProgress) -> None:
            nonlocal latest
            latest = now
            show(now)

        try:
            return sync_command_store(source, destination, progress=both, **settings)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(what_it_means(interrupt, latest, dry_run=dry_run))
            raise


def what_it_means(interrupt: KeyboardInterrupt, latest: SyncProgress, *, dry_run: bool) -> str:
    """What an interrupt means for the run: what is done, what is saved, how to go on."""
    if dry_run:
        return f"{latest.read:,} commands compared; nothing was written"
    done = f"{latest.read:,} commands read, {latest.copied:,} copied"
    again = "run the same command again to go on"
    # A second Ctrl-C comes while the first is handled, which is when the checkpoint is saved; where saving it failed,
    # a note on the interrupt says so.
    if isinstance(interrupt.__context__, KeyboardInterrupt) or getattr(interrupt, "__notes__", None):
        return f"{done}; the checkpoint may be older than that; {again} (what is there already is found by its key)"
    return f"{done}; the checkpoint is saved; {again}"


@contextmanager
def progress() -> Iterator[Callable[[SyncProgress], None]]:
    """Shows progress on stderr: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield PlainProgress(sys.stderr)
        return
    from rich.console import Console  # noqa: PLC0415 - start-up
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    bar = Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,} read, {task.fields[copied]:,} copied"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, copied=0)

        def show(now: SyncProgress) -> None:
            # A source may hold more than it expected, and a filter may leave less.
            expected = None if now.expected is None else max(now.expected, now.read)
            bar.update(task, completed=now.read, copied=now.copied, total=expected)

        yield show


class PlainProgress:
    """A line for the first batch, then one every few seconds: for logs.

    Args:
        stream: where to.
        clock: seconds that never go back.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._next = self._began
        self._lock = threading.Lock()  # batches report from several threads

    def __call__(self, now: SyncProgress) -> None:
        """Show it, if it is time."""
        with self._lock:
            clock = self._clock()
            if clock < self._next:
                return
            self._next = clock + PLAIN_EVERY
            expected = "" if now.expected is None else f" of about {max(now.expected, now.read):,}"
            self._stream.write(f"{now.read:,}{expected} read, {now.copied:,} copied\n")
            self._stream.flush()


def account(report: SyncReport) -> str:
    """One line that accounts for every command that was read."""
    rate = f" ({report.read / report.seconds:,.0f}/s)" if report.read and report.seconds else ""
    head = "" if report.complete else "stopped: "
    copied = "to copy" if report.dry_run else "copied"
    return (
        f"{'dry run: ' if report.dry_run else head}{report.read:,} read = {report.copied:,} {copied} + "
        f"{report.duplicates:,} duplicates + {report.conflicts:,} conflicts + {report.failed:,} failed, "
        f"in {report.seconds:,.1f} s{rate}"
    )


def print_report(report: SyncReport, *, indent: int = 0) -> None:
    """The account; above it the failures and conflicts by name."""
    left = " " * indent
    bad = report.conflicts + report.failed
    for failure in report.failures[:MAX_SHOWN]:
        say(f"{left}{printable(failure.command_uuid)}  {printable(failure.reason)}")
    if bad > MAX_SHOWN:
        say(f"{left}... and {bad - MAX_SHOWN:,} more (--json lists up to 1,000)")
    say(left + account(report))
