"""Commands for a storm: each tells which write it comes from, and whether it is whole."""

from __future__ import annotations

import threading
from random import Random
from typing import Literal

from commandstore.command import Command

__all__ = ["TENANTS", "Commands", "tenant_of"]

TENANTS = ("", "acme", "Grüße")
_HOT = 2
_HOT_SHARE = 0.3
_LONG_EVERY = 50


class Commands:
    """Commands that tell which write they come from, and whether they are whole.

    Args:
        keys: how many uuids.
        long_bytes: the size of one payload in fifty; 0: all are short.
        apart: whether a uuid is only created by ``create``, or only by ``create_many``.
    """

    def __init__(self, keys: int, long_bytes: int, *, apart: bool = False) -> None:
        self._keys = keys
        self._long_bytes = long_bytes
        self._apart = apart
        self._made: list[Command] = []
        self._lock = threading.Lock()

    def uuid(self, random: Random, creating: Literal["create", "create_many"] | None = None) -> str:
        """One of the uuids, of those that are created so; a few are asked for far more often than the others."""
        number = random.randrange(_HOT) if random.random() < _HOT_SHARE else random.randrange(self._keys)
        if self._apart and creating is not None:
            number = number // 2 * 2 + (creating == "create")
        return f"storm/{number}" if number % 2 else f"stürm-{number}"

    def make(self, uuid: str, random: Random, at: int | None = None) -> int:
        """A new command of this uuid; returned is its version, which no other one has."""
        number = _number(uuid)
        long = self._long_bytes and random.randrange(_LONG_EVERY) == 0
        with self._lock:
            version = len(self._made)
            piece = f"{version}:".encode()
            size = self._long_bytes + random.randrange(64) if long else random.randrange(1, 300)
            self._made.append(
                Command(
                    command_uuid=uuid,
                    created_at=number // 3 if at is None else at,
                    tenant_uuid=tenant_of(uuid),
                    domain=f"d{version % 2}",
                    data_type="Storm",
                    data_bytes=(piece * (size // len(piece) + 1))[: max(size, len(piece))],
                    req_ctx='{"senderSessionUuid":"s"}' if version % 2 else "",
                )
            )
            return version

    def of(self, version: int) -> Command:
        """The command of a version."""
        return self._made[version]

    def version(self, command: Command) -> int | None:
        """Which write a command comes from; None where no write was that of it."""
        try:
            version = int(command.data_bytes.partition(b":")[0])
            return version if self._made[version] == command else None
        except (ValueError, IndexError):
            return None


def tenant_of(uuid: str) -> str:
    """The tenant of all commands with this uuid."""
    return TENANTS[_number(uuid) % len(TENANTS)]


def _number(uuid: str) -> int:
    return int(uuid.rpartition("/" if "/" in uuid else "-")[2])
