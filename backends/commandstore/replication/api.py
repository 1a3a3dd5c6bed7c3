"""The sync as callers see it, blocking and for asyncio."""

from __future__ import annotations

from collections.abc import Callable

from commandstore.drive import run
from commandstore.errors import ConfigurationError
from commandstore.replication.backfill import BackfillPlan, Finish, Planner, Range, RangeCopy
from commandstore.replication.engine import Sync
from commandstore.replication.report import SyncProgress, SyncReport
from commandstore.replication.walk import DEFAULT_LAG, Settings
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["copy_range", "finish_backfill", "plan_backfill", "sync_async_command_store", "sync_command_store"]


def sync_command_store(
    source: CommandStore,
    destination: CommandStore,
    *,
    batch_size: int | None = None,
    tenant_uuid: str | None = None,
    progress: Callable[[SyncProgress], None] | None = None,
    skip_on_error: bool = False,
    resume_from_dest: bool = True,
    start_after_time: int | None = None,
    dry_run: bool = False,
    lag: int = DEFAULT_LAG,
    concurrency: int | None = None,
    source_name: str | None = None,
    time_left: Callable[[], float] | None = None,
    lease_seconds: float | None = None,
) -> SyncReport:
    """Copy what is new from one store to another.

    After a run that ends well, every command that was visible in the source when the run started is in the
    destination, byte for byte; a second run copies nothing. Killed at any moment, or run twice at once, the next run
    ends in the same state. Nothing in the destination is ever overwritten: a command that is there with other content
    is a conflict, which is counted and listed. Within a walk, commands go in the total order.

    Args:
        source: where commands are read; never written.
        destination: where they are written, and where the checkpoint is kept.
        batch_size: how many commands are read at once, and written in one ``create_many``; None takes what the
            destination writes at once (1,000; S3 10,000).
        tenant_uuid: only this tenant's. Such runs have a checkpoint of their own.
        progress: called after each batch, from the thread (or event loop) that writes.
        skip_on_error: a command that can't be copied is parked in the checkpoint (at most 1,000) and tried again first
            in every run, instead of stopping the run. It counts as failed until it is copied or gone.
        resume_from_dest: go on after the checkpoint; False compares everything by key and starts a new checkpoint.
        start_after_time: only ``created_at`` greater than this, in its unit. Such runs have a checkpoint of their own.
        dry_run: compare, write nothing, keep no checkpoint.
        lag: for sources without a sequence: how late a command may be committed with an older ``created_at`` and
            still be found by the next run, in the unit of ``created_at``; ten minutes of nanoseconds by default.
        concurrency: how many batches are written at once; None takes what suits the destination (4; S3 1).
        source_name: what the checkpoint knows the source by, where its URL may change.
        time_left: how many seconds the run may still take; asked before each batch. In time for what is in flight to be
            written (by what a batch has taken) and at least a second before the end, the run stops reading, saves its
            checkpoint and reports ``complete=False`` with what remains. None: until all is done.
        lease_seconds: take the lease of this source (and filter) in the destination, so that of runs that overlap one
            works; renewed with each save, given back at the end, and void so many seconds after the last renewal. None:
            no lease. A dry run takes none.

    Returns:
        The account: ``read == copied + duplicates + conflicts + failed``.

    Raises:
        ConfigurationError: an argument that can't be right; nothing was touched.
        SyncError: the run stopped before its end. ``report`` says what was done, and is durable; ``__cause__`` says
            why: a command that can't be copied, or a store that failed.
        ReadOnlyStore: the destination is read-only.
        LeaseHeld: another run holds the lease; nothing was read or written.
    """
    if not isinstance(source, CommandStore) or not isinstance(destination, CommandStore):
        raise ConfigurationError("sync_command_store takes two CommandStores; for asyncio, sync_async_command_store")
    settings = Settings(
        batch_size=batch_size,
        tenant_uuid=tenant_uuid,
        progress=progress,
        skip_on_error=skip_on_error,
        resume_from_dest=resume_from_dest,
        start_after_time=start_after_time,
        dry_run=dry_run,
        lag=lag,
        concurrency=concurrency,
        source_name=source_name,
        time_left=time_left,
        lease_seconds=lease_seconds,
    )
    return run(Sync(source.core, destination.core, settings).run())


