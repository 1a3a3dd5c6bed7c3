"""How commands lie in one collection. Pure.

A document is a command's *head*: all fields, and the payload where that fits. A longer payload lies in documents of the
collection ``parts`` below it, written before the head that names them, so that half a command is never seen.

A number ``shard`` spreads the commands: every index that has ``created_at`` begins with it, as Firestore takes no more
than 500 writes a second of an index that only grows at its end. A query asks for all shards at once (``shard in
[0, 1...]``), so the engine does the merging, and reads nothing that isn't returned.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from commandstore.codec import FORMAT_VERSION, Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.contract import Key
from commandstore.errors import ConfigurationError, CorruptRecord
from commandstore.firestore.faults import Place
from commandstore.firestore.requests import Cursor, Filter, Order
from commandstore.firestore.values import Document, Plain

__all__ = [
    "FIELDS",
    "FILTERS",
    "LONG",
    "MOST_SHARDS",
    "ORDER",
    "PARTS",
    "WITHOUT_PAYLOAD",
    "Layout",
    "Wanted",
    "head_values",
    "is_long",
    "part_names",
    "part_values",
    "parts_of",
    "read_head",
    "wanted",
]

PARTS = "parts"
FORMAT = 1
MOST_SHARDS = 30
"""As many values as `in` takes."""
FILTERS = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")
ORDER = ("created_at", "command_uuid")
WITHOUT_PAYLOAD = (*ORDER, "instance_id", *FILTERS, "digest", "cipher", "format", "write_id")
LONG = ("parts_id", "part_count", "data_bytes", "payload_bytes")
FIELDS = (*WITHOUT_PAYLOAD, "data", "req_ctx", *LONG)
# A document has 1,048,576 bytes at most, names and all other fields included, which have 8 KiB at most here.
_INLINE = 1_000_000
_PART = 1_000_000
_MOST_PARTS = 64


class Layout(NamedTuple):
    """Names in one collection.

    Attributes:
        place: of the collection.
        shards: over how many numbers commands are spread.
    """

    place: Place
    shards: int

    @property
    def prefix(self) -> str:
        """What the names of the collection's documents begin with."""
        return f"{self.place.root}/{self.place.collection}/"

    def name(self, command_uuid: str) -> str:
        """Of a head. Ids are encoded: some are reserved, and a slash would end one."""
        return f"{self.prefix}c{_id(command_uuid)}"

    def register(self, name: str) -> str:
        """Of a register."""
        return f"{self.prefix}r{_id(name)}"

    @property
    def settings(self) -> str:
        """Of the one document with settings."""
        return f"{self.prefix}settings"

    def shard(self, command_uuid: str) -> int:
        """Which shard a command belongs to, for good."""
        return zlib.crc32(command_uuid.encode()) % self.shards


class Wanted(NamedTuple):
    """What a query asks for."""

    where: list[Filter]
    order: list[Order]
    start: Cursor | None


def wanted(query: CommandQuery, after: Key | None, shards: int) -> Wanted | None:
    """How to ask for what matches, after a key; None where nothing can."""
    where = [Filter("shard", "in", list(range(shards)))]
    where += [Filter(name, "==", value) for name, value in query.equal_to.items()]
    if query.after is None:
        # Of whatever type an altered document has there, only numbers are listed: their order is the contract's.
        where.append(Filter("created_at", ">=", INT64_MIN))
    elif query.after >= INT64_MAX:
        return None
    else:
        where.append(Filter("created_at", ">", query.after))
    if query.before is not None:
        where.append(Filter("created_at", "<", query.before))
    order = [Order(field, query.ascending) for field in ORDER]
    return Wanted(where, order, None if after is None else Cursor(list(after)))


def is_long(record: Record) -> bool:
    """Whether the payload lies in parts."""
    return len(record.data) + len(record.req_ctx.encode()) > _INLINE


