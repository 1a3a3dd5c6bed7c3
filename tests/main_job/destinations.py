"""Where the main job goes to, and how many commands lie there, counted without the store."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from typing import Any, ClassVar
from urllib.parse import unquote

import boto3
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from commandstore.testing.engines import Engine
from commandstore.testing.firestore import FirestoreEmulator


class Destination(ABC):
    """A store on an engine."""

    engine: ClassVar[str] = "ministack"
    """The fixture of the engine."""
    service: ClassVar[str]
    batch_size: ClassVar[int] = 1000
    upkeep: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Commands of the command line that the store offers for its upkeep, without its URL."""

    def __init__(self, engine: Engine) -> None:
        self.name = f"commands-{uuid.uuid4().hex[:8]}"
        self.environment = {
            name.upper(): value for name, value in engine.client_arguments.items() if name.startswith("aws_")
        }
        self.client: Any = boto3.client(self.service, **engine.client_arguments)
        region = engine.client_arguments["region_name"]
        self.url = f"{self.service}://{self.name}{self.path()}?region={region}&endpoint_url={engine.endpoint}"

    def path(self) -> str:
        return ""

    @abstractmethod
    def count(self) -> int:
        """How many commands lie there; each once, or it fails."""

    def assert_tidy(self) -> None:
        """The upkeep did what it is for."""
        assert self.upkeep == ()

    @abstractmethod
    def remove(self) -> None:
        """Let go of everything."""


class DynamoDBTable(Destination):
    service = "dynamodb"

    def count(self) -> int:
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.name,
            IndexName="by_time",  # heads alone are in it
            Select="COUNT",
        )
        return sum(page["Count"] for page in pages)

    def remove(self) -> None:
        self.client.delete_table(TableName=self.name)
        self.client.close()


class S3Prefix(Destination):
    service = "s3"
    # The smaller, the more swaps of the manifest race, and the longer there is something to be killed.
    batch_size = 200
    upkeep = (("compact",), ("gc", "--grace", "0"))

    def path(self) -> str:
        return "/audit/log"

    def count(self) -> int:
        manifest = self._read("manifest.json")
        dead = {item["segment"]: set(item["rows"]) for item in manifest["dead"]}
        known: list[str] = [deleted[0] for deleted in manifest["deleted"]]
        gone = len(known)
        for segment in self._segments(manifest):
            index = self._read(f"indexes/{segment['id']}.json")
            gone += len(set(index["deleted"]) - dead.get(segment["number"], set()))
            known += [
                found
                for row, found in enumerate(index["command_uuid"])
                if row not in dead.get(segment["number"], set())
            ]
        assert len(known) == len(set(known)), "one uuid has two rows that count"
        inbox = {unquote(key.rpartition("/")[2].removesuffix(".json")) for key in self._keys("inbox/")}
        return len(inbox.union(known)) - gone

    def assert_tidy(self) -> None:
        """Compacted, nothing is dead; collected, nothing lies there that isn't referred to."""
        manifest = self._read("manifest.json")
        assert (manifest["dead"], manifest["deleted"]) == ([], [])
        segments = {segment["id"] for segment in self._segments(manifest)}
        recent = {manifest["recent"]["id"]} if manifest["recent"] else set()
        assert set(self._keys("inbox/")) == set()
        assert set(self._keys("segments/")) == {f"segments/{name}.jsonl" for name in segments}
        assert set(self._keys("indexes/")) == {f"indexes/{name}.json" for name in segments}
        assert set(self._keys("parts/")) == {f"parts/{part['id']}.json" for part in manifest["parts"]}
        partitions = {partition[1] for partition in manifest["partitions"]}
        assert set(self._keys("directories/")) == {f"directories/{name}" for name in recent | partitions}

    def remove(self) -> None:
        for key in self._keys(""):
            self.client.delete_object(Bucket=self.name, Key=f"audit/log/{key}")
        self.client.delete_bucket(Bucket=self.name)
        self.client.close()

    def _segments(self, manifest: dict[str, Any]) -> list[dict[str, Any]]:
        parts = [self._read(f"parts/{part['id']}.json") for part in manifest["parts"]]
        return [segment for holder in (manifest, *parts) for segment in holder["segments"]]

    def _read(self, key: str) -> Any:
        return json.loads(self.client.get_object(Bucket=self.name, Key=f"audit/log/{key}")["Body"].read())

    def _keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"audit/log/{prefix}")
        return [item["Key"].removeprefix("audit/log/") for page in pages for item in page.get("Contents", ())]


class FirestoreCollection(Destination):
    engine = "firestore_emulator"
    service = "firestore"
    upkeep = (("gc", "--grace", "0"),)

    def __init__(self, engine: Engine) -> None:  # the SDK of another cloud
        assert isinstance(engine, FirestoreEmulator)
        self._emulator = engine
        self.name = f"commands-{uuid.uuid4().hex[:8]}"
        self.environment = {"FIRESTORE_EMULATOR_HOST": engine.host, "NO_GCE_CHECK": "true"}
        self.url = f"firestore://main-job/{self.name}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FIRESTORE_EMULATOR_HOST", engine.host)
            self.client = firestore.Client(project="main-job", credentials=AnonymousCredentials())

    def count(self) -> int:
        names = [one.id for one in self.client.collection(self.name).select([]).stream()]
        return sum(name.startswith("c") for name in names)

    def assert_tidy(self) -> None:
        """Each part is one that a head names."""
        heads = {
            one.id: f"{one.to_dict().get('parts_id')}."
            for one in self.client.collection(self.name).select(["parts_id"]).stream()
        }
        for part in self.client.collection_group("parts").select([]).stream():
            head = part.reference.parent.parent
            if head.parent.id == self.name:
                assert part.id.startswith(heads[head.id])

    def remove(self) -> None:
        self.client.close()
        self._emulator.reset("main-job")  # removing document by document takes longer than the job
