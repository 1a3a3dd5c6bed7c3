"""What the SQLite and the Postgres backend share: the primitives over comby's table, in short reads and short writes.

A source is never written. No transaction outlives a page. A connection that can write is opened only when something is
to be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, text

from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.contract import CREATED, Exists, Key, Outcome, Register, Rejected, Row, Slice, Window
from commandstore.errors import ConfigurationError, CorruptRecord
from commandstore.sql import layout
from commandstore.sql.layout import Statement, Table
from commandstore.sql.rows import record_of, row_of
from commandstore.sql.sequence import PAGE_BYTES, SPOOL_ROWS, SequenceBackend, chunked, in_session, up_to
from commandstore.sql.spool import key_of, place_of
from commandstore.sql.values import insert_values, refusal

__all__ = ["SqlBackend", "as_text", "checked", "exists"]

_PAGE_ROWS = 1000
_SELECTIVE = 10_000
# A ledger, and the keys of tenants: what is removed of them is lost.
_IRREPLACEABLE = ("ledger/", "keys/")


class SqlBackend(SequenceBackend):
    """What SQLite and Postgres share."""

    sealed_as_hex = True
    insert_count = 1000

    # Reading

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        return await self.drive.call(self._fetch, uuids)

    def _fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        with self._reading() as connection:
            return self._found(connection, uuids)

    def _found(self, connection: Connection, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        found: dict[str, Record | CorruptRecord] = {}
        for chunk in chunked([uuid for uuid in uuids if self._table.holds(uuid)], 500):
            for raw in self._all(connection, self._table.by_uuids(chunk)):
                record = record_of(raw)
                if record.command_uuid is not None:
                    # Oldest first: where a uuid stands twice, the oldest row is the command.
                    found.setdefault(record.command_uuid, record)
        return found

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:  # noqa: ARG002 - digests need the payload
        return await self.drive.call(self._page, query, after, limit)

    def is_key(self, key: Key) -> bool:
        return self._table.is_key(key)

    def _page(self, query: CommandQuery, after: Key | None, limit: int) -> Slice:
        if not self._matchable(query):
            return Slice([], None)
        version = self._version()
        if version is not None:
            return self._page_by_ids(query, after, limit, version)
        # The session is compared here, not in SQL: enough rows are read that some may fit.
        most = limit if query.session_uuid is None else max(limit, _PAGE_ROWS)
        # Rows without a time come before all others, as a walk of their own.
        walks = [True, False] if query.ascending else [False, True]
        if after is not None and (after[0] is None) != walks[0]:
            walks = walks[1:]
        raws: list[Any] = []
        full = False
        with self._reading() as connection:
            selective = self._selective(connection, query)
            for nulls in walks:
                start = after if after is not None and (after[0] is None) == nulls else None
                statement = self._table.page(query, start, most - len(raws), nulls=nulls, selective=selective)
                more, full = up_to(PAGE_BYTES, self._streamed(connection, statement))
                raws += more
                if full or len(raws) == most:
                    break
        rows = [row_of(raw) for raw in raws]
        return _cut(rows, query, limit, rows[-1].key if full or len(raws) == most else None)

    def _version(self) -> object | None:
        """What changes with every write, where pages are to go by a spool; None where an index serves them."""
        return None

    def _page_by_ids(self, query: CommandQuery, after: Key | None, limit: int, version: object) -> Slice:
        """A page without an index on time: the order is read once and holds until something is written."""
        most = limit if query.session_uuid is None else max(limit, _PAGE_ROWS)
        filters = replace(query, ascending=True, session_uuid=None)
        with self._spooling:
            spool = self._spool("page", (filters, version), filters, Window(INT64_MIN - 1, INT64_MAX))
            wanted = spool.after(place_of(after) if after else None, most, ascending=query.ascending)
        with self._reading() as connection:
            raws, full = up_to(PAGE_BYTES, self._by_ids(connection, [place.id for place in wanted]))
        keys = {place.id: key_of(place) for place in wanted}
        # One that was altered since the order was read stands somewhere else now.
        rows = [row for raw in raws if (row := row_of(raw)).key == keys[raw[0]]]
        last = raws[-1][0] if full else wanted[-1].id if len(wanted) == most else None
        return _cut(rows, query, limit, None if last is None else keys[last])

    def _selective(self, connection: Connection, query: CommandQuery) -> frozenset[str]:
        """Whether the tenant has so few commands that sorting them all beats walking everybody's in order."""
        if not self._table.indexed_tenant or not query.tenant_uuid:
            return frozenset()
        few = "SELECT COUNT(*) FROM (SELECT 1 FROM commands WHERE tenant_uuid = :tenant_uuid LIMIT :most)"
        values = {"tenant_uuid": query.tenant_uuid, "most": _SELECTIVE + 1}
        count = self._all(connection, Statement(few, values))[0][0]
        return frozenset({"tenant_uuid"}) if count <= _SELECTIVE else frozenset()

    async def count(self, query: CommandQuery) -> int:
        return await self.drive.call(self._count, query)

    def _count(self, query: CommandQuery) -> int:
        if not self._matchable(query):
            return 0
        if query.session_uuid is not None:
            return self._count_pages(query)
        if self._version() is not None and (query.equal_to or query.before is not None or query.after is not None):
            return self._count_stretches(query)
        with self._reading() as connection:
            return int(self._all(connection, self._table.count(query))[0][0])

    def _count_pages(self, query: CommandQuery) -> int:
        """The session stands in the context: every row that the other filters leave is looked at, page by page."""
        total, key = 0, None
        while True:
            found = self._page(query, key, 5 * _PAGE_ROWS)
            total += len(found.rows)
            if (key := found.next_key) is None:
                return total

    def _count_stretches(self, query: CommandQuery) -> int:
        """Where no index serves, all rows are looked at, in reads that are short: a long one locks writers out."""
        sql, values = self._table.count_of(query)
        total: int = 0
        low = INT64_MIN
        while True:
            with self._reading() as connection:
                statement = Statement(sql, values | {"low": low, "limit": SPOOL_ROWS})
                last, looked_at, fit = self._all(connection, statement)[0]
            total += fit
            if looked_at < SPOOL_ROWS or last == INT64_MAX:
                return total
            low = last + 1

    # Writing

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:  # noqa: ARG002 - no column for it
        return await self.drive.call(self._insert, records)

    def _insert(self, records: Sequence[Record]) -> list[Outcome]:
        """Write in one transaction. A commit without an answer leaves all unknown: no column holds a write id."""
        outcomes: dict[str, Outcome] = {}
        good: list[Record] = []
        for record in records:
            refused = refusal(record, self._table)
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
            connection.execute(text(self._table.insert()), [insert_values(r, self._table) for r in new])
        outcomes: dict[str, Outcome] = {record.command_uuid: CREATED for record in new}
        for uuid, found in there.items():
            outcomes[uuid] = Exists(found.digest if isinstance(found, Record) else b"")
        return outcomes

    def _lock_out_writers(self, connection: Connection) -> None:
        """From here to the end of the transaction, nobody else writes commands."""

    async def replace(self, record: Record, write_id: str) -> bool:  # noqa: ARG002
        return await self.drive.call(self._replace, record)

    def _replace(self, record: Record) -> bool:
        refused = refusal(record, self._table)
        if refused is not None:
            raise refused
        with self._writing() as connection:
            if (tidy := self._table.before_update()) is not None:
                connection.execute(text(tidy), {"uuid": record.command_uuid})
            done = connection.execute(text(self._table.update()), insert_values(record, self._table))
            return done.rowcount > 0

    async def remove(self, command_uuid: str) -> bool:
        return await self.drive.call(self._remove, command_uuid)

    def _remove(self, command_uuid: str) -> bool:
        if not self._table.holds(command_uuid):
            return False
        with self._writing() as connection:
            done = connection.execute(text(self._table.delete()), {"uuid": command_uuid})
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
        sql = text("SELECT value, token FROM commandstore_registers WHERE name = :name LIMIT 2")
        found = connection.execute(sql, {"name": self._register_key(name)}).all()
        if not found:
            return None
        if len(found) > 1:
            raise _altered(name, "is there more than once: the table was made again without its primary key")
        value, token = found[0]
        try:
            if isinstance(value, int | None):
                raise TypeError("no bytes")  # noqa: TRY301 - told below
            return Register(bytes(value), as_text(token))
        except (TypeError, ValueError) as error:
            raise _altered(name, "is no register, or was altered") from error

    def _register_key(self, name: str) -> str:
        return name.replace("\0", "\ufffd") if self._table.dialect == "postgresql" else name

    def _registers(self, connection: Connection) -> bool:
        # Not remembered: what a transaction made is gone again when it is rolled back.
        return exists(connection, self._table.dialect, "commandstore_registers")

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        return await self.drive.call(self._register_swap, name, value, expected, token)

    def _register_swap(self, name: str, value: bytes | None, expected: str | None, token: str) -> bool:
        key = {"name": self._register_key(name)}
        with self._writing() as connection:
            if not self._registers(connection):
                self._make_registers(connection)
            self._lock_register(connection, key["name"])
            found = self._register(connection, name)
            if (found.token if found else None) != expected:
                return found.token == token if found else value is None
            connection.execute(text("DELETE FROM commandstore_registers WHERE name = :name"), key)
            if value is not None:
                insert = text("INSERT INTO commandstore_registers (name, value, token) VALUES (:name, :value, :token)")
                connection.execute(insert, key | {"value": value, "token": token})
            return True

    def _make_registers(self, connection: Connection) -> None:
        connection.execute(text(layout.REGISTERS[self._table.dialect]))

    def _lock_register(self, connection: Connection, name: str) -> None:
        """From here to the end of the transaction, nobody else swaps this register."""


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


def _cut(rows: list[Row], query: CommandQuery, limit: int, last: Key | None) -> Slice:
    """A page of the rows that were read: those of the session, up to the limit.

    Args:
        rows: what was read.
        query: has the session.
        limit: of the page.
        last: up to where was read; None: to the end.
    """
    fit = [row for row in rows if in_session(row, query)]
    if len(fit) > limit or (len(fit) == limit and fit[-1] is not rows[-1]):
        return Slice(fit[:limit], fit[limit - 1].key)
    return Slice(fit, last)


def _altered(name: str, how: str) -> CorruptRecord:
    place = f"register {name!a} in table commandstore_registers"
    # Who asked for one that can't be replaced says what to do; a checkpoint, a lease or a plan is made anew.
    todo = "" if name.startswith(_IRREPLACEABLE) else "; delete its row"
    return CorruptRecord(f"{place} {how}{todo}", location=place)


def as_text(value: Any) -> str:
    """A name as an engine gave it, which may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
