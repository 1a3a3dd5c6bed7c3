"""A row of an export as a line of JSON: as an export writes it, and as a check of one makes it again. Pure."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from commandstore.audit.exported import RowProof
from commandstore.codec import Record
from commandstore.ledger.entry import Entry

__all__ = ["PROOF_FIELDS", "entry_line", "row_line"]

PROOF_FIELDS = ("ledger_entry", "ledger_op", "ledger_index", "ledger_path", "ledger_digest")
"""In the order of :class:`RowProof`."""


def row_line(record: Record, proof: RowProof | None, *, proofs: bool) -> bytes:
    """The line of a plain record, with the newline.

    Args:
        record: the record.
        proof: of it; None: there is none.
        proofs: of an export with proofs.
    """
    line: dict[str, Any] = {
        "command_uuid": record.command_uuid,
        "created_at": record.created_at,
        "instance_id": record.instance_id,
        "tenant_uuid": record.tenant_uuid,
        "workspace_uuid": record.workspace_uuid,
        "domain": record.domain,
        "data_type": record.data_type,
        "session_uuid": record.session_uuid,
        "data_bytes": base64.b64encode(record.data).decode("ascii"),
        "req_ctx": record.req_ctx,
        "digest": record.digest.hex(),
    }
    if proofs:
        line |= dict.fromkeys(PROOF_FIELDS)
    if proof is not None:
        plain = (*proof[:3], [node.hex() for node in proof.path], proof.digest.hex())
        line |= zip(PROOF_FIELDS, plain, strict=True)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def entry_line(entry: Entry) -> bytes:
    """The line of an entry beside an export, with the newline."""
    return orjson.dumps(entry.to_json(), option=orjson.OPT_APPEND_NEWLINE)
