"""The engine of a sync: reads ahead, writes in batches side by side, and saves only what is durable.

``plan.py`` decides, ``checkpoint.py`` remembers, and this runs. The laws are in the docstring of
:func:`~commandstore.sync_command_store`; each has a test that attacks it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from commandstore.codec import Record
from commandstore.command import INT64_MIN
from commandstore.contract import Key, Row, SequenceState, Slice, Window
from commandstore.core import StoreCore
from commandstore.errors import CommandStoreError, CorruptRecord
from commandstore.replication import plan
from commandstore.replication.checkpoint import (
    Checkpoint,
    OpenWindow,
    Parked,
    Pending,
    TimeWalk,
    lease_name,
    parked_as,
)
from commandstore.replication.lease import Lease
from commandstore.replication.report import SyncReport
from commandstore.replication.walk import Batch, Settings, Walk, uuid_of

__all__ = ["Sync"]


class Sync(Walk):
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
        super().__init__(source, destination, settings, monotonic=monotonic)
        self._now = now
        self._lease: Lease | None = None
        if settings.lease_seconds is not None and not settings.dry_run:
            lease = lease_name(self._name, self._query)
            self._lease = Lease(destination.backend, lease, seconds=settings.lease_seconds, now=now)
        self._saved: Checkpoint | None = None
        self._window: OpenWindow | None = None  # the walk in progress, as far as it is durable
        self._resolved: set[Key] = set()
        self._saving = False

    async def run(self) -> SyncReport:
        """Run; see :func:`sync_command_store`."""
        if self._source.backend.location == self._destination.backend.location:
            self._report.complete = True
            return self._report
        self._source.ready()
        if self._settings.dry_run:
            self._destination.ready()
        else:
            self._destination.writable()
            await self._destination.ready_to_record()
        started = self._now()
        if self._lease is not None:
            await self._lease.acquire()
            self._report.caught_up = self._lease.caught_up
        try:
            await self._reported(self._run)
        finally:
            if self._lease is not None:
                await self._give_back(self._lease, started)
        return self._report

    async def _give_back(self, lease: Lease, started: int) -> None:
        if self._report.complete and not self._report.failed:
            lease.caught_up = self._report.caught_up = max(started, lease.caught_up or started)
        with contextlib.suppress(CommandStoreError):
            # It expires by itself; whatever ended the run is what its caller should hear of.
            await lease.release()

    async def _run(self) -> None:
        checkpoint, stored, state = await self._start()
        started = self._now()
        self._checkpoint = self._saved = checkpoint
        try:
            await self._retry_parked()
            if state is not None:
                await self._follow_sequence(checkpoint, state, stored.pending if stored else ())
            else:
                await self._follow_time(started)
        except BaseException as stop:
            # What is durable is saved whatever stops the run: an error, Ctrl-C, a cancelled task. But for a save that
            # has just failed, after all its tries.
            if self._saving and isinstance(stop, CommandStoreError):
                raise
            try:
                await self._save()
            except CommandStoreError as error:
                stop.add_note(f"the checkpoint could not be saved: {error}")
            raise
        await self._save()

    # The two ways to find what is new

    async def _follow_sequence(self, checkpoint: Checkpoint, state: SequenceState, asked: Sequence[Pending]) -> None:
        done = checkpoint.window.done if checkpoint.window is not None else 0
        self._account.expected = max(0, state.horizon - checkpoint.settled - done)
        if checkpoint.window is not None:  # a run that was interrupted left it
            await self._walk_window(checkpoint.window)
            if self._stopped:
                return
            # Its horizon may have settled meanwhile, and then the next walk settles all of it.
            known = self._now_known()
            now = await self._state(known)
            if now is not None and plan.begin(known, now) is known:
                state, asked = now, known.pending
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
        known = self._now_known()
        if known.walk is not None:  # a run that was interrupted left it
            await self._walk_time(known.walk.position, known.walk.started)
            if self._stopped:
                return
            self._checkpoint = replace(self._now_known(), walk=None)
        await self._walk_time(None, started)
        if not self._stopped:
            self._checkpoint = replace(self._now_known(), walk=None)

    async def _walk_time(self, after: Key | None, started: int) -> None:
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
            if batch.end is not None and self._settings.time_left is not None:
                self._checkpoint = replace(self._now_known(), walk=TimeWalk(batch.end, started))

        await self._walk(read, advance, after)

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
        still = {row.key: parked_as(row.key, uuid_of(row), str(error)) for row, error in batch.bad}
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

    async def _save(self) -> None:
        self._saved_at = self._monotonic()
        self._saving = True
        await self._save_known()
        self._saving = False

    async def _save_known(self) -> None:
        known = self._now_known()
        if self._window is not None:
            known = replace(known, window=self._window)
        if self._settings.dry_run:
            return
        if self._lease is not None:
            await self._lease.renew()
        await self._record_written()
        if known != self._saved:
            # What another run saved meanwhile is ours from here on.
            self._checkpoint = self._saved = await self._register.save(known, frozenset(self._resolved))
        self._report.checkpoint = self._saved.summary()
