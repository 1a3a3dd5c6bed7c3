"""The one place where the SDK's errors become this library's, for S3: by code, by class, by status."""

from __future__ import annotations

from typing import Any, NamedTuple

from commandstore.aws import faults
from commandstore.aws.faults import SHOWN, Answer, Kind, answer, kind_of, unanswered
from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
    Unsupported,
)

__all__ = [
    "Place",
    "code_of",
    "is_condition",
    "is_gone",
    "is_lost",
    "is_unchanged",
    "is_unlocked",
    "translate",
]


class Place(NamedTuple):
    """What error messages say of where something went wrong, and where the keys begin.

    Attributes:
        bucket: its name.
        prefix: of every key: empty, or it ends with a slash.
        region: of the bucket.
        endpoint: of another engine than AWS, or of a private endpoint.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None

    @property
    def url(self) -> str:
        """The store's URL."""
        given = (("region", self.region), ("endpoint_url", self.endpoint))
        pairs = "&".join(f"{name}={value}" for name, value in given if value)
        path = f"{self.bucket}/{self.prefix}".rstrip("/")
        return f"s3://{path}?{pairs}" if pairs else f"s3://{path}"

    @property
    def host(self) -> str:
        """Who was asked."""
        return self.endpoint or f"S3 in {self.region or 'the configured region'}"


# Something else is just being done to this key or bucket, or the body was damaged on its way: nothing was done.
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "BadDigest"}
_THROTTLED = {"RequestThrottled", "ServiceUnavailable", "TooManyRequests", "503", "429"}
_UNAVAILABLE = {"InternalError", "500", "502", "504"}
_DENIED = {
    "403",
    "AccountProblem",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "InvalidObjectState",
    "InvalidPayer",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
_ELSEWHERE = {
    "301",
    "307",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
    "PermanentRedirect",
    "Redirect",
    "TemporaryRedirect",
}
# How engines say that a bucket has no Object Lock, or that they have none at all.
_UNLOCKED = {
    "MethodNotAllowed",
    "NoSuchObjectLockConfiguration",
    "NotImplemented",
    "ObjectLockConfigurationNotFound",
    "ObjectLockConfigurationNotFoundError",
}
_NOT_MODIFIED = 304
_PRECONDITION_FAILED = 412
_ACTIONS = {
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "ListObjectsV2": "s3:ListBucket",
}


def translate(
    error: BaseException, operation: str, place: Place, key: str = "", owner: str | None = None
) -> CommandStoreError | None:
    """This library's error for one of the SDK's; None where it isn't the SDK's.

    Args:
        error: what was caught.
        operation: by the SDK's name, ``PutObject``.
        place: where.
        key: whole, with the prefix; empty where the bucket is asked.
        owner: the account that the bucket is expected to belong to.
    """
    said = answer(error)
    subject = f"{key} in bucket {place.bucket}" if key else f"bucket {place.bucket}"
    if said is None:
        return unanswered(error, operation, subject, host=place.host, url=place.url)
    return _setup(error, said.code, f"{operation} for {subject}", place) or _refusal(
        said, operation, subject, place, owner
    )


def _refusal(said: Answer, operation: str, subject: str, place: Place, owner: str | None) -> CommandStoreError:
    """What the engine said of one request, where nothing is wrong with the bucket as such."""
    code, message = said.code, said.message[:SHOWN]
    if code in _CONFLICT:
        return StoreUnavailable(f"{place.host} could not do {operation} for {subject} until patience ended ({code})")
    kind = _kind(code, said.status)
    if kind is Kind.THROTTLED:
        return Throttled(f"{place.host} asks for a slower pace on bucket {place.bucket} ({operation}: {code})")
    if kind in {Kind.DENIED, Kind.EXPIRED}:
        refused = "the AWS credentials have expired for" if kind is Kind.EXPIRED else "AWS refuses access to"
        hint = _permission(operation, place, owner)
        return AccessDenied(f"{refused} {subject} at {place.host} ({operation}: {code}). {hint} {message}")
    if kind is Kind.UNAVAILABLE:
        return StoreUnavailable(f"{place.host} could not do {operation} for {subject} ({code})")
    return ConfigurationError(f"{place.host} refused {operation} for {subject} ({code}): {message}")


def _kind(code: str, status: int) -> Kind:
    """What a refusal is about, with the codes that S3 alone has."""
    for codes, kind in ((_THROTTLED, Kind.THROTTLED), (_DENIED, Kind.DENIED), (_UNAVAILABLE, Kind.UNAVAILABLE)):
        if code in codes:
            return kind
    return kind_of(code, status)


def _setup(error: BaseException, code: str, what: str, place: Place) -> CommandStoreError | None:
    """What is wrong with the bucket as such, its name, its region or its engine; None for all else."""
    if code == "NoSuchBucket":
        return StoreNotFound(
            f"there is no bucket {place.bucket} at {place.host}; create it with: commandstore init '{place.url}'"
        )
    if code == "BucketAlreadyExists":
        return ConfigurationError(
            f"bucket {place.bucket} belongs to another account (names are shared by all); take another name"
        )
    if code == "InvalidBucketName":
        return ConfigurationError(f"{place.bucket!a} is not a name that {place.host} takes for a bucket")
    if code in _ELSEWHERE:
        found = _region(error)
        hint = (
            f"in {found}: put ?region={found} into the URL" if found else "in another region: add ?region= to the URL"
        )
        return ConfigurationError(f"bucket {place.bucket} is not in {place.region}, it is {hint} ({what}: {code})")
    if code == "NotImplemented":
        return Unsupported(f"{place.host} can't do {what} as it was asked ({code}); conditional writes are needed")
    return None


def _region(error: BaseException) -> str | None:
    """The bucket's region, if the answer names it."""
    response: dict[str, Any] = getattr(error, "response", {})
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    found = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    return str(found) if found else None


def _permission(operation: str, place: Place, owner: str | None) -> str:
    action = _ACTIONS.get(operation, f"s3:{operation}")
    hint = f"The identity needs {action} on bucket {place.bucket}."
    if operation == "GetObject":
        hint += " Where s3:ListBucket is missing, S3 answers so for an object that does not exist, too."
    if operation == "PutObject":
        hint += " A write on condition of an ETag needs s3:GetObject as well."
    if owner:
        hint += f" Or the bucket does not belong to account {owner}, as is expected of it."
    return hint


def code_of(error: BaseException) -> str:
    """The engine's error code; empty where it gave none."""
    said = answer(error)
    return said.code if said else ""


def is_condition(error: BaseException) -> bool:
    """Whether the request's condition did not hold."""
    said = answer(error)
    return said is not None and (said.code == "PreconditionFailed" or said.status == _PRECONDITION_FAILED)


def is_unchanged(error: BaseException) -> bool:
    """Whether the object still has the ETag that the caller knows."""
    said = answer(error)
    return said is not None and said.status == _NOT_MODIFIED


def is_gone(error: BaseException) -> bool:
    """Whether there is no such object.

    By its code alone: with 404 and another body also answers what isn't S3 at all.
    """
    return code_of(error) == "NoSuchKey"


def is_unlocked(error: BaseException) -> bool:
    """Whether this is how an engine says that a bucket has no Object Lock."""
    return code_of(error) in _UNLOCKED


def is_lost(error: BaseException) -> bool:
    """Whether the request that failed so may have had its effect."""
    return code_of(error) not in _CONFLICT and faults.is_lost(error)
