"""How fast a SQLite database goes to a store in memory, and that memory does not grow with its size.

    uv run python benchmarks/sqlite_to_memory.py [--large 1000000]

Builds two databases of comby's generation C (10,000 commands and a million, of about 600 bytes), syncs each in a
process of its own to a destination that only counts, and prints the rate and the peak memory. The rate is also measured
with the real memory store, which keeps what it is given.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from commandstore import CommandStore, open_store, sync_command_store
from commandstore.contract import CREATED
from commandstore.memory import MemoryBackend
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

SMALL = 10_000


class Counting(MemoryBackend):
    """Takes every command and keeps none, so that what is measured is the sync's own memory."""

    async def insert(self, records, write_id):  # noqa: ANN001, ANN201, ARG002
        return [CREATED] * len(records)


def measure(path: str, *, keep: bool) -> dict[str, float]:
    destination = CommandStore(MemoryBackend() if keep else Counting())
    destination.init()
    with open_store(f"sqlite:///{path}", read_only=True) as source:
        began, cpu = time.perf_counter(), time.process_time()
        report = sync_command_store(source, destination)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    each = cpu / report.copied * 1e6
    return {"count": report.copied, "rate": report.copied / wall, "cpu_us": each, "peak_mb": peak_megabytes()}


def peak_megabytes() -> float:
    """Of this process. getrusage would do, but Linux hands its maximum on from the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_a_process(path: Path, *, keep: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(path), *(["--keep"] if keep else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--measure")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, keep=arguments.keep)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for count in (SMALL, arguments.large):
            path = Path(folder) / f"{count}.db"
            create_sqlite(path, "C")
            insert_sqlite(path, sample_commands(count, tenants=3))
            results[count] = in_a_process(path, keep=False)
        kept = in_a_process(Path(folder) / f"{arguments.large}.db", keep=True)
    small, large = results[SMALL], results[arguments.large]
    print(f"Python {platform.python_version()}, {platform.machine()}, one process")
    print(f"{'commands':>12} {'commands/s':>12} {'us CPU each':>12} {'peak MB':>10}")
    for found in (small, large):
        print(f"{found['count']:>12,} {found['rate']:>12,.0f} {found['cpu_us']:>12.1f} {found['peak_mb']:>10.1f}")
    print(f"into the memory store, which keeps them: {kept['rate']:,.0f} commands/s, {kept['cpu_us']:.1f} us CPU each")
    print(f"peak memory grew by {large['peak_mb'] - small['peak_mb']:.1f} MB")


if __name__ == "__main__":
    main()
