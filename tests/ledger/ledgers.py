"""Ledgers to look into: who reads them here follows every entry and trusts none."""

from __future__ import annotations

from collections import Counter

from commandstore import CommandStore
from commandstore.drive import BlockingDrive, run
from commandstore.ledger.leaves import Leaf, Op, hashes_of
from commandstore.ledger.log import Ledger
from commandstore.ledger.merkle import root_of
from commandstore.ledger.signing import Ed25519Signer, Verifier
from commandstore.memory import MemoryBackend

SIGNER = Ed25519Signer.generate()


def ledger(backend=None, signer=SIGNER) -> Ledger:
    """A ledger as another process has it: nothing is known yet."""
    return Ledger(backend or MemoryBackend(), BlockingDrive(), signer)


def leaf(number: int, op: Op = Op.CREATE, created_at: int | None = None) -> Leaf:
    return Leaf(op, f"c{number:04}", number.to_bytes(32), number if created_at is None else created_at)


def everything(backend) -> list[tuple[str, list[Leaf]]]:
    """The kind and the leaves of every entry, after all that an entry says was checked."""
    read = ledger(backend, None)
    found, previous = [], "0" * 64
    verifier = Verifier([SIGNER.public_key()])
    entries = run(read.read(0, 10_000))
    for number, entry in enumerate(entries, 1):
        leaves = run(read.leaves(entry))
        assert (entry.sequence, entry.previous, entry.count) == (number, previous, len(leaves))
        assert verifier.check(entry) is None
        assert root_of(hashes_of(leaves)).hex() == entry.root
        positions = [(one.created_at, one.command_uuid) for one in leaves]
        assert positions == sorted(positions)
        assert (tuple(entry.first), tuple(entry.last)) == (positions[0], positions[-1])
        previous = entry.hash.hex()
        found.append((entry.kind, leaves))
    head = run(read.head())
    assert head == (entries[-1] if entries else None)
    return found


def told(store: CommandStore) -> list[tuple[str, Op, str]]:
    """Kind, op and uuid of all that a store's ledger tells, in its order."""
    return [(kind, Op(one.op), one.command_uuid) for kind, some in everything(store.core.backend) for one in some]


def created(store: CommandStore) -> list[str]:
    """The uuids that were recorded as created; none of them twice."""
    uuids = [uuid for _, op, uuid in told(store) if op == Op.CREATE]
    assert Counter(uuids).most_common(1)[0][1] == 1
    return sorted(uuids)
