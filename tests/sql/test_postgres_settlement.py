"""When a horizon has settled: what Postgres shows of those who may still bring a row below it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from commandstore.drive import BlockingDrive, run
from commandstore.sql.postgres import PostgresBackend
from commandstore.sql.postgres_facts import STANDBY_SECONDS, Settlement, is_settled
from commandstore.testing import comby
from postgres_connections import take_an_id

INSERT = "INSERT INTO commands (uuid, created_at) VALUES (%s, 1) RETURNING id"
NEXT = "SELECT nextval(pg_get_serial_sequence('commands', 'id'))"
LOCKS = (
    "SELECT CAST(CAST(relation AS regclass) AS text) FROM pg_locks WHERE pid = %s AND mode = 'RowExclusiveLock' "
    "AND locktype = 'relation' ORDER BY 1"
)


@contextmanager
def opened(url):
    backend = PostgresBackend(url)
    run(backend.open(BlockingDrive(), create=False))
    try:
        yield backend
    finally:
        run(backend.close())


@pytest.fixture
def source(database):
    with opened(database) as backend:
        yield backend


@pytest.fixture
def writer(connect):
    return connect()


def state(source, *marks):
    return run(source.sequence_state((), marks))


def test_a_writer_locks_the_table_before_its_id_is_taken(connect, other):
    """What the rule stands on: a default that waits shows the locks of the very moment before ``nextval``."""
    other.execute(
        "CREATE FUNCTION held_up() RETURNS bigint LANGUAGE sql AS "
        "$$ SELECT pg_advisory_xact_lock(1); SELECT nextval('commands_id_seq') $$"
    )
    other.execute("ALTER TABLE commands ALTER COLUMN id SET DEFAULT held_up()")
    other.execute("SELECT pg_advisory_lock(1)")
    writer = connect(autocommit=True)
    pid = writer.info.backend_pid
    with ThreadPoolExecutor(1) as pool:
        try:
            insert = pool.submit(writer.execute, INSERT, ["a"])
            waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
            while not other.execute(waits, [pid]).fetchone():
                assert not insert.done()
            assert other.execute(LOCKS, [pid]).fetchall() == [("commands",)]
            assert other.execute("SELECT is_called FROM commands_id_seq").fetchone() == (False,)
        finally:
            other.execute("SELECT pg_advisory_unlock(1)")
        assert insert.result().fetchone() == (1,)


def test_an_id_taken_by_hand_locks_its_sequence_until_the_transaction_ends(writer, other):
    writer.execute("SAVEPOINT a")
    writer.execute(NEXT)
    writer.execute("ROLLBACK TO a")
    assert other.execute(LOCKS, [writer.info.backend_pid]).fetchall() == [("commands_id_seq",)]
    writer.rollback()
    assert other.execute(LOCKS, [writer.info.backend_pid]).fetchall() == []


def test_a_quiet_database_has_settled_at_once(source, other):
    other.execute(INSERT, ["a"])
    now = state(source)
    assert (now.horizon, now.mark) == (1, None)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_nothing_settles_while_a_lower_id_is_on_its_way(source, writer, other, at_once, end):
    other.execute(INSERT, ["a"])
    taken = writer.execute(INSERT, ["late"]).fetchone()[0] if at_once else take_an_id(writer)
    other.execute(INSERT, ["b"])
    first = state(source)
    assert (taken, first.horizon) == (2, 3)
    second = state(source, first.mark)
    assert second.settled_marks == (False,)
    if not at_once:
        writer.execute("INSERT INTO commands (id, uuid) VALUES (%s, 'late')", [taken])
        assert state(source, first.mark, second.mark).settled_marks == (False, False)
    getattr(writer, end)()
    last = state(source, first.mark, second.mark)
    assert last.settled_marks == (True, True)
    assert last.mark is None


def test_a_writer_that_began_after_the_mark_does_not_hold_it_back(source, connect, other):
    first_writer, second_writer = connect(), connect()
    first_writer.execute(INSERT, ["a"])
    other.execute(INSERT, ["b"])
    mark = state(source).mark
    second_writer.execute(INSERT, ["c"])
    first_writer.commit()
    now = state(source, mark)
    assert now.settled_marks == (True,)
    assert now.mark is not None


@pytest.mark.parametrize("prepared_first", [True, False])
def test_a_prepared_transaction_holds_everything_back(source, writer, other, prepared_first):
    other.execute(INSERT, ["a"])
    taken = take_an_id(writer)
    other.execute(INSERT, ["b"])
    mark = None if prepared_first else state(source).mark
    writer.execute("INSERT INTO commands (id, uuid) VALUES (%s, 'late')", [taken])
    writer.execute("PREPARE TRANSACTION 'held'")
    mark = mark or state(source).mark
    assert mark is not None
    assert state(source, mark).settled_marks == (False,)
    other.execute("COMMIT PREPARED 'held'")
    assert state(source, mark).settled_marks == (True,)


def test_a_prepared_transaction_that_goes_by_another_name_still_holds_back():
    """After a restart of the server its name is another one, and its id may be above the mark's."""
    mark = Settlement(5, 5, frozenset({"3/7"})).mark()
    assert not is_settled(mark, Settlement(9, 9, frozenset({"-1/8"}), prepared=True))
    assert is_settled(mark, Settlement(9, 9, frozenset()))


