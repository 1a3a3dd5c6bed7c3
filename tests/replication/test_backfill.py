"""A backfill: ranges that cover everything, copied in any order, more than once; then the scheduled sync goes on."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from commandstore import ConfigurationError, StoreUnavailable, SyncError, open_store, sync_command_store
from commandstore.drive import run
from commandstore.replication import copy_range, finish_backfill, plan_backfill
from commandstore.replication.backfill import MAX_RANGES, Planner
from commandstore.replication.walk import LEAST_MARGIN, Settings
from commandstore.sql.postgres_facts import STANDBY_SECONDS
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from replication.sequence_model import SequenceModel, record
from replication.stores import Picky, command, counts, filled, model, opened


def copy_all(source, destination, plan, **options) -> int:
    """Every range, in a random order."""
    copied = 0
    for piece in random.Random(7).sample(plan.ranges, len(plan.ranges)):  # noqa: S311 - an order, no secret
        report, _ = copy_range(source, destination, piece, **options)
        assert report.complete
        copied += report.copied
    return copied


@pytest.fixture(params=["A", "B", "C", "by time"])
def source(request, tmp_path):
    if request.param == "by time":
        store = opened()
        store.create_many([command(n, n * 1000 if n > 40 else 5) for n in range(200)])
        return store
    path = tmp_path / "app.db"
    create_sqlite(path, request.param)
    insert_sqlite(path, sample_commands(200, ties=40))
    return open_store(f"sqlite:///{path}", read_only=True)


def test_ranges_copied_in_any_order_are_the_whole_and_the_sync_goes_on_after_them(source) -> None:
    destination = opened()
    with source:
        plan = plan_backfill(source, destination, commands_per_range=30)
        assert len(plan.ranges) > 3
        assert copy_all(source, destination, plan, batch_size=7) == 200
        finish_backfill(source, destination, plan.plan, lag=0)
        assert list(destination.scan()) == list(source.scan())
        report = sync_command_store(source, destination, lag=0)
        assert report.copied == 0
        assert report.read < 50  # nothing that is settled is read again (by time: what shares the last instant)


def test_ranges_are_of_the_size_that_was_asked_for_whatever_the_gaps_between_ids() -> None:
    source = model()
    for number in range(100):
        source.add(record(f"c{number:04}", number))
        source.last_id += number * 1000
        source.reuse = False
    plan = plan_backfill(opened(source), opened(), commands_per_range=15)
    sizes = [sum(piece.low < row_id <= piece.high for row_id in source.rows) for piece in plan.ranges]
    assert sizes == [15] * 6 + [10]


def test_what_arrives_while_ranges_are_copied_is_the_sync_s() -> None:
    source, destination = model(20), opened()
    store = opened(source)
    plan = plan_backfill(store, destination, commands_per_range=5)
    source.add(record("late", -1))
    assert copy_all(store, destination, plan) == 20
    assert finish_backfill(store, destination, plan.plan) == 20
    assert counts(sync_command_store(store, destination)) == (1, 1, 0, 0, 0)


def test_the_plan_waits_for_transactions_that_may_still_add_below_its_horizon() -> None:
    source, destination = model(5), opened()
    source.reuse = False
    flying = source.begin(record("late", 2))
    source.add(record("after", 9))
    store = opened(source)
    clock = iter(range(0, 1000, 30))
    planner = Planner(store.core, destination.core, Settings(), monotonic=lambda: float(next(clock)))
    planner._drive.sleep = _nothing
    with pytest.raises(StoreUnavailable, match="pg_stat_activity"):
        run(planner.run(10))
    source.commit(flying)
    plan = plan_backfill(store, destination, commands_per_range=3)
    assert copy_all(store, destination, plan) == 7
    finish_backfill(store, destination, plan.plan)
    assert sync_command_store(store, destination).read == 0


async def _nothing(_: float) -> None:
    """A pause that takes no time."""


def test_a_range_stops_when_its_time_is_up_and_goes_on_where_it_was() -> None:
    store, destination = opened(model(20)), opened()
    (piece,) = plan_backfill(store, destination).ranges
    answers = iter([100.0, LEAST_MARGIN / 2])
    report, rest = copy_range(store, destination, piece, batch_size=5, concurrency=1, time_left=lambda: next(answers))
    assert (counts(report), report.complete) == ((5, 5, 0, 0, 0), False)
    assert rest.after is not None
    report, _ = copy_range(store, destination, rest)
    assert (counts(report), report.complete) == ((15, 15, 0, 0, 0), True)


def test_a_range_that_is_copied_again_finds_duplicates() -> None:
    store, destination = opened(model(20)), opened()
    plan = plan_backfill(store, destination, commands_per_range=10)
    copy_all(store, destination, plan)
    report, _ = copy_range(store, destination, plan.ranges[0])
    assert counts(report) == (10, 0, 10, 0, 0)


def test_a_bad_command_stops_its_range_or_is_parked_for_the_sync() -> None:
    backend = Picky({"c0003"})
    store, destination = opened(model(10)), opened(backend)
    (piece,) = plan_backfill(store, destination).ranges
    with pytest.raises(SyncError, match="c0003"):
        copy_range(store, destination, piece)
    report, _ = copy_range(store, destination, piece, skip_on_error=True)
    assert report.failed == 1
    finish_backfill(store, destination, piece.plan)
    backend.refused.clear()
    assert counts(sync_command_store(store, destination)) == (1, 1, 0, 0, 0)


def test_a_plan_goes_on_where_syncs_have_come_to() -> None:
    source, destination = model(10), opened()
    store = opened(source)
    sync_command_store(store, destination)
    for number in range(10, 30):
        source.add(record(f"c{number:04}", number))
    plan = plan_backfill(store, destination, commands_per_range=10)
    assert [(piece.low, piece.high) for piece in plan.ranges] == [(10, 20), (20, 30)]


def test_a_sync_beside_the_backfill_does_no_harm() -> None:
    store, destination = opened(model(20)), opened()
    plan = plan_backfill(store, destination, commands_per_range=10)
    assert sync_command_store(store, destination).copied == 20
    assert copy_all(store, destination, plan) == 0
    finish_backfill(store, destination, plan.plan)
    assert sync_command_store(store, destination).read == 0


def test_nothing_new_is_a_plan_without_ranges() -> None:
    store, destination = opened(model(5)), opened()
    sync_command_store(store, destination)
    plan = plan_backfill(store, destination)
    assert plan.ranges == ()
    finish_backfill(store, destination, plan.plan)


@pytest.mark.parametrize("empty", [model(), None])
def test_an_empty_source_is_a_plan_without_ranges(empty) -> None:
    store, destination = opened(empty), opened()
    plan = plan_backfill(store, destination)
    assert plan.ranges == ()
    finish_backfill(store, destination, plan.plan)


def test_there_are_never_more_ranges_than_a_state_machine_can_carry() -> None:
    for store in (opened(model(MAX_RANGES + 500)), filled(MAX_RANGES + 500)):
        plan = plan_backfill(store, opened(), commands_per_range=1)
        assert MAX_RANGES // 2 - 1 <= len(plan.ranges) <= MAX_RANGES


def test_a_plan_that_was_replaced_is_refused_by_name() -> None:
    store, destination = opened(model(5)), opened()
    old = plan_backfill(store, destination)
    new = plan_backfill(store, destination)
    with pytest.raises(ConfigurationError, match=new.plan):
        copy_range(store, destination, old.ranges[0])
    with pytest.raises(ConfigurationError, match=new.plan):
        finish_backfill(store, destination, old.plan)


def test_a_plan_that_nobody_made_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no backfill plan"):
        finish_backfill(opened(model(5)), opened(), "nobody")


def test_a_source_that_is_not_what_it_was_is_not_called_settled() -> None:
    source, destination = model(10), opened()
    store = opened(source)
    plan = plan_backfill(store, destination)
    copy_all(store, destination, plan)
    source.delete_top(2)
    source.add(record("other", 3))
    source.add(record("and another", 3))
    with pytest.raises(SyncError, match="not what it was"):
        finish_backfill(store, destination, plan.plan)
    assert sync_command_store(store, destination).copied == 2


def test_a_destination_that_was_reset_makes_the_plan_void() -> None:
    store, destination = opened(model(10)), opened()
    plan = plan_backfill(store, destination)
    sync_command_store(store, destination, resume_from_dest=False)  # a checkpoint of another generation
    with pytest.raises(SyncError, match="plan again"):
        finish_backfill(store, destination, plan.plan)


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_size_that_is_none_is_refused_before_anything_is_touched(size) -> None:
    destination = opened()
    with pytest.raises(ConfigurationError, match="commands_per_range"):
        plan_backfill(opened(model(5)), destination, commands_per_range=size)
    assert not destination.core.backend._registers


def test_a_standby_that_settles_by_time_alone_gets_its_plan() -> None:
    """It can't see its primary's transactions, so its marks settle when ten minutes have passed, and not before."""
    now = [0.0]

    class Standby(SequenceModel):
        async def sequence_state(self, anchors, marks):
            state = await super().sequence_state(anchors, ())
            settled = tuple(now[0] >= float(mark) for mark in marks)
            return replace(state, settled_marks=settled, mark=str(now[0] + STANDBY_SECONDS))

    async def pause(seconds):
        now[0] += seconds

    source = Standby(reuse=True)
    source.add(record("c", 1))
    store, destination = opened(source), opened()
    planner = Planner(store.core, destination.core, Settings(), monotonic=lambda: now[0])
    planner._drive.sleep = pause
    assert len(run(planner.run(10)).ranges) == 1
    assert now[0] >= STANDBY_SECONDS
