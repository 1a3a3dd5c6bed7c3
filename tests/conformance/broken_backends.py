"""Backends in memory that each break one promise, and the laws that must notice.

Not collected with the other tests: ``test_the_suite_itself.py`` runs this file and looks at what failed.
"""

import json
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import CREATED, Created, Exists, Key, Outcome, Register, Row, Slice
from commandstore.memory import MemoryBackend
from commandstore.testing.conformance import Conformance
from conformance.places import MemoryPlace

BASIC = "test_get_of_a_missing_command_is_none"
"""What must still hold: it is the one promise that is broken, and not the whole backend."""


class Broken(Conformance):
    broken: ClassVar[type[MemoryBackend]]
    noticed_by: ClassVar[set[str]] = set()

    def __init_subclass__(cls) -> None:
        # The other laws aren't collected: there are some ten thousand of them in this file.
        for name in dir(cls):
            if name.startswith("test_") and cls.noticed_by and name not in {BASIC, *cls.noticed_by}:
                setattr(cls, name, None)

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace(self.broken())


class Blocking(Broken):
    drives = ("blocking",)


class Async(Broken):
    """For what only shows when something else runs between two steps."""

    drives = ("async",)


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


# Listing


class OtherOrder(MemoryBackend):
    @staticmethod
    def key(position: tuple[int, str]) -> object:
        raise NotImplementedError

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(replace(query, ascending=True), None, 1_000_000, payload=payload)
        rows = sorted(found.rows, key=lambda row: self.key(row.key), reverse=not query.ascending)
        start = 0 if after is None else [row.key for row in rows].index(after) + 1
        end = start + limit
        return Slice(rows[start:end], rows[end - 1].key if end < len(rows) else None)


class TiesByArrival(OtherOrder):
    @staticmethod
    def key(position: tuple[int, str]) -> object:
        return position[0]


class TestTiesByArrival(Blocking):
    broken = TiesByArrival
    noticed_by: ClassVar = {
        "test_a_descending_list_is_the_exact_reverse",
        "test_pages_of_one_timestamp_give_everything_exactly_once",
    }


class TiesByCollation(OtherOrder):
    @staticmethod
    def key(position: tuple[int, str]) -> object:
        return position[0], position[1].lower(), position[1]


class TestTiesByCollation(Blocking):
    broken = TiesByCollation
    noticed_by: ClassVar = {"test_a_list_is_in_the_order_of_time_then_of_the_bytes_of_the_uuid"}


class TiesInUtf16(OtherOrder):
    @staticmethod
    def key(position: tuple[int, str]) -> object:
        return position[0], position[1].encode("utf-16-be")


class TestTiesInUtf16(Blocking):
    broken = TiesInUtf16
    noticed_by: ClassVar = {"test_a_list_is_in_the_order_of_time_then_of_the_bytes_of_the_uuid"}


class TimesAsText(OtherOrder):
    @staticmethod
    def key(position: tuple[int, str]) -> object:
        return f"{position[0]:020}", position[1]


class TestTimesAsText(Blocking):
    broken = TimesAsText
    noticed_by: ClassVar = {"test_every_int64_is_in_its_place"}


class LosesTies(MemoryBackend):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        if after is not None:
            # Goes on after the time, and not after the command.
            order, at = self._positions(), after[0]
            if query.ascending:
                index = bisect_right(order, (at, "\U0010ffff" * 600)) - 1
            else:
                index = bisect_left(order, (at, ""))
            after = order[index]
        return await super().page(query, after, limit, payload=payload)


class TestLosesTies(Blocking):
    broken = LosesTies
    noticed_by: ClassVar = {
        "test_pages_over_ties_give_everything_exactly_once",
        "test_pages_follow_each_other_to_the_end",
        "test_scan_gives_everything_in_order_in_any_page_size",
    }


class DropsARow(MemoryBackend):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(query, after, limit, payload=payload)
        return Slice([*found.rows[:1], *found.rows[2:]], found.next_key)


class TestDropsARow(Blocking):
    broken = DropsARow
    noticed_by: ClassVar = {
        "test_a_list_unpacks_into_commands_and_total",
        "test_pages_follow_each_other_to_the_end",
        "test_scan_goes_over_more_than_one_page",
    }


