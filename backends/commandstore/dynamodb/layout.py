r"""What lies where in the table, and every limit of the engine. Pure.

One table, key ``uuid`` (HASH) and ``part`` (RANGE):

| uuid            | part                 | what                                                                     |
|-----------------|----------------------|--------------------------------------------------------------------------|
| a command's     | ``head``             | the command: its fields, digest, write id; a small payload is here too   |
| a command's     | ``<write id>.<nnnn>``| a piece of a long payload, written before the head that names it         |
| a name          | ``register``         | a small value that is swapped (checkpoints, leases)                      |
| ``commandstore``| ``settings``         | the shard counts and the format version; written once                    |

Only heads have the attributes that the two indexes are made over, so the indexes hold heads alone. ``by_time``
(``time_shard``, ``position``) has every command, ``by_tenant`` (``tenant_shard``, ``position``) those with a tenant.
Commands arrive in order of time, so an index partition for a tenant, or one for all, would take every write at one
end; DynamoDB gives a partition 1,000 writes a second. A hash of the uuid spreads them over shards, which lists merge.

``position`` sorts as the total order does: 16 hex digits of ``created_at + 2**63``, then the uuid. DynamoDB compares
strings by their bytes in UTF-8.

Items are in DynamoDB's own JSON (``{"S": ...}``) everywhere here, binary values in base64: ``wire.py`` sends them as
they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from commandstore.codec import FORMAT_VERSION, MAX_PAYLOAD_BYTES, Record
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Register
from commandstore.errors import ConfigurationError, CorruptRecord

__all__ = [
    "BATCH_GET",
    "BATCH_WRITE",
    "HEAD",
    "INDEX_ATTRIBUTES",
    "ITEM_LIMIT",
    "Head",
    "Item",
    "Shards",
    "head_item",
    "head_of",
    "item_size",
    "part_items",
    "part_keys",
    "position",
    "position_key",
    "record_of",
    "register_of",
]

Value = dict[str, str]
Item = dict[str, Value]
"""An item that was made here."""
Raw = Mapping[str, Any]
"""An item that was read: it may hold anything."""

HEAD = "head"
REGISTER = "register"
SETTINGS_KEY: Item = {"uuid": {"S": "commandstore"}, "part": {"S": "settings"}}

ITEM_LIMIT = 400 * 1024
"""What DynamoDB takes for one item, names included."""
INLINE_LIMIT = 380 * 1024
"""A head that would weigh more has its payload in parts. Below the engine's limit, as numbers are weighed roughly."""
PART_BYTES = 380 * 1024
"""How much of a payload one part holds; its names and key come on top."""
MOST_PARTS = -(-2 * MAX_PAYLOAD_BYTES // PART_BYTES)
"""Payload and context of the largest command. A head that names more was altered: nobody asks for a billion keys."""
BATCH_GET = 100
"""Keys of one BatchGetItem."""
BATCH_WRITE = 25
"""Items of one BatchWriteItem, statements of one BatchExecuteStatement."""
STATEMENT_LIMIT = 8192
"""Characters of one PartiQL statement, without its parameters."""
STATEMENTS_BYTES = 4 * 1024 * 1024 - 4096
"""How long the body of one BatchExecuteStatement gets."""
PUTS_BYTES = 8 * 1024 * 1024
"""How long the body of one BatchWriteItem gets: the engine takes 16 MB, but each body is in memory for each thread."""
GET_BYTES = 12 * 1024 * 1024
"""How much is asked for in one BatchGetItem where sizes are known: the engine answers with at most 16 MB."""

BIAS = 1 << 63
_DIGITS = 16
LOWEST, HIGHEST = "0" * _DIGITS, "g"
"""Bounds around every position: hex digits end at ``f``."""

FILTERS = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")
INDEX_ATTRIBUTES = {
    "by_time": (*FILTERS, "payload_bytes"),
    "by_tenant": (*FILTERS[1:], "payload_bytes"),
}
"""What each index projects beside the keys: the filters, and the size, so that a page is cut before it is read."""
INDEX_KEYS = {"by_time": ("time_shard", "position"), "by_tenant": ("tenant_shard", "position")}

_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}\Z")


def check_table_name(name: str) -> str:
    """The name, when a table can have it.

    Raises:
        ConfigurationError: it can't.
    """
    if not _TABLE_NAME.match(name):
        shown = "this" if {":", "@"} & set(name) else ascii(name)  # it may be a key with its secret
        raise ConfigurationError(
            f"{shown} can't be the name of a DynamoDB table: 3 to 255 letters, digits, '_', '-' and '.' are"
        )
    return name


MOST_SHARDS = 256
"""Each list asks all of them."""


