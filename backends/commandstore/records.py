"""Plain records over any backend: what the contract and the sync are both made from.

Options and read-only, and writes that say what became of each record and are recorded in the store's ledger, where it
has one. ``sealing.py`` seals and opens.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

from commandstore.batches import chunks, waves
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import CREATED, Backend, Created, Exists, Key, Rejected, Row, Slice, Window
from commandstore.drive import AsyncDrive, Drive
from commandstore.errors import CommandStoreError, ConfigurationError, DecryptionError, ReadOnlyStore, StoreClosed
from commandstore.ledger.entry import Kind
from commandstore.ledger.journal import Journal
from commandstore.ledger.leaves import Leaf, Op, leaf_of
from commandstore.ledger.log import Ledger
from commandstore.options import StoreOptions
from commandstore.sealing import Sealing

__all__ = ["Fate", "RecordCore", "StoreOptions"]


class Fate(Enum):
    """What became of a record that was written, or would become of it."""

    CREATED = "created"
    DUPLICATE = "duplicate"
    CONFLICTING = "conflicting"


class RecordCore:
    """A backend, its drive and its options; plain records in and out."""

    def __init__(self, backend: Backend, drive: Drive) -> None:
        self.backend = backend
        self.drive = drive
        self.options = StoreOptions()
        self.ledger: Ledger | None = None
        self.sealing = Sealing(None, as_hex=False, drive=drive)
        self._open = False
        # Of writes that were stopped: what may have been written, and is in no entry.
        self._unrecorded: deque[Journal] = deque()

    # Opening and closing

    async def init(self, options: StoreOptions, *, create: bool) -> None:
        options.check()
        if not self._open:
            if isinstance(self.drive, AsyncDrive):
                self.drive.bind()
            await self.backend.open(self.drive, create=create and not options.read_only)
            self._open = True
        self.options = options
        self.sealing = Sealing(options.crypto, as_hex=self.backend.sealed_as_hex, drive=self.drive)
        self.begin_ledger()

    def begin_ledger(self) -> None:
        """Know nothing of the ledger any more, where there is a signer: it is read when something is recorded."""
        signer = self.options.signer
        self.ledger = None if signer is None else Ledger(self.backend, self.drive, signer)
        self._unrecorded.clear()

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

    # Plain records, for replication and the methods below

    async def pages(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        """As :meth:`Backend.page`, with plain records."""
        self.ready()
        found = await self.backend.page(query, after, limit, payload=payload)
        return Slice(await self._opened(found.rows), found.next_key) if payload else found

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        """As :meth:`Backend.feed`, with plain records."""
        self.ready()
        found = await self.backend.feed(query, window, after, limit)
        return Slice(await self._opened(found.rows), found.next_key)

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        """As :meth:`Backend.feed_again`, with plain records."""
        self.ready()
        rows = await self.backend.feed_again(keys)
        there = iter(await self._opened([row for row in rows if row is not None]))
        return [row and next(there) for row in rows]

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CommandStoreError]:
        """As :meth:`Backend.fetch`, with plain records, and errors in place of what can't be read."""
        self.ready()
        found = await self.backend.fetch(uuids)
        records = [record for record in found.values() if isinstance(record, Record)]
        opened = {r.command_uuid: plain for r, plain in zip(records, await self._open_all(records), strict=True)}
        return {uuid: opened[uuid] if isinstance(record, Record) else record for uuid, record in found.items()}

    async def _opened(self, rows: list[Row]) -> list[Row]:
        sealed = [row.record for row in rows if row.record is not None and (self.options.crypto or row.record.cipher)]
        if not sealed:
            return rows
        opened = {id(r): plain for r, plain in zip(sealed, await self._open_all(sealed), strict=True)}
        return [
            row
            if row.record is None or (plain := opened.get(id(row.record))) is None
            else row._replace(record=plain)
            if isinstance(plain, Record)
            else row._replace(record=None, error=plain)
            for row in rows
        ]

    async def _open_all(self, records: Sequence[Record]) -> list[Record | DecryptionError]:
        opened = await self.sealing.open(records)
        if self.options.on_undecryptable == "keep":
            for record, plain in zip(records, opened, strict=True):
                if isinstance(plain, DecryptionError):
                    plain.stored = record
        return opened

    async def write(
        self, records: Sequence[Record], *, journal: Journal | None = None, kind: Kind = "create"
    ) -> list[Fate | CommandStoreError]:
        """Insert plain records, which may repeat a uuid; what became of each, aligned.

        Args:
            records: the records.
            journal: notes what was written, for the caller to record it in the ledger; without one, and with a
                ledger, it is recorded here.
            kind: as what it is recorded here; for a repair, what the ledger knows already is not recorded again.

        Raises:
            CommandStoreError: ``fates`` has what is known, as this method would have returned it.
        """
        self.writable()
        own = self.journal(careful=kind == "repair") if journal is None else None
        if own is None:
            return await self._settle(records, partial(self._insert, journal))
        await self.ready_to_record()
        with suppress(IndexError):
            while True:
                own.take_over(self._unrecorded.popleft())
        try:
            return await self._write_and_record(records, own, kind)
        finally:
            # Whatever stopped it, also a task that was cancelled: what was written is recorded with the next write.
            if own.waiting:
                self._unrecorded.append(own)

    async def _write_and_record(
        self, records: Sequence[Record], own: Journal, kind: Kind
    ) -> list[Fate | CommandStoreError]:
        try:
            fates = await self._settle(records, partial(self._insert, own))
        except CommandStoreError as stop:
            try:
                await own.record(kind)
            except CommandStoreError as error:
                stop.add_note(f"what was written before that could not be recorded in the ledger: {error}")
            raise
        try:
            await own.record(kind)
        except CommandStoreError as error:
            error.fates = fates
            raise
        return fates

    def journal(self, *, careful: bool = False) -> Journal | None:
        """Where a writer of many batches notes what it wrote, to record it in few entries; None without a ledger.

        Args:
            careful: see :class:`Journal`.
        """
        if self.ledger is None:
            return None
        # What is sealed anew has another digest: where the ledger knows the command, that is an update to it.
        careful = careful or self.options.crypto is not None
        return Journal(self.ledger, fresh=not self.sealing.digests_are_of_ciphers, careful=careful)

    async def replace_recorded(self, plain: Record, *, kind: Kind = "update") -> bool:
        """Put a plain record in the place of the one with its uuid; False when there is none.

        With a ledger, it is recorded before it is done: a kill in between leaves a signed word of what was about to
        happen, which an audit tells from tampering; the other way round it could not.

        Raises:
            DecryptionError: its key was destroyed.
        """
        self.writable()
        [sealed] = await self.sealing.seal([plain])
        if isinstance(sealed, DecryptionError):
            raise sealed
        write_id = secrets.token_hex(8)
        if self.ledger is None:
            return await self.backend.replace(sealed, write_id)
        await self.ledger.begin()
        stored = (await self.backend.fetch([sealed.command_uuid])).get(sealed.command_uuid)
        if stored is None:
            return False
        leaf = leaf_of(Op.UPDATE, sealed)
        number = await self.ledger.announce(kind, stored, leaf)
        done = await self.backend.replace(sealed, write_id)
        await self.ledger.look_after(kind, leaf, number, done=done)
        return done

    async def remove_recorded(self, uuid: str, *, kind: Kind = "delete") -> bool:
        """Remove the record of this uuid; False when there is none. Recorded as ``replace_recorded`` is."""
        self.writable()
        if self.ledger is None:
            return await self.backend.remove(uuid)
        await self.ledger.begin()
        stored = (await self.backend.fetch([uuid])).get(uuid)
        if stored is None:
            return False
        leaf = leaf_of(Op.DELETE, stored) if isinstance(stored, Record) else Leaf(Op.DELETE, uuid, bytes(32), 0)
        number = await self.ledger.announce(kind, stored, leaf)
        done = await self.backend.remove(uuid)
        await self.ledger.look_after(kind, leaf, number, done=done)
        return done

    async def ready_to_record(self) -> None:
        """To be called once before what is written is noted in a journal.

        Raise where the store keeps a ledger and was opened without a signer.

        Raises:
            ConfigurationError: what would be written could not be recorded; nothing was changed.
        """
        if self.ledger is not None:
            await self.ledger.begin()
        elif await Ledger(self.backend, self.drive).begun():
            raise ConfigurationError(
                f"{self.backend.location} keeps a ledger of what is written to it, so open it with the key that signs "
                "its entries (signer=, --signing-key, COMMANDSTORE_LEDGER_KEY); nothing was changed"
            )

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
        first: dict[str, int] = {}
        for wave in waves(records):
            for chunk in chunks(wave, records, self.backend):
                try:
                    found = await settle([records[index] for index in chunk])
                except CommandStoreError as error:
                    for index, known in zip(chunk, error.fates, strict=False):
                        fates[index] = known
                    error.fates = fates
                    raise
                for index, fate in zip(chunk, found, strict=True):
                    fates[index] = fate
                if settle == self._compare:
                    self._compare_repeated(chunk, records, first, fates)
        return fates

    @staticmethod
    def _compare_repeated(
        chunk: Sequence[int], records: Sequence[Record], first: dict[str, int], fates: list[Any]
    ) -> None:
        """Nothing was written, so a repeated uuid is compared with the one that would have been."""
        for index in chunk:
            record = records[index]
            before = first.setdefault(record.command_uuid, index)
            if fates[index] is Fate.CREATED and before != index:
                fates[index] = Fate.DUPLICATE if records[before].digest == record.digest else Fate.CONFLICTING

    async def _insert(self, journal: Journal | None, plain: list[Record]) -> list[Fate | CommandStoreError | None]:
        if self.options.crypto is None:
            return await self._inserted(journal, plain, plain)
        sealed = await self.sealing.seal(plain)
        good = [index for index, record in enumerate(sealed) if isinstance(record, Record)]
        fates: list[Fate | CommandStoreError | None] = [r if isinstance(r, DecryptionError) else None for r in sealed]
        if not good:
            return fates
        stored = [record for record in sealed if isinstance(record, Record)]
        try:
            found = await self._inserted(journal, [plain[index] for index in good], stored)
        except CommandStoreError as error:
            for index, fate in zip(good, error.fates, strict=True):
                fates[index] = fate
            error.fates = fates
            raise
        for index, fate in zip(good, found, strict=True):
            fates[index] = fate
        return fates

    async def _inserted(
        self, journal: Journal | None, plain: list[Record], sealed: list[Record]
    ) -> list[Fate | CommandStoreError | None]:
        since = journal.since if journal is not None else 0
        try:
            outcomes: Sequence[Any] = await self.backend.insert(sealed, secrets.token_hex(8))
        except CommandStoreError as error:
            error.fates = fates = await self._fates(plain, sealed, error.outcomes or [None] * len(plain))
            _note(journal, since, sealed, fates)
            raise
        except BaseException:  # a task that is cancelled, Ctrl-C: nobody knows what was done
            _note(journal, since, sealed, [None] * len(sealed))
            raise
        fates = await self._fates(plain, sealed, outcomes)
        _note(journal, since, sealed, fates)
        return fates

    async def _fates(
        self, plain: list[Record], sealed: list[Record], outcomes: Sequence[Any]
    ) -> list[Fate | CommandStoreError | None]:
        if all(outcome is CREATED for outcome in outcomes):  # as nearly always
            return [Fate.CREATED] * len(plain)
        fates: list[Fate | CommandStoreError | None] = []
        there: dict[str, Record | CommandStoreError] = {}
        if self.sealing.digests_are_of_ciphers:
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
        if self.sealing.digests_are_of_ciphers:
            found = await self.fetch(uuids)
            digests = {u: r.digest if isinstance(r, Record) else b"" for u, r in found.items()}
        else:
            digests = await self.backend.probe(uuids)
        # Of what is there alone, so that a comparison makes no key for a tenant that has none.
        there = [record for record in plain if record.command_uuid in digests]
        wanted = {r.command_uuid: digest for r, digest in zip(there, await self.sealing.keyed(there), strict=True)}
        return [_compared(digests.get(uuid), wanted.get(uuid)) for uuid in uuids]


def _compared(digest: bytes | None, wanted: bytes | DecryptionError | None) -> Fate | CommandStoreError:
    if digest is None or wanted is None:
        return Fate.CREATED
    if isinstance(wanted, DecryptionError):
        return wanted
    return Fate.DUPLICATE if digest == wanted else Fate.CONFLICTING


def _note(
    journal: Journal | None, since: int, sealed: Sequence[Record], fates: Sequence[Fate | CommandStoreError | None]
) -> None:
    if journal is not None:
        journal.created((record for record, fate in zip(sealed, fates, strict=True) if fate is Fate.CREATED), since)
        journal.found(record for record, fate in zip(sealed, fates, strict=True) if fate is Fate.DUPLICATE)
        journal.perhaps(record for record, fate in zip(sealed, fates, strict=True) if fate is None)
