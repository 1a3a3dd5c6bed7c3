"""Signing the ledger with an asymmetric key that never leaves AWS KMS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NoReturn

from commandstore.aws.kms_calls import ask, kms_client
from commandstore.drive import run
from commandstore.errors import ConfigurationError, StoreUnavailable
from commandstore.ledger.signing import PublicKey

__all__ = ["KmsSigner"]

# By the algorithm, as entries call it: how KMS does, and the hash that goes with it.
_ALGORITHMS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "ecdsa-sha-256": ("ECDSA_SHA_256", hashlib.sha256),
    "ecdsa-sha-384": ("ECDSA_SHA_384", hashlib.sha384),
}
# Longer messages KMS takes as their digest alone.
_MOST_WHOLE = 4096
_HINTS = {
    "DisabledException": "the key is disabled; enable it, or sign with another",
    "KMSInvalidStateException": "the key is being deleted or was never imported; sign with another",
    "InvalidKeyUsageException": "the key is not one for signing",
    "UnsupportedOperationException": "the key is not an asymmetric one",
}


class KmsSigner:
    """Signs entries by KMS. Blocks: it asks the service once when it is made, and for each signature.

    The identity needs ``kms:GetPublicKey`` and ``kms:Sign`` on the key.

    Args:
        key: id, ARN or ``alias/NAME`` of a key for SIGN_VERIFY of the spec ECC_NIST_P256 or ECC_NIST_P384. An alias is
            looked up once, so that all signatures are by the key whose public half was read.
        client: a KMS client of boto3, closed by whoever made it; None makes one.
        region: else the environment's.
        endpoint_url: of another engine, or of a private endpoint.
        profile: of the shared AWS configuration.

    Raises:
        ConfigurationError: there is no such key, or it is of another kind.
        AccessDenied: the identity may not read its public half.
        StoreUnavailable: KMS did not answer.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    def __init__(
        self,
        key: str,
        client: Any = None,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        self._key = key
        self._owned = AsyncExitStack()
        self._client = client if client is not None else kms_client(region, endpoint_url, profile, owner=self._owned)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        found = self._ask("GetPublicKey", KeyId=self._key)
        usage, public = found.get("KeyUsage"), None
        if usage == "SIGN_VERIFY":
            try:
                # The key itself says what it is; not every engine names its spec.
                public = PublicKey.from_der(found["PublicKey"])
            except ConfigurationError:  # RSA, another curve
                public = None
        if public is None or public.algorithm not in _ALGORITHMS:
            raise ConfigurationError(
                f"KMS key {self._key} can't sign the ledger: it is {found.get('KeySpec', 'a key')} for {usage}, and "
                "must be ECC_NIST_P256 or ECC_NIST_P384 for SIGN_VERIFY"
            )
        self._public = public
        self._kms_algorithm, self._digest = _ALGORITHMS[public.algorithm]
        # An alias may come to mean another key.
        self._signed_by = str(found["KeyId"])

    @property
    def key_id(self) -> str:
        """See :class:`~commandstore.ledger.signing.Signer`: by the public key, and not KMS's id."""
        return self._public.key_id

    @property
    def algorithm(self) -> str:
        """See :class:`~commandstore.ledger.signing.Signer`."""
        return self._public.algorithm

    def sign(self, message: bytes) -> bytes:
        """The signature over a message, as DER. Asks KMS.

        Raises:
            ConfigurationError: the key was disabled or deleted.
            AccessDenied: the identity may not sign with it.
            StoreUnavailable: KMS did not answer, or gave a signature that is none.
        """
        # The signature is the same either way. Whole, as nearly all are, because not every engine takes a digest.
        whole = len(message) <= _MOST_WHOLE
        found = self._ask(
            "Sign",
            KeyId=self._signed_by,
            Message=message if whole else self._digest(message).digest(),
            MessageType="RAW" if whole else "DIGEST",
            SigningAlgorithm=self._kms_algorithm,
        )
        signature = bytes(found["Signature"])
        # What is signed wrongly stays so for ever, and a look costs a ten thousandth of a second.
        if not self._public.has_signed(message, signature):
            raise StoreUnavailable(f"KMS gave a signature that is not one of key {self._key}; nothing was recorded")
        return signature

    def public_key(self) -> bytes:
        """See :class:`~commandstore.ledger.signing.Signer`."""
        return self._public.pem

    def close(self) -> None:
        """Close the client, where it was made here."""
        run(self._owned.aclose())

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return ask(self._client, operation, self._key, _HINTS, **arguments)

    def __repr__(self) -> str:
        return f"KmsSigner({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KmsSigner holds a connection and is not to be pickled; make one where it is needed")
