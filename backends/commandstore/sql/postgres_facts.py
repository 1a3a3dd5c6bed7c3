"""How a Postgres database is opened, and what it says of its sequence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
)

__all__ = ["LIBPQ_OPTIONS", "Settlement", "identity", "is_settled", "settlement", "translate"]

LIBPQ_OPTIONS = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssencmode", "host", "hostaddr", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "passfile", "port", "require_auth",
    "service", "sslcert", "sslcertmode", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
    "target_session_attrs", "tcp_user_timeout",
})  # fmt: skip
"""Parameters of libpq that a URL may carry, as its documentation names them."""

# Whoever may still bring a row holds one of these on the table or its sequence. VACUUM and CREATE INDEX take others.
_WRITING = ("RowExclusiveLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")

_SEQUENCE = text("""
SELECT c.oid AS relation, s.seqrelid AS sequence, pg_is_in_recovery() AS recovering
FROM pg_class c
JOIN pg_sequence s ON s.seqrelid = CAST(pg_get_serial_sequence('commands', 'id') AS regclass)
WHERE c.oid = CAST('commands' AS regclass) AND c.relkind = 'r'
  AND s.seqcache = 1 AND s.seqincrement = 1 AND NOT s.seqcycle
  AND NOT EXISTS (SELECT 1 FROM pg_subscription_rel r WHERE r.srrelid = c.oid)
  AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhparent = c.oid)
""")

_LAST_VALUE = text("""
SELECT CASE WHEN has_sequence_privilege(:sequence, 'SELECT, USAGE') THEN pg_sequence_last_value(:sequence) END
""")

_IN_FLIGHT = text("""
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS xmin,
       CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS xmax,
       ARRAY(
         SELECT DISTINCT l.virtualtransaction FROM pg_locks l
         WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.relation IN (:relation, :sequence) AND l.mode = ANY(:modes)
         ORDER BY 1
       ) AS holders
""")


@dataclass(frozen=True, slots=True)
class Settlement:
    """Who may still bring a row, at one moment.

    Attributes:
        xmin: every transaction with a lower id has ended.
        xmax: the first id that no transaction had yet.
        holders: the transactions that hold a writer's lock on the table or its sequence; a prepared one is ``-1/...``.
        recovering: a standby, where the primary's locks can't be seen.
    """

    xmin: int
    xmax: int
    holders: frozenset[str]
    recovering: bool

    def mark(self) -> str | None:
        """What must pass before rows up to an id that was read *before* this can no longer appear; None: nothing."""
        if not self.holders and not self.recovering and self.xmin == self.xmax:
            return None
        return json.dumps({"xmax": self.xmax, "holders": sorted(self.holders)})


def is_settled(mark: str, now: Settlement) -> bool:
    """Whether all that a mark waits for has passed.

    Locks say it exactly, transaction ids cover a standby: both must agree. A prepared transaction goes by another name
    than before, so while one holds a lock, nothing settles.
    """
    waited = json.loads(mark)
    prepared = any(holder.startswith("-1/") for holder in now.holders)
    return waited["xmax"] <= now.xmin and not prepared and now.holders.isdisjoint(waited["holders"])


@dataclass(frozen=True, slots=True)
class Sequence:
    """The table and its sequence, by object id."""

    relation: int
    sequence: int
    recovering: bool


def sequence_of(connection: Connection) -> Sequence | None:
    """The sequence that numbers ``commands``, where its numbers are a guide.

    None where there is none, where it hands out numbers in blocks or backwards or in circles, where the table has
    children, and where rows arrive by logical replication with the numbers of another database.
    """
    found = connection.execute(_SEQUENCE).one_or_none()
    return Sequence(found.relation, found.sequence, found.recovering) if found else None


def hands_out(connection: Connection, sequence: Sequence, horizon: int) -> bool:
    """Whether ids up to the horizon came from the sequence: one that lies behind them did not number these rows.

    Without the privilege to look, it is taken to be so.
    """
    last = connection.execute(_LAST_VALUE, {"sequence": sequence.sequence}).scalar()
    return last is None or last >= horizon


def settlement(connection: Connection, sequence: Sequence) -> Settlement:
    """Who may still bring a row now. Asked after a horizon is read, it covers all who may still bring one up to it."""
    found = connection.execute(
        _IN_FLIGHT,
        {"relation": sequence.relation, "sequence": sequence.sequence, "modes": list(_WRITING)},
    ).one()
    return Settlement(int(found.xmin), int(found.xmax), frozenset(found.holders), sequence.recovering)


def identity(connection: Connection) -> str:
    """Which database this is: system identifier and timeline where they may be read, and the database's id."""
    oid = connection.execute(text("SELECT oid FROM pg_database WHERE datname = current_database()")).scalar_one()
    parts = [str(oid)]
    for function, column in (("pg_control_system()", "system_identifier"), ("pg_control_checkpoint()", "timeline_id")):
        may = text("SELECT has_function_privilege(:function, 'EXECUTE')")
        if connection.execute(may, {"function": function}).scalar_one():
            parts.append(str(connection.execute(text(f"SELECT {column} FROM {function}")).scalar_one()))  # noqa: S608
    return "/".join(parts)


