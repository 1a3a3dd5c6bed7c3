"""Buckets on an engine, opened by both drives."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from commandstore.testing.engines import Engine
from s3.wired import Wired, wired

DRIVES = ["blocking", "async"] if find_spec("aioboto3") else ["blocking"]


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing of the machine's own AWS settings is seen."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=DRIVES)
def drive(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["ministack", "moto_server"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(engine: Engine, drive: str) -> Iterator[Wired]:
    """A new bucket, and a wire to it."""
    yield from wired(engine.endpoint, drive)
