"""What a run and the copy of a range have in common: reading ahead, writing batches side by side, and the account."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Capability, Key, Row, SequenceState, Slice
from commandstore.core import StoreCore, is_int
from commandstore.errors import (
    CommandStoreError,
    ConfigurationError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    SyncError,
)
from commandstore.ledger.log import MAX_LEAVES
from commandstore.records import Fate
from commandstore.replication import plan
from commandstore.replication.account import Account
from commandstore.replication.checkpoint import (
    MAX_PARKED,
    Checkpoint,
    fits_in_a_checkpoint,
    parked_as,
)
from commandstore.replication.checkpoint_register import CheckpointRegister
from commandstore.replication.report import SyncProgress, SyncReport

__all__ = ["DEFAULT_LAG", "LEAST_MARGIN", "SAVE_EVERY", "Batch", "Settings", "Walk", "uuid_of"]

DEFAULT_LAG = 600 * 10**9
"""Ten minutes, in nanoseconds."""

LEAST_MARGIN = 1.0
"""Seconds that a run with a deadline leaves at least between its last batch and that deadline."""

SAVE_EVERY = 5.0
"""Seconds between two saves of the checkpoint within a run."""

# What is wrong with the command itself. Everything else is wrong with a store, and stops a run.
BadCommand = InvalidCommand | CorruptRecord | DecryptionError


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sync runs; see :func:`sync_command_store`."""

    batch_size: int | None = None
    tenant_uuid: str | None = None
    progress: Callable[[SyncProgress], None] | None = None
    skip_on_error: bool = False
    resume_from_dest: bool = True
    start_after_time: int | None = None
    dry_run: bool = False
    lag: int = DEFAULT_LAG
    concurrency: int | None = None
    source_name: str | None = None
    time_left: Callable[[], float] | None = None
    lease_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("batch_size", self.batch_size, 1),
            ("concurrency", self.concurrency, 1),
            ("lag", self.lag, 0),
        ):
            if value is None and name != "lag":
                continue  # what suits the destination
            if not is_int(value) or (value or 0) < least:
                raise ConfigurationError(f"{name} must be a whole number of at least {least}")
        start = self.start_after_time
        if start is not None and (not is_int(start) or not INT64_MIN <= start <= INT64_MAX):
            raise ConfigurationError("start_after_time must be an int64, in the unit of created_at")
        source = self.source_name
        if source is not None and (not isinstance(source, str) or source != source.encode("utf-8", "replace").decode()):
            raise ConfigurationError("source_name must be text that UTF-8 can hold")


@dataclass(slots=True)
class Batch:
    """Rows that are written together."""

    rows: list[Row]
    end: Key | None
    """The key after which the next batch begins; None at the end of the walk."""
    bad: list[tuple[Row, BadCommand]] = field(default_factory=list)


