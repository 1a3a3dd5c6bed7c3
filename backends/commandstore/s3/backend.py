"""Commands in S3: the primitives, over the modules beside this one. docs/s3.md has the protocol.

| what                        | permissions (``s3:``)                                                       |
|-----------------------------|-----------------------------------------------------------------------------|
| opening                     | GetObject, ListBucket (else a missing object looks like a forbidden one)    |
| get, list, scan, total,info | GetObject, ListBucket                                                       |
| create, create_many         | PutObject, GetObject, ListBucket                                            |
| update, delete, reset, gc   | the same, DeleteObject, GetBucketObjectLockConfiguration                    |
| compact                     | PutObject, GetObject, ListBucket, DeleteObject                              |
| checkpoints, leases         | PutObject, GetObject                                                        |
| init of a new store         | all of create, DeleteObject; CreateBucket for a new bucket                  |
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
from commandstore.errors import CommandStoreError, ConfigurationError, CorruptRecord, Unsupported
from commandstore.s3 import register
from commandstore.s3.collection import Collector
from commandstore.s3.compaction import Compactor
from commandstore.s3.conflicts import Conflicts
from commandstore.s3.creation import open_root
from commandstore.s3.faults import Place
from commandstore.s3.finder import Finder
from commandstore.s3.inbox import Inbox
from commandstore.s3.layout import register_key
from commandstore.s3.objects import Objects
from commandstore.s3.reader import Reader
from commandstore.s3.root import Root
from commandstore.s3.wire import Wire, connect, located
from commandstore.s3.writer import Writer
from commandstore.url import StoreUrl

__all__ = ["S3Backend", "from_url"]

_LONGEST_PREFIX = 512
_LEFT_ALONE = 8
"""So many writes don't try to tidy up after it could not be done."""


