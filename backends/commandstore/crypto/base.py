"""What a store needs of a crypto service, and the values that pass between them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, runtime_checkable

from commandstore.errors import DecryptionError

__all__ = ["Context", "Crypto", "NoKey", "Sealed"]


class Context(NamedTuple):
    """Whose payload it is: what a cipher may be bound to, and a key chosen by."""

    tenant_uuid: str
    command_uuid: str


class Sealed(NamedTuple):
    """A sealed payload.

    Attributes:
        data: the cipher's bytes.
        cipher: a short name of cipher and key (at most 200 characters of ASCII), kept beside the record; ``""`` where
            a store has no place for it (comby's SQL tables), and then the bytes alone must do.
    """

    data: bytes
    cipher: str


class NoKey(DecryptionError):
    """There is no key for this tenant yet, so nothing can have been sealed with one."""


@runtime_checkable
class Crypto(Protocol):
    """What a store needs of a crypto service; bring your own cipher by these four.

    ``seal``, ``open`` and ``digest`` are called once a command, never from two batches for one answer, and must not
    block; whatever has to be asked for over a network is got by what ``prepare`` returns, once a batch. All may be
    called from several threads.
    """

    def prepare(
        self,
        sealing: Iterable[Context] = (),
        opening: Iterable[tuple[Sealed, Context]] = (),
        digesting: Iterable[Context] = (),
    ) -> Callable[[], None] | None:
        """Say whether the keys for these payloads are at hand.

        Args:
            sealing: payloads that will be sealed, and their digests made.
            opening: payloads that will be opened, and their digests made.
            digesting: commands whose digests alone will be made.

        Returns:
            None where all keys are; else a function that gets them, and may block. It raises what concerns the
            service as a whole (``StoreUnavailable``, ``AccessDenied``, ``ConfigurationError``); what concerns some
            payloads alone is raised by ``seal``, ``open`` and ``digest``.
        """

    def seal(self, plain: bytes, context: Context) -> Sealed:
        """Seal a payload; no two ciphers are alike. ``cipher`` of the result is never empty.

        Raises:
            DecryptionError: the key that this payload needs was destroyed.
        """

    def open(self, sealed: Sealed, context: Context) -> bytes:
        """Open a payload.

        Raises:
            DecryptionError: it was not sealed with a key of this service, was altered, or its key was destroyed.
        """

    def digest(self, plain_digest: bytes, context: Context) -> bytes:
        """The 32 bytes of a keyed digest over the digest of the plain command; the same as long as the store lives.

        Raises:
            NoKey: nothing was sealed for this tenant yet, so that the key that it needs is still to be made.
            DecryptionError: the key that it needs was destroyed.
        """
