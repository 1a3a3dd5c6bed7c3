"""From a URL to a store: backends are found by entry point, imported when asked for.

A distribution adds a backend by an entry point in the group ``commandstore.backends``: its name is the URL's scheme,
its object a function from a :class:`~commandstore.url.StoreUrl` to a :class:`~commandstore.Backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from commandstore.contract import Backend
from commandstore.crypto import Crypto
from commandstore.errors import ConfigurationError, MissingDependency
from commandstore.ledger.signing import Signer
from commandstore.store import AsyncCommandStore, CommandStore
from commandstore.url import StoreUrl, redact

__all__ = ["backend_from_url", "open_async_store", "open_store", "schemes"]

_GROUP = "commandstore.backends"
# The top-level module that is missing, and the extra that has it.
_EXTRAS = {
    "sqlalchemy": "sql",
    "psycopg": "sql",
    "boto3": "aws",
    "botocore": "aws",
    "aioboto3": "async",
    "aiobotocore": "async",
    "google": "gcp",
    "cryptography": "crypto",
}


def schemes() -> list[str]:
    """The URL schemes that there are."""
    return sorted({point.name for point in entry_points(group=_GROUP)})


def backend_from_url(url: str) -> Backend:
    """The backend of a URL; nothing is connected yet.

    Raises:
        ConfigurationError: not a URL, an unknown scheme, or something in it that can't be right.
        MissingDependency: its extra isn't installed.
    """
    parsed = StoreUrl.parse(url)
    found = tuple(entry_points(group=_GROUP, name=parsed.scheme))
    if not found:
        raise ConfigurationError(
            f"unknown store URL scheme {parsed.scheme!r} in {redact(url)!r}; there are: {', '.join(schemes())}"
        )
    try:
        factory = found[0].load()
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        raise MissingDependency(
            f"{parsed.scheme}:// needs the {module} package: pip install 'commandstore[{_EXTRAS[module]}]'"
        ) from error
    backend: Backend = factory(parsed)
    return backend


def open_store(
    url: str,
    *,
    read_only: bool = False,
    crypto: Crypto | None = None,
    attributes: Mapping[str, Any] | None = None,
    create: bool = False,
    on_undecryptable: str = "raise",
    signer: Signer | None = None,
) -> CommandStore:
    """Open a store by URL; use it in ``with``, or close it.

    Args:
        url: ``sqlite:///app.db``, ``postgresql://...``, ``dynamodb://TABLE``, ``memory://``...
        read_only: refuse writes.
        crypto: seals and opens payloads.
        attributes: kept, and given back by ``store.options``.
        create: make the table (bucket, file) where there is none.
        on_undecryptable: ``"raise"`` or ``"keep"``; see :meth:`CommandStore.init`.
        signer: signs the entries of the store's ledger; see :meth:`CommandStore.init`.

    Raises:
        ConfigurationError: the URL can't be right.
        MissingDependency: an extra isn't installed; the message has its pip line.
        StoreNotFound: there is no such store, and ``create`` is False.
    """
    store = CommandStore(backend_from_url(url))
    store.init(
        read_only=read_only,
        crypto=crypto,
        attributes=attributes,
        create=create,
        on_undecryptable=on_undecryptable,
        signer=signer,
    )
    return store


async def open_async_store(
    url: str,
    *,
    read_only: bool = False,
    crypto: Crypto | None = None,
    attributes: Mapping[str, Any] | None = None,
    create: bool = False,
    on_undecryptable: str = "raise",
    signer: Signer | None = None,
) -> AsyncCommandStore:
    """Open a store for asyncio by URL; as :func:`open_store`. Use it in ``async with``, in this event loop only."""
    store = AsyncCommandStore(backend_from_url(url))
    await store.init(
        read_only=read_only,
        crypto=crypto,
        attributes=attributes,
        create=create,
        on_undecryptable=on_undecryptable,
        signer=signer,
    )
    return store
