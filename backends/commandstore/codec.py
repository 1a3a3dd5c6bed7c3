r"""From a command to the record that backends keep, and back; digests and the format version. Pure.

A record is what crosses between the facade and a backend: validated, with its session taken out of the context, its
payload sealed where there is a crypto service, and a digest.

**Digest**, format 1: SHA-256 over ``b"commandstore\x01"``, then ``created_at`` and ``instance_id`` as big-endian
int64, then the length in bytes (big-endian uint64) of each of the seven remaining fields in the order of
:class:`Command`, then those fields: text in UTF-8, ``data_bytes`` as they are. Lengths first, so that no two commands
share a canonical form. With a crypto service the digest is keyed, so that it tells nothing of the payload.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from commandstore.command import INT64_MAX, INT64_MIN, Command, Position, session_of, shown_uuid
from commandstore.errors import InvalidCommand, InvalidQuery

__all__ = [
    "FORMAT_VERSION",
    "MAX_NAME_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_TENANT_BYTES",
    "MAX_UUID_BYTES",
    "Record",
    "canonical",
    "check",
    "decode",
    "digest_of",
    "encode",
    "plain_record",
    "read_uuid",
]

FORMAT_VERSION = 1
MAX_UUID_BYTES = 512
MAX_TENANT_BYTES = 512
MAX_NAME_BYTES = 1024
MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
_MAGIC = b"commandstore\x01"
# A string has at most four bytes for each of its characters, so short ones need no encoding to be measured.
_SURELY_SHORT = min(MAX_UUID_BYTES, MAX_TENANT_BYTES, MAX_NAME_BYTES) // 4
_SURELY_SHORT_PAYLOAD = MAX_PAYLOAD_BYTES // 4
_COPIED = 64 * 1024
"""Up to so many bytes, a payload is copied sooner than it is digested apart."""
_HEAD = struct.Struct(">qq7Q")
_FIELDS = attrgetter(*Command.model_fields)


class Record(NamedTuple):
    """A command as backends keep it. A tuple, because hundreds of thousands of them are made a minute.

    Attributes:
        data: the payload as it is stored: plain, or sealed by the crypto service.
        digest: 32 bytes over the plain command; see the module's docstring.
        cipher: ``""`` when ``data`` is plain, else the name that the crypto service gives its cipher and key.
        format: the version of this layout; readers keep reading older ones.
    """

    command_uuid: str
    created_at: int
    instance_id: int
    tenant_uuid: str
    workspace_uuid: str
    domain: str
    data_type: str
    session_uuid: str
    data: bytes
    req_ctx: str
    digest: bytes
    cipher: str = ""
    format: int = FORMAT_VERSION

    @property
    def position(self) -> Position:
        """Where the command stands in the total order."""
        return Position(self.created_at, self.command_uuid)

    @property
    def size(self) -> int:
        """About how many bytes the record weighs: what batches are cut by."""
        return len(self.data) + len(self.req_ctx) + 400


def canonical(
    command_uuid: str,
    created_at: int,
    instance_id: int,
    tenant_uuid: str,
    workspace_uuid: str,
    domain: str,
    data_type: str,
    data: bytes,
    req_ctx: str,
) -> tuple[bytes, ...]:
    """The canonical form of a plain command, in pieces, so that a large payload isn't copied to digest it."""
    text = f"{command_uuid}{tenant_uuid}{workspace_uuid}{domain}{data_type}"
    if text.isascii():  # as nearly all are: a character is a byte
        context = req_ctx.encode()
        head = _HEAD.pack(
            created_at,
            instance_id,
            len(command_uuid),
            len(tenant_uuid),
            len(workspace_uuid),
            len(domain),
            len(data_type),
            len(data),
            len(context),
        )
        if len(data) <= _COPIED:
            return (b"".join((_MAGIC, head, text.encode(), data, context)),)
        return b"".join((_MAGIC, head, text.encode())), data, context
    uuid, tenant, workspace = command_uuid.encode(), tenant_uuid.encode(), workspace_uuid.encode()
    dom, kind, context = domain.encode(), data_type.encode(), req_ctx.encode()
    head = _HEAD.pack(
        created_at, instance_id, len(uuid), len(tenant), len(workspace), len(dom), len(kind), len(data), len(context)
    )
    return b"".join((_MAGIC, head, uuid, tenant, workspace, dom, kind)), data, context


def digest_of(pieces: Sequence[bytes]) -> bytes:
    """SHA-256 over the pieces of :func:`canonical`."""
    if len(pieces) == 1:  # as of nearly all commands
        return hashlib.sha256(pieces[0]).digest()
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _int64(uuid: str, name: str, value: int) -> None:
    if not INT64_MIN <= value <= INT64_MAX:
        raise InvalidCommand(
            f"command {shown_uuid(uuid)}: {name} is outside of the 64-bit integers; comby's columns hold an int64",
            command_uuid=uuid,
        )


