"""A Postgres source under attack, through the sync: nothing is missing after the last commit and one more run."""

from __future__ import annotations

import random
import time

import psycopg
import pytest

from commandstore import open_store, sync_command_store
from commandstore.testing import comby
from postgres_connections import take_an_id

INSERT = "INSERT INTO commands (uuid, created_at) VALUES (%s, %s)"
NEXT = "SELECT nextval('commands_id_seq')"
WITH_ID = "INSERT INTO commands (id, uuid, created_at) VALUES (%s, %s, %s)"


@pytest.fixture
def sync(database, destination):
    """Run once; how many commands were read, and how many copied."""
    with open_store(database, read_only=True) as source:

        def run(**options):
            report = sync_command_store(source, destination, **options)
            assert report.complete
            assert report.conflicts == report.failed == 0
            return report.read, report.copied

        yield run


def uuids(store):
    return {command.command_uuid for command in store.scan()}


def all_there(other, destination):
    rows = other.execute("SELECT uuid FROM commands").fetchall()
    return {uuid for (uuid,) in rows} == uuids(destination)


def test_a_quiet_database_is_read_once(sync, other):
    other.execute("INSERT INTO commands (uuid, created_at) SELECT n, n FROM generate_series(1, 2500) n")
    assert sync() == (2500, 2500)
    assert sync() == (0, 0)


def test_a_transaction_held_open_over_two_runs(sync, connect, other, destination):
    writer = connect()
    writer.execute(INSERT, ["late", 1])
    other.execute(INSERT, ["b", 2])
    assert sync() == (1, 1)
    other.execute(INSERT, ["c", 3])
    assert sync() == (2, 1)
    writer.commit()
    assert sync() == (3, 1)
    assert sync() == (0, 0)
    assert all_there(other, destination)


def test_an_id_taken_long_before_its_row_is_written(sync, connect, other, destination):
    """Between the two the writer has no transaction id: what waits for ids alone would have moved on."""
    other.execute(INSERT, ["first", 0])  # the first number of each 32 gives a transaction its id
    writer = connect()
    low = take_an_id(writer)
    for number in range(3):
        other.execute(INSERT, [f"n{number}", number])
        sync()
    writer.execute(WITH_ID, [low, "late", 0])
    other.execute(INSERT, ["after", 9])
    sync()
    writer.commit()
    assert sync() == (6, 1)
    assert sync() == (0, 0)
    assert all_there(other, destination)


@pytest.mark.parametrize("runs_before", [0, 1])
def test_a_prepared_transaction_that_is_committed_later(sync, connect, other, destination, runs_before):
    other.execute(INSERT, ["a", 2])
    writer = connect()
    (low,) = writer.execute(NEXT).fetchone()
    other.execute(INSERT, ["b", 2])
    for _ in range(runs_before):
        sync()
    writer.execute(WITH_ID, [low, "late", 1])
    writer.execute("PREPARE TRANSACTION 'sync'")
    sync()
    sync()
    other.execute("COMMIT PREPARED 'sync'")
    assert sync() == (3, 1)
    assert sync() == (0, 0)
    assert all_there(other, destination)


def test_what_is_rolled_back_leaves_nothing_to_wait_for(sync, connect, other):
    writer = connect()
    writer.execute(INSERT, ["never", 1])
    other.execute(INSERT, ["b", 2])
    assert sync() == (1, 1)
    writer.rollback()
    assert sync() == (1, 0)
    assert sync() == (0, 0)


def test_more_writers_than_pending_horizons(sync, connect, other, destination):
    writers = [connect() for _ in range(12)]
    for number, writer in enumerate(writers):
        writer.execute(INSERT, [f"w{number}", number])
        other.execute(INSERT, [f"o{number}", number])
        sync()
    for writer in reversed(writers):
        writer.commit()
        sync()
    assert sync() == (0, 0)
    assert all_there(other, destination)


def test_a_row_that_commits_while_the_window_is_walked(database, connect, other, destination):
    writer = connect()
    writer.execute(INSERT, ["late", -1])
    other.execute("INSERT INTO commands (uuid, created_at) SELECT n, n FROM generate_series(1, 50) n")
    with open_store(database, read_only=True) as source:
        # The walk is past its place in the order by then.
        sync_command_store(source, destination, batch_size=10, progress=lambda _: writer.commit())
        sync_command_store(source, destination)
        assert all_there(other, destination)
        assert sync_command_store(source, destination).read == 0


def test_an_older_state_that_is_put_back(sync, other, destination):
    fill = "INSERT INTO commands (uuid, created_at) SELECT '{}' || n, n FROM generate_series({}, {}) n"
    other.execute(fill.format("a", 1, 500))
    sync()
    other.execute(fill.format("b", 501, 900))
    sync()
    with other.transaction():
        other.execute("CREATE TABLE dump AS SELECT * FROM commands WHERE id <= 500")
        other.execute("TRUNCATE commands")
        other.execute("INSERT INTO commands SELECT * FROM dump")
        other.execute("SELECT setval('commands_id_seq', 500)")
    other.execute(fill.format("c", 501, 950))
    assert sync()[1] == 450
    assert sync() == (0, 0)
    assert len(uuids(destination)) == 500 + 400 + 450


