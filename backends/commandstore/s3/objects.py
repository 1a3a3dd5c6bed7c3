"""The objects that are written once: read through caches, written under new names.

They never change, so what was read stays right. One that is gone was collected, and then a newer manifest doesn't
refer to it: that is :class:`Vanished`, and the reader starts again.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Generic, TypeVar

from commandstore.errors import CorruptRecord
from commandstore.s3 import manifest as codec
from commandstore.s3.directory import Directory
from commandstore.s3.index import Index, Rows
from commandstore.s3.layout import DIRECTORIES, INDEXES, PARTS, SEGMENTS, Stored, decode_row, new_id
from commandstore.s3.manifest import Manifest, Part, Segment, few
from commandstore.s3.wire import Wire

__all__ = ["Cache", "Draft", "Objects", "Vanished", "steadily"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

_INDEXED_ROWS = 100_000
_DIRECTORY_BYTES = 64 * 1024 * 1024
_PARTS = 64
_OPENED = 8
"""Indexes that are held at once, beside those in the cache."""
_GAP = 64 * 1024
"""Bytes between two rows that are read along, as a request costs more."""
_RANGE = 8 * 1024 * 1024


class Vanished(Exception):
    """An object that the manifest refers to isn't there.

    Attributes:
        key: of the object.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Cache(Generic[K, V]):
    """What was used last, up to a weight. Safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What is kept under this key."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep it, and let go of what wasn't used for long; of two, at least one is kept."""
        with self._lock:
            self._weight -= self._items.pop(key, (None, 0))[1]
            self._items[key] = (value, weight)
            self._weight += weight
            while self._weight > self._most and len(self._items) > 1:
                _, (_, light) = self._items.popitem(last=False)
                self._weight -= light

    def drop(self, key: K) -> None:
        """Let go of one."""
        with self._lock:
            self._weight -= self._items.pop(key, (None, 0))[1]