async def sync_async_command_store(
    source: AsyncCommandStore,
    destination: AsyncCommandStore,
    *,
    batch_size: int | None = None,
    tenant_uuid: str | None = None,
    progress: Callable[[SyncProgress], None] | None = None,
    skip_on_error: bool = False,
    resume_from_dest: bool = True,
    start_after_time: int | None = None,
    dry_run: bool = False,
    lag: int = DEFAULT_LAG,
    concurrency: int | None = None,
    source_name: str | None = None,
    time_left: Callable[[], float] | None = None,
    lease_seconds: float | None = None,
) -> SyncReport:
    """Copy what is new from one store to another; as :func:`sync_command_store`, for asyncio."""
    if not isinstance(source, AsyncCommandStore) or not isinstance(destination, AsyncCommandStore):
        raise ConfigurationError("sync_async_command_store takes two AsyncCommandStores")
    settings = Settings(
        batch_size=batch_size,
        tenant_uuid=tenant_uuid,
        progress=progress,
        skip_on_error=skip_on_error,
        resume_from_dest=resume_from_dest,
        start_after_time=start_after_time,
        dry_run=dry_run,
        lag=lag,
        concurrency=concurrency,
        source_name=source_name,
        time_left=time_left,
        lease_seconds=lease_seconds,
    )
    return await Sync(source.core, destination.core, settings).run()


def plan_backfill(
    source: CommandStore,
    destination: CommandStore,
    *,
    commands_per_range: int = 100_000,
    tenant_uuid: str | None = None,
    source_name: str | None = None,
) -> BackfillPlan:
    """Cut what a sync would copy into ranges of about equal size, for many workers.

    The horizon is recorded in the destination first; where transactions were open at that moment, the plan waits for
    their end, twelve minutes at most. Ranges go by id where the source has one, else by ``created_at``. A further plan
    for the same source and tenant takes the place of this one.

    Args:
        source: where commands are read; never written.
        destination: where the plan and the checkpoint are kept.
        commands_per_range: about so many; more where there would be more than 2,000 ranges.
        tenant_uuid: only this tenant's.
        source_name: what the checkpoint knows the source by; the same as in the scheduled sync.

    Raises:
        ConfigurationError: an argument that can't be right; nothing was touched.
        StoreUnavailable: a transaction in the source stays open; no plan was made.
    """
    settings = Settings(tenant_uuid=tenant_uuid, source_name=source_name)
    return run(Planner(source.core, destination.core, settings).run(commands_per_range))


def copy_range(
    source: CommandStore,
    destination: CommandStore,
    piece: Range,
    *,
    batch_size: int | None = None,
    concurrency: int | None = None,
    tenant_uuid: str | None = None,
    source_name: str | None = None,
    skip_on_error: bool = False,
    progress: Callable[[SyncProgress], None] | None = None,
    time_left: Callable[[], float] | None = None,
) -> tuple[SyncReport, Range]:
    """Copy a range of a backfill, or as much of it as there is time for.

    A range may be copied twice, by two workers at once, or begun again: what is there already is a duplicate.

    Args:
        source: where commands are read.
        destination: where they are written.
        piece: of a plan, or what the call before this one handed back.
        batch_size: as in :func:`sync_command_store`.
        concurrency: as in :func:`sync_command_store`.
        tenant_uuid: as in the plan.
        source_name: as in the plan.
        skip_on_error: park what can't be copied in the checkpoint; the scheduled sync tries it again.
        progress: called after each batch.
        time_left: as in :func:`sync_command_store`.

    Returns:
        The account of this call, and the range to go on with where ``complete`` is False.

    Raises:
        ConfigurationError: the plan was replaced, or there is none.
        SyncError: it stopped before its end; begin the same range again.
    """
    settings = Settings(
        batch_size=batch_size,
        concurrency=concurrency,
        tenant_uuid=tenant_uuid,
        source_name=source_name,
        skip_on_error=skip_on_error,
        progress=progress,
        time_left=time_left,
    )
    return run(RangeCopy(source.core, destination.core, settings).run(piece))


def finish_backfill(
    source: CommandStore,
    destination: CommandStore,
    plan: str,
    *,
    tenant_uuid: str | None = None,
    source_name: str | None = None,
    lag: int = DEFAULT_LAG,
) -> int:
    """Hand over to the scheduled sync: write the plan's horizon as the checkpoint. Only once all ranges are complete.

    Args:
        source: asked whether it still is what it was.
        destination: where the checkpoint is kept.
        plan: the plan's id.
        tenant_uuid: as in the plan.
        source_name: as in the plan.
        lag: as in :func:`sync_command_store`; for sources without a sequence.

    Returns:
        The horizon: an id, or a time where the source has no sequence.

    Raises:
        ConfigurationError: the plan was replaced, or there is none.
        SyncError: source or checkpoint are not what they were when it was planned; plan again.
    """
    settings = Settings(tenant_uuid=tenant_uuid, source_name=source_name, lag=lag)
    return run(Finish(source.core, destination.core, settings).run(plan))