def test_another_database_under_the_same_name(postgres, sync, other, destination):
    other.execute("INSERT INTO commands (uuid, created_at) SELECT 'a' || n, n FROM generate_series(1, 300) n")
    sync(source_name="app")
    with postgres.database() as second:
        comby.create_postgres(second, "C")
        with psycopg.connect(second, autocommit=True) as there:
            there.execute("INSERT INTO commands (uuid, created_at) SELECT 'b' || n, n FROM generate_series(1, 400) n")
        with open_store(second, read_only=True) as source:
            assert sync_command_store(source, destination, source_name="app").copied == 400
            assert sync_command_store(source, destination, source_name="app").read == 0
    assert len(uuids(destination)) == 700


def test_a_database_that_is_another_forgets_what_was_pending(sync, connect, other, destination):
    """The mark of a table that is gone would seem to have settled."""
    writer = connect()
    writer.execute(INSERT, ["never", 1])
    other.execute(INSERT, ["b", 2])
    assert sync() == (1, 1)
    writer.rollback()
    other.execute("ALTER TABLE commands RENAME TO kept")
    other.execute("CREATE TABLE commands (LIKE kept INCLUDING ALL)")
    other.execute("ALTER SEQUENCE commands_id_seq OWNED BY commands.id")
    other.execute("INSERT INTO commands SELECT * FROM kept")
    late = connect()
    late.execute("INSERT INTO commands (id, uuid, created_at) VALUES (1, 'late', 1)")
    sync()
    late.commit()
    sync()
    assert all_there(other, destination)


@pytest.mark.parametrize(
    "statement", ["ALTER SEQUENCE commands_id_seq CACHE 20", "CREATE TABLE child () INHERITS (commands)"]
)
def test_without_a_guiding_sequence_the_lag_finds_what_commits_late(sync, connect, other, destination, statement):
    other.execute(statement)
    writer = connect()
    now = time.time_ns()
    writer.execute(INSERT, ["late", now])
    other.execute(INSERT, ["b", now + 5])
    other.execute(INSERT, ["end of time", 2**63 - 1])
    sync()
    writer.commit()
    sync()
    assert all_there(other, destination)


def test_a_run_of_one_tenant_beside_whole_ones(sync, connect, other, destination):
    insert = "INSERT INTO commands (uuid, created_at, tenant_uuid) VALUES (%s, 1, %s)"
    writer = connect()
    writer.execute(insert, ["late", "a"])
    other.execute(insert, ["b", "b"])
    assert sync(tenant_uuid="a") == (0, 0)
    writer.commit()
    assert sync(tenant_uuid="a") == (1, 1)
    assert sync(tenant_uuid="a") == (0, 0)
    assert sync() == (2, 1)
    assert all_there(other, destination)


class Application:
    """Some connections that do at random what an application may do, one step at a time."""

    def __init__(self, connect, seed) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's dice
        self.seed = seed
        # With few of them there are moments in which nobody has a transaction id, and somebody a number.
        self.connections = [connect() for _ in range(1 + seed % 4)]
        self.taken = {connection: [] for connection in self.connections}
        self.prepared = []
        self.count = 0

    def row(self):
        self.count += 1
        return [f"r{self.count}", self.random.randint(-3, 3)]

    def step(self, other) -> None:
        connection = self.random.choice(self.connections)
        actions = (
            "insert",
            "insert",
            "take",
            "use",
            "commit",
            "commit",
            "rollback",
            "prepare",
            "alone",
            "finish",
            "undo",
        )
        action = self.random.choice(actions)
        if action == "insert":
            connection.execute(INSERT, self.row())
        elif action == "take":
            self.taken[connection] += connection.execute(NEXT).fetchone()
        elif action == "use" and self.taken[connection]:
            connection.execute(WITH_ID, [self.taken[connection].pop(0), *self.row()])
        elif action == "alone":
            other.execute(INSERT, self.row())
        elif action == "undo":
            connection.execute("SAVEPOINT s")
            connection.execute(INSERT, self.row())
            connection.execute("ROLLBACK TO s")
        elif action == "finish" and self.prepared:
            self.finish(other, self.prepared.pop(self.random.randrange(len(self.prepared))))
        elif action in {"commit", "rollback", "prepare"}:
            self.end(connection, action)

    def end(self, connection, action) -> None:
        self.taken[connection].clear()
        if action != "prepare" or len(self.prepared) > 4:
            connection.rollback() if action == "rollback" else connection.commit()
            return
        self.count += 1
        name = f"random_{self.seed}_{self.count}"
        connection.execute("SELECT 1")
        connection.execute(f"PREPARE TRANSACTION '{name}'")
        self.prepared.append(name)

    def finish(self, other, name) -> None:
        other.execute(f"{self.random.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{name}'")

    def close(self, other) -> None:
        for connection in self.connections:
            self.end(connection, "commit")
        while self.prepared:
            self.finish(other, self.prepared.pop())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_an_application_does_at_random_nothing_is_lost(sync, connect, other, destination, seed):
    application = Application(connect, seed)
    for _ in range(150):
        application.step(other)
        if application.random.random() < 0.15:
            # Steps fall into the walk as well.
            sync(batch_size=3, progress=lambda _: application.step(other))
    application.close(other)
    sync()
    assert all_there(other, destination)
    assert sync() == (0, 0)
