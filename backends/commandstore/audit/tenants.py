"""Whether the lists of each tenant show all of its commands.

An index attribute that was removed hides a command from its tenant, and the walk over all commands, which goes by
another index, does not notice. So each tenant's commands are counted as they are met, and the store is asked for its
count.
"""

from __future__ import annotations

from functools import partial

from commandstore.audit.book import Book
from commandstore.command import CommandQuery
from commandstore.contract import Row
from commandstore.core import PAGE, StoreCore

__all__ = ["compare_tenants"]

_AT_ONCE = 16


async def compare_tenants(core: StoreCore, book: Book, *, every: bool) -> int | None:
    """Note what the lists of those tenants show that have another number of commands than were met.

    What is missing in them is only a candidate: lists may lag, and commands may have been deleted meanwhile.

    Args:
        core: the store's.
        book: has all that was met, and gets what the lists show.
        every: walk the lists of all tenants, whatever their counts are.

    Returns:
        How many tenants were looked at; None where there are too many.
    """
    met = book.tenants()
    if met is None:
        return None
    differing = list(met)
    if not every:
        jobs = [partial(core.backend.count, CommandQuery(tenant_uuid=tenant)) for tenant in met]
        counted = await core.drive.gather(jobs, _AT_ONCE)
        differing = [tenant for tenant, count in zip(met, counted, strict=True) if count != met[tenant]]
    for tenant in differing:
        await _walk(core, book, tenant)
    return len(met)


async def _walk(core: StoreCore, book: Book, tenant: str) -> None:
    query, key = CommandQuery(tenant_uuid=tenant), None
    while True:
        found = await core.backend.page(query, key, PAGE, payload=False)
        uuids = [uuid for row in found.rows if (uuid := _uuid_of(row)) is not None]
        await core.drive.call(book.list_of, tenant, uuids)
        if (key := found.next_key) is None:
            return


def _uuid_of(row: Row) -> str | None:
    if row.record is not None:
        return row.record.command_uuid
    uuid = getattr(row.error, "command_uuid", None)
    return uuid if uuid and uuid == uuid.encode("utf-8", "replace").decode() else None
