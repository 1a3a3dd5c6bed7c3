"""Opening, emptying and tidying up one collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from commandstore.contract import Register
from commandstore.errors import ConfigurationError, StoreNotFound
from commandstore.firestore.faults import Place
from commandstore.firestore.layout import PARTS, Layout, read_settings, settings_values
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
        if await wire.run_query(place.root, query(place.collection, limit=1, fields=())):
            raise ConfigurationError(f"{place.where} holds something else; nothing was written, take another name")
        try:
            await wire.commit([create(layout.settings, settings_values(shards))])
        except ConditionFailed:
            found = (await wire.batch_get([layout.settings])).get(layout.settings)  # somebody else just did
    return layout if found is None else Layout(place, read_settings(found, place.where))


def read_register(document: Document | None) -> Register | None:
    """What a register's document holds."""
    return None if document is None else Register(document.fields["value"], document.fields["token"])


async def clear(wire: Wire, layout: Layout) -> None:
    """Remove everything but the settings: registers first and last, as a checkpoint without its commands would lie."""
    await _each(wire, layout, lambda name: name.startswith(f"{layout.prefix}r"))
    await _each(wire, layout, lambda name: name != layout.settings)
    await _parts(wire, layout, lambda _: True)
    await _each(wire, layout, lambda name: name.startswith(f"{layout.prefix}r"))


async def collect(wire: Wire, layout: Layout, *, grace: float, now: float) -> int:
    """Remove parts that no head names and that are older than ``grace`` seconds; how many."""
    oldest = int((now - grace) * _SECOND)
    return await _parts(wire, layout, lambda part: part.update_time <= oldest, unless_named=True)


async def _each(wire: Wire, layout: Layout, chosen: Callable[[str], bool]) -> None:
    start: Cursor | None = None
    while True:
        asked = query(layout.place.collection, order=[Order(NAME)], start=start, limit=_PAGE, fields=())
        found = await wire.run_query(layout.place.root, asked)
        await wire.batch_write([delete(document.name) for document in found if chosen(document.name)])
        if len(found) < _PAGE:
            return
        start = Cursor([found[-1].name])


async def _parts(wire: Wire, layout: Layout, chosen: Callable[[Document], bool], *, unless_named: bool = False) -> int:
    removed = 0
    start: Cursor | None = None
    while True:
        asked = query(PARTS, order=[Order(NAME)], start=start, limit=_PAGE, fields=())
        asked.from_[0].all_descendants = True
        found = await wire.run_query(layout.place.root, asked)
        own = [document for document in found if document.name.startswith(layout.prefix) and chosen(document)]
        garbage: Sequence[Any] = own
        if unless_named and own:
            garbage = await _unnamed(wire, own)
        await wire.batch_write([delete(document.name) for document in garbage])
        removed += len(garbage)
        if len(found) < _PAGE:
            return removed
        start = Cursor([found[-1].name])


async def _unnamed(wire: Wire, parts: Sequence[Document]) -> list[Document]:
    heads = {part.name: part.name.rsplit("/", 2)[0] for part in parts}
    found = await wire.batch_get(sorted(set(heads.values())), ("write_id",))
    written = {name: document.fields.get("write_id") for name, document in found.items()}
    return [part for part in parts if written.get(heads[part.name]) != part.name.rpartition("/")[2].rpartition(".")[0]]
