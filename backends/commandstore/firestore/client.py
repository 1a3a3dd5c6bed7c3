"""Making clients of the SDK: one for each drive, behind one small face of plain messages.

The clients are the generated ones: the SDK's own ``Client`` builds messages for each command that cost ten times what
is sent, and tries again by itself, which two layers must not do. Both are the same protocol; what differs is whether
a call blocks, so here a call of either is a coroutine that takes a plain message and gives one, or all of a stream's.

Against an emulator nothing of the machine's credentials is looked for, let alone sent.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import google.auth
import grpc
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient, FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import (
    FirestoreGrpcAsyncIOTransport,
    FirestoreGrpcTransport,
)
from google.cloud.firestore_v1.types import firestore as messages

from commandstore.drive import Drive
from commandstore.errors import CommandStoreError
from commandstore.firestore.faults import Place, translate

__all__ = ["Calls", "Metadata", "connect", "emulator_host"]

Metadata = Sequence[tuple[str, str]]

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/datastore")
_TARGET = "firestore.googleapis.com"
_CONNECT_MILLISECONDS = 5_000
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # Who tries again is the wire, which knows what may have been done.
    ("grpc.enable_retries", 0),
    # A lost connection is made anew within our patience, not in gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", _CONNECT_MILLISECONDS),
    ("grpc.max_reconnect_backoff_ms", _CONNECT_MILLISECONDS),
)
_REQUESTS: dict[str, Any] = {
    "batch_get_documents": messages.BatchGetDocumentsRequest,
    "batch_write": messages.BatchWriteRequest,
    "commit": messages.CommitRequest,
    "run_aggregation_query": messages.RunAggregationQueryRequest,
    "run_query": messages.RunQueryRequest,
}


def emulator_host() -> str | None:
    """``host:port`` of the emulator that the environment names; None means the real Firestore."""
    return os.environ.get("FIRESTORE_EMULATOR_HOST", "").removeprefix("http://").rstrip("/") or None


class Calls(ABC):
    """Calls of one client. Errors are the SDK's; nothing is tried again."""

    @abstractmethod
    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        """Send a message, and return the one that answers it.

        Args:
            method: by the SDK's name: ``commit``.
            request: a plain message.
            seconds: until ``DEADLINE_EXCEEDED``.
        """

    @abstractmethod
    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        """Send a message, and return all that answer it; the time is for the whole stream."""


async def connect(
    drive: Drive,
    stack: AsyncExitStack,
    place: Place,
    *,
    credentials: Any = None,
    around: Callable[[Calls], Calls] | None = None,
) -> Calls:
    """A client for the drive.

    Args:
        drive: asynchronous: the client is the SDK's asynchronous one, bound to the running event loop.
        stack: closes the client.
        place: its ``emulator`` is connected to in plain text, as its owner; without one, Google's Firestore.
        credentials: of google-auth; None takes the environment's. Unused with an emulator.
        around: put around the calls, for what wants to see or change them.

    Raises:
        AccessDenied: there are no credentials.
    """
    metadata = [("google-cloud-resource-prefix", place.database_name)]
    if place.emulator is not None:
        metadata.append(("authorization", "Bearer owner"))
    elif credentials is None:
        credentials = await _credentials(drive, place)
    calls: Calls
    if drive.is_async:
        transport: Any = FirestoreGrpcAsyncIOTransport(channel=_channel(place, credentials, is_async=True))
        stack.push_async_callback(transport.close)
        calls = _AsyncCalls(FirestoreAsyncClient(transport=transport), metadata)
    else:
        transport = FirestoreGrpcTransport(channel=_channel(place, credentials, is_async=False))
        stack.callback(transport.close)
        calls = _BlockingCalls(FirestoreClient(transport=transport), metadata, drive)
    return around(calls) if around is not None else calls


def _channel(place: Place, credentials: Any, *, is_async: bool) -> Any:
    options = list(_OPTIONS)
    if place.emulator is not None:
        # A proxy of the environment can't know this machine's 127.0.0.1.
        options.append(("grpc.enable_http_proxy", 0))
        insecure = grpc.aio.insecure_channel if is_async else grpc.insecure_channel
        return insecure(place.emulator, options=options)
    transport = FirestoreGrpcAsyncIOTransport if is_async else FirestoreGrpcTransport
    return transport.create_channel(_TARGET, credentials=credentials, options=options)


async def _credentials(drive: Drive, place: Place) -> Any:
    try:
        # Files, or a machine's metadata service, which takes seconds where there is none.
        credentials, _ = await drive.call(google.auth.default, scopes=_SCOPES)
    except Exception as error:
        translated = translate(error, "connect", place)
        if not isinstance(translated, CommandStoreError):
            raise
        raise translated from error
    return credentials


def _wrapped(method: str, request: Any) -> Any:
    return _REQUESTS[method].wrap(request)  # around the message, without a copy


def _plain(answer: Any) -> Any:
    return None if answer is None else type(answer).pb(answer)


class _BlockingCalls(Calls):
    """Never suspends."""

    def __init__(self, client: FirestoreClient, metadata: Metadata, drive: Drive) -> None:
        self._client = client
        self._metadata = metadata
        self._drive = drive

    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        self._drive.check()
        call = getattr(self._client, method)
        return _plain(call(_wrapped(method, request), retry=None, timeout=seconds, metadata=self._metadata))

    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        self._drive.check()
        call = getattr(self._client, method)
        answers = call(_wrapped(method, request), retry=None, timeout=seconds, metadata=self._metadata)
        try:
            return [_plain(answer) for answer in answers]
        except BaseException:
            answers.cancel()
            raise


class _AsyncCalls(Calls):
    """On the event loop that the client was made in."""

    def __init__(self, client: FirestoreAsyncClient, metadata: Metadata) -> None:
        self._client = client
        self._metadata = metadata

    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        call = getattr(self._client, method)
        return _plain(await call(_wrapped(method, request), retry=None, timeout=seconds, metadata=self._metadata))

    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        call = getattr(self._client, method)
        answers = await call(_wrapped(method, request), retry=None, timeout=seconds, metadata=self._metadata)
        try:
            return [_plain(answer) async for answer in answers]
        except BaseException:
            answers.cancel()
            raise
