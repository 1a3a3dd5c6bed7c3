"""From records to rows of comby's table: the values of its columns, and what they can't hold. Pure."""

from __future__ import annotations

from typing import Any

from commandstore.codec import Record
from commandstore.errors import InvalidCommand
from commandstore.sql.layout import Table

__all__ = ["insert_values", "refusal"]

_INT32 = 2**31


def refusal(record: Record, table: Table) -> InvalidCommand | None:
    """What the columns of this table can't hold of a record; None when they can."""
    why = None
    if record.workspace_uuid and not table.has_workspace:
        why = "this database has no workspace_uuid column (comby's v1.2 has)"
    elif table.dialect == "postgresql":
        why = _postgres_lacks(record, table)
    uuid = record.command_uuid
    return InvalidCommand(f"command {uuid!a}: {why}", command_uuid=uuid) if why else None


def _postgres_lacks(record: Record, table: Table) -> str | None:
    if not -_INT32 <= record.instance_id < _INT32:
        return "instance_id has more than the 32 bits of Postgres' column"
    texts = [record.command_uuid, record.tenant_uuid, record.workspace_uuid]
    texts += [record.domain, record.data_type, record.req_ctx]
    try:
        texts.append(record.data.decode())
    except UnicodeDecodeError:
        return "data_bytes is not UTF-8, which comby's column in Postgres is"
    if all(table.holds(text) for text in texts):
        return None
    if any("\0" in text for text in texts):
        return "Postgres can't hold a NUL byte in text"
    return f"the database's encoding ({table.encoding}) lacks a character of it"


def insert_values(record: Record, table: Table) -> dict[str, Any]:
    """The columns of a record, by name."""
    data: bytes | str = record.data if table.dialect == "sqlite" else record.data.decode()
    return {
        "created_at": record.created_at,
        "uuid": record.command_uuid,
        "instance_id": record.instance_id,
        "tenant_uuid": record.tenant_uuid,
        "workspace_uuid": record.workspace_uuid,
        "domain": record.domain,
        "data_type": record.data_type,
        "data_bytes": data,
        "req_ctx": record.req_ctx,
    }
