"""Reading a store's ledger: entries by number, and what they speak of. What is read is not verified; audits do that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import orjson

from commandstore.contract import Backend
from commandstore.drive import Drive
from commandstore.errors import CorruptRecord, LedgerError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, unpack

__all__ = ["AT_ONCE", "HEAD", "LedgerReader", "body_name", "entry_name", "unreadable"]

AT_ONCE = 16
"""How many registers are asked for, or written, at once."""

HEAD = "ledger/head"
"""The register that names the newest entry, or one not long before it."""


class LedgerReader:
    """Reads the ledger of one store.

    Args:
        backend: the store's.
        drive: the store's.
    """

    def __init__(self, backend: Backend, drive: Drive) -> None:
        self.backend = backend
        self._drive = drive

    async def begun(self) -> bool:
        """Whether there is one, damaged or not."""
        try:
            return await self._value(HEAD, "its head") is not None or await self._entry(1) is not None
        except LedgerError:
            return True

    async def hint(self) -> int:
        """The number that the head names: of an entry that was there once. 0 without one.

        Raises:
            LedgerError: it can't be read.
        """
        value = await self._value(HEAD, "the head of the ledger")
        if value is None:
            return 0
        try:
            sequence = orjson.loads(value)["sequence"]
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError("the head of the ledger can't be read") from error
        if not isinstance(sequence, int) or sequence < 0:
            raise LedgerError("the head of the ledger names no entry")
        return sequence

    async def head(self) -> Entry | None:
        """The newest entry; None where there is none. Linearizable.

        Raises:
            LedgerError: it can't be read. (One before it may be damaged; it is there all the same.)
        """
        try:
            newest = await self.hint()
        except LedgerError:
            newest = 0  # only a hint: the entries are what counts
        found = await self._found(newest) if newest else None
        if found is None:
            newest, found = await self._search()
        while (after := await self._found(newest + 1)) is not None:
            newest, found = newest + 1, after
        if isinstance(found, LedgerError):
            raise found
        return found

    async def read(self, after: int, limit: int) -> list[Entry]:
        """The entries after a number, in order, as they are stored; fewer than ``limit`` only at the end.

        Raises:
            LedgerError: one can't be read; ``sequence`` says which.
        """
        found: list[Entry] = []
        while len(found) < limit:
            first = after + len(found) + 1
            numbers = range(first, first + min(AT_ONCE, limit - len(found)))
            jobs = [partial(self._entry, number) for number in numbers]
            some = await self._drive.gather(jobs, AT_ONCE)
            there = some.index(None) if None in some else len(some)
            found += [entry for entry in some[:there] if entry is not None]
            if there < len(some):
                break
        return found

    async def leaves(self, entry: Entry) -> list[Leaf]:
        """What an entry speaks of.

        Raises:
            LedgerError: some of it is missing or damaged. Whether it is what the entry's root says is not looked at.
        """
        # None is asked for after one that is gone: how many there are is what a forger may say, too.
        jobs = [partial(self._part, entry, part) for part in range(entry.parts)]
        parts = await self._drive.gather(jobs, AT_ONCE)
        try:
            return unpack(parts)
        except LedgerError as error:
            raise LedgerError(f"entry {entry.sequence} of the ledger: {error}", sequence=entry.sequence) from error

    async def readable_entries(self, numbers: Sequence[int]) -> list[Entry]:
        """Those of these entries that are there and can be read."""
        jobs = [partial(self._readable_entry, number) for number in numbers]
        return [entry for entry in await self._drive.gather(jobs, AT_ONCE) if entry is not None]

    async def readable_leaves(self, number: int) -> list[Leaf]:
        """What an entry speaks of; nothing where it, or that, can't be read."""
        entry = await self._readable_entry(number)
        try:
            return [] if entry is None else await self.leaves(entry)
        except LedgerError:
            return []

    async def _part(self, entry: Entry, part: int) -> bytes:
        what = f"entry {entry.sequence} of the ledger: part {part} of its leaves"
        value = await self._value(body_name(entry.root, part), what, entry.sequence)
        if value is None:
            raise LedgerError(f"{what} is gone", sequence=entry.sequence)
        return value

    async def _search(self) -> tuple[int, Entry | LedgerError | None]:
        """The newest entry where the head names none that is there. Their numbers have no gaps."""
        low, high, found = 0, 1, None
        while (there := await self._found(high)) is not None:
            low, high, found = high, high * 2, there
        while high - low > 1:
            middle = (low + high) // 2
            there = await self._found(middle)
            low, high, found = (low, middle, found) if there is None else (middle, high, there)
        return low, found

    async def _readable_entry(self, number: int) -> Entry | None:
        found = await self._found(number)
        return None if isinstance(found, LedgerError) else found

    async def _found(self, number: int) -> Entry | LedgerError | None:
        """An entry, or why the one that is there can't be read."""
        try:
            return await self._entry(number)
        except LedgerError as error:
            return error

    async def _entry(self, sequence: int) -> Entry | None:
        value = await self._value(entry_name(sequence), f"entry {sequence} of the ledger", sequence)
        if value is None:
            return None
        try:
            entry = Entry.from_json(value)
        except LedgerError as error:
            raise LedgerError(f"entry {sequence} of the ledger: {error}", sequence=sequence) from error
        if entry.sequence != sequence:
            raise LedgerError(
                f"entry {sequence} of the ledger says that it is entry {entry.sequence}", sequence=sequence
            )
        return entry

    async def _value(self, name: str, what: str, sequence: int | None = None) -> bytes | None:
        """What a register of the ledger holds; None without one.

        Raises:
            LedgerError: it is there, and the store can't read it. To the ledger that is damage like any other.
        """
        try:
            found = await self.backend.register_get(name)
        except CorruptRecord as error:
            raise LedgerError(f"{what} can't be read: {unreadable(error)}", sequence=sequence) from error
        return None if found is None else found.value


def unreadable(error: CorruptRecord) -> str:
    """What is said of a register of the ledger that the store can't read."""
    return f"{error}; restore it from a backup, and do not remove it"


def entry_name(sequence: int) -> str:
    """The register of an entry."""
    return f"ledger/entry/{sequence:012}"


def body_name(root: str, part: int) -> str:
    """The register of a part of what an entry of this root speaks of."""
    return f"ledger/leaves/{root}/{part}"
