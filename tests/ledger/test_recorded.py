"""Whatever a store with a signer writes is in its ledger: once, and in the right order even where it was stopped."""

from __future__ import annotations

import asyncio
import contextlib
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
    LedgerError,
    StoreUnavailable,
    SyncError,
    sync_async_command_store,
    sync_command_store,
    verify_command_stores,
)
from commandstore.codec import encode
from commandstore.drive import BlockingDrive, run
from commandstore.ledger import journal, log
from commandstore.ledger.leaves import Op, hashes_of, stored_digest
from commandstore.ledger.merkle import root_of
from commandstore.ledger.reading import body_name
from commandstore.ledger.signing import Ed25519Signer
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


def test_a_run_alone_reads_none_of_its_own_entries_again(monkeypatch) -> None:
    for module in (log, journal, walk):
        monkeypatch.setattr(module, "MAX_LEAVES", 10)

    class Noting(MemoryBackend):
        asked: ClassVar[list[str]] = []

        async def register_get(self, name):
            self.asked.append(name)
            return await super().register_get(name)

    backend = Noting()
    sync_command_store(filled(200), recorded(backend), batch_size=4)
    assert len(everything(backend)) == 20
    backend.asked.clear()
    sync_command_store(filled(400), recorded(backend), batch_size=4, concurrency=4)
    bodies = {name for name in backend.asked if name.startswith("ledger/leaves/")}
    before = [body_name(root_of(hashes_of(leaves)).hex(), 0) for _, leaves in everything(backend)[:20]]
    # The lag's duplicates are looked up. Batches that overtake each other may ask for one entry twice.
    assert bodies <= set(before)


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
    # What no entry knew is recorded before it goes.
    did = [("repair", Op.UPDATE, "c0004"), ("repair", Op.CREATE, "extra"), ("repair", Op.DELETE, "extra")]
    # What the ledger knows as it is stored now needs no word; sealed anew, it is stored otherwise.
    assert sorted(told(destination)[10:]) == sorted([*did, *([("repair", Op.UPDATE, "c0003")] if sealed else [])])
    stored = run(there.fetch(uuids(*range(10))))
    digests = {one.command_uuid: one.digest for _, leaves in everything(there) for one in leaves}
    assert {uuid: digests[uuid] for uuid in stored} == {uuid: stored_digest(record) for uuid, record in stored.items()}
    assert verify_command_stores(source, destination).clean


# Several who write at once, and what stops them


def agrees(store) -> None:
    """What the ledger says last of each command is what the store holds."""
    last = {one.command_uuid: one for _, leaves in everything(store.core.backend) for one in leaves}
    live = {uuid: one.digest for uuid, one in last.items() if one.op != Op.DELETE}
    stored = {uuid: stored_digest(record) for uuid, (record, _) in store.core.backend._records.items()}
    assert live == stored


class Once(MemoryBackend):
    """Does something else once, just before one of its primitives."""

    def __init__(self, primitive: str, action) -> None:
        super().__init__()
        self._action = action

        async def first(*args, **options):
            action, self._action = self._action, None
            if action is not None:
                action(self)
            return await getattr(MemoryBackend, primitive)(self, *args, **options)

        setattr(self, primitive, first)


class FailingSigner(Ed25519Signer):
    """Fails to sign, some times, from some entry on."""

    def __init__(self, after: int, times: int, error: BaseException) -> None:
        super().__init__(SEED)
        self.after, self.times, self.error = after, times, error

    def sign(self, message: bytes) -> bytes:
        self.after -= 1
        if self.after < 0 < self.times:
            self.times -= 1
            raise self.error
        return super().sign(message)


SEED = bytes(range(32))


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), KeyboardInterrupt()], ids=["unavailable", "ctrl-c"])
@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("there_already", [False, True])
def test_what_could_not_be_signed_is_not_passed_by_the_checkpoint(monkeypatch, after, error, there_already) -> None:
    for module in (log, journal, walk):
        monkeypatch.setattr(module, "MAX_LEAVES", 10)
    source, there = opened(model(45)), MemoryBackend()
    if there_already:  # and not recorded
        sync_command_store(source, opened(there))
        opened(there).core.backend._registers.clear()
    with pytest.raises((SyncError, KeyboardInterrupt)):
        sync_command_store(source, opened(there, signer=FailingSigner(after, 1, error)), batch_size=4, concurrency=1)
    sync_command_store(source, opened(there, signer=Ed25519Signer(SEED)), batch_size=4)
    entries = run(reader(there).read(0, 99))
    leaves = [one for entry in entries for one in run(reader(there).leaves(entry))]
    assert sorted(one.command_uuid for one in leaves) == uuids(*range(45))


