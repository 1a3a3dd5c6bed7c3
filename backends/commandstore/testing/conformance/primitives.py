"""Laws of the primitives that a backend supplies, as ``contract.Backend`` states them."""

from __future__ import annotations

from typing import cast

import orjson
import pytest

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Backend, Created, Exists, Key, Rejected, Row
from commandstore.errors import InvalidCommand, StoreClosed
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands, tied_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["PrimitiveLaws"]

EVERYTHING = CommandQuery()
NEWEST_FIRST = CommandQuery(ascending=False)


class PrimitiveLaws:
    keeps_write_ids = True
    """False for an engine with no place for a write id: then ``Exists.write_id`` is always None."""

    @pytest.fixture
    def opened(self, store: CommandStore) -> Backend:
        """The backend of the open store."""
        return store.core.backend

    def test_a_backend_states_what_it_is(self, opened: Backend) -> None:
        assert opened.store_type
        assert "created_at" in opened.order_by
        assert opened.insert_count >= 1
        assert opened.insert_bytes >= 1
        assert opened.location.partition("://")[0]

    def test_backends_of_one_place_have_one_location(self, lab: Lab, opened: Backend) -> None:
        assert lab.place.make_backend().location == opened.location

    def test_outcomes_are_aligned_with_the_records(self, lab: Lab, opened: Backend) -> None:
        records = _records(9)
        assert lab.do(opened.insert(records[1::3], "w1")) == [Created()] * 3
        outcomes = lab.do(opened.insert(records, "w2"))
        assert [type(outcome) for outcome in outcomes] == [Created, Exists, Created] * 3
        assert [o.digest for o in outcomes if isinstance(o, Exists)] == [record.digest for record in records[1::3]]

    def test_what_exists_is_not_overwritten_and_its_own_digest_is_told(self, lab: Lab, opened: Backend) -> None:
        [stored] = _records(1)
        other = codec.encode(a_command(stored.command_uuid, data_bytes=b"other"))
        lab.do(opened.insert([stored], "w1"))
        for record in (stored, other):
            [outcome] = lab.do(opened.insert([record], "w2"))
            assert outcome == Exists(stored.digest, "w1" if self.keeps_write_ids else None)
        assert lab.do(opened.fetch([stored.command_uuid])) == {stored.command_uuid: stored}

    def test_an_insert_tried_again_after_a_lost_answer_is_created(self, lab: Lab, opened: Backend) -> None:
        records = [*_records(3), codec.encode(a_command("long", data_bytes=payload(900 * KIB)))]
        assert lab.do(opened.insert(records[:2], "w1")) == [Created()] * 2
        if self.keeps_write_ids:
            assert lab.do(opened.insert(records, "w1")) == [Created()] * 4
            assert lab.do(opened.insert(records, "w1")) == [Created()] * 4
        else:
            # Without write ids the digest tells that it was this very command: a duplicate, never a conflict.
            again = lab.do(opened.insert(records, "w1"))
            assert again == [Exists(record.digest, None) for record in records[:2]] + [Created()] * 2
        found = lab.do(opened.fetch([record.command_uuid for record in records]))
        assert list(map(found.get, (record.command_uuid for record in records))) == records

    def test_a_replaced_record_carries_the_write_id_of_its_replacement(self, lab: Lab, opened: Backend) -> None:
        [record] = _records(1)
        lab.do(opened.insert([record], "w1"))
        assert lab.do(opened.replace(record, "w2")) is True
        [outcome] = lab.do(opened.insert([record], "w3"))
        assert outcome == Exists(record.digest, "w2" if self.keeps_write_ids else None)

    def test_hundreds_are_inserted_at_once(self, lab: Lab, opened: Backend) -> None:
        records = _records(min(opened.insert_count, 260))
        assert lab.do(opened.insert(records, "w1")) == [Created()] * len(records)
        assert lab.place.raw_uuids() == {record.command_uuid for record in records}

    def test_a_record_that_the_engine_cant_hold_is_rejected_alone(self, lab: Lab, opened: Backend) -> None:
        records = [codec.encode(c) for c in (a_command("a"), a_command("b", tenant_uuid="nul\x00"), a_command("c"))]
        first, middle, last = lab.do(opened.insert(records, "w1"))
        assert first == last == Created()
        if lab.place.holds(codec.decode(records[1])):
            assert middle == Created()
        else:
            assert isinstance(middle, Rejected)
            assert isinstance(middle.error, InvalidCommand)
            assert lab.place.raw_uuids() == {"a", "c"}

    def test_fetch_gives_whole_records_and_leaves_missing_ones_out(self, lab: Lab, opened: Backend) -> None:
        records = [*_records(120), codec.encode(a_command("long", data_bytes=payload(900 * KIB)))]
        lab.do(opened.insert(records, "w1"))
        found = lab.do(opened.fetch(["none", *(record.command_uuid for record in records), "nothing"]))
        assert found == {record.command_uuid: record for record in records}
        assert lab.do(opened.fetch([])) == lab.do(opened.fetch(["none"])) == {}

    def test_a_record_comes_back_with_every_field(self, lab: Lab, opened: Backend) -> None:
        record = codec.encode(a_command())
        lab.do(opened.insert([record], "w1"))
        found = lab.do(opened.fetch(["c1"]))["c1"]
        assert isinstance(found, Record)
        assert found._asdict() == record._asdict()
        lab.place.settle()
        [row] = lab.do(opened.page(EVERYTHING, None, 10)).rows
        assert row.record == record
        assert row.error is None

    def test_probe_gives_the_digests_and_leaves_missing_ones_out(self, lab: Lab, opened: Backend) -> None:
        records = [*_records(120), codec.encode(a_command("long", data_bytes=payload(900 * KIB)))]
        lab.do(opened.insert(records, "w1"))
        found = lab.do(opened.probe(["none", *(record.command_uuid for record in records)]))
        assert found == {record.command_uuid: record.digest for record in records}
        assert lab.do(opened.probe([])) == lab.do(opened.probe(["none"])) == {}

    def test_probe_reads_its_own_writes(self, lab: Lab, opened: Backend) -> None:
        for data in (b"1", b"2", b"3"):
            record = codec.encode(a_command(data_bytes=data))
            if not lab.do(opened.replace(record, "w")):
                lab.do(opened.insert([record], "w"))
            assert lab.do(opened.probe(["c1"])) == {"c1": record.digest}
        lab.do(opened.remove("c1"))
        assert lab.do(opened.probe(["c1"])) == {}

    def test_digests_are_those_of_the_codec_on_every_backend(self, lab: Lab, store: CommandStore) -> None:
        commands = lab.fill(store, [*tied_commands(), a_command("long", 8, data_bytes=payload(900 * KIB))])
        digests = {command.command_uuid: codec.encode(command).digest for command in commands}
        assert lab.do(store.core.backend.probe(list(digests))) == digests
        for whole in (True, False):
            rows = _walk(lab, store.core.backend, EVERYTHING, 5, payload=whole)
            assert {row.record.command_uuid: row.record.digest for row in rows if row.record} == digests

    @pytest.mark.parametrize("limit", [1, 2, 5, 12, 50])
    def test_pages_follow_each_other_to_the_end(self, lab: Lab, store: CommandStore, limit: int) -> None:
        expected = [codec.encode(command) for command in lab.fill(store, tied_commands())]
        opened = store.core.backend
        assert [row.record for row in _walk(lab, opened, EVERYTHING, limit)] == expected
        assert [row.record for row in _walk(lab, opened, NEWEST_FIRST, limit)] == expected[::-1]

    def test_a_page_goes_on_after_the_key_of_any_row(self, lab: Lab, store: CommandStore) -> None:
        expected = [command.command_uuid for command in lab.fill(store, tied_commands())]
        opened = store.core.backend
        for query, order in ((EVERYTHING, expected), (NEWEST_FIRST, expected[::-1])):
            for at, row in enumerate(_walk(lab, opened, query, 50)):
                # The key survives JSON: it is what a cursor and a checkpoint carry.
                key = cast("Key", tuple(orjson.loads(orjson.dumps(row.key))))
                assert key == row.key
                assert [uuid_of(row) for row in _walk(lab, opened, query, 50, after=key)] == order[at + 1 :]

    def test_an_empty_store_has_one_page_without_rows_or_key(self, lab: Lab, opened: Backend) -> None:
        for query in (EVERYTHING, NEWEST_FIRST, CommandQuery(tenant_uuid="x"), CommandQuery(before=0)):
            assert _walk(lab, opened, query, 10) == []
            assert lab.do(opened.count(query)) == 0

    def test_a_page_without_payloads_has_the_same_rows(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, [*tied_commands(), a_command("long", 8, data_bytes=payload(900 * KIB))])
        for query in (EVERYTHING, NEWEST_FIRST, CommandQuery(tenant_uuid="tenant-1")):
            whole = _walk(lab, store.core.backend, query, 5)
            light = _walk(lab, store.core.backend, query, 5, payload=False)
            assert [row.key for row in light] == [row.key for row in whole]
            assert len(whole) == len(expected)
            for row in light:
                assert row.record is not None
                assert row.record.position in {command.position for command in expected}

    def test_count_counts_what_pages_give(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, tied_commands())
        for query in (EVERYTHING, CommandQuery(after=4, before=6), CommandQuery(tenant_uuid="tenant-1", after=0)):
            assert lab.do(store.core.backend.count(query)) == len(_walk(lab, store.core.backend, query, 5))

    def test_replace_and_remove_tell_whether_there_was_one(self, lab: Lab, opened: Backend) -> None:
        [record] = _records(1)
        assert lab.do(opened.replace(record, "w1")) is False
        assert lab.do(opened.remove(record.command_uuid)) is False
        lab.do(opened.insert([record], "w1"))
        assert lab.do(opened.replace(record, "w2")) is True
        assert lab.do(opened.remove(record.command_uuid)) is True
        assert lab.do(opened.remove(record.command_uuid)) is False
        assert lab.place.raw_uuids() == set()

    def test_clear_removes_commands_and_registers(self, lab: Lab, opened: Backend) -> None:
        lab.do(opened.insert([*_records(30), codec.encode(a_command("l", data_bytes=payload(900 * KIB)))], "w1"))
        lab.do(opened.register_swap("r", b"1", expected=None, token="t"))
        lab.do(opened.clear())
        assert lab.place.raw_uuids() == set()
        assert lab.do(opened.register_get("r")) is None
        assert lab.do(opened.insert(_records(1), "w2")) == [Created()]

    def test_a_backend_that_is_closed_twice_can_be_opened_again(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        store.close()
        lab.do(store.core.backend.close())
        with pytest.raises(StoreClosed):
            store.get("c1")
        store.init()
        assert store.get("c1") == a_command()


def uuid_of(row: Row) -> str:
    assert row.record is not None
    return row.record.command_uuid


def _records(count: int) -> list[Record]:
    return [codec.encode(command) for command in some_commands(count)]


def _walk(
    lab: Lab, backend: Backend, query: CommandQuery, limit: int, *, after: Key | None = None, payload: bool = True
) -> list[Row]:
    """The rows of all slices: each no longer than asked for, and not more of them than can be."""
    rows: list[Row] = []
    for _ in range(200):
        found = lab.do(backend.page(query, after, limit, payload=payload))
        assert len(found.rows) <= limit
        rows += found.rows
        after = found.next_key
        if after is None:
            return rows
    raise AssertionError(f"200 slices of {limit} and no end")
