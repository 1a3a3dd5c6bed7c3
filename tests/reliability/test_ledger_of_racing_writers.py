"""Writers that race on one command, each recording what it does: an audit finds nothing, as nobody tampered."""

from __future__ import annotations

import pytest

from commandstore.audit import verify_ledger
from commandstore.core import StoreOptions
from commandstore.ledger.signing import Ed25519Signer
from commandstore.memory import MemoryBackend
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.histories import run_clients
from commandstore.testing.linearizability import check, command_model
from commandstore.testing.scripts import random_scripts
from reliability.scale import scaled
from reliability.wavering import Wavering

SEED = 20261125
SIGNER = Ed25519Signer(bytes(32))


def audited(seed: str, *, clients: int, steps: int):
    """The history of a seed, and what an audit says of what it left."""
    backend = Wavering(seed)
    options = StoreOptions(signer=SIGNER)
    begin_ledger(backend)
    scripts = random_scripts(seed, names=["a"], clients=clients, steps=steps, cuts=0, long=0)
    history = run_clients(lambda: backend, "async", scripts, options=options)
    with CommandStore(settled(backend)) as store:
        store.init(read_only=True)
        return history.operations, verify_ledger(store, [SIGNER.public_key()], patience=0)


def settled(backend: Wavering) -> MemoryBackend:
    """The same, for one who has it alone, without an event loop."""
    calm = MemoryBackend()
    calm._records, calm._registers = backend._records, backend._registers
    return calm


def begin_ledger(backend: Wavering) -> None:
    """With one command of another uuid, so that there is a ledger whatever the writers do."""
    with CommandStore(settled(backend)) as store:
        store.init(signer=SIGNER)
        store.create(a_command("other"))


@pytest.mark.parametrize(("clients", "steps"), [(2, 3), (2, 5), (3, 3), (3, 6)])
def test_an_audit_of_what_racing_writers_left_finds_nothing(clients, steps) -> None:
    for number in range(scaled(40, 1000)):
        seed = f"{SEED} {number}"
        operations, report = audited(seed, clients=clients, steps=steps)
        assert check(operations, command_model) == []
        shown = "\n".join(map(str, operations))
        assert report.clean, f"seed {seed!r}: {report.findings}\n{shown}"