def reader(backend) -> log.Ledger:
    return log.Ledger(backend, BlockingDrive())


@pytest.mark.parametrize("change", ["update", "delete"])
def test_what_is_changed_before_its_batch_is_recorded_is_recorded_in_order(change) -> None:
    def other(backend) -> None:
        store = recorded(backend)
        if change == "update":
            assert store.update(Command("c0003", 3, data_bytes=b"changed"))
        else:
            assert store.delete("c0003")

    class Watching(MemoryBackend):
        done = False

        async def register_swap(self, name, value, *, expected, token):
            if name.startswith("ledger/leaves") and not self.done:  # the batches are written, the entry is about to be
                self.done = True
                other(self)
            return await super().register_swap(name, value, expected=expected, token=token)

    destination = recorded(Watching())
    sync_command_store(opened(model(10)), destination)
    assert [op for _, op, uuid in told(destination) if uuid == "c0003"] == [
        Op.CREATE,
        Op.UPDATE if change == "update" else Op.DELETE,
    ]
    agrees(destination)


def test_changing_what_no_entry_knows_records_it_first() -> None:
    store = recorded()
    opened(store.core.backend).create_many([command(1), command(2)])
    store.update(Command("c0001", 1, data_bytes=b"new"))
    store.delete("c0002")
    assert [(op, uuid) for _, op, uuid in told(store)] == [
        (Op.CREATE, "c0001"),
        (Op.UPDATE, "c0001"),
        (Op.CREATE, "c0002"),
        (Op.DELETE, "c0002"),
    ]
    agrees(store)


def test_what_was_created_and_deleted_by_another_before_it_was_created_is_recorded() -> None:
    backend = MemoryBackend()
    mine, other = recorded(backend), recorded(backend)
    mine.create(command(0))
    other.create(command(1))
    other.delete("c0001")
    mine.create(command(1))
    agrees(mine)


@pytest.mark.parametrize("first", ["update", "delete"])
@pytest.mark.parametrize("second", ["update", "delete"])
@pytest.mark.parametrize("primitive", ["replace", "remove"])
def test_changes_of_one_command_at_once_end_as_the_ledger_says(first, second, primitive) -> None:
    def change(store, what: str, data: bytes) -> None:
        if what == "update":
            store.update(Command("c0001", 1, data_bytes=data))
        else:
            store.delete("c0001")

    backend = Once(primitive, lambda there: change(recorded(there), second, b"second"))
    store = recorded(backend)
    store.create(command(1))
    change(store, first, b"first")
    agrees(store)


@pytest.mark.parametrize("seed", range(12))
def test_writers_at_once_leave_a_ledger_that_says_what_the_store_holds(seed) -> None:
    backend = MemoryBackend()
    start = threading.Barrier(4)

    def writer(number: int) -> None:
        chance = random.Random(seed * 10 + number)  # noqa: S311 - an order, no secret
        store = recorded(backend)
        start.wait()
        for turn in range(12):
            chosen = Command(f"c{chance.randrange(3)}", 1, data_bytes=b"%d-%d" % (number, turn))
            match chance.randrange(4):
                case 0:
                    with contextlib.suppress(CommandExists):
                        store.create(chosen)
                case 1:
                    store.create_many([chosen, Command(f"own-{number}-{turn}", 2)])
                case 2:
                    store.update(chosen)
                case _:
                    store.delete(chosen.command_uuid)

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    agrees(recorded(backend))


def test_after_a_reset_the_ledger_begins_anew() -> None:
    store = recorded()
    store.create_many([command(1), command(2)])
    store.reset()
    assert everything(store.core.backend) == []
    store.create(command(3))
    assert told(store) == [("create", Op.CREATE, "c0003")]
    with pytest.raises(ConfigurationError, match="keeps a ledger"):
        opened(store.core.backend).reset()
    assert store.total() == 1


def test_a_store_that_another_one_reset_records_nothing_in_what_is_gone() -> None:
    store = recorded()
    store.create(command(1))
    recorded(store.core.backend).reset()
    with pytest.raises(LedgerError, match="reset"):
        store.create(command(2))


def test_what_was_created_and_could_not_be_recorded_is_told() -> None:
    store = opened(signer=FailingSigner(0, 1, StoreUnavailable("no answer")))
    with pytest.raises(StoreUnavailable) as caught:
        store.create_many([command(1), command(2)])
    assert caught.value.result is not None
    assert caught.value.result.created == ("c0001", "c0002")
