"""Whoever chooses uuids, tenants, prefixes and names reads and writes what is theirs, and nothing beside it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import hypothesis.strategies as st
import orjson
import psycopg
import pytest
from botocore.config import Config
from hypothesis import given

from commandstore import Command, CommandQuery, CommandStore, ConfigurationError, InvalidCommand, open_store
from commandstore.codec import encode
from commandstore.dynamodb import layout as items
from commandstore.dynamodb.layout import Shards
from commandstore.dynamodb.lists import plan
from commandstore.dynamodb.requests import statement, unchanged
from commandstore.firestore.faults import Place
from commandstore.firestore.layout import Layout
from commandstore.registry import backend_from_url
from commandstore.s3.layout import conflict_key, conflict_uuid, inbox_key, inbox_uuid, register_key
from commandstore.sql.layout import Table
from commandstore.testing import comby
from commandstore.testing.engines import Engine
from reliability.mangle import fuzz, only_ours
from reliability.scale import scaled

# ruff: noqa: E501 - a table
HOSTILE = [
    "'; DROP TABLE commands; --", '" OR 1=1 --', "') OR ('1'='1", "\\'; SELECT pg_sleep(9); --", "$$ || $$", ":uuid", "%s",
    "?", "{'uuid': ?}", "x'} VALUE {'uuid': 'y", "attribute_not_exists(uuid)", "#uuid", ":value", "a#0", "#", "a#1#2",
    "..", ".", "../other", "../../manifest.json", "%2e%2e%2f", "%2F", "//", "/", "a/b", "a//b", "\\", "a\\..\\b", "~x",
    "__x__", "__id7__", "parts", "settings", "c", "r", "*", "%", "_", "head", "register", "commandstore", "x.0001", "\t",
    "a\nb", "\x7f", "\u202egnp.exe", "\u2028", "\ufeff", "NULL", "null", "true", "0x41", "1e9", "\U0001d7d9", "é", "e\u0301", "A", "a",
]  # fmt: skip
NAME = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
PAIR = st.tuples(NAME, NAME).filter(lambda pair: pair[0] != pair[1])
NUMBER = st.integers(-(2**63), 2**63 - 1)


# Statements of SQL: what a caller gives is a parameter


@fuzz(200, 5000)
@given(
    st.sampled_from(["sqlite", "postgresql"]),
    st.dictionaries(st.sampled_from(["tenant_uuid", "workspace_uuid", "domain", "data_type"]), NAME, max_size=4),
    st.none() | NUMBER,
    st.booleans(),
    NAME,
)
def test_no_text_of_a_caller_is_in_the_sql(
    dialect: Any, filters: Any, before: int | None, ascending: bool, uuid: str
) -> None:
    table = Table(dialect, frozenset(comby_columns()), unique_uuid=True, indexed_time=True)
    query = CommandQuery(**filters, before=before, ascending=ascending)
    plain = CommandQuery(**dict.fromkeys(filters, "x"), before=None if before is None else 7, ascending=ascending)
    key, other = (5, uuid.encode().hex(), 3), (5, b"x".hex(), 3)
    made = [table.page(query, key, 10, nulls=False), table.count(query), table.count_of(query), table.order_of(query)]
    same = [table.page(plain, other, 10, nulls=False), table.count(plain), table.count_of(plain), table.order_of(plain)]
    nulls = before is not None and before > 0  # rows without a time match as time 0: that is another statement
    if before is None or nulls:
        assert [one.sql for one in made] == [one.sql for one in same]
    assert table.by_uuids([uuid]).sql == table.by_uuids(["x"]).sql
    # SQLAlchemy and psycopg read ':name' and '%': nothing else than ours is there.
    for one in made:
        assert set(re.findall(r"(?<!:):([a-z_0-9]+)", one.sql)) <= set(one.values) | {"low", "high", "limit", "ids"}
        assert "%" not in one.sql


def comby_columns() -> list[str]:
    from commandstore.sql.layout import COLUMNS  # noqa: PLC0415 - beside its use

    return list(COLUMNS)


def a_command(uuid: str, tenant: str) -> Command:
    return Command(
        uuid,
        1,
        0,
        tenant,
        tenant,
        tenant,
        tenant,
        f"of {uuid}".encode(),
        orjson.dumps({"senderSessionUuid": tenant}).decode(),
    )


def each_is_its_own(store: CommandStore, one: str, other: str, drop: Callable[[], None]) -> None:
    """Two commands of two tenants, whatever they are called: neither is found, changed or removed as the other."""
    drop()
    first, second = a_command(one, one), a_command(other, other)
    created = store.create_many([first, second]).created
    assert set(created) == {one, other}
    assert store.get(one) == first
    assert store.get(other) == second
    for name in ("tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid"):
        assert [c.command_uuid for c in store.list(**{name: one}).commands] == [one]
        assert store.total(**{name: one}) == 1
    assert store.update(Command(one, 2, tenant_uuid=one))
    assert store.get(other) == second
    assert store.delete(one)
    assert store.get(one) is None
    assert store.get(other) == second
    assert store.total() == 1


@fuzz(25, 1000)
@given(PAIR)
def test_in_sqlite_each_reads_and_writes_its_own(tmp_path: Path, pair: tuple[str, str]) -> None:
    file = tmp_path / "app.db"
    with open_store(f"sqlite:///{file}", create=True) as store:
        each_is_its_own(store, *pair, store.reset)
    with closing(sqlite3.connect(file)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables <= {"commands", "commandstore_registers"}


@pytest.fixture(scope="module")
def postgres_store(postgres: Any) -> Iterator[CommandStore]:
    with postgres.database() as url, open_store(url, create=True) as store:
        yield store


@fuzz(12, 500)
@given(PAIR)
def test_in_postgres_each_reads_and_writes_its_own(postgres_store: CommandStore, pair: tuple[str, str]) -> None:
    if "\0" in "".join(pair):
        with pytest.raises(InvalidCommand):
            postgres_store.create(a_command("\0", "\0"))
        return
    each_is_its_own(postgres_store, *pair, postgres_store.reset)


SCHEMAS = ["a b", 'a"b', "a'b", "a;b", "a,b", "DROP TABLE commands", "ü", "--", "a\\b", "public; SELECT 1"]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_of_any_name_in_the_options_is_that_schema_and_nothing_else(postgres_url: str, schema: str) -> None:
    """What stands in options= goes to the server as settings: no name of a schema becomes SQL of ours."""
    comby.create_postgres(postgres_url, "C")
    comby.insert_postgres(postgres_url, comby.sample_commands(3))
    quoted = '"' + schema.replace('"', '""') + '"'
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {quoted}")
    escaped = re.sub(r"([\\\s])", r"\\\1", f"-csearch_path={quoted}")
    options = "".join(c if c.isalnum() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in escaped)
    with open_store(f"{postgres_url}?options={options}", create=True) as store:
        assert store.total() == 0
        store.create(Command("there", 1))
        assert store.total() == 1
    with open_store(postgres_url) as store:
        assert store.total() == 3


# DynamoDB: statements and expressions are of our words alone


@fuzz(200, 5000)
@given(NAME, NAME, NUMBER, st.none() | NAME)
def test_no_text_of_a_caller_is_in_a_statement_or_an_expression(
    uuid: str, tenant: str, at: int, domain: str | None
) -> None:
    record = encode(Command(uuid, at, tenant_uuid=tenant, domain=domain or ""))
    item = items.head_item(record, "w1", Shards())
    text = statement("commands", tuple(item))
    assert re.fullmatch(r"""INSERT INTO "commands" VALUE \{('[a-z_]+': \?, )+'[a-z_]+': \?\}""", text)
    planned = plan(CommandQuery(tenant_uuid=tenant, domain=domain, data_type=uuid), (at, uuid), Shards())
    assert planned is not None
    for shard in planned.shards:
        asked = planned.request("commands", shard)
        for expression in (asked["KeyConditionExpression"], asked["FilterExpression"]):
            assert re.fullmatch(r"[#:a-z0-9=_ ]+( AND [#:a-zB-W0-9=_ ]+)*", expression)
        assert set(asked["ExpressionAttributeNames"].values()) <= {"tenant_shard", "position", "domain", "data_type"}
    condition = unchanged("token", uuid)
    assert condition["ConditionExpression"] == "#name = :value"
    # A head is no register, no part and no setting, whatever its uuid is.
    assert item["part"] == {"S": "head"}
    assert items.head_key(uuid) != items.SETTINGS_KEY


@fuzz(200, 5000)
@given(PAIR)
def test_no_two_tenants_and_no_two_uuids_share_a_key(pair: tuple[str, str]) -> None:
    one, other = pair
    assert not set(Shards().tenant_shards(one)) & set(Shards().tenant_shards(other))
    assert inbox_key("life", one) != inbox_key("life", other)
    assert register_key(one) != register_key(other)
    assert conflict_key(one, "p", "w") != conflict_key(other, "p", "w")
    place = Layout(Place("project", "commands"), 8)
    assert place.name(one) != place.name(other)
    assert place.register(one) != place.register(other)


@pytest.mark.parametrize("name", [*HOSTILE[:10], "a/b", "..", "a b", "a\n", "ü" * 3])
def test_a_table_of_such_a_name_is_refused(name: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", name):
        return
    with pytest.raises(ConfigurationError):
        items.check_table_name(name)


# S3: keys stay below their prefix


@fuzz(400, 10000)
@given(NAME)
def test_a_key_is_one_name_below_its_folder(name: str) -> None:
    for key, folder in (
        (inbox_key("life", name), "inbox/life/"),
        (register_key(name), "registers/"),
        (conflict_key(name, "p", "w"), "conflicts/"),
    ):
        assert key.startswith(folder)
        rest = (
            key.removeprefix(folder).removesuffix("/p.w.json") if folder == "conflicts/" else key.removeprefix(folder)
        )
        assert re.fullmatch(r"[A-Za-z0-9_.~%-]+", rest)
        assert rest not in {"", ".", ".."}
        assert len(key) < 512
    assert inbox_uuid(inbox_key("life", name)) in {name, None}
    assert conflict_uuid(conflict_key(name, "p", "w")) in {name, None}


@fuzz(300, 10000)
@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a", "%2e%2e", "%2F", "%00", "\x01", "ü", "b c", "*", "//"]), max_size=4
    ).map("/".join)
)
def test_a_prefix_is_plain_names_or_refused(prefix: str) -> None:
    with only_ours() as caught:
        backend = backend_from_url(f"s3://bucket/{prefix}?region=eu-central-1")
        found = backend.location.partition("?")[0].removeprefix("s3://bucket").strip("/")
        assert all(part not in {"", ".", ".."} for part in found.split("/")) or not found
        assert found.isascii()
        assert found.isprintable()
    assert all(isinstance(error, ConfigurationError) for error in caught)


@pytest.fixture(scope="module")
def bucket(ministack: Engine) -> Iterator[tuple[CommandStore, Any, str]]:
    """A store under a prefix, and other things in its bucket that are not its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ministack.client_arguments.items():
            if name.startswith("aws_"):
                patch.setenv(name.upper(), str(value))
        raw = boto3.client("s3", config=Config(s3={"addressing_style": "path"}), **ministack.client_arguments)
        raw.create_bucket(Bucket="break-out")
        for key in ("ours", "our", "ours2/manifest.json", "manifest.json", "other/inbox/life/a.json"):
            raw.put_object(Bucket="break-out", Key=key, Body=b"not ours")
        url = f"s3://break-out/ours?region=us-east-1&endpoint_url={ministack.endpoint}"
        with open_store(url, create=True) as store:
            yield store, raw, "ours/"
        raw.close()


