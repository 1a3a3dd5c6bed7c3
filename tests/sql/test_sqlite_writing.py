"""Writing to comby's SQLite table: never over what is there, all or nothing, and clear about what stands in the way."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from commandstore import (
    AccessDenied,
    Command,
    CommandExists,
    CommandStore,
    CorruptRecord,
    InvalidCommand,
    StoreUnavailable,
    codec,
    open_store,
)
from commandstore.contract import Created, Exists, Rejected
from commandstore.drive import run
from commandstore.errors import StoreNotFound, Unsupported
from commandstore.sql import sqlite_access
from commandstore.sql.sqlite import SqliteBackend
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, migrate_sqlite, sample_commands
from sql.sqlite_rows import GOOD, commands, database, fill, traces

each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    return folder / "app.db"


def writer(path, **options):
    return open_store(f"sqlite:///{path}", **options)


def execute(path, statement, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        return app.execute(statement, values).fetchall()


@each_generation
def test_what_is_there_is_never_overwritten(generation, path):
    database(path, generation, GOOD)
    with writer(path) as store:
        there = commands(GOOD)[0]
        other = there.model_copy(update={"domain": "altered"})
        with pytest.raises(CommandExists) as found:
            store.create(other)
        assert found.value.existing == there
        result = store.create_many([other, commands(GOOD)[1], Command("new", 1)])
        assert (result.created, result.duplicate, result.conflicting) == (("new",), ("plain-1",), ("plain-0",))
        assert store.get("plain-0") == there
    assert execute(path, "SELECT COUNT(*), COUNT(DISTINCT uuid) FROM commands") == [(11, 11)]


@each_generation
def test_an_insert_says_what_is_there_by_its_digest(generation, path):
    database(path, generation, [*GOOD, {"uuid": "bad", "created_at": "words"}])
    with writer(path) as store:
        new, there, bad = Command("new", 5), commands(GOOD)[3], Command("bad", 5)
        outcomes = run(store.core.backend.insert([codec.encode(c) for c in (new, there, bad)], "w1"))
        assert outcomes == [Created(), Exists(codec.encode(there).digest), Exists(b"")]


@pytest.mark.parametrize("generation", ["A", "C"])
def test_writers_in_two_processes_never_write_a_command_twice(generation, path):
    create_sqlite(path, generation)
    code = (
        "import sys\nfrom commandstore import Command, open_store\n"
        "with open_store(sys.argv[1]) as store:\n"
        "    print('ready', flush=True)\n    sys.stdin.readline()\n"
        "    for start in range(0, 200, 10):\n"
        "        chunk = range(start, start + 10)\n"
        "        store.create_many(Command(f'c{n}', n, data_bytes=sys.argv[2].encode()) for n in chunk)\n"
    )
    processes = [
        subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-c", code, f"sqlite:///{path}", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert execute(path, "SELECT COUNT(*), COUNT(DISTINCT uuid) FROM commands") == [(200, 200)]


def test_payloads_are_kept_as_text_of_the_same_bytes(path):
    with writer(path, create=True) as store:
        store.create(Command("c", 1, data_bytes=b"\xff\0x", req_ctx="", tenant_uuid="t\0t"))
        assert store.get("c") == Command("c", 1, data_bytes=b"\xff\0x", tenant_uuid="t\0t")
        assert store.total(tenant_uuid="t\0t") == 1
    stored = execute(path, "SELECT typeof(data_bytes), CAST(data_bytes AS BLOB), typeof(req_ctx) FROM commands")
    assert stored == [("text", b"\xff\0x", "text")]


def test_a_new_database_is_combys_newest(path, tmp_path):
    create_sqlite(tmp_path / "theirs.db", "C")
    with writer(path, create=True):
        pass
    for question in ("SELECT name, type FROM pragma_table_info('commands')", "PRAGMA journal_mode"):
        assert execute(path, question) == execute(tmp_path / "theirs.db", question)
    names = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' ORDER BY name"
    assert execute(path, names) == execute(tmp_path / "theirs.db", names)


def test_stores_that_are_made_at_once_are_one(path):
    failures, barrier = [], threading.Barrier(4)

    def make(number):
        try:
            barrier.wait()
            with writer(path, create=True) as store:
                store.create(Command(f"c{number}", number))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert execute(path, "SELECT COUNT(*) FROM commands") == [(4,)]


def test_making_leaves_an_older_table_as_it_is(path):
    database(path, "A", GOOD)
    before = execute(path, "SELECT sql FROM sqlite_master")
    with writer(path, create=True) as store:
        assert store.total() == 10
        with pytest.raises(InvalidCommand, match="no workspace_uuid column"):
            store.create(Command("c", 1, workspace_uuid="w"))
        refused = run(store.core.backend.insert([codec.encode(Command("c", 1, workspace_uuid="w"))], "w"))
        assert isinstance(refused[0], Rejected)
    assert execute(path, "SELECT sql FROM sqlite_master") == before
    assert execute(path, "PRAGMA journal_mode") == [("delete",)]


def test_there_is_no_place_to_make_one_in(path):
    with pytest.raises(StoreNotFound, match="there is no directory"):
        writer(path.parent / "missing" / "app.db", create=True)


def test_a_store_that_is_gone_is_not_made_again_by_a_write(path):
    with writer(path, create=True) as store:
        store.create(Command("c", 1))
        for file in path.parent.iterdir():
            file.unlink()
        for work in (store.list, lambda: store.create(Command("c", 2)), store.reset):
            with pytest.raises(StoreNotFound, match="there is no file"):
                work()
    assert list(path.parent.iterdir()) == []


@each_generation
def test_update_delete_and_reset(generation, path):
    database(path, generation, GOOD)
    with writer(path) as store:
        altered = commands(GOOD)[0].model_copy(update={"created_at": -5, "data_bytes": b"\0"})
        assert store.update(altered)
        assert store.get("plain-0") == store.list(limit=1).commands[0] == altered
        assert not store.update(Command("missing", 1))
        assert store.delete("plain-1")
        assert not store.delete("plain-1")
        assert store.total() == 9
        run(store.core.backend.register_swap("r", b"v", expected=None, token="t"))
        store.reset()
        assert store.total() == len(list(store.scan())) == 0
        assert run(store.core.backend.register_get("r")) is None
        store.create(Command("again", 1))


def test_update_and_delete_reach_every_row_of_a_uuid(path):
    database(path, "A", [{"uuid": "twice", "created_at": n} for n in (1, 2)])
    with writer(path) as store:
        assert store.update(Command("twice", 9, domain="d"))
        assert [(c.created_at, c.domain) for c in store.scan()] == [(9, "d")] * 2
        assert store.delete("twice")
        assert store.total() == 0


def test_older_rows_behind_the_wrong_index_are_named_with_their_cure(path):
    create_sqlite(path, "B")
    insert_sqlite(path, rows := list(sample_commands(5)))
    migrate_sqlite(path)
    with writer(path) as store:
        with pytest.raises(StoreUnavailable, match="REINDEX workspace_index"):
            store.delete(rows[0].uuid)
        assert store.total() == 5
        execute(path, "REINDEX workspace_index")
        assert store.delete(rows[0].uuid)


@pytest.mark.parametrize("generation", ["A", "C"])
def test_a_locked_database_is_waited_for_and_then_named(generation, path, monkeypatch):
    monkeypatch.setattr(sqlite_access, "BUSY_SECONDS", 0.01)
    database(path, generation, GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as app, writer(path) as store:
        app.execute("BEGIN IMMEDIATE")
        backend = store.core.backend
        for work in (
            lambda: store.create(Command("c", 1)),
            lambda: store.create_many([Command("c", 1)]),
            lambda: store.update(commands(GOOD)[0]),
            lambda: store.delete("plain-0"),
            store.reset,
            lambda: run(backend.register_swap("r", b"", expected=None, token="t")),
        ):
            with pytest.raises(StoreUnavailable, match="is locked by another process"):
                work()
        app.execute("ROLLBACK")
        assert store.total() == 10
        store.create(Command("c", 1))


def test_a_reader_in_the_way_of_a_commit_leaves_nothing_half_done(path, monkeypatch):
    """Without a log, a commit waits for readers; it gives up as a whole."""
    monkeypatch.setattr(sqlite_access, "BUSY_SECONDS", 0.01)
    database(path, "A", GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as app, writer(path) as store:
        reading = app.execute("SELECT * FROM commands")
        reading.fetchone()
        with pytest.raises(StoreUnavailable, match="is locked"):
            store.create_many([Command(f"c{n}", n) for n in range(5)])
        reading.close()
        assert store.total() == 10
        assert len(store.create_many([Command(f"c{n}", n) for n in range(5)]).created) == 5


def test_a_full_disk_is_named_and_nothing_is_half_done(path):
    with writer(path, create=True) as store:
        store.create(Command("before", 1))
        backend = store.core.backend
        with backend._writing() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=20")
        with pytest.raises(StoreUnavailable, match="no room left"):
            store.create_many([Command(f"c{n}", n, data_bytes=b"x" * 9000) for n in range(50)])
        assert store.total() == 1


def test_a_utf_16_database_is_read_not_written(path):
    with closing(sqlite3.connect(path)) as app:
        app.execute("PRAGMA encoding='UTF-16le'")
        app.execute("CREATE TABLE other (x)")
    create_sqlite(path, "C")
    with writer(path) as store, pytest.raises(Unsupported, match="UTF-16"):
        store.create(Command("c", 1))


def test_a_file_that_may_not_be_written_is_named(path, monkeypatch):
    database(path, "A", GOOD)
    connect = sqlite_access.connect
    monkeypatch.setattr("commandstore.sql.sqlite.connect", lambda where, _: connect(where, "ro"))
    with writer(path) as store, pytest.raises(AccessDenied, match="can't be written by this user"):
        store.create(Command("c", 1))


def test_registers_have_a_table_once_one_is_written(path):
    with writer(path, create=True) as store:
        backend = store.core.backend
        before = traces(path)["app.db"]
        assert run(backend.register_get("r\0x")) is None
        assert "commandstore_registers" not in str(execute(path, "SELECT name FROM sqlite_master"))
        assert traces(path)["app.db"] == before
        assert run(backend.register_swap("r\0x", b"\0\xff", expected=None, token="t1"))
        assert run(backend.register_get("r\0x")) == (b"\0\xff", "t1")
        assert run(backend.register_get("r")) is None
        assert run(backend.register_swap("r\0x", b"again", expected=None, token="t1"))  # a lost answer
        assert not run(backend.register_swap("r\0x", b"no", expected=None, token="t2"))
        assert run(backend.register_swap("r\0x", None, expected="t1", token="t3"))
        assert run(backend.register_get("r\0x")) is None


@pytest.mark.parametrize(
    "altered",
    [
        "UPDATE commandstore_registers SET value = NULL WHERE name = ?",
        "UPDATE commandstore_registers SET value = 12 WHERE name = ?",
        "UPDATE commandstore_registers SET token = x'ff' WHERE name = ?",
        "another row",
    ],
)
@pytest.mark.parametrize(
    ("name", "removable"), [("sync/x", True), ("ledger/entry/000000000001", False), ("keys/00", False)]
)
def test_a_register_that_was_altered_says_so_and_only_what_is_made_anew_may_be_deleted(path, name, removable, altered):
    with writer(path, create=True) as store:
        backend = store.core.backend
        assert run(backend.register_swap(name, b"v", expected=None, token="t1"))
        assert run(backend.register_swap("other", b"v", expected=None, token="t1"))
        if altered == "another row":
            execute(path, "CREATE TABLE copy AS SELECT * FROM commandstore_registers")
            execute(path, "DROP TABLE commandstore_registers")
            execute(path, "ALTER TABLE copy RENAME TO commandstore_registers")
            execute(path, "INSERT INTO commandstore_registers VALUES (?, 'other', 't2')", name)
        else:
            execute(path, altered, name)
        for attempt in (
            backend.register_get(name),
            backend.register_swap(name, b"w", expected="t1", token="t3"),
        ):
            with pytest.raises(CorruptRecord, match=f"register '{name}' in table commandstore_registers is") as caught:
                run(attempt)
            assert ("delete" in str(caught.value)) == removable
            assert ("more than once" in str(caught.value)) == (altered == "another row")
        assert run(backend.register_get("other")) == (b"v", "t1")


def test_two_processes_that_swap_a_register_take_turns(path):
    with writer(path, create=True):
        pass
    won, barrier = [], threading.Barrier(4)

    def swap(name):
        store = CommandStore(SqliteBackend(path))
        store.init(create=False)
        with store:
            barrier.wait()
            if run(store.core.backend.register_swap("r", name.encode(), expected=None, token=name)):
                won.append(name)

    threads = [threading.Thread(target=swap, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_list_right_after_a_write_has_it_also_without_an_index_on_time(path):
    database(path, "A", GOOD)
    with writer(path) as store:
        for number in range(5):
            store.create(Command(f"new-{number}", -number - 1))
            assert store.list(limit=1).commands[0].command_uuid == f"new-{number}"
            fill(path, [{"uuid": f"theirs-{number}", "created_at": 2**62 + number}])
            assert store.list(limit=1, ascending=False).commands[0].command_uuid == f"theirs-{number}"
