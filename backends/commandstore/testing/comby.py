"""Databases as comby's Go stores leave them: for tests, the demo and benchmarks.

The generations of the table ``commands``, in both engines:

| generation | versions of the stores  | what is special                                                       |
|------------|-------------------------|-----------------------------------------------------------------------|
| `A`        | 1.0.0 to 1.0.9          | no workspace, no index but the tenant's: a uuid may stand in it twice |
| `B`        | 1.0.10 to 1.1.1         | a unique uuid, an index on time                                       |
| `C`        | 1.2                     | the workspace, after the tenant                                       |
| `C'`       | 1.2 over an older table | the workspace last, NULL in the older rows                            |

SQLite keeps a rollback journal in A, and a write-ahead log from B on. ``id`` is a plain ``INTEGER`` key there (no
AUTOINCREMENT: the ids of deleted top rows are given out again) and a ``SERIAL`` in Postgres. No column has a default,
and none but ``id`` refuses NULL.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, LiteralString

from commandstore.testing.samples import CombyRow, PayloadSize, sample_commands, sample_tenants

if TYPE_CHECKING:
    import psycopg

__all__ = [
    "GENERATIONS",
    "CombyRow",
    "Generation",
    "PayloadSize",
    "create_postgres",
    "create_role",
    "create_sqlite",
    "enable_rls",
    "insert_postgres",
    "insert_sqlite",
    "migrate_sqlite",
    "raw_insert_postgres",
    "raw_insert_sqlite",
    "sample_commands",
    "sample_tenants",
]

Generation = Literal["A", "B", "C", "C'"]
GENERATIONS: tuple[Generation, ...] = ("A", "B", "C", "C'")

_ROWS_A_TRANSACTION = 20_000

_SQLITE_TABLE = """
CREATE TABLE IF NOT EXISTS commands (id INTEGER, instance_id INTEGER, uuid TEXT, tenant_uuid TEXT,{workspace}
    domain TEXT, created_at INTEGER, data_type TEXT, data_bytes TEXT, req_ctx TEXT, PRIMARY KEY (id));
"""
_SQLITE_EVENTS = """
CREATE TABLE IF NOT EXISTS events (id INTEGER, instance_id INTEGER, uuid TEXT, tenant_uuid TEXT,{workspace}
    command_uuid TEXT, domain TEXT, aggregate_uuid TEXT, version INTEGER, created_at INTEGER, data_type TEXT,
    data_bytes TEXT,{context} PRIMARY KEY (id));
"""
_POSTGRES_TABLE = """
CREATE TABLE IF NOT EXISTS commands (id SERIAL PRIMARY KEY, instance_id INTEGER, uuid TEXT, tenant_uuid TEXT,{workspace}
    domain TEXT, created_at BIGINT, data_type TEXT, data_bytes TEXT, req_ctx TEXT);
"""
_POSTGRES_EVENTS = """
CREATE TABLE IF NOT EXISTS events (id SERIAL PRIMARY KEY, instance_id INTEGER, uuid TEXT, tenant_uuid TEXT,{workspace}
    command_uuid TEXT, domain TEXT, aggregate_uuid TEXT, version INTEGER, created_at BIGINT, data_type TEXT,
    data_bytes TEXT, req_ctx TEXT);
"""
_WORKSPACE = " workspace_uuid TEXT,"
_ADD_WORKSPACE: LiteralString = "ALTER TABLE commands ADD COLUMN workspace_uuid TEXT"


def _indexes(generation: Generation, table: str = "commands", prefix: str = "") -> str:
    """The indexes in the order in which the stores make them. Postgres' have a prefix, except the two oldest names."""
    wanted = ["tenant_index:tenant_uuid"]
    if generation in {"C", "C'"}:
        wanted.append("workspace_index:workspace_uuid")
    if table == "events":
        wanted.append("aggregate_uuid_index:aggregate_uuid")
    if generation != "A":
        wanted += [f"{prefix}uuid_index:uuid", f"{prefix}created_at_index:created_at"]
    statements = []
    for name, column in (item.split(":") for item in wanted):
        unique = " UNIQUE" if column == "uuid" else ""
        statements.append(f'CREATE{unique} INDEX IF NOT EXISTS "{name}" ON "{table}" ("{column}" ASC);')
    return "\n".join(statements)


