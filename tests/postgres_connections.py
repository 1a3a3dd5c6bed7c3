"""Fixtures of a comby database on Postgres and of those who write to it; ``conftest.py`` of a folder takes them in."""

from __future__ import annotations

import psycopg
import pytest

from commandstore import CommandStore
from commandstore.memory import MemoryBackend
from commandstore.testing import comby


@pytest.fixture
def database(postgres_url):
    comby.create_postgres(postgres_url, "C")
    return postgres_url


@pytest.fixture
def connect(database):
    """Connections that are closed, and their transactions with them, before the database is dropped."""
    connections = []

    def one(url=database, **options):
        connections.append(psycopg.connect(url, **options))
        return connections[-1]

    yield one
    for connection in connections:
        connection.close()
    # A database with prepared transactions can't be dropped.
    with psycopg.connect(database, autocommit=True) as last:
        held = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        for (name,) in last.execute(held).fetchall():
            last.execute(f"ROLLBACK PREPARED '{name}'")


@pytest.fixture
def other(connect):
    return connect(autocommit=True)


@pytest.fixture
def destination():
    with CommandStore(MemoryBackend()) as store:
        store.init()
        yield store


def take_an_id(writer):
    """Take a number and nothing else. The first of each 32 gives a transaction its id, so it must not be that one."""
    (taken,) = writer.execute("SELECT nextval('commands_id_seq')").fetchone()
    assert writer.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
    return taken
