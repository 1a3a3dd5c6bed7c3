"""What a sync says of itself. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MAX_LISTED", "SyncFailure", "SyncProgress", "SyncReport"]

MAX_LISTED = 1000
"""How many failures and conflicts a report lists by name; the counts count them all."""


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """A command that was not copied, and why.

    Attributes:
        command_uuid: its uuid; where that can't be read, where the record lies in the source (``"row 17"``).
        reason: one line, without the payload.
    """

    command_uuid: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a running sync is.

    Attributes:
        read: commands read so far.
        copied: of these, new in the destination.
        expected: about how many will be read in all; None where the source can't say cheaply.
    """

    read: int
    copied: int
    expected: int | None = None


@dataclass(slots=True)
class SyncReport:
    """The account of a sync: ``read == copied + duplicates + conflicts + failed``.

    Attributes:
        read: commands read from the source, each counted once.
        copied: new in the destination (in a dry run: would be).
        duplicates: there already, with the same content.
        conflicts: there already, with other content, which was kept.
        failed: can't be copied as they are.
        failures: uuid and reason of each failed and each conflicting command, up to 1,000.
        complete: the run came to its end; False in the report of a :class:`~commandstore.errors.SyncError`, and where
            the run stopped because its time was up.
        remaining: where the time was up: about how many commands are left to be read; None where nobody can say.
        caught_up: with a lease, nanoseconds since 1970: what was visible in the source at that moment is in the
            destination. The start of this run if it is complete, else of the last one that was; None before that.
        dry_run: nothing was written.
        checkpoint: the state that the next run starts from; None where none is kept.
        seconds: how long it took.
    """

    read: int = 0
    copied: int = 0
    duplicates: int = 0
    conflicts: int = 0
    failed: int = 0
    failures: list[SyncFailure] = field(default_factory=list)
    complete: bool = False
    dry_run: bool = False
    checkpoint: dict[str, Any] | None = None
    remaining: int | None = None
    caught_up: int | None = None
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Every command that was read is in the destination as it is in the source."""
        return self.complete and not self.conflicts and not self.failed

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, for JSON."""
        return asdict(self)
