"""What a Lambda container keeps from one invocation to the next: the URL of the source, and the opened stores.

A client and its connections are made once, by the first invocation; a warm one begins at once. After any error both
stores are opened anew: nobody knows what a connection is worth that stood still in a frozen container. Keys are read
anew then as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from commandstore.crypto.service import aead
from commandstore.entrypoints.keys import LateSigner, destination_crypto, destination_signer, source_crypto
from commandstore.entrypoints.secret import SourceUrl
from commandstore.entrypoints.settings import SyncSettings, read_settings
from commandstore.errors import CommandStoreError, LeaseHeld
from commandstore.registry import backend_from_url, open_store
from commandstore.store import CommandStore

__all__ = ["Container", "preload"]

T = TypeVar("T")


class Container:
    """The stores of one set of settings."""

    def __init__(self) -> None:
        self._settings: SyncSettings | None = None
        self._url: SourceUrl | None = None
        self._source: CommandStore | None = None
        self._destination: CommandStore | None = None
        self._signer: LateSigner | None = None

    def run(self, settings: SyncSettings, work: Callable[[CommandStore, CommandStore], T]) -> T:
        """Do some work with source and destination.

        Where it fails and the secret holds another URL by now, the password was changed: the work is done again with
        the new one. All work of this library may be done twice.

        Args:
            settings: which stores.
            work: called with the source, which is read-only, and the destination.

        Raises:
            CommandStoreError: whatever stops the work, or keeps a store from being opened.
        """
        if settings != self._settings:
            self.close()
            self._settings, self._url = settings, SourceUrl(settings)
        try:
            return work(*self._stores(settings))
        except LeaseHeld:
            raise
        except BaseException as error:
            self._close_stores()
            if not isinstance(error, CommandStoreError) or not self._has_another_url():
                raise
        try:
            return work(*self._stores(settings))
        except BaseException:
            self._close_stores()
            raise

    def _has_another_url(self) -> bool:
        """Whether the source's URL is another one than the one that failed."""
        try:
            return self._url is not None and self._url.changed()
        except CommandStoreError:
            return False  # the first error says more

    def _stores(self, settings: SyncSettings) -> tuple[CommandStore, CommandStore]:
        if self._url is None:
            raise RuntimeError("a container without settings")
        if self._source is None:
            self._source = open_store(self._url.get(), read_only=True, crypto=source_crypto(settings))
        if self._destination is None:
            self._signer = destination_signer(settings)
            crypto = destination_crypto(settings)
            self._destination = open_store(settings.destination, crypto=crypto, signer=self._signer)
        return self._source, self._destination

    def commands_failed(self) -> None:
        """Have the next run read the keys anew, where secrets hold them: one may have been rotated meanwhile.

        Of commands that can't be decrypted nothing is raised where they are skipped, so that no error would do it.
        """
        settings = self._settings
        if settings is not None and (settings.source_keys_secret or settings.destination_keys_secret):
            self._close_stores()

    def _close_stores(self) -> None:
        for used in (self._source, self._destination, self._signer):
            if used is not None:
                with contextlib.suppress(CommandStoreError):
                    used.close()
        self._source = self._destination = self._signer = None

    def close(self) -> None:
        """Let go of everything."""
        self._close_stores()
        self._settings = self._url = None


def preload() -> None:
    """Import what the stores need, so that a cold start does it and not the first event, whose time is counted.

    What is wrong with the settings is said by the first invocation, where it is seen.
    """
    with contextlib.suppress(CommandStoreError):
        settings = read_settings()
        # A source in a secret is a database: the secret is read when it is needed.
        for url in (settings.destination, settings.source or "postgresql://"):
            backend_from_url(url)
        if settings.ledger_key or settings.source_keys_secret or settings.destination_keys_secret:
            aead()
