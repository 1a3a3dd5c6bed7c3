"""The contract over any backend, as coroutines: all that is the same for every backend is here, once.

Validation, create_many, lists with offsets and cursors, info, over the records of ``records.py``. ``store.py`` has the
two facades that run these, with and without an event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypedDict

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import (
    INT64_MAX,
    INT64_MIN,
    BatchResult,
    Command,
    CommandQuery,
    Failure,
    Page,
    SealedCommand,
    StoreInfo,
)
from commandstore.contract import Slice
from commandstore.cursor import read_cursor, write_cursor
from commandstore.errors import (
    CommandExists,
    CommandStoreError,
    ConfigurationError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    InvalidQuery,
)
from commandstore.options import StoreOptions
from commandstore.records import Fate, RecordCore

__all__ = ["PAGE", "Fate", "Filters", "StoreCore", "StoreOptions", "askable", "is_int", "readable"]

PAGE = 1000
"""How many rows are read at once where the caller doesn't say."""


class Filters(TypedDict, total=False):
    """The filters of list, scan and total; see :class:`CommandQuery`."""

    tenant_uuid: str | None
    workspace_uuid: str | None
    domain: str | None
    session_uuid: str | None
    data_type: str | None
    before: int | None
    after: int | None


class StoreCore(RecordCore):
    """The contract as coroutines, over one backend and one drive."""

    async def create(self, command: Command) -> None:
        self.writable()
        [fate] = await self.write([codec.encode(_command(command))])
        if isinstance(fate, CommandStoreError):
            raise fate
        if fate is not Fate.CREATED:
            uuid = command.command_uuid
            found = (await self.fetch([uuid])).get(uuid)
            raise CommandExists(
                f"command {uuid!a} exists already; create never overwrites (update replaces)",
                existing=codec.decode(found) if isinstance(found, Record) else None,
            )

    async def create_many(self, commands: Iterable[Command]) -> BatchResult:
        self.writable()
        account = _Account()
        batch: list[Record] = []
        size = 0
        most, largest = self.backend.insert_count, self.backend.insert_bytes
        for command in commands:
            try:
                record = codec.encode(_command(command))
            except InvalidCommand as error:
                account.failed.append(Failure(error.command_uuid or "", error))
                continue
            batch.append(record)
            size += record.size
            if len(batch) >= most or size >= largest:
                await self._flush(batch, account)
                batch, size = [], 0
        if batch:
            await self._flush(batch, account)
        return account.result()

    async def _flush(self, batch: list[Record], account: _Account) -> None:
        try:
            account.add(batch, await self.write(batch))
        except CommandStoreError as error:
            account.add(batch, error.fates)
            error.result = account.result()
            raise

    async def get(self, command_uuid: str) -> Command | None:
        return (await self.get_many([command_uuid])).get(command_uuid)

    async def get_many(self, command_uuids: Iterable[str]) -> dict[str, Command]:
        self.ready()
        uuids = list(dict.fromkeys(codec.read_uuid(uuid) for uuid in command_uuids))
        commands: dict[str, Command] = {}
        # Nothing longer can have been stored, and an engine may refuse to look for it.
        askable = [uuid for uuid in uuids if len(uuid.encode()) <= codec.MAX_UUID_BYTES]
        for start in range(0, len(askable), PAGE):
            for uuid, found in (await self.fetch(askable[start : start + PAGE])).items():
                command = _decoded(found)
                if not isinstance(command, Command):
                    raise command
                commands[uuid] = command
        return {uuid: commands[uuid] for uuid in uuids if uuid in commands}

    async def list(
        self,
        query: CommandQuery,
        *,
        offset: int,
        limit: int,
        cursor: str | None,
        with_total: bool,
    ) -> Page:
        self.ready()
        if not is_int(offset) or not is_int(limit):
            raise InvalidQuery("offset and limit are integers")
        if offset < 0:
            raise InvalidQuery(f"offset is {offset}; it can't be negative")
        if cursor is not None and offset:
            raise InvalidQuery("give offset or cursor, not both: a cursor says by itself where to go on")
        key = read_cursor(cursor, self.backend.location, query) if cursor is not None else None
        if key is not None and not self.backend.is_key(key):
            raise InvalidQuery("the cursor is damaged; give it as the page returned it")
        total = (await self.backend.count(query) if askable(query) else 0) if with_total else None
        if limit == 0 or not askable(query):
            return Page((), total, None)
        ended = False
        while offset > 0 and not ended:
            skipped = await self.backend.page(query, key, min(offset, PAGE), payload=False)
            offset -= len(skipped.rows)
            key, ended = skipped.next_key, skipped.next_key is None
        commands: list[Command] = []
        corrupt: list[CommandStoreError] = []
        while not ended and (limit < 0 or len(commands) + len(corrupt) < limit):
            want = PAGE if limit < 0 else min(PAGE, limit - len(commands) - len(corrupt))
            found = await self.pages(query, key, want)
            for row in found.rows:
                command = _decoded(row.record or row.error)
                if isinstance(command, Command):
                    commands.append(command)
                else:
                    corrupt.append(command)
            key, ended = found.next_key, found.next_key is None
        after = None if ended or key is None else write_cursor(key, self.backend.location, query)
        return Page(tuple(commands), total, after, tuple(corrupt))

    async def total(self, query: CommandQuery) -> int:
        self.ready()
        return await self.backend.count(query) if askable(query) else 0

    async def update(self, command: Command) -> bool:
        self.writable()
        return await self.replace_recorded(codec.encode(_command(command)))

    async def delete(self, command_uuid: str) -> bool:
        self.writable()
        uuid = codec.read_uuid(command_uuid)
        return len(uuid.encode()) <= codec.MAX_UUID_BYTES and await self.remove_recorded(uuid)

    async def info(self) -> StoreInfo:
        self.ready()
        last, key, newest_first = 0, None, CommandQuery(ascending=False)
        while True:
            found = await self.backend.page(newest_first, key, 1, payload=False)
            key = found.next_key
            good = [row.record for row in found.rows if row.record is not None]
            if good:
                last = good[0].created_at
            if good or key is None:
                break
        count = await self.backend.count(CommandQuery())
        return StoreInfo(self.backend.store_type, last, count, self.backend.location)

    async def reset(self) -> None:
        self.writable()
        await self.ready_to_record()
        await self.backend.clear()
        self.begin_ledger()

    async def compact(self) -> dict[str, int]:
        self.writable()
        return dict(await self.backend.compact())

    async def gc(self, grace: float) -> dict[str, int]:
        self.writable()
        # Below 0, what a writer is about to refer to would be garbage; NaN would pass every comparison but this one.
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < math.inf:
            raise ConfigurationError(f"grace is a number of seconds, at least 0, not {grace!r}")
        return dict(await self.backend.gc(grace=grace))

    # Queries

    def query(self, filters: Filters, *, order_by: str = "created_at", ascending: bool = True) -> CommandQuery:
        """The query of these filters.

        Raises:
            InvalidQuery: an unknown name or order, or a value of the wrong type.
        """
        for name, value in filters.items():
            if name not in Filters.__annotations__:
                raise InvalidQuery(f"unknown filter {name!r}; there are: {', '.join(Filters.__annotations__)}")
            if value is None:
                continue
            if name in {"before", "after"}:
                if not is_int(value) or not INT64_MIN <= value <= INT64_MAX:  # type: ignore[operator]
                    raise InvalidQuery(f"{name} must be an int64, in the unit of created_at")
            elif not isinstance(value, str):
                raise InvalidQuery(f"{name} must be a string")
            elif not value.isascii() and value != value.encode("utf-8", "replace").decode():
                raise InvalidQuery(f"{name} holds a lone surrogate, which UTF-8 can't")
        if order_by not in self.backend.order_by:
            raise InvalidQuery(f"can't order by {order_by!r}; there is: {', '.join(sorted(self.backend.order_by))}")
        return CommandQuery(**filters, order_by=order_by, ascending=ascending)