class FiltersAfterTheLimit(MemoryBackend):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(CommandQuery(ascending=query.ascending), after, limit, payload=payload)
        asked = await super().page(query, None, 1_000_000)
        keys = {row.key for row in asked.rows}
        rows = [row for row in found.rows if row.key in keys]
        return Slice(rows, found.next_key if rows else None)


class TestFiltersAfterTheLimit(Blocking):
    broken = FiltersAfterTheLimit
    noticed_by: ClassVar = {"test_filters_find_what_lies_far_apart", "test_an_offset_counts_what_matches_the_filter"}


class IgnoresTheLimit(MemoryBackend):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        return await super().page(query, after, max(limit, 3), payload=payload)


class TestIgnoresTheLimit(Blocking):
    broken = IgnoresTheLimit
    noticed_by: ClassVar = {
        "test_a_limit_gives_exactly_so_many_where_there_are_more",
        "test_pages_follow_each_other_to_the_end",
    }


class DigestsOnlyWithPayloads(MemoryBackend):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(query, after, limit, payload=payload)
        rows = [Row(key, record and record._replace(digest=b""), error) for key, record, error in found.rows]
        return found if payload else Slice(rows, found.next_key)


class TestDigestsOnlyWithPayloads(Blocking):
    broken = DigestsOnlyWithPayloads
    noticed_by: ClassVar = {"test_digests_are_those_of_the_codec_on_every_backend"}


# Filters


class Asking(MemoryBackend):
    """Asks for something else than it was asked."""

    def asked(self, query: CommandQuery) -> CommandQuery:
        raise NotImplementedError

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        return await super().page(self.asked(query), after, limit, payload=payload)

    async def count(self, query: CommandQuery) -> int:
        return await super().count(self.asked(query))


class InclusiveBounds(Asking):
    def asked(self, query: CommandQuery) -> CommandQuery:
        return replace(query, after=query.after and query.after - 1, before=query.before and query.before + 1)


class TestInclusiveBounds(Blocking):
    broken = InclusiveBounds
    noticed_by: ClassVar = {
        "test_after_and_before_are_exclusive_at_every_int64",
        "test_after_and_before_combine_to_a_window",
    }


class NegativeIsUnset(Asking):
    def asked(self, query: CommandQuery) -> CommandQuery:
        return replace(query, before=None if (query.before or 0) < 0 else query.before)


class TestNegativeIsUnset(Blocking):
    broken = NegativeIsUnset
    noticed_by: ClassVar = {"test_after_and_before_are_exclusive_at_every_int64"}


class ZeroIsUnset(Asking):
    def asked(self, query: CommandQuery) -> CommandQuery:
        return replace(query, before=query.before or None, after=query.after or None)


class TestZeroIsUnset(Blocking):
    broken = ZeroIsUnset
    noticed_by: ClassVar = {"test_zero_and_negative_bounds_are_bounds"}


class EmptyIsNoFilter(Asking):
    def asked(self, query: CommandQuery) -> CommandQuery:
        return replace(query, tenant_uuid=query.tenant_uuid or None, workspace_uuid=query.workspace_uuid or None)


class TestEmptyIsNoFilter(Blocking):
    broken = EmptyIsNoFilter
    noticed_by: ClassVar = {
        "test_none_is_no_filter_and_the_empty_string_is_exactly_empty",
        "test_all_filters_combine",
    }


class NoSessionFilter(Asking):
    def asked(self, query: CommandQuery) -> CommandQuery:
        return replace(query, session_uuid=None)


class TestNoSessionFilter(Blocking):
    broken = NoSessionFilter
    noticed_by: ClassVar = {
        "test_a_name_filter_finds_exactly_its_name",
        "test_the_session_filter_reads_a_context_as_go_does",
    }


class TotalIgnoresFilters(MemoryBackend):
    async def count(self, query: CommandQuery) -> int:
        del query
        return len(self._records)


class TestTotalIgnoresFilters(Blocking):
    broken = TotalIgnoresFilters
    noticed_by: ClassVar = {
        "test_the_total_is_of_all_that_matches_before_paging",
        "test_count_counts_what_pages_give",
    }


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


# And one that is right: none of these laws may fail.


class TestRight(Broken):
    broken = MemoryBackend
    noticed_by: ClassVar = set.union(
        *(suite.noticed_by for suite in (*Blocking.__subclasses__(), *Async.__subclasses__()))
    )
