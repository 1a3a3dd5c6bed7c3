"""What is new in a SQL source: its sequence, and the walk over a window of ids. Both SQL backends share it.

No transaction outlives a page, and rows are decoded after their connection was given back, so that the application
waits for reading alone.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from commandstore.command import CommandQuery
from commandstore.contract import Anchor, Backend, Capability, Key, Row, SequenceState, Slice, Window
from commandstore.errors import CommandStoreError, StoreUnavailable
from commandstore.sql.layout import Statement, Table
from commandstore.sql.rows import PAYLOAD, anchor_of, feed_key, gaps, row_of, tagged
from commandstore.sql.spool import Spool, place_of

__all__ = ["PAGE_BYTES", "SequenceBackend", "chunked", "in_session", "up_to"]

PAGE_BYTES = 32 * 1024 * 1024
"""A page ends after so many bytes of payload, whatever its limit."""

SPOOL_ROWS = 20_000
"""How many rows one short read of ids looks at."""

_FETCH = 64


class SequenceBackend(Backend):
    """Connections, and ``Capability.SEQUENCE``."""

    capabilities = frozenset({Capability.SEQUENCE})

    _table: Table
    _engine: Engine

    def __init__(self) -> None:
        self._spools: dict[str, tuple[object, Spool]] = {}
        self._spooling = threading.RLock()  # a store may be used from several threads, a spool by one at a time

    # Connections: each engine has its own way

    def _reading(self) -> AbstractContextManager[Connection]:
        """A connection for one short read."""
        raise NotImplementedError

    def _writing(self) -> AbstractContextManager[Connection]:
        """A transaction that writes."""
        raise NotImplementedError

    def _translate(self, error: BaseException) -> CommandStoreError:
        raise NotImplementedError

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._translate(error.orig or error) from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"{self.location}: {type(error).__name__}; try again") from error

    def _all(self, connection: Connection, statement: Statement) -> Sequence[Any]:
        """All rows of a statement that has few, or small ones."""
        return connection.execute(text(statement.sql), statement.values).fetchall()

    def _streamed(self, connection: Connection, statement: Statement) -> Generator[Any, None, None]:
        """Rows as they come, so that a page of large ones ends before all of them are in memory."""
        result = connection.execution_options(stream_results=True, max_row_buffer=_FETCH).execute(
            text(statement.sql), statement.values
        )
        try:
            for part in result.partitions(_FETCH):
                yield from part
        finally:
            result.close()

    def _by_ids(self, connection: Connection, ids: Sequence[Any]) -> Generator[Any, None, None]:
        """Rows of these ids, in the order of the ids, read as they are asked for: a few may fill the memory."""
        raise NotImplementedError

    def _matchable(self, query: CommandQuery) -> bool:
        """Whether any row can match: the columns hold such text at all. A session stands in JSON, which escapes."""
        return all(self._table.holds(value) for name, value in query.equal_to.items() if name != "session_uuid")

    # Walking a window

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        return await self.drive.call(self._feed, query, window, after, limit)

    def _feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        if not self._matchable(query):
            return Slice([], None)
        with self._spooling:
            spool = self._spool("feed", (query, window), query, window)
            wanted = spool.after(place_of(after) if after else None, limit)
        keys: dict[int, Key] = {place.id: (place.time if place.rank else None, place.id) for place in wanted}  # type: ignore[misc]
        if not keys:
            return Slice([], None)
        with self._reading() as connection:
            raws, full = up_to(PAGE_BYTES, self._by_ids(connection, list(keys)))
        # A row keeps the key of the walk, also where its time was altered since.
        rows = [row_of(raw, keys[raw[0]]) for raw in raws]
        last = rows[-1].key if full else keys[wanted[-1].id]
        return Slice([row for row in rows if in_session(row, query)], last if full or len(wanted) == limit else None)

    def _spool(self, name: str, what: object, query: CommandQuery, window: Window) -> Spool:
        """The spool of this name: the order of a window's rows that match. Made once for all that is the same."""
        kept = self._spools.get(name)
        if kept is not None and kept[0] == what:
            return kept[1]
        self._drop_spool(name)
        spool = Spool()
        try:
            sql, values = self._table.order_of(query, named=name == "page")
            low = window.low + 1
            while low <= window.high:
                bounds = {"low": low, "high": window.high, "limit": SPOOL_ROWS}
                with self._reading() as connection:
                    stretch = self._all(connection, Statement(sql, values | bounds))
                spool.add(_place(*found) for found in stretch if found[2])
                if len(stretch) < SPOOL_ROWS:
                    break
                low = stretch[-1][1] + 1
            spool.sort()
        except BaseException:
            spool.close()
            raise
        self._spools[name] = (what, spool)
        return spool

    def _drop_spool(self, name: str | None = None) -> None:
        with self._spooling:
            for each in [name] if name else list(self._spools):
                kept = self._spools.pop(each, None)
                if kept is not None:
                    kept[1].close()

    async def feed_end(self) -> None:
        await self.drive.call(self._drop_spool, "feed")

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        return await self.drive.call(self._feed_again, keys)

    def _feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        ids = [key[-1] for key in keys]
        rows: dict[Any, Row] = {}
        for chunk in chunked(ids, _FETCH):
            with self._reading() as connection, closing(self._by_ids(connection, chunk)) as found:
                raws = list(found)
            rows |= {raw[0]: row_of(raw, feed_key(raw)) for raw in raws}
        return [rows.get(row_id) for row_id in ids]

    # The sequence

    async def sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        return await self.drive.call(self._sequence_state, anchors, marks)

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        raise NotImplementedError

    async def sequence_cut(self, window: Window, count: int) -> int | None:
        return await self.drive.call(self._sequence_cut, window, count)

    def _sequence_cut(self, window: Window, count: int) -> int | None:
        sql = "SELECT id FROM commands WHERE id > :low AND id <= :high ORDER BY id LIMIT 1 OFFSET :before"
        values = {"low": window.low, "high": window.high, "before": count - 1}
        with self._reading() as connection:
            found = self._all(connection, Statement(sql, values))
        return int(found[0][0]) if found else None

    def _fitting(self, connection: Connection, anchors: Sequence[Anchor]) -> frozenset[Anchor]:
        # One row at a time: an anchor is a row of any size.
        with closing(self._by_ids(connection, [anchor.id for anchor in anchors])) as found:
            now = {anchor_of(raw) for raw in found}
        return frozenset(anchor for anchor in anchors if anchor in now)

    def _horizon(self, connection: Connection) -> int:
        return connection.execute(text("SELECT MAX(id) FROM commands")).scalar() or 0

    def _anchors(self, connection: Connection, horizon: int) -> tuple[Anchor, ...]:
        wanted = gaps(horizon)
        if not wanted:
            return ()
        sql = self._table.anchors()
        asked = [wanted] if self._table.dialect == "postgresql" else wanted
        raws = itertools.chain.from_iterable(self._all(connection, Statement(sql, {"wanted": one})) for one in asked)
        found = {anchor_of(raw) for raw in raws}
        return tuple(sorted(found, key=lambda anchor: anchor.id, reverse=True))


