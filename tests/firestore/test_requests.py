"""What requests are made of, without an engine."""

from __future__ import annotations

from typing import Any

import pytest

from commandstore.firestore.requests import NAME, Cursor, Filter, Order, create, cut, delete, index_command, put, query
from commandstore.firestore.values import decode, encode, from_timestamp, set_timestamp

DOCUMENT = "projects/p/databases/d/documents/c/i"


def test_writes_have_their_conditions() -> None:
    assert create(DOCUMENT, {}).current_document.exists is False
    assert create(DOCUMENT, {}).HasField("current_document")
    assert not put(DOCUMENT, {}).HasField("current_document")
    assert put(DOCUMENT, {}, exists=True).current_document.exists is True
    at = put(DOCUMENT, {"x": 1}, update_time=1_700_000_000_123_456_000)
    assert (at.current_document.update_time.seconds, at.current_document.update_time.nanos) == (1700000000, 123456000)
    assert at.update.fields["x"].integer_value == 1
    assert delete(DOCUMENT).delete == DOCUMENT
    assert not delete(DOCUMENT).HasField("current_document")


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_700_000_000_123_456_789, -1])
def test_times_are_exact(nanoseconds: int) -> None:
    message = put(DOCUMENT, {}).current_document.update_time
    set_timestamp(message, nanoseconds)
    assert from_timestamp(message) == nanoseconds


@pytest.mark.parametrize("value", [None, True, False, 0, -1, 2**63 - 1, 0.5, "", "a", b"", b"\xff", [], [1, ["x"]], {}])
def test_values_there_and_back(value: Any) -> None:
    again = decode(encode(value))
    assert again == value
    assert type(again) is type(value)


def test_what_others_may_have_written_is_read_too() -> None:
    message = encode(None)
    message.timestamp_value.seconds = 5
    assert decode(message) == 5_000_000_000
    message.reference_value = DOCUMENT
    assert decode(message) == DOCUMENT
    message.geo_point_value.latitude = 1.5
    assert decode(message).latitude == 1.5
    message.Clear()
    assert decode(message) is None


def test_cursors_name_documents_by_reference() -> None:
    made = query("c", order=[Order("x"), Order(NAME)], start=Cursor([1, DOCUMENT]), end=Cursor([2]), limit=3)
    assert made.start_at.values[1].reference_value == DOCUMENT
    assert (made.start_at.before, made.end_at.before) == (False, True)
    assert [decode(value) for value in made.end_at.values] == [2]
    assert made.limit.value == 3
    assert not query("c").HasField("limit")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([10], [[0]]),
        ([10, 10, 10, 10], [[0, 1, 2], [3]]),
        ([500, 500], [[0], [1]]),
        ([5000, 1, 1], [[0], [1, 2]]),
        ([1, 5000, 1], [[0], [1], [2]]),
    ],
)
def test_batches(sizes: list[int], expected: list[list[int]]) -> None:
    writes = [create(DOCUMENT, {"x": bytes(size)}) for size in sizes]
    assert list(cut(writes, 3, 1000)) == expected


def test_a_batch_stays_within_its_bytes() -> None:
    writes = [create(DOCUMENT, {"x": bytes(size)}) for size in range(0, 3000, 7)]
    for batch in cut(writes, 10_000, 20_000):
        assert sum(writes[index].ByteSize() + 4 for index in batch) <= 20_000


def test_the_command_for_an_index() -> None:
    made = query(
        "my commands", where=[Filter("shard", "==", 1)], order=[Order("created_at"), Order("uuid"), Order(NAME)]
    )
    assert index_command(made, "acme", "audit") == (
        "gcloud firestore indexes composite create --project=acme --database=audit --query-scope=COLLECTION "
        "--collection-group='my commands' --field-config=field-path=shard,order=ascending "
        "--field-config=field-path=created_at,order=ascending --field-config=field-path=uuid,order=ascending"
    )
    mixed = query("c", order=[Order("created_at"), Order(NAME, ascending=False)])
    assert index_command(mixed, "acme", "audit").endswith("--field-config=field-path=__name__,order=descending")
