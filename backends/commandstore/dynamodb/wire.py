"""Requests as bytes, answers as JSON: the SDK signs, sends and pools, and does nothing else.

boto3 takes about 100 us of processor time to check, serialize and parse one item of a batch, three times what signing
and sending cost. So the body of every request is made here, by orjson, and handed through the SDK's own events:

* a call carries it as its only parameter, ``Body``;
* ``before-parameter-build`` takes it out again and puts it into the call's own context, which no other thread or task
  sees;
* ``before-call`` sets it on the request, before it is signed;
* ``before-parse`` takes the answer's bytes away before they are parsed by the model.

The same events are boto3's and aiobotocore's, so there is one of this for both.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from commandstore.aws.client import raw_client
from commandstore.aws.retry import Retry, Tries
from commandstore.drive import Drive
from commandstore.dynamodb import layout
from commandstore.dynamodb.answers import is_whole
from commandstore.dynamodb.faults import Place, is_condition, is_lost, is_not_partiql, no_partiql, translate
from commandstore.dynamodb.requests import cut, writes_body
from commandstore.errors import StoreUnavailable, Throttled

__all__ = ["ConditionFailed", "Wire", "was_lost"]

_METHODS = {
    "BatchExecuteStatement": "batch_execute_statement",
    "BatchGetItem": "batch_get_item",
    "BatchWriteItem": "batch_write_item",
    "CreateTable": "create_table",
    "DeleteItem": "delete_item",
    "DescribeTable": "describe_table",
    "GetItem": "get_item",
    "PutItem": "put_item",
    "Query": "query",
    "Scan": "scan",
    "UpdateContinuousBackups": "update_continuous_backups",
}
# The SDK looks at these before it serializes, to choose an endpoint, and fails where they are missing.
_STUBS: dict[str, dict[str, Any]] = {"BatchGetItem": {"RequestItems": {}}, "BatchWriteItem": {"RequestItems": {}}}
_BODY = "commandstore_body"
_OK_BELOW = 300
_LARGE = 1024 * 1024


class ConditionFailed(Exception):
    """The request's condition did not hold, so nothing was changed by this attempt.

    Attributes:
        item: what is there, if the engine said so.
        lost: whether an earlier attempt of the same call may have had its effect.
    """

    def __init__(self, item: dict[str, Any] | None, *, lost: bool) -> None:
        super().__init__("the condition did not hold")
        self.item = item
        self.lost = lost


class Wire:
    """Sends requests to one table's engine, again where that may help."""

    def __init__(self, client: Any, drive: Drive, place: Place, *, retry: Retry, concurrency: int) -> None:
        self.place = place
        self.table = place.table
        self.retry = retry
        self._client = client
        self._drive = drive
        self._concurrency = concurrency
        events = raw_client(client).meta.events
        events.register("before-parameter-build.dynamodb", _take_body, unique_id="commandstore-take")
        events.register("before-call.dynamodb", _set_body, unique_id="commandstore-set")
        events.register("before-parse.dynamodb", _take_answer, unique_id="commandstore-answer")

    def tries(self) -> Tries:
        """For a call that repeats itself, as batches with unprocessed items do."""
        return Tries(self.retry, self._drive)

    async def call(self, operation: str, request: dict[str, Any] | bytes, *, retry: Retry | None = None) -> Any:
        """One request, again where that may help, and its answer as JSON.

        Raises:
            ConditionFailed: its condition did not hold.
            CommandStoreError: translated; ``StoreUnavailable`` once all attempts are used up.
        """
        tries = Tries(retry or self.retry, self._drive)
        lost = False
        while True:
            try:
                return await self.once(operation, request)
            except ConditionFailed as failed:
                failed.lost = lost
                raise
            except StoreUnavailable as error:
                failure = error
                lost = lost or was_lost(error)
            await tries.again(failure)

    async def once(self, operation: str, request: dict[str, Any] | bytes) -> Any:
        """The same without trying again: for callers that look first at what a lost answer left.

        Raises:
            ConditionFailed: its condition did not hold.
            CommandStoreError: translated; of ``StoreUnavailable``, :func:`was_lost` tells more.
        """
        body = request if isinstance(request, bytes) else orjson.dumps(request)
        method, stub = getattr(self._client, _METHODS[operation]), _STUBS.get(operation, {})
        try:
            # aiohttp warns of large bodies in one piece, and takes a stream's in several.
            whole = not self._drive.is_async or len(body) < _LARGE
            answer = orjson.loads((await method(Body=body if whole else io.BytesIO(body), **stub))[_BODY])
        except orjson.JSONDecodeError as error:
            raise self.astray() from error
        except Exception as error:
            if is_condition(error):
                raise ConditionFailed(_item(error), lost=False) from error
            if operation == "BatchExecuteStatement" and is_not_partiql(error, self.place):
                raise no_partiql(self.place) from error
            translated = translate(error, operation, self.place)
            if translated is None:
                raise
            raise translated from error
        if not is_whole(operation, request, answer):
            raise self.astray()
        return answer

    def astray(self) -> StoreUnavailable:
        """For an answer that isn't DynamoDB's: a proxy's, perhaps. What became of the request nobody knows."""
        return StoreUnavailable(f"{self.place.host} does not answer as DynamoDB does")

    async def get(self, key: layout.Item, names: Sequence[str] | None = None) -> dict[str, Any] | None:
        """One item, consistent; None when there is none."""
        request: dict[str, Any] = {"TableName": self.table, "Key": key, "ConsistentRead": True}
        if names is not None:
            request |= _projection(names)
        item: dict[str, Any] | None = (await self.call("GetItem", request)).get("Item")
        return item or None

    async def batch_get(
        self, batches: Sequence[Sequence[layout.Item]], names: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The items of these keys, consistent, in no order; missing ones are left out.

        Args:
            batches: distinct keys, at most a hundred each.
            names: only these attributes.
        """
        extra: dict[str, Any] = {"ConsistentRead": True}
        if names is not None:
            extra |= _projection(names)

        async def read(keys: Sequence[layout.Item]) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            tries = self.tries()
            waiting: Any = {"Keys": list(keys), **extra}
            while True:
                answer = await self.call("BatchGetItem", {"RequestItems": {self.table: waiting}})
                got = answer["Responses"].get(self.table, [])
                found += got
                waiting = answer["UnprocessedKeys"].get(self.table)
                if not waiting:
                    return found
                # Keys are left when the answer reached its 16 MB, or under load: nobody can tell which, and a short
                # pause is nothing beside 16 MB.
                if got:
                    tries.progress()
                await tries.again(self._unprocessed("keys"))

        found = await self._drive.gather([partial(read, keys) for keys in batches], self._concurrency)
        return [item for items in found for item in items]

    async def batch_write(self, requests: Sequence[bytes]) -> None:
        """Puts and removals of distinct keys, unconditional; all done when this returns.

        Raises:
            StoreUnavailable: some may not be done.
        """

        async def write(indexes: list[int]) -> None:
            body = writes_body(self.table, (requests[index] for index in indexes))
            tries = self.tries()
            left = len(indexes)
            while True:
                answer = await self.call("BatchWriteItem", body)
                waiting = answer["UnprocessedItems"].get(self.table)
                if not waiting:
                    return
                if len(waiting) < left:
                    tries.progress()
                left = len(waiting)
                await tries.again(self._unprocessed("items"))
                body = orjson.dumps({"RequestItems": {self.table: waiting}})

        batches = list(cut(requests, layout.BATCH_WRITE, layout.PUTS_BYTES))
        await self._drive.gather([partial(write, indexes) for indexes in batches], self._concurrency)

    def _unprocessed(self, what: str) -> Throttled:
        return Throttled(f"DynamoDB left {what} of table {self.table} unprocessed until patience ended")


def was_lost(error: StoreUnavailable) -> bool:
    """Whether the request that ended so may have had its effect."""
    return error.__cause__ is None or is_lost(error.__cause__)


def _projection(names: Sequence[str]) -> dict[str, Any]:
    # Every name by a placeholder: "data" and others are reserved words.
    places = {f"#{index}": name for index, name in enumerate(names)}
    return {"ProjectionExpression": ", ".join(places), "ExpressionAttributeNames": places}


def _item(error: Exception) -> dict[str, Any] | None:
    try:
        raw = orjson.loads(getattr(error, "response", {}).get(_BODY) or b"{}")
    except orjson.JSONDecodeError:
        return None
    item = raw.get("Item") if isinstance(raw, dict) else None
    return item or None


# The events. They are called for every request of the client, so those without a body of ours pass.


def _take_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    body = params.pop("Body", None)
    if body is not None:
        context[_BODY] = body


def _set_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    body = context.get(_BODY)
    if body is not None:
        params["body"] = body


def _take_answer(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    customized_response_dict[_BODY] = response_dict["body"]
    if response_dict["status_code"] < _OK_BELOW:
        response_dict["body"] = b"{}"  # there is nothing left for the SDK to parse