def create_sqlite(
    path: str | Path, generation: Generation, *, older: Iterable[CombyRow] = (), events: bool = False
) -> None:
    """Make the database that a store of this generation makes, with an empty table unless ``older`` says otherwise.

    Args:
        path: a file that does not exist yet.
        generation: see this module's table. `C'` is a B that version 1.2 has opened; for one that grew from an A, make
            an A and call `migrate_sqlite`.
        older: for `C'`, the rows that stood in the table before.
        events: let the event store make its table in the same file first. Its indexes have the same names, so that
            ``commands`` gets none of them: no index on the tenant or time, and no unique uuid.
    """
    first: Generation = "B" if generation == "C'" else generation
    with _sqlite(path) as connection:
        # A's journal is the default, but a value that is set says that it is meant.
        connection.execute(f"PRAGMA journal_mode={'DELETE' if generation == 'A' else 'WAL'}")
        workspace = _WORKSPACE if first == "C" else ""
        if events:
            context = " req_ctx TEXT," if first == "C" else ""
            connection.executescript(_SQLITE_EVENTS.format(workspace=workspace, context=context))
            connection.executescript(_indexes(first, "events"))
        connection.executescript(_SQLITE_TABLE.format(workspace=workspace) + _indexes(first))
        insert_sqlite(connection, older)
    if generation == "C'":
        migrate_sqlite(path)


def migrate_sqlite(path: str | Path) -> None:
    """Open a database of generation A or B as version 1.2 does, which makes a C' of it.

    Version 1.2 indexes the workspace before it adds the column. SQLite takes the quoted name of a column that is not
    there for a string, so the index is filled with that string; once the column exists, the index claims to be one on
    the column, and **is wrong for every older row**: a query for NULL that uses it finds none of them, one that takes
    the column's values from it (a covering index) reads ``workspace_uuid`` instead of NULL, ``integrity_check`` reports
    each row, and to delete one fails as "malformed". Readers must not let it be used: ``FROM commands NOT INDEXED``.

    Raises:
        sqlite3.IntegrityError: a uuid stands twice in a table of generation A. As in Go, what came before stays: WAL
            mode and the index on a column that never comes.
    """
    with _sqlite(path) as connection:
        if sys.version_info >= (3, 12):  # the default of most builds, and of the one that comby uses
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DDL, True)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SQLITE_TABLE.format(workspace=_WORKSPACE) + _indexes("C'"))
        if "workspace_uuid" not in _sqlite_columns(connection):
            connection.execute(_ADD_WORKSPACE)


def create_postgres(url: str, generation: Generation, *, older: Iterable[CombyRow] = (), events: bool = False) -> None:
    """Make the table that a store of this generation makes in an empty database.

    Args:
        url: the database, as a role that may create tables.
        generation: see this module's table. Version 1.2 cannot migrate an older table in Postgres (its index on the
            workspace fails before the column is added, and all is rolled back): `C'` is a B to which an operator has
            added the column by hand, which 1.2 then completes.
        older: for `C'`, the rows that stood in the table before.
        events: let the event store make its table first. Its index names on tenant and workspace are the same, so that
            ``commands`` gets neither; the unique uuid it gets, under a name of its own.
    """
    first: Generation = "B" if generation == "C'" else generation
    workspace = _WORKSPACE if first == "C" else ""
    with _postgres(url) as connection:
        if events:
            connection.execute((_POSTGRES_EVENTS.format(workspace=workspace) + _indexes(first, "events")).encode())
        connection.execute((_POSTGRES_TABLE.format(workspace=workspace) + _indexes(first, prefix="cmd_")).encode())
    insert_postgres(url, older)
    if generation == "C'":
        with _postgres(url) as connection:
            connection.execute(_ADD_WORKSPACE)
            connection.execute(_indexes(generation, prefix="cmd_").encode())


def enable_rls(url: str) -> None:
    """Switch row level security on as comby does: also for the owner, one tenant a session, none without a setting."""
    condition: LiteralString = "(tenant_uuid = current_setting('app.tenant_uuid', true))"
    with _postgres(url) as connection:
        connection.execute("ALTER TABLE commands ENABLE ROW LEVEL SECURITY")
        connection.execute("ALTER TABLE commands FORCE ROW LEVEL SECURITY")
        connection.execute("DROP POLICY IF EXISTS comby_tenant_isolation ON commands")
        connection.execute(
            "CREATE POLICY comby_tenant_isolation ON commands AS PERMISSIVE FOR ALL"
            f" USING {condition} WITH CHECK {condition}"
        )