def head_values(record: Record, write_id: str, shard: int, parts_id: str = "") -> dict[str, Plain]:
    """The fields of a head.

    Args:
        record: what it is the head of.
        write_id: of the call that writes it.
        shard: which it belongs to.
        parts_id: what its parts are named by. Another one for each attempt, so that nobody who removes what one attempt
            wrote takes the parts of the next.
    """
    values: dict[str, Plain] = {
        "command_uuid": record.command_uuid,
        "created_at": record.created_at,
        "instance_id": record.instance_id,
        "tenant_uuid": record.tenant_uuid,
        "workspace_uuid": record.workspace_uuid,
        "domain": record.domain,
        "data_type": record.data_type,
        "session_uuid": record.session_uuid,
        "digest": record.digest,
        "cipher": record.cipher,
        "format": record.format,
        "write_id": write_id,
        "shard": shard,
    }
    if is_long(record):
        values["parts_id"] = parts_id
        values["part_count"] = len(part_values(record))
        values["data_bytes"] = len(record.data)
        values["payload_bytes"] = len(record.data) + len(record.req_ctx.encode())
    else:
        values["data"], values["req_ctx"] = record.data, record.req_ctx
    return values


def part_values(record: Record) -> list[dict[str, Plain]]:
    """The fields of each part: the payload and the context behind it, cut."""
    whole = record.data + record.req_ctx.encode()
    return [{"payload": whole[start : start + _PART]} for start in range(0, len(whole), _PART)]


def part_names(head: str, parts_id: str, count: int) -> list[str]:
    """Of the parts that an attempt wrote."""
    return [f"{head}/{PARTS}/{parts_id}.{number:04}" for number in range(count)]


def parts_of(document: Document) -> list[str]:
    """The names of the parts that a head names."""
    count, parts_id = document.fields.get("part_count"), document.fields.get("parts_id")
    if type(count) is not int or not 0 < count <= _MOST_PARTS or not isinstance(parts_id, str) or "/" in parts_id:
        return []
    return part_names(document.name, parts_id, count)


def read_head(document: Document, parts: Sequence[bytes] | None = None) -> Record:
    """The record of a head.

    Args:
        document: with its payload, or without it where it wasn't asked for.
        parts: of a long payload.

    Raises:
        CorruptRecord: it is none; names the document.
    """
    fields = document.fields
    try:
        data, context = _payload(fields, parts)
        texts = [fields[name] for name in ("command_uuid", *FILTERS, "cipher")]
        numbers = [fields[name] for name in ("created_at", "instance_id", "format")]
        if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
            raise TypeError("a field of another type")  # noqa: TRY301 - told below
        if type(data) is not bytes or type(context) is not str or type(fields["digest"]) is not bytes:
            raise TypeError("a payload of another type")  # noqa: TRY301 - told below
        if fields["format"] > FORMAT_VERSION:
            raise ValueError("a newer format")  # noqa: TRY301 - told below
    except (KeyError, TypeError, ValueError) as error:
        uuid = fields.get("command_uuid")
        raise CorruptRecord(
            f"document {document.name} is no command, or was altered; update or delete the command",
            command_uuid=uuid if isinstance(uuid, str) else None,
            location=document.name,
        ) from error
    uuid, tenant, workspace, domain, session, kind, cipher = texts
    created_at, instance_id, form = numbers
    return Record(
        uuid,
        created_at,
        instance_id,
        tenant,
        workspace,
        domain,
        kind,
        session,
        data,
        context,
        fields["digest"],
        cipher,
        form,
    )


def _payload(fields: dict[str, Any], parts: Sequence[bytes] | None) -> tuple[Any, Any]:
    if parts is None:
        return fields["data"], fields["req_ctx"]
    whole = b"".join(parts)
    if len(whole) != fields["payload_bytes"]:
        raise ValueError("a payload of another length")
    return whole[: fields["data_bytes"]], whole[fields["data_bytes"] :].decode()


def settings_values(shards: int) -> dict[str, Plain]:
    """The fields of the settings."""
    return {"format": FORMAT, "shards": shards}


def read_settings(document: Document, where: str) -> int:
    """How many shards there are.

    Raises:
        ConfigurationError: it says something else, or a newer format.
    """
    form, shards = document.fields.get("format"), document.fields.get("shards")
    if not isinstance(form, int) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        raise ConfigurationError(f"{where} is no command store: its document 'settings' says something else")
    if form > FORMAT:
        raise ConfigurationError(
            f"{where} has format {form}, and this release reads up to {FORMAT}: a newer commandstore wrote it; update"
        )
    return shards


def _id(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")
