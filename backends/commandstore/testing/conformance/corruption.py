"""Laws of what can't be read: it is named, and it stops nothing. For places that can ``damage`` what is stored."""

from __future__ import annotations

import pytest

from commandstore.command import Command
from commandstore.errors import CorruptRecord
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["CorruptRecordLaws"]


class CorruptRecordLaws:
    """Mixed in beside ``Conformance`` by engines whose records can be damaged from outside."""

    @pytest.fixture
    def commands(self, lab: Lab, store: CommandStore) -> list[Command]:
        """Seven commands, of which the fourth, c00003, is damaged."""
        commands = lab.fill(store, some_commands(7))
        lab.place.damage("c00003")
        lab.place.settle()
        return commands

    def test_get_of_a_damaged_record_raises_corrupt_record(self, store: CommandStore, commands: list[Command]) -> None:
        with pytest.raises(CorruptRecord) as caught:
            store.get("c00003")
        assert "c00003" in str(caught.value) or caught.value.location
        assert store.get("c00002") == commands[2]

    def test_get_many_with_a_damaged_record_raises_corrupt_record(
        self, store: CommandStore, commands: list[Command]
    ) -> None:
        with pytest.raises(CorruptRecord):
            store.get_many(["c00002", "c00003"])
        assert store.get_many(["c00002", "c00004"]) == {"c00002": commands[2], "c00004": commands[4]}

    def test_a_damaged_record_is_in_the_page_and_stops_nothing(
        self, store: CommandStore, commands: list[Command]
    ) -> None:
        for ascending in (True, False):
            page = store.list(ascending=ascending)
            assert list(page.commands) == [c for c in commands[:: 1 if ascending else -1] if c != commands[3]]
            assert [type(error) for error in page.corrupt] == [CorruptRecord]
            assert page.cursor is None

    def test_pages_go_on_behind_a_damaged_record(self, store: CommandStore, commands: list[Command]) -> None:
        found: list[Command] = []
        corrupt = 0
        cursor = None
        for _ in range(30):
            page = store.list(limit=1, cursor=cursor)
            assert len(page.commands) + len(page.corrupt) <= 1
            found += page.commands
            corrupt += len(page.corrupt)
            cursor = page.cursor
            if cursor is None:
                break
        assert found == commands[:3] + commands[4:]
        assert corrupt == 1

    def test_a_scan_raises_or_passes_over_a_damaged_record_as_told(
        self, store: CommandStore, commands: list[Command]
    ) -> None:
        errors: list[Exception] = []
        assert list(store.scan(on_corrupt=errors.append, page_size=2)) == commands[:3] + commands[4:]
        assert [type(error) for error in errors] == [CorruptRecord]
        scan = store.scan(page_size=2)
        assert [next(scan) for _ in range(3)] == commands[:3]
        with pytest.raises(CorruptRecord):
            next(scan)

    def test_create_many_still_accounts_for_a_damaged_record(
        self, store: CommandStore, commands: list[Command]
    ) -> None:
        result = store.create_many([*commands, a_command("new")])
        assert result.created == ("new",)
        assert len(result.duplicate) == 6
        assert result.conflicting == ("c00003",)

    def test_a_damaged_record_is_mended_by_update_and_removed_by_delete(
        self, lab: Lab, store: CommandStore, commands: list[Command]
    ) -> None:
        assert store.update(commands[3])
        assert store.get("c00003") == commands[3]
        lab.place.damage("c00003")
        assert store.delete("c00003")
        assert "c00003" not in lab.place.raw_uuids()
