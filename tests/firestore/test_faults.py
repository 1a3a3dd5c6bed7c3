"""The SDK's errors, one by one."""

from __future__ import annotations

import google.auth.exceptions as auth
import grpc
import pytest
from google.api_core import exceptions as google

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
)
from commandstore.firestore.faults import (
    Code,
    Place,
    answer,
    by_code,
    is_condition,
    is_lost,
    is_refused,
    translate,
)

PLACE = Place("acme", "commands", "audit")
NO_DATABASE = (
    "The database audit does not exist for project acme Please visit "
    "https://console.cloud.google.com/datastore/setup?project=acme to add a Cloud Firestore database."
)
NO_PROJECT = (
    "The project acme does not exist or it does not contain an active Cloud Datastore or Cloud Firestore database. "
    "Please visit http://console.cloud.google.com to create a project."
)
DATASTORE_MODE = (
    "The Cloud Firestore API is not available for Firestore in Datastore Mode database projects/acme/databases/audit."
)
DISABLED = (
    "Cloud Firestore API has not been used in project 123 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/firestore.googleapis.com/overview?project=123 then retry."
)
NO_INDEX = (
    "The query requires an index. You can create it here: https://console.firebase.google.com/x?create_composite=Cg"
)
BUILDING = (
    "The query requires an index. That index is currently building and cannot be used yet. See its status here: "
    "https://console.firebase.google.com/y"
)
NO_TOKEN = "Getting metadata from plugin failed with error: ('invalid_grant: Bad Request', {'error': 'invalid_grant'})"
NO_NETWORK = (
    "Getting metadata from plugin failed with error: HTTPSConnectionPool(host='oauth2.googleapis.com'): timed out"
)
NOBODY = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"


class RawError(grpc.RpcError):
    """As gRPC raises it, where nothing of the SDK is in between."""

    def __init__(self, code: grpc.StatusCode | None, details: str | None) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def details(self) -> str | None:
        return self._details


@pytest.mark.parametrize(
    ("error", "kind", "lost"),
    [
        (google.Aborted("Too much contention on these documents."), StoreUnavailable, False),
        (google.ServiceUnavailable("Connection reset by peer"), StoreUnavailable, True),
        (google.ServiceUnavailable(NOBODY), StoreUnavailable, False),
        (google.ServiceUnavailable("DNS resolution failed for firestore.googleapis.com"), StoreUnavailable, False),
        (google.ServiceUnavailable(NO_TOKEN), AccessDenied, False),
        (google.ServiceUnavailable(NO_NETWORK), StoreUnavailable, False),
        (google.DeadlineExceeded("Deadline Exceeded"), StoreUnavailable, True),
        (google.InternalServerError("oops"), StoreUnavailable, True),
        (google.Unknown("Stream removed"), StoreUnavailable, True),
        (google.Cancelled("by the server"), StoreUnavailable, True),
        (google.BadGateway("a proxy's page"), StoreUnavailable, True),
        (google.ResourceExhausted("Quota exceeded."), Throttled, False),
        (google.ResourceExhausted("gRPC message exceeds maximum size 4194304: 4500407"), ConfigurationError, False),
        (google.ResourceExhausted("Received message larger than max (5 vs. 4)"), ConfigurationError, False),
        (google.PermissionDenied("Missing or insufficient permissions."), AccessDenied, False),
        (google.PermissionDenied("Permission denied on resource project acme."), AccessDenied, False),
        (google.PermissionDenied(DISABLED), ConfigurationError, False),
        (google.Unauthenticated("Request had invalid authentication credentials."), AccessDenied, False),
        (google.NotFound(NO_DATABASE), StoreNotFound, False),
        (google.NotFound(NO_PROJECT), StoreNotFound, False),
        (google.NotFound("No document to update: projects/acme/..."), ConfigurationError, False),
        (google.AlreadyExists("Document already exists"), ConfigurationError, False),
        (google.FailedPrecondition(DATASTORE_MODE), ConfigurationError, False),
        (google.FailedPrecondition(NO_INDEX), ConfigurationError, False),
        (google.FailedPrecondition(BUILDING), ConfigurationError, False),
        (google.InvalidArgument("Document is too large"), ConfigurationError, False),
        (google.OutOfRange("no"), ConfigurationError, False),
        (google.MethodNotImplemented("no such method"), ConfigurationError, False),
        (google.DataLoss("oops"), ConfigurationError, False),
        (google.RetryError("Timeout of 60 s exceeded", None), StoreUnavailable, True),
        (google.NotFound("404 page not found"), ConfigurationError, False),
        (auth.DefaultCredentialsError("Your default credentials were not found."), AccessDenied, False),
        (auth.RefreshError("invalid_grant: Token has been expired or revoked."), AccessDenied, False),
        (auth.ReauthFailError("Reauthentication failed."), AccessDenied, False),
        (auth.TransportError("no route to oauth2.googleapis.com"), StoreUnavailable, False),
        (RawError(grpc.StatusCode.UNAVAILABLE, "gone"), StoreUnavailable, True),
        (RawError(grpc.StatusCode.RESOURCE_EXHAUSTED, None), Throttled, False),
        (RawError(None, None), StoreUnavailable, True),
    ],
)
def test_each_error_has_its_own(error: Exception, kind: type[CommandStoreError], lost: bool) -> None:
    translated = translate(error, "commit", PLACE)
    assert type(translated) is kind
    assert "acme" in str(translated)
    assert "\n" not in str(translated)
    assert is_lost(error) is lost


