"""Every figure of docs/performance.md in one run: ours, the target, and the named peers beside us.

    uv run python benchmarks/table.py [--rounds 3] [--only WORD] [--json FILE] [--plot FILE.svg] [--quick]

Each measurement is a process of its own (measures.py), all of them in turn, and that as often as there are rounds, so
that a machine that is busy for a while slows all alike. Of each the best counts, as noise only adds. PynamoDB is no
dependency: its process gets it from ``uv run --with pynamodb``, and without uv or a network its row stays empty.
A JSON file that is there counts as further rounds, so that they may be made when the machine is quiet; ``--only`` makes
those measurements whose name begins so (dynamodb, s3, firestore, sync, list, start, verify, ledger, encryption).
``--quick`` makes everything once with a few commands, to see that it works: its figures say nothing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
MICROSECONDS, MILLISECONDS, RATE, TIMES = "us", "ms", "/s", "x"


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        group: what stands together.
        what: is measured.
        unit: of target and figures; rates are better the higher, all else the lower.
        target: None where there is none of its own.
        ours: the name of the measurement, and which of its numbers.
        peers: what stands beside it: a label, and the same of its measurement.
    """

    group: str
    what: str
    unit: str
    target: float | None
    ours: str
    peers: Mapping[str, str] = {}


DYNAMODB = {
    "boto3 batch_writer": "dynamodb_boto3",
    "PynamoDB batch_write": "dynamodb_pynamodb",
    "aioboto3 batch_writer": "dynamodb_aioboto3",
}
FIRESTORE = {"SDK bulk_writer": "firestore_bulk_writer", "SDK batch()": "firestore_batch"}
SQL = {"sqlite3 SELECT": "list_sqlite3", "SQLAlchemy SELECT": "list_sqlalchemy"}
ROWS = (
    Row("create_many", "DynamoDB", MICROSECONDS, 35, "dynamodb", DYNAMODB),
    Row("create_many", "DynamoDB, async", MICROSECONDS, 35, "dynamodb_async", DYNAMODB),
    Row("create_many", "S3", MICROSECONDS, 8, "s3", {"one PUT each": "s3_each"}),
    Row("create_many", "S3, over TLS", MICROSECONDS, None, "s3_tls"),
    Row("create_many", "Firestore", MICROSECONDS, 30, "firestore", FIRESTORE),
    Row("create_many", "Firestore, async", MICROSECONDS, 30, "firestore_async", FIRESTORE),
    Row("whole sync", "SQLite to S3", RATE, 25_000, "sync_s3"),
    Row("whole sync", "SQLite to S3, processor", MICROSECONDS, None, "sync_s3.1"),
    Row("whole sync", "SQLite to DynamoDB", RATE, 10_000, "sync_dynamodb"),
    Row("whole sync", "SQLite to DynamoDB, processor", MICROSECONDS, None, "sync_dynamodb.1"),
    Row("whole sync", "to S3: SQLite's rate by Postgres's", TIMES, 4 / 3, "sync_s3/sync_postgres_s3"),
    Row("whole sync", "to DynamoDB: SQLite's by Postgres's", TIMES, 4 / 3, "sync_dynamodb/sync_postgres_dynamodb"),
    Row("whole sync", "SQLite, only counted", RATE, None, "sync_sqlite"),
    Row("whole sync", "SQLite, only counted, processor", MICROSECONDS, None, "sync_sqlite.1"),
    Row("whole sync", "Postgres, only counted", RATE, None, "sync_postgres"),
    Row("whole sync", "Postgres, only counted, processor", MICROSECONDS, None, "sync_postgres.1"),
    Row("whole sync", "only counted: SQLite's by Postgres's", TIMES, 4 / 3, "sync_sqlite/sync_postgres"),
    Row("reads", "memory: list of 100", MILLISECONDS, 2, "list_memory"),
    Row("reads", "memory: with the total", MILLISECONDS, None, "list_memory.1"),
    Row("reads", "memory: get", MILLISECONDS, None, "list_memory.2"),
    Row("reads", "SQLite: list of 100", MILLISECONDS, 2, "list_sql", SQL),
    Row("reads", "SQLite: with the total", MILLISECONDS, None, "list_sql.1"),
    Row("reads", "SQLite: get", MILLISECONDS, None, "list_sql.2"),
    Row("starts", "import commandstore", MILLISECONDS, 80, "start_import", {"import boto3": "start_boto3"}),
    Row("starts", "commandstore --help", MILLISECONDS, 300, "start_cli", {"python -c pass": "start_python"}),
    Row("proof", "verify, memory to memory", RATE, 100_000, "verify"),
    Row("proof", "ledger, added", MICROSECONDS, 3, "ledger"),
    Row("proof", "encryption, added", MICROSECONDS, 4, "encryption"),
)

