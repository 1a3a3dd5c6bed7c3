"""Commands in DynamoDB: the primitives, over the modules beside this one.

| what                     | permissions on the table (``dynamodb:``), and on its indexes where it lists              |
|--------------------------|------------------------------------------------------------------------------------------|
| opening                  | DescribeTable, GetItem                                                                   |
| get, get_many            | BatchGetItem, GetItem                                                                    |
| list, scan, total, info  | Query (on ``index/*`` too), BatchGetItem, GetItem                                        |
| create, update           | PutItem, GetItem; BatchWriteItem for long payloads                                       |
| create_many              | PartiQLInsert, PutItem, BatchGetItem, GetItem; BatchWriteItem (long payloads, bulk=put)  |
| delete                   | GetItem, DeleteItem; BatchWriteItem for long payloads                                    |
| checkpoints, leases      | GetItem, PutItem                                                                         |
| reset, gc                | Scan, BatchGetItem, BatchWriteItem                                                       |
| init of a new table      | CreateTable, Scan, PutItem; UpdateContinuousBackups with ``pitr=true``                   |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws.options import MOST_CONCURRENCY, endpoint_of, number_of
from commandstore.aws.retry import Retry
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Backend, Capability, Key, Outcome, Register, Slice, is_position
from commandstore.drive import Drive
from commandstore.dynamodb import layout, upkeep
from commandstore.dynamodb.bulk import Bulk
from commandstore.dynamodb.client import connect, located
from commandstore.dynamodb.faults import Place
from commandstore.dynamodb.lists import Lister
from commandstore.dynamodb.parts import Parts
from commandstore.dynamodb.reader import Reader
from commandstore.dynamodb.requests import ABSENT, unchanged
from commandstore.dynamodb.single import Single
from commandstore.dynamodb.table import Creation, open_table
from commandstore.dynamodb.wire import ConditionFailed, Wire
from commandstore.errors import ConfigurationError, CorruptRecord, StoreUnavailable
from commandstore.url import StoreUrl

__all__ = ["DynamoDBBackend", "from_url"]


class DynamoDBBackend(Backend):
    """Commands in one DynamoDB table.

    Args:
        table: its name.
        region: None takes the environment's.
        endpoint_url: of an emulator or a private endpoint.
        profile: of the shared AWS configuration.
        bulk: ``"auto"`` and ``"partiql"`` insert by conditional statements, safe with any number of writers; ``"put"``
            is for engines without PartiQL: commands are probed for and then put without a condition, which is right
            only while nobody else writes.
        concurrency: how many requests are under way at once.
        creation: how the table is made where there is none.
        session: of boto3 (aioboto3 for an ``AsyncCommandStore``), for credentials that the environment doesn't have.
        retry: how long to try again.
        now: seconds since 1970.

    Every int64 is a number by its decimal digits, payloads are binary, everything else is a string.
    """

    store_type = "dynamodb"
    capabilities = frozenset({Capability.DIGESTS, Capability.MAINTENANCE})
    list_is_consistent = False

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
        bulk: str = "auto",
        concurrency: int = 8,
        creation: Creation | None = None,
        session: Any = None,
        retry: Retry | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if bulk not in {"auto", "partiql", "put"}:
            raise ConfigurationError(f"dynamodb: bulk is auto, partiql or put, not {bulk!r}")
        self._place = Place(layout.check_table_name(table), region, endpoint_of(endpoint_url, "dynamodb"))
        self._profile = profile
        self._put = bulk == "put"
        self._concurrency = concurrency
        self._creation = creation or Creation()
        self._session = session
        self._retry = retry or Retry()
        self._now = now
        self._found: Place | None = None
        self._stack: AsyncExitStack | None = None

    @property
    def location(self) -> str:
        return self._located().url

    def _located(self) -> Place:
        # Once, as cursors ask for it, and so that it never changes under a store that is open.
        if self._found is None:
            self._found = located(self._place, self._profile, self._session)
        return self._found

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        async with AsyncExitStack() as stack:
            place = self._located()
            client = await connect(
                drive,
                stack,
                place=place,
                profile=self._profile,
                concurrency=self._concurrency,
                session=self._session,
            )
            self._wire = Wire(client, drive, place, retry=self._retry, concurrency=self._concurrency)
            shards = await open_table(self._wire, drive, self._creation, create=create)
            parts = Parts(self._wire, self._now)
            self._single = Single(self._wire, shards, parts)
            self._bulk = Bulk(
                self._wire, drive, shards, self._single, parts, concurrency=self._concurrency, put=self._put
            )
            self._reader = Reader(self._wire)
            self._lister = Lister(self._wire, drive, shards, concurrency=self._concurrency)
            # Only what opened well stays open.
            self._stack = stack.pop_all()

    async def close(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    # Commands

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return await self._bulk.insert(records, write_id)

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        return await self._reader.read(dict.fromkeys(uuids, 0))

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        heads = await self._bulk.heads(list(dict.fromkeys(uuids)))
        return {uuid: head.digest for uuid, head in heads.items()}

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        return await self._lister.page(query, after, limit, payload=payload)

    def is_key(self, key: Key) -> bool:
        # The text alone is the key of an entry whose position was altered.
        return is_position(key) or (len(key) == 1 and isinstance(key[0], str))

    async def count(self, query: CommandQuery) -> int:
        return await self._lister.count(query)

    async def replace(self, record: Record, write_id: str) -> bool:
        return await self._single.replace(record, write_id)

    async def remove(self, command_uuid: str) -> bool:
        return await self._single.remove(command_uuid)

    async def clear(self) -> None:
        await upkeep.clear(self._wire, self.drive, concurrency=self._concurrency)

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        return await upkeep.collect(self._wire, grace=grace, now=self._now)

    # Registers

    async def register_get(self, name: str) -> Register | None:
        item = await self._wire.get(_register_key(name))
        return None if item is None else layout.register_of(item)

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        key = _register_key(name)
        condition = ABSENT if expected is None else unchanged("token", expected)
        try:
            if value is not None:
                item = {**key, "value": {"B": layout.to_base64(value)}, "token": {"S": token}}
                await self._wire.call("PutItem", {"TableName": self._place.table, "Item": item, **condition})
            elif expected is None:
                return await self._wire.get(key) is None
            else:
                await self._wire.call("DeleteItem", {"TableName": self._place.table, "Key": key, **condition})
        except ConditionFailed as failed:
            found = failed.item or await self._wire.get(key)
            # A lost answer: what is asked for is in place already.
            if value is None if found is None else layout.register_of(found).token == token:
                return True
            if failed.lost:
                raise StoreUnavailable(
                    f"register {name!a} was swapped by others while one answer was lost; whether that swap was done is "
                    "unknown"
                ) from failed
            return False
        return True


def _register_key(name: str) -> layout.Item:
    return {"uuid": {"S": name}, "part": {"S": layout.REGISTER}}


def from_url(url: StoreUrl) -> DynamoDBBackend:
    """``dynamodb://TABLE?region=&endpoint_url=&profile=&bulk=&concurrency=``, and for a new table ``tenant_shards=``.

    ``time_shards=``, ``pitr=true`` and ``deletion_protection=true`` too.

    Raises:
        ConfigurationError: names what can't be right.
    """
    options = url.only(
        {
            "region",
            "endpoint_url",
            "profile",
            "bulk",
            "concurrency",
            "tenant_shards",
            "time_shards",
            "pitr",
            "deletion_protection",
        }
    )
    if "@" in url.host:  # not shown: it may be a key
        raise ConfigurationError(
            "dynamodb: write the table's name alone after //; credentials come from AWS's settings"
        )
    if url.path:
        raise ConfigurationError("a DynamoDB store is dynamodb://TABLE, without a path")
    return DynamoDBBackend(
        url.host,
        region=options.get("region") or None,
        endpoint_url=options.get("endpoint_url") or None,
        profile=options.get("profile") or None,
        bulk=options.get("bulk", "auto"),
        concurrency=number_of(options, "concurrency", MOST_CONCURRENCY, "dynamodb") or 8,
        creation=Creation(
            tenant_shards=number_of(options, "tenant_shards", layout.MOST_SHARDS, "dynamodb"),
            time_shards=number_of(options, "time_shards", layout.MOST_SHARDS, "dynamodb"),
            pitr=_flag(options, "pitr"),
            deletion_protection=_flag(options, "deletion_protection"),
        ),
    )


def _flag(options: Mapping[str, str], name: str) -> bool:
    text = options.get(name, "false").lower()
    if text not in {"true", "false"}:
        raise ConfigurationError(f"dynamodb: {name} is true or false, not {text!r}")
    return text == "true"
