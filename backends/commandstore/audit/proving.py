"""Proofs for single commands: found in the ledger, and checked without the store."""

from __future__ import annotations

from collections.abc import Iterable

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import Command, Position
from commandstore.core import StoreCore
from commandstore.drive import run
from commandstore.errors import ConfigurationError, CorruptRecord, LedgerError
from commandstore.ledger import proof as proofs
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op, stored_digest
from commandstore.ledger.log import Ledger
from commandstore.ledger.proof import Proof
from commandstore.ledger.signing import Verifier
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["check_proof", "prove", "prove_async"]

_AT_ONCE = 100
# Entries that only speak of new commands: each leaf of them is within the range that the entry names.
_CREATING = {"sync", "create", "adopt"}


def prove(store: CommandStore, command_uuid: str) -> Proof:
    """A proof of what the ledger says of a command last: that it was recorded as it is stored, or its deletion.

    Reads the newest entries first, and of those that only record new commands the few whose range has the command's
    time: of most commands, one.

    Args:
        store: open, read-only if you like.
        command_uuid: of the command.

    Raises:
        InvalidQuery: the uuid is empty or not text.
        LedgerError: no entry speaks of it, or the store does not hold what the entry says: then there is no proof, and
            an audit is called for.
        CommandStoreError: the store failed.
    """
    if not isinstance(store, CommandStore):
        raise ConfigurationError("prove takes a CommandStore; for asyncio, prove_async")
    return run(_prove(store.core, command_uuid))


async def prove_async(store: AsyncCommandStore, command_uuid: str) -> Proof:
    """A proof of what the ledger says of a command last; as :func:`prove`, for asyncio."""
    if not isinstance(store, AsyncCommandStore):
        raise ConfigurationError("prove_async takes an AsyncCommandStore")
    return await _prove(store.core, command_uuid)


def check_proof(
    proof: Proof | object, public_keys: bytes | str | Iterable[bytes | str], command: Command | None = None
) -> Proof:
    """Check a proof without the store.

    Args:
        proof: as :func:`prove` gave it, or the JSON of that.
        public_keys: PEM texts: those that may have signed the ledger.
        command: must be what was recorded.

    Returns:
        The proof: what it speaks of, and when that was recorded (``proof.entry.time``).

    Raises:
        LedgerError: it is no proof, or does not hold; the message says why.
        ConfigurationError: no public key.
    """
    found = proof if isinstance(proof, Proof) else Proof.from_json(proof)
    proofs.check(found, Verifier(public_keys), command)
    return found


async def _prove(core: StoreCore, command_uuid: str) -> Proof:
    core.ready()
    uuid = codec.read_uuid(command_uuid)
    stored = (await core.backend.fetch([uuid])).get(uuid)
    ledger = Ledger(core.backend, core.drive)
    head = await ledger.head()
    if head is None:
        raise LedgerError(f"{core.backend.location} has no ledger, so there is no proof")
    digest = stored_digest(stored) if isinstance(stored, Record) else None
    found = await _newest(ledger, head, uuid, stored.position) if isinstance(stored, Record) else None
    if found is None:
        # It may have been recorded with another time, or not be there any more.
        found = await _newest(ledger, head, uuid, None)
    if found is None:
        raise LedgerError(f"no entry of the ledger speaks of command {uuid!a}")
    leaves, index, entry = found
    _must_be(leaves[index], entry, stored, digest)
    return proofs.prove(leaves, index, entry)


async def _newest(
    ledger: Ledger, head: Entry, uuid: str, position: Position | None
) -> tuple[list[Leaf], int, Entry] | None:
    """The last leaf of a command; with a position, of an entry whose range has it."""
    end = head.sequence
    while end:
        start = max(0, end - _AT_ONCE)
        for entry in reversed(await ledger.read(start, end - start)):
            if position is not None and entry.kind in _CREATING and not entry.first <= position <= entry.last:
                continue
            leaves = await ledger.leaves(entry)
            for index in range(len(leaves) - 1, -1, -1):
                if leaves[index].command_uuid == uuid:
                    return leaves, index, entry
        end = start
    return None


def _must_be(leaf: Leaf, entry: Entry, stored: Record | CorruptRecord | None, digest: bytes | None) -> None:
    """Raise unless the store holds what the leaf says."""
    if stored is not None if leaf.op == Op.DELETE else digest != leaf.digest:
        raise LedgerError(
            f"command {leaf.command_uuid!a} is not as entry {entry.sequence} of the ledger records it; "
            "commandstore audit verify says more",
            sequence=entry.sequence,
        )
