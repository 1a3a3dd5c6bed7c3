"""The SDK's errors, one by one."""

from __future__ import annotations

import socket

import botocore.exceptions as sdk
import pytest
from botocore.parsers import ResponseParserError
from urllib3.exceptions import NewConnectionError

from commandstore.dynamodb.faults import Place, is_lost, statement_error, translate
from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    InvalidCommand,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
    Unsupported,
)
from commandstore.testing.faults.client import client_error

PLACE = Place("audit", "eu-central-1", "http://127.0.0.1:4566")
URL = "http://127.0.0.1:4566"


REFUSED = NewConnectionError(None, "refused")


class FromAiohttp(Exception):
    """What aiohttp raises itself, on a machine that may not have it."""

    __module__ = "aiohttp.client_exceptions"


class ClientOSError(OSError):
    """As aiohttp's: a connection that failed, at whatever time."""


class ClientConnectorError(ClientOSError):
    """As aiohttp's: there was no connection."""


@pytest.mark.parametrize(
    ("code", "status", "kind", "lost"),
    [
        ("ProvisionedThroughputExceededException", 400, Throttled, False),
        ("ThrottlingException", 400, Throttled, False),
        ("RequestLimitExceeded", 400, Throttled, False),
        ("ThrottlingException", 503, Throttled, False),
        ("InternalServerError", 500, StoreUnavailable, True),
        ("ServiceUnavailable", 503, StoreUnavailable, True),
        ("TransactionConflictException", 400, StoreUnavailable, True),
        ("502", 502, StoreUnavailable, True),
        ("NobodyKnows", 500, StoreUnavailable, True),
        ("", 504, StoreUnavailable, True),
        ("AccessDeniedException", 400, AccessDenied, False),
        ("UnrecognizedClientException", 400, AccessDenied, False),
        ("InvalidSignatureException", 400, AccessDenied, False),
        ("ExpiredTokenException", 400, AccessDenied, False),
        ("MissingAuthenticationTokenException", 400, AccessDenied, False),
        ("ResourceNotFoundException", 400, StoreNotFound, False),
        ("UnknownOperationException", 400, Unsupported, False),
        ("ValidationException", 400, ConfigurationError, False),
        ("NobodyKnows", 400, ConfigurationError, False),
    ],
)
def test_each_code_has_its_error(code: str, status: int, kind: type[CommandStoreError], lost: bool) -> None:
    error = client_error(code, status)
    translated = translate(error, "PutItem", PLACE)
    assert type(translated) is kind
    assert "audit" in str(translated) or URL in str(translated)
    assert is_lost(error) is lost


@pytest.mark.parametrize(
    ("error", "kind", "lost"),
    [
        (
            sdk.EndpointConnectionError(endpoint_url=URL, error=REFUSED),
            StoreUnavailable,
            False,
        ),
        (sdk.EndpointConnectionError(endpoint_url=URL, error=socket.gaierror("no name")), StoreUnavailable, False),
        (sdk.EndpointConnectionError(endpoint_url=URL, error=ClientConnectorError()), StoreUnavailable, False),
        # What aiobotocore makes of a connection that was reset when the request had been sent.
        (sdk.EndpointConnectionError(endpoint_url=URL, error=ClientOSError(104, "reset")), StoreUnavailable, True),
        (sdk.EndpointConnectionError(endpoint_url=URL), StoreUnavailable, True),
        (sdk.ProxyConnectionError(proxy_url=URL), StoreUnavailable, False),
        (sdk.ConnectTimeoutError(endpoint_url=URL), StoreUnavailable, False),
        (sdk.ReadTimeoutError(endpoint_url=URL), StoreUnavailable, True),
        (sdk.ConnectionClosedError(endpoint_url=URL), StoreUnavailable, True),
        (sdk.SSLError(endpoint_url=URL, error="certificate"), StoreUnavailable, True),
        (sdk.HTTPClientError(error="anything"), StoreUnavailable, True),
        (ResponseParserError("no JSON"), StoreUnavailable, True),
        (TimeoutError(), StoreUnavailable, True),
        (FromAiohttp(), StoreUnavailable, True),
        (sdk.NoCredentialsError(), AccessDenied, True),
        (sdk.PartialCredentialsError(provider="env", cred_var="secret"), AccessDenied, True),
        (sdk.CredentialRetrievalError(provider="sso", error_msg="no"), AccessDenied, True),
        (sdk.UnauthorizedSSOTokenError(), AccessDenied, True),
        (sdk.InvalidRegionError(region_name="x y"), ConfigurationError, True),
    ],
)
def test_each_failure_of_the_transport_has_its_error(
    error: Exception, kind: type[CommandStoreError], lost: bool
) -> None:
    assert type(translate(error, "PutItem", PLACE)) is kind
    assert is_lost(error) is lost


def test_what_is_not_the_sdks_is_not_translated() -> None:
    assert translate(KeyError("x"), "PutItem", PLACE) is None
    assert translate(ZeroDivisionError(), "PutItem", PLACE) is None


def test_a_missing_table_is_answered_with_the_command_that_makes_it() -> None:
    error = translate(client_error("ResourceNotFoundException"), "Query", PLACE)
    assert "commandstore init 'dynamodb://audit?region=eu-central-1&endpoint_url=http://127.0.0.1:4566'" in str(error)


def test_a_refusal_names_the_permission() -> None:
    assert "dynamodb:PartiQLInsert" in str(
        translate(client_error("AccessDeniedException"), "BatchExecuteStatement", PLACE)
    )
    assert "dynamodb:Query" in str(translate(client_error("AccessDeniedException"), "Query", PLACE))


def test_an_engine_without_partiql_is_answered_with_the_option_to_use() -> None:
    error = translate(client_error("UnknownOperationException"), "BatchExecuteStatement", PLACE)
    assert isinstance(error, Unsupported)
    assert "bulk=put" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceeded", Throttled),
        ("ThrottlingError", Throttled),
        ("RequestLimitExceeded", Throttled),
        ("InternalServerError", StoreUnavailable),
        ("TransactionConflict", StoreUnavailable),
        ("ValidationError", InvalidCommand),
        ("ItemCollectionSizeLimitExceeded", InvalidCommand),
        ("AccessDenied", AccessDenied),
        ("ResourceNotFound", StoreNotFound),
    ],
)
def test_each_code_of_a_statement_has_its_error(code: str, kind: type[CommandStoreError]) -> None:
    error = statement_error(code, "as the engine says it", "c-1", PLACE)
    assert type(error) is kind
    assert not isinstance(error, InvalidCommand) or error.command_uuid == "c-1"


def test_a_long_message_of_the_engine_is_cut() -> None:
    assert len(str(translate(client_error("ValidationException", message="x" * 9000), "PutItem", PLACE))) < 600
