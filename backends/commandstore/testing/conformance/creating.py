"""Laws of create and create_many."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from commandstore.command import BatchResult, Command
from commandstore.errors import CommandExists, InvalidCommand, ReadOnlyStore
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["CreateLaws", "CreateManyLaws"]

NO_COMMAND = cast("Command", None)


class CreateLaws:
    def test_a_created_command_is_really_stored(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        assert lab.place.raw_uuids() == {"c1"}
        assert lab.place.raw_payload("c1") == a_command().data_bytes

    def test_a_created_command_is_seen_at_once_by_get_in_every_store(self, lab: Lab, store: CommandStore) -> None:
        reader = lab.open()
        for command in some_commands(5):
            store.create(command)
            assert store.get(command.command_uuid) == command
            assert reader.get(command.command_uuid) == command

    def test_create_never_overwrites(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command(data_bytes=b"first"))
        with pytest.raises(CommandExists):
            store.create(a_command(created_at=2, data_bytes=b"second", tenant_uuid="another"))
        assert store.get("c1") == a_command(data_bytes=b"first")
        assert lab.place.raw_payload("c1") == b"first"

    def test_an_identical_command_exists_too(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        with pytest.raises(CommandExists):
            store.create(a_command())
        lab.place.settle()
        assert store.total() == 1

    def test_command_exists_carries_the_stored_command(self, store: CommandStore) -> None:
        store.create(a_command(data_bytes=b"first"))
        with pytest.raises(CommandExists, match="'c1'") as caught:
            store.create(a_command(data_bytes=b"second"))
        assert caught.value.existing == a_command(data_bytes=b"first")

    def test_a_long_command_never_overwrites_a_short_one_nor_the_other_way(self, lab: Lab, store: CommandStore) -> None:
        short, long = a_command("short"), a_command("long", data_bytes=payload(900 * KIB))
        store.create(short)
        store.create(long)
        with pytest.raises(CommandExists) as caught:
            store.create(a_command("short", data_bytes=payload(900 * KIB)))
        assert caught.value.existing == short
        with pytest.raises(CommandExists) as caught:
            store.create(a_command("long"))
        assert caught.value.existing == long
        with pytest.raises(CommandExists):
            store.create(a_command("long", data_bytes=payload(901 * KIB)))
        assert store.get("short") == short
        assert store.get("long") == long
        assert lab.place.raw_payload("long") == long.data_bytes

    def test_commands_of_the_same_time_are_all_kept(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command("a", 5))
        store.create(a_command("b", 5))
        lab.place.settle()
        commands, total = store.list()
        assert (store.total(), total, len(commands)) == (2, 2, 2)

    def test_read_only_is_the_first_error_of_create(self, lab: Lab, store: CommandStore) -> None:
        store.init(read_only=True)
        for command in (NO_COMMAND, a_command(""), a_command()):
            with pytest.raises(ReadOnlyStore):
                store.create(command)
        assert lab.place.raw_uuids() == set()

    def test_no_command_is_the_second_error_of_create(self, lab: Lab, store: CommandStore) -> None:
        with pytest.raises(InvalidCommand, match="NoneType"):
            store.create(NO_COMMAND)
        assert lab.place.raw_uuids() == set()

    def test_an_empty_uuid_is_the_third_error_of_create(self, lab: Lab, store: CommandStore) -> None:
        with pytest.raises(InvalidCommand, match="command_uuid"):
            store.create(a_command(""))
        assert lab.place.raw_uuids() == set()


class CreateManyLaws:
    def test_create_many_stores_every_command(self, lab: Lab, store: CommandStore) -> None:
        commands = some_commands(7)
        result = store.create_many(commands)
        assert _counts(result) == (7, 0, 0, 0)
        assert set(result.created) == lab.place.raw_uuids() == {command.command_uuid for command in commands}
        assert list(store.get_many(result.created).values()) == commands

    def test_create_many_of_nothing_does_nothing(self, lab: Lab, store: CommandStore) -> None:
        assert store.create_many([]) == BatchResult()
        assert lab.place.raw_uuids() == set()

    def test_create_many_takes_any_iterable(self, store: CommandStore) -> None:
        assert _counts(store.create_many(command for command in some_commands(3))) == (3, 0, 0, 0)

    def test_identical_commands_that_are_there_are_duplicates(self, lab: Lab, store: CommandStore) -> None:
        commands = lab.fill(store, some_commands(4))
        result = store.create_many([*commands, a_command("new")])
        assert result.created == ("new",)
        assert sorted(result.duplicate) == [command.command_uuid for command in commands]
        assert _counts(result) == (1, 4, 0, 0)

    def test_different_commands_that_are_there_are_conflicts_and_are_kept(self, lab: Lab, store: CommandStore) -> None:
        [there] = lab.fill(store, [a_command()])
        changes: list[dict[str, Any]] = [
            {"created_at": 2},
            {"instance_id": 2},
            {"tenant_uuid": "x"},
            {"workspace_uuid": "x"},
            {"domain": "x"},
            {"data_type": "x"},
            {"data_bytes": b"x"},
            {"req_ctx": "x"},
        ]
        for change in changes:
            result = store.create_many([a_command(**change)])
            assert result.conflicting == ("c1",), change
            assert len(result) == 1
        assert store.get("c1") == there
        assert lab.place.raw_payload("c1") == there.data_bytes

    def test_one_bad_command_fails_alone(self, lab: Lab, store: CommandStore) -> None:
        result = store.create_many([a_command("a"), a_command(""), NO_COMMAND, a_command("x" * 513), a_command("b")])
        assert sorted(result.created) == ["a", "b"]
        assert [failure.command_uuid for failure in result.failed] == ["", "", "x" * 513]
        assert all(isinstance(failure.error, InvalidCommand) for failure in result.failed)
        assert _counts(result) == (2, 0, 0, 3)
        assert lab.place.raw_uuids() == {"a", "b"}

    def test_of_a_uuid_given_twice_the_first_is_stored(self, lab: Lab, store: CommandStore) -> None:
        first, other = a_command(data_bytes=b"first"), a_command(data_bytes=b"other")
        result = store.create_many([first, first, other, a_command("c2"), first, other])
        assert sorted(result.created) == ["c1", "c2"]
        assert result.duplicate == ("c1", "c1")
        assert result.conflicting == ("c1", "c1")
        assert len(result) == 6
        assert store.get("c1") == first
        assert lab.place.raw_payload("c1") == b"first"

    def test_of_a_uuid_given_twice_far_apart_the_first_is_stored(self, lab: Lab, store: CommandStore) -> None:
        count = min(store.core.backend.insert_count, 1000) + 50
        commands = some_commands(count)
        again = [commands[0], a_command("c00001", data_bytes=b"other")]
        result = store.create_many([*commands, *again])
        assert _counts(result) == (count, 1, 1, 0)
        assert (result.duplicate, result.conflicting) == (("c00000",), ("c00001",))
        assert lab.place.raw_uuids() == {command.command_uuid for command in commands}
        assert store.get("c00001") == commands[1]
        lab.place.settle()
        assert store.total() == count

    def test_every_command_is_in_exactly_one_account(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(40))
        given = [
            *some_commands(80),
            *(a_command(f"c{number:05}", -1) for number in range(10)),
            *(a_command("") for _ in range(5)),
        ]
        result = store.create_many(given)
        accounted = [*result.created, *result.duplicate, *result.conflicting, *(f.command_uuid for f in result.failed)]
        assert Counter(accounted) == Counter(command.command_uuid for command in given)
        assert _counts(result) == (40, 40, 10, 5)
        assert len(result) == len(given)

    def test_short_and_long_commands_go_in_one_create_many(self, lab: Lab, store: CommandStore) -> None:
        sizes = (0, 500 * KIB, 1, 1024 * KIB, 300 * KIB, 300 * KIB, 300 * KIB, 10)
        commands = [a_command(f"c{at}", at, data_bytes=payload(size)) for at, size in enumerate(sizes)]
        assert _counts(store.create_many(commands)) == (len(sizes), 0, 0, 0)
        assert list(store.get_many(command.command_uuid for command in commands).values()) == commands
        for command in commands:
            assert lab.place.raw_payload(command.command_uuid) == command.data_bytes
        assert _counts(store.create_many(commands)) == (0, len(sizes), 0, 0)

    def test_long_commands_conflict_by_their_last_byte(self, store: CommandStore) -> None:
        long = payload(900 * KIB)
        store.create_many([a_command(data_bytes=long)])
        assert store.create_many([a_command(data_bytes=long[:-1] + b"~")]).conflicting == ("c1",)
        assert store.create_many([a_command(data_bytes=long)]).duplicate == ("c1",)
        assert store.get("c1") == a_command(data_bytes=long)

    def test_what_create_stored_is_a_duplicate_to_create_many_and_the_other_way(self, store: CommandStore) -> None:
        store.create(a_command("one"))
        assert store.create_many([a_command("one")]).duplicate == ("one",)
        store.create_many([a_command("many")])
        with pytest.raises(CommandExists):
            store.create(a_command("many"))


def _counts(result: BatchResult) -> tuple[int, int, int, int]:
    return len(result.created), len(result.duplicate), len(result.conflicting), len(result.failed)
