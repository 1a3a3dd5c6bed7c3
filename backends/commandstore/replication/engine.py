"""The engine of a sync: reads ahead, writes in batches side by side, and saves only what is durable.

``plan.py`` decides, ``checkpoint.py`` remembers, and this runs. The laws are in the docstring of
:func:`~commandstore.sync_command_store`; each has a test that attacks it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Capability, Key, Row, SequenceState, Slice, Window
from commandstore.core import StoreCore, is_int
from commandstore.errors import (
    CommandStoreError,
    ConfigurationError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    SyncError,
)
from commandstore.records import Fate
from commandstore.replication import plan
from commandstore.replication.account import Account
from commandstore.replication.checkpoint import (
    MAX_PARKED,
    Checkpoint,
    CheckpointRegister,
    OpenWindow,
    Parked,
    Pending,
    fits_in_a_checkpoint,
    lease_name,
    parked_as,
)
from commandstore.replication.lease import Lease
from commandstore.replication.report import SyncProgress, SyncReport

__all__ = ["DEFAULT_LAG", "Settings", "Sync"]

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


@dataclass(slots=True)
class Batch:
    """Rows that are written together."""

    rows: list[Row]
    end: Key | None
    """The key after which the next batch begins; None at the end of the walk."""
    bad: list[tuple[Row, BadCommand]] = field(default_factory=list)


class Sync:
    """One run.

    Args:
        source: the source's core.
        destination: the destination's core; its drive runs the batches.
        settings: see :func:`sync_command_store`.
        now: the clock, in nanoseconds since 1970.
        monotonic: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        source: StoreCore,
        destination: StoreCore,
        settings: Settings,
        *,
        now: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._destination = destination
        self._settings = settings
        self._batch_size = settings.batch_size or destination.backend.insert_count
        self._concurrency = settings.concurrency or destination.backend.insert_concurrency
        self._now = now
        self._monotonic = monotonic
        self._drive = destination.drive
        filters = {"tenant_uuid": settings.tenant_uuid, "after": settings.start_after_time}
        self._query = source.query(filters)  # type: ignore[arg-type]
        name = settings.source_name or source.backend.location
        self._register = CheckpointRegister(destination.backend, name, self._query)
        self._lease: Lease | None = None
        if settings.lease_seconds is not None and not settings.dry_run:
            lease = lease_name(name, self._query)
            self._lease = Lease(destination.backend, lease, seconds=settings.lease_seconds, now=now)
        self._report = SyncReport(dry_run=settings.dry_run)
        self._account = Account(self._report, settings.progress)
        self._checkpoint: Checkpoint | None = None
        self._saved: Checkpoint | None = None
        self._window: OpenWindow | None = None  # the walk in progress, as far as it is durable
        self._resolved: set[Key] = set()
        self._retried: set[object] = set()
        self._saved_at = monotonic()
        self._slowest = 0.0
        self._stopped = False  # the time was up

    async def run(self) -> SyncReport:
        """Run; see :func:`sync_command_store`."""
        began = self._monotonic()
        if self._source.backend.location == self._destination.backend.location:
            self._report.complete = True
            return self._report
        self._source.ready()
        self._destination.ready() if self._settings.dry_run else self._destination.writable()
        started = self._now()
        if self._lease is not None:
            await self._lease.acquire()
            self._report.caught_up = self._lease.caught_up
        try:
            await self._run()
            self._report.complete = not self._stopped
        except SyncError as error:
            error.report = self._report
            raise
        except CommandStoreError as error:
            raise SyncError(f"the sync stopped: {error}", report=self._report) from error
        finally:
            self._report.seconds = self._monotonic() - began
            await self._source.backend.feed_end()
            if self._lease is not None:
                await self._give_back(self._lease, started)
        return self._report

    async def _give_back(self, lease: Lease, started: int) -> None:
        if self._report.complete and not self._report.failed:
            lease.caught_up = self._report.caught_up = max(started, lease.caught_up or started)
        with contextlib.suppress(CommandStoreError):
            # It expires by itself; whatever ended the run is what its caller should hear of.
            await lease.release()

    def _time_is_up(self) -> bool:
        """Whether to read no further: what is in flight, and the save after it, must fit into the time that is left.

        A batch that was read waits for one that is written, so it is two of the slowest so far, and half for the rest.
        """
        if self._settings.time_left is not None and not self._stopped:
            self._stopped = self._settings.time_left() < max(LEAST_MARGIN, 2.5 * self._slowest)
        return self._stopped

    async def _run(self) -> None:
        stored = await self._register.load()
        if not self._settings.resume_from_dest:
            stored = None
        state = await self._state(stored)
        started = self._now()
        while True:
            if state is not None:
                checkpoint = plan.begin(stored, state)
            elif stored is not None and not stored.by_sequence:
                checkpoint = stored
            else:
                checkpoint = plan.fresh(by_sequence=False)
            if checkpoint is stored or self._settings.dry_run or await self._register.swap(checkpoint):
                break
            # Another run started a checkpoint at this moment: go on from that one, so that both add to one account.
            # Unless everything is to be compared: then it is replaced, and that run stops.
            stored = await self._register.load()
            if not self._settings.resume_from_dest:
                stored = None
            state = await self._state(stored)
        self._checkpoint = self._saved = checkpoint
        try:
            await self._retry_parked()
            if state is not None:
                await self._follow_sequence(checkpoint, state, stored.pending if stored else ())
            else:
                await self._follow_time(started)
        except BaseException as stop:
            # What is durable is saved whatever stops the run: an error, Ctrl-C, a cancelled task.
            try:
                await self._save()
            except CommandStoreError as error:
                stop.add_note(f"the checkpoint could not be saved: {error}")
            raise
        await self._save()

    async def _state(self, stored: Checkpoint | None) -> SequenceState | None:
        if Capability.SEQUENCE not in self._source.backend.capabilities:
            return None
        return await self._source.backend.sequence_state(*plan.asked_of(stored))

    # The two ways to find what is new

    async def _follow_sequence(self, checkpoint: Checkpoint, state: SequenceState, asked: Sequence[Pending]) -> None:
        done = checkpoint.window.done if checkpoint.window is not None else 0
        self._account.expected = max(0, state.horizon - checkpoint.settled - done)
        if checkpoint.window is not None:  # a run that was interrupted left it
            await self._walk_window(checkpoint.window)
        if self._stopped:
            return
        self._checkpoint = opened = plan.open_window(self._now_known(), state, asked)
        if opened.window is not None:
            await self._walk_window(opened.window)

    async def _walk_window(self, opened: OpenWindow) -> None:
        bounds = Window(self._now_known().settled, opened.horizon)
        passed = opened.done

        async def read(after: Key | None) -> Slice:
            return await self._source.feed(self._query, bounds, after, self._batch_size)

        def advance(batch: Batch) -> None:
            nonlocal passed
            passed += len(batch.rows)
            if batch.end is not None:
                self._window = replace(opened, position=batch.end, done=passed)

        self._window = opened
        if bounds.high > bounds.low:
            await self._walk(read, advance, opened.position)
        if self._stopped:
            return  # the window stays open, as far as it has come
        self._checkpoint = plan.close_window(replace(self._now_known(), window=opened))
        self._window = None

    async def _follow_time(self, started: int) -> None:
        query = self._query
        mark = self._now_known().mark
        if mark is not None and mark > INT64_MIN and (query.after is None or query.after < mark - 1):
            # Not strictly after: commands that share the timestamp of the mark are compared again.
            query = replace(query, after=mark - 1)

        async def read(after: Key | None) -> Slice:
            return await self._source.pages(query, after, self._batch_size)

        def advance(batch: Batch) -> None:
            times = [row.record.created_at for row in batch.rows if row.record is not None]
            if times:
                current = self._now_known()
                reached = plan.lagging_mark(times[-1], started, self._settings.lag)
                known = current.mark if current.mark is not None else INT64_MIN
                self._checkpoint = replace(current, mark=max(known, reached))

        await self._walk(read, advance, None)

    # One walk: read, write, account

    async def _walk(
        self,
        read: Callable[[Key | None], Awaitable[Slice]],
        advance: Callable[[Batch], None],
        after: Key | None,
    ) -> None:
        ended = False

        async def produce() -> Batch | None:
            nonlocal after, ended
            if ended or self._time_is_up():
                return None
            found = await read(after)
            after = found.next_key
            ended = after is None
            return Batch([row for row in found.rows if not self._is_retried(row)], after)

        async def timed(batch: Batch) -> None:
            began = self._monotonic()
            await self._write(batch)
            self._slowest = max(self._slowest, self._monotonic() - began)

        async def done(batch: Batch, _: None) -> None:
            order = {id(row): index for index, row in enumerate(batch.rows)}
            self._park(sorted(batch.bad, key=lambda item: order[id(item[0])]))
            advance(batch)
            if self._monotonic() - self._saved_at >= SAVE_EVERY:
                await self._save()

        await self._drive.pipeline(produce, timed, done, self._concurrency)
        if self._stopped and self._account.expected is not None:
            self._report.remaining = max(0, self._account.expected - self._report.read)

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
        rows = {id(row.record): row for row in batch.rows}
        try:
            settle = self._destination.compare if self._settings.dry_run else self._destination.write
            fates: Sequence[Fate | CommandStoreError | None] = await settle(good)
        except CommandStoreError as error:
            self._account.written(good, error.fates)
            raise
        self._account.written(good, fates)
        batch.bad.extend(
            (rows[id(record)], _bad(fate))
            for record, fate in zip(good, fates, strict=True)
            if isinstance(fate, CommandStoreError)
        )

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
            parked[row.key] = parked_as(row.key, _uuid(row), str(error))
        if not fits_in_a_checkpoint(parked.values()):
            raise SyncError(
                f"more commands can't be copied than a checkpoint holds ({MAX_PARKED:,}, or fewer with long uuids); "
                "that is not a few bad rows. "
                "The report names them; put the source right, or leave them out with a filter"
            )
        self._checkpoint = replace(known, parked=tuple(parked.values()))

    async def _retry_parked(self) -> None:
        parked = self._now_known().parked
        if not parked:
            return
        # By its id, a row may be another one by now, which this run's filter leaves out: the parked one is gone then.
        rows = [row if row is None or self._wanted(row) else None for row in await self._parked_rows(parked)]
        batch = Batch([row for row in rows if row is not None], None)
        for item, row in zip(parked, rows, strict=True):
            # The last part of a key is what a row is known by from run to run: an id in SQL, else the uuid.
            self._retried.update({item.key[-1]} if row is None else {item.key[-1], row.key[-1]})
        await self._write(batch)
        still = {row.key: parked_as(row.key, _uuid(row), str(error)) for row, error in batch.bad}
        self._resolved = {item.key for item in parked} - still.keys()
        self._checkpoint = replace(self._now_known(), parked=tuple(still.values()))
        if batch.bad and not self._settings.skip_on_error:
            self._park(batch.bad)

    def _wanted(self, row: Row) -> bool:
        return row.record is None or self._query.matches(row.record)

    async def _parked_rows(self, parked: Sequence[Parked]) -> list[Row | None]:
        if self._now_known().by_sequence:
            return await self._source.feed_again([item.key for item in parked])
        found = await self._source.fetch([item.command_uuid for item in parked if item.command_uuid])
        rows: list[Row | None] = []
        for item in parked:
            if item.command_uuid is None:
                # It can't be looked up, so nothing says that it is gone.
                rows.append(Row(item.key, None, CorruptRecord(item.reason)))
                continue
            now = found.get(item.command_uuid)
            if isinstance(now, Record):
                rows.append(Row(item.key, now))
            else:
                rows.append(None if now is None else Row(item.key, None, now))
        return rows

    # The checkpoint

    def _now_known(self) -> Checkpoint:
        if self._checkpoint is None:
            raise SyncError("the run has no checkpoint yet")
        return self._checkpoint

    async def _save(self) -> None:
        self._saved_at = self._monotonic()
        known = self._now_known()
        if self._window is not None:
            known = replace(known, window=self._window)
        if self._settings.dry_run:
            return
        if self._lease is not None:
            await self._lease.renew()
        if known != self._saved:
            # What another run saved meanwhile is ours from here on.
            self._checkpoint = self._saved = await self._register.save(known, frozenset(self._resolved))
        self._report.checkpoint = self._saved.summary()


def _bad(error: CommandStoreError | None) -> BadCommand:
    """The error, when it is about the command itself; anything else is about a store, and is raised."""
    if isinstance(error, InvalidCommand | CorruptRecord | DecryptionError):
        return error
    raise error or CorruptRecord("a record that can't be read")


def _uuid(row: Row) -> str | None:
    if row.record is not None:
        return row.record.command_uuid
    return getattr(row.error, "command_uuid", None)


def _name(row: Row) -> str:
    return _uuid(row) or getattr(row.error, "location", None) or f"at {row.key}"
