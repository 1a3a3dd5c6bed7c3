"""Where things lie under a store's prefix, and what a row looks like. Pure.

* ``manifest.json``: the root; swapped, everything else but registers is written once.
* ``inbox/STORE/UUID.json``: a command that came alone, as one row. ``STORE`` is new with every reset.
* ``segments/ID.jsonl``: rows by position, one a line. Nothing else lies under that prefix, so that it is a table for
  Athena, DuckDB and their kind.
* ``indexes/ID.json``: what a segment holds, by columns, so that payloads are read only when they are asked for.
* ``directories/ID``, ``parts/ID.json``: what the manifest would be too large with.
* ``conflicts/``: what was acknowledged and then superseded (see docs/s3.md).
* ``registers/NAME.json``.
* ``probe-...``: of an ``init`` on its way.

An ID begins with the garbage-collection epoch that its writer read: what a collector may take is told by the name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson

from commandstore.codec import FORMAT_VERSION, Record, canonical, digest_of
from commandstore.command import INT64_MAX, INT64_MIN, Position
from commandstore.errors import CorruptRecord

__all__ = [
    "CONFLICTS",
    "DIRECTORIES",
    "INBOX",
    "INDEXES",
    "MANIFEST",
    "PARTS",
    "PROBES",
    "REGISTERS",
    "SEGMENTS",
    "Lines",
    "Stored",
    "conflict_key",
    "conflict_uuid",
    "decode_row",
    "encode_rows",
    "epoch_of",
    "in_order",
    "inbox_key",
    "inbox_uuid",
    "is_whole",
    "new_id",
    "register_key",
    "settled_conflict",
    "with_check",
]

MANIFEST = "manifest.json"
INBOX, SEGMENTS, INDEXES, DIRECTORIES, PARTS = "inbox/", "segments/", "indexes/", "directories/", "parts/"
CONFLICTS, REGISTERS = "conflicts/", "registers/"
PROBES = "probe-"

_CREATED_AT = itemgetter(Record._fields.index("created_at"))
_POSITION = itemgetter(*map(Record._fields.index, Position._fields))
_HASHED = "~"
# A key has at most 1,024 bytes, and some of them are the prefix.
_LONGEST_NAME = 300


class Stored(NamedTuple):
    """A row: a record, and how it came here.

    Attributes:
        record: as it was written.
        write_id: of the insert or replace that wrote it.
        put_id: of the one inbox object that ever counted for this uuid; None where the command came by bulk.
    """

    record: Record
    write_id: str
    put_id: str | None


class Lines(NamedTuple):
    """Rows as the bytes of a segment.

    Attributes:
        lines: each with its line feed; empty for a command that was deleted.
        checks: CRC-32 of each.
    """

    lines: list[bytes]
    checks: list[int]


# Names


def new_id(epoch: int) -> str:
    """A name for an object, of a writer that read this garbage-collection epoch."""
    return f"{epoch:08x}-{secrets.token_hex(8)}"


def epoch_of(object_id: str) -> int | None:
    """The epoch in an id; None where it is none of this store's."""
    head, dash, _ = object_id.partition("-")
    try:
        return int(head, 16) if dash else None
    except ValueError:
        return None


def _encoded(text: str) -> str:
    name = quote(text, safe="")
    if len(name) <= _LONGEST_NAME and not text.startswith(_HASHED):
        return name
    return _HASHED + hashlib.sha256(text.encode()).hexdigest()


def _folder(command_uuid: str) -> str:
    """Where what was superseded of a command is kept. To some programs, a folder named '..' leads out of its own."""
    dots = command_uuid in {".", ".."}
    name = _HASHED + hashlib.sha256(command_uuid.encode()).hexdigest() if dots else _encoded(command_uuid)
    return f"{CONFLICTS}{name}/"


def inbox_key(store: str, command_uuid: str) -> str:
    """The key of a command that came alone."""
    return f"{INBOX}{store}/{_encoded(command_uuid)}.json"


