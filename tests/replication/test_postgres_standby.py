"""A standby as source: the primary's writers can't be seen from there, and nothing is lost all the same."""

from __future__ import annotations

import psycopg
import pytest

from commandstore import open_store, sync_command_store
from commandstore.sql import postgres_facts
from commandstore.testing import comby
from commandstore.testing.engines import Postgres
from postgres_connections import take_an_id

INSERT = "INSERT INTO commands (uuid, created_at) VALUES (%s, 1)"


@pytest.fixture(scope="module")
def servers():
    with Postgres() as primary:
        comby.create_postgres(primary.url, "C")
        with Postgres.standby(primary) as standby:
            yield primary.url, standby.url


@pytest.fixture
def primary(servers):
    with psycopg.connect(servers[0], autocommit=True) as connection:
        connection.execute("SET synchronous_commit = on")
        connection.execute("TRUNCATE commands")
        yield connection


@pytest.fixture
def writer(servers):
    with psycopg.connect(servers[0]) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def sync(servers, primary, destination):
    """Run once when the standby has all that is committed; how many commands were read, and how many copied."""
    with open_store(servers[1], read_only=True) as source, psycopg.connect(servers[1], autocommit=True) as standby:

        def run():
            primary.execute("SELECT pg_current_xact_id()")  # a commit that is flushed, and all before it
            (reached,) = primary.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            while standby.execute("SELECT pg_last_wal_replay_lsn() < %s", [reached]).fetchone()[0]:
                pass
            report = sync_command_store(source, destination)
            return report.read, report.copied

        yield run


def test_an_id_that_was_taken_long_before_its_row_is_found(sync, primary, writer, destination):
    """On the primary a lock shows its taker; here nothing does, until a while has passed."""
    primary.execute(INSERT, ["first"])  # the first number of each 32 gives a transaction its id
    low = take_an_id(writer)
    primary.execute(INSERT, ["b"])
    assert sync() == (2, 2)
    assert sync() == (2, 0)
    writer.execute("INSERT INTO commands (id, uuid, created_at) VALUES (%s, 'late', 0)", [low])
    sync()
    writer.commit()
    assert sync() == (3, 1)
    assert destination.get("late") is not None


def test_after_that_while_a_horizon_settles_when_older_transactions_have_ended(sync, primary, writer, monkeypatch):
    monkeypatch.setattr(postgres_facts, "STANDBY_SECONDS", 0)
    writer.execute(INSERT, ["late"])
    primary.execute(INSERT, ["b"])
    assert sync() == (1, 1)
    assert sync() == (1, 0)
    writer.commit()
    assert sync() == (2, 1)
    assert sync() == (0, 0)