class Walk(ABC):
    """Something that walks rows of a source and writes them to a destination.

    Args:
        source: the source's core.
        destination: the destination's core; its drive runs the batches.
        settings: see :func:`sync_command_store`.
        monotonic: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        source: StoreCore,
        destination: StoreCore,
        settings: Settings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._destination = destination
        self._settings = settings
        self._batch_size = settings.batch_size or destination.backend.insert_count
        self._concurrency = settings.concurrency or destination.backend.insert_concurrency
        self._monotonic = monotonic
        self._drive = destination.drive
        filters = {"tenant_uuid": settings.tenant_uuid, "after": settings.start_after_time}
        self._query = source.query(filters)  # type: ignore[arg-type]
        self._name = settings.source_name or source.backend.location
        self._register = CheckpointRegister(destination.backend, self._name, self._query)
        self._report = SyncReport(dry_run=settings.dry_run)
        self._account = Account(self._report, settings.progress)
        self._checkpoint: Checkpoint | None = None
        self._retried: set[object] = set()
        self._saved_at = monotonic()
        self._slowest = 0.0  # of the batches that were written
        self._read_in = 0.0  # the last read; the first of a walk may have to sort
        self._stopped = False  # the time was up
        # Where everything is compared anew, what the ledger has and the destination lost may be created once more.
        self._seals = destination.options.crypto is not None
        self._journal = None if settings.dry_run else destination.journal(careful=not settings.resume_from_dest)

    @abstractmethod
    async def _save(self) -> None:
        """Save what is durable."""

    def _now_known(self) -> Checkpoint:
        if self._checkpoint is None:
            raise SyncError("the run has no checkpoint yet")
        return self._checkpoint

    def _time_is_up(self) -> bool:
        """Whether to read no further: what is in flight, and the save after it, must fit into the time that is left.

        A batch that was read waits for one that is written, so it is a read, two of the slowest batches so far, and
        half a one for the rest.
        """
        if self._settings.time_left is not None and not self._stopped:
            margin = self._read_in + max(LEAST_MARGIN, 2.5 * self._slowest)
            self._stopped = self._settings.time_left() < margin
        return self._stopped

    # Where it starts

    async def _start(self) -> tuple[Checkpoint, Checkpoint | None, SequenceState | None]:
        """The checkpoint to go on from (saved, unless the run is dry), the one that was found, the source's state."""
        resume = self._settings.resume_from_dest
        stored = await self._register.load(believe=resume)
        state = await self._state(stored)
        self._refuse_plain_text()
        while True:
            if state is not None:
                checkpoint = plan.begin(stored, state)
            elif stored is not None and not stored.by_sequence:
                checkpoint = stored
            else:
                checkpoint = plan.fresh(by_sequence=False)
            if self._seals and not checkpoint.sealed:
                checkpoint = replace(checkpoint, sealed=True)
            if checkpoint is stored or self._settings.dry_run or await self._register.swap(checkpoint):
                return checkpoint, stored, state
            # Another run started a checkpoint at this moment: go on from that one, so that both add to one account.
            # Unless everything is to be compared: then it is replaced, and that run stops.
            stored = await self._register.load(believe=resume)
            state = await self._state(stored)

    def _refuse_plain_text(self) -> None:
        """Whoever lost the key from the settings must not go on without encryption."""
        if self._register.sealed and not self._seals and not self._settings.dry_run:
            raise ConfigurationError(
                f"what was copied to {self._destination.backend.location} until now was encrypted, and this run has no "
                "key: give it (crypto=, --destination-key-file), or copy to a new store. Nothing was written"
            )

    async def _state(self, stored: Checkpoint | None) -> SequenceState | None:
        if Capability.SEQUENCE not in self._source.backend.capabilities:
            return None
        return await self._source.backend.sequence_state(*plan.asked_of(stored))

    async def _reported(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work; whatever stops it becomes a :class:`SyncError` that carries the report."""
        began = self._monotonic()
        try:
            await work()
            self._report.complete = not self._stopped
        except SyncError as error:
            error.report = self._report
            raise
        except CommandStoreError as error:
            raise SyncError(f"the sync stopped: {error}", report=self._report) from error
        finally:
            self._report.seconds = self._monotonic() - began
            await self._source.backend.feed_end()

    # One walk: read, write, account

    async def _walk(
        self,
        read: Callable[[Key | None], Awaitable[Slice]],
        advance: Callable[[Batch], None],
        after: Key | None,
    ) -> None:
        ended, first = False, True

        async def produce() -> Batch | None:
            nonlocal after, ended, first
            if ended or self._time_is_up():
                return None
            began = self._monotonic()
            found = await read(after)
            self._read_in = 0.0 if first else self._monotonic() - began
            first = False
            after = found.next_key
            ended = after is None
            rows = [row for row in found.rows if not self._is_retried(row)] if self._retried else found.rows
            return Batch(rows, after)

        async def timed(batch: Batch) -> None:
            began = self._monotonic()
            await self._write(batch)
            self._slowest = max(self._slowest, self._monotonic() - began)

        async def done(batch: Batch, _: None) -> None:
            if batch.bad:
                order = {id(row): index for index, row in enumerate(batch.rows)}
                self._park(sorted(batch.bad, key=lambda item: order[id(item[0])]))
            advance(batch)
            if self._journal is not None and self._journal.full:
                await self._journal.record("sync", MAX_LEAVES)
            if self._monotonic() - self._saved_at >= SAVE_EVERY:
                await self._save()

        await self._drive.pipeline(produce, timed, done, self._concurrency)
        # Under a filter nobody knows how many of the rows that are left match.
        whole = self._settings.tenant_uuid is None and self._settings.start_after_time is None
        if self._stopped and whole and self._account.expected is not None:
            self._report.remaining = max(0, self._account.expected - self._report.read)

    async def _record_written(self) -> None:
        """Record in the destination's ledger, where it keeps one, all that was written. Before any checkpoint."""
        if self._journal is not None:
            await self._journal.record("sync")

    def _is_retried(self, row: Row) -> bool:
        """Whether the row is one that was parked, and has been tried and counted in this run already."""
        return row.key[-1] in self._retried

    async def _write(self, batch: Batch) -> None:
        good: list[Record] = []
        for row in batch.rows:
            if row.record is None:
                batch.bad.append((row, _bad(row.error)))
                continue
            try:
                good.append(codec.check(row.record))
            except InvalidCommand as error:
                batch.bad.append((row, error))
        self._account.failed([(_name(row), str(error)) for row, error in batch.bad])
        if not good:
            return
        try:
            fates: Sequence[Fate | CommandStoreError | None] = await (
                self._destination.compare(good)
                if self._settings.dry_run
                else self._destination.write(good, journal=self._journal)
            )
        except CommandStoreError as error:
            self._account.written(good, error.fates)
            raise
        self._account.written(good, fates)
        refused = [(r, fate) for r, fate in zip(good, fates, strict=True) if isinstance(fate, CommandStoreError)]
        if refused:
            rows = {id(row.record): row for row in batch.rows}
            batch.bad.extend((rows[id(record)], _bad(fate)) for record, fate in refused)

    # Commands that can't be copied

    def _park(self, bad: Sequence[tuple[Row, BadCommand]]) -> None:
        """Park them, or stop the run at the first."""
        if not bad:
            return
        if not self._settings.skip_on_error:
            row, error = bad[0]
            raise SyncError(
                f"command {_name(row)} can't be copied: {error} "
                "(--skip-on-error parks such commands and goes on; they are tried again in every run)"
            ) from error
        known = self._now_known()
        parked = {p.key: p for p in known.parked}
        for row, error in bad:
            parked[row.key] = parked_as(row.key, uuid_of(row), str(error))
        if not fits_in_a_checkpoint(parked.values()):
            raise SyncError(
                f"more commands can't be copied than a checkpoint holds ({MAX_PARKED:,}, or fewer with long uuids); "
                "that is not a few bad rows. "
                "The report names them; put the source right, or leave them out with a filter"
            )
        self._checkpoint = replace(known, parked=tuple(parked.values()))


def _bad(error: CommandStoreError | None) -> BadCommand:
    """The error, when it is about the command itself; anything else is about a store, and is raised."""
    if isinstance(error, InvalidCommand | CorruptRecord | DecryptionError):
        return error
    raise error or CorruptRecord("a record that can't be read")


def uuid_of(row: Row) -> str | None:
    """The uuid of a row, where it can be read."""
    if row.record is not None:
        return row.record.command_uuid
    return getattr(row.error, "command_uuid", None)


def _name(row: Row) -> str:
    return uuid_of(row) or getattr(row.error, "location", None) or f"at {row.key}"
