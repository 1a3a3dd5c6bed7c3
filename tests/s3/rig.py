"""Stores in a bucket of an engine, over a client that fails on demand, and a look past them at what lies there."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from commandstore.s3.backend import S3Backend
from commandstore.store import CommandStore
from commandstore.testing.conformance import OverAsync
from commandstore.testing.engines import Engine
from commandstore.testing.faults.client import faulty_session
from s3.wired import NO_PAUSE, Faults

PREFIX = "audit/log/"
_numbers = itertools.count(1)
_load = cache(JSONFileLoader().load_file)


class Careless(Faults):
    """An engine that passes over parameters, which are left out on the way there."""

    def __init__(self, *parameters: str) -> None:
        super().__init__()
        self._parameters = parameters

    def sent(self, method: str, request: dict[str, Any]) -> None:
        super().sent(method, dict(request))
        for name in self._parameters:
            request.pop(name, None)


class Rig:
    """One bucket, and stores under one prefix of it."""

    def __init__(self, engine: Engine, drive: str = "blocking") -> None:
        self.engine = engine
        self.bucket = f"rig-{next(_numbers)}"
        self.faults = Faults()
        self.is_async = drive == "async"
        self._runner = asyncio.Runner() if self.is_async else None
        self._closing: list[Callable[[], object]] = []
        settings = Config(s3={"addressing_style": "path"})
        self.raw = boto3.client("s3", config=settings, **engine.client_arguments)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{PREFIX[:-1]}?region=us-east-1&endpoint_url={self.engine.endpoint}"

    def make(self, **options: Any) -> CommandStore:
        """A store that isn't open."""
        session = faulty_session(self.faults, is_async=self.is_async)
        settings = {"endpoint_url": self.engine.endpoint, "retry": NO_PAUSE, "session": session, **options}
        backend = S3Backend(self.bucket, PREFIX, **settings)
        return OverAsync(backend, self._runner) if self._runner else CommandStore(backend)

    def open(self, *, create: bool = False, **options: Any) -> CommandStore:
        """A store that knows nothing yet of what lies there."""
        store = self.make(**options)
        self._closing.append(store.close)
        store.init(create=create)
        return store

    # Past the store

    def create_bucket(self, **options: Any) -> None:
        self.raw.create_bucket(Bucket=self.bucket, **options)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys within the prefix."""
        pages = self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX + prefix)
        return sorted(item["Key"].removeprefix(PREFIX) for page in pages for item in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        body: bytes = self.raw.get_object(Bucket=self.bucket, Key=PREFIX + key)["Body"].read()
        return body

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read("manifest.json"))
        return found

    def write(self, key: str, data: bytes) -> None:
        self.raw.put_object(Bucket=self.bucket, Key=PREFIX + key, Body=data)

    def delete(self, key: str) -> None:
        self.raw.delete_object(Bucket=self.bucket, Key=PREFIX + key)

    def objects(self) -> dict[str, bytes]:
        """All of the bucket."""
        pages = self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: self.raw.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def written(self) -> list[tuple[str, str]]:
        """The requests that were to change something, and their keys."""
        reads = {"get_object", "list_objects_v2", "get_object_lock_configuration"}
        return [(method, request.get("Key", "")) for method, request in self.faults.requests if method not in reads]

    def close(self) -> None:
        for close in reversed(self._closing):
            close()
        self.raw.close()
        if self._runner:
            self._runner.close()


def rigs(engine: Engine, drive: str = "blocking") -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        # Each client reads the SDK's description of the service anew, which takes longer than a test: read it once.
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: _load(path))
        rig = Rig(engine, drive)
        try:
            yield rig
        finally:
            rig.close()
