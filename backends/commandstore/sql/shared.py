"""What the SQLite and the Postgres backend share: the primitives over comby's table, in short reads and short writes.

A source is never written. No transaction outlives a page. A connection that can write is opened only when something is
to be written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import (
    CREATED,
    Anchor,
    Backend,
    Capability,
    Exists,
    Key,
    Outcome,
    Register,
    Rejected,
    Row,
    SequenceState,
    Slice,
    Window,
)
from commandstore.errors import CommandStoreError, ConfigurationError, CorruptRecord, StoreUnavailable
from commandstore.sql import layout
from commandstore.sql.layout import Table
from commandstore.sql.spool import Spool

__all__ = ["SqlBackend", "as_text", "checked", "exists"]

PAGE_BYTES = 32 * 1024 * 1024
"""A page ends after so many bytes of payload, whatever its limit."""

_FETCH = 64
_PAGE_ROWS = 1000
_SPOOL_ROWS = 50_000
_SELECTIVE = 10_000


class SqlBackend(Backend):
    """What SQLite and Postgres share."""

    capabilities = frozenset({Capability.SEQUENCE})
    sealed_as_hex = True
    insert_count = 1000

    _table: Table
    _engine: Engine

    def __init__(self) -> None:
        self._spool: tuple[object, Spool] | None = None
        self._has_registers = False

    # Connections: each engine has its own way

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection for one short read."""
        raise NotImplementedError

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
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

    # Reading

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        return await self.drive.call(self._fetch, uuids)

    def _fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        with self._reading() as connection:
            return self._found(connection, uuids)

    def _found(self, connection: Connection, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        found: dict[str, Record | CorruptRecord] = {}
        for chunk in _chunked([uuid for uuid in uuids if self._askable(uuid)], 500):
            statement = text(self._table.by_uuids())
            if self._table.dialect == "sqlite":
                statement = statement.bindparams(bindparam("uuids", expanding=True))
            for raw in connection.execute(statement, {"uuids": list(chunk)}):
                record = layout.record_of(raw)
                if record.command_uuid is not None:
                    # Oldest first: where a uuid stands twice, the oldest row is the command.
                    found.setdefault(record.command_uuid, record)
        return found

    def _askable(self, value: str) -> bool:
        """Whether the engine can be asked for this text at all."""
        return self._table.dialect == "sqlite" or "\0" not in value

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:  # noqa: ARG002 - digests need the payload
        return await self.drive.call(self._page, query, after, limit)

    def _page(self, query: CommandQuery, after: Key | None, limit: int) -> Slice:
        if not all(self._askable(value) for value in query.equal_to.values()):
            return Slice([], None)
        # Rows without a time come before all others, as a walk of their own.
        walks = [True, False] if query.ascending else [False, True]
        if after is not None and (after[0] is None) != walks[0]:
            walks = walks[1:]
        rows: list[Row] = []
        size = 0
        with self._reading() as connection:
            selective = self._selective(connection, query)
            for nulls in walks:
                start = after if after is not None and (after[0] is None) == nulls else None
                # The session is compared here, not in SQL: read on until enough fit.
                most = limit - len(rows) if query.session_uuid is None else max(limit, _PAGE_ROWS)
                statement = self._table.page(query, start, most, nulls=nulls, selective=selective)
                last: Key | None = None
                for raw in _streamed(connection, statement):
                    row = layout.row_of(raw)
                    last = row.key
                    size += _size(row)
                    if _in_session(row, query):
                        rows.append(row)
                    if size >= PAGE_BYTES or len(rows) >= limit:
                        return Slice(rows, last)
                if last is not None and query.session_uuid is not None:
                    return Slice(rows, last)  # rows of other sessions filled the page; there may be more behind them
        return Slice(rows, None)

    def _selective(self, connection: Connection, query: CommandQuery) -> frozenset[str]:
        """Whether the tenant has so few commands that sorting them all beats walking everybody's in order."""
        if self._table.dialect != "sqlite" or not query.tenant_uuid:
            return frozenset()
        few = text("SELECT COUNT(*) FROM (SELECT 1 FROM commands WHERE tenant_uuid = :tenant_uuid LIMIT :most)")
        count = connection.execute(few, {"tenant_uuid": query.tenant_uuid, "most": _SELECTIVE + 1}).scalar_one()
        return frozenset({"tenant_uuid"}) if count <= _SELECTIVE else frozenset()

    async def count(self, query: CommandQuery) -> int:
        return await self.drive.call(self._count, query)

    def _count(self, query: CommandQuery) -> int:
        if not all(self._askable(value) for value in query.equal_to.values()):
            return 0
        if query.session_uuid is None:
            with self._reading() as connection:
                sql, values = self._table.count(query)
                return int(connection.execute(text(sql), values).scalar_one())
        # The session stands in the context: every row that the other filters leave is looked at, page by page.
        total, key = 0, None
        while True:
            found = self._page(query, key, _SPOOL_ROWS)
            total += len(found.rows)
            if (key := found.next_key) is None:
                return total

    # Writing

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:  # noqa: ARG002 - no column for it
        return await self.drive.call(self._insert, records)

    def _insert(self, records: Sequence[Record]) -> list[Outcome]:
        """Write in one transaction. A commit without an answer leaves all unknown: no column holds a write id."""
        outcomes: dict[str, Outcome] = {}
        good: list[Record] = []
        for record in records:
            refused = layout.refusal(record, self._table)
            if refused is None:
                good.append(record)
            else:
                outcomes[record.command_uuid] = Rejected(refused)
        if good:
            with self._writing() as connection:
                outcomes |= self._put(connection, good)
        return [outcomes[record.command_uuid] for record in records]

    def _put(self, connection: Connection, records: Sequence[Record]) -> dict[str, Outcome]:
        self._lock_out_writers(connection)
        there = self._found(connection, [record.command_uuid for record in records])
        new = [record for record in records if record.command_uuid not in there]
        if new:
            connection.execute(text(self._table.insert()), [layout.insert_values(r, self._table) for r in new])
        outcomes: dict[str, Outcome] = {record.command_uuid: CREATED for record in new}
        for uuid, found in there.items():
            outcomes[uuid] = Exists(found.digest if isinstance(found, Record) else b"")
        return outcomes

    def _lock_out_writers(self, connection: Connection) -> None:
        """From here to the end of the transaction, nobody else writes commands."""

    async def replace(self, record: Record, write_id: str) -> bool:  # noqa: ARG002
        return await self.drive.call(self._replace, record)

    def _replace(self, record: Record) -> bool:
        refused = layout.refusal(record, self._table)
        if refused is not None:
            raise refused
        with self._writing() as connection:
            done = connection.execute(text(self._table.update()), layout.insert_values(record, self._table))
            return done.rowcount > 0

    async def remove(self, command_uuid: str) -> bool:
        return await self.drive.call(self._remove, command_uuid)

    def _remove(self, command_uuid: str) -> bool:
        if not self._askable(command_uuid):
            return False
        with self._writing() as connection:
            done = connection.execute(text("DELETE FROM commands WHERE uuid = :uuid"), {"uuid": command_uuid})
            return done.rowcount > 0

    async def clear(self) -> None:
        await self.drive.call(self._clear)

    def _clear(self) -> None:
        with self._writing() as connection:
            connection.execute(text("DELETE FROM commands"))
            if self._registers(connection):
                connection.execute(text("DELETE FROM commandstore_registers"))

    # Registers: a table of their own, made when the first one is written

    async def register_get(self, name: str) -> Register | None:
        return await self.drive.call(self._register_get, name)

    def _register_get(self, name: str) -> Register | None:
        with self._reading() as connection:
            return self._register(connection, name)

    def _register(self, connection: Connection, name: str) -> Register | None:
        if not self._registers(connection):
            return None
        sql = text("SELECT value, token FROM commandstore_registers WHERE name = :name")
        found = connection.execute(sql, {"name": self._register_key(name)}).one_or_none()
        return Register(bytes(found[0]), as_text(found[1])) if found else None

    def _register_key(self, name: str) -> str:
        return name.replace("\0", "\ufffd") if self._table.dialect == "postgresql" else name

    def _registers(self, connection: Connection) -> bool:
        if not self._has_registers:
            self._has_registers = exists(connection, self._table.dialect, "commandstore_registers")
        return self._has_registers

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        return await self.drive.call(self._register_swap, name, value, expected, token)

    def _register_swap(self, name: str, value: bytes | None, expected: str | None, token: str) -> bool:
        key = {"name": self._register_key(name)}
        with self._writing() as connection:
            if not self._registers(connection):
                connection.execute(text(layout.REGISTERS[self._table.dialect]))
                self._has_registers = True
            self._lock_register(connection, key["name"])
            found = self._register(connection, name)
            if (found.token if found else None) != expected:
                return found.token == token if found else value is None
            connection.execute(text("DELETE FROM commandstore_registers WHERE name = :name"), key)
            if value is not None:
                insert = text("INSERT INTO commandstore_registers (name, value, token) VALUES (:name, :value, :token)")
                connection.execute(insert, key | {"value": value, "token": token})
            return True

    def _lock_register(self, connection: Connection, name: str) -> None:
        """From here to the end of the transaction, nobody else swaps this register."""

    # What is new: Capability.SEQUENCE

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        return await self.drive.call(self._feed, query, window, after, limit)

    def _feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        if not all(self._askable(value) for value in query.equal_to.values()):
            return Slice([], None)
        spool = self._spooled(query, window)
        wanted = spool.after(after, limit)
        rows: list[Row] = []
        size = 0
        for chunk in _chunked(wanted, _FETCH):
            if size >= PAGE_BYTES:
                break
            with self._reading() as connection:
                found = {raw[0]: raw for raw in self._by_ids(connection, [row_id for _, row_id in chunk])}
            for key in chunk:
                raw = found.get(key[1])
                if raw is not None:  # else it was deleted since the window was opened
                    row = layout.row_of(raw, feed=True)._replace(key=key)
                    size += _size(row)
                    if _in_session(row, query):
                        rows.append(row)
            after = chunk[-1]
        return Slice(rows, after if wanted and (len(wanted) == limit or after != wanted[-1]) else None)

    def _spooled(self, query: CommandQuery, window: Window) -> Spool:
        """The order of a window; made once a walk."""
        what = (query, window)
        if self._spool is not None and self._spool[0] == what:
            return self._spool[1]
        self._drop_spool()
        spool = Spool()
        self._spool = (what, spool)
        sql, values = self._table.order_of(query)
        low = window.low
        while True:
            with self._reading() as connection:
                stretch = connection.execute(
                    text(sql), values | {"low": low, "high": window.high, "limit": _SPOOL_ROWS}
                ).fetchall()
            spool.add((time, row_id) for time, row_id, matches in stretch if matches)
            if len(stretch) < _SPOOL_ROWS:
                spool.sort()
                return spool
            low = stretch[-1][1]

    def _drop_spool(self) -> None:
        if self._spool is not None:
            self._spool[1].close()
            self._spool = None

    async def feed_end(self) -> None:
        await self.drive.call(self._drop_spool)

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        return await self.drive.call(self._feed_again, keys)

    def _feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        ids = [key[-1] for key in keys]
        rows: dict[Any, Row] = {}
        for chunk in _chunked(ids, _FETCH):
            with self._reading() as connection:
                rows |= {raw[0]: layout.row_of(raw, feed=True) for raw in self._by_ids(connection, chunk)}
        return [rows.get(row_id) for row_id in ids]

    def _by_ids(self, connection: Connection, ids: Sequence[Any]) -> Sequence[Any]:
        statement = text(self._table.by_ids())
        if self._table.dialect == "sqlite":
            statement = statement.bindparams(bindparam("ids", expanding=True))
        return connection.execute(statement, {"ids": list(ids)}).fetchall()

    async def sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        return await self.drive.call(self._sequence_state, anchors, marks)

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        raise NotImplementedError

    def _fitting(self, connection: Connection, anchors: Sequence[Anchor]) -> frozenset[Anchor]:
        fits: set[Anchor] = set()
        for chunk in _chunked(anchors, _FETCH):
            now = {layout.anchor_of(raw) for raw in self._by_ids(connection, [anchor.id for anchor in chunk])}
            fits.update(anchor for anchor in chunk if anchor in now)
        return frozenset(fits)

    def _horizon(self, connection: Connection) -> int:
        return connection.execute(text("SELECT MAX(id) FROM commands")).scalar() or 0

    def _anchors(self, connection: Connection, horizon: int) -> tuple[Anchor, ...]:
        wanted = layout.gaps(horizon)
        if not wanted:
            return ()
        statement = text(self._table.anchors())
        asked = [wanted] if self._table.dialect == "postgresql" else wanted
        rows = itertools.chain.from_iterable(connection.execute(statement, {"wanted": one}).fetchall() for one in asked)
        found = {layout.anchor_of(raw) for raw in rows}
        return tuple(sorted(found, key=lambda anchor: anchor.id, reverse=True))


def exists(connection: Connection, dialect: str, table: str) -> bool:
    """Whether there is a table of this name."""
    if dialect == "postgresql":
        found = connection.execute(text("SELECT to_regclass(:name)"), {"name": table})
    else:
        found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = :name"), {"name": table})
    return found.scalar() is not None


def checked(table: Table, place: object) -> Table:
    """The table, when it has the columns of comby's.

    Raises:
        ConfigurationError: names those that it hasn't.
    """
    if table.missing:
        raise ConfigurationError(f"{place}: table commands has no column {', '.join(table.missing)}; it is not comby's")
    return table


def _streamed(connection: Connection, statement: layout.Statement) -> Iterator[Any]:
    """Rows as they come, so that a page of large ones ends before all of them are in memory."""
    result = connection.execution_options(stream_results=True, max_row_buffer=_FETCH).execute(
        text(statement.sql), statement.values
    )
    try:
        for part in result.partitions(_FETCH):
            yield from part
    finally:
        result.close()


def _in_session(row: Row, query: CommandQuery) -> bool:
    return query.session_uuid is None or (row.record is not None and row.record.session_uuid == query.session_uuid)


def _size(row: Row) -> int:
    return 0 if row.record is None else row.record.size


def _chunked(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def as_text(value: Any) -> str:
    """A name as an engine gave it, which may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
