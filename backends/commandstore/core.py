"""The contract over any backend, as coroutines: all that is the same for every backend is here, once.

Options, validation, read-only, encryption, create_many, lists with offsets and cursors, info. ``store.py`` has the two
facades that run these, with and without an event loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, BatchResult, Command, CommandQuery, Failure, Page, StoreInfo
from commandstore.contract import Backend, Created, Exists, Key, Rejected, Row, Slice, Window
from commandstore.crypto import Crypto
from commandstore.cursor import read_cursor, write_cursor
from commandstore.drive import AsyncDrive, Drive
from commandstore.errors import (
    CommandExists,
    CommandStoreError,
    ConfigurationError,
    CorruptRecord,
    DecryptionError,
    InvalidCommand,
    InvalidQuery,
    ReadOnlyStore,
    StoreClosed,
    StoreUnavailable,
)

__all__ = ["PAGE", "Fate", "Filters", "StoreCore", "StoreOptions", "askable", "is_int"]

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


class Fate(Enum):
    """What became of a record that was written, or would become of it."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store was initialised.

    Attributes:
        read_only: writes are refused.
        crypto: seals and opens payloads; None keeps them plain.
        attributes: whatever the application wants to keep beside its store; given back as it is.
    """

    read_only: bool = False
    crypto: Crypto | None = field(default=None, repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict)


class StoreCore:
    """The contract as coroutines, over one backend and one drive."""

    def __init__(self, backend: Backend, drive: Drive) -> None:
        self.backend = backend
        self.drive = drive
        self.options = StoreOptions()
        self._open = False

    # Opening and closing

    async def init(
        self, *, read_only: bool, crypto: Crypto | None, attributes: Mapping[str, Any] | None, create: bool
    ) -> None:
        if crypto is not None and not isinstance(crypto, Crypto):
            raise ConfigurationError("crypto must have cipher, encrypt, decrypt and digest (see commandstore.Crypto)")
        if not self._open:
            if isinstance(self.drive, AsyncDrive):
                self.drive.bind()
            await self.backend.open(self.drive, create=create and not read_only)
            self._open = True
        self.options = StoreOptions(read_only, crypto, dict(attributes or {}))

    async def close(self) -> None:
        if self._open:
            self._open = False
            try:
                await self.backend.close()
            finally:
                self.drive.close()

    def ready(self) -> None:
        """Raise unless the store is open."""
        if not self._open:
            raise StoreClosed("the store is not open; call init(), or use open_store(url)")
        self.drive.check()

    def writable(self) -> None:
        """Raise unless the store is open for writing."""
        self.ready()
        if self.options.read_only:
            raise ReadOnlyStore(f"{self.backend.location} was opened read-only; nothing was changed")

    # Encryption: the one place where payloads are sealed and opened

    def seal(self, record: Record) -> Record:
        """A plain record as it is stored."""
        crypto = self.options.crypto
        if crypto is None:
            return record
        sealed = crypto.encrypt(record.data)
        if self.backend.sealed_as_hex:
            return record._replace(data=sealed.hex().encode("ascii"))
        return record._replace(data=sealed, digest=crypto.digest(record.digest), cipher=crypto.cipher)

    def unseal(self, record: Record) -> Record:
        """A stored record, plain; its digest is that of the plain command.

        Raises:
            DecryptionError: names the command.
        """
        crypto, uuid = self.options.crypto, record.command_uuid
        if crypto is None:
            if record.cipher:
                raise DecryptionError(
                    f"command {uuid!a} is encrypted ({record.cipher}); open the store with its crypto service",
                    command_uuid=uuid,
                )
            return record
        try:
            if self.backend.sealed_as_hex:
                try:
                    sealed = bytes.fromhex(record.data.decode("ascii"))
                except ValueError as error:
                    raise DecryptionError("the payload is not hex: plain data where cipher is expected") from error
            elif record.cipher:
                sealed = record.data
            else:
                raise DecryptionError("plain data where cipher is expected")  # noqa: TRY301 - named just below
            data = crypto.decrypt(sealed)
        except DecryptionError as error:
            raise DecryptionError(f"command {uuid!a}: {error}", command_uuid=uuid) from error
        return codec.plain_record(*record[:7], data, record.req_ctx)

    def _unseal_row(self, row: Row) -> Row:
        if row.record is None or (self.options.crypto is None and not row.record.cipher):
            return row
        try:
            return row._replace(record=self.unseal(row.record))
        except DecryptionError as error:
            return row._replace(record=None, error=error)

    def _unsealed(self, found: Slice) -> Slice:
        return Slice([self._unseal_row(row) for row in found.rows], found.next_key)

    # Plain records, for replication and the methods below

    async def pages(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        """As :meth:`Backend.page`, with plain records."""
        self.ready()
        found = await self.backend.page(query, after, limit, payload=payload)
        return self._unsealed(found) if payload else found

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        """As :meth:`Backend.feed`, with plain records."""
        self.ready()
        return self._unsealed(await self.backend.feed(query, window, after, limit))

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        """As :meth:`Backend.feed_again`, with plain records."""
        self.ready()
        return [row and self._unseal_row(row) for row in await self.backend.feed_again(keys)]

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CommandStoreError]:
        """As :meth:`Backend.fetch`, with plain records, and errors in place of what can't be read."""
        self.ready()
        plain: dict[str, Record | CommandStoreError] = {}
        for uuid, found in (await self.backend.fetch(uuids)).items():
            try:
                plain[uuid] = self.unseal(found) if isinstance(found, Record) else found
            except DecryptionError as error:
                plain[uuid] = error
        return plain

    async def write(self, records: Sequence[Record]) -> list[Fate | CommandStoreError]:
        """Insert plain records, which may repeat a uuid; what became of each, aligned.

        Raises:
            StoreUnavailable: ``fates`` has what is known, as this method would have returned it.
        """
        self.writable()
        return await self._settle(records, self._insert)

    async def compare(self, records: Sequence[Record]) -> list[Fate | CommandStoreError]:
        """What :meth:`write` would answer, without writing."""
        self.ready()
        return await self._settle(records, self._compare)

    async def _settle(
        self,
        records: Sequence[Record],
        settle: Callable[[list[Record]], Awaitable[Sequence[Fate | CommandStoreError | None]]],
    ) -> list[Fate | CommandStoreError]:
        fates: list[Any] = [None] * len(records)
        # The first command of each uuid goes first; the second meets it as one that is there; and so on.
        waiting = list(range(len(records)))
        first: dict[str, int] = {}
        while waiting:
            chosen: dict[str, int] = {}
            later: list[int] = []
            for index in waiting:
                uuid = records[index].command_uuid
                if uuid in chosen:
                    later.append(index)
                else:
                    chosen[uuid] = index
            for chunk in _chunks(chosen.values(), records, self.backend):
                batch = [records[index] for index in chunk]
                try:
                    found = await settle(batch)
                except StoreUnavailable as error:
                    for index, known in zip(chunk, error.fates, strict=False):
                        fates[index] = known
                    error.fates = fates
                    raise
                for index, fate in zip(chunk, found, strict=True):
                    record = records[index]
                    before = first.setdefault(record.command_uuid, index)
                    if settle == self._compare and fate is Fate.CREATED and before != index:
                        # Nothing was written, so a repeated uuid is compared with the one that would have been.
                        fates[index] = Fate.DUPLICATE if records[before].digest == record.digest else Fate.CONFLICTING
                    else:
                        fates[index] = fate
            waiting = later
        return fates

    async def _insert(self, plain: list[Record]) -> list[Fate | CommandStoreError | None]:
        sealed = [self.seal(record) for record in plain]
        try:
            outcomes: Sequence[Any] = await self.backend.insert(sealed, secrets.token_hex(8))
        except StoreUnavailable as error:
            error.fates = await self._fates(plain, sealed, error.outcomes or [None] * len(plain))
            raise
        return await self._fates(plain, sealed, outcomes)

    async def _fates(
        self, plain: list[Record], sealed: list[Record], outcomes: Sequence[Any]
    ) -> list[Fate | CommandStoreError | None]:
        fates: list[Fate | CommandStoreError | None] = []
        there: dict[str, Record | CommandStoreError] = {}
        if self.backend.sealed_as_hex and self.options.crypto is not None:
            # Such a store's digests are over the cipher, and no two ciphers of one payload are alike.
            there = await self.fetch(
                [r.command_uuid for r, o in zip(plain, outcomes, strict=True) if isinstance(o, Exists)]
            )
        for record, stored, outcome in zip(plain, sealed, outcomes, strict=True):
            match outcome:
                case Created():
                    fates.append(Fate.CREATED)
                case Rejected(error=error):
                    fates.append(error)
                case Exists(digest=digest):
                    found = there.get(record.command_uuid)
                    same = found.digest == record.digest if isinstance(found, Record) else digest == stored.digest
                    fates.append(Fate.DUPLICATE if same else Fate.CONFLICTING)
                case _:
                    fates.append(None)
        return fates

    async def _compare(self, plain: list[Record]) -> list[Fate | CommandStoreError | None]:
        uuids = [record.command_uuid for record in plain]
        if self.backend.sealed_as_hex and self.options.crypto is not None:
            found = await self.fetch(uuids)
            digests = {u: r.digest if isinstance(r, Record) else b"" for u, r in found.items()}
            wanted = [record.digest for record in plain]
        else:
            digests = await self.backend.probe(uuids)
            crypto = self.options.crypto
            wanted = [crypto.digest(r.digest) if crypto else r.digest for r in plain]
        return [
            Fate.CREATED if uuid not in digests else Fate.DUPLICATE if digests[uuid] == digest else Fate.CONFLICTING
            for uuid, digest in zip(uuids, wanted, strict=True)
        ]

    # The contract

    async def create(self, command: Command) -> None:
        self.writable()
        record = self.seal(codec.encode(_command(command)))
        [outcome] = await self.backend.insert([record], secrets.token_hex(8))
        if isinstance(outcome, Rejected):
            raise outcome.error
        if isinstance(outcome, Exists):
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
        for command in commands:
            try:
                record = codec.encode(_command(command))
            except InvalidCommand as error:
                account.failed.append(Failure(error.command_uuid or "", error))
                continue
            batch.append(record)
            size += record.size
            if len(batch) >= self.backend.insert_count or size >= self.backend.insert_bytes:
                await self._flush(batch, account)
                batch, size = [], 0
        if batch:
            await self._flush(batch, account)
        return account.result()

    async def _flush(self, batch: list[Record], account: _Account) -> None:
        try:
            account.add(batch, await self.write(batch))
        except StoreUnavailable as error:
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
                if not isinstance(found, Record):
                    raise found
                commands[uuid] = codec.decode(found)
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
                if row.record is None:
                    corrupt.append(row.error or CorruptRecord("a record that can't be read"))
                else:
                    commands.append(codec.decode(row.record))
            key, ended = found.next_key, found.next_key is None
        after = None if ended or key is None else write_cursor(key, self.backend.location, query)
        return Page(tuple(commands), total, after, tuple(corrupt))

    async def total(self, query: CommandQuery) -> int:
        self.ready()
        return await self.backend.count(query) if askable(query) else 0

    async def update(self, command: Command) -> bool:
        self.writable()
        return await self.backend.replace(self.seal(codec.encode(_command(command))), secrets.token_hex(8))

    async def delete(self, command_uuid: str) -> bool:
        self.writable()
        uuid = codec.read_uuid(command_uuid)
        return len(uuid.encode()) <= codec.MAX_UUID_BYTES and await self.backend.remove(uuid)

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
        await self.backend.clear()

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
        self._uuids: dict[Fate, list[str]] = {fate: [] for fate in Fate}

    def add(self, records: Sequence[Record], fates: Sequence[Fate | CommandStoreError | None]) -> None:
        for record, fate in zip(records, fates, strict=False):
            if isinstance(fate, Fate):
                self._uuids[fate].append(record.command_uuid)
            elif fate is not None:
                self.failed.append(Failure(record.command_uuid, fate))

    def result(self) -> BatchResult:
        return BatchResult(
            created=tuple(self._uuids[Fate.CREATED]),
            duplicate=tuple(self._uuids[Fate.DUPLICATE]),
            conflicting=tuple(self._uuids[Fate.CONFLICTING]),
            failed=tuple(self.failed),
        )


def _chunks(indexes: Iterable[int], records: Sequence[Record], backend: Backend) -> Iterator[list[int]]:
    """Cut into what the backend takes at once, by count and by bytes."""
    chunk: list[int] = []
    size = 0
    for index in indexes:
        weight = records[index].size
        if chunk and (len(chunk) >= backend.insert_count or size + weight > backend.insert_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(index)
        size += weight
    if chunk:
        yield chunk


def _command(command: object) -> Command:
    if not isinstance(command, Command):
        raise InvalidCommand(f"a Command is needed, not {type(command).__name__}")
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
