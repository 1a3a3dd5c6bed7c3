"""Writes: one command by the inbox, many by a segment, changes by a swap of the manifest. docs/s3.md has the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from commandstore.codec import Record
from commandstore.contract import CREATED, Exists, Outcome
from commandstore.errors import StoreUnavailable
from commandstore.s3.conflicts import Conflicts
from commandstore.s3.directory import hashes_of
from commandstore.s3.finder import Finder, Known
from commandstore.s3.inbox import Inbox, Letter
from commandstore.s3.index import Rows
from commandstore.s3.layout import Stored, encode_rows, in_order
from commandstore.s3.manifest import Grave, Manifest
from commandstore.s3.objects import Draft, Objects, steadily
from commandstore.s3.root import Root
from commandstore.s3.wire import ConditionFailed, Wire

__all__ = ["Writer", "bury"]


class Writer:
    """Writes of one store."""

    def __init__(
        self, wire: Wire, root: Root, objects: Objects, finder: Finder, inbox: Inbox, conflicts: Conflicts
    ) -> None:
        self._wire = wire
        self._conflicts = conflicts
        self._root = root
        self._objects = objects
        self._finder = finder
        self._inbox = inbox

    # One command

    async def create(self, record: Record, write_id: str) -> Outcome:
        """Insert one record: a conditional write of its own object, and a look at the manifest."""
        stored = Stored(record, write_id, write_id)
        tries = self._wire.tries()
        while True:
            outcome = await steadily(self._root.fresh, lambda _: self._create(stored))
            if outcome is not None:
                return outcome
            await tries.again(
                StoreUnavailable(
                    f"command {record.command_uuid!a} is created and removed, or its store reset, by others all the "
                    "time; try again later"
                )
            )

    async def _create(self, stored: Stored) -> Outcome | None:
        """One attempt; None where what was in the way is gone again."""
        uuid = stored.record.command_uuid
        before = self._root.cached
        letter: Letter | None = None
        known = (await self._finder.find(before, [uuid])).get(uuid)
        if known is None:
            letter = await self._post(before.store, stored)
        now = await self._root.fresh()
        if now.store != before.store:
            return None  # the store was reset; what was written is in the inbox of its former life
        if now is not before:
            known = (await self._finder.find(now, [uuid])).get(uuid)
        if known is not None:
            if known.put_id == stored.put_id:
                return CREATED  # it counted, whatever became of it since
            outcome = (
                _standing(known.digest, known.write_id, stored.write_id) if known.live else await self._revive(stored)
            )
            if letter is not None and letter.put_id == stored.put_id:
                await self._wire.delete([letter.key])  # it never counted, and must not be taken for what was superseded
            return outcome
        if letter is None:
            return None
        if letter.put_id == stored.put_id:
            return CREATED
        return _of(letter, stored.write_id)

    async def _post(self, store: str, stored: Stored) -> Letter | None:
        """Write the object, and say which one is there now; None: none is."""
        uuid = stored.record.command_uuid
        try:
            key = await self._inbox.put(store, stored)
        except ConditionFailed:
            return await self._inbox.get(store, uuid)
        return Letter(key, uuid, stored)

    async def _revive(self, stored: Stored) -> Outcome | None:
        """Create a command that was deleted: by the manifest, as the inbox says nothing of it any more."""
        uuid = stored.record.command_uuid
        outcome: Outcome | None = None
        draft: Draft | None = None
        kept: str | None = None

        async def plan(manifest: Manifest) -> Manifest | None:
            nonlocal outcome, draft, kept
            known = (await self._finder.find(manifest, [uuid])).get(uuid)
            outcome = None
            if known is None:
                return None  # the store was reset
            if known.live:
                outcome = _standing(known.digest, known.write_id, stored.write_id)
                return None
            if draft is None or kept != known.put_id:
                draft, kept = self._draft([stored.record], stored.write_id, {uuid: known.put_id}), known.put_id
            outcome = CREATED
            return await self._finder.enter(bury(manifest, {uuid: known}), draft)

        await self._change(plan)
        return outcome

    def _draft(
        self,
        records: Sequence[Record],
        write_id: str,
        put_ids: Mapping[str, str | None],
        hashes: Mapping[str, bytes] | None = None,
    ) -> Draft:
        """A segment of records in the total order; of a bulk insert hardly one has a put-id, so those are by uuid."""
        count = len(records)
        wrote = [write_id] * count
        put = [put_ids.get(record.command_uuid) for record in records] if put_ids else [None] * count
        lines = encode_rows(zip(records, wrote, put, strict=True))
        return Draft(self._objects, Rows(records, wrote, put, lines), hashes)

    async def _change(self, plan: Callable[[Manifest], Awaitable[Manifest | None]]) -> Manifest:
        return await steadily(self._root.fresh, lambda _: self._root.change(plan))

    async def replace(self, record: Record, write_id: str) -> bool:
        """See ``Backend.replace``. Of two at once, one comes last and stands; both say True."""
        draft: Draft | None = None
        kept: str | None = None

        async def change(manifest: Manifest, known: Known | None, put_id: str | None) -> Manifest:
            nonlocal draft, kept
            if draft is None or kept != put_id:
                draft, kept = self._draft([record], write_id, {record.command_uuid: put_id}), put_id
            old = {} if known is None else {record.command_uuid: known}
            return await self._finder.enter(bury(manifest, old), draft)

        return await self._modify(record.command_uuid, change)

    async def remove(self, command_uuid: str) -> bool:
        """See ``Backend.remove``."""

        async def change(manifest: Manifest, known: Known | None, put_id: str | None) -> Manifest:
            created_at = known.created_at if known is not None else 0
            after = manifest if known is None else bury(manifest, {command_uuid: known})
            return replace(after, graves={**after.graves, command_uuid: Grave(created_at, put_id)})

        return await self._modify(command_uuid, change)

    async def _modify(
        self, uuid: str, change: Callable[[Manifest, Known | None, str | None], Awaitable[Manifest]]
    ) -> bool:
        while True:
            store = self._root.cached.store
            letter = await self._inbox.get(store, uuid)
            done = moved = False

            async def plan(manifest: Manifest) -> Manifest | None:
                nonlocal done, moved
                done, moved = False, manifest.store != store  # noqa: B023 - called within this round only
                if moved:
                    return None
                known = (await self._finder.find(manifest, [uuid])).get(uuid)
                if (known is not None and not known.live) or (known is None and letter is None):  # noqa: B023
                    return None
                done = True
                if known is not None and letter is not None and known.put_id != letter.put_id:  # noqa: B023
                    # Superseded by what is about to go itself: kept aside as such, so that a compaction forgets it,
                    # wherever this ends.
                    await self._conflicts.keep(letter, known.write_id)  # noqa: B023
                    await self._wire.delete([letter.key])  # noqa: B023
                put_id = known.put_id if known is not None else letter.put_id  # type: ignore[union-attr]  # noqa: B023
                return await change(manifest, known, put_id)

            await self._change(plan)
            if not moved:
                break
        if done and letter is not None:
            await self._wire.delete([letter.key])
        return done

    # Many

    async def bulk(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        """Insert many records by one segment."""
        while True:
            found = await steadily(self._root.fresh, lambda _: self._bulk(records, write_id))
            if found is not None:
                return found

    async def _bulk(self, records: Sequence[Record], write_id: str) -> list[Outcome] | None:
        """What became of each; None where the store was reset meanwhile."""
        store = self._root.cached.store
        letters = await self._inbox.find(store, [record.command_uuid for record in records])
        bulk = _Bulk(records, write_id, letters)
        moved = False

        async def plan(manifest: Manifest) -> Manifest | None:
            nonlocal moved
            moved = manifest.store != store
            return None if moved else await bulk.plan(manifest, self._finder, self._draft)

        await self._root.change(plan)
        return None if moved else bulk.outcomes


class _Bulk:
    """One bulk insert: what became of each record, by the manifest that it was tried with last."""

    def __init__(self, records: Sequence[Record], write_id: str, letters: dict[str, Letter]) -> None:
        self.records = records
        self.outcomes: list[Outcome] = []
        self.letters = letters
        self._write_id = write_id
        self._draft: Draft | None = None
        self._hashes = hashes_of([record.command_uuid for record in records])

    async def plan(self, manifest: Manifest, finder: Finder, draft: Callable[..., Draft]) -> Manifest | None:
        """The manifest with what isn't there yet; None where everything is."""
        known = await finder.find(manifest, self._hashes, self._hashes)
        buried = {uuid: item for uuid, item in known.items() if not item.live}
        put_ids = {uuid: item.put_id for uuid, item in buried.items()}
        new: Sequence[Record] = self.records
        if known or self.letters:
            self.outcomes = [self._outcome(record.command_uuid, known) for record in self.records]
            there = self.letters.keys() - known.keys() | {uuid for uuid, item in known.items() if item.live}
            new = [record for record in self.records if record.command_uuid not in there]
        else:  # as nearly always
            self.outcomes = [CREATED] * len(self.records)
        if not new:
            return None
        dead = self._superseded(new, put_ids)
        if self._draft is None or dead is None:
            self._draft = draft(in_order(new), self._write_id, put_ids, self._hashes)
            dead = []
        return await finder.enter(bury(manifest, buried), self._draft, dead=dead)

    def _outcome(self, uuid: str, known: dict[str, Known]) -> Outcome:
        item = known.get(uuid)
        if item is not None:
            return _standing(item.digest, item.write_id, self._write_id) if item.live else CREATED
        letter = self.letters.get(uuid)
        return CREATED if letter is None else _of(letter, self._write_id)

    def _superseded(self, new: Sequence[Record], put_ids: Mapping[str, str | None]) -> list[int] | None:
        """The rows of the draft that somebody else wrote meanwhile; None where it can't be used any more."""
        if self._draft is None:
            return []
        index = self._draft.index
        wanted = {record.command_uuid: put_ids.get(record.command_uuid) for record in new}
        drafted = {uuid: index.put_id(row) for row, uuid in enumerate(index.uuids)}
        if any(uuid not in drafted or drafted[uuid] != put_id for uuid, put_id in wanted.items()):
            return None
        # A segment with most of its rows dead is dearer than another one.
        if len(wanted) * 2 < len(drafted):
            return None
        return [row for row, uuid in enumerate(index.uuids) if uuid not in wanted]


def bury(manifest: Manifest, items: dict[str, Known]) -> Manifest:
    """The manifest without what it knows of some uuids; something else must come in its place."""
    graves = {uuid: grave for uuid, grave in manifest.graves.items() if uuid not in items}
    if len(graves) < len(manifest.graves):
        manifest = replace(manifest, graves=graves)
    by_segment: dict[int, list[Known]] = {}
    for item in items.values():
        if item.segment is not None:
            by_segment.setdefault(item.segment.number, []).append(item)
    for number, several in by_segment.items():
        lost = Counter(item.tenant for item in several if item.live)
        manifest = manifest.bury(number, {item.row for item in several}, lost)
        manifest = manifest.counted({tenant: -count for tenant, count in lost.items()})
    return manifest


def _standing(digest: bytes, found: str | None, write_id: str) -> Outcome:
    return CREATED if found == write_id else Exists(digest, found)


def _of(letter: Letter, write_id: str) -> Outcome:
    if letter.stored is None:
        return Exists(b"", None)
    return _standing(letter.stored.record.digest, letter.stored.write_id, write_id)
