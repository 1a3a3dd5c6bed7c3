"""What can't be read beside a command of its uuid is named; what lists showed for a moment, or show late, is not it."""

from __future__ import annotations

from typing import Any

import pytest

from audit.scene import Scene
from commandstore import CorruptRecord
from commandstore.contract import Row, Slice


def unreadable(row: Row) -> Row:
    return Row(row.key, None, CorruptRecord("broken", command_uuid="a2", location="row 3"))


def listed(it: Scene, monkeypatch: pytest.MonkeyPatch, *, times: int, beside: bool) -> None:
    """Let the lists show a2 as a record that can't be read; some times, and beside what it is or in its place."""
    page, left = it.backend.page, [times]

    async def changed(*arguments: Any, **options: Any) -> Slice:
        found = await page(*arguments, **options)
        rows: list[Row] = []
        for row in found.rows:
            if row.record is None or row.record.command_uuid != "a2" or not left[0]:
                rows.append(row)
                continue
            left[0] -= 1
            rows += [unreadable(row), row] if beside else [unreadable(row)]
        return Slice(rows, found.next_key)

    monkeypatch.setattr(it.backend, "page", changed)


def named(it: Scene) -> list[tuple[str, str | None]]:
    return [(finding.kind.value, finding.command_uuid) for finding in it.audit().findings]


def test_a_second_record_that_can_not_be_read_is_named(it: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(it, monkeypatch, times=1000, beside=True)
    [finding] = it.audit().findings
    assert (finding.kind.value, finding.command_uuid) == ("unreadable", "a2")
    assert finding.reason == "beside it is a second record of this uuid that can't be read: broken"


@pytest.mark.parametrize("beside", [True, False])
def test_one_that_was_put_right_meanwhile_is_not(it: Scene, monkeypatch: pytest.MonkeyPatch, beside: bool) -> None:
    listed(it, monkeypatch, times=1, beside=beside)
    assert named(it) == []


def test_a_list_that_shows_a_command_as_what_it_is_not_hides_it(it: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(it, monkeypatch, times=1000, beside=False)
    assert named(it) == [("unlisted", "a2")]


def test_an_entry_with_a_field_twice_is_not_as_a_writer_spells_it(it: Scene) -> None:
    it.set_entry(2, it.raw(2).replace(b"{", b'{"statement":"{}",', 1))
    [entry] = [finding for finding in it.audit().findings if finding.kind.value == "entry"]
    assert (entry.sequence, entry.reason) == (2, "it is not spelled as a writer does")
