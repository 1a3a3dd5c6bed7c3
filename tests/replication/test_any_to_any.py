"""A sync works from any store to any store, blocking and on asyncio, and a second run copies nothing."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from commandstore import (
    Command,
    open_async_store,
    open_store,
    sync_async_command_store,
    sync_command_store,
)

KINDS = ["memory", "sqlite", "postgresql", "dynamodb"]
COMMANDS = [
    Command(
        f"uuid-{number:02}",
        1_760_000_000_000_000_000 + number // 3,
        instance_id=number,
        tenant_uuid=f"tenant-{number % 3}" if number % 4 else "",
        domain="Account",
        data_type="AccountCommandCreate",
        data_bytes=b'{"n":%d}' % number * (1 + number * 400),
        req_ctx=f'{{"senderSessionUuid":"s-{number}"}}' if number % 2 else "",
    )
    for number in range(40)
]


@pytest.fixture
def url_of(request, tmp_path, monkeypatch):
    """A URL for a new store of a kind; engines start when they are asked for."""

    def url(kind: str) -> str:
        name = uuid.uuid4().hex[:8]
        if kind == "memory":
            return f"memory://{name}"
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{name}.db"
        if kind == "postgresql":
            server = request.getfixturevalue("postgres")
            database = server.create_database()
            request.addfinalizer(lambda: server.drop(database))
            return database
        engine = request.getfixturevalue("ministack")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        region = engine.client_arguments["region_name"]
        return f"dynamodb://sync-{name}?region={region}&endpoint_url={engine.endpoint}"

    return url


@pytest.mark.parametrize("destination", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_from_any_store_to_any_store(source, destination, url_of) -> None:
    with open_store(url_of(source), create=True) as here, open_store(url_of(destination), create=True) as there:
        here.create_many(COMMANDS)
        first = sync_command_store(here, there, batch_size=7)
        assert (first.read, first.copied) == (40, 40)
        assert list(there.scan()) == list(here.scan())
        second = sync_command_store(here, there, batch_size=7)
        assert (second.copied, second.conflicts, second.failed) == (0, 0, 0)
        there.reset()


@pytest.mark.parametrize("destination", KINDS)
@pytest.mark.parametrize("source", ["sqlite", "postgresql", "dynamodb"])
def test_from_any_store_to_any_store_on_asyncio(source, destination, url_of) -> None:
    async def main() -> None:
        here = await open_async_store(url_of(source), create=True)
        there = await open_async_store(url_of(destination), create=True)
        async with here, there:
            await here.create_many(COMMANDS)
            first = await sync_async_command_store(here, there, batch_size=7)
            assert (first.read, first.copied) == (40, 40)
            assert [command async for command in there.scan()] == [command async for command in here.scan()]
            second = await sync_async_command_store(here, there, batch_size=7)
            assert (second.copied, second.conflicts, second.failed) == (0, 0, 0)

    asyncio.run(main())
