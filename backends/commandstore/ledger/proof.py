"""A proof that the ledger holds what was done to one command: small, and checked offline. Pure.

It is the leaf, its inclusion path (RFC 9162, section 2.1.3) and the signed entry. Whoever has it needs the public key
to check that this was recorded, and the command to check what was.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson

from commandstore import codec
from commandstore.command import Command, is_int64
from commandstore.errors import LedgerError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op, hashes_of
from commandstore.ledger.merkle import path_to, root_from_path
from commandstore.ledger.signing import Verifier

__all__ = ["VERSION", "Proof", "check", "prove"]

VERSION = 1
_FIELDS = {"version", "command_uuid", "created_at", "operation", "digest", "index", "path", "entry"}
_HASH = re.compile(r"[0-9a-f]{64}")
_OPS = {op.name.lower(): op for op in Op}
# A tree of int64 leaves is no higher.
_MOST_PATH = 64


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof, as it was read: not yet checked.

    Attributes:
        op: what was done to the command.
        command_uuid: whose.
        created_at: of the command.
        digest: of the command as it is stored.
        index: of the leaf in the entry's tree, from 0.
        path: the nodes beside its way to the root, the lowest first.
        entry: whole, with its signature.
    """

    op: Op
    command_uuid: str
    created_at: int
    digest: bytes
    index: int
    path: tuple[bytes, ...]
    entry: Entry

    def to_json(self) -> dict[str, Any]:
        """The proof as a document of JSON's types."""
        return {
            "version": VERSION,
            "command_uuid": self.command_uuid,
            "created_at": self.created_at,
            "operation": self.op.name.lower(),
            "digest": self.digest.hex(),
            "index": self.index,
            "path": [node.hex() for node in self.path],
            "entry": self.entry.to_json(),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The proof of :meth:`to_json`, or of the JSON text of that.

        A text may have other spaces, another order and other escapes, as tools that print JSON make of it. Whatever
        reads JSON reads the same in it: no name stands twice, and nothing is there besides.

        Raises:
            LedgerError: it is not a proof, or one of a newer release.
        """
        if isinstance(value, str | bytes):
            value = _loaded(value)
        version = value.get("version") if isinstance(value, dict) else None
        if type(version) is int and version > VERSION:
            raise LedgerError(
                f"the proof has version {version}, and this release knows {VERSION} at most: upgrade commandstore"
            )
        if not isinstance(value, dict) or value.keys() != _FIELDS or type(version) is not int or version != VERSION:
            raise LedgerError("this is no proof of commandstore's ledger")
        uuid, operation, index, path = value["command_uuid"], value["operation"], value["index"], value["path"]
        if not isinstance(uuid, str) or not uuid or not _is_utf8(uuid):
            raise LedgerError("the proof has no command_uuid, or one that UTF-8 can't hold")
        created_at = value["created_at"]
        if not is_int64(created_at):
            raise LedgerError("the proof's created_at is no int64")
        if not isinstance(operation, str) or operation not in _OPS:
            raise LedgerError("the proof's operation is none of create, update and delete")
        if type(index) is not int or index < 0:
            raise LedgerError("the proof's index is not a number from 0 on")
        if not isinstance(path, list) or len(path) > _MOST_PATH:
            raise LedgerError("the proof's path is not a list, or longer than any can be")
        nodes = tuple(_hash(node, "path") for node in path)
        entry = Entry.from_json(value["entry"])
        found = cls(_OPS[operation], uuid, created_at, _hash(value["digest"], "digest"), index, nodes, entry)
        if found.to_json() != value:  # one signature has several spellings in base64
            raise LedgerError("the proof is not spelled as it was written: its signature is, in other characters")
        return found


def _loaded(text: str | bytes) -> Any:
    twice = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({name for name, _ in pairs}) < len(pairs)

    try:
        value = orjson.loads(text)
        # orjson takes the last of two fields of one name, and other readers the first.
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError) as error:
        raise LedgerError("the proof is not JSON") from error
    if twice:
        raise LedgerError("the proof has a field twice: who reads it may read something else than was checked")
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hash(value: object, name: str) -> bytes:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise LedgerError(f"the proof's {name} holds something else than SHA-256 in hex")
    return bytes.fromhex(value)


def prove(leaves: Sequence[Leaf], index: int, entry: Entry) -> Proof:
    """The proof for one leaf of an entry.

    Args:
        leaves: all of the entry.
        index: of the leaf, from 0.
        entry: signed.

    Raises:
        IndexError: there is no such leaf.
        LedgerError: these are not the entry's leaves.
    """
    leaf = leaves[index]
    path = tuple(path_to(hashes_of(leaves), index))
    proof = Proof(Op(leaf.op), leaf.command_uuid, leaf.created_at, leaf.digest, index, path, entry)
    _included(proof)
    return proof


def check(proof: Proof, verifier: Verifier, command: Command | None = None) -> None:
    """Check a proof, offline; no answer means that it holds.

    Args:
        proof: as it was read.
        verifier: has the public keys that may have signed the entry.
        command: what was recorded is compared with it. Where payloads are encrypted, the ledger speaks of the cipher,
            and a plain command can't be compared.

    Raises:
        LedgerError: says what does not fit.
        InvalidCommand: the command can't be stored anywhere.
    """
    reason = verifier.check(proof.entry)
    if reason is not None:
        raise _unfit(proof, reason)
    _included(proof)
    if command is None:
        return
    if command.command_uuid != proof.command_uuid:
        raise _unfit(proof, f"it is about command {proof.command_uuid!a}, not about {command.command_uuid!a}")
    if not hmac.compare_digest(codec.encode(command).digest, proof.digest):
        raise _unfit(
            proof,
            f"command {proof.command_uuid!a} is not as it was recorded. If the store's payloads are encrypted, the "
            "ledger speaks of the cipher: check the proof without the command, or the command in its store",
        )


def _included(proof: Proof) -> None:
    """Raise unless the leaf is in the entry's tree."""
    entry = proof.entry
    if not 0 <= proof.index < entry.count:
        raise _unfit(proof, f"there is no leaf {proof.index} among the {entry.count} of the entry")
    leaf = hashes_of([Leaf(proof.op, proof.command_uuid, proof.digest, proof.created_at)])[0]
    root = root_from_path(leaf, proof.index, entry.count, proof.path)
    if root is None:
        raise _unfit(proof, f"its path is not one for leaf {proof.index} of {entry.count}")
    if not hmac.compare_digest(root, bytes.fromhex(entry.root)):
        raise _unfit(proof, f"{proof.op.name.lower()} of command {proof.command_uuid!a} is not under the entry's root")


def _unfit(proof: Proof, reason: str) -> LedgerError:
    sequence = proof.entry.sequence
    return LedgerError(f"the proof with entry {sequence} does not hold: {reason}", sequence=sequence)
