"""Files of another user: the application keeps its right to write, and what can't be read is said clearly."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from commandstore import AccessDenied, CommandStore, StoreUnavailable, open_store, sync_command_store
from commandstore.memory import MemoryBackend
from commandstore.sql import sqlite as sqlite_backend
from sql import users
from sql.sqlite_rows import GOOD, database, fill, reader, traces
from sql.users import APP, READER, as_user, folder_of, needs_root, wait_for_parent


@pytest.fixture(autouse=True)
def root(tmp_path):
    needs_root()
    # Everything is imported by now: another user may not be allowed to read where it is.
    with reader(database(tmp_path / "warm.db", "C", GOOD)) as store:
        sync_command_store(store, memory())
    with pytest.raises(AccessDenied):
        as_user(READER, lambda: reader(tmp_path / "warm.db"))


@pytest.fixture
def open_folder():
    """The application's directory, where everybody may write."""
    with folder_of(APP, 0o777) as path:
        yield path


@pytest.fixture
def closed_folder():
    """The application's directory, where nobody else may write."""
    with folder_of(APP) as path:
        yield path


def memory() -> CommandStore:
    store = CommandStore(MemoryBackend())
    store.init()
    return store


def made_by_app(path, generation="C", rows=GOOD):
    as_user(APP, lambda: database(path, generation, rows) and None)
    return path


def count(path) -> int:
    with reader(path) as store:
        return sync_command_store(store, memory()).copied


def app_writes(path) -> None:
    as_user(APP, lambda: fill(path, [{"uuid": "written later", "created_at": 1}]))


def beside(path) -> set[str]:
    return {file.name.removeprefix(path.name) for file in path.parent.iterdir()}


def test_a_closed_database_in_a_place_to_write_is_refused_and_nothing_is_left(open_folder):
    path = made_by_app(open_folder / "app.db")
    before = traces(path)
    with pytest.raises(AccessDenied, match=f"belong to user id {READER}.*Run this as user id {APP}, the file's owner"):
        as_user(READER, lambda: count(path))
    assert traces(path) == before
    assert beside(path) == {""}
    app_writes(path)


@pytest.mark.parametrize("place", ["open_folder", "closed_folder"])
def test_an_open_database_is_read_and_the_application_goes_on(place, request):
    path = made_by_app(request.getfixturevalue(place) / "app.db")

    def application():
        with closing(sqlite3.connect(path, isolation_level=None)) as app:
            app.execute("INSERT INTO commands (uuid, created_at) VALUES ('in the log', 1)")
            wait_for_parent()
            app.execute("INSERT INTO commands (uuid, created_at) VALUES ('and on', 1)")

    found = []
    as_user(APP, application, meanwhile=lambda: found.append(as_user(READER, lambda: count(path))))
    assert found == [len(GOOD) + 1]
    app_writes(path)
    assert beside(path) == {""}


@pytest.mark.parametrize("uid", [0, APP])
def test_root_and_the_owner_read_a_closed_database_and_the_application_goes_on(uid, open_folder):
    path = made_by_app(open_folder / "app.db")
    assert as_user(uid, lambda: count(path)) == len(GOOD)
    assert {file.stat().st_uid for file in open_folder.iterdir()} == {APP}
    app_writes(path)
    assert beside(path) == {""}


def test_a_reader_who_stays_while_the_application_closes_does_not_lock_it_out(open_folder):
    path = made_by_app(open_folder / "app.db")

    def read():
        with reader(path) as store:
            before = store.total()
            wait_for_parent()  # the application closes the database
            return before, store.total()

    assert side_by_side(lambda: writing_application(path), read) == (len(GOOD) + 1, len(GOOD) + 1)
    assert {file.stat().st_uid for file in open_folder.iterdir()} == {APP}
    app_writes(path)
    assert beside(path) == {""}


def test_files_that_were_made_in_the_moment_between_look_and_read_are_named(open_folder, monkeypatch):
    path = made_by_app(open_folder / "app.db")
    connect = sqlite_backend.connect

    def late(where, mode):
        wait_for_parent()  # the application closes the database just now
        return connect(where, mode)

    def read():
        monkeypatch.setattr(sqlite_backend, "connect", late)
        return count(path)

    with pytest.raises(AccessDenied, match=f"now belong to user id {READER}: give them to user id {APP}"):
        side_by_side(lambda: writing_application(path), read)


