"""Lists and totals: which index, which bounds, and how the shards become one order again.

Every shard of an index is in order by itself. A page reads a little of each at once and merges what came. What a shard
has not been read up to may still hold anything, so the merged order is certain only as far as *every* shard has been
read; the engine says how far that is (``LastEvaluatedKey``), also where a filter let nothing through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

from commandstore.command import INT64_MAX, CommandQuery
from commandstore.contract import Key, Row, Slice
from commandstore.drive import Drive
from commandstore.dynamodb import layout
from commandstore.dynamodb.layout import HIGHEST, LOWEST, Shards
from commandstore.dynamodb.reader import Reader
from commandstore.dynamodb.wire import Wire
from commandstore.errors import CorruptRecord

__all__ = ["Entry", "Lister", "Merge", "Plan", "plan"]

PAGE_BYTES = 16 * 1024 * 1024
"""About how much payload one page holds: beyond that it is short, so that memory doesn't depend on what is stored."""
_ROUNDS = 12
_FIRST_FILTERED = 100
_WIDER = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the engine for.

    Attributes:
        index: its name.
        hash_key: the name of its partition key.
        shards: the partition keys to read.
        low: the lowest position, inclusive.
        high: the highest, inclusive.
        filters: names and values that the index doesn't sort by.
        ascending: the order.
        skip: a position within the bounds that was returned already. A Query must read two entries at least, else it
            might read this one again and again.
    """

    index: str
    hash_key: str
    shards: list[str]
    low: str
    high: str
    filters: dict[str, str]
    ascending: bool
    skip: str | None

    def request(self, table: str, shard: str) -> dict[str, Any]:
        """The Query of one shard, without a limit."""
        names = {"#shard": self.hash_key, "#position": "position"}
        values = {":shard": {"S": shard}, ":low": {"S": self.low}, ":high": {"S": self.high}}
        request: dict[str, Any] = {
            "TableName": table,
            "IndexName": self.index,
            "KeyConditionExpression": "#shard = :shard AND #position BETWEEN :low AND :high",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }
        conditions: list[str] = []
        for number, (name, value) in enumerate(self.filters.items()):
            names[f"#f{number}"], values[f":f{number}"] = name, {"S": value}
            conditions.append(f"#f{number} = :f{number}")
        if conditions:
            request["FilterExpression"] = " AND ".join(conditions)
        return request


def plan(query: CommandQuery, after: Key | None, shards: Shards) -> Plan | None:
    """How to find what matches, after a key; None where nothing can."""
    filters = query.equal_to
    if query.tenant_uuid:
        index, keys = "by_tenant", shards.tenant_shards(filters.pop("tenant_uuid"))
    else:  # an empty tenant has no partition of its own
        index, keys = "by_time", shards.time_shards()
    low, high, skip = LOWEST, HIGHEST, None
    if query.after is not None:
        if query.after >= INT64_MAX:
            return None
        low = layout.position(query.after + 1, "")
    if query.before is not None:
        high = layout.position(query.before, "")  # no uuid is empty, so nothing is there itself
    if after is not None:
        last = layout.key_position(after)
        if query.ascending:
            low = max(low, last + "\0")  # the very next string
        elif last <= high:
            high = skip = last
    if low >= high:
        return None
    return Plan(index, layout.INDEX_KEYS[index][0], keys, low, high, filters, query.ascending, skip)


class Entry(NamedTuple):
    """One entry of an index."""

    position: str
    command_uuid: str
    size: int


class _Shard:
    """How far one shard has been read."""

    __slots__ = ("done", "key", "next", "upto")

    def __init__(self, key: str) -> None:
        self.key = key
        self.next: dict[str, Any] | None = None
        self.upto: str | None = None
        self.done = False


class Merge:
    """The shards' entries as one order. Pure: told what was read, it says what to read next and what is certain."""

    def __init__(self, plan: Plan, limit: int) -> None:
        self._plan = plan
        self._limit = limit
        self.shards = [_Shard(key) for key in plan.shards]
        self._pool: list[Entry] = []

    def add(self, shard: _Shard, entries: Sequence[Entry], next_start: dict[str, Any] | None) -> None:
        """What a Query of this shard brought, and where it goes on."""
        self._pool += [entry for entry in entries if entry.position != self._plan.skip]
        shard.next, shard.done = next_start, next_start is None
        if next_start is not None:
            shard.upto = next_start["position"]["S"]

    def wanting(self) -> list[_Shard]:
        """The shards that may still hold something for this page."""
        self._pool.sort(reverse=not self._plan.ascending)
        if len(self._pool) < self._limit:
            return [shard for shard in self.shards if not shard.done]
        last = self._pool[self._limit - 1].position
        return [s for s in self.shards if not s.done and (s.upto is None or not self._reaches(s.upto, last))]

    def _reaches(self, upto: str, position: str) -> bool:
        return upto >= position if self._plan.ascending else upto <= position

    def certain(self) -> tuple[list[Entry], str | None]:
        """The entries of the page that can't be preceded by any that is still unread, and the position to go on after.

        That position is None at the end. It may lie beyond the last entry, where everything was read and filtered out.
        """
        self._pool.sort(reverse=not self._plan.ascending)
        open_ends = [shard.upto for shard in self.shards if not shard.done]
        if not open_ends:
            page = self._pool[: self._limit]
            return page, page[-1].position if len(self._pool) > len(page) else None
        if None in open_ends:
            return [], None  # not reached: the first round reads every shard
        ends = cast("list[str]", open_ends)
        bound = min(ends) if self._plan.ascending else max(ends)
        page = [entry for entry in self._pool if self._reaches(bound, entry.position)][: self._limit]
        return page, page[-1].position if len(page) == self._limit else bound