class Objects:
    """Reads and writes of one store's immutable objects."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._indexes: Cache[str, Index] = Cache(_INDEXED_ROWS)
        self._directories: Cache[str, Directory] = Cache(_DIRECTORY_BYTES)
        self._parts: Cache[str, list[Segment]] = Cache(_PARTS)

    async def _get(self, key: str, check: int) -> bytes:
        got = await self.wire.get(key)
        if got is None:
            raise Vanished(key)
        if zlib.crc32(got.data) != check:
            raise _altered(key)
        return got.data

    # Reading

    async def index(self, segment: Segment) -> Index:
        """The index of a segment.

        Raises:
            Vanished: it isn't there.
            CorruptRecord: it was altered; names the object.
        """
        index = self._indexes.get(segment.id)
        if index is None:
            index = Index.decode(await self._get(f"{INDEXES}{segment.id}.json", segment.check), segment.id)
            if len(index) != segment.rows or index.offsets[-1] != segment.size:
                raise _altered(f"{INDEXES}{segment.id}.json")
            self._indexes.put(segment.id, index, len(index))
        return index

    async def indexes(self, segments: Sequence[Segment]) -> list[Index]:
        """As :meth:`index`, several at once."""
        jobs = [partial(self.index, segment) for segment in segments]
        return await self.wire.drive.gather(jobs, self.wire.concurrency)

    def few(self, segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
        """A few at a time, so that memory doesn't depend on how many there are."""
        step = min(self.wire.concurrency, _OPENED)
        return (segments[start : start + step] for start in range(0, len(segments), step))

    async def directory(self, name: str, check: int, runs: Sequence[int]) -> Directory:
        """A directory object; raises as :meth:`index`."""
        found = self._directories.get(name)
        if found is None:
            data = await self._get(f"{DIRECTORIES}{name}", check)
            try:
                found = Directory(data, runs)
            except ValueError as error:
                raise _altered(f"{DIRECTORIES}{name}") from error
            self._directories.put(name, found, _weight(data))
        return found

    async def part(self, part: Part) -> list[Segment]:
        """The references in a part; raises as :meth:`index`."""
        found = self._parts.get(part.id)
        if found is None:
            try:
                found = codec.decode_part(await self._get(f"{PARTS}{part.id}.json", part.check))
                if tuple(segment.number for segment in found) != part.numbers:
                    raise ValueError("other segments")  # noqa: TRY301 - told below
            except ValueError as error:
                raise _altered(f"{PARTS}{part.id}.json") from error
            self._parts.put(part.id, found, 1)
        return found

    async def segments(self, manifest: Manifest, numbers: AbstractSet[int] | None = None) -> list[Segment]:
        """The references of a manifest, those in its parts too; or those of these numbers only."""
        parts = [p for p in manifest.parts if numbers is None or not numbers.isdisjoint(p.numbers)]
        jobs = [partial(self.part, part) for part in parts]
        listed = await self.wire.drive.gather(jobs, self.wire.concurrency)
        found = [segment for several in (*listed, manifest.segments) for segment in several]
        return found if numbers is None else [segment for segment in found if segment.number in numbers]

    async def rows(
        self, wanted: Sequence[tuple[Segment, Index, Sequence[int]]], lost: Collection[str]
    ) -> list[list[Stored | CorruptRecord]]:
        """Rows with their payloads, aligned with the numbers that were asked for.

        Args:
            wanted: of each segment, some rows in ascending order.
            lost: keys that are known to be missing; their rows are errors.

        Raises:
            Vanished: a further segment isn't there.
        """
        spans = [(place, span) for place, (_, index, rows) in enumerate(wanted) for span in _spans(index.offsets, rows)]
        jobs = [partial(self._span, *wanted[place][:2], span, lost) for place, span in spans]
        read = await self.wire.drive.gather(jobs, self.wire.concurrency)
        found: list[list[Stored | CorruptRecord]] = [[] for _ in wanted]
        for (place, _), stored in zip(spans, read, strict=True):
            found[place] += stored
        return found

    async def _span(
        self, segment: Segment, index: Index, rows: Sequence[int], lost: Collection[str]
    ) -> list[Stored | CorruptRecord]:
        key = f"{SEGMENTS}{segment.id}.jsonl"
        start, end = index.offsets[rows[0]], index.offsets[rows[-1] + 1]
        if key in lost:
            return [_absent(key, index.uuids[row]) for row in rows]
        got = await self.wire.get(key, start=start, length=end - start)
        if got is None:
            raise Vanished(key)
        found: list[Stored | CorruptRecord] = []
        for row in rows:
            line = got.data[index.offsets[row] - start : index.offsets[row + 1] - start]
            try:
                found.append(decode_row(line, key, index.checks[row]))
            except CorruptRecord as error:
                found.append(_named(error, key, index.uuids[row]))
        return found

    async def lines(self, segment: Segment, index: Index) -> list[bytes] | None:
        """All lines of a segment as they are; None where it is missing or cut off."""
        if not segment.size:
            return [b""] * segment.rows
        got = await self.wire.get(f"{SEGMENTS}{segment.id}.jsonl")
        if got is None or len(got.data) != segment.size:
            return None
        offsets = index.offsets
        return [got.data[offsets[row] : offsets[row + 1]] for row in range(segment.rows)]

    # Writing

    async def put_directory(self, epoch: int, data: bytes, runs: Sequence[int]) -> tuple[str, int]:
        """Write a directory object; its name and its CRC-32."""
        name = new_id(epoch)
        await self.wire.put(f"{DIRECTORIES}{name}", data, content_type="application/octet-stream")
        self._directories.put(name, Directory(data, runs), _weight(data))
        return name, zlib.crc32(data)

    def forget_directory(self, name: str) -> None:
        """One that was replaced is not asked for again."""
        self._directories.drop(name)

    async def put_part(self, epoch: int, segments: Sequence[Segment]) -> Part:
        """Write a part."""
        name = new_id(epoch)
        body = codec.encode_part(segments)
        await self.wire.put(f"{PARTS}{name}.json", body)
        return codec.part_of(name, zlib.crc32(body), segments)

    async def put_segment(self, segment_id: str, lines: Iterable[bytes], index: Index) -> int:
        """Write a segment and its index; the CRC-32 of the index."""
        body, columns = b"".join(lines), index.encode()
        jobs = [partial(self.wire.put, f"{INDEXES}{segment_id}.json", columns)]
        # Of deleted commands alone there is nothing to be queried.
        if body:
            key = f"{SEGMENTS}{segment_id}.jsonl"
            jobs.append(partial(self.wire.put, key, body, content_type="application/x-ndjson"))
        await self.wire.drive.gather(jobs, self.wire.concurrency)
        self._indexes.put(segment_id, index, len(index))
        return zlib.crc32(columns)


