"""Proofs: of what the store holds and the ledger says, found at little cost, checked without the store."""

from __future__ import annotations

import asyncio
import json

import pytest

from audit.scene import HISTORY, KEYS, MALLORY, SIGNER, Scene, a_command, forged, opened
from commandstore import AsyncCommandStore, ConfigurationError, CryptoService, InvalidQuery, LedgerError
from commandstore.audit import check_proof, prove, prove_async
from commandstore.ledger import Op, Proof
from commandstore.memory import MemoryBackend


@pytest.mark.parametrize(
    ("uuid", "op", "sequence"),
    [("a0", Op.CREATE, 1), ("b3", Op.CREATE, 2), ("a5", Op.UPDATE, 3), ("a4", Op.DELETE, 4), ("d1", Op.CREATE, 5)],
)
def test_a_proof_speaks_of_what_was_done_last(it: Scene, uuid: str, op: Op, sequence: int) -> None:
    proof = prove(it.store, uuid)
    assert (proof.command_uuid, proof.op, proof.entry.sequence) == (uuid, op, sequence)
    text = json.dumps(proof.to_json())
    command = it.store.get(uuid)
    checked = check_proof(text, KEYS, command)
    assert checked == proof
    assert check_proof(proof, KEYS) is proof


def test_a_command_that_is_another_does_not_pass(it: Scene) -> None:
    proof = prove(it.store, "a1")
    with pytest.raises(LedgerError, match="not as it was recorded"):
        check_proof(proof, KEYS, a_command("a1", 11, b"another payload"))


def test_a_key_that_is_another_does_not_pass(it: Scene) -> None:
    with pytest.raises(LedgerError, match="not among those given"):
        check_proof(prove(it.store, "a1"), [MALLORY.public_key()])
    with pytest.raises(ConfigurationError):
        check_proof(prove(it.store, "a1"), [])


def test_no_proof_is_made_of_what_is_not_as_recorded(it: Scene) -> None:
    it.replace(forged(it.record("a1"), data=b"x"))
    it.replace(forged(it.record("a2"), created_at=77))
    it.remove("b0")
    it.insert(next(record for record in HISTORY[1].records if record.command_uuid == "a4"))
    for uuid in ("a1", "a2", "b0", "a4"):
        with pytest.raises(LedgerError, match=f"command '{uuid}' is not as entry . of the ledger records it"):
            prove(it.store, uuid)
    it.insert(forged(it.record("a0"), command_uuid="new"))
    with pytest.raises(LedgerError, match="no entry of the ledger speaks of command 'new'"):
        prove(it.store, "new")


def test_a_command_whose_time_was_updated_is_proven_by_the_update() -> None:
    it = Scene(opened(signer=SIGNER))
    it.store.create_many(a_command(f"c{n}", n) for n in range(4))
    it.store.update(a_command("c1", 99))
    it.store.update(a_command("c1", 1))
    assert (prove(it.store, "c1").op, prove(it.store, "c1").entry.sequence) == (Op.UPDATE, 3)


def test_an_older_state_that_was_put_back_is_not_proven() -> None:
    it = Scene(opened(signer=SIGNER))
    it.store.create_many(a_command(f"c{n}", n) for n in range(4))
    first = it.record("c1")
    it.store.update(a_command("c1", 99))
    it.replace(first)
    with pytest.raises(LedgerError, match="not as entry 2 of the ledger records it"):
        prove(it.store, "c1")


def test_few_entries_are_read_whole() -> None:
    class Counting(MemoryBackend):
        bodies = 0

        async def register_get(self, name):
            self.bodies += name.startswith("ledger/leaves/")
            return await super().register_get(name)

    it = Scene(opened(Counting(), signer=SIGNER))
    for number in range(150):
        it.store.create(a_command(f"c{number}", number))
    it.backend.bodies = 0
    assert prove(it.store, "c7").entry.sequence == 8
    assert it.backend.bodies == 1


def test_the_cipher_of_an_encrypted_command_is_proven_without_a_key() -> None:
    it = Scene(opened(signer=SIGNER, crypto=CryptoService(bytes(32))))
    it.store.create(a_command("c1", 1))
    it.store.init()
    assert check_proof(prove(it.store, "c1"), KEYS).command_uuid == "c1"


def test_it_is_the_same_under_asyncio(it: Scene) -> None:
    async def proven() -> Proof:
        async with AsyncCommandStore(it.backend) as store:
            await store.init(read_only=True)
            return await prove_async(store, "a1")

    assert asyncio.run(proven()) == prove(it.store, "a1")


def test_what_can_not_be_is_refused(it: Scene) -> None:
    with pytest.raises(InvalidQuery):
        prove(it.store, "")
    with pytest.raises(LedgerError, match="has no ledger"):
        prove(opened(), "a1")
    with pytest.raises(ConfigurationError, match="prove_async"):
        prove(AsyncCommandStore(MemoryBackend()), "a1")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes an AsyncCommandStore"):
        asyncio.run(prove_async(it.store, "a1"))  # type: ignore[arg-type]
    with pytest.raises(LedgerError):
        check_proof("{}", KEYS)
