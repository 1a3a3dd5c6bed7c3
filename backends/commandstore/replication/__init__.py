"""Moving commands from store to store: plan, checkpoint, engine; ``api`` is what callers use."""

from commandstore.replication.api import (
    copy_range,
    finish_backfill,
    plan_backfill,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.replication.backfill import BackfillPlan, Range
from commandstore.replication.findings import Finding, FindingKind, VerifyProgress, VerifyReport
from commandstore.replication.report import SyncFailure, SyncProgress, SyncReport
from commandstore.replication.verify import verify_async_command_stores, verify_command_stores
from commandstore.replication.walk import DEFAULT_LAG

__all__ = [
    "DEFAULT_LAG",
    "BackfillPlan",
    "Finding",
    "FindingKind",
    "Range",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "VerifyProgress",
    "VerifyReport",
    "copy_range",
    "finish_backfill",
    "plan_backfill",
    "sync_async_command_store",
    "sync_command_store",
    "verify_async_command_stores",
    "verify_command_stores",
]
