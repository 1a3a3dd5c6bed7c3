"""The SQLite backend."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from commandstore.command import INT64_MAX
from commandstore.contract import Anchor, SequenceState
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, StoreNotFound, StoreUnavailable, Unsupported
from commandstore.sql import layout
from commandstore.sql.layout import Statement, Table
from commandstore.sql.shared import SqlBackend, as_text, checked, exists
from commandstore.sql.sqlite_access import Access, DatabaseFile, connect, translate

__all__ = ["SqliteBackend"]


class SqliteBackend(SqlBackend):
    """A SQLite file.

    Args:
        path: of the database file.
    """

    store_type = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__()
        # Links resolved, so that one database has one location.
        self._path = Path(os.path.realpath(path))
        self._file: DatabaseFile | None = None
        self._access: Access | None = None
        self._writer: Engine | None = None
        self._watcher: sqlite3.Connection | None = None
        self._numbered = False

    @property
    def location(self) -> str:
        return f"sqlite:///{self._path}"

    # Opening and closing

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        await drive.call(self._open, create)

    def _open(self, create: bool) -> None:
        self._engine = _engine_of(self._connect)
        try:
            if create:
                self._make()
            self._file = self._file or DatabaseFile(self._path)
            with self._reading() as connection:
                self._table = self._probe(connection)
        except BaseException:
            self._close()
            raise

    def _make(self) -> None:
        if self._path.exists():
            self._file = DatabaseFile(self._path)
            self._file.access()
        elif not self._path.parent.is_dir():
            raise StoreNotFound(f"there is no directory {self._path.parent} to make {self._path.name} in")
        with self._translated(), closing(connect(self._path, "rwc")) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'commands'").fetchone() is None:
                connection.execute("PRAGMA journal_mode=WAL")
                for statement in layout.CREATE["sqlite"]:
                    connection.execute(statement)

    def _probe(self, connection: Connection) -> Table:
        if not exists(connection, "sqlite", "commands"):
            raise StoreNotFound(f"{self._path} has no table commands; commandstore init {self.location} makes one")
        info = connection.exec_driver_sql("PRAGMA table_info(commands)").fetchall()
        columns = {as_text(row[1]): row for row in info}
        indexes: list[tuple[str | None, bool]] = []
        own_key = False
        for index in connection.exec_driver_sql("PRAGMA index_list(commands)").fetchall():
            name = as_text(index[1]).replace('"', '""')
            parts = [row[2] and as_text(row[2]) for row in connection.exec_driver_sql(f'PRAGMA index_info("{name}")')]
            own_key = own_key or as_text(index[3]) == "pk"
            if not index[4]:  # a partial one does not serve every query
                indexes.append((parts[0], bool(index[2]) and len(parts) == 1))
        # Only an INTEGER PRIMARY KEY without an index of its own is the row's number, given out in order of arrival.
        keys = [name for name, row in columns.items() if row[5]]
        self._numbered = keys == ["id"] and as_text(columns["id"][2]).upper() == "INTEGER" and not own_key
        first = {name for name, _ in indexes}
        table = Table(
            "sqlite",
            frozenset(columns),
            unique_uuid=("uuid", True) in indexes,
            indexed_time="created_at" in first,
            encoding=as_text(connection.exec_driver_sql("PRAGMA encoding").scalar_one()),
            indexed_tenant="tenant_uuid" in first,
        )
        return checked(table, self._path)

    async def close(self) -> None:
        await self.drive.call(self._close)

    def _close(self) -> None:
        self._drop_spool()
        self._forget_connections()
        if self._file is not None:
            self._file.close()  # after all connections; see `DatabaseFile`
            self._file = None

    def _forget_connections(self) -> None:
        self._drop_spool("page")
        self._engine.dispose()
        if self._writer is not None:
            self._writer.dispose()
            self._writer = None
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    # Connections

    def _connect(self) -> sqlite3.Connection:
        """A connection that reads, and leaves nothing behind that would lock the application out."""
        file, access = self._held()
        connection = connect(self._path, access.mode)
        try:
            if access.mode == "ro":
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
                file.check_left(access)
        except BaseException:
            connection.close()
            raise
        return connection

    def _held(self) -> tuple[DatabaseFile, Access]:
        """The file, and how it may be read at this moment."""
        if self._file is None:
            raise StoreUnavailable(f"{self._path} was closed in the middle of a call")
        access = self._file.access()
        known = self._access
        if known is not None and (known.mode, known.file, known.state) != (access.mode, access.file, access.state):
            self._forget_connections()  # it changed since: read it anew, in the way that fits now
        self._access = access
        return self._file, access

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translated():
            file, access = self._held()
            try:
                with self._engine.connect() as connection:
                    yield connection
            except (DBAPIError, sqlite3.Error):
                self._unchanged(file, access)
                raise
            self._unchanged(file, access)

    def _unchanged(self, file: DatabaseFile, access: Access) -> None:
        if access.mode == "immutable" and not file.is_as(access):
            raise StoreUnavailable(f"{self._path} was written while it was read in a place without locks; run again")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._table.utf16:
            raise Unsupported(f"{self._path} keeps text in UTF-16; such a database is read, not written")
        with self._translated(), self._write_engine().connect() as connection:
            # IMMEDIATE: the one writer's place is taken before anything is looked at.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                # After some errors SQLite has rolled back by itself.
                if _driver(connection).in_transaction:
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def _write_engine(self) -> Engine:
        self._held()  # what is kept open leads to a file that may have been replaced or removed
        self._writer = self._writer or _engine_of(lambda: connect(self._path, "rw"))
        return self._writer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with super()._translated():
                yield
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: BaseException) -> CommandStoreError:
        return translate(error, self._path)

    # Reading past SQLAlchemy's rows, which cost as much as the rest of a page

    def _all(self, connection: Connection, statement: Statement) -> Sequence[Any]:
        return _driver(connection).execute(*statement).fetchall()

    def _streamed(self, connection: Connection, statement: Statement) -> Generator[Any, None, None]:
        cursor = _driver(connection).execute(*statement)
        try:
            yield from cursor
        finally:
            cursor.close()  # a statement that isn't over holds its lock

    def _by_ids(self, connection: Connection, ids: Sequence[Any]) -> Generator[Any, None, None]:
        return self._streamed(connection, Statement(self._table.by_ids(), {"ids": json.dumps(ids)}))

    def _version(self) -> object | None:
        # Invalid text in UTF-16 can't be given back to SQL, so that a key of such a time would be another one there.
        if not self._numbered or (self._table.indexed_time and not self._table.utf16):
            return None
        with self._translated(), self._spooling:
            _, access = self._held()
            # A counter for each connection, so always of the same one.
            self._watcher = self._watcher or self._connect()
            counter = self._watcher.execute("PRAGMA data_version").fetchone()[0]
            return access.file, access.state, counter

    # What is new

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        if not self._numbered:
            return None
        with self._reading() as connection:
            connection.exec_driver_sql("BEGIN")  # one view of horizon and anchors
            try:
                horizon = self._horizon(connection)
                lowest = self._all(connection, Statement("SELECT MIN(id) FROM commands", {}))[0][0]
                # After the greatest id SQLite picks ids at random, and nothing that it picks itself is below 1.
                if horizon == INT64_MAX or (lowest is not None and lowest < 1):
                    return None
                fits = self._fitting(connection, anchors)
                fresh = self._anchors(connection, horizon)
            finally:
                connection.exec_driver_sql("ROLLBACK")
        # There is one writer: whoever comes after this read gets a greater id.
        return SequenceState(fits, tuple(True for _ in marks), horizon, fresh, None, None)


def _engine_of(creator: Callable[[], Any]) -> Engine:
    # A pool hands a connection to one thread at a time; a read takes one for as long as it lasts.
    return create_engine(
        "sqlite://", creator=creator, poolclass=QueuePool, pool_size=4, max_overflow=12, hide_parameters=True
    )


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - made by `connect`
    return driver