@fuzz(4, 200)
@given(PAIR)
def test_in_a_bucket_each_reads_and_writes_its_own_below_the_prefix(bucket: Any, pair: tuple[str, str]) -> None:
    store, raw, prefix = bucket
    store.reset()
    for name in pair:
        store.create(a_command(name, name))
    each_is_its_own(store, *pair, store.reset)
    keys = [item["Key"] for item in raw.list_objects_v2(Bucket="break-out")["Contents"]]
    assert [key for key in keys if not key.startswith(prefix)] == sorted(
        ["manifest.json", "other/inbox/life/a.json", "our", "ours", "ours2/manifest.json"]
    )


# Firestore: a name is one segment


@fuzz(400, 10000)
@given(NAME)
def test_a_document_is_one_segment_below_its_collection(name: str) -> None:
    layout = Layout(Place("project", "commands"), 8)
    for document in (layout.name(name), layout.register(name)):
        rest = document.removeprefix(layout.prefix)
        assert re.fullmatch(r"[cr][A-Za-z0-9_-]+", rest)
        assert not re.fullmatch(r"__.*__", rest)
        assert document != layout.settings


@fuzz(300, 10000)
@given(NAME, NAME)
def test_a_collection_or_a_database_of_such_a_name_is_refused_or_is_one_segment(collection: str, database: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in collection.encode())
    more = "".join(f"%{byte:02X}" for byte in database.encode())
    with only_ours() as caught:
        backend: Any = backend_from_url(f"firestore://project/{quoted}?database={more}")
        place = backend.location
        assert "/" not in collection + database
        assert collection not in {".", ".."}
        assert not re.fullmatch(r"__.*__", collection, re.DOTALL)
        assert place.startswith("firestore://project/")
    assert all(isinstance(error, ConfigurationError) for error in caught)


def test_the_hostile_names_are_tried_in_full() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE)
    assert scaled(1, 2) in {1, 2}
