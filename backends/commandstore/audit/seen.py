"""What the store holds, as an auditor sees it: whole records as they are stored, and nothing opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from commandstore.audit.book import Book, Seen
from commandstore.audit.report import MAX_LISTED
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery, session_of
from commandstore.contract import Key, Row
from commandstore.core import PAGE, StoreCore
from commandstore.errors import CorruptRecord
from commandstore.ledger.leaves import stored_digest

__all__ = ["Pace", "fetch", "seen_as", "walk"]

_PAGE_BYTES = 16 * 1024 * 1024
_FIRST_PAGE = 100
_NEAR = 10  # rows that may have come between two others since
_Unreadable = dict[str, tuple[str, Key | None]]
"""What can't be read, by uuid: what is wrong with it, and the key of the row before it."""


class Pace:
    """How many commands are read at once, so that their payloads fit into memory.

    Args:
        size: to begin with.
        most: at most.
    """

    def __init__(self, size: int, most: int = PAGE) -> None:
        self.size = size
        self._most = most

    def had(self, weight: int) -> None:
        """So many bytes came the last time."""
        if weight > _PAGE_BYTES:
            self.size = max(1, self.size // 2)
        elif weight < _PAGE_BYTES // 4:
            self.size = min(self._most, self.size * 2)


def seen_as(record: Record) -> Seen:
    """What a record is to an auditor. What is kept beside its content is checked too: lists and syncs go by it."""
    digest, problem = stored_digest(record), None
    if not record.cipher and record.digest != digest:
        problem = "the digest that is kept beside it is not that of its content"
    elif record.session_uuid != session_of(record.req_ctx):
        problem = "the session that is kept beside it is not the one in its context"
    return Seen(digest, record.created_at, problem, tenant=record.tenant_uuid)


async def walk(core: StoreCore, book: Book, nameless: Callable[[str, str], None], met: Callable[[int], None]) -> None:
    """Note all that lists show.

    Args:
        core: the store's.
        book: where it is noted.
        nameless: told where something lies that has no uuid, and what is wrong with it.
        met: told after each page how many commands it had.
    """
    key: Key | None = None
    pace = Pace(_FIRST_PAGE)
    unreadable: _Unreadable = {}
    while True:
        found = await core.backend.page(CommandQuery(), key, pace.size)
        pace.had(sum(row.record.size for row in found.rows if row.record is not None))
        await core.drive.call(book.meet, await core.drive.call(_noted, found.rows, key, nameless, unreadable))
        met(len(found.rows))
        if (key := found.next_key) is None:
            break
    await _name_seconds(core, unreadable, nameless)


async def _name_seconds(core: StoreCore, unreadable: _Unreadable, nameless: Callable[[str, str], None]) -> None:
    """Name what can't be read beside a command of the same uuid: who asks for that uuid gets the command, and no word.

    Args:
        core: the store's.
        unreadable: what was met.
        nameless: told of it.
    """
    uuids, pace = list(unreadable), Pace(_FIRST_PAGE)
    while uuids:
        some = uuids[: pace.size]
        del uuids[: pace.size]
        found = await core.backend.fetch(some)
        pace.had(sum(one.size for one in found.values() if isinstance(one, Record)))
        for uuid, one in found.items():
            reason, before = unreadable[uuid]
            # It may have been put right since it was met. Or lists, which may lag, show the command as it was.
            if isinstance(one, Record) and await _is_still_met(core, uuid, before) and await _is_listed(core, one):
                nameless(uuid, f"beside it is a second record of this uuid that can't be read: {reason}")


async def _is_still_met(core: StoreCore, uuid: str, before: Key | None) -> bool:
    """Whether what can't be read is still where it was met."""
    found = await core.backend.page(CommandQuery(), before, _NEAR)
    return any(row.record is None and getattr(row.error, "command_uuid", None) == uuid for row in found.rows)


async def _is_listed(core: StoreCore, record: Record) -> bool:
    """Whether lists show a command, too. Else they show it as something else, or late."""
    at = record.created_at
    query = CommandQuery(after=at - 1 if at > INT64_MIN else None, before=at + 1 if at < INT64_MAX else None)
    key: Key | None = None
    while True:
        found = await core.backend.page(query, key, PAGE, payload=False)
        if any(row.record is not None and row.record.command_uuid == record.command_uuid for row in found.rows):
            return True
        if (key := found.next_key) is None:
            return False


def _noted(
    rows: Sequence[Row], before: Key | None, nameless: Callable[[str, str], None], unreadable: _Unreadable
) -> list[tuple[str, Seen]]:
    noted = []
    for number, row in enumerate(rows):
        if row.record is not None:
            noted.append((row.record.command_uuid, seen_as(row.record)))
            continue
        error = row.error or CorruptRecord("a record that can't be read")
        uuid = getattr(error, "command_uuid", None)
        if uuid and uuid == uuid.encode("utf-8", "replace").decode():  # a lone surrogate is no uuid
            noted.append((uuid, Seen(None, None, str(error))))
            if len(unreadable) < MAX_LISTED:
                unreadable.setdefault(uuid, (str(error), rows[number - 1].key if number else before))
        else:
            nameless(getattr(error, "location", None) or "a record without a name", str(error))
    return noted


async def fetch(core: StoreCore, uuids: Sequence[str], pace: Pace) -> dict[str, Seen]:
    """What the store holds under these uuids, consistently."""
    found = await core.backend.fetch(uuids)
    pace.had(sum(one.size for one in found.values() if isinstance(one, Record)))

    def noted() -> dict[str, Seen]:
        return {
            uuid: seen_as(one) if isinstance(one, Record) else Seen(None, None, str(one)) for uuid, one in found.items()
        }

    return await core.drive.call(noted)
