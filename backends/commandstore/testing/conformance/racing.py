"""Laws of several writers at once: threads in the blocking drive, tasks in the other."""

from __future__ import annotations

from commandstore.command import BatchResult, Command
from commandstore.core import StoreCore
from commandstore.errors import CommandExists
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["RaceLaws"]


class RaceLaws:
    def test_of_racing_creators_one_wins_and_the_others_are_told(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        rivals = [a_command(created_at=number, data_bytes=b"of %d" % number) for number in range(6)]
        outcomes = lab.race([stores[at % 2].core.create(command) for at, command in enumerate(rivals)])
        assert outcomes.count(None) == 1
        winner = rivals[outcomes.index(None)]
        for outcome in outcomes:
            if outcome is not None:
                assert isinstance(outcome, CommandExists)
                assert outcome.existing == winner
        assert store.get("c1") == winner
        assert lab.place.raw_uuids() == {"c1"}

    def test_of_racing_creators_of_long_commands_one_wins_whole(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        rivals = [a_command(data_bytes=payload(size * KIB)) for size in (450, 451, 900, 1)]
        outcomes = lab.race([stores[at % 2].core.create(command) for at, command in enumerate(rivals)])
        assert outcomes.count(None) == 1
        winner = rivals[outcomes.index(None)]
        assert store.get("c1") == winner
        assert lab.place.raw_payload("c1") == winner.data_bytes

    def test_racing_create_manys_create_every_command_once(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        commands = some_commands(60)
        results = lab.race([stores[at % 2].core.create_many(commands) for at in range(4)])
        created: list[str] = []
        for result in results:
            assert isinstance(result, BatchResult), result
            assert len(result.created) + len(result.duplicate) == len(commands)
            created += result.created
        assert sorted(created) == [command.command_uuid for command in commands]
        assert list(store.get_many(created[::-1]).values()) == [
            commands[int(uuid.removeprefix("c"))] for uuid in created[::-1]
        ]

    def test_writers_of_different_commands_dont_disturb_each_other(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        commands = some_commands(12)
        assert lab.race([stores[at % 2].core.create(command) for at, command in enumerate(commands)]) == [None] * 12
        lab.place.settle()
        assert list(store.scan()) == commands

    def test_of_racing_deletes_one_finds_it(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        store.create(a_command())
        outcomes = lab.race([stores[at % 2].core.delete("c1") for at in range(6)])
        assert sorted(outcomes, key=str) == [False] * 5 + [True]
        assert lab.place.raw_uuids() == set()

    def test_of_racing_updates_one_is_kept_whole(self, lab: Lab, store: CommandStore) -> None:
        stores = [store, lab.open()]
        store.create(a_command())
        rivals = [
            a_command("c1", size, tenant_uuid=f"t{size}", data_bytes=payload(size * KIB)) for size in (1, 450, 451, 900)
        ]
        assert lab.race([stores[at % 2].core.update(command) for at, command in enumerate(rivals)]) == [True] * 4
        found = store.get("c1")
        assert found in rivals
        lab.place.settle()
        assert store.list().commands == (found,)
        assert [store.total(tenant_uuid=c.tenant_uuid) for c in rivals] == [int(c == found) for c in rivals]

    def test_a_reader_sees_the_old_or_the_new_while_a_command_is_updated(self, lab: Lab, store: CommandStore) -> None:
        versions = [a_command("c1", at, data_bytes=payload(size * KIB)) for at, size in enumerate((450, 2, 800, 451))]
        store.create(versions[0])
        other = lab.open()
        updated, *seen = lab.race([_update(store.core, versions), *(_read(other.core, times=8) for _ in range(2))])
        assert updated == [True] * len(versions), updated
        for found in seen:
            assert isinstance(found, list), found
            assert all(command in versions for command in found)

    def test_a_reader_sees_a_whole_command_or_none_while_it_is_created_and_deleted(
        self, lab: Lab, store: CommandStore
    ) -> None:
        versions = [a_command("c1", at, data_bytes=payload(size * KIB)) for at, size in enumerate((450, 2, 800))]
        other = lab.open()
        written, found = lab.race([_create_and_delete(store.core, versions), _read(other.core, times=10)])
        assert written == [True] * len(versions), written
        assert isinstance(found, list), found
        assert all(command is None or command in versions for command in found)
        assert lab.place.raw_uuids() == set()


async def _update(core: StoreCore, versions: list[Command]) -> list[bool | Command | None]:
    return [await core.update(command) for command in versions]


async def _create_and_delete(core: StoreCore, versions: list[Command]) -> list[bool | Command | None]:
    deleted: list[bool | Command | None] = []
    for command in versions:
        await core.create(command)
        deleted.append(await core.delete(command.command_uuid))
    return deleted


async def _read(core: StoreCore, *, times: int) -> list[bool | Command | None]:
    return [await core.get("c1") for _ in range(times)]
