"""Writes: inserts on condition that nothing is there, changes on condition that what was read still is.

No transactions: an update time says whether a document is what it was, and holds no lock that somebody who dies would
leave behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from commandstore.codec import Record
from commandstore.contract import CREATED, Exists, Outcome, Rejected
from commandstore.errors import CommandStoreError, InvalidCommand, StoreUnavailable
from commandstore.firestore.faults import Code, by_code, is_refused
from commandstore.firestore.layout import Layout, head_values, is_long, part_names, part_values, parts_of
from commandstore.firestore.requests import create, delete, put
from commandstore.firestore.values import Document
from commandstore.firestore.wire import ConditionFailed, Wire, was_lost

__all__ = ["Writer"]

_HEAD = ("digest", "write_id", "parts_id", "part_count")


class Writer:
    """Writes of one collection."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    # Inserts

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        """See ``Backend.insert``."""
        batch = _Batch(records, write_id)
        try:
            waiting = list(range(len(records)))
            tries = self._wire.tries()
            while waiting:
                waiting = await self._insert(batch, waiting)
                if waiting:
                    await tries.again(_restless(records[waiting[0]].command_uuid))
        except CommandStoreError as error:
            error.outcomes = batch.outcomes
            raise
        return [outcome for outcome in batch.outcomes if outcome is not None]

    async def _insert(self, batch: _Batch, waiting: Sequence[int]) -> list[int]:
        """One round; returned are those that were in somebody's way who is gone again."""
        long = [index for index in waiting if is_long(batch.records[index])]
        for index in long:
            batch.outcomes[index] = await self._insert_long(batch.records[index], batch.write_id)
        waiting = [index for index in waiting if index not in long]
        if not waiting:
            return []
        writes = [
            create(
                self._layout.name(record.command_uuid),
                head_values(record, batch.write_id, self._layout.shard(record.command_uuid)),
            )
            for record in (batch.records[index] for index in waiting)
        ]
        codes: list[int | None] = []
        lost: set[int] = set()
        failure: CommandStoreError | None = None
        try:
            await self._wire.batch_write(writes, codes, lost)
        except CommandStoreError as error:
            failure = error
        batch.lost.update(waiting[place] for place in lost)
        if failure is not None and is_refused(failure):
            if len(waiting) == 1:
                batch.outcomes[waiting[0]] = Rejected(_invalid(batch.records[waiting[0]], failure))
                return []
            # One of them spoils the whole request: each goes alone, and gets its own answer.
            return [index for one in waiting for index in await self._insert(batch, [one])]
        left = await self._settle(batch, list(zip(waiting, codes, strict=False)))
        if failure is not None:
            raise failure
        return left

    async def _settle(self, batch: _Batch, said: Sequence[tuple[int, int | None]]) -> list[int]:
        there: list[int] = []
        for index, code in said:
            if code == Code.OK:
                batch.outcomes[index] = CREATED
            elif code == Code.ALREADY_EXISTS:
                there.append(index)
            elif code in {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}:
                uuid = batch.records[index].command_uuid
                why = f"command {uuid!a} is refused by {self._wire.place.host} ({Code(code).name})"
                batch.outcomes[index] = Rejected(InvalidCommand(why, command_uuid=uuid))
            elif code is not None:  # nothing about this command
                raise by_code(code, "", "batch_write", self._wire.place)
        heads = await self._heads([batch.records[index].command_uuid for index in there])
        gone: list[int] = []
        failure: StoreUnavailable | None = None
        for index in there:
            record, lost = batch.records[index], index in batch.lost
            head = heads.get(record.command_uuid)
            if head is not None:
                batch.outcomes[index] = _met(head, record, batch.write_id, lost=lost)
            elif not lost:
                gone.append(index)
                continue
            if batch.outcomes[index] is None:  # if it is gone: what was there may have been ours
                failure = _unknown(record.command_uuid, "created")
        if failure is not None:
            raise failure
        return gone

    async def _insert_long(self, record: Record, write_id: str) -> Outcome:
        """Insert one with parts: they first, and then the head that names them, sent once for each set of parts."""
        name, tries = self._layout.name(record.command_uuid), self._wire.tries()
        lost = False
        while True:
            parts_id = secrets.token_hex(8)
            failure: StoreUnavailable
            try:
                await self._write_parts(record, parts_id)
                values = head_values(record, write_id, self._layout.shard(record.command_uuid), parts_id)
                await self._wire.commit([create(name, values)], once=True)
            except ConditionFailed as failed:
                failure = _restless(record.command_uuid)
                failure.__cause__ = failed
                met = True
            except StoreUnavailable as error:
                failure, met = error, False
                lost = lost or was_lost(error)
            except CommandStoreError as error:
                await self._clean(part_names(name, parts_id, len(part_values(record))))
                if not is_refused(error):
                    raise
                return Rejected(_invalid(record, error))
            else:
                return CREATED
            head = (await self._wire.batch_get([name], _HEAD)).get(name)
            outcome = None if head is None else _met(head, record, write_id, lost=lost)
            if head is not None and head.fields.get("parts_id") != parts_id:
                await self._clean(part_names(name, parts_id, len(part_values(record))))
            if outcome is not None:
                return outcome
            if head is not None or (met and lost):
                raise _unknown(record.command_uuid, "created") from failure
            # Not there: never was, or is gone, or is still on its way. Its parts are left to it, and to gc.
            await tries.again(failure)

    async def _heads(self, uuids: Sequence[str]) -> dict[str, Document]:
        names = {self._layout.name(uuid): uuid for uuid in uuids}
        found = await self._wire.batch_get(list(names), _HEAD) if names else {}
        return {names[name]: document for name, document in found.items()}

    # Changes

    async def replace(self, record: Record, write_id: str) -> bool:
        """See ``Backend.replace``. Of two at once, one comes last and stands; both say True."""
        name = self._layout.name(record.command_uuid)
        values = head_values(record, write_id, self._layout.shard(record.command_uuid), write_id)
        if is_long(record):
            await self._write_parts(record, write_id)
        tries = self._wire.tries()
        while True:
            head = await self._head(name)
            if head is None:
                if is_long(record):
                    await self._clean(part_names(name, write_id, len(part_values(record))))
                return False
            try:
                await self._wire.commit([put(name, values, update_time=head.update_time)])
            except ConditionFailed as failed:
                now = await self._head(name)
                # After a lost answer, ours may have stood until what is there now came, or somebody removed it: then it
                # was before that. If it never stood, it may be said to have been, just before.
                if not failed.lost and (now is None or now.fields.get("write_id") != write_id):
                    await tries.again(_restless(record.command_uuid))
                    continue
            await self._clean(parts_of(head))
            return True

    async def remove(self, command_uuid: str) -> bool:
        """See ``Backend.remove``."""
        name, tries = self._layout.name(command_uuid), self._wire.tries()
        while True:
            head = await self._head(name)
            if head is None:
                return False
            try:
                await self._wire.commit([delete(name, update_time=head.update_time)])
            except ConditionFailed as failed:
                now = await self._head(name) if failed.lost else None
                if failed.lost and (now is None or now.create_time != head.create_time):
                    await self._clean(parts_of(head))
                    raise _removed_perhaps(command_uuid, now) from failed
                # It was updated: so it was not removed, and will not be by that attempt.
                await tries.again(_restless(command_uuid))
                continue
            await self._clean(parts_of(head))
            return True

    async def _head(self, name: str) -> Document | None:
        return (await self._wire.batch_get([name], _HEAD)).get(name)

    # Parts

    async def _write_parts(self, record: Record, parts_id: str) -> None:
        values = part_values(record)
        names = part_names(self._layout.name(record.command_uuid), parts_id, len(values))
        for name, part in zip(names, values, strict=True):
            [code] = await self._wire.batch_write([put(name, part)])
            if code != Code.OK:
                raise by_code(code, "a part of a payload", "batch_write", self._wire.place)

    async def _clean(self, names: Sequence[str]) -> None:
        """Remove parts that nobody names any more. What can't be removed now is for gc: the write itself is done."""
        if names:
            with suppress(CommandStoreError):
                await self._wire.batch_write([delete(name) for name in names])


