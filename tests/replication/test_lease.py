"""Of runs that overlap, one works: the lease of a source and a filter, on a destination in memory."""

from __future__ import annotations

import pytest

from commandstore import ConfigurationError, LeaseHeld, SyncError, sync_command_store
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication.checkpoint import register_name
from commandstore.replication.engine import Sync
from commandstore.replication.lease import Lease
from commandstore.replication.walk import Settings
from replication.stores import Failing, Picky, counts, model, opened

SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


def lease(backend, clock, *, seconds=60.0, name="lease/x") -> Lease:
    return Lease(backend, name, seconds=seconds, now=clock)


@pytest.fixture
def backend():
    return opened(MemoryBackend()).core.backend


def test_of_two_that_ask_one_gets_it_and_the_other_is_told_until_when(backend) -> None:
    clock = Clock()
    run(lease(backend, clock).acquire())
    with pytest.raises(LeaseHeld, match="1970-01-01 00:17:40 UTC"):
        run(lease(backend, clock).acquire())


def test_a_crashed_holder_blocks_nobody_longer_than_its_term(backend) -> None:
    clock = Clock()
    run(lease(backend, clock).acquire())
    clock.now += 60 * SECOND - 1
    with pytest.raises(LeaseHeld):
        run(lease(backend, clock).acquire())
    clock.now += 1
    run(lease(backend, clock).acquire())


def test_a_renewed_lease_holds_for_another_term(backend) -> None:
    clock = Clock()
    held = lease(backend, clock)
    run(held.acquire())
    clock.now += 50 * SECOND
    run(held.renew())
    clock.now += 50 * SECOND
    with pytest.raises(LeaseHeld):
        run(lease(backend, clock).acquire())


def test_one_that_is_given_back_is_free_at_once_and_brings_what_was_known(backend) -> None:
    clock = Clock()
    held = lease(backend, clock)
    run(held.acquire())
    held.caught_up = 77
    run(held.release())
    following = lease(backend, clock)
    run(following.acquire())
    assert following.caught_up == 77


def test_a_holder_that_lost_it_is_told_and_takes_nothing_from_its_successor(backend) -> None:
    clock = Clock()
    late = lease(backend, clock)
    run(late.acquire())
    clock.now += 60 * SECOND
    successor = lease(backend, clock)
    run(successor.acquire())
    with pytest.raises(SyncError, match="lost its lease"):
        run(late.renew())
    run(late.release())
    with pytest.raises(LeaseHeld):
        run(lease(backend, clock).acquire())


def test_one_that_expired_but_was_taken_by_nobody_is_renewed(backend) -> None:
    clock = Clock()
    held = lease(backend, clock)
    run(held.acquire())
    clock.now += 600 * SECOND
    run(held.renew())


def test_leases_of_other_names_are_strangers(backend) -> None:
    clock = Clock()
    run(lease(backend, clock, name="lease/x").acquire())
    run(lease(backend, clock, name="lease/y").acquire())


@pytest.mark.parametrize(
    "value", [b"", b"[]", b'{"version":1}', b'{"version":2,"holder":null,"until":0,"caught_up":null}']
)
def test_something_else_in_its_register_is_refused(backend, value) -> None:
    run(backend.register_swap("lease/x", value, expected=None, token="t"))
    with pytest.raises(ConfigurationError):
        run(lease(backend, Clock()).acquire())


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_term_that_is_none_is_refused(seconds) -> None:
    with pytest.raises(ConfigurationError, match="lease_seconds"):
        sync_command_store(opened(model(1)), opened(), lease_seconds=seconds)


# In a sync


def test_a_run_gives_it_back_and_says_up_to_when_all_is_copied() -> None:
    source, destination = opened(model(10)), opened()
    first = sync_command_store(source, destination, lease_seconds=60)
    second = sync_command_store(source, destination, lease_seconds=60)
    assert (first.copied, second.copied) == (10, 0)
    assert first.caught_up is not None
    assert second.caught_up is not None
    assert second.caught_up > first.caught_up


def test_a_run_that_finds_it_held_touches_nothing() -> None:
    source, backend, clock = opened(model(10)), MemoryBackend(), Clock()
    destination = opened(backend)
    sync = Sync(source.core, destination.core, Settings(lease_seconds=60), now=clock)
    assert sync._lease is not None
    run(sync._lease.acquire())
    with pytest.raises(LeaseHeld):
        run(Sync(source.core, destination.core, Settings(lease_seconds=60), now=clock).run())
    assert not backend._records
    assert len(backend._registers) == 1


def test_a_run_that_stops_at_an_error_gives_it_back() -> None:
    source, backend = opened(model(10)), Failing(1)
    destination = opened(backend)
    with pytest.raises(SyncError):
        sync_command_store(source, destination, batch_size=2, concurrency=1, lease_seconds=60)
    backend.inserts_left = 100
    assert sync_command_store(source, destination, lease_seconds=60).complete


def test_a_run_that_lost_it_stops_and_saves_no_checkpoint() -> None:
    clock = Clock()
    source = opened(model(10))

    class Robbed(MemoryBackend):
        async def insert(self, records, write_id):
            clock.now += 61 * SECOND
            other = Sync(source.core, destination.core, Settings(lease_seconds=60), now=clock)
            assert other._lease is not None
            await other._lease.acquire()
            return await super().insert(records, write_id)

    backend = Robbed()
    destination = opened(backend)
    with pytest.raises(SyncError, match="lost its lease"):
        run(Sync(source.core, destination.core, Settings(lease_seconds=60, batch_size=100), now=clock).run())
    name = register_name(source.core.backend.location, source.core.query({}))
    assert b'"settled":0,"window":null' in backend._registers[name].value


def test_a_dry_run_takes_none() -> None:
    source, backend = opened(model(3)), MemoryBackend()
    report = sync_command_store(source, opened(backend, read_only=True), dry_run=True, lease_seconds=60)
    assert counts(report) == (3, 3, 0, 0, 0)
    assert not backend._registers


def test_a_command_that_is_parked_keeps_the_destination_from_being_called_caught_up() -> None:
    source, destination = opened(model(3)), opened(Picky({"c0001"}))
    report = sync_command_store(source, destination, lease_seconds=60, skip_on_error=True)
    assert (report.failed, report.caught_up) == (1, None)
