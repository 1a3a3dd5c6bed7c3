"""Clients of boto3 and aioboto3 that fail on demand, by a script or by a plan (``aws.py``)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Protocol

import boto3
from botocore.exceptions import ClientError, IncompleteReadError

from commandstore.testing.faults.script import Passage

__all__ = ["Intercepts", "TornBody", "client_error", "faulty_client", "faulty_session"]


class Intercepts(Protocol):
    """What a wrapped client asks before and after each request."""

    def sent(self, method: str, request: dict[str, Any]) -> Passage | None:
        """A request is about to be sent: raise, change it in place, or say how it goes through."""

    def came(self, method: str, answer: Any) -> Any:
        """Its answer came: raise, or return what the caller gets."""


class _FaultyClient:
    def __init__(self, client: Any, faults: Intercepts, *, is_async: bool) -> None:
        self._client, self._faults, self._is_async = client, faults, is_async

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method) or name in {"close", "get_paginator"}:
            return method

        def call(**request: Any) -> Any:
            passage = self._faults.sent(name, request) or Passage(request)
            answer, failure = None, None
            for _ in range(passage.copies):
                try:
                    answer, failure = method(**passage.request), None
                except Exception as error:  # noqa: BLE001 - raised below, unless another copy follows
                    failure = error
            return self._came(name, passage, answer, failure)

        async def call_async(**request: Any) -> Any:
            passage = self._faults.sent(name, request) or Passage(request)
            answer, failure = None, None
            for _ in range(passage.copies):
                try:
                    answer, failure = await method(**passage.request), None
                except Exception as error:  # noqa: BLE001 - as above
                    failure = error
            return self._came(name, passage, answer, failure)

        return call_async if self._is_async else call

    def _came(self, name: str, passage: Passage, answer: Any, failure: Exception | None) -> Any:
        if failure is not None and not passage.hides:
            raise failure
        return self._faults.came(name, passage.came(answer) if passage.came else answer)


def faulty_client(client: Any, faults: Intercepts, *, is_async: bool = False) -> Any:
    """A client of boto3 (or of aioboto3, inside its context) that fails on demand."""
    return _FaultyClient(client, faults, is_async=is_async)


def faulty_session(faults: Intercepts, *, is_async: bool) -> Any:
    """A session of the SDK whose clients fail on demand."""
    if not is_async:

        class Session(boto3.Session):  # type: ignore[misc]  # published without types
            def client(self, *args: Any, **settings: Any) -> Any:
                return _FaultyClient(super().client(*args, **settings), faults, is_async=False)

        return Session()
    import aioboto3  # noqa: PLC0415 - what is blocking runs without it

    class AsyncSession(aioboto3.Session):  # type: ignore[misc]  # as above
        @asynccontextmanager
        async def client(self, *args: Any, **settings: Any) -> Any:
            async with super().client(*args, **settings) as client:
                yield _FaultyClient(client, faults, is_async=True)

    return AsyncSession()


def client_error(code: str, status: int = 400, message: str = "as the engine says it", **more: Any) -> ClientError:
    """A refusal as the SDK raises it.

    Args:
        code: the engine's.
        status: of HTTP.
        message: the engine's.
        more: further fields of its ``Error``, but for ``headers``, which are the answer's.
    """
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": more.pop("headers", {})}
    return ClientError({"Error": {"Code": code, "Message": message, **more}, "ResponseMetadata": metadata}, "Operation")


class TornBody:
    """A body that ends before its time. The real one is read first, so that its connection is free again."""

    def __init__(self, body: Any, *, is_async: bool) -> None:
        self._body, self._is_async = body, is_async
        self.closed = False

    def read(self) -> Any:
        """What came until then is of no use."""
        if self._is_async:
            return self._read()
        self._body.read()
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    async def _read(self) -> bytes:
        await self._body.read()
        raise IncompleteReadError(actual_bytes=1, expected_bytes=2)

    def close(self) -> None:
        """As the caller has to."""
        self.closed = True
        self._body.close()
