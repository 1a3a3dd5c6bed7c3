"""What a verification says of itself, and of what it repaired. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from commandstore.replication.report import MAX_LISTED

__all__ = ["REMOVED", "REPLACED", "WRITTEN", "Finding", "FindingKind", "Tally", "VerifyProgress", "VerifyReport"]

WRITTEN, REPLACED, REMOVED = "written", "replaced", "removed"
"""What a repair does to a command of the destination; ``Finding.action`` says which it was."""

_LONGEST_NAME = 512
_MOST_NAMED = 10_000


class FindingKind(StrEnum):
    """What is wrong with a command. A string, so that it goes into JSON as it is."""

    MISSING = "missing"
    EXTRA = "extra"
    ALTERED = "altered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """A command that is not in both stores alike.

    Attributes:
        kind: ``missing`` in the destination, ``extra`` there, ``altered`` (other content), or ``failed`` to be read.
        command_uuid: its uuid; where that can't be read, where the record lies (``"row 17"``).
        created_at: as the store has it in which it was met; None where that can't be read.
        reason: one line, without the payload.
        repaired: it was put right in the destination; False without a repair.
        action: what the repair did (``"written"``, ``"replaced"``, ``"removed"``), or why it did nothing; ``""``
            without a repair.
    """

    kind: FindingKind
    command_uuid: str
    created_at: int | None
    reason: str
    repaired: bool = False
    action: str = ""


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far a running verification is.

    Attributes:
        compared: commands compared so far.
        differing: of these, those that are not in both stores alike.
        repaired: of these again, those that were put right, what was removed included.
    """

    compared: int
    differing: int
    repaired: int = 0


@dataclass(slots=True)
class VerifyReport:
    """The account of a verification: ``compared == equal + missing + extra + altered + failed``.

    Commands are counted by what they were found to be; ``repaired`` and ``deleted`` say how many of them are right.

    Attributes:
        compared: commands that were judged, each counted once.
        equal: in both stores, with the same content.
        missing: in the source, and not in the destination.
        extra: in the destination, and not in the source.
        altered: in both, with other content.
        failed: can't be read in one of the two, or can't be stored by any.
        repaired: of these, those that the destination has now as the source has them.
        deleted: of these, those that were removed from the destination.
        findings: kind, uuid, time, reason and what was done of all that are not equal, up to 1,000.
        complete: the whole range was compared.
        same_store: source and destination are one store, so there was nothing to compare and nothing was done.
        reached: every command with ``created_at`` up to this was compared; ``after=reached`` goes on from here. None
            where time ran out before anything was.
        seconds: how long it took.
    """

    compared: int = 0
    equal: int = 0
    missing: int = 0
    extra: int = 0
    altered: int = 0
    failed: int = 0
    repaired: int = 0
    deleted: int = 0
    findings: list[Finding] = field(default_factory=list)
    complete: bool = False
    same_store: bool = False
    reached: int | None = None
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """How many commands differ still."""
        return self.compared - self.equal - self.repaired - self.deleted

    @property
    def clean(self) -> bool:
        """The whole range was compared, and every command in it is in both stores alike, by now at the latest."""
        return self.complete and not self.left

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, for JSON."""
        plain = asdict(self)
        for finding in plain["findings"]:
            finding["kind"] = finding["kind"].value
        return plain


class Tally:
    """Counts into a report.

    One command may be met twice: in two rows of one uuid, or at two times where its time was altered. It is counted
    where it is met first; so many uuids are remembered for that as memory is set apart for.

    Args:
        report: what is counted into.
        progress: told by :meth:`tell`.
    """

    def __init__(self, report: VerifyReport, progress: Callable[[VerifyProgress], None] | None) -> None:
        self._report = report
        self._progress = progress
        self._named: set[str] = set()

    def alike(self, count: int) -> None:
        """So many commands that are in both stores alike."""
        self._report.compared += count
        self._report.equal += count

    def equal(self, again: str | None = None) -> None:
        """A command that is in both stores alike.

        Args:
            again: its uuid, where it may be met again.
        """
        if again is None or self._first(again):
            self.alike(1)

    def found(self, finding: Finding) -> None:
        """A command that isn't."""
        report = self._report
        if not self._first(finding.command_uuid):
            return
        report.compared += 1
        match finding.kind:
            case FindingKind.MISSING:
                report.missing += 1
            case FindingKind.EXTRA:
                report.extra += 1
            case FindingKind.ALTERED:
                report.altered += 1
            case FindingKind.FAILED:
                report.failed += 1
        report.repaired += finding.repaired and finding.action != REMOVED
        report.deleted += finding.repaired and finding.action == REMOVED
        if len(report.findings) < MAX_LISTED:
            report.findings.append(replace(finding, command_uuid=finding.command_uuid[:_LONGEST_NAME]))

    def knows(self, command_uuid: str) -> bool:
        """Whether it was counted already, as far as is remembered."""
        return command_uuid in self._named

    def _first(self, command_uuid: str) -> bool:
        if command_uuid in self._named:
            return False
        if len(self._named) < _MOST_NAMED:
            self._named.add(command_uuid)
        return True

    def tell(self) -> None:
        """How far it is."""
        report = self._report
        if self._progress is not None:
            differing = report.compared - report.equal
            self._progress(VerifyProgress(report.compared, differing, report.repaired + report.deleted))
