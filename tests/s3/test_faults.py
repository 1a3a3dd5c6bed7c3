"""The SDK's errors, one by one, as S3 gives them."""

from __future__ import annotations

import socket

import botocore.exceptions as sdk
import pytest
from botocore.parsers import ResponseParserError

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
    Unsupported,
)
from commandstore.s3.faults import Place, is_lost, translate
from commandstore.testing.faults.client import client_error

PLACE = Place("audit", "stage/", "eu-central-1", "http://127.0.0.1:4566")
URL = "http://127.0.0.1:4566"


def test_a_place_is_written_as_its_url() -> None:
    assert Place("audit").url == "s3://audit"
    assert Place("audit", "a/b/", "eu-central-1").url == "s3://audit/a/b?region=eu-central-1"
    assert PLACE.url == f"s3://audit/stage?region=eu-central-1&endpoint_url={URL}"
    assert PLACE.host == URL
    assert Place("audit", region="eu-central-1").host == "S3 in eu-central-1"


@pytest.mark.parametrize(
    ("code", "status", "kind", "lost"),
    [
        ("SlowDown", 503, Throttled, False),
        ("ServiceUnavailable", 503, Throttled, True),
        ("503", 503, Throttled, True),
        ("InternalError", 500, StoreUnavailable, True),
        ("NobodyKnows", 500, StoreUnavailable, True),
        ("502", 502, StoreUnavailable, True),
        ("RequestTimeout", 400, StoreUnavailable, True),
        ("", 504, StoreUnavailable, True),
        ("ConditionalRequestConflict", 409, StoreUnavailable, False),
        ("OperationAborted", 409, StoreUnavailable, False),
        ("BadDigest", 400, StoreUnavailable, False),
        ("AccessDenied", 403, AccessDenied, False),
        ("403", 403, AccessDenied, False),
        ("InvalidAccessKeyId", 403, AccessDenied, False),
        ("SignatureDoesNotMatch", 403, AccessDenied, False),
        ("ExpiredToken", 400, AccessDenied, False),
        ("NoSuchBucket", 404, StoreNotFound, False),
        ("NotImplemented", 501, Unsupported, True),
        ("PermanentRedirect", 301, ConfigurationError, False),
        ("InvalidBucketName", 400, ConfigurationError, False),
        ("BucketAlreadyExists", 409, ConfigurationError, False),
        ("MethodNotAllowed", 405, ConfigurationError, False),
        ("404", 404, ConfigurationError, False),
        ("NobodyKnows", 400, ConfigurationError, False),
    ],
)
def test_each_code_has_its_error(code: str, status: int, kind: type[CommandStoreError], lost: bool) -> None:
    error = client_error(code, status)
    translated = translate(error, "PutObject", PLACE, "stage/a")
    assert type(translated) is kind
    assert "audit" in str(translated)
    assert is_lost(error) is lost


@pytest.mark.parametrize(
    ("error", "kind", "lost"),
    [
        (sdk.EndpointConnectionError(endpoint_url=URL, error=socket.gaierror()), StoreUnavailable, False),
        (sdk.EndpointConnectionError(endpoint_url=URL, error=ConnectionResetError()), StoreUnavailable, True),
        (sdk.ReadTimeoutError(endpoint_url=URL), StoreUnavailable, True),
        (sdk.ResponseStreamingError(error="reset"), StoreUnavailable, True),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable, True),
        (ResponseParserError("no XML"), StoreUnavailable, True),
        (sdk.NoCredentialsError(), AccessDenied, True),
        (sdk.ParamValidationError(report="Bucket"), ConfigurationError, True),
    ],
)
def test_each_failure_of_the_transport_has_its_error(
    error: Exception, kind: type[CommandStoreError], lost: bool
) -> None:
    translated = translate(error, "PutObject", PLACE, "stage/a")
    assert type(translated) is kind
    assert is_lost(error) is lost


def test_what_is_not_the_sdks_is_not_translated() -> None:
    assert translate(ZeroDivisionError(), "PutObject", PLACE) is None


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("GetObject", "s3:GetObject "),
        ("GetObject", "s3:ListBucket"),
        ("PutObject", "s3:PutObject"),
        ("DeleteObject", "s3:DeleteObject"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("CreateBucket", "s3:CreateBucket"),
        ("GetObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration"),
    ],
)
def test_who_is_denied_learns_what_is_needed(operation: str, action: str) -> None:
    text = str(translate(client_error("AccessDenied", 403), operation, PLACE, "stage/a"))
    assert action in text
    assert "stage/a in bucket audit" in text
    assert "account" not in text
    assert "account 123456789012" in str(
        translate(client_error("AccessDenied", 403), operation, PLACE, owner="123456789012")
    )


def test_a_bucket_elsewhere_is_said_to_be_there() -> None:
    header = client_error("PermanentRedirect", 301, headers={"x-amz-bucket-region": "us-west-2"})
    field = client_error("AuthorizationHeaderMalformed", 400, Region="us-west-2")
    for error in (header, field):
        assert "region=us-west-2" in str(translate(error, "GetObject", PLACE))
    assert "another region" in str(translate(client_error("301", 301), "GetObject", PLACE))


def test_a_long_message_of_the_engine_is_cut() -> None:
    assert len(str(translate(client_error("MalformedXML", message="x" * 9000), "PutObject", PLACE))) < 600
