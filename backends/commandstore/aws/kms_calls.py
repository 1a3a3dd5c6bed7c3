"""Requests to AWS KMS: the client, and its errors in this library's words. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws.client import Target, connect, located, raw_client
from commandstore.aws.faults import SHOWN, Kind, answer, kind_of, unanswered
from commandstore.aws.options import endpoint_of
from commandstore.drive import BlockingDrive, run
from commandstore.errors import AccessDenied, CommandStoreError, ConfigurationError, StoreUnavailable, Throttled

__all__ = ["GONE", "ask", "kms_client"]

# Once for thousands of commands: the SDK's own retries are patient enough.
_SETTINGS = {"retries": {"mode": "standard", "total_max_attempts": 5}, "read_timeout": 10}
_METHODS = {
    "Decrypt": "decrypt",
    "Encrypt": "encrypt",
    "GenerateDataKey": "generate_data_key",
    "GenerateDataKeyWithoutPlaintext": "generate_data_key_without_plaintext",
    "GetPublicKey": "get_public_key",
    "Sign": "sign",
}
_UNAVAILABLE = {"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException"}
GONE = {
    "NotFoundException": "there is no such key, it was deleted, or it is in another region or account",
    "DisabledException": "the key is disabled",
    "KMSInvalidStateException": "the key is being deleted, or was never imported",
}
"""What KMS answers where a key can't be used (any more), and what that means."""
_HINTS = {
    **GONE,
    "InvalidArnException": "give a key id, a key's ARN, or alias/NAME",
    "InvalidGrantTokenException": "a grant token is wrong",
    "InvalidKeyUsageException": "the key is for another use",
    "UnsupportedOperationException": "the key is of another kind",
}


def kms_client(
    region: str | None = None,
    endpoint_url: str | None = None,
    profile: str | None = None,
    *,
    owner: AsyncExitStack | None = None,
) -> Any:
    """A client of KMS, as the stores on AWS make theirs.

    Args:
        region: else the environment's.
        endpoint_url: of another engine, or of a private endpoint.
        profile: of the shared AWS configuration.
        owner: closes it. None: it lives as long as the process, as keys do.

    Raises:
        ConfigurationError: no region, no such profile, an endpoint that isn't a URL.
    """
    region, endpoint = located("kms", region, endpoint_of(endpoint_url, "kms"), profile=profile)
    target = Target("kms", "the keys in KMS", "kms:", region, endpoint)
    stack = AsyncExitStack() if owner is None else owner
    # What has threads waits for many keys at once.
    made = connect(BlockingDrive(), stack, target, profile=profile, concurrency=8, settings=_SETTINGS)
    return raw_client(run(made))


def ask(client: Any, operation: str, key: str, hints: Mapping[str, str] = _HINTS, **arguments: Any) -> dict[str, Any]:
    """One request.

    Args:
        client: of boto3.
        operation: as KMS calls it.
        key: what the key is called in errors.
        hints: in place of KMS's own words, by its code; what is left out is as it is for every caller.
        arguments: of the request.

    Raises:
        ConfigurationError: it is refused for what it asks; ``__cause__`` is the SDK's error.
        AccessDenied: it is refused to this identity.
        StoreUnavailable: KMS did not answer, or asks for a slower pace.
    """
    try:
        found: dict[str, Any] = getattr(client, _METHODS[operation])(**arguments)
    except Exception as error:
        translated = _translate(error, operation, key, client, {**_HINTS, **hints})
        if translated is None:
            raise
        raise translated from error
    return found


def _translate(
    error: Exception, operation: str, key: str, client: Any, hints: Mapping[str, str]
) -> CommandStoreError | None:
    """This library's error for one of the SDK's; None where it isn't the SDK's."""
    host, subject = str(client.meta.endpoint_url), f"KMS key {key}"
    said = answer(error)
    if said is None:
        return unanswered(error, operation, subject, host=host, url=f"kms:{key}")
    code, what = said.code, f"{operation} with {subject} at {host}"
    if code in hints:
        return ConfigurationError(f"{what} was refused: {hints[code]} ({code})")
    found: CommandStoreError = ConfigurationError(f"{what} was refused: {said.message[:SHOWN]} ({code})")
    match Kind.UNAVAILABLE if code in _UNAVAILABLE else kind_of(code, said.status):
        case Kind.THROTTLED:
            found = Throttled(f"{host} asks for a slower pace ({operation} with {subject}: {code})")
        case Kind.EXPIRED:
            found = AccessDenied(f"the AWS credentials have expired for {what} ({code})")
        case Kind.DENIED:
            found = AccessDenied(
                f"AWS refuses {what} ({code}). The identity needs kms:{operation} on it. {said.message[:SHOWN]}"
            )
        case Kind.UNAVAILABLE:
            found = StoreUnavailable(f"{host} could not do {operation} with {subject} ({code})")
    return found
