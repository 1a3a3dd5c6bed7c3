"""Many commands at once: PartiQL's INSERT, twenty-five a request, or plain puts for engines that don't have it.

An insert never overwrites, and every record gets an answer of its own. What ``DuplicateItem`` leaves open (whose is
it?) is read afterwards: one with our own write id is our own, written by an attempt whose answer was lost. One with
another's, after a lost answer, may stand in the place of our own: that fate is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from commandstore.codec import Record
from commandstore.contract import CREATED, Exists, Outcome, Rejected
from commandstore.drive import Drive
from commandstore.dynamodb import layout
from commandstore.dynamodb.faults import is_duplicate, is_lost_statement, is_refused, statement_error
from commandstore.dynamodb.layout import Head, Shards
from commandstore.dynamodb.parts import Parts
from commandstore.dynamodb.requests import cut, insert_statements, put_request, statements_body
from commandstore.dynamodb.single import Single, met, standing, unknown
from commandstore.dynamodb.wire import Wire, was_lost
from commandstore.errors import CommandStoreError, ConfigurationError, InvalidCommand, StoreUnavailable

__all__ = ["Bulk"]

_PROBED = ("uuid", "digest", "write_id")


class Bulk:
    """Inserts into one table.

    Args:
        wire: to the table.
        drive: runs several requests at once.
        shards: of the table.
        single: for what has to go alone.
        parts: of long payloads.
        concurrency: how many requests at once.
        put: by BatchWriteItem, which has no conditions: right only while nobody else writes.
    """

    def __init__(
        self, wire: Wire, drive: Drive, shards: Shards, single: Single, parts: Parts, *, concurrency: int, put: bool
    ) -> None:
        self._wire = wire
        self._drive = drive
        self._shards = shards
        self._single = single
        self._parts = parts
        self._concurrency = concurrency
        self._put = put
        # A failed insert is billed as a write, a probe as a small part of one: as long as most are there already,
        # look before writing.
        self._probe_first = put

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        """See ``Backend.insert``."""
        if len(records) == 1:
            return [await self._single.insert(records[0], write_id)]
        batch = _Batch(records, write_id)
        try:
            if self._probe_first:
                await self._look_up(batch)
                self._probe_first = self._put or len(batch.new) * 2 <= len(records)
            await self._write(batch)
        except CommandStoreError as error:
            error.outcomes = batch.outcomes
            raise
        return [outcome for outcome in batch.outcomes if outcome is not None]

    async def _look_up(self, batch: _Batch) -> None:
        heads = await self.heads([record.command_uuid for record in batch.records])
        for index, record in enumerate(batch.records):
            if (head := heads.get(record.command_uuid)) is not None:
                batch.outcomes[index] = standing(head, batch.write_id)
        batch.new = [index for index in batch.new if batch.outcomes[index] is None]

    async def _write(self, batch: _Batch) -> None:
        if batch.long:
            await self._parts.write([batch.records[index] for index in batch.long], batch.write_id)
        if self._put:
            await self._put_all(batch)
            return
        failure: CommandStoreError | None = None
        try:
            await self._insert_all(batch)
        except CommandStoreError as error:
            failure = error
        # After a failure too: what is known of the others is worth telling.
        failure = await self._settle(batch) or failure
        for index in batch.long:
            # Ours only, and only where our head is known not to stand: unknown fates keep their parts.
            if isinstance(batch.outcomes[index], Exists | Rejected) and index not in batch.lost:
                await self._parts.remove_own(batch.records[index], batch.write_id)
        if failure is not None:
            raise failure
        self._probe_first = self._probe_first or len(batch.duplicates) * 2 > len(batch.new)

    def _item(self, batch: _Batch, index: int) -> layout.Item:
        record = batch.records[index]
        return layout.head_item(record, batch.write_id, self._shards, inline=not layout.is_long(record))

    # By INSERT

    async def _insert_all(self, batch: _Batch) -> None:
        new = [batch.records[index] for index in batch.new]
        statements = list(insert_statements(self._wire.table, new, batch.write_id, self._shards))
        jobs = [
            partial(self._send, batch, [(batch.new[place], statements[place]) for place in places])
            for places in cut(statements, layout.BATCH_WRITE, layout.STATEMENTS_BYTES)
        ]
        await self._drive.gather(jobs, self._concurrency)

    async def _send(self, batch: _Batch, waiting: list[tuple[int, bytes]]) -> None:
        tries = self._wire.tries()
        while waiting:
            try:
                left, slow = await self._attempt(batch, waiting)
            except ConfigurationError as error:
                if not is_refused(error):
                    raise
                # One of them spoils the whole request: each goes alone, and gets its own answer.
                await self._one_by_one(batch, [index for index, _ in waiting])
                return
            if len(left) < len(waiting):
                tries.progress()
            # A head with parts is not sent again before somebody has looked: see Single.insert.
            astray = {index for index, _ in left if index in batch.lost and batch.is_long(index)}
            batch.astray += sorted(astray)
            waiting = [one for one in left if one[0] not in astray]
            if waiting and slow is not None:
                await tries.again(slow)

    async def _attempt(
        self, batch: _Batch, waiting: list[tuple[int, bytes]]
    ) -> tuple[list[tuple[int, bytes]], StoreUnavailable | None]:
        """Send statements once; returned are those to be sent again, and why."""
        try:
            said = await self._ask(waiting)
        except StoreUnavailable as error:
            if was_lost(error):
                batch.lost.update(index for index, _ in waiting)
            return waiting, error
        left: list[tuple[int, bytes]] = []
        slow: StoreUnavailable | None = None
        for (index, statement), one in zip(waiting, said, strict=True):
            failed = self._understand(batch, index, one["Error"]) if "Error" in one else None
            if failed is not None:
                slow = failed
                left.append((index, statement))
            elif "Error" not in one:
                batch.outcomes[index] = CREATED
        return left, slow

    async def _ask(self, waiting: Sequence[tuple[int, bytes]]) -> list[layout.Raw]:
        """Send statements once; what the engine says of each."""
        body = statements_body(statement for _, statement in waiting)
        said: list[layout.Raw] = (await self._wire.once("BatchExecuteStatement", body))["Responses"]
        if len(said) != len(waiting):
            raise self._wire.astray()
        return said

    def _understand(self, batch: _Batch, index: int, said: layout.Raw) -> StoreUnavailable | None:
        """Note what became of a statement that failed; returned is what may be over at the next attempt."""
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        if is_duplicate(code):
            batch.duplicates.append(index)
            return None
        error = statement_error(code, message, batch.records[index].command_uuid, self._wire.place)
        if isinstance(error, StoreUnavailable):
            if is_lost_statement(code):
                batch.lost.add(index)
            return error
        if not isinstance(error, InvalidCommand):
            raise error  # no permission, no table: that is nothing about this command
        batch.outcomes[index] = Rejected(error)
        return None

    async def _settle(self, batch: _Batch) -> StoreUnavailable | None:
        """Find out whose the duplicates are; returned is the error of those of which nobody can tell."""
        failure: StoreUnavailable | None = None
        uuids = [batch.records[index].command_uuid for index in batch.duplicates]
        heads = await self.heads(uuids) if uuids else {}
        for index in batch.duplicates:
            record, lost = batch.records[index], index in batch.lost
            head = heads.get(record.command_uuid)
            if head is not None:
                batch.outcomes[index] = met(head, record, (batch.write_id,), lost=lost)
            elif not lost:  # removed since; it is inserted as if it had just come
                batch.outcomes[index] = await self._single.insert(record, batch.write_id)
            if batch.outcomes[index] is None:
                failure = unknown(record.command_uuid, "created")
        for index in batch.astray:
            try:
                batch.outcomes[index] = await self._single.insert(batch.records[index], batch.write_id, lost=True)
            except StoreUnavailable as error:
                failure = error
        return failure

    # By put

    async def _put_all(self, batch: _Batch) -> None:
        requests = [put_request(self._item(batch, index)) for index in batch.new]
        try:
            await self._wire.batch_write(requests)
        except ConfigurationError as error:
            if not is_refused(error):
                raise
            await self._one_by_one(batch, batch.new)
            return
        for index in batch.new:
            batch.outcomes[index] = CREATED

    async def _one_by_one(self, batch: _Batch, indexes: Sequence[int]) -> None:
        for index in indexes:
            batch.outcomes[index] = await self._single.insert(
                batch.records[index], batch.write_id, lost=index in batch.lost
            )

    async def heads(self, uuids: Sequence[str]) -> dict[str, Head]:
        """Digest and write id of each that is there, consistent."""
        keys = [layout.head_key(uuid) for uuid in uuids]
        batches = [keys[start : start + layout.BATCH_GET] for start in range(0, len(keys), layout.BATCH_GET)]
        return {item["uuid"]["S"]: layout.head_of(item) for item in await self._wire.batch_get(batches, _PROBED)}


class _Batch:
    """One insert on its way."""

    def __init__(self, records: Sequence[Record], write_id: str) -> None:
        self.records = records
        self.write_id = write_id
        self.outcomes: list[Outcome | None] = [None] * len(records)
        # Indexes: of what isn't there as far as is known, and of what turned out to be there.
        self.new: list[int] = list(range(len(records)))
        self.duplicates: list[int] = []
        # Those that were sent without an answer, once at least; and those that are not to be sent so again.
        self.lost: set[int] = set()
        self.astray: list[int] = []
        self._long = frozenset(index for index, record in enumerate(records) if layout.is_long(record))

    def is_long(self, index: int) -> bool:
        """Whether its payload lies in parts."""
        return index in self._long

    @property
    def long(self) -> list[int]:
        """Those of the new whose payload lies in parts."""
        return [index for index in self.new if index in self._long] if self._long else []
