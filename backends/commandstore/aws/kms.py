"""Keys from AWS KMS: data keys for envelopes, and a root for the keys of tenants.

KMS binds a data key to its encryption context, which stands in CloudTrail in plain text: ``{"tenant_uuid": ...}``, and
for commands of no tenant ``{"tenant_uuid_is_empty": "true"}``, since KMS has no empty values.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from commandstore.aws.faults import answer
from commandstore.aws.kms_calls import GONE, ask, kms_client
from commandstore.crypto.envelope import DataKey
from commandstore.crypto.service import key_of
from commandstore.errors import CommandStoreError, ConfigurationError, DecryptionError

__all__ = ["KmsKeys", "KmsRoot", "TenantKeyId"]

TenantKeyId = str | Callable[[str], str]
"""A key's id, ARN or alias; with ``{tenant_uuid}`` in it, or as a function of the tenant: a key for each tenant."""

_TENANT = "{tenant_uuid}"
_PURPOSE = {"purpose": "commandstore digests"}
_DIGEST = b"commandstore tenant digests 1\0"
_LONGEST = 6144  # bytes of a cipher that KMS takes
_NOT_OURS = {"InvalidCiphertextException", "IncorrectKeyException"}
_INCORRECT_KEY = "IncorrectKeyException"
_USAGE = {"InvalidKeyUsageException": "the key is not one for encrypting"}


