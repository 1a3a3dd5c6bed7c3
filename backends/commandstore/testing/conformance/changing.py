"""Laws of update and delete."""

from __future__ import annotations

from typing import cast

import pytest

from commandstore.command import Command
from commandstore.errors import InvalidCommand, InvalidQuery, ReadOnlyStore
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, only, payload, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["DeleteLaws", "UpdateLaws"]


class UpdateLaws:
    def test_update_replaces_the_whole_command(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        for command in (a_command("c1", 9, instance_id=2, tenant_uuid="x", data_bytes=b"new"), Command("c1", -1)):
            assert store.update(command) is True
            assert store.get("c1") == command
            assert lab.place.raw_payload("c1") == command.data_bytes
        assert lab.place.raw_uuids() == {"c1"}

    def test_update_of_a_missing_command_is_false_and_writes_nothing(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        assert store.update(a_command("none")) is False
        assert store.update(a_command("long", data_bytes=payload(900 * KIB))) is False
        assert lab.place.raw_uuids() == {"c1"}
        assert store.get("none") is None

    def test_update_with_the_same_content_is_true(self, store: CommandStore) -> None:
        store.create(a_command())
        assert store.update(a_command()) is True
        assert store.get("c1") == a_command()

    def test_update_moves_a_command_in_the_order(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command("a", 1), a_command("b", 2), a_command("c", 3)])
        for at, expected in ((5, "bca"), (2, "abc"), (0, "abc"), (-(2**63), "abc"), (3, "bac")):
            store.update(a_command("a", at))
            lab.place.settle()
            assert "".join(c.command_uuid for c in store.list().commands) == expected
            assert "".join(c.command_uuid for c in store.list(ascending=False).commands) == expected[::-1]
            assert store.total() == 3
            assert store.total(after=at - 1 if at > 0 else None, before=at + 1) >= 1

    def test_update_moves_a_command_between_filters(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        new = a_command(
            "c1",
            2,
            tenant_uuid="tenant-2",
            workspace_uuid="",
            domain="Order",
            data_type="OrderCommandPlace",
            req_ctx='{"senderSessionUuid":"session-2"}',
        )
        assert store.update(new)
        lab.place.settle()
        for name in ("tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid"):
            assert store.list(**only(**{name: getattr(a_command(), name)})).commands == (), name
            assert store.total(**only(**{name: getattr(a_command(), name)})) == 0, name
            assert store.list(**only(**{name: getattr(new, name)})).commands == (new,), name

    def test_update_to_and_from_no_tenant_is_followed_by_every_list(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        for tenant in ("", "tenant-2", "", "tenant-1"):
            store.update(a_command(tenant_uuid=tenant))
            lab.place.settle()
            for name in ("", "tenant-1", "tenant-2"):
                assert store.total(tenant_uuid=name) == len(store.list(tenant_uuid=name).commands) == (name == tenant)
            assert store.total() == len(store.list().commands) == 1

    def test_update_between_short_and_long_payloads(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        for size in (900 * KIB, 850 * KIB, 1, 450 * KIB, 1200 * KIB, 0):
            command = a_command(data_bytes=payload(size))
            assert store.update(command)
            assert store.get("c1") == command
            assert lab.place.raw_payload("c1") == command.data_bytes
        assert lab.place.raw_uuids() == {"c1"}

    def test_an_updated_command_still_exists_for_create(self, store: CommandStore) -> None:
        store.create(a_command(data_bytes=b"old"))
        store.update(a_command(data_bytes=b"new"))
        assert store.create_many([a_command(data_bytes=b"old")]).conflicting == ("c1",)
        assert store.create_many([a_command(data_bytes=b"new")]).duplicate == ("c1",)

    def test_update_refuses_what_create_refuses(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        for command in (cast("Command", None), a_command(""), a_command(created_at=2**63)):
            with pytest.raises(InvalidCommand):
                store.update(command)
        with pytest.raises(ReadOnlyStore):
            lab.open(read_only=True).update(a_command(data_bytes=b"new"))
        assert store.get("c1") == a_command()


class DeleteLaws:
    def test_a_deleted_command_is_gone(self, lab: Lab, store: CommandStore) -> None:
        a, b, c = lab.fill(store, [a_command("a"), a_command("b"), a_command("c")])
        assert store.delete("b") is True
        lab.place.settle()
        assert store.get("b") is None
        assert list(store.list().commands) == list(store.scan()) == [a, c]
        assert b not in store.list(tenant_uuid="tenant-1").commands
        assert store.total() == store.total(tenant_uuid="tenant-1") == 2
        assert lab.place.raw_uuids() == {"a", "c"}

    def test_delete_of_a_missing_command_is_false(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        assert store.delete("none") is False
        assert store.delete("x" * 513) is False
        assert store.delete("c1") is True
        assert store.delete("c1") is False
        assert lab.place.raw_uuids() == set()

    def test_delete_of_a_long_command_leaves_nothing(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command(data_bytes=payload(900 * KIB)), a_command("other")])
        assert store.delete("c1") is True
        assert lab.place.raw_uuids() == {"other"}
        assert store.get("c1") is None

    def test_a_deleted_command_can_be_created_again(self, lab: Lab, store: CommandStore) -> None:
        for data in (b"first", payload(900 * KIB), payload(850 * KIB), b"last"):
            store.create(a_command(data_bytes=data))
            assert store.get("c1") == a_command(data_bytes=data)
            assert lab.place.raw_payload("c1") == data
            assert store.delete("c1")
        assert store.create_many([a_command()]).created == ("c1",)
        assert store.get("c1") == a_command()

    @pytest.mark.parametrize("uuid", ["", cast("str", None), cast("str", 7)], ids=ascii)
    def test_what_is_no_uuid_cant_be_deleted(self, lab: Lab, store: CommandStore, uuid: str) -> None:
        store.create(a_command())
        with pytest.raises(InvalidQuery):
            store.delete(uuid)
        assert lab.place.raw_uuids() == {"c1"}

    def test_deleting_everything_leaves_an_empty_store(self, lab: Lab, store: CommandStore) -> None:
        for command in lab.fill(store, some_commands(9)):
            assert store.delete(command.command_uuid)
        lab.place.settle()
        assert lab.place.raw_uuids() == set()
        page = store.list()
        assert (page.commands, page.total, page.cursor) == ((), 0, None)
