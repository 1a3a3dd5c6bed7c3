"""Moving commands from store to store: plan, checkpoint, engine."""

from commandstore.replication.engine import DEFAULT_LAG, sync_async_command_store, sync_command_store
from commandstore.replication.report import SyncFailure, SyncProgress, SyncReport

__all__ = [
    "DEFAULT_LAG",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "sync_async_command_store",
    "sync_command_store",
]
