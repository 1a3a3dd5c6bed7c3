"""Stores over a client that dies, forgets an answer, or lets somebody else in, at a chosen request."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from commandstore.aws.retry import Retry
from commandstore.command import Command
from commandstore.s3.backend import S3Backend
from commandstore.store import CommandStore
from commandstore.testing.conformance import OverAsync
from commandstore.testing.engines import Engine
from commandstore.testing.faults.client import client_error, faulty_session
from s3.wired import NO_PAUSE

BUCKET = "stores"
WRITES = {"put_object", "delete_object"}
_numbers = itertools.count(1)


class Killed(BaseException):
    """The process ended here: no handler of the store's may come between."""


class Script:
    """What happens at which request of a store; requests are counted from 1, from ``begin`` on."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._before: dict[int, Callable[[], object]] = {}
        self._after: dict[int, Callable[[], object]] = {}
        self._dead = False
        self._slow: bool | None = None

    def before(self, number: int, action: Callable[[], object]) -> None:
        """Do this before that request has its effect; what it raises, the request raises."""
        self._before[number] = action

    def after(self, number: int, action: Callable[[], object]) -> None:
        """Do this when that request has had its effect; what it raises, comes instead of its answer."""
        self._after[number] = action

    def die(self) -> None:
        """Nothing is sent from here on."""
        self._dead = True
        raise Killed

    def lose(self) -> None:
        """The answer doesn't come."""
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    def slow_down(self) -> None:
        """The engine is busy."""
        raise client_error("SlowDown", 503)

    def fail_reads_once(self) -> None:
        """Each request that only reads is refused, and answered when it is sent again."""
        self._slow = True

    @property
    def writes(self) -> list[int]:
        """The numbers of the requests that change the bucket; of many deletions in a row, of the first and the last."""
        methods = ["", *(method for method, _ in self.requests), ""]
        return [
            number
            for number, method in enumerate(methods)
            if method in WRITES and set(methods[number - 1 : number + 2]) != {"delete_object"}
        ]

    # As the client calls them

    def sent(self, method: str, request: dict[str, Any]) -> None:
        if self._dead:
            raise Killed
        self.requests.append((method, request))
        self._before.pop(len(self.requests), _nothing)()
        if self._slow is not None and method not in WRITES:
            self._slow = not self._slow
            if not self._slow:
                self.slow_down()

    def came(self, method: str, answer: dict[str, Any]) -> dict[str, Any]:
        del method
        self._after.pop(len(self.requests), _nothing)()
        return answer


def _nothing() -> None:
    return None


class Stores:
    """Places in one bucket, opened as often as one likes, and read past the library."""

    def __init__(self, engine: Engine, drive: str = "blocking") -> None:
        self.engine = engine
        self.raw = boto3.client("s3", config=Config(s3={"addressing_style": "path"}), **engine.client_arguments)
        self.raw.create_bucket(Bucket=BUCKET)
        self._runner = asyncio.Runner() if drive == "async" else None
        self.latest = ""

    def close(self) -> None:
        self.raw.close()
        if self._runner:
            self._runner.close()

    @contextmanager
    def open(
        self, prefix: str, script: Script | None = None, *, concurrency: int = 1, retry: Retry = NO_PAUSE
    ) -> Iterator[CommandStore]:
        """A store, as a process of its own would open it. With one request at a time they come in one order."""
        backend = S3Backend(
            BUCKET,
            prefix,
            endpoint_url=self.engine.endpoint,
            concurrency=concurrency,
            retry=retry,
            session=faulty_session(script or Script(), is_async=self._runner is not None),
        )
        store = OverAsync(backend, self._runner) if self._runner else CommandStore(backend)
        store.init()
        try:
            if script is not None:
                script.begin()
            yield store
        finally:
            store.close()

    # Past the library

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Everything that lies there, by the key within the prefix."""
        pages = self.raw.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {
            key.removeprefix(f"{prefix}/"): self.raw.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys
        }

    def put(self, prefix: str, objects: dict[str, bytes]) -> None:
        for key, body in objects.items():
            self.raw.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=body)

    def remove(self, prefix: str) -> None:
        for key in self.objects(prefix):
            self.raw.delete_object(Bucket=BUCKET, Key=f"{prefix}/{key}")

    def place(self, objects: dict[str, bytes] | None = None) -> str:
        """A prefix that nobody used, with these objects."""
        self.latest = f"place-{next(_numbers)}"
        self.put(self.latest, objects or {})
        return self.latest


def referred(objects: dict[str, bytes]) -> set[str]:
    """The keys that a store's manifest refers to, with itself."""
    manifest = json.loads(objects["manifest.json"])
    parts = [f"parts/{part['id']}.json" for part in manifest["parts"]]
    listed = [segment for key in parts for segment in json.loads(objects[key])["segments"]]
    segments = [*manifest["segments"], *listed]
    names = [partition[1] for partition in manifest["partitions"]]
    names += [manifest["recent"]["id"]] if manifest["recent"] else []
    return {
        "manifest.json",
        *parts,
        *(f"indexes/{segment['id']}.json" for segment in segments),
        *(f"segments/{segment['id']}.jsonl" for segment in segments if segment["size"]),
        *(f"directories/{name}" for name in names),
    }


def holding(objects: dict[str, bytes], command: Command) -> set[str]:
    """The keys of objects with a command's payload, which must be in no other command."""
    payload = base64.b64encode(command.data_bytes)
    return {key for key, body in objects.items() if payload in body}


def listed(store: CommandStore) -> dict[str, Command]:
    """What a store lists."""
    page = store.list(limit=-1)
    found = {command.command_uuid: command for command in page.commands}
    assert page.corrupt == ()
    assert page.total == len(page.commands) == len(found), "a command was listed twice, or counted otherwise"
    return found


def everything(store: CommandStore, uuids: Collection[str] = ()) -> dict[str, Command]:
    """What a store holds, by every way of reading, which must agree; ``uuids`` are asked for one by one, too."""
    found = listed(store)
    assert list(found.values()) == sorted(found.values(), key=lambda c: (c.created_at, c.command_uuid))
    assert list(store.scan(ascending=False)) == list(found.values())[::-1]
    assert store.total() == len(found)
    assert store.get_many({*uuids, *found}) == found
    for uuid in uuids:
        assert store.get(uuid) == found.get(uuid)
    for tenant in {command.tenant_uuid for command in found.values()}:
        own = {uuid for uuid, command in found.items() if command.tenant_uuid == tenant}
        some, total = store.list(tenant_uuid=tenant, limit=-1)
        assert ({command.command_uuid for command in some}, total) == (own, len(own))
    return found