def inbox_uuid(key: str) -> str | None:
    """The uuid of such a key; None where only the object itself says."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return None if name.startswith(_HASHED) else unquote(name)


def conflict_key(command_uuid: str, put_id: str, winner: str) -> str:
    """Where a superseded object is kept.

    Args:
        command_uuid: whose.
        put_id: of the object.
        winner: the write id of the row that counts. While it does, the object is kept.
    """
    return f"{_folder(command_uuid)}{put_id}.{winner}.json"


def conflict_uuid(key: str) -> str | None:
    """The uuid of such a key; None where only the object itself says."""
    name = key.split("/")[1]
    return None if name.startswith(_HASHED) else unquote(name)


def settled_conflict(key: str, command_uuid: str, winner: str | None) -> bool:
    """Whether the row that superseded this object has been replaced or removed itself: it is to be erased, too."""
    own = key.startswith(_folder(command_uuid))
    return own and (winner is None or not key.endswith(f".{winner}.json"))


def register_key(name: str) -> str:
    """The key of a register."""
    return f"{REGISTERS}{_encoded(name)}.json"


# Checks


def with_check(body: bytes) -> bytes:
    """A JSON object with the CRC-32 of all that stands before it as its last member."""
    return b'%b,"check":%d}' % (body[:-1], zlib.crc32(body[:-1]))


def is_whole(body: bytes) -> bool:
    """Whether an object has the check that it was written with."""
    head, _, check = body.rpartition(b',"check":')
    return check == b"%d}" % zlib.crc32(head)


# Rows


def in_order(records: Iterable[Record]) -> list[Record]:
    """Records in the total order."""
    made = sorted(records, key=_CREATED_AT)
    # Where all times differ they are all there is to compare, and no tuple is made for each record.
    if len(set(map(_CREATED_AT, made))) < len(made):
        made.sort(key=_POSITION)
    return made


def encode_rows(rows: Iterable[tuple[Record, str, str | None]]) -> Lines:
    """Rows (record, write id, put-id) as JSON, one a line; payloads in base64, digests in hex."""
    lines: list[bytes] = []
    dumps, encode64 = orjson.dumps, binascii.b2a_base64
    # Few combinations of these stand in a batch, and to write JSON is most of the work.
    middles: dict[tuple[str, str, str, str, str], bytes] = {}
    ends: dict[tuple[str, int, str, str | None], bytes] = {}
    for record, write_id, put_id in rows:
        uuid, created, instance, tenant, workspace, domain, kind, session, data, context, digest, cipher, form = record
        about = (tenant, workspace, domain, kind, session)
        middle = middles.get(about)
        if middle is None:
            named = {
                "tenant_uuid": tenant,
                "workspace_uuid": workspace,
                "domain": domain,
                "data_type": kind,
                "session_uuid": session,
            }
            middle = middles[about] = dumps(named)[1:-1]
        how = (cipher, form, write_id, put_id)
        end = ends.get(how)
        if end is None:
            named_too = {"cipher": cipher, "format": form, "write_id": write_id, "inbox_put_id": put_id}
            end = ends[how] = dumps(named_too)[1:-1]
        lines.append(
            b'{"command_uuid":%b,"created_at":%d,"instance_id":%d,%b,"data_bytes":"%b","req_ctx":%b,"digest":"%b",%b}\n'
            % (
                dumps(uuid),
                created,
                instance,
                middle,
                encode64(data, newline=False),
                dumps(context),
                digest.hex().encode("ascii"),
                end,
            )
        )
    return Lines(lines, [zlib.crc32(line) for line in lines])


def decode_row(line: bytes, key: str, check: int | None = None) -> Stored:
    """The row of a line, or of an inbox object.

    Args:
        line: its bytes.
        key: of the object that it is from, for the error.
        check: CRC-32 of the line as it was written, where that is known.

    Raises:
        CorruptRecord: it isn't what was written; names the object.
    """
    try:
        if check is not None and zlib.crc32(line) != check:
            raise ValueError("another check sum")  # noqa: TRY301 - told below, with all else that may be wrong
        return _row(orjson.loads(line))
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptRecord(
            f"a row of object {key} was altered or cut off ({_reason(error)}); restore that object from a backup, or "
            "update or delete the command",
            location=key,
        ) from error


def _row(found: dict[str, Any]) -> Stored:
    texts = [
        found[name]
        for name in ("command_uuid", "tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid", "req_ctx")
    ]
    created, instance, form, put_id = found["created_at"], found["instance_id"], found["format"], found["inbox_put_id"]
    if not all(isinstance(text, str) for text in (*texts, found["cipher"], found["write_id"])):
        raise TypeError("a field that is no text")
    if not all(type(number) is int and INT64_MIN <= number <= INT64_MAX for number in (created, instance, form)):
        raise TypeError("a number that is none")
    if put_id is not None and not isinstance(put_id, str):
        raise TypeError("a put id that is none")
    if form > FORMAT_VERSION:
        raise ValueError("a newer format of rows")
    uuid, tenant, workspace, domain, kind, session, context = texts
    data = base64.b64decode(found["data_bytes"], validate=True)
    digest = bytes.fromhex(found["digest"])
    if not found["cipher"]:
        pieces = canonical(uuid, created, instance, tenant, workspace, domain, kind, data, context)
        if digest_of(pieces) != digest:
            raise ValueError("another digest")
    record = Record(
        uuid,
        created,
        instance,
        tenant,
        workspace,
        domain,
        kind,
        session,
        data,
        context,
        digest,
        found["cipher"],
        form,
    )
    return Stored(record, found["write_id"], put_id)


def _reason(error: Exception) -> str:
    # What orjson says may quote the text.
    return "it is no JSON" if isinstance(error, orjson.JSONDecodeError) else str(error)[:80]
