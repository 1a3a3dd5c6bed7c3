"""One checkpoint in one destination: read, and written by compare-and-swap."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from commandstore.command import CommandQuery
from commandstore.contract import Backend, Key
from commandstore.errors import ConfigurationError, SyncError
from commandstore.replication.checkpoint import Checkpoint, fits_in_a_checkpoint, merge, register_name

__all__ = ["CheckpointRegister"]


@dataclass(slots=True)
class CheckpointRegister:
    """One checkpoint in one destination.

    Args:
        backend: the destination's.
        source: the source's name, shown in the register.
        query: the filter of the run.
    """

    backend: Backend
    source: str
    query: CommandQuery
    token: str | None = field(default=None, init=False)
    sealed: bool = field(default=False, init=False)
    """Whether what was copied was encrypted, by the one that was read; also where that is not to be believed."""

    @property
    def name(self) -> str:
        """The register's name."""
        return register_name(self.source, self.query)

    async def load(self, *, believe: bool = True) -> Checkpoint | None:
        """Read it; None where there is none, or it is not to be believed: then it may hold anything."""
        found = await self.backend.register_get(self.name)
        self.token = found.token if found else None
        if found is None:
            return None
        try:
            stored = Checkpoint.from_json(found.value)
        except ConfigurationError:
            if believe:
                raise
            return None
        self.sealed = stored.sealed
        return stored if believe else None

    async def swap(self, checkpoint: Checkpoint) -> bool:
        """Write it over the one last read or written; False when another run has written meanwhile."""
        token = secrets.token_hex(8)
        value = checkpoint.to_json(source=self.source, query=self.query)
        if not await self.backend.register_swap(self.name, value, expected=self.token, token=token):
            return False
        self.token = token
        return True

    async def save(self, checkpoint: Checkpoint, resolved: frozenset[Key] = frozenset()) -> Checkpoint:
        """Write it; where another run of the same generation wrote meanwhile, write both runs' facts.

        Returns:
            What is saved now.

        Raises:
            SyncError: the checkpoint belongs to another generation by now, or is gone; nothing was written.
        """
        while not await self.swap(checkpoint):
            theirs = await self.load()
            if theirs is None:
                raise SyncError("the checkpoint is gone: the destination was reset during the run; run again")
            if theirs.generation != checkpoint.generation:
                raise SyncError(
                    "another run found that the source is not what it was, and started a new checkpoint; "
                    "this run stops without saving its own (what it copied stays)"
                )
            checkpoint = merge(checkpoint, theirs, resolved)
            if not fits_in_a_checkpoint(checkpoint.parked):
                raise SyncError(
                    "two runs together parked more commands than a checkpoint holds; run again, one at a time"
                )
        return checkpoint
