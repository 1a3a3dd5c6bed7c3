"""The URL of the source, where it is kept: the environment, Secrets Manager or the parameter store of SSM.

And what other secrets hold.
"""

from __future__ import annotations

import re
from typing import Any

import boto3
import botocore.exceptions as sdk
import orjson
from botocore.config import Config

from commandstore.aws.faults import Kind, answer, kind_of
from commandstore.aws.options import endpoint_of
from commandstore.entrypoints.settings import SyncSettings
from commandstore.errors import AccessDenied, CommandStoreError, ConfigurationError, StoreUnavailable
from commandstore.registry import backend_from_url, schemes

__all__ = ["SourceUrl", "read_secret"]

_KEY = "url"
_SHAPE = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_MISSING = {"ResourceNotFoundException", "ParameterNotFound"}
# Few and short: an invocation has better things to do than to wait for a network that has no way to the service.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})


class SourceUrl:
    """Reads the URL once and keeps it.

    Args:
        settings: say where it is.
    """

    def __init__(self, settings: SyncSettings) -> None:
        self._settings = settings
        self._url: str | None = settings.source

    def get(self) -> str:
        """The URL, as it was when it was last read.

        Raises:
            ConfigurationError: there is no such secret, or it doesn't hold what it should; names the setting.
            AccessDenied: the role may not read it.
            StoreUnavailable: the service did not answer.
        """
        if self._url is None:
            self._url = self._read()
        return self._url

    def changed(self) -> bool:
        """Read it again; whether it is another one now (a password was changed)."""
        if self._settings.source is not None:
            return False
        before, self._url = self._url, self._read()
        return self._url != before

    def _read(self) -> str:
        settings = self._settings
        if settings.source_parameter is not None:
            name, setting = settings.source_parameter, "COMMANDSTORE_SOURCE_PARAMETER"
            found = _ask("ssm", "get_parameter", setting, Name=name, WithDecryption=True)
            return _url(str(found["Parameter"]["Value"]), setting)
        name, setting = settings.source_secret or "", "COMMANDSTORE_SOURCE_SECRET"
        found = _ask("secretsmanager", "get_secret_value", setting, SecretId=name)
        if "SecretString" not in found:
            raise ConfigurationError(f"the secret of {setting} holds bytes, not text")
        return _url(self._picked(str(found["SecretString"])), setting)

    def _picked(self, text: str) -> str:
        """The URL in a secret: the secret itself, or a value of the object that it is."""
        key = self._settings.source_secret_key
        if key is None and not text.lstrip().startswith("{"):
            return text
        key = key or _KEY
        try:
            value = orjson.loads(text)
        except ValueError:
            # Without the cause: it shows what was read.
            raise ConfigurationError("the secret of COMMANDSTORE_SOURCE_SECRET is not a JSON object") from None
        if not isinstance(value, dict) or not isinstance(value.get(key), str):
            raise ConfigurationError(
                f"the secret of COMMANDSTORE_SOURCE_SECRET has no text under the key {key!r}; "
                "COMMANDSTORE_SOURCE_SECRET_KEY says which one holds the URL"
            )
        return str(value[key])


def read_secret(name: str, setting: str) -> bytes:
    """What a secret of Secrets Manager holds, text or bytes.

    Args:
        name: its name or ARN.
        setting: which one named it, for errors.

    Raises:
        ConfigurationError: there is no such secret.
        AccessDenied: the role may not read it.
        StoreUnavailable: the service did not answer.
    """
    found = _ask("secretsmanager", "get_secret_value", setting, SecretId=name)
    return bytes(found["SecretBinary"]) if "SecretBinary" in found else str(found["SecretString"]).encode()


def _url(text: str, setting: str) -> str:
    url = text.strip()
    try:
        if _SHAPE.fullmatch(url) and url.partition(":")[0] in schemes():
            backend_from_url(url)
            return url
    except ConfigurationError:
        pass  # its message repeats what it was given
    raise ConfigurationError(
        f"what {setting} leads to is not a URL such as postgresql://USER:PASSWORD@HOST/NAME, with odd characters of "
        "the password written as %40 and the like"
    )


def _ask(service: str, operation: str, setting: str, **arguments: Any) -> dict[str, Any]:
    try:
        client = boto3.client(service, config=_CONFIG)
        endpoint_of(client.meta.endpoint_url, service, "the endpoint in AWS's settings")  # the SDK's errors show it
        found: dict[str, Any] = getattr(client, operation)(**arguments)
    except (sdk.BotoCoreError, sdk.ClientError) as error:
        raise _translated(error, service, operation, setting) from error
    return found


def _translated(error: Exception, service: str, operation: str, setting: str) -> CommandStoreError:
    said = answer(error)
    if said is None:
        return StoreUnavailable(
            f"{service} did not answer {operation} for {setting} ({type(error).__name__}); a function in a VPC needs "
            f"a way to it: an interface endpoint for {service}, or a NAT gateway"
        )
    if said.code in _MISSING:
        return ConfigurationError(f"{setting}: {service} has nothing under that name ({said.code})")
    kind = kind_of(said.code, said.status)
    if kind in {Kind.DENIED, Kind.EXPIRED}:
        return AccessDenied(f"{setting}: the role may not {operation} ({said.code})")
    if kind in {Kind.THROTTLED, Kind.UNAVAILABLE}:
        return StoreUnavailable(f"{setting}: {service} can't answer now ({said.code})")
    return ConfigurationError(f"{setting}: {service} refused {operation} ({said.code})")
