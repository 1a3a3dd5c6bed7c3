r"""What the ledger says of one command, how it is hashed, and how the leaves of an entry are kept. Pure.

**Leaf data**, format 1: one byte for what was done, the 32 bytes of the command's digest as it is stored, its
created_at (big-endian int64), then its uuid in UTF-8. The digest covers every field; time and uuid stand for themselves
so that what a body says of a command that is gone can be believed.

**Digest as stored**: of a plain record, the digest of format 1 (see ``codec``). Of a sealed one, SHA-256 over
``b"commandstore sealed\x01"``, the lengths of the record's digest and of its cipher's name (big-endian uint64), these
two, and the canonical form with the cipher's bytes as payload. So whoever audits needs no key of the payloads.

**Bodies**: parts of at most 200 KiB; of each leaf: what was done (1 byte), created_at (big-endian int64), the digest,
the length of the uuid (big-endian uint16), the uuid.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

from commandstore import codec
from commandstore.codec import Record
from commandstore.errors import LedgerError

__all__ = [
    "MAX_LEAVES",
    "PART_BYTES",
    "Leaf",
    "Op",
    "hashes_of",
    "leaf_of",
    "most_parts",
    "pack",
    "stored_digest",
    "unpack",
]

MAX_LEAVES = 10_000
"""How many leaves an entry has at most: about 700 KB of bodies. Readers refuse more: raise it with a new version."""
PART_BYTES = 200 * 1024
_DIGEST_BYTES = 32
_SEALED = b"commandstore sealed\x01"
_LENGTHS = struct.Struct(">QQ")
_HEAD = struct.Struct(">Bq32sH")
_TIME = struct.Struct(">q")
# The length of a uuid is a uint16.
_LONGEST = _HEAD.size + 0xFFFF


class Op(IntEnum):
    """What was done to the command."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


class Leaf(NamedTuple):
    """What the ledger says of one command.

    Attributes:
        op: an :class:`Op`, or its number.
        command_uuid: whose.
        digest: 32 bytes, of the command as it is stored.
        created_at: of the command.
    """

    op: int
    command_uuid: str
    digest: bytes
    created_at: int


# By the number of what was done: the byte of RFC 9162 for a leaf, then that number.
_PREFIX = {int(op): bytes([0, op]) for op in Op}


def stored_digest(record: Record, *, fresh: bool = False) -> bytes:
    """What a leaf says of a record as it is stored (the backend's view; nothing is opened).

    Args:
        record: as a backend gives it, or takes it.
        fresh: the record's own digest was computed from these very fields a moment ago, and can be believed. Never for
            a record that was read: its digest may be stale, or forged.
    """
    plain = not record.cipher
    if plain and fresh:
        return record.digest
    pieces = codec.canonical(
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
    if plain:
        return codec.digest_of(pieces)
    cipher = record.cipher.encode()
    lengths = _LENGTHS.pack(len(record.digest), len(cipher))
    return codec.digest_of((_SEALED, lengths, record.digest, cipher, *pieces))


def leaf_of(op: int, record: Record, *, fresh: bool = False) -> Leaf:
    """The leaf of a record as it is stored; for ``fresh``, see :func:`stored_digest`."""
    return Leaf(op, record.command_uuid, stored_digest(record, fresh=fresh), record.created_at)


def hashes_of(leaves: Iterable[Leaf]) -> list[bytes]:
    """The leaf hashes of RFC 9162, in the same order.

    Raises:
        LedgerError: a digest has another length than 32 bytes, or something else was done than there is an
            :class:`Op` for.
    """
    known = list(leaves)
    _checked(known)
    prefix = _PREFIX
    time = _TIME.pack
    return [
        sha256(b"".join((prefix[op], digest, time(created_at), uuid.encode()))).digest()
        for op, uuid, digest, created_at in known
    ]


def _checked(leaves: Sequence[Leaf]) -> None:
    # A digest of another length would let two leaves share one hash.
    if {len(leaf[2]) for leaf in leaves} - {_DIGEST_BYTES} or {leaf[0] for leaf in leaves} - _PREFIX.keys():
        wrong = next(leaf for leaf in leaves if len(leaf.digest) != _DIGEST_BYTES or leaf.op not in _PREFIX)
        raise LedgerError(f"command {wrong.command_uuid!a} can't be in the ledger: its digest or its op is not one")


def pack(leaves: Iterable[Leaf]) -> list[bytes]:
    """The bodies of an entry: the leaves in parts, none longer than ``PART_BYTES``. The same for the same leaves.

    Raises:
        LedgerError: as :func:`hashes_of`.
    """
    known = list(leaves)
    if not known:
        return []
    _checked(known)
    head = _HEAD.pack
    # The parts hold equally many leaves, as many as the longest of them would leave room for.
    packed = [
        head(op, created_at, digest, len(raw)) + raw
        for op, uuid, digest, created_at in known
        for raw in (uuid.encode(),)
    ]
    each = PART_BYTES // max(map(len, packed))
    return [b"".join(packed[start : start + each]) for start in range(0, len(packed), each)]


def most_parts(count: int) -> int:
    """How many bodies :func:`pack` makes of so many leaves at most, however long their uuids are."""
    each = PART_BYTES // _LONGEST
    return -(-count // each)


def unpack(parts: Iterable[bytes]) -> list[Leaf]:
    """The leaves that were packed.

    Raises:
        LedgerError: the bodies are damaged.
    """
    leaves: list[Leaf] = []
    for number, part in enumerate(parts):
        try:
            _unpack(part, leaves)
        except (struct.error, ValueError) as error:
            raise LedgerError(f"part {number} of the leaves is damaged near leaf {len(leaves)}") from error
    return leaves


def _unpack(part: bytes, leaves: list[Leaf]) -> None:
    at, end, size = 0, len(part), _HEAD.size
    while at < end:
        op, created_at, digest, length = _HEAD.unpack_from(part, at)
        at += size + length
        if at > end or not length or op not in _PREFIX:
            raise ValueError
        leaves.append(Leaf(op, part[at - length : at].decode(), digest, created_at))
