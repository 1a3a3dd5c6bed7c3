"""A table on an engine, and a client that fails on demand: after the effect, before it, or with another answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import orjson
from botocore.exceptions import ReadTimeoutError

from commandstore.aws.retry import Retry
from commandstore.contract import Backend
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import Creation
from commandstore.store import CommandStore
from commandstore.testing.conformance import OverAsync
from commandstore.testing.faults import Script
from commandstore.testing.faults.client import client_error, faulty_session

NO_PAUSE = Retry(base=0.0, longest=0.0)
_BODY = "commandstore_body"
_numbers = itertools.count(1)


class Faults(Script):
    """What is to go wrong next, by the SDK's name of the method; answers are changed as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[tuple[str, Any]] = []

    def fail(self, method: str, code: str, status: int = 400, times: int = 1) -> None:
        """The next such requests fail, without effect."""
        super().fail(method, client_error(code, status), times)

    def lose(self, method: str, times: int = 1) -> None:
        """The next such requests have their effect, and their answers are lost."""
        super().lose(method, ReadTimeoutError(endpoint_url="http://127.0.0.1"), times)

    def forget(self) -> None:
        """Nothing is to go wrong any more."""
        self._before.clear()
        self._after.clear()

    def sent(self, method: str, request: dict[str, Any]) -> None:
        body = request["Body"]
        self.bodies.append((method, orjson.loads(body if isinstance(body, bytes) else body.getvalue())))
        super().sent(method, request)

    def changed(self, answer: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
        return answer | {_BODY: orjson.dumps(change(orjson.loads(answer[_BODY])))}


class Rig:
    """One table under one drive."""

    def __init__(self, endpoint: str, drive: str, **options: Any) -> None:
        self.endpoint = endpoint
        self.table = f"rig-{next(_numbers)}"
        self.faults = Faults()
        self.options = options
        self.is_async = drive == "async"
        self._runner = asyncio.Runner() if self.is_async else None
        self._closing: list[Callable[[], object]] = []
        self.raw = boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def make(self, **options: Any) -> DynamoDBBackend:
        """A backend that isn't open; ``faults`` hold for every one of this rig."""
        settings = {
            "endpoint_url": self.endpoint,
            "creation": Creation(tenant_shards=2, time_shards=3),
            "retry": NO_PAUSE,
            "session": faulty_session(self.faults, is_async=self.is_async),
            **self.options,
            **options,
        }
        return DynamoDBBackend(self.table, **settings)

    def open(self, backend: DynamoDBBackend | None = None, *, create: bool = True, **options: Any) -> DynamoDBBackend:
        backend = backend or self.make(**options)
        drive: Drive = AsyncDrive() if self.is_async else BlockingDrive()
        self.do(backend.open(drive, create=create))
        self._closing += [lambda: self.do(backend.close()), drive.close]
        return backend

    def store(self, **options: Any) -> CommandStore:
        backend: Backend = self.make(**options)
        store = OverAsync(backend, self._runner) if self._runner else CommandStore(backend)
        store.init()
        self._closing.append(store.close)
        return store

    def do(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine) if self._runner else run(coroutine)

    def items(self) -> list[dict[str, Any]]:
        """Everything in the table but the settings, read past the library."""
        pages = self.raw.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"] if item["part"]["S"] != "settings"]

    def parts(self) -> set[tuple[str, str]]:
        return {(i["uuid"]["S"], i["part"]["S"]) for i in self.items() if "." in i["part"]["S"]}

    def head(self, command_uuid: str) -> dict[str, Any]:
        return self.raw.get_item(
            TableName=self.table, Key={"uuid": {"S": command_uuid}, "part": {"S": "head"}}, ConsistentRead=True
        ).get("Item", {})

    def close(self) -> None:
        for close in reversed(self._closing):
            close()
        self.raw.close()
        if self._runner:
            self._runner.close()


def rigs(endpoint: str, drive: str, **options: Any) -> Iterator[Rig]:
    rig = Rig(endpoint, drive, **options)
    try:
        yield rig
    finally:
        rig.close()
