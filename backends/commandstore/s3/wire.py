"""Requests to one bucket, sent again where that may help.

Everything above speaks of keys within the store's prefix, of bytes and of ETags; what the SDK calls them, and how it
fails, stays here.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

from botocore.parsers import ResponseParserError

from commandstore.aws import client as aws
from commandstore.aws.retry import Retry, Tries
from commandstore.drive import Drive
from commandstore.errors import StoreUnavailable
from commandstore.s3.checksum import checksum, let_it_vouch
from commandstore.s3.faults import (
    Place,
    code_of,
    is_condition,
    is_gone,
    is_lost,
    is_unchanged,
    is_unlocked,
    translate,
)

__all__ = ["ConditionFailed", "Entry", "Gone", "Got", "Wire", "connect", "located"]

T = TypeVar("T")

_METHODS = {
    "CreateBucket": "create_bucket",
    "DeleteObject": "delete_object",
    "GetObject": "get_object",
    "GetObjectLockConfiguration": "get_object_lock_configuration",
    "ListObjectsV2": "list_objects_v2",
    "PutObject": "put_object",
}
# The one region that must not be named when a bucket is made.
_UNNAMED = "us-east-1"
_LARGE = 1024 * 1024


class Got(NamedTuple):
    """An object, or a range of it.

    Attributes:
        data: its bytes.
        etag: quoted, as S3 gives it; empty where the range lies behind the object's end.
        unchanged: it has the ETag that the caller knows, so the data weren't sent again.
    """

    data: bytes
    etag: str
    unchanged: bool = False


class Entry(NamedTuple):
    """An object in a list.

    Attributes:
        key: within the store's prefix.
        etag: quoted, as S3 gives it.
        size: in bytes.
        modified: seconds since 1970, by S3's clock.
    """

    key: str
    etag: str
    size: int
    modified: float


# Within the class below, `list` is its method.
_Entries = list[Entry]


class ConditionFailed(Exception):
    """The request's condition did not hold, so nothing was changed by this attempt.

    Attributes:
        lost: whether an earlier attempt of the same call may have had its effect.
    """

    def __init__(self, *, lost: bool) -> None:
        super().__init__("the condition did not hold")
        self.lost = lost


class Gone(Exception):
    """The object that was to be replaced isn't there any more."""


def located(place: Place, profile: str | None, session: Any = None) -> Place:
    """Where a client for this place would talk to; asks no network."""
    region, endpoint = aws.located("s3", place.region, place.endpoint, profile=profile, session=session)
    return place._replace(region=region, endpoint=endpoint)


