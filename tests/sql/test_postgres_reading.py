"""Every generation of comby's table in Postgres, read whole: filters, orders, ties, cursors, broken rows."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from operator import attrgetter

import psycopg
import pytest

from commandstore import Command, CommandStore, open_store, sync_command_store
from commandstore.memory import MemoryBackend
from commandstore.testing import comby

TEXTS = ("uuid", "tenant_uuid", "workspace_uuid", "domain", "data_type", "data_bytes", "req_ctx")


def command_of(row: comby.CombyRow, generation: str) -> Command:
    return Command(
        row.uuid,
        row.created_at,
        row.instance_id,
        row.tenant_uuid,
        row.workspace_uuid if generation in {"C", "C'"} else "",
        row.domain,
        row.data_type,
        row.data_bytes,
        row.req_ctx,
    )


def position(command: Command) -> tuple[int, bytes]:
    return command.created_at, command.command_uuid.encode()


def paged(store, limit, **options):
    """All commands by cursors, and what is corrupt."""
    found, corrupt, cursor = [], [], None
    while True:
        page = store.list(limit=limit, cursor=cursor, with_total=False, **options)
        found += page.commands
        corrupt += page.corrupt
        cursor = page.cursor
        if cursor is None:
            return found, corrupt


@pytest.fixture(params=comby.GENERATIONS)
def generation(request):
    return request.param


@pytest.fixture
def database(postgres_url, generation):
    older = list(comby.sample_commands(5, seed=1)) if generation == "C'" else []
    comby.create_postgres(postgres_url, generation, older=older)
    return postgres_url


@pytest.fixture
def store(database):
    with open_store(database, read_only=True) as opened:
        yield opened


@pytest.fixture
def other(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@contextmanager
def in_encoding(postgres, encoding):
    """A database of its own in this encoding."""
    name = f"commandstore_in_{encoding.lower()}"
    with psycopg.connect(postgres.url, autocommit=True) as maintenance:
        maintenance.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        try:
            yield postgres.url.rpartition("/")[0] + f"/{name}"
        finally:
            maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_every_field_of_every_row_is_read_as_it_is(store, database, generation):
    rows = list(comby.sample_commands(60, ties=10))
    comby.insert_postgres(database, rows)
    older = [row._replace(workspace_uuid="") for row in comby.sample_commands(5, seed=1)] if generation == "C'" else []
    expected = sorted((command_of(row, generation) for row in [*older, *rows]), key=position)
    assert list(store.scan()) == expected
    with CommandStore(MemoryBackend()) as copy:
        copy.init()
        assert sync_command_store(store, copy, batch_size=7).copied == len(expected)
        assert list(copy.scan()) == expected
    assert [store.get(command.command_uuid) for command in expected] == expected


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_ties_at_any_page_boundary_come_once_and_in_order(store, database, ascending, limit):
    comby.insert_postgres(
        database, [row._replace(created_at=n // 8) for n, row in enumerate(comby.sample_commands(24))]
    )
    found, corrupt = paged(store, limit, ascending=ascending)
    assert found == sorted(store.scan(), key=position, reverse=not ascending)
    assert len(found) >= 24
    assert not corrupt


def test_each_filter_and_all_together_choose_what_they_say(store, database):
    comby.insert_postgres(database, comby.sample_commands(80, tenants=2, ties=5))
    everything = list(store.scan())
    some = everything[33]
    names = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")
    for count in (1, 2, len(names)):
        for chosen in itertools.combinations(names, count):
            filters = {name: getattr(some, name) for name in chosen}
            expected = [c for c in everything if attrgetter(*chosen)(c) == attrgetter(*chosen)(some)]
            assert paged(store, 3, **filters)[0] == expected
            assert store.total(**filters) == len(expected)
    inner = [c for c in everything if everything[10].created_at < c.created_at < everything[60].created_at]
    assert list(store.scan(after=everything[10].created_at, before=everything[60].created_at)) == inner
    assert store.total(domain="nowhere") == 0


@pytest.mark.parametrize("ascending", [True, False])
def test_null_in_a_column_reads_as_nothing_and_stops_no_page(store, other, ascending):
    columns = [
        row[0]
        for row in other.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'commands'::regclass AND attnum > 0 AND attname <> 'id'"
        )
    ]
    other.execute("DELETE FROM commands")
    for column in columns:
        values = {
            name: f"n-{column}" if name == "uuid" else 7 if name in {"created_at", "instance_id"} else "x"
            for name in columns
        }
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        insert = f"INSERT INTO commands ({names}) VALUES ({marks})"  # noqa: S608
        other.execute(insert, list((values | {column: None}).values()))
    found, corrupt = paged(store, 1, ascending=ascending)
    (nameless,) = other.execute("SELECT id FROM commands WHERE uuid IS NULL").fetchone()
    assert [error.location for error in corrupt] == [f"row {nameless}"]
    by_uuid = {command.command_uuid: command for command in found}
    assert found == sorted(found, key=position, reverse=not ascending)
    assert by_uuid["n-created_at"].created_at == by_uuid["n-instance_id"].instance_id == 0
    for column in set(columns) - {"uuid", "created_at", "instance_id"}:
        empty = getattr(by_uuid[f"n-{column}"], column)
        assert empty == (b"" if column == "data_bytes" else "")
    assert {c.command_uuid for c in store.scan(domain="")} == {"n-domain"}
    assert {c.command_uuid for c in store.scan(before=1)} == {"n-created_at"}


def test_no_time_sorts_before_every_time_and_pages_pass_from_one_to_the_other(store, other):
    other.execute("DELETE FROM commands")
    for uuid, time in (("c", None), ("a", None), ("b", -5), ("d", None), ("e", 0)):
        other.execute("INSERT INTO commands (uuid, created_at) VALUES (%s, %s)", [uuid, time])
    for limit in (1, 2, 3, 4, 5):
        assert [c.command_uuid for c in paged(store, limit)[0]] == ["a", "c", "d", "b", "e"]
        assert [c.command_uuid for c in paged(store, limit, ascending=False)[0]] == ["e", "b", "d", "c", "a"]


def test_a_context_that_is_no_json_is_kept_and_has_no_session(store, other):
    for context in ('{"senderSessionUuid": "s"', "[1]", "nonsense", '"text"', '{"senderSessionUuid": 5}'):
        other.execute("INSERT INTO commands (uuid, created_at, req_ctx) VALUES (%s, 0, %s)", [context, context])
        assert store.get(context).req_ctx == context
    assert store.total(session_uuid="s") == 0
    assert store.total(session_uuid="") >= 5


def test_a_uuid_that_stands_twice_in_the_oldest_generation_stops_nothing(postgres_url):
    comby.create_postgres(postgres_url, "A")
    for time, domain in ((5, "first"), (3, "second"), (5, "first"), (4, "third")):
        comby.raw_insert_postgres(postgres_url, uuid="twice", created_at=time, domain=domain)
    comby.raw_insert_postgres(postgres_url, uuid="z", created_at=5)
    with open_store(postgres_url, read_only=True) as store, CommandStore(MemoryBackend()) as copy:
        for limit in (1, 2, 3):
            assert [c.domain for c in paged(store, limit)[0]] == ["second", "third", "first", "first", ""]
        assert store.get("twice").domain == "first"
        copy.init()
        report = sync_command_store(store, copy)
        assert (report.read, report.copied, report.duplicates, report.conflicts) == (5, 2, 0, 3)
        assert sync_command_store(store, copy).read == 0


@pytest.mark.parametrize("ascending", [True, False])
def test_bytes_that_are_no_utf8_are_one_bad_row_each(postgres, ascending):
    """SQL_ASCII vouches for nothing: whatever bytes came stand in the columns."""
    with in_encoding(postgres, "SQL_ASCII") as url:
        comby.create_postgres(url, "C")
        comby.insert_postgres(url, comby.sample_commands(10))
        with psycopg.connect(url, autocommit=True, client_encoding="SQL_ASCII") as raw:
            for number, column in enumerate(TEXTS):
                known = "" if column == "uuid" else ", uuid"
                value = "" if column == "uuid" else f", 'bad-{column}'"
                raw.execute(
                    f"INSERT INTO commands (created_at, {column}{known}) "  # noqa: S608
                    f"VALUES ({number % 2}, convert_from('\\xfffe41', 'SQL_ASCII'){value})"
                )
        comby.raw_insert_postgres(url, uuid="grün-\u6f22", created_at=1, domain="größer", data_bytes="{}")
        with open_store(url) as store, CommandStore(MemoryBackend()) as copy:
            for limit in (1, 2, 100):
                found, corrupt = paged(store, limit, ascending=ascending)
                # A payload is bytes, whatever they are.
                assert len(found) == 12
                assert {e.command_uuid or e.location for e in corrupt} == {
                    f"bad-{column}" for column in TEXTS if column not in {"uuid", "data_bytes"}
                } | {"row 11"}
            assert store.get("bad-data_bytes").data_bytes == b"\xff\xfeA"
            assert store.get("grün-\u6f22").domain == "größer"
            assert store.total(domain="größer") == 1
            copy.init()
            report = sync_command_store(store, copy, skip_on_error=True, batch_size=1)
            assert (report.copied, report.failed) == (12, 6)
            assert sync_command_store(store, copy, skip_on_error=True).read == 6
            # Unique indexes and the rest are recognised there too.
            store.create(Command("new-ü", 5))
            assert store.get("new-ü").created_at == 5


def test_a_database_in_another_encoding_gives_the_right_characters(postgres):
    with in_encoding(postgres, "LATIN1") as url:
        comby.create_postgres(url, "C")
        for uuid in ("z", "é", "a", "ÿ", "~"):
            comby.raw_insert_postgres(url, uuid=uuid, created_at=1, domain="Grüße")
        with open_store(url) as store:
            for limit in (1, 2):
                assert [c.command_uuid for c in paged(store, limit)[0]] == ["a", "z", "~", "é", "ÿ"]
            assert store.total(domain="Grüße") == 5
            assert store.total(domain="\u6f22") == 0
            assert store.get("\u6f22") is None
            assert store.get_many(["é", "\u6f22"]).keys() == {"é"}
            result = store.create_many([Command("ok-é", 2), Command("no", 2, data_bytes="\u6f22".encode())])
            assert [str(failure.error) for failure in result.failed] == [
                "command 'no': the database's encoding (LATIN1) lacks a character of it"
            ]
            assert result.created == ("ok-é",)


def test_the_order_is_that_of_bytes_whatever_the_database_collates_by(postgres):
    name = "commandstore_collated"
    with psycopg.connect(postgres.url, autocommit=True) as maintenance:
        maintenance.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        )
        try:
            url = postgres.url.rpartition("/")[0] + f"/{name}"
            comby.create_postgres(url, "B")
            # This build has no other locale; a column may have its collation all the same.
            with psycopg.connect(url, autocommit=True) as other:
                other.execute('ALTER TABLE commands ALTER COLUMN uuid TYPE text COLLATE "pg_unicode_fast"')
            uuids = ["a", "B", "é", "Z", "_", "\U0001f69a", "\uffee"]
            for uuid in uuids:
                comby.raw_insert_postgres(url, uuid=uuid, created_at=1)
            with open_store(url, read_only=True) as store:
                assert [c.command_uuid for c in paged(store, 1)[0]] == sorted(uuids, key=str.encode)
        finally:
            maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
