"""One command at a time: insert, replace, remove, each by one conditional write of the head.

After a lost answer, a second attempt meets either what it expects, and is the first to be done, or what stands there by
now. That is what the first one did, or what somebody else did: before it, or on top of it. Where nobody can tell, and
the answer would differ, the fate is unknown, and said to be.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

from commandstore.codec import Record
from commandstore.contract import CREATED, Created, Exists, Outcome, Rejected
from commandstore.dynamodb import layout
from commandstore.dynamodb.faults import is_refused
from commandstore.dynamodb.layout import Head, Shards
from commandstore.dynamodb.parts import Parts
from commandstore.dynamodb.requests import ABSENT, unchanged
from commandstore.dynamodb.wire import ConditionFailed, Wire, was_lost
from commandstore.errors import ConfigurationError, InvalidCommand, StoreUnavailable

__all__ = ["Single", "met", "standing", "unknown"]

_NAMES = ("uuid", "digest", "write_id", "parts")
_RACES = 5


class Single:
    """Inserts, replacements and removals of single commands."""

    def __init__(self, wire: Wire, shards: Shards, parts: Parts) -> None:
        self._wire = wire
        self._shards = shards
        self._parts = parts

    async def insert(self, record: Record, write_id: str, *, lost: bool = False) -> Outcome:
        """As ``Backend.insert``, of one record.

        Args:
            record: to be there.
            write_id: of the call.
            lost: whether an attempt by this write id was made elsewhere, and its answer lost.
        """
        insert, tries = _Insert(record, [write_id], lost=lost), self._wire.tries()
        while True:
            if insert.lost and insert.long:
                # Whoever removes a command removes its parts, and a head that is sent again would name parts that are
                # gone. So one looks first, and goes on with parts of their own.
                found = await self._head(record.command_uuid)
                if found is not None:
                    return insert.met(found)
                if insert.item is None:
                    insert.own.append(secrets.token_hex(8))
            if insert.item is None:
                insert.item, _ = await self._prepare(record, insert.own[-1])
            outcome = await self._attempt(insert)
            if not isinstance(outcome, StoreUnavailable):
                break
            await tries.again(outcome)
        # No head will name its parts: but one may, whose answer was lost.
        if insert.long and not insert.lost and not isinstance(outcome, Created):
            await self._parts.remove_own(record, write_id)
        return outcome

    async def _attempt(self, insert: _Insert) -> Outcome | StoreUnavailable:
        """What became of it, or why it is to be tried again."""
        uuid = insert.record.command_uuid
        try:
            await self._wire.once("PutItem", {"TableName": self._wire.table, "Item": insert.item, **ABSENT})
        except ConditionFailed as failed:
            found = failed.item or await self._head(uuid)
            if found is not None:
                return insert.met(found)
            if insert.lost:
                raise unknown(uuid, "created") from failed  # what was in the way may have been ours
            return _restless(uuid)
        except StoreUnavailable as error:
            if was_lost(error):
                insert.lost = True
                insert.item = None if insert.long else insert.item
            return error
        except ConfigurationError as error:
            if not is_refused(error):
                raise
            return Rejected(_invalid(insert.record, error))
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
                found = failed.item or await self._head(command_uuid)
                if not failed.lost:
                    continue
                await self._parts.remove(command_uuid, old.write_id, old.parts)  # what named them is gone, anyhow
                raise _removed_perhaps(command_uuid, found) from failed
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


class _Insert:
    """One insert on its way.

    Attributes:
        own: the write ids that its heads have; the last one is in use.
        item: the head to be sent; None: its parts are to be written first.
        lost: whether an answer was lost.
    """

    def __init__(self, record: Record, own: list[str], *, lost: bool) -> None:
        self.record = record
        self.own = own
        self.lost = lost
        self.long = layout.is_long(record)
        self.item: layout.Item | None = None

    def met(self, found: layout.Raw) -> Outcome:
        """What a head means that stands in the way."""
        outcome = met(layout.head_of(found), self.record, self.own, lost=self.lost)
        if outcome is None:
            raise unknown(self.record.command_uuid, "created")
        return outcome


def standing(head: Head, write_id: str) -> Outcome:
    """What a head that stands in the way means to the insert with this write id."""
    return CREATED if head.write_id == write_id else Exists(head.digest, head.write_id or None)


def met(head: Head, record: Record, own: Collection[str], *, lost: bool) -> Outcome | None:
    """What a head means to an insert that met it; None where nobody can tell.

    Args:
        head: as it stands.
        record: to be inserted.
        own: the write ids of this insert.
        lost: whether an answer of this insert was lost: then it may have been done, and replaced by this head.
    """
    if head.write_id in own:
        return CREATED
    # Of the same content it doesn't matter who was first: what was asked for stands, and any later call is told the
    # same. That keeps a sync going whose commands arrive by another one as well.
    if lost and head.digest != record.digest:
        return None
    return Exists(head.digest, head.write_id or None)


def unknown(command_uuid: str, done: str) -> StoreUnavailable:
    """The error of a write whose fate nobody can tell."""
    return StoreUnavailable(
        f"command {command_uuid!a} was written by others while one answer was lost; whether it was {done} is unknown: "
        "read it, and try again"
    )


def _removed_perhaps(command_uuid: str, found: layout.Raw | None) -> StoreUnavailable:
    """The error of a removal whose answer was lost, and that finds something else than before."""
    if found is not None:
        # Ours was done, and it was created again; or it never was, and this is an update.
        return unknown(command_uuid, "deleted")
    # Said to be done, it would be wrong where another removal was told so.
    return StoreUnavailable(
        f"command {command_uuid!a} is gone, but one answer was lost: whether by this removal or by another is unknown"
    )


def _as_read(old: Head) -> dict[str, Any]:
    """The condition that the head is still the one that was read; a broken one without a write id just has to be."""
    if old.write_id:
        return unchanged("write_id", old.write_id)
    return {**ABSENT, "ConditionExpression": "attribute_exists(#uuid)"}


def _invalid(record: Record, error: ConfigurationError) -> InvalidCommand:
    return InvalidCommand(f"command {record.command_uuid!a}: {error}", command_uuid=record.command_uuid)


def _restless(command_uuid: str) -> StoreUnavailable:
    return StoreUnavailable(f"command {command_uuid!a} is written by others all the time; try again")
