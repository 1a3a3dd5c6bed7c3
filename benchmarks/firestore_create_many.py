"""What a command costs the client: ``create_many`` to Firestore beside the SDK's bulk writer; the server says yes.

    uv run python benchmarks/firestore_create_many.py [--commands 20000] [--rounds 3]

Processor time of this process (all threads) per command of 600 bytes, the best of the rounds. The server is another
process. The target for ``create_many`` is 30 us, facade included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from dynamodb_create_many import PAYLOAD, commands
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import Client
from google.cloud.firestore_v1.bulk_writer import BulkWriterOptions
from google.cloud.firestore_v1.types import firestore as messages

from commandstore import Command, open_async_store, open_store
from commandstore.firestore.layout import settings_values
from commandstore.firestore.values import fill
from commandstore.testing.processes import free_port

TARGET = 30.0
URL = "firestore://yes/commands"


class Yes(grpc.GenericRpcHandler):
    """Every write is done; the only documents that there are then are the settings, and what was committed."""

    def __init__(self) -> None:
        self._committed: dict[str, Any] = {}

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method.endswith("/Commit"):
            asked, said = messages.CommitRequest.pb(), messages.CommitResponse.pb()
            return grpc.unary_unary_rpc_method_handler(self.commit, asked.FromString, said.SerializeToString)
        if handler_call_details.method.endswith("/BatchWrite"):
            asked, said = messages.BatchWriteRequest.pb(), messages.BatchWriteResponse.pb()
            return grpc.unary_unary_rpc_method_handler(self.write, asked.FromString, said.SerializeToString)
        asked, said = messages.BatchGetDocumentsRequest.pb(), messages.BatchGetDocumentsResponse.pb()
        return grpc.unary_stream_rpc_method_handler(self.get, asked.FromString, said.SerializeToString)

    def write(self, asked: Any, context: Any) -> Any:
        del context
        said = messages.BatchWriteResponse.pb()()
        for _ in asked.writes:
            said.write_results.add().update_time.seconds = 1_700_000_000
            said.status.add()
        return said

    def commit(self, asked: Any, context: Any) -> Any:
        del context
        said = messages.CommitResponse.pb()()
        for write in asked.writes:
            self._committed[write.update.name] = write.update
            said.write_results.add().update_time.seconds = 1_700_000_000
        return said

    def get(self, asked: Any, context: Any) -> Iterator[Any]:
        del context
        for name in asked.documents:
            said = messages.BatchGetDocumentsResponse.pb()()
            if name in self._committed:
                said.found.CopyFrom(self._committed[name])
            elif name.endswith("settings"):
                said.found.name = name
                fill(said.found.fields, settings_values(8))
            else:
                said.missing = name
            yield said


def serve(port: int) -> None:
    server = grpc.server(
        futures.ThreadPoolExecutor(4), handlers=[Yes()], options=[("grpc.max_receive_message_length", -1)]
    )
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(0)


def ours(given: list[Command]) -> None:
    with open_store(URL) as store:
        assert len(store.create_many(given).created) == len(given)


def ours_async(given: list[Command]) -> None:
    async def main() -> None:
        async with await open_async_store(URL) as store:
            assert len((await store.create_many(given)).created) == len(given)

    asyncio.run(main())


def bulk_writer(given: list[Command]) -> None:
    """The same commands as the same kind of document, by the SDK's own bulk path, its throttle lifted."""
    client = Client("yes", AnonymousCredentials())
    writer = client.bulk_writer(BulkWriterOptions(initial_ops_per_second=10**9, max_ops_per_second=10**9))
    collection = client.collection("commands")
    for command in given:
        writer.create(collection.document("c" + command.command_uuid), command.model_dump())
    writer.close()
    client.close()


def batch(given: list[Command]) -> None:
    """The same by the SDK's batches, of the 500 writes that a commit may have."""
    client = Client("yes", AnonymousCredentials())
    collection = client.collection("commands")
    for start in range(0, len(given), 500):
        writes = client.batch()
        for command in given[start : start + 500]:
            writes.create(collection.document("c" + command.command_uuid), command.model_dump())
        writes.commit()
    client.close()


@contextmanager
def serving() -> Iterator[None]:
    """The server, in another process, for all that this one does."""
    port = free_port()
    os.environ["FIRESTORE_EMULATOR_HOST"] = f"127.0.0.1:{port}"
    with subprocess.Popen(  # noqa: S603 - this file itself
        [sys.executable, __file__, f"--serve={port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        yield
        assert server.stdin is not None
        server.stdin.close()


def cost(what: Callable[[list[Command]], None], given: list[Command], rounds: int) -> float:
    """Microseconds of processor time a command; the least of the rounds, as noise only adds."""
    what(given[:500])  # imports, connections
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        what(given)
        best = min(best, time.process_time() - start)
    return best / len(given) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    given = list(commands(options.commands))
    with serving():
        theirs = cost(bulk_writer, given, options.rounds)
        commits = cost(batch, given, options.rounds)
        blocking = cost(ours, given, options.rounds)
        with_loop = cost(ours_async, given, options.rounds)
    print(f"client CPU per command of {PAYLOAD} bytes, {options.commands:,} commands, best of {options.rounds}")
    print(f"  the SDK's bulk_writer         {theirs:6.1f} us")
    print(f"  the SDK's batch()             {commits:6.1f} us")
    print(f"  CommandStore.create_many      {blocking:6.1f} us   {theirs / blocking:.1f} times less")
    print(f"  AsyncCommandStore.create_many {with_loop:6.1f} us   {theirs / with_loop:.1f} times less")
    print(f"  target for create_many        {TARGET:6.1f} us   {'reached' if blocking <= TARGET else 'MISSED'}")


if __name__ == "__main__":
    main()
