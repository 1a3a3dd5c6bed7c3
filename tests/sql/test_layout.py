"""comby's table in SQL, and from rows to records: pure."""

import pytest

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, Command, CommandQuery
from commandstore.errors import CorruptRecord
from commandstore.sql.layout import COLUMNS, Table
from commandstore.sql.rows import anchor_of, feed_key, gaps, record_of, row_of
from commandstore.sql.values import insert_values, refusal

ALL = frozenset(COLUMNS)
OLD = ALL - {"workspace_uuid"}
# A text that is kept as a BLOB is met, to be named.
IS_IT = "IN (:tenant_uuid, CAST(:tenant_uuid AS BLOB))"


def table(columns=ALL, dialect="sqlite", **options):
    return Table(dialect, columns, unique_uuid=True, indexed_time=True, **options)


def raw(**values):
    row = dict.fromkeys(COLUMNS) | {"id": 7, "uuid": b"c", "created_at": 5} | values
    return (*row.values(), b"integer")


def test_a_table_without_combys_columns_says_which_it_lacks():
    assert table().missing == table(OLD).missing == []
    assert table(ALL - {"uuid", "domain"}).missing == ["uuid", "domain"]


def test_an_absent_workspace_is_selected_as_null():
    assert "NULL AS workspace_uuid" in table(OLD).selected
    assert "NULL" not in table().selected


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_what_a_caller_gives_is_never_sql(dialect):
    evil = "'; DROP TABLE commands; --"
    query = CommandQuery(evil, evil, evil, evil, evil, before=1, after=0)
    found = table(dialect=dialect)
    for statement in (
        found.page(query, (5, evil.encode().hex(), 3), 10, nulls=False),
        found.page(query, (None, evil.encode().hex(), 3), 10, nulls=True),
        found.count(query),
        found.count_of(query),
        found.order_of(query),
        found.order_of(query, named=True),
        found.by_uuids([evil]),
    ):
        assert "DROP" not in statement.sql
        assert statement.values


@pytest.mark.parametrize(
    ("query", "nulls", "conditions"),
    [
        (CommandQuery(tenant_uuid="t"), None, [f"+tenant_uuid {IS_IT}"]),
        (CommandQuery(tenant_uuid=""), None, [f"(+tenant_uuid {IS_IT} OR +tenant_uuid IS NULL)"]),
        (CommandQuery(session_uuid="s"), None, []),
        (CommandQuery(after=-1), None, ["(created_at > :after OR created_at IS NULL)"]),
        (CommandQuery(after=0), None, ["created_at > :after"]),
        (CommandQuery(before=0), None, ["created_at < :before"]),
        (CommandQuery(before=1), None, ["(created_at < :before OR created_at IS NULL)"]),
        (CommandQuery(before=1), True, ["created_at IS NULL"]),
        (CommandQuery(before=0), True, ["1 = 0", "created_at IS NULL"]),
        (CommandQuery(before=1), False, ["created_at < :before", "created_at IS NOT NULL"]),
    ],
)
def test_null_reads_as_empty_and_as_time_0(query, nulls, conditions):
    assert table().where(query, nulls=nulls)[0] == conditions


def test_a_workspace_where_there_is_no_column_is_the_empty_one():
    assert table(OLD).where(CommandQuery(workspace_uuid=""))[0] == ["1 = 1"]
    assert table(OLD).where(CommandQuery(workspace_uuid="w"))[0] == ["1 = 0"]


def test_only_a_selective_index_is_used_in_sqlite():
    query = CommandQuery(tenant_uuid="t")
    assert table().where(query, selective=frozenset({"tenant_uuid"}))[0] == [f"tenant_uuid {IS_IT}"]
    assert table(dialect="postgresql").where(query)[0] == ["tenant_uuid = :tenant_uuid"]


def test_a_count_by_workspace_uses_no_index():
    assert "NOT INDEXED" in table().count(CommandQuery(workspace_uuid="w")).sql
    assert "INDEXED" not in table().count(CommandQuery(tenant_uuid="t")).sql
    assert "INDEXED" not in table(dialect="postgresql").count(CommandQuery(workspace_uuid="w")).sql


@pytest.mark.parametrize(
    ("time", "kind", "key"),
    [
        (None, b"null", None),
        (0, b"integer", 0),
        (INT64_MIN, b"integer", INT64_MIN),
        (7.5, b"real", "real:7.5"),
        (1e300, b"real", "real:1e+300"),
        (b"words\xff", b"text", "text:776f726473ff"),
        (b"words\xff", b"blob", "blob:776f726473ff"),
    ],
)
def test_a_key_says_the_type_of_a_time(time, kind, key):
    row = (*raw(created_at=time)[:-1], kind)
    assert row_of(row).key == (key, "63", 7)
    assert feed_key(row) == (time if isinstance(time, int) else None, 7)


