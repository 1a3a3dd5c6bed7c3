"""One store on each engine, which every attack gets as it should be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from audit.scene import Scene, opened
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """Nothing of the machine's own settings, and any credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("CLOUDSDK_CONFIG", str(tmp_path_factory.mktemp("gcloud")))
        patch.setenv("NO_GCE_CHECK", "true")
        # Each client reads the SDK's description of the service anew, which takes longer than an audit: read it once.
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield patch


def _backend(kind: str, request: pytest.FixtureRequest) -> Any:
    number = next(_numbers)
    if kind == "memory":
        return MemoryBackend()
    if kind == "sqlite":
        return backend_from_url(f"sqlite:///{request.getfixturevalue('tmp_path_factory').mktemp('audit')}/app.db")
    if kind == "postgres":
        database = request.getfixturevalue("postgres").database()
        url = database.__enter__()
        request.addfinalizer(lambda: database.__exit__(None, None, None))
        return backend_from_url(url)
    patch = request.getfixturevalue("surroundings")
    if kind == "firestore":
        patch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("firestore_emulator").host)
        return backend_from_url(f"firestore://audit/audit-{number}?shards=2")
    engine = request.getfixturevalue("ministack")
    where = f"region=us-east-1&endpoint_url={engine.endpoint}"
    if kind == "dynamodb":
        return backend_from_url(f"dynamodb://audit-{number}?{where}&tenant_shards=1&time_shards=1")
    settings = Config(s3={"addressing_style": "path"})
    with closing(boto3.client("s3", config=settings, **engine.client_arguments)) as client:
        client.create_bucket(Bucket=f"audit-{number}")
    return backend_from_url(f"s3://audit-{number}/it/?{where}")


@pytest.fixture(scope="session", params=["memory", "sqlite", "postgres", "dynamodb", "s3", "firestore"])
def place(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A store on an engine."""
    with opened(_backend(request.param, request)) as store:
        yield Scene(store)


@pytest.fixture
def scene(place: Scene) -> Scene:
    """On each engine: a store as it should be."""
    place.put_back()
    return place


@pytest.fixture(scope="session", params=["memory", "sqlite"])
def near(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A store where nothing is slow."""
    with opened(_backend(request.param, request)) as store:
        yield Scene(store)


@pytest.fixture
def here(near: Scene) -> Scene:
    """In memory and on SQLite: a store as it should be."""
    near.put_back()
    return near


@pytest.fixture
def it() -> Scene:
    """In memory: a store as it should be."""
    scene = Scene(opened())
    scene.put_back()
    return scene
