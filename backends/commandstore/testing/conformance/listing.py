"""Laws of list: order, filters, offset and limit."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import pytest

from commandstore.command import Command
from commandstore.errors import InvalidQuery
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import EDGES, NAMES, a_command, only, some_commands, tied_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["FilterLaws", "ListLaws"]

NAME_FILTERS = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")


class ListLaws:
    def test_a_list_of_an_empty_store_is_empty(self, store: CommandStore) -> None:
        page = store.list()
        assert (page.commands, page.total, page.cursor, page.corrupt) == ((), 0, None, ())

    def test_a_list_unpacks_into_commands_and_total(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(3))
        commands, total = store.list(limit=2)
        assert commands == expected[:2]
        assert total == 3

    def test_a_list_gives_every_field_back(self, lab: Lab, store: CommandStore) -> None:
        [command] = lab.fill(store, [a_command()])
        for filters in ({}, {"tenant_uuid": "tenant-1"}, {"session_uuid": "session-1"}):
            [found] = store.list(**cast("dict[str, Any]", filters)).commands
            assert found.model_dump() == command.model_dump()

    def test_a_list_is_in_the_order_of_time_then_of_the_bytes_of_the_uuid(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, tied_commands())
        expected = sorted(tied_commands(), key=lambda command: (command.created_at, command.command_uuid.encode()))
        assert list(store.list().commands) == expected
        assert list(store.list(tenant_uuid="tenant-1").commands) == expected

    def test_a_descending_list_is_the_exact_reverse(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        assert list(store.list(ascending=False).commands) == expected[::-1]
        assert list(store.list(tenant_uuid="tenant-1", ascending=False).commands) == expected[::-1]

    def test_every_int64_is_in_its_place(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, (a_command(f"c{at}", at) for at in EDGES[::-1]))
        assert [command.created_at for command in expected] == list(EDGES)
        assert list(store.list().commands) == expected
        assert list(store.list(ascending=False).commands) == expected[::-1]

    def test_the_order_doesnt_depend_on_the_order_of_writing(self, lab: Lab, store: CommandStore) -> None:
        for command in tied_commands()[::-1]:
            store.create(command)
        lab.place.settle()
        assert list(store.list().commands) == sorted(tied_commands(), key=lambda command: command.position)

    def test_the_limit_is_100_where_none_is_given(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(103))
        page = store.list()
        assert list(page.commands) == expected[:100]
        assert page.total == 103
        assert page.cursor is not None

    def test_a_limit_gives_exactly_so_many_where_there_are_more(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        for limit in range(1, len(expected) + 2):
            assert list(store.list(limit=limit).commands) == expected[:limit]
            assert list(store.list(limit=limit, ascending=False).commands) == expected[::-1][:limit]

    def test_limit_0_gives_no_command_and_the_real_total(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(4))
        page = store.list(limit=0)
        assert (page.commands, page.total) == ((), 4)
        assert store.list(limit=0, before=1_001).total == 1

    def test_a_negative_limit_is_no_limit(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(130))
        page = store.list(limit=-1)
        assert list(page.commands) == expected
        assert page.cursor is None
        assert list(store.list(limit=-5, offset=128).commands) == expected[128:]

    def test_an_offset_skips_so_many(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        for offset, limit in product((0, 1, 5, 11), (1, 3, 100)):
            assert list(store.list(offset=offset, limit=limit).commands) == expected[offset : offset + limit]
            found = store.list(offset=offset, limit=limit, ascending=False).commands
            assert list(found) == expected[::-1][offset : offset + limit]

    def test_pages_by_offset_give_everything_exactly_once(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        found = [c for offset in range(0, 15, 3) for c in store.list(offset=offset, limit=3).commands]
        assert found == expected

    def test_an_offset_beyond_the_end_gives_nothing_and_the_real_total(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(3))
        for offset in (3, 4, 5_000):
            page = store.list(offset=offset)
            assert (page.commands, page.total, page.cursor) == ((), 3, None)

    def test_an_offset_counts_what_matches_the_filter(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(5, prefix="x", tenant_uuid="another"))
        expected = lab.fill(store, some_commands(5, prefix="y"))
        assert list(store.list(tenant_uuid="tenant-1", offset=2).commands) == expected[2:]

    def test_the_total_is_of_all_that_matches_before_paging(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(6))
        lab.fill(store, some_commands(2, prefix="x", domain="Order"))
        assert store.list(limit=1, offset=3).total == 8
        page = store.list(limit=1, domain="Account")
        assert page.total == 6
        assert store.list(limit=1, domain="Account", cursor=page.cursor).total == 6

    def test_without_total_none_is_given(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, some_commands(3))
        page = store.list(with_total=False)
        assert page.total is None
        assert list(page.commands) == expected

    @pytest.mark.parametrize("order_by", ["", "command_uuid", "created_at; drop table commands", "CREATED_AT", "id"])
    def test_an_unknown_order_is_refused(self, lab: Lab, store: CommandStore, order_by: str) -> None:
        lab.fill(store, some_commands(2))
        with pytest.raises(InvalidQuery, match="order"):
            store.list(order_by=order_by)
        assert store.total() == 2

    @pytest.mark.parametrize(
        "options",
        [
            {"offset": -1},
            {"offset": 1.0},
            {"limit": 1.5},
            {"limit": True},
            {"before": 2**63},
            {"after": -(2**63) - 1},
            {"after": 1.0},
            {"before": "1"},
            {"tenant_uuid": 7},
            {"domain": b"x"},
            {"data_type": "\ud800"},
            {"tenant": "x"},
        ],
        ids=ascii,
    )
    def test_what_cant_be_asked_for_is_refused(self, store: CommandStore, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidQuery):
            store.list(**options)


class FilterLaws:
    def test_after_and_before_are_exclusive_at_every_int64(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, (a_command(f"{at} {n}", at) for at in EDGES for n in range(2)))
        for bound in (*EDGES, -(2**62), 2**62):
            _finds(store, [c for c in expected if c.created_at > bound], after=bound)
            _finds(store, [c for c in expected if c.created_at < bound], before=bound)

    def test_after_and_before_combine_to_a_window(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        for after, before in ((-1, 6), (4, 6), (5, 6), (4, 5), (6, 4), (0, 0), (-(2**63), 2**63 - 1)):
            window = [command for command in expected if after < command.created_at < before]
            _finds(store, window, after=after, before=before)

    def test_zero_and_negative_bounds_are_bounds(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, (a_command(f"c{at}", at) for at in (-2, -1, 0, 1)))
        assert list(store.list(after=0).commands) == expected[3:]
        assert list(store.list(before=0).commands) == expected[:2]
        assert list(store.list(after=-2, before=1).commands) == expected[1:3]

    @pytest.mark.parametrize("name", NAME_FILTERS)
    def test_a_name_filter_finds_exactly_its_name(self, lab: Lab, store: CommandStore, name: str) -> None:
        commands = [_named(f"c{number}", name, value) for number, value in enumerate(NAMES)]
        expected = lab.fill(store, (command for command in commands if lab.place.holds(command)))
        for value in (*NAMES, "nobody"):
            if lab.place.holds(_named("c", name, value)):
                _finds(store, [c for c in expected if getattr(c, name) == value], **{name: value})

    @pytest.mark.parametrize("name", NAME_FILTERS)
    def test_none_is_no_filter_and_the_empty_string_is_exactly_empty(
        self, lab: Lab, store: CommandStore, name: str
    ) -> None:
        expected = lab.fill(store, [_named("a", name, ""), _named("b", name, "x"), _named("c", name, "")])
        assert list(store.list(**only(**{name: None})).commands) == expected
        assert list(store.list(**only(**{name: ""})).commands) == [expected[0], expected[2]]
        assert store.total(**only(**{name: None})) == 3
        assert store.total(**only(**{name: ""})) == 2

    def test_a_filter_that_the_engine_cant_hold_finds_nothing(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        for name in NAME_FILTERS:
            assert store.list(**only(**{name: "a\x00b"})).commands == ()
            assert store.total(**only(**{name: "a\x00b"})) == 0
        assert store.get("a\x00b") is None
        assert store.delete("a\x00b") is False

    def test_all_filters_combine(self, lab: Lab, store: CommandStore) -> None:
        values = list(product(("", "x"), repeat=5))
        expected = lab.fill(
            store,
            (
                a_command(
                    f"c{number:02}",
                    number // 3,
                    tenant_uuid=tenant,
                    workspace_uuid=workspace,
                    domain=domain,
                    data_type=kind,
                    req_ctx=_context(session),
                )
                for number, (tenant, workspace, domain, session, kind) in enumerate(values)
            ),
        )
        for wanted in ("     ", "x    ", "-x   ", "x-x  ", " x -x", "xxxxx", "-----", "x   -", " -x- ", "    x"):
            filters = {
                name: {" ": None, "-": "", "x": "x"}[value] for name, value in zip(NAME_FILTERS, wanted, strict=True)
            }
            bounds = {"after": 1, "before": 9} if wanted[0] != wanted[1] else {}

            matching = [
                command
                for command in expected
                if all(value is None or getattr(command, name) == value for name, value in filters.items())
                and (not bounds or 1 < command.created_at < 9)
            ]
            _finds(store, matching, **filters, **bounds)

    def test_the_session_filter_reads_a_context_as_go_does(self, lab: Lab, store: CommandStore) -> None:
        spellings = (
            '{"senderSessionUuid":"s"}',
            '{"SENDERSESSIONUUID":"s"}',
            '{"_senderSessionUuid":"s"}',
            '{"sender_session_uuid":"s"}',
            '{ "x": 1, "senderSessionUuid" : "\\u0073" }',
            '{"senderSessionUuid":"other","senderSessionUuid":"s"}',
        )
        none = (
            "",
            "{}",
            "null",
            "[]",
            '{"senderSessionUuid":',
            '{"senderSessionUuid":5}',
            '{"nested":{"senderSessionUuid":"s"}}',
        )
        contexts = [*spellings, *none]
        expected = lab.fill(store, (a_command(f"c{at:02}", at, req_ctx=text) for at, text in enumerate(contexts)))
        assert list(store.list(session_uuid="s").commands) == expected[: len(spellings)]
        assert list(store.list(session_uuid="").commands) == expected[len(spellings) :]

    def test_filters_find_what_lies_far_apart(self, lab: Lab, store: CommandStore) -> None:
        # A filter applied after a limit gives short pages that look like the end.
        few = [a_command(f"few{at}", at, domain="rare") for at in (1_000, 1_101, 1_202)]
        lab.fill(store, [*some_commands(220), *few])
        assert list(store.list(domain="rare", limit=2).commands) == few[:2]
        assert list(store.list(domain="rare", limit=3).commands) == few
        assert list(store.list(domain="rare", limit=2, ascending=False).commands) == few[:0:-1]
        assert list(store.list(domain="rare", tenant_uuid="tenant-1").commands) == few


def _context(session: str) -> str:
    return f'{{"senderSessionUuid":"{session}"}}' if session else ""


def _named(uuid: str, name: str, value: str) -> Command:
    if name != "session_uuid":
        fields: dict[str, Any] = {name: value}
        return a_command(uuid, **fields)
    # Escaped, unit by unit: a context holds the name in any spelling, and no engine sees its bytes.
    units = value.encode("utf-16-be").hex(" ", 2).split()
    return a_command(uuid, req_ctx='{"senderSessionUuid":"' + "".join("\\u" + unit for unit in units) + '"}')


def _finds(store: CommandStore, expected: list[Command], **filters: Any) -> None:
    """A list, its total and its reverse are what was expected."""
    page = store.list(**filters)
    assert list(page.commands) == expected, filters
    assert page.total == len(expected), filters
    assert list(store.list(ascending=False, with_total=False, **filters).commands) == expected[::-1], filters
