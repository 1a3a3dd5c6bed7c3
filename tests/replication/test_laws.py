"""The laws of the sync, one small test each, between stores in memory and a scripted source."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from commandstore import (
    AsyncCommandStore,
    Command,
    CommandStore,
    ConfigurationError,
    CorruptRecord,
    CryptoService,
    InvalidCommand,
    ReadOnlyStore,
    StoreUnavailable,
    SyncError,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.contract import Rejected, Row, Slice
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication.checkpoint import CheckpointRegister
from commandstore.replication.engine import Settings, Sync
from replication.sequence_model import SequenceModel, record


def opened(backend=None, **options) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init(**options)
    return store


def command(number: int, created_at: int | None = None, **fields) -> Command:
    return Command(f"c{number:04}", number if created_at is None else created_at, data_bytes=b"%d" % number, **fields)


def filled(count: int = 10, **options) -> CommandStore:
    store = opened(**options)
    store.create_many([command(n) for n in range(count)])
    return store


def model(count: int = 0) -> SequenceModel:
    source = SequenceModel(reuse=True)
    for number in range(count):
        source.add(record(f"c{number:04}", number))
    return source


def counts(report) -> tuple[int, int, int, int, int]:
    assert report.read == report.copied + report.duplicates + report.conflicts + report.failed
    return report.read, report.copied, report.duplicates, report.conflicts, report.failed


class Picky(MemoryBackend):
    """A destination that can't hold some commands."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused = refused
        self.order: list[str] = []

    async def insert(self, records, write_id):
        good = [r for r in records if r.command_uuid not in self.refused]
        self.order += [r.command_uuid for r in good]
        found = dict(zip((r.command_uuid for r in good), await super().insert(good, write_id), strict=True))
        bad = InvalidCommand("the column can't hold it")
        return [found.get(r.command_uuid) or Rejected(bad) for r in records]


class Failing(MemoryBackend):
    """A destination that stops answering after some inserts."""

    def __init__(self, inserts: int) -> None:
        super().__init__()
        self.inserts_left = inserts
        self.error: BaseException = StoreUnavailable("no answer")

    async def insert(self, records, write_id):
        self.inserts_left -= 1
        if self.inserts_left < 0:
            raise self.error
        return await super().insert(records, write_id)


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


def test_a_command_that_can_never_be_stored_stops_the_run_and_is_named() -> None:
    destination = opened(Picky({"c0004"}))
    with pytest.raises(SyncError, match="c0004") as stopped:
        sync_command_store(opened(model(10)), destination, batch_size=3, concurrency=1)
    assert isinstance(stopped.value.__cause__, InvalidCommand)
    assert stopped.value.report.complete is False
    assert counts(stopped.value.report) == (6, 5, 0, 0, 1)


def test_after_a_stop_the_next_run_comes_to_the_same_command_first() -> None:
    source, backend = opened(model(10)), Picky({"c0004"})
    destination = opened(backend)
    with pytest.raises(SyncError):
        sync_command_store(source, destination, batch_size=3, concurrency=1)
    backend.refused.clear()
    assert counts(sync_command_store(source, destination, batch_size=3)) == (7, 5, 2, 0, 0)


def test_with_skip_on_error_bad_commands_are_parked_and_counted_in_every_run() -> None:
    source, backend = opened(model(10)), Picky({"c0004", "c0007"})
    destination = opened(backend)
    first = sync_command_store(source, destination, skip_on_error=True)
    assert counts(first) == (10, 8, 0, 0, 2)
    assert first.complete
    assert [failure.command_uuid for failure in first.failures] == ["c0004", "c0007"]
    assert counts(sync_command_store(source, destination, skip_on_error=True)) == (2, 0, 0, 0, 2)


def test_a_parked_command_is_copied_once_it_can_be() -> None:
    source, backend = opened(model(10)), Picky({"c0004"})
    destination = opened(backend)
    sync_command_store(source, destination, skip_on_error=True)
    backend.refused.clear()
    assert counts(sync_command_store(source, destination, skip_on_error=True)) == (1, 1, 0, 0, 0)
    assert counts(sync_command_store(source, destination, skip_on_error=True)) == (0, 0, 0, 0, 0)


