"""What the Lambda functions are told: by their environment, and by the event of an invocation.

Every name and default stands here. Whatever can't be right is refused at once, by a :class:`ConfigurationError` that
names the setting (never its value, which may be a password), before anything is touched.
"""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.errors import ConfigurationError

__all__ = [
    "PlanEvent",
    "PlanId",
    "RangeEvent",
    "SyncEvent",
    "SyncSettings",
    "VerifyEvent",
    "read_event",
    "read_settings",
]

PREFIX = "COMMANDSTORE_"
MOST_HOURS = 250 * 366 * 24
"""What nanoseconds of 64 bits have room for, before now."""

_SOURCES = ("source", "source_secret", "source_parameter")


class SyncSettings(BaseSettings):
    """The environment of the functions; each field is a variable with the prefix ``COMMANDSTORE_``.

    Attributes:
        source: URL of the source.
        source_secret: in its place: name or ARN of a secret of Secrets Manager that holds the URL.
        source_secret_key: where that secret is a JSON object: the key of the URL in it.
        source_parameter: in its place: name of a parameter of SSM (a SecureString) that holds the URL.
        source_keys_secret: name or ARN of a secret of Secrets Manager that holds a key file, text or bytes: what opens
            the source's payloads. Without it, sealed payloads are copied as they are.
        destination: URL of the destination, without secrets.
        destination_keys_secret: likewise, what seals and opens the destination's payloads.
        ledger_key: id, ARN or alias of the asymmetric key in KMS that signs the entries of the destination's ledger.
        source_name: what the checkpoint knows the source by, so that a new host or user keeps it.
        tenant_uuid: only this tenant's commands.
        batch_size: how many commands are read and written at once; by default what suits the destination.
        concurrency: how many batches are written at once; likewise.
        skip_on_error: park commands that can't be copied and go on, instead of stopping at the first.
        lag: for sources without a sequence, as in ``sync_command_store``.
        lease_seconds: how long a crashed run keeps others out. Not less than the function's timeout: a run renews its
            lease when it saves, which it can't while it reads the order of what is new.
        verify_hours: how far back a verification goes.
        metrics_namespace: of the metrics.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    source: str | None = None
    source_secret: str | None = None
    source_secret_key: str | None = None
    source_parameter: str | None = None
    source_keys_secret: str | None = None
    destination: str
    destination_keys_secret: str | None = None
    ledger_key: str | None = None
    source_name: str | None = None
    tenant_uuid: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    skip_on_error: bool = False
    lag: int | None = Field(default=None, ge=0)
    lease_seconds: float = Field(default=300.0, gt=0, le=366 * 24 * 3600)
    verify_hours: float = Field(default=24.0, gt=0, le=MOST_HOURS)
    metrics_namespace: str = "commandstore"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [PREFIX + name.upper() for name in _SOURCES if getattr(self, name) is not None]
        if not given:
            names = ", ".join(PREFIX + name.upper() for name in _SOURCES)
            raise ValueError(f"no source: set one of {names}")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other: set one of them")
        if self.source_secret_key is not None and self.source_secret is None:
            raise ValueError(f"{PREFIX}SOURCE_SECRET_KEY is set, but {PREFIX}SOURCE_SECRET is not")
        return self


class _Event(BaseModel):
    """An event holds what is named here and nothing else: a field with a typing error must not be passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class SyncEvent(_Event):
    """Narrows a run of the sync; what is left out is the environment's.

    Attributes:
        tenant_uuid: only this tenant's commands. Such runs have a checkpoint of their own.
        batch_size: as in the environment.
        start_after_time: only ``created_at`` greater than this. Such runs have a checkpoint of their own.
        dry_run: compare and write nothing.
        verify: verify the last hours afterwards.
    """

    tenant_uuid: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    start_after_time: int | None = Field(default=None, ge=INT64_MIN, le=INT64_MAX)
    dry_run: bool = False
    verify: bool = False


class VerifyEvent(_Event):
    """The range of a verification.

    Attributes:
        tenant_uuid: only this tenant's commands.
        after: only ``created_at`` greater than this; nanoseconds since 1970.
        before: only ``created_at`` less than this.
        hours: in place of ``after``: so many hours before the end of the range.
    """

    tenant_uuid: str | None = None
    after: int | None = Field(default=None, ge=INT64_MIN, le=INT64_MAX)
    before: int | None = Field(default=None, ge=INT64_MIN, le=INT64_MAX)
    hours: float | None = Field(default=None, gt=0, le=MOST_HOURS)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.after is not None and self.hours is not None:
            raise ValueError("after and hours contradict each other: give one of them")
        return self


class PlanEvent(_Event):
    """How a backfill is cut.

    Attributes:
        commands_per_range: about so many.
    """

    commands_per_range: int = Field(default=100_000, ge=1)


class RangeEvent(_Event):
    """A range of a backfill, as the plan handed it out or the call before this one handed it back.

    Numbers are strings, since a state machine may keep fifteen digits of a number, and a time has nineteen.
    """

    plan: str
    low: str = Field(pattern=r"^-?\d{1,19}$")
    high: str = Field(pattern=r"^-?\d{1,19}$")
    after: str | None = None


class PlanId(_Event):
    """Which plan is finished."""

    plan: str


_AnyEvent = TypeVar("_AnyEvent", bound=_Event)


def read_settings() -> SyncSettings:
    """The settings of the environment.

    Raises:
        ConfigurationError: one is missing, contradicts another or can't be right.
    """
    try:
        return SyncSettings()  # the environment gives them
    except ValidationError as error:
        raise ConfigurationError(_said(error, lambda name: PREFIX + name.upper(), "the environment")) from None


def read_event(kind: type[_AnyEvent], event: Any) -> _AnyEvent:
    """The event of an invocation.

    Raises:
        ConfigurationError: it has an unknown field, or a value that can't be right.
    """
    try:
        return kind.model_validate(event)
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise ConfigurationError(f"{_said(error, str, 'the event')} (it may have: {known})") from None


def _said(error: ValidationError, name: Any, where: str) -> str:
    """What is wrong, by the name of each setting and without its value."""
    said = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        place = name(str(one["loc"][0])) if one["loc"] else None
        message = one["msg"].removeprefix("Value error, ")
        said.append(f"{place}: {message}" if place else message)
    return f"{where} can't be right: {'; '.join(said)}"
