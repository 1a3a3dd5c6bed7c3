"""What Postgres' errors mean here, and what stays behind after one: nothing."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import psycopg.errors
import pytest

from commandstore import (
    AccessDenied,
    Command,
    CommandStore,
    ConfigurationError,
    InvalidCommand,
    StoreNotFound,
    StoreUnavailable,
    SyncError,
    Throttled,
    open_store,
    sync_command_store,
)
from commandstore.memory import MemoryBackend
from commandstore.sql.postgres_errors import translate
from commandstore.testing import comby
from commandstore.testing.engines import Postgres

STATES = {
    "08006": StoreUnavailable,
    "22003": InvalidCommand,
    "22021": InvalidCommand,
    "22P05": InvalidCommand,
    "23502": InvalidCommand,
    "23505": InvalidCommand,
    "25006": AccessDenied,
    "28000": AccessDenied,
    "28P01": AccessDenied,
    "3D000": StoreNotFound,
    "40001": StoreUnavailable,
    "40P01": StoreUnavailable,
    "42501": AccessDenied,
    "42703": ConfigurationError,
    "42P01": StoreNotFound,
    "53100": StoreUnavailable,
    "53300": Throttled,
    "54000": InvalidCommand,
    "55P03": StoreUnavailable,
    "57014": StoreUnavailable,
    "57P01": StoreUnavailable,
    "57P03": StoreUnavailable,
    "58030": StoreUnavailable,
    "XX000": StoreUnavailable,
}

SENTENCES = {
    'connection failed: FATAL:  password authentication failed for user "database"': AccessDenied,
    'connection failed: FATAL:  role "certificate" does not exist': AccessDenied,
    'connection failed: FATAL:  role "invalid " is not permitted to log in': AccessDenied,
    'connection failed: FATAL:  database "too many" does not exist': StoreNotFound,
    'connection failed: FATAL:  permission denied for database "x"': AccessDenied,
    'connection failed: FATAL:  too many connections for role "x"': Throttled,
    'connection failed: FATAL:  too many connections for database "x"': Throttled,
    "connection failed: FATAL:  sorry, too many clients already": Throttled,
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute": Throttled,
    'FATAL:  no pg_hba.conf entry for host "127.0.0.1", user "a", database "b", no encryption': AccessDenied,
    'FATAL:  pg_hba.conf rejects connection for host "127.0.0.1"': AccessDenied,
    "FATAL:  the database system is starting up": StoreUnavailable,
    "FATAL:  the database system is shutting down": StoreUnavailable,
    "FATAL:  the database system is not yet accepting connections": StoreUnavailable,
    'FATAL:  database "x" is not currently accepting connections': AccessDenied,
    "server does not support SSL, but SSL was required": ConfigurationError,
    'server certificate for "a" does not match host name "b"': ConfigurationError,
    "SSL error: certificate verify failed": ConfigurationError,
    'root certificate file "/root.crt" does not exist': ConfigurationError,
    'invalid sslmode value: "x"': ConfigurationError,
    'invalid port number: "99999"': ConfigurationError,
    "[Errno -2] Name or service not known": StoreUnavailable,
    "failed to resolve host 'database \"invalid\"': [Errno -2] Name or service not known": StoreUnavailable,
    'connection to server at "127.0.0.1", port 1 failed: Connection refused': StoreUnavailable,
    "connection timeout expired": StoreUnavailable,
}


@pytest.mark.parametrize(("state", "kind"), STATES.items())
def test_a_state_of_sql_means_one_of_our_errors(state, kind):
    error = translate(psycopg.errors.lookup(state)("value 'secret' in column"), "postgresql://h/d")
    assert type(error) is kind
    assert str(error).startswith("postgresql://h/d ")
    assert "secret" not in str(error)


@pytest.mark.parametrize(("sentence", "kind"), SENTENCES.items())
def test_a_refused_connection_is_told_by_its_sentence_and_not_by_names_in_it(sentence, kind):
    assert type(translate(psycopg.OperationalError(sentence), "postgresql://h/d")) is kind


OURS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


@pytest.fixture
def database(postgres_url):
    comby.create_postgres(postgres_url, "C")
    comby.insert_postgres(postgres_url, comby.sample_commands(3000))
    return postgres_url


@pytest.fixture
def other(database):
    with psycopg.connect(database, autocommit=True) as connection:
        until_the_others_are_gone(connection)
        yield connection


@pytest.fixture
def destination():
    with CommandStore(MemoryBackend()) as store:
        store.init()
        yield store


def until_the_others_are_gone(connection):
    """The server shows a session until its process has ended, some time after it was closed."""
    deadline = time.monotonic() + 60
    while left := connection.execute(f"SELECT pid, state, query {OURS}").fetchall():
        assert time.monotonic() < deadline, left
        connection.execute("SELECT pg_sleep(0.01)")


def end_our_connections(other):
    return len(other.execute(f"SELECT pg_terminate_backend(pid, 60000) {OURS}").fetchall())


def test_connections_that_died_in_the_pool_are_replaced_unseen(database, other):
    with open_store(database) as store:
        for _ in range(3):
            assert store.total() >= 3000
            assert end_our_connections(other) == 1
            store.create(Command(f"c{time.monotonic_ns()}", 1))
            assert end_our_connections(other) == 1


@pytest.mark.parametrize("call", ["total", "list", "get", "create", "info"])
def test_a_server_that_is_gone_is_unavailable_and_nothing_else(new_engine, call):
    server = new_engine(Postgres)
    comby.create_postgres(server.url, "C")
    with open_store(server.url) as store:
        server.stop()
        arguments = {"get": ["x"], "create": [Command("x", 1, data_bytes=b"secret")]}.get(call, [])
        with pytest.raises(StoreUnavailable, match="can't be reached") as caught:
            getattr(store, call)(*arguments)
        assert "secret" not in str(caught.value)


def test_a_scan_that_loses_its_server_stops_with_an_error(postgres, database, other):
    name = database.rpartition("/")[2]
    with (
        open_store(database, read_only=True) as store,
        psycopg.connect(postgres.url, autocommit=True) as maintenance,
    ):
        scan = store.scan()
        seen = [next(scan) for _ in range(1500)]
        maintenance.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        end_our_connections(other)
        with pytest.raises(AccessDenied, match="accepts no connections"):
            seen += list(scan)
        maintenance.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert list(store.scan())[: len(seen)] == seen
        assert store.total() == 3000


def test_a_server_that_crashes_in_the_middle_of_a_sync_stops_it_and_the_next_run_ends_it(new_engine, destination):
    server = new_engine(Postgres)
    comby.create_postgres(server.url, "C")
    comby.insert_postgres(server.url, comby.sample_commands(2000))
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")  # these servers keep nothing else over a crash

    crashes = iter([True])

    def crash(_):
        if not next(crashes, False):  # batches that were in flight are reported too
            return
        with psycopg.connect(server.url) as connection:
            # One killed session makes Postgres restart with all of them gone.
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep_for('1 minute')")

    with open_store(server.url, read_only=True) as store:
        with pytest.raises(SyncError) as caught:
            sync_command_store(store, destination, batch_size=100, progress=crash, concurrency=1)
        assert isinstance(caught.value.__cause__, StoreUnavailable)
        assert not caught.value.report.complete
        deadline = time.monotonic() + 60
        while True:
            try:
                report = sync_command_store(store, destination)
                break
            except SyncError:
                assert time.monotonic() < deadline
        assert report.copied == 2000 - caught.value.report.copied
        assert sync_command_store(store, destination).read == 0
        assert destination.total() == 2000


# What is left behind


def test_after_every_call_no_transaction_is_open_and_the_source_is_what_it_was(database, other, destination):
    everything = (
        "SELECT (SELECT array_agg(relname ORDER BY 1) FROM pg_class WHERE relnamespace = 'public'::regnamespace), "
        "(SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM commands c), (SELECT last_value FROM commands_id_seq)"
    )
    before = other.execute(everything).fetchone()
    xmax = "SELECT pg_snapshot_xmax(pg_current_snapshot())"
    (first,) = other.execute(xmax).fetchone()
    with open_store(database, read_only=True) as store:
        some = next(store.scan())
        calls = [
            store.total,
            store.info,
            lambda: store.list(limit=10, offset=20),
            lambda: store.get(some.command_uuid),
            lambda: store.total(session_uuid="x"),
            lambda: sync_command_store(store, destination),
            lambda: sync_command_store(store, destination, dry_run=True, resume_from_dest=False),
            lambda: [next(scan) for scan in [store.scan()] for _ in range(10)],
        ]
        for call in calls:
            call()
            held = other.execute(f"SELECT state, backend_xmin, query {OURS}").fetchall()
            assert all((state, xmin) == ("idle", None) for state, xmin, _ in held), held
            locks = f"SELECT 1 FROM pg_locks WHERE pid IN (SELECT pid {OURS}) AND locktype = 'relation'"  # noqa: S608
            assert not other.execute(locks).fetchall()
    assert other.execute(everything).fetchone() == before
    assert other.execute(xmax).fetchone() == (first,), "a reader took a transaction id"
    until_the_others_are_gone(other)


def test_what_reads_can_not_write(database):
    with open_store(database) as store:
        backend = store.core.backend
        for reading in (backend._reading, backend._snapshot):
            store.create(Command(reading.__name__, 1))  # the connection of a writer goes back to the pool in between
            with pytest.raises(AccessDenied, match="is read-only"), reading() as connection:
                connection.exec_driver_sql("DELETE FROM commands")
        assert store.total() == 3002


def test_a_walk_holds_back_neither_vacuum_nor_the_application_between_its_pages(database, other, destination):
    looked = []

    def look(progress):
        # The next pages may be read ahead meanwhile; but the walk can't end before this returns.
        deadline = time.monotonic() + 60
        while other.execute(f"SELECT 1 {OURS} AND backend_xmin IS NOT NULL").fetchall():
            assert time.monotonic() < deadline
        other.execute("SET lock_timeout = '60s'")
        other.execute("ALTER TABLE commands SET (fillfactor = 90)")  # waits for whoever still reads
        other.execute("UPDATE commands SET domain = domain WHERE id = 1")
        looked.append(progress)

    with open_store(database, read_only=True) as store:
        sync_command_store(store, destination, batch_size=500, progress=look)
    assert len(looked) == 6
