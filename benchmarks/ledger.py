"""What the ledger costs a command: its leaf, the tree, the bodies, the signature, and a whole batch with all of them.

    uv run python benchmarks/ledger.py [--count 100000]

The parts are measured over 10,000 leaves, as many as an entry has at most. Then the same commands are created in, and
synced to, a store that keeps no command, so that what the ledger adds is not lost in what a store costs: with a signer
and without one, in turn, and of each the quickest of five. CPU time of this process, on one thread.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from commandstore import Command, CommandStore, open_store, sync_command_store
from commandstore.contract import CREATED
from commandstore.ledger.entry import sign, state
from commandstore.ledger.leaves import Leaf, Op, hashes_of, pack, unpack
from commandstore.ledger.merkle import path_to, root_from_path, root_of
from commandstore.ledger.signing import Ed25519Signer, Signer, Verifier
from commandstore.memory import MemoryBackend
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

LEAVES = 10_000
TRIES = 5
BUDGET = 3.0


class Counting(MemoryBackend):
    """Takes every command and keeps none; its registers, and so the ledger, are kept."""

    async def insert(self, records, write_id):  # noqa: ANN001, ANN201, ARG002
        return [CREATED] * len(records)


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def quickest(work: Callable[[], object], tries: int = 20) -> float:
    return min(cpu(work) for _ in range(tries))


def parts(signer: Signer) -> None:
    start = 1_735_689_600_000_000_000
    fields = [(str(uuid.uuid4()), os.urandom(32), start + number) for number in range(LEAVES)]
    leaves = [Leaf(Op.CREATE, *one) for one in fields]
    hashes, bodies = hashes_of(leaves), pack(leaves)

    def entry():  # noqa: ANN202
        return state(leaves, previous=None, kind="sync", commands=1, time=0, parts=len(bodies), signer=signer)

    made = entry()
    signed, verifier = sign(made, signer), Verifier(signer.public_key())
    path, root = path_to(hashes, 77), root_of(hashes)
    assert root_from_path(hashes[77], 77, LEAVES, path) == root
    print(f"us a command, of {LEAVES:,}")
    writing = {
        "make the leaf": lambda: [Leaf(1, one, digest, at) for one, digest, at in fields],
        "make the entry (hashes, root, positions)": entry,
        "  of which: hash the leaves": lambda: hashes_of(leaves),
        "  of which: the tree above them": lambda: root_of(hashes),
        "pack the bodies": lambda: pack(leaves),
        "sign the entry, with Ed25519": lambda: sign(made, signer),
    }
    total = 0.0
    for name, work in writing.items():
        each = quickest(work) / LEAVES * 1e6
        total += 0 if name.startswith(" ") else each
        print(f"  {name:<42} {each:8.3f}")
    print(f"  {'together':<42} {total:8.3f}   (at most {BUDGET} are allowed)")
    auditing = {
        "an audit: unpack the bodies": lambda: unpack(bodies),
        "an audit: check the signature": lambda: verifier.check(signed),
    }
    for name, work in auditing.items():
        print(f"  {name:<42} {quickest(work) / LEAVES * 1e6:8.3f}")
    print(f"  bodies: {sum(map(len, bodies)) / LEAVES:.0f} bytes a command, in {len(bodies)} parts")


def whole(count: int, signer: Signer) -> None:
    rows = list(sample_commands(count, tenants=3))
    commands = [
        Command(row.uuid, row.created_at, row.instance_id, row.tenant_uuid, row.workspace_uuid, row.domain,
                row.data_type, row.data_bytes, row.req_ctx)
        for row in rows
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.db"
        create_sqlite(path, "C")
        insert_sqlite(path, iter(rows))

        def create(store: CommandStore) -> int:
            return len(store.create_many(commands).created)

        def sync(store: CommandStore) -> int:
            with open_store(f"sqlite:///{path}", read_only=True) as source:
                return sync_command_store(source, store).copied

        # The collector has no need to walk what is the benchmark's own.
        gc.collect()
        gc.freeze()
        print(f"\n{'us CPU a command, of ' + format(count, ','):<44} {'without':>8} {'with':>8} {'ledger':>8}")
        for name, work in (("create_many", create), ("sync from SQLite", sync)):
            took: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(TRIES):
                for with_signer in (False, True):
                    took[with_signer].append(_once(work, count, signer if with_signer else None))
            without, recorded = min(took[False]), min(took[True])
            added = recorded - without
            spread = statistics.median(took[True]) - statistics.median(took[False])
            print(f"  {name:<42} {without:8.2f} {recorded:8.2f} {added:8.2f}  (medians: {spread:.2f})")


def _once(work: Callable[[CommandStore], int], count: int, signer: Signer | None) -> float:
    store = CommandStore(Counting())
    store.init(signer=signer)
    began = time.process_time()
    done = work(store)
    took = time.process_time() - began
    assert done == count
    store.close()
    return took / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    arguments = parser.parse_args()
    signer = Ed25519Signer.generate()
    print(f"Python {platform.python_version()}, {platform.machine()}, one process")
    parts(signer)
    whole(arguments.count, signer)


if __name__ == "__main__":
    main()
