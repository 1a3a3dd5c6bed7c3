"""Reads: the inbox first, then the manifest, which owns what it knows.

In that order nothing is missed: what left the inbox before it was read had entered the manifest before that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from commandstore.codec import Record
from commandstore.command import INT64_MAX, CommandQuery
from commandstore.contract import Key, Row, Slice
from commandstore.errors import CorruptRecord
from commandstore.s3.finder import Finder, Known
from commandstore.s3.inbox import Inbox, Letter
from commandstore.s3.index import Index
from commandstore.s3.layout import inbox_uuid
from commandstore.s3.manifest import Dead, Manifest, Part, Segment
from commandstore.s3.objects import Objects, steadily
from commandstore.s3.root import Root

__all__ = ["Reader"]

_PAGE_BYTES = 8 * 1024 * 1024
"""About how much payload one page holds: beyond that it is short, so that memory doesn't depend on what is stored."""
_PORTION = 512
"""So many objects of the inbox are held at once."""
_NOWHERE: Dead = Dead(frozenset(), {})


class _Found(NamedTuple):
    """A row of a page: its position, and where it is read from."""

    position: tuple[int, str]
    source: tuple[Segment, Index] | None  # None: of the inbox
    row: int


class Reader:
    """Reads of one store."""

    def __init__(self, root: Root, objects: Objects, finder: Finder, inbox: Inbox) -> None:
        self._root = root
        self._objects = objects
        self._finder = finder
        self._inbox = inbox

    # By uuid

    async def look(self, uuids: Sequence[str]) -> tuple[dict[str, Known], dict[str, Letter]]:
        """What there is of these uuids: what the manifest knows, and for all others the inbox's objects.

        Raises:
            Vanished: read again.
        """
        while True:
            before = self._root.cached
            # What is known stays known, so the inbox need not be asked for it.
            known = await self._finder.find(before, uuids)
            asked = [uuid for uuid in uuids if uuid not in known]
            letters = await self._inbox.find(before.store, asked) if asked else {}
            now = await self._root.fresh()
            if now is before:
                return known, letters
            if now.store != before.store:
                continue  # the store was reset meanwhile
            known = await self._finder.find(now, uuids)
            return known, {uuid: letter for uuid, letter in letters.items() if uuid not in known}

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        """See ``Backend.fetch``."""

        async def attempt(lost: Collection[str]) -> dict[str, Record | CorruptRecord]:
            known, letters = await self.look(uuids)
            found: dict[str, Record | CorruptRecord] = {}
            for uuid, letter in letters.items():
                found[uuid] = letter.stored.record if letter.stored else _unreadable(letter)
            segments: dict[int, Segment] = {}
            rows: defaultdict[int, list[int]] = defaultdict(list)
            for item in known.values():
                if item.live and item.segment is not None:
                    segments[item.segment.number] = item.segment
                    rows[item.segment.number].append(item.row)
            for some in self._objects.few(list(segments.values())):
                indexes = await self._objects.indexes(some)
                wanted = [(one, index, sorted(rows[one.number])) for one, index in zip(some, indexes, strict=True)]
                for (_, index, taken), stored in zip(wanted, await self._objects.rows(wanted, lost), strict=True):
                    for row, one in zip(taken, stored, strict=True):
                        found[index.uuids[row]] = one if isinstance(one, CorruptRecord) else one.record
            return found

        return await steadily(self._root.fresh, attempt)

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        """See ``Backend.probe``. Reads no payload but those of the inbox."""

        async def attempt(_: Collection[str]) -> dict[str, bytes]:
            known, letters = await self.look(uuids)
            found = {uuid: item.digest for uuid, item in known.items() if item.live}
            for uuid, letter in letters.items():
                found[uuid] = letter.stored.record.digest if letter.stored else b""
            return found

        return await steadily(self._root.fresh, attempt)

    # Lists

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool) -> Slice:
        """See ``Backend.page``."""
        bounds = _Bounds.of(query, after)
        if bounds is None:
            return Slice([], None)

        async def attempt(lost: Collection[str]) -> Slice:
            letters, manifest = await self._letters(query, bounds, limit + 1)
            pool = [_Found(letter.position, None, at) for at, letter in enumerate(letters)]
            pool = await self._collect(manifest, query, bounds, limit, pool)
            return await self._slice(pool, limit, letters, lost, payload=payload)

        return await steadily(self._root.fresh, attempt)

    async def _letters(self, query: CommandQuery, bounds: _Bounds, most: int | None) -> tuple[list[Letter], Manifest]:
        """The objects of the inbox that match and count, and the manifest by which they do.

        Args:
            query: what they must match.
            bounds: between which positions.
            most: so many of the first are enough; None takes all, without what they hold.
        """
        while True:
            before = self._root.cached
            kept: list[Letter] = []
            cut = False
            entries = await self._inbox.listed(before.store)
            for start in range(0, len(entries), _PORTION):
                letters = await self._inbox.read(entries[start : start + _PORTION])
                fitting = [letter for letter in letters if _fits(letter, query, bounds)]
                known = await self._finder.find(before, [letter.command_uuid for letter in fitting])
                fitting = [letter for letter in fitting if letter.command_uuid not in known]
                if most is None:
                    kept += [letter._replace(stored=None) for letter in fitting]
                    continue
                kept = sorted([*kept, *fitting], key=_place, reverse=not query.ascending)
                cut = cut or len(kept) > most
                del kept[most:]
            now = await self._root.fresh()
            if now is before:
                return kept, now
            if now.store != before.store:
                continue  # the store was reset meanwhile
            known = await self._finder.find(now, [letter.command_uuid for letter in kept])
            # Where some have been moved since, others that were let go would come into their place: again, then.
            if not (known and cut):
                return [letter for letter in kept if letter.command_uuid not in known], now

    async def _collect(
        self, manifest: Manifest, query: CommandQuery, bounds: _Bounds, limit: int, pool: list[_Found]
    ) -> list[_Found]:
        """The first ``limit + 1`` that match, in order. Segments beyond them aren't looked into."""
        up = query.ascending
        segments = [s for s in await self._segments(manifest, query, bounds) if _may_match(s, query, bounds)]
        segments.sort(key=lambda s: s.first if up else s.last, reverse=not up)
        for segment in segments:
            pool.sort(key=_position, reverse=not up)
            del pool[limit + 1 :]
            if len(pool) > limit and (segment.first > pool[-1].position if up else segment.last < pool[-1].position):
                return pool
            index = await self._objects.index(segment)
            dead = manifest.dead.get(segment.number, _NOWHERE).rows
            source = (segment, index)
            pool += [_Found(index.key(row), source, row) for row in _rows(index, dead, query, bounds, limit + 1, up=up)]
        pool.sort(key=_position, reverse=not up)
        return pool[: limit + 1]

    async def _segments(self, manifest: Manifest, query: CommandQuery, bounds: _Bounds) -> list[Segment]:
        if not manifest.parts:
            return list(manifest.segments)
        numbers = {number for part in manifest.parts if _may_match(part, query, bounds) for number in part.numbers} | {
            segment.number for segment in manifest.segments
        }
        return await self._objects.segments(manifest, numbers)

    async def _slice(
        self, pool: Sequence[_Found], limit: int, letters: Sequence[Letter], lost: Collection[str], *, payload: bool
    ) -> Slice:
        page = list(pool[:limit])
        if payload:
            page = _affordable(page)
        rows: list[Row | None] = [None] * len(page)
        by_segment: dict[str, tuple[Segment, Index, list[tuple[int, int]]]] = {}
        for place, (position, source, row) in enumerate(page):
            if source is None:
                letter = letters[row]
                record = letter.stored.record if letter.stored else None
                rows[place] = Row(position, record, None if record else _unreadable(letter))
            elif payload:
                by_segment.setdefault(source[0].id, (*source, []))[2].append((row, place))
            else:
                rows[place] = Row(position, source[1].record(row))
        places = [sorted(pairs) for _, _, pairs in by_segment.values()]
        wanted = [
            (segment, index, [row for row, _ in pairs])
            for (segment, index, _), pairs in zip(by_segment.values(), places, strict=True)
        ]
        for pairs, stored in zip(places, await self._objects.rows(wanted, lost), strict=True):
            for (_, place), one in zip(pairs, stored, strict=True):
                position = page[place].position
                bad = isinstance(one, CorruptRecord)
                rows[place] = Row(position, None, one) if bad else Row(position, one.record)  # type: ignore[union-attr,arg-type]
        done = [row for row in rows if row is not None]
        return Slice(done, done[-1].key if len(pool) > len(done) else None)

    # Totals

    async def count(self, query: CommandQuery) -> int:
        """See ``Backend.count``. By tenant or unfiltered, the manifest says it; else indexes do, never payloads."""
        bounds = _Bounds.of(query, None)
        if bounds is None:
            return 0

        async def attempt(_: Collection[str]) -> int:
            if not query.canonical():
                return await self._count_all()
            letters, manifest = await self._letters(query, bounds, None)
            return len(letters) + await self._count_rows(manifest, query, bounds)

        return await steadily(self._root.fresh, attempt)

    async def _count_all(self) -> int:
        """Every command: two requests, and not one more for each command of the inbox."""
        while True:
            store = self._root.cached.store
            entries = await self._inbox.listed(store)
            manifest = await self._root.fresh()
            if manifest.store == store:
                break
        uuids = [uuid for entry in entries if (uuid := inbox_uuid(entry.key)) is not None]
        if len(uuids) < len(entries):
            nameless = [entry for entry in entries if inbox_uuid(entry.key) is None]
            uuids += [letter.command_uuid for letter in await self._inbox.read(nameless)]
        known = await self._finder.find(manifest, uuids)
        return manifest.commands + len(uuids) - len(known)

    async def _count_rows(self, manifest: Manifest, query: CommandQuery, bounds: _Bounds) -> int:
        if query.tenant_uuid is not None and len(query.canonical()) == 1 and manifest.tenants is not None:
            return manifest.tenants.get(query.tenant_uuid, 0)
        total = 0
        opened: list[Segment] = []
        # A part is told from outside only when none of its segments has dead rows that matter.
        whole = [part for part in manifest.parts if _told(part, query, bounds)]
        total += sum(_commands(part, query) for part in whole)
        total -= sum(_lowered(manifest.dead.get(number, _NOWHERE), query) for part in whole for number in part.numbers)
        told = {number for part in whole for number in part.numbers}
        for segment in await self._objects.segments(manifest, manifest.numbers - told):
            if not _may_match(segment, query, bounds):
                continue
            if _told(segment, query, bounds):
                total += _commands(segment, query) - _lowered(manifest.dead.get(segment.number, _NOWHERE), query)
            else:
                opened.append(segment)
        for some in self._objects.few(opened):
            for segment, index in zip(some, await self._objects.indexes(some), strict=True):
                dead = manifest.dead.get(segment.number, _NOWHERE).rows
                total += sum(1 for _ in _rows(index, dead, query, bounds, len(index), up=True))
        return total


