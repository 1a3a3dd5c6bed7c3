"""comby's CommandStore on serverless cloud stores, and the sync that takes a SQL audit trail there.

Importing this loads no SDK: backends are imported when a URL asks for them, and each name when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from commandstore.audit import (
        AuditCheckpoint,
        AuditReport,
        verify_async_ledger,
        verify_ledger,
    )
    from commandstore.command import (
        BatchResult,
        Command,
        CommandQuery,
        Failure,
        Page,
        Position,
        RequestContext,
        SealedCommand,
        StoreInfo,
    )
    from commandstore.contract import Backend, Capability
    from commandstore.crypto import (
        Context,
        Crypto,
        CryptoService,
        EnvelopeCrypto,
        Sealed,
    )
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
        LedgerError,
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
    from commandstore.export import ExportReport, export_commands
    from commandstore.ledger import (
        Ed25519Signer,
        Signer,
        Verifier,
    )
    from commandstore.registry import open_async_store, open_store
    from commandstore.replication import (
        Finding,
        SyncFailure,
        SyncProgress,
        SyncReport,
        VerifyReport,
        copy_range,
        finish_backfill,
        plan_backfill,
        sync_async_command_store,
        sync_command_store,
        verify_async_command_stores,
        verify_command_stores,
    )
    from commandstore.store import AsyncCommandStore, CommandStore
    from commandstore.vault import TenantKeys

__all__ = [
    "AccessDenied",
    "AsyncCommandStore",
    "AuditCheckpoint",
    "AuditReport",
    "Backend",
    "BatchResult",
    "Capability",
    "Command",
    "CommandExists",
    "CommandQuery",
    "CommandStore",
    "CommandStoreError",
    "ConfigurationError",
    "Context",
    "CorruptRecord",
    "Crypto",
    "CryptoService",
    "DecryptionError",
    "Ed25519Signer",
    "EnvelopeCrypto",
    "ExportReport",
    "Failure",
    "Finding",
    "InvalidCommand",
    "InvalidQuery",
    "LeaseHeld",
    "LedgerError",
    "MissingDependency",
    "Page",
    "Position",
    "ReadOnlyStore",
    "RequestContext",
    "Sealed",
    "SealedCommand",
    "Signer",
    "StoreClosed",
    "StoreInfo",
    "StoreNotFound",
    "StoreUnavailable",
    "SuspendedError",
    "SyncError",
    "SyncFailure",
    "SyncProgress",
    "SyncReport",
    "TenantKeys",
    "Throttled",
    "Unsupported",
    "Verifier",
    "VerifyReport",
    "copy_range",
    "export_commands",
    "finish_backfill",
    "open_async_store",
    "open_store",
    "plan_backfill",
    "sync_async_command_store",
    "sync_command_store",
    "verify_async_command_stores",
    "verify_async_ledger",
    "verify_command_stores",
    "verify_ledger",
]

__version__ = "0.1.0"

# Where each name is: a name is imported when it is first asked for, so that `commandstore --help` and a Lambda that
# needs one store don't wait for the models of all of it.
_MODULES = {
    "AccessDenied": "errors",
    "AsyncCommandStore": "store",
    "AuditCheckpoint": "audit",
    "AuditReport": "audit",
    "Backend": "contract",
    "BatchResult": "command",
    "Capability": "contract",
    "Command": "command",
    "CommandExists": "errors",
    "CommandQuery": "command",
    "CommandStore": "store",
    "CommandStoreError": "errors",
    "ConfigurationError": "errors",
    "Context": "crypto",
    "CorruptRecord": "errors",
    "Crypto": "crypto",
    "CryptoService": "crypto",
    "DecryptionError": "errors",
    "Ed25519Signer": "ledger",
    "EnvelopeCrypto": "crypto",
    "ExportReport": "export",
    "Failure": "command",
    "Finding": "replication",
    "InvalidCommand": "errors",
    "InvalidQuery": "errors",
    "LeaseHeld": "errors",
    "LedgerError": "errors",
    "MissingDependency": "errors",
    "Page": "command",
    "Position": "command",
    "ReadOnlyStore": "errors",
    "RequestContext": "command",
    "Sealed": "crypto",
    "SealedCommand": "command",
    "Signer": "ledger",
    "StoreClosed": "errors",
    "StoreInfo": "command",
    "StoreNotFound": "errors",
    "StoreUnavailable": "errors",
    "SuspendedError": "errors",
    "SyncError": "errors",
    "SyncFailure": "replication",
    "SyncProgress": "replication",
    "SyncReport": "replication",
    "TenantKeys": "vault",
    "Throttled": "errors",
    "Unsupported": "errors",
    "Verifier": "ledger",
    "VerifyReport": "replication",
    "copy_range": "replication",
    "export_commands": "export",
    "finish_backfill": "replication",
    "open_async_store": "registry",
    "open_store": "registry",
    "plan_backfill": "replication",
    "sync_async_command_store": "replication",
    "sync_command_store": "replication",
    "verify_async_command_stores": "replication",
    "verify_async_ledger": "audit",
    "verify_command_stores": "replication",
    "verify_ledger": "audit",
}


if not TYPE_CHECKING:  # to type checkers, a module that has __getattr__ has every name

    def __getattr__(name: str) -> Any:
        try:
            module = _MODULES[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        value = getattr(import_module(f"commandstore.{module}"), name)
        globals()[name] = value
        return value