class Lister:
    """Pages and totals of one table."""

    def __init__(self, wire: Wire, drive: Drive, shards: Shards, *, concurrency: int) -> None:
        self._wire = wire
        self._drive = drive
        self._shards = shards
        self._concurrency = concurrency
        self._reader = Reader(wire)

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool) -> Slice:
        """See ``Backend.page``."""
        planned = plan(query, after, self._shards)
        if planned is None:
            return Slice([], None)
        entries, end = await self._entries(planned, limit)
        if payload:
            entries, end = _affordable(entries, end)
        fits = _Fits(entries, query.equal_to)
        sizes = {entry.command_uuid: entry.size for entry in entries}
        found = await self._reader.read(sizes, payload=payload, fits=fits)
        rows: list[Row] = []
        for entry in entries:
            # Gone, or moved: its entry (if it has one still) is another, which stands where it belongs.
            if fits.stands.get(entry.command_uuid) != entry.position:
                continue
            record, key = found.get(entry.command_uuid), layout.position_key(entry.position)
            if isinstance(record, CorruptRecord):
                rows.append(Row(key, None, record))
            elif record is not None:
                rows.append(Row(key, record))
        return Slice(rows, None if end is None else layout.position_key(end))

    async def _entries(self, planned: Plan, limit: int) -> tuple[list[Entry], str | None]:
        merge = Merge(planned, limit)
        # A little more than a shard's fair share, as chance is not fair.
        size = limit // len(planned.shards) * 5 // 4 + 8
        if planned.filters:
            size = max(size, _FIRST_FILTERED)
        for _ in range(_ROUNDS):
            wanting = merge.wanting()
            if not wanting:
                break
            wide = min(size, limit + 1) if not planned.filters else size
            jobs = [partial(self._query, planned, shard, wide, merge) for shard in wanting]
            await self._drive.gather(jobs, self._concurrency)
            # A filter that lets little through would take a request for every few rows.
            size *= _WIDER if planned.filters else 1
        return merge.certain()

    async def _query(self, planned: Plan, shard: _Shard, size: int, merge: Merge) -> None:
        request = planned.request(self._wire.table, shard.key)
        request |= {"ScanIndexForward": planned.ascending, "Limit": size}
        request["ProjectionExpression"] = "#uuid, #position, #size"
        request["ExpressionAttributeNames"] |= {"#uuid": "uuid", "#size": "payload_bytes"}
        if shard.next is not None:
            request["ExclusiveStartKey"] = shard.next
        answer = await self._wire.call("Query", request)
        entries = [_entry(item) for item in answer["Items"]]
        merge.add(shard, entries, answer.get("LastEvaluatedKey"))

    async def count(self, query: CommandQuery) -> int:
        """See ``Backend.count``. Reads the index, not the commands."""
        planned = plan(query, None, self._shards)
        if planned is None:
            return 0

        async def of(shard: str) -> int:
            request = planned.request(self._wire.table, shard) | {"Select": "COUNT"}
            total = 0
            while True:
                answer = await self._wire.call("Query", request)
                total += int(answer["Count"])
                if not answer.get("LastEvaluatedKey"):
                    return total
                request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

        return sum(await self._drive.gather([partial(of, shard) for shard in planned.shards], self._concurrency))


class _Fits:
    """Whether a head still is what an entry says: the index lags behind, and the head is the truth.

    A command that was moved while the shards were read may have two entries; ``stands`` tells which one holds.
    """

    def __init__(self, entries: Sequence[Entry], equal_to: Mapping[str, str]) -> None:
        self._entries = {(entry.command_uuid, entry.position) for entry in entries}
        self._equal_to = equal_to.items()
        self.stands: dict[str, str] = {}

    def __call__(self, head: layout.Raw) -> bool:
        uuid, position = head["uuid"]["S"], head.get("position", {}).get("S", "")
        fits = (uuid, position) in self._entries and all(
            head.get(name, {}).get("S") == value for name, value in self._equal_to
        )
        if fits:
            self.stands[uuid] = position
        return fits


def _entry(item: Mapping[str, Any]) -> Entry:
    try:
        size = int(item["payload_bytes"]["N"])
    except (KeyError, TypeError, ValueError):
        size = 0
    return Entry(item["position"]["S"], item["uuid"]["S"], size)


def _affordable(entries: list[Entry], end: str | None) -> tuple[list[Entry], str | None]:
    """As many as a page has room for, at least one."""
    room = PAGE_BYTES
    for count, entry in enumerate(entries):
        room -= entry.size
        if room < 0 and count:
            return entries[:count], entries[count - 1].position
    return entries, end
