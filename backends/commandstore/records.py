"""Plain records over any backend: what the contract and the sync are both made from.

Options and read-only, the one place where payloads are sealed and opened, and writes that say what became of each
record.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import CREATED, Backend, Created, Exists, Key, Rejected, Row, Slice, Window
from commandstore.crypto import Crypto
from commandstore.drive import AsyncDrive, Drive
from commandstore.errors import CommandStoreError, ConfigurationError, DecryptionError, ReadOnlyStore, StoreClosed

__all__ = ["Fate", "RecordCore", "StoreOptions"]


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


class RecordCore:
    """A backend, its drive and its options; plain records in and out."""

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
            CommandStoreError: ``fates`` has what is known, as this method would have returned it.
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
                except CommandStoreError as error:
                    for index, known in zip(chunk, error.fates, strict=False):
                        fates[index] = known
                    error.fates = fates
                    raise
                for index, fate in zip(chunk, found, strict=True):
                    fates[index] = fate
                if settle == self._compare:
                    self._compare_repeated(chunk, records, first, fates)
            waiting = later
        return fates

    @staticmethod
    def _compare_repeated(
        chunk: Iterable[int], records: Sequence[Record], first: dict[str, int], fates: list[Any]
    ) -> None:
        """Nothing was written, so a repeated uuid is compared with the one that would have been."""
        for index in chunk:
            record = records[index]
            before = first.setdefault(record.command_uuid, index)
            if fates[index] is Fate.CREATED and before != index:
                fates[index] = Fate.DUPLICATE if records[before].digest == record.digest else Fate.CONFLICTING

    async def _insert(self, plain: list[Record]) -> list[Fate | CommandStoreError | None]:
        sealed = plain if self.options.crypto is None else [self.seal(record) for record in plain]
        try:
            outcomes: Sequence[Any] = await self.backend.insert(sealed, secrets.token_hex(8))
        except CommandStoreError as error:
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
            if outcome is CREATED:  # what nearly all are
                fates.append(Fate.CREATED)
                continue
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
