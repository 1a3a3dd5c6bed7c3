"""The measurements of table.py, each made in a process of its own: ``python measures.py NAME COUNT [PLACE]``.

Prints its numbers as JSON. Microseconds are processor time of the process (all its threads) per command of 600 bytes; a
server that only says yes, or one that keeps objects in memory, is another process and isn't counted. Rates and
milliseconds are by the clock on the wall.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import itertools
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

from dynamodb_create_many import batch_writer, commands, cost, ours, ours_async
from yes_server import YesServer

from commandstore import Command, CommandStore, codec, open_store, sync_command_store
from commandstore.contract import CREATED
from commandstore.drive import run
from commandstore.memory import MemoryBackend

PAGE = 100
TRIES = 21
EACH = 500
"""What goes by a request each takes long: so many commands are enough to know it."""


class Counting(MemoryBackend):
    """Takes every command and keeps none."""

    async def insert(self, records, write_id):  # noqa: ANN001, ANN201, ARG002
        return [CREATED] * len(records)


# DynamoDB


def _against_yes(what: Callable[[str, list[Command]], None], count: int) -> float:
    given = list(commands(count))
    with YesServer() as endpoint:
        return cost(what, endpoint, given, rounds=1)


def dynamodb(count: int, _: str) -> float:
    return _against_yes(ours, count)


def dynamodb_async(count: int, _: str) -> float:
    return _against_yes(ours_async, count)


def dynamodb_boto3(count: int, _: str) -> float:
    return _against_yes(batch_writer, count)


def _item(command: Command) -> dict[str, Any]:
    return {
        "uuid": command.command_uuid,
        "part": "head",
        "created_at": command.created_at,
        "instance_id": command.instance_id,
        "tenant_uuid": command.tenant_uuid,
        "workspace_uuid": command.workspace_uuid,
        "domain": command.domain,
        "data_type": command.data_type,
        "data": command.data_bytes,
        "req_ctx": command.req_ctx,
    }


def dynamodb_aioboto3(count: int, _: str) -> float:
    import aioboto3  # noqa: PLC0415 - each measurement imports its own peer
    from boto3.dynamodb.types import Binary  # noqa: PLC0415 - as above

    async def write(endpoint: str, given: list[Command]) -> None:
        session = aioboto3.Session(
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - the server believes anything
            region_name="us-east-1",
        )
        async with session.resource("dynamodb", endpoint_url=endpoint) as resource:
            table = await resource.Table(YesServer.table)
            async with table.batch_writer() as writer:
                for command in given:
                    item = _item(command)
                    await writer.put_item(Item={**item, "data": Binary(item["data"])})

    return _against_yes(lambda endpoint, given: asyncio.run(write(endpoint, given)), count)


def dynamodb_pynamodb(count: int, _: str) -> float:
    from pynamodb.attributes import BinaryAttribute, NumberAttribute, UnicodeAttribute  # noqa: PLC0415 - as above
    from pynamodb.models import Model  # noqa: PLC0415 - as above

    def write(endpoint: str, given: list[Command]) -> None:
        class Row(Model):
            class Meta:
                table_name = YesServer.table
                host = endpoint
                region = "us-east-1"
                aws_access_key_id = "local"
                aws_secret_access_key = "local"  # noqa: S105 - as above

            uuid = UnicodeAttribute(hash_key=True)
            part = UnicodeAttribute(range_key=True)
            created_at = NumberAttribute()
            instance_id = NumberAttribute()
            tenant_uuid = UnicodeAttribute()
            workspace_uuid = UnicodeAttribute()
            domain = UnicodeAttribute()
            data_type = UnicodeAttribute()
            data = BinaryAttribute(legacy_encoding=False)
            req_ctx = UnicodeAttribute()

        with Row.batch_write() as batch:
            for command in given:
                batch.save(Row(**_item(command)))

    return _against_yes(write, count)


# S3


def s3(count: int, _: str) -> float:
    return _s3(count, tls=False)


def s3_tls(count: int, _: str) -> float:
    return _s3(count, tls=True)


def _s3(count: int, *, tls: bool) -> float:
    from s3_create_many import portions, session  # noqa: PLC0415 - as above
    from s3_server import S3Server  # noqa: PLC0415 - as above

    from commandstore.s3.backend import S3Backend  # noqa: PLC0415 - as above

    def into(endpoint: str, prefix: str, given: Iterator[Iterator[Command]]) -> float:
        made = S3Backend("bench", prefix, region="us-east-1", endpoint_url=endpoint, session=session())
        with CommandStore(made) as store:
            store.init()
            began = time.process_time()
            for portion in given:
                assert store.create_many(portion).created
            return time.process_time() - began

    with S3Server(tls=tls) as endpoint:
        into(endpoint, "warm", portions(EACH))
        gc.collect()
        spent = into(endpoint, "many", portions(count))
    began = time.process_time()
    for portion in portions(count):
        for _command in portion:
            pass
    return (spent - (time.process_time() - began)) / count * 1e6


def s3_each(count: int, _: str) -> float:
    from s3_create_many import one_put_each  # noqa: PLC0415 - as above
    from s3_server import S3Server  # noqa: PLC0415 - as above

    with S3Server() as endpoint:
        return one_put_each(endpoint, list(commands(min(count, EACH))))


# Firestore


@cache
def _firestore() -> Any:
    """The module, with its server running until this process ends."""
    import firestore_create_many as bench  # noqa: PLC0415 - as above

    stack = ExitStack()
    stack.enter_context(bench.serving())
    atexit.register(stack.close)
    return bench


def _against_firestore(name: str, count: int) -> float:
    bench = _firestore()
    return bench.cost(getattr(bench, name), list(commands(count)), rounds=1)


def firestore(count: int, _: str) -> float:
    return _against_firestore("ours", count)


def firestore_async(count: int, _: str) -> float:
    return _against_firestore("ours_async", count)


def firestore_bulk_writer(count: int, _: str) -> float:
    return _against_firestore("bulk_writer", count)


def firestore_batch(count: int, _: str) -> float:
    return _against_firestore("batch", count)


# The whole sync


def _sync(source: str, into: CommandStore, count: int) -> tuple[float, float]:
    """Commands a second, and microseconds of each."""
    with open_store(source, read_only=True) as store:
        began, spent = time.perf_counter(), time.process_time()
        report = sync_command_store(store, into)
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
    assert report.copied == count, report
    return count / seconds, spent / count * 1e6


def sync_counting(count: int, source: str) -> tuple[float, float]:
    into = CommandStore(Counting())
    into.init()
    return _sync(source, into, count)


def sync_s3(count: int, source: str) -> tuple[float, float]:
    from s3_server import S3Server  # noqa: PLC0415 - as above

    with S3Server() as endpoint, open_store(f"s3://bench/sync?endpoint_url={endpoint}", create=True) as into:
        return _sync(source, into, count)


def sync_dynamodb(count: int, source: str) -> tuple[float, float]:
    with YesServer() as endpoint, open_store(f"dynamodb://{YesServer.table}?endpoint_url={endpoint}") as into:
        return _sync(source, into, count)


# Lists


def _best(read: Callable[[], int], expected: int) -> float:
    """Milliseconds of one: the least of some, as noise only adds."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        assert read() == expected
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def _lists(store: CommandStore) -> tuple[float, float, float]:
    """The slower one of the oldest and the newest hundred; the same with the total; a get."""
    uuid = store.list(limit=1).commands[0].command_uuid  # what is made once is no page's cost

    def page(*, ascending: bool, total: bool) -> float:
        return _best(lambda: len(store.list(limit=PAGE, ascending=ascending, with_total=total).commands), PAGE)

    each, counted = (max(page(ascending=up, total=total) for up in (True, False)) for total in (False, True))
    return each, counted, _best(lambda: store.get(uuid) is not None, True)