def create_role(url: str, role: str, *, write: bool = False, bypass_rls: bool = False) -> str:
    """Make a role for ``commands`` in this database; the URL to connect as it.

    Args:
        url: the database, as its superuser.
        role: a name that is free in the whole cluster.
        write: grant what comby grants its application; otherwise what a sync needs, which is reading.
        bypass_rls: let it see every row in spite of row level security.
    """
    from psycopg import sql  # noqa: PLC0415 - no SDK at import time
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    parts = conninfo_to_dict(url)
    name = sql.Identifier(role)
    with _postgres(url) as connection:
        flag = sql.SQL("BYPASSRLS" if bypass_rls else "NOBYPASSRLS")
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN {}").format(name, flag))
        database = sql.Identifier(str(parts["dbname"]))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        rights = sql.SQL("SELECT, INSERT, UPDATE, DELETE" if write else "SELECT")
        connection.execute(sql.SQL("GRANT {} ON commands TO {}").format(rights, name))
        if write:
            connection.execute(sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
    return f"postgresql://{role}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def insert_sqlite(target: str | Path | sqlite3.Connection, rows: Iterable[CombyRow]) -> int:
    """Insert rows quickly; how many. The workspace is left out where the table has none.

    ``data_bytes`` become TEXT of the same bytes, as from Go, whether they are valid UTF-8 or not. A connection with an
    open transaction keeps it open; otherwise what was inserted is committed.
    """
    if not isinstance(target, sqlite3.Connection):
        with _sqlite(target) as connection:
            return insert_sqlite(connection, rows)
    columns = _columns_to_fill(_sqlite_columns(target))
    values = ", ".join("CAST(? AS TEXT)" if name == "data_bytes" else "?" for name in columns)
    statement = f"INSERT INTO commands ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - our own names
    ours = not target.in_transaction
    inserted = 0
    for chunk in _chunks(rows, columns):
        if ours:
            target.execute("BEGIN")
        target.executemany(statement, chunk)
        if ours:
            target.execute("COMMIT")
        inserted += len(chunk)
    return inserted


def insert_postgres(url: str, rows: Iterable[CombyRow]) -> int:
    """Insert rows quickly, by COPY; how many. The workspace is left out where the table has none.

    Raises:
        UnicodeDecodeError: ``data_bytes`` that are not UTF-8, which Postgres cannot hold as TEXT.
    """
    inserted = 0
    with _postgres(url) as connection:
        found = connection.execute("SELECT * FROM commands LIMIT 0").description or ()
        columns = _columns_to_fill({column.name for column in found})
        payload = columns.index("data_bytes")
        names = ", ".join(columns)
        for chunk in _chunks(rows, columns):
            with connection.cursor() as cursor, cursor.copy(f"COPY commands ({names}) FROM STDIN".encode()) as copy:
                for row in chunk:
                    copy.write_row((*row[:payload], str(row[payload], "utf-8"), *row[payload + 1 :]))
            inserted += len(chunk)
    return inserted


def raw_insert_sqlite(connection: sqlite3.Connection, **columns: str | float | bytes | memoryview | None) -> int:
    """Insert one row of just these columns, the others NULL, and commit; its ``id``.

    This puts in what Go never writes but a file may hold: NULLs, a uuid twice, text that is not text.

    Args:
        connection: any; its open transaction is committed.
        columns: values by column. ``bytes`` become TEXT of just these bytes, also NUL and invalid UTF-8; a
            ``memoryview`` becomes a BLOB.
    """
    values = ", ".join("CAST(? AS TEXT)" if isinstance(value, bytes) else "?" for value in columns.values())
    names = ", ".join(columns)
    row_id = connection.execute(
        f"INSERT INTO commands ({names}) VALUES ({values})",  # noqa: S608 - the tests' own names
        list(columns.values()),
    ).lastrowid
    connection.commit()
    return row_id or 0


def raw_insert_postgres(url: str, **columns: str | int | None) -> int:
    """Insert one row of just these columns, the others NULL; its ``id``."""
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO commands ({names}) VALUES ({marks}) RETURNING id"  # noqa: S608 - the tests' own names
    with _postgres(url) as connection:
        row = connection.execute(statement.encode(), list(columns.values())).fetchone()
    return int(row[0]) if row else 0


def _columns_to_fill(present: set[str]) -> list[str]:
    return [name for name in CombyRow._fields if name in present]


def _chunks(rows: Iterable[CombyRow], columns: list[str]) -> Iterator[list[tuple[Any, ...]]]:
    source: Iterator[tuple[Any, ...]] = iter(rows)
    if len(columns) < len(CombyRow._fields):
        source = map(operator.itemgetter(*(CombyRow._fields.index(name) for name in columns)), source)
    while chunk := list(itertools.islice(source, _ROWS_A_TRANSACTION)):
        yield chunk


def _sqlite_columns(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('commands')")}


@contextmanager
def _sqlite(path: str | Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # All of this connection only. The data can be made again, and a million random uuids want a large cache.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-262144")
        connection.execute("PRAGMA wal_autocheckpoint=50000")
        yield connection


@contextmanager
def _postgres(url: str) -> Iterator[psycopg.Connection]:
    import psycopg  # noqa: PLC0415 - no SDK at import time

    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
