"""Objects, items, documents and rows as an engine holds them, altered by hand: the record, or what is wrong with it."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from commandstore import Command, CommandStore, CorruptRecord, open_store
from commandstore.codec import Record, decode, encode
from commandstore.dynamodb import layout as items
from commandstore.dynamodb.layout import Shards
from commandstore.errors import CommandStoreError, ConfigurationError
from commandstore.firestore import layout as documents
from commandstore.firestore.upkeep import read_register
from commandstore.firestore.values import Document
from commandstore.ledger.leaves import stored_digest
from commandstore.s3 import inbox, manifest, register
from commandstore.s3.directory import WIDTH, Directory
from commandstore.s3.index import Index, Rows
from commandstore.s3.layout import (
    Stored,
    conflict_uuid,
    decode_row,
    encode_rows,
    epoch_of,
    inbox_key,
    inbox_uuid,
    with_check,
)
from commandstore.s3.manifest import Dead, Grave, Manifest, Part, Partition, Recent, Segment
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from reliability.mangle import JUNK, PAYLOAD, altered, altered_json, fuzz, only_ours, refused

COMMAND = Command("c1", 7, 1, "tenant", "w", "d", "k", PAYLOAD, '{"senderSessionUuid":"s"}')
RECORD = encode(COMMAND)
STORED = Stored(RECORD, "w1", "p1")


def sound(record: Record) -> None:
    """Whatever is done with a record that was read works: no later step trips over it."""
    assert isinstance(decode(record), Command)
    assert -(2**63) <= record.created_at < 2**63
    assert -(2**63) <= record.instance_id < 2**63
    assert len(stored_digest(record)) == 32
    assert all(isinstance(text, str) for text in (*record[3:8], record.command_uuid, record.req_ctx, record.cipher))
    assert isinstance(record.data, bytes)
    assert isinstance(record.digest, bytes)


# S3


def same(record: Record) -> None:
    """A plain row that is read is the one that was written: its digest is over the whole command.

    What it is not over, a check sum is that stands elsewhere; of a sealed one, the tag of the cipher.
    """
    sound(record)
    if not record.cipher:
        assert record._replace(session_uuid=RECORD.session_uuid, format=RECORD.format) == RECORD


@fuzz(200, 20000)
@given(st.data())
def test_an_altered_object_of_the_inbox_is_a_row_or_says_what_it_is(data: st.DataObject) -> None:
    body = inbox.body_of(STORED)
    text = data.draw(altered_json(body))
    # Whoever alters by hand may put the check sum right as well.
    text = with_check(text.partition(b',"check"')[0] + b"}") if data.draw(st.booleans()) else text
    key = data.draw(
        st.sampled_from([inbox_key("life", "c1"), "inbox/life/", "inbox/life/%ff.json", "inbox/life/~0.json"])
    )
    letter = inbox._open(key, text)
    if letter.stored is None:
        assert letter.error is not None
        refused(letter.error)
        assert letter.error.location == key
    else:
        same(letter.stored.record)
    assert isinstance(letter.command_uuid, str)
    assert isinstance(letter.position[0], int)


@fuzz(200, 20000)
@given(st.data())
def test_an_altered_row_of_a_segment_is_corrupt_or_the_same(data: st.DataObject) -> None:
    [line], [check] = encode_rows([STORED])
    text = data.draw(altered_json(line))
    with only_ours() as caught:
        same(decode_row(text, "segments/x", data.draw(st.sampled_from([None, check]))).record)
    assert all(isinstance(error, CorruptRecord) and error.location == "segments/x" for error in caught)


OTHER = encode(Command("c2", 8, 2, "other"))
INDEX = Index.of(
    Rows([RECORD, OTHER], ["w1", "w2"], ["p1", None], encode_rows([STORED, Stored(OTHER, "w2", None)]), frozenset({1}))
)


@fuzz(300, 20000)
@given(st.data())
def test_an_altered_index_is_corrupt_or_one_that_can_be_read(data: st.DataObject) -> None:
    with only_ours() as caught:
        index = Index.decode(data.draw(altered_json(INDEX.encode())), "id")
        for row in range(len(index)):
            index.stored(row)
            assert isinstance(index.key(row), tuple)
        index.tenants()
        index.row_of("c1")
    assert all(isinstance(error, CorruptRecord) for error in caught)


def a_segment(number: int) -> Segment:
    return Segment(number, f"0-{number}", 2, 99, 7, (1, "a"), (2, "b"), {"t": 2}, 2, bytes(2 * WIDTH))


MANIFEST = Manifest(
    "life",
    3,
    1,
    ("o2", "o1"),
    9,
    (a_segment(1), a_segment(2)),
    (Part("0-p", 7, (3, 4), (1, "a"), (2, "b"), {"t": 1}, 4),),
    {1: Dead(frozenset({0}), {"t": 1})},
    {"gone": Grave(5, None)},
    Recent("0-r", 7, ((2, 1),)),
    (Partition(0, "0-d", 7, (2,)),),
    {"t": 7},
)


@fuzz(500, 30000)
@given(st.data())
def test_an_altered_manifest_is_refused_or_is_one(data: st.DataObject) -> None:
    text = data.draw(altered_json(manifest.encode(MANIFEST)))
    if data.draw(st.booleans()):  # with its check sum put right
        document = data.draw(altered(json.loads(manifest.encode(MANIFEST))))
        if isinstance(document, dict):
            document.pop("check", None)
        text = with_check(json.dumps(document).encode())
    with only_ours() as caught:
        found = manifest.decode(text, "that object")
        # All that is done with one.
        assert manifest.decode(manifest.encode(found), "that object") == found
        assert isinstance(found.commands, int)
        assert all(isinstance(number, int) for number in found.numbers)
        found.is_dead(1, 0)
        list(found.small())
        assert all(isinstance(one, str) for one in found.ids(found.segments))
        found.add(a_segment(20)).bury(20, {1}, {"t": 1}).counted({"t": 1}).without({20}).swapped("o3")
        sorted((*found.segments, *found.parts), key=lambda one: (one.first, one.last))
    assert all(isinstance(error, ConfigurationError) for error in caught)


@fuzz(200, 20000)
@given(st.data())
def test_an_altered_part_is_refused_or_is_one(data: st.DataObject) -> None:
    text = data.draw(altered_json(manifest.encode_part([a_segment(1), a_segment(2)])))
    try:
        found = manifest.decode_part(text)
    except ValueError:
        return
    assert manifest.decode_part(manifest.encode_part(found)) == found
    manifest.part_of("0-p", 1, found) if found else None


@fuzz(100)
@given(st.binary(max_size=80), st.lists(st.integers(0, 5), max_size=3))
def test_an_altered_directory_is_refused_or_finds_something(body: bytes, runs: list[int]) -> None:
    try:
        Directory(body, runs).find(0)
    except ValueError:
        return


@fuzz(200, 20000)
@given(st.data())
def test_an_altered_register_in_a_bucket_is_refused_or_is_one(data: st.DataObject) -> None:
    body = register._encode(register.Seen(b"value", "p2", 2, ("p2", "p1"), ""))
    try:
        found = register._decode(data.draw(altered_json(body)), "etag")
    except (ValueError, TypeError, KeyError):
        return  # what `read` names
    assert register._decode(register._encode(found), "etag") == found


@fuzz(200)
@given(st.text(), st.sampled_from(["inbox/life/", "conflicts/", "inbox/", ""]))
def test_a_foreign_key_is_only_a_name(name: str, under: str) -> None:
    assert isinstance(inbox_uuid(under + name), str | None)
    assert isinstance(conflict_uuid(f"conflicts/{name}"), str | None)
    assert isinstance(epoch_of(name), int | None)


# DynamoDB: an item is attributes of one type each, so junk is put in the types as well as in the values

NUMBER = st.sampled_from(["0", "-1", "1.5", "1E+40", "9" * 38, str(2**63), str(2**63 - 1), str(-(2**63)), "-1e-130"])
ATTRIBUTE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(lambda text: {"S": text}),
    NUMBER.map(lambda text: {"N": text}),
    st.binary(max_size=5).map(lambda raw: {"B": base64.b64encode(raw).decode()}),
    st.sampled_from(
        [{"NULL": True}, {"BOOL": False}, {"L": []}, {"M": {"S": {"S": "x"}}}, {"SS": ["a"]}, {"NS": ["1"]}]
    ),
)


@st.composite
def altered_item(draw: st.DrawFn, item: dict[str, Any]) -> dict[str, Any]:
    """An item with other attributes than it had; its key is what it was found by."""
    found: dict[str, Any] = dict(item)
    for name in draw(st.sets(st.sampled_from([n for n in found if n not in {"uuid", "part"}]), min_size=1, max_size=3)):
        if draw(st.booleans()):
            del found[name]
        else:
            found[name] = draw(ATTRIBUTE)
    return found


@fuzz(400, 30000)
@given(st.booleans(), st.data())
def test_an_altered_item_is_its_record_or_is_corrupt_and_named(inline: bool, data: st.DataObject) -> None:
    item = data.draw(altered_item(items.head_item(RECORD, "w1", Shards(), inline=inline)))
    blob = None if inline else data.draw(st.just(PAYLOAD + RECORD.req_ctx.encode()) | st.binary(max_size=9))
    head = items.head_of(item)
    assert isinstance(head.write_id, str)
    assert 0 <= head.parts <= items.MOST_PARTS
    for payload in (True, False):
        with only_ours() as caught:
            sound(items.record_of(item, blob, payload=payload))
        assert all(isinstance(error, CorruptRecord) and error.command_uuid == "c1" for error in caught)


@fuzz(100)
@given(st.data())
def test_an_altered_register_in_a_table_is_one_or_is_named(data: st.DataObject) -> None:
    item = {"uuid": {"S": "lease/x"}, "part": {"S": "register"}, "value": {"B": "QUJD"}, "token": {"S": "t"}}
    with only_ours() as caught:
        found = items.register_of(data.draw(altered_item(item)))
        assert isinstance(found.value, bytes)
        assert isinstance(found.token, str)
    assert all(isinstance(error, CorruptRecord) and "lease/x" in str(error) for error in caught)


@fuzz(200)
@given(st.text(max_size=30), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=4), max_size=3))
def test_a_position_is_a_key_whatever_it_is(text: str, key: list[Any]) -> None:
    from commandstore.dynamodb.backend import DynamoDBBackend  # noqa: PLC0415 - the SDK takes a moment

    found = items.position_key(text)
    assert items.key_position(found) == text
    if DynamoDBBackend.is_key(None, tuple(key)):  # type: ignore[arg-type]
        assert isinstance(items.key_position(key), str)


# Firestore

VALUE = JUNK.filter(lambda value: not isinstance(value, int) or -(2**63) <= value < 2**63) | st.binary(max_size=5)


@st.composite
def altered_document(draw: st.DrawFn, values: dict[str, Any]) -> Document:
    fields = dict(values)
    for name in draw(st.sets(st.sampled_from(list(fields)), min_size=1, max_size=3)):
        if draw(st.booleans()):
            del fields[name]
        else:
            fields[name] = draw(VALUE)
    return Document("projects/p/databases/d/documents/c/cX", fields, 1)


@fuzz(400, 30000)
@given(st.booleans(), st.data())
def test_an_altered_document_is_its_record_or_is_corrupt_and_named(long: bool, data: st.DataObject) -> None:
    values = documents.head_values(RECORD, "w1", 3)
    if long:
        del values["data"], values["req_ctx"]
        values |= {"parts_id": "p", "part_count": 1, "data_bytes": len(PAYLOAD)}
        values["payload_bytes"] = len(PAYLOAD) + len(RECORD.req_ctx)
    document = data.draw(altered_document(values))
    names = documents.parts_of(document)
    assert len(names) <= 64
    assert all(name.startswith(f"{document.name}/parts/") and name.count("/") == 8 for name in names)
    parts = data.draw(st.just([PAYLOAD + RECORD.req_ctx.encode()]) | st.lists(st.binary(max_size=4), max_size=2))
    with only_ours() as caught:
        sound(documents.read_head(document, parts if names else None))
    assert all(isinstance(error, CorruptRecord) and document.name in str(error) for error in caught)


@fuzz(100)
@given(st.data())
def test_altered_settings_and_registers_of_a_collection_are_refused_or_are_some(data: st.DataObject) -> None:
    with only_ours() as caught:
        assert 1 <= documents.read_settings(data.draw(altered_document(documents.settings_values(8))), "c") <= 30
    with only_ours() as more:
        found = read_register(data.draw(altered_document({"value": b"v", "token": "t"})))
        assert found is not None
        assert isinstance(found.value, bytes)
    assert all(isinstance(error, ConfigurationError) for error in caught)
    assert all(isinstance(error, CorruptRecord) for error in more)


# SQLite keeps anything in any column

CELL = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([b"\xff", b"\x00", "\0", "real:1", "text:", 2**62, -1, 1.5, "9" * 40])
)
COLUMNS = ("created_at", "uuid", "instance_id", "tenant_uuid", "domain", "data_type", "data_bytes", "req_ctx")
ROWS = 12


def everything(store: CommandStore, **query: Any) -> tuple[list[Command], list[CommandStoreError]]:
    cursor, commands, corrupt = None, [], []
    for _ in range(4 * ROWS):
        page = store.list(limit=3, cursor=cursor, with_total=False, **query)
        commands += page.commands
        corrupt += page.corrupt
        cursor = page.cursor
        if cursor is None:
            return commands, corrupt
    raise AssertionError("pages without an end")


@fuzz(60, 5000)
@given(st.lists(st.tuples(st.integers(1, ROWS), st.sampled_from(COLUMNS), CELL), min_size=1, max_size=6), st.booleans())
def test_rows_with_anything_in_them_are_listed_or_named_and_stop_nothing(
    tmp_path: Path, cells: list[tuple[int, str, Any]], ascending: bool
) -> None:
    file = tmp_path / "app.db"
    file.unlink(missing_ok=True)
    for more in ("-wal", "-shm"):
        Path(f"{file}{more}").unlink(missing_ok=True)
    create_sqlite(file, "A")  # its uuids need not be unique
    insert_sqlite(file, sample_commands(ROWS))
    with closing(sqlite3.connect(file)) as connection, connection:
        for row, column, cell in cells:
            if column != "data_bytes" or cell is not None:
                connection.execute(f"UPDATE commands SET {column} = ? WHERE id = ?", (cell, row))  # noqa: S608
    with open_store(f"sqlite:///{file}", read_only=True) as store:
        commands, corrupt = everything(store, ascending=ascending)
        assert len(commands) + len(corrupt) == ROWS == store.total()
        for error in corrupt:
            refused(error)
            assert isinstance(error, CorruptRecord)
            assert "row " in str(error)
        for command in commands:
            assert -(2**63) <= command.created_at < 2**63
        assert everything(store, ascending=not ascending)[0] == commands[::-1]
        passed: list[CommandStoreError] = []
        assert list(store.scan(on_corrupt=passed.append, page_size=2, ascending=ascending)) == commands
        assert len(passed) == len(corrupt)