def _fits(letter: Letter, query: CommandQuery, bounds: _Bounds) -> bool:
    """Whether an object is to be listed; one that can't be read is, whatever is asked for."""
    return letter.position in bounds and (letter.stored is None or query.matches(letter.stored.record))


def _place(letter: Letter) -> tuple[int, str]:
    return letter.position


class _Bounds(NamedTuple):
    """Positions between which to look; ``low`` and ``high`` themselves are outside."""

    low: tuple[int, str] | None
    high: tuple[int, str] | None

    @classmethod
    def of(cls, query: CommandQuery, after: Key | None) -> _Bounds | None:
        """The bounds of a query that goes on after a key; None where nothing can be."""
        low: tuple[int, str] | None = None
        high: tuple[int, str] | None = None
        if query.after is not None:
            if query.after >= INT64_MAX:
                return None
            low = (query.after + 1, "")  # no uuid is empty
        if query.before is not None:
            high = (query.before, "")
        if after is not None:
            key = (int(after[0] or 0), str(after[1]))
            if query.ascending:
                low = key if low is None else max(low, key)
            else:
                high = key if high is None else min(high, key)
        return cls(low, high)

    def __contains__(self, position: object) -> bool:
        low, high = self
        return (low is None or position > low) and (high is None or position < high)  # type: ignore[operator]

    def holds(self, item: Segment | Part) -> bool:
        """Whether all positions of a segment are within."""
        return item.first in self and item.last in self

    def meets(self, item: Segment | Part) -> bool:
        """Whether some position of a segment may be within."""
        low, high = self
        return (low is None or item.last > low) and (high is None or item.first < high)

    def rows(self, index: Index) -> range:
        """The rows that are within."""
        low, high = self
        every = range(len(index))
        start = 0 if low is None else bisect_right(every, low, key=index.key)
        end = len(index) if high is None else bisect_left(every, high, key=index.key)
        return range(start, max(start, end))


