"""Compaction: the inbox into segments, small segments into larger ones, and what counts no more left out.

Sizes grow by tiers, so a row is rewritten once for each power of ``GROWTH``; a segment that is large enough is left
alone until some of its rows are dead. Lines are copied as they are, never decoded: what can't be read stays what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from commandstore.codec import Record
from commandstore.errors import CorruptRecord
from commandstore.s3.conflicts import Conflicts
from commandstore.s3.finder import Finder, Known
from commandstore.s3.inbox import Inbox, Letter
from commandstore.s3.index import DIGEST, Index, Rows
from commandstore.s3.layout import (
    Lines,
    Stored,
    encode_rows,
)
from commandstore.s3.manifest import Manifest, Segment
from commandstore.s3.objects import Draft, Objects, steadily
from commandstore.s3.root import Root
from commandstore.s3.wire import Entry, Wire

__all__ = ["Compactor", "groups"]

FULL_ROWS, FULL_BYTES = 8192, 8 * 1024 * 1024
"""A segment of so many rows, or bytes, is large enough."""
GROWTH = 8
_GROUP_BYTES = 64 * 1024 * 1024
_GROUP_ROWS = 32 * 1024
_INBOX_ROWS = 4096
_MOST_LETTERS = 512
_MOST_GRAVES = 256
_MOST_DEAD = 4096


class Compactor:
    """Compaction of one store."""

    def __init__(
        self, wire: Wire, root: Root, objects: Objects, finder: Finder, inbox: Inbox, conflicts: Conflicts
    ) -> None:
        self._wire = wire
        self._conflicts = conflicts
        self._unreadable: set[str] = set()
        self._root = root
        self._objects = objects
        self._finder = finder
        self._inbox = inbox

    async def run(self) -> Mapping[str, int]:
        """Everything. Counts of what was done."""
        self._unreadable.clear()
        done: Counter[str] = Counter(
            {"inbox_moved": 0, "segments_merged": 0, "rows_dropped": 0, "objects_unreadable": 0, "conflicts_removed": 0}
        )
        done.update(await self._sweep(_INBOX_ROWS))

        async def look(_: Collection[str]) -> tuple[Manifest, list[Segment]]:
            now = await self._root.fresh()
            return now, await self._objects.segments(now)

        manifest, segments = await steadily(self._root.fresh, look)
        dead = {number for number, lost in manifest.dead.items() if lost.rows}
        planned = groups(segments, dead, fewest=2)
        if manifest.graves and not planned:
            planned = [[]]
        for group in planned:
            done.update(await self._merge(group))
        done["conflicts_removed"] = await self._conflicts.forgive()
        return dict(done)

    async def after_writing(self) -> None:
        """What a write leaves to do, where it has become much."""
        if self._inbox.seen >= _MOST_LETTERS:
            self._inbox.seen = 0
            await self._sweep(_INBOX_ROWS)
        manifest = self._root.cached
        due = groups(manifest.segments, (), fewest=GROWTH) or await self._worn(manifest)
        if len(manifest.graves) >= _MOST_GRAVES and not due:
            due = [[]]
        for group in due[:1]:  # the next write does the next one
            await self._merge(group)

    async def _worn(self, manifest: Manifest) -> list[list[Segment]]:
        """Segments to be written anew, where so many rows are dead that the manifest grows with them."""
        dead = {number: len(lost.rows) for number, lost in manifest.dead.items()}
        many = sum(dead.values()) >= _MOST_DEAD
        if len(dead) < GROWTH and not many:
            return []

        async def look(_: Collection[str]) -> list[Segment]:
            return await self._objects.segments(manifest, dead.keys())

        found = [s for s in await steadily(self._root.fresh, look) if s.id not in self._unreadable]
        worn = [segment for segment in found if 2 * dead[segment.number] >= segment.rows]
        if len(worn) < GROWTH:
            worn = sorted(found, key=lambda segment: dead[segment.number])[-1:] if many else []
        return groups(worn, dead, fewest=GROWTH)

    # The inbox

    async def _sweep(self, most: int) -> Mapping[str, int]:
        done: Counter[str] = Counter()
        store = (await self._root.fresh()).store  # it may have been reset since it was looked at
        for entries in _portions(await self._inbox.listed(store), most):
            letters = await self._inbox.read(entries)
            manifest, moved = await self._move(store, letters)
            if manifest.store != store:
                break  # the store was reset: nothing of this is part of it any more
            done["inbox_moved"] += moved
            done["objects_unreadable"] += sum(letter.stored is None for letter in letters)
            await self._clear(manifest, letters)
        return done

    async def _move(self, store: str, letters: Sequence[Letter]) -> tuple[Manifest, int]:
        draft: Draft | None = None
        drafted: set[str] = set()
        moved = 0

        async def plan(manifest: Manifest) -> Manifest | None:
            nonlocal draft, drafted, moved
            moved = 0
            if manifest.store != store:
                return None
            known = await self._finder.find(manifest, [letter.command_uuid for letter in letters])
            new = [letter.stored for letter in letters if letter.stored and letter.command_uuid not in known]
            if not new:
                return None
            moved = len(new)
            wanted = {stored.record.command_uuid for stored in new}
            if draft is None or not wanted <= drafted:
                new.sort(key=lambda stored: stored.record.position)
                draft, drafted = Draft(self._objects, Rows.of(new, encode_rows(new))), wanted
            dead = [row for row, uuid in enumerate(draft.index.uuids) if uuid not in wanted]
            return await self._finder.enter(manifest, draft, dead=dead)

        manifest = await steadily(self._root.fresh, lambda _: self._root.change(plan))
        return manifest, moved

    async def _clear(self, manifest: Manifest, letters: Sequence[Letter]) -> None:
        """Remove the objects that mean nothing any more; what was acknowledged and then superseded is kept aside."""

        async def look(_: Collection[str]) -> tuple[Manifest, dict[str, Known]]:
            now = await self._root.fresh()
            return now, await self._finder.find(now, [letter.command_uuid for letter in letters])

        now, known = await steadily(self._root.fresh, look)
        if now.store != manifest.store:
            return
        done: list[str] = []
        for letter in letters:
            item = known.get(letter.command_uuid)
            if item is None:
                continue  # unreadable, and so it stays where it is
            if (
                letter.stored
                and item.live
                and item.put_id != letter.put_id
                and (item.digest != letter.stored.record.digest)
            ):
                await self._conflicts.keep(letter, item.write_id)
            done.append(letter.key)
        await self._wire.delete(done)

    # Segments

    async def _merge(self, group: Sequence[Segment]) -> Mapping[str, int]:
        """Merge segments into one, with what was deleted since the last time."""
        sources: list[_Source] = []
        unreadable = 0
        manifest = self._root.cached
        for segment in group:
            source = await self._source(segment, manifest)
            if source is None:
                self._unreadable.add(segment.id)
                # Damaged, where it is still part of the store; merged by somebody else and collected, where it isn't.
                unreadable += segment.number in (await self._root.fresh()).numbers
            else:
                sources.append(source)
        if not sources and group:
            return {"objects_unreadable": unreadable}
        numbers = {source.segment.number for source in sources}
        merged = _Merged(sources, manifest)
        draft: Draft | None = None
        done = False

        async def plan(now: Manifest) -> Manifest | None:
            nonlocal draft, done
            done = now.store == manifest.store and numbers <= now.numbers
            if not done:
                return None  # somebody else merged them
            after = await self._finder.unfold(now, numbers)
            dead = merged.dead(now)
            after = replace(after, graves={u: g for u, g in after.graves.items() if manifest.graves.get(u) != g})
            if not merged.made.records:
                return after.without(numbers)
            draft = draft or Draft(self._objects, merged.made)
            return await self._finder.enter(after, draft, without=numbers, dead=dead)

        await steadily(self._root.fresh, lambda _: self._root.change(plan))
        if not done:
            return {"objects_unreadable": unreadable}
        return {
            "segments_merged": len(sources),
            "rows_dropped": sum(len(source.dead) for source in sources),
            "objects_unreadable": unreadable,
        }

    async def _source(self, segment: Segment, manifest: Manifest) -> _Source | None:
        """A segment with its lines; None where they can't be read as a whole: then it stays as it is."""

        async def read(lost: Collection[str]) -> tuple[Index, list[bytes]] | None:
            del lost
            index = await self._objects.index(segment)
            lines = await self._objects.lines(segment, index)
            return None if lines is None else (index, lines)

        try:
            found = await steadily(self._root.fresh, read)
        except CorruptRecord:
            return None
        dead = manifest.dead.get(segment.number)
        if found is None:
            return None
        index, lines = found
        return _Source(segment, index, lines, dead.rows if dead else frozenset())


