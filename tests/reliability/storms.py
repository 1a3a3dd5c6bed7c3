"""Where storms go over a store: for each backend, how it is made with a plan's faults, and how to look past it.

In the time of the plan, unless it is given a :class:`Retry`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import JSONFileLoader
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from commandstore.aws.retry import Retry
from commandstore.contract import Backend
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import Creation
from commandstore.firestore.backend import FirestoreBackend
from commandstore.s3.backend import S3Backend
from commandstore.sql.backend import SqliteBackend
from commandstore.testing.engines import Engine
from commandstore.testing.faults import FaultPlan, FaultyBackend
from commandstore.testing.faults.aws import AwsFaults
from commandstore.testing.faults.client import faulty_session
from commandstore.testing.faults.firestore import FaultyCalls, FirestoreFaults
from commandstore.testing.firestore import FirestoreEmulator
from conformance.places import DynamoDBPlace, MemoryPlace, S3Place, SqlitePlace
from conformance.test_firestore import FirestorePlace

KIB = 1024
_numbers = itertools.count(1)


class Target(NamedTuple):
    """A place for one storm.

    Attributes:
        make: a backend for it, with the plan's faults.
        raw_uuids: what is really stored.
        long_bytes: a payload that this engine has to split; 0 where none is.
        apart: whether it may acknowledge a ``create`` and a ``create_many`` of one uuid at one moment.
        recreates: whether a create whose answer was lost may be done once more, after another one's delete.
    """

    make: Callable[[], Backend]
    raw_uuids: Callable[[], set[str]]
    long_bytes: int = 0
    apart: bool = False
    recreates: bool = False


def prepare(patch: pytest.MonkeyPatch, directory: Path) -> None:
    """Credentials that the engines take, nothing of the machine's own, and the SDK's descriptions read once."""
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_CONFIG_FILE", f"{directory}/config")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{directory}/credentials")
    patch.setenv("CLOUDSDK_CONFIG", f"{directory}/gcloud")
    patch.setenv("NO_GCE_CHECK", "true")
    patch.setattr(JSONFileLoader, "load_file", lambda _, path: _load(path))


_load = cache(JSONFileLoader().load_file)


def virtual_retry(plan: FaultPlan) -> Retry:
    """As the library pauses, and with fewer attempts, so that some of them are the last."""
    return Retry(attempts=4, clock=plan.time.clock)


@contextmanager
def memory(plan: FaultPlan) -> Iterator[Target]:
    place = MemoryPlace()
    yield Target(lambda: FaultyBackend(place.backend, plan), place.raw_uuids)


@contextmanager
def sqlite(plan: FaultPlan, directory: Path) -> Iterator[Target]:
    place = SqlitePlace(directory)
    yield Target(lambda: FaultyBackend(SqliteBackend(place.file), plan), place.raw_uuids)


@contextmanager
def dynamodb(plan: FaultPlan, engine: Engine, *, is_async: bool, retry: Retry | None = None) -> Iterator[Target]:
    faults = AwsFaults(plan, "dynamodb", is_async=is_async)
    with closing(boto3.client("dynamodb", **engine.client_arguments)) as client:
        place = DynamoDBPlace(client)
        place.table = f"storm-{next(_numbers)}"

        def make() -> Backend:
            return DynamoDBBackend(
                place.table,
                endpoint_url=engine.endpoint,
                creation=Creation(tenant_shards=2, time_shards=2),
                session=faulty_session(faults, is_async=is_async),
                retry=retry or virtual_retry(plan),
            )

        yield Target(make, place.raw_uuids, 450 * KIB, recreates=True)  # docs/contract.md
        client.delete_table(TableName=place.table)


@contextmanager
def s3(plan: FaultPlan, engine: Engine, *, is_async: bool, retry: Retry | None = None) -> Iterator[Target]:
    faults = AwsFaults(plan, "s3", is_async=is_async)
    settings = Config(s3={"addressing_style": "path"})
    with closing(boto3.client("s3", config=settings, **engine.client_arguments)) as client:
        client.create_bucket(Bucket="storms")
        place = S3Place(client, "storms")
        place.prefix = f"storm-{next(_numbers)}/"

        def make() -> Backend:
            return S3Backend(
                "storms",
                place.prefix,
                endpoint_url=engine.endpoint,
                session=faulty_session(faults, is_async=is_async),
                retry=retry or virtual_retry(plan),
            )

        yield Target(make, place.raw_uuids, apart=True)  # docs/s3.md


@contextmanager
def on_firestore(plan: FaultPlan, emulator: FirestoreEmulator, *, retry: Retry | None = None) -> Iterator[Target]:
    faults = FirestoreFaults(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
        client: Any = firestore.Client(project="storms", credentials=AnonymousCredentials())
        with closing(client):
            place = FirestorePlace(client)
            # An emulator that was running before has what earlier runs left.
            place.name = f"storm-{os.getpid()}-{next(_numbers)}"

            def make() -> Backend:
                return FirestoreBackend(
                    "storms",
                    place.name,
                    shards=3,
                    retry=retry or virtual_retry(plan),
                    around=lambda calls: FaultyCalls(calls, faults),
                )

            yield Target(make, place.raw_uuids, 900 * KIB, recreates=True)  # docs/contract.md
