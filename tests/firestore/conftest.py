"""Google's emulator, started once, and rigs on it for both drives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from commandstore.testing.firestore import FirestoreEmulator
from firestore.rig import Rig


@pytest.fixture(autouse=True)
def _no_google(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing of the machine's own Google settings is seen, and no metadata service is asked."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_API_USE_CLIENT_CERTIFICATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", f"{tmp_path}/gcloud")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    # What is looked at although it isn't there would be an error.
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/no-such-key.json")


@pytest.fixture(params=["blocking", "async"])
def drive(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rig(firestore_emulator: FirestoreEmulator, drive: str) -> Iterator[Rig]:
    rig = Rig(firestore_emulator.host, drive)
    try:
        yield rig
    finally:
        rig.close()