class _Account:
    """Where each command of a create_many went."""

    def __init__(self) -> None:
        self.failed: list[Failure] = []
        self._created: list[str] = []
        self._duplicate: list[str] = []
        self._conflicting: list[str] = []

    def add(self, records: Sequence[Record], fates: Sequence[Fate | CommandStoreError | None]) -> None:
        if fates.count(Fate.CREATED) == len(records):  # as nearly always
            self._created += [record.command_uuid for record in records]
            return
        for record, fate in zip(records, fates, strict=False):
            if fate is Fate.CREATED:
                self._created.append(record.command_uuid)
            elif fate is Fate.DUPLICATE:
                self._duplicate.append(record.command_uuid)
            elif fate is Fate.CONFLICTING:
                self._conflicting.append(record.command_uuid)
            elif fate is not None:
                self.failed.append(Failure(record.command_uuid, fate))

    def result(self) -> BatchResult:
        return BatchResult(
            created=tuple(self._created),
            duplicate=tuple(self._duplicate),
            conflicting=tuple(self._conflicting),
            failed=tuple(self.failed),
        )


def readable(found: Slice, on_corrupt: Callable[[CommandStoreError], None] | None) -> Iterator[Command]:
    """The commands of a slice; for what can't be read, the callback is called, or the error raised."""
    for row in found.rows:
        command = _decoded(row.record or row.error)
        if isinstance(command, Command):
            yield command
        elif on_corrupt is None:
            raise command
        else:
            on_corrupt(command)


def _decoded(found: Record | CommandStoreError | None) -> Command | CommandStoreError:
    if isinstance(found, Record):
        return codec.decode(found)
    if isinstance(found, DecryptionError) and found.stored is not None:
        return codec.decode(found.stored, SealedCommand)
    return found or CorruptRecord("a record that can't be read")


def _command(command: object) -> Command:
    if type(command) is Command:
        return command  # nearly every one, and pydantic's isinstance takes as long as half of a digest
    if not isinstance(command, Command):
        raise InvalidCommand(f"a Command is needed, not {type(command).__name__}")
    if isinstance(command, SealedCommand):
        raise InvalidCommand(
            f"command {command.command_uuid!a} could not be decrypted when it was read: its payload is a cipher, and "
            "would be sealed once more; nothing was changed",
            command_uuid=command.command_uuid,
        )
    return command


def is_int(value: object) -> bool:
    """Whether it is an integer, and not a bool in disguise."""
    return isinstance(value, int) and not isinstance(value, bool)


def askable(query: CommandQuery) -> bool:
    """Whether any command can match: nothing longer than the limits was ever stored."""
    limits = {"tenant_uuid": codec.MAX_TENANT_BYTES}
    return all(
        len(value) * 4 <= codec.MAX_TENANT_BYTES or len(value.encode()) <= limits.get(name, codec.MAX_NAME_BYTES)
        for name, value in query.equal_to.items()
    )
