"""Making clients of the SDK: one for each drive, with the same settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import botocore.exceptions as sdk
from botocore.config import Config

from commandstore.aws.options import endpoint_of
from commandstore.drive import BlockingClient, Drive
from commandstore.errors import ConfigurationError, MissingDependency

__all__ = ["Target", "connect", "is_loopback", "located", "raw_client"]

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


class Target(NamedTuple):
    """What a client is for.

    Attributes:
        service: by the SDK's name, which is also the URL's scheme: ``dynamodb``, ``s3``.
        subject: as error messages call it: ``table commands``.
        url: the store's URL.
        region: as :func:`located` found it.
        endpoint: the same.
    """

    service: str
    subject: str
    url: str
    region: str | None
    endpoint: str | None


def is_loopback(endpoint_url: str | None) -> bool:
    """Whether the endpoint is on this machine: an emulator, or a tunnel."""
    return endpoint_url is not None and (urlsplit(endpoint_url).hostname or "") in _LOOPBACK


def located(
    service: str, region: str | None, endpoint: str | None, *, profile: str | None, session: Any = None
) -> tuple[str | None, str | None]:
    """The region and the endpoint that a client would talk to: the environment's or the profile's, where none is given.

    An endpoint is checked wherever it comes from, as it is part of what the store is called. Asks no
    network, so that a store has one name before and after it is opened.

    Raises:
        ConfigurationError: the endpoint is none, or has a password in it, which is not shown.
    """
    core = None
    if region is None or endpoint is None:
        try:
            core = (session or boto3.Session(profile_name=profile))._session  # noqa: SLF001 - as in _has_credentials
            region = region or core.get_config_variable("region")
        except sdk.BotoCoreError:  # no such profile: said when the store is opened
            core = None
    if endpoint is None:
        endpoint = next((endpoint_of(url, service, name) for name, url in _configured(service, core) if url), None)
    # Lambda's and the other SDKs' variable; boto3 reads AWS_DEFAULT_REGION alone.
    region = region or os.environ.get("AWS_REGION") or None
    if region is None and is_loopback(endpoint):
        region = "us-east-1"
    return region, endpoint


def _configured(service: str, core: Any) -> Iterator[tuple[str, str | None]]:
    """Where an endpoint may be configured, and the one that is, in the SDK's order.

    Args:
        service: of ``dynamodb``, ``s3`` and ``kms``, whose names are the same in the settings.
        core: the SDK's session; None where its files can't be read.
    """
    if core is None:
        ignored: Any = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    else:
        ignored = core.get_config_variable("ignore_configured_endpoint_urls")
    if ignored:
        return
    for name in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
        yield name, os.environ.get(name)
    if core is not None:
        scoped, services = core.get_scoped_config(), core.full_config.get("services", {})
        ours = services.get(scoped.get("services"), {}).get(service)
        if isinstance(ours, dict):
            yield f"endpoint_url of {service} in the services of the AWS profile", ours.get("endpoint_url")
        yield "endpoint_url of the AWS profile", scoped.get("endpoint_url")


async def connect(
    drive: Drive,
    stack: AsyncExitStack,
    target: Target,
    *,
    profile: str | None,
    concurrency: int,
    session: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """A client whose methods are coroutines.

    Args:
        drive: asynchronous: the client is aioboto3's; else boto3's, wrapped.
        stack: closes the client.
        target: what it is for.
        profile: of the shared AWS configuration.
        concurrency: how many requests will be under way at once.
        session: of boto3 or aioboto3, made by the caller; None makes one.
        settings: of the SDK's ``Config``, beside those that every client has.

    Raises:
        ConfigurationError: no region, no such profile, an endpoint that isn't a URL.
        MissingDependency: aioboto3 isn't installed.
    """
    every: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": 1},
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "max_pool_connections": max(50, 2 * concurrency),
        # Whole, because the SDK would put it together anew for each request, from a dozen pieces.
        "user_agent": f"commandstore Boto3/{boto3.__version__}",
        **(settings or {}),
    }
    arguments: dict[str, Any] = {"endpoint_url": target.endpoint}
    try:
        if drive.is_async:
            session, config = _async_session(session, profile, every, target.service)
        else:
            session, config = session or boto3.Session(profile_name=profile), Config(**every)
        if target.region is None:
            raise sdk.NoRegionError
        if is_loopback(target.endpoint) and not _has_credentials(session):
            # An emulator wants a signature and believes any. Looking further would ask the machine's metadata service,
            # which takes seconds where there is none.
            arguments |= {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        made = session.client(target.service, region_name=target.region, config=config, **arguments)
        if drive.is_async:
            client = await stack.enter_async_context(made)
        else:
            client = made
            stack.callback(client.close)
    except (sdk.BotoCoreError, ValueError) as error:
        raise _setup_error(error, target) from error
    return client if drive.is_async else BlockingClient(client, drive)


def raw_client(client: Any) -> Any:
    """The SDK's client, whose events can be listened to."""
    return client._client if isinstance(client, BlockingClient) else client  # noqa: SLF001 - ours as well


def _async_session(session: Any, profile: str | None, settings: Mapping[str, Any], scheme: str) -> tuple[Any, Any]:
    try:
        import aioboto3  # noqa: PLC0415 - an extra that nothing blocking needs
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{scheme}:// in an AsyncCommandStore needs the aioboto3 package: pip install 'commandstore[async]'"
        ) from error
    return session or aioboto3.Session(profile_name=profile), AioConfig(**settings)


def _has_credentials(session: Any) -> bool:
    """Whether any are configured, without asking the network."""
    core = session._session  # noqa: SLF001 - boto3 has no public way that doesn't fetch them
    if core.get_config_variable("profile") or any(os.environ.get(name) for name in _VARIABLES):
        return True
    default = core.full_config.get("profiles", {}).get("default", {})
    return any(name in default for name in _SETTINGS)


def _setup_error(error: Exception, target: Target) -> ConfigurationError:
    if isinstance(error, sdk.NoRegionError):
        return ConfigurationError(
            f"no AWS region is given for {target.subject}: add ?region=eu-central-1 to the URL, or set AWS_REGION"
        )
    return ConfigurationError(f"no client can be made for {target.url}: {error}")
