"""The laws of the sync, one small test each, between stores in memory and a scripted source."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace

import pytest

from commandstore import (
    AsyncCommandStore,
    Command,
    CommandStoreError,
    ConfigurationError,
    CryptoService,
    ReadOnlyStore,
    StoreUnavailable,
    SyncError,
    copy_range,
    plan_backfill,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication import plan
from commandstore.replication.checkpoint_register import CheckpointRegister
from commandstore.replication.engine import Sync
from commandstore.replication.walk import Settings
from replication.sequence_model import SequenceModel, record
from replication.stores import Picky, command, counts, filled, model, opened


def test_every_command_arrives_as_it_is() -> None:
    source, destination = filled(), opened()
    assert counts(sync_command_store(source, destination)) == (10, 10, 0, 0, 0)
    assert list(destination.scan()) == list(source.scan())


def test_a_second_run_copies_nothing() -> None:
    source, destination = opened(model(10)), opened()
    sync_command_store(source, destination)
    assert counts(sync_command_store(source, destination)) == (0, 0, 0, 0, 0)


def test_a_store_synced_into_itself_is_left_alone() -> None:
    store = filled()
    assert counts(sync_command_store(store, store)) == (0, 0, 0, 0, 0)
    assert store.total() == 10


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_ties_at_any_page_boundary_are_copied_once(batch_size) -> None:
    source, destination = opened(), opened()
    source.create_many([command(n, 5) for n in range(12)])
    report = sync_command_store(source, destination, batch_size=batch_size)
    assert counts(report) == (12, 12, 0, 0, 0)


def test_what_comes_after_a_command_with_a_clock_at_the_end_of_time_is_copied() -> None:
    source, destination = filled(), opened()
    source.create(command(98, 2**63 - 1))
    sync_command_store(source, destination)
    source.create(command(99, time.time_ns()))  # holds for clocks in nanoseconds
    assert sync_command_store(source, destination).copied == 1


def test_a_command_committed_late_within_the_lag_is_copied() -> None:
    source, destination = opened(), opened()
    source.create_many([command(n, n * 100) for n in range(1, 11)])
    sync_command_store(source, destination, lag=300)
    source.create(command(99, 750))
    assert counts(sync_command_store(source, destination, lag=300)) == (5, 1, 4, 0, 0)


def test_within_a_run_commands_go_in_the_total_order() -> None:
    source, backend = model(), Picky(set())
    for number, created_at in enumerate([5, 3, 3, 9, -1]):
        source.add(record(f"c{number}", created_at))
    sync_command_store(opened(source), opened(backend), batch_size=2, concurrency=1)
    assert backend.order == ["c4", "c1", "c2", "c0", "c3"]


def test_other_content_under_the_same_uuid_is_a_conflict_and_is_never_overwritten() -> None:
    source, destination = filled(), opened()
    kept = Command("c0003", 3, data_bytes=b"other")
    destination.create(kept)
    report = sync_command_store(source, destination)
    assert counts(report) == (10, 9, 0, 1, 0)
    assert [failure.command_uuid for failure in report.failures] == ["c0003"]
    assert destination.get("c0003") == kept
    assert not report.clean


def test_a_dry_run_writes_nothing_and_counts_what_would_be_copied() -> None:
    source, backend = filled(), MemoryBackend()
    destination = opened(backend, read_only=True)
    report = sync_command_store(source, destination, dry_run=True)
    assert counts(report) == (10, 10, 0, 0, 0)
    assert report.dry_run
    assert not backend._records
    assert not backend._registers


def test_a_read_only_destination_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ReadOnlyStore):
        sync_command_store(filled(), opened(read_only=True))


def test_without_resume_everything_is_compared_by_key() -> None:
    source, destination = opened(model(10)), opened()
    sync_command_store(source, destination)
    destination.delete("c0003")
    assert counts(sync_command_store(source, destination)) == (0, 0, 0, 0, 0)
    assert counts(sync_command_store(source, destination, resume_from_dest=False)) == (10, 1, 9, 0, 0)


def test_runs_of_a_tenant_have_a_checkpoint_of_their_own() -> None:
    source, destination = model(), opened()
    for number in range(6):
        source.add(record(f"c{number}", number, tenant="ab"[number % 2]))
    assert sync_command_store(opened(source), destination, tenant_uuid="a").copied == 3
    assert counts(sync_command_store(opened(source), destination)) == (6, 3, 3, 0, 0)
    source.add(record("c6", 6, tenant="a"))
    assert sync_command_store(opened(source), destination).copied == 1
    assert counts(sync_command_store(opened(source), destination, tenant_uuid="a")) == (1, 0, 1, 0, 0)


def test_start_after_time_is_exclusive_and_has_a_checkpoint_of_its_own() -> None:
    source, destination = filled(), opened()
    assert sync_command_store(source, destination, start_after_time=4).copied == 5
    assert counts(sync_command_store(source, destination)) == (10, 5, 5, 0, 0)


def test_a_source_name_keeps_the_checkpoint_when_the_url_changes() -> None:
    source, destination = model(10), opened()
    sync_command_store(opened(source), destination, source_name="billing")
    moved = model(10)
    assert counts(sync_command_store(opened(moved), destination, source_name="billing")) == (0, 0, 0, 0, 0)


def test_another_database_under_the_same_name_is_read_from_the_start() -> None:
    destination = opened()
    sync_command_store(opened(model(10)), destination, source_name="billing")
    other = SequenceModel(reuse=True)
    for number in range(10):
        other.add(record(f"other{number}", number))
    assert counts(sync_command_store(opened(other), destination, source_name="billing")) == (10, 10, 0, 0, 0)


def test_a_reset_of_the_destination_forgets_the_checkpoint() -> None:
    source, destination = opened(model(10)), opened()
    sync_command_store(source, destination)
    destination.reset()
    assert sync_command_store(source, destination).copied == 10


def test_a_run_whose_generation_is_over_stops_and_writes_no_checkpoint() -> None:
    source, destination = model(4), opened()
    register = CheckpointRegister(destination.core.backend, "billing", opened(source).core.query({}))

    def another_generation() -> None:
        source.during = None
        sync_command_store(opened(source), destination, resume_from_dest=False, source_name="billing")

    source.during = another_generation
    with pytest.raises(SyncError, match="another run"):
        sync_command_store(opened(source), destination, batch_size=2, source_name="billing")
    assert run(register.load()).settled == 4


def test_two_first_runs_at_once_share_one_checkpoint() -> None:
    source, destination = model(6), opened()

    def second_run() -> None:
        source.during = None
        assert sync_command_store(opened(source), destination).complete

    source.during = second_run
    assert counts(sync_command_store(opened(source), destination)) == (6, 0, 6, 0, 0)
    assert destination.total() == 6


def test_reading_ahead_is_bounded_by_the_concurrency() -> None:
    source, reads, peaks = model(40), itertools.count(), []
    written = []
    source.during = lambda: peaks.append(next(reads) - len(written))

    class Counting(MemoryBackend):
        async def insert(self, records, write_id):
            written.append(1)
            return await super().insert(records, write_id)

    sync_command_store(opened(source), opened(Counting()), batch_size=2, concurrency=3)
    assert len(peaks) == 20
    assert max(peaks) <= 3


def test_progress_is_told_after_each_batch() -> None:
    seen = []
    sync_command_store(opened(model(10)), opened(), batch_size=4, concurrency=1, progress=seen.append)
    assert [(p.read, p.copied, p.expected) for p in seen] == [(4, 4, 10), (8, 8, 10), (10, 10, 10)]


@pytest.mark.parametrize(
    "wrong",
    [{"batch_size": 0}, {"batch_size": True}, {"concurrency": 0}, {"lag": -1}, {"start_after_time": 2**63}],
)
def test_an_argument_that_cannot_be_right_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        sync_command_store(filled(), opened(), **wrong)


def test_payloads_are_opened_at_the_source_and_sealed_at_the_destination() -> None:
    there = MemoryBackend()
    source = filled(crypto=CryptoService(b"a" * 32))
    destination = opened(there, crypto=CryptoService(b"b" * 32))
    assert sync_command_store(source, destination).copied == 10
    assert list(destination.scan()) == list(source.scan())
    assert there._records["c0003"][0].data != b"3"
    assert counts(sync_command_store(source, destination, resume_from_dest=False)) == (10, 0, 10, 0, 0)


@pytest.mark.parametrize("options", [{}, {"resume_from_dest": False}])
def test_a_run_that_lost_its_key_does_not_go_on_in_plain_text(options) -> None:
    there, app = MemoryBackend(), {"source_name": "app"}
    sync_command_store(opened(model(10)), opened(there, crypto=CryptoService(b"b" * 32)), **app)
    before = dict(there._records)
    registers = dict(there._registers)
    with pytest.raises(SyncError, match="this run has no key"):
        sync_command_store(opened(model(20)), opened(there), **app, **options)
    with pytest.raises(ConfigurationError, match="this run has no key"):
        plan_backfill(opened(model(20)), opened(there), **app)
    assert there._registers == registers
    assert counts(sync_command_store(opened(model(20)), opened(there), dry_run=True, **app)) == (10, 10, 0, 0, 0)
    assert there._records == before


def test_that_something_was_encrypted_stays_known_whichever_run_saves_last() -> None:
    there = MemoryBackend()
    query = opened(there).core.query({})
    one, other = (CheckpointRegister(there, "app", query) for _ in range(2))
    checkpoint = plan.fresh(by_sequence=True)
    run(one.save(checkpoint))
    run(other.load())
    run(one.save(replace(checkpoint, sealed=True)))
    assert run(other.save(checkpoint)).sealed


def test_a_range_of_a_backfill_is_not_copied_in_plain_text_either() -> None:
    there, source = MemoryBackend(), opened(model(10))
    plan = plan_backfill(source, opened(there, crypto=CryptoService(b"b" * 32)), commands_per_range=5)
    with pytest.raises(CommandStoreError, match="this run has no key"):
        copy_range(source, opened(there), plan.ranges[0])
    assert not there._records


def test_a_destination_may_be_encrypted_from_now_on() -> None:
    there, app = MemoryBackend(), {"source_name": "app"}
    sync_command_store(opened(model(10)), opened(there), **app)
    assert sync_command_store(opened(model(20)), opened(there, crypto=CryptoService(b"b" * 32)), **app).copied == 10
    assert not there._records["c0009"][0].cipher
    assert there._records["c0010"][0].cipher
    with pytest.raises(SyncError, match="encrypted"):
        sync_command_store(opened(model(30)), opened(there), **app)


def test_the_async_sync_keeps_the_same_laws() -> None:
    async def main() -> None:
        source, destination = AsyncCommandStore(model(10)), AsyncCommandStore(MemoryBackend())
        await source.init()
        await destination.init()
        assert counts(await sync_async_command_store(source, destination, batch_size=3)) == (10, 10, 0, 0, 0)
        assert counts(await sync_async_command_store(source, destination, batch_size=3)) == (0, 0, 0, 0, 0)
        await source.close()
        await destination.close()

    asyncio.run(main())


def test_blocking_and_async_stores_are_not_mixed() -> None:
    with pytest.raises(ConfigurationError):
        sync_command_store(AsyncCommandStore(MemoryBackend()), opened())


def test_the_checkpoint_is_saved_while_a_long_run_goes_on() -> None:
    source, destination = opened(model(10)), opened()
    saved = []

    class Watching(MemoryBackend):
        async def register_swap(self, name, value, *, expected, token):
            saved.append(value)
            return await super().register_swap(name, value, expected=expected, token=token)

    destination = opened(Watching())
    sync = Sync(
        source.core,
        destination.core,
        Settings(batch_size=2, concurrency=1),
        monotonic=itertools.count(0, 10).__next__,
    )
    run(sync.run())
    assert len(saved) == 6  # the start, after each of four batches, the end


def test_a_save_that_failed_and_stops_the_run_is_not_tried_once_more_on_the_way_out() -> None:
    swaps = []

    class Failing(MemoryBackend):
        async def register_swap(self, name, value, *, expected, token):
            swaps.append(value)
            if len(swaps) > 2:
                raise StoreUnavailable("after all tries")
            return await super().register_swap(name, value, expected=expected, token=token)

    destination = opened(Failing())
    settings = Settings(batch_size=2, concurrency=1)
    sync = Sync(opened(model(10)).core, destination.core, settings, monotonic=itertools.count(0, 10).__next__)
    with pytest.raises(SyncError, match="after all tries"):
        run(sync.run())
    assert len(swaps) == 3  # the start, after the first batch, and the one that failed


def test_the_anchors_of_a_shorter_window_never_vouch_for_what_a_longer_one_settled() -> None:
    source, destination = model(100), opened()

    def overtaken() -> None:
        if source.reads == 3:
            for number in range(100, 200):
                source.add(record(f"c{number:04}", number))
            source.during = None
            sync_command_store(opened(source), destination)

    source.reads = 0

    def count() -> None:
        source.reads += 1
        overtaken()

    source.during = count
    sync = Sync(
        opened(source).core,
        destination.core,
        Settings(batch_size=10, concurrency=1),
        monotonic=itertools.count(0, 10).__next__,
    )
    run(sync.run())
    source.delete_top(51)
    for number in range(60):
        source.add(record(f"new{number}", 0))
    sync_command_store(opened(source), destination)
    assert {row.command_uuid for row in source.rows.values()} <= {c.command_uuid for c in destination.scan()}


def test_a_run_that_compares_everything_does_so_also_when_another_one_saves_meanwhile() -> None:
    class Overtaken(SequenceModel):
        meanwhile = None

        async def sequence_state(self, anchors, marks):
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            return await super().sequence_state(anchors, marks)

    source, destination = Overtaken(reuse=True), opened()
    source.add(record("c1", 1))
    sync_command_store(opened(source), destination)
    destination.delete("c1")

    def scheduled_run() -> None:
        source.add(record("c2", 2))
        assert sync_command_store(opened(source), destination).copied == 1

    source.meanwhile = scheduled_run
    report = sync_command_store(opened(source), destination, resume_from_dest=False)
    assert counts(report) == (2, 1, 1, 0, 0)
    assert destination.get("c1") is not None
