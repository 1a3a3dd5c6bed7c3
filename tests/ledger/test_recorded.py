"""Whatever a store with a signer writes is in its ledger: once, and in the right order even where it was stopped."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import ClassVar

import pytest

from commandstore import (
    AsyncCommandStore,
    Command,
    CommandExists,
    ConfigurationError,
    CryptoService,
    StoreUnavailable,
    SyncError,
    sync_async_command_store,
    sync_command_store,
    verify_command_stores,
)
from commandstore.codec import encode
from commandstore.drive import run
from commandstore.ledger import journal, log
from commandstore.ledger.leaves import Op, stored_digest
from commandstore.memory import MemoryBackend
from commandstore.replication import copy_range, finish_backfill, plan_backfill, walk
from ledger.ledgers import SIGNER, created, everything, told
from replication.sequence_model import record
from replication.stores import Failing, command, counts, filled, model, opened


def recorded(backend=None, **options):
    return opened(backend, signer=SIGNER, **options)


def uuids(*numbers: int) -> list[str]:
    return [f"c{number:04}" for number in numbers]


# The store itself


def test_create_and_create_many_are_recorded_once_they_are_done() -> None:
    store = recorded()
    store.create(command(1))
    store.create_many([command(1), command(2), command(3)])
    assert told(store) == [("create", Op.CREATE, uuid) for uuid in uuids(1, 2, 3)]


def test_update_and_delete_are_recorded_before_they_are_done() -> None:
    class Watching(MemoryBackend):
        entries: ClassVar[list[int]] = []

        async def replace(self, record, write_id):
            self.entries.append(len(everything(self)))
            return await super().replace(record, write_id)

        async def remove(self, command_uuid):
            self.entries.append(len(everything(self)))
            return await super().remove(command_uuid)

    backend = Watching()
    store = recorded(backend)
    store.create_many([command(1), command(2)])
    assert store.update(Command("c0001", 1, data_bytes=b"new"))
    assert store.delete("c0002")
    assert told(store)[2:] == [("update", Op.UPDATE, "c0001"), ("delete", Op.DELETE, "c0002")]
    assert backend.entries == [2, 3]


def test_what_there_is_nothing_of_is_neither_updated_nor_deleted_nor_recorded() -> None:
    store = recorded()
    assert not store.update(command(1))
    assert not store.delete("c0001")
    assert everything(store.core.backend) == []


def test_an_update_that_a_delete_overtook_is_recorded_as_deleted() -> None:
    class Overtaken(MemoryBackend):
        async def replace(self, record, write_id):
            await self.remove(record.command_uuid)
            return await super().replace(record, write_id)

    store = recorded(Overtaken())
    store.create(command(1))
    assert not store.update(Command("c0001", 1, data_bytes=b"new"))
    assert told(store)[1:] == [("update", Op.UPDATE, "c0001"), ("update", Op.DELETE, "c0001")]


def test_what_was_refused_is_not_recorded() -> None:
    store = recorded()
    store.create(command(1))
    with pytest.raises(CommandExists):
        store.create(Command("c0001", 1, data_bytes=b"other"))
    assert store.create_many([Command("c0001", 1, data_bytes=b"another")]).conflicting == ("c0001",)
    assert created(store) == uuids(1)


def test_a_leaf_says_what_is_stored_and_needs_no_key() -> None:
    store = recorded(crypto=CryptoService(bytes(32)))
    store.create_many([command(1), command(2)])
    store.update(Command("c0002", 2, data_bytes=b"new"))
    last = {one.command_uuid: one.digest for _, leaves in everything(store.core.backend) for one in leaves}
    stored = run(store.core.backend.fetch(uuids(1, 2)))
    assert last == {uuid: stored_digest(record) for uuid, record in stored.items()}


def test_a_store_on_asyncio_records_as_well() -> None:
    backend = MemoryBackend()

    async def main() -> None:
        store = AsyncCommandStore(backend)
        await store.init(signer=SIGNER)
        await store.create_many([command(1), command(2)])
        await store.delete("c0001")
        await store.close()

    asyncio.run(main())
    assert told(opened(backend)) == [
        ("create", Op.CREATE, "c0001"),
        ("create", Op.CREATE, "c0002"),
        ("delete", Op.DELETE, "c0001"),
    ]


def test_what_was_created_before_a_store_failed_is_recorded() -> None:
    store = recorded(Failing(1))
    store.core.backend.insert_count = 3
    with pytest.raises(StoreUnavailable):
        store.create_many([command(n) for n in range(9)])
    assert created(store) == uuids(0, 1, 2)


def test_creating_again_records_what_a_killed_writer_did_not() -> None:
    store = recorded()
    opened(store.core.backend).create_many([command(1), command(2)])  # written, and not recorded
    assert store.create_many([command(1), command(2), command(3)]).duplicate == ("c0001", "c0002")
    assert created(store) == uuids(1, 2, 3)
    with pytest.raises(CommandExists):
        store.create(command(3))
    assert created(store) == uuids(1, 2, 3)


def test_a_signer_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="key_id, algorithm, sign and public_key"):
        opened(signer="a key")


# The sync


@pytest.mark.parametrize("source", [filled(25), opened(model(25))], ids=["by time", "by sequence"])
def test_a_sync_records_every_command_once(source) -> None:
    destination = recorded()
    sync_command_store(source, destination, batch_size=4)
    assert created(destination) == uuids(*range(25))
    sync_command_store(source, destination, batch_size=4)
    sync_command_store(source, destination, batch_size=4, resume_from_dest=False)
    assert created(destination) == uuids(*range(25))


def test_on_asyncio_too() -> None:
    there = MemoryBackend()

    async def main() -> None:
        source, destination = AsyncCommandStore(model(25)), AsyncCommandStore(there)
        await source.init()
        await destination.init(signer=SIGNER)
        await sync_async_command_store(source, destination, batch_size=4)

    asyncio.run(main())
    assert created(opened(there)) == uuids(*range(25))


def test_entries_are_large_while_more_is_to_come(monkeypatch) -> None:
    for module in (log, journal, walk):
        monkeypatch.setattr(module, "MAX_LEAVES", 10)
    destination = recorded()
    sync_command_store(filled(25), destination, batch_size=4)
    assert [len(leaves) for _, leaves in everything(destination.core.backend)] == [10, 10, 5]


def test_the_checkpoint_never_passes_what_is_recorded() -> None:
    class Watching(MemoryBackend):
        async def register_swap(self, name, value, *, expected, token):
            if name.startswith("checkpoint/") and b'"settled":25' in value:
                assert sum(len(leaves) for _, leaves in everything(self)) == 25
            return await super().register_swap(name, value, expected=expected, token=token)

    sync_command_store(opened(model(25)), recorded(Watching()), batch_size=4)


def test_a_destination_that_keeps_a_ledger_is_not_written_without_a_signer() -> None:
    there = MemoryBackend()
    sync_command_store(filled(5), recorded(there))
    before = dict(there._registers)
    source = filled(9)
    with pytest.raises(ConfigurationError, match="keeps a ledger"):
        sync_command_store(source, opened(there))
    with pytest.raises(ConfigurationError, match="keeps a ledger"):
        plan_backfill(source, opened(there))
    assert there._registers == before
    assert opened(there).total() == 5
    assert counts(sync_command_store(source, opened(there), dry_run=True)) == (9, 4, 5, 0, 0)
    assert there._registers == before


class Stopping(MemoryBackend):
    """Can't be reached where the ledger is written, for some time: as a kill between a batch and its entry."""

    down = True

    async def register_swap(self, name, value, *, expected, token):
        if self.down and name.startswith("ledger/"):
            raise StoreUnavailable("no answer")
        return await super().register_swap(name, value, expected=expected, token=token)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("source", [filled(25), opened(model(25))], ids=["by time", "by sequence"])
