"""Lists and totals on an engine: shards, stale index entries, filters, moves."""

from __future__ import annotations

import random

import pytest

from commandstore import codec
from commandstore.command import Command, CommandQuery
from commandstore.contract import Key
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import Creation
from dynamodb.rig import Rig

RANDOM = random.Random(5)  # noqa: S311 - data, and always the same


def records(count: int) -> list[codec.Record]:
    made = [
        codec.encode(
            Command(
                f"c{number:04}",
                RANDOM.choice([-(2**63), -1, 0, 5, 5, 5, 2**63 - 1]),
                tenant_uuid=RANDOM.choice(["", "t", "t#1", "é"]),
                domain=RANDOM.choice(["", "d"]),
                data_bytes=b"%d" % number,
            )
        )
        for number in range(count)
    ]
    return sorted(made, key=lambda record: record.position)


def walk(rig: Rig, backend: DynamoDBBackend, query: CommandQuery, limit: int) -> list[codec.Record]:
    found: list[codec.Record] = []
    key: Key | None = None
    while True:
        page = rig.do(backend.page(query, key, limit))
        assert len(page.rows) <= limit
        found += [row.record for row in page.rows]
        if (key := page.next_key) is None:
            return found


@pytest.mark.parametrize("shards", [(1, 1), (4, 16)])
def test_pages_over_all_shards_are_the_total_order_and_its_reverse(rig: Rig, shards: tuple[int, int]) -> None:
    backend = rig.open(creation=Creation(*shards))
    made = records(150)
    rig.do(backend.insert(made, "w1"))
    for query in (
        CommandQuery(),
        CommandQuery(tenant_uuid="t"),
        CommandQuery(tenant_uuid="t#1", domain=""),
        CommandQuery(tenant_uuid=""),
        CommandQuery(domain="d", after=-1, before=2**63 - 1),
        CommandQuery(tenant_uuid="nobody"),
    ):
        expected = [
            record
            for record in made
            if all(getattr(record, name) == value for name, value in query.equal_to.items())
            and (query.after is None or record.created_at > query.after)
            and (query.before is None or record.created_at < query.before)
        ]
        assert walk(rig, backend, query, 7) == expected
        backwards = CommandQuery(**query.canonical(), ascending=False)  # type: ignore[arg-type]
        assert walk(rig, backend, backwards, 50) == expected[::-1]
        assert rig.do(backend.count(query)) == len(expected)


def test_a_rare_match_is_found_without_reading_a_request_for_every_few_rows(rig: Rig) -> None:
    backend = rig.open()
    crowd = [codec.encode(Command(f"c{number:05}", number, domain="many")) for number in range(3000)]
    rare = codec.encode(Command("rare", 2_500, domain="one"))
    for start in range(0, 3000, 1000):
        rig.do(backend.insert(crowd[start : start + 1000], "w1"))
    rig.do(backend.insert([rare], "w2"))
    before = rig.faults.calls["query"]
    page = rig.do(backend.page(CommandQuery(domain="one"), None, 10))
    assert [row.record for row in page.rows] == [rare]
    assert page.next_key is None
    assert rig.faults.calls["query"] - before <= 15


def test_an_entry_whose_command_is_gone_is_passed_over_and_the_page_goes_on(rig: Rig) -> None:
    backend = rig.open(creation=Creation(1, 1))
    made = [codec.encode(Command(f"c{number}", number)) for number in range(6)]
    rig.do(backend.insert(made, "w1"))

    def lagging(answer: dict) -> dict:
        for number in (0, 1, 2):
            rig.raw.delete_item(TableName=rig.table, Key={"uuid": {"S": f"c{number}"}, "part": {"S": "head"}})
        return answer

    rig.faults.answer("query", lagging)
    page = rig.do(backend.page(CommandQuery(), None, 3))
    assert page.rows == []
    assert page.next_key == (2, "c2")
    assert [row.record for row in rig.do(backend.page(CommandQuery(), page.next_key, 3)).rows] == made[3:]


