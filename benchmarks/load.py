"""Many commands through the sync into each backend: do memory, descriptors and the cost of a command stay as they were?

    uv run python benchmarks/load.py [--count 1000000] [--into memory,sqlite,postgres,s3,dynamodb,firestore] [--engine]

A SQLite database of comby's is synced into each, in a process of its own, and that process is looked at after each
tenth. S3 is a server in another process that keeps objects in memory, DynamoDB and Firestore are such as only say yes;
with ``--engine`` they are ministack and Google's emulator. At the end stand a list of 100, a get and a total, where
anything is kept.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from s3_server import S3Server
from yes_server import YesServer

from commandstore import CommandStore, SyncProgress, open_store, sync_command_store
from commandstore.contract import Backend
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

PARTS = 10
TRIES = 5


class Sample(NamedTuple):
    """The process after so many commands.

    Attributes:
        commands: so many.
        seconds: of processor time since the beginning.
        megabytes: resident.
        descriptors: open.
        requests: sent to an engine of AWS since the beginning.
        sent: bytes of their bodies.
        calls: of Python functions by this thread, where they are counted: a cost that no busy machine changes.
    """

    commands: int
    seconds: float
    megabytes: float
    descriptors: int
    requests: int
    sent: int
    calls: int


class Load(NamedTuple):
    """What a run showed.

    Attributes:
        samples: at the beginning, and after each part.
        milliseconds: of a list of 100, of a get and of a total; empty where the engine keeps nothing.
    """

    samples: list[Sample]
    milliseconds: dict[str, float]

    def each(self, what: Callable[[Sample], float]) -> list[float]:
        """What a command of each part took of something that adds up."""
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return [(what(after) - what(before)) / (after.commands - before.commands) for before, after in pairs]


def loaded(
    source: str,
    into: CommandStore,
    count: int,
    sent: Counter[str],
    *,
    parts: int = PARTS,
    with_calls: bool = False,
    **settings: Any,
) -> Load:
    """Sync, and look at this process after each part."""
    samples: list[Sample] = []
    calls = 0

    def called(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event == "call"

    def look(done: int) -> None:
        status = Path("/proc/self/statm").read_text().split()
        megabytes = int(status[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        samples.append(
            Sample(done, time.process_time(), megabytes, descriptors, sent["requests"], sent["bytes"], calls)
        )

    def progress(now: SyncProgress) -> None:
        if now.copied >= count * len(samples) // parts:
            look(now.copied)

    with open_store(source, read_only=True) as store:
        look(0)
        sys.setprofile(called if with_calls else None)
        report = sync_command_store(store, into, progress=progress, **settings)
        sys.setprofile(None)
    assert report.copied == count, report
    return Load(samples, {})


def read(into: CommandStore, count: int) -> dict[str, float]:
    """Milliseconds of what is read at the end: the least of some, as noise only adds."""
    uuid = into.list(limit=1, ascending=False, with_total=False).commands[0].command_uuid
    wanted: dict[str, Callable[[], object]] = {
        "list of 100": lambda: len(into.list(limit=100, ascending=False, with_total=False).commands) == min(100, count),
        "get": lambda: into.get(uuid) is not None,
        "total": lambda: into.total() == count,
    }
    found = {}
    for name, work in wanted.items():
        times = []
        for _ in range(TRIES):
            began = time.perf_counter()
            assert work(), name
            times.append(time.perf_counter() - began)
        found[name] = min(times) * 1000
    return found


def counting(sent: Counter[str], service: str) -> Any:
    """A session whose clients count the requests that they send, and the bytes."""
    import boto3  # noqa: PLC0415 - for AWS's backends alone

    def count(request: Any, **_: Any) -> None:
        sent["requests"] += 1
        sent["bytes"] += int(request.headers.get("Content-Length", 0))

    made = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")  # noqa: S106
    made.events.register(f"before-send.{service}", count)
    return made


@contextmanager
def destination(kind: str, folder: Path, sent: Counter[str], endpoint: str = "") -> Iterator[Backend]:
    """A backend of this kind; with an endpoint, on the engine there."""
    if kind == "s3":
        from commandstore.s3.backend import S3Backend  # noqa: PLC0415 - as above

        def at(url: str) -> Backend:
            return S3Backend("bench", "load", region="us-east-1", endpoint_url=url, session=counting(sent, "s3"))

        server: Any = S3Server()
    elif kind == "dynamodb":
        from commandstore.dynamodb.backend import DynamoDBBackend  # noqa: PLC0415 - as above

        def at(url: str) -> Backend:
            session = counting(sent, "dynamodb")
            return DynamoDBBackend(YesServer.table, region="us-east-1", endpoint_url=url, session=session)

        server = YesServer()
    else:
        from commandstore.registry import backend_from_url  # noqa: PLC0415 - as above

        with ExitStack() as stack:
            urls = {
                "memory": "memory://",
                "sqlite": f"sqlite:///{folder / 'into.db'}",
                "postgres": endpoint,
                "firestore": "firestore://yes/commands",
            }
            if kind == "firestore" and not endpoint:
                from firestore_create_many import serving  # noqa: PLC0415 - it needs Google's SDK

                stack.enter_context(serving())
            yield backend_from_url(urls[kind])
        return
    if endpoint:
        yield at(endpoint)
        return
    with server as url:
        yield at(url)


def measured(kind: str, source: str, count: int, folder: Path, endpoint: str, **how: Any) -> Load:
    """One run in this process."""
    sent: Counter[str] = Counter()
    with destination(kind, folder, sent, endpoint) as backend:
        store = CommandStore(backend)
        store.init()
        gc.collect()
        load = loaded(source, store, count, sent, **how)
        keeps = kind not in {"dynamodb", "firestore"} or bool(endpoint)
        load = load._replace(milliseconds=read(store, count) if keeps else {})
        store.close()
    return load


@contextmanager
def engines(wanted: Sequence[str], *, real: bool) -> Iterator[dict[str, str]]:
    """The engines' endpoints by backend; Firestore's is in the environment. Of Postgres there is nothing else."""
    from commandstore.testing.engines import Ministack  # noqa: PLC0415 - only where they are wanted
    from commandstore.testing.firestore import FirestoreEmulator  # noqa: PLC0415 - as above
    from commandstore.testing.postgres import Postgres  # noqa: PLC0415 - as above

    with ExitStack() as stack:
        found = {}
        if "postgres" in wanted:
            found["postgres"] = stack.enter_context(stack.enter_context(Postgres()).database())
        if real and {"s3", "dynamodb"} & set(wanted):
            url = stack.enter_context(Ministack()).url
            found |= {"s3": url, "dynamodb": url}
        if real and "firestore" in wanted:
            url = stack.enter_context(FirestoreEmulator()).url.removeprefix("http://")
            found["firestore"] = os.environ["FIRESTORE_EMULATOR_HOST"] = url
        yield found


def lines(kind: str, load: Load) -> Iterator[str]:
    """What a run showed, as people read it."""
    yield f"{kind}: us of processor time, requests for a thousand and bytes sent of each command, by part"
    yield f"  {'commands':>12} {'us':>8} {'requests':>9} {'sent':>8} {'MB resident':>12} {'descriptors':>12}"
    figures = zip(
        load.samples[1:],
        load.each(lambda sample: sample.seconds * 1e6),
        load.each(lambda sample: sample.requests * 1e3),
        load.each(lambda sample: sample.sent),
        strict=True,
    )
    for sample, each, requests, sent in figures:
        yield (
            f"  {sample.commands:>12,} {each:>8.1f} {requests:>9.2f} {sent:>8,.0f} {sample.megabytes:>12.0f} "
            f"{sample.descriptors:>12}"
        )
    yield "  at the end: " + (
        ", ".join(f"{n} {ms:,.2f} ms" for n, ms in load.milliseconds.items()) or "nothing is kept"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--into", default="memory,sqlite,postgres,s3,dynamodb,firestore")
    parser.add_argument("--engine", action="store_true", help="ministack and the emulator, in place of plain servers")
    parser.add_argument("--measure", nargs=4, metavar=("KIND", "SOURCE", "FOLDER", "ENDPOINT"), help=argparse.SUPPRESS)
    parser.add_argument("--how", type=json.loads, default={}, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        kind, source, folder, endpoint = options.measure
        print(json.dumps(measured(kind, source, options.count, Path(folder), endpoint, **options.how)))
        return
    wanted = options.into.split(",")
    print(f"Python {platform.python_version()}, {platform.machine()}; {options.count:,} commands of about 600 bytes")
    with tempfile.TemporaryDirectory() as folder, engines(wanted, real=options.engine) as found:
        path = Path(folder) / "source.db"
        create_sqlite(path, "C")
        insert_sqlite(path, sample_commands(options.count, tenants=3))
        for kind in wanted:
            given = [kind, f"sqlite:///{path}", folder, found.get(kind, "")]
            command = [sys.executable, __file__, f"--count={options.count}", "--measure", *given]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ourselves
            samples, milliseconds = json.loads(said)
            print("\n".join(lines(kind, Load([Sample(*one) for one in samples], milliseconds))), flush=True)


if __name__ == "__main__":
    main()
