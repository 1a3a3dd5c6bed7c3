"""What a Postgres database says of its table and its sequence, and what its errors mean."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from commandstore.codec import Record
from commandstore.sql import layout
from commandstore.sql.layout import Table
from commandstore.sql.values import insert_values

__all__ = [
    "LIBPQ_OPTIONS",
    "Settlement",
    "by_ids",
    "columns_of",
    "hands_out",
    "hides_rows",
    "identity",
    "insert_new",
    "is_elsewhere",
    "is_settled",
    "large_by_ids",
    "sequence_of",
    "settlement",
    "table_of",
]

LIBPQ_OPTIONS = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssencmode", "host", "hostaddr", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "passfile", "port", "require_auth",
    "service", "sslcert", "sslcertmode", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
    "target_session_attrs", "tcp_user_timeout",
})  # fmt: skip
"""Parameters of libpq that a URL may carry, as its documentation names them."""

_COLUMNS = text("""
SELECT attname FROM pg_attribute WHERE attrelid = CAST('commands' AS regclass) AND attnum > 0 AND NOT attisdropped
""")

_INDEXES = text("""
SELECT i.indisunique AND i.indnkeyatts = 1 AND a.attname = 'uuid' AS unique_uuid, a.attname = 'created_at' AS timed
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = CAST('commands' AS regclass) AND i.indpred IS NULL AND i.indisvalid
""")

# Whoever may still bring a row holds one of these on the table or its sequence. VACUUM and CREATE INDEX take others.
_WRITING = ("RowExclusiveLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")

# The default of `id` must take its numbers from this very sequence: a column may own one and be filled from another.
_SEQUENCE = text("""
SELECT c.oid AS relation, s.seqrelid AS sequence, pg_is_in_recovery() AS recovering
FROM pg_class c
JOIN pg_sequence s ON s.seqrelid = CAST(pg_get_serial_sequence('commands', 'id') AS regclass)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'
WHERE c.oid = CAST('commands' AS regclass) AND c.relkind = 'r' AND NOT c.relispartition
  AND s.seqcache = 1 AND s.seqincrement = 1 AND NOT s.seqcycle
  AND (a.attidentity <> '' OR EXISTS (
    SELECT 1 FROM pg_attrdef f
    JOIN pg_depend d ON d.classid = CAST('pg_attrdef' AS regclass) AND d.objid = f.oid
    WHERE f.adrelid = c.oid AND f.adnum = a.attnum
      AND d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = s.seqrelid))
  AND NOT EXISTS (SELECT 1 FROM pg_subscription_rel r WHERE r.srrelid = c.oid)
  AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid))
""")

_NUMBERED = text("""
SELECT has_sequence_privilege(:sequence, 'SELECT, USAGE') AS may_look,
       CASE WHEN has_sequence_privilege(:sequence, 'SELECT, USAGE') THEN pg_sequence_last_value(:sequence) END AS last,
       (SELECT MIN(id) FROM commands) AS lowest
""")

_IN_FLIGHT = text("""
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS xmin,
       CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS xmax,
       CAST(EXTRACT(epoch FROM clock_timestamp()) AS bigint) AS seconds,
       ARRAY_AGG(DISTINCT l.virtualtransaction) AS holders,
       COALESCE(BOOL_OR(l.pid IS NULL), false) AS prepared
FROM pg_locks l
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (:relation, :sequence) AND l.mode = ANY(:modes)
""")

STANDBY_SECONDS = 600
"""How long a horizon of a standby waits besides: the locks of writers can't be seen there."""


def table_of(connection: Connection) -> Table:
    """What there is of ``commands``; it must be there."""
    columns = connection.execute(_COLUMNS).scalars()
    indexes = connection.execute(_INDEXES).all()
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    return Table(
        "postgresql",
        frozenset(columns),
        unique_uuid=any(index.unique_uuid for index in indexes),
        indexed_time=any(index.timed for index in indexes),
        encoding=encoding,
        codec=codec_of(encoding),
    )


def is_elsewhere(connection: Connection) -> bool:
    """Whether there is a table of this name that can't be named by this role without its schema."""
    sql = "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'commands' AND relkind IN ('r', 'p', 'v', 'm', 'f'))"
    return bool(connection.exec_driver_sql(sql).scalar_one())


def hides_rows(connection: Connection) -> bool:
    """Whether row level security stands between this role and the table."""
    return bool(connection.exec_driver_sql("SELECT row_security_active('commands')").scalar_one())


def codec_of(encoding: str) -> str | None:
    """Python's name for a server's encoding; None where it has none, or where any bytes go."""
    if encoding in {"UTF8", "SQL_ASCII"}:
        return None
    for name in (encoding, encoding.replace("WIN", "cp"), encoding.replace("KOI8", "koi8_").lower()):
        try:
            return codecs.lookup(name).name
        except LookupError:
            continue
    return None


_SIZE = "COALESCE(octet_length(data_bytes), 0) + COALESCE(octet_length(req_ctx), 0)"
"""Of a payload; ``octet_length`` knows it without reading it."""


def by_ids(table: Table) -> str:
    """Rows of the ids ``:ids`` in any order; none where they have ``:bytes`` of payload or more together."""
    size = f"SELECT COALESCE(SUM({_SIZE}), 0) FROM commands WHERE id = ANY(CAST(:ids AS bigint[]))"  # noqa: S608
    return f"SELECT {table.selected} FROM commands WHERE id = ANY(CAST(:ids AS bigint[])) AND :bytes > ({size})"  # noqa: S608


