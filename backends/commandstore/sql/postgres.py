"""The Postgres backend."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from commandstore.codec import Record
from commandstore.contract import CREATED, Anchor, Exists, Outcome, Rejected, SequenceState
from commandstore.drive import Drive
from commandstore.errors import AccessDenied, CommandStoreError, ConfigurationError, InvalidCommand, StoreNotFound
from commandstore.sql import layout, postgres_errors, postgres_facts
from commandstore.sql.layout import Statement, Table
from commandstore.sql.shared import SqlBackend, checked, exists

__all__ = ["PostgresBackend"]

# A server that is gone without a word is noticed in half a minute, not after the two hours of the system's default.
_PATIENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_NUMBERS = (*_PATIENCE, "keepalives")
_MAKING = "commandstore: making tables"
_TRIES = 3
_WORDS = re.compile(r"(?:\\.|[^\s\\])+", re.DOTALL)
_BYTES_AT_ONCE = 4 * 1024 * 1024


class PostgresBackend(SqlBackend):
    """A Postgres database.

    Args:
        url: user, password, host, port and database, as libpq has them; what stands behind ``?`` is not looked at.
        tenant_uuid: the tenant for whom rows are read, where row level security hides the others.
        options: parameters of libpq.

    Raises:
        ConfigurationError: the URL can't be right.
    """

    store_type = "postgresql"

    def __init__(
        self, url: str, tenant_uuid: str | None = None, options: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__()
        self._url = _read_url(url, options)
        self._tenant = tenant_uuid

    @property
    def location(self) -> str:
        query = self._url.query
        host = self._url.host or query.get("host") or query.get("hostaddr") or query.get("service") or "localhost"
        # A search_path among the options makes it another table; the tenant makes it other rows. No other setting is
        # shown: it may be a secret.
        shown = {"options": _search_path(query.get("options", "")), "tenant_uuid": self._tenant}
        extra = "&".join(f"{name}={value}" for name, value in shown.items() if value is not None)
        port = self._url.port or query.get("port") or 5432
        return f"postgresql://{host}:{port}/{self._url.database or ''}{'?' if extra else ''}{extra}"

    async def open(self, drive: Drive, *, create: bool) -> None:
        self.drive = drive
        await drive.call(self._open, create)

    def _open(self, create: bool) -> None:
        self._engine = create_engine(
            self._url,
            pool_size=4,
            max_overflow=28,
            hide_parameters=True,
            connect_args={
                **{name: value for name, value in _PATIENCE.items() if name not in self._url.query},
                "application_name": self._url.query.get("application_name", "commandstore"),
                # Whatever a role, a variable or the database says: what goes over the wire is UTF-8.
                "client_encoding": "UTF8",
                # Statements prepared by the server break behind a pooler that shares connections.
                "prepare_threshold": None,
            },
        )
        try:
            if create:
                self._make()
            with self._reading() as connection:
                self._table = self._probe(connection)
        except BaseException:
            self._close()
            raise

    def _make(self) -> None:
        with self._transaction() as connection:
            if not exists(connection, "postgresql", "commands"):
                self._lock_name(connection, _MAKING)  # IF NOT EXISTS fails where two make a table at the same moment
                for statement in layout.CREATE["postgresql"]:
                    connection.exec_driver_sql(statement)

    def _probe(self, connection: Connection) -> Table:
        if not exists(connection, "postgresql", "commands"):
            if postgres_facts.is_elsewhere(connection):
                raise AccessDenied(
                    f"{self.location} has a table commands in a schema that this role may not use (GRANT USAGE ON "
                    "SCHEMA ...), or that its search_path does not name"
                )
            raise StoreNotFound(f"{self.location} has no table commands; commandstore init {self.location} makes one")
        if self._tenant is not None and not postgres_facts.hides_rows(connection):
            raise ConfigurationError(
                f"{self.location}: row level security hides nothing from this role, so ?tenant_uuid= would show all "
                "tenants; leave it out and filter by tenant"
            )
        return checked(postgres_facts.table_of(connection), self.location)

    async def close(self) -> None:
        await self.drive.call(self._close)

    def _close(self) -> None:
        self._drop_spool()
        self._engine.dispose()

    # Transactions

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._transaction(read_only=True) as connection:
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """One view for several statements."""
        with self._transaction(read_only=True, isolation="REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, read_only: bool = False, isolation: str = "READ COMMITTED") -> Iterator[Connection]:
        # Whatever a role's default isolation is: each statement is to see what was committed before it, and none to
        # fail because of what others do.
        with self._translated(), self._begun(read_only, isolation) as connection:
            yield connection
            connection.commit()

    def _begun(self, read_only: bool, isolation: str) -> Connection:
        """A connection in a new transaction.

        One that waited in the pool may have died with its server. That shows at the first statement, before anything
        was done, so it is tried once more; asking each connection before each use would cost a round trip a page.
        """
        for again in (True, False):
            connection = self._engine.connect()
            try:
                connection.execution_options(isolation_level=isolation)
                # None is the default of the role. SQLAlchemy's option would come back as READ WRITE, which overrules a
                # role that an operator has made for reading.
                connection.connection.driver_connection.read_only = read_only or None  # type: ignore[union-attr]
                connection.begin()
                self._for_tenant(connection)
            except BaseException as error:
                connection.close()
                if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                    continue
                raise
            return connection
        raise AssertionError("unreachable")

    def _for_tenant(self, connection: Connection) -> None:
        """Row level security hides rows without an error; this turns that into an error, or into what was asked for."""
        if self._tenant is None:
            connection.exec_driver_sql("SET LOCAL row_security = off")
        else:
            connection.execute(text("SELECT set_config('app.tenant_uuid', :tenant, true)"), {"tenant": self._tenant})

    def _translate(self, error: BaseException) -> CommandStoreError:
        return postgres_errors.translate(error, self.location)

    # Reading

    def _by_ids(self, connection: Connection, ids: Sequence[Any]) -> Generator[Any, None, None]:
        # A statement is a round trip and its rows come as a whole: most pages at once, large rows by few.
        asked = {"ids": list(ids), "bytes": _BYTES_AT_ONCE}
        whole = {row[0]: row for row in self._all(connection, Statement(postgres_facts.by_ids(self._table), asked))}
        if whole:
            yield from (whole[one] for one in ids if one in whole)
            return
        sql = postgres_facts.large_by_ids(self._table)
        left = list(ids)
        while left:
            found = self._all(connection, Statement(sql, {"ids": left, "bytes": _BYTES_AT_ONCE}))
            yield from found
            # Those before the last one that did not come are gone; so are all when none came.
            left = left[left.index(found[-1][0]) + 1 :] if found else []

    # Writing

    def _put(self, connection: Connection, records: Sequence[Record]) -> dict[str, Outcome]:
        if not self._table.unique_uuid:
            return super()._put(connection, records)
        outcomes: dict[str, Outcome] = {}
        # Two writers of the same commands wait for each other in one order, so that neither waits for ever.
        missing = sorted(records, key=lambda record: record.command_uuid)
        for _ in range(_TRIES):
            outcomes |= self._put_new(connection, missing)
            left = [record for record in missing if record.command_uuid not in outcomes]
            there = self._found(connection, [record.command_uuid for record in left]) if left else {}
            outcomes |= {u: Exists(r.digest if isinstance(r, Record) else b"") for u, r in there.items()}
            # Neither written nor there: removed between the two statements, or hidden by row level security.
            missing = [record for record in left if record.command_uuid not in there]
            if not missing:
                return outcomes
        return outcomes | {record.command_uuid: Exists(b"") for record in missing}

    def _put_new(self, connection: Connection, records: Sequence[Record]) -> dict[str, Outcome]:
        """Insert those whose uuid isn't there: nobody else's writing is held up, as a lock on the table would."""
        sql = text(postgres_facts.insert_new(self._table))
        try:
            with connection.begin_nested():
                values = postgres_facts.columns_of(records, self._table)
                return dict.fromkeys(connection.execute(sql, values).scalars(), CREATED)
        except DBAPIError as error:
            refused = self._translate(error.orig or error)
            if not isinstance(refused, InvalidCommand):
                raise
            if len(records) == 1:
                uuid = records[0].command_uuid
                return {uuid: Rejected(InvalidCommand(f"command {uuid!a}: {refused}", command_uuid=uuid))}
        # One of them can't be held here; halves find it without a round trip for each of the others.
        middle = len(records) // 2
        return self._put_new(connection, records[:middle]) | self._put_new(connection, records[middle:])

    def _lock_out_writers(self, connection: Connection) -> None:
        # Other writers wait until the commit, readers don't. Looking and then inserting is atomic only so where uuid is
        # not unique.
        connection.exec_driver_sql("LOCK TABLE commands IN SHARE ROW EXCLUSIVE MODE")

    def _make_registers(self, connection: Connection) -> None:
        self._lock_name(connection, _MAKING)
        super()._make_registers(connection)

    def _lock_register(self, connection: Connection, name: str) -> None:
        self._lock_name(connection, name)

    def _lock_name(self, connection: Connection, name: str) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})

    # What is new

    def _sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        # Three reads, in this order. What is settled is judged before the horizon is read, and who may still bring a
        # row below the horizon is asked after it: each errs on the side of "not yet".
        with self._reading() as connection:
            sequence = postgres_facts.sequence_of(connection)
            if sequence is None:
                return None
            before = postgres_facts.settlement(connection, sequence)
            whose = postgres_facts.identity(connection, sequence)
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


def _search_path(options: Any) -> str | None:
    """The ``search_path`` among libpq's ``options``, written in one way; None where there is none.

    ``-c name=value``, ``-cname=value`` and ``--name=value`` are one; a backslash takes the next character as it is.
    """
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORDS.findall(options)]
    path = None
    for before, word in zip(["", *words], words, strict=False):
        if before != "-c" and not word.startswith(("-c", "--")):
            continue
        name, given, value = (word if before == "-c" else word[2:]).partition("=")
        if given and name.replace("-", "_").lower() == "search_path":
            path = value  # the last one holds
    if path is None:
        return None
    escaped = re.sub(r"([\\\s])", r"\\\1", path)
    return f"-csearch_path={quote(escaped, safe=',$')}"


def _read_url(place: str, options: Mapping[str, str]) -> URL:
    try:
        url = make_url(place.partition("?")[0])
        for name in _NUMBERS:
            int(options.get(name, "0"))
    except (ValueError, ArgumentError):
        url = None
    # A password with a '/' in it leaves its end in the name of the database, one with an '@' in the host. No cause is
    # given, nor the URL: either may repeat a piece of it.
    if url is None or not {"@", "/"}.isdisjoint(url.database or "") or "@" in (url.host or ""):
        raise ConfigurationError(
            "a Postgres URL is postgresql://user:password@host:port/database?..., its port and timeouts are whole "
            "numbers, and odd characters of a password are written as %2F and the like"
        )
    database = url.database and unquote(url.database)
    return url.set(drivername="postgresql+psycopg", database=database, query=dict(options))
