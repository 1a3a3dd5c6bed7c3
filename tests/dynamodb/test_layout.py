"""Keys, items, sizes, statements: all pure."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import codec
from commandstore.command import INT64_MAX, INT64_MIN, Command
from commandstore.dynamodb import layout
from commandstore.dynamodb.layout import Shards
from commandstore.dynamodb.requests import cut, insert_statement, insert_statements, statement, statements_body
from commandstore.errors import ConfigurationError, CorruptRecord

INT64 = st.integers(INT64_MIN, INT64_MAX)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
UUID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@st.composite
def records(draw: st.DrawFn) -> codec.Record:
    return codec.encode(
        Command(draw(UUID), draw(INT64), draw(INT64), *(draw(TEXT) for _ in range(4)), draw(st.binary()), draw(TEXT))
    )._replace(session_uuid=draw(TEXT), cipher=draw(TEXT))


@given(st.lists(st.tuples(INT64 | st.integers(-3, 3), UUID)))
def test_positions_sort_by_their_bytes_as_the_total_order_does(keys: list[tuple[int, str]]) -> None:
    by_bytes = sorted(keys, key=lambda key: layout.position(*key).encode())
    assert by_bytes == sorted(keys, key=lambda key: (key[0], key[1].encode()))


@given(INT64, UUID)
def test_a_position_gives_its_key_back(created_at: int, uuid: str) -> None:
    assert layout.position_key(layout.position(created_at, uuid)) == (created_at, uuid)
    assert layout.key_position((created_at, uuid)) == layout.position(created_at, uuid)
    assert layout.LOWEST <= layout.position(created_at, uuid) <= layout.HIGHEST


def test_a_position_that_is_not_ours_is_a_key_of_its_own() -> None:
    for text in ("", "5zz", "0" * 16, "G" * 20):
        assert layout.position_key(text) == (text,)
        assert layout.key_position((text,)) == text


def test_the_longest_keys_are_within_the_engines_limits() -> None:
    record = codec.encode(Command("\U0001f600" * 128, INT64_MAX, tenant_uuid="\U0001f600" * 128))
    item = layout.head_item(record, "w", Shards(tenant=256, time=256))
    assert len(item["position"]["S"].encode()) <= 1024
    assert len(item["tenant_shard"]["S"].encode()) <= 2048


@given(records())
def test_an_item_gives_its_record_back(record: codec.Record) -> None:
    item = orjson.loads(orjson.dumps(layout.head_item(record, "w1", Shards())))
    assert layout.record_of(item) == record
    assert layout.head_of(item) == ("w1", record.digest, 0)


@given(records(), st.integers(1, 7))
def test_parts_give_their_record_back(record: codec.Record, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PART_BYTES", size)
        head = layout.head_item(record, "w1", Shards(), inline=False)
        parts = list(layout.part_items(record, "w1", 7))
        keys = layout.part_keys(record.command_uuid, "w1", layout.head_of(head).parts)
        assert [{"uuid": part["uuid"], "part": part["part"]} for part in parts] == keys
        assert layout.part_count(record) == len(parts)
    blob = b"".join(layout.from_base64(part["payload"]["B"]) for part in parts)
    assert layout.record_of(head, blob) == record
    with pytest.raises(CorruptRecord):
        layout.record_of(head, blob + b"x")


@given(TEXT, TEXT, st.integers(0, 3))
def test_no_two_tenants_share_a_shard(one: str, other: str, shard: int) -> None:
    if one != other:
        assert not set(Shards().tenant_shards(one)) & set(Shards().tenant_shards(other))
    assert Shards().tenant_shards(one)[shard].rpartition("#")[0] == one


@given(records())
def test_a_command_is_in_a_shard_that_its_list_reads(record: codec.Record) -> None:
    shards = Shards(tenant=3, time=5)
    item = layout.head_item(record, "w", shards)
    assert item["time_shard"]["S"] in shards.time_shards()
    if record.tenant_uuid:
        assert item["tenant_shard"]["S"] in shards.tenant_shards(record.tenant_uuid)
    else:
        assert "tenant_shard" not in item  # an index key can't be empty


def test_shards_are_filled_evenly() -> None:
    shards = Shards()
    counts = dict.fromkeys(shards.time_shards(), 0)
    for number in range(16_000):
        item = layout.head_item(codec.encode(Command(f"command-{number}", number)), "w", shards)
        counts[item["time_shard"]["S"]] += 1
    assert min(counts.values()) > 800
    assert max(counts.values()) < 1200


def test_no_head_is_over_the_engines_limit_whatever_its_names_weigh() -> None:
    wide = "\U0001f600" * 256  # 1,024 bytes
    for data in (layout.INLINE_LIMIT - 20_000, layout.INLINE_LIMIT - 5_000, layout.INLINE_LIMIT, 500_000):
        record = codec.encode(Command("u" * 512, INT64_MIN, INT64_MIN, "t" * 512, wide, wide, wide, b"x" * data))
        item = layout.head_item(record, "0" * 16, Shards(), inline=not layout.is_long(record))
        assert layout.item_size(item) <= layout.INLINE_LIMIT < layout.ITEM_LIMIT
        for part in layout.part_items(record, "0" * 16, 1_700_000_000):
            assert layout.item_size(part) <= layout.ITEM_LIMIT - 16 * 1024


def test_a_context_counts_by_its_bytes_and_not_by_its_characters() -> None:
    assert layout.is_long(codec.encode(Command("c", 1, req_ctx="\U0001f600" * 100_000)))
    assert not layout.is_long(codec.encode(Command("c", 1, req_ctx="x" * 100_000)))


@given(INT64)
def test_a_number_weighs_a_byte_for_two_digits_and_a_little(value: int) -> None:
    size = layout.item_size({"n": {"N": str(value)}})
    assert 2 <= size <= 1 + 21


def test_strings_weigh_their_utf8_and_binaries_their_bytes() -> None:
    assert layout.item_size({"né": {"S": "\U0001f600"}}) == 3 + 4
    for length in range(9):
        assert layout.item_size({"b": {"B": layout.to_base64(b"x" * length)}}) == 1 + length


@pytest.mark.parametrize("inline", [True, False])
def test_a_statement_is_within_the_engines_limit_for_the_longest_table_name(inline: bool) -> None:
    record = codec.encode(Command("c", 1, tenant_uuid="t"))._replace(cipher="aes")
    names = tuple(layout.head_item(record, "w", Shards(), inline=inline))
    assert len(statement("t" * 255, names)) <= layout.STATEMENT_LIMIT


def test_a_statement_has_a_place_for_each_parameter() -> None:
    item = layout.head_item(codec.encode(Command('it\'s "?"', 1)), "w", Shards())
    sent = orjson.loads(statements_body([insert_statement("table", item)]))["Statements"][0]
    assert sent["Statement"].startswith("INSERT INTO \"table\" VALUE {'uuid': ?, 'part': ?, ")
    assert sent["Statement"].count("?") == len(item) == len(sent["Parameters"])
    assert sent["Parameters"] == list(item.values())


@given(st.lists(records(), max_size=4), st.booleans())
def test_the_statements_of_a_batch_say_what_each_item_says(given: list[codec.Record], one_is_long: bool) -> None:
    if given and one_is_long:
        given[0] = given[0]._replace(data=bytes(layout.INLINE_LIMIT))
    shards = Shards(tenant=3, time=5)
    items = [layout.head_item(record, "w", shards, inline=not layout.is_long(record)) for record in given]
    assert list(insert_statements("table", given, "w", shards)) == [insert_statement("table", item) for item in items]


@given(st.lists(st.binary(max_size=30), max_size=60), st.integers(1, 5), st.integers(1, 60))
def test_requests_are_cut_within_count_and_size_and_lose_nothing(pieces: list[bytes], count: int, size: int) -> None:
    batches = list(cut(pieces, count, size))
    assert [index for batch in batches for index in batch] == list(range(len(pieces)))
    for batch in batches:
        assert 1 <= len(batch) <= count
        assert len(batch) == 1 or sum(len(pieces[index]) + 1 for index in batch) <= size


@dataclass
class Damage:
    name: str
    value: object


@pytest.mark.parametrize(
    "damage",
    [
        Damage("domain", None),
        Damage("created_at", {"N": "1.5"}),
        Damage("created_at", {"S": "1"}),
        Damage("digest", {"B": "?"}),
        Damage("data", {"S": "text"}),
        Damage("format", {"N": "99"}),
        Damage("req_ctx", "text"),
    ],
)
def test_a_broken_item_is_a_corrupt_record_that_names_its_command(damage: Damage) -> None:
    item: dict[str, object] = dict(layout.head_item(codec.encode(Command("c-1", 1)), "w", Shards()))
    if damage.value is None:
        del item[damage.name]
    else:
        item[damage.name] = damage.value
    with pytest.raises(CorruptRecord, match="c-1") as caught:
        layout.record_of(item)
    assert caught.value.command_uuid == "c-1"


@pytest.mark.parametrize("name", ["", "ab", "a" * 256, "a/b", "täble", "a b", 'x"; DROP', "abc\n"])
def test_a_name_that_no_table_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        layout.check_table_name(name)