def test_a_text_that_is_a_blob_is_named_with_its_row():
    found = record_of((*raw(domain=b"d"), b"domain"))
    assert isinstance(found, CorruptRecord)
    assert "row 7: domain is stored as a BLOB" in str(found)
    assert (found.command_uuid, found.location) == ("c", "row 7")
    assert isinstance(record_of((*raw(domain=b"d"), None)), Record)


def test_only_sqlite_is_asked_for_the_types_of_texts():
    assert "'blob' THEN 'req_ctx'" in table().selected
    assert "workspace_uuid" not in table(OLD).selected.replace("NULL AS workspace_uuid", "")
    assert "typeof" not in table(dialect="postgresql").selected
    assert "BLOB" not in str(table(dialect="postgresql").by_uuids(["a"]))


def test_null_everywhere_is_a_command_of_empty_fields():
    found = record_of(raw(created_at=None))
    assert codec.decode(found) == Command("c", 0)


@pytest.mark.parametrize(
    ("values", "says", "uuid"),
    [
        ({"uuid": None}, "has no uuid", None),
        ({"uuid": b""}, "has no uuid", None),
        ({"uuid": b"\xff"}, "the uuid is not UTF-8", None),
        ({"uuid": 12}, "uuid is a number, not text", None),
        ({"created_at": b"x"}, "created_at is not an integer", "c"),
        ({"created_at": 1.0}, "created_at is not an integer", "c"),
        ({"instance_id": 2**63}, "instance_id is not an integer", "c"),
        ({"domain": b"\xff"}, "a text column is not UTF-8", "c"),
        ({"req_ctx": b"\xff"}, "a text column is not UTF-8", "c"),
        ({"tenant_uuid": 1.5}, "tenant_uuid is a number, not text", "c"),
        ({"req_ctx": 2}, "req_ctx is a number, not text", "c"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(values, says, uuid):
    found = record_of(raw(**values))
    assert isinstance(found, CorruptRecord)
    assert (says in str(found), found.command_uuid, found.location) == (True, uuid, "row 7")


@pytest.mark.parametrize(
    ("stored", "data"),
    [
        (b"\xff\0", b"\xff\0"),
        ("text", b"text"),
        (None, b""),
        (memoryview(b"m"), b"m"),
        (12, b"12"),
        (2**40, b"%d" % 2**40),
    ],
)
def test_a_payload_is_its_bytes_whatever_the_column_holds(stored, data):
    assert record_of(raw(data_bytes=stored)).data == data


def test_an_anchor_knows_a_row_by_its_digest_and_a_bad_one_by_its_bytes():
    good = anchor_of(raw(domain=b"d"))
    assert (good.id, good.command_uuid, len(good.digest)) == (7, "c", 16)
    assert good != anchor_of(raw(domain=b"e"))
    bad = [anchor_of(raw(uuid=b"\xff", **{name: value})) for name in COLUMNS[3:] for value in (b"a", b"b", 1, 1.5)]
    assert len(set(bad)) == len(bad)
    assert all(anchor.command_uuid is None for anchor in bad)


@pytest.mark.parametrize(
    ("horizon", "wanted"),
    [(0, []), (1, [1]), (2, [2, 1]), (3, [3, 2]), (8, [8, 7, 5, 1]), (100, [100, 99, 97, 93, 85, 69, 37])],
)
def test_gaps_between_anchors_double(horizon, wanted):
    assert gaps(horizon) == wanted


def test_the_greatest_horizon_has_64_anchors_at_most():
    assert len(gaps(INT64_MAX)) <= 64
    assert gaps(INT64_MAX)[-1] > 0


def test_a_record_without_a_place_for_its_workspace_is_refused():
    record = codec.encode(Command("c", 1, workspace_uuid="w"))
    assert "workspace_uuid" in str(refusal(record, table(OLD)))
    assert refusal(record, table()) is None
    assert refusal(codec.encode(Command("c\0", 1, data_bytes=b"\0\xff", instance_id=2**62)), table()) is None


def test_what_is_inserted_is_what_is_read():
    command = Command("c", 5, 3, "t", "w", "d", "y", b"\0\xff", '{"a":1}')
    values = insert_values(codec.encode(command), table())
    found = record_of((7, *(values[name] for name in COLUMNS[1:]), b"integer"))
    assert isinstance(found, Record)
    assert codec.decode(found) == command
