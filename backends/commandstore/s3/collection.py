"""Garbage collection and reset: what no manifest refers to is removed.

Without clocks: an object's name bears the epoch that its writer read, and a writer may refer to new objects of the
current epoch only. So once the epoch has been raised, what is older and not referred to never will be.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from commandstore.errors import CorruptRecord
from commandstore.s3.layout import CONFLICTS, DIRECTORIES, INBOX, INDEXES, PARTS, PROBES, REGISTERS, SEGMENTS, epoch_of
from commandstore.s3.manifest import Manifest
from commandstore.s3.objects import Objects, steadily
from commandstore.s3.register import Register
from commandstore.s3.root import Root
from commandstore.s3.wire import Entry, Wire

__all__ = ["Collector", "new_store"]

# So long at most a probe is needed, whatever the grace: nothing fences it.
_INIT = 3600.0
_KINDS = (SEGMENTS, INDEXES, DIRECTORIES, PARTS)


def new_store() -> str:
    """A name for a life of a store."""
    return secrets.token_hex(4)


class Collector:
    """Collection of one store."""

    def __init__(self, wire: Wire, root: Root, objects: Objects, now: Callable[[], float] = time.time) -> None:
        self._wire = wire
        self._root = root
        self._objects = objects
        self._now = now

    async def run(self, grace: float) -> Mapping[str, int]:
        """Remove what nothing refers to and that is older than ``grace`` seconds, by S3's clock and ours."""

        async def raised(manifest: Manifest) -> Manifest:
            return replace(manifest, epoch=manifest.epoch + 1)

        await self._root.change(raised)
        return {"objects_removed": await self._collect(grace)}

    async def clear(self) -> None:
        """Begin a new life of the store, without commands or registers, and remove the old one's objects."""

        async def emptied(manifest: Manifest) -> Manifest:
            return Manifest(
                new_store(),
                sequence=manifest.sequence,
                epoch=manifest.epoch + 1,
                operations=manifest.operations,
                next_number=manifest.next_number,
            )

        # Before the commands, as a checkpoint without its commands would keep a sync from copying them again; and after
        # them, as a sync may be running.
        await self._forget_registers()
        await self._root.change(emptied)
        await self._forget_registers()
        await self._collect(0.0)
        await self._remove(CONFLICTS)

    async def _forget_registers(self) -> None:
        for entry in await self._wire.list_all(REGISTERS):
            try:
                # Swapped and not removed: a first swap that is still on its way must not find its place empty.
                await Register(self._wire, entry.key).update(lambda _: None)
            except CorruptRecord:
                await self._wire.delete([entry.key])

    async def _remove(self, prefix: str) -> None:
        await self._wire.delete([entry.key for entry in await self._wire.list_all(prefix)])

    async def _collect(self, grace: float) -> int:
        async def look(_: Collection[str]) -> tuple[Manifest, set[str]]:
            manifest = await self._root.fresh()
            return manifest, manifest.ids(await self._objects.segments(manifest))

        # Listed before the manifest is read: a life of the store that begins after that is none of those listed.
        letters = await self._wire.list_all(INBOX)
        manifest, kept = await steadily(self._root.fresh, look)
        removed = 0
        for kind in _KINDS:
            garbage = [e for e in await self._wire.list_all(kind) if self._is_garbage(e, manifest, kept, grace)]
            await self._wire.delete([entry.key for entry in garbage])
            removed += len(garbage)
        # Of an init that was killed.
        probes = [entry for entry in await self._wire.list_all(PROBES) if self._is_old(entry, max(grace, _INIT))]
        await self._wire.delete([entry.key for entry in probes])
        own = f"{INBOX}{manifest.store}/"
        old = [entry for entry in letters if not entry.key.startswith(own) and self._is_old(entry, grace)]
        await self._wire.delete([entry.key for entry in old])
        return removed + len(probes) + len(old)

    def _is_garbage(self, entry: Entry, manifest: Manifest, kept: Collection[str], grace: float) -> bool:
        name = entry.key.rpartition("/")[2].partition(".")[0]
        epoch = epoch_of(name)
        # What is not named as ours are is not ours to remove.
        return epoch is not None and epoch < manifest.epoch and name not in kept and self._is_old(entry, grace)

    def _is_old(self, entry: Entry, grace: float) -> bool:
        return grace == 0 or entry.modified + grace <= self._now()
