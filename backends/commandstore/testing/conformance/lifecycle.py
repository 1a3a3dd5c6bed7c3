"""Laws of opening, closing, options, info and reset."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Capability
from commandstore.core import StoreOptions
from commandstore.errors import ConfigurationError, ReadOnlyStore, StoreClosed, StoreNotFound, Unsupported
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["LifecycleLaws"]

CALLS: dict[str, Callable[[CommandStore], object]] = {
    "create": lambda store: store.create(a_command()),
    "create_many": lambda store: store.create_many([a_command()]),
    "get": lambda store: store.get("c1"),
    "get_many": lambda store: store.get_many(["c1"]),
    "list": lambda store: store.list(),
    "scan": lambda store: list(store.scan()),
    "total": lambda store: store.total(),
    "update": lambda store: store.update(a_command()),
    "delete": lambda store: store.delete("c1"),
    "info": lambda store: store.info(),
    "reset": lambda store: store.reset(),
    "compact": lambda store: store.compact(),
    "gc": lambda store: store.gc(),
}
UPKEEP: dict[str, Callable[[CommandStore], dict[str, int]]] = {
    "compact": lambda store: store.compact(),
    "gc": lambda store: store.gc(grace=0),
}
WRITES = ("create", "create_many", "update", "delete", "reset", "compact", "gc")


class LifecycleLaws:
    def test_options_give_back_what_init_was_given(self, lab: Lab) -> None:
        store = lab.open(attributes={"name": "value", "list": [1, 2]})
        assert store.options == StoreOptions(read_only=False, crypto=None, attributes={"name": "value", "list": [1, 2]})

    def test_init_on_an_open_store_changes_only_the_options(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        store.init(attributes={"second": True}, read_only=True)
        assert store.options.attributes == {"second": True}
        assert store.get("c1") == a_command()
        with pytest.raises(ReadOnlyStore):
            store.delete("c1")
        store.init()
        assert store.options == StoreOptions()
        assert store.delete("c1")
        assert lab.place.raw_uuids() == set()

    def test_every_method_raises_store_closed_before_init(self, lab: Lab) -> None:
        store = lab.closed()
        for call in CALLS.values():
            with pytest.raises(StoreClosed):
                call(store)

    def test_every_method_raises_store_closed_after_close(self, store: CommandStore) -> None:
        store.create(a_command())
        store.close()
        for call in CALLS.values():
            with pytest.raises(StoreClosed):
                call(store)

    def test_a_second_close_does_nothing(self, store: CommandStore) -> None:
        store.close()
        store.close()

    def test_a_store_that_was_never_opened_can_be_closed(self, lab: Lab) -> None:
        lab.closed().close()

    def test_a_store_is_closed_at_the_end_of_its_with_block(self, lab: Lab) -> None:
        with lab.open() as store:
            store.create(a_command())
        with pytest.raises(StoreClosed):
            store.get("c1")

    def test_a_closed_store_can_be_initialised_again(self, store: CommandStore) -> None:
        store.create(a_command())
        store.close()
        store.init()
        assert store.get("c1") == a_command()

    def test_what_was_stored_is_there_when_the_store_is_opened_again(self, lab: Lab) -> None:
        with lab.open() as store:
            expected = lab.fill(store, some_commands(3))
        again = lab.open(create=False)
        assert list(again.list().commands) == expected
        assert again.get("c00001") == expected[1]

    def test_two_open_stores_of_one_place_see_each_others_commands(self, lab: Lab) -> None:
        one, other = lab.open(), lab.open()
        one.create(a_command())
        assert other.get("c1") == a_command()
        assert other.delete("c1")
        assert one.get("c1") is None

    def test_opening_what_is_there_keeps_what_is_in_it(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        assert lab.open(create=True).get("c1") == a_command()

    def test_without_create_a_missing_store_is_not_found_and_stays_missing(self, lab: Lab) -> None:
        if (backend := lab.place.make_absent_backend()) is None:
            # A place of this kind can't be without its store, and opening one never needs ``create``.
            lab.open(create=False).create(a_command())
            return
        for create, read_only in ((False, False), (True, True), (False, True)):
            with pytest.raises(StoreNotFound):
                lab.closed(backend).init(create=create, read_only=read_only)
        store = lab.closed(backend)
        store.init()
        assert store.total() == 0

    def test_a_read_only_store_refuses_every_write_and_changes_nothing(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        reader = lab.open(read_only=True)
        for name in WRITES:
            with pytest.raises(ReadOnlyStore):
                CALLS[name](reader)
        with pytest.raises(ReadOnlyStore):
            reader.create(a_command("another"))
        with pytest.raises(ReadOnlyStore):
            reader.create_many([])
        assert lab.place.raw_uuids() == {"c1"}
        assert store.get("c1") == a_command()

    def test_a_read_only_store_reads(self, lab: Lab, store: CommandStore) -> None:
        [expected] = lab.fill(store, [a_command()])
        reader = lab.open(read_only=True)
        assert reader.options.read_only
        assert reader.get("c1") == expected
        assert list(reader.list().commands) == list(reader.scan()) == [expected]
        assert reader.total() == reader.info().num_items == 1

    def test_a_store_shows_itself_as_its_location(self, lab: Lab, store: CommandStore) -> None:
        assert str(store) == store.core.backend.location
        assert str(store) in repr(store)
        assert str(lab.open()) == str(store)
        assert store.info().connection_info == str(store)

    def test_info_of_an_empty_store_has_zeros(self, store: CommandStore) -> None:
        info = store.info()
        assert (info.last_item_created_at, info.num_items) == (0, 0)
        assert info.store_type == store.core.backend.store_type

    def test_info_counts_and_has_the_greatest_created_at(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command("a", 7), a_command("b", INT64_MAX), a_command("c", 7), a_command("d", -7)])
        assert (store.info().last_item_created_at, store.info().num_items) == (INT64_MAX, 4)

    def test_info_has_the_greatest_created_at_when_all_are_negative(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command("a", -3), a_command("b", INT64_MIN)])
        assert (store.info().last_item_created_at, store.info().num_items) == (-3, 2)

    def test_info_follows_a_delete(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(3))
        store.delete("c00002")
        lab.place.settle()
        assert (store.info().last_item_created_at, store.info().num_items) == (1_001, 2)

    def test_reset_removes_every_command(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(30))
        store.reset()
        lab.place.settle()
        assert lab.place.raw_uuids() == set()
        assert store.get("c00000") is None
        assert store.total() == store.info().num_items == 0
        assert store.list().commands == ()

    def test_reset_removes_every_register(self, lab: Lab, store: CommandStore) -> None:
        backend = store.core.backend
        for name in ("one", "two"):
            lab.do(backend.register_swap(name, b"1", expected=None, token="t"))
        store.reset()
        assert [lab.do(backend.register_get(name)) for name in ("one", "two")] == [None, None]

    def test_a_store_stays_usable_after_reset(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(2))
        store.reset()
        expected = lab.fill(store, some_commands(2, data_bytes=b"new"))
        assert list(store.scan()) == expected
        assert lab.place.raw_uuids() == {"c00000", "c00001"}

    def test_reset_of_an_empty_store_does_nothing(self, store: CommandStore) -> None:
        store.reset()
        store.reset()
        assert store.total() == 0

    def test_upkeep_is_unsupported_exactly_where_it_is_not_declared(self, store: CommandStore) -> None:
        # A backend may have one of the two: DynamoDB has garbage, and nothing to compact.
        offered = []
        for name, call in UPKEEP.items():
            try:
                counts = call(store)
            except Unsupported:
                continue
            offered.append(name)
            assert all(isinstance(count, int) and count >= 0 for count in counts.values()), (name, counts)
        assert bool(offered) == (Capability.MAINTENANCE in store.core.backend.capabilities), offered

    @pytest.mark.parametrize("name", UPKEEP)
    def test_upkeep_keeps_every_command(self, lab: Lab, store: CommandStore, name: str) -> None:
        lab.fill(store, some_commands(30))
        lab.keeps(store, a_command("long", data_bytes=payload(450 * KIB)))
        store.update(a_command("c00003", 1_003, data_bytes=b"new"))
        store.delete("c00004")
        lab.place.settle()
        expected = list(store.scan())
        for _ in range(2):  # what has been done once has nothing left to do, and does no harm
            with suppress(Unsupported):
                UPKEEP[name](store)
            lab.place.settle()
            assert list(store.scan()) == expected
            assert lab.place.raw_uuids() == {command.command_uuid for command in expected}
            again = lab.open(read_only=True)
            assert list(again.scan()) == expected
            assert again.get_many([command.command_uuid for command in expected]) == {
                command.command_uuid: command for command in expected
            }
            assert again.get("c00004") is None
            assert again.total() == len(expected)

    @pytest.mark.parametrize("name", UPKEEP)
    def test_upkeep_keeps_every_register(self, lab: Lab, store: CommandStore, name: str) -> None:
        backend = store.core.backend
        lab.do(backend.register_swap("one", b"1", expected=None, token="t"))
        before = lab.do(backend.register_get("one"))
        with suppress(Unsupported):
            UPKEEP[name](store)
        assert lab.do(backend.register_get("one")) == before

    @pytest.mark.parametrize("grace", [-1, -0.001, float("nan"), float("inf"), True, "1"])
    def test_gc_refuses_a_grace_that_is_no_span_of_time(self, store: CommandStore, grace: float) -> None:
        with pytest.raises(ConfigurationError):
            store.gc(grace=grace)
