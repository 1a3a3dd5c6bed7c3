"""Writes: inserts on condition that nothing is there, changes on condition that what was read still is.

No transactions: an update time says whether a document is what it was, and holds no lock that somebody who dies would
leave behind.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from commandstore.codec import Record
from commandstore.contract import CREATED, Created, Exists, Outcome, Rejected
from commandstore.errors import CommandStoreError, InvalidCommand, StoreUnavailable
from commandstore.firestore.faults import Code, by_code, is_refused
from commandstore.firestore.layout import Layout, head_values, is_long, part_names, part_values, parts_of
from commandstore.firestore.requests import create, delete, put
from commandstore.firestore.values import Document
from commandstore.firestore.wire import ConditionFailed, Wire

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
        outcomes: list[Outcome | None] = [None] * len(records)
        try:
            waiting = list(range(len(records)))
            tries = self._wire.tries()
            while waiting:
                waiting = await self._insert(records, write_id, waiting, outcomes)
                if waiting:
                    uuid = records[waiting[0]].command_uuid
                    await tries.again(
                        StoreUnavailable(f"command {uuid!a} is created and removed by others all the time; try again")
                    )
        except CommandStoreError as error:
            error.outcomes = outcomes
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    async def _insert(
        self, records: Sequence[Record], write_id: str, waiting: Sequence[int], outcomes: list[Outcome | None]
    ) -> list[int]:
        """One round; returned are those that were in somebody's way who is gone again."""
        long = [index for index in waiting if is_long(records[index])]
        for index in long:
            outcomes[index] = await self._insert_long(records[index], write_id)
        waiting = [index for index in waiting if index not in long]
        if not waiting:
            return []
        writes = [
            create(
                self._layout.name(record.command_uuid),
                head_values(record, write_id, self._layout.shard(record.command_uuid)),
            )
            for record in (records[index] for index in waiting)
        ]
        codes: list[int | None] = []
        failure: CommandStoreError | None = None
        try:
            await self._wire.batch_write(writes, codes)
        except CommandStoreError as error:
            if is_refused(error) and len(waiting) == 1:
                outcomes[waiting[0]] = Rejected(_invalid(records[waiting[0]], error))
                return []
            if is_refused(error):
                # One of them spoils the whole request: each goes alone, and gets its own answer.
                left: list[int] = []
                for index in waiting:
                    left += await self._insert(records, write_id, [index], outcomes)
                return left
            failure = error
        left = await self._settle(records, write_id, list(zip(waiting, codes, strict=False)), outcomes)
        if failure is not None:
            raise failure
        return left

    async def _settle(
        self,
        records: Sequence[Record],
        write_id: str,
        said: Sequence[tuple[int, int | None]],
        outcomes: list[Outcome | None],
    ) -> list[int]:
        there: list[int] = []
        for index, code in said:
            if code == Code.OK:
                outcomes[index] = CREATED
            elif code == Code.ALREADY_EXISTS:
                there.append(index)
            elif code in {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}:
                uuid = records[index].command_uuid
                why = f"command {uuid!a} is refused by {self._wire.place.host} ({Code(code).name})"
                outcomes[index] = Rejected(InvalidCommand(why, command_uuid=uuid))
            elif code is not None:  # nothing about this command
                raise by_code(code, "", "batch_write", self._wire.place)
        heads = await self._heads([records[index].command_uuid for index in there])
        gone: list[int] = []
        for index in there:
            head = heads.get(records[index].command_uuid)
            if head is None:
                gone.append(index)
                continue
            outcomes[index] = _standing(head, write_id)
        return gone

    async def _insert_long(self, record: Record, write_id: str) -> Outcome:
        """Insert one with parts: they first, and then the head that names them, sent once for each set of parts."""
        name, tries = self._layout.name(record.command_uuid), self._wire.tries()
        while True:
            parts_id = secrets.token_hex(8)
            failure: StoreUnavailable | None = None
            outcome: Outcome | None = None
            try:
                await self._write_parts(record, parts_id)
                values = head_values(record, write_id, self._layout.shard(record.command_uuid), parts_id)
                await self._wire.commit([create(name, values)], once=True)
            except ConditionFailed:
                failure = StoreUnavailable(
                    f"command {record.command_uuid!a} is created and removed by others; try again"
                )
            except StoreUnavailable as error:
                failure = error
            except CommandStoreError as error:
                await self._clean(part_names(name, parts_id, len(part_values(record))))
                if not is_refused(error):
                    raise
                return Rejected(_invalid(record, error))
            if failure is None:
                return CREATED
            head = (await self._wire.batch_get([name], _HEAD)).get(name)
            if head is not None:
                outcome = _standing(head, write_id)
                if head.fields.get("parts_id") != parts_id:
                    await self._clean(part_names(name, parts_id, len(part_values(record))))
                return outcome
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
        done = await self._change(name, write_id, lambda head: put(name, values, update_time=head.update_time))
        if not done and is_long(record):
            await self._clean(part_names(name, write_id, len(part_values(record))))
        return done

    async def remove(self, command_uuid: str) -> bool:
        """See ``Backend.remove``."""
        name = self._layout.name(command_uuid)
        return await self._change(name, None, lambda head: delete(name, update_time=head.update_time))

    async def _change(self, name: str, write_id: str | None, write: Any) -> bool:
        """Write over a head that is what it was when it was read; its parts go with it. False where there is none."""
        tries = self._wire.tries()
        while True:
            head = (await self._wire.batch_get([name], _HEAD)).get(name)
            if head is None:
                return False
            try:
                await self._wire.commit([write(head)])
            except ConditionFailed as failed:
                now = (await self._wire.batch_get([name], _HEAD)).get(name)
                own = now is not None and write_id is not None and now.fields.get("write_id") == write_id
                # With a lost answer, ours may have stood until what is there now came: then it came before that. A
                # removal that finds nothing after a lost answer is done, by whomever.
                if own or (failed.lost and (now is None or write_id is not None)):
                    await self._clean(parts_of(head))
                    return True
                error = StoreUnavailable(f"document {name} is changed by others all the time; try again later")
                await tries.again(error)
                continue
            await self._clean(parts_of(head))
            return True

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


def _standing(head: Document, write_id: str) -> Created | Exists:
    digest, found = head.fields.get("digest"), head.fields.get("write_id")
    if found == write_id:
        return CREATED
    return Exists(digest if isinstance(digest, bytes) else b"", found if isinstance(found, str) else None)


def _invalid(record: Record, error: CommandStoreError) -> InvalidCommand:
    refused = InvalidCommand(f"command {record.command_uuid!a} is refused: {error}", command_uuid=record.command_uuid)
    refused.__cause__ = error.__cause__
    return refused
