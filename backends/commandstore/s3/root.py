"""The manifest's object: read with little, swapped by compare-and-swap.

A swap that lost its answer is found again by its operation's id, which every attempt draws anew: so it is known which
attempt stands, even when others have swapped since. Where that can't be known, it is said, and nothing is tried again.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from commandstore.errors import StoreNotFound, StoreUnavailable
from commandstore.s3 import manifest as codec
from commandstore.s3.layout import MANIFEST
from commandstore.s3.manifest import KEPT, Manifest
from commandstore.s3.wire import ConditionFailed, Gone, Wire

__all__ = ["Root"]


class _Seen(NamedTuple):
    manifest: Manifest
    etag: str


class Root:
    """The manifest, as it was seen last and as it is."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._seen: _Seen | None = None
        self._turn = wire.drive.lock()

    @property
    def cached(self) -> Manifest:
        """As it was seen last. What it knows it knows for ever; what it doesn't know may be there by now."""
        assert self._seen is not None, "opened with read()"  # noqa: S101 - an invariant of the backend
        return self._seen.manifest

    async def read(self) -> Manifest | None:
        """As it is now; None where there is none. One request, and no body where nothing has changed."""
        seen = self._seen
        got = await self._wire.get(MANIFEST, known=seen.etag if seen else None)
        if got is None:
            return None
        if seen is not None and got.unchanged:
            return seen.manifest
        manifest = codec.decode(got.data, f"object {MANIFEST} in {self._wire.place.url}")
        self._note(_Seen(manifest, got.etag), seen)
        return manifest

    async def fresh(self) -> Manifest:
        """As :meth:`read`.

        Raises:
            StoreNotFound: there is none.
        """
        manifest = await self.read()
        if manifest is None:
            raise _missing(self._wire)
        return manifest

    async def begin(self, manifest: Manifest) -> bool:
        """Write the first manifest; False where there is one already."""
        try:
            etag = await self._wire.put(MANIFEST, codec.encode(manifest), only_new=True)
            self._note(_Seen(manifest, etag), self._seen)
        except ConditionFailed:
            return False
        return True

    async def change(self, plan: Callable[[Manifest], Awaitable[Manifest | None]]) -> Manifest:
        """Swap the manifest for another one.

        Args:
            plan: writes what the new manifest refers to, and returns it; None where there is nothing to change. It is
                called again with what is there then, when somebody else swapped first; the last call is what counts.

        Returns:
            What is in place.

        Raises:
            StoreUnavailable: others swapped all the time, or the fate of the swap is unknown.
            StoreNotFound: there is no manifest any more.
        """
        # Of one store's own threads or tasks one at a time: against each other they would only lose.
        async with self._turn:
            return await self._change(plan)

    async def _change(self, plan: Callable[[Manifest], Awaitable[Manifest | None]]) -> Manifest:
        tries = self._wire.tries()
        while True:
            before = await self.fresh()
            etag = self._etag_of(before)
            planned = await plan(before)
            if planned is None:
                return before
            after = planned.swapped(secrets.token_hex(8))
            if await self._put(after, etag):
                return after
            await tries.again(
                StoreUnavailable(
                    f"{MANIFEST} in {self._wire.place.url} is swapped by others all the time; nothing was changed, try "
                    "again later or with fewer writers"
                )
            )

    def _etag_of(self, manifest: Manifest) -> str:
        # Of a store that several threads use, another may have seen a later one meanwhile.
        seen = self._seen
        return seen.etag if seen is not None and seen.manifest is manifest else ""

    async def _put(self, after: Manifest, etag: str) -> bool:
        if not etag:
            return False
        before = self._seen
        try:
            written = await self._wire.put(MANIFEST, codec.encode(after), etag=etag)
        except ConditionFailed:
            # Of this very swap, perhaps, even where no answer was lost here: what carries a PUT may send it once more
            # by itself (aiohttp does, when a kept connection turns out to be closed).
            return await self._stands(after)
        except Gone:
            raise _missing(self._wire) from None
        except StoreUnavailable:
            if await self._stands(after):
                return True
            if self._seen is not None and self._seen.etag != etag:
                return False  # the request may still be on its way, but its condition can't hold any more
            raise
        self._note(_Seen(after, written), before)
        return True

    async def _stands(self, after: Manifest) -> bool:
        """Whether this very swap was done, by what is there now."""
        now = await self.fresh()
        if after.operations[0] in now.operations:
            return True
        if now.sequence - after.sequence >= KEPT:
            raise StoreUnavailable(
                f"{MANIFEST} in {self._wire.place.url} was swapped {now.sequence - after.sequence:,} times while one "
                "answer was lost; whether that swap was done is unknown"
            )
        return False

    def _note(self, seen: _Seen, before: _Seen | None) -> None:
        """Keep what came, unless it was overtaken.

        Args:
            seen: what came.
            before: what was known when it was asked for. As long as nothing else came, the answer is news, even where
                it counts fewer swaps, as one that was restored does, or that of another store in the same place.
        """
        if self._seen is before or self._seen is None or seen.manifest.sequence >= self._seen.manifest.sequence:
            self._seen = seen


def _missing(wire: Wire) -> StoreNotFound:
    place = wire.place
    return StoreNotFound(
        f"there is no command store at {place.url} ({place.prefix}{MANIFEST} is missing); create it with: "
        f"commandstore init '{place.url}'"
    )
