"""The SQLite backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool

from commandstore.contract import Anchor, SequenceState
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, StoreNotFound, StoreUnavailable, Unsupported
from commandstore.sql import layout
from commandstore.sql.layout import Table
from commandstore.sql.shared import SqlBackend, as_text, checked, exists
from commandstore.sql.sqlite_access import Access, access_of, connect, translate

__all__ = ["SqliteBackend"]


class SqliteBackend(SqlBackend):
    """A SQLite file.

    Args:
        path: of the database file.
    """

    store_type = "sqlite"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path.absolute()
        self._writer: Engine | None = None
        self._access = Access("ro")
        self._numbered = False

    @property
    def location(self) -> str:
        return f"sqlite:///{self._path}"

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        await drive.call(self._open, create)

    def _open(self, create: bool) -> None:
        self._engine = self._engine_of(lambda: connect(self._path, self._look().mode))
        try:
            if create:
                self._make()
            with self._reading() as connection:
                self._table = self._probe(connection)
        except BaseException:
            self._close()
            raise

    def _engine_of(self, creator: Callable[[], Any]) -> Engine:
        # A pool hands a connection to one thread at a time; a read takes one for as long as it lasts.
        return create_engine(
            "sqlite://", creator=creator, poolclass=QueuePool, pool_size=4, max_overflow=12, hide_parameters=True
        )

    def _look(self) -> Access:
        self._access = access_of(self._path)
        return self._access

    def _make(self) -> None:
        new = not self._path.exists()
        if new and not self._path.parent.is_dir():
            raise StoreNotFound(f"there is no directory {self._path.parent} to make {self._path.name} in")
        if not new:
            access_of(self._path)
        self._table = Table("sqlite", frozenset(layout.COLUMNS), unique_uuid=True, indexed_time=True)
        with self._translated(), self._write_engine("rwc").connect() as connection:
            if not exists(connection, "sqlite", "commands"):
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                for statement in layout.CREATE["sqlite"]:
                    connection.exec_driver_sql(statement)

    def _probe(self, connection: Connection) -> Table:
        if not exists(connection, "sqlite", "commands"):
            raise StoreNotFound(f"{self._path} has no table commands; commandstore init {self.location} makes one")
        info = connection.exec_driver_sql("PRAGMA table_info(commands)").fetchall()
        columns = {as_text(row[1]): row for row in info}
        keys = [name for name, row in columns.items() if row[5]]
        # Only an INTEGER PRIMARY KEY is the row's number; any other id is a column like the rest.
        self._numbered = keys == ["id"] and as_text(columns["id"][2]).upper() == "INTEGER"
        unique, timed = False, False
        for index in connection.exec_driver_sql("PRAGMA index_list(commands)").fetchall():
            name = as_text(index[1]).replace('"', '""')
            parts = [row[2] and as_text(row[2]) for row in connection.exec_driver_sql(f'PRAGMA index_info("{name}")')]
            partial = bool(index[4])
            unique = unique or (parts == ["uuid"] and bool(index[2]) and not partial)
            timed = timed or (parts[:1] == ["created_at"] and not partial)
        encoding = as_text(connection.exec_driver_sql("PRAGMA encoding").scalar_one())
        table = Table("sqlite", frozenset(columns), unique, timed, utf16=encoding.upper().startswith("UTF-16"))
        return checked(table, self._path)

    async def close(self) -> None:
        await self.drive.call(self._close)

    def _close(self) -> None:
        self._drop_spool()
        self._engine.dispose()
        if self._writer is not None:
            self._writer.dispose()
            self._writer = None

    def _write_engine(self, mode: str = "rw") -> Engine:
        if self._writer is None:
            self._writer = self._engine_of(lambda: connect(self._path, mode))  # type: ignore[arg-type]
        return self._writer

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translated():
            before = self._access
            if before.mode == "immutable" and self._look() != before:
                self._engine.dispose()  # it changed since: read it anew, in the way that fits now
            with self._engine.connect() as connection:
                yield connection
            if self._access.mode == "immutable" and access_of(self._path) != self._access:
                raise StoreUnavailable(
                    f"{self._path} was written while it was read in a place without locks; run again"
                )

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._table.utf16:
            raise Unsupported(f"{self._path} keeps text in UTF-16; such a database is read, not written")
        with self._translated(), self._write_engine().connect() as connection:
            # IMMEDIATE: the one writer's place is taken before anything is looked at.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    def _translate(self, error: BaseException) -> CommandStoreError:
        return translate(error, self._path)

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        if not self._numbered:
            return None
        with self._reading() as connection:
            connection.exec_driver_sql("BEGIN")  # one view of horizon and anchors
            try:
                fits = self._fitting(connection, anchors)
                horizon = self._horizon(connection)
                fresh = self._anchors(connection, horizon)
            finally:
                connection.exec_driver_sql("ROLLBACK")
        # There is one writer: whoever comes after this read gets a greater id.
        return SequenceState(fits, tuple(True for _ in marks), horizon, fresh, None, None)
