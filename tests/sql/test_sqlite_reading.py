"""Every generation of comby's SQLite table, and every row that a file may hold, is read as it is."""

import itertools
import os
import sqlite3
from contextlib import closing

import pytest

from commandstore import Command, CorruptRecord, InvalidQuery, StoreNotFound
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.drive import run
from commandstore.errors import ConfigurationError
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, migrate_sqlite, sample_commands
from sql.sqlite_rows import BAD, GOOD, NANOS, ODD, ROWS, commands, database, fill, reader, slices, walk

# Events in the same file take the names of the indexes, so that `commands` has none.
TABLES = [(generation, False) for generation in GENERATIONS] + [("B", True), ("C", True)]
each_table = pytest.mark.parametrize(("generation", "events"), TABLES)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def plain(row, *, workspace):
    fields = row._asdict() if workspace else row._replace(workspace_uuid="")._asdict()
    return Command(fields.pop("uuid"), fields.pop("created_at"), **fields)


@each_table
def test_all_fields_come_back(generation, events, path):
    rows = list(sample_commands(300, payload="mixed", ties=20))
    create_sqlite(path, generation, events=events)
    insert_sqlite(path, rows)
    expected = sorted((plain(row, workspace=generation[0] == "C") for row in rows), key=lambda c: c.position)
    with reader(path) as store:
        assert list(store.scan(page_size=7)) == expected
        assert list(store.scan(page_size=100, ascending=False)) == expected[::-1]
        assert store.total() == store.info().num_items == 300
        assert store.info().last_item_created_at == expected[-1].created_at
        wanted = [c.command_uuid for c in expected[::-1]]
        assert store.get_many(wanted) == {c.command_uuid: c for c in expected}


@each_table
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_rows_that_can_be_read_come_in_the_total_order_whatever_stands_between_them(generation, events, size, path):
    database(path, generation, events=events)
    with reader(path) as store:
        assert walk(store, size)[0] == commands()
        assert walk(store, size, ascending=False)[0] == commands()[::-1]


@each_table
@pytest.mark.parametrize("ascending", [True, False])
def test_every_row_is_in_some_page_once(generation, events, ascending, path):
    database(path, generation, events=events)
    with reader(path) as store:
        for size in (1, 2, 5, 1000):
            keys = [row.key for part in slices(store, size, ascending=ascending) for row in part.rows]
            assert len(keys) == len(set(keys)) == len(ROWS)
            rows = [row.error for part in slices(store, size) for row in part.rows if row.error]
            assert len(rows) == len(BAD)


@each_table
def test_what_cannot_be_read_names_its_row(generation, events, path):
    database(path, generation, BAD, events=events)
    with reader(path) as store:
        _, errors = walk(store, 4)
        assert len(errors) == len(BAD)
        assert all("row " in error for error in errors)
        with pytest.raises(CorruptRecord, match="row 4: a text column"):
            store.get("bad tenant")
        assert store.total() == len(BAD)


@each_table
def test_filters_alone_and_together(generation, events, path):
    database(path, generation, events=events)
    filters = {
        "tenant_uuid": ["a", "", "t\0t", "Grüße 🚚", "nobody"],
        "domain": ["Order", "", "\0"],
        "data_type": ["", "x"],
        "workspace_uuid": ["", "w"],
        "session_uuid": ["s1", "", "s2"],
        "before": [NANOS + 1, 0, 1, 8, INT64_MIN, INT64_MAX],
        "after": [NANOS + 1, -1, 0, 7, INT64_MIN, INT64_MAX],
    }
    chosen = [{name: value} for name, values in filters.items() for value in values]
    chosen += [a | b for a, b in itertools.combinations(chosen, 2)]
    with reader(path) as store:
        for query in chosen:
            expected = [c for c in commands() if matches(c, query)]
            found, bad = walk(store, 1000, **query)
            assert found == expected, query
            assert store.total(**query) == len(found) + len(bad), query
        for query in chosen[::7]:
            assert walk(store, 2, ascending=False, **query)[0] == [c for c in commands() if matches(c, query)][::-1]


def matches(command, query):
    for name, value in query.items():
        if name == "before" and not command.created_at < value:
            return False
        if name == "after" and not command.created_at > value:
            return False
        if name not in {"before", "after"} and getattr(command, name) != value:
            return False
    return True


@each_table
def test_a_cursor_goes_on_where_it_was_while_rows_come_and_go(generation, events, path):
    database(path, generation, GOOD, events=events)
    with reader(path) as store:
        first = store.list(limit=4)
        with closing(sqlite3.connect(path, isolation_level=None)) as app:
            app.execute("DELETE FROM commands WHERE uuid IN ('plain-3', 'plain-5')")
        fill(path, [{"uuid": "early", "created_at": 1}, {"uuid": "late", "created_at": NANOS + 99}])
        rest = store.list(cursor=first.cursor)
        assert [c.command_uuid for c in rest.commands] == [
            "plain-4",
            "plain-6",
            "plain-7",
            "plain-8",
            "plain-9",
            "late",
        ]
        assert [c.command_uuid for c in store.list(limit=1).commands] == ["early"]


