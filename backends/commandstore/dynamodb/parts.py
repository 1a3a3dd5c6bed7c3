"""The parts of long payloads: written before the head that names them, removed only by whoever replaced that head."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from commandstore.codec import Record
from commandstore.dynamodb import layout
from commandstore.dynamodb.requests import delete_request, put_request
from commandstore.dynamodb.wire import Wire

__all__ = ["Parts"]


class Parts:
    """Writes and removes parts.

    Args:
        wire: to the table.
        now: seconds since 1970: the age by which ``gc`` tells an orphan from a write that is under way.
    """

    def __init__(self, wire: Wire, now: Callable[[], float]) -> None:
        self._wire = wire
        self._now = now

    async def write(self, records: Iterable[Record], write_id: str) -> None:
        """Write the parts of these records. Writing them again does no harm: their names are the write's own."""
        now = int(self._now())
        pending: list[bytes] = []
        size = 0
        for record in records:
            for item in layout.part_items(record, write_id, now):
                request = put_request(item)
                pending.append(request)
                size += len(request)
                # A few bodies' worth at a time: parts in base64 are a copy of a payload that is in memory already.
                if size >= layout.PUTS_BYTES * 2:
                    await self._wire.batch_write(pending)
                    pending, size = [], 0
        await self._wire.batch_write(pending)

    async def remove_own(self, record: Record, write_id: str) -> None:
        """Remove what :meth:`write` wrote, where the head that should have named it never came to stand."""
        await self.remove(record.command_uuid, write_id, layout.part_count(record))

    async def remove(self, command_uuid: str, write_id: str, count: int) -> None:
        """Remove the parts of one write. What isn't reached, if this fails, goes by ``gc``."""
        keys = layout.part_keys(command_uuid, write_id, count)
        await self._wire.batch_write([delete_request(key) for key in keys])