class _Batch:
    """One insert on its way.

    Attributes:
        outcomes: what is known of each record.
        lost: the indexes of those that may have been created by an attempt whose answer was lost.
    """

    def __init__(self, records: Sequence[Record], write_id: str) -> None:
        self.records = records
        self.write_id = write_id
        self.outcomes: list[Outcome | None] = [None] * len(records)
        self.lost: set[int] = set()


def _met(head: Document, record: Record, write_id: str, *, lost: bool) -> Outcome | None:
    """What a head means to an insert that met it; None where nobody can tell."""
    digest, found = head.fields.get("digest"), head.fields.get("write_id")
    if found == write_id:
        return CREATED
    # Of the same content it doesn't matter who was first: what was asked for stands, and any later call is told the
    # same. That keeps a sync going whose commands arrive by another one as well.
    if lost and digest != record.digest:
        return None
    return Exists(digest if isinstance(digest, bytes) else b"", found if isinstance(found, str) else None)


def _restless(command_uuid: str) -> StoreUnavailable:
    return StoreUnavailable(f"command {command_uuid!a} is written by others all the time; try again")


def _unknown(command_uuid: str, done: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"command {command_uuid!a} was written by others while one answer was lost; whether it was {done} is unknown: "
        "read it, and try again"
    )


def _removed_perhaps(command_uuid: str, found: Document | None) -> StoreUnavailable:
    """The error of a removal whose answer was lost: said to be done, it would be wrong where another was told so."""
    if found is not None:
        return _unknown(command_uuid, "deleted")
    return StoreUnavailable(
        f"command {command_uuid!a} is gone, but one answer was lost: whether by this removal or by another is unknown"
    )


def _invalid(record: Record, error: CommandStoreError) -> InvalidCommand:
    refused = InvalidCommand(f"command {record.command_uuid!a} is refused: {error}", command_uuid=record.command_uuid)
    refused.__cause__ = error.__cause__
    return refused