def _place(
    time: Any, row_id: int, _: object, kind: bytes | None = None, name: bytes = b""
) -> tuple[int, int | float | bytes, bytes, int]:
    """The place of a row as ``Table.order_of`` reads it."""
    if isinstance(time, int):
        return 1, time, name, row_id
    if time is None or kind is None:  # what isn't an integer counts as no time in a feed, see `rows.feed_key`
        return 0, 0, name, row_id
    return place_of((tagged(time, kind.decode()), name.hex(), row_id))


def up_to(size: int, raws: Generator[Any, None, None]) -> tuple[list[Any], bool]:
    """Rows until their payload reaches a size, and whether it did. Closes what it reads from.

    Whoever leaves rows behind, at the size or by an interrupt, has to end the statement while its connection is open.
    """
    found: list[Any] = []
    with closing(raws):
        for raw in raws:
            found.append(raw)
            for value in raw[PAYLOAD]:
                if isinstance(value, (bytes, str)):
                    size -= len(value)
            if size <= 0:
                return found, True
    return found, False


def in_session(row: Row, query: CommandQuery) -> bool:
    """Whether the row is of the session that the query asks for: it stands in the context, where SQL can't look."""
    return query.session_uuid is None or (row.record is not None and row.record.session_uuid == query.session_uuid)


def chunked(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items in pieces of a size."""
    return (items[start : start + size] for start in range(0, len(items), size))
