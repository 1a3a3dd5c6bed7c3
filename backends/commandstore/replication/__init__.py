"""Moving commands from store to store: plan, checkpoint, engine; ``api`` is what callers use."""

from commandstore.replication.api import sync_async_command_store, sync_command_store
from commandstore.replication.engine import DEFAULT_LAG
from commandstore.replication.report import SyncFailure, SyncProgress, SyncReport

__all__ = [
    "DEFAULT_LAG",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "sync_async_command_store",
    "sync_command_store",
]
