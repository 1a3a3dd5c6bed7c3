"""Which uuids a manifest knows, and where; and how it comes to know more."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from commandstore.s3 import directory
from commandstore.s3.directory import FULL, SPACE, WIDTH, Candidate, Directory, hashes_of
from commandstore.s3.index import Index
from commandstore.s3.manifest import SMALL, Manifest, Partition, Recent, Segment
from commandstore.s3.objects import Draft, Objects

__all__ = ["Finder", "Known"]

_INLINE = 256
_FOLDED = 128
_FOLDS = 2
_OPENED = 8


@dataclass(frozen=True, slots=True)
class Known:
    """What a manifest says of a uuid.

    Attributes:
        put_id: of the one inbox object that ever counted for it.
        segment: where its row is; None where it is among the deleted in the manifest itself.
        row: in that segment.
        live: whether there is a command, and not the mark of one that was deleted.
        created_at: of the command, as long as it was there.
        tenant: of the command; empty where it was deleted.
        digest: likewise.
        write_id: likewise; None.
    """

    put_id: str | None
    created_at: int
    segment: Segment | None = None
    row: int = -1
    live: bool = False
    tenant: str = ""
    digest: bytes = b""
    write_id: str | None = None

    @classmethod
    def of(cls, segment: Segment, index: Index, row: int) -> Known:
        """What a row says."""
        created_at, put_id = index.created_at[row], index.put_id(row)
        if row in index.gone:
            return cls(put_id, created_at, segment, row)
        about = index.tenant(row), index.digest(row), index.write_id(row)
        return cls(put_id, created_at, segment, row, True, *about)


class Finder:
    """Looks uuids up in manifests, and enters them."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def find(
        self, manifest: Manifest, uuids: Collection[str], taken: Mapping[str, bytes] | None = None
    ) -> dict[str, Known]:
        """What the manifest knows of these uuids; those that it doesn't know are left out.

        Args:
            manifest: the one that is asked.
            uuids: of commands.
            taken: their hashes, by whoever needs them again.

        Raises:
            Vanished: what it refers to was collected meanwhile.
        """
        graves = manifest.graves
        known = {uuid: Known(graves[uuid].put_id, graves[uuid].created_at) for uuid in uuids if uuid in graves}
        taken = hashes_of(uuids) if taken is None else taken
        number = int.from_bytes
        hashes = {uuid: number(taken[uuid], "big") for uuid in uuids if uuid not in known}
        found = await self._candidates(manifest, frozenset(hashes.values()))
        places: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        # By uuid, as two may have one hash, by somebody's intent.
        for uuid, key in hashes.items() if found else ():
            for candidate in found.get(key, ()):
                if not manifest.is_dead(*candidate):
                    places[candidate.segment].append((candidate.row, uuid))
        # Directories may name segments that were merged into others since.
        segments = await self._objects.segments(manifest, set(places)) if places else []
        for some in self._objects.few(segments):
            for segment, index in zip(some, await self._objects.indexes(some), strict=True):
                for row, uuid in places[segment.number]:
                    if row < len(index) and index.uuids[row] == uuid:
                        known[uuid] = Known.of(segment, index, row)
        return known

    async def _candidates(self, manifest: Manifest, hashes: frozenset[int]) -> dict[int, list[Candidate]]:
        found: defaultdict[int, list[Candidate]] = defaultdict(list)
        if not hashes:
            return found
        for segment in manifest.small():
            small = Directory(segment.entries, [segment.rows])
            for key in small.among(hashes):
                found[key] += small.find(key)
        wanted = self._shelves(manifest, hashes)
        for start in range(0, len(wanted), _OPENED):  # each is two megabytes, and there may be many
            some = wanted[start : start + _OPENED]
            jobs = [partial(self._objects.directory, *named) for named, _ in some]
            shelves = await self._objects.wire.drive.gather(jobs, self._objects.wire.concurrency)
            for shelf, (_, asked) in zip(shelves, some, strict=True):
                for key in shelf.among(asked):
                    found[key] += shelf.find(key)
        return found

    def _shelves(
        self, manifest: Manifest, hashes: Collection[int]
    ) -> list[tuple[tuple[str, int, Sequence[int]], Collection[int]]]:
        """The directory objects that may have some of these hashes, with those that each may have."""
        wanted: list[tuple[tuple[str, int, Sequence[int]], Collection[int]]] = []
        if manifest.recent is not None:
            recent = manifest.recent
            wanted.append(((recent.id, recent.check, [count for _, count in recent.runs]), hashes))
        ordered = sorted(hashes) if manifest.partitions else []
        for partition, high in _bounded(manifest.partitions):
            asked = ordered[bisect_left(ordered, partition.low) : bisect_left(ordered, high)]
            if asked:
                wanted.append(((partition.id, partition.check, partition.runs), asked))
        return wanted

    # Entering

    async def enter(
        self, manifest: Manifest, draft: Draft, *, without: Collection[int] = (), dead: Collection[int] = ()
    ) -> Manifest:
        """The manifest with a further segment, and with its uuids.

        Args:
            manifest: the one to be replaced; its parts hold none of ``without``.
            draft: the segment.
            without: the numbers of segments that it replaces.
            dead: rows of it that don't count.
        """
        segment = await draft.segment(manifest)
        index = draft.index
        run = directory.entries(index.uuids, segment.number, draft.hashes)
        lost = tenants_of(index, dead)
        if not without:  # what is merged was counted when it came
            more = index.tenants()
            more.subtract(lost)
            manifest = manifest.counted(more)
        if len(index) <= SMALL:
            segment = segment._replace(entries=run)
            after = manifest.without(without).add(segment)
        else:
            after = await self._shelve(manifest.without(without).add(segment), segment.number, run)
        return await self.fold(after.bury(segment.number, dead, lost))

    async def _shelve(self, manifest: Manifest, number: int, run: bytes) -> Manifest:
        live = manifest.numbers
        recent = manifest.recent
        kept: list[tuple[int, bytes]] = []
        if recent is not None:
            shelf = await self._objects.directory(recent.id, recent.check, [count for _, count in recent.runs])
            kept = [(named, shelf.run(at)) for at, (named, _) in enumerate(recent.runs) if named in live]
            self._objects.forget_directory(recent.id)
        kept.append((number, run))
        if sum(len(piece) for _, piece in kept) <= FULL * WIDTH:
            runs = tuple((named, len(piece) // WIDTH) for named, piece in kept)
            data = b"".join(piece for _, piece in kept)
            name, check = await self._objects.put_directory(manifest.epoch, data, [count for _, count in runs])
            return replace(manifest, recent=Recent(name, check, runs))
        merged = directory.merge((piece for _, piece in kept), live)
        return replace(manifest, recent=None, partitions=await self._distribute(manifest, merged, live))

    async def _distribute(self, manifest: Manifest, run: bytes, live: Collection[int]) -> tuple[Partition, ...]:
        old = manifest.partitions or (Partition(0, "", 0, ()),)
        pieces = directory.chunks(run, [partition.low for partition in old])
        jobs = [
            partial(self._fold, manifest.epoch, partition, high, piece, live)
            for (partition, high), piece in zip(_bounded(old), pieces, strict=True)
        ]
        # Few at once: each takes some ten megabytes while it is made.
        made = await self._objects.wire.drive.gather(jobs, _FOLDS)
        return tuple(partition for several in made for partition in several)

    async def _fold(
        self, epoch: int, partition: Partition, high: int, run: bytes, live: Collection[int]
    ) -> list[Partition]:
        known = partition.id, partition.check, partition.runs
        shelf = await self._objects.directory(*known) if partition.id else None
        self._objects.forget_directory(partition.id)
        return [
            Partition(chunk.low, *await self._objects.put_directory(epoch, chunk.data, chunk.runs), chunk.runs)
            for chunk in directory.fold(partition.low, high, shelf, partition.runs, run, live)
        ]

    # Parts

    async def fold(self, manifest: Manifest) -> Manifest:
        """With the older references in a part, where they have become many."""
        large = [segment for segment in manifest.segments if not segment.entries]
        if len(large) <= _INLINE:
            return manifest
        folded = large[:_FOLDED]
        part = await self._objects.put_part(manifest.epoch, folded)
        numbers = {segment.number for segment in folded}
        left = tuple(segment for segment in manifest.segments if segment.number not in numbers)
        return replace(manifest, segments=left, parts=(*manifest.parts, part))

    async def unfold(self, manifest: Manifest, numbers: Collection[int]) -> Manifest:
        """With these segments in no part."""
        parts = [part for part in manifest.parts if not set(part.numbers).isdisjoint(numbers)]
        listed = [segment for part in parts for segment in await self._objects.part(part)]
        return replace(
            manifest,
            segments=(*listed, *manifest.segments),
            parts=tuple(part for part in manifest.parts if part not in parts),
        )


def tenants_of(index: Index, rows: Iterable[int]) -> Mapping[str, int]:
    """How many commands of each tenant these rows are."""
    return Counter(index.tenant(row) for row in rows if row not in index.gone)


def _bounded(partitions: Sequence[Partition]) -> list[tuple[Partition, int]]:
    """Partitions, and where each ends."""
    highs = [partition.low for partition in partitions[1:]] + [SPACE]
    return list(zip(partitions, highs, strict=True)) if partitions else []
