"""A write that was stopped, or whose fate nobody knows, is in the ledger once the same store writes again."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from commandstore import (
    AsyncCommandStore,
    CryptoService,
    StoreUnavailable,
    sync_command_store,
    verify_ledger,
)
from commandstore.codec import encode
from commandstore.drive import run
from commandstore.ledger.leaves import Op
from commandstore.memory import MemoryBackend
from ledger.ledgers import SIGNER, created, everything, told
from replication.stores import command, filled, opened

KEYS = [SIGNER.public_key()]


class Lost(MemoryBackend):
    """Of its inserts some are done and say nothing: a time-out after the effect, or a task that is cancelled there."""

    stop: BaseException | None = None

    async def insert(self, records, write_id):
        done = await super().insert(records, write_id)
        if self.stop is not None:
            stop, self.stop = self.stop, None
            raise stop
        return done


def written(backend, *, crypto=None):
    return opened(backend, signer=SIGNER, crypto=crypto)


def clean(store) -> bool:
    return verify_ledger(store, KEYS, patience=0).clean


@pytest.mark.parametrize("crypto", [None, CryptoService(bytes(32))], ids=["plain", "sealed"])
@pytest.mark.parametrize("stop", [StoreUnavailable("no answer"), KeyboardInterrupt()], ids=["no answer", "Ctrl-C"])
def test_what_may_have_been_written_is_recorded_with_the_next_write(stop, crypto) -> None:
    backend = Lost()
    store = written(backend, crypto=crypto)
    backend.stop = stop
    with contextlib.suppress(StoreUnavailable, KeyboardInterrupt):
        store.create(command(1))
    store.create(command(2))
    assert set(created(store)) == {"c0001", "c0002"}
    assert clean(store)


def test_what_was_not_written_after_all_is_not_recorded() -> None:
    class Refuses(MemoryBackend):
        async def insert(self, records, write_id):
            if records[0].command_uuid == "c0001":
                raise StoreUnavailable("gone")
            return await super().insert(records, write_id)

    store = written(Refuses())
    with pytest.raises(StoreUnavailable):
        store.create(command(1))
    store.create(command(2))
    assert created(store) == ["c0002"]


def test_what_somebody_else_put_there_is_not_made_good_by_a_write_of_unknown_fate() -> None:
    class Unanswered(MemoryBackend):
        async def insert(self, records, write_id):
            if records[0].command_uuid == "c0001":
                raise StoreUnavailable("no answer")
            return await super().insert(records, write_id)

    backend = Unanswered()
    run(MemoryBackend.insert(backend, [encode(command(1, domain="forged"))], "past the store"))
    store = written(backend)
    with pytest.raises(StoreUnavailable):
        store.create(command(1))
    store.create(command(2))
    assert created(store) == ["c0002"]
    assert [f.command_uuid for f in verify_ledger(store, KEYS, patience=0).findings] == ["c0001"]


def test_a_create_that_is_cancelled_while_its_entry_is_signed_is_recorded_with_the_next() -> None:
    class Slow(MemoryBackend):
        waits = True

        async def register_swap(self, name, value, *, expected, token):
            if self.waits and name.startswith("ledger/"):
                self.reached.set()
                await asyncio.Event().wait()
            return await super().register_swap(name, value, expected=expected, token=token)

    backend = Slow()

    async def main() -> None:
        backend.reached = asyncio.Event()
        async with AsyncCommandStore(backend) as store:
            await store.init(signer=SIGNER)
            task = asyncio.ensure_future(store.create(command(1)))
            await backend.reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            backend.waits = False
            await store.create_many([command(2), command(3)])

    asyncio.run(main())
    assert set(created(opened(backend))) == {"c0001", "c0002", "c0003"}
    assert clean(opened(backend))


def test_what_could_not_be_recorded_is_kept_through_several_failures_and_recorded_once() -> None:
    class Down(MemoryBackend):
        down = True

        async def register_swap(self, name, value, *, expected, token):
            if self.down and name.startswith("ledger/"):
                raise StoreUnavailable("no answer")
            return await super().register_swap(name, value, expected=expected, token=token)

    backend = Down()
    store = written(backend)
    for number in range(3):
        with pytest.raises(StoreUnavailable):
            store.create(command(number))
    assert everything(backend) == []
    backend.down = False
    store.create(command(3))
    assert sorted(told(store)) == [("create", Op.CREATE, f"c{number:04}") for number in range(4)]


@pytest.mark.parametrize("how", ["sync", "full sync", "create", "create_many"])
def test_a_sealed_command_that_was_lost_and_is_written_again_is_no_second_one(how) -> None:
    source, backend = filled(6), MemoryBackend()
    store = written(backend, crypto=CryptoService(bytes(32)))
    sync_command_store(source, store)
    run(backend.remove("c0003"))  # past the store, as one that was lost
    assert [finding.kind.value for finding in verify_ledger(store, KEYS, patience=0).findings] == ["dropped"]
    lost = source.get("c0003")
    assert lost is not None
    if how == "create":
        store.create(lost)
    elif how == "create_many":
        store.create_many([lost])
    else:
        # Its time is within the lag, so that a run looks at it again.
        sync_command_store(source, store, resume_from_dest=how != "full sync", lag=2**62)
    assert clean(store)
    assert told(store)[6:] == [("sync" if "sync" in how else "create", Op.UPDATE, "c0003")]
