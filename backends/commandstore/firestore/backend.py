"""Commands in Firestore: the primitives, over the modules beside this one. docs/firestore.md says more."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws.retry import Retry
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Backend, Capability, Key, Outcome, Register, Slice, is_position
from commandstore.drive import Drive
from commandstore.errors import ConfigurationError, CorruptRecord, StoreUnavailable
from commandstore.firestore import upkeep
from commandstore.firestore.client import Calls, connect, emulator_host
from commandstore.firestore.faults import DEFAULT_DATABASE, Place
from commandstore.firestore.layout import MOST_SHARDS
from commandstore.firestore.reader import Reader
from commandstore.firestore.requests import create, delete, put
from commandstore.firestore.values import Plain
from commandstore.firestore.wire import ConditionFailed, Wire
from commandstore.firestore.writer import Writer
from commandstore.url import StoreUrl

__all__ = ["FirestoreBackend", "from_url"]

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,62}")
_MOST_CONCURRENCY = 128


class FirestoreBackend(Backend):
    """Commands in one collection.

    Args:
        project: of Google Cloud.
        collection: its name.
        database: in that project.
        shards: of a new collection: over how many index ranges writes are spread, each of which takes 500 a second.
        concurrency: how many requests are under way at once.
        credentials: of google-auth; None takes the environment's.
        retry: how long to try again.
        around: wraps the client's calls, for tests and for those who count.
        now: seconds since 1970.

    An emulator that FIRESTORE_EMULATOR_HOST names is used in Firestore's place, without any credentials.
    """

    store_type = "firestore"
    capabilities = frozenset({Capability.DIGESTS, Capability.MAINTENANCE})

    def __init__(
        self,
        project: str,
        collection: str,
        *,
        database: str = DEFAULT_DATABASE,
        shards: int = 8,
        concurrency: int = 8,
        credentials: Any = None,
        retry: Retry | None = None,
        around: Callable[[Calls], Calls] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        for name, value in (("project", project), ("collection", collection)):
            if not _NAME.fullmatch(value) or (value.startswith("__") and value.endswith("__")) or value in {".", ".."}:
                raise ConfigurationError(
                    f"firestore: {_shown(value)} is no name of a {name}: firestore://PROJECT/COLLECTION"
                )
        if not _DATABASE.fullmatch(database):
            raise ConfigurationError(f"firestore: {_shown(database)} is no name of a database")
        if not 1 <= shards <= MOST_SHARDS:
            raise ConfigurationError(f"firestore: shards is a number from 1 to {MOST_SHARDS}, not {shards}")
        self._place = Place(project, collection, database, emulator_host())
        self._shards = shards
        self._concurrency = concurrency
        self._credentials = credentials
        self._retry = retry or Retry()
        self._around = around
        self._now = now
        self._stack: AsyncExitStack | None = None

    @property
    def location(self) -> str:
        return self._place.url

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        async with AsyncExitStack() as stack:
            calls = await connect(drive, stack, self._place, credentials=self._credentials, around=self._around)
            self._wire = Wire(calls, drive, self._place, retry=self._retry, concurrency=self._concurrency)
            self._layout = await upkeep.open_layout(self._wire, self._place, self._shards, create_it=create)
            self._reader = Reader(self._wire, self._layout)
            self._writer = Writer(self._wire, self._layout)
            # Only what opened well stays open.
            self._stack = stack.pop_all()

    async def close(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    # Commands

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return await self._writer.insert(records, write_id)

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        return await self._reader.fetch(list(dict.fromkeys(uuids)))

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        return await self._reader.probe(list(dict.fromkeys(uuids)))

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        return await self._reader.page(query, after, limit, payload=payload)

    def is_key(self, key: Key) -> bool:
        return is_position(key)

    async def count(self, query: CommandQuery) -> int:
        return await self._reader.count(query)

    async def replace(self, record: Record, write_id: str) -> bool:
        return await self._writer.replace(record, write_id)

    async def remove(self, command_uuid: str) -> bool:
        return await self._writer.remove(command_uuid)

    async def clear(self) -> None:
        await upkeep.clear(self._wire, self._layout)

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        removed = await upkeep.collect(self._wire, self._layout, grace=grace, now=self._now())
        return {"parts_removed": removed}

    # Registers

    async def register_get(self, name: str) -> Register | None:
        key = self._layout.register(name)
        return upkeep.read_register((await self._wire.batch_get([key])).get(key))

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        key = self._layout.register(name)
        document = (await self._wire.batch_get([key])).get(key)
        there = upkeep.read_register(document)
        if there is not None and there.token == token:
            return True  # done by an earlier try
        if (there.token if there else None) != expected:
            return there is None and value is None
        if document is None and value is None:
            return True
        values: dict[str, Plain] = {"value": value or b"", "token": token}
        if document is None:
            write = create(key, values)
        elif value is None:
            write = delete(key, update_time=document.update_time)
        else:
            write = put(key, values, update_time=document.update_time)
        try:
            await self._wire.commit([write])
        except ConditionFailed as failed:
            # A lost answer: what is asked for is in place already.
            now = await self.register_get(name)
            if value is None if now is None else now.token == token:
                return True
            if failed.lost:
                raise StoreUnavailable(
                    f"register {name!a} was swapped by others while one answer was lost; whether that swap was done is "
                    "unknown"
                ) from failed
            return False
        return True


def from_url(url: StoreUrl) -> FirestoreBackend:
    """``firestore://PROJECT/COLLECTION?database=&concurrency=``, and for a new store ``shards=``.

    Raises:
        ConfigurationError: names what can't be right.
    """
    options = url.only({"database", "shards", "concurrency"})
    domain, colon, _ = url.host.partition(":")  # the projects of a domain are example.com:PROJECT
    if "@" in url.host or (colon and "." not in domain):  # not shown: it may be a key
        raise ConfigurationError("firestore: write the project alone after //; credentials come from Google's settings")
    return FirestoreBackend(
        url.host,
        url.path,
        database=options.get("database") or DEFAULT_DATABASE,
        shards=_number(options, "shards", 8, MOST_SHARDS),
        concurrency=_number(options, "concurrency", 8, _MOST_CONCURRENCY),
    )


def _shown(name: str) -> str:
    return "this" if {":", "@"} & set(name) else ascii(name)  # it may be a user with a password


def _number(options: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ConfigurationError(f"firestore: {name} is a number from 1 to {most}, not {text!r}")
    return int(text)
