"""Reads: heads by name, pages by one query over all shards, long payloads from their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Key, Row, Slice
from commandstore.errors import CorruptRecord, StoreUnavailable
from commandstore.firestore.layout import (
    FIELDS,
    WITHOUT_PAYLOAD,
    Layout,
    Wanted,
    parts_of,
    read_head,
    wanted,
)
from commandstore.firestore.requests import Cursor, query
from commandstore.firestore.values import Document
from commandstore.firestore.wire import Found, Wire

__all__ = ["Reader"]

_PAGE_BYTES = 8 * 1024 * 1024
"""About how much payload one page holds: beyond that it is short, so that memory doesn't depend on what is stored."""
_FIRST = 16
"""So many are read before it is known how large they are."""
_PARTS_AT_ONCE = 8


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
        """See ``Backend.page``. Reads no document that it doesn't return; all of them as they were at one moment."""
        planned = wanted(asked, after, self._layout.shards)
        if planned is None:
            return Slice([], None)
        rows: list[Row] = []
        room, seen = _PAGE_BYTES, 0
        count = min(limit, _FIRST) if payload else limit
        at: int | None = None
        while True:
            found, at = await self._query(planned, count, FIELDS if payload else WITHOUT_PAYLOAD, at)
            # Cut before the parts of long ones are read.
            kept = _affordable(found, room) if payload else found
            rows += await self._rows(kept, asked, at, payload=payload)
            room -= sum(_weight(document) for document in kept)
            seen += len(kept)
            if len(kept) == len(found) < count:
                return Slice(rows, None)
            key = _key(kept[-1])
            left = limit - seen
            if left <= 0 or room <= 0 or len(kept) < len(found):
                return Slice(rows, key)
            planned = planned._replace(start=Cursor(list(key)))
            each = max(1, (_PAGE_BYTES - room) // seen)
            count = min(left, max(1, room // each))

    async def _query(self, planned: Wanted, limit: int, fields: Sequence[str], at: int | None) -> Found:
        asked = query(
            self._layout.place.collection,
            where=planned.where,
            order=planned.order,
            start=planned.start,
            limit=limit,
            fields=fields,
        )
        return await self._wire.run_query(self._layout.place.root, asked, at=at)

    async def _rows(
        self, found: Sequence[Document], asked: CommandQuery, at: int | None, *, payload: bool
    ) -> list[Row]:
        if payload:
            read = await self._records({document.name: document for document in found}, at)
        else:
            read = {document.name: _without_payload(document) for document in found}
        rows: list[Row] = []
        for document in found:
            one = read.get(document.name)
            if one is None:
                continue  # long, and removed or replaced since
            key = _key(document)
            if isinstance(one, CorruptRecord):
                rows.append(Row(key, None, one))
            elif asked.matches(one):  # a long one may be another by now
                rows.append(Row(key, one))
        return rows

    async def _records(self, heads: dict[str, Document], at: int | None = None) -> dict[str, Record | CorruptRecord]:
        """The records of heads, in their order. One that is replaced while its parts are read is read again.

        At the time of the heads, where it is known, their parts are as they name them, whoever removed them since.
        """
        found: dict[str, Record | CorruptRecord] = {}
        waiting = heads
        tries = self._wire.tries()
        while waiting:
            torn: list[str] = []
            for name, document in waiting.items():
                names = parts_of(document)
                payloads = await self._parts(names, at) if names else None
                if payloads is not None and None in payloads:
                    torn.append(name)
                    continue
                try:
                    found[name] = read_head(document, payloads)
                except CorruptRecord as error:
                    found[name] = error
            if not torn:
                break
            again = await self._wire.batch_get(torn, FIELDS, at=at)
            same = [name for name in torn if name in again and again[name].update_time == waiting[name].update_time]
            for name in same:
                found[name] = CorruptRecord(f"document {name}: parts of its payload are missing", location=name)
            waiting = {name: document for name, document in again.items() if name not in same}
            if waiting:
                name = next(iter(waiting))
                await tries.again(StoreUnavailable(f"document {name} is replaced by others all the time; try later"))
        return {name: found[name] for name in heads if name in found}

    async def _parts(self, names: Sequence[str], at: int | None) -> list[Any]:
        """The payloads of parts; None for those that aren't there. A few at a time, as each has a megabyte."""
        found: dict[str, Document] = {}
        for start in range(0, len(names), _PARTS_AT_ONCE):
            found |= await self._wire.batch_get(names[start : start + _PARTS_AT_ONCE], ("payload",), at=at)
        payloads = [found[name].fields.get("payload", b"") if name in found else None for name in names]
        return [payload if payload is None or isinstance(payload, bytes) else b"" for payload in payloads]

    async def count(self, asked: CommandQuery) -> int:
        """See ``Backend.count``. Reads no document."""
        planned = wanted(asked, None, self._layout.shards)
        if planned is None:
            return 0
        return await self._wire.count(
            self._layout.place.root,
            query(self._layout.place.collection, where=planned.where, order=planned.order),
        )


def _key(document: Document) -> Key:
    # What the query was ordered by is there.
    return document.fields["created_at"], document.fields["command_uuid"]


def _without_payload(document: Document) -> Record | CorruptRecord:
    try:
        return read_head(document._replace(fields={**document.fields, "data": b"", "req_ctx": ""}))
    except CorruptRecord as error:
        return error


def _affordable(found: list[Document], room: int) -> list[Document]:
    """As many as there is room for, at least one."""
    for count, document in enumerate(found):
        room -= _weight(document)
        if room < 0 and count:
            return found[:count]
    return found


def _weight(document: Document) -> int:
    fields = document.fields
    data, context = fields.get("data", b""), fields.get("req_ctx", "")
    inline = len(data) + len(context) if isinstance(data, bytes) and isinstance(context, str) else 0
    long = fields.get("payload_bytes")
    return inline + (long if isinstance(long, int) else 0) + 400