async def connect(
    drive: Drive,
    stack: AsyncExitStack,
    *,
    place: Place,
    profile: str | None,
    concurrency: int,
    session: Any = None,
) -> Any:
    """A client of S3 whose methods are coroutines, for a place as :func:`located` found it.

    Raises:
        ConfigurationError: no region, no such profile, an endpoint that isn't a URL.
        MissingDependency: aioboto3 isn't installed.
    """
    settings: dict[str, Any] = {
        # Other engines than AWS don't know the SDK's newer checksums; what is sent has its MD5 anyway.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if place.endpoint is not None:
        settings["s3"] = {"addressing_style": "path"}  # nobody resolves BUCKET.127.0.0.1
    target = aws.Target("s3", f"bucket {place.bucket}", place.url, place.region, place.endpoint)
    client = await aws.connect(
        drive, stack, target, profile=profile, concurrency=concurrency, session=session, settings=settings
    )
    let_it_vouch(aws.raw_client(client))
    return client


class Wire:
    """Sends requests to one bucket, again where that may help.

    Args:
        client: as :func:`connect` made it.
        drive: of the store.
        place: the bucket, and the prefix of every key.
        retry: how long to try again.
        concurrency: how many deletions are under way at once.
        put_options: for every PutObject, such as its encryption.
        owner: the account that the bucket is expected to belong to.
    """

    def __init__(
        self,
        client: Any,
        drive: Drive,
        place: Place,
        *,
        retry: Retry,
        concurrency: int,
        put_options: Mapping[str, Any],
        owner: str | None,
    ) -> None:
        self.place = place
        self.retry = retry
        self.drive = drive
        self.concurrency = concurrency
        self._client = client
        self._put_options = dict(put_options)
        self._owner = owner
        self._bucket: dict[str, Any] = {"Bucket": place.bucket}
        if owner:
            self._bucket["ExpectedBucketOwner"] = owner

    def tries(self) -> Tries:
        """For a call that repeats itself, as one does that lost a race."""
        return Tries(self.retry, self.drive)

    async def get(
        self, key: str, *, known: str | None = None, start: int | None = None, length: int | None = None
    ) -> Got | None:
        """An object, or a range of its bytes; None where there is none.

        Args:
            key: within the prefix.
            known: an ETag; an object that still has it isn't sent again.
            start: the first byte's offset; negative ones are not for here.
            length: how many bytes; None goes on to the end. Fewer come where the object ends before.
        """
        request: dict[str, Any] = {**self._bucket, "Key": self.place.prefix + key}
        if known is not None:
            request["IfNoneMatch"] = known
        if start is not None or length is not None:
            first = start or 0
            request["Range"] = f"bytes={first}-" if length is None else f"bytes={first}-{first + length - 1}"
        if length == 0:
            return Got(b"", "")  # HTTP has no empty range, and would send everything
        try:
            return await self._call("GetObject", request, self._read)
        except _Refused as refused:
            if is_gone(refused.error):
                return None
            if is_unchanged(refused.error):
                return Got(b"", known or "", unchanged=True)
            if code_of(refused.error) in {"InvalidRange", "416"}:
                return Got(b"", "")
            raise self._translated(refused, request) from refused.error

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        only_new: bool = False,
        etag: str | None = None,
        content_type: str = "application/json",
    ) -> str:
        """Write an object, and return its ETag.

        Args:
            key: within the prefix.
            data: all of it.
            only_new: not where there is one.
            etag: only in the place of the one with this ETag.
            content_type: for whoever looks at the bucket.

        Raises:
            ConditionFailed: there is one (``only_new``), or it has another ETag.
            Gone: there is none with that ETag, nor any.
        """
        request: dict[str, Any] = {
            **self._put_options,
            **self._bucket,
            "Key": self.place.prefix + key,
            "ContentType": content_type,
            **checksum(data),
        }
        if only_new:
            request["IfNoneMatch"] = "*"
        if etag is not None:
            request["IfMatch"] = etag
        try:
            return await self._call("PutObject", request, _etag, data)
        except _Refused as refused:
            if is_condition(refused.error):
                raise ConditionFailed(lost=refused.lost) from refused.error
            if etag is not None and is_gone(refused.error):
                raise Gone(f"there is no {request['Key']} any more") from refused.error
            raise self._translated(refused, request) from refused.error

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are fine."""
        # One by one: DeleteObjects answers for each key apart, is missing elsewhere, and costs nothing less.
        await self.drive.gather([partial(self._delete, key) for key in keys], self.concurrency)

    async def _delete(self, key: str) -> None:
        request = {**self._bucket, "Key": self.place.prefix + key}
        try:
            await self._call("DeleteObject", request, _nothing)
        except _Refused as refused:
            if not is_gone(refused.error):
                raise self._translated(refused, request) from refused.error

    async def list(self, prefix: str, *, after: str = "", token: str | None = None) -> tuple[_Entries, str | None]:
        """A page of the objects whose keys begin so, by key, and the token of the next page; None at the end.

        Args:
            prefix: of keys within the store's prefix.
            after: a key; only those behind it.
            token: of the page before. A key would not do: not every engine lists in the order of keys.
        """
        request: dict[str, Any] = {**self._bucket, "Prefix": self.place.prefix + prefix}
        if after:
            request["StartAfter"] = self.place.prefix + after
        if token is not None:
            request["ContinuationToken"] = token
        try:
            return await self._call("ListObjectsV2", request, self._entries)
        except _Refused as refused:
            raise self._translated(refused, request) from refused.error

    async def list_all(self, prefix: str) -> _Entries:
        """All the objects whose keys begin so, by key."""
        found, token = await self.list(prefix)
        while token is not None:
            page, token = await self.list(prefix, token=token)
            found += page
        return sorted(found)

    async def create_bucket(self) -> None:
        """Make the bucket; one that is ours already is fine."""
        # ExpectedBucketOwner is no parameter of this.
        request: dict[str, Any] = {"Bucket": self.place.bucket}
        if self.place.region not in {None, _UNNAMED}:
            request["CreateBucketConfiguration"] = {"LocationConstraint": self.place.region}
        try:
            await self._call("CreateBucket", request, _nothing)
        except _Refused as refused:
            if code_of(refused.error) != "BucketAlreadyOwnedByYou":
                raise self._translated(refused, request) from refused.error

    async def locked(self) -> str | None:
        """How long objects can't be deleted by default: ``GOVERNANCE``, ``COMPLIANCE``, or None for not at all."""
        try:
            return await self._call("GetObjectLockConfiguration", dict(self._bucket), _mode)
        except _Refused as refused:
            if is_unlocked(refused.error):
                return None
            raise self._translated(refused, self._bucket) from refused.error

    async def _call(
        self,
        operation: str,
        request: dict[str, Any],
        parse: Callable[[dict[str, Any]], Awaitable[T]],
        body: bytes | None = None,
    ) -> T:
        """One request and what is made of its answer, again until patience ends.

        Raises:
            _Refused: the engine's answer is final; the callers know some that are none of an error.
            CommandStoreError: no answer came, or none that the engine will stand by.
        """
        method = getattr(self._client, _METHODS[operation])
        tries = self.tries()
        lost = False
        while True:
            try:
                if body is not None:
                    # aiohttp warns of large bodies in one piece, and takes a stream's in several.
                    whole = not self.drive.is_async or len(body) < _LARGE
                    request = {**request, "Body": body if whole else io.BytesIO(body)}
                return await _parsed(parse, await method(**request))
            except Exception as error:
                if operation == "GetObjectLockConfiguration" and is_unlocked(error):
                    raise _Refused(operation, error, lost=lost) from error  # 501 is no reason to ask again
                translated = translate(error, operation, self.place, request.get("Key", ""), self._owner)
                if translated is None:
                    raise
                translated.__cause__ = error
                if not isinstance(translated, StoreUnavailable):
                    raise _Refused(operation, error, lost=lost) from error
                lost = lost or is_lost(error)
            await tries.again(translated)

    def _translated(self, refused: _Refused, request: Mapping[str, Any]) -> Exception:
        error = refused.error
        return translate(error, refused.operation, self.place, request.get("Key", ""), self._owner) or error

    async def _read(self, answer: dict[str, Any]) -> Got:
        body = answer["Body"]
        try:
            data: bytes = await body.read() if self.drive.is_async else body.read()
        except BaseException:
            body.close()  # what is left of it would hold the connection
            raise
        return Got(data, await _etag(answer))

    async def _entries(self, answer: dict[str, Any]) -> tuple[_Entries, str | None]:
        skip = len(self.place.prefix)
        entries = [
            Entry(item["Key"][skip:], item["ETag"], item["Size"], item["LastModified"].timestamp())
            for item in answer.get("Contents", ())
        ]
        # AWS sorts by the bytes of UTF-8, which is how Python compares; other engines have other opinions.
        token: str | None = answer.get("NextContinuationToken")
        if answer.get("IsTruncated") and not token:
            # Taken for the end, it would make a short list of a long one.
            raise ResponseParserError("a list that goes on has no token to go on with")
        return sorted(entries), token if answer.get("IsTruncated") else None


async def _parsed(parse: Callable[[dict[str, Any]], Awaitable[T]], answer: dict[str, Any]) -> T:
    try:
        return await parse(answer)
    except (AttributeError, KeyError, TypeError) as error:  # a proxy's, or no S3's at all
        raise ResponseParserError(f"the answer is not as S3 gives it: {error!r}") from error


class _Refused(Exception):
    """An answer that asking again won't change."""

    def __init__(self, operation: str, error: Exception, *, lost: bool) -> None:
        super().__init__(operation)
        self.operation = operation
        self.error = error
        self.lost = lost


async def _etag(answer: dict[str, Any]) -> str:
    etag: str | None = answer.get("ETag")
    if not etag:
        # A proxy, or no S3 at all. What it did with the request nobody knows.
        raise ResponseParserError("there is no ETag in the answer")
    return etag


async def _mode(answer: dict[str, Any]) -> str | None:
    rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {})
    mode: str | None = rule.get("DefaultRetention", {}).get("Mode")
    return mode


async def _nothing(answer: dict[str, Any]) -> None:
    del answer
