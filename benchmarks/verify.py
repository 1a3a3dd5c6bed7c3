"""How fast two stores that are equal are verified, and what share that is of reading all their payloads.

    uv run python benchmarks/verify.py [--commands 1000000] [--s3 100000]

Two measurements, over commands of about 600 bytes, all of them equal:

* memory against memory: what the comparing itself costs, in processor time. Target: 100,000 commands/s for a million.
* memory against S3, which keeps a digest beside each command: time and bytes received of the verification, with and
  without ``payloads``, beside those of a scan that reads all payloads. The server is another process that keeps objects
  in memory, so the time is that of this process and the way between the two; over a network, bytes count for more.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from dynamodb_create_many import PAYLOAD, commands
from s3_create_many import session
from s3_server import S3Server

from commandstore import Command, CommandStore, codec
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication import verify_command_stores
from commandstore.s3.backend import S3Backend

TARGET = 100_000
PORTION = 1000


def in_memory(given: Iterator[Command]) -> CommandStore:
    """A store with these commands, each a record of its own."""
    store = CommandStore(MemoryBackend())
    store.init()
    while batch := [codec.encode(command) for command in islice(given, PORTION)]:
        run(store.core.backend.insert(batch, batch[0].command_uuid))
    store.list(limit=1)  # sorts, as any first list does
    return store


def compared(source: CommandStore, destination: CommandStore, count: int, **settings: Any) -> float:
    """Seconds of processor time of a verification that finds them equal."""
    began = time.process_time()
    report = verify_command_stores(source, destination, **settings)
    seconds = time.process_time() - began
    assert report.clean
    assert report.compared == count
    return seconds


def receiving(received: Counter[str]) -> Any:
    """A session whose clients count the requests and the bytes that they receive."""
    made = session()

    def count(http_response: Any = None, **_: Any) -> None:
        received["requests"] += 1
        received["bytes"] += int(http_response.headers.get("content-length") or 0)

    made.events.register("after-call.s3", count)
    return made


def beside_s3(count: int) -> None:
    source = in_memory(commands(count))
    with S3Server() as endpoint:
        received: Counter[str] = Counter()
        backend = S3Backend("bench", "verify", region="us-east-1", endpoint_url=endpoint, session=receiving(received))
        store = CommandStore(backend)
        store.init()
        assert len(store.create_many(source.scan()).created) == count
        store.close()
        print(f"memory against S3, {count:,} commands")
        print(f"  {'':<28} {'seconds':>9} {'commands/s':>12} {'requests':>9} {'MB received':>12} {'share':>7}")
        whole = 0.0
        for name in ("scan of all payloads", "verify", "verify, payloads=True"):
            store.init()
            received.clear()
            began = time.perf_counter()
            if name.startswith("scan"):
                assert sum(1 for _ in store.scan()) == count
            else:
                compared(source, store, count, payloads="payloads" in name)
            seconds = time.perf_counter() - began
            megabytes = received["bytes"] / 1e6
            whole = whole or megabytes
            print(
                f"  {name:<28} {seconds:>9.2f} {count / seconds:>12,.0f} {received['requests']:>9,} "
                f"{megabytes:>12.1f} {megabytes / whole:>7.0%}"
            )
            store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--s3", type=int, default=100_000)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, one process, commands of {PAYLOAD} bytes")
    beside_s3(options.s3)
    source = in_memory(commands(options.commands))
    destination = in_memory(source.scan())
    rate = options.commands / compared(source, destination, options.commands)
    print(f"memory against memory, {options.commands:,} commands: {rate:,.0f} commands/s")
    print(f"target {TARGET:,} commands/s: {'reached' if rate >= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