def _too_long(uuid: str, name: str, limit: int) -> InvalidCommand:
    return InvalidCommand(
        f"command {shown_uuid(uuid)}: {name} is longer than {limit:,} bytes in UTF-8", command_uuid=uuid
    )


def plain_record(
    command_uuid: str,
    created_at: int,
    instance_id: int,
    tenant_uuid: str,
    workspace_uuid: str,
    domain: str,
    data_type: str,
    data: bytes,
    req_ctx: str,
) -> Record:
    """A plain record from the fields of a command, with session and digest taken; sizes are not checked.

    Raises:
        UnicodeEncodeError: text holds a lone surrogate.
    """
    pieces = canonical(
        command_uuid, created_at, instance_id, tenant_uuid, workspace_uuid, domain, data_type, data, req_ctx
    )
    # Half of what Record(...) takes.
    return Record._make(
        (
            command_uuid,
            created_at,
            instance_id,
            tenant_uuid,
            workspace_uuid,
            domain,
            data_type,
            session_of(req_ctx),
            data,
            req_ctx,
            digest_of(pieces),
            "",
            FORMAT_VERSION,
        )
    )


def check(record: Record) -> Record:
    """The record, when every field is within its limit.

    Raises:
        InvalidCommand: names the first field that isn't.
    """
    uuid = record.command_uuid
    if not uuid:
        raise InvalidCommand("a command needs a command_uuid; this one has the empty string", command_uuid="")
    if (
        len(uuid) <= _SURELY_SHORT
        and len(record.tenant_uuid) <= _SURELY_SHORT
        and len(record.workspace_uuid) <= _SURELY_SHORT
        and len(record.domain) <= _SURELY_SHORT
        and len(record.data_type) <= _SURELY_SHORT
        and len(record.session_uuid) <= _SURELY_SHORT
        and len(record.req_ctx) <= _SURELY_SHORT_PAYLOAD
        and len(record.data) <= MAX_PAYLOAD_BYTES
    ):
        return record  # nearly every command there is, and each is looked at
    for name, value, limit in (
        ("command_uuid", uuid, MAX_UUID_BYTES),
        ("tenant_uuid", record.tenant_uuid, MAX_TENANT_BYTES),
        ("workspace_uuid", record.workspace_uuid, MAX_NAME_BYTES),
        ("domain", record.domain, MAX_NAME_BYTES),
        ("data_type", record.data_type, MAX_NAME_BYTES),
        ("session_uuid (in req_ctx)", record.session_uuid, MAX_NAME_BYTES),
        ("req_ctx", record.req_ctx, MAX_PAYLOAD_BYTES),
    ):
        if len(value) * 4 > limit and len(value.encode()) > limit:
            raise _too_long(uuid, name, limit)
    if len(record.data) > MAX_PAYLOAD_BYTES:
        raise InvalidCommand(
            f"command {shown_uuid(uuid)}: data_bytes has {len(record.data):,} bytes; the limit is "
            f"{MAX_PAYLOAD_BYTES:,}",
            command_uuid=uuid,
        )
    return record


def encode(command: Command) -> Record:
    """The plain record of a command.

    Raises:
        InvalidCommand: the uuid is empty, a number is outside of int64, or a text or payload is over its limit.
    """
    try:
        record = plain_record(*_FIELDS(command))
    except struct.error:  # what the canonical form has no room for, which is cheaper than a look at every command
        _int64(command.command_uuid, "created_at", command.created_at)
        _int64(command.command_uuid, "instance_id", command.instance_id)
        raise
    except UnicodeEncodeError as error:
        uuid = command.command_uuid
        raise InvalidCommand(
            f"command {shown_uuid(uuid)} holds a lone surrogate, which UTF-8 can't", command_uuid=uuid
        ) from error
    return check(record)


def decode(record: Record, kind: type[Command] = Command) -> Command:
    """The command of a record, which is a plain one but where ``kind`` says otherwise."""
    return kind(
        record.command_uuid,
        record.created_at,
        record.instance_id,
        record.tenant_uuid,
        record.workspace_uuid,
        record.domain,
        record.data_type,
        record.data,
        record.req_ctx,
    )


def read_uuid(command_uuid: object) -> str:
    """The uuid, when it can be looked up.

    Raises:
        InvalidQuery: it isn't a string, is empty, or holds a lone surrogate.
    """
    if not isinstance(command_uuid, str) or not command_uuid:
        raise InvalidQuery("a command_uuid must be a non-empty string")
    if not command_uuid.isascii():
        try:
            command_uuid.encode()
        except UnicodeEncodeError as error:
            raise InvalidQuery(f"command_uuid {command_uuid!a} holds a lone surrogate, which UTF-8 can't") from error
    return command_uuid