class S3Backend(Backend):
    """Commands under one prefix of one bucket.

    Args:
        bucket: its name.
        prefix: what all keys begin with; ``""`` takes the whole bucket.
        region: None takes the environment's.
        endpoint_url: of a compatible engine or a private endpoint.
        profile: of the shared AWS configuration.
        concurrency: how many requests are under way at once.
        sse: ``"AES256"`` or ``"aws:kms"``: how S3 encrypts what is written; None leaves it to the bucket.
        kms_key_id: of the key for ``aws:kms``; None takes the account's own.
        expected_bucket_owner: the account that the bucket must belong to; every request says so.
        session: of boto3 (aioboto3 for an ``AsyncCommandStore``), for credentials that the environment doesn't have.
        retry: how long to try again.
        now: seconds since 1970.
    """

    store_type = "s3"
    capabilities = frozenset({Capability.DIGESTS, Capability.MAINTENANCE})
    insert_count = 10_000
    insert_concurrency = 1  # each ends in a swap of the manifest

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
        concurrency: int = 8,
        sse: str | None = None,
        kms_key_id: str | None = None,
        expected_bucket_owner: str | None = None,
        session: Any = None,
        retry: Retry | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._place = Place(_bucket(bucket), _prefix(prefix), region, endpoint_of(endpoint_url, "s3"))
        self._put_options = _encryption(sse, kms_key_id)
        self._owner = _owner(expected_bucket_owner)
        self._profile = profile
        self._concurrency = concurrency
        self._session = session
        self._retry = retry or Retry()
        self._now = now
        self._found: Place | None = None
        self._stack: AsyncExitStack | None = None
        self._unlocked = False
        self._untidied = 0  # so many writes leave to others what could not be done

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
            self._wire = Wire(
                client,
                drive,
                place,
                retry=self._retry,
                concurrency=self._concurrency,
                put_options=self._put_options,
                owner=self._owner,
            )
            root = Root(self._wire)
            await open_root(self._wire, root, create=create)
            objects, inbox = Objects(self._wire), Inbox(self._wire)
            finder = Finder(objects)
            self._reader = Reader(root, objects, finder, inbox)
            conflicts = Conflicts(self._wire, root, finder)
            self._writer = Writer(self._wire, root, objects, finder, inbox, conflicts)
            self._compactor = Compactor(self._wire, root, objects, finder, inbox, conflicts)
            self._collector = Collector(self._wire, root, objects, self._now)
            # Only what opened well stays open.
            self._stack = stack.pop_all()

    async def close(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    # Commands

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        if len(records) == 1:
            return [await self._writer.create(records[0], write_id)]
        outcomes = await self._writer.bulk(records, write_id)
        await self._tidy()
        return outcomes

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
        await self._erasable("update")
        done = await self._writer.replace(record, write_id)
        if done:
            await self._tidy()
        return done

    async def remove(self, command_uuid: str) -> bool:
        await self._erasable("delete")
        done = await self._writer.remove(command_uuid)
        if done:
            await self._tidy()
        return done

    async def clear(self) -> None:
        await self._erasable("reset")
        await self._collector.clear()

    async def compact(self) -> Mapping[str, int]:
        return await self._compactor.run()

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        await self._erasable("gc")
        return await self._collector.run(grace)

    async def _tidy(self) -> None:
        """What is done along the way; no error of the write, which was done.

        What fails, after all its tries, is for a later one: not the next, or each would wait as long for it.
        """
        if self._untidied:
            self._untidied -= 1
            return
        try:
            await self._compactor.after_writing()
        except CommandStoreError:
            self._untidied = _LEFT_ALONE

    async def _erasable(self, what: str) -> None:
        """Raise where Object Lock keeps what is to be forgotten.

        Raises:
            Unsupported: it does; nothing was changed.
        """
        if self._unlocked:
            return
        mode = await self._wire.locked()
        if mode is not None:
            raise Unsupported(
                f"bucket {self._place.bucket} keeps every object by Object Lock ({mode}): {what} could not remove what "
                "it is to remove, so nothing was changed. Where commands must be erasable, take a bucket without a "
                "default retention"
            )
        self._unlocked = True

    # Registers

    async def register_get(self, name: str) -> Register | None:
        seen = await register.Register(self._wire, register_key(name)).read()
        return None if seen is None or seen.value is None else Register(seen.value, seen.put_id)

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        kept = register.Register(self._wire, register_key(name))
        seen = await kept.read()
        there = None if seen is None or seen.value is None else seen.put_id
        if seen is not None and seen.put_id == token:
            return True  # done by an earlier try
        if there != expected:
            return False
        if there is None and value is None:
            return True
        return await kept.swap(value, seen, put_id=token)


def _bucket(bucket: str) -> str:
    if not bucket or not bucket.isascii() or "/" in bucket or len(bucket) > 63:  # noqa: PLR2004 - S3's limit
        raise ConfigurationError("an S3 store is s3://BUCKET or s3://BUCKET/PREFIX")
    return bucket


def _prefix(prefix: str) -> str:
    prefix = prefix.strip("/")
    if not prefix:
        return ""
    if "@" in prefix:  # not shown: of s3://KEY:SECRET@BUCKET, where the secret has a slash in it
        raise ConfigurationError("s3: no '@' in a bucket's name or a prefix; credentials come from AWS's settings")
    pieces = prefix.split("/")
    if not prefix.isascii() or not prefix.isprintable() or any(piece in {"", ".", ".."} for piece in pieces):
        raise ConfigurationError("s3: the prefix is of names in printable ASCII, with single slashes between them")
    if len(prefix) > _LONGEST_PREFIX:
        raise ConfigurationError(f"s3: the prefix has more than {_LONGEST_PREFIX} characters")
    return f"{prefix}/"


def _encryption(sse: str | None, kms_key_id: str | None) -> dict[str, str]:
    if sse is None and kms_key_id is not None:
        sse = "aws:kms"
    if sse is None:
        return {}
    if sse not in {"AES256", "aws:kms"}:
        raise ConfigurationError(f"s3: sse is AES256 or aws:kms, not {sse!a}")
    if kms_key_id is not None and sse != "aws:kms":
        raise ConfigurationError("s3: kms_key_id goes with sse=aws:kms")
    options = {"ServerSideEncryption": sse}
    return options if kms_key_id is None else {**options, "SSEKMSKeyId": kms_key_id}


def _owner(account: str | None) -> str | None:
    if account is not None and not (account.isascii() and account.isdigit() and len(account) == 12):  # noqa: PLR2004
        raise ConfigurationError("s3: expected_bucket_owner is the account's id of twelve digits")
    return account


def from_url(url: StoreUrl) -> S3Backend:
    """``s3://BUCKET/PREFIX?region=&endpoint_url=&profile=&concurrency=&sse=&kms_key_id=&expected_bucket_owner=``.

    Raises:
        ConfigurationError: names what can't be right.
    """
    options = url.only(
        {"region", "endpoint_url", "profile", "concurrency", "sse", "kms_key_id", "expected_bucket_owner"}
    )
    if {"@", ":"} & set(url.host):  # not shown: it may be a key, or a piece of one with a slash in it
        raise ConfigurationError("s3: write the bucket's name alone after //; credentials come from AWS's settings")
    return S3Backend(
        url.host,
        url.path,
        region=options.get("region") or None,
        endpoint_url=options.get("endpoint_url") or None,
        profile=options.get("profile") or None,
        concurrency=number_of(options, "concurrency", MOST_CONCURRENCY, "s3") or 8,
        sse=options.get("sse") or None,
        kms_key_id=options.get("kms_key_id") or None,
        expected_bucket_owner=options.get("expected_bucket_owner") or None,
    )