class Draft:
    """Rows on their way into a store: written once, as long as no collector comes between.

    Args:
        objects: of the store.
        rows: in the total order.
        hashes: of their uuids, where they were taken already.
    """

    def __init__(self, objects: Objects, rows: Rows, hashes: Mapping[str, bytes] | None = None) -> None:
        self.index = Index.of(rows)
        self.hashes = hashes
        self._objects = objects
        self._lines = rows.lines.lines
        self._id: str | None = None
        self._epoch = -1
        self._check = 0

    async def segment(self, manifest: Manifest) -> Segment:
        """A reference that may become part of the manifest that comes after this one."""
        if self._id is None or self._epoch != manifest.epoch:
            name = new_id(manifest.epoch)
            self._check = await self._objects.put_segment(name, self._lines, self.index)
            self._id, self._epoch = name, manifest.epoch
        index = self.index
        return Segment(
            manifest.next_number,
            self._id,
            len(index),
            index.offsets[-1],
            self._check,
            index.key(0),
            index.key(len(index) - 1),
            few(index.tenants()),
            len(index) - len(index.gone),
        )


async def steadily(refresh: Callable[[], Awaitable[object]], attempt: Callable[[set[str]], Awaitable[T]]) -> T:
    """Read, and again with a newer manifest while what the older one refers to is collected.

    Args:
        refresh: reads the manifest anew.
        attempt: given the keys of objects that are missing although even a newer manifest refers to them.

    Raises:
        CorruptRecord: such an object is missing, and the attempt can't do without it.
    """
    gone: set[str] = set()
    lost: set[str] = set()
    while True:
        try:
            return await attempt(lost)
        except Vanished as vanished:
            # Names are never used again, and what a manifest refers to was there before it. So an object that is
            # missing under two manifests, the second of them read after the first miss, will not come back.
            if vanished.key in lost:
                raise _absent(vanished.key, None) from None
            if vanished.key in gone:
                lost.add(vanished.key)
            gone.add(vanished.key)
            await refresh()


def _weight(data: bytes) -> int:
    return len(data) * 3 // 2  # the hashes apart


def _spans(offsets: Sequence[int], rows: Sequence[int]) -> list[list[int]]:
    """Rows cut into what is read by one request each."""
    spans: list[list[int]] = []
    for row in rows:
        if spans:
            span = spans[-1]
            near = offsets[row] - offsets[span[-1] + 1] <= _GAP
            if near and offsets[row + 1] - offsets[span[0]] <= _RANGE:
                span.append(row)
                continue
        spans.append([row])
    return spans


def _altered(key: str) -> CorruptRecord:
    return CorruptRecord(f"object {key} was altered or cut off; restore it from a backup", location=key)


def _absent(key: str, command_uuid: str | None) -> CorruptRecord:
    whose = "" if command_uuid is None else f"command {command_uuid!a}: "
    return CorruptRecord(
        f"{whose}object {key} is missing, though the manifest refers to it; restore it from a backup",
        location=key,
        command_uuid=command_uuid,
    )


def _named(error: CorruptRecord, key: str, command_uuid: str) -> CorruptRecord:
    named = CorruptRecord(f"command {command_uuid!a}: {error}", location=key, command_uuid=command_uuid)
    named.__cause__ = error.__cause__
    return named
