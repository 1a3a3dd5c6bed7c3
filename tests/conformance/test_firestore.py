"""The conformance suite over Firestore, on Google's emulator."""

import base64
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from commandstore.contract import Backend
from commandstore.registry import backend_from_url
from commandstore.testing.conformance import Conformance, CorruptRecordLaws
from commandstore.testing.conformance.lab import Place
from commandstore.testing.engines import Engine
from commandstore.testing.stateful import AgainstMemory


class FirestorePlace(Place):
    """A collection of its own."""

    _numbers = itertools.count(1)

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"conformance-{next(self._numbers)}"

    def make_backend(self) -> Backend:
        return backend_from_url(f"firestore://{self.client.project}/{self.name}?shards=3")

    def make_absent_backend(self) -> Backend:
        return backend_from_url(f"firestore://{self.client.project}/{self.name}-absent")

    def raw_uuids(self) -> set[str]:
        heads = {one.id: one.to_dict() for one in self.client.collection(self.name).stream() if one.id[0] == "c"}
        # A part without its head would be garbage that somebody pays for.
        for part in self.client.collection_group("parts").stream():
            head = part.reference.parent.parent
            if head.parent.id == self.name:
                assert heads[head.id]["parts_id"] == part.id.partition(".")[0]
        return {head["command_uuid"] for head in heads.values()}

    def raw_payload(self, command_uuid: str) -> bytes:
        head = self._head(command_uuid)
        fields = head.get().to_dict()
        if "data" in fields:
            return fields["data"]
        parts = sorted((part.id, part.get("payload")) for part in head.collection("parts").stream())
        return b"".join(payload for _, payload in parts)[: fields["data_bytes"]]

    def damage(self, command_uuid: str) -> None:
        self._head(command_uuid).update({"data": firestore.DELETE_FIELD, "digest": firestore.DELETE_FIELD})

    def _head(self, command_uuid: str) -> Any:
        name = base64.urlsafe_b64encode(command_uuid.encode()).decode().rstrip("=")
        return self.client.collection(self.name).document(f"c{name}")


@pytest.fixture(scope="module", autouse=True)
def environment(firestore_emulator: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The emulator, and nothing of the machine's own Google settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # type: ignore[attr-defined]
        patch.setenv("CLOUDSDK_CONFIG", str(tmp_path_factory.mktemp("gcloud")))
        patch.setenv("NO_GCE_CHECK", "true")
        patch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
        yield


@pytest.fixture(scope="module")
def client(environment: None) -> Iterator[Any]:
    del environment
    client = firestore.Client(project="conformance", credentials=AnonymousCredentials())
    yield client
    client.close()


class TestFirestore(Conformance, CorruptRecordLaws, AgainstMemory):
    machine_examples = 10
    machine_steps = 20

    @pytest.fixture
    def place(self, client: Any) -> FirestorePlace:
        return FirestorePlace(client)
