"""Who may do what: roles, row level security, passwords, TLS; and that a refusal says what to do about it."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from commandstore import (
    AccessDenied,
    Command,
    CommandStore,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    SyncError,
    Throttled,
    open_store,
    sync_command_store,
)
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url
from commandstore.testing import comby
from commandstore.testing.engines import Postgres

PASSWORD = "p%40ss-w0rd"  # '@' as URLs write it
_numbers = itertools.count(1)


@pytest.fixture
def database(postgres_url):
    comby.create_postgres(postgres_url, "C")
    rows = [row._replace(tenant_uuid="ab"[n % 2]) for n, row in enumerate(comby.sample_commands(10))]
    comby.insert_postgres(postgres_url, rows)
    return postgres_url


@pytest.fixture
def superuser(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def role(database, superuser):
    """Roles of this test alone; roles belong to the whole cluster."""
    made = []

    def make(**options):
        name = f"access_{next(_numbers)}"
        made.append(name)
        return comby.create_role(database, name, **options)

    yield make
    for name in made:
        superuser.execute(f"DROP OWNED BY {name}")
        superuser.execute(f"DROP ROLE {name}")


@pytest.fixture
def destination():
    with CommandStore(MemoryBackend()) as store:
        store.init()
        yield store


@contextmanager
def refused(kind, *words):
    with pytest.raises(kind) as caught:
        yield
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "ss-w0rd" not in said
    assert "p@ss" not in said


def tenants(store):
    return {command.tenant_uuid for command in store.scan()}


# Row level security


@pytest.mark.parametrize("look", [lambda s: s.total(), lambda s: s.list(), lambda s: s.get("x"), lambda s: s.info()])
def test_hidden_rows_are_an_error_and_never_an_empty_store(database, role, look):
    comby.enable_rls(database)
    with open_store(role(), read_only=True) as store, refused(AccessDenied, "?tenant_uuid=", "BYPASSRLS"):
        look(store)


def test_a_sync_that_would_see_nothing_says_so(database, role, destination):
    comby.enable_rls(database)
    with open_store(role(), read_only=True) as store, refused(SyncError, "?tenant_uuid=", "BYPASSRLS"):
        sync_command_store(store, destination)
    assert destination.total() == 0


def test_the_tenant_in_the_url_shows_that_tenants_commands(database, role, destination):
    comby.enable_rls(database)
    with open_store(role() + "?tenant_uuid=a", read_only=True) as store:
        assert tenants(store) == {"a"}
        assert store.total() == 5
        assert sync_command_store(store, destination, tenant_uuid="a").copied == 5
        assert sync_command_store(store, destination, tenant_uuid="a").read == 0
    with open_store(role() + "?tenant_uuid=nobody", read_only=True) as store:
        assert store.total() == 0


def test_each_tenants_connection_is_its_own_also_when_they_share_a_server(database, role):
    comby.enable_rls(database)
    url = role()
    with open_store(url + "?tenant_uuid=a") as first, open_store(url + "?tenant_uuid=b") as second:
        for _ in range(3):
            assert (tenants(first), tenants(second)) == ({"a"}, {"b"})
        assert str(first) != str(second)


def test_a_writer_of_one_tenant_can_not_write_for_another(database, role):
    comby.enable_rls(database)
    with open_store(role(write=True) + "?tenant_uuid=a") as store:
        store.create(Command("mine", 1, tenant_uuid="a"))
        assert store.get("mine").tenant_uuid == "a"
        with refused(AccessDenied, "another tenant"):
            store.create(Command("theirs", 1, tenant_uuid="b"))
        hidden = next(c for c in (Command(u, 1, tenant_uuid="a") for u in uuids_of(database, "b")))
        assert store.create_many([hidden]).conflicting == (hidden.command_uuid,)


def uuids_of(url, tenant):
    with psycopg.connect(url) as connection:
        return [u for (u,) in connection.execute("SELECT uuid FROM commands WHERE tenant_uuid = %s", [tenant])]


@pytest.mark.parametrize("who", ["bypassing", "superuser"])
def test_a_role_that_sees_all_copies_all(database, role, destination, who):
    comby.enable_rls(database)
    url = role(bypass_rls=True) if who == "bypassing" else database
    with open_store(url, read_only=True) as store:
        assert sync_command_store(store, destination).copied == 10
        assert sync_command_store(store, destination).read == 0
    with refused(ConfigurationError, "filter by tenant"):
        open_store(url + "?tenant_uuid=a")


# What a role may do


def test_a_sync_needs_to_connect_to_use_the_schema_and_to_select(database, role, superuser, destination):
    url = role()
    name = url.partition("//")[2].partition("@")[0]
    with open_store(url, read_only=True) as store:
        assert sync_command_store(store, destination).copied == 10
        assert sync_command_store(store, destination).read == 0
    superuser.execute(f"REVOKE SELECT ON commands FROM {name}")  # noqa: S608
    with open_store(url, read_only=True) as store, refused(AccessDenied, "SELECT on commands"):
        store.total()
    superuser.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    superuser.execute(f"REVOKE USAGE ON SCHEMA public FROM {name}")
    with refused(AccessDenied, "GRANT USAGE ON SCHEMA"):
        open_store(url)
    superuser.execute(f"REVOKE CONNECT ON DATABASE {database.rpartition('/')[2]} FROM {name}, PUBLIC")
    with refused(AccessDenied, "CONNECT"):
        open_store(url)


@pytest.mark.parametrize("generation", ["A", "C"])
@pytest.mark.parametrize("registers", ["to be made", "made before"])
def test_a_destination_needs_to_insert_to_number_and_to_keep_registers(
    generation, registers, database, role, superuser
):
    url = role()
    name = url.partition("//")[2].partition("@")[0]
    superuser.execute("UPDATE commands SET workspace_uuid = ''")  # A has none
    superuser.execute("CREATE SCHEMA target")
    path = "?options=-csearch_path%3Dtarget"
    comby.create_postgres(database + path, generation)
    superuser.execute(f"GRANT USAGE ON SCHEMA target TO {name}")
    superuser.execute(f"GRANT SELECT, INSERT ON target.commands TO {name}")
    superuser.execute(f"GRANT USAGE ON SEQUENCE target.commands_id_seq TO {name}")
    if generation == "A":
        superuser.execute(f"GRANT UPDATE ON target.commands TO {name}")
    if registers == "made before":
        superuser.execute("CREATE TABLE target.commandstore_registers (name TEXT PRIMARY KEY, value BYTEA, token TEXT)")
        superuser.execute(f"GRANT SELECT, INSERT, DELETE ON target.commandstore_registers TO {name}")
    else:
        superuser.execute(f"GRANT CREATE ON SCHEMA target TO {name}")
    with open_store(url, read_only=True) as source, open_store(url + path) as target:
        assert sync_command_store(source, target).copied == 10
        assert sync_command_store(source, target).read == 0


def test_a_role_that_reads_only_by_default_reads_and_is_told_that_it_can_not_write(role, superuser, destination):
    url = role(write=True)
    name = url.partition("//")[2].partition("@")[0]
    superuser.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on")
    with open_store(url) as store:
        assert sync_command_store(store, destination).copied == 10
        with refused(AccessDenied, "is read-only"):
            store.create(Command("x", 1))
    with open_store(role()) as reader, refused(AccessDenied, "does not allow"):
        reader.create(Command("x", 1))
    with open_store(role()) as reader, refused(SyncError, "does not allow"):
        sync_command_store(destination, reader)


def test_a_role_whose_transactions_are_serializable_by_default_reads_and_writes_as_others_do(role, superuser):
    url = role(write=True)
    name = url.partition("//")[2].partition("@")[0]
    superuser.execute(f"ALTER ROLE {name} SET default_transaction_isolation = serializable")
    with open_store(url) as first, open_store(url) as second, ThreadPoolExecutor(2) as pool:
        for number in range(20):
            commands = [Command(f"{number}-{n}", n) for n in range(50)]
            results = list(pool.map(lambda store, some=commands: store.create_many(some), (first, second)))
            assert sum(len(result.created) for result in results) == 50
            assert sum(len(result.duplicate) for result in results) == 50
        assert first.total() == 1010


def test_a_role_with_too_many_connections_is_told_to_slow_down(role, superuser):
    url = role()
    superuser.execute(f"ALTER ROLE {url.partition('//')[2].partition('@')[0]} CONNECTION LIMIT 1")
    with open_store(url, read_only=True) as store:
        assert store.total() == 10
        with refused(Throttled, "no connection left"):
            open_store(url)


def test_a_statement_that_takes_too_long_is_unavailable_and_names_the_setting(database, superuser):
    url = database + "?options=-c%20statement_timeout%3D50"
    with open_store(url, read_only=True) as store:
        superuser.execute("BEGIN")
        superuser.execute("LOCK TABLE commands IN ACCESS EXCLUSIVE MODE")
        with refused(StoreUnavailable, "statement_timeout"):
            store.total()
        superuser.execute("ROLLBACK")
        assert store.total() == 10


# Getting in


@pytest.fixture(scope="module")
def locked():
    """A server that asks everybody but its superuser for a password, and the URL of one who has it."""
    with Postgres() as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            (place,) = connection.execute("SHOW hba_file").fetchone()
            rules = "host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"
            values = ", ".join(f"('{rule}')" for rule in rules)
            connection.execute(f"COPY (VALUES {values}) TO '{place}'")
            connection.execute("CREATE ROLE app LOGIN PASSWORD 'p@ss-w0rd'")
            connection.execute("SELECT pg_reload_conf()")
        comby.create_postgres(server.url, "C")
        url = server.url.replace("postgres@", "app@")
        while _lets_in(url):
            pass
        yield url


def _lets_in(url):
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_the_right_password_lets_in(locked):
    with open_store(locked.replace("app@", f"app:{PASSWORD}@")) as store:
        assert "ss-w0rd" not in str(store) + repr(store) + store.options.__repr__()
        assert "ss-w0rd" not in repr(vars(store.core.backend))
        with refused(AccessDenied, "SELECT on commands"):
            store.total()


def test_a_wrong_or_missing_password_is_denied(locked):
    with refused(AccessDenied, "refused the password"):
        open_store(locked.replace("app@", f"app:{PASSWORD}x@"))
    with refused(AccessDenied, "wants a password"):
        open_store(locked)
    with refused(AccessDenied, "refused the password"):
        open_store(locked.replace("app@", f"nobody:{PASSWORD}@"))


NOT_THERE = [
    ("postgresql://app:{p}@127.0.0.1:1/x", StoreUnavailable, "can't be reached"),
    ("postgresql://app:{p}@host.invalid/x", StoreUnavailable, "host name"),
    ("postgresql://app:{p}@127.0.0.1:99999/x", ConfigurationError, "URL"),
    ("postgresql://app:{p}@127.0.0.1:abc/x", ConfigurationError, "whole"),
    ("postgresql://app:p@ss/w0rd:x@127.0.0.1/x", ConfigurationError, "%2F"),
    ("postgresql://app:{p}@127.0.0.1/x?connect_timeout=soon", ConfigurationError, "whole"),
    ("postgresql://app:{p}@127.0.0.1/x?sslmode=sometimes", ConfigurationError, "URL"),
    ("postgresql://app:{p}@127.0.0.1/x?passwort=x", ConfigurationError, "unknown option"),
]


@pytest.mark.parametrize(("url", "kind", "word"), NOT_THERE)
def test_what_can_not_be_reached_says_why(url, kind, word):
    with refused(kind, word):
        open_store(url.format(p=PASSWORD))


def test_no_such_database_role_table_or_column_says_which(postgres, postgres_url):
    with refused(StoreNotFound, "no such database"):
        open_store(postgres.url.rpartition("/")[0] + "/certificate invalid")
    with refused(AccessDenied, "no such role"):
        open_store(postgres_url.replace("postgres@", "database@"))
    with refused(StoreNotFound, "commandstore init"):
        open_store(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE commands (id serial, uuid text)")
    with refused(ConfigurationError, "no column created_at"):
        open_store(postgres_url)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_that_the_server_does_not_speak_is_said(database, mode):
    with refused(ConfigurationError, "does not speak TLS"):
        open_store(f"{database}?sslmode={mode}")
    with open_store(f"{database}?sslmode=prefer") as store:
        assert store.total() == 10


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ("-c%20search_path%3Dother", "?options=-csearch_path=other"),
        ("-csearch_path%3Dother%20-c%20x.password%3Ds3cr3t", "?options=-csearch_path=other"),
        ("--search-path%3Done%20--Search_Path%3Dother", "?options=-csearch_path=other"),
        ("-c%20search_path%3D%22$user%22,a%5C%20b", "?options=-csearch_path=%22$user%22,a%5C%20b"),
        ("-c%20x.password%3Ds3cr3t", ""),
        ("-c%20x.password%3Dsearch_path", ""),
        ("search_path%3Dother", ""),
        ("-c", ""),
    ],
)
def test_a_location_shows_the_search_path_and_no_other_setting(options, shown):
    assert backend_from_url(f"postgresql://h/db?options={options}").location == f"postgresql://h:5432/db{shown}"


def test_a_location_with_a_search_path_leads_to_the_same_store(database, superuser):
    superuser.execute('CREATE SCHEMA "a b"')
    url = database + "?options=-c%20search_path%3D%22a%5C%20b%22%20-c%20x.password%3Ds3cr3t"
    with open_store(url, create=True) as store:
        path = str(store).partition("?")[2]
        store.create(Command("here", 1))
    with open_store(f"{database}?{path}") as again:
        assert again.total() == 1
        assert str(again) == str(store)


def test_a_search_path_in_the_url_makes_it_another_store(database, superuser):
    superuser.execute("CREATE SCHEMA other")
    second = database + "?options=-c%20search_path%3Dother"
    with open_store(database) as here, open_store(second, create=True) as there:
        assert sync_command_store(here, there).copied == 10
        assert there.total() == 10
