"""comby's table ``commands``: columns, generations and statements. Pure.

Generations differ in three ways that matter: whether there is a ``workspace_uuid`` (A and B have none), whether
``uuid`` is unique (not in A, and not where events and commands share one SQLite file), and whether ``created_at`` has
an index (not in A). All are found by looking, never assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from commandstore.command import CommandQuery, is_int64
from commandstore.contract import Key

__all__ = [
    "COLUMNS",
    "CREATE",
    "REGISTERS",
    "Statement",
    "Table",
]

Dialect = Literal["sqlite", "postgresql"]

COLUMNS = (
    "id",
    "created_at",
    "uuid",
    "instance_id",
    "tenant_uuid",
    "workspace_uuid",
    "domain",
    "data_type",
    "data_bytes",
    "req_ctx",
)
"""The columns in the order in which rows are read here (the table's own order differs by generation)."""

OPTIONAL = frozenset({"workspace_uuid"})

# Generation C, as comby's stores make a new database since their v1.2.
CREATE: dict[Dialect, tuple[str, ...]] = {
    "sqlite": (
        (
            "CREATE TABLE IF NOT EXISTS commands (id INTEGER, instance_id INTEGER, uuid TEXT, tenant_uuid TEXT, "
            "workspace_uuid TEXT, domain TEXT, created_at INTEGER, data_type TEXT, data_bytes TEXT, req_ctx TEXT, "
            "PRIMARY KEY (id))"
        ),
        "CREATE INDEX IF NOT EXISTS tenant_index ON commands (tenant_uuid)",
        "CREATE INDEX IF NOT EXISTS workspace_index ON commands (workspace_uuid)",
        "CREATE UNIQUE INDEX IF NOT EXISTS uuid_index ON commands (uuid)",
        "CREATE INDEX IF NOT EXISTS created_at_index ON commands (created_at)",
    ),
    "postgresql": (
        (
            "CREATE TABLE IF NOT EXISTS commands (id SERIAL PRIMARY KEY, instance_id INTEGER, uuid TEXT, "
            "tenant_uuid TEXT, workspace_uuid TEXT, domain TEXT, created_at BIGINT, data_type TEXT, data_bytes TEXT, "
            "req_ctx TEXT)"
        ),
        "CREATE INDEX IF NOT EXISTS tenant_index ON commands (tenant_uuid)",
        "CREATE INDEX IF NOT EXISTS workspace_index ON commands (workspace_uuid)",
        "CREATE UNIQUE INDEX IF NOT EXISTS cmd_uuid_index ON commands (uuid)",
        "CREATE INDEX IF NOT EXISTS cmd_created_at_index ON commands (created_at)",
    ),
}

REGISTERS: dict[Dialect, str] = {
    "sqlite": "CREATE TABLE IF NOT EXISTS commandstore_registers (name TEXT PRIMARY KEY, value BLOB, token TEXT)",
    "postgresql": "CREATE TABLE IF NOT EXISTS commandstore_registers (name TEXT PRIMARY KEY, value BYTEA, token TEXT)",
}

_NUMBERS = frozenset({"id", "created_at", "instance_id"})
# A payload may be of any type: nothing is looked for in it.
TEXTS = tuple(name for name in COLUMNS if name not in _NUMBERS and name != "data_bytes")
"""The columns that are text, and must be stored as such."""
# Text as its bytes in the encoding of the database, so that a CAST makes the same text of it again.
_TIME_AS_STORED = "CASE typeof(created_at) WHEN 'text' THEN CAST(created_at AS BLOB) ELSE created_at END"


KINDS = frozenset({"real", "text", "blob"})
"""What SQLite may hold in the place of a time."""


class Statement(NamedTuple):
    """SQL with named parameters, and their values. What a caller gave is always a parameter, never SQL."""

    sql: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """What was found of ``commands`` in one database.

    Attributes:
        dialect: whose SQL.
        columns: the names that there are.
        unique_uuid: a unique index stands on uuid alone.
        indexed_time: an index begins with created_at.
        encoding: the database's, by its own name.
        codec: Python's name for that encoding, where it can't hold every character.
        indexed_tenant: an index begins with tenant_uuid. (SQLite is told to use it; Postgres finds out by itself.)
    """

    dialect: Dialect
    columns: frozenset[str]
    unique_uuid: bool
    indexed_time: bool
    encoding: str = "UTF8"
    codec: str | None = None
    indexed_tenant: bool = False

    @property
    def has_workspace(self) -> bool:
        """Whether there is a column for the workspace (C and C' have one)."""
        return "workspace_uuid" in self.columns

    @property
    def missing(self) -> list[str]:
        """Columns without which this isn't comby's table."""
        return [name for name in COLUMNS if name not in self.columns and name not in OPTIONAL]

    @property
    def utf16(self) -> bool:
        """Whether it is a SQLite database that keeps text in UTF-16."""
        return self.encoding.startswith("UTF-16")

    @property
    def selected(self) -> str:
        """The columns to select, in the order of :data:`COLUMNS`, and what a key needs beside them.

        SQLite keeps any type in any column; a key must say which, since types sort apart. A BLOB in the place of a text
        has the same bytes and is equal to no text, so that whoever looks for it misses the row: the first column with
        one is named. In UTF-16 a key has the bytes that rows are ordered by: the conversion to UTF-8 can't be undone
        where text is invalid.
        """
        names = [self._read(name) if name in self.columns else f"NULL AS {name}" for name in COLUMNS]
        if self.dialect == "sqlite":
            # Cheap, also with large contexts: typeof reads no more of a value than its header.
            blobs = (f"WHEN typeof({name}) = 'blob' THEN '{name}'" for name in TEXTS if name in self.columns)
            names += ["typeof(created_at)", f"CASE {' '.join(blobs)} END"]
        if self.utf16:
            names += [self._uuid_bytes, _TIME_AS_STORED]
        return ", ".join(names)

    def _read(self, name: str) -> str:
        # SQL_ASCII vouches for nothing, so its text comes as bytes and each row is decoded by itself.
        raw = self.encoding == "SQL_ASCII" and name not in _NUMBERS
        if self.utf16 and name == "uuid":  # else the name of a BLOB would be in UTF-16
            return "CASE typeof(uuid) WHEN 'blob' THEN CAST(uuid AS TEXT) ELSE uuid END AS uuid"
        return f"convert_to({name}, 'SQL_ASCII') AS {name}" if raw else name

    def _equals(self, column: str, parameter: str) -> str:
        """Whether a column has a text; in SQLite also as a BLOB, so that such a row is found, and named."""
        if self.dialect == "postgresql":
            return f"{column} = {parameter}"
        return f"{column} IN ({parameter}, CAST({parameter} AS BLOB))"

    @property
    def _uuid_bytes(self) -> str:
        """The uuid as what the total order compares: its bytes in UTF-8; NULL is before all."""
        if self.dialect == "postgresql":
            if self.encoding == "UTF8":
                return "COALESCE(uuid, '') COLLATE \"C\""
            return f"convert_to(COALESCE(uuid, ''), '{'SQL_ASCII' if self.encoding == 'SQL_ASCII' else 'UTF8'}')"
        # CAST gives the bytes as stored, so UTF-16 goes through a function of ours (see sqlite_access.py).
        stored = "COALESCE(CAST(uuid AS BLOB), x'')"
        return f"utf8(typeof(uuid), {stored}, '{self.encoding}')" if self.utf16 else stored

    def where(
        self, query: CommandQuery, *, nulls: bool | None = None, selective: frozenset[str] = frozenset()
    ) -> tuple[list[str], dict[str, Any]]:
        """The conditions of a query's filters. NULL reads as the empty string, and as time 0, so it matches as such.

        Args:
            query: the filters; ``session_uuid`` is left out: it stands in req_ctx, and is compared when rows are read.
            nulls: only rows without created_at (True), only rows with it (False), both (None).
            selective: columns whose own index may serve (SQLite).
        """
        conditions: list[str] = []
        values: dict[str, Any] = {}
        for name, value in query.equal_to.items():
            if name == "session_uuid":
                continue
            if name not in self.columns:
                conditions.append("1 = 1" if value == "" else "1 = 0")
                continue
            # SQLite takes any index on a name for selective, and would sort all that a large tenant has for each page;
            # '+' hides the index. comby's v1.2 made workspace_index before its column: that one is wrong besides.
            column = name if self.dialect == "postgresql" or name in selective else f"+{name}"
            condition = self._equals(column, f":{name}")
            conditions.append(condition if value else f"({condition} OR {column} IS NULL)")
            values[name] = value
        for name, operator, bound in (("after", ">", query.after), ("before", "<", query.before)):
            if bound is None:
                continue
            null_matches = bound < 0 if name == "after" else bound > 0
            if nulls:
                conditions += [] if null_matches else ["1 = 0"]
                continue
            condition = f"created_at {operator} :{name}"
            conditions.append(f"({condition} OR created_at IS NULL)" if null_matches and nulls is None else condition)
            values[name] = bound
        if nulls is not None:
            conditions.append("created_at IS NULL" if nulls else "created_at IS NOT NULL")
        return conditions, values

    def page(
        self,
        query: CommandQuery,
        after: Key | None,
        limit: int,
        *,
        nulls: bool,
        selective: frozenset[str] = frozenset(),
    ) -> Statement:
        """Rows in the total order, either of those with a created_at or of those without: each walk has an index.

        Args:
            query: filters and direction.
            after: a key of the same walk, or None for its start.
            limit: how many rows at most.
            nulls: the walk over rows without created_at.
            selective: see :meth:`where`.
        """
        conditions, values = self.where(query, nulls=nulls, selective=selective)
        more, way = (">", "ASC") if query.ascending else ("<", "DESC")
        uuid = self._uuid_bytes
        if after is not None:
            time, hexed, row_id = after
            beyond = f"({uuid} {more} :key_uuid OR ({uuid} = :key_uuid AND id {more} :key_id))"
            raw = bytes.fromhex(str(hexed))
            values |= {"key_uuid": raw.decode() if self._compares_text else raw, "key_id": row_id}
            if nulls:
                conditions.append(beyond)
            else:
                key_time, values["key_time"] = _time_of(time)
                conditions.append(f"created_at {more}= {key_time} AND (created_at {more} {key_time} OR {beyond})")
        order = f"{uuid} {way}, id {way}" if nulls else f"created_at {way}, {uuid} {way}, id {way}"
        values["limit"] = limit
        return Statement(
            f"SELECT {self.selected} FROM commands {_where(conditions)} ORDER BY {order} LIMIT :limit",  # noqa: S608
            values,
        )

    @property
    def _compares_text(self) -> bool:
        return self.dialect == "postgresql" and self.encoding == "UTF8"

    def is_key(self, key: Key) -> bool:
        """Whether a row can have this key: (created_at, the uuid's bytes in hex, id)."""
        if len(key) != 3 or not is_int64(key[2]) or not isinstance(key[1], str):  # noqa: PLR2004 - see above
            return False
        time, name, _ = key
        try:
            raw = bytes.fromhex(str(name))
            if self._compares_text and "\0" in raw.decode():
                return False
            if isinstance(time, str) and (self.dialect != "sqlite" or time.partition(":")[0] not in KINDS):
                return False
            if isinstance(time, str):
                _time_of(time)
        except ValueError:
            return False
        return time is None or isinstance(time, str) or is_int64(time)

    def holds(self, value: str) -> bool:
        """Whether a text column can have this value at all: no row has one that it can't."""
        if self.dialect == "sqlite":
            return True
        try:
            value.encode(self.codec or "utf-8")
        except UnicodeEncodeError:
            return False
        return "\0" not in value

    def count(self, query: CommandQuery) -> Statement:
        """How many rows match the filters that SQL can see (a session is in the context, see ``backend.py``)."""
        conditions, values = self.where(query, selective=frozenset({"tenant_uuid"}))
        # An index that covers the count would be believed, and one of comby's is wrong about old rows (see `where`).
        source = "commands NOT INDEXED" if self.dialect == "sqlite" and query.workspace_uuid is not None else "commands"
        return Statement(f"SELECT COUNT(*) FROM {source} {_where(conditions)}", values)  # noqa: S608

    def count_of(self, query: CommandQuery) -> Statement:
        """For a stretch of ids from ``:low`` on: the last one, how many, and how many match."""
        conditions, values = self.where(query)
        stretch = f"SELECT id, {_all(conditions)} AS fits FROM commands WHERE id >= :low ORDER BY id LIMIT :limit"  # noqa: S608
        return Statement(f"SELECT MAX(id), COUNT(*), COALESCE(SUM(fits), 0) FROM ({stretch})", values)  # noqa: S608

    def order_of(self, query: CommandQuery, *, named: bool = False) -> Statement:
        """Time, id, and whether the filters match, of a stretch of ids ``:low <= id <= :high``, in their order.

        The filters are an answer, not a condition, so that a short read stays short where few rows match.

        Args:
            query: the filters.
            named: also the time's type and the uuid's bytes, as keys of pages need them (SQLite).
        """
        conditions, values = self.where(query)
        wanted = ["created_at", "id", _all(conditions)]
        if named:
            wanted = [_TIME_AS_STORED, "id", _all(conditions), "typeof(created_at)", self._uuid_bytes]
        columns = ", ".join(wanted)
        sql = f"SELECT {columns} FROM commands WHERE id >= :low AND id <= :high ORDER BY id LIMIT :limit"  # noqa: S608
        return Statement(sql, values)

    def anchors(self) -> str:
        """For each id in ``:wanted``, the newest row up to it. SQLite takes one at a time."""
        if self.dialect == "sqlite":
            return f"SELECT {self.selected} FROM commands WHERE id <= :wanted ORDER BY id DESC LIMIT 1"  # noqa: S608
        newest = f"SELECT {self.selected} FROM commands WHERE id <= wanted ORDER BY id DESC LIMIT 1"  # noqa: S608
        wanted = "unnest(CAST(:wanted AS bigint[])) AS wanted"
        return f"SELECT found.* FROM {wanted} CROSS JOIN LATERAL ({newest}) AS found"  # noqa: S608

    def by_ids(self) -> str:
        """SQLite's: rows of the ids ``:ids``, a list in JSON, in its order (Postgres: postgres_facts.py)."""
        # CROSS JOIN keeps the order of the tables, so the list leads: rows come one by one, in its order.
        wanted = "(SELECT value AS wanted FROM json_each(:ids)) CROSS JOIN commands ON id = wanted"
        return f"SELECT {self.selected} FROM {wanted}"  # noqa: S608

    def by_uuids(self, uuids: Sequence[str]) -> Statement:
        """Rows of these uuids, oldest first (where uuids are not unique)."""
        if self.dialect == "postgresql":
            sql = f"SELECT {self.selected} FROM commands WHERE uuid = ANY(:uuids) ORDER BY id"  # noqa: S608
            return Statement(sql, {"uuids": list(uuids)})
        # Not a list in JSON, which ends a string at a NUL.
        values = {f"uuid_{number}": uuid for number, uuid in enumerate(uuids)}
        # A BLOB too, as in `_equals`: else what is there would not be found, and be written once more.
        wanted = ", ".join([*(f":{name}" for name in values), *(f"CAST(:{name} AS BLOB)" for name in values)])
        return Statement(f"SELECT {self.selected} FROM commands WHERE uuid IN ({wanted}) ORDER BY id", values)  # noqa: S608

    def insert(self) -> str:
        """One row; values by :func:`insert_values`."""
        names = [name for name in COLUMNS if name != "id" and name in self.columns]
        # In SQLite comby binds Go strings: the storage class is TEXT whatever the bytes, so bytes are cast to it.
        cast = {"data_bytes": "CAST(:data_bytes AS TEXT)"} if self.dialect == "sqlite" else {}
        values = ", ".join(cast.get(name, f":{name}") for name in names)
        return f"INSERT INTO commands ({', '.join(names)}) VALUES ({values})"  # noqa: S608

    def before_update(self) -> str | None:
        """What makes room for :meth:`update`: of a uuid that stands as text too, the rows that have it as a BLOB go."""
        if self.dialect == "postgresql":
            return None
        text = "EXISTS (SELECT 1 FROM commands WHERE uuid = :uuid)"
        return f"DELETE FROM commands WHERE uuid = CAST(:uuid AS BLOB) AND {text}"  # noqa: S608

    def update(self) -> str:
        """All columns of the rows of one uuid, the uuid with them; values by :func:`insert_values`."""
        kept = {"id"} if self.dialect == "sqlite" else {"id", "uuid"}  # a BLOB becomes the text that it should be
        names = [name for name in COLUMNS if name not in kept and name in self.columns]
        cast = {"data_bytes": "CAST(:data_bytes AS TEXT)"} if self.dialect == "sqlite" else {}
        values = ", ".join(f"{name} = {cast.get(name, f':{name}')}" for name in names)
        return f"UPDATE commands SET {values} WHERE {self._equals('uuid', ':uuid')}"  # noqa: S608

    def delete(self) -> str:
        """The rows of one uuid."""
        return f"DELETE FROM commands WHERE {self._equals('uuid', ':uuid')}"  # noqa: S608


def _all(conditions: Sequence[str]) -> str:
    """Whether all conditions hold, as a value."""
    return f"({' AND '.join(conditions)})" if conditions else "1 = 1"


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _time_of(value: int | str | None) -> tuple[str, object]:
    """A key's time as SQL and its parameter."""
    if not isinstance(value, str):
        return ":key_time", value
    kind, _, rest = value.partition(":")
    if kind == "real":
        return ":key_time", float(rest)
    return ("CAST(:key_time AS TEXT)" if kind == "text" else ":key_time"), bytes.fromhex(rest)
