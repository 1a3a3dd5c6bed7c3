"""Opening a store, and making one: a bucket, a probe of what its engine keeps of its promises, a first manifest."""

from __future__ import annotations

import secrets

from commandstore.errors import ConfigurationError, StoreNotFound, Unsupported
from commandstore.s3.collection import new_store
from commandstore.s3.layout import MANIFEST, PROBES
from commandstore.s3.manifest import Manifest
from commandstore.s3.root import Root
from commandstore.s3.wire import ConditionFailed, Gone, Wire

__all__ = ["open_root"]


async def open_root(wire: Wire, root: Root, *, create: bool) -> None:
    """Read the manifest, or write the first one.

    Raises:
        StoreNotFound: there is none (or no bucket), and ``create`` is False.
        ConfigurationError: the prefix holds something else, or a newer format.
        Unsupported: the engine ignores the conditions that everything here stands on.
    """
    place = wire.place
    try:
        if await root.read() is not None:
            return
    except StoreNotFound:
        if not create:
            raise
        await wire.create_bucket()
    if not create:
        raise StoreNotFound(
            f"there is no command store at {place.url} (no object {place.prefix}{MANIFEST}); create it with: "
            f"commandstore init '{place.url}'"
        )
    await _only_ours(wire)
    await _probe(wire)
    if not await root.begin(Manifest(new_store())):
        await root.fresh()  # somebody else just did


async def _only_ours(wire: Wire) -> None:
    found, _ = await wire.list("")
    # Of a probe that was killed, or of a store that is just being made by somebody else.
    others = [entry.key for entry in found if not entry.key.startswith(PROBES) and entry.key != MANIFEST]
    if others and not any(entry.key == MANIFEST for entry in found):
        raise ConfigurationError(
            f"{wire.place.url} holds something else than a command store (such as {others[0][:80]!a}); nothing was "
            "written, take another prefix or an empty bucket"
        )


async def _probe(wire: Wire) -> None:
    """Try the conditions, each once where it must hold and once where it must not."""
    key = f"{PROBES}{secrets.token_hex(8)}"
    try:
        etag = await _first(wire, key)
        if not await _refuses(wire, key, only_new=True):
            raise _careless(wire, "If-None-Match")
        if not await _refuses(wire, key, etag='"00000000000000000000000000000000"'):
            raise _careless(wire, "If-Match")
        if await _refuses(wire, key, etag=etag):
            # Unless by an echo of the very same request, whose answer was lost.
            got = await wire.get(key)
            if got is None or got.etag == etag:
                raise _careless(wire, "If-Match")
    finally:
        await wire.delete([key])


async def _first(wire: Wire, key: str) -> str:
    """Write what isn't there; its ETag."""
    try:
        return await wire.put(key, b"1", only_new=True)
    except ConditionFailed:
        # By this very request, which was sent twice, as nobody else has this name.
        got = await wire.get(key)
        if got is None:
            raise _careless(wire, "If-None-Match") from None
        return got.etag


async def _refuses(wire: Wire, key: str, *, only_new: bool = False, etag: str | None = None) -> bool:
    try:
        await wire.put(key, b"3", only_new=only_new, etag=etag)
    except (ConditionFailed, Gone):
        return True
    return False


def _careless(wire: Wire, header: str) -> Unsupported:
    return Unsupported(
        f"{wire.place.host} ignores {header} on PutObject: two writers would overwrite each other unseen. A store "
        "needs an engine with conditional writes; nothing was made"
    )
