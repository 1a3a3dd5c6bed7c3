"""The values of the contract: what goes into a store and what comes out. Pure, no I/O."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from commandstore.errors import CommandStoreError, InvalidCommand

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "BatchResult",
    "Command",
    "CommandQuery",
    "Failure",
    "Page",
    "Position",
    "RequestContext",
    "SealedCommand",
    "StoreInfo",
    "is_int64",
    "session_of",
    "shown_uuid",
]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_LONGEST_SHOWN = 512


def is_int64(value: object) -> bool:
    """Whether it is an integer of 64 bits, and no bool, which is an int to Python."""
    return type(value) is int and INT64_MIN <= value <= INT64_MAX


def shown_uuid(uuid: str) -> str:
    """A uuid in a message: whoever broke its limit must not break the message too."""
    return ascii(uuid) if len(uuid) <= _LONGEST_SHOWN else f"{uuid[:60]!a}... (cut)"


class Position(NamedTuple):
    """Where a command stands in the total order: by time, then by the bytes of its uuid in UTF-8.

    Python compares strings by code point, which is the order of their UTF-8 bytes, so positions compare as they are.
    """

    created_at: int
    command_uuid: str


class RequestContext(BaseModel):
    """Who asked, for whom, and how: the fields that comby keeps with a command.

    Unknown keys are in ``extra``. The source of truth is the raw text in ``Command.req_ctx``; this is a view of it.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    sender_tenant_uuid: str = ""
    sender_identity_uuid: str = ""
    sender_account_uuid: str = ""
    sender_session_uuid: str = ""
    target_tenant_uuid: str = ""
    target_workspace_uuid: str = ""
    target_aggregate_uuid: str = ""
    target_aggregate_version: int = 0
    target_identity_uuid: str = ""
    execute_timeout: int = 0
    execute_wait_to_finish: bool = False
    trace_id: str = ""
    attributes: Any = None
    meta_data: Any = None
    extra: dict[str, Any] = Field(default_factory=dict)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


_CONTEXT_FIELDS = {_folded(name): name for name in RequestContext.model_fields if name != "extra"}
_SESSION = _folded("sender_session_uuid")
_LONGEST_SESSION = len("__sender__session__uuid__")
_ESCAPED_LETTER = re.compile(r"\\u00[4-7]")


def _without_surrogates(text: str) -> str:
    # JSON may escape half a surrogate pair; Go reads it as U+FFFD, and UTF-8 could not hold it.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _context_object(req_ctx: str) -> dict[str, Any] | None:
    if not req_ctx:
        return None
    try:
        value = orjson.loads(req_ctx)
    except ValueError:
        try:  # orjson refuses what Go accepts, such as half a surrogate pair in an escape
            value = json.loads(req_ctx)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def session_of(req_ctx: str) -> str:
    """The session uuid in the text of a request context; ``""`` where there is none or the text isn't a JSON object."""
    # Nine contexts in ten have no session or are empty: a look at the text is cheaper than parsing it.
    if not req_ctx or ("session" not in req_ctx.lower() and not _ESCAPED_LETTER.search(req_ctx)):
        return ""
    session = ""
    for key, value in (_context_object(req_ctx) or {}).items():
        # Most keys are too short or too long to be it, and that is cheaper to see.
        if len(_SESSION) <= len(key) <= _LONGEST_SESSION and _folded(key) == _SESSION and isinstance(value, str):
            session = value
    return session if session.isascii() else _without_surrogates(session)


