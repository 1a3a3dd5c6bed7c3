"""A backfill of a real Postgres, where ids become visible out of order."""

from __future__ import annotations

import pytest

from commandstore import StoreUnavailable, copy_range, finish_backfill, open_store, plan_backfill, sync_command_store
from commandstore.drive import run
from commandstore.replication.backfill import Planner
from commandstore.replication.walk import Settings
from commandstore.testing.comby import create_postgres, insert_postgres, sample_commands
from postgres_connections import take_an_id
from replication.stores import opened


async def _nothing(_: float) -> None:
    """A pause that takes no time."""


GENERATIONS = ["A", "B", "C"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_ranges_are_the_whole_and_the_sync_goes_on_after_them(postgres_url, generation) -> None:
    create_postgres(postgres_url, generation)
    insert_postgres(postgres_url, sample_commands(200, ties=40))
    destination = opened()
    with open_store(postgres_url, read_only=True) as source:
        plan = plan_backfill(source, destination, commands_per_range=60)
        assert len(plan.ranges) == 4
        for piece in reversed(plan.ranges):
            report, _ = copy_range(source, destination, piece, batch_size=25)
            assert report.complete
        finish_backfill(source, destination, plan.plan)
        assert list(source.scan()) == list(destination.scan())
        assert sync_command_store(source, destination).read == 0


def test_no_plan_is_made_while_a_transaction_may_still_add_below_its_horizon(database, connect) -> None:
    insert_postgres(database, sample_commands(10))
    writer = connect()
    take_an_id(writer)
    insert_postgres(database, sample_commands(10, seed=1))
    destination = opened()
    with open_store(database, read_only=True) as source:
        clock = iter(range(0, 10_000, 45))
        planner = Planner(source.core, destination.core, Settings(), monotonic=lambda: float(next(clock)))
        planner._drive.sleep = _nothing
        with pytest.raises(StoreUnavailable, match="pg_stat_activity"):
            run(planner.run(100))
        writer.commit()
        plan = plan_backfill(source, destination)
        report, _ = copy_range(source, destination, plan.ranges[0])
        finish_backfill(source, destination, plan.plan)
        assert report.copied == source.total()
        assert sync_command_store(source, destination).read == 0
