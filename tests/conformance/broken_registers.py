"""Backends whose registers are wrong, or that lose races, and the laws that must notice.

Not collected with the other tests: ``test_the_suite_itself.py`` runs this file and looks at what failed.
"""

from collections.abc import Sequence
from typing import ClassVar

from commandstore import codec
from commandstore.codec import Record
from commandstore.contract import CREATED, Exists, Outcome, Register
from commandstore.memory import MemoryBackend
from conformance.broken import Async, Blocking

# Registers


class SwapsBlindly(MemoryBackend):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        found = self._registers.get(name)
        return await super().register_swap(name, value, expected=found.token if found else expected, token=token)


class TestSwapsBlindly(Blocking):
    broken = SwapsBlindly
    noticed_by: ClassVar = {
        "test_a_swap_that_expects_another_token_changes_nothing",
        "test_an_old_token_is_never_good_again",
        "test_of_racing_creators_of_a_register_one_wins",
    }


class ForgetsItsSwap(MemoryBackend):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        found = self._registers.get(name)
        if (found.token if found else None) != expected:
            return False
        return await super().register_swap(name, value, expected=expected, token=token)


class TestForgetsItsSwap(Blocking):
    broken = ForgetsItsSwap
    noticed_by: ClassVar = {
        "test_a_swap_tried_again_after_a_lost_answer_is_done",
        "test_a_removal_tried_again_after_a_lost_answer_is_done",
    }


class RegistersAmongCommands(MemoryBackend):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        self._records[name] = (codec.plain_record(name, 0, 0, "", "", "", "", b"", ""), token)
        self._order = None
        return await super().register_swap(name, value, expected=expected, token=token)


class TestRegistersAmongCommands(Blocking):
    broken = RegistersAmongCommands
    noticed_by: ClassVar = {"test_a_register_is_no_command"}


# Races


class LooksBeforeItWrites(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        there = await self.probe([record.command_uuid for record in records])
        await self.drive.sleep(0)
        outcomes: list[Outcome] = []
        for record in records:
            if digest := there.get(record.command_uuid):
                outcomes.append(Exists(digest, self._records[record.command_uuid][1]))
            else:
                self._records[record.command_uuid], self._order = (record, write_id), None
                outcomes.append(CREATED)
        return outcomes


class TestLooksBeforeItWrites(Async):
    broken = LooksBeforeItWrites
    noticed_by: ClassVar = {
        "test_of_racing_creators_one_wins_and_the_others_are_told",
        "test_racing_create_manys_create_every_command_once",
    }


class SwapsInTwoSteps(MemoryBackend):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        found = self._registers.get(name)
        await self.drive.sleep(0)
        if (found.token if found else None) != expected:
            return bool(found and found.token == token)
        if value is not None:
            self._registers[name] = Register(value, token)
        return True


class TestSwapsInTwoSteps(Async):
    broken = SwapsInTwoSteps
    noticed_by: ClassVar = {
        "test_racing_swappers_lose_no_swap",
        "test_of_racing_creators_of_a_register_one_wins",
    }


class UpdatesInTwoSteps(MemoryBackend):
    async def replace(self, record: Record, write_id: str) -> bool:
        if record.command_uuid in self._records:
            await super().replace(record._replace(data=record.data[:1000]), write_id)
            await self.drive.sleep(0)
        return await super().replace(record, write_id)

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:
        await self.drive.sleep(0)
        return await super().fetch(uuids)


class TestUpdatesInTwoSteps(Async):
    broken = UpdatesInTwoSteps
    noticed_by: ClassVar = {"test_a_reader_sees_the_old_or_the_new_while_a_command_is_updated"}


class DeletesInTwoSteps(MemoryBackend):
    async def remove(self, command_uuid: str) -> bool:
        there = command_uuid in self._records
        await self.drive.sleep(0)
        await super().remove(command_uuid)
        return there


class TestDeletesInTwoSteps(Async):
    broken = DeletesInTwoSteps
    noticed_by: ClassVar = {"test_of_racing_deletes_one_finds_it"}
