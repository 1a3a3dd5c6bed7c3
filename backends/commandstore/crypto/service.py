"""comby's crypto service: AES-256-GCM under keys that are given, the newest for sealing, all of them for opening."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from commandstore.crypto.base import Context, Sealed
from commandstore.crypto.keyed import KeyedDigest
from commandstore.errors import ConfigurationError, DecryptionError, MissingDependency

__all__ = ["CryptoService", "aead", "digest_key_from", "key_of"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32
_CIPHER = "aes-256-gcm"


class CryptoService:
    """AES-256-GCM as comby has it: ``nonce(12) || ciphertext || tag(16)``, the nonce random, no additional data.

    Args:
        key: exactly 32 bytes; what is sealed is sealed under it.
        old_keys: keys that were used before, newest first; what was sealed under them stays readable.
        digest_key: 32 bytes: the key of the digests that are kept beside sealed commands. It must stay the same as
            long as the store lives, so by default it is derived from the oldest of the keys; give it
            (:func:`digest_key_from`) to be able to drop that one.

    Raises:
        ConfigurationError: a key has another length.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    def __init__(self, key: bytes, *, old_keys: Sequence[bytes] = (), digest_key: bytes | None = None) -> None:
        keys = [key_of(one) for one in (key, *old_keys)]
        make, self._invalid = aead()
        self._by_name = {_name(one): make(one) for one in keys}
        self._cipher = _name(keys[0])
        self._aead = self._by_name[self._cipher]
        self._keyed = KeyedDigest(digest_key_from(keys[-1]) if digest_key is None else key_of(digest_key))

    def encrypt(self, plain: bytes) -> bytes:
        """Seal under the newest key, with a fresh random nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = nonce + self._aead.encrypt(nonce, plain, None)
        return sealed

    def decrypt(self, sealed: bytes) -> bytes:
        """Open what was sealed under any of the keys.

        Raises:
            DecryptionError: it was sealed under another key, or was altered.
        """
        return self._opened(sealed, list(self._by_name.values()))

    def _opened(self, sealed: bytes, candidates: Sequence[Any]) -> bytes:
        if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise DecryptionError("the payload is too short to have been encrypted")
        cause: Exception | None = None
        for candidate in candidates:
            try:
                plain: bytes = candidate.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
            except self._invalid as error:
                cause = error
            else:
                return plain
        raise DecryptionError("the payload does not decrypt: another key, or altered bytes") from cause

    # What a store asks for; see :class:`Crypto`

    def prepare(
        self,
        sealing: Iterable[Context] = (),  # noqa: ARG002 - all keys are at hand
        opening: Iterable[tuple[Sealed, Context]] = (),  # noqa: ARG002
        digesting: Iterable[Context] = (),  # noqa: ARG002
    ) -> Callable[[], None] | None:
        """See :meth:`Crypto.prepare`."""
        return None

    def seal(self, plain: bytes, context: Context) -> Sealed:  # noqa: ARG002 - comby binds nothing
        """See :meth:`Crypto.seal`."""
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(nonce + self._aead.encrypt(nonce, plain, None), self._cipher)

    def open(self, sealed: Sealed, context: Context) -> bytes:  # noqa: ARG002 - comby binds nothing
        """See :meth:`Crypto.open`."""
        found = self._by_name.get(sealed.cipher)
        if found is not None:
            return self._opened(sealed.data, [found])
        if sealed.cipher not in {"", _CIPHER}:
            raise DecryptionError(f"it was sealed as {sealed.cipher!a}, and the crypto service has no such key")
        return self._opened(sealed.data, list(self._by_name.values()))

    def digest(self, plain_digest: bytes, context: Context) -> bytes:  # noqa: ARG002 - one key for all
        """See :meth:`Crypto.digest`: HMAC-SHA-256 under a key that is not the cipher's."""
        return self._keyed(plain_digest)

    def __repr__(self) -> str:
        return f"CryptoService({self._cipher})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CryptoService holds a key and is not to be pickled; make one where it is needed")


def key_of(value: object) -> bytes:
    """A key, when it has 32 bytes.

    Raises:
        ConfigurationError: it hasn't. Never says what it holds.
    """
    if not isinstance(value, bytes | bytearray) or len(value) != _KEY_BYTES:
        raise ConfigurationError("a crypto key has exactly 32 bytes (AES-256)")
    return bytes(value)


def digest_key_from(key: bytes) -> bytes:
    """The digest key that goes with a cipher's key: one tells nothing of the other."""
    return hmac.digest(key_of(key), b"commandstore digest key 1", "sha256")


def _name(key: bytes) -> str:
    """Cipher and key, by a fingerprint that tells nothing of the key: no names to be kept, and none to be mixed up."""
    return f"{_CIPHER}:{hmac.digest(key, b'commandstore key id 1', 'sha256')[:8].hex()}"


def aead() -> tuple[Any, type[Exception]]:
    """AES-GCM and the error it raises; imported here alone, because it is an extra.

    Raises:
        MissingDependency: it isn't installed.
    """
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency("encryption needs: pip install 'commandstore[crypto]'") from error
    return AESGCM, InvalidTag
