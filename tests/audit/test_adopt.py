"""Adopting: what no entry knows is recorded once, and what is wrong is not made right by it."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from audit.scene import ALL, HISTORY, KEYS, SIGNER, Scene, a_command, forged, leaf_of, named, opened
from commandstore import AsyncCommandStore, ConfigurationError, LedgerError, ReadOnlyStore
from commandstore.audit import AdoptReport, adopt, adopt_async
from commandstore.codec import encode
from commandstore.ledger.log import Ledger
from commandstore.memory import MemoryBackend


def with_signer(it: Scene) -> Scene:
    it.store.init(signer=SIGNER)
    return it


def test_a_store_that_is_older_than_its_ledger_is_adopted_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commandstore.audit.adoption.MAX_LEAVES", 30)
    it = Scene(opened())
    it.store.create_many(a_command(f"c{n * 37 % 100:02}", n) for n in range(100))
    with_signer(it)
    report = adopt(it.store)
    assert report.to_dict() == {"commands": 100, "adopted": 100, "known": 0, "left": 0, "entries": report.entries}
    assert report.entries > 1
    entries = [it.entry(n) for n in range(1, report.entries + 1)]
    assert {entry.kind for entry in entries} == {"adopt"}
    # In the total order, so that a proof of one reads one.
    assert all(one.last < other.first for one, other in itertools.pairwise(entries))
    assert adopt(it.store) == AdoptReport(commands=100, known=100)
    assert it.audit().clean


def test_a_command_whose_entry_was_never_written_is_adopted(it: Scene) -> None:
    it.insert(encode(a_command("killed", 5)))
    assert adopt(with_signer(it).store) == AdoptReport(12, 1, 11, 0, 1)
    assert it.audit().clean


def test_one_that_was_created_again_after_its_deletion_is_adopted(it: Scene) -> None:
    it.insert(encode(a_command("a4", 14, b"another one")))
    assert adopt(with_signer(it).store).adopted == 1
    assert it.audit().clean


def test_what_is_wrong_stays_wrong(it: Scene) -> None:
    it.replace(forged(it.record("a1"), data=b"x"))
    it.replace(it.record("a2")._replace(digest=bytes(32)))
    it.insert(next(record for record in HISTORY[1].records if record.command_uuid == "a4"))
    it.remove("b0")
    it.insert(encode(a_command("new", 5))._replace(digest=bytes(32)))
    before = named(it.audit())
    assert adopt(with_signer(it).store) == AdoptReport(12, 0, 8, 4, 0)
    assert named(it.audit()) == before


def test_nothing_is_built_on_a_damaged_ledger(it: Scene) -> None:
    it.insert(encode(a_command("new", 5)))
    it.set_entry(2, None)
    with pytest.raises(LedgerError, match=r"entry 2 of the ledger does not fit: .* Nothing was adopted") as raised:
        adopt(with_signer(it).store)
    assert raised.value.sequence == 2


def test_one_that_its_writer_records_meanwhile_is_not_adopted_too() -> None:
    class Busy(MemoryBackend):
        next = None

        async def fetch(self, uuids):
            action, self.next = self.next, None
            if action:
                await action()
            return await super().fetch(uuids)

    it = Scene(opened(Busy()))
    it.put_back()
    records = [encode(a_command(f"new{n:02}", 40 + n)) for n in range(30)]
    it.insert(*records)
    with_signer(it)

    async def recorded() -> None:
        await Ledger(it.backend, it.store.core.drive, SIGNER).append("create", [leaf_of(records[25])])

    it.backend.next = recorded
    report = adopt(it.store)
    assert (report.adopted, report.known) == (29, len(ALL) + 1)
    assert it.audit().created == 12 + 30


def test_it_is_the_same_under_asyncio(it: Scene) -> None:
    it.insert(encode(a_command("killed", 5)))

    async def adopted() -> AdoptReport:
        async with AsyncCommandStore(it.backend) as store:
            await store.init(signer=SIGNER)
            return await adopt_async(store)

    assert asyncio.run(adopted()).adopted == 1
    assert it.audit(keys=KEYS).commands == len(ALL) + 1


def test_what_can_not_be_is_refused(it: Scene) -> None:
    with pytest.raises(ConfigurationError, match="open the store with a signer"):
        adopt(it.store)
    it.store.init(signer=SIGNER, read_only=True)
    with pytest.raises(ReadOnlyStore):
        adopt(it.store)
    with pytest.raises(ConfigurationError, match="adopt_async"):
        adopt(AsyncCommandStore(MemoryBackend()))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes an AsyncCommandStore"):
        asyncio.run(adopt_async(it.store))  # type: ignore[arg-type]
