"""comby's CommandStore on serverless cloud stores, and the sync that takes a SQL audit trail there.

Importing this loads no SDK: backends are imported when a URL asks for them.
"""

from commandstore.command import (
    BatchResult,
    Command,
    CommandQuery,
    Failure,
    Page,
    Position,
    RequestContext,
    StoreInfo,
)
from commandstore.contract import Backend, Capability
from commandstore.crypto import Crypto, CryptoService
from commandstore.errors import (
    AccessDenied,
    CommandExists,
    CommandStoreError,
    ConfigurationError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    InvalidQuery,
    LeaseHeld,
    MissingDependency,
    ReadOnlyStore,
    StoreClosed,
    StoreNotFound,
    StoreUnavailable,
    SuspendedError,
    SyncError,
    Throttled,
    Unsupported,
)
from commandstore.registry import open_async_store, open_store
from commandstore.replication import (
    SyncFailure,
    SyncProgress,
    SyncReport,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = [
    "AccessDenied",
    "AsyncCommandStore",
    "Backend",
    "BatchResult",
    "Capability",
    "Command",
    "CommandExists",
    "CommandQuery",
    "CommandStore",
    "CommandStoreError",
    "ConfigurationError",
    "CorruptRecord",
    "Crypto",
    "CryptoService",
    "DecryptionError",
    "Failure",
    "InvalidCommand",
    "InvalidQuery",
    "LeaseHeld",
    "MissingDependency",
    "Page",
    "Position",
    "ReadOnlyStore",
    "RequestContext",
    "StoreClosed",
    "StoreInfo",
    "StoreNotFound",
    "StoreUnavailable",
    "SuspendedError",
    "SyncError",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "Throttled",
    "Unsupported",
    "open_async_store",
    "open_store",
    "sync_async_command_store",
    "sync_command_store",
]

__version__ = "0.1.0"