def large_by_ids(table: Table) -> str:
    """Rows of the ids ``:ids`` in their order, until ``:bytes`` of payload are passed; at least one of those there are.

    Takes the server half as long again as :func:`by_ids`.
    """
    before = f"SUM({_SIZE}) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    wanted = "unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (wanted_id, place)"
    sized = f"SELECT commands.*, place, {before} AS before FROM {wanted} JOIN commands ON id = wanted_id"  # noqa: S608
    return f"SELECT {table.selected} FROM ({sized}) AS sized WHERE COALESCE(before, 0) < :bytes ORDER BY place"  # noqa: S608


# Writing

_TYPES = {"created_at": "bigint", "instance_id": "int"}


def insert_new(table: Table) -> str:
    """Insert many rows, except where a uuid is there; answers with the uuids that were inserted."""
    names = [name for name in layout.COLUMNS if name != "id" and name in table.columns]
    columns = ", ".join(names)
    arrays = ", ".join(f"CAST(:{name} AS {_TYPES.get(name, 'text')}[])" for name in names)
    return (
        f"INSERT INTO commands ({columns}) SELECT * FROM unnest({arrays}) "  # noqa: S608 - our own names
        "ON CONFLICT (uuid) DO NOTHING RETURNING uuid"
    )


def columns_of(records: Many[Record], table: Table) -> dict[str, list[Any]]:
    """The parameters of :func:`insert_new`."""
    rows = [insert_values(record, table) for record in records]
    return {name: [row[name] for row in rows] for name in layout.COLUMNS if name != "id" and name in table.columns}


# What is new


@dataclass(frozen=True, slots=True)
class Settlement:
    """Who may still bring a row, at one moment.

    Attributes:
        xmin: every transaction with a lower id has ended.
        xmax: the first id that no transaction had yet.
        holders: the transactions that hold a writer's lock on the table or its sequence.
        prepared: a prepared transaction holds one. It may go by another name than before it was prepared.
        recovering: a standby, where the primary's locks can't be seen.
        seconds: the server's clock.
    """

    xmin: int
    xmax: int
    holders: frozenset[str]
    prepared: bool = False
    recovering: bool = False
    seconds: int = 0

    def mark(self) -> str | None:
        """What must pass before rows up to an id that was read *before* this can no longer appear; None: nothing."""
        if not self.holders and not self.recovering and self.xmin == self.xmax:
            return None
        mark: dict[str, Any] = {"xmax": self.xmax, "holders": sorted(self.holders)}
        return json.dumps(mark | ({"until": self.seconds + STANDBY_SECONDS} if self.recovering else {}))


def is_settled(mark: str, now: Settlement) -> bool:
    """Whether all that a mark waits for has passed.

    Locks say it exactly, transaction ids cover a standby: both must agree. A prepared transaction may go by another
    name than before, so while one holds a lock, nothing settles. On a standby neither says anything of a transaction
    that has its number in the sequence and has written nothing yet, so a time is waited for as well.
    """
    try:
        waited = json.loads(mark)
        return bool(
            waited["xmax"] <= now.xmin
            and not now.prepared
            and now.holders.isdisjoint(waited["holders"])
            and waited.get("until", 0) <= now.seconds
        )
    except (ValueError, TypeError, KeyError):
        return False  # it was altered in the checkpoint; a later horizon has a mark that can be read


@dataclass(frozen=True, slots=True)
class Sequence:
    """The table and its sequence, by object id."""

    relation: int
    sequence: int
    recovering: bool


def sequence_of(connection: Connection) -> Sequence | None:
    """The sequence that numbers ``commands``, where its numbers are a guide.

    None where there is none or another one fills the column, where it hands out numbers in blocks or backwards or in
    circles, where the table is part of a larger one or has parts, and where rows arrive by logical replication with the
    numbers of another database.
    """
    found = connection.execute(_SEQUENCE).one_or_none()
    return Sequence(found.relation, found.sequence, found.recovering) if found else None


def hands_out(connection: Connection, sequence: Sequence, horizon: int) -> bool:
    """Whether all ids up to the horizon came from the sequence: one that lies behind them did not number these rows.

    Without the privilege to look, it is taken to be so. Ids that are not positive lie below every window.
    """
    found = connection.execute(_NUMBERED, {"sequence": sequence.sequence}).one()
    if found.lowest is not None and found.lowest <= 0:
        return False
    return not found.may_look or (found.last or 0) >= horizon


def settlement(connection: Connection, sequence: Sequence) -> Settlement:
    """Who may still bring a row now. Asked after a horizon is read, it covers all who may still bring one up to it."""
    found = connection.execute(
        _IN_FLIGHT,
        {"relation": sequence.relation, "sequence": sequence.sequence, "modes": list(_WRITING)},
    ).one()
    return Settlement(
        int(found.xmin),
        int(found.xmax),
        frozenset(found.holders or ()),
        prepared=found.prepared,
        recovering=sequence.recovering,
        seconds=found.seconds,
    )


def identity(connection: Connection, sequence: Sequence) -> str:
    """Which table this is: its id, its database's, and system identifier and timeline where they may be read."""
    oid = connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()")).scalar_one()
    parts = [str(oid), str(sequence.relation)]
    for function, column in (("pg_control_system()", "system_identifier"), ("pg_control_checkpoint()", "timeline_id")):
        may = text("SELECT has_function_privilege(:function, 'EXECUTE')")
        if connection.execute(may, {"function": function}).scalar_one():
            parts.append(str(connection.execute(text(f"SELECT {column} FROM {function}")).scalar_one()))  # noqa: S608
    return "/".join(parts)
