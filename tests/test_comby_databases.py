"""The databases that stand for comby's are as comby's Go stores make them."""

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing, suppress

import psycopg
import pytest

from commandstore.testing.comby import (
    GENERATIONS,
    CombyRow,
    create_postgres,
    create_role,
    create_sqlite,
    enable_rls,
    insert_postgres,
    insert_sqlite,
    migrate_sqlite,
    raw_insert_postgres,
    raw_insert_sqlite,
    sample_commands,
    sample_tenants,
)

_REST = ["domain", "created_at", "data_type", "data_bytes", "req_ctx"]
_OLD = ["id", "instance_id", "uuid", "tenant_uuid", *_REST]
_NEW = ["id", "instance_id", "uuid", "tenant_uuid", "workspace_uuid", *_REST]
COLUMNS = {"A": _OLD, "B": _OLD, "C": _NEW, "C'": [*_OLD, "workspace_uuid"]}
INDEXES = {
    "A": {"tenant_index": "tenant_uuid"},
    "B": {"tenant_index": "tenant_uuid", "uuid_index": "uuid", "created_at_index": "created_at"},
}
INDEXES["C"] = INDEXES["C'"] = {**INDEXES["B"], "workspace_index": "workspace_uuid"}
each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def _query(path, statement, *arguments):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, arguments).fetchall()


def _postgres_query(url, statement):
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def _indexes(definitions):
    """Name to column and uniqueness, from the text of CREATE INDEX."""
    pattern = re.compile(r'CREATE( UNIQUE)? INDEX "?(\w+)"? ON .*\("?(\w+)"?(?: ASC)?\)')
    found = [pattern.match(text).groups() for text in definitions]
    return {name: column for _, name, column in found}, {name for unique, name, _ in found if unique}


@each_generation
def test_sqlite_has_the_columns_of_its_generation_in_order(generation, path):
    create_sqlite(path, generation)
    columns = _query(path, "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('commands')")
    assert [name for name, *_ in columns] == COLUMNS[generation]
    integers = {"id", "instance_id", "created_at"}
    for name, kind, *rest in columns:
        assert [kind, *rest] == ["INTEGER" if name in integers else "TEXT", 0, None, int(name == "id")]


@each_generation
def test_sqlite_has_the_indexes_of_its_generation(generation, path):
    create_sqlite(path, generation)
    sources = [sql for (sql,) in _query(path, "SELECT sql FROM sqlite_master WHERE type = 'index'")]
    columns, unique = _indexes(sources)
    assert columns == INDEXES[generation]
    assert unique == ({"uuid_index"} if generation != "A" else set())