def test_a_standby_waits_for_a_while_besides():
    mark = Settlement(5, 5, frozenset(), recovering=True, seconds=1_000).mark()
    assert not is_settled(mark, Settlement(9, 9, frozenset(), recovering=True, seconds=999 + STANDBY_SECONDS))
    assert is_settled(mark, Settlement(9, 9, frozenset(), recovering=True, seconds=1_000 + STANDBY_SECONDS))


def test_savepoints_and_their_subtransactions_hold_back_as_one(source, writer, other):
    writer.execute("SAVEPOINT one")
    writer.execute(INSERT, ["gone"])
    writer.execute("ROLLBACK TO one")
    writer.execute("SAVEPOINT two")
    writer.execute(INSERT, ["stays"])
    writer.execute("RELEASE two")
    other.execute(INSERT, ["c"])
    mark = state(source).mark
    assert state(source, mark).settled_marks == (False,)
    writer.commit()
    assert state(source, mark).settled_marks == (True,)


def test_a_long_write_elsewhere_holds_back_and_settles_when_it_ends(source, postgres, connect, other):
    other.execute("CREATE TABLE elsewhere (n int)")
    here, there = connect(), connect(postgres.url)
    here.execute("INSERT INTO elsewhere VALUES (1)")
    there.execute("SELECT pg_current_xact_id()")
    other.execute(INSERT, ["a"])
    mark = state(source).mark
    assert json.loads(mark)["holders"] == []
    assert state(source, mark).settled_marks == (False,)
    here.commit()
    there.rollback()
    now = state(source, mark)
    assert (now.settled_marks, now.mark) == ((True,), None)


def test_reading_vacuum_and_building_an_index_hold_nothing_back(source, connect, other):
    other.execute(INSERT, ["a"])
    reader = connect()
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    reader.execute("SELECT * FROM commands").fetchall()
    builder = connect(autocommit=True)
    pid = builder.info.backend_pid
    other.execute("VACUUM commands")
    with ThreadPoolExecutor(1) as pool:
        # It waits at its end for those who read before it.
        building = pool.submit(builder.execute, "CREATE INDEX CONCURRENTLY slow ON commands (domain)")
        try:
            waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
            while not other.execute(waits, [pid]).fetchone():
                assert not building.done()
            assert state(source).mark is None
        finally:
            reader.rollback()
        building.result()


def test_a_writer_that_locks_the_whole_table_holds_back(source, writer, other):
    other.execute(INSERT, ["a"])
    writer.execute("LOCK TABLE commands IN EXCLUSIVE MODE")
    mark = state(source).mark
    assert state(source, mark).settled_marks == (False,)
    writer.rollback()
    assert state(source, mark).settled_marks == (True,)


