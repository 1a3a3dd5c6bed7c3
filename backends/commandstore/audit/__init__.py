"""The audit over the ledger: whether anything was added, dropped or altered, and what; proofs for single commands."""

from commandstore.audit.adoption import AdoptReport, adopt, adopt_async
from commandstore.audit.checkpoint import AuditCheckpoint, read_checkpoint, write_checkpoint
from commandstore.audit.proving import check_proof, prove, prove_async
from commandstore.audit.replay import verify_async_ledger, verify_ledger
from commandstore.audit.report import AuditFinding, AuditKind, AuditProgress, AuditReport, Change
from commandstore.audit.rows import ExportCheck, RowFinding, check_export

__all__ = [
    "AdoptReport",
    "AuditCheckpoint",
    "AuditFinding",
    "AuditKind",
    "AuditProgress",
    "AuditReport",
    "Change",
    "ExportCheck",
    "RowFinding",
    "adopt",
    "adopt_async",
    "check_export",
    "check_proof",
    "prove",
    "prove_async",
    "read_checkpoint",
    "verify_async_ledger",
    "verify_ledger",
    "write_checkpoint",
]
