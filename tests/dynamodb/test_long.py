"""Payloads longer than an item: never half a command, whoever dies, loses or reads when."""

from __future__ import annotations

import pytest

from commandstore import codec
from commandstore.command import Command, CommandQuery
from commandstore.contract import Created, Exists, Row
from commandstore.dynamodb import layout
from commandstore.errors import AccessDenied, CorruptRecord, StoreUnavailable
from dynamodb.rig import Rig

OLD, NEW = b"old payload. " * 70_000, b"new payload! " * 100_000


def a_record(data: bytes = OLD, uuid: str = "c", req_ctx: str = "") -> codec.Record:
    return codec.encode(Command(uuid, 1, data_bytes=data, req_ctx=req_ctx))


@pytest.mark.parametrize("size", [layout.INLINE_LIMIT - 2000, layout.INLINE_LIMIT, layout.PART_BYTES * 2, 16 * 2**20])
def test_a_payload_of_any_size_comes_back(rig: Rig, size: int) -> None:
    backend = rig.open()
    record = a_record(bytes(range(256)) * (size // 256))
    assert rig.do(backend.insert([record], "w1")) == [Created()]
    assert rig.do(backend.fetch(["c"]))["c"] == record


def test_a_long_context_comes_back(rig: Rig) -> None:
    backend = rig.open()
    record = a_record(b"short", req_ctx='{"text": "' + "\U0001f600é" * 300_000 + '"}')
    assert rig.do(backend.insert([record, a_record(uuid="d")], "w1")) == [Created()] * 2
    assert rig.do(backend.fetch(["c"]))["c"] == record


def test_parts_are_written_before_their_head(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    names = [name for name, _ in rig.faults.bodies]
    assert names[-2:] == ["batch_write_item", "put_item"]


def test_a_writer_that_dies_before_the_head_leaves_no_command(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.fail("put_item", "AccessDeniedException")
    with pytest.raises(AccessDenied):
        rig.do(backend.insert([a_record()], "w1"))
    assert rig.parts()  # nobody cleaned up
    assert rig.do(backend.fetch(["c"])) == {}
    assert rig.do(backend.probe(["c"])) == {}
    assert rig.do(backend.page(CommandQuery(), None, 10)).rows == []
    assert rig.do(backend.insert([a_record(NEW)], "w2")) == [Created()]
    assert rig.do(backend.fetch(["c"]))["c"].data == NEW


def test_a_loser_removes_its_own_parts_only(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    kept = rig.parts()
    assert rig.do(backend.insert([a_record(NEW)], "w2")) == [Exists(a_record().digest, "w1")]
    assert rig.parts() == kept
    assert rig.do(backend.insert([a_record(NEW), a_record(NEW, "d")], "w3")) == [
        Exists(a_record().digest, "w1"),
        Created(),
    ]
    assert {(uuid, name.partition(".")[0]) for uuid, name in rig.parts()} == {("c", "w1"), ("d", "w3")}


def test_an_unknown_fate_keeps_its_parts(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose("batch_execute_statement")
    rig.faults.fail("get_item", "InternalServerError", 500, times=20)
    with pytest.raises(StoreUnavailable):
        rig.do(backend.insert([a_record(), a_record(uuid="d")], "w1"))
    rig.faults.forget()
    # The engine did write them. Had the parts been removed, two commands would be broken.
    found = rig.do(backend.fetch(["c", "d"]))
    assert found == {"c": a_record(), "d": a_record(uuid="d")}


def test_parts_that_the_engine_leaves_unprocessed_are_written_before_the_head(rig: Rig) -> None:
    backend = rig.open()

    def none_done(answer: dict) -> dict:
        body = next(body for name, body in reversed(rig.faults.bodies) if name == "batch_write_item")
        for uuid, part in rig.parts():
            rig.raw.delete_item(TableName=rig.table, Key={"uuid": {"S": uuid}, "part": {"S": part}})
        return {**answer, "UnprocessedItems": body["RequestItems"]}

    for _ in range(3):
        rig.faults.answer("batch_write_item", none_done)
    rig.do(backend.insert([a_record()], "w1"))
    assert rig.do(backend.fetch(["c"]))["c"] == a_record()


def test_an_update_removes_the_parts_of_what_it_replaced(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    assert rig.do(backend.replace(a_record(NEW), "w2"))
    assert {name.partition(".")[0] for _, name in rig.parts()} == {"w2"}
    assert rig.do(backend.replace(a_record(b"short"), "w3"))
    assert rig.parts() == set()
    assert rig.do(backend.replace(a_record(NEW), "w4"))
    assert rig.do(backend.remove("c"))
    assert rig.items() == []


def _replace_raw(rig: Rig, record: codec.Record, write_id: str) -> None:
    """What another process's update does, step by step: parts, head, old parts."""
    old = rig.head(record.command_uuid)
    long = layout.is_long(record)
    for part in layout.part_items(record, write_id, 0) if long else ():
        rig.raw.put_item(TableName=rig.table, Item=_for_sdk(part))
    head = layout.head_item(record, write_id, layout.Shards(2, 3), inline=not long)
    rig.raw.put_item(TableName=rig.table, Item=_for_sdk(head))
    for key in layout.part_keys(record.command_uuid, old["write_id"]["S"], int(old.get("parts", {"N": "0"})["N"])):
        rig.raw.delete_item(TableName=rig.table, Key=key)


def _for_sdk(item: layout.Item) -> dict:
    return {n: {k: layout.from_base64(v) if k == "B" else v for k, v in value.items()} for n, value in item.items()}


@pytest.mark.parametrize("data", [NEW, b"short"])
def test_a_reader_between_head_and_parts_sees_the_new_command(rig: Rig, data: bytes) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))

    def replaced(answer: dict) -> dict:
        _replace_raw(rig, a_record(data), "w2")
        return answer

    rig.faults.answer("batch_get_item", replaced)  # the heads were read; now the parts go
    assert rig.do(backend.fetch(["c"])) == {"c": a_record(data)}


def test_a_reader_whose_command_is_removed_meanwhile_finds_none(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))

    def removed(answer: dict) -> dict:
        for item in rig.items():
            rig.raw.delete_item(TableName=rig.table, Key={"uuid": item["uuid"], "part": item["part"]})
        return answer

    rig.faults.answer("batch_get_item", removed)
    assert rig.do(backend.fetch(["c"])) == {}


def test_a_part_that_is_really_missing_makes_a_corrupt_record_and_stops_no_page(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record(), a_record(uuid="d")], "w1"))
    rig.raw.delete_item(TableName=rig.table, Key={"uuid": {"S": "c"}, "part": {"S": "w1.0001"}})
    found = rig.do(backend.fetch(["c", "d"]))
    assert isinstance(found["c"], CorruptRecord)
    assert "parts" in str(found["c"])
    rows = rig.do(backend.page(CommandQuery(), None, 10)).rows
    assert isinstance(rows[0].error, CorruptRecord)
    assert rows[1] == Row((1, "d"), a_record(uuid="d"))
    # Without its payload it can still be listed, compared, replaced and removed.
    assert rig.do(backend.page(CommandQuery(), None, 1, payload=False)).rows[0].record.digest == a_record().digest
    assert rig.do(backend.replace(a_record(b"mended"), "w2")) is True
    assert rig.do(backend.fetch(["c"]))["c"] == a_record(b"mended")


def test_a_page_of_long_commands_is_short_and_goes_on(rig: Rig) -> None:
    backend = rig.open()
    records = [a_record(b"x" * 6 * 2**20, f"c{number}") for number in range(5)]
    rig.do(backend.insert(records, "w1"))
    key, found, pages = None, [], 0
    while True:
        page = rig.do(backend.page(CommandQuery(), key, 100))
        assert sum(len(row.record.data) for row in page.rows) <= 16 * 2**20
        found += [row.record for row in page.rows]
        pages += 1
        if (key := page.next_key) is None:
            break
    assert found == records
    assert pages == 3
    assert len(rig.do(backend.page(CommandQuery(), None, 100, payload=False)).rows) == 5


def test_orphans_go_after_their_grace_and_nothing_else_does(rig: Rig) -> None:
    clock = [1000.0]
    backend = rig.open(now=lambda: clock[0])
    rig.do(backend.insert([a_record(uuid="stays")], "w1"))
    # A replacement and an insert that died on their way.
    rig.faults.fail("put_item", "AccessDeniedException", times=2)
    with pytest.raises(AccessDenied):
        rig.do(backend.replace(a_record(NEW, "stays"), "w2"))
    with pytest.raises(AccessDenied):
        rig.do(backend.insert([a_record(NEW, "never")], "w3"))
    before = rig.parts()
    clock[0] += 59
    assert rig.do(backend.gc(grace=60)) == {"scanned": 0, "removed": 0}
    assert rig.parts() == before
    clock[0] += 1
    counts = rig.do(backend.gc(grace=60))
    assert counts["removed"] == len([p for p in before if not p[1].startswith("w1.")])
    assert {(uuid, name.partition(".")[0]) for uuid, name in rig.parts()} == {("stays", "w1")}
    assert rig.do(backend.fetch(["stays"]))["stays"] == a_record(uuid="stays")
