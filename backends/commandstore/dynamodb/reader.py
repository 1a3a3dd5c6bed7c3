"""Reading commands whole: heads by consistent batches, then the parts of those that are long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from commandstore.codec import Record
from commandstore.dynamodb import layout
from commandstore.dynamodb.wire import Wire
from commandstore.errors import CorruptRecord, StoreUnavailable

__all__ = ["Reader"]

RawHead = dict[str, Any]
Found = Record | CorruptRecord

# Everything of a head but its payload.
_FIELDS = (
    "uuid",
    "created_at",
    "instance_id",
    *layout.FILTERS,
    "digest",
    "write_id",
    "format",
    "cipher",
    "position",
)
_PARTS_A_BATCH = layout.GET_BYTES // layout.PART_BYTES
_ROUNDS = 8
# About what a head weighs beside its payload.
_HEAD_BYTES = 2048


def _any(_: Mapping[str, Any]) -> bool:
    return True


class Reader:
    """Reads commands by uuid."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(
        self,
        sizes: Mapping[str, int],
        *,
        payload: bool = True,
        fits: Callable[[Mapping[str, Any]], bool] = _any,
    ) -> dict[str, Found]:
        """The commands of these uuids, as they are now. Missing ones are left out.

        A writer puts parts first, then the head; and removes the parts of a head only after another took its place. So
        parts that are missing mean that the head has changed since it was read: it is read again.

        Args:
            sizes: for each uuid the bytes of its payload, as far as they are known, else 0.
            payload: False leaves data and req_ctx empty.
            fits: told each head that is read; those it says False to are left out.
        """
        names = None if payload else _FIELDS
        heads = await self._wire.batch_get(list(_batches(sizes)), names)
        found: dict[str, Found] = {}
        waiting: dict[str, RawHead] = {}
        for head in heads:
            if not fits(head):
                continue
            uuid = head["uuid"]["S"]
            if payload and "parts" in head:
                waiting[uuid] = head
            else:
                found[uuid] = _record(head, payload=payload)
        for _ in range(_ROUNDS):
            if not waiting:
                return found
            waiting = await self._read_parts(waiting, found, fits)
        raise StoreUnavailable(f"command {next(iter(waiting))!a} is replaced all the time; try again")

    async def _read_parts(
        self,
        heads: Mapping[str, RawHead],
        found: dict[str, Found],
        fits: Callable[[Mapping[str, Any]], bool],
    ) -> dict[str, RawHead]:
        """Complete these heads; returns those that have changed meanwhile, as they are now."""
        keys: dict[str, list[layout.Item]] = {}
        for uuid, head in heads.items():
            known = layout.head_of(head)
            keys[uuid] = layout.part_keys(uuid, known.write_id, known.parts)
        flat = [key for of_one in keys.values() for key in of_one]
        step = _PARTS_A_BATCH
        batches = [flat[start : start + step] for start in range(0, len(flat), step)]
        pieces = {(item["uuid"]["S"], item["part"]["S"]): item for item in await self._wire.batch_get(batches)}
        changed: dict[str, RawHead] = {}
        for uuid, head in heads.items():
            wanted = [pieces.get((uuid, key["part"]["S"])) for key in keys[uuid]]
            there = [piece for piece in wanted if piece is not None]
            if len(there) == len(wanted):
                found[uuid] = _whole(head, there)
                continue
            now = await self._wire.get(layout.head_key(uuid))
            if now is None or not fits(now):
                continue
            if now.get("write_id") == head.get("write_id"):
                missing = len(wanted) - len(there)
                found[uuid] = layout.corrupt(uuid, f"{missing} of its {len(wanted)} parts are missing")
            elif "parts" in now:
                changed[uuid] = now
            else:
                found[uuid] = _record(now)
        return changed


def _batches(sizes: Mapping[str, int]) -> Iterator[Sequence[layout.Item]]:
    """Keys of heads, in batches whose answers stay below the engine's limit, as far as sizes are known."""
    keys: list[layout.Item] = []
    weight = 0
    for uuid, size in sizes.items():
        inline = _HEAD_BYTES + (size if size <= layout.INLINE_LIMIT else 0)
        if keys and (len(keys) == layout.BATCH_GET or weight + inline > layout.GET_BYTES):
            yield keys
            keys, weight = [], 0
        keys.append(layout.head_key(uuid))
        weight += inline
    if keys:
        yield keys


def _record(head: RawHead, *, payload: bool = True) -> Found:
    try:
        return layout.record_of(head, payload=payload)
    except CorruptRecord as error:
        return error


def _whole(head: RawHead, pieces: Iterable[Mapping[str, Any]]) -> Found:
    try:
        blob = b"".join(layout.from_base64(piece["payload"]["B"]) for piece in pieces)
        return layout.record_of(head, blob)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CorruptRecord):
            return error
        return layout.corrupt(head["uuid"]["S"], "one of its parts can't be read")
