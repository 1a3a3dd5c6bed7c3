"""The conformance suite over S3, on ministack and on moto."""

from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from commandstore.command import Command
from commandstore.store import CommandStore
from commandstore.testing.conformance import Conformance, CorruptRecordLaws
from commandstore.testing.conformance.data import a_command
from commandstore.testing.engines import Engine
from commandstore.testing.stateful import AgainstMemory
from conformance.places import S3Place


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


class S3Conformance(Conformance, CorruptRecordLaws, AgainstMemory):
    # Without the extra `async` only the blocking laws are collected.
    drives = ("blocking", "async") if find_spec("aioboto3") else ("blocking",)
    machine_examples = 10
    machine_steps = 20

    def test_create_many_still_accounts_for_a_damaged_record(
        self, store: CommandStore, commands: list[Command]
    ) -> None:
        # What is declared instead: digests lie in the index, so what is damaged in a segment alone is still told from
        # other content, and found to be damaged when it is read.
        result = store.create_many([*commands, commands[3].model_copy(update={"domain": "Other"}), a_command("new")])
        assert result.created == ("new",)
        assert len(result.duplicate) == 7
        assert result.conflicting == ("c00003",)


def a_client(engine: Engine) -> Iterator[Any]:
    settings = Config(s3={"addressing_style": "path"})
    with closing(boto3.client("s3", config=settings, **engine.client_arguments)) as client:
        client.create_bucket(Bucket="conformance")
        yield client


@pytest.fixture(scope="module")
def ministack_client(ministack: Engine) -> Iterator[Any]:
    yield from a_client(ministack)


@pytest.fixture(scope="module")
def moto_client(moto_server: Engine) -> Iterator[Any]:
    yield from a_client(moto_server)


class TestMinistack(S3Conformance):
    @pytest.fixture
    def place(self, ministack_client: Any) -> S3Place:
        return S3Place(ministack_client, "conformance")


class TestMoto(S3Conformance):
    """A second opinion on what the engine is asked; the client of the other drive, ministack has tried."""

    drives = ("blocking",)

    @pytest.fixture
    def place(self, moto_client: Any) -> S3Place:
        return S3Place(moto_client, "conformance")
