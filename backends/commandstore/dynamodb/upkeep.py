"""What walks the whole table: removing everything, and removing what no command refers to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from commandstore.drive import Drive
from commandstore.dynamodb import layout
from commandstore.dynamodb.requests import delete_request
from commandstore.dynamodb.wire import Wire

__all__ = ["clear", "collect"]


async def clear(wire: Wire, drive: Drive, *, concurrency: int) -> None:
    """Remove all items but the settings. Each page is removed before the next is read: constant memory.

    Heads first, in a walk of their own, so that nobody finds a command whose parts are gone already.
    """
    if await _sweep(wire, drive, concurrency, heads=True):
        await _sweep(wire, drive, concurrency, heads=False)


async def _sweep(wire: Wire, drive: Drive, concurrency: int, *, heads: bool) -> bool:
    """Remove the heads, or all that is left; returns whether there was anything else."""

    async def segment(number: int) -> bool:
        request: dict[str, Any] = {
            "TableName": wire.table,
            "ConsistentRead": True,
            "Segment": number,
            "TotalSegments": concurrency,
            "ProjectionExpression": "#uuid, #part",
            "ExpressionAttributeNames": {"#uuid": "uuid", "#part": "part"},
        }
        others = False
        while True:
            answer = await wire.call("Scan", request)
            keys = [item for item in answer["Items"] if item != layout.SETTINGS_KEY]
            chosen = [key for key in keys if key["part"]["S"] == layout.HEAD] if heads else keys
            others = others or len(chosen) < len(keys)
            await wire.batch_write([delete_request(key) for key in chosen])
            if not answer.get("LastEvaluatedKey"):
                return others
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    return any(await drive.gather([partial(segment, number) for number in range(concurrency)], concurrency))


async def collect(wire: Wire, *, grace: float, now: Callable[[], float]) -> dict[str, int]:
    """Remove parts that no head names and that are older than ``grace`` seconds.

    A writer that is slower than the grace between its first part and its head would lose its parts: a day is plenty.
    Reads the whole table once, and costs what that costs.

    Returns:
        ``scanned`` (parts old enough to be looked at), ``removed``.
    """
    request: dict[str, Any] = {
        "TableName": wire.table,
        "ProjectionExpression": "#uuid, #part",
        "FilterExpression": "#written_at <= :old",
        "ExpressionAttributeNames": {"#uuid": "uuid", "#part": "part", "#written_at": "written_at"},
        "ExpressionAttributeValues": {":old": {"N": str(int(now() - grace))}},
    }
    scanned = removed = 0
    while True:
        answer = await wire.call("Scan", request)
        parts = answer["Items"]
        orphans = await _orphans(wire, parts)
        await wire.batch_write([delete_request(part) for part in orphans])
        scanned += len(parts)
        removed += len(orphans)
        if not answer.get("LastEvaluatedKey"):
            return {"scanned": scanned, "removed": removed}
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


async def _orphans(wire: Wire, parts: list[layout.Item]) -> list[layout.Item]:
    uuids = list(dict.fromkeys(part["uuid"]["S"] for part in parts))
    keys = [layout.head_key(uuid) for uuid in uuids]
    batches = [keys[start : start + layout.BATCH_GET] for start in range(0, len(keys), layout.BATCH_GET)]
    heads = await wire.batch_get(batches, ("uuid", "write_id", "parts"))
    named = {
        (head["uuid"]["S"], key["part"]["S"])
        for head in heads
        for known in (layout.head_of(head),)
        for key in layout.part_keys(head["uuid"]["S"], known.write_id, known.parts)
    }
    return [part for part in parts if (part["uuid"]["S"], part["part"]["S"]) not in named]
