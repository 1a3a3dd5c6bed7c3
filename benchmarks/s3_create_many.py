"""What a command costs the client: ``create_many`` to S3 beside one PUT for each, and what reading all of them takes.

    uv run python benchmarks/s3_create_many.py [--commands 200000] [--puts 2000]

Processor time of this process per command of 600 bytes. The commands come from a generator, so that memory shows what
the store takes; what making them costs is measured apart and taken off. The server is another process that keeps
objects in memory. Targets: 8 us, and 1,500 PUTs for a million commands.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import boto3
from botocore.config import Config
from dynamodb_create_many import PAYLOAD, commands
from s3_server import S3Server

from commandstore import Command
from commandstore.s3.backend import S3Backend
from commandstore.store import CommandStore

TARGET = 8.0
MOST_PUTS = 1500
PORTION = 100_000


def session() -> Any:
    return boto3.Session(
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - the server believes anything
        region_name="us-east-1",
    )


def one_put_each(endpoint: str, given: list[Command]) -> float:
    """The same commands as one JSON object each, created conditionally."""
    client = session().client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
    start = time.process_time()
    for command in given:
        body = json.dumps(command.model_dump(mode="json")).encode()
        client.put_object(Bucket="bench", Key=f"each/{command.command_uuid}.json", Body=body, IfNoneMatch="*")
    spent = time.process_time() - start
    client.close()
    return spent / len(given) * 1e6


def megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def counted(calls: Counter[str]) -> Any:
    """A session whose clients count their requests."""
    made = session()
    made.events.register("before-send.s3", lambda request, **_: calls.update([request.method]))
    return made


def portions(count: int) -> Iterator[Iterator[Command]]:
    """The commands in generators of ``PORTION``, so that create_many's own result doesn't grow with the million."""
    every = commands(count)
    for _ in range(0, count, PORTION):
        yield islice(every, PORTION)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--puts", type=int, default=2_000)
    options = parser.parse_args()
    with S3Server() as endpoint:
        each = one_put_each(endpoint, list(commands(options.puts)))
        calls: Counter[str] = Counter()
        backend = S3Backend("bench", "many", region="us-east-1", endpoint_url=endpoint, session=counted(calls))
        store = CommandStore(backend)
        store.init()
        memory, calls_before = [megabytes()], calls.copy()
        spent = 0.0
        done = 0
        for portion in portions(options.commands):
            start = time.process_time()
            done += len(store.create_many(portion).created)
            spent += time.process_time() - start
            memory.append(megabytes())
        start = time.process_time()
        for portion in portions(options.commands):
            deque(portion, maxlen=0)
        spent -= time.process_time() - start
        puts = calls["PUT"] - calls_before["PUT"]
        ours = spent / options.commands * 1e6
        start = time.process_time()
        read = sum(1 for _ in store.scan())
        reading = (time.process_time() - start) / options.commands * 1e6
        assert read == done == options.commands
        after_reading = megabytes()
        store.close()
        with open_store_again(endpoint) as again:
            assert again.total() == options.commands
    print(f"client CPU per command of {PAYLOAD} bytes, {options.commands:,} commands")
    print(f"  one PUT each             {each:8.1f} us")
    print(f"  CommandStore.create_many {ours:8.1f} us   {each / ours:.0f} times less")
    print(f"  CommandStore.scan        {reading:8.1f} us")
    print(f"  target for create_many   {TARGET:8.1f} us   {'reached' if ours <= TARGET else 'MISSED'}")
    print(f"PUTs {puts:,}, at most {MOST_PUTS:,} for a million")
    print(f"peak memory in MB: {' '.join(map(str, memory))} written, {after_reading} read")


def open_store_again(endpoint: str) -> CommandStore:
    store = CommandStore(S3Backend("bench", "many", region="us-east-1", endpoint_url=endpoint, session=session()))
    store.init()
    return store


if __name__ == "__main__":
    main()
