"""The keys of the stores, from where they are kept: key files in Secrets Manager, the ledger's key in KMS."""

from __future__ import annotations

import threading

from commandstore.aws.kms_signer import KmsSigner
from commandstore.crypto import Crypto
from commandstore.entrypoints.secret import read_secret
from commandstore.entrypoints.settings import PREFIX, SyncSettings
from commandstore.keyfile import crypto_from_bytes

__all__ = ["LateSigner", "destination_crypto", "destination_signer", "source_crypto"]


def source_crypto(settings: SyncSettings) -> Crypto | None:
    """What opens the source's payloads; None leaves them as they are. Reads the secret anew.

    Raises:
        ConfigurationError: there is no such secret, or it holds no key file; names the setting and not what is in it.
        AccessDenied: the role may not read it.
        StoreUnavailable: the service did not answer.
    """
    return _crypto(settings.source_keys_secret, "SOURCE_KEYS_SECRET")


def destination_crypto(settings: SyncSettings) -> Crypto | None:
    """What seals and opens the destination's payloads; as :func:`source_crypto`."""
    return _crypto(settings.destination_keys_secret, "DESTINATION_KEYS_SECRET")


def destination_signer(settings: SyncSettings) -> LateSigner | None:
    """What signs the destination's ledger; None where it keeps none."""
    return None if settings.ledger_key is None else LateSigner(settings.ledger_key)


def _crypto(secret: str | None, name: str) -> Crypto | None:
    if secret is None:
        return None
    setting = PREFIX + name
    return crypto_from_bytes(read_secret(secret, setting), setting)


class LateSigner:
    """Signs by KMS, which is asked nothing before there is something to sign.

    So a function whose role may not use the key, as it never signs, opens its stores as all others do.

    Args:
        key: id, ARN or ``alias/NAME``; what it must be is in :class:`~commandstore.aws.kms_signer.KmsSigner`.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._made: KmsSigner | None = None

    def _signer(self) -> KmsSigner:
        with self._lock:
            if self._made is None:
                self._made = KmsSigner(self._key)
            return self._made

    @property
    def key_id(self) -> str:
        """See :class:`~commandstore.ledger.signing.Signer`. The first use asks KMS, as in all that follows."""
        return self._signer().key_id

    @property
    def algorithm(self) -> str:
        """See :class:`~commandstore.ledger.signing.Signer`."""
        return self._signer().algorithm

    def sign(self, message: bytes) -> bytes:
        """See :meth:`~commandstore.aws.kms_signer.KmsSigner.sign`."""
        return self._signer().sign(message)

    def public_key(self) -> bytes:
        """See :class:`~commandstore.ledger.signing.Signer`."""
        return self._signer().public_key()

    def close(self) -> None:
        """Close the connection, if there is one; another use makes a new one."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def __repr__(self) -> str:
        return f"LateSigner({self._key})"
