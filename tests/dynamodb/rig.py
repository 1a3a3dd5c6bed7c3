"""A table on an engine, and a client that fails on demand: after the effect, before it, or with another answer."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import orjson
from botocore.exceptions import ClientError, ReadTimeoutError

from commandstore.aws.retry import Retry
from commandstore.contract import Backend
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import Creation
from commandstore.store import CommandStore
from commandstore.testing.conformance import OverAsync
from faulty_client import faulty_session

NO_PAUSE = Retry(base=0.0, longest=0.0)
_BODY = "commandstore_body"
_numbers = itertools.count(1)


class Faults:
    """What is to go wrong next, by the SDK's name of the method; each fault is used once."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: list[tuple[str, Any]] = []
        self._before: list[tuple[str, Callable[[], object]]] = []
        self._after: list[tuple[str, Callable[[Any], Any]]] = []

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Do this before the next such request; what it raises, the request raises."""
        self._before.append((method, action))

    def fail(self, method: str, code: str, status: int = 400, times: int = 1) -> None:
        """The next such requests fail, without effect."""

        def refuse() -> None:
            raise client_error(code, status)

        for _ in range(times):
            self.before(method, refuse)

    def lose(self, method: str, times: int = 1) -> None:
        """The next such requests have their effect, and their answers are lost."""

        def lost(_: Any) -> Any:
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

        for _ in range(times):
            self.answer(method, lost)

    def answer(self, method: str, change: Callable[[Any], Any]) -> None:
        """Change the JSON of the next such answer."""
        self._after.append((method, change))

    def sent(self, method: str, request: dict[str, Any]) -> None:
        self.calls[method] += 1
        body = request["Body"]
        self.bodies.append((method, orjson.loads(body if isinstance(body, bytes) else body.getvalue())))
        for index, (name, action) in enumerate(self._before):
            if name == method:
                del self._before[index]
                action()
                return

    def came(self, method: str, answer: dict[str, Any]) -> dict[str, Any]:
        for index, (name, change) in enumerate(self._after):
            if name == method:
                del self._after[index]
                return answer | {_BODY: orjson.dumps(change(orjson.loads(answer[_BODY])))}
        return answer


def client_error(code: str, status: int = 400, message: str = "as the engine says it") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation"
    )


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
