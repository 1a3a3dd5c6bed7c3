r"""An entry of the ledger: the statement that is signed, and its place in the chain. Pure.

**Statement**, version 1: JSON without spaces, with the fields of :class:`Entry` from ``version`` to ``algorithm`` in
their order, a position as ``{"created_at": ..., "command_uuid": ...}``. What is hashed and signed is
``b"commandstore ledger entry 1\n"`` and the statement in UTF-8. The hash does not cover the signature, since one
statement can have many.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal, Self, get_args

import orjson

from commandstore.command import INT64_MAX, Position, is_int64
from commandstore.errors import LedgerError
from commandstore.ledger.leaves import MAX_LEAVES, Leaf, hashes_of, most_parts
from commandstore.ledger.merkle import root_of
from commandstore.ledger.signing import Signer, one_form

__all__ = ["FIRST_PREVIOUS", "VERSION", "Entry", "Kind", "sign", "state"]

VERSION = 1
# Of an entry that has none before it.
FIRST_PREVIOUS = "0" * 64
Kind = Literal["sync", "create", "update", "delete", "repair", "adopt"]

_MAGIC = b"commandstore ledger entry 1\n"
_KINDS = frozenset(get_args(Kind))
_HASH = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_ALGORITHM = re.compile(r"[a-z0-9-]{1,40}")
_POSITION = {"created_at", "command_uuid"}
# Of each number: the least it can be. In this order, as the count bounds the parts.
_LEAST = {"sequence": 1, "count": 1, "time": 0, "commands": 0, "parts": 1}
_FORMS = {"previous": _HASH, "root": _HASH, "key_id": _KEY_ID, "algorithm": _ALGORITHM}
_FIELDS = (
    *("version", "sequence", "previous", "kind", "root", "count", "first", "last"),
    *("time", "commands", "parts", "key_id", "algorithm"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. Made by :func:`state` and :func:`sign`, or read by :meth:`from_json`, which check every field.

    Attributes:
        version: of the statement's form.
        sequence: from 1, without gaps.
        previous: the hash of the entry before it, in hex; of the first one, 64 zeros.
        kind: which work wrote it.
        root: of the Merkle tree over its leaves, in hex.
        count: how many leaves.
        first: the smallest position among its commands.
        last: the largest.
        time: when it was made, in nanoseconds since 1970, by the writer's clock.
        commands: how many live commands the ledger knows after it.
        parts: in how many bodies its leaves are kept.
        key_id: of the key that signed it; see ``signing``.
        algorithm: of the signature.
        statement: the exact text that is signed.
        signature: over ``signed_bytes``; empty until it is signed.
    """

    version: int
    sequence: int
    previous: str
    kind: str
    root: str
    count: int
    first: Position
    last: Position
    time: int
    commands: int
    parts: int
    key_id: str
    algorithm: str
    statement: str = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """What is signed, and hashed."""
        return _MAGIC + self.statement.encode()

    @property
    def hash(self) -> bytes:
        """The hash that the next entry holds as its ``previous``."""
        return sha256(self.signed_bytes).digest()

    def to_json(self) -> dict[str, str]:
        """As it is stored, and as it is in a proof."""
        return {"statement": self.statement, "signature": base64.b64encode(self.signature).decode()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The entry of :meth:`to_json`, or of the JSON text of that.

        Checks the form of everything, not the signature.

        Raises:
            LedgerError: it is not an entry, or one of a newer release.
        """
        found = _loaded(value, "the entry") if isinstance(value, str | bytes) else value
        if not isinstance(found, dict) or found.keys() != {"statement", "signature"}:
            raise LedgerError("an entry of the ledger is an object of statement and signature; this is none")
        statement, encoded = found["statement"], found["signature"]
        if not isinstance(statement, str) or not isinstance(encoded, str):
            raise LedgerError("an entry of the ledger has no text as its statement or signature")
        fields = _read(statement)
        try:
            signature = base64.b64decode(encoded, validate=True)
        except ValueError as error:
            raise LedgerError("the signature is not base64", sequence=fields["sequence"]) from error
        if not signature:
            raise LedgerError("the entry is not signed", sequence=fields["sequence"])
        return cls(**fields, statement=statement, signature=signature)


def state(
    leaves: Sequence[Leaf],
    *,
    previous: Entry | None,
    kind: Kind,
    commands: int,
    time: int,
    parts: int,
    signer: Signer,
) -> Entry:
    """The entry for these leaves, not yet signed.

    Args:
        leaves: at least one; the order is that of the tree.
        previous: the entry before it; None for the first.
        kind: which work writes it.
        commands: how many live commands the ledger knows after it.
        time: now, in nanoseconds since 1970.
        parts: how many bodies :func:`~commandstore.ledger.leaves.pack` made of the leaves.
        signer: names the key that will sign it.

    Raises:
        LedgerError: no leaves, or a field that can't be.
    """
    sequence = previous.sequence + 1 if previous else 1
    if not leaves:
        raise LedgerError("an entry of the ledger has at least one command", sequence=sequence)
    first, last = _ends(leaves)
    fields = {
        "version": VERSION,
        "sequence": sequence,
        "previous": previous.hash.hex() if previous else FIRST_PREVIOUS,
        "kind": kind,
        "root": root_of(hashes_of(leaves)).hex(),
        "count": len(leaves),
        "first": first,
        "last": last,
        "time": time,
        "commands": commands,
        "parts": parts,
        "key_id": signer.key_id,
        "algorithm": signer.algorithm,
    }
    statement = _statement(fields)
    # What can't be read must not be written either.
    return Entry(**_read(statement), statement=statement, signature=b"")


def _ends(leaves: Sequence[Leaf]) -> tuple[Position, Position]:
    """The smallest and the largest position. By numbers first: a tuple for each leaf would set off the collector."""
    times = [leaf[3] for leaf in leaves]
    low, high = min(times), max(times)
    first = min(leaf.command_uuid for leaf in leaves if leaf[3] == low)
    return Position(low, first), Position(high, max(leaf.command_uuid for leaf in leaves if leaf[3] == high))


def sign(entry: Entry, signer: Signer) -> Entry:
    """The entry with its signature. Blocks as long as the signer does: one of a service asks a network.

    Raises:
        LedgerError: the entry names another key.
    """
    if (entry.key_id, entry.algorithm) != (signer.key_id, signer.algorithm):
        raise LedgerError(
            f"the entry names key {entry.key_id}, and the signer has {signer.key_id}", sequence=entry.sequence
        )
    return replace(entry, signature=one_form(signer.sign(entry.signed_bytes), entry.algorithm))


def _statement(fields: dict[str, Any]) -> str:
    plain = {name: fields[name] for name in _FIELDS}
    for name in ("first", "last"):
        plain[name] = plain[name]._asdict()
    return orjson.dumps(plain).decode()


def _loaded(text: str | bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise LedgerError(f"{what} is not JSON") from error


def _read(statement: str) -> dict[str, Any]:
    """The fields of a statement, each of them checked.

    Raises:
        LedgerError: names the first field that can't be.
    """
    found = _loaded(statement, "the statement of an entry")
    if not isinstance(found, dict):
        raise LedgerError("the statement of an entry is not an object")
    sequence = found.get("sequence") if type(found.get("sequence")) is int else None
    version = found.get("version")
    if type(version) is int and version > VERSION:
        raise LedgerError(
            f"the entry has version {version}, and this release knows {VERSION} at most: upgrade commandstore",
            sequence=sequence,
        )
    wrong = _wrong(found)
    if wrong is None:
        found["first"], found["last"] = Position(**found["first"]), Position(**found["last"])
        # Also what JSON lets pass: a field twice, another order, spaces.
        if found["first"] > found["last"]:
            wrong = "first"
        elif _statement(found) != statement:
            wrong = "text"
    if wrong is not None:
        raise LedgerError(f"entry {sequence} is damaged: its {wrong} can't be", sequence=sequence)
    return found


def _wrong(found: dict[str, Any]) -> str | None:
    """The first field that can't be."""
    if found.keys() != set(_FIELDS):
        return "list of fields"
    if type(found["version"]) is not int or found["version"] != VERSION:
        return "version"
    if found["kind"] not in _KINDS if isinstance(found["kind"], str) else True:
        return "kind"
    for name, least in _LEAST.items():
        if not is_int64(found[name]) or not least <= found[name] <= _most(name, found):
            return name
    for name, form in _FORMS.items():
        if not isinstance(found[name], str) or not form.fullmatch(found[name]):
            return name
    return next((name for name in ("first", "last") if not _is_position(found[name])), None)


def _most(name: str, found: dict[str, Any]) -> int:
    """The most that a number can be: bodies are read by these before anybody has looked at the signature."""
    if name == "parts":
        return most_parts(found["count"])
    return MAX_LEAVES if name == "count" else INT64_MAX


def _is_position(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == _POSITION
        and is_int64(value["created_at"])
        and isinstance(value["command_uuid"], str)
        and bool(value["command_uuid"])
    )