def test_a_parked_command_that_is_gone_from_the_source_is_forgotten() -> None:
    source, destination = model(10), opened(Picky({"c0004"}))
    sync_command_store(opened(source), destination, skip_on_error=True)
    del source.rows[5]
    assert counts(sync_command_store(opened(source), destination, skip_on_error=True)) == (0, 0, 0, 0, 0)


def test_a_parked_command_stops_a_run_without_skip_on_error() -> None:
    source, destination = opened(model(10)), opened(Picky({"c0004"}))
    sync_command_store(source, destination, skip_on_error=True)
    with pytest.raises(SyncError, match="c0004"):
        sync_command_store(source, destination)


def test_parked_commands_of_a_source_without_a_sequence_are_looked_up_by_uuid() -> None:
    source, backend = filled(), Picky({"c0004"})
    destination = opened(backend)
    sync_command_store(source, destination, skip_on_error=True, lag=0)
    backend.refused.clear()
    report = sync_command_store(source, destination, skip_on_error=True, lag=0)
    assert (report.copied, report.failed) == (1, 0)
    assert destination.get("c0004") == source.get("c0004")


def test_more_than_a_thousand_bad_commands_stop_the_run() -> None:
    source = opened(model(1002))
    destination = opened(Picky({f"c{n:04}" for n in range(1002)}))
    with pytest.raises(SyncError, match="1,000"):
        sync_command_store(source, destination, skip_on_error=True)


def test_a_row_that_cannot_be_read_is_parked_under_its_place() -> None:
    class Torn(SequenceModel):
        async def feed(self, query, window, after, limit):
            found = await super().feed(query, window, after, limit)
            broken = CorruptRecord("not UTF-8", location="row 3")
            return Slice(
                [Row(row.key, None, broken) if row.key[-1] == 3 else row for row in found.rows], found.next_key
            )

    source = Torn(reuse=True)
    for number in range(5):
        source.add(record(f"c{number}", number))
    report = sync_command_store(opened(source), opened(), skip_on_error=True)
    assert counts(report) == (5, 4, 0, 0, 1)
    assert report.failures[0].command_uuid == "row 3"


def test_a_store_that_fails_stops_the_run_even_with_skip_on_error() -> None:
    destination = opened(Failing(2))
    with pytest.raises(SyncError) as stopped:
        sync_command_store(opened(model(10)), destination, batch_size=2, concurrency=1, skip_on_error=True)
    assert isinstance(stopped.value.__cause__, StoreUnavailable)
    assert counts(stopped.value.report) == (4, 4, 0, 0, 0)


def test_after_a_failure_the_next_run_goes_on_from_what_is_durable() -> None:
    source, backend = opened(model(10)), Failing(2)
    destination = opened(backend)
    with pytest.raises(SyncError):
        sync_command_store(source, destination, batch_size=2, concurrency=1)
    backend.inserts_left = 99
    assert counts(sync_command_store(source, destination, batch_size=2)) == (6, 6, 0, 0, 0)


def test_an_interrupt_saves_the_checkpoint_and_goes_on_up() -> None:
    source, backend = opened(model(10)), Failing(2)
    backend.error = KeyboardInterrupt()
    destination = opened(backend)
    with pytest.raises(KeyboardInterrupt):
        sync_command_store(source, destination, batch_size=2, concurrency=1)
    backend.inserts_left = 99
    assert counts(sync_command_store(source, destination, batch_size=2)) == (6, 6, 0, 0, 0)


def test_an_interrupt_whose_checkpoint_cannot_be_saved_says_so() -> None:
    class Gone(Failing):
        async def register_swap(self, name, value, *, expected, token):
            if self.inserts_left < 0:
                raise StoreUnavailable("no answer")
            return await super().register_swap(name, value, expected=expected, token=token)

    backend = Gone(2)
    backend.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as stopped:
        sync_command_store(opened(model(10)), opened(backend), batch_size=2, concurrency=1)
    assert stopped.value.__notes__ == ["the checkpoint could not be saved: no answer"]


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


def test_a_payload_that_does_not_decrypt_is_a_bad_command() -> None:
    there = MemoryBackend()
    opened(there, crypto=CryptoService(b"a" * 32)).create(command(1))
    source = opened(there, crypto=CryptoService(b"b" * 32))
    assert counts(sync_command_store(source, opened(), skip_on_error=True)) == (1, 0, 0, 0, 1)


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
