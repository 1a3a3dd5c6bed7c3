"""A wire to a new bucket, over a client that fails on demand: after the effect, before it, or while it is read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from botocore.exceptions import ReadTimeoutError

from commandstore.aws.retry import Retry
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.s3.faults import Place
from commandstore.s3.wire import Wire, connect, located
from commandstore.testing.faults import Script
from commandstore.testing.faults.client import TornBody, faulty_session

NO_PAUSE = Retry(base=0.0, longest=0.0)
_numbers = itertools.count(1)


class Faults(Script):
    """What is to go wrong next, by the SDK's name of the method."""

    def lose(self, method: str, times: int = 1) -> None:
        """The next such requests have their effect, and their answers are lost."""
        super().lose(method, ReadTimeoutError(endpoint_url="http://127.0.0.1"), times)


class Wired:
    """A bucket under one drive."""

    def __init__(self, endpoint: str, drive: str) -> None:
        self.faults = Faults()
        self.is_async = drive == "async"
        self.place = located(Place(f"wire-{next(_numbers)}", "stage/", None, endpoint), None)
        self._runner = asyncio.Runner() if self.is_async else None
        self._drive: Drive = AsyncDrive() if self.is_async else BlockingDrive()
        self._stack = AsyncExitStack()
        self._client = self.do(
            connect(
                self._drive,
                self._stack,
                place=self.place,
                profile=None,
                concurrency=4,
                session=faulty_session(self.faults, is_async=self.is_async),
            )
        )
        self.wire = self.to()

    def to(self, *, prefix: str | None = None, bucket: str | None = None, **options: Any) -> Wire:
        """Another wire over the same client."""
        place = self.place._replace(
            prefix=self.place.prefix if prefix is None else prefix, bucket=bucket or self.place.bucket
        )
        settings = {"retry": NO_PAUSE, "concurrency": 4, "put_options": {}, "owner": None, **options}
        return Wire(self._client, self._drive, place, **settings)

    def do(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine) if self._runner else run(coroutine)

    def tear(self) -> None:
        """The next body ends before its time."""
        self.faults.answer("get_object", lambda a: {**a, "Body": TornBody(a["Body"], is_async=self.is_async)})

    def close(self) -> None:
        self.do(self._stack.aclose())
        self._drive.close()
        if self._runner:
            self._runner.close()


def wired(endpoint: str, drive: str) -> Iterator[Wired]:
    bucket = Wired(endpoint, drive)
    try:
        bucket.do(bucket.wire.create_bucket())
        yield bucket
    finally:
        bucket.close()
