"""The account of a run while it runs: every command that is read is counted once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from commandstore.codec import Record
from commandstore.errors import CommandStoreError
from commandstore.records import Fate
from commandstore.replication.report import MAX_LISTED, SyncFailure, SyncProgress, SyncReport

__all__ = ["Account"]

_LONGEST_NAME = 512


class Account:
    """Counts into a report. Safe for threads: batches are written side by side.

    Args:
        report: what is counted into.
        progress: told after each batch.
    """

    def __init__(self, report: SyncReport, progress: Callable[[SyncProgress], None] | None) -> None:
        self.expected: int | None = None
        self._report = report
        self._progress = progress
        self._lock = threading.Lock()

    def failed(self, named: Sequence[tuple[str, str]]) -> None:
        """Commands that can't be copied: what each is called, and why."""
        with self._lock:
            for name, reason in named:
                self._report.read += 1
                self._report.failed += 1
                self._list(name, reason)

    def written(self, records: Sequence[Record], fates: Sequence[Fate | CommandStoreError | None]) -> None:
        """Commands that were written, and what became of each; None where nobody knows."""
        report = self._report
        created = fates.count(Fate.CREATED)
        with self._lock:
            report.read += created
            report.copied += created
            # Nearly always there are none of these, and nothing is looked at one by one.
            others = zip(records, fates, strict=False) if created < len(fates) else ()
            for record, fate in others:
                if fate is None or fate is Fate.CREATED:
                    continue
                report.read += 1
                if fate is Fate.DUPLICATE:
                    report.duplicates += 1
                elif fate is Fate.CONFLICTING:
                    report.conflicts += 1
                    self._list(record.command_uuid, "conflict: the destination has other content under this uuid")
                else:
                    report.failed += 1
                    self._list(record.command_uuid, str(fate))
            if self._progress is not None:
                self._progress(SyncProgress(report.read, report.copied, self.expected))

    def _list(self, name: str, reason: str) -> None:
        if len(self._report.failures) < MAX_LISTED:
            self._report.failures.append(SyncFailure(name[:_LONGEST_NAME], reason))
