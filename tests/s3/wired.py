"""A wire to a new bucket, over a client that fails on demand: after the effect, before it, or while it is read."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError

from commandstore.aws.retry import Retry
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.s3.faults import Place
from commandstore.s3.wire import Wire, connect, located
from faulty_client import faulty_session

NO_PAUSE = Retry(base=0.0, longest=0.0)
_numbers = itertools.count(1)


class Faults:
    """What is to go wrong next, by the SDK's name of the method; each fault is used once."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._before: list[tuple[str, Callable[[], object]]] = []
        self._after: list[tuple[str, Callable[[Any], Any]]] = []

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Do this before the next such request; what it raises, the request raises."""
        self._before.append((method, action))

    def fail(self, method: str, error: Exception, times: int = 1) -> None:
        """The next such requests fail, without effect."""

        def refuse() -> None:
            raise error

        for _ in range(times):
            self.before(method, refuse)

    def lose(self, method: str, times: int = 1) -> None:
        """The next such requests have their effect, and their answers are lost."""

        def lost(_: Any) -> Any:
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

        for _ in range(times):
            self.answer(method, lost)

    def answer(self, method: str, change: Callable[[Any], Any]) -> None:
        """Change the next such answer."""
        self._after.append((method, change))

    def sent(self, method: str, request: dict[str, Any]) -> None:
        self.calls[method] += 1
        self.requests.append((method, request))
        for index, (name, action) in enumerate(self._before):
            if name == method:
                del self._before[index]
                action()
                return

    def came(self, method: str, answer: dict[str, Any]) -> dict[str, Any]:
        for index, (name, change) in enumerate(self._after):
            if name == method:
                del self._after[index]
                changed: dict[str, Any] = change(answer)
                return changed
        return answer


class TornBody:
    """A body that ends before its time. The real one is read first, so that its connection is free again."""

    def __init__(self, body: Any, *, is_async: bool) -> None:
        self._body, self._is_async = body, is_async
        self.closed = False

    def read(self) -> Any:
        if self._is_async:
            return self._read()
        self._body.read()
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    async def _read(self) -> bytes:
        await self._body.read()
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    def close(self) -> None:
        self.closed = True
        self._body.close()


def client_error(code: str, status: int = 400, message: str = "as the engine says it", **more: Any) -> ClientError:
    """A refusal; ``more`` are further fields of its ``Error``, but for ``headers``."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": more.pop("headers", {})}
    return ClientError({"Error": {"Code": code, "Message": message, **more}, "ResponseMetadata": metadata}, "Operation")


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