# Scripts of their own, which print more than the one figure that is taken here: their options, and where it stands.
SCRIPTS = {
    "verify": (("--commands", "--s3"), r"commands: ([\d,]+) commands/s"),
    "ledger": (("--count",), r"together +([\d.]+)"),
    "encryption": (("--count",), r"EnvelopeCrypto +[\d.]+ +(-?[\d.]+)"),
}
POSTGRES = "sync_postgres"
SYNCS = {
    "sync_sqlite": "sync_counting",
    POSTGRES: "sync_counting",
    f"{POSTGRES}_s3": "sync_s3",
    f"{POSTGRES}_dynamodb": "sync_dynamodb",
}
"""The same measurement of another source."""


class Counts(NamedTuple):
    """How many commands, of each kind of measurement."""

    written: int
    synced: int
    listed: int
    proved: int


FULL = Counts(written=20_000, synced=100_000, listed=1_000_000, proved=100_000)
QUICK = Counts(written=60, synced=120, listed=120, proved=100)


class Table:
    """Measures, and keeps the best of each.

    Args:
        counts: of commands.
        quick: in this process, each once.
        only: measurements that begin so.
        databases: by the first part of a measurement's name, the source that it reads.
    """

    def __init__(self, counts: Counts, databases: Mapping[str, str], *, quick: bool, only: str = "") -> None:
        self.best: dict[str, list[float]] = {}
        self._only = only
        self._counts = counts
        self._databases = databases
        self._quick = quick

    def round(self) -> None:
        """Everything once."""
        for name in self._names():
            found = self._measure(name)
            if found is not None:
                self.add(name, found)

    def add(self, name: str, found: list[float]) -> None:
        """Keep the better one of each number."""
        kept = self.best.setdefault(name, found)
        higher = name.startswith(("sync", "verify"))
        self.best[name] = [
            max(pair) if higher and at == 0 else min(pair) for at, pair in enumerate(zip(kept, found, strict=True))
        ]

    def _names(self) -> Iterator[str]:
        wanted = {
            part.partition(".")[0] for row in ROWS for one in (row.ours, *row.peers.values()) for part in one.split("/")
        }
        yield from sorted(name for name in wanted if name.startswith(self._only))

    def _measure(self, name: str) -> list[float] | None:
        kind = name.partition("_")[0]
        if name in SCRIPTS:
            return self._script(name)
        if name.startswith(POSTGRES) and POSTGRES not in self._databases:
            return None
        count = {"sync": self._counts.synced, "list": self._counts.listed}.get(kind, self._counts.written)
        if name in {"s3", "s3_tls"}:
            count *= 10  # else its directories are never merged
        place = self._databases.get(POSTGRES if name.startswith(POSTGRES) else kind, "")
        peer = name == "dynamodb_pynamodb"
        if self._quick and peer:
            return None
        return self._run(SYNCS.get(name, name), count, place, with_pynamodb=peer)

    def _run(self, name: str, count: int, place: str, *, with_pynamodb: bool) -> list[float] | None:
        if self._quick:
            import measures  # noqa: PLC0415 - else each has a process of its own

            found = measures.MEASURES[name](count, place)
        else:
            python = ["uv", "run", "--with", "pynamodb", "python"] if with_pynamodb else [sys.executable]
            if with_pynamodb and shutil.which("uv") is None:
                return None
            said = subprocess.run(  # noqa: S603 - our own
                [*python, str(HERE / "measures.py"), name, str(count), place],
                check=False,
                capture_output=True,
                text=True,
            )
            if said.returncode and with_pynamodb:
                print(f"no PynamoDB: {said.stderr.strip()[-200:]}", file=sys.stderr)
                return None
            if said.returncode:
                raise SystemExit(f"{name} failed:\n{said.stderr}")
            found = json.loads(said.stdout.splitlines()[-1])
        return list(found) if isinstance(found, list | tuple) else [found]

    def _script(self, name: str) -> list[float]:
        options, pattern = SCRIPTS[name]
        given = [part for option in options for part in (option, str(self._counts.proved))]
        # It may end with 1, where its own target is missed; the table says so in its way.
        said = subprocess.run(  # noqa: S603 - our own
            [sys.executable, str(HERE / f"{name}.py"), *given], check=False, capture_output=True, text=True
        )
        found = re.search(pattern, said.stdout)
        if found is None:
            raise SystemExit(f"{name}.py failed:\n{said.stdout}{said.stderr}")
        return [float(found[1].replace(",", ""))]

    def figure(self, named: str) -> float | None:
        """Of ``measurement``, ``measurement.NUMBER`` or ``one/another``."""
        if "/" in named:
            above, below = (self.figure(part) for part in named.split("/"))
            return None if above is None or below is None else above / below
        name, _, at = named.partition(".")
        return self.best[name][int(at or 0)] if name in self.best else None

    def rows(self) -> list[dict[str, object]]:
        """The table as JSON's values."""
        return [
            {
                "group": row.group,
                "what": row.what,
                "unit": row.unit,
                "target": row.target,
                "ours": self.figure(row.ours),
                "peers": {label: self.figure(name) for label, name in row.peers.items()},
            }
            for row in ROWS
        ]


