"""Every destination on its engine: how it is opened, and what is really stored there, read past the library."""

from __future__ import annotations

import base64
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import boto3
import psycopg
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from commandstore.contract import Backend
from commandstore.registry import backend_from_url
from conformance.places import DynamoDBPlace, S3Place
from conformance.test_firestore import FirestorePlace

__all__ = ["SERVICES", "Where", "opened"]

_BUCKET = "reliability"
_load_file = JSONFileLoader.load_file


@dataclass(frozen=True)
class Where:
    """A store's URL, what a process needs to reach it, and the uuids that are stored there, each as often as it is."""

    url: str
    uuids: Callable[[], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    backend: Backend | None = None
    """What is in memory is opened again in the same object only."""

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    def make_backend(self) -> Backend:
        return self.backend or backend_from_url(self.url)


def _sqlite(request: pytest.FixtureRequest) -> Iterator[Where]:
    file = request.getfixturevalue("tmp_path") / "copy.db"

    def uuids() -> list[str]:
        with closing(sqlite3.connect(file, timeout=10)) as connection:
            return [uuid for (uuid,) in connection.execute("SELECT uuid FROM commands")]

    yield Where(f"sqlite:///{file}", uuids)


def _postgres(request: pytest.FixtureRequest) -> Iterator[Where]:
    with request.getfixturevalue("postgres").database() as url:

        def uuids() -> list[str]:
            with psycopg.connect(url, autocommit=True) as connection:
                return [uuid for (uuid,) in connection.execute("SELECT uuid FROM commands").fetchall()]

        yield Where(url, uuids)


def _aws(request: pytest.FixtureRequest, service: str, **options: Any) -> tuple[Any, dict[str, str]]:
    engine = request.getfixturevalue("ministack")
    client = boto3.client(service, **engine.client_arguments, **options)
    names = ("aws_access_key_id", "aws_secret_access_key")
    return client, {name.upper(): engine.client_arguments[name] for name in names}


def _dynamodb(request: pytest.FixtureRequest) -> Iterator[Where]:
    client, environment = _aws(request, "dynamodb")
    with closing(client):
        place = DynamoDBPlace(client)
        yield Where(place.url.format(place.table), lambda: sorted(place.raw_uuids()), environment)
        place.remove()


def _s3(request: pytest.FixtureRequest) -> Iterator[Where]:
    client, environment = _aws(request, "s3", config=Config(s3={"addressing_style": "path"}))
    with closing(client):
        client.create_bucket(Bucket=_BUCKET)
        place = S3Place(client, _BUCKET)
        yield Where(place.url.format(place.prefix), lambda: sorted(place.raw_uuids()), environment)


def _firestore(request: pytest.FixtureRequest) -> Iterator[Where]:
    emulator = request.getfixturevalue("firestore_emulator")
    environment = {"FIRESTORE_EMULATOR_HOST": emulator.host, "NO_GCE_CHECK": "true"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
        client = firestore.Client(project="reliability", credentials=AnonymousCredentials())
    with closing(client):
        place = FirestorePlace(client)
        url = f"firestore://{client.project}/{place.name}?shards=3"
        yield Where(url, lambda: _uuids_in(client, place.name), environment)
        emulator.reset(client.project)


def _uuids_in(client: Any, collection: str) -> list[str]:
    """By the names of the documents alone: what they hold costs too much to read often."""
    names = [one.id for one in client.collection(collection).select([]).stream() if one.id.startswith("c")]
    return [base64.urlsafe_b64decode(name[1:] + "=" * (-len(name[1:]) % 4)).decode() for name in names]


SERVICES: dict[str, Callable[[pytest.FixtureRequest], Iterator[Where]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "dynamodb": _dynamodb,
    "s3": _s3,
    "firestore": _firestore,
}


@cache
def _description(path: str) -> Any:
    return _load_file(JSONFileLoader(), path)


def opened(request: pytest.FixtureRequest) -> Iterator[Where]:
    """For a fixture with one of ``SERVICES`` as its parameter: a new place there, and the way to it in this process."""
    with pytest.MonkeyPatch.context() as patch:
        # Each client reads the SDK's description of the service anew, which takes longer than what it is for.
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: _description(path))
        # It says with each client where its credentials are from.
        patch.setattr(logging.getLogger("botocore.credentials"), "disabled", True)
        for where in SERVICES[request.param](request):
            for name, value in where.environment.items():
                patch.setenv(name, value)
            patch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
            yield where