# Where ids are no guide

NO_GUIDE = {
    "cache": "ALTER SEQUENCE commands_id_seq CACHE 2",
    "increment": "ALTER SEQUENCE commands_id_seq INCREMENT 2",
    "backwards": "ALTER SEQUENCE commands_id_seq INCREMENT -1 MINVALUE -10 START -1 RESTART",
    "cycle": "ALTER SEQUENCE commands_id_seq CYCLE",
    "not owned": "ALTER SEQUENCE commands_id_seq OWNED BY NONE",
    "no default": "ALTER TABLE commands ALTER COLUMN id DROP DEFAULT",
    "filled by another": "CREATE SEQUENCE two; ALTER TABLE commands ALTER COLUMN id SET DEFAULT nextval('two')",
    "parent": "CREATE TABLE child () INHERITS (commands)",
    "child": "CREATE TABLE parent (domain text); ALTER TABLE commands INHERIT parent",
    "ids ahead": "INSERT INTO commands (id, uuid) VALUES (100, 'x')",
    "ids below one": "INSERT INTO commands (id, uuid) VALUES (-3, 'x'), (0, 'y'); SELECT setval('commands_id_seq', 9)",
    "view": "ALTER TABLE commands RENAME TO kept; CREATE VIEW commands AS SELECT * FROM kept",
    "partitions": (
        "ALTER TABLE commands RENAME TO kept; CREATE TABLE commands (LIKE kept INCLUDING DEFAULTS) PARTITION BY "
        "RANGE (id); CREATE TABLE first PARTITION OF commands DEFAULT; "
        "ALTER SEQUENCE commands_id_seq OWNED BY commands.id"
    ),
    "subscription": (
        "CREATE SUBSCRIPTION away CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, "
        "slot_name = NONE); INSERT INTO pg_subscription_rel SELECT oid, 'commands'::regclass, 'r' FROM pg_subscription"
        " WHERE subname = 'away'"
    ),
}


@pytest.mark.parametrize("statement", NO_GUIDE.values(), ids=NO_GUIDE)
def test_ids_that_are_no_guide_leave_it_to_position_and_lag(database, connect, statement):
    with connect(autocommit=True) as superuser:
        superuser.execute("SET allow_system_table_mods = on")
        superuser.execute(statement)
        try:
            with opened(database) as source:
                assert state(source) is None
        finally:
            if "SUBSCRIPTION" in statement:
                superuser.execute("DELETE FROM pg_subscription_rel")
                superuser.execute("DROP SUBSCRIPTION away")


def test_an_identity_column_is_followed_by_its_sequence(database, connect, other):
    other.execute("ALTER TABLE commands ALTER COLUMN id DROP DEFAULT")
    other.execute("DROP SEQUENCE commands_id_seq")
    other.execute("ALTER TABLE commands ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY")
    writer = connect()
    writer.execute(INSERT, ["late"])
    other.execute(INSERT, ["b"])
    with opened(database) as source:
        first = state(source)
        assert first.horizon == 2
        assert state(source, first.mark).settled_marks == (False,)
        writer.commit()
        assert state(source, first.mark).settled_marks == (True,)


def test_a_role_that_may_only_read_follows_the_sequence_too(database, other):
    name = "reader_" + database.rpartition("_")[2]
    url = comby.create_role(database, name)
    try:
        other.execute(INSERT, ["a"])
        with opened(url) as source, opened(database) as superuser:
            now = state(source)
            assert (now.horizon, now.mark) == (1, None)
            assert now.identity == state(superuser).identity
    finally:
        other.execute(f"DROP OWNED BY {name}")
        other.execute(f"DROP ROLE {name}")


def test_another_table_under_the_name_is_another_identity(source, database, other):
    before = state(source).identity
    other.execute("TRUNCATE commands")
    assert state(source).identity == before
    other.execute("DROP TABLE commands")
    comby.create_postgres(database, "C")
    assert state(source).identity != before
