"""Deleting what is extra: last of all, only by a source that can be believed, and never the last good copy."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from commandstore import Command, StoreUnavailable, open_store
from commandstore.codec import encode
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication import deletions
from commandstore.replication.deletions import DOUBTFUL, EMPTY, INCOMPLETE, TIME_IS_UP, TOO_MANY
from commandstore.replication.verify import verify_command_stores
from replication.verified import Moving, Torn, actions, all_of, command, holding, told


def test_a_source_row_whose_uuid_was_damaged_does_not_cost_its_good_copy(tmp_path) -> None:
    with (
        open_store(f"sqlite:///{tmp_path}/a.db", create=True) as source,
        open_store(f"sqlite:///{tmp_path}/b.db", create=True) as destination,
    ):
        for store in (source, destination):
            store.create_many(command(n) for n in range(5))
        destination.create(Command("x", 5))
        destination.delete("c0004")
        damage(f"{tmp_path}/a.db", "c0002")
        report = verify_command_stores(source, destination, repair=True, delete_extra=True)
        assert told(report) == {"row 3": "failed", "c0002": "extra", "x": "extra", "c0004": "missing"}
        said = actions(report)
        assert (said["c0002"], said["x"], said["c0004"]) == (DOUBTFUL, DOUBTFUL, "written")
        assert (report.repaired, report.deleted, report.left, report.clean) == (1, 0, 3, False)
        assert destination.get("c0002") == command(2)


def damage(path: str, uuid: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("UPDATE commands SET uuid = x'fffe' WHERE uuid = ?", (uuid,)).rowcount == 1
        connection.commit()


def test_what_is_met_last_counts_for_what_was_extra_first() -> None:
    # Negative times are walked by themselves, and all that is found there is judged before the rest is read.
    source, destination = holding([command(1), command(2)], Torn("c0002", named=False)), holding([command(1)])
    destination.create(Command("x", -5))
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert actions(report)["x"] == DOUBTFUL
    assert destination.get("x") is not None


@pytest.mark.parametrize("payloads", [False, True])
def test_a_uuid_that_does_not_fit_its_digest_is_not_believed(payloads) -> None:
    backend = MemoryBackend()
    source, destination = holding([command(1)], backend), holding([command(1), command(2)])
    altered = encode(command(2))._replace(command_uuid="c9999")
    assert run(backend.insert([altered], "w"))
    report = verify_command_stores(source, destination, payloads=payloads, repair=True, delete_extra=True)
    assert actions(report)["c0002"] == DOUBTFUL
    assert destination.get("c0002") == command(2)


@pytest.mark.parametrize("uuid", ["", "u" * 600])
def test_a_uuid_that_no_command_has_is_not_believed(uuid) -> None:
    backend = MemoryBackend()
    source, destination = holding([command(1)], backend), holding([command(1), command(2)])
    backend._records[uuid] = (encode(command(2))._replace(command_uuid=uuid), "")
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert actions(report)["c0002"] == DOUBTFUL


def test_what_can_t_be_read_in_the_destination_or_has_its_uuid_stands_against_no_deletion() -> None:
    source = holding([command(1), command(2)], Torn("c0002"))
    destination = holding([command(1), command(2), command(3), command(4)], Torn("c0003", named=False))
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert told(report) == {"c0002": "failed", "object 7": "failed", "c0004": "extra"}
    assert (report.deleted, report.left) == (1, 2)


def test_an_empty_source_deletes_nothing() -> None:
    destination = holding([command(n) for n in range(3)])
    report = verify_command_stores(holding([]), destination, repair=True, delete_extra=True)
    assert set(actions(report).values()) == {EMPTY}
    assert (report.extra, report.deleted, report.left, report.clean) == (3, 0, 3, False)
    assert destination.total() == 3
    # Empty within the range is empty.
    source = holding([command(9, tenant_uuid="another")])
    report = verify_command_stores(source, destination, tenant_uuid="", repair=True, delete_extra=True)
    assert set(actions(report).values()) == {EMPTY}
    assert verify_command_stores(source, destination, repair=True, delete_extra=True).deleted == 3


@pytest.mark.parametrize("calls", range(5))
def test_without_the_whole_range_nothing_is_deleted(calls) -> None:
    source, destination = holding([command(n) for n in range(4)]), holding([Command(f"x{n}", n - 2) for n in range(9)])
    left = iter([1.0] * calls)
    report = verify_command_stores(
        source, destination, page_size=4, time_left=lambda: next(left, 0.0), repair=True, delete_extra=True
    )
    assert not report.complete
    assert {said for uuid, said in actions(report).items() if uuid < "d"} <= {"written"}
    assert {said for uuid, said in actions(report).items() if uuid > "d"} <= {INCOMPLETE}
    assert (report.deleted, report.left) == (0, report.extra)
    assert {f"x{n}" for n in range(9)} <= {one.command_uuid for one in all_of(destination)}


def test_when_the_time_is_up_while_it_deletes_the_rest_is_left_and_the_next_run_goes_on() -> None:
    source, destination = holding([command(1)]), holding([command(1), *(Command(f"x{n}", n) for n in range(45))])
    calls = []
    verify_command_stores(source, destination, time_left=lambda: calls.append(1) or 1.0)
    left = iter([1.0] * (len(calls) + 1))
    report = verify_command_stores(
        source, destination, time_left=lambda: next(left, 0.0), repair=True, delete_extra=True
    )
    told(report)
    assert (report.complete, report.extra, report.deleted, report.left, report.clean) == (True, 45, 20, 25, False)
    assert {one.action for one in report.findings} == {"removed", TIME_IS_UP}
    assert verify_command_stores(source, destination, repair=True, delete_extra=True).deleted == 25
    assert all_of(destination) == [command(1)]


def test_more_than_a_run_holds_is_left_for_the_next(monkeypatch) -> None:
    monkeypatch.setattr(deletions, "AT_MOST", 2)
    source, destination = holding([command(1)]), holding([command(1), *(Command(f"x{n}", n) for n in range(5))])
    for deleted, left in ((2, 3), (2, 1), (1, 0)):
        report = verify_command_stores(source, destination, repair=True, delete_extra=True)
        assert list(actions(report).values()).count(TOO_MANY) == left
        assert (report.extra, report.deleted, report.left) == (deleted + left, deleted, left)


def test_a_run_that_is_stopped_has_deleted_nothing_and_says_what_it_found() -> None:
    class Ending(MemoryBackend):
        async def page(self, query, after, limit, *, payload=True):
            if query.before != 0:
                raise StoreUnavailable("no answer")
            return await super().page(query, after, limit, payload=payload)

    destination, seen = holding([Command("x", -5)]), []
    with pytest.raises(StoreUnavailable):
        verify_command_stores(
            holding([command(1)], Ending()), destination, repair=True, delete_extra=True, progress=seen.append
        )
    assert (seen[-1].differing, seen[-1].repaired) == (1, 0)
    assert destination.get("x") is not None


def test_what_comes_to_the_source_before_it_is_deleted_stays() -> None:
    backend = Moving(2)  # asked for the verdict, and once more just before
    source, destination = holding([command(1)], backend), holding([command(1), command(2)])
    backend.then = lambda: source.create(command(2))
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert (told(report), report.compared, report.equal, report.clean) == ({}, 2, 2, True)
    assert destination.get("c0002") == command(2)


def test_what_goes_from_the_destination_before_it_is_deleted_is_no_finding() -> None:
    backend = Moving(2)
    source, destination = holding([command(1)]), holding([command(1), command(2)], backend)
    backend.then = lambda: destination.delete("c0002")
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert (told(report), report.compared, report.deleted, report.clean) == ({}, 1, 0, True)