class Shards(NamedTuple):
    """Into how many shards each index is spread: kept in the table, never changed once there are commands."""

    tenant: int = 4
    time: int = 16

    def tenant_shards(self, tenant_uuid: str) -> list[str]:
        """The partition keys that hold one tenant's commands. The count of '#' is no matter: the last one divides."""
        return [f"{tenant_uuid}#{shard}" for shard in range(self.tenant)]

    def time_shards(self) -> list[str]:
        """The partition keys that hold all commands."""
        return [str(shard) for shard in range(self.time)]


# Positions


def position(created_at: int, command_uuid: str) -> str:
    """A string that sorts, by its bytes in UTF-8, as the total order does. At most 528 bytes; sort keys hold 1,024."""
    return f"{created_at + BIAS:016x}{command_uuid}"


def position_key(text: str) -> tuple[int, str] | tuple[str]:
    """Of a position, the key of its row: ``(created_at, uuid)``; the text alone if it isn't one of ours."""
    digits = text[:_DIGITS]
    if len(text) > _DIGITS and all(c in "0123456789abcdef" for c in digits):
        return int(digits, 16) - BIAS, text[_DIGITS:]
    return (text,)


def key_position(key: Sequence[Any]) -> str:
    """The position of a row's key."""
    return str(key[0]) if len(key) == 1 else position(key[0], key[1])


# Sizes


def item_size(item: Mapping[str, Value]) -> int:
    """What an item weighs for DynamoDB: names and values; strings in UTF-8, binaries raw, two digits a byte."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Value) -> int:
    [(kind, text)] = value.items()
    if kind == "S":
        return len(text.encode())
    if kind == "B":
        return len(text) // 4 * 3 - text[-2:].count("=")
    digits = len(text.lstrip("-").strip("0"))
    # One byte for two digits and one for the exponent. The sign takes one more, and an odd start another half.
    return (digits + 1) // 2 + 1 + text.startswith("-")


# Heads and parts


def to_base64(data: bytes) -> str:
    """A binary value as DynamoDB's JSON has it."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str) -> bytes:
    """Its bytes.

    Raises:
        ValueError: it isn't base64.
    """
    return base64.b64decode(text, validate=True)


def head_key(command_uuid: str) -> Item:
    """The key of a command's head."""
    return {"uuid": {"S": command_uuid}, "part": {"S": HEAD}}


def part_name(write_id: str, number: int) -> str:
    """The name of a part. No write id makes it a head, a register or the settings: those names have no dot."""
    return f"{write_id}.{number:04d}"


def head_item(record: Record, write_id: str, shards: Shards, *, inline: bool = True) -> Item:
    """The item of a command. Its key order is fixed: it is also the order of a statement's parameters.

    Args:
        record: the command.
        write_id: of the insert or replace that this item is written by.
        shards: of the table.
        inline: False where the payload lies in parts.
    """
    uuid, created_at, instance, tenant, workspace, domain, kind, session, data, req_ctx, digest, cipher, form = record
    shard = crc32(uuid.encode())
    item: Item = {
        "uuid": {"S": uuid},
        "part": {"S": HEAD},
        "created_at": {"N": str(created_at)},
        "instance_id": {"N": str(instance)},
        "tenant_uuid": {"S": tenant},
        "workspace_uuid": {"S": workspace},
        "domain": {"S": domain},
        "data_type": {"S": kind},
        "session_uuid": {"S": session},
        "digest": {"B": binascii.b2a_base64(digest, newline=False).decode("ascii")},
        "write_id": {"S": write_id},
        "format": {"N": str(form)},
        "position": {"S": f"{created_at + BIAS:016x}{uuid}"},
        "time_shard": {"S": str(shard % shards.time)},
    }
    if inline:
        item["data"] = {"B": binascii.b2a_base64(data, newline=False).decode("ascii")}
        item["req_ctx"] = {"S": req_ctx}
        size = len(data) + (len(req_ctx) if req_ctx.isascii() else len(req_ctx.encode()))
    else:
        size = len(data) + len(req_ctx.encode())
        item["data_length"] = {"N": str(len(data))}
        item["parts"] = {"N": str(_part_count(size))}
    item["payload_bytes"] = {"N": str(size)}
    if tenant:  # an index key can't be the empty string; what has no tenant is found by time alone
        item["tenant_shard"] = {"S": f"{tenant}#{shard % shards.tenant}"}
    if cipher:
        item["cipher"] = {"S": cipher}
    return item


def is_long(record: Record) -> bool:
    """Whether the payload is too long to lie in the head."""
    rough = len(record.data) + len(record.req_ctx)
    # Names and keys take less than 20 KB, and a character at most four bytes; nearly all commands end here.
    if rough * 4 < INLINE_LIMIT - 20 * 1024:
        return False
    item = head_item(record._replace(data=b"", req_ctx=""), "0" * 64, Shards())
    return item_size(item) + len(record.data) + len(record.req_ctx.encode()) > INLINE_LIMIT


