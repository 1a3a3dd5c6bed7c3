"""A text that is kept as a BLOB is equal to no text: such a row is named, and neither hidden nor written once more."""

import re
import sqlite3
from contextlib import closing

import pytest

from commandstore import Command, CommandExists, CommandStore, CorruptRecord, SyncError, open_store, sync_command_store
from commandstore import verify_command_stores as verify
from commandstore.audit import AuditKind, adopt, verify_ledger
from commandstore.drive import run
from commandstore.ledger import Ed25519Signer
from commandstore.memory import MemoryBackend
from commandstore.sql.layout import TEXTS
from commandstore.testing.comby import GENERATIONS, create_sqlite
from sql.sqlite_rows import database, reader, walk

SIGNER = Ed25519Signer(bytes(32))
FILTERS = {"tenant_uuid", "workspace_uuid", "domain", "data_type"}
TABLES = [
    (generation, events, column)
    for generation, events in [*((generation, False) for generation in GENERATIONS), ("B", True), ("C", True)]
    for column in TEXTS
    if column != "workspace_uuid" or generation[0] == "C"
]
each_column = pytest.mark.parametrize("column", TEXTS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def command(number, data=b"data"):
    return Command(f"c{number}", 5, 1, "tenant", "workspace", "domain", "type", data, '{"senderSessionUuid":"s"}')


def execute(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        return app.execute(sql).fetchall()


def as_blob(path, column, uuid="c2"):
    execute(path, f"UPDATE commands SET {column} = CAST({column} AS BLOB) WHERE uuid = '{uuid}'")  # noqa: S608


def beside(path, row_id, uuid="c2"):
    """A second row of a uuid, which has it as a BLOB."""
    columns = "tenant_uuid, workspace_uuid, domain, data_type, data_bytes, req_ctx, created_at, instance_id"
    execute(
        path,
        f"INSERT INTO commands (id, uuid, {columns}) "  # noqa: S608
        f"SELECT {row_id}, CAST(uuid AS BLOB), {columns} FROM commands WHERE uuid = '{uuid}'",
    )


def filled(path, **options):
    create_sqlite(path, "C")
    store = open_store(f"sqlite:///{path}", **options)
    store.create_many(command(number) for number in range(4))
    return store


def source():
    store = CommandStore(MemoryBackend())
    store.init()
    store.create_many(command(number) for number in range(4))
    return store


@pytest.mark.parametrize(("generation", "events", "column"), TABLES)
def test_it_is_named_wherever_it_would_be_found(generation, events, column, path):
    texts = {name: name for name in TEXTS if name != "workspace_uuid" or generation[0] == "C"}
    whole = texts | {"req_ctx": '{"senderSessionUuid":"s"}', "created_at": 5}
    database(path, generation, [whole | {"uuid": f"c{number}"} for number in range(4)], events=events)
    as_blob(path, column)
    says = f"row 3: {column} is stored as a BLOB.* SET {column} = CAST.* WHERE id = 3"
    with reader(path) as store:
        with pytest.raises(CorruptRecord, match=says) as caught:
            store.get("c2")
        assert (caught.value.command_uuid, caught.value.location) == ("c2", "row 3")
        for query in [{}, *({name: name} for name in texts if name in FILTERS)]:
            for size in (1, 1000):
                found, bad = walk(store, size, **query)
                assert [c.command_uuid for c in found] == ["c0", "c1", "c3"]
                assert len(bad) == 1
                assert re.match(says, bad[0])
            assert store.total(**query) == 4
        assert run(store.core.backend.probe(["c2"])) == {"c2": b""}


def test_in_utf_16_it_is_found_under_its_name(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding='UTF-16le'")
        connection.execute("CREATE TABLE other (x)")
    database(path, "C", [{"uuid": "c2", "created_at": 5}])
    as_blob(path, "uuid")
    with reader(path) as store, pytest.raises(CorruptRecord, match="uuid is stored as a BLOB") as caught:
        store.get("c2")
    assert caught.value.command_uuid == "c2"


def test_a_payload_may_be_a_blob(path):
    with filled(path) as store:
        as_blob(path, "data_bytes")
        assert store.get("c2") == command(2)


@each_column
def test_it_is_not_written_once_more(column, path):
    with filled(path) as store:
        as_blob(path, column)
        with pytest.raises(CommandExists):
            store.create(command(2))
        report = sync_command_store(source(), store, resume_from_dest=False)
        assert (report.copied, report.duplicates, report.conflicts, store.total()) == (0, 3, 1, 4)


@each_column
def test_a_sync_from_it_stops_at_it_or_parks_it(column, path):
    with filled(path):
        as_blob(path, column)
    copy = CommandStore(MemoryBackend())
    copy.init()
    with reader(path) as store:
        with pytest.raises(SyncError, match=f"{column} is stored as a BLOB"):
            sync_command_store(store, copy)
        report = sync_command_store(store, copy, skip_on_error=True)
        assert [failure.command_uuid for failure in report.failures] == ["c2"]
        assert (report.failed, copy.total()) == (1, 3)
        execute(path, f"UPDATE commands SET {column} = CAST({column} AS TEXT)")  # noqa: S608
        assert sync_command_store(store, copy).failed == 0
        assert copy.get("c2") == command(2)


@each_column
@pytest.mark.parametrize("payloads", [False, True])
def test_two_stores_are_not_equal_then_and_a_repair_makes_text_of_it(column, payloads, path):
    with filled(path) as store:
        as_blob(path, column)
        report = verify(source(), store, payloads=payloads)
        assert not report.clean
        assert [finding.command_uuid for finding in report.findings] == ["c2"]
        assert f"{column} is stored as a BLOB" in report.findings[0].reason
        verify(source(), store, payloads=payloads, repair=True)
        assert verify(source(), store, payloads=payloads).clean
        assert execute(path, f"SELECT DISTINCT typeof({column}) FROM commands") == [("text",)]  # noqa: S608


@each_column
def test_it_can_be_removed(column, path):
    with filled(path) as store:
        as_blob(path, column)
        assert store.delete("c2")
        assert store.total() == 3


@pytest.mark.parametrize("row_id", [-1, 9])
def test_an_update_leaves_one_row_of_two(row_id, path):
    with filled(path) as store:
        beside(path, row_id)
        assert store.update(command(2, b"new"))
        assert (store.get("c2"), store.total()) == (command(2, b"new"), 4)


@each_column
@pytest.mark.parametrize("lists", [False, True])
def test_an_audit_names_it(column, lists, path):
    with filled(path, signer=SIGNER) as store:
        assert verify_ledger(store, [SIGNER.public_key()], patience=0, lists=lists).clean
        as_blob(path, column)
        report = verify_ledger(store, [SIGNER.public_key()], patience=0, lists=lists)
        [finding] = report.findings
        assert (finding.kind, finding.command_uuid) == (AuditKind.UNREADABLE, "c2")
        assert f"row 3: {column} is stored as a BLOB" in finding.reason


@pytest.mark.parametrize("row_id", [-1, 9])
@pytest.mark.parametrize("time", [5, 9, "'never'"])
def test_an_audit_names_it_beside_a_command_of_its_uuid(row_id, time, path):
    with filled(path, signer=SIGNER) as store:
        beside(path, row_id)
        execute(path, f"UPDATE commands SET created_at = {time} WHERE id = {row_id}")  # noqa: S608
        report = verify_ledger(store, [SIGNER.public_key()], patience=0)
        assert {(finding.kind, finding.command_uuid) for finding in report.findings} == {(AuditKind.UNREADABLE, "c2")}
        assert f"row {row_id}: uuid is stored as a BLOB" in report.findings[0].reason
        assert adopt(store).adopted == 0
