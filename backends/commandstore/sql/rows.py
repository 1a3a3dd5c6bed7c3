"""From rows of comby's table to records, keys and anchors. Pure.

Every value of a row is read as it is stored and decoded here, one row at a time, so that a row that can't be read is
one bad row and never a failed page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Anchor, Key, Row
from commandstore.errors import CorruptRecord
from commandstore.sql.layout import COLUMNS, TEXTS

__all__ = ["PAYLOAD", "anchor_of", "feed_key", "gaps", "record_of", "row_of", "tagged"]

PAYLOAD = slice(COLUMNS.index("data_bytes"), len(COLUMNS))
"""Where a row has what makes it large."""

# Where a row has what stands behind its columns; see `Table.selected`.
_KIND, _BLOB, _NAME, _TIME = range(len(COLUMNS), len(COLUMNS) + 4)
_DIGEST_HEX = 16
_MAX_ANCHORS = 64
_ANCHOR_UUID = 150


def _key_time(raw: Sequence[Any]) -> int | str | None:
    """A row's time as part of its key: what isn't an integer is tagged with its type."""
    value = raw[1]
    if value is None or isinstance(value, int):
        return value
    return tagged(raw[_TIME] if len(raw) > _TIME else value, raw[_KIND].decode())


def tagged(time: float | bytes, kind: str) -> str:
    """A time that isn't an integer, as part of a key."""
    return f"real:{time!r}" if isinstance(time, float) else f"{kind}:{bytes(time).hex()}"


def _raw(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    # A number is there only where the column has another type than comby gives it.
    return b"" if value is None else bytes(value) if isinstance(value, memoryview) else str(value).encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value, "utf-8")


def record_of(raw: Sequence[Any]) -> Record | CorruptRecord:
    """The record of a row in the order of :data:`COLUMNS`, or what is wrong with it."""
    row_id, created_at, uuid, instance_id, tenant, workspace, domain, data_type, data, req_ctx = raw[: len(COLUMNS)]
    created_at = 0 if created_at is None else created_at
    instance_id = 0 if instance_id is None else instance_id
    name = None
    try:
        name = _text(uuid)
        wrong = _wrong(raw, name, created_at, instance_id)
        if wrong is None:
            return codec.plain_record(
                name,
                created_at,
                instance_id,
                _text(tenant),
                _text(workspace),
                _text(domain),
                _text(data_type),
                _raw(data),
                _text(req_ctx),
            )
    except TypeError:
        numbers = [column for column in TEXTS if isinstance(raw[COLUMNS.index(column)], int | float)]
        wrong = f": {' and '.join(numbers) or 'a text column'} is a number, not text"
    except UnicodeError:
        wrong = f": {'the uuid' if name is None else 'a text column'} is not UTF-8"
    return CorruptRecord(f"row {row_id}{wrong}", command_uuid=name or None, location=f"row {row_id}")


def _wrong(raw: Sequence[Any], name: str, created_at: object, instance_id: object) -> str | None:
    """What is wrong with a row besides the encoding of its texts."""
    if not name:
        return " has no uuid"
    if len(raw) > _BLOB and raw[_BLOB] is not None:
        column = str(raw[_BLOB], "ascii")
        remedy = f"UPDATE commands SET {column} = CAST({column} AS TEXT) WHERE id = {raw[0]}"  # noqa: S608 - for people
        return f": {column} is stored as a BLOB, and queries for text miss it (if its content is right: {remedy})"
    for column, value in (("created_at", created_at), ("instance_id", instance_id)):
        if not isinstance(value, int) or not INT64_MIN <= value <= INT64_MAX:
            return f": {column} is not an integer"
    return None


def row_of(raw: Sequence[Any], key: Key | None = None) -> Row:
    """A row with its key: the one that is given, else (created_at, uuid, id) as pages have it."""
    if key is None:
        name = raw[_NAME] if len(raw) > _NAME else _raw(raw[2])
        key = (_key_time(raw), name.hex(), raw[0])
    found = record_of(raw)
    return Row(key, found, None) if isinstance(found, Record) else Row(key, None, found)


def feed_key(raw: Sequence[Any]) -> Key:
    """A row's key in a feed: (created_at, id). What isn't an integer counts as no time."""
    return (raw[1] if isinstance(raw[1], int) else None, raw[0])


def anchor_of(raw: Sequence[Any]) -> Anchor:
    """What is remembered of a row to know it again. An unreadable one is known by its bytes."""
    found = record_of(raw)
    if isinstance(found, CorruptRecord):
        digest = codec.digest_of(
            [b"%d:" % len(_raw_or_repr(value)) + _raw_or_repr(value) for value in raw[: len(COLUMNS)]]
        )
        return Anchor(raw[0], None, digest.hex()[:_DIGEST_HEX])
    return Anchor(raw[0], _short(found.command_uuid), found.digest.hex()[:_DIGEST_HEX])


def _short(command_uuid: str) -> str | None:
    """The uuid for people; a long one is left out: the digest covers it, and anchors live in a small register."""
    return command_uuid if len(orjson.dumps(command_uuid)) <= _ANCHOR_UUID else None


def _raw_or_repr(value: object) -> bytes:
    return _raw(value) if value is None or isinstance(value, str | bytes | memoryview) else repr(value).encode()


def gaps(horizon: int) -> list[int]:
    """The ids near which anchors are taken: horizon, horizon - 1, - 3, - 7, ... down to 1."""
    wanted = [horizon - (2**step - 1) for step in range(_MAX_ANCHORS)]
    return [row_id for row_id in wanted if row_id > 0]
