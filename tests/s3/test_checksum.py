"""What is signed of a body, and what its checksum vouches for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from commandstore.aws.client import raw_client
from commandstore.drive import AsyncDrive, BlockingDrive, run
from commandstore.s3.faults import Place
from commandstore.s3.wire import Wire, connect
from s3.wired import NO_PAUSE

LARGE = b"x" * (1 << 20)
SMALL = b"x" * 9


class Sent(Exception):
    pass


@pytest.fixture(params=["blocking", "async"])
def headers_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The headers of a PUT of a body to an endpoint; nothing is sent."""
    if request.param == "async":
        pytest.importorskip("aioboto3", reason="asyncio on AWS needs an extra")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")

    def asked(endpoint: str, data: bytes) -> dict[str, str]:
        drive = AsyncDrive() if request.param == "async" else BlockingDrive()
        place = Place("bucket", "", "eu-central-1", endpoint)
        headers: dict[str, str] = {}

        def stop(request: Any, **_: object) -> None:
            sent = dict(request.headers.items())
            headers.update({n: v.decode() if isinstance(v, bytes) else v for n, v in sent.items()})
            raise Sent

        async def put() -> None:
            async with AsyncExitStack() as stack:
                client = await connect(drive, stack, place=place, profile=None, concurrency=1)
                raw_client(client).meta.events.register("before-send.s3", stop)
                wire = Wire(client, drive, place, retry=NO_PAUSE, concurrency=1, put_options={}, owner=None)
                await wire.put("a", data)

        with pytest.raises(Sent):
            asyncio.run(put()) if request.param == "async" else run(put())
        return {name.lower(): value for name, value in headers.items()}

    return asked


def signed(headers: dict[str, str]) -> str:
    return headers["x-amz-content-sha256"]


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_over_tls_the_checksum_vouches_for_the_body_and_the_signature_for_the_checksum(headers_of, data) -> None:
    headers = headers_of("https://127.0.0.1:1", data)
    assert signed(headers) == "UNSIGNED-PAYLOAD"
    if data is SMALL:
        name, value = "content-md5", hashlib.md5(data, usedforsecurity=False).digest()
    else:
        name, value = "x-amz-checksum-crc32", zlib.crc32(data).to_bytes(4, "big")
    assert headers[name] == base64.b64encode(value).decode()
    assert f"{name};" in headers["authorization"]


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_in_the_clear_the_body_is_signed(headers_of, data) -> None:
    assert signed(headers_of("http://127.0.0.1:1", data)) == hashlib.sha256(data).hexdigest()


def test_whoever_asks_for_signed_bodies_gets_them(headers_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  payload_signing_enabled = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert signed(headers_of("https://127.0.0.1:1", LARGE)) == hashlib.sha256(LARGE).hexdigest()
