"""What the SDK's errors mean, whatever the service: by code, by class, by status.

A backend asks for the :class:`Kind` of an error and words its own message, since it knows what a permission is called
there and what was asked for. Codes that only one service has stay in its backend.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import botocore.exceptions as sdk
from botocore.parsers import ResponseParserError

from commandstore.errors import AccessDenied, CommandStoreError, ConfigurationError, StoreUnavailable

__all__ = ["SHOWN", "Answer", "Kind", "answer", "is_lost", "kind_of", "unanswered"]

# How much of an engine's own message is repeated.
SHOWN = 300
SERVER_ERROR = 500


class Kind(Enum):
    """What a refusal of the engine is about."""

    THROTTLED = auto()
    DENIED = auto()
    EXPIRED = auto()
    UNAVAILABLE = auto()
    REFUSED = auto()


class Answer(NamedTuple):
    """What the engine said when it refused."""

    code: str
    message: str
    status: int


_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TooManyRequestsException",
}
# The engine may have done what was asked, or not.
_UNAVAILABLE = {
    "ContinuousBackupsUnavailableException",
    "InternalFailure",
    "InternalServerError",
    "ReplicatedWriteConflictException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException"}
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}

_NO_CREDENTIALS = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.TokenRetrievalError,
    sdk.SSOError,
    sdk.UnauthorizedSSOTokenError,
)
_SILENT = (
    sdk.HTTPClientError,
    sdk.ConnectionError,
    sdk.IncompleteReadError,
    ResponseParserError,
    TimeoutError,
    ConnectionError,  # as a transport may let it through while an answer is read
)
# Nothing was sent, so nothing can have happened.
_NOT_SENT = (sdk.ConnectTimeoutError, sdk.ProxyConnectionError)
# What the transports call a connection that was never made; by name, as nothing blocking needs aiohttp.
_NOT_CONNECTED = {"ClientConnectorError", "NewConnectionError", "gaierror"}


def answer(error: BaseException) -> Answer | None:
    """The engine's own words, where the error is a refusal of it; None for everything else."""
    if not isinstance(error, sdk.ClientError):
        return None
    details = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Answer(str(details.get("Code", "")), str(details.get("Message", "")), status)


def kind_of(code: str, status: int) -> Kind:
    """What a refusal with this code is about."""
    if code in _THROTTLED:
        return Kind.THROTTLED
    if code in _EXPIRED:
        return Kind.EXPIRED
    if code in _DENIED:
        return Kind.DENIED
    return Kind.UNAVAILABLE if code in _UNAVAILABLE or status >= SERVER_ERROR or not code else Kind.REFUSED


def unanswered(error: BaseException, operation: str, subject: str, *, host: str, url: str) -> CommandStoreError | None:
    """This library's error where the engine said nothing; None where the error isn't the SDK's.

    Args:
        error: anything but a refusal, which :func:`answer` is for.
        operation: by the SDK's name.
        subject: what it was about: ``table commands``.
        host: who was asked.
        url: the store's URL.
    """
    name = type(error).__name__
    no_credentials = f"no AWS credentials for {subject} ({name}): set AWS_PROFILE or AWS_ACCESS_KEY_ID"
    silent = f"{host} did not answer {operation} for {subject} ({name}); check endpoint and network"
    kinds: tuple[tuple[tuple[type[Exception], ...], type[CommandStoreError], str], ...] = (
        (_NO_CREDENTIALS, AccessDenied, f"{no_credentials}, or add ?profile=NAME to the URL"),
        ((sdk.SSLError,), StoreUnavailable, f"no safe connection to {host}: {str(error)[:SHOWN]}"),
        (_SILENT, StoreUnavailable, silent),
        ((sdk.BotoCoreError,), ConfigurationError, f"{operation} on {url}: {str(error)[:SHOWN]}"),
    )
    for classes, cls, message in kinds:
        if isinstance(error, classes):
            return cls(message)
    # What the asynchronous transport lets through.
    return StoreUnavailable(silent) if type(error).__module__.partition(".")[0] in {"aiohttp", "urllib3"} else None


def is_lost(error: BaseException) -> bool:
    """Whether the request that failed so may have had its effect."""
    if isinstance(error, sdk.ClientError):
        code = error.response.get("Error", {}).get("Code")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code not in _THROTTLED and (code in _UNAVAILABLE or status >= SERVER_ERROR)
    return not isinstance(error, _NOT_SENT) and not _is_unconnected(error)


def _is_unconnected(error: BaseException) -> bool:
    """Whether there was no connection to send on.

    The class alone doesn't say so: aiobotocore has the same for a connection that was reset under way.
    """
    if not isinstance(error, sdk.EndpointConnectionError):
        return False
    cause = error.kwargs.get("error") or error.__cause__ or error.__context__
    return any(kind.__name__ in _NOT_CONNECTED for kind in type(cause).__mro__)
