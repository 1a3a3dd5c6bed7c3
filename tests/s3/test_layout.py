"""Rows, indexes and manifests, there and back; and names."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from commandstore.codec import Record, plain_record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.errors import ConfigurationError, CorruptRecord
from commandstore.s3 import manifest as manifests
from commandstore.s3.compaction import FULL_BYTES, FULL_ROWS, GROWTH, groups
from commandstore.s3.directory import WIDTH
from commandstore.s3.index import Index, Rows
from commandstore.s3.layout import (
    Stored,
    conflict_key,
    conflict_uuid,
    decode_row,
    encode_rows,
    epoch_of,
    inbox_key,
    inbox_uuid,
    new_id,
    register_key,
    settled_conflict,
)
from commandstore.s3.manifest import Dead, Grave, Manifest, Part, Partition, Recent, Segment

INT64 = st.integers(INT64_MIN, INT64_MAX)
TEXT = st.text(max_size=12)
PLAIN = st.builds(
    plain_record, st.text(min_size=1, max_size=12), INT64, INT64, TEXT, TEXT, TEXT, TEXT, st.binary(max_size=40), TEXT
)
SEALED = st.builds(
    lambda record, digest: record._replace(cipher="aes-256-gcm/k1", digest=digest),
    PLAIN,
    st.binary(min_size=32, max_size=32),
)
STORED = st.builds(Stored, PLAIN | SEALED, st.text("0123456789abcdef", max_size=16), st.none() | TEXT)


# Rows


@given(st.lists(STORED, max_size=5))
def test_rows_come_back_as_they_went(rows: list[Stored]) -> None:
    made = encode_rows(rows)
    assert [decode_row(line, "key", check) for line, check in zip(*made, strict=True)] == rows
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in made.lines)


@given(STORED)
def test_a_row_is_json_with_the_names_of_the_contract(stored: Stored) -> None:
    [line] = encode_rows([stored]).lines
    found = json.loads(line)
    for name in ("command_uuid", "created_at", "instance_id", "tenant_uuid", "workspace_uuid", "domain", "req_ctx"):
        assert found[name] == getattr(stored.record, name)


@given(STORED, st.data())
def test_no_altered_line_passes_for_the_right_one(stored: Stored, data: st.DataObject) -> None:
    [line], [check] = encode_rows([stored])
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    altered = line[:at] + bytes([other]) + line[at + 1 :]
    with pytest.raises(CorruptRecord, match="segments/x"):
        decode_row(altered, "segments/x", check)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command_uuid", 7),
        ("created_at", "7"),
        ("created_at", 2**63),
        ("instance_id", True),
        ("data_bytes", "no base64!"),
        ("digest", "zz"),
        ("cipher", None),
        ("write_id", None),
        ("inbox_put_id", 7),
        ("format", 2),
        ("domain", "another"),
    ],
)
def test_a_row_with_a_wrong_field_is_corrupt_and_shows_none_of_it(name: str, value: object) -> None:
    record = plain_record("u", 1, 1, "t", "w", "d", "k", b"the secret payload", '{"a":1}')
    found = json.loads(encode_rows([Stored(record, "w", None)]).lines[0])
    body = json.dumps({**found, name: value}).encode()
    with pytest.raises(CorruptRecord) as caught:
        decode_row(body, "inbox/x")
    assert caught.value.location == "inbox/x"
    assert "secret" not in str(caught.value)
    assert found["data_bytes"] not in str(caught.value)
    for broken in (b"", b"[]", b"7", b"{}", body[:-5], b"\xff"):
        with pytest.raises(CorruptRecord):
            decode_row(broken, "inbox/x")


# Indexes


def an_index(rows: list[Stored], gone: frozenset[int] = frozenset()) -> Index:
    return Index.of(Rows.of(rows, encode_rows(rows), gone))


@given(st.lists(STORED, min_size=1, max_size=6), st.data())
def test_an_index_comes_back_as_it_went(rows: list[Stored], data: st.DataObject) -> None:
    gone = frozenset(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    index = Index.decode(an_index(rows, gone).encode(), "id")
    assert index.gone == gone
    for row, stored in enumerate(rows):
        assert index.stored(row) == stored._replace(record=stored.record._replace(data=b"", req_ctx=""))
        assert index.key(row) == stored.record.position
        assert index.digest(row) == stored.record.digest
    alive = [stored.record.tenant_uuid for row, stored in enumerate(rows) if row not in gone]
    assert dict(index.tenants()) == {tenant: alive.count(tenant) for tenant in set(alive)}


@given(st.lists(STORED, min_size=1, max_size=6), st.data())
def test_an_index_filters_as_the_contract_does(rows: list[Stored], data: st.DataObject) -> None:
    index = an_index(rows)
    one: Record = data.draw(st.sampled_from(rows)).record
    named = data.draw(
        st.sets(st.sampled_from(("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")))
    )
    wanted = {name: data.draw(st.sampled_from([getattr(one, name), "elsewhere"])) for name in sorted(named)}
    query = CommandQuery(**wanted)
    fits = index.matcher(query)
    found = [row for row in range(len(rows)) if fits is not None and fits(row)]
    assert found == [row for row, stored in enumerate(rows) if query.matches(stored.record)]


def test_what_is_no_index_is_corrupt_and_named() -> None:
    record = plain_record("u", 1, 1, "t", "", "", "", b"", "")
    body = an_index([Stored(record, "w", None)]).encode()
    found = json.loads(body)
    one_more = [{**found, name: [*found[name], 1]} for name in ("command_uuid", "created_at", "length", "crc32")]
    coded = {"values": ["t"], "codes": [1]}
    for broken in (
        b"",
        b"{}",
        b"[]",
        body[: len(body) // 2],
        *(json.dumps(changed).encode() for changed in one_more),
        json.dumps({**found, "format": 2}).encode(),
        json.dumps({**found, "digest": "AAAA"}).encode(),
        json.dumps({**found, "columns": {**found["columns"], "tenant_uuid": coded}}).encode(),
    ):
        with pytest.raises(CorruptRecord, match=r"indexes/id\.json"):
            Index.decode(broken, "id")


# Manifests

POSITION = st.tuples(INT64, st.text(min_size=1, max_size=4))
COUNTS = st.dictionaries(TEXT, st.integers(0, 100), max_size=3)
SEGMENT = st.builds(
    lambda number, rows, inline, **more: Segment(
        number=number, id=new_id(3), rows=rows, entries=bytes(rows * WIDTH) if inline else b"", **more
    ),
    st.integers(0, 2**32 - 1),
    st.integers(1, 16),
    st.booleans(),
    size=st.integers(0, 2**40),
    check=st.integers(0, 2**32 - 1),
    first=POSITION,
    last=POSITION,
    tenants=st.none() | COUNTS,
    commands=st.integers(0, 100),
)
PART = st.builds(
    Part,
    st.just("00000000-aa"),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    POSITION,
    POSITION,
    st.none() | COUNTS,
    st.integers(0, 9),
)
MANIFEST = st.builds(
    Manifest,
    store=st.just("life"),
    sequence=st.integers(0, 2**40),
    epoch=st.integers(0, 2**30),
    operations=st.lists(TEXT, max_size=3).map(tuple),
    next_number=st.integers(0, 2**32),
    segments=st.lists(SEGMENT, max_size=3).map(tuple),
    parts=st.lists(PART, max_size=2).map(tuple),
    dead=st.dictionaries(st.integers(0, 99), st.builds(Dead, st.frozensets(st.integers(0, 99)), COUNTS), max_size=2),
    graves=st.dictionaries(TEXT, st.builds(Grave, INT64, st.none() | TEXT), max_size=2),
    recent=st.none() | st.builds(Recent, st.just("id"), st.just(7), st.just(((1, 2), (3, 4)))),
    partitions=st.lists(
        st.builds(Partition, st.integers(0, 2**64 - 1), st.just("id"), st.just(7), st.just((1, 2)))
    ).map(tuple),
    tenants=st.none() | COUNTS,
)


@given(MANIFEST)
def test_a_manifest_comes_back_as_it_went(manifest: Manifest) -> None:
    assert manifests.decode(manifests.encode(manifest), "it") == manifest


@given(st.lists(SEGMENT, max_size=4))
def test_a_part_comes_back_as_it_went(segments: list[Segment]) -> None:
    assert manifests.decode_part(manifests.encode_part(segments)) == segments


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"format":"1"}', b'{"format":1}', b"\xff", b"null"])
def test_what_is_no_manifest_is_named(body: bytes) -> None:
    with pytest.raises(ConfigurationError, match="that object is no manifest"):
        manifests.decode(body, "that object")


def test_a_manifest_of_a_newer_format_says_to_update() -> None:
    with pytest.raises(ConfigurationError, match=r"that object has format 2.* update"):
        manifests.decode(b'{"format":2}', "that object")


def test_the_tenants_of_a_store_are_counted_until_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MOST_TENANTS", 2)
    manifest = Manifest("life").counted({"a": 2, "b": 1}).counted({"a": -1, "b": -1, "c": 1})
    assert manifest.tenants == {"a": 1, "c": 1}
    assert manifest.counted({"d": 1}).tenants is None
    assert manifest.counted({"d": 1}).counted({"d": -1}).tenants is None


# Names


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_every_uuid_has_a_key_of_its_own_within_s3s_limit(one: str, other: str) -> None:
    key = inbox_key("life", one)
    assert key.isascii()
    assert len(key) < 400
    assert (key == inbox_key("life", other)) is (one == other)
    assert inbox_uuid(key) in {one, None}
    assert key.count("/") == 2
    assert len(register_key(one)) < 400


def test_a_short_uuid_is_in_its_key() -> None:
    assert inbox_key("life", "a/b c") == "inbox/life/a%2Fb%20c.json"
    assert inbox_uuid("inbox/life/a%2Fb%20c.json") == "a/b c"
    assert inbox_uuid(inbox_key("life", "~a")) is None


def test_a_superseded_command_is_kept_while_the_one_that_won_stands() -> None:
    key = conflict_key("u", "put", "winner")
    assert not settled_conflict(key, "u", "winner")
    assert settled_conflict(key, "u", "other")
    assert settled_conflict(key, "u", None)
    assert not settled_conflict(key, "u2", None)
    assert conflict_uuid(key) == "u"
    assert conflict_uuid(conflict_key("u" * 400, "put", "winner")) is None


def test_an_id_tells_the_epoch_of_its_writer() -> None:
    assert epoch_of(new_id(258)) == 258
    assert [epoch_of(name) for name in ("readme", "x-y", "")] == [None, None, None]


# What is merged


def a_segment(number: int, rows: int, size: int = 1000) -> Segment:
    return Segment(number, f"id{number}", rows, size, 0, (number, "a"), (number, "b"), {}, rows)


def test_segments_of_a_tier_are_merged_when_there_are_enough() -> None:
    small = [a_segment(number, 1) for number in range(GROWTH - 1)]
    larger = [a_segment(100 + number, 500) for number in range(GROWTH)]
    assert groups(small, (), fewest=GROWTH) == []
    assert groups([*small, *larger], (), fewest=GROWTH) == [larger]


def test_what_is_large_enough_is_left_alone_until_rows_die() -> None:
    full = [a_segment(number, FULL_ROWS) for number in range(20)]
    heavy = [a_segment(30 + number, 10, FULL_BYTES) for number in range(20)]
    assert groups([*full, *heavy], (), fewest=2) == []
    assert groups(full, {7}, fewest=2) == [[full[7]]]


def test_a_single_small_segment_is_not_rewritten_again_and_again() -> None:
    assert groups([a_segment(1, 5)], (), fewest=2) == []
    assert groups([a_segment(1, 5), a_segment(2, 500)], (), fewest=2) == []


def test_groups_are_bounded_in_rows_and_bytes() -> None:
    made = groups([a_segment(number, 8000, 7 * 2**20) for number in range(20)], (), fewest=2)
    assert sum(len(group) for group in made) >= 19
    for group in made:
        assert sum(segment.rows for segment in group) <= 32 * 1024
        assert sum(segment.size for segment in group) <= 64 * 2**20