def _part_count(payload_bytes: int) -> int:
    return -(-payload_bytes // PART_BYTES)


def part_count(record: Record) -> int:
    """How many parts a long record has."""
    return _part_count(len(record.data) + len(record.req_ctx.encode()))


def part_items(record: Record, write_id: str, now: int) -> Iterator[Item]:
    """The parts of a long payload: the data, then the context in UTF-8, cut every ``PART_BYTES``.

    Args:
        record: the command.
        write_id: names the parts.
        now: seconds since 1970; ``gc`` leaves young parts alone.
    """
    blob = record.data + record.req_ctx.encode()
    for number in range(_part_count(len(blob))):
        yield {
            "uuid": {"S": record.command_uuid},
            "part": {"S": part_name(write_id, number)},
            "payload": {"B": to_base64(blob[number * PART_BYTES : (number + 1) * PART_BYTES])},
            "written_at": {"N": str(now)},
        }


def part_keys(command_uuid: str, write_id: str, count: int) -> list[Item]:
    """The keys of a command's parts, in order."""
    return [{"uuid": {"S": command_uuid}, "part": {"S": part_name(write_id, number)}} for number in range(count)]


class Head(NamedTuple):
    """Of a head that was read, what matters before its payload does."""

    write_id: str
    digest: bytes
    parts: int


def head_of(item: Raw) -> Head:
    """Read what a probe or a replace needs; what is broken is empty, as such an item can still be replaced."""
    try:
        digest = from_base64(item["digest"]["B"])
    except (KeyError, TypeError, ValueError):
        digest = b""
    try:
        parts = int(item["parts"]["N"])
    except (KeyError, TypeError, ValueError):
        parts = 0
    if not 0 <= parts <= MOST_PARTS:
        parts = 0
    write_id = item.get("write_id", {}).get("S", "")
    return Head(write_id if isinstance(write_id, str) else "", digest, parts)


def record_of(item: Raw, blob: bytes | None = None, *, payload: bool = True) -> Record:
    """The record of a head.

    Args:
        item: the head as it was read.
        blob: the parts, joined, where the payload lies in parts.
        payload: False leaves data and req_ctx empty, and needs neither.

    Raises:
        CorruptRecord: something is missing or can't be read.
    """
    try:
        form = int(item["format"]["N"])
        if form > FORMAT_VERSION:
            raise ValueError(f"format {form} is newer than this version of commandstore")  # noqa: TRY301 - named below
        if not payload:
            data, req_ctx = b"", ""
        elif blob is None:
            data, req_ctx = from_base64(item["data"]["B"]), item["req_ctx"]["S"]
        else:
            if len(blob) != int(item["payload_bytes"]["N"]):
                raise ValueError("its parts have another length than it says")  # noqa: TRY301 - named below
            length = int(item["data_length"]["N"])
            data, req_ctx = blob[:length], blob[length:].decode()
        created_at, instance_id = int(item["created_at"]["N"]), int(item["instance_id"]["N"])
        if not INT64_MIN <= created_at <= INT64_MAX or not INT64_MIN <= instance_id <= INT64_MAX:
            raise ValueError("a number of more than 64 bits")  # noqa: TRY301 - named below
        return Record(
            item["uuid"]["S"],
            created_at,
            instance_id,
            item["tenant_uuid"]["S"],
            item["workspace_uuid"]["S"],
            item["domain"]["S"],
            item["data_type"]["S"],
            item["session_uuid"]["S"],
            data,
            req_ctx,
            from_base64(item["digest"]["B"]),
            item["cipher"]["S"] if "cipher" in item else "",
            form,
        )
    except KeyError as error:
        raise corrupt(item["uuid"]["S"], f"has no {error}") from error
    except UnicodeDecodeError as error:
        raise corrupt(item["uuid"]["S"], "its context is not UTF-8") from error
    except (TypeError, ValueError) as error:
        raise corrupt(item["uuid"]["S"], str(error)) from error


def register_of(item: Raw) -> Register:
    """The register of an item.

    Raises:
        CorruptRecord: it is none, or was altered.
    """
    try:
        return Register(from_base64(item["value"]["B"]), item["token"]["S"])
    except (KeyError, TypeError, ValueError) as error:
        place = f"item ({item['uuid']['S']!a}, {REGISTER!r})"
        raise CorruptRecord(f"{place} is no register, or was altered", location=place) from error


def corrupt(command_uuid: str, reason: str) -> CorruptRecord:
    """The error of an item that can't be read."""
    return CorruptRecord(
        f"command {command_uuid!a}: its item can't be read as a command: {reason}",
        command_uuid=command_uuid,
        location=f"item ({command_uuid!a}, {HEAD!r})",
    )