def _rows(
    index: Index, dead: Collection[int], query: CommandQuery, bounds: _Bounds, most: int, *, up: bool
) -> Iterable[int]:
    """The first rows of a segment that count and match, in order."""
    fits: Callable[[int], bool] | None = index.matcher(query)
    if fits is None:
        return []
    rows = bounds.rows(index)
    if not query.equal_to and not dead and not index.gone:
        return rows[:most] if up else rows[::-1][:most]
    found: list[int] = []
    for row in rows if up else reversed(rows):
        if fits(row) and row not in dead and row not in index.gone:
            found.append(row)
            if len(found) == most:
                break
    return found


def _may_match(item: Segment | Part, query: CommandQuery, bounds: _Bounds) -> bool:
    if not bounds.meets(item):
        return False
    return query.tenant_uuid is None or item.tenants is None or query.tenant_uuid in item.tenants


def _told(item: Segment | Part, query: CommandQuery, bounds: _Bounds) -> bool:
    """Whether the reference alone says how many commands match."""
    names = query.equal_to
    by_tenant = not names or (set(names) == {"tenant_uuid"} and item.tenants is not None)
    return by_tenant and bounds.holds(item)


def _commands(item: Segment | Part, query: CommandQuery) -> int:
    if query.tenant_uuid is None or item.tenants is None:
        return item.commands
    return item.tenants.get(query.tenant_uuid, 0)


def _lowered(dead: Dead, query: CommandQuery) -> int:
    if query.tenant_uuid is None:
        return sum(dead.tenants.values())
    return dead.tenants.get(query.tenant_uuid, 0)


def _position(found: _Found) -> tuple[int, str]:
    return found.position


def _affordable(page: list[_Found]) -> list[_Found]:
    """As many as a page has room for, at least one."""
    room = _PAGE_BYTES
    for count, (_, source, row) in enumerate(page):
        room -= source[1].lengths[row] if source else 1000
        if room < 0 and count:
            return page[:count]
    return page


def _unreadable(letter: Letter) -> CorruptRecord:
    return CorruptRecord(
        f"command {letter.command_uuid!a}: {letter.error}", command_uuid=letter.command_uuid, location=letter.key
    )