@dataclass(frozen=True, slots=True)
class _Source:
    segment: Segment
    index: Index
    lines: list[bytes]
    dead: frozenset[int]


class _Merged:
    """The rows of several segments that count, as one, and where each came from."""

    def __init__(self, sources: Sequence[_Source], manifest: Manifest) -> None:
        self._read = manifest
        found: list[tuple[tuple[int, str], Stored, bytes, int, bool, tuple[int, int] | None]] = [
            (
                source.index.key(row),
                source.index.stored(row),
                source.lines[row],
                source.index.checks[row],
                row in source.index.gone,
                (source.segment.number, row),
            )
            for source in sources
            for row in range(len(source.index))
            if row not in source.dead
        ]
        for uuid, grave in manifest.graves.items():
            blank = Record(uuid, grave.created_at, 0, "", "", "", "", "", b"", "", bytes(DIGEST))
            found.append(((grave.created_at, uuid), Stored(blank, "", grave.put_id), b"", 0, True, None))
        found.sort(key=lambda item: item[0])
        self._origins = [item[5] for item in found]
        self.made = Rows.of(
            [item[1] for item in found],
            Lines([item[2] for item in found], [item[3] for item in found]),
            frozenset(row for row, item in enumerate(found) if item[4]),
        )

    def dead(self, now: Manifest) -> list[int]:
        """The rows that were made and don't count any more."""
        rows: list[int] = []
        for row, origin in enumerate(self._origins):
            if origin is None:
                uuid = self.made.records[row].command_uuid
                if now.graves.get(uuid) != self._read.graves[uuid]:
                    rows.append(row)
            elif now.is_dead(*origin):
                rows.append(row)
        return rows


