"""Laws of cursors: pages that give everything exactly once, and cursors that fit nothing else."""

from __future__ import annotations

from typing import Any, cast

import pytest

from commandstore.command import Command, CommandQuery
from commandstore.cursor import write_cursor
from commandstore.errors import InvalidQuery
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, a_command, payload, some_commands, tied_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["CursorLaws"]


class CursorLaws:
    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 12])
    def test_pages_over_ties_give_everything_exactly_once(self, lab: Lab, store: CommandStore, limit: int) -> None:
        expected = lab.fill(store, tied_commands())
        assert _walk(store, limit=limit) == expected
        assert _walk(store, limit=limit, ascending=False) == expected[::-1]

    def test_pages_of_a_filter_give_everything_exactly_once(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, (a_command(f"x{number}", 5, tenant_uuid="another") for number in range(9)))
        expected = lab.fill(store, tied_commands())
        for filters in ({"tenant_uuid": "tenant-1"}, {"tenant_uuid": "tenant-1", "domain": "Account"}):
            assert _walk(store, limit=2, **filters) == expected
            assert _walk(store, limit=2, ascending=False, **filters) == expected[::-1]
        window = [command for command in expected if -1 < command.created_at < 6]
        assert _walk(store, limit=2, tenant_uuid="tenant-1", after=-1, before=6) == window
        assert _walk(store, limit=2, tenant_uuid="tenant-1", after=-1, before=6, ascending=False) == window[::-1]

    def test_pages_of_one_timestamp_give_everything_exactly_once(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, (a_command(f"c{number:03}", 7) for number in range(45)))
        assert _walk(store, limit=4) == expected
        assert _walk(store, limit=4, ascending=False) == expected[::-1]

    def test_pages_of_long_commands_give_everything_exactly_once(self, lab: Lab, store: CommandStore) -> None:
        sizes = (450, 1, 900, 390, 2)
        expected = lab.fill(
            store, (a_command(f"c{number}", 1, data_bytes=payload(kib * KIB)) for number, kib in enumerate(sizes))
        )
        assert _walk(store, limit=2) == expected

    def test_the_last_page_has_no_cursor(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(3))
        assert store.list().cursor is None
        page = store.list(limit=2)
        assert page.cursor is not None
        assert store.list(limit=2, cursor=page.cursor).cursor is None

    def test_the_limit_may_change_from_page_to_page(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        page = store.list(limit=4)
        assert list(store.list(limit=-1, cursor=page.cursor).commands) == expected[4:]
        assert store.list(limit=0, cursor=page.cursor).commands == ()

    def test_a_cursor_is_good_in_another_process(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        page = store.list(limit=5)
        assert list(lab.open().list(cursor=page.cursor).commands) == expected[5:]

    def test_a_cursor_follows_an_offset(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        page = store.list(limit=3, offset=4)
        assert list(store.list(cursor=page.cursor).commands) == expected[7:]

    def test_writes_between_pages_move_nothing(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, (a_command(f"c{number}", number) for number in range(6)))
        page = store.list(limit=3)
        store.create(a_command("behind", 0))
        store.delete("c0")
        store.create(a_command("ahead", 9))
        lab.place.settle()
        found = store.list(limit=100, cursor=page.cursor).commands
        assert list(found) == [*expected[3:], a_command("ahead", 9)]

    def test_the_command_that_a_page_ended_with_may_go(self, lab: Lab, store: CommandStore) -> None:
        expected = lab.fill(store, tied_commands())
        for ascending, order in ((True, expected), (False, expected[::-1])):
            page = store.list(limit=5, ascending=ascending)
            store.delete(page.commands[-1].command_uuid)
            lab.place.settle()
            assert list(store.list(cursor=page.cursor, ascending=ascending).commands) == order[5:]
            store.create(page.commands[-1])
            lab.place.settle()

    def test_a_cursor_with_an_offset_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(5))
        cursor = store.list(limit=1).cursor
        with pytest.raises(InvalidQuery, match="offset"):
            store.list(cursor=cursor, offset=1)
        assert store.list(cursor=cursor, offset=0).commands

    def test_a_cursor_of_other_filters_or_order_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(5))
        made: list[dict[str, Any]] = [
            {},
            {"ascending": False},
            {"tenant_uuid": "tenant-1"},
            {"domain": "Account"},
            {"before": 5_000},
            {"after": 5},
            {"tenant_uuid": "tenant-1", "domain": "Account"},
        ]
        cursors = [store.list(limit=1, **options).cursor for options in made]
        assert None not in cursors
        for at, cursor in enumerate(cursors):
            for other, options in enumerate(made):
                if at == other:
                    assert store.list(cursor=cursor, **options).commands
                else:
                    with pytest.raises(InvalidQuery, match="cursor"):
                        store.list(cursor=cursor, **options)

    def test_a_cursor_of_another_store_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(3))
        foreign = write_cursor((1_000, "c00000"), "memory://another", CommandQuery())
        with pytest.raises(InvalidQuery, match="another store"):
            store.list(cursor=foreign)

    def test_a_damaged_cursor_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, some_commands(3))
        cursor = cast("str", store.list(limit=1).cursor)
        changed = [
            cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(0, len(cursor), 5)
        ]
        for damaged in ("", "x", "é", cursor[:-4], cursor[4:], cursor + "AAAA", cursor * 2, cursor.lower(), *changed):
            with pytest.raises(InvalidQuery, match="cursor"):
                store.list(cursor=damaged)


def _walk(store: CommandStore, *, limit: int, **options: Any) -> list[Command]:
    """All pages; each full but the last, and not more of them than can be."""
    found: list[Command] = []
    cursor: str | None = None
    for _ in range(100):
        page = store.list(limit=limit, cursor=cursor, with_total=False, **options)
        found += page.commands
        cursor = page.cursor
        if cursor is None:
            return found
        assert len(page.commands) == limit
    raise AssertionError(f"100 pages of {limit} and no end")