def list_memory(count: int, _: str) -> tuple[float, float, float]:
    store = CommandStore(MemoryBackend())
    store.init()
    every = commands(count)
    while batch := [codec.encode(command) for command in itertools.islice(every, 1000)]:
        run(store.core.backend.insert(batch, batch[0].command_uuid))
    return _lists(store)


def list_sql(_: int, source: str) -> tuple[float, float, float]:
    with open_store(source, read_only=True) as store:
        return _lists(store)


_PLAIN = "SELECT * FROM commands ORDER BY created_at DESC, id DESC LIMIT 100"


def list_sqlite3(_: int, source: str) -> float:
    with closing(sqlite3.connect(source.removeprefix("sqlite:///"))) as connection:
        return _best(lambda: len(connection.execute(_PLAIN).fetchall()), PAGE)


def list_sqlalchemy(_: int, source: str) -> float:
    import sqlalchemy  # noqa: PLC0415 - as above

    engine = sqlalchemy.create_engine(source)

    def read() -> int:
        with engine.connect() as connection:
            return len(connection.execute(sqlalchemy.text(_PLAIN)).mappings().fetchall())

    return _best(read, PAGE)


# Starts


def _start(*command: str) -> float:
    """Milliseconds until a process has come and gone."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return (time.perf_counter() - began) * 1000


def _import(module: str) -> float:
    code = f"import time; t = time.perf_counter(); import {module}; print((time.perf_counter() - t) * 1000)"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)  # noqa: S603


def start_python(*_: object) -> float:
    return _start(sys.executable, "-c", "pass")


def start_import(*_: object) -> float:
    """The import alone; and that it brings no SDK."""
    sdk = "{'boto3', 'botocore', 'sqlalchemy', 'google', 'grpc', 'aioboto3', 'psycopg', 'cryptography', 'typer'}"
    check = f"import sys, commandstore; assert not {sdk} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", check], check=True)  # noqa: S603 - our own
    return _import("commandstore")


def start_boto3(*_: object) -> float:
    return _import("boto3")


def start_cli(*_: object) -> float:
    return _start(sys.executable, "-m", "commandstore", "--help")


MEASURES = {name: made for name, made in vars().items() if callable(made) and not name.startswith("_")}


if __name__ == "__main__":
    # Credentials of whoever measures are nobody's business here, and looking for them takes time.
    os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}
    sys.path.insert(0, str(Path(__file__).parent))
    print(json.dumps(MEASURES[sys.argv[1]](int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")))
