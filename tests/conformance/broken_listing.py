"""Backends that list or filter wrongly, and the laws that must notice.

Not collected with the other tests: ``test_the_suite_itself.py`` runs this file and looks at what failed.
"""

from bisect import bisect_left, bisect_right
from dataclasses import replace
from typing import ClassVar

from commandstore.command import CommandQuery
from commandstore.contract import Key, Row, Slice
from commandstore.memory import MemoryBackend
from conformance.broken import Blocking

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
