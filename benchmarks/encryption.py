"""What encryption adds to a command of 600 bytes: sealing and the keyed digest, by each service, in one run.

    uv run python benchmarks/encryption.py [--count 50000]

``create_many`` is the whole way into a memory store, as a batch goes there; what a service adds is the difference to
plain. ``seal`` is the core's sealing of records alone (data, digest and context), ``open`` likewise. Each number is the
least CPU time of several rounds, in which the services take turns, so that a busy machine slows all of them alike.
Ends with 1 where encryption adds more than 4 microseconds to a command.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from collections.abc import Callable

from commandstore import Command, CommandStore, CryptoService
from commandstore.codec import Record, encode
from commandstore.contract import CREATED
from commandstore.crypto import Crypto, EnvelopeCrypto
from commandstore.drive import BlockingDrive, run
from commandstore.memory import MemoryBackend
from commandstore.sealing import Sealing
from commandstore.testing.comby import sample_commands
from commandstore.vault import LocalRoot, TenantKeys

MOST_MICROSECONDS = 4.0
ROUNDS = 11
BATCH = 1000


class Counting(MemoryBackend):
    """Takes every command and keeps none."""

    async def insert(self, records, write_id):  # noqa: ANN001, ANN201, ARG002
        return [CREATED] * len(records)


def services() -> dict[str, Crypto | None]:
    keys = CommandStore(MemoryBackend())
    keys.init()
    envelopes = EnvelopeCrypto(TenantKeys(keys, LocalRoot(os.urandom(32))))
    return {"plain": None, "CryptoService": CryptoService(os.urandom(32)), "EnvelopeCrypto": envelopes}


def stores(crypto: Crypto | None) -> CommandStore:
    store = CommandStore(Counting())
    store.init(crypto=crypto)
    return store


def microseconds(work: Callable[[], object], count: int) -> float:
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        work()
        return (time.process_time() - began) / count * 1e6
    finally:
        gc.enable()


def batches(sealing: Sealing, records: list[Record], *, opening: bool = False) -> list[Record]:
    done: list[Record] = []
    for start in range(0, len(records), BATCH):
        one = records[start : start + BATCH]
        done += run(sealing.open(one) if opening else sealing.seal(one))  # type: ignore[arg-type]
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50_000)
    count = parser.parse_args().count
    commands = [
        Command(
            command_uuid=row.uuid,
            created_at=row.created_at,
            instance_id=row.instance_id,
            tenant_uuid=row.tenant_uuid,
            workspace_uuid=row.workspace_uuid,
            domain=row.domain,
            data_type=row.data_type,
            data_bytes=row.data_bytes,
            req_ctx=row.req_ctx,
        )
        for row in sample_commands(count, tenants=3)
    ]
    records = [encode(command) for command in commands]
    found: dict[str, dict[str, float]] = {}
    sealings = {
        name: (crypto, stores(crypto), Sealing(crypto, as_hex=False, drive=BlockingDrive()))
        for name, crypto in services().items()
    }
    for _ in range(ROUNDS):
        for name, (crypto, store, sealing) in sealings.items():
            best = found.setdefault(name, {})
            sealed = batches(sealing, records)
            assert batches(sealing, sealed[:10], opening=True) == records[:10]
            assert (sealed[0].data == records[0].data) is (crypto is None)
            for what, work in (
                ("create_many", lambda store=store: store.create_many(commands)),
                ("seal", lambda sealing=sealing: batches(sealing, records)),
                ("open", lambda sealing=sealing, sealed=sealed: batches(sealing, sealed, opening=True)),
            ):
                best[what] = min(best.get(what, float("inf")), microseconds(work, count))
    print(f"Python {platform.python_version()}, {platform.machine()}; {count:,} commands of about 600 bytes")
    print(f"{'us a command':<16}" + "".join(f"{head:>14}" for head in ("create_many", "added", "seal", "open")))
    slow = False
    for name, best in found.items():
        added = best["create_many"] - found["plain"]["create_many"]
        slow |= added > MOST_MICROSECONDS
        numbers = (best["create_many"], added, best["seal"], best["open"])
        print(f"{name:<16}" + "".join(f"{number:>14.2f}" for number in numbers))
    print(f"encryption adds {'more than' if slow else 'at most'} {MOST_MICROSECONDS:g} us a command")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
