"""An SDK client that tells what is to go wrong, and does: for tests of what the AWS backends make of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import boto3


class _FaultyClient:
    def __init__(self, client: Any, faults: Any, *, is_async: bool) -> None:
        self._client, self._faults, self._is_async = client, faults, is_async

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method) or name == "close":
            return method

        def call(**request: Any) -> Any:
            self._faults.sent(name, request)
            return self._faults.came(name, method(**request))

        async def call_async(**request: Any) -> Any:
            self._faults.sent(name, request)
            return self._faults.came(name, await method(**request))

        return call_async if self._is_async else call


def faulty_session(faults: Any, *, is_async: bool) -> Any:
    """A session of the SDK whose clients fail on demand."""
    if not is_async:

        class Session(boto3.Session):
            def client(self, *args: Any, **settings: Any) -> Any:
                return _FaultyClient(super().client(*args, **settings), faults, is_async=False)

        return Session()
    import aioboto3  # noqa: PLC0415 - the blocking tests run without it

    class AsyncSession(aioboto3.Session):
        @asynccontextmanager
        async def client(self, *args: Any, **settings: Any) -> Any:
            async with super().client(*args, **settings) as client:
                yield _FaultyClient(client, faults, is_async=True)

    return AsyncSession()
