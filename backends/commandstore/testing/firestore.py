"""Google's own Firestore emulator, as an engine for tests, the demo and benchmarks.

It comes with the Cloud SDK, as a jar that a recent Java runs. Where ``FIRESTORE_EMULATOR_HOST`` is set, an
emulator is running already: that one is used, and neither started nor stopped. It may be somebody's, so nothing is
deleted there but by ``reset`` of one project.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from commandstore.testing.engine_base import Engine, EngineUnavailable
from commandstore.testing.processes import SupervisedProcess

__all__ = ["FirestoreEmulator", "find_jar"]

_VARIABLE = "FIRESTORE_EMULATOR_HOST"
_PACKAGE = "google-cloud-cli-firestore-emulator"
_JARS = "platform/cloud-firestore-emulator/*.jar"
_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
# The SDK lies here by its packages and by its installer; where gcloud is on the path, beside it.
_FOLDERS = (
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/opt/homebrew/share/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
    "~/google-cloud-sdk",
)
_ASK_SECONDS = 20
_HTTP_OK = 200
_DEFAULT_PORT = 8080


def find_jar() -> Path | None:
    """The emulator's jar, where a Cloud SDK has it; None where there is none."""
    for folder in _sdk_folders():
        if jars := sorted(folder.glob(_JARS)):
            return jars[-1]
    return _packaged()


def _sdk_folders() -> Iterator[Path]:
    if root := os.environ.get("CLOUDSDK_ROOT") or os.environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    if gcloud := shutil.which("gcloud"):
        # .../google-cloud-sdk/bin/gcloud, behind a link. `gcloud info` says the same, and takes seconds.
        yield Path(gcloud).resolve().parent.parent
    for folder in _FOLDERS:
        yield Path(folder).expanduser()


def _packaged() -> Path | None:
    """The jar of the Debian package, wherever its files lie."""
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        return None
    try:
        asked = subprocess.run(  # noqa: S603 - no shell, no input
            [dpkg, "-L", _PACKAGE], capture_output=True, text=True, check=False, timeout=_ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next((Path(line) for line in asked.stdout.splitlines() if line.endswith(".jar")), None)


class FirestoreEmulator(Engine):
    """Firestore by Google's emulator. Data live in memory only."""

    name: ClassVar[str] = "the Firestore emulator"
    how_to_get: ClassVar[str] = (
        "install a recent Java and the emulator of the Cloud SDK (gcloud components install "
        f"cloud-firestore-emulator, or apt-get install {_PACKAGE}), or set {_VARIABLE} to one that is running"
    )

    def __init__(self) -> None:
        super().__init__()
        self._given: str | None = None

    @classmethod
    def available(cls) -> bool:
        """Whether an emulator is running already, or Java and the jar are here."""
        return bool(os.environ.get(_VARIABLE)) or (shutil.which("java") is not None and find_jar() is not None)

    @property
    def host(self) -> str:
        """``host:port``, as ``FIRESTORE_EMULATOR_HOST`` has it."""
        return self._given or f"127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start the emulator and wait until it answers; where one is running already, only look whether it does.

        Raises:
            EngineUnavailable: it is not installed, it did not come up, or the running one does not answer.
        """
        given = os.environ.get(_VARIABLE)
        if self._process is not None or not given:
            return super().start()
        self._given = given.removeprefix("http://").rstrip("/")
        if not self._answers():
            self._given = None
            raise EngineUnavailable(f"no Firestore emulator answers at {given}, which {_VARIABLE} names")
        return self

    def stop(self) -> None:
        """End the emulator; its data are gone. One that was running already goes on."""
        self._given = None
        super().stop()

    def reset(self, project: str, database: str = "(default)") -> None:
        """Forget all documents of one database."""
        path = f"/emulator/v1/projects/{quote(project)}/databases/{quote(database)}/documents"
        status, body = self._request("DELETE", path, timeout=60)
        if status != _HTTP_OK:
            raise RuntimeError(f"{self.name} would not forget its data: {status} {body[:200]!r}")

    def _launch(self, port: int) -> SupervisedProcess:
        directory = Path(tempfile.mkdtemp(prefix="commandstore-firestore-"))
        java, jar = shutil.which("java") or "java", find_jar()
        temporary = f"-Djava.io.tmpdir={directory}"
        return SupervisedProcess(
            # Not `java -jar`, which wants other arguments.
            [java, temporary, "-Duser.language=en", "-cp", str(jar), _MAIN, "--host=127.0.0.1", f"--port={port}"],
            environment=dict(os.environ),
            directory=directory,
        )

    def _answers(self) -> bool:
        try:
            # Briefly: whoever has taken the port instead may never answer.
            status, body = self._request("GET", "/", timeout=2)
        except (OSError, http.client.HTTPException):
            return False
        return status == _HTTP_OK and b"Ok" in body

    def _request(self, method: str, path: str, *, timeout: float) -> tuple[int, bytes]:
        # Not urllib, which would ask a proxy of the environment for 127.0.0.1. Of "[::1]:8080" the host is "::1".
        host, _, port = self.host.rpartition(":") if ":" in self.host.rpartition("]")[2] else (self.host, "", "")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port or _DEFAULT_PORT), timeout=timeout)
        try:
            connection.request(method, path, headers={"Authorization": "Bearer owner"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
