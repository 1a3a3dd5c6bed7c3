"""What can't be copied is named, stops the run or is parked; and what stops a run loses nothing."""

from __future__ import annotations

import pytest

from commandstore import (
    AccessDenied,
    CorruptRecord,
    CryptoService,
    InvalidCommand,
    StoreUnavailable,
    SyncError,
    sync_command_store,
)
from commandstore.contract import Row, Slice
from commandstore.memory import MemoryBackend
from replication.sequence_model import SequenceModel, record
from replication.stores import Failing, Picky, command, counts, filled, model, opened


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


def test_a_payload_that_does_not_decrypt_is_a_bad_command() -> None:
    there = MemoryBackend()
    opened(there, crypto=CryptoService(b"a" * 32)).create(command(1))
    source = opened(there, crypto=CryptoService(b"b" * 32))
    assert counts(sync_command_store(source, opened(), skip_on_error=True)) == (1, 0, 0, 0, 1)


def test_a_parked_row_that_is_another_tenants_by_now_is_not_copied() -> None:
    source, destination = model(), opened(Picky({"c0"}))
    source.add(record("c0", 0, tenant="a"))
    sync_command_store(opened(source), destination, tenant_uuid="a", skip_on_error=True)
    source.rows[1] = record("secret", 0, tenant="b")
    report = sync_command_store(opened(source), destination, tenant_uuid="a", skip_on_error=True)
    assert counts(report) == (0, 0, 0, 0, 0)
    assert destination.get("secret") is None


@pytest.mark.parametrize("error", [AccessDenied("expired"), StoreUnavailable("no answer")])
def test_whatever_stops_a_run_what_it_did_is_in_the_account(error) -> None:
    class Expiring(MemoryBackend):
        insert_count = 5

        async def insert(self, records, write_id):
            if len(self._records) >= 10:
                raise error
            return await super().insert(records, write_id)

    destination = opened(Expiring())
    with pytest.raises(SyncError) as stopped:
        sync_command_store(opened(model(30)), destination, batch_size=20, concurrency=1)
    assert counts(stopped.value.report) == (10, 10, 0, 0, 0)
    assert destination.total() == 10
    fresh = opened(Expiring())
    with pytest.raises(type(error)) as failed:
        fresh.create_many([command(n) for n in range(30)])
    assert len(failed.value.result.created) == 10


def test_the_longest_checkpoint_fits_into_a_register() -> None:
    worst = "\x01" * 512
    source = SequenceModel(reuse=True)
    for number in range(300):
        source.add(record(worst[:-4] + f"{number:04}", number))
    backend = Picky({row.command_uuid for row in source.rows.values()})
    with pytest.raises(SyncError, match="more commands can't be copied"):
        sync_command_store(opened(source), opened(backend), batch_size=10, skip_on_error=True)
    assert all(len(register.value) <= 256 * 1024 for register in backend._registers.values())
