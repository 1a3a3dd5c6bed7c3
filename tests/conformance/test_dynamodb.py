"""The conformance suite over DynamoDB: on ministack, and on moto with ``bulk=put``."""

from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from typing import Any

import boto3
import pytest
from botocore.loaders import JSONFileLoader

from commandstore.command import BatchResult
from commandstore.store import CommandStore
from commandstore.testing.conformance import Conformance, CorruptRecordLaws, Lab
from commandstore.testing.conformance.data import a_command, some_commands
from commandstore.testing.engines import Engine
from commandstore.testing.stateful import AgainstMemory
from conformance.places import DynamoDBPlace


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    """What the engines take: any credentials, but not none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield


@pytest.fixture(scope="module", autouse=True)
def service_models() -> Iterator[None]:
    """Each client reads the SDK's description of the service anew, which takes longer than a law: read it once."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(scope="module")
def ministack_client(ministack: Engine) -> Iterator[Any]:
    with closing(boto3.client("dynamodb", **ministack.client_arguments)) as client:
        yield client


@pytest.fixture(scope="module")
def moto_client(moto_server: Engine) -> Iterator[Any]:
    with closing(boto3.client("dynamodb", **moto_server.client_arguments)) as client:
        yield client


def a_place(client: Any, options: str = "") -> Iterator[DynamoDBPlace]:
    place = DynamoDBPlace(client, options)
    yield place
    place.remove()


class DynamoDBConformance(Conformance, CorruptRecordLaws, AgainstMemory):
    # Without the extra `async` only the blocking laws are collected.
    drives = ("blocking", "async") if find_spec("aioboto3") else ("blocking",)
    machine_examples = 10
    machine_steps = 20


class TestMinistack(DynamoDBConformance):
    @pytest.fixture
    def place(self, ministack_client: Any) -> Iterator[DynamoDBPlace]:
        yield from a_place(ministack_client)


class TestMoto(DynamoDBConformance):
    """moto has no PartiQL with parameters, so ``bulk=put``: looked for, then put without a condition.

    A second opinion on what the engine is asked; the client of the other drive, ministack has tried.
    """

    drives = ("blocking",)

    @pytest.fixture
    def place(self, moto_client: Any) -> Iterator[DynamoDBPlace]:
        yield from a_place(moto_client, "&bulk=put")

    def test_racing_create_manys_create_every_command_once(self, lab: Lab, store: CommandStore) -> None:
        # What is declared for ``bulk=put`` instead: it needs a single writer. Of several, each may have "created" a
        # command; but all are accounted for and whole.
        stores = [store, lab.open()]
        commands = some_commands(60)
        results = lab.race([stores[at % 2].core.create_many(commands) for at in range(4)])
        for result in results:
            assert isinstance(result, BatchResult)
            assert len(result.created) + len(result.duplicate) == len(commands)
        assert {uuid for result in results for uuid in result.created} == lab.place.raw_uuids()
        assert list(store.get_many(sorted(lab.place.raw_uuids())).values()) == commands
        # One writer at a time is right.
        assert len(store.create_many(commands).duplicate) == len(commands)
        assert stores[1].create_many([*commands, a_command("new")]).created == ("new",)
