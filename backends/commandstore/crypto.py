"""Payload encryption. The facade seals and opens payloads; backends see only bytes.

comby's service is AES-256-GCM with a random nonce: ``nonce(12) || ciphertext || tag(16)``. Filter fields are never
encrypted. The digest of a sealed command is keyed, so that it tells nothing of the payload, and equal commands still
have equal digests.
"""

from __future__ import annotations

import hmac
import os
from typing import NoReturn, Protocol, runtime_checkable

from commandstore.errors import ConfigurationError, DecryptionError, MissingDependency

__all__ = ["Crypto", "CryptoService"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32


@runtime_checkable
class Crypto(Protocol):
    """What a store needs of a crypto service; bring your own cipher by these four."""

    @property
    def cipher(self) -> str:
        """A short name for cipher and key, kept beside each sealed record; never empty."""

    def encrypt(self, plain: bytes) -> bytes:
        """Seal a payload."""

    def decrypt(self, sealed: bytes) -> bytes:
        """Open a payload.

        Raises:
            DecryptionError: it was not sealed with this key, or was altered.
        """

    def digest(self, plain_digest: bytes) -> bytes:
        """The 32 bytes of a keyed digest over the digest of the plain command."""


class CryptoService:
    """AES-256-GCM as comby has it.

    Args:
        key: exactly 32 bytes.

    Raises:
        ConfigurationError: the key has another length.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    cipher = "aes-256-gcm"

    def __init__(self, key: bytes) -> None:
        if not isinstance(key, bytes | bytearray) or len(key) != _KEY_BYTES:
            raise ConfigurationError("a crypto key has exactly 32 bytes (AES-256)")
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError as error:
            raise MissingDependency("encryption needs: pip install 'commandstore[crypto]'") from error
        self._aead = AESGCM(bytes(key))
        self._invalid = InvalidTag
        # A key of its own for digests: what the cipher's key does stays apart from what is compared.
        self._digest_key = hmac.digest(bytes(key), b"commandstore digest key 1", "sha256")

    def encrypt(self, plain: bytes) -> bytes:
        """Seal under a fresh random nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, None)

    def decrypt(self, sealed: bytes) -> bytes:
        """Open; see :meth:`Crypto.decrypt`."""
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise DecryptionError("the payload is too short to have been encrypted")
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except self._invalid as error:
            raise DecryptionError("the payload does not decrypt: another key, or altered bytes") from error

    def digest(self, plain_digest: bytes) -> bytes:
        """HMAC-SHA-256 under a key derived from the cipher's."""
        return hmac.digest(self._digest_key, plain_digest, "sha256")

    def __repr__(self) -> str:
        return f"CryptoService({self.cipher})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CryptoService holds a key and is not to be pickled; make one where it is needed")
