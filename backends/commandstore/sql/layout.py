"""comby's table ``commands``: columns, generations, statements, and from rows to records. Pure.

Generations differ in three ways that matter: whether there is a ``workspace_uuid`` (A and B have none), whether
``uuid`` is unique (not in A, and not where events and commands share one SQLite file), and whether ``created_at`` has
an index (not in A). All are found by looking, never assumed.

Every value of a row is read as it is stored and decoded here, one row at a time, so that a row that can't be read is
one bad row and never a failed page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.contract import Anchor, Key, Row
from commandstore.errors import CorruptRecord, InvalidCommand

__all__ = [
    "COLUMNS",
    "CREATE",
    "REGISTERS",
    "Statement",
    "Table",
    "anchor_of",
    "gaps",
    "insert_values",
    "refusal",
    "row_of",
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

_INT32 = 2**31
_DIGEST_HEX = 16
_MAX_ANCHORS = 64


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
        utf16: a SQLite database that keeps text in UTF-16.
    """

    dialect: Dialect
    columns: frozenset[str]
    unique_uuid: bool
    indexed_time: bool
    utf16: bool = False

    @property
    def has_workspace(self) -> bool:
        """Whether there is a column for the workspace (C and C' have one)."""
        return "workspace_uuid" in self.columns

    @property
    def missing(self) -> list[str]:
        """Columns without which this isn't comby's table."""
        return [name for name in COLUMNS if name not in self.columns and name not in OPTIONAL]

    @property
    def selected(self) -> str:
        """The columns to select, in the order of :data:`COLUMNS`."""
        return ", ".join(name if name in self.columns else f"NULL AS {name}" for name in COLUMNS)

    @property
    def _uuid_bytes(self) -> str:
        """The uuid as what the total order compares: its bytes in UTF-8; NULL is before all."""
        if self.dialect == "postgresql":
            return "COALESCE(uuid, '') COLLATE \"C\""
        # CAST gives the bytes as stored, so UTF-16 goes through a function of ours (see sqlite.py).
        return "utf8(uuid)" if self.utf16 else "COALESCE(CAST(uuid AS BLOB), x'')"

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
            conditions.append(f"{column} = :{name}" if value else f"({column} = :{name} OR {column} IS NULL)")
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
            values |= {"key_uuid": raw.decode() if self.dialect == "postgresql" else raw, "key_id": row_id}
            if nulls:
                conditions.append(beyond)
            else:
                key_time, values["key_time"] = _time_of(time)
                conditions.append(f"created_at {more}= {key_time} AND (created_at {more} {key_time} OR {beyond})")
        order = f"{uuid} {way}, id {way}" if nulls else f"created_at {way}, {uuid} {way}, id {way}"
        values["limit"] = limit
        # SQLite keeps any type in any column; a key must say which, since types sort apart.
        kind = ", typeof(created_at)" if self.dialect == "sqlite" else ""
        return Statement(
            f"SELECT {self.selected}{kind} FROM commands {_where(conditions)} ORDER BY {order} LIMIT :limit",  # noqa: S608
            values,
        )

    def count(self, query: CommandQuery) -> Statement:
        """How many rows match the filters that SQL can see (a session is in the context, see ``backend.py``)."""
        conditions, values = self.where(query, selective=frozenset({"tenant_uuid"}))
        # An index that covers the count would be believed, and one of comby's is wrong about old rows (see `where`).
        source = "commands NOT INDEXED" if self.dialect == "sqlite" and query.workspace_uuid is not None else "commands"
        return Statement(f"SELECT COUNT(*) FROM {source} {_where(conditions)}", values)  # noqa: S608

    def order_of(self, query: CommandQuery) -> Statement:
        """Time, id, and whether the filters match, of a stretch of ids ``:low < id <= :high``, in their order.

        The filters are an answer, not a condition, so that a short read stays short where few rows match.
        """
        conditions, values = self.where(query)
        matches = f"({' AND '.join(conditions)})" if conditions else "1 = 1"
        sql = f"SELECT created_at, id, {matches} FROM commands WHERE id > :low AND id <= :high ORDER BY id LIMIT :limit"  # noqa: S608
        return Statement(sql, values)

    def anchors(self) -> str:
        """For each id in ``:wanted``, the newest row up to it. SQLite takes one at a time."""
        if self.dialect == "sqlite":
            return f"SELECT {self.selected} FROM commands WHERE id <= :wanted ORDER BY id DESC LIMIT 1"  # noqa: S608
        newest = f"SELECT {self.selected} FROM commands WHERE id <= wanted ORDER BY id DESC LIMIT 1"  # noqa: S608
        wanted = "unnest(CAST(:wanted AS bigint[])) AS wanted"
        return f"SELECT found.* FROM {wanted} CROSS JOIN LATERAL ({newest}) AS found"  # noqa: S608

    def by_ids(self) -> str:
        """Rows of the ids ``:ids``."""
        return f"SELECT {self.selected} FROM commands WHERE {self._any('id', 'ids')}"  # noqa: S608

    def by_uuids(self) -> str:
        """Rows of the uuids ``:uuids``, oldest first (where uuids are not unique)."""
        return f"SELECT {self.selected} FROM commands WHERE {self._any('uuid', 'uuids')} ORDER BY id"  # noqa: S608

    def _any(self, column: str, name: str) -> str:
        """``column`` is one of the values of a list parameter (for SQLite an expanding one)."""
        return f"{column} = ANY(:{name})" if self.dialect == "postgresql" else f"{column} IN :{name}"

    def insert(self) -> str:
        """One row; values by :func:`insert_values`."""
        names = [name for name in COLUMNS if name != "id" and name in self.columns]
        # In SQLite comby binds Go strings: the storage class is TEXT whatever the bytes, so bytes are cast to it.
        cast = {"data_bytes": "CAST(:data_bytes AS TEXT)"} if self.dialect == "sqlite" else {}
        values = ", ".join(cast.get(name, f":{name}") for name in names)
        return f"INSERT INTO commands ({', '.join(names)}) VALUES ({values})"  # noqa: S608

    def update(self) -> str:
        """All columns of the rows of one uuid; values by :func:`insert_values`."""
        names = [name for name in COLUMNS if name not in {"id", "uuid"} and name in self.columns]
        cast = {"data_bytes": "CAST(:data_bytes AS TEXT)"} if self.dialect == "sqlite" else {}
        values = ", ".join(f"{name} = {cast.get(name, f':{name}')}" for name in names)
        return f"UPDATE commands SET {values} WHERE uuid = :uuid"  # noqa: S608


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


