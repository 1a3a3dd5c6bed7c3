"""What an auditor keeps outside of the store between two audits: how far the ledger was good, and what it was.

The ledger can't tell by itself that it was put back to an older copy, together with the store, or that whoever holds
the signing key wrote another history: all of that fits. Only somebody who remembers can tell.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from commandstore.core import is_int
from commandstore.errors import ConfigurationError

__all__ = ["AuditCheckpoint", "read_checkpoint", "write_checkpoint"]

_HASH_CHARACTERS = 64
_VERSION = 1


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """How far an audit found everything as it should be.

    Attributes:
        sequence: of the last entry.
        hash: of that entry, in hex; it stands for all entries before it.
        commands: how many commands the ledger knew after it.
        time: of the audit, in nanoseconds since 1970.
        store: where the store was.
    """

    sequence: int
    hash: str
    commands: int
    time: int
    store: str

    def to_json(self) -> bytes:
        """One line of JSON."""
        return orjson.dumps({"version": _VERSION, **asdict(self)}, option=orjson.OPT_APPEND_NEWLINE)

    @staticmethod
    def from_json(text: bytes) -> AuditCheckpoint:
        """The checkpoint of what :meth:`to_json` made.

        Raises:
            ConfigurationError: it is something else.
        """
        try:
            found: Any = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ConfigurationError("an audit's checkpoint is one JSON object; this is none") from error
        names = AuditCheckpoint.__slots__
        if not isinstance(found, dict) or found.get("version") != _VERSION or any(name not in found for name in names):
            raise ConfigurationError(f"this is no checkpoint of an audit, or not of version {_VERSION}")
        checkpoint = AuditCheckpoint(**{name: found[name] for name in names})
        numbers = (checkpoint.sequence, checkpoint.commands, checkpoint.time)
        texts = (checkpoint.hash, checkpoint.store)
        if not all(is_int(one) for one in numbers) or not all(isinstance(one, str) for one in texts):
            raise ConfigurationError("a checkpoint of an audit has three numbers and two texts; this one hasn't")
        if checkpoint.sequence < 1 or len(checkpoint.hash) != _HASH_CHARACTERS:
            raise ConfigurationError("a checkpoint of an audit names an entry and its hash; this one doesn't")
        return checkpoint


def read_checkpoint(path: Path) -> AuditCheckpoint | None:
    """The checkpoint in a file; None where there is no such file.

    Raises:
        ConfigurationError: it can't be read, or holds no checkpoint. It is never taken for a missing one: whoever
            damages it would make an audit forget.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"can't read the checkpoint {str(path)!a}: {error.strerror}") from error
    try:
        return AuditCheckpoint.from_json(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{str(path)!a}: {error}") from error


def write_checkpoint(path: Path, checkpoint: AuditCheckpoint) -> None:
    """Put the checkpoint into a file: at once, or not at all.

    Raises:
        ConfigurationError: it can't be written.
    """
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".commandstore-{secrets.token_hex(8)}.part")
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(checkpoint.to_json())
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"can't write the checkpoint {str(path)!a}: {error.strerror}") from error