def reached(row: Mapping[str, object]) -> bool | None:
    """Whether ours is within the target; None where one of the two is missing."""
    ours, target = row["ours"], row["target"]
    if not isinstance(ours, int | float) or not isinstance(target, int | float):
        return None
    return ours >= target if row["unit"] == RATE else ours <= target


def shown(value: object, unit: str) -> str:
    """A figure as people read it."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if unit == RATE or value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def lines(rows: list[dict[str, object]]) -> Iterator[str]:
    """The table in Markdown."""
    yield "| | | target | ours | | beside us |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        unit = str(row["unit"])
        ours, peers = row["ours"], row["peers"]
        assert isinstance(peers, dict)
        beside = []
        for label, value in peers.items():
            times = f" ({value / ours:.1f}x)" if value and ours and row["group"] == "create_many" else ""
            beside.append(f"{label} {shown(value, unit)}{times}")
        said = {True: "met", False: "**missed**", None: ""}[reached(row)]
        target = "" if row["target"] is None else f"{shown(row['target'], unit)} {unit}"
        figure = f"{shown(ours, unit)} {unit}"
        yield f"| {row['group']} | {row['what'].strip()} | {target} | {figure} | {said} | {', '.join(beside)} |"


def machine() -> str:
    """What it ran on."""
    try:
        model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def sources(stack: ExitStack, counts: Counts, only: str, *, quick: bool) -> dict[str, str]:
    """Databases as comby makes them: for the sync, for lists, and one in Postgres where there is any."""
    from commandstore.testing.comby import (  # noqa: PLC0415 - a measurement's process needs none of it
        create_postgres,
        create_sqlite,
        insert_postgres,
        insert_sqlite,
        sample_commands,
    )
    from commandstore.testing.postgres import Postgres  # noqa: PLC0415 - as above

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    found = {}
    for name, count in (("sync", counts.synced), ("list", counts.listed)):
        if not name.startswith(only[:4]):
            continue
        path = folder / f"{name}.db"
        create_sqlite(path, "C")
        insert_sqlite(path, sample_commands(count, tenants=3))
        found[name] = f"sqlite:///{path}"
    if Postgres.available() and not quick and "sync" in found:
        url = stack.enter_context(stack.enter_context(Postgres()).database())
        create_postgres(url, "C")
        insert_postgres(url, sample_commands(counts.synced, tenants=3))
        found[POSTGRES] = url
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    counts = QUICK if options.quick else FULL
    with ExitStack() as stack:
        rounds = 1 if options.quick else options.rounds
        places = sources(stack, counts, options.only, quick=options.quick)
        table = Table(counts, places, quick=options.quick, only=options.only)
        before = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
        for name, found in before.get("best", {}).items():
            table.add(name, found)
        for number in range(rounds):
            busy = os.getloadavg()[0]
            table.round()
            print(f"round {number + 1} of {rounds}; load before {busy:.1f}", file=sys.stderr)
    rows = table.rows()
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    rounds += before.get("rounds", 0)
    about = {"date": today, "machine": machine(), "rounds": rounds, "rows": rows, "best": table.best}
    print(f"{about['date']}, {about['machine']}; best of {rounds}; commands of about 600 bytes\n")
    print("\n".join(lines(rows)))
    if options.json:
        options.json.write_text(json.dumps(about, indent=1) + "\n")
    if options.plot:
        from plot import drawn  # noqa: PLC0415 - beside this file

        options.plot.write_text(drawn(about))


if __name__ == "__main__":
    main()
