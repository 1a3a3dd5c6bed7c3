"""A source is never written, and the application beside it is never locked out."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from commandstore import CommandStore, StoreUnavailable, open_store, sync_command_store
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.sql import sequence, sqlite_access
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, sample_commands
from sql.sqlite_rows import GOOD, database, fill, reader, traces

each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "app"
    folder.mkdir()
    return folder / "app.db"


def memory() -> CommandStore:
    store = CommandStore(MemoryBackend())
    store.init()
    return store


def read_everything(store: CommandStore) -> None:
    tenant = GOOD[0]["tenant_uuid"]
    list(store.scan(page_size=3, on_corrupt=lambda _: None))
    list(store.scan(ascending=False, tenant_uuid=tenant, on_corrupt=lambda _: None))
    store.list(limit=3, offset=2, session_uuid="s1")
    store.total(), store.total(domain="Order"), store.info(), store.get("plain-1"), store.get_many(["a", "b"])
    run(store.core.backend.register_get("nothing"))
    for _ in range(2):
        sync_command_store(store, memory(), batch_size=4, skip_on_error=True)
        sync_command_store(store, memory(), tenant_uuid=tenant, dry_run=True, skip_on_error=True)


@each_generation
@pytest.mark.parametrize("read_only", [True, False])
def test_reading_and_syncing_a_closed_database_changes_no_byte_of_it(generation, read_only, path):
    database(path, generation)
    before = traces(path)
    with open_store(f"sqlite:///{path}", read_only=read_only) as store:
        read_everything(store)
    after = traces(path)
    assert after["app.db"] == before["app.db"]
    # What SQLite needs beside a database in WAL mode to read it; the application goes on with it.
    assert after.keys() <= {"app.db", "app.db-wal"}
    assert (path.parent / "app.db-wal").stat().st_size == 0 if "app.db-wal" in after else True


@each_generation
@pytest.mark.parametrize("read_only", [True, False])
def test_reading_and_syncing_an_open_database_changes_no_byte_beside_it(generation, read_only, path):
    database(path, generation)
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("INSERT INTO commands (uuid, created_at) VALUES ('in the log', 1)")
        before = traces(path)
        with open_store(f"sqlite:///{path}", read_only=read_only) as store:
            assert store.get("in the log") is not None
            read_everything(store)
        assert traces(path) == before
        app.execute("INSERT INTO commands (uuid, created_at) VALUES ('and on', 1)")
    fill(path, [{"uuid": "and later", "created_at": 2}])


@each_generation
def test_a_dry_look_leaves_no_table_of_registers(generation, path):
    database(path, generation)
    with open_store(f"sqlite:///{path}", create=True) as store:
        read_everything(store)
    with closing(sqlite3.connect(path)) as app:
        assert {name for (name,) in app.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} == {"commands"}


class Application:
    """The application: writes one command with a connection of its own that waits for nobody."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.connection.execute("PRAGMA synchronous=OFF")
        self.written = 0

    def write(self):
        self.written += 1
        self.connection.execute(
            "INSERT INTO commands (uuid, created_at, tenant_uuid) VALUES (?, 5, 'a')", [f"written-{self.written}"]
        )


@pytest.fixture
def application(path):
    made = []

    def start():
        made.append(Application(path))
        return made[-1]

    yield start
    for each in made:
        each.connection.close()


@each_generation
@pytest.mark.parametrize("ascending", [True, False])
def test_the_application_writes_between_pages(generation, ascending, path, application):
    create_sqlite(path, generation)
    insert_sqlite(path, sample_commands(50))
    app = application()
    with reader(path) as store:
        for count, _ in enumerate(store.scan(page_size=5, ascending=ascending)):
            if count % 5 == 4:
                app.write()
            if count > 200:
                break
        assert store.total() == 50 + app.written


@each_generation
def test_the_application_writes_during_a_sync_whenever_rows_are_not_just_being_read(
    generation, path, application, monkeypatch
):
    monkeypatch.setattr(sequence, "SPOOL_ROWS", 7)
    create_sqlite(path, generation)
    insert_sqlite(path, sample_commands(60))
    app = application()
    add, row_of = sequence.Spool.add, sequence.row_of

    def write_and_add(self, places):
        app.write()
        add(self, places)

    def write_and_decode(*arguments):
        if app.written < 40:
            app.write()
        return row_of(*arguments)

    monkeypatch.setattr(sequence.Spool, "add", write_and_add)
    monkeypatch.setattr(sequence, "row_of", write_and_decode)
    destination = memory()
    with reader(path) as store:
        assert sync_command_store(store, destination, batch_size=10).copied == 60
        assert app.written >= 40
        assert sync_command_store(store, destination, batch_size=10).complete
        assert sync_command_store(store, destination, batch_size=10).complete
    assert destination.total() >= 60 + 40


def test_a_count_without_an_index_is_made_of_short_reads(path, application, monkeypatch):
    monkeypatch.setattr("commandstore.sql.shared.SPOOL_ROWS", 7)
    create_sqlite(path, "A")
    insert_sqlite(path, rows := list(sample_commands(60)))
    app = application()
    with reader(path) as store:
        backend = store.core.backend
        looked, reading = [], type(backend)._all

        def watched(self, connection, statement):
            found = reading(self, connection, statement)
            looked.append(statement.sql)
            return found

        monkeypatch.setattr(type(backend), "_all", watched)
        expected = sum(row.domain == "Order" for row in rows)
        assert store.total(domain="Order") == expected
        app.write()
        assert store.total(domain="Order") == expected
    assert len([sql for sql in looked if "COUNT" in sql]) >= 2 * 9


@each_generation
def test_a_writer_in_the_middle_of_a_transaction_does_not_stop_the_reader(generation, path):
    database(path, generation, GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as app, reader(path) as store:
        app.execute("BEGIN IMMEDIATE")
        app.execute("INSERT INTO commands (uuid, created_at) VALUES ('not yet', 1)")
        assert store.total() == len(list(store.scan())) == len(GOOD)
        app.execute("COMMIT")
        assert store.total() == len(list(store.scan())) == len(GOOD) + 1


def test_a_writer_that_does_not_let_go_is_waited_for_and_then_named(path, monkeypatch):
    monkeypatch.setattr(sqlite_access, "BUSY_SECONDS", 0.01)
    database(path, "A", GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="is locked by another process; try again"):
            reader(path)
        app.execute("ROLLBACK")


@pytest.mark.parametrize("generation", ["A", "C"])
def test_looking_at_the_file_does_not_take_the_locks_of_another_connection(generation, path):
    """When any descriptor of a file is closed, the system drops all locks of the process on it."""
    database(path, generation, GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as ours, reader(path) as store:
        ours.execute("BEGIN IMMEDIATE")
        with reader(path) as second:
            second.total()
        store.list(limit=1)
        assert other_process_can_lock(path) is False
        ours.execute("ROLLBACK")
        assert other_process_can_lock(path) is True


def other_process_can_lock(path) -> bool:
    code = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=0)\nc.execute('BEGIN IMMEDIATE')"
    process = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False)  # noqa: S603 - ours
    return process.returncode == 0


def test_the_file_is_let_go_of_when_the_last_store_is_closed(path):
    database(path, "C", GOOD)
    first, second = reader(path), reader(path)
    held = sqlite_access.DatabaseFile._held
    mine = (path.stat().st_dev, path.stat().st_ino)
    assert held[mine][1] == 2
    first.close()
    first.close()
    assert held[mine][1] == 1
    second.close()
    assert mine not in held
