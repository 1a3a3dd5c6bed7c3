"""What an audit says of itself. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from commandstore.audit.checkpoint import AuditCheckpoint

__all__ = ["MAX_LISTED", "AuditFinding", "AuditKind", "AuditProgress", "AuditReport", "Change", "Tally"]

MAX_LISTED = 1000
"""How many findings, and how many changes, a report lists; the counts count them all."""

_LONGEST_NAME = 512


class AuditKind(StrEnum):
    """What does not fit. A string, so that it goes into JSON as it is."""

    ENTRY = "entry"
    """An entry of the ledger, or the place of one."""
    ADDED = "added"
    """A command in the store that the ledger does not know, or knows to be deleted."""
    DROPPED = "dropped"
    """A command that the ledger knows and the store does not have."""
    ALTERED = "altered"
    """A command that is not as the ledger's last entry of it says."""
    UNFINISHED = "unfinished"
    """A command as it was before the last entry of it: an update or a deletion that was recorded and not done."""
    UNREADABLE = "unreadable"
    """A command that can't be read any more."""
    UNLISTED = "unlisted"
    """A command that is there under its uuid, and that lists, or those of its tenant, don't show."""
    COUNT = "count"
    """The store holds more or fewer commands than the ledger knows; a full audit names them."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Something that does not fit.

    Attributes:
        kind: what.
        command_uuid: of a command; where its uuid can't be read, where it lies (``"row 17"``). None: of the ledger.
        sequence: of an entry, the place that is wrong; of a command, the entry that speaks of it last. None: there is
            none.
        created_at: of a command, as it is stored, or as the ledger has it; None where neither is known.
        reason: one line, without the payload.
    """

    kind: AuditKind
    command_uuid: str | None
    sequence: int | None
    created_at: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """An update or a deletion that the ledger records: rightful, and yet what an auditor may ask about.

    Attributes:
        op: ``"update"`` or ``"delete"``.
        command_uuid: of which command.
        sequence: of the entry.
        time: of the entry, in nanoseconds since 1970.
    """

    op: str
    command_uuid: str
    sequence: int
    time: int


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """How far a running audit is.

    Attributes:
        entries: entries read so far.
        commands: commands read so far.
        findings: what did not fit so far; of commands only what is certain by then.
    """

    entries: int
    commands: int
    findings: int


@dataclass(slots=True)
class AuditReport:
    """The account of an audit: ``commands == intact + added + dropped + altered + unfinished + unreadable + unlisted``.

    Attributes:
        store: where the store is.
        full: every entry and every command was looked at; else what came after ``since``, and the store's count.
        since: the sequence of the checkpoint that was gone on from, or held against a full audit; None without one.
        head: the sequence of the last entry that was read; 0: there is none.
        entries: how many entries were read.
        bad_entries: how many of them, or of their places, do not fit.
        first_bad_entry: the first of these.
        commands: commands that were judged, each counted once.
        intact: in the store as the ledger says.
        added, dropped, altered, unfinished, unreadable, unlisted: see :class:`AuditKind`.
        counted: how many commands the store says it holds; None where that was not asked.
        expected: how many the ledger says it holds; None where it doesn't say.
        tenants_compared: of how many tenants the lists were held against the commands; None where that was not done:
            from a checkpoint, or where there are more than 10,000 tenants.
        created, updated, deleted: what the entries that were read record (adopted commands among the created).
        findings: whatever does not fit, up to 1,000, entries first found first.
        changes: the updates and deletions that the entries record, up to 1,000.
        complete: the audit came to its end.
        accepted: the checkpoint is there although not everything fits, because the auditor wanted it so.
        checkpoint: what to keep for the next audit; None unless everything fits, or was accepted.
        seconds: how long it took.
    """

    store: str = ""
    full: bool = True
    since: int | None = None
    head: int = 0
    entries: int = 0
    bad_entries: int = 0
    first_bad_entry: int | None = None
    commands: int = 0
    intact: int = 0
    added: int = 0
    dropped: int = 0
    altered: int = 0
    unfinished: int = 0
    unreadable: int = 0
    unlisted: int = 0
    counted: int | None = None
    expected: int | None = None
    tenants_compared: int | None = None
    created: int = 0
    updated: int = 0
    deleted: int = 0
    findings: list[AuditFinding] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    complete: bool = False
    accepted: bool = False
    checkpoint: AuditCheckpoint | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """The audit came to its end, and everything fits."""
        return self.complete and not self.findings

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, and ``clean``, for JSON."""
        plain = asdict(self)
        for finding in plain["findings"]:
            finding["kind"] = finding["kind"].value
        return {**plain, "clean": self.clean}


class Tally:
    """Counts into a report.

    Args:
        report: what is counted into.
        progress: told by :meth:`tell`.
    """

    def __init__(self, report: AuditReport, progress: Callable[[AuditProgress], None] | None) -> None:
        self.report = report
        self.read = 0
        self._progress = progress

    def entry(self, sequence: int, reason: str) -> None:
        """An entry, or its place, does not fit."""
        report = self.report
        report.bad_entries += 1
        if report.first_bad_entry is None or sequence < report.first_bad_entry:
            report.first_bad_entry = sequence
        self._list(AuditFinding(AuditKind.ENTRY, None, sequence, None, reason))

    def count(self, reason: str) -> None:
        """The store and the ledger hold different numbers of commands."""
        self._list(AuditFinding(AuditKind.COUNT, None, self.report.head or None, None, reason))

    def intact(self, commands: int = 1) -> None:
        """Commands that are as they should be."""
        self.report.commands += commands
        self.report.intact += commands

    def command(self, finding: AuditFinding) -> None:
        """A command that isn't."""
        report = self.report
        report.commands += 1
        setattr(report, finding.kind.value, getattr(report, finding.kind.value) + 1)
        self._list(finding)

    def change(self, change: Change) -> None:
        """An update or a deletion that an entry records."""
        if len(self.report.changes) < MAX_LISTED:
            self.report.changes.append(change)

    def met(self, commands: int) -> None:
        """So many more commands were read."""
        self.read += commands
        self.tell()

    def tell(self) -> None:
        """How far it is."""
        if self._progress is not None:
            self._progress(AuditProgress(self.report.entries, self.read, len(self.report.findings)))

    def _list(self, finding: AuditFinding) -> None:
        if len(self.report.findings) >= MAX_LISTED:
            return
        name = finding.command_uuid
        if name is not None and len(name) > _LONGEST_NAME:
            finding = AuditFinding(
                finding.kind, name[:_LONGEST_NAME], finding.sequence, finding.created_at, finding.reason
            )
        self.report.findings.append(finding)
