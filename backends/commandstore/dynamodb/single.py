"""One command at a time: insert, replace, remove, each by one conditional write of the head.

The condition makes a lost answer harmless: a second attempt finds either what it expected, or what the first one did.
"""

from __future__ import annotations

from typing import Any

from commandstore.codec import Record
from commandstore.contract import CREATED, Created, Exists, Outcome, Rejected
from commandstore.dynamodb import layout
from commandstore.dynamodb.faults import is_refused
from commandstore.dynamodb.layout import Head, Shards
from commandstore.dynamodb.parts import Parts
from commandstore.dynamodb.requests import ABSENT, unchanged
from commandstore.dynamodb.wire import ConditionFailed, Wire
from commandstore.errors import ConfigurationError, InvalidCommand, StoreUnavailable

__all__ = ["Single", "standing"]

_NAMES = ("uuid", "digest", "write_id", "parts")
_RACES = 5


class Single:
    """Inserts, replacements and removals of single commands."""

    def __init__(self, wire: Wire, shards: Shards, parts: Parts) -> None:
        self._wire = wire
        self._shards = shards
        self._parts = parts

    async def insert(self, record: Record, write_id: str) -> Outcome:
        """As ``Backend.insert``, of one record."""
        item, long = await self._prepare(record, write_id)
        for _ in range(_RACES):
            try:
                outcome = await self._put_new(item, record, write_id)
            except ConfigurationError as error:
                if not is_refused(error):
                    raise
                outcome = Rejected(_invalid(record, error))
            if outcome is None:
                continue
            if long and not isinstance(outcome, Created):
                await self._parts.remove_own(record, write_id)
            return outcome
        raise _restless(record.command_uuid)

    async def _put_new(self, item: layout.Item, record: Record, write_id: str) -> Outcome | None:
        try:
            await self._wire.call("PutItem", {"TableName": self._wire.table, "Item": item, **ABSENT})
        except ConditionFailed as failed:
            found = failed.item or await self._head(record.command_uuid)
            # None: it was in the way, and is gone again.
            return None if found is None else standing(layout.head_of(found), write_id)
        return CREATED

    async def replace(self, record: Record, write_id: str) -> bool:
        """See ``Backend.replace``. Of two at once, one comes last and stands; both say True."""
        found = await self._head(record.command_uuid)
        if found is None:
            return False
        item, long = await self._prepare(record, write_id)
        for _ in range(_RACES):
            old = layout.head_of(found)
            try:
                await self._wire.call("PutItem", {"TableName": self._wire.table, "Item": item, **_as_read(old)})
            except ConditionFailed as failed:
                now = failed.item or await self._head(record.command_uuid)
                if now is not None and layout.head_of(now).write_id != write_id and not failed.lost:
                    found = now
                    continue
                if now is None or layout.head_of(now).write_id != write_id:
                    # Not ours. Without a lost answer it was removed before we came. With one, ours either stood until
                    # then or never did, and nobody can tell: either way it came before what is there now.
                    if long:
                        await self._parts.remove_own(record, write_id)
                    if not failed.lost:
                        return False
            except ConfigurationError as error:
                if not is_refused(error):
                    raise
                if long:
                    await self._parts.remove_own(record, write_id)
                raise _invalid(record, error) from error
            await self._parts.remove(record.command_uuid, old.write_id, old.parts)
            return True
        raise _restless(record.command_uuid)

    async def remove(self, command_uuid: str) -> bool:
        """See ``Backend.remove``. Conditional on what was read, so that a late attempt never hits a newer command."""
        request = {"TableName": self._wire.table, "Key": layout.head_key(command_uuid)}
        found = await self._head(command_uuid)
        for _ in range(_RACES):
            if found is None:
                return False
            old = layout.head_of(found)
            try:
                await self._wire.call("DeleteItem", {**request, **_as_read(old)})
            except ConditionFailed as failed:
                # After a lost answer, what we read is gone: by us, as far as anybody can tell.
                if not failed.lost:
                    found = failed.item or await self._head(command_uuid)
                    continue
            await self._parts.remove(command_uuid, old.write_id, old.parts)
            return True
        raise _restless(command_uuid)

    async def _prepare(self, record: Record, write_id: str) -> tuple[layout.Item, bool]:
        """The head, with its parts written if it is long."""
        long = layout.is_long(record)
        if long:
            await self._parts.write([record], write_id)
        return layout.head_item(record, write_id, self._shards, inline=not long), long

    async def _head(self, command_uuid: str) -> dict[str, Any] | None:
        return await self._wire.get(layout.head_key(command_uuid), _NAMES)


def standing(head: Head, write_id: str) -> Outcome:
    """What a head that stands in the way means to the insert with this write id."""
    return CREATED if head.write_id == write_id else Exists(head.digest, head.write_id or None)


def _as_read(old: Head) -> dict[str, Any]:
    """The condition that the head is still the one that was read; a broken one without a write id just has to be."""
    if old.write_id:
        return unchanged("write_id", old.write_id)
    return {**ABSENT, "ConditionExpression": "attribute_exists(#uuid)"}


def _invalid(record: Record, error: ConfigurationError) -> InvalidCommand:
    return InvalidCommand(f"command {record.command_uuid!a}: {error}", command_uuid=record.command_uuid)


def _restless(command_uuid: str) -> StoreUnavailable:
    return StoreUnavailable(f"command {command_uuid!a} is written by others all the time; try again")