def test_an_entry_of_a_command_that_moved_since_is_not_listed_in_its_old_place(rig: Rig) -> None:
    backend = rig.open(creation=Creation(1, 1))
    rig.do(backend.insert([codec.encode(Command("c", 1, tenant_uuid="old"))], "w1"))
    old = rig.head("c")

    def lagging(answer: dict) -> dict:
        moved = {**old, "tenant_uuid": {"S": "new"}, "tenant_shard": {"S": "new#0"}, "write_id": {"S": "w2"}}
        rig.raw.put_item(TableName=rig.table, Item=moved)
        return answer

    rig.faults.answer("query", lagging)
    assert rig.do(backend.page(CommandQuery(tenant_uuid="old"), None, 10)).rows == []
    assert [row.key for row in rig.do(backend.page(CommandQuery(tenant_uuid="new"), None, 10)).rows] == [(1, "c")]


def test_a_command_with_an_old_and_a_new_entry_is_listed_once_and_in_its_new_place(rig: Rig) -> None:
    backend = rig.open(creation=Creation(1, 1))
    made = [codec.encode(Command(f"c{number}", number)) for number in range(3)]
    rig.do(backend.insert(made, "w1"))
    rig.do(backend.replace(codec.encode(Command("c0", 9)), "w2"))

    def both(answer: dict) -> dict:
        stale = {"uuid": {"S": "c0"}, "position": {"S": f"{2**63:016x}c0"}, "payload_bytes": {"N": "0"}}
        return {**answer, "Items": [stale, *answer["Items"]]}

    rig.faults.answer("query", both)
    page = rig.do(backend.page(CommandQuery(), None, 10))
    assert [row.key for row in page.rows] == [(1, "c1"), (2, "c2"), (9, "c0")]


def test_an_update_moves_a_command_between_tenants_and_times(rig: Rig) -> None:
    store = rig.store()
    command = Command("c", 1, tenant_uuid="one", domain="d")
    store.create(command)
    for moved in (
        Command("c", -5, tenant_uuid="two", domain="d"),
        Command("c", 7, tenant_uuid="", domain="d"),
        Command("c", 7, tenant_uuid="one", domain=""),
    ):
        assert store.update(moved)
        for tenant in ("one", "two", ""):
            expected = [moved] if tenant == moved.tenant_uuid else []
            assert list(store.list(tenant_uuid=tenant).commands) == expected
            assert store.total(tenant_uuid=tenant) == len(expected)
        assert store.list().commands == (moved,)
        assert store.info().last_item_created_at == max(moved.created_at, -(2**63))


def test_an_entry_without_a_position_of_ours_is_a_row_that_stops_nothing(rig: Rig) -> None:
    backend = rig.open(creation=Creation(1, 1))
    made = [codec.encode(Command(f"c{number}", number)) for number in range(3)]
    rig.do(backend.insert(made, "w1"))
    odd = {**rig.head("c1"), "position": {"S": "8zz"}}
    rig.raw.put_item(TableName=rig.table, Item=odd)
    for limit in (1, 10):
        rows = []
        key: Key | None = None
        while True:
            page = rig.do(backend.page(CommandQuery(), key, limit))
            rows += page.rows
            if (key := page.next_key) is None:
                break
        assert [row.key for row in rows] == [(0, "c0"), (2, "c2"), ("8zz",)]


def test_reset_removes_commands_parts_and_registers_and_keeps_the_settings(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([codec.encode(Command(f"c{number}", number)) for number in range(60)], "w1"))
    rig.do(backend.insert([codec.encode(Command("long", 1, data_bytes=b"x" * 900_000))], "w2"))
    rig.do(backend.register_swap("r", b"v", expected=None, token="t"))
    rig.do(backend.clear())
    assert rig.items() == []
    rig.open(create=False)
    rig.do(backend.insert([codec.encode(Command("c", 1))], "w3"))
    assert rig.do(backend.count(CommandQuery())) == 1
