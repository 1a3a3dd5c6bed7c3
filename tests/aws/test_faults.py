"""What the SDK's own clients say of a connection that fails, before and after a request was sent on it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from importlib.util import find_spec

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from commandstore.aws.faults import is_lost, unanswered
from commandstore.errors import StoreUnavailable

ARGUMENTS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "testing",
    "aws_secret_access_key": "testing",
}
_NO_RETRY = {"total_max_attempts": 1}


@pytest.fixture(params=["blocking", "async"] if find_spec("aioboto3") else ["blocking"])
def drive(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def resetting() -> Iterator[int]:
    """The port of a server that reads a request, and resets the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while b"TableName" not in connection.recv(65536):
                    pass
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def ask(endpoint: str) -> None:
    client = boto3.client("dynamodb", endpoint_url=endpoint, config=Config(retries=_NO_RETRY), **ARGUMENTS)
    client.describe_table(TableName="t")


async def ask_async(endpoint: str) -> None:
    import aioboto3  # noqa: PLC0415 - what is blocking runs without it
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - as above

    settings = AioConfig(retries=_NO_RETRY)
    async with aioboto3.Session().client("dynamodb", endpoint_url=endpoint, config=settings, **ARGUMENTS) as client:
        await client.describe_table(TableName="t")


def failure(drive: str, endpoint: str) -> BotoCoreError:
    """The error of a request to this endpoint."""
    with pytest.raises(BotoCoreError) as caught:
        asyncio.run(ask_async(endpoint)) if drive == "async" else ask(endpoint)
    return caught.value


def test_a_request_whose_connection_was_reset_may_have_had_its_effect(drive: str, resetting: int) -> None:
    assert is_lost(failure(drive, f"http://127.0.0.1:{resetting}"))


def test_a_request_that_nobody_listened_to_had_none(drive: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not is_lost(failure(drive, f"http://127.0.0.1:{port}"))
    assert not is_lost(failure(drive, "http://nobody.invalid"))


@pytest.mark.parametrize("error", [ConnectionResetError("by peer"), BrokenPipeError(), TimeoutError()])
def test_what_a_transport_lets_through_is_no_answer(error: OSError) -> None:
    translated = unanswered(error, "GetObject", "object a", host="h", url="s3://b")
    assert isinstance(translated, StoreUnavailable)
    assert is_lost(error)