def test_what_was_written_and_not_recorded_is_recorded_by_the_next_run(source, sealed) -> None:
    there = Stopping()
    crypto = CryptoService(bytes(32)) if sealed else None
    destination = recorded(there, crypto=crypto)
    with pytest.raises(SyncError):
        sync_command_store(source, destination, batch_size=4)
    assert destination.total() == 25
    assert everything(there) == []
    there.down = False
    report = sync_command_store(source, recorded(there, crypto=crypto), batch_size=4)
    assert (report.copied, report.duplicates) == (0, 25)
    assert created(destination) == uuids(*range(25))
    stored = run(there.fetch(uuids(*range(25))))
    digests = {one.command_uuid: one.digest for _, leaves in everything(there) for one in leaves}
    assert digests == {uuid: stored_digest(record) for uuid, record in stored.items()}


@pytest.mark.parametrize("seed", range(8))
def test_runs_at_once_record_every_command_once(seed) -> None:
    source, there = model(60), MemoryBackend()
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    sizes = [chance.randint(1, 20) for _ in range(3)]
    threads = [
        threading.Thread(target=sync_command_store, args=(opened(source), recorded(there)), kwargs={"batch_size": size})
        for size in sizes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert created(opened(there)) == uuids(*range(60))


def test_a_command_that_the_store_lost_is_no_second_one_when_it_is_copied_again() -> None:
    source, destination = opened(model(10)), recorded()
    sync_command_store(source, destination)
    run(destination.core.backend.remove("c0003"))  # past the store
    assert sync_command_store(source, destination, resume_from_dest=False).copied == 1
    assert created(destination) == uuids(*range(10))


def test_sealed_anew_it_is_recorded_as_an_update() -> None:
    source, destination = opened(model(10)), recorded(crypto=CryptoService(bytes(32)))
    sync_command_store(source, destination)
    run(destination.core.backend.remove("c0003"))
    sync_command_store(source, destination, resume_from_dest=False)
    assert told(destination)[10:] == [("sync", Op.UPDATE, "c0003")]


@pytest.mark.parametrize("at_once", [False, True])
def test_the_ranges_of_a_backfill_are_recorded(at_once) -> None:
    source, there = opened(model(60)), MemoryBackend()
    plan = plan_backfill(source, recorded(there), commands_per_range=9)

    def copy(piece) -> None:
        copy_range(source, recorded(there), piece, batch_size=4)

    threads = [threading.Thread(target=copy, args=(piece,)) for piece in plan.ranges]
    for thread in threads:
        thread.start()
        if not at_once:
            thread.join()
    for thread in threads:
        thread.join()
    finish_backfill(source, recorded(there), plan.plan)
    assert created(opened(there)) == uuids(*range(60))


def test_a_uuid_that_stands_twice_in_the_source_is_recorded_once() -> None:
    source = model()
    for number in range(40):
        source.add(record(f"c{number % 20:04}", number % 20))
    for batch_size in (1, 3, 40):
        destination = recorded()
        sync_command_store(opened(source), destination, batch_size=batch_size)
        assert created(destination) == uuids(*range(20))


def test_what_was_found_while_its_insert_was_in_flight_is_recorded_once() -> None:
    store = recorded()
    run(store.core.ready_to_record())
    stored = encode(command(1))
    run(store.core.backend.insert([stored], "w"))
    noted = store.core.journal()
    since = noted.since
    noted.found([stored])  # by another batch, of a source that has it twice
    run(noted.record("sync"))
    noted.created([stored, encode(command(2))], since)
    run(noted.record("sync"))
    assert told(store) == [("sync", Op.CREATE, "c0001"), ("sync", Op.CREATE, "c0002")]


# The repair


@pytest.mark.parametrize("sealed", [False, True])
def test_a_repair_records_what_it_did(sealed) -> None:
    source = filled(10)
    destination = recorded(crypto=CryptoService(bytes(32)) if sealed else None)
    sync_command_store(source, destination)
    there = destination.core.backend
    run(there.remove("c0003"))  # past the store, all three
    run(there.replace(encode(Command("c0004", 4, data_bytes=b"altered")), "w"))
    run(there.insert([encode(Command("extra", 5))], "w"))
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert (report.repaired, report.deleted) == (2, 1)
    did = [("repair", Op.UPDATE, "c0004"), ("repair", Op.DELETE, "extra")]
    # What the ledger knows as it is stored now needs no word; sealed anew, it is stored otherwise.
    assert sorted(told(destination)[10:]) == sorted([*did, *([("repair", Op.UPDATE, "c0003")] if sealed else [])])
    stored = run(there.fetch(uuids(*range(10))))
    digests = {one.command_uuid: one.digest for _, leaves in everything(there) for one in leaves}
    assert {uuid: digests[uuid] for uuid in stored} == {uuid: stored_digest(record) for uuid, record in stored.items()}
    assert verify_command_stores(source, destination).clean
