"""Reads: heads by name, pages by one query over all shards, long payloads from their parts."""

from __future__ import annotations

from collections.abc import Sequence

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Key, Row, Slice
from commandstore.errors import CorruptRecord
from commandstore.firestore.layout import (
    FIELDS,
    WITHOUT_PAYLOAD,
    Layout,
    Wanted,
    part_names,
    read_head,
    wanted,
)
from commandstore.firestore.requests import Cursor, query
from commandstore.firestore.values import Document
from commandstore.firestore.wire import Wire

__all__ = ["Reader"]

_PAGE_BYTES = 8 * 1024 * 1024
"""About how much payload one page holds: beyond that it is short, so that memory doesn't depend on what is stored."""
_FIRST = 100
"""So many are read before it is known how large they are."""
_TRIES = 5


class Reader:
    """Reads of one collection."""

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        """See ``Backend.fetch``."""
        names = {self._layout.name(uuid): uuid for uuid in uuids}
        found = await self._wire.batch_get(list(names), FIELDS)
        return {names[name]: one for name, one in (await self._records(found)).items()}

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        """See ``Backend.probe``."""
        names = {self._layout.name(uuid): uuid for uuid in uuids}
        found = await self._wire.batch_get(list(names), ("digest",))
        digests = {names[name]: document.fields.get("digest") for name, document in found.items()}
        return {uuid: digest if isinstance(digest, bytes) else b"" for uuid, digest in digests.items()}

    async def page(self, asked: CommandQuery, after: Key | None, limit: int, *, payload: bool) -> Slice:
        """See ``Backend.page``. Reads no document that it doesn't return."""
        planned = wanted(asked, after, self._layout.shards)
        if planned is None:
            return Slice([], None)
        rows: list[Row] = []
        room = _PAGE_BYTES
        count = min(limit, _FIRST) if payload else limit
        while True:
            found = await self._query(planned, count, FIELDS if payload else WITHOUT_PAYLOAD)
            rows += await self._rows(found, payload=payload)
            room -= sum(_weight(document) for document in found)
            if len(found) < count:
                return Slice(rows, None)
            key = _key(found[-1])
            left = limit - len(rows)
            if left <= 0 or room <= 0:
                return Slice(rows, key)
            planned = planned._replace(start=Cursor(list(key)))
            each = max(1, (_PAGE_BYTES - room) // len(rows))
            count = min(left, max(1, room // each))

    async def _query(self, planned: Wanted, limit: int, fields: Sequence[str]) -> list[Document]:
        asked = query(
            self._layout.place.collection,
            where=planned.where,
            order=planned.order,
            start=planned.start,
            limit=limit,
            fields=fields,
        )
        return await self._wire.run_query(self._layout.place.root, asked)

    async def _rows(self, found: Sequence[Document], *, payload: bool) -> list[Row]:
        if payload:
            read = await self._records({document.name: document for document in found})
        else:
            read = {document.name: _without_payload(document) for document in found}
        rows: list[Row] = []
        for document in found:
            one = read.get(document.name)
            if one is None:
                continue  # long, and removed or replaced since
            key = _key(document)
            rows.append(Row(key, None, one) if isinstance(one, CorruptRecord) else Row(key, one))
        return rows

    async def _records(self, heads: dict[str, Document]) -> dict[str, Record | CorruptRecord]:
        """The records of heads, in their order. One that is replaced while its parts are read is read again."""
        found: dict[str, Record | CorruptRecord] = {}
        waiting = heads
        for _ in range(_TRIES):
            names = {name: _parts_of(document) for name, document in waiting.items()}
            wanted_parts = [part for parts in names.values() if parts for part in parts]
            parts = await self._wire.batch_get(wanted_parts, ("payload",)) if wanted_parts else {}
            torn: list[str] = []
            for name, document in waiting.items():
                own = names[name]
                if own is not None and any(part not in parts for part in own):
                    torn.append(name)
                    continue
                payloads = None if own is None else [parts[part].fields["payload"] for part in own]
                try:
                    found[name] = read_head(document, payloads)
                except CorruptRecord as error:
                    found[name] = error
            if not torn:
                break
            again = await self._wire.batch_get(torn, FIELDS)
            same = [name for name in torn if name in again and again[name].update_time == waiting[name].update_time]
            for name in same:
                found[name] = CorruptRecord(
                    f"document {name}: parts of its payload are missing", location=name, command_uuid=None
                )
            waiting = {name: document for name, document in again.items() if name not in same}
        return {name: found[name] for name in heads if name in found}

    async def count(self, asked: CommandQuery) -> int:
        """See ``Backend.count``. Reads no document."""
        planned = wanted(asked, None, self._layout.shards)
        if planned is None:
            return 0
        return await self._wire.count(
            self._layout.place.root,
            query(self._layout.place.collection, where=planned.where, order=planned.order),
        )


def _key(document: Document) -> tuple[int, str]:
    # What the query was ordered by is there, and of these types.
    return document.fields["created_at"], document.fields["command_uuid"]


def _without_payload(document: Document) -> Record | CorruptRecord:
    try:
        return read_head(document._replace(fields={**document.fields, "data": b"", "req_ctx": ""}))
    except CorruptRecord as error:
        return error


def _parts_of(document: Document) -> list[str] | None:
    count, write_id = document.fields.get("part_count"), document.fields.get("write_id")
    if not isinstance(count, int) or not isinstance(write_id, str):
        return None
    return part_names(document.name, write_id, count)


def _weight(document: Document) -> int:
    fields = document.fields
    data, context = fields.get("data", b""), fields.get("req_ctx", "")
    inline = len(data) + len(context) if isinstance(data, bytes) and isinstance(context, str) else 0
    part_count = fields.get("part_count")
    return inline + (part_count * 1_000_000 if isinstance(part_count, int) else 0) + 400
