"""A run with a deadline stops in time, saves how far it came, and the next run goes on there."""

from __future__ import annotations

import pytest

from commandstore import open_store, sync_command_store
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication.engine import Sync
from commandstore.replication.walk import LEAST_MARGIN, Settings
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from replication.sequence_model import SequenceModel, record
from replication.stores import command, counts, filled, model, opened


class Budget:
    """So many questions are answered with plenty of time; then it is nearly up."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    def __call__(self) -> float:
        self.answers -= 1
        return 100.0 if self.answers >= 0 else LEAST_MARGIN / 2


def test_it_stops_says_what_is_left_and_the_next_run_goes_on() -> None:
    source, destination = opened(model(10)), opened()
    first = sync_command_store(source, destination, batch_size=2, concurrency=1, time_left=Budget(2))
    assert counts(first) == (4, 4, 0, 0, 0)
    assert (first.complete, first.remaining) == (False, 6)
    assert not first.clean
    second = sync_command_store(source, destination, batch_size=2, concurrency=1, time_left=Budget(1))
    assert (counts(second), second.remaining) == ((2, 2, 0, 0, 0), 4)
    last = sync_command_store(source, destination, batch_size=2, time_left=Budget(100))
    assert (counts(last), last.remaining, last.complete) == ((4, 4, 0, 0, 0), None, True)


def test_time_that_was_up_at_the_start_copies_nothing_and_loses_nothing() -> None:
    source, destination = opened(model(10)), opened()
    assert counts(sync_command_store(source, destination, time_left=lambda: 0.0)) == (0, 0, 0, 0, 0)
    assert sync_command_store(source, destination).copied == 10


def test_an_end_that_is_reached_in_time_is_complete() -> None:
    source, destination = opened(model(4)), opened()
    report = sync_command_store(source, destination, batch_size=2, concurrency=1, time_left=Budget(2))
    assert (report.complete, report.copied) == (True, 4)


def test_the_margin_is_what_batches_take() -> None:
    """With batches of four seconds and less than ten left, no further one begins."""
    clock = [0.0]

    class Slow(MemoryBackend):
        async def insert(self, records, write_id):
            clock[0] += 4.0
            return await super().insert(records, write_id)

    source, destination = opened(model(10)), opened(Slow())
    settings = Settings(batch_size=2, concurrency=1, time_left=lambda: 17.0 - clock[0])
    report = run(Sync(source.core, destination.core, settings, monotonic=lambda: clock[0]).run())
    # Left at each question: 17, then 13 (while the first is written, the second is read ahead), then 9.
    assert report.copied in {4, 6}
    assert clock[0] <= 17.0 - LEAST_MARGIN
    assert not report.complete


def test_a_source_without_a_sequence_stops_as_well() -> None:
    source, destination = filled(), opened()
    report = sync_command_store(source, destination, batch_size=2, concurrency=1, lag=0, time_left=Budget(2))
    assert (report.copied, report.complete) == (4, False)
    assert sync_command_store(source, destination, lag=0).copied == 6


def test_a_run_that_did_not_come_to_its_end_does_not_say_caught_up() -> None:
    source, destination = opened(model(10)), opened()
    report = sync_command_store(source, destination, batch_size=2, time_left=lambda: 0.0, lease_seconds=60)
    assert report.caught_up is None


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_a_database_is_copied_by_runs_of_one_batch_each(tmp_path, generation) -> None:
    path = tmp_path / "app.db"
    create_sqlite(path, generation)
    insert_sqlite(path, sample_commands(50, ties=20))
    destination = opened()
    with open_store(f"sqlite:///{path}", read_only=True) as source:
        reports = []
        while not reports or not reports[-1].complete:
            report = sync_command_store(source, destination, batch_size=10, concurrency=1, time_left=Budget(1))
            reports.append(report)
        # Whether a full page was the last one, only the next question tells.
        assert [report.copied for report in reports] == [10, 10, 10, 10, 10, 0]
        assert list(source.scan()) == list(destination.scan())


def test_slow_reads_are_part_of_the_margin() -> None:
    """With reads of eight seconds and less than nine left, none begins; the first one of a walk may have to sort."""
    clock = [0.0]

    class SlowSource(SequenceModel):
        async def feed(self, query, window, after, limit):
            clock[0] += 8.0
            return await super().feed(query, window, after, limit)

    source = SlowSource(reuse=True)
    for number in range(100):
        source.add(record(f"c{number:04}", number))
    settings = Settings(batch_size=2, concurrency=1, time_left=lambda: 60.0 - clock[0])
    report = run(Sync(opened(source).core, opened().core, settings, monotonic=lambda: clock[0]).run())
    assert not report.complete
    assert report.copied > 2
    assert clock[0] <= 60.0 - LEAST_MARGIN


@pytest.mark.parametrize("lag", [0, 10**12])
def test_a_source_without_a_sequence_goes_on_where_it_was_whatever_the_lag(lag) -> None:
    """All at one time, and all within the lag: either way runs of two batches come to the end."""
    source, destination = opened(), opened()
    source.create_many([command(n, 5) for n in range(20)])
    copied = []
    while sum(copied) < 20:
        report = sync_command_store(source, destination, batch_size=2, concurrency=1, lag=lag, time_left=Budget(2))
        copied.append(report.copied)
        assert report.copied == 4
    source.create(command(0, 5).model_copy(update={"command_uuid": "a, which comes first"}))
    last = sync_command_store(source, destination, lag=lag, time_left=Budget(1000))
    assert (last.copied, last.complete) == (1, True)


def test_what_came_behind_the_place_where_a_run_goes_on_is_copied_by_that_run() -> None:
    source, destination = opened(), opened()
    source.create_many([command(n, 5) for n in range(10)])
    sync_command_store(source, destination, batch_size=2, concurrency=1, lag=1000, time_left=Budget(2))
    source.create(command(0, 1).model_copy(update={"command_uuid": "late"}))
    report = sync_command_store(source, destination, lag=1000, time_left=Budget(1000))
    assert report.complete
    assert destination.get("late") is not None
    assert destination.total() == 11


def test_under_a_filter_nobody_says_how_many_are_left() -> None:
    source, destination = opened(model(10)), opened()
    report = sync_command_store(source, destination, tenant_uuid="a", batch_size=2, concurrency=1, time_left=Budget(2))
    assert (report.complete, report.copied, report.remaining) == (False, 4, None)


def test_a_horizon_that_settled_while_a_walk_was_resumed_is_not_walked_again() -> None:
    source = model()
    source.reuse = False
    destination = opened()
    flying = source.begin(record("slow", 3))
    for number in range(10):
        source.add(record(f"c{number:04}", number))
    store = opened(source)
    sync_command_store(store, destination, batch_size=2, concurrency=1, time_left=Budget(2))
    source.commit(flying)
    read = 4
    reports = []
    while not reports or not reports[-1].complete:
        reports.append(sync_command_store(store, destination, batch_size=2, concurrency=1))
    read += sum(report.read for report in reports)
    assert sync_command_store(store, destination).read == 0
    assert read <= 2 * 11  # once as pending, once to settle it
    assert destination.total() == 11
