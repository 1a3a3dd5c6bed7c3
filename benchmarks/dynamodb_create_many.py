"""What a command costs the client: ``create_many`` beside boto3's ``batch_writer``, against a server that says yes.

    uv run python benchmarks/dynamodb_create_many.py [--commands 20000] [--rounds 3]

Processor time of this process (all threads) per command of 600 bytes, the best of the rounds. The server is another
process. The target for ``create_many`` is 45 us, facade included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator

import boto3
from boto3.dynamodb.types import Binary
from yes_server import YesServer

from commandstore import Command, open_async_store, open_store

PAYLOAD = 600
TARGET = 45.0
CONTEXT = '{"senderTenantUuid":"9b2e7c9a-0d5f-4c8e-9f1a-2f6f5f0c7a11","executeWaitToFinish":true}'


def commands(count: int) -> Iterator[Command]:
    data = os.urandom(PAYLOAD)
    tenants = [str(uuid.uuid4()) for _ in range(3)]
    for number in range(count):
        yield Command(
            str(uuid.UUID(int=number * 7919 + (1 << 120))),
            1_700_000_000_000_000_000 + number,
            1,
            tenants[number % 3],
            "",
            "account",
            "RegisterAccountCommand",
            data,
            CONTEXT,
        )


def ours(endpoint: str, given: list[Command]) -> None:
    with open_store(f"dynamodb://{YesServer.table}?endpoint_url={endpoint}") as store:
        assert len(store.create_many(given).created) == len(given)


def ours_async(endpoint: str, given: list[Command]) -> None:
    async def main() -> None:
        async with await open_async_store(f"dynamodb://{YesServer.table}?endpoint_url={endpoint}") as store:
            assert len((await store.create_many(given)).created) == len(given)

    asyncio.run(main())


def batch_writer(endpoint: str, given: list[Command]) -> None:
    """The same commands as the same kind of item, by the SDK's own bulk path."""
    table = boto3.resource(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - the server believes anything
    ).Table(YesServer.table)
    with table.batch_writer() as writer:
        for command in given:
            writer.put_item(
                Item={
                    "uuid": command.command_uuid,
                    "part": "head",
                    "created_at": command.created_at,
                    "instance_id": command.instance_id,
                    "tenant_uuid": command.tenant_uuid,
                    "workspace_uuid": command.workspace_uuid,
                    "domain": command.domain,
                    "data_type": command.data_type,
                    "data": Binary(command.data_bytes),
                    "req_ctx": command.req_ctx,
                }
            )
    table.meta.client.close()


def cost(what: Callable[[str, list[Command]], None], endpoint: str, given: list[Command], rounds: int) -> float:
    """Microseconds of processor time a command; the least of the rounds, as noise only adds."""
    what(endpoint, given[:500])  # imports, models, connections
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        what(endpoint, given)
        best = min(best, time.process_time() - start)
    return best / len(given) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    given = list(commands(options.commands))
    with YesServer() as endpoint:
        theirs = cost(batch_writer, endpoint, given, options.rounds)
        blocking = cost(ours, endpoint, given, options.rounds)
        with_loop = cost(ours_async, endpoint, given, options.rounds)
    print(f"client CPU per command of {PAYLOAD} bytes, {options.commands:,} commands, best of {options.rounds}")
    print(f"  boto3 batch_writer            {theirs:6.1f} us")
    print(f"  CommandStore.create_many      {blocking:6.1f} us   {theirs / blocking:.1f} times less")
    print(f"  AsyncCommandStore.create_many {with_loop:6.1f} us   {theirs / with_loop:.1f} times less")
    print(f"  target for create_many        {TARGET:6.1f} us   {'reached' if blocking <= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
