"""The one place where the SDK's errors become this library's: by code, by class, by status."""

from __future__ import annotations

from typing import NamedTuple

import botocore.exceptions as sdk

from commandstore.aws.faults import SHOWN, Kind, answer, is_lost, kind_of, unanswered
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

__all__ = [
    "Place",
    "by_code",
    "is_condition",
    "is_duplicate",
    "is_lost",
    "is_lost_statement",
    "is_not_partiql",
    "is_refused",
    "no_partiql",
    "statement_error",
    "translate",
]


class Place(NamedTuple):
    """What error messages say of where something went wrong."""

    table: str
    region: str | None = None
    endpoint: str | None = None

    @property
    def options(self) -> str:
        """``?region=...``, as it stands in the store's URL."""
        given = (("region", self.region), ("endpoint_url", self.endpoint))
        pairs = "&".join(f"{name}={value}" for name, value in given if value)
        return f"?{pairs}" if pairs else ""

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"dynamodb://{self.table}{self.options}"

    @property
    def host(self) -> str:
        """Who was asked."""
        return self.endpoint or f"DynamoDB in {self.region or 'the configured region'}"


_NOT_FOUND = {"ResourceNotFound", "ResourceNotFoundException", "TableNotFoundException"}
_REFUSED = {"SerializationException", "ValidationError", "ValidationException", "ItemCollectionSizeLimitExceeded"}
_DUPLICATE = {"DuplicateItem", "ConditionalCheckFailed"}
_EMULATOR_FAILED = "500"


def translate(error: BaseException, operation: str, place: Place) -> CommandStoreError | None:
    """This library's error for one of the SDK's; None where it isn't the SDK's."""
    said = answer(error)
    if said is None:
        return unanswered(error, operation, f"table {place.table}", host=place.host, url=place.url)
    return by_code(said.code, said.message, operation, place, said.status)


def by_code(code: str, message: str, operation: str, place: Place, status: int = 400) -> CommandStoreError:
    """The error of an error code, be it of a whole request or of one statement in it."""
    message = message[:SHOWN]
    if code in _NOT_FOUND:
        return StoreNotFound(
            f"there is no table {place.table} at {place.host}; create it with: commandstore init '{place.url}'"
        )
    if code == "UnknownOperationException":
        return (
            no_partiql(place)
            if operation == "BatchExecuteStatement"
            else Unsupported(f"{place.host} doesn't know {operation}")
        )
    kind = kind_of(code, status)
    if kind is Kind.THROTTLED:
        return Throttled(f"DynamoDB asks for a slower pace on table {place.table} ({operation}: {code})")
    if kind in {Kind.DENIED, Kind.EXPIRED}:
        what = "the AWS credentials have expired" if kind is Kind.EXPIRED else "AWS refuses access"
        return AccessDenied(
            f"{what} to table {place.table} at {place.host} ({operation}: {code}). {_permission(operation)} {message}"
        )
    if kind is Kind.UNAVAILABLE:
        return StoreUnavailable(f"{place.host} could not do {operation} on table {place.table} ({code})")
    return ConfigurationError(f"{place.host} refused {operation} on table {place.table} ({code}): {message}")


def _permission(operation: str) -> str:
    action = {"BatchExecuteStatement": "PartiQLInsert"}.get(operation, operation)
    return f"The identity needs dynamodb:{action} on the table and its indexes."


def no_partiql(place: Place) -> Unsupported:
    """What an engine without PartiQL gets."""
    return Unsupported(
        f"{place.host} can't run PartiQL statements with parameters, which bulk inserts need; with a single writer, "
        "add bulk=put to the URL (dynamodb://TABLE?bulk=put): commands are then probed for and put"
    )


def is_not_partiql(error: BaseException, place: Place) -> bool:
    """Whether this is how an emulator without PartiQL fails: with 500 and no word of DynamoDB's, at once."""
    if not isinstance(error, sdk.ClientError) or place.endpoint is None:
        return False
    return bool(error.response.get("Error", {}).get("Code") == _EMULATOR_FAILED)


def is_refused(error: CommandStoreError) -> bool:
    """Whether the engine found fault with the request itself, as it does with an item over its limits."""
    cause = error.__cause__
    return isinstance(cause, sdk.ClientError) and cause.response.get("Error", {}).get("Code") in _REFUSED


def is_condition(error: BaseException) -> bool:
    """Whether the request's condition did not hold."""
    code = "ConditionalCheckFailedException"
    return isinstance(error, sdk.ClientError) and error.response.get("Error", {}).get("Code") == code


def is_duplicate(code: str) -> bool:
    """Whether a statement failed because the item is there."""
    return code in _DUPLICATE


def is_lost_statement(code: str) -> bool:
    """Whether a statement of a batch that failed so may have had its effect."""
    return kind_of(code, 400) is Kind.UNAVAILABLE


def statement_error(code: str, message: str, command_uuid: str, place: Place) -> CommandStoreError:
    """The error of one statement of a batch: the command's own fault, or the table's."""
    if code in _REFUSED:
        return InvalidCommand(
            f"command {command_uuid!a}: DynamoDB refuses its item ({code}): {message[:SHOWN]}",
            command_uuid=command_uuid,
        )
    return by_code(code, message, "BatchExecuteStatement", place)
