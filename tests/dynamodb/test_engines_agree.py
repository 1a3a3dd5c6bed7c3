"""What this project believes of the engine and the SDK, asked of both."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest

from commandstore import codec
from commandstore.aws.client import raw_client
from commandstore.command import Command
from commandstore.drive import run
from commandstore.dynamodb import layout
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import definition
from commandstore.store import CommandStore
from commandstore.testing.engines import Engine
from dynamodb.rig import Rig


@pytest.fixture(params=["ministack", "dynalite"])
def raw(request: pytest.FixtureRequest) -> Iterator[Any]:
    engine: Engine = request.getfixturevalue(request.param)
    client = boto3.client("dynamodb", **engine.client_arguments)
    client.create_table(**definition("sizes"))
    yield client
    client.delete_table(TableName="sizes")
    client.close()


def _put(raw: Any, item: layout.Item) -> None:
    values = {n: {k: layout.from_base64(v) if k == "B" else v for k, v in value.items()} for n, value in item.items()}
    raw.put_item(TableName="sizes", Item=values)


def _item(word: str = "\U0001f600é", **more: dict[str, str]) -> layout.Item:
    return {"uuid": {"S": word}, "part": {"S": "head"}, word: {"B": layout.to_base64(b"x" * 1001)}, **more}


def test_the_engine_weighs_strings_and_binaries_to_the_byte_as_we_do(raw: Any, request: pytest.FixtureRequest) -> None:
    # dynalite takes a character for a byte, or for two: no judge of anything but ASCII.
    word = "word" if "dynalite" in request.node.name else "\U0001f600é"
    room = layout.ITEM_LIMIT - layout.item_size(_item(word, text={"S": ""}))
    fits = _item(word, text={"S": "x" * room})
    assert layout.item_size(fits) == layout.ITEM_LIMIT
    _put(raw, fits)
    with pytest.raises(botocore.exceptions.ClientError, match="size"):
        _put(raw, _item(word, text={"S": "x" * (room + 1)}))


@pytest.mark.parametrize("value", [0, 7, -7, 10**18, 2**63 - 1, -(2**63), 1_700_000_000_123_456_789])
def test_the_engine_weighs_a_number_no_heavier_than_we_do(raw: Any, value: int) -> None:
    numbers = {f"n{index}": {"N": str(value)} for index in range(50)}
    room = layout.ITEM_LIMIT - layout.item_size(_item(text={"S": ""}, **numbers))
    _put(raw, _item(text={"S": "x" * room}, **numbers))


def test_the_longest_keys_are_accepted(rig: Rig) -> None:
    backend = rig.open()
    wide = "\U0001f600" * 256
    record = codec.encode(
        Command("\U0001f600" * 128, -(2**63), -(2**63), "\U0001f600" * 128, wide, wide, wide, b"x" * 370_000)
    )
    rig.do(backend.insert([record], "w1"))
    rig.do(backend.insert([record._replace(command_uuid="a"), record._replace(command_uuid="b")], "w2"))
    assert rig.do(backend.fetch([record.command_uuid]))[record.command_uuid] == record


def test_the_sdk_still_speaks_json_whose_bodies_are_made_here(rig: Rig) -> None:
    client = raw_client(rig.open()._wire._client)
    assert client.meta.service_model.resolved_protocol == "json"
    assert client.meta.service_model.metadata["jsonVersion"] == "1.0"
    assert client.meta.config.retries["total_max_attempts"] == 1


def test_a_body_of_ours_is_signed_and_sent_as_it_is(rig: Rig) -> None:
    backend = rig.open()
    seen: list[Any] = []
    client = raw_client(backend._wire._client)
    client.meta.events.register("before-send.dynamodb", lambda request, **_: seen.append(request))
    rig.do(backend.insert([codec.encode(Command("c", 1)), codec.encode(Command("d", 2))], "w1"))
    [request] = seen
    assert request.body.startswith(b'{"Statements":[{"Statement":"INSERT INTO ')
    assert request.headers["X-Amz-Target"] in (target := "DynamoDB_20120810.BatchExecuteStatement", target.encode())
    assert int(request.headers["Content-Length"]) == len(request.body)


def test_readers_beside_an_updater_see_whole_commands_only(ministack: Engine) -> None:
    values = [bytes([letter]) * size for letter, size in ((65, 900_000), (66, 1_200_000), (67, 10))]

    def store() -> CommandStore:
        opened = CommandStore(DynamoDBBackend("whole-commands", endpoint_url=ministack.endpoint))
        opened.init()
        return opened

    stop = threading.Event()
    seen: set[bytes] = set()
    broken: list[BaseException] = []

    def read() -> None:
        try:
            with store() as reader:
                while not stop.is_set():
                    command = reader.get("c")
                    assert command is not None
                    assert command.data_bytes in values
                    seen.add(command.data_bytes)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            broken.append(error)

    with store() as writer:
        writer.create(Command("c", 1, data_bytes=values[0]))
        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in readers:
            thread.start()
        # Until the readers were there between two updates: they may start late, but not never.
        deadline = time.monotonic() + 120
        for number in itertools.count():
            assert writer.update(Command("c", 1, data_bytes=values[number % 3]))
            if broken or (number >= 39 and len(seen) > 1) or time.monotonic() > deadline:
                break
        stop.set()
        for thread in readers:
            thread.join()
        assert broken == []
        assert len(seen) > 1
        assert run(writer.core.backend.gc(grace=-10))["removed"] == 0
