"""Laws of get, get_many, total and scan."""

from __future__ import annotations

import json
from typing import cast

import pytest

from commandstore.errors import InvalidQuery
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands, tied_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["ReadLaws", "ScanLaws"]

BAD_UUIDS = ("", cast("str", None), cast("str", 7), "\ud800")


class ReadLaws:
    def test_get_of_a_missing_command_is_none(self, store: CommandStore) -> None:
        assert store.get("none") is None
        store.create(a_command())
        assert store.get("C1") is None
        assert store.get("c1 ") is None

    def test_get_gives_every_field_back(self, store: CommandStore) -> None:
        store.create(a_command())
        found = store.get("c1")
        assert found is not None
        assert found.model_dump() == {
            "command_uuid": "c1",
            "created_at": 1,
            "instance_id": 1,
            "tenant_uuid": "tenant-1",
            "workspace_uuid": "workspace-1",
            "domain": "Account",
            "data_type": "AccountCommandLogin",
            "data_bytes": b'{"n":1}',
            "req_ctx": '{"senderSessionUuid":"session-1"}',
        }
        assert found.session_uuid == "session-1"

    def test_get_gives_every_field_of_the_request_context_back(self, store: CommandStore) -> None:
        context = {
            "senderTenantUuid": "t1",
            "senderIdentityUuid": "i1",
            "senderAccountUuid": "a1",
            "senderSessionUuid": "s1",
            "targetTenantUuid": "t2",
            "targetWorkspaceUuid": "w2",
            "targetAggregateUuid": "g2",
            "targetAggregateVersion": 7,
            "executeTimeout": 30_000_000_000,
            "executeWaitToFinish": True,
            "traceId": "trace",
            "attributes": {"ratio": 3.14159, "list": [1, [2, {"three": None}]]},
            "metaData": ["x"],
            "targetIdentityUuid": "i2",
            "unknown": "kept",
        }
        command = a_command(req_ctx=json.dumps(context), data_bytes=b'{"ratio":3.14159,"list":[1,[2.50]]}')
        store.create(command)
        found = store.get("c1")
        assert found == command
        assert found.request_context == command.request_context
        assert found.request_context is not None
        assert found.request_context.attributes == context["attributes"]
        assert found.request_context.extra == {"unknown": "kept"}

    @pytest.mark.parametrize("uuid", BAD_UUIDS, ids=ascii)
    def test_what_is_no_uuid_cant_be_got(self, store: CommandStore, uuid: str) -> None:
        with pytest.raises(InvalidQuery):
            store.get(uuid)
        with pytest.raises(InvalidQuery):
            store.get_many(["c1", uuid])

    def test_a_uuid_too_long_to_be_stored_is_missing(self, store: CommandStore) -> None:
        assert store.get("x" * 513) is None
        assert store.get_many(["é" * 257]) == {}

    def test_get_many_gives_the_commands_by_uuid_in_the_order_of_the_input(self, lab: Lab, store: CommandStore) -> None:
        commands = {command.command_uuid: command for command in lab.fill(store, some_commands(9))}
        wanted = ["c00005", "c00002", "c00008", "c00000"]
        assert list(store.get_many(wanted).items()) == [(uuid, commands[uuid]) for uuid in wanted]

    def test_get_many_leaves_missing_ones_out(self, lab: Lab, store: CommandStore) -> None:
        [command] = lab.fill(store, [a_command()])
        assert store.get_many(["none", "c1", "nothing"]) == {"c1": command}

    def test_get_many_of_nothing_is_empty(self, store: CommandStore) -> None:
        assert store.get_many([]) == {}

    def test_get_many_takes_a_uuid_twice_and_any_iterable(self, lab: Lab, store: CommandStore) -> None:
        [command] = lab.fill(store, [a_command()])
        assert store.get_many(uuid for uuid in ("c1", "c1", "none", "c1")) == {"c1": command}

    def test_get_many_reads_hundreds_at_once(self, lab: Lab, store: CommandStore) -> None:
        commands = lab.fill(store, some_commands(250))
        found = store.get_many(f"c{number:05}" for number in range(300))
        assert list(found.values()) == commands

    def test_get_many_reads_long_commands_at_once(self, lab: Lab, store: CommandStore) -> None:
        commands = lab.fill(
            store, (a_command(f"c{at}", at, data_bytes=payload(size * KIB)) for at, size in enumerate((450, 300, 1)))
        )
        assert list(store.get_many(["c0", "c1", "c2"]).values()) == commands

    def test_total_of_an_empty_store_is_zero(self, store: CommandStore) -> None:
        assert store.total() == 0
        assert store.total(tenant_uuid="tenant-1", before=5) == 0

    def test_total_follows_every_write(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(5))
        assert store.total() == 5
        store.delete("c00000")
        lab.place.settle()
        assert store.total() == 4
        store.update(a_command("c00001", 7))
        lab.place.settle()
        assert store.total() == 4

    def test_total_counts_more_than_one_page(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(310))
        assert store.total() == 310
        assert store.total(before=1_300) == 300


class ScanLaws:
    def test_scan_of_an_empty_store_is_empty(self, store: CommandStore) -> None:
        assert list(store.scan()) == []

    @pytest.mark.parametrize("size", [1, 2, 5, 12, 1000])
    def test_scan_gives_everything_in_order_in_any_page_size(self, lab: Lab, store: CommandStore, size: int) -> None:
        expected = lab.fill(store, tied_commands())
        assert list(store.scan(page_size=size)) == expected
        assert list(store.scan(page_size=size, ascending=False)) == expected[::-1]

    def test_scan_goes_over_more_than_one_page(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(230))
        assert list(store.scan(page_size=100)) == expected

    def test_scan_filters(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(6))
        lab.fill(store, some_commands(6, prefix="x", tenant_uuid="another"))
        assert list(store.scan(tenant_uuid="tenant-1", page_size=2)) == expected
        assert list(store.scan(tenant_uuid="tenant-1", after=1_001, before=1_004)) == expected[2:4]
        assert list(store.scan(tenant_uuid="nobody")) == []
        assert list(store.scan(tenant_uuid="x" * 513)) == []

    def test_scan_refuses_a_bad_query_at_once(self, store: CommandStore) -> None:
        with pytest.raises(InvalidQuery):
            store.scan(order_by="nothing")
        with pytest.raises(InvalidQuery):
            store.scan(page_size=0)
        with pytest.raises(InvalidQuery):
            store.scan(tenant_uuid=cast("str", 7))

    def test_a_scan_that_is_left_early_leaves_the_store_usable(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(9))
        assert next(iter(store.scan(page_size=2))) == expected[0]
        store.create(a_command("z"))
        assert store.get("z") == a_command("z")

    def test_a_scan_may_write_to_its_own_store(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(7))
        seen = []
        for command in store.scan(page_size=2):
            seen.append(command)
            assert store.delete(command.command_uuid)
        assert seen == expected
        assert lab.place.raw_uuids() == set()
