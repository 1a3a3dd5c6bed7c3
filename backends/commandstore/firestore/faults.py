"""The one place where the SDK's errors become this library's: by gRPC's code, and by message where a code says little.

Firestore answers ``NOT_FOUND`` for a missing document as for a missing database, and ``FAILED_PRECONDITION`` for a
document that has changed, a missing index and a database in the wrong mode. Only the message tells them apart.
"""

from __future__ import annotations

import re
import shlex
from enum import IntEnum
from typing import Any, NamedTuple

import google.auth.exceptions as auth
import grpc
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
)

__all__ = [
    "DEFAULT_DATABASE",
    "PASSING",
    "Code",
    "Place",
    "answer",
    "by_code",
    "is_condition",
    "is_lost",
    "is_lost_code",
    "is_refused",
    "translate",
]

DEFAULT_DATABASE = "(default)"
# How much of an engine's own message is repeated.
_SHOWN = 300


class Code(IntEnum):
    """gRPC's codes, which are also those of the single writes of a batch."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Place(NamedTuple):
    """Where a store is, and what error messages say of it.

    Attributes:
        project: of Google Cloud.
        collection: which holds the commands.
        database: in that project.
        emulator: ``host:port``; None is the real Firestore.
    """

    project: str
    collection: str
    database: str = DEFAULT_DATABASE
    emulator: str | None = None

    @property
    def url(self) -> str:
        """The store's URL. An emulator is the environment's business, and has no place in it."""
        options = "" if self.database == DEFAULT_DATABASE else f"?database={self.database}"
        return f"firestore://{self.project}/{self.collection}{options}"

    @property
    def host(self) -> str:
        """Who was asked."""
        return f"the Firestore emulator at {self.emulator}" if self.emulator else "Firestore"

    @property
    def database_name(self) -> str:
        """The database, as requests name it."""
        return f"projects/{self.project}/databases/{self.database}"

    @property
    def root(self) -> str:
        """What the names of all documents begin with, and the parent of the collection."""
        return f"{self.database_name}/documents"

    @property
    def where(self) -> str:
        """As messages say it: ``collection commands (project acme, database (default))``."""
        return f"collection {self.collection} (project {self.project}, database {self.database})"


class Answer(NamedTuple):
    """What the engine, or gRPC in its stead, said when it refused."""

    code: Code
    message: str


# Over in a moment, perhaps: the request may be sent again.
PASSING = frozenset(
    {
        Code.ABORTED,
        Code.CANCELLED,
        Code.DEADLINE_EXCEEDED,
        Code.INTERNAL,
        Code.RESOURCE_EXHAUSTED,
        Code.UNAVAILABLE,
        Code.UNKNOWN,
    }
)
# The engine may have done what was asked, or not. Those that ABORTED or RESOURCE_EXHAUSTED name were not done.
_LOST = PASSING - {Code.ABORTED, Code.RESOURCE_EXHAUSTED}
_CONDITIONS = frozenset({Code.ALREADY_EXISTS, Code.NOT_FOUND, Code.FAILED_PRECONDITION})

# As messages begin, so that no name in them is taken for their meaning.
_NO_DATABASE = re.compile(r"the (database|project) \S+ (does not exist|.*does not contain an active)", re.IGNORECASE)
_DISABLED = re.compile(r"(cloud )?firestore api has not been used in project|api .*is disabled", re.IGNORECASE)
_DATASTORE_MODE = re.compile(
    r"the cloud firestore api is not available for|this project contains a cloud datastore", re.IGNORECASE
)
_INDEX = re.compile(r"the query requires an? .*index", re.IGNORECASE)
_BUILDING = re.compile(r"index is (currently |still )?(being )?(building|built)|cannot be used yet", re.IGNORECASE)
_URL = re.compile(r"https://\S+")
_TOO_LARGE = re.compile(
    r"(grpc |received |sent )?message (exceeds|larger than) max|request payload size exceeds|transaction too big",
    re.IGNORECASE,
)
# Nothing was sent, so nothing can have happened.
_NOT_SENT = re.compile(
    r"failed to connect to all addresses|.*(dns resolution failed|name resolution failure|connection refused)",
    re.IGNORECASE,
)
# What gRPC says when google-auth could give it no token.
_NO_TOKEN = re.compile(r"getting metadata from plugin failed", re.IGNORECASE)
_BAD_CREDENTIALS = re.compile(r"invalid_grant|invalid_client|invalid_rapt|refresherror|reauth", re.IGNORECASE)


def answer(error: BaseException) -> Answer | None:
    """The code and the words of a refusal, the engine's or gRPC's; None for everything else."""
    if isinstance(error, GoogleAPICallError):
        code = error.grpc_status_code
        return Answer(_code(code), str(error.message or "")) if code is not None else _by_status(error)
    if isinstance(error, grpc.RpcError):
        said: Any = error
        return Answer(_code(said.code()), str(said.details() or ""))
    return None


def _code(code: Any) -> Code:
    try:
        return Code(code.value[0])
    except (AttributeError, ValueError):
        return Code.UNKNOWN


def _by_status(error: GoogleAPICallError) -> Answer:
    # Of HTTP alone: by a proxy in between.
    passing = error.code is None or int(error.code) >= 500  # noqa: PLR2004 - HTTP's server errors
    return Answer(Code.UNAVAILABLE if passing else Code.INVALID_ARGUMENT, str(error.message or ""))


def translate(
    error: BaseException, operation: str, place: Place, *, index: str | None = None
) -> CommandStoreError | None:
    """This library's error for one of the SDK's; None where it isn't the SDK's.

    Args:
        error: of google-api-core, gRPC or google-auth.
        operation: by the SDK's name.
        place: what it was about.
        index: the command that makes the index which a query needs.
    """
    said = answer(error)
    if said is not None:
        return by_code(said.code, said.message, operation, place, index=index)
    if isinstance(error, auth.TransportError):
        return StoreUnavailable(
            f"no access token could be had for {place.where} ({type(error).__name__}: {_shown(str(error))})"
        )
    if isinstance(error, auth.DefaultCredentialsError):
        return AccessDenied(_no_credentials(place, _shown(str(error))))
    if isinstance(error, auth.GoogleAuthError):
        return AccessDenied(_stale(place, f"{type(error).__name__}: {_shown(str(error))}"))
    if isinstance(error, GoogleAPIError):
        return StoreUnavailable(f"{place.host} did not answer {operation} on {place.where} ({type(error).__name__})")
    return None


def by_code(code: int, message: str, operation: str, place: Place, *, index: str | None = None) -> CommandStoreError:
    """The error of a code, be it of a whole request or of one write in it."""
    known = Code(code) if code in Code.__members__.values() else Code.UNKNOWN
    return (
        _about_the_setting(known, message, place, index)
        or _about_access(known, message, operation, place)
        or _about_the_request(known, message, operation, place)
    )


def _about_the_setting(code: Code, message: str, place: Place, index: str | None) -> CommandStoreError | None:
    """What has to be made or chosen before any request can succeed."""
    if code is Code.NOT_FOUND and _NO_DATABASE.match(message):
        return StoreNotFound(
            f"there is no Firestore database {place.database} in project {place.project}; create it with: gcloud "
            f"firestore databases create {_options(place)} "
            "--type=firestore-native --location=LOCATION (as eur3 or nam5)"
        )
    if code is Code.FAILED_PRECONDITION and _DATASTORE_MODE.match(message):
        return ConfigurationError(
            f"database {place.database} of project {place.project} is in Datastore mode, where commands can't be "
            f"stored; create another one with: gcloud firestore databases create --project={place.project} "
            "--database=commands --type=firestore-native --location=LOCATION, and add ?database=commands to the URL"
        )
    if code is Code.FAILED_PRECONDITION and (_INDEX.match(message) or _BUILDING.search(message)):
        return _no_index(message, place, index)
    if code is Code.PERMISSION_DENIED and _DISABLED.search(message):
        return ConfigurationError(
            f"project {place.project} has no Firestore API; enable it with: gcloud services enable "
            f"firestore.googleapis.com --project={place.project}"
        )
    return None


def _no_index(message: str, place: Place, index: str | None) -> ConfigurationError:
    url = _URL.search(message)
    at = f" (or at {url[0]})" if url else ""
    if _BUILDING.search(message):
        return ConfigurationError(
            f"a composite index of {place.where} is still being built; wait until this lists it as READY: gcloud "
            f"firestore indexes composite list {_options(place)}{at}"
        )
    return ConfigurationError(
        f"{place.where} lacks a composite index; create it with: {index}{at}"
        if index
        else f"{place.where} lacks a composite index; create it{at or ': ' + _shown(message)}"
    )


def _about_access(code: Code, message: str, operation: str, place: Place) -> CommandStoreError | None:
    if code is Code.UNAUTHENTICATED:
        return AccessDenied(_stale(place, _shown(message)))
    if code is Code.PERMISSION_DENIED:
        role = "roles/datastore.viewer" if operation in _READING else "roles/datastore.user"
        return AccessDenied(
            f"Google refuses {operation} on {place.where}; the identity needs {role} in that project, if it is the "
            f"right one: {_shown(message)}"
        )
    if _NO_TOKEN.match(message) and _BAD_CREDENTIALS.search(message):
        return AccessDenied(_stale(place, _shown(message)))
    return None


_READING = {"batch_get_documents", "run_query", "run_aggregation_query"}


def _about_the_request(code: Code, message: str, operation: str, place: Place) -> CommandStoreError:
    if code is Code.RESOURCE_EXHAUSTED and not _TOO_LARGE.match(message):
        return Throttled(f"{place.host} asks for a slower pace on {place.where} ({operation}: {_shown(message)})")
    if code is Code.ABORTED:
        return StoreUnavailable(f"{place.where} is contended ({operation}: {_shown(message)})")
    if code in PASSING and code is not Code.RESOURCE_EXHAUSTED:
        return StoreUnavailable(
            f"{place.host} did not answer {operation} on {place.where} ({code.name}: {_shown(message)}); check the "
            "network, and FIRESTORE_EMULATOR_HOST where it is set"
        )
    return ConfigurationError(f"{place.host} refused {operation} on {place.where} ({code.name}): {_shown(message)}")


def _options(place: Place) -> str:
    return f"--project={shlex.quote(place.project)} --database={shlex.quote(place.database)}"


def _no_credentials(place: Place, message: str) -> str:
    return (
        f"no Google credentials for {place.where}: run gcloud auth application-default login, or set "
        f"GOOGLE_APPLICATION_CREDENTIALS to a key file ({message})"
    )


def _stale(place: Place, message: str) -> str:
    return (
        f"the Google credentials for {place.where} are not accepted: run gcloud auth application-default login, or "
        f"check GOOGLE_APPLICATION_CREDENTIALS ({message})"
    )


def _shown(message: str) -> str:
    # The engine's own may have several lines.
    return " ".join(message.split())[:_SHOWN]


def is_condition(code: int, message: str) -> bool:
    """Whether a refusal says of a document that it is, isn't, or isn't what it was: nothing of the whole database."""
    about_more = (_NO_DATABASE.match, _DATASTORE_MODE.match, _INDEX.match, _BUILDING.search)
    return code in _CONDITIONS and not any(matches(message) for matches in about_more)


def is_refused(error: CommandStoreError) -> bool:
    """Whether the engine found fault with the request itself, as it does with a document over its limits."""
    said = answer(error.__cause__) if error.__cause__ is not None else None
    if said is None:
        return False
    too_large = said.code is Code.RESOURCE_EXHAUSTED and bool(_TOO_LARGE.match(said.message))
    return too_large or said.code in {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}


def is_lost(error: BaseException) -> bool:
    """Whether the request that failed so may have had its effect."""
    said = answer(error)
    if said is None:
        return not isinstance(error, auth.GoogleAuthError)
    return said.code in _LOST and not _NOT_SENT.match(said.message) and not _NO_TOKEN.match(said.message)


def is_lost_code(code: int) -> bool:
    """Whether a write of a batch that failed so may have had its effect."""
    return code in _LOST
