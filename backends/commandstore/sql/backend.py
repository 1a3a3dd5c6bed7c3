"""From a URL to a SQL backend."""

from __future__ import annotations

from pathlib import Path

from commandstore.errors import ConfigurationError
from commandstore.sql.postgres import PostgresBackend
from commandstore.sql.postgres_facts import LIBPQ_OPTIONS
from commandstore.sql.shared import SqlBackend
from commandstore.sql.sqlite import SqliteBackend
from commandstore.url import StoreUrl

__all__ = ["PostgresBackend", "SqlBackend", "SqliteBackend", "from_url"]


def from_url(url: StoreUrl) -> SqlBackend:
    """``sqlite:///app.db``, ``sqlite:////absolute/app.db``, or ``postgresql://user:password@host:port/database?...``.

    Raises:
        ConfigurationError: something in it can't be right.
    """
    if url.scheme == "sqlite":
        url.only(())
        if url.host:
            # Not shown: a password may stand there.
            raise ConfigurationError(
                "sqlite: write three slashes before the path, sqlite:///app.db (four for an absolute one); a file has "
                "no host, user or password"
            )
        if not url.path or url.path == ":memory:":
            raise ConfigurationError("a SQLite store is a file: sqlite:///app.db (in memory there is memory://)")
        return SqliteBackend(Path(url.path))
    options = dict(url.only(LIBPQ_OPTIONS | {"tenant_uuid"}))
    tenant = options.pop("tenant_uuid", None)
    return PostgresBackend(url.text, tenant, options)