class KmsKeys:
    """A provider for :class:`commandstore.crypto.EnvelopeCrypto`: data keys that KMS makes and unwraps.

    The identity needs ``kms:GenerateDataKey`` to write and ``kms:Decrypt`` to read, on the key.

    Args:
        key_id: of a symmetric key. With a key for each tenant (a function, or ``{tenant_uuid}`` in it), a key that is
            disabled, deleted or about to be makes this tenant's payloads unreadable and concerns no other; with one
            key for all, it stops everything.
        digest_key: the wrapped key of the digests, made once for a store by :meth:`new_digest_key`. It is no secret,
            must stay the same, and its KMS key must stay usable as long as the store lives. All tenants' digest keys
            come of it, and outlive the tenants' KMS keys: who may unwrap it can still confirm a guess of a payload by
            the digest that is stored. Where that must end with a tenant's key, use
            :class:`commandstore.vault.TenantKeys` with a :class:`KmsRoot`.
        old_key_ids: KMS keys that were used before, in the same form; what they wrapped stays readable. (KMS' own
            rotation needs nothing of this.)
        client: a KMS client of boto3; None makes one.
        region: see :func:`~commandstore.aws.kms_calls.kms_client`.
        endpoint_url: the same.
        profile: the same.
    """

    name = "kms"

    def __init__(
        self,
        key_id: TenantKeyId,
        *,
        digest_key: bytes,
        old_key_ids: Sequence[TenantKeyId] = (),
        client: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        self._ids = [_by_tenant(one) for one in (key_id, *old_key_ids)]
        self._shown = key_id if isinstance(key_id, str) else "one for each tenant"
        self._a_key_each = not isinstance(key_id, str) or _TENANT in key_id
        self._wrapped_digest_key = bytes(digest_key)
        self._client = client if client is not None else kms_client(region, endpoint_url, profile)
        self._digest_key: bytes | None = None
        self._lock = threading.Lock()

    @staticmethod
    def new_digest_key(
        key_id: str,
        *,
        client: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> bytes:
        """A new wrapped key for a store's digests; nobody has seen the key in it.

        The identity needs ``kms:GenerateDataKeyWithoutPlaintext``.
        """
        client = client if client is not None else kms_client(region, endpoint_url, profile)
        found = _ask(
            client, "GenerateDataKeyWithoutPlaintext", KeyId=key_id, KeySpec="AES_256", EncryptionContext=_PURPOSE
        )
        return bytes(found["CiphertextBlob"])

    def generate(self, tenant_uuid: str) -> DataKey:
        """See :meth:`KeyProvider.generate`.

        Raises:
            DecryptionError: the tenant has a KMS key of its own, which can't be used any more.
        """
        found = self._ask_for(tenant_uuid, "GenerateDataKey", self._ids[0](tenant_uuid), KeySpec="AES_256")
        return DataKey(bytes(found["Plaintext"]), bytes(found["CiphertextBlob"]))

    def unwrap(self, wrapped: bytes, tenant_uuid: str) -> bytes:
        """See :meth:`KeyProvider.unwrap`.

        Raises:
            DecryptionError: it was wrapped for another tenant or by another key, was altered, or the tenant's key is
                disabled or deleted.
        """
        if not 0 < len(wrapped) <= _LONGEST:
            raise DecryptionError("the data key beside the payload was not wrapped by KMS")
        refused: CommandStoreError | None = None
        # The key is always named: whoever can write here could otherwise have us use a key of theirs.
        for key_id in self._ids:
            try:
                found = self._ask_for(tenant_uuid, "Decrypt", key_id(tenant_uuid), CiphertextBlob=wrapped)
            except CommandStoreError as error:
                said = answer(error.__cause__) if error.__cause__ else None
                if said is None or (said.code != _INCORRECT_KEY and said.code not in GONE):
                    raise
                refused = refused or error
            else:
                return bytes(found["Plaintext"])
        raise refused or DecryptionError("no KMS key is given")

    def digest_key(self, tenant_uuid: str) -> bytes:
        """See :meth:`KeyProvider.digest_key`: derived from one key for all tenants, which is asked for once.

        So it is there still when the tenant's own KMS key is gone.
        """
        with self._lock:
            if self._digest_key is None:
                found = _ask(
                    self._client, "Decrypt", CiphertextBlob=self._wrapped_digest_key, EncryptionContext=_PURPOSE
                )
                self._digest_key = key_of(bytes(found["Plaintext"]))
            return hmac.digest(self._digest_key, _DIGEST + tenant_uuid.encode(), "sha256")

    def _ask_for(self, tenant: str, operation: str, key_id: str, **arguments: Any) -> dict[str, Any]:
        context = _context({"tenant_uuid": tenant})
        try:
            return _ask(self._client, operation, KeyId=key_id, EncryptionContext=context, **arguments)
        except ConfigurationError as error:
            said = answer(error.__cause__) if error.__cause__ else None
            if said is not None and said.code in _NOT_OURS:
                raise DecryptionError(
                    f"KMS can't unwrap the data key beside the payload ({said.code}): altered, wrapped by another KMS "
                    "key, or for another tenant"
                ) from error.__cause__
            if said is not None and said.code in GONE and self._a_key_each:
                raise DecryptionError(
                    f"the KMS key {key_id} of tenant {tenant!a} can't be used: {GONE[said.code]} ({said.code})"
                ) from error.__cause__
            raise

    def __repr__(self) -> str:
        return f"KmsKeys({self._shown})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("KmsKeys hold a key and are not to be pickled; make them where they are needed")


class KmsRoot:
    """A root for :class:`commandstore.vault.TenantKeys` that never leaves KMS.

    The identity needs ``kms:Encrypt`` (for new tenants and rotations) and ``kms:Decrypt`` on the key.

    Args:
        key_id: of a symmetric key.
        old_key_ids: keys that were used before.
        client: a KMS client of boto3; None makes one.
        region: see :func:`~commandstore.aws.kms_calls.kms_client`.
        endpoint_url: the same.
        profile: the same.
    """

    def __init__(
        self,
        key_id: str,
        *,
        old_key_ids: Sequence[str] = (),
        client: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        profile: str | None = None,
    ) -> None:
        self._ids = (key_id, *old_key_ids)
        self._client = client if client is not None else kms_client(region, endpoint_url, profile)

    def wrap(self, plain: bytes, context: Mapping[str, str]) -> bytes:
        """See :meth:`Root.wrap`."""
        found = _ask(self._client, "Encrypt", KeyId=self._ids[0], Plaintext=plain, EncryptionContext=_context(context))
        return bytes(found["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See :meth:`Root.unwrap`."""
        cause: BaseException | None = None
        for key_id in self._ids:
            try:
                found = _ask(
                    self._client, "Decrypt", KeyId=key_id, CiphertextBlob=wrapped, EncryptionContext=_context(context)
                )
            except ConfigurationError as error:
                cause = error.__cause__
                said = answer(cause) if cause else None
                if said is None or said.code not in _NOT_OURS:
                    raise
            else:
                return bytes(found["Plaintext"])
        raise DecryptionError("a tenant's key was wrapped by another KMS key, or was altered") from cause

    def __repr__(self) -> str:
        return f"KmsRoot({self._ids[0]})"


def _by_tenant(key_id: TenantKeyId) -> Callable[[str], str]:
    if isinstance(key_id, str):
        return lambda tenant: key_id.replace(_TENANT, tenant)
    return key_id


def _context(context: Mapping[str, str]) -> dict[str, str]:
    return dict((name, value) if value else (f"{name}_is_empty", "true") for name, value in context.items())


def _ask(client: Any, operation: str, **arguments: Any) -> dict[str, Any]:
    return ask(client, operation, str(arguments.get("KeyId", "of the digests")), _USAGE, **arguments)
