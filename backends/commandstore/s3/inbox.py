"""Commands that came alone, one object each, until a compaction moves them into segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from commandstore.command import INT64_MIN
from commandstore.errors import CorruptRecord
from commandstore.s3.layout import INBOX, Stored, decode_row, encode_rows, inbox_key, inbox_uuid, is_whole, with_check
from commandstore.s3.objects import Cache
from commandstore.s3.wire import Entry, Wire

__all__ = ["Inbox", "Letter"]

_CACHED_BYTES = 32 * 1024 * 1024
_ASKED = 16
"""So many objects are rather asked for one by one than listed with all others."""


class Letter(NamedTuple):
    """An object of the inbox.

    Attributes:
        key: of the object.
        command_uuid: whose; of an object that can't be read, as far as its key says.
        stored: the row; None where it can't be read.
        error: why it can't.
    """

    key: str
    command_uuid: str
    stored: Stored | None
    error: CorruptRecord | None = None

    @property
    def position(self) -> tuple[int, str]:
        """Where it stands in the order; one that can't be read stands before all others."""
        return (INT64_MIN, self.command_uuid) if self.stored is None else self.stored.record.position

    @property
    def put_id(self) -> str | None:
        """Of the object."""
        return self.stored.put_id if self.stored else None


class Inbox:
    """Reads and writes of one store's inbox."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.seen = 0
        """How many objects there were when they were listed last."""
        self._read: Cache[tuple[str, str], Letter] = Cache(_CACHED_BYTES)

    async def put(self, store: str, stored: Stored) -> str:
        """Write a command that isn't there; its key.

        Raises:
            ConditionFailed: it is there, by an earlier attempt of this very call perhaps.
        """
        key = inbox_key(store, stored.record.command_uuid)
        await self._wire.put(key, body_of(stored), only_new=True)
        return key

    async def get(self, store: str, command_uuid: str) -> Letter | None:
        """The object of a uuid."""
        key = inbox_key(store, command_uuid)
        got = await self._wire.get(key)
        return None if got is None else _open(key, got.data)

    async def listed(self, store: str) -> list[Entry]:
        """All objects, unread, by key."""
        found = await self._wire.list_all(f"{INBOX}{store}/")
        self.seen = len(found)
        return found

    async def read(self, entries: Sequence[Entry]) -> list[Letter]:
        """Objects that were listed; those that are gone by now are left out."""
        jobs = [partial(self._letter, entry) for entry in entries]
        letters = await self._wire.drive.gather(jobs, self._wire.concurrency)
        return [letter for letter in letters if letter is not None]

    async def _letter(self, entry: Entry) -> Letter | None:
        # No two lives of an object have one ETag, as its put-id is in it.
        letter = self._read.get((entry.key, entry.etag))
        if letter is None:
            got = await self._wire.get(entry.key)
            if got is None:
                return None
            letter = _open(entry.key, got.data)
            self._read.put((entry.key, got.etag), letter, 1000 + 2 * len(got.data))
        return letter

    async def find(self, store: str, uuids: Sequence[str]) -> dict[str, Letter]:
        """The objects of these uuids."""
        if len(uuids) <= _ASKED:
            asked = [partial(self.get, store, uuid) for uuid in uuids]
            found = await self._wire.drive.gather(asked, self._wire.concurrency)
            return {uuid: letter for uuid, letter in zip(uuids, found, strict=True) if letter is not None}
        listed = {entry.key: entry for entry in await self.listed(store)}
        if not listed:
            return {}
        keys = {uuid: inbox_key(store, uuid) for uuid in uuids}
        letters = await self.read([listed[key] for key in keys.values() if key in listed])
        by_key: Mapping[str, Letter] = {letter.key: letter for letter in letters}
        return {uuid: by_key[key] for uuid, key in keys.items() if key in by_key}


def body_of(stored: Stored) -> bytes:
    """An object of one row."""
    [line] = encode_rows([stored]).lines
    return with_check(line[:-1])


def _open(key: str, data: bytes) -> Letter:
    try:
        if not is_whole(data):
            raise CorruptRecord(f"object {key} was altered or cut off", location=key)  # noqa: TRY301 - kept just below
        stored = decode_row(data, key)
        if inbox_key(key.split("/")[1], stored.record.command_uuid) != key or stored.put_id is None:
            raise CorruptRecord(f"object {key} holds another command than its name says", location=key)  # noqa: TRY301
    except CorruptRecord as error:
        return Letter(key, inbox_uuid(key) or key, None, error)
    return Letter(key, stored.record.command_uuid, stored)