def groups(segments: Sequence[Segment], dead: Collection[int], *, fewest: int) -> list[list[Segment]]:
    """Which segments to merge with which.

    Args:
        segments: all that there are.
        dead: the numbers of those that are to be rewritten whatever their size.
        fewest: how many small ones of a tier are worth it.
    """
    marked = [segment for segment in segments if segment.number in dead]
    small = [s for s in segments if s.number not in dead and s.rows < FULL_ROWS and s.size < FULL_BYTES]
    small.sort(key=_tier)
    for _, tier in groupby(small, _tier):
        several = list(tier)
        if len(several) >= fewest or (marked and fewest <= 2):  # noqa: PLR2004 - a pair
            marked += several
    marked.sort(key=lambda segment: (segment.first, segment.number))
    made: list[list[Segment]] = []
    size = rows = 0
    for segment in marked:
        if not made or size + segment.size > _GROUP_BYTES or rows + segment.rows > _GROUP_ROWS:
            made.append([])
            size = rows = 0
        made[-1].append(segment)
        size, rows = size + segment.size, rows + segment.rows
    return [group for group in made if len(group) > 1 or group[0].number in dead]


def _tier(segment: Segment) -> int:
    tier, rows = 0, max(1, segment.rows)
    while rows >= GROWTH:
        rows //= GROWTH
        tier += 1
    return tier


def _portions(entries: Sequence[Entry], most: int) -> list[list[Entry]]:
    made: list[list[Entry]] = []
    size = 0
    for entry in entries:
        if not made or len(made[-1]) >= most or size + entry.size > _GROUP_BYTES:
            made.append([])
            size = 0
        made[-1].append(entry)
        size += entry.size
    return made
