"""The sync as callers see it, blocking and for asyncio."""

from __future__ import annotations

from collections.abc import Callable

from commandstore.drive import run
from commandstore.errors import ConfigurationError
from commandstore.replication.engine import DEFAULT_LAG, Settings, Sync
from commandstore.replication.report import SyncProgress, SyncReport
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["sync_async_command_store", "sync_command_store"]


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