def _key_time(raw: Sequence[Any]) -> int | str | None:
    """A row's time as part of its key: what isn't an integer is tagged with its type."""
    value = raw[1]
    if value is None or isinstance(value, int):
        return value
    return f"real:{value!r}" if isinstance(value, float) else f"{raw[-1].decode()}:{bytes(value).hex()}"


def _raw(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b"" if value is None else bytes(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value, "utf-8")


def record_of(raw: Sequence[Any]) -> Record | CorruptRecord:
    """The record of a row in the order of :data:`COLUMNS`, or what is wrong with it."""
    row_id, created_at, uuid, instance_id, tenant, workspace, domain, data_type, data, req_ctx = raw[: len(COLUMNS)]
    try:
        name = _text(uuid)
    except (UnicodeError, TypeError):
        return CorruptRecord(f"row {row_id}: the uuid is not UTF-8", location=f"row {row_id}")
    if not name:
        return CorruptRecord(f"row {row_id} has no uuid", location=f"row {row_id}")
    created_at = 0 if created_at is None else created_at
    instance_id = 0 if instance_id is None else instance_id
    for column, value in (("created_at", created_at), ("instance_id", instance_id)):
        if not isinstance(value, int) or not INT64_MIN <= value <= INT64_MAX:
            return CorruptRecord(
                f"row {row_id}: {column} is not an integer", command_uuid=name, location=f"row {row_id}"
            )
    try:
        return codec.plain_record(
            name,
            created_at,
            instance_id,
            _text(tenant),
            _text(workspace),
            _text(domain),
            _text(data_type),
            data if isinstance(data, bytes) else _raw(data),
            _text(req_ctx),
        )
    except (UnicodeError, TypeError):
        return CorruptRecord(f"row {row_id}: a text column is not UTF-8", command_uuid=name, location=f"row {row_id}")


def row_of(raw: Sequence[Any], *, feed: bool = False) -> Row:
    """A row with its key: (created_at, uuid, id) for pages, (created_at, id) for a feed."""
    found = record_of(raw)
    if feed:
        key: Key = (raw[1] if isinstance(raw[1], int) else None, raw[0])
    else:
        key = (_key_time(raw), _raw(raw[2]).hex(), raw[0])
    if isinstance(found, CorruptRecord):
        return Row(key, None, found)
    return Row(key, found)


def anchor_of(raw: Sequence[Any]) -> Anchor:
    """What is remembered of a row to know it again. An unreadable one is known by its bytes."""
    found = record_of(raw)
    if isinstance(found, CorruptRecord):
        digest = codec.digest_of(b"%d:" % len(_raw_or_repr(value)) + _raw_or_repr(value) for value in raw)
        return Anchor(raw[0], None, digest.hex()[:_DIGEST_HEX])
    return Anchor(raw[0], found.command_uuid, found.digest.hex()[:_DIGEST_HEX])


def _raw_or_repr(value: object) -> bytes:
    return _raw(value) if value is None or isinstance(value, str | bytes | memoryview) else repr(value).encode()


def gaps(horizon: int) -> list[int]:
    """The ids near which anchors are taken: horizon, horizon - 1, - 3, - 7, ... down to 1."""
    wanted = [horizon - (2**step - 1) for step in range(_MAX_ANCHORS)]
    return [row_id for row_id in wanted if row_id > 0]


def refusal(record: Record, table: Table) -> InvalidCommand | None:
    """What the columns of this table can't hold of a record; None when they can."""
    uuid = record.command_uuid

    def no(why: str) -> InvalidCommand:
        return InvalidCommand(f"command {uuid!a}: {why}", command_uuid=uuid)

    if record.workspace_uuid and not table.has_workspace:
        return no("this database has no workspace_uuid column (comby's v1.2 has)")
    if table.dialect != "postgresql":
        return None
    if not -_INT32 <= record.instance_id < _INT32:
        return no("instance_id has more than the 32 bits of Postgres' column")
    texts = (uuid, record.tenant_uuid, record.workspace_uuid, record.domain, record.data_type, record.req_ctx)
    if any("\0" in text for text in texts) or b"\0" in record.data:
        return no("Postgres can't hold a NUL byte in text")
    try:
        record.data.decode()
    except UnicodeDecodeError:
        return no("data_bytes is not UTF-8, which comby's column in Postgres is")
    return None


def insert_values(record: Record, table: Table) -> dict[str, Any]:
    """The columns of a record, by name."""
    data: bytes | str = record.data if table.dialect == "sqlite" else record.data.decode()
    return {
        "created_at": record.created_at,
        "uuid": record.command_uuid,
        "instance_id": record.instance_id,
        "tenant_uuid": record.tenant_uuid,
        "workspace_uuid": record.workspace_uuid,
        "domain": record.domain,
        "data_type": record.data_type,
        "data_bytes": data,
        "req_ctx": record.req_ctx,
    }