class Command(BaseModel):
    """One command: who asked for what, when, for which tenant. Immutable.

    Args:
        command_uuid: the key; any non-empty string of at most 512 bytes in UTF-8.
        created_at: an int64 that is stored as it is. comby's applications use nanoseconds since 1970.
        instance_id: which instance of the application took the command; an int64.
        tenant_uuid: at most 512 bytes; ``""`` is no tenant.
        workspace_uuid: at most 1,024 bytes, as are domain, data_type and the session.
        domain: the domain that handles the command.
        data_type: the name of the type in data_bytes.
        data_bytes: the payload, up to 16 MiB; any bytes.
        req_ctx: the request context as the raw JSON text that it came as, byte for byte, up to 16 MiB; ``""`` for none.

    Raises:
        InvalidCommand: a field has the wrong type. Sizes, and text that UTF-8 can't hold, are checked when the command
            is stored.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    command_uuid: str
    created_at: int
    instance_id: int = 0
    tenant_uuid: str = ""
    workspace_uuid: str = ""
    domain: str = ""
    data_type: str = ""
    data_bytes: bytes = Field(default=b"", repr=False)
    req_ctx: str = Field(default="", repr=False)

    def __init__(
        self,
        command_uuid: str,
        created_at: int,
        instance_id: int = 0,
        tenant_uuid: str = "",
        workspace_uuid: str = "",
        domain: str = "",
        data_type: str = "",
        data_bytes: bytes = b"",
        req_ctx: str = "",
    ) -> None:
        try:
            super().__init__(
                command_uuid=command_uuid,
                created_at=created_at,
                instance_id=instance_id,
                tenant_uuid=tenant_uuid,
                workspace_uuid=workspace_uuid,
                domain=domain,
                data_type=data_type,
                data_bytes=data_bytes,
                req_ctx=req_ctx,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            what = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
            uuid = shown_uuid(command_uuid) if isinstance(command_uuid, str) else "without a readable uuid"
            raise InvalidCommand(f"command {uuid} is not valid: {what}") from error

    @property
    def position(self) -> Position:
        """Where the command stands in the total order."""
        return Position(self.created_at, self.command_uuid)

    @property
    def session_uuid(self) -> str:
        """The sender's session in ``req_ctx``; ``""`` where there is none or the text isn't a JSON object."""
        return session_of(self.req_ctx)

    @property
    def request_context(self) -> RequestContext | None:
        """What ``req_ctx`` says, or None where it is empty or isn't a JSON object.

        Keys are looked up as Go's decoder does, without regard to case; a leading ``_`` and snake_case are accepted
        too. A field with a value of an unexpected type keeps its default, and the value stays in ``extra``.
        """
        value = _context_object(self.req_ctx)
        if value is None:
            return None
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in value.items():
            name = _CONTEXT_FIELDS.get(_folded(key))
            if name is None or not _fits(name, item):
                extra[key] = item
            elif item is not None:
                known[name] = item
        return RequestContext(**known, extra=extra)

    @field_serializer("data_bytes", when_used="json")
    def _data_as_base64(self, value: bytes) -> str:
        return base64.b64encode(value).decode("ascii")


class SealedCommand(Command):
    """A command that could not be decrypted, given all the same because the store was told to keep such commands.

    Its key was destroyed, or is another one, or its bytes were altered. Everything but the payload is as it was, and
    ``data_bytes`` is what is stored. It can't be written: it would be sealed once more.
    """


def _fits(name: str, item: object) -> bool:
    default = RequestContext.model_fields[name].default
    return item is None or default is None or type(item) is type(default)


_FILTERS = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")


@dataclass(frozen=True, slots=True)
class CommandQuery:
    """Filters and order of a list, a scan or a total. They all combine; None is no filter, ``""`` is exactly empty.

    Args:
        tenant_uuid: only this tenant's.
        workspace_uuid: only this workspace's.
        domain: only this domain's.
        session_uuid: only this session's.
        data_type: only this type.
        before: only ``created_at < before``; any int64, negative ones are bounds too.
        after: only ``created_at > after``; likewise.
        order_by: ``"created_at"``, or a further name that the backend declares.
        ascending: False for the exact reverse.
    """

    tenant_uuid: str | None = None
    workspace_uuid: str | None = None
    domain: str | None = None
    session_uuid: str | None = None
    data_type: str | None = None
    before: int | None = None
    after: int | None = None
    order_by: str = "created_at"
    ascending: bool = True

    @property
    def equal_to(self) -> dict[str, str]:
        """The filters on names that are set: field name to value."""
        return {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}

    def matches(self, item: Any) -> bool:
        """Whether a command (or a record) passes the filters."""
        if self.after is not None and item.created_at <= self.after:
            return False
        if self.before is not None and item.created_at >= self.before:
            return False
        for name in _FILTERS:  # most are not set, and each command is looked at
            value = getattr(self, name)
            if value is not None and getattr(item, name) != value:
                return False
        return True

    def canonical(self) -> dict[str, str | int]:
        """The filters that are set, by name, without the order: what a checkpoint is kept for."""
        skip = {"order_by", "ascending"}
        return {
            f.name: value for f in fields(self) if f.name not in skip and (value := getattr(self, f.name)) is not None
        }


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``commands, total = store.list()`` unpacks it.

    Attributes:
        commands: in order, at most ``limit``.
        total: how many match the filters in all, before paging; None unless asked for.
        cursor: give it to the next ``list`` with the same filters; None at the end.
        corrupt: records within this page that can't be read; they count against the limit and never stop a page.
    """

    commands: tuple[Command, ...]
    total: int | None = None
    cursor: str | None = None
    corrupt: tuple[CommandStoreError, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        """Commands and total, as comby's List returns them."""
        yield list(self.commands)
        yield self.total


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store says of itself.

    Attributes:
        store_type: the kind of backend (``"memory"``, ``"sqlite"``, ``"dynamodb"``...).
        last_item_created_at: the greatest ``created_at``, 0 when the store is empty.
        num_items: how many commands there are.
        connection_info: where the store is, without secrets.
    """

    store_type: str
    last_item_created_at: int
    num_items: int
    connection_info: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A command that could not be stored, and why."""

    command_uuid: str
    error: CommandStoreError


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of each command given to ``create_many``: every one is in exactly one of the four.

    Attributes:
        created: uuids that are new.
        duplicate: uuids that were there already with the same content (or stood twice in the input).
        conflicting: uuids that were there already with other content, which was kept.
        failed: commands that can't be stored, each with its error.
    """

    created: tuple[str, ...] = ()
    duplicate: tuple[str, ...] = ()
    conflicting: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.created) + len(self.duplicate) + len(self.conflicting) + len(self.failed)