def writing_application(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("INSERT INTO commands (uuid, created_at) VALUES ('in the log', 1)")
        wait_for_parent()


def side_by_side(application, read):
    """Start the application, let the reader look, end the application, let the reader go on: what it returns."""
    application_in, reader_done = os.pipe()
    app_ready, app_out = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(APP, APP, APP)
            os.setresuid(APP, APP, APP)
            users._parent = (app_out, application_in)
            users.signal.alarm(60)
            application()
        finally:
            os._exit(0)
    os.read(app_ready, 1)

    def end_application():
        os.write(reader_done, b"!")
        os.waitpid(child, 0)

    try:
        return as_user(READER, read, meanwhile=end_application)
    finally:
        for descriptor in (application_in, reader_done, app_ready, app_out):
            os.close(descriptor)


def test_a_closed_database_in_a_place_not_to_write_is_read_without_a_trace(closed_folder):
    path = made_by_app(closed_folder / "app.db")
    before = traces(path)
    assert as_user(READER, lambda: count(path)) == len(GOOD)
    assert traces(path) == before
    assert beside(path) == {""}
    app_writes(path)


@pytest.mark.parametrize("keep_open", [True, False])
def test_a_file_that_is_written_between_pages_is_read_anew(keep_open, closed_folder):
    """``immutable`` takes no locks, and SQLite keeps pages in its cache: old and new ones must not be mixed."""
    rows = [{"uuid": f"c{n:03}", "created_at": n, "data_bytes": b"x" * 900} for n in range(40)]
    path = made_by_app(closed_folder / "app.db", rows=rows)
    kept = []

    def change():
        def work():
            app = sqlite3.connect(path, isolation_level=None)
            app.execute("UPDATE commands SET data_bytes = CAST(? AS TEXT)", ["new " * 300])
            app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if keep_open:
                os._exit(1)  # as a crash: the log and its index stay
            app.close()

        child = os.fork()
        if child == 0:
            os.setresgid(APP, APP, APP)
            os.setresuid(APP, APP, APP)
            try:
                work()
            finally:
                os._exit(0)
        kept.append(os.waitpid(child, 0))

    def read():
        with reader(path) as store:
            first = store.list(limit=10)
            wait_for_parent()
            rest = store.list(limit=100, cursor=first.cursor)
            return len(first.commands), [c.data_bytes[:4] for c in rest.commands]

    assert as_user(READER, read, meanwhile=change) == (10, [b"new "] * 30)


def test_a_file_that_is_written_during_a_page_is_an_error_not_a_mixture(closed_folder, monkeypatch):
    path = made_by_app(closed_folder / "app.db")
    by_ids = sqlite_backend.SqliteBackend._streamed

    def read():
        def late(self, connection, statement):
            yield from by_ids(self, connection, statement)
            wait_for_parent()

        monkeypatch.setattr(sqlite_backend.SqliteBackend, "_streamed", late)
        with reader(path) as store:
            store.list(limit=3)

    with pytest.raises(StoreUnavailable, match="was written while it was read in a place without locks; run again"):
        as_user(READER, read, meanwhile=lambda: app_writes(path))


def crashed_in_wal(path):
    """The application died: what it wrote is in the log, and the log's index may be gone."""
    made_by_app(path)

    def work():
        app = sqlite3.connect(path, isolation_level=None)
        app.execute("INSERT INTO commands (uuid, created_at) VALUES ('in the log', 1)")
        os._exit(1)

    crash(work)


def crash(work):
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(APP, APP, APP)
            os.setresuid(APP, APP, APP)
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_a_log_without_its_index_in_a_place_not_to_write_is_named(closed_folder):
    path = closed_folder / "app.db"
    crashed_in_wal(path)
    (closed_folder / "app.db-shm").unlink()
    before = traces(path)
    with pytest.raises(StoreUnavailable, match=r"has changes in app.db-wal that can't be read without app.db-shm"):
        as_user(READER, lambda: count(path))
    assert traces(path) == before
    app_writes(path)


@pytest.mark.parametrize("uid", [READER, APP, 0])
@pytest.mark.parametrize("place", ["open_folder", "closed_folder"])
def test_after_a_crash_in_wal_mode_everything_is_read_and_the_application_goes_on(place, uid, request):
    path = request.getfixturevalue(place) / "app.db"
    crashed_in_wal(path)
    assert as_user(uid, lambda: count(path)) == len(GOOD) + 1
    app_writes(path)
    assert beside(path) == {""}


def crashed_in_a_transaction(path):
    """A hot journal: pages of an unfinished transaction are in the file, and how to undo them is in the journal."""
    rows = [{"uuid": f"c{n}", "created_at": n, "data_bytes": b"x" * 4000} for n in range(300)]
    made_by_app(path, "A", rows)

    def work():
        app = sqlite3.connect(path, isolation_level=None)
        app.execute("PRAGMA cache_size=2")
        app.execute("BEGIN")
        app.execute("UPDATE commands SET data_bytes = CAST(replace(data_bytes, 'x', 'y') AS TEXT), tenant_uuid = 'z'")
        os._exit(1)

    crash(work)
    assert (path.parent / f"{path.name}-journal").stat().st_size > 0


@pytest.mark.parametrize("uid", [READER, APP, 0])
@pytest.mark.parametrize("place", ["open_folder", "closed_folder"])
def test_a_hot_journal_is_named_and_left_to_the_application(place, uid, request):
    path = request.getfixturevalue(place) / "app.db"
    crashed_in_a_transaction(path)
    before = traces(path)
    with pytest.raises(StoreUnavailable, match=r"was left in the middle of a transaction.*open it once"):
        as_user(uid, lambda: count(path))
    assert traces(path) == before
    app_writes(path)
    assert as_user(READER, lambda: count(path)) == 301


@pytest.mark.parametrize("place", ["open_folder", "closed_folder"])
def test_a_journal_that_is_in_use_is_no_reason_to_stop(place, request):
    path = made_by_app(request.getfixturevalue(place) / "app.db", "A")

    def application():
        with closing(sqlite3.connect(path, isolation_level=None)) as app:
            app.execute("BEGIN IMMEDIATE")
            app.execute("INSERT INTO commands (uuid, created_at) VALUES ('not yet', 1)")
            wait_for_parent()
            app.execute("COMMIT")

    found = []
    as_user(APP, application, meanwhile=lambda: found.append(as_user(READER, lambda: count(path))))
    assert found == [len(GOOD)]
    assert as_user(READER, lambda: count(path)) == len(GOOD) + 1


def test_a_file_that_may_not_be_read_or_written_is_named(open_folder):
    path = made_by_app(open_folder / "app.db", "A")
    with pytest.raises(AccessDenied, match="can't be written by this user"):
        as_user(READER, lambda: open_store(f"sqlite:///{path}").reset())
    path.chmod(0o600)
    with pytest.raises(AccessDenied, match="can't be read: Permission denied"):
        as_user(READER, lambda: reader(path))
    shutil.move(path, open_folder / "moved.db")
    (open_folder / "moved.db").chmod(0o644)
    assert as_user(READER, lambda: count(open_folder / "moved.db")) == len(GOOD)
