"""Opening, emptying and tidying up one collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from commandstore.contract import Register
from commandstore.errors import ConfigurationError, CorruptRecord, StoreNotFound
from commandstore.firestore.faults import Place
from commandstore.firestore.layout import PARTS, Layout, parts_of, read_settings, settings_values
from commandstore.firestore.requests import NAME, Cursor, Order, create, delete, query
from commandstore.firestore.values import Document
from commandstore.firestore.wire import ConditionFailed, Wire

__all__ = ["clear", "collect", "open_layout", "read_register"]

_PAGE = 300
_SECOND = 1_000_000_000


async def open_layout(wire: Wire, place: Place, shards: int, *, create_it: bool) -> Layout:
    """The collection's layout by its settings, which are written where there are none.

    Raises:
        StoreNotFound: there are none, and ``create_it`` is False.
        ConfigurationError: the collection holds something else, or a newer format.
    """
    layout = Layout(place, shards)
    found = (await wire.batch_get([layout.settings])).get(layout.settings)
    if found is None:
        if not create_it:
            raise StoreNotFound(
                f"there is no command store in {place.where}; create it with: commandstore init '{place.url}'"
            )
        if (await wire.run_query(place.root, query(place.collection, limit=1, fields=()))).documents:
            raise ConfigurationError(f"{place.where} holds something else; nothing was written, take another name")
        try:
            await wire.commit([create(layout.settings, settings_values(shards))])
        except ConditionFailed:
            found = (await wire.batch_get([layout.settings])).get(layout.settings)  # somebody else just did
    return layout if found is None else Layout(place, read_settings(found, place.where))


def read_register(document: Document | None) -> Register | None:
    """What a register's document holds."""
    if document is None:
        return None
    value, token = document.fields.get("value"), document.fields.get("token")
    if not isinstance(value, bytes) or not isinstance(token, str):
        raise CorruptRecord(f"document {document.name} is no register, or was altered", location=document.name)
    return Register(value, token)


async def clear(wire: Wire, layout: Layout) -> None:
    """Remove everything but the settings: registers first and last, as a checkpoint without its commands would lie."""
    await _each(wire, layout, "r")
    await _each(wire, layout, "c")
    await _each(wire, layout, "r")


async def collect(wire: Wire, layout: Layout, *, grace: float, now: float) -> int:
    """Remove parts that no head names and that are older than ``grace`` seconds; how many."""
    oldest = int((now - grace) * _SECOND)
    return await _parts(wire, layout, lambda part: part.update_time <= oldest)


def _range(prefix: str) -> tuple[Cursor, Cursor]:
    """All names that begin so."""
    return Cursor([prefix], inclusive=True), Cursor([prefix[:-1] + chr(ord(prefix[-1]) + 1)])


async def _each(wire: Wire, layout: Layout, kind: str) -> None:
    """Remove all documents whose ids begin so, and the parts that they name."""
    start, end = _range(f"{layout.prefix}{kind}")
    while True:
        asked = query(
            layout.place.collection,
            order=[Order(NAME)],
            start=start,
            end=end,
            limit=_PAGE,
            fields=("parts_id", "part_count"),
        )
        found = (await wire.run_query(layout.place.root, asked)).documents
        await wire.batch_write([delete(document.name) for document in found])
        await wire.batch_write([delete(part) for document in found for part in parts_of(document)])
        if len(found) < _PAGE:
            return
        start = Cursor([found[-1].name])


async def _parts(wire: Wire, layout: Layout, chosen: Callable[[Document], bool]) -> int:
    removed = 0
    start, end = _range(f"{layout.prefix}c")
    while True:
        asked = query(PARTS, order=[Order(NAME)], start=start, end=end, limit=_PAGE, fields=())
        asked.from_[0].all_descendants = True
        found = (await wire.run_query(layout.place.root, asked)).documents
        garbage = await _unnamed(wire, [document for document in found if chosen(document)])
        # Only as they were looked at.
        await wire.batch_write([delete(document.name, update_time=document.update_time) for document in garbage])
        removed += len(garbage)
        if len(found) < _PAGE:
            return removed
        start = Cursor([found[-1].name])


async def _unnamed(wire: Wire, parts: Sequence[Document]) -> list[Document]:
    heads = {part.name: part.name.rsplit("/", 2)[0] for part in parts}
    found = await wire.batch_get(sorted(set(heads.values())), ("parts_id",)) if parts else {}
    named = {name: document.fields.get("parts_id") for name, document in found.items()}
    return [part for part in parts if named.get(heads[part.name]) != part.name.rpartition("/")[2].rpartition(".")[0]]
