"""What an error of Postgres means here: by its SQLSTATE, else by the server's sentence. Pure."""

from __future__ import annotations

import re
from typing import Any

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    InvalidCommand,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
)

__all__ = ["translate"]

_STATES: dict[str, tuple[type[CommandStoreError], str]] = {
    "22P05": (InvalidCommand, "can't hold a character of it in the encoding of this database"),
    "25006": (AccessDenied, "is read-only"),
    "28000": (AccessDenied, "refused the user"),
    "28P01": (AccessDenied, "refused the password"),
    "3D000": (StoreNotFound, "has no such database"),
    "3F000": (StoreNotFound, "has no such schema"),
    "42501": (
        AccessDenied,
        "does not allow this; a read-only sync needs CONNECT, USAGE on the schema, SELECT on commands",
    ),
    "42703": (ConfigurationError, "misses a column of comby's in commands"),
    "42P01": (StoreNotFound, "has no table commands; commandstore init makes one"),
    "53300": (Throttled, "has no connection left"),
    "57014": (StoreUnavailable, "cancelled the statement (a statement_timeout?)"),
}
_CLASSES: dict[str, tuple[type[CommandStoreError], str]] = {
    "08": (StoreUnavailable, "lost the connection; try again"),
    "22": (InvalidCommand, "has no room for a value of it"),
    "23": (InvalidCommand, "has a constraint that refuses it"),
    "28": (AccessDenied, "refused the user"),
    "40": (StoreUnavailable, "rolled the transaction back; try again"),
    "53": (StoreUnavailable, "has no resources left"),
    "54": (InvalidCommand, "has no room for a value of that size"),
    "55": (StoreUnavailable, "has a lock in the way; try again"),
    "57": (StoreUnavailable, "is shutting down or starting up; try again"),
    "58": (StoreUnavailable, "had an error of its system"),
}
_ANOTHER_HOST = "has a certificate for another host name (sslmode=verify-full). Nothing was sent"
_ANOTHER_AUTHORITY = (
    "shows a certificate that is not signed by the authority in sslrootcert, or is out of date; give the file of the "
    "authority that signs it (sslmode=verify-full&sslrootcert=ca.pem). Nothing was sent"
)
# A refused connection has no SQLSTATE; the server's sentence is all that tells. What is more exact stands first.
_SENTENCES: tuple[tuple[str, type[CommandStoreError], str], ...] = (
    ("resolve host", StoreUnavailable, "can't be reached: its host name is not known here"),
    ("translate host name", StoreUnavailable, "can't be reached: its host name is not known here"),
    ("too many", Throttled, "has no connection left"),
    ("connection slots are reserved", Throttled, "has no connection left"),
    ("permission denied for database", AccessDenied, "does not let this role in: it needs CONNECT on the database"),
    ("is not permitted to log in", AccessDenied, "does not let this role log in"),
    ("password authentication failed", AccessDenied, "refused the password"),
    ("no password supplied", AccessDenied, "wants a password, and the URL has none"),
    ("pg_hba.conf", AccessDenied, "does not let this user in from here (pg_hba.conf)"),
    ("authentication failed", AccessDenied, "refused the user"),
    ("authentication method", AccessDenied, "asks for a way to authenticate that the URL does not allow"),
    ("starting up", StoreUnavailable, "is starting up; try again"),
    ("shutting down", StoreUnavailable, "is shutting down; try again"),
    ("not yet accepting connections", StoreUnavailable, "is starting up; try again"),
    ("not currently accepting connections", AccessDenied, "has a database that accepts no connections"),
    ("invalid value for parameter", ConfigurationError, "does not know a value in the URL's options"),
    ("unrecognized configuration parameter", ConfigurationError, "does not know a setting in the URL's options"),
    ("does not support ssl", ConfigurationError, "does not speak TLS, which sslmode demands"),
    ("does not match host name", ConfigurationError, _ANOTHER_HOST),
    ("certificate verify failed", ConfigurationError, _ANOTHER_AUTHORITY),
    ("root certificate file", ConfigurationError, "was not asked: the file of sslrootcert can't be read"),
    ("certificate", ConfigurationError, "and this side do not accept each other's certificates; see sslmode"),
    ("invalid ", ConfigurationError, "can't be reached: a parameter in the URL has no such value"),
    ('role "', AccessDenied, "has no such role"),
    ('database "', StoreNotFound, "has no such database"),
)
_HIDDEN = (
    "has row level security on commands, which would hide rows from this role without an error. For one tenant give "
    "?tenant_uuid=... in the URL and sync with that tenant; for all, use a role with BYPASSRLS"
)
_REFUSED = "has row level security on commands, which refuses what belongs to another tenant than the one in the URL"
# Names come in quotes, and may hold any word.
_QUOTED = re.compile(r"""\"[^"]*\"|'[^']*'""")
# PostgreSQL's own functions that raise these errors: the sentences come in the server's language.
_SECURITY = {"check_enable_rls": _HIDDEN, "ExecWithCheckOptions": _REFUSED}


def translate(error: Any, place: str) -> CommandStoreError:
    """What an error of psycopg means here. Never repeats its text, which may hold values."""
    state = getattr(error, "sqlstate", None)
    if state == "42501":
        raised_by = getattr(getattr(error, "diag", None), "source_function", None)
        if raised_by in _SECURITY:
            return AccessDenied(f"{place} {_SECURITY[raised_by]}")
    if state is not None:
        kind, what = _STATES.get(state) or _CLASSES.get(state[:2]) or (StoreUnavailable, f"answered SQLSTATE {state}")
        return kind(f"{place} {what}")
    said = _QUOTED.sub('""', str(error).lower())
    for sentence, kind, what in _SENTENCES:
        if sentence in said:
            return kind(f"{place} {what}")
    return StoreUnavailable(f"{place} can't be reached; is the server up, and the host and port right?")
