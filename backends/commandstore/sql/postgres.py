"""The Postgres backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import make_url

from commandstore.contract import Anchor, SequenceState
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, StoreNotFound
from commandstore.sql import layout, postgres_facts
from commandstore.sql.layout import Table
from commandstore.sql.shared import SqlBackend, as_text, checked, exists

__all__ = ["PostgresBackend"]


class PostgresBackend(SqlBackend):
    """A Postgres database.

    Args:
        url: as libpq has it, password included.
        tenant_uuid: the tenant for whom rows are read, where row level security hides the others.
    """

    store_type = "postgresql"

    def __init__(self, url: str, tenant_uuid: str | None = None) -> None:
        super().__init__()
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._tenant = tenant_uuid

    @property
    def location(self) -> str:
        host = self._url.host or self._url.query.get("host", "localhost")
        tenant = f"?tenant_uuid={self._tenant}" if self._tenant is not None else ""
        return f"postgresql://{host}:{self._url.port or 5432}/{self._url.database or ''}{tenant}"

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        await drive.call(self._open, create)

    def _open(self, create: bool) -> None:
        query = self._url.query
        self._engine = create_engine(
            self._url,
            pool_size=4,
            max_overflow=28,
            hide_parameters=True,
            connect_args={
                "connect_timeout": int(str(query.get("connect_timeout", 5))),
                "application_name": query.get("application_name", "commandstore"),
                # Statements prepared by the server break behind a pooler that shares connections.
                "prepare_threshold": None,
            },
        )
        event.listen(self._engine, "connect", _bytes_from_ascii_server)
        try:
            if create:
                self._make()
            with self._reading() as connection:
                self._table = self._probe(connection)
        except BaseException:
            self._close()
            raise

    def _make(self) -> None:
        with self._translated(), self._engine.begin() as connection:
            if not exists(connection, "postgresql", "commands"):
                for statement in layout.CREATE["postgresql"]:
                    connection.exec_driver_sql(statement)

    def _probe(self, connection: Connection) -> Table:
        if not exists(connection, "postgresql", "commands"):
            raise StoreNotFound(f"{self.location} has no table commands; commandstore init {self.location} makes one")
        columns = connection.execute(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = CAST('commands' AS regclass) AND attnum > 0 "
                "AND NOT attisdropped"
            )
        ).scalars()
        indexes = connection.execute(
            text(
                "SELECT i.indisunique, i.indnkeyatts, a.attname FROM pg_index i JOIN pg_attribute a "
                "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = CAST('commands' AS regclass) "
                "AND i.indpred IS NULL AND i.indisvalid"
            )
        ).all()
        unique = any(found.indisunique and found.indnkeyatts == 1 and found.attname == "uuid" for found in indexes)
        timed = any(found.attname == "created_at" for found in indexes)
        return checked(Table("postgresql", frozenset(as_text(c) for c in columns), unique, timed), self.location)

    async def close(self) -> None:
        await self.drive.call(self._close)

    def _close(self) -> None:
        self._drop_spool()
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with (
            self._translated(),
            self._engine.connect().execution_options(postgresql_readonly=True) as connection,
            connection.begin(),
        ):
            self._for_tenant(connection)
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated(), self._engine.begin() as connection:
            self._for_tenant(connection)
            yield connection

    def _for_tenant(self, connection: Connection) -> None:
        """Row level security hides rows without an error; this turns that into an error, or into what was asked for."""
        if self._tenant is None:
            connection.exec_driver_sql("SET LOCAL row_security = off")
        else:
            connection.execute(text("SELECT set_config('app.tenant_uuid', :tenant, true)"), {"tenant": self._tenant})

    def _translate(self, error: BaseException) -> CommandStoreError:
        return postgres_facts.translate(error, self.location)

    def _lock_out_writers(self, connection: Connection) -> None:
        # Other writers wait until the commit, readers don't. Looking and then inserting is atomic only so where uuid is
        # not unique; where it is, it spares a failed batch.
        connection.exec_driver_sql("LOCK TABLE commands IN SHARE ROW EXCLUSIVE MODE")

    def _lock_register(self, connection: Connection, name: str) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        # Three reads, in this order. What is settled is judged before the horizon is read, and who may still bring a
        # row below the horizon is asked after it: each errs on the side of "not yet".
        with self._reading() as connection:
            sequence = postgres_facts.sequence_of(connection)
            if sequence is None:
                return None
            before = postgres_facts.settlement(connection, sequence)
            whose = postgres_facts.identity(connection)
        with self._snapshot() as connection:
            fits = self._fitting(connection, anchors)
            horizon = self._horizon(connection)
            fresh = self._anchors(connection, horizon)
            if not postgres_facts.hands_out(connection, sequence, horizon):
                return None
        with self._reading() as connection:
            after = postgres_facts.settlement(connection, sequence)
        settled = tuple(postgres_facts.is_settled(mark, before) for mark in marks)
        return SequenceState(fits, settled, horizon, fresh, after.mark(), whose)

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """One view for several statements."""
        options = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
        with (
            self._translated(),
            self._engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            self._for_tenant(connection)
            yield connection


def _bytes_from_ascii_server(dbapi_connection: Any, _: object) -> None:
    """A database in SQL_ASCII vouches for nothing: text comes as bytes then, and each row is decoded by itself."""
    if dbapi_connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        dbapi_connection.execute("SET client_encoding TO 'SQL_ASCII'")
        dbapi_connection.commit()
