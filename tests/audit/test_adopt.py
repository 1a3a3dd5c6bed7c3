"""Adopting: what no entry knows is recorded once, and what is wrong is not made right by it."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from audit.scene import (
    ALL,
    CHECKPOINT,
    HISTORY,
    KEYS,
    MALLORY,
    SIGNER,
    Scene,
    a_command,
    forged,
    leaf_of,
    named,
    opened,
)
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
    counts = {"commands": 100, "adopted": 100, "known": 0, "left": 0, "entries": report.entries}
    assert report.to_dict() == counts | {"bad_entries": 0, "first_bad_entry": None, "findings": []}
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


# A ledger that is damaged


def test_what_only_a_damaged_entry_knows_is_recorded_anew(it: Scene) -> None:
    it.set_entry(2, it.raw(2).replace(b"create", b"repair"))
    report = adopt(with_signer(it).store)
    assert (report.adopted, report.known, report.left, report.first_bad_entry, report.bad_entries) == (4, 7, 0, 2, 1)
    assert [(one.kind.value, one.sequence) for one in report.findings] == [("entry", 2)]
    assert report.to_dict()["findings"][0]["kind"] == "entry"
    # The entry stays what it is, and no command is left that nothing records.
    assert named(it.audit()) == {("entry", 2)}
    assert adopt(it.store).adopted == 0


@pytest.mark.parametrize("damage", ["forged", "missing"])
def test_an_entry_that_does_not_fit_says_nothing(it: Scene, damage: str) -> None:
    if damage == "missing":
        it.set_entry(2, None)
    else:
        it.set_entry(2, replace(it.entry(2), signature=bytes(64)))
    assert adopt(with_signer(it).store).adopted == 4
    assert named(it.audit()) == {("entry", 2)}


def test_leaves_that_are_gone_are_written_anew_where_nothing_else_is_wrong(it: Scene) -> None:
    it.register(f"ledger/leaves/{it.entry(2).root}/0", None)
    assert adopt(with_signer(it).store).first_bad_entry == 2
    # They lie under their root, and the adopted ones are the same.
    assert it.audit().clean


def test_what_is_otherwise_than_a_good_entry_says_is_left_although_another_is_bad(it: Scene) -> None:
    it.set_entry(2, None)
    it.replace(forged(it.record("a1"), data=b"x"))
    report = adopt(with_signer(it).store)
    assert (report.adopted, report.left) == (4, 1)
    assert named(it.audit()) == {("entry", 2), ("altered", "a1")}


def test_what_another_key_signed_is_known_where_that_key_is_given(it: Scene) -> None:
    record = encode(a_command("e", 40))
    it.insert(record)
    it.rewrite(6, [leaf_of(record)], MALLORY, commands=12)
    it.point_to(6)
    with_signer(it)
    with pytest.raises(LedgerError, match=r"entry 6 of the ledger is signed with key .*--public-key") as raised:
        adopt(it.store)
    assert raised.value.sequence == 6
    assert it.audit(keys=[*KEYS, MALLORY.public_key()]).clean
    # Changing keys: both are told of.
    assert adopt(it.store, [MALLORY.public_key()]) == AdoptReport(12, 0, 12)
    # Whoever says that there was no other key takes it for forged.
    report = adopt(it.store, KEYS)
    assert (report.adopted, report.first_bad_entry) == (1, 6)
    assert named(it.audit()) == {("entry", 6)}


def test_the_way_on_after_damage_ends_with_a_clean_audit(it: Scene) -> None:
    it.set_entry(2, it.raw(2)[:-20])
    assert adopt(with_signer(it).store).adopted == 4
    report = it.audit(accept=True)
    assert (named(report), report.accepted) == ({("entry", 2)}, True)
    assert it.audit(checkpoint=report.checkpoint).clean
    it.store.create(a_command("e", 40))
    assert it.audit(checkpoint=report.checkpoint).clean


def test_a_newest_entry_that_can_not_be_read_stops_writers_until_it_is_put_away(it: Scene) -> None:
    it.set_entry(5, it.raw(5)[:-20])
    with pytest.raises(LedgerError, match="entry 5 of the ledger"):
        adopt(with_signer(it).store)
    it.set_entry(5, None)
    assert adopt(it.store).adopted == 2
    # An auditor who knew it sees that it is another.
    report = it.audit(checkpoint=CHECKPOINT, accept=True)
    assert named(report) == {("entry", 5)}
    assert it.audit(checkpoint=report.checkpoint).clean


# Beside writers


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


def test_what_is_updated_or_deleted_while_it_is_collected_is_recorded_as_it_is_then() -> None:
    class Busy(MemoryBackend):
        fetches = 0

        async def fetch(self, uuids):
            self.fetches += 1
            if self.fetches == 2 and uuids[0].startswith("new"):  # the first twenty are collected
                other.update(a_command("new03", 43, b"another payload"))
                other.delete("new05")
                other.delete("new06")
                other.create(a_command("new06", 46, b"another payload"))
            return await super().fetch(uuids)

    it = Scene(opened(Busy()))
    it.put_back()
    it.insert(*(encode(a_command(f"new{n:02}", 40 + n)) for n in range(30)))
    with_signer(it)
    other = opened(it.backend, signer=SIGNER)
    it.backend.fetches = 0
    assert adopt(it.store).left == 0
    assert it.audit().clean
    assert it.count() == len(ALL) + 29


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
