"""Commands that were superseded: a create that may have been acknowledged while a bulk insert of the same uuid won.

They are kept while the row that won stands, for whoever has to explain it; then they are to be forgotten with it.
"""

from __future__ import annotations

from collections.abc import Collection

from commandstore.errors import CorruptRecord
from commandstore.s3.finder import Finder, Known
from commandstore.s3.inbox import Letter, body_of
from commandstore.s3.layout import CONFLICTS, conflict_key, conflict_uuid, decode_row, settled_conflict
from commandstore.s3.objects import steadily
from commandstore.s3.root import Root
from commandstore.s3.wire import Wire

__all__ = ["Conflicts"]


class Conflicts:
    """What one store keeps aside."""

    def __init__(self, wire: Wire, root: Root, finder: Finder) -> None:
        self._wire = wire
        self._root = root
        self._finder = finder

    async def keep(self, letter: Letter, winner: str | None) -> None:
        """Keep an object of the inbox apart from it.

        Args:
            letter: one that does not count; nothing is kept of one that can't be read.
            winner: the write id of the row that counts.
        """
        if letter.stored is not None:
            key = conflict_key(letter.command_uuid, letter.put_id or "", winner or "")
            await self._wire.put(key, body_of(letter.stored))

    async def forgive(self) -> int:
        """Remove those whose successor was replaced or removed since; how many."""
        uuids: dict[str, str] = {}
        for entry in await self._wire.list_all(CONFLICTS):
            uuid = conflict_uuid(entry.key) or await self._read(entry.key)
            if uuid is not None:
                uuids[entry.key] = uuid
        if not uuids:
            return 0

        async def look(_: Collection[str]) -> dict[str, Known]:
            return await self._finder.find(await self._root.fresh(), set(uuids.values()))

        known = await steadily(self._root.fresh, look)
        # Once there is such an object, its uuid is known for ever; it isn't where the store was reset since.
        over = [
            key for key, uuid in uuids.items() if uuid not in known or settled_conflict(key, uuid, known[uuid].write_id)
        ]
        await self._wire.delete(over)
        return len(over)

    async def _read(self, key: str) -> str | None:
        """The uuid in an object whose name has only its hash."""
        got = await self._wire.get(key)
        try:
            return None if got is None else decode_row(got.data, key).record.command_uuid
        except CorruptRecord:
            return None
