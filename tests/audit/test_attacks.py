"""Every attack is found and named, on every backend; what is as it should be is clean."""

from __future__ import annotations

import asyncio
import random

import pytest

from audit.attacks import ATTACKS, Attack
from audit.scene import ALL, CHECKPOINT, HEAD, HISTORY, KEYS, SIGNER, Scene, a_command, named, opened
from commandstore import AsyncCommandStore
from commandstore.audit import AuditReport, verify_async_ledger


def test_a_store_as_it_should_be_is_clean(scene: Scene) -> None:
    report = scene.audit()
    assert (report.clean, report.entries, report.head, report.commands) == (True, 5, 5, len(ALL))
    assert (report.created, report.updated, report.deleted) == (12, 1, 1)
    again = scene.audit(checkpoint=report.checkpoint)
    assert (again.clean, again.full, again.entries, again.commands, again.counted) == (True, False, 0, 0, len(ALL))


def named_by(scene: Scene, attack: Attack) -> None:
    attack.do(scene)
    report = scene.audit()
    assert named(report) == attack.full
    assert report.first_bad_entry == min((name for kind, name in attack.full if kind == "entry"), default=None)
    assert named(scene.audit(checkpoint=CHECKPOINT)) == attack.from_checkpoint


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one.everywhere], ids=lambda attack: attack.name)
def test_it_is_found_and_named_on_every_engine(scene: Scene, attack: Attack) -> None:
    named_by(scene, attack)


@pytest.mark.parametrize("attack", [one for one in ATTACKS if not one.everywhere], ids=lambda attack: attack.name)
def test_it_is_found_and_named(here: Scene, attack: Attack) -> None:
    named_by(here, attack)


@pytest.mark.parametrize("name", sorted(name for name in HISTORY[-1].registers if name != HEAD))
def test_no_bit_of_the_ledger_can_be_altered_unseen(it: Scene, name: str) -> None:
    value = HISTORY[-1].registers[name]
    chosen = random.Random(name)  # noqa: S311 - for the same bits in every run
    for at in {*chosen.sample(range(len(value)), 30), len(value) - 5}:
        it.register(name, value[:at] + bytes([value[at] ^ 1 << chosen.randrange(8)]) + value[at + 1 :])
        assert it.audit().bad_entries == 1
    it.register(name, value)
    assert it.audit().clean


def test_no_bit_of_a_body_can_be_altered_unseen_where_times_lie_far_apart() -> None:
    # An entry names its first and last time only: what lies between them could be moved.
    it = Scene(opened(signer=SIGNER))
    it.store.create_many(a_command(f"c{n}", n * 60_000_000_000) for n in range(6))
    name = f"ledger/leaves/{it.entry(1).root}/0"
    value = it.backend._registers[name].value
    for bit in range(len(value) * 8):
        altered = bytearray(value)
        altered[bit // 8] ^= 1 << bit % 8
        it.register(name, bytes(altered))
        assert it.audit().bad_entries == 1, bit
    it.register(name, value)
    assert it.audit().clean


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_found_and_named_under_asyncio(it: Scene, attack: Attack) -> None:
    attack.do(it)

    async def audited() -> tuple[AuditReport, AuditReport]:
        async with AsyncCommandStore(it.backend) as store:
            await store.init(read_only=True)
            full = await verify_async_ledger(store, KEYS, patience=0)
            return full, await verify_async_ledger(store, KEYS, patience=0, checkpoint=CHECKPOINT)

    full, since = asyncio.run(audited())
    assert (named(full), named(since)) == (attack.full, attack.from_checkpoint)