def test_what_is_not_the_sdks_is_not_translated() -> None:
    assert translate(KeyError("x"), "commit", PLACE) is None
    assert answer(KeyError("x")) is None
    assert is_lost(KeyError("x"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (3, ConfigurationError),
        (4, StoreUnavailable),
        (7, AccessDenied),
        (8, Throttled),
        (10, StoreUnavailable),
        (13, StoreUnavailable),
        (14, StoreUnavailable),
        (16, AccessDenied),
        (99, StoreUnavailable),
    ],
)
def test_each_code_of_a_single_write_has_its_error(code: int, kind: type[CommandStoreError]) -> None:
    assert type(by_code(code, "as the engine says it", "batch_write", PLACE)) is kind


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            google.NotFound(NO_DATABASE),
            "gcloud firestore databases create --project=acme --database=audit --type=firestore-native --location=",
        ),
        (google.FailedPrecondition(DATASTORE_MODE), "--database=commands --type=firestore-native"),
        (google.PermissionDenied(DISABLED), "gcloud services enable firestore.googleapis.com --project=acme"),
        (
            google.FailedPrecondition(BUILDING),
            "gcloud firestore indexes composite list --project=acme --database=audit",
        ),
        (google.FailedPrecondition(BUILDING), "https://console.firebase.google.com/y"),
        (
            google.FailedPrecondition(NO_INDEX),
            "create it (or at https://console.firebase.google.com/x?create_composite",
        ),
        (google.PermissionDenied("no"), "roles/datastore.user"),
        (google.Unauthenticated("no"), "gcloud auth application-default login"),
        (auth.DefaultCredentialsError("no"), "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_messages_say_what_to_do_next(error: Exception, expected: str) -> None:
    assert expected in str(translate(error, "commit", PLACE))


def test_a_reader_needs_less() -> None:
    assert "roles/datastore.viewer" in str(translate(google.PermissionDenied("no"), "run_query", PLACE))


def test_a_missing_index_has_the_given_command_and_the_whole_url() -> None:
    message = str(translate(google.FailedPrecondition(NO_INDEX + "C" * 900), "run_query", PLACE, index="gcloud it"))
    assert "create it with: gcloud it (or at https://" in message
    assert message.count("C") > 900


def test_the_default_database_is_quoted_for_a_shell() -> None:
    error = translate(google.NotFound("The database (default) does not exist for project p"), "commit", Place("p", "c"))
    assert "--database='(default)'" in str(error)


@pytest.mark.parametrize(
    ("code", "message", "condition"),
    [
        (Code.ALREADY_EXISTS, "Document already exists: projects/p/databases/d/documents/c/i", True),
        (
            Code.NOT_FOUND,
            "No document to update: projects/p/databases/d/documents/The database x does not exist/i",
            True,
        ),
        (Code.FAILED_PRECONDITION, "the stored version (1) does not match the required base version (2)", True),
        (Code.NOT_FOUND, NO_DATABASE, False),
        (Code.NOT_FOUND, NO_PROJECT, False),
        (Code.FAILED_PRECONDITION, DATASTORE_MODE, False),
        (Code.FAILED_PRECONDITION, NO_INDEX, False),
        (Code.ABORTED, "contention", False),
        (Code.OK, "", False),
    ],
)
def test_conditions_are_told_from_settings(code: Code, message: str, condition: bool) -> None:
    assert is_condition(code, message) is condition


@pytest.mark.parametrize(
    ("cause", "refused"),
    [
        (google.InvalidArgument("Document is too large"), True),
        (google.ResourceExhausted("gRPC message exceeds maximum size 4194304: 4500407"), True),
        (google.ResourceExhausted("Quota exceeded."), False),
        (google.PermissionDenied("no"), False),
        (KeyError(), False),
    ],
)
def test_what_was_refused(cause: Exception, refused: bool) -> None:
    error = CommandStoreError("x")
    assert not is_refused(error)
    error.__cause__ = cause
    assert is_refused(error) is refused


def test_a_long_message_of_the_engine_is_cut() -> None:
    assert len(str(translate(google.InvalidArgument("x" * 9000), "commit", PLACE))) < 600


def test_places() -> None:
    assert PLACE.url == "firestore://acme/commands?database=audit"
    assert Place("acme", "commands").url == "firestore://acme/commands"
    assert PLACE.database_name == "projects/acme/databases/audit"
    assert PLACE.root == "projects/acme/databases/audit/documents"
    assert PLACE.host == "Firestore"
    assert Place("p", "c", emulator="127.0.0.1:8080").host == "the Firestore emulator at 127.0.0.1:8080"
