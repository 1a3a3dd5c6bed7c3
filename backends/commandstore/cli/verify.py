"""``commandstore verify``: what differs, as a table for people or one document, and what a repair did about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commandstore.cli import output
from commandstore.cli.output import Column, emit, moment, note, say
from commandstore.cli.progress import progress
from commandstore.cli.stores import open_with_key
from commandstore.errors import CommandStoreError, ConfigurationError
from commandstore.replication import Finding, VerifyProgress, VerifyReport, verify_command_stores
from commandstore.store import CommandStore

__all__ = ["account", "print_report", "verify"]

MAX_SHOWN = 20
"""How many findings people are shown; ``--json`` has all that the report lists."""


def verify(
    source_url: str,
    destination_url: str,
    settings: dict[str, Any],
    *,
    source_key_file: Path | None = None,
    destination_key_file: Path | None = None,
    signing_key: str | None = None,
    json: bool = False,
) -> int:
    """Compare two stores, and repair the destination if asked to; 0 when nothing differs at the end, else 1.

    Raises:
        ConfigurationError: extra commands are to be deleted without a repair; nothing was touched.
    """
    repair = bool(settings.get("repair"))
    if settings.get("delete_extra") and not repair:
        raise ConfigurationError("--delete-extra goes with --repair; without it nothing is changed")
    with (
        open_with_key(source_url, source_key_file, read_only=True) as source,
        open_with_key(
            destination_url, destination_key_file, read_only=not repair, signing_key=signing_key
        ) as destination,
    ):
        report = _compared(source, destination, settings, repair=repair)
    if json:
        emit(report.to_dict())
    else:
        print_report(report, repair=repair)
    return 0 if report.clean else 1


def _compared(
    source: CommandStore, destination: CommandStore, settings: dict[str, Any], *, repair: bool
) -> VerifyReport:
    note(f"comparing {source} with {destination}{', which is repaired' if repair else ''}")
    latest = VerifyProgress(0, 0)

    def so_far() -> str:
        said = f"{latest.compared:,} commands compared, {latest.differing:,} differ"
        return f"{said}, {latest.repaired:,} of them repaired; run the same command again to go on" if repair else said

    with progress(_so_far) as show:

        def both(now: VerifyProgress) -> None:
            nonlocal latest
            latest = now
            show(now)

        try:
            return verify_command_stores(source, destination, progress=both, **settings)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(so_far())
            raise
        except CommandStoreError:
            if latest.compared:
                note(f"stopped: {so_far()}")
            raise


def _so_far(now: VerifyProgress) -> str:
    return f"{now.compared:,} compared, {now.differing:,} differ"


def account(report: VerifyReport, *, repair: bool) -> str:
    """One line that accounts for every command that was compared."""
    rate = f" ({report.compared / report.seconds:,.0f}/s)" if report.compared and report.seconds else ""
    done = f"; {report.repaired:,} repaired, {report.deleted:,} deleted, {report.left:,} left" if repair else ""
    return (
        f"{'' if report.complete else 'stopped: '}{report.compared:,} compared = {report.equal:,} equal + "
        f"{report.missing:,} missing + {report.extra:,} extra + {report.altered:,} altered + {report.failed:,} failed"
        f"{done}, in {report.seconds:,.1f} s{rate}"
    )


def print_report(report: VerifyReport, *, repair: bool) -> None:
    """The account; above it what differs, by name."""
    if report.same_store:
        say("source and destination are the same store; nothing was compared (--payloads compares it with its digests)")
        return
    columns = [
        Column("KIND"),
        Column("COMMAND_UUID"),
        Column("TIME"),
        Column("REASON", may_shrink=True),
        Column("DONE", may_shrink=True),
    ][: 5 if repair else 4]
    shown = report.findings[:MAX_SHOWN]
    if shown:
        output.table(columns, [_row(finding)[: len(columns)] for finding in shown])
    differing = report.compared - report.equal
    if differing > len(shown):
        say(f"... and {differing - len(shown):,} more (--json lists up to 1,000)")
    say(account(report, repair=repair))


def _row(finding: Finding) -> list[str]:
    at = finding.created_at
    when = "" if at is None else moment(at) or str(at)
    return [finding.kind.value, finding.command_uuid, when, finding.reason, finding.action]
