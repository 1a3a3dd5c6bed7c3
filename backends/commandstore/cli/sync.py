"""``commandstore sync``: the progress while it runs, and the account at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commandstore.cli.output import emit, note, printable, say
from commandstore.cli.progress import progress
from commandstore.cli.stores import open_with_key
from commandstore.errors import SyncError
from commandstore.replication import SyncProgress, SyncReport, sync_command_store
from commandstore.store import CommandStore

__all__ = ["account", "copy", "print_report", "so_far", "sync", "what_it_means"]

MAX_SHOWN = 20
"""How many failures people are shown; ``--json`` has all that the report lists."""


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

    with progress(so_far, part=_part, at_once=True) as show:

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


def so_far(now: SyncProgress) -> str:
    """How far it is, in a few words."""
    of = "" if now.expected is None else f" of about {_whole(now):,}"
    return f"{now.read:,}{of} read, {now.copied:,} copied"


def _part(now: SyncProgress) -> tuple[int, int | None]:
    return now.read, None if now.expected is None else _whole(now)


def _whole(now: SyncProgress) -> int:
    # A source may hold more than it expected, and a filter may leave less.
    return max(now.expected or 0, now.read)


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
