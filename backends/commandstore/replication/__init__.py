"""Moving commands from store to store: plan, checkpoint, engine; ``api`` is what callers use."""

from commandstore.replication.api import (
    copy_range,
    finish_backfill,
    plan_backfill,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.replication.backfill import BackfillPlan, Range
from commandstore.replication.report import SyncFailure, SyncProgress, SyncReport
from commandstore.replication.walk import DEFAULT_LAG

__all__ = [
    "DEFAULT_LAG",
    "BackfillPlan",
    "Range",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "copy_range",
    "finish_backfill",
    "plan_backfill",
    "sync_async_command_store",
    "sync_command_store",
]