@each_generation
def test_sqlite_has_the_journal_of_its_generation_and_is_left_cleanly_closed(generation, path):
    create_sqlite(path, generation)
    insert_sqlite(path, sample_commands(10))
    assert _query(path, "PRAGMA journal_mode") == [("delete" if generation == "A" else "wal",)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_sqlite_gives_out_the_ids_of_deleted_top_rows_again(path):
    create_sqlite(path, "C")
    with closing(sqlite3.connect(path)) as connection:
        first = raw_insert_sqlite(connection, uuid="a")
        connection.execute("DELETE FROM commands")
        assert raw_insert_sqlite(connection, uuid="b") == first


@each_generation
def test_rows_come_back_from_sqlite_as_they_went_in(generation, path):
    create_sqlite(path, generation)
    rows = list(sample_commands(500, payload="mixed", ties=20))
    assert insert_sqlite(path, rows) == 500
    names = [name for name in CombyRow._fields if name in COLUMNS[generation]]
    wanted = ", ".join(f"CAST({n} AS BLOB)" if n == "data_bytes" else n for n in names)
    stored = _query(path, f"SELECT {wanted} FROM commands ORDER BY id")  # noqa: S608 - names from above
    assert stored == [tuple(getattr(row, name) for name in names) for row in rows]


def test_a_migrated_sqlite_table_has_no_workspace_in_its_older_rows(path):
    rows = list(sample_commands(20))
    create_sqlite(path, "C'", older=rows[:10])
    insert_sqlite(path, rows[10:])
    workspaces = [workspace for (workspace,) in _query(path, "SELECT workspace_uuid FROM commands ORDER BY id")]
    assert workspaces == [None] * 10 + [row.workspace_uuid for row in rows[10:]]


def test_the_index_on_workspaces_of_a_migrated_sqlite_table_is_wrong_for_its_older_rows(path):
    create_sqlite(path, "C'", older=sample_commands(10))
    assert _query(path, "SELECT count(*) FROM commands WHERE workspace_uuid IS NULL") == [(0,)]
    assert _query(path, "SELECT DISTINCT workspace_uuid FROM commands") == [("workspace_uuid",)]
    assert _query(path, "SELECT count(*) FROM commands NOT INDEXED WHERE workspace_uuid IS NULL") == [(10,)]
    assert _query(path, "PRAGMA integrity_check")[0] == ("row 1 missing from index workspace_index",)


def test_a_sqlite_table_with_a_uuid_twice_stays_without_a_workspace(path):
    create_sqlite(path, "A")
    row = next(sample_commands(1))
    insert_sqlite(path, [row, row])
    with suppress(sqlite3.IntegrityError):
        migrate_sqlite(path)
    assert [name for (name,) in _query(path, "SELECT name FROM pragma_table_info('commands')")] == COLUMNS["A"]
    assert _query(path, "PRAGMA journal_mode") == [("wal",)]
    names = {name for (name,) in _query(path, "SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert names == {"tenant_index", "workspace_index"}


@pytest.mark.parametrize("generation", ["B", "C"])
def test_events_in_the_same_sqlite_file_take_the_names_of_the_indexes(generation, path):
    create_sqlite(path, generation, events=True)
    assert _query(path, "SELECT name FROM pragma_index_list('commands')") == []
    row = next(sample_commands(1))
    assert insert_sqlite(path, [row, row]) == 2


def test_what_go_never_writes_can_stand_in_a_sqlite_file(path):
    create_sqlite(path, "A")
    with closing(sqlite3.connect(path)) as connection:
        raw_insert_sqlite(connection, uuid="twice", created_at=None)
        raw_insert_sqlite(connection, uuid="twice", data_bytes=b"a\0b", req_ctx=b"\xff\xfe")
        raw_insert_sqlite(connection, data_bytes=memoryview(b"\x80"))
    stored = _query(
        path, "SELECT uuid, typeof(data_bytes), CAST(data_bytes AS BLOB), CAST(req_ctx AS BLOB) FROM commands"
    )
    assert stored == [
        ("twice", "null", None, None),
        ("twice", "text", b"a\0b", b"\xff\xfe"),
        (None, "blob", b"\x80", None),
    ]


@each_generation
def test_postgres_has_the_columns_of_its_generation_in_order(generation, postgres_url):
    create_postgres(postgres_url, generation)
    columns = _postgres_query(
        postgres_url,
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_name = 'commands' ORDER BY ordinal_position",
    )
    assert [name for name, *_ in columns] == COLUMNS[generation]
    types = {"id": "integer", "instance_id": "integer", "created_at": "bigint"}
    assert columns[0] == ("id", "integer", "NO", "nextval('commands_id_seq'::regclass)")
    assert all(rest == [types.get(name, "text"), "YES", None] for name, *rest in columns[1:])


@each_generation
def test_postgres_has_the_indexes_of_its_generation(generation, postgres_url):
    create_postgres(postgres_url, generation)
    sources = [
        sql for (sql,) in _postgres_query(postgres_url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'")
    ]
    columns, unique = _indexes(text.replace("USING btree ", "") for text in sources)
    renamed = {"uuid_index": "cmd_uuid_index", "created_at_index": "cmd_created_at_index"}
    assert columns == {"commands_pkey": "id"} | {renamed.get(n, n): c for n, c in INDEXES[generation].items()}
    assert unique == {"commands_pkey"} | ({"cmd_uuid_index"} if generation != "A" else set())


@each_generation
def test_rows_come_back_from_postgres_as_they_went_in(generation, postgres_url):
    rows = list(sample_commands(500, payload="mixed"))
    create_postgres(postgres_url, generation)
    assert insert_postgres(postgres_url, rows) == 500
    names = [name for name in CombyRow._fields if name in COLUMNS[generation]]
    stored = _postgres_query(postgres_url, f"SELECT {', '.join(names)} FROM commands ORDER BY id")  # noqa: S608
    wanted = [row._replace(data_bytes=row.data_bytes.decode()) for row in rows]
    assert stored == [tuple(getattr(row, name) for name in names) for row in wanted]


def test_a_migrated_postgres_table_has_no_workspace_in_its_older_rows(postgres_url):
    create_postgres(postgres_url, "C'", older=sample_commands(10))
    assert _postgres_query(postgres_url, "SELECT DISTINCT workspace_uuid FROM commands") == [(None,)]


def test_events_in_the_same_postgres_database_take_two_names_of_the_indexes(postgres_url):
    create_postgres(postgres_url, "C", events=True)
    names = {
        name
        for (name,) in _postgres_query(postgres_url, "SELECT indexname FROM pg_indexes WHERE tablename = 'commands'")
    }
    assert names == {"commands_pkey", "cmd_uuid_index", "cmd_created_at_index"}


def test_a_postgres_row_may_be_all_null(postgres_url):
    create_postgres(postgres_url, "A")
    assert raw_insert_postgres(postgres_url, uuid="twice") == 1
    assert raw_insert_postgres(postgres_url, uuid="twice") == 2
    assert _postgres_query(postgres_url, "SELECT DISTINCT created_at FROM commands") == [(None,)]


def test_row_level_security_shows_a_reader_one_tenant_or_nothing(postgres_url):
    create_postgres(postgres_url, "C")
    rows = list(sample_commands(30))
    insert_postgres(postgres_url, rows)
    enable_rls(postgres_url)
    count = "SELECT count(*) FROM commands"
    reader = create_role(postgres_url, "rls_reader")
    assert _postgres_query(reader, count) == [(0,)]
    with psycopg.connect(reader) as connection:
        tenant = sample_tenants()[0]
        connection.execute("SELECT set_config('app.tenant_uuid', %s, true)", [tenant])
        assert connection.execute(count).fetchone() == (sum(row.tenant_uuid == tenant for row in rows),)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM commands")
    assert _postgres_query(create_role(postgres_url, "rls_operator", bypass_rls=True), count) == [(30,)]
    writer = create_role(postgres_url, "rls_writer", write=True)
    with psycopg.connect(writer) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level"):
        connection.execute("INSERT INTO commands (tenant_uuid) VALUES ('x')")


def test_the_policy_is_the_one_that_comby_makes(postgres_url):
    create_postgres(postgres_url, "C")
    enable_rls(postgres_url)
    enable_rls(postgres_url)  # as in comby, a second time is fine
    condition = "(tenant_uuid = current_setting('app.tenant_uuid'::text, true))"
    policies = _postgres_query(
        postgres_url, "SELECT policyname, permissive, cmd, roles::text, qual, with_check FROM pg_policies"
    )
    assert policies == [("comby_tenant_isolation", "PERMISSIVE", "ALL", "{public}", condition, condition)]
    flags = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = 'commands'"
    assert _postgres_query(postgres_url, flags) == [(True, True)]


def test_sample_commands_are_the_same_for_the_same_seed_and_others_for_another():
    assert list(sample_commands(50)) == list(sample_commands(50))
    assert not {row.uuid for row in sample_commands(50)} & {row.uuid for row in sample_commands(50, seed=1)}


def test_sample_commands_look_like_go_wrote_them():
    rows = list(sample_commands(2_000))
    uuid4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(uuid4.fullmatch(row.uuid) and uuid4.fullmatch(row.tenant_uuid) for row in rows)
    assert len({row.uuid for row in rows}) == 2_000
    assert {row.tenant_uuid for row in rows} == set(sample_tenants())
    times = [row.created_at for row in rows]
    assert times == sorted(set(times))
    assert 10**18 < times[0] < times[-1] < 2 * 10**18
    assert all(isinstance(json.loads(row.data_bytes), dict) and 500 < len(row.data_bytes) <= 600 for row in rows)
    contexts = [row.req_ctx for row in rows]
    assert "" in contexts
    assert all(len(json.loads(text)) == 14 for text in contexts if text)
    assert "" in {row.workspace_uuid for row in rows}
    assert all(json.loads(row.req_ctx)["targetWorkspaceUuid"] == row.workspace_uuid for row in rows if row.req_ctx)


def test_a_handful_of_mixed_payloads_spans_2_bytes_to_2_megabytes():
    sizes = [len(row.data_bytes) for row in sample_commands(12, payload="mixed")]
    assert min(sizes) == 2
    assert 1_900_000 < max(sizes) <= 2_000_000
    assert any(400_000 < size <= 500_000 for size in sizes)


def test_a_stretch_of_ties_shares_one_timestamp():
    groups = Counter(row.created_at for row in sample_commands(500, ties=20))
    assert sorted(count for count in groups.values() if count > 1) == [20, 20, 20]
    first = next(iter(groups))
    assert groups[first] == 20
