"""What each error of SQLite means here."""

import sqlite3

import pytest

from commandstore.errors import AccessDenied, ConfigurationError, StoreNotFound, StoreUnavailable, Unsupported
from commandstore.sql.sqlite_access import connect, translate


def error(name, text="as SQLite has it", kind=sqlite3.OperationalError):
    made = kind(text)
    made.sqlite_errorname = name
    return made


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("SQLITE_BUSY", StoreUnavailable, "is locked by another process; try again"),
        ("SQLITE_BUSY_SNAPSHOT", StoreUnavailable, "is locked by another process"),
        ("SQLITE_BUSY_RECOVERY", StoreUnavailable, "is locked by another process"),
        ("SQLITE_LOCKED_SHAREDCACHE", StoreUnavailable, "is locked by another connection"),
        ("SQLITE_READONLY", AccessDenied, "can't be written by this user"),
        ("SQLITE_READONLY_DIRECTORY", AccessDenied, "can't be written by this user"),
        ("SQLITE_READONLY_ROLLBACK", StoreUnavailable, "in the middle of a transaction"),
        ("SQLITE_READONLY_RECOVERY", StoreUnavailable, "can't recover it"),
        ("SQLITE_READONLY_CANTINIT", StoreUnavailable, "can't recover it"),
        ("SQLITE_CANTOPEN", AccessDenied, "can't be opened by this user"),
        ("SQLITE_CANTOPEN_ISDIR", AccessDenied, "can't be opened by this user"),
        ("SQLITE_PERM", AccessDenied, "can't be accessed"),
        ("SQLITE_AUTH", AccessDenied, "can't be accessed"),
        ("SQLITE_NOTADB", ConfigurationError, "is not a SQLite database"),
        ("SQLITE_CORRUPT", StoreUnavailable, "damaged"),
        ("SQLITE_CORRUPT_INDEX", StoreUnavailable, "REINDEX workspace_index"),
        ("SQLITE_FULL", StoreUnavailable, "no room left"),
        ("SQLITE_IOERR_READ", StoreUnavailable, "error of its disk"),
        ("SQLITE_TOOBIG", Unsupported, "can't hold a value of this size"),
        ("SQLITE_MISMATCH", StoreUnavailable, "answered SQLITE_MISMATCH"),
        (None, StoreUnavailable, "answered SQLITE_ERROR"),
    ],
)
def test_an_error_is_translated_by_its_name(name, kind, says, tmp_path):
    found = translate(error(name), tmp_path / "app.db")
    assert type(found) is kind
    assert says in str(found)
    assert str(found).startswith(str(tmp_path / "app.db"))
    assert "as SQLite has it" not in str(found)


def test_a_table_that_is_gone_is_a_store_that_is_gone(tmp_path):
    found = translate(error("SQLITE_ERROR", "no such table: commands"), tmp_path / "app.db")
    assert isinstance(found, StoreNotFound)


@pytest.mark.parametrize("name", ["with space.db", "per%cent.db", "question?mark.db", "hash#.db", "ä.db", "a&b=c.db"])
def test_a_path_may_hold_what_means_something_in_a_url(name, tmp_path):
    connect(tmp_path / name, "rwc").close()
    connection = connect(tmp_path / name, "ro")
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()
    assert [file.name for file in tmp_path.iterdir()] in ([name], [])


def test_a_connection_that_reads_cannot_write(tmp_path):
    made = connect(tmp_path / "app.db", "rwc")
    made.execute("CREATE TABLE t (x)")
    made.close()
    for mode in ("ro", "immutable"):
        connection = connect(tmp_path / "app.db", mode)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO t VALUES (1)")
        connection.close()
