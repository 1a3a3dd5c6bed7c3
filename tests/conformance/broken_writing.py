"""Backends that write something else than they should, and the laws that must notice.

Not collected with the other tests: ``test_the_suite_itself.py`` runs this file and looks at what failed.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from commandstore import codec
from commandstore.codec import Record
from commandstore.contract import CREATED, Created, Exists, Outcome
from commandstore.memory import MemoryBackend
from conformance.broken import Blocking


class Altering(MemoryBackend):
    """Keeps something else than it was given."""

    def altered(self, record: Record) -> Record:
        raise NotImplementedError

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return await super().insert([self.altered(record) for record in records], write_id)

    async def replace(self, record: Record, write_id: str) -> bool:
        return await super().replace(self.altered(record), write_id)


# Writing


class Overwrites(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes = await super().insert(records, write_id)
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Exists):
                self._records[record.command_uuid] = (record, write_id)
        return outcomes


class TestOverwrites(Blocking):
    broken = Overwrites
    noticed_by: ClassVar = {
        "test_create_never_overwrites",
        "test_different_commands_that_are_there_are_conflicts_and_are_kept",
        "test_what_exists_is_not_overwritten_and_its_own_digest_is_told",
        "test_of_a_uuid_given_twice_the_first_is_stored",
    }


class Misaligned(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return sorted(await super().insert(records, write_id), key=lambda outcome: isinstance(outcome, Exists))


class TestMisaligned(Blocking):
    broken = Misaligned
    noticed_by: ClassVar = {
        "test_outcomes_are_aligned_with_the_records",
        "test_identical_commands_that_are_there_are_duplicates",
    }


class TellsTheGivenDigest(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes = await super().insert(records, write_id)
        return [
            Exists(record.digest, outcome.write_id) if isinstance(outcome, Exists) else outcome
            for record, outcome in zip(records, outcomes, strict=True)
        ]


class TestTellsTheGivenDigest(Blocking):
    broken = TellsTheGivenDigest
    noticed_by: ClassVar = {
        "test_different_commands_that_are_there_are_conflicts_and_are_kept",
        "test_what_exists_is_not_overwritten_and_its_own_digest_is_told",
        "test_long_commands_conflict_by_their_last_byte",
        "test_different_commands_are_conflicts_though_both_are_sealed",
    }


class ForgetsItsWriteId(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        there = await self.probe([record.command_uuid for record in records])
        outcomes = await super().insert(records, write_id)
        return [
            Exists(there[record.command_uuid], write_id) if record.command_uuid in there else outcome
            for record, outcome in zip(records, outcomes, strict=True)
        ]


class TestForgetsItsWriteId(Blocking):
    broken = ForgetsItsWriteId
    noticed_by: ClassVar = {"test_an_insert_tried_again_after_a_lost_answer_is_created"}


class LosesTheLastOfManyRecords(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes = await super().insert(records[:25], write_id)
        return [*outcomes, *[CREATED] * (len(records) - 25)]


class TestLosesTheLastOfManyRecords(Blocking):
    broken = LosesTheLastOfManyRecords
    noticed_by: ClassVar = {
        "test_hundreds_are_inserted_at_once",
        "test_get_many_reads_hundreds_at_once",
        "test_of_a_uuid_given_twice_far_apart_the_first_is_stored",
    }


class UpdateCreates(MemoryBackend):
    async def replace(self, record: Record, write_id: str) -> bool:
        there = record.command_uuid in self._records
        self._records[record.command_uuid], self._order = (record, write_id), None
        return there


class TestUpdateCreates(Blocking):
    broken = UpdateCreates
    noticed_by: ClassVar = {
        "test_update_of_a_missing_command_is_false_and_writes_nothing",
        "test_replace_and_remove_tell_whether_there_was_one",
    }


class UpdateForgetsTheIndex(MemoryBackend):
    async def replace(self, record: Record, write_id: str) -> bool:
        order = self._order
        done = await super().replace(record, write_id)
        self._order = order or self._order
        return done


class TestUpdateForgetsTheIndex(Blocking):
    broken = UpdateForgetsTheIndex
    noticed_by: ClassVar = {"test_update_moves_a_command_in_the_order"}


class UpdateKeepsTheOldContext(MemoryBackend):
    async def replace(self, record: Record, write_id: str) -> bool:
        old = self._records.get(record.command_uuid, (record, ""))[0]
        return await super().replace(record._replace(req_ctx=old.req_ctx, session_uuid=old.session_uuid), write_id)


class TestUpdateKeepsTheOldContext(Blocking):
    broken = UpdateKeepsTheOldContext
    noticed_by: ClassVar = {
        "test_update_replaces_the_whole_command",
        "test_update_moves_a_command_between_filters",
    }


class DeleteIsAlwaysTrue(MemoryBackend):
    async def remove(self, command_uuid: str) -> bool:
        await super().remove(command_uuid)
        return True


class TestDeleteIsAlwaysTrue(Blocking):
    broken = DeleteIsAlwaysTrue
    noticed_by: ClassVar = {"test_delete_of_a_missing_command_is_false", "test_of_racing_deletes_one_finds_it"}


class ClearForgetsRegisters(MemoryBackend):
    async def clear(self) -> None:
        registers = dict(self._registers)
        await super().clear()
        self._registers = registers


class TestClearForgetsRegisters(Blocking):
    broken = ClearForgetsRegisters
    noticed_by: ClassVar = {"test_reset_removes_every_register", "test_clear_removes_commands_and_registers"}


# Values


class FloatTimes(Altering):
    def altered(self, record: Record) -> Record:
        return record._replace(created_at=max(-(2**63), min(int(float(record.created_at)), 2**63 - 1)))


class TestFloatTimes(Blocking):
    broken = FloatTimes
    noticed_by: ClassVar = {"test_every_int64_created_at_comes_back", "test_every_int64_is_in_its_place"}


class TrimsPayloads(Altering):
    def altered(self, record: Record) -> Record:
        return record._replace(data=record.data.rstrip(b"\0"))


class TestTrimsPayloads(Blocking):
    broken = TrimsPayloads
    noticed_by: ClassVar = {
        "test_every_byte_of_a_payload_comes_back",
        "test_create_many_keeps_every_value_as_create_does",
        "test_update_keeps_every_value_as_create_does",
    }


class CutsPayloads(Altering):
    def altered(self, record: Record) -> Record:
        return record._replace(data=record.data[: 1024 * 1024])


class TestCutsPayloads(Blocking):
    broken = CutsPayloads
    noticed_by: ClassVar = {"test_a_payload_of_any_size_comes_back", "test_a_payload_of_16_mib_comes_back"}


class WritesContextsAnew(Altering):
    def altered(self, record: Record) -> Record:
        try:
            return record._replace(req_ctx=json.dumps(json.loads(record.req_ctx)))
        except ValueError:
            return record


class TestWritesContextsAnew(Blocking):
    broken = WritesContextsAnew
    noticed_by: ClassVar = {"test_a_request_context_comes_back_byte_for_byte"}


class NormalisesNames(Altering):
    def altered(self, record: Record) -> Record:
        return record._replace(tenant_uuid=unicodedata.normalize("NFC", record.tenant_uuid))


class TestNormalisesNames(Blocking):
    broken = NormalisesNames
    noticed_by: ClassVar = {"test_every_name_comes_back", "test_a_name_filter_finds_exactly_its_name"}


class FoldsUuids(MemoryBackend):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        folded = [record._replace(command_uuid=record.command_uuid.lower()) for record in records]
        return await super().insert(folded, write_id)


class TestFoldsUuids(Blocking):
    broken = FoldsUuids
    noticed_by: ClassVar = {"test_every_odd_uuid_is_a_command_of_its_own"}


class DigestsOfItsOwn(Altering):
    def altered(self, record: Record) -> Record:
        return record._replace(digest=codec.digest_of([record.data]))


class TestDigestsOfItsOwn(Blocking):
    broken = DigestsOfItsOwn
    noticed_by: ClassVar = {"test_digests_are_those_of_the_codec_on_every_backend"}


class WritesLater(MemoryBackend):
    """Answers from a cache what is not stored yet."""

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, tuple[Record, str]] = {}
        self._cache, self._records = self._records, self._cache

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        for record in records:
            self._cache[record.command_uuid] = (record, write_id)
        return [Created() for _ in records]

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:
        return {uuid: self._cache[uuid][0] for uuid in uuids if uuid in self._cache}


class TestWritesLater(Blocking):
    broken = WritesLater
    noticed_by: ClassVar = {
        "test_a_created_command_is_really_stored",
        "test_create_many_stores_every_command",
    }