@each_table
def test_a_page_from_the_start_sees_what_was_just_written(generation, events, path):
    database(path, generation, GOOD, events=events)
    with reader(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as app:
        assert store.list(limit=1).commands[0].command_uuid == "plain-0"
        app.execute("UPDATE commands SET created_at = 5 WHERE uuid = 'plain-9'")
        assert store.list(limit=1).commands[0].command_uuid == "plain-9"
        app.execute("UPDATE commands SET created_at = ? WHERE uuid = 'plain-9'", [NANOS + 50])
        assert store.list(limit=1, ascending=False).commands[0].command_uuid == "plain-9"


@each_table
def test_all_rows_of_a_page_may_be_gone_before_they_are_read(generation, events, path, monkeypatch):
    database(path, generation, GOOD, events=events)
    with reader(path) as store:
        backend = store.core.backend
        by_ids = type(backend)._by_ids

        def delete_first(self, connection, ids):
            with closing(sqlite3.connect(path, isolation_level=None)) as app:
                app.execute("DELETE FROM commands WHERE uuid IN ('plain-0', 'plain-1', 'plain-2')")
            return by_ids(self, connection, ids)

        monkeypatch.setattr(type(backend), "_by_ids", delete_first)
        found = [c.command_uuid for c in walk(store, 3)[0]]
        assert found[-7:] == [f"plain-{n}" for n in range(3, 10)]


@each_table
def test_a_row_that_is_altered_while_its_page_is_read_is_listed_once(generation, events, path, monkeypatch):
    database(path, generation, GOOD, events=events)
    with reader(path) as store:
        backend = type(store.core.backend)
        by_ids = backend._by_ids

        def alter_first(self, connection, ids):
            with closing(sqlite3.connect(path, isolation_level=None)) as app:
                app.execute("UPDATE commands SET created_at = ? WHERE uuid = 'plain-0'", [NANOS + 99])
            return by_ids(self, connection, ids)

        monkeypatch.setattr(backend, "_by_ids", alter_first)
        found = [c.command_uuid for c in walk(store, 4)[0]]
        assert sorted(found) == [f"plain-{n}" for n in range(10)]


def test_a_uuid_that_stands_twice_is_listed_twice_and_got_once(path):
    rows = [{"uuid": "twice", "created_at": 5, "domain": name} for name in ("first", "second", "third")]
    database(path, "A", rows)
    with reader(path) as store:
        for size in (1, 2, 3):
            assert [c.domain for c in walk(store, size)[0]] == ["first", "second", "third"]
            assert [c.domain for c in walk(store, size, ascending=False)[0]] == ["third", "second", "first"]
        assert store.get("twice").domain == "first"


def test_the_index_that_is_wrong_about_older_rows_is_not_believed(path):
    older = list(sample_commands(30))
    create_sqlite(path, "A")
    insert_sqlite(path, older)
    migrate_sqlite(path)
    newer = list(sample_commands(30, seed=1))
    insert_sqlite(path, newer)
    workspace = next(row.workspace_uuid for row in newer if row.workspace_uuid)
    without = 30 + sum(row.workspace_uuid == "" for row in newer)
    with reader(path) as store:
        assert (
            store.total(workspace_uuid="workspace_uuid")
            == len(store.list(workspace_uuid="workspace_uuid").commands)
            == 0
        )
        assert store.total(workspace_uuid="") == len(list(store.scan(workspace_uuid="", page_size=7))) == without
        assert store.total(workspace_uuid=workspace) == len(list(store.scan(workspace_uuid=workspace))) > 0
        tenant = older[0].tenant_uuid
        both = [c for c in store.scan(tenant_uuid=tenant) if c.workspace_uuid == ""]
        assert store.total(workspace_uuid="", tenant_uuid=tenant) == len(both) == 30 or both
        assert list(store.scan(workspace_uuid="", tenant_uuid=tenant)) == both


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_text_in_utf_16_reads_and_sorts_as_in_utf_8(encoding, generation, path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute("CREATE TABLE other (x)")
    create_sqlite(path, generation)
    rows = [row for row in ROWS if not any(isinstance(value, bytes) for value in row.values())]
    fill(path, rows)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for text in (b"\x00\xd8", b"\xd8\x00\x00", b"\x00\xdc\x00\xd8a\0"):  # halves of pairs, an odd length
            connection.execute("INSERT INTO other VALUES (?)", [text])  # from a column, a CAST takes bytes as they are
        for column in ("uuid", "created_at", "tenant_uuid"):
            connection.execute(f"INSERT INTO commands ({column}) SELECT CAST(x AS TEXT) FROM other")  # noqa: S608
    good = [row for row in (*GOOD, *ODD) if row in rows]
    total = len(rows) + 9
    with reader(path) as store:
        for size in (1, 2, 1000):
            found, bad = walk(store, size)
            assert [c for c in found if c in commands(good)] == commands(good)
            assert len(found) + len(bad) == total
            again, worse = walk(store, size, ascending=False)
            assert again == found[::-1]
            assert sorted(worse) == sorted(bad)
        assert store.get("漢字/../+%").tenant_uuid == "Grüße 🚚"
        assert store.total(tenant_uuid="Grüße 🚚") == len(store.list(tenant_uuid="Grüße 🚚").commands) == 1


def test_numbers_in_columns_of_another_type_are_read_as_their_digits_or_named(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute(
            "CREATE TABLE commands (id INTEGER PRIMARY KEY, instance_id, uuid, tenant_uuid, domain, created_at, "
            "data_type, data_bytes, req_ctx)"
        )
        app.execute("INSERT INTO commands (uuid, created_at, data_bytes) VALUES ('a', 1, 12)")
        app.execute("INSERT INTO commands (uuid, created_at, tenant_uuid) VALUES ('b', 2, 12)")
        app.execute("INSERT INTO commands (uuid, created_at) VALUES (12, 3)")
    with reader(path) as store:
        found, bad = walk(store, 1)
        assert [(c.command_uuid, c.data_bytes) for c in found] == [("a", b"12")]
        assert len(bad) == 2


def test_ids_at_the_ends_of_64_bits_are_read(path):
    create_sqlite(path, "A")
    fill(path, [{"id": n, "uuid": f"c{n}", "created_at": 5} for n in (INT64_MIN, -1, 0, 1, INT64_MAX)])
    with reader(path) as store:
        assert len(walk(store, 1)[0]) == store.total() == store.total(domain="") == 5
        assert len(walk(store, 2, ascending=False)[0]) == 5


def test_a_cursor_of_another_query_is_refused(path):
    database(path, "C", GOOD)
    with reader(path) as store:
        cursor = store.list(limit=2).cursor
        with pytest.raises(InvalidQuery):
            store.list(cursor=cursor, tenant_uuid="a")


@pytest.mark.parametrize("generation", ["A", "C"])
def test_pages_end_by_bytes_before_they_fill_the_memory(generation, path, monkeypatch):
    monkeypatch.setattr("commandstore.sql.shared.PAGE_BYTES", 100_000)
    large = [{"uuid": f"c{n}", "created_at": n, "data_bytes": b"x" * 40_000} for n in range(8)]
    database(path, generation, large)
    with reader(path) as store:
        for ascending in (True, False):
            parts = slices(store, 1000, ascending=ascending)
            assert [len(part.rows) for part in parts][:2] == [3, 3]
            assert sum(len(part.rows) for part in parts) == 8
        parts = slices(store, 1000, session_uuid="")
        assert sum(len(part.rows) for part in parts) == 8
        assert len(walk(store, 1000)[0]) == 8


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, StoreNotFound, "commandstore init sqlite:///"),
        (b"", StoreNotFound, "no table commands"),
        (b"no database at all, but long enough for one" * 10, ConfigurationError, "not a SQLite database"),
        (b"SQLite format 3\0" + b"\1" * 2000, ConfigurationError, "is not a SQLite database"),
    ],
)
def test_what_is_no_database_is_named(content, error, says, path):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=says):
        reader(path)
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_directory_and_a_pipe_are_no_databases(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(ConfigurationError, match="not a SQLite database"):
            reader(tmp_path / name)
    with pytest.raises(StoreNotFound):
        reader(tmp_path / "pipe" / "app.db")


def test_a_table_that_is_not_combys_is_named_with_what_it_lacks(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("CREATE TABLE commands (id INTEGER PRIMARY KEY, uuid TEXT, created_at INTEGER)")
    with pytest.raises(ConfigurationError, match="instance_id, tenant_uuid, domain, data_type, data_bytes, req_ctx"):
        reader(path)


def test_a_database_behind_a_link_is_the_same_store(path, tmp_path):
    database(path, "C", GOOD)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "current.db"
    link.symlink_to(path)
    with reader(path) as store, reader(link) as linked:
        assert str(store) == str(linked)
        assert list(linked.scan()) == list(store.scan())


def test_a_file_that_replaces_another_is_read_anew(path, tmp_path):
    database(path, "A", GOOD)
    database(tmp_path / "backup.db", "A", ODD)
    with reader(path) as store:
        assert store.list(limit=100).commands == tuple(commands(GOOD))
        (tmp_path / "backup.db").replace(path)
        assert store.list(limit=100).commands == tuple(commands(ODD))


def test_probe_and_fetch_agree(path):
    database(path, "A")
    with reader(path) as store:
        uuids = [row["uuid"] for row in ROWS if isinstance(row.get("uuid"), str)]
        digests = run(store.core.backend.probe([*uuids, "missing"]))
        assert digests.keys() == {uuid for uuid in uuids if uuid}
        assert {uuid for uuid, digest in digests.items() if not digest} == {
            row["uuid"] for row in BAD if isinstance(row.get("uuid"), str) and row["uuid"]
        }
