"""Making clients of the SDK: one for each drive, with the same settings."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as sdk
from botocore.config import Config

from commandstore.drive import BlockingClient, Drive
from commandstore.dynamodb.faults import Place
from commandstore.errors import ConfigurationError, MissingDependency

__all__ = ["connect", "located", "raw_client"]

_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Where credentials may come from, without asking the network.
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_SETTINGS = ("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "credential_process")


def is_loopback(endpoint_url: str | None) -> bool:
    """Whether the endpoint is on this machine: an emulator, or a tunnel."""
    return endpoint_url is not None and (urlsplit(endpoint_url).hostname or "") in _LOOPBACK


def located(place: Place, profile: str | None, session: Any = None) -> Place:
    """Where a client for this place would talk to: the region and the endpoint of the environment, where none is given.

    Asks no network, so that a store has one name before and after it is opened.
    """
    endpoint = place.endpoint or _from_environment("AWS_ENDPOINT_URL_DYNAMODB") or _from_environment("AWS_ENDPOINT_URL")
    region = place.region
    if region is None:
        try:
            region = (session or boto3.Session(profile_name=profile)).region_name
        except sdk.BotoCoreError:  # no such profile: said when the store is opened
            region = None
    # Lambda's and the other SDKs' variable; boto3 reads AWS_DEFAULT_REGION alone.
    region = region or os.environ.get("AWS_REGION") or None
    if region is None and is_loopback(endpoint):
        region = "us-east-1"
    return place._replace(region=region, endpoint=endpoint)


def _from_environment(name: str) -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return (os.environ.get(name) or "").rstrip("/") or None


async def connect(
    drive: Drive,
    stack: AsyncExitStack,
    *,
    place: Place,
    profile: str | None,
    concurrency: int,
    session: Any = None,
) -> Any:
    """A client whose methods are coroutines.

    Args:
        drive: asynchronous: the client is aioboto3's; else boto3's, wrapped.
        stack: closes the client.
        place: where, as :func:`located` found it.
        profile: of the shared AWS configuration.
        concurrency: how many requests will be under way at once.
        session: of boto3 or aioboto3, made by the caller; None makes one.

    Raises:
        ConfigurationError: no region, no such profile, an endpoint that isn't a URL.
        MissingDependency: aioboto3 isn't installed.
    """
    settings: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "max_pool_connections": max(50, 2 * concurrency),
        "parameter_validation": False,  # the bodies are made by requests.py, within the limits in layout.py
        # Whole, because the SDK would put it together anew for each request, from a dozen pieces.
        "user_agent": f"commandstore Boto3/{boto3.__version__}",
    }
    arguments: dict[str, Any] = {"endpoint_url": place.endpoint}
    try:
        if drive.is_async:
            session, config = _async_session(session, profile, settings)
        else:
            session, config = session or boto3.Session(profile_name=profile), Config(**settings)
        if is_loopback(place.endpoint) and not _has_credentials(session):
            # An emulator wants a signature and believes any. Looking further would ask the machine's metadata service,
            # which takes seconds where there is none.
            arguments |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        made = session.client("dynamodb", region_name=place.region, config=config, **arguments)
        if drive.is_async:
            client = await stack.enter_async_context(made)
        else:
            client = made
            stack.callback(client.close)
    except (sdk.BotoCoreError, ValueError) as error:
        raise _setup_error(error, place) from error
    return client if drive.is_async else BlockingClient(client, drive)


def raw_client(client: Any) -> Any:
    """The SDK's client, whose events can be listened to."""
    return client._client if isinstance(client, BlockingClient) else client  # noqa: SLF001 - ours as well


def _async_session(session: Any, profile: str | None, settings: dict[str, Any]) -> tuple[Any, Any]:
    try:
        import aioboto3  # noqa: PLC0415 - an extra that nothing blocking needs
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "dynamodb:// in an AsyncCommandStore needs the aioboto3 package: pip install 'commandstore[async]'"
        ) from error
    return session or aioboto3.Session(profile_name=profile), AioConfig(**settings)


def _has_credentials(session: Any) -> bool:
    """Whether any are configured, without asking the network."""
    core = session._session  # noqa: SLF001 - boto3 has no public way that doesn't fetch them
    if core.get_config_variable("profile") or any(os.environ.get(name) for name in _VARIABLES):
        return True
    default = core.full_config.get("profiles", {}).get("default", {})
    return any(name in default for name in _SETTINGS)


def _setup_error(error: Exception, place: Place) -> ConfigurationError:
    if isinstance(error, sdk.NoRegionError):
        return ConfigurationError(
            f"no AWS region is given for table {place.table}: add ?region=eu-central-1 to the URL, or set AWS_REGION"
        )
    return ConfigurationError(f"no client can be made for {place.url}: {error}")