_STATES: dict[str, tuple[type[CommandStoreError], str]] = {
    "28P01": (AccessDenied, "refused the password"),
    "28000": (AccessDenied, "refused the user"),
    "3D000": (StoreNotFound, "has no such database"),
    "3F000": (StoreNotFound, "has no such schema"),
    "42P01": (StoreNotFound, "has no table commands; commandstore init makes one"),
    "42501": (
        AccessDenied,
        "does not allow this; a read-only sync needs CONNECT, USAGE on the schema, SELECT on commands",
    ),
    "25006": (AccessDenied, "is read-only"),
    "53300": (Throttled, "has no connection left"),
    "57014": (StoreUnavailable, "cancelled the statement (a statement_timeout?)"),
}
_CLASSES: dict[str, tuple[type[CommandStoreError], str]] = {
    "08": (StoreUnavailable, "lost the connection; try again"),
    "28": (AccessDenied, "refused the user"),
    "40": (StoreUnavailable, "rolled the transaction back; try again"),
    "53": (StoreUnavailable, "has no resources left"),
    "55": (StoreUnavailable, "has a lock in the way; try again"),
    "57": (StoreUnavailable, "is shutting down or starting up; try again"),
    "58": (StoreUnavailable, "had an error of its system"),
}
# A refused connection has no SQLSTATE; the server's sentence is all that tells.
_SENTENCES: tuple[tuple[str, type[CommandStoreError], str], ...] = (
    ("password authentication failed", AccessDenied, "refused the password"),
    ("no password supplied", AccessDenied, "wants a password, and the URL has none"),
    ("no pg_hba.conf entry", AccessDenied, "does not let this user in from here (pg_hba.conf)"),
    ("authentication failed", AccessDenied, "refused the user"),
    ('role "', AccessDenied, "has no such role"),
    ('database "', StoreNotFound, "has no such database"),
    ("too many clients", Throttled, "has no connection left"),
    ("certificate", ConfigurationError, "has a certificate that sslmode does not accept"),
    ("server does not support ssl", ConfigurationError, "does not speak TLS, which sslmode demands"),
    ("invalid sslmode", ConfigurationError, "can't be reached: sslmode has no such value"),
)
_RLS = (
    "has row level security on commands, which would hide rows from this role without an error. For one tenant give "
    "?tenant_uuid=... in the URL and sync with that tenant; for all, use a role with BYPASSRLS"
)


def translate(error: Any, place: str) -> CommandStoreError:
    """What an error of psycopg means here: by its SQLSTATE, else by the server's sentence. Never repeats its text."""
    state = getattr(error, "sqlstate", None)
    said = str(error).lower()
    if state == "42501" and "row-level security" in said:
        return AccessDenied(f"{place} {_RLS}")
    if state is not None:
        kind, what = _STATES.get(state) or _CLASSES.get(state[:2]) or (StoreUnavailable, f"answered SQLSTATE {state}")
        return kind(f"{place} {what}")
    for sentence, kind, what in _SENTENCES:
        if sentence in said:
            return kind(f"{place} {what}")
    return StoreUnavailable(f"{place} can't be reached; is the server up, and the host and port right?")
